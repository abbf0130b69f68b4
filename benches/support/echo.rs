//! The floor: turns every datagram round, in batches, and knows nothing of DNS but where a few bits are. What it costs is
//! what the kernel's way of a datagram costs.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};

use super::system::Batch;

/// Size asked for each socket buffer, as Waymark does.
const BUFFER: usize = 4 << 20;
const HEADER: usize = 12;

/// What an answer is made of.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Options {
    /// UDP port on loopback
    #[arg(long)]
    port: u16,
    /// Datagrams of one system call
    #[arg(long, default_value_t = 32)]
    batch: usize,
    /// Octets that are appended to each query
    #[arg(long, default_value_t = 0)]
    pad: usize,
    /// Answers that the header counts, which are not there
    #[arg(long, default_value_t = 1)]
    answers: u16,
}

/// Answers until the process is ended.
pub(crate) fn serve(options: Options) -> io::Result<()> {
    let socket = bind(options.port)?;
    let mut batch = Batch::new(options.batch.max(1), true);
    loop {
        let received = batch.receive(&socket, true)?;
        (0..received).for_each(|index| turn(&mut batch, index, &options));
        let mut sent = 0;
        while sent < received {
            // What cannot be sent is left out.
            sent += batch.send(&socket, sent..received).unwrap_or(1);
        }
    }
}

fn bind(port: u16) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_recv_buffer_size(BUFFER)?;
    socket.set_send_buffer_size(BUFFER)?;
    socket.bind(&SocketAddrV4::new(Ipv4Addr::LOCALHOST, port).into())?;
    Ok(socket.into())
}

/// Response, authoritative, so many answers.
fn turn(batch: &mut Batch, index: usize, options: &Options) {
    let length = batch.message(index).len();
    let answer = batch.resize(index, length + options.pad);
    if length >= HEADER {
        answer[2] |= 0x84;
        answer[6..8].copy_from_slice(&options.answers.to_be_bytes());
    }
}
