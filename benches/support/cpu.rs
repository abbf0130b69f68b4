//! Processor time that a process has used: all its threads, and all its children.

use std::fs;
use std::time::Duration;

/// Length of a tick of `/proc/PID/stat`: `USER_HZ` is 100 on Linux everywhere.
const TICK: Duration = Duration::from_millis(10);

/// Used so far; `None` when there is no such process. To the nanosecond where the kernel counts so (`schedstat`), but
/// for what a running thread used since its last tick; else in ticks.
pub(crate) fn used(process: u32) -> Option<Duration> {
    let children: Option<Duration> = children(process).into_iter().map(used).sum();
    Some(own(process)? + children.unwrap_or_default())
}

/// The children of a process.
pub(crate) fn children(process: u32) -> Vec<u32> {
    let of_thread = |thread: u32| {
        let text = fs::read_to_string(format!("/proc/{process}/task/{thread}/children")).unwrap_or_default();
        text.split_whitespace().filter_map(|child| child.parse().ok()).collect::<Vec<u32>>()
    };
    threads(process).into_iter().flat_map(of_thread).collect()
}

fn own(process: u32) -> Option<Duration> {
    let threads = threads(process);
    let used = threads.iter().map(|thread| of_thread(process, *thread)).collect::<Option<Vec<Duration>>>();
    match used {
        Some(used) if !used.is_empty() => Some(used.iter().sum()),
        _ => ticks(process),
    }
}

fn threads(process: u32) -> Vec<u32> {
    let entries = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// The first number of `schedstat` is the time on a processor, in ns.
fn of_thread(process: u32, thread: u32) -> Option<Duration> {
    let text = fs::read_to_string(format!("/proc/{process}/task/{thread}/schedstat")).ok()?;
    text.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

/// Fields 14 and 15 of `stat` are user and system time; the name of the process, field 2, may hold anything.
fn ticks(process: u32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    let ticks: Option<u32> = fields.split(' ').skip(11).take(2).map(|field| field.parse::<u32>().ok()).sum();
    ticks.map(|ticks| TICK * ticks)
}
