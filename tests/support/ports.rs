//! Ports that no other test takes, in this process or another.
//!
//! Asking the kernel for port 0 gives a port that is free at that moment; it may be gone when a child process binds it.
//! Here a port is claimed for as long as this process lives, by an abstract socket of its name, and lies below those
//! that the kernel gives to outgoing connections.

use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::atomic::{AtomicU32, Ordering};

/// The first port of the range, above those that stand in `tests/example`.
const FIRST: u32 = 20_000;
/// Ports of the range.
const COUNT: u32 = 12_000;

/// A port that is free for UDP and TCP on every address.
pub(crate) fn free() -> u16 {
    static DRAWN: AtomicU32 = AtomicU32::new(0);
    let start = std::process::id().wrapping_mul(7919);
    for _ in 0..COUNT {
        let drawn = start.wrapping_add(DRAWN.fetch_add(1, Ordering::Relaxed));
        let port = (FIRST + drawn % COUNT) as u16;
        if let Some(claim) = claim(port).filter(|_| is_free(port)) {
            // Kept until the process ends.
            std::mem::forget(claim);
            return port;
        }
    }
    panic!("no free port");
}

fn claim(port: u16) -> Option<UnixDatagram> {
    let name = SocketAddr::from_abstract_name(format!("waymark-test-port-{port}")).expect("a short name");
    UnixDatagram::bind_addr(&name).ok()
}

fn is_free(port: u16) -> bool {
    let tcp4 = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok();
    let tcp6 = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).is_ok();
    let udp4 = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok();
    let udp6 = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port)).is_ok();
    tcp4 && tcp6 && udp4 && udp6
}
