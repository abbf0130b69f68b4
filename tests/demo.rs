//! `waymark demo` as a newcomer uses it: the real program, real queries, backends killed and revived.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::rdata::opt::{ClientSubnet, EdnsOption};
use hickory_proto::rr::{Name, RData, RecordType};
use tempfile::TempDir;

/// Longest wait for anything; the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(30);
/// Queries that find every instance of a region: one with a quarter of the answers is missed once in a million.
const QUERIES: u16 = 48;

const GERMANY: &str = "203.0.113.0";
const TURKEY: &str = "198.18.3.0";
const NEW_YORK: &str = "192.0.2.0";
const INDIA: &str = "198.51.100.0";

const EU_1: Ipv4Addr = Ipv4Addr::new(127, 0, 11, 1);
const EU_2: Ipv4Addr = Ipv4Addr::new(127, 0, 11, 2);
const US_1: Ipv4Addr = Ipv4Addr::new(127, 0, 12, 1);
const US_2: Ipv4Addr = Ipv4Addr::new(127, 0, 12, 2);
const AP_1: Ipv4Addr = Ipv4Addr::new(127, 0, 13, 1);

#[derive(Clone, Copy)]
struct Ports {
    dns: u16,
    backend: u16,
    admin: u16,
}

impl Ports {
    /// Free a moment ago.
    fn free() -> Ports {
        let any = || TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = |listener: &TcpListener| listener.local_addr().expect("bound").port();
        let (dns, admin) = (any(), any());
        let backend = (0..100).map(|_| port(&any())).find(|&port| {
            [EU_1, EU_2, US_1, US_2, AP_1].iter().all(|&address| TcpListener::bind((address, port)).is_ok())
        });
        Ports { dns: port(&dns), backend: backend.expect("a port that is free on all addresses"), admin: port(&admin) }
    }
}

/// A demo that runs; ended when this is dropped.
struct Demo {
    child: Child,
    stdin: Option<ChildStdin>,
    output: Arc<Mutex<String>>,
    /// Where it makes its scratch folder.
    temp: TempDir,
    socket: UdpSocket,
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("the demo said:\n{}", self.said());
        }
    }
}

impl Demo {
    /// Starts a demo that answers; its ports may have been taken meanwhile, then with others.
    fn start(stdin: fn() -> Stdio) -> Demo {
        (0..5).find_map(|_| Demo::start_once(stdin, Ports::free())).expect("free ports in one of five attempts")
    }

    /// `None` when it ended without ever answering.
    fn start_once(stdin: fn() -> Stdio, ports: Ports) -> Option<Demo> {
        let temp = tempfile::tempdir().expect("a folder");
        let mut child = command(ports, &temp).stdin(stdin()).spawn().expect("started");
        let output = Arc::default();
        collect(child.stdout.take().expect("piped"), &output);
        collect(child.stderr.take().expect("piped"), &output);
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.connect(("127.0.0.1", ports.dns)).expect("connected");
        socket.set_read_timeout(Some(Duration::from_millis(250))).expect("a timeout");
        let stdin = child.stdin.take();
        let mut demo = Demo { child, stdin, output, temp, socket };
        let deadline = Instant::now() + PATIENCE;
        while demo.ask(GERMANY, 1).is_none() {
            assert!(Instant::now() < deadline, "no answer within {PATIENCE:?}");
            if let Some(status) = demo.child.try_wait().expect("its state") {
                assert!(demo.said().contains("is taken"), "ended with {status}: {}", demo.said());
                return None;
            }
            // A closed port is told at once, so this would spin.
            thread::sleep(Duration::from_millis(20));
        }
        Some(demo)
    }

    /// What it printed up to now.
    fn said(&self) -> String {
        self.output.lock().expect("not poisoned").clone()
    }

    fn type_in(&mut self, line: &str) {
        writeln!(self.stdin.as_mut().expect("piped"), "{line}").expect("read");
    }

    /// The address that one query for a client is answered with.
    fn ask(&self, client: &str, id: u16) -> Option<Ipv4Addr> {
        let mut message = Message::new(id, MessageType::Query, OpCode::Query);
        let name = Name::from_ascii("www.gslb.example.com.").expect("a name");
        message.add_query(Query::query(name, RecordType::A));
        let mut edns = Edns::new();
        let subnet = ClientSubnet::new(client.parse().expect("an address"), 24, 0);
        edns.options_mut().insert(EdnsOption::Subnet(subnet));
        message.set_edns(edns);
        self.socket.send(&message.to_vec().expect("octets")).ok()?;
        let mut buffer = [0; 512];
        loop {
            let length = self.socket.recv(&mut buffer).ok()?;
            let answer = Message::from_vec(&buffer[..length]).expect("an answer");
            if answer.id == id {
                return match answer.answers.first()?.data {
                    RData::A(address) => Some(address.0),
                    _ => None,
                };
            }
        }
    }

    /// All addresses that a client is answered with.
    fn answers(&self, client: &str) -> BTreeSet<Ipv4Addr> {
        (0..QUERIES).filter_map(|id| self.ask(client, id)).collect()
    }

    /// Waits until a client is answered with exactly these.
    fn expect(&self, client: &str, addresses: &[Ipv4Addr]) {
        let expected: BTreeSet<_> = addresses.iter().copied().collect();
        self.eventually(&format!("{client} is answered {expected:?}"), || self.answers(client) == expected);
    }

    fn expect_said(&self, text: &str) {
        self.eventually(&format!("it says {text:?}"), || self.said().contains(text));
    }

    fn eventually(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds() {
            assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn scratch(&self) -> PathBuf {
        self.temp.path().join(format!("waymark-demo-{}", self.child.id()))
    }

    fn wait_for_end(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("its state") {
                return status;
            }
            assert!(Instant::now() < deadline, "it has not ended within {PATIENCE:?}");
            thread::sleep(Duration::from_millis(20));
        }
    }
}

fn command(ports: Ports, temp: &TempDir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_waymark"));
    command
        .args(["demo", "--port", &ports.dns.to_string(), "--backend-port", &ports.backend.to_string()])
        .args(["--admin-port", &ports.admin.to_string()])
        .env("TMPDIR", temp.path())
        .env_remove("WAYMARK_LOG")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Reads along, so that the demo never waits for a full pipe.
fn collect(mut from: impl Read + Send + 'static, output: &Arc<Mutex<String>>) {
    let output = Arc::clone(output);
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            output.lock().expect("not poisoned").push_str(&String::from_utf8_lossy(&buffer[..length]));
        }
    });
}

#[test]
fn killed_backends_leave_the_answers_and_come_back() {
    let mut demo = Demo::start(Stdio::piped);
    demo.expect(GERMANY, &[EU_1, EU_2]);
    demo.expect(NEW_YORK, &[US_1, US_2]);
    demo.expect(INDIA, &[AP_1]);
    assert!(demo.scratch().join("waymark.toml").exists());

    demo.type_in("kill eu-1");
    demo.expect(GERMANY, &[EU_2]);
    demo.expect_said("eu-1 is down: connection refused");
    demo.expect_said("203.0.113.0/24   Germany    eu-west (eu-1, eu-2) -> eu-west (eu-2)");

    demo.type_in("kill eu-west");
    demo.expect(GERMANY, &[US_1, US_2]);
    demo.expect(TURKEY, &[AP_1]);
    demo.expect(NEW_YORK, &[US_1, US_2]);

    demo.type_in("revive all");
    demo.expect(GERMANY, &[EU_1, EU_2]);
    demo.expect(TURKEY, &[EU_1, EU_2]);

    demo.type_in("kill mars");
    demo.expect_said("no instance or region `mars`; allowed are eu-1, eu-2, us-1, us-2, ap-1, eu-west");
    demo.type_in("quit");
    assert_eq!(demo.wait_for_end().code(), Some(0));
    assert!(!demo.scratch().exists());
    assert_eq!(fs::read_dir(demo.temp.path()).expect("a folder").count(), 0, "nothing is left behind");
}

#[test]
fn without_input_it_serves_until_a_signal() {
    let mut demo = Demo::start(Stdio::null);
    demo.expect_said("serving until Ctrl-C or SIGTERM");
    demo.expect(GERMANY, &[EU_1, EU_2]);
    let told = Command::new("kill").args(["-TERM", &demo.child.id().to_string()]).status();
    assert!(told.expect("kill runs").success());
    assert_eq!(demo.wait_for_end().code(), Some(0));
    assert!(!demo.scratch().exists());
}

#[test]
fn a_taken_port_is_named_with_its_option() {
    let holder = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let taken: SocketAddr = holder.local_addr().expect("bound");
    let temp = tempfile::tempdir().expect("a folder");
    let ports = Ports { dns: taken.port(), ..Ports::free() };
    let output = command(ports, &temp).stdin(Stdio::null()).output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("port {} is taken", taken.port())) && said.contains("--port"), "{said}");
    assert_eq!(fs::read_dir(temp.path()).expect("a folder").count(), 0, "nothing is left behind");
}
