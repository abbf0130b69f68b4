//! `exec`: a program of the operator's that is run for each probe; exit 0 passes, any other exit code fails.
//!
//! The program learns of its target from its environment: `WAYMARK_ADDRESS`, and `WAYMARK_PORT` and `WAYMARK_HOST` where
//! there are such. Its input is empty; the last line that it writes to output or error output is the reason. No shell is
//! involved. At the timeout it is killed with all of its process group; one that ends by itself may leave others running.
//!
//! A program that cannot be started, dies by a signal or floods its output has said nothing of the target: no verdict.

use std::future::Future;
use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::os::unix::process::ExitStatusExt;
use std::pin::Pin;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::process::{Child, Command};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use crate::fleet::Target;
use crate::probe::{Check, Finding, Probe, reason};

/// Most programs that run at once.
const MOST_AT_ONCE: usize = 64;
/// Most octets of output; a program that writes more is killed.
const MOST_OUTPUT: usize = 1 << 20;
/// How much of a line is kept, in octets.
const LONGEST_LINE: usize = 1024;
/// A program that had to wait longer than this for others to end, and then ran out of time, was not slow itself.
const WAITED_LONG: Duration = Duration::from_millis(50);

/// An `exec` check.
#[derive(Clone, Debug, PartialEq)]
pub struct Exec {
    /// The program, as an absolute path or a name that is looked up in `PATH`, and its arguments.
    pub command: Vec<String>,
}

/// Room for programs that run at once, shared by all `exec` checks.
pub(super) struct Programs(Arc<Semaphore>);

impl Default for Programs {
    fn default() -> Programs {
        Programs(Arc::new(Semaphore::new(MOST_AT_ONCE)))
    }
}

/// A program for one target.
pub(super) struct Program {
    command: Vec<String>,
    address: IpAddr,
    port: u16,
    host: Option<Arc<str>>,
    timeout: Duration,
    running: Arc<Semaphore>,
}

impl Program {
    pub(super) fn new(kind: &Exec, check: &Check, target: &Target, programs: &Programs) -> Program {
        Program {
            command: kind.command.clone(),
            address: target.address,
            port: target.port,
            host: target.host.clone(),
            timeout: check.policy.timeout,
            running: Arc::clone(&programs.0),
        }
    }

    async fn probe(&self) -> Finding {
        let start = Instant::now();
        let deadline = start + self.timeout;
        let Ok(permit) = timeout_at(deadline, self.running.acquire()).await else {
            return Finding::no_verdict("too many programs of checks run on this node");
        };
        let waited = start.elapsed();
        let finding = timeout_at(deadline, self.run_once()).await;
        drop(permit);
        finding.unwrap_or_else(|_| match waited > WAITED_LONG {
            true => Finding::no_verdict("too many programs of checks run on this node"),
            false => reason::timeout(self.timeout, "program killed"),
        })
    }

    /// Runs the program to its end. When this is dropped before, program and group are killed.
    async fn run_once(&self) -> Finding {
        let (mut child, mut output) = match self.spawn() {
            Ok(spawned) => spawned,
            Err(error) => return self.cannot_run(&error),
        };
        let mut group = Group(child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)));
        let mut tail = Tail::default();
        match watch(&mut child, &mut output, &mut tail).await {
            Ok(Some(status)) => {
                group.0 = None;
                judge(status, &tail.last_line())
            }
            Ok(None) => Finding::no_verdict("program killed: more than 1 MiB of output"),
            Err(error) => self.cannot_run(&error),
        }
    }

    fn spawn(&self) -> io::Result<(Child, Receiver)> {
        let (output, theirs) = io::pipe()?;
        let (program, arguments) = self.command.split_first().ok_or(ErrorKind::NotFound)?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(theirs.try_clone()?).stderr(theirs).process_group(0);
        command.env("WAYMARK_ADDRESS", self.address.to_string());
        for name in ["WAYMARK_PORT", "WAYMARK_HOST"] {
            command.env_remove(name);
        }
        if self.port != 0 {
            command.env("WAYMARK_PORT", self.port.to_string());
        }
        if let Some(host) = &self.host {
            command.env("WAYMARK_HOST", &**host);
        }
        let child = command.spawn()?;
        Ok((child, Receiver::from_owned_fd(output.into())?))
    }

    fn cannot_run(&self, error: &io::Error) -> Finding {
        let why = match error.kind() {
            ErrorKind::NotFound => "no such program on this node".into(),
            ErrorKind::PermissionDenied => "not permitted on this node".into(),
            _ => error.to_string(),
        };
        let program = self.command.first().map_or("nothing", String::as_str);
        Finding::no_verdict(&format!("cannot run {program}: {why}"))
    }
}

impl Probe for Program {
    fn run(&self) -> Pin<Box<dyn Future<Output = Finding> + Send + '_>> {
        Box::pin(self.probe())
    }
}

/// A process group that is killed when this is dropped. Its leader must not have been waited for: as long as it was not,
/// the group's number belongs to nobody else.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // The group may have ended already.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// How the program ended; `None` when it wrote too much.
async fn watch(child: &mut Child, output: &mut Receiver, tail: &mut Tail) -> io::Result<Option<ExitStatus>> {
    let mut buffer = vec![0; 4096];
    let mut is_open = true;
    loop {
        tokio::select! {
            status = child.wait() => {
                // What others that it left behind may write is not awaited.
                while let Ok(length @ 1..) = output.try_read(&mut buffer) {
                    tail.push(&buffer[..length]);
                    if tail.total > MOST_OUTPUT {
                        break;
                    }
                }
                return status.map(Some);
            }
            read = output.read(&mut buffer), if is_open => match read {
                Ok(length @ 1..) => tail.push(&buffer[..length]),
                Ok(0) | Err(_) => is_open = false,
            },
        }
        if tail.total > MOST_OUTPUT {
            return Ok(None);
        }
    }
}

fn judge(status: ExitStatus, line: &str) -> Finding {
    let ended = match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit {code}"),
        (None, signal) => return Finding::no_verdict(&format!("program died by signal {}", signal.unwrap_or(0))),
    };
    match (status.success(), line) {
        (true, "") => Finding::pass(&ended),
        (true, line) => Finding::pass(line),
        (false, "") => Finding::fail(&ended),
        (false, line) => Finding::fail(&format!("{ended}: {line}")),
    }
}

/// The last line of an output that comes piece by piece.
#[derive(Default)]
struct Tail {
    /// The last line that ended and was not blank.
    last: Vec<u8>,
    /// The line that goes on.
    current: Vec<u8>,
    /// Octets so far.
    total: usize,
}

impl Tail {
    fn push(&mut self, octets: &[u8]) {
        self.total += octets.len();
        for &octet in octets {
            if octet == b'\n' {
                self.end_line();
            } else if self.current.len() < LONGEST_LINE {
                self.current.push(octet);
            }
        }
    }

    fn end_line(&mut self) {
        if !self.current.trim_ascii().is_empty() {
            std::mem::swap(&mut self.last, &mut self.current);
        }
        self.current.clear();
    }

    fn last_line(mut self) -> String {
        self.end_line();
        String::from_utf8_lossy(self.last.trim_ascii()).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::path::Path;

    use super::*;
    use crate::probe::{Kind, backends};

    const AMPLE: Duration = Duration::from_secs(20);
    const SHORT: Duration = Duration::from_millis(500);

    fn program(command: &[&str], host: Option<&str>, timeout: Duration, programs: &Programs) -> Program {
        let kind = Exec { command: command.iter().map(ToString::to_string).collect() };
        let check = backends::check(Kind::Exec(kind.clone()), timeout);
        let address: SocketAddr = "192.0.2.1:8080".parse().unwrap();
        Program::new(&kind, &check, &backends::target(address, host), programs)
    }

    async fn script(script: &str, timeout: Duration) -> Finding {
        program(&["sh", "-c", script], None, timeout, &Programs::default()).probe().await
    }

    #[tokio::test]
    async fn exits_and_last_lines() {
        let rows = [
            ("exit 0", Finding::pass("exit 0")),
            ("echo fine", Finding::pass("fine")),
            ("exit 3", Finding::fail("exit 3")),
            ("echo one; echo two >&2; echo; exit 1", Finding::fail("exit 1: two")),
            ("printf 'no newline'; exit 1", Finding::fail("exit 1: no newline")),
            ("printf '\\033[31mred\\r\\n'; exit 1", Finding::fail("exit 1:  [31mred")),
            ("head -c 100000 /dev/zero | tr '\\0' x; echo; echo done", Finding::pass("done")),
            ("cat; echo input ended", Finding::pass("input ended")),
            ("kill -SEGV $$", Finding::no_verdict("program died by signal 11")),
            ("cat /dev/zero", Finding::no_verdict("program killed: more than 1 MiB of output")),
            ("sleep 3 & echo left behind", Finding::pass("left behind")),
        ];
        for (text, finding) in rows {
            assert_eq!(script(text, AMPLE).await, finding, "{text}");
        }
        let long = script("head -c 100000 /dev/zero | tr '\\0' x", AMPLE).await;
        assert_eq!(long, Finding::pass(&"x".repeat(LONGEST_LINE)));
    }

    #[tokio::test]
    async fn the_environment_names_the_target() {
        let show = ["sh", "-c", "echo $WAYMARK_ADDRESS/$WAYMARK_PORT/${WAYMARK_HOST-none}"];
        let rows = [(Some("www.example.com"), "192.0.2.1/8080/www.example.com"), (None, "192.0.2.1/8080/none")];
        for (host, line) in rows {
            let finding = program(&show, host, AMPLE, &Programs::default()).probe().await;
            assert_eq!(finding, Finding::pass(line));
        }
        let mut without_port = program(&["sh", "-c", "echo ${WAYMARK_PORT-none}"], None, AMPLE, &Programs::default());
        without_port.port = 0;
        assert_eq!(without_port.probe().await, Finding::pass("none"));
    }

    #[tokio::test]
    async fn what_cannot_be_run_is_no_verdict() {
        let folder = tempfile::tempdir().unwrap();
        let plain = folder.path().join("plain");
        std::fs::write(&plain, "no program").unwrap();
        let plain = plain.to_str().unwrap();
        let rows = [
            ("/no/such/program", "cannot run /no/such/program: no such program on this node".to_string()),
            ("no-such-program", "cannot run no-such-program: no such program on this node".to_string()),
            (plain, format!("cannot run {plain}: not permitted on this node")),
        ];
        for (command, reason) in rows {
            let finding = program(&[command], None, AMPLE, &Programs::default()).probe().await;
            assert_eq!(finding, Finding::no_verdict(&reason));
        }
    }

    /// Whether a process runs; one that ended and was not waited for does not.
    fn is_running(id: &str) -> bool {
        let stat = std::fs::read_to_string(Path::new("/proc").join(id).join("stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
    }

    #[tokio::test]
    async fn the_whole_group_is_killed_at_the_timeout() {
        let folder = tempfile::tempdir().unwrap();
        let ids = folder.path().join("ids");
        let text = format!("sleep 1000 & echo $! $$ > {}; wait", ids.display());
        let finding = script(&text, Duration::from_secs(2)).await;
        assert_eq!(finding, Finding::fail("timeout after 2s (program killed)"));
        let ids = std::fs::read_to_string(ids).unwrap();
        assert_eq!(ids.split_whitespace().count(), 2);
        while ids.split_whitespace().any(is_running) {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn the_whole_group_is_killed_when_its_target_goes() {
        let folder = tempfile::tempdir().unwrap();
        let ids = folder.path().join("ids");
        let text = format!("sleep 1000 & echo $! $$ > {}; wait", ids.display());
        let probe = tokio::spawn(async move { script(&text, AMPLE).await });
        let written = || std::fs::read_to_string(&ids).ok().filter(|text| text.ends_with('\n'));
        let ids = loop {
            match written() {
                Some(ids) => break ids,
                None => tokio::task::yield_now().await,
            }
        };
        assert!(ids.split_whitespace().all(is_running));
        probe.abort();
        while ids.split_whitespace().any(is_running) {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn so_many_at_once() {
        let programs = Programs(Arc::new(Semaphore::new(1)));
        let slow = program(&["sleep", "1000"], None, SHORT, &programs);
        let waits = program(&["true"], None, SHORT / 5, &programs);
        let (slow, waits) = tokio::join!(slow.probe(), waits.probe());
        assert_eq!(slow, Finding::fail("timeout after 500ms (program killed)"));
        assert_eq!(waits, Finding::no_verdict("too many programs of checks run on this node"));
        assert_eq!(program(&["true"], None, AMPLE, &programs).probe().await, Finding::pass("exit 0"));
    }
}
