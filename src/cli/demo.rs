//! `waymark demo`: a complete GSLB on loopback, with backends to kill and revive.
//!
//! ```text
//! ports free? ─► scratch folder with the configuration ─► backends ─► the server of `waymark run` ─► conversation
//!                removed at every end                                                       kill, revive, show, quit
//! ```
//!
//! | part | owns |
//! |---|---|
//! | `waymark.toml`, zone, `networks.toml` | what is served: an ordinary configuration |
//! | `scratch` | the folder these files are written to, with the ports put in |
//! | `site` | which backend is where |
//! | `backends` | the HTTP servers |
//! | `command` | what may be typed |
//! | `client` | queries over UDP, as resolvers send them for their clients |
//! | `sight` | what health and answers are now, and what changed |
//! | `screen` | tables and explanations |
//! | `conversation` | command after command |

mod backends;
mod client;
mod command;
mod conversation;
mod scratch;
mod screen;
mod sight;
mod site;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::time::Duration;

use clap::{Args, value_parser};
use tokio::signal::unix::{Signal, SignalKind, signal};

use self::backends::Backends;
use self::conversation::Conversation;
use self::scratch::Scratch;
use self::site::Site;
use super::run::{LogArgs, Node, runtime};
use super::{End, load, output};

/// Try it: three regions of live HTTP backends and the server, all on loopback; kill and revive backends and watch the
/// answers change
#[derive(Args, Debug)]
#[command(mut_arg("log", |log| log.default_value("error")))]
pub(super) struct Demo {
    #[command(flatten)]
    ports: Ports,
    #[command(flatten)]
    log: LogArgs,
}

/// Where the parts of the demo listen.
#[derive(Args, Clone, Copy, Debug)]
struct Ports {
    /// Port of the DNS server, on 127.0.0.1
    #[arg(long = "port", value_name = "PORT", default_value_t = 5300, value_parser = value_parser!(u16).range(1..))]
    dns: u16,
    /// Port of the HTTP backends, on 127.0.11.1 and other loopback addresses
    #[arg(long = "backend-port", value_name = "PORT", default_value_t = 18080, value_parser = value_parser!(u16).range(1..))]
    backend: u16,
    /// Port of the API and the metrics, on 127.0.0.1
    #[arg(long = "admin-port", value_name = "PORT", default_value_t = 8053, value_parser = value_parser!(u16).range(1..))]
    admin: u16,
}

impl Demo {
    pub(super) fn run(self) -> End {
        if let Err(end) = self.log.start() {
            return end;
        }
        let Some(runtime) = runtime() else { return End::Failed };
        let end = runtime.block_on(demo(self.ports)).unwrap_or_else(|problem| {
            output::error(&problem);
            End::Failed
        });
        // Standard input may still be waited for.
        runtime.shutdown_timeout(Duration::ZERO);
        end
    }
}

/// The demo from its start to its end; the error is what to tell the user.
async fn demo(ports: Ports) -> Result<End, String> {
    let mut signals = Signals::new().map_err(|error| format!("cannot wait for signals: {error}"))?;
    ports.check_free()?;
    let scratch = Scratch::create(ports).map_err(|error| format!("cannot write a scratch folder: {error}"))?;
    let config = scratch.config();
    let Ok(configuration) = load(&config) else { return Ok(End::Failed) };
    let site = Site::of(&configuration.fleet);
    let backends = Backends::start(&site).await?;
    let mut node = tokio::select! {
        started = Node::start(configuration, &config) => started?,
        () = signals.ended() => return Ok(End::Done),
    };
    let conversation = Conversation::new(site, backends, node.changes(), ports, &scratch).await;
    let conversation = conversation.map_err(|error| format!("cannot query 127.0.0.1:{}: {error}", ports.dns))?;
    tokio::select! {
        () = conversation.hold() => {}
        () = node.until_ended() => output::line(""),
        () = signals.ended() => output::line(""),
    }
    node.stop().await;
    output::line("The demo is over; nothing is left behind.");
    Ok(End::Done)
}

impl Ports {
    /// Tells every port that is taken, and how to choose another.
    fn check_free(&self) -> Result<(), String> {
        let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        // All are held until all are known, so that one number given twice is found too.
        let dns = TcpListener::bind(at(self.dns));
        let udp = UdpSocket::bind(at(self.dns));
        let admin = TcpListener::bind(at(self.admin));
        let dns = dns.map(drop).and(udp.map(drop));
        let taken: Vec<String> = [("--port", self.dns, dns), ("--admin-port", self.admin, admin.map(drop))]
            .into_iter()
            .filter_map(|(option, port, bound)| Some(refused(at(port), option, &bound.err()?)))
            .collect();
        if taken.is_empty() { Ok(()) } else { Err(taken.join("\nwaymark: ")) }
    }
}

/// Why the demo cannot listen there, and what to do.
fn refused(address: SocketAddr, option: &str, error: &io::Error) -> String {
    let what = format!("cannot listen on {address}");
    let port = address.port();
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            let other = if port < u16::MAX { port + 1 } else { port - 1 };
            format!("{what}: port {port} is taken (by another demo?); choose a free one, as {option} {other}")
        }
        io::ErrorKind::PermissionDenied if port < 1024 => {
            format!("{what}: ports below 1024 need a privilege; choose another with {option}")
        }
        io::ErrorKind::AddrNotAvailable => format!(
            "{what}: this machine does not have that address. Linux has all of 127.0.0.0/8; elsewhere add each of the \
             demo's addresses, as `sudo ifconfig lo0 alias {} up`",
            address.ip()
        ),
        _ => format!("{what}: {error}"),
    }
}

/// The signals that end the demo, caught from the beginning, so that the scratch folder is always removed.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Signals> {
        Ok(Signals { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn ended(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_names_its_option() {
        let holder = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let taken = holder.local_addr().expect("bound").port();
        let problem = Ports { dns: taken, backend: 1, admin: taken }.check_free().expect_err("taken");
        assert!(problem.contains(&format!("127.0.0.1:{taken}: port {taken} is taken")), "{problem}");
        assert!(problem.contains("--port ") && problem.contains("--admin-port "), "{problem}");
    }

    #[test]
    fn one_number_for_two_is_found() {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").port();
        let problem = Ports { dns: free, backend: 1, admin: free }.check_free().expect_err("twice");
        assert!(problem.contains("--admin-port "), "{problem}");
    }

    #[test]
    fn a_missing_loopback_address_is_explained() {
        let address = "127.0.11.1:18080".parse().expect("an address");
        let problem = refused(address, "--backend-port", &io::ErrorKind::AddrNotAvailable.into());
        assert!(problem.contains("ifconfig lo0 alias 127.0.11.1 up"), "{problem}");
    }
}
