//! Work that yields to everything else: compiling a configuration, dropping the one before.

use std::io;
use std::thread::{Builder, JoinHandle};

use thread_priority::{
    NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy, set_thread_priority_and_policy, thread_native_id,
};

/// Runs `work` in a thread of its own that gets what time of the processors all others leave (`SCHED_IDLE`). Where the
/// system does not have that, the thread is like any other.
///
/// # Errors
/// When no thread can be started; `work` is dropped.
pub fn spawn<T: Send + 'static>(name: &str, work: impl FnOnce() -> T + Send + 'static) -> io::Result<JoinHandle<T>> {
    Builder::new().name(name.into()).spawn(|| {
        yield_to_others();
        work()
    })
}

fn yield_to_others() {
    let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
    if let Err(error) = set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, idle) {
        tracing::debug!(?error, "this thread runs at the priority of all others");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_at_idle_priority() {
        // The 41st field of /proc/…/stat is the policy (proc(5)); 5 = SCHED_IDLE.
        let stat = || std::fs::read_to_string("/proc/thread-self/stat");
        let stat = spawn("idle-test", stat).expect("a thread").join().expect("no panic").expect("proc");
        let behind_name = stat.rsplit_once(')').expect("a name in brackets").1;
        assert_eq!(behind_name.split_whitespace().nth(41 - 3), Some("5"), "{stat}");
    }
}
