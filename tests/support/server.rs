//! The real binary as a child process: its log collected, ended by its process id at the latest when it is dropped.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hickory_proto::op::Message;
use hickory_proto::rr::RecordType;
use serde_json::Value;

use super::client::{self, Response};
use super::{say, until};

/// A server that runs.
pub(crate) struct Server {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
    /// Open, and read by nobody.
    _unread: Option<ChildStderr>,
    /// Where it answers over IPv4.
    pub(crate) dns: SocketAddr,
    /// Where its API is.
    pub(crate) admin: SocketAddr,
}

impl Server {
    pub(super) fn spawn(command: &mut Command, dns: SocketAddr, admin: SocketAddr) -> Server {
        let mut server = Server::spawn_unread(command, dns, admin);
        let stderr = server._unread.take().expect("piped");
        let lines = Arc::clone(&server.log);
        let collect = move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                lines.lock().expect("no panic").push(line);
            }
        };
        server.reader = Some(std::thread::spawn(collect));
        server
    }

    /// A server whose log nobody reads, so that it can write no more than fits into a pipe.
    pub(super) fn spawn_unread(command: &mut Command, dns: SocketAddr, admin: SocketAddr) -> Server {
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the program starts");
        let unread = child.stderr.take();
        Server { child, log: Arc::default(), reader: None, _unread: unread, dns, admin }
    }

    /// Waits until `/readyz` says 200.
    #[track_caller]
    pub(crate) fn wait_ready(&mut self) {
        until("/readyz", || {
            let ended = self.child.try_wait().expect("a child");
            assert!(ended.is_none(), "the server ended ({ended:?}):\n{}", self.log().join("\n"));
            client::try_get(self.admin, "/readyz").filter(|response| response.status == 200)
        });
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> Vec<String> {
        self.log.lock().expect("no panic").clone()
    }

    /// Lines of the log that contain all of `parts`.
    pub(crate) fn logged(&self, parts: &[&str]) -> Vec<String> {
        self.log().into_iter().filter(|line| parts.iter().all(|part| line.contains(part))).collect()
    }

    /// Waits for a line of the log that contains all of `parts`.
    #[track_caller]
    pub(crate) fn wait_logged(&self, parts: &[&str]) -> String {
        until(&format!("a log line with {parts:?}"), || self.logged(parts).pop())
    }

    /// Sends a signal, `HUP`.
    pub(crate) fn signal(&self, signal: &str) {
        let sent = Command::new("sh").args(["-c", &format!("kill -{signal} {}", self.id())]).status();
        assert!(sent.expect("a shell").success(), "no {signal} to {}", self.id());
    }

    /// SIGHUP; waits until the reload is accepted.
    #[track_caller]
    pub(crate) fn reload(&self) {
        let before = self.status()["reloads"].as_u64();
        self.signal("HUP");
        until("an accepted reload", || (self.status()["reloads"].as_u64() > before).then_some(()));
    }

    /// Waits until it has ended by itself; how, and how long that took.
    #[track_caller]
    pub(crate) fn wait_end(&mut self) -> (ExitStatus, Duration) {
        let began = Instant::now();
        let status = until("the end of the process", || self.child.try_wait().expect("a child"));
        let took = began.elapsed();
        if let Some(reader) = self.reader.take() {
            reader.join().expect("no panic");
        }
        (status, took)
    }

    /// Answers to a question over UDP; `subnet` goes along as ECS unless it is empty.
    #[track_caller]
    pub(crate) fn ask(&self, name: &str, rtype: RecordType, subnet: &str) -> Message {
        client::udp(self.dns, &client::query(name, rtype, subnet))
    }

    /// The IPv4 addresses of a name for a client, sorted.
    #[track_caller]
    pub(crate) fn addresses(&self, name: &str, subnet: &str) -> Vec<String> {
        client::addresses(&self.ask(name, RecordType::A, subnet))
    }

    /// Asks the API.
    pub(crate) fn get(&self, path: &str) -> Response {
        client::get(self.admin, path)
    }

    /// `/v1/status`.
    pub(crate) fn status(&self) -> Value {
        serde_json::from_str(&self.get("/v1/status").body).expect("JSON")
    }

    /// A sample of `/metrics` by its name and labels as written there; `None` when it is not there.
    pub(crate) fn metric(&self, sample: &str) -> Option<f64> {
        let metrics = self.get("/metrics").body;
        let value = metrics.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        value.map(|value| value.parse().expect("a number"))
    }

    /// Verdict and reason of an instance with one address and one check.
    #[track_caller]
    pub(crate) fn health(&self, instance: &str) -> (String, String) {
        let status = self.status();
        let pools = status["pools"].as_array().expect("pools");
        let instances = pools.iter().flat_map(|pool| pool["instances"].as_array().expect("instances"));
        let found = instances.into_iter().find(|known| known["name"] == instance).expect("the instance");
        let check = &found["addresses"][0]["checks"][0];
        let text = |key: &str| check[key].as_str().expect("text").to_owned();
        (text("verdict"), text("reason"))
    }

    /// Waits until an instance has this verdict; the reason then.
    #[track_caller]
    pub(crate) fn wait_health(&self, instance: &str, verdict: &str) -> String {
        until(&format!("{instance} is {verdict}"), || {
            let (now, reason) = self.health(instance);
            (now == verdict).then_some(reason)
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        if std::thread::panicking() {
            let log = self.log.lock().map(|lines| lines.join("\n")).unwrap_or_default();
            say(&format!("---- log of the server {} ----\n{log}", self.child.id()));
        }
    }
}
