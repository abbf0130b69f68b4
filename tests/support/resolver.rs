//! Resolvers as child processes, in front of a server; ended by their process id, at the latest when they are dropped.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;
use tempfile::TempDir;

use super::server::Server;
use super::{client, ports, program, say, until};

/// A resolver that runs, and sends what is below `gslb.example.com` to a server.
pub(crate) struct Resolver {
    child: Child,
    folder: TempDir,
    /// Where it answers over IPv4, on loopback.
    pub(crate) address: SocketAddr,
}

impl Resolver {
    /// Writes `configuration` to the file `recursor.conf` of a scratch folder, and runs a program with these arguments. In
    /// both, `PORT` is where to listen, `UPSTREAM` the server's port and `FOLDER` the folder.
    #[track_caller]
    pub(crate) fn start(name: &str, arguments: &[&str], configuration: &str, server: &Server) -> Resolver {
        let folder = tempfile::tempdir().expect("a scratch folder");
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, ports::free()));
        let fill = |text: &str| {
            text.replace("PORT", &address.port().to_string())
                .replace("UPSTREAM", &server.dns.port().to_string())
                .replace("FOLDER", &folder.path().to_string_lossy())
        };
        fs::write(folder.path().join("recursor.conf"), fill(configuration)).expect("written");
        let log = File::create(folder.path().join("log")).expect("a file");
        let child = Command::new(program(name).expect("it is installed"))
            .args(arguments.iter().map(|argument| fill(argument)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("it starts");
        let mut resolver = Resolver { child, folder, address };
        until(&format!("{name} answers"), || {
            let ended = resolver.child.try_wait().expect("a child");
            assert!(ended.is_none(), "{name} ended: {ended:?}");
            client::try_udp(address, &recursive("static.gslb.example.com", RecordType::A, ""))
                .filter(|answer| answer.response_code == ResponseCode::NoError)
        });
        resolver
    }

    /// Its answer; `subnet` goes along as ECS unless it is empty.
    #[track_caller]
    pub(crate) fn ask(&self, name: &str, rtype: RecordType, subnet: &str) -> Message {
        client::udp(self.address, &recursive(name, rtype, subnet))
    }
}

/// A query as a stub resolver sends it.
pub(crate) fn recursive(name: &str, rtype: RecordType, subnet: &str) -> Message {
    let mut query = client::query(name, rtype, subnet);
    query.metadata.recursion_desired = true;
    query
}

impl Drop for Resolver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            say(&format!("---- log of the resolver ----\n{log}"));
        }
    }
}
