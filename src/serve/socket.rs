//! System calls the standard library does not offer: batches of datagrams (`recvmmsg`, `sendmmsg`) with the address
//! each came to (`IP_PKTINFO`), socket options, cores of threads. The only module with `unsafe`.
//!
//! A [`Batch`] owns all memory its calls touch, made once; one index stands for one datagram in all its arrays. When
//! the answers are sent, the first headers are pointed to those datagrams that got one:
//! ```text
//! headers[i] ─► names[i]      where the datagram came from, and where its answer goes
//!            ─► iovecs[i] ─► inputs[i], the query; then a piece of outputs, the answer
//!            ─► controls[i]   the address it came to, and which its answer leaves from
//! ```
#![allow(unsafe_code)]
// Lengths have other types in other C libraries.
#![allow(clippy::unnecessary_cast)]

use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;
use std::slice;
use std::thread;

/// Datagrams per system call. CPU per query against 32: 1.02 with 8, 1.00 with 16, 64 and 128.
pub(super) const BATCH: usize = 32;
/// Octets of a cache line.
const LINE: usize = 64;
/// The longest query received whole.
const INPUT: usize = 4096;
/// The longest answer; no `max-udp-payload` is more.
const OUTPUT: usize = 4096;
/// Descriptors asked for at most; more serve nobody here.
const MOST_DESCRIPTORS: libc::rlim_t = 65_536;
/// More cores than any kernel is built for.
const MOST_CORES: usize = 8192;
/// Bits of a word of a mask of cores, which is a row of `unsigned long`.
const WORD: usize = libc::c_ulong::BITS as usize;
/// A set of cores; the fixed one of the C library has room for 1024, which a kernel for more refuses.
type CoreMask = [libc::c_ulong; MOST_CORES / WORD];
/// Send calls of one batch that may be repeated after an error that may pass.
const RETRIES: usize = 8;

/// Room for one `IP_PKTINFO` (28 octets) or `IPV6_PKTINFO` (36) with padding, aligned like a `cmsghdr`.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control([u8; 64]);

/// Room for a query. The gap makes it an odd number of cache lines: heads of queries a power of two apart would all
/// meet in the same set of the cache.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Input {
    octets: [u8; INPUT],
    gap: [u8; LINE],
}

/// Where an answer is, and to which datagram.
#[derive(Clone, Copy)]
struct Answer {
    index: usize,
    start: usize,
    length: usize,
}

/// Buffers of datagrams received together, and their answers. It stays in the thread that made it.
pub(super) struct Batch {
    inputs: Box<[Input]>,
    /// The answers, each where the one before it ends, or rather at the next line: what most batches touch of it is
    /// little, and so stays in the cache. Each could be the longest.
    outputs: Box<[u8]>,
    /// Where in `outputs` the next answer goes.
    free: usize,
    /// Room for a `sockaddr_in6`, or a `sockaddr_in`, which is smaller and less aligned.
    names: Box<[libc::sockaddr_in6]>,
    controls: Box<[Control]>,
    iovecs: Box<[libc::iovec]>,
    headers: Box<[libc::mmsghdr]>,
    /// In the order of their indexes.
    answers: Vec<Answer>,
    received: usize,
    /// Whether the socket tells the address a datagram came to.
    wildcard: bool,
}

/// One datagram of a [`Batch`].
pub(super) struct Datagram<'a> {
    /// Who sent it.
    pub(super) source: SocketAddr,
    /// It was longer than `query`.
    pub(super) truncated: bool,
    pub(super) query: &'a [u8],
    /// Room for its answer.
    pub(super) out: &'a mut [u8],
}

/// Where a datagram came from, and the address it came to: the way of an answer that is sent by itself, later.
pub(super) struct Back {
    name: libc::sockaddr_in6,
    name_length: libc::socklen_t,
    control: Control,
    control_length: usize,
}

impl Back {
    /// Sends an answer, from the address that was asked. It does not wait for room in the send buffer.
    ///
    /// # Errors
    /// When the kernel does not take it.
    pub(super) fn send(mut self, socket: &UdpSocket, octets: &[u8]) -> io::Result<()> {
        let mut iovec = libc::iovec { iov_base: octets.as_ptr().cast_mut().cast(), iov_len: octets.len() };
        // SAFETY: it is a C structure of integers and pointers, for which all zeroes is a value.
        let mut header: libc::msghdr = unsafe { mem::zeroed() };
        header.msg_name = ptr::from_mut(&mut self.name).cast();
        header.msg_namelen = self.name_length;
        header.msg_iov = &raw mut iovec;
        header.msg_iovlen = 1;
        if self.control_length > 0 {
            header.msg_control = ptr::from_mut(&mut self.control).cast();
            header.msg_controllen = self.control_length as _;
        }
        let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
        // SAFETY: the header points to the name, control data and octets above with the lengths they have; they live until
        // the call returns, and the kernel only reads them.
        let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const header, flags as _) };
        usize::try_from(sent).map(drop).map_err(|_| io::Error::last_os_error())
    }
}

/// What became of a batch of answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) sent: usize,
    /// Of these, how many had to be shortened.
    pub(super) shortened: usize,
    pub(super) failed: usize,
}

impl Batch {
    /// Buffers for a socket bound to a `wildcard` address, with [`tell_destination`] set, or to a specific one.
    pub(super) fn new(wildcard: bool) -> Batch {
        // SAFETY: these are C structures of integers and pointers, for which all zeroes is a value.
        let (name, iovec, header) = unsafe { (mem::zeroed(), mem::zeroed(), mem::zeroed()) };
        Batch {
            inputs: vec![Input { octets: [0; INPUT], gap: [0; LINE] }; BATCH].into(),
            outputs: vec![0; OUTPUT * BATCH].into(),
            free: 0,
            names: vec![name; BATCH].into(),
            controls: vec![Control([0; 64]); BATCH].into(),
            iovecs: vec![iovec; BATCH].into(),
            headers: vec![header; BATCH].into(),
            answers: Vec::with_capacity(BATCH),
            received: 0,
            wildcard,
        }
    }

    /// Waits for a datagram, or for the socket's timeout, and takes all that are there. Returns how many.
    pub(super) fn receive(&mut self, socket: &UdpSocket) -> io::Result<usize> {
        self.receive_with(socket, libc::MSG_WAITFORONE)
    }

    /// Takes the datagrams that are there; `WouldBlock` when there are none.
    pub(super) fn receive_waiting(&mut self, socket: &UdpSocket) -> io::Result<usize> {
        self.receive_with(socket, libc::MSG_DONTWAIT)
    }

    fn receive_with(&mut self, socket: &UdpSocket, flags: libc::c_int) -> io::Result<usize> {
        self.answers.clear();
        self.free = 0;
        self.received = 0;
        self.point_headers();
        // SAFETY: `headers` holds BATCH headers, and `point_headers` just made each point to memory of its own in
        // arrays that `self`, borrowed exclusively, owns, with the sizes that memory has.
        let count = unsafe {
            libc::recvmmsg(socket.as_raw_fd(), self.headers.as_mut_ptr(), BATCH as _, flags as _, ptr::null_mut())
        };
        self.received = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        Ok(self.received)
    }

    /// Pointers are made anew for each call, so that none outlives a borrow of what it points to.
    fn point_headers(&mut self) {
        let control_length = if self.wildcard { mem::size_of::<Control>() } else { 0 };
        let memory = self.inputs.iter_mut().zip(&mut self.names).zip(&mut self.controls);
        for ((header, iovec), ((input, name), control)) in self.headers.iter_mut().zip(&mut self.iovecs).zip(memory) {
            *iovec = libc::iovec { iov_base: input.octets.as_mut_ptr().cast(), iov_len: INPUT };
            let header = &mut header.msg_hdr;
            header.msg_name = ptr::from_mut(name).cast();
            header.msg_namelen = mem::size_of::<libc::sockaddr_in6>() as libc::socklen_t;
            header.msg_iov = iovec;
            header.msg_iovlen = 1;
            header.msg_control = ptr::from_mut(control).cast();
            header.msg_controllen = control_length as _;
        }
    }

    /// The datagram at `index`, which is below what was received. `None` when it has no source. Its `out` is good until
    /// the next is asked for.
    #[inline(always)]
    pub(super) fn datagram(&mut self, index: usize) -> Option<Datagram<'_>> {
        let header = &self.headers[..self.received][index];
        let source = source(&self.names[index], header.msg_hdr.msg_namelen)?;
        Some(Datagram {
            source,
            truncated: header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
            query: &self.inputs[index].octets[..(header.msg_len as usize).min(INPUT)],
            out: &mut self.outputs[self.free..][..OUTPUT],
        })
    }

    /// The way back of the datagram at `index`, which is below what was received, for an answer that comes later.
    pub(super) fn back(&self, index: usize) -> Back {
        let header = &self.headers[..self.received][index].msg_hdr;
        let mut control = self.controls[index];
        let control_length = source_control(&mut control, header.msg_controllen as usize);
        Back { name: self.names[index], name_length: header.msg_namelen, control, control_length }
    }

    /// The datagrams received, each with its source.
    pub(super) fn queries(&self) -> impl Iterator<Item = (&[u8], IpAddr)> {
        let datagrams = self.headers[..self.received].iter().zip(&self.names).zip(&self.inputs);
        datagrams.filter_map(|((header, name), input)| {
            let source = source(name, header.msg_hdr.msg_namelen)?;
            Some((&input.octets[..(header.msg_len as usize).min(INPUT)], source.ip()))
        })
    }

    /// Has the first `length` octets of the `out` of the datagram at `index`, the last that was asked for, sent by
    /// [`Batch::send`]. To be called once for each datagram at most.
    pub(super) fn reply(&mut self, index: usize, length: usize) {
        debug_assert!(index < self.received && self.answers.last().is_none_or(|last| last.index < index));
        let length = length.min(OUTPUT);
        self.answers.push(Answer { index, start: self.free, length });
        self.free += length.next_multiple_of(LINE);
    }

    /// Sends the answers, from the addresses the queries came to. What cannot be sent is given up, soon; what is too long
    /// for its way is sent as `shorten` makes it, in as many octets as that returns.
    pub(super) fn send(&mut self, socket: &UdpSocket, shorten: impl Fn(&mut [u8]) -> Option<usize>) -> Sent {
        self.point_to_answers();
        let total = self.answers.len();
        let (mut at, mut shortened, mut failed, mut retries) = (0, 0, 0, RETRIES);
        while at < total {
            // SAFETY: the headers from `at` to `total` were pointed by `point_to_answers` to memory that `self`, borrowed
            // exclusively, owns, with lengths within it; the kernel reads them and writes only `msg_len`.
            let sent = unsafe {
                let first = self.headers[at..total].as_mut_ptr();
                libc::sendmmsg(socket.as_raw_fd(), first, (total - at) as _, libc::MSG_NOSIGNAL as _)
            };
            match usize::try_from(sent) {
                Ok(sent) if sent > 0 => at += sent,
                _ => match after_send_error(&io::Error::last_os_error(), &mut retries) {
                    Next::Repeat => thread::yield_now(),
                    Next::Shorten if self.shorten(at, &shorten) => shortened += 1,
                    Next::Shorten | Next::Skip => (at, failed) = (at + 1, failed + 1),
                    Next::GiveUp => (at, failed) = (total, failed + total - at),
                },
            }
        }
        self.answers.clear();
        // The headers no longer say what was received.
        self.received = 0;
        Sent { sent: total - failed, shortened, failed }
    }

    /// Shortens the answer at `at`, to be sent by a header pointed there before; whether it got shorter.
    #[cold]
    fn shorten(&mut self, at: usize, shorten: impl Fn(&mut [u8]) -> Option<usize>) -> bool {
        let iovec = &mut self.iovecs[self.answers[at].index];
        // SAFETY: `point_to_answers` made it point to so many octets of `outputs`, which `self`, borrowed exclusively, owns;
        // no reference to them was made since, and this one ends before the kernel reads them.
        let octets = unsafe { slice::from_raw_parts_mut(iovec.iov_base.cast::<u8>(), iovec.iov_len as usize) };
        let Some(length) = shorten(octets).filter(|&length| length < octets.len()) else { return false };
        iovec.iov_len = length as _;
        true
    }

    /// Makes the first headers those of the answers. None is overwritten before it was read, as no answer comes before
    /// its datagram.
    fn point_to_answers(&mut self) {
        // One borrow for all pointers: a later one of the whole would end those before it.
        let outputs = self.outputs.as_mut_ptr();
        for (at, &Answer { index, start, length }) in self.answers.iter().enumerate() {
            let received = self.headers[index].msg_hdr;
            let control = &mut self.controls[index];
            let control_length = source_control(control, received.msg_controllen as usize);
            let iovec = &mut self.iovecs[index];
            *iovec = libc::iovec { iov_base: outputs.wrapping_add(start).cast(), iov_len: length };
            let header = &mut self.headers[at].msg_hdr;
            header.msg_name = ptr::from_mut(&mut self.names[index]).cast();
            header.msg_namelen = received.msg_namelen;
            header.msg_iov = iovec;
            header.msg_iovlen = 1;
            header.msg_control = if control_length == 0 { ptr::null_mut() } else { ptr::from_mut(control).cast() };
            header.msg_controllen = control_length as _;
        }
    }
}

/// The address that the kernel wrote `length` octets of into `name`.
#[inline]
fn source(name: &libc::sockaddr_in6, length: libc::socklen_t) -> Option<SocketAddr> {
    match libc::c_int::from(name.sin6_family) {
        libc::AF_INET if length as usize >= mem::size_of::<libc::sockaddr_in>() => {
            // SAFETY: `name` is larger than a `sockaddr_in` and at least as aligned, and all its octets are initialised.
            let name = unsafe { &*ptr::from_ref(name).cast::<libc::sockaddr_in>() };
            let address = Ipv4Addr::from(u32::from_be(name.sin_addr.s_addr));
            Some(SocketAddrV4::new(address, u16::from_be(name.sin_port)).into())
        }
        libc::AF_INET6 if length as usize >= mem::size_of::<libc::sockaddr_in6>() => {
            let address = Ipv6Addr::from(name.sin6_addr.s6_addr);
            let port = u16::from_be(name.sin6_port);
            Some(SocketAddrV6::new(address, port, name.sin6_flowinfo, name.sin6_scope_id).into())
        }
        _ => None,
    }
}

/// Makes of the address a datagram came to, `length` octets of control messages, the address its answer leaves from.
/// Returns how many octets to hand back: without the padding behind, as the kernel then copies an `in6_pktinfo` to its
/// stack, and would allocate room for it otherwise. The interface is left to routing, since answers may leave by another one
/// than queries come by; only a link-local address means nothing without it.
fn source_control(control: &mut Control, length: usize) -> usize {
    // SAFETY: a `cmsghdr` is at the start when the kernel wrote that much; `Control` is aligned for it, and any octets
    // are a value of it.
    let header = unsafe { &*ptr::from_ref(control).cast::<libc::cmsghdr>() };
    if length < mem::size_of::<libc::cmsghdr>() {
        return 0;
    }
    match (header.cmsg_level, header.cmsg_type) {
        (libc::IPPROTO_IP, libc::IP_PKTINFO) => edit::<libc::in_pktinfo>(control, length, |info| info.ipi_ifindex = 0),
        (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => edit::<libc::in6_pktinfo>(control, length, |info| {
            if !Ipv6Addr::from(info.ipi6_addr.s6_addr).is_unicast_link_local() {
                info.ipi6_ifindex = 0;
            }
        }),
        _ => 0,
    }
}

/// Edits the data of the control message at the start of `control`; its length, or 0 when the kernel wrote less. `T` is `in_pktinfo` or `in6_pktinfo`.
fn edit<T>(control: &mut Control, length: usize, edit: impl FnOnce(&mut T)) -> usize {
    const { assert!(mem::align_of::<T>() <= mem::align_of::<libc::cmsghdr>()) };
    // SAFETY: it only computes with its argument.
    let whole = unsafe { libc::CMSG_LEN(mem::size_of::<T>() as _) } as usize;
    if length < whole || whole > mem::size_of::<Control>() {
        return 0;
    }
    // SAFETY: `length` says that a header and a whole `T` are there, within `control`; `CMSG_DATA` is right behind the
    // header and as aligned; `T` is a C structure of integers; the pointer comes from an exclusive borrow.
    edit(unsafe { &mut *libc::CMSG_DATA(ptr::from_mut(control).cast()).cast::<T>() });
    whole
}

/// What to do about the first answer that a send call refused.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Repeat,
    /// It is longer than the interface takes.
    Shorten,
    Skip,
    GiveUp,
}

fn after_send_error(error: &io::Error, retries: &mut usize) -> Next {
    match error.raw_os_error() {
        // The call already waited for room in the send buffer, as long as the socket's timeout.
        Some(libc::EAGAIN) => Next::GiveUp,
        // Interrupted; an ICMP error about an earlier answer, told once; a full queue of the interface.
        Some(libc::EINTR | libc::ECONNREFUSED | libc::ENOBUFS | libc::ENOMEM) if *retries > 0 => {
            *retries -= 1;
            Next::Repeat
        }
        Some(libc::EMSGSIZE) => Next::Shorten,
        _ => Next::Skip,
    }
}

/// Has the kernel tell for each datagram which address it came to; for sockets on a wildcard address.
pub(super) fn tell_destination(socket: BorrowedFd<'_>, address: &SocketAddr) -> io::Result<()> {
    match address {
        SocketAddr::V4(_) => set_option(socket, libc::IPPROTO_IP, libc::IP_PKTINFO, 1),
        SocketAddr::V6(_) => set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1),
    }
}

/// Has nobody fragment answers, neither the kernel nor, for DF is set, a router; and ICMP's word on path MTU, which can be
/// forged, ignored (RFC 9715 §3.1). A packet that may not be fragmented needs no identification either, which the kernel
/// would take 0.08 µs to make up: 3 % of an answer.
pub(super) fn forbid_fragments(socket: BorrowedFd<'_>, address: &SocketAddr) -> io::Result<()> {
    match address {
        SocketAddr::V4(_) => set_option(socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE),
        SocketAddr::V6(_) => set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_PROBE),
    }
}

fn set_option(socket: BorrowedFd<'_>, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the kernel reads an int from `value`, which outlives the call; the descriptor is open while borrowed.
    let result = unsafe {
        let length = mem::size_of_val(&value) as libc::socklen_t;
        libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), length)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Has `program` choose the socket that gets a datagram, among those that share `socket`'s address: it returns an index
/// in the order of binding. Another index, or none, leaves the choice to the kernel's hash.
pub(super) fn choose_by(socket: BorrowedFd<'_>, program: &[libc::sock_filter]) -> io::Result<()> {
    let len = libc::c_ushort::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = libc::sock_fprog { len, filter: program.as_ptr().cast_mut() };
    // SAFETY: the kernel reads a `sock_fprog` from `program` and `len` instructions from where it points, which both
    // outlive the call; it writes to neither.
    let result = unsafe {
        let length = mem::size_of_val(&program) as libc::socklen_t;
        let option = libc::SO_ATTACH_REUSEPORT_CBPF;
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, option, (&raw const program).cast(), length)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The cores that the calling thread may run on, in rising order.
pub(super) fn usable_cores() -> io::Result<Vec<usize>> {
    let mut mask: CoreMask = [0; _];
    // SAFETY: the kernel writes at most the octets of `mask`, whose size it is told.
    let result = unsafe { libc::sched_getaffinity(0, mem::size_of_val(&mask), mask.as_mut_ptr().cast()) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((0..MOST_CORES).filter(|core| mask[core / WORD] & (1 << (core % WORD)) != 0).collect())
}

/// Has the calling thread run on `core` alone.
pub(super) fn pin_to(core: usize) -> io::Result<()> {
    let mut mask: CoreMask = [0; _];
    *mask.get_mut(core / WORD).ok_or(io::ErrorKind::InvalidInput)? = 1 << (core % WORD);
    // SAFETY: the kernel reads the octets of `mask`, whose size it is told.
    let result = unsafe { libc::sched_setaffinity(0, mem::size_of_val(&mask), mask.as_ptr().cast()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Raises the limit on open descriptors as far as it goes: probes and TCP connections need one each, and many systems
/// start a process with 1024. Where that fails, the limit stays. Returns the limit that is in force.
pub fn raise_descriptor_limit() -> usize {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls read or write `limit` alone, which lives longer than they run.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 && limit.rlim_cur < limit.rlim_max {
            limit.rlim_cur = limit.rlim_max.min(MOST_DESCRIPTORS);
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        }
        // It may have been refused; an unreadable limit stays 0.
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
    }
    usize::try_from(limit.rlim_cur).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::time::Duration;

    use super::*;

    fn socket(address: &str) -> UdpSocket {
        let socket = UdpSocket::bind(address).expect("a socket");
        socket.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
        socket
    }

    /// `receive` until `count` datagrams were handed to `each`.
    fn receive(batch: &mut Batch, socket: &UdpSocket, count: usize, mut each: impl FnMut(&mut Batch, usize)) {
        let mut seen = 0;
        while seen < count {
            let received = batch.receive(socket).expect("datagrams");
            (0..received).for_each(|index| each(batch, index));
            seen += received;
        }
    }

    #[test]
    fn a_batch_is_received_and_answered() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let (server, client) = (socket(address), socket(address));
            let to = server.local_addr().expect("an address");
            for number in 0..5u8 {
                client.send_to(&vec![number; usize::from(number)], to).expect("sent");
            }
            let mut batch = Batch::new(false);
            receive(&mut batch, &server, 5, |batch, index| {
                let datagram = batch.datagram(index).expect("a source");
                assert_eq!((datagram.source, datagram.truncated), (client.local_addr().expect("an address"), false));
                let length = datagram.query.len();
                assert_eq!(datagram.query, vec![length as u8; length]);
                datagram.out[..2].copy_from_slice(&[b'a', length as u8]);
                // Every second one is answered.
                if length % 2 == 0 {
                    batch.reply(index, 2);
                }
                if length == 4 {
                    assert_eq!(batch.send(&server, |_| None), Sent { sent: 3, shortened: 0, failed: 0 });
                }
            });
            let mut buffer = [0; 16];
            for number in [0, 2, 4] {
                assert_eq!(client.recv_from(&mut buffer).expect("an answer"), (2, to));
                assert_eq!(buffer[..2], [b'a', number]);
            }
        }
    }

    #[test]
    fn only_what_is_there_is_received_without_waiting() {
        let error = Batch::new(false).receive_waiting(&socket("127.0.0.1:0")).expect_err("nothing there");
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn a_datagram_too_long_is_marked() {
        let (server, client) = (socket("127.0.0.1:0"), socket("127.0.0.1:0"));
        let to = server.local_addr().expect("an address");
        client.send_to(&[1; INPUT], to).expect("sent");
        client.send_to(&[2; INPUT + 1], to).expect("sent");
        let mut batch = Batch::new(false);
        receive(&mut batch, &server, 2, |batch, index| {
            let datagram = batch.datagram(index).expect("a source");
            assert_eq!((datagram.query.len(), datagram.truncated), (INPUT, datagram.query[0] == 2));
        });
    }

    #[test]
    fn an_answer_that_cannot_be_sent_costs_only_itself() {
        let (server, client) = (socket("127.0.0.1:0"), socket("127.0.0.1:0"));
        for number in 0..3u8 {
            client.send_to(&[number], server.local_addr().expect("an address")).expect("sent");
        }
        let mut batch = Batch::new(false);
        while batch.received < 3 {
            // Peeking at all of them would need a third mode; on loopback they are there at once.
            assert_eq!(batch.receive(&server).expect("datagrams"), 3);
        }
        for index in 0..3 {
            batch.datagram(index).expect("a source").out[0] = index as u8;
            batch.reply(index, 1);
        }
        // Broadcasts are refused with EACCES on a socket that did not ask for them.
        // SAFETY: `names` holds a `sockaddr_in` in the room of a larger structure.
        let name = unsafe { &mut *ptr::from_mut(&mut batch.names[1]).cast::<libc::sockaddr_in>() };
        name.sin_addr.s_addr = u32::MAX;
        assert_eq!(batch.send(&server, |_| None), Sent { sent: 2, shortened: 0, failed: 1 });
        let mut buffer = [0; 16];
        for number in [0, 2] {
            assert_eq!((client.recv(&mut buffer).expect("an answer"), buffer[0]), (1, number));
        }
    }

    #[test]
    fn what_is_too_long_is_shortened() {
        let (server, client) = (socket("[::1]:0"), socket("[::1]:0"));
        let to = server.local_addr().expect("an address");
        forbid_fragments(server.as_fd(), &to).expect("an option");
        set_option(server.as_fd(), libc::IPPROTO_IPV6, libc::IPV6_MTU, 1280).expect("an option");
        for number in 0..4u8 {
            client.send_to(&[number], to).expect("sent");
        }
        let mut batch = Batch::new(false);
        receive(&mut batch, &server, 4, |batch, index| {
            let Datagram { query, out, .. } = batch.datagram(index).expect("a source");
            let number = query[0];
            out[..1300].fill(number);
            batch.reply(index, if number == 3 { 1 } else { 1300 });
        });
        // One to half of its length, two not.
        let shorten = |octets: &mut [u8]| match octets[0] {
            0 => {
                octets[..2].copy_from_slice(&[0, 7]);
                Some(octets.len() / 2)
            }
            1 => None,
            _ => Some(octets.len()),
        };
        assert_eq!(batch.send(&server, shorten), Sent { sent: 2, shortened: 1, failed: 2 });
        let mut buffer = [0; 2000];
        assert_eq!((client.recv(&mut buffer).expect("an answer"), buffer[..3].to_vec()), (650, vec![0, 7, 0]));
        assert_eq!((client.recv(&mut buffer).expect("an answer"), buffer[0]), (1, 3));
    }

    #[test]
    fn send_errors() {
        for (errno, first, without_retries) in [
            (libc::EAGAIN, Next::GiveUp, Next::GiveUp),
            (libc::EINTR, Next::Repeat, Next::Skip),
            (libc::ECONNREFUSED, Next::Repeat, Next::Skip),
            (libc::ENOBUFS, Next::Repeat, Next::Skip),
            (libc::EPERM, Next::Skip, Next::Skip),
            (libc::ENETUNREACH, Next::Skip, Next::Skip),
            (libc::EMSGSIZE, Next::Shorten, Next::Shorten),
        ] {
            let error = io::Error::from_raw_os_error(errno);
            assert_eq!(after_send_error(&error, &mut 1), first, "{error}");
            assert_eq!(after_send_error(&error, &mut 0), without_retries, "{error}");
        }
    }

    #[test]
    fn control_messages_become_sources() {
        let mut control = Control([0; 64]);
        assert_eq!(source_control(&mut control, 0), 0);
        assert_eq!(source_control(&mut control, 64), 0, "of no known type");
        for (address, wildcard, whole) in [("127.0.0.7", "0.0.0.0:0", 28), ("::1", "[::]:0", 36)] {
            let (server, client) = (socket(wildcard), socket(wildcard));
            let bound = server.local_addr().expect("an address");
            tell_destination(server.as_fd(), &bound).expect("an option");
            client.send_to(&[0], (address, bound.port())).expect("sent");
            let mut batch = Batch::new(true);
            assert_eq!(batch.receive(&server).expect("a datagram"), 1);
            let length = batch.headers[0].msg_hdr.msg_controllen as usize;
            assert_eq!(source_control(&mut batch.controls[0], 20), 0, "cut short");
            assert_eq!(source_control(&mut batch.controls[0], length), whole);
            let octets = batch.controls[0].0;
            // Behind the header of 16 octets: IPv4 interface, source, destination; IPv6 address, interface.
            let interface = if whole == 28 { &octets[16..20] } else { &octets[32..36] };
            assert_eq!(interface, [0; 4]);
        }
    }

    #[test]
    fn sources_of_no_known_family_are_none() {
        // SAFETY: a structure of integers, for which all zeroes is a value.
        let mut name: libc::sockaddr_in6 = unsafe { mem::zeroed() };
        assert_eq!(source(&name, 28), None);
        name.sin6_family = libc::AF_INET6 as _;
        assert_eq!((source(&name, 28), source(&name, 16)), (Some((Ipv6Addr::UNSPECIFIED, 0).into()), None));
    }

    #[test]
    fn options_are_set_or_refused() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let socket = socket(address);
            let address = socket.local_addr().expect("an address");
            forbid_fragments(socket.as_fd(), &address).expect("an option");
            tell_destination(socket.as_fd(), &address).expect("an option");
            assert!(set_option(socket.as_fd(), libc::SOL_SOCKET, -1, 1).is_err());
        }
    }

    /// RFC 9715 §3.1: the mode that sets DF and ignores what ICMP says.
    #[test]
    fn answers_are_not_fragmented() {
        for (listen, level, name, expected) in [
            ("127.0.0.1:0", libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE),
            ("[::1]:0", libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_PROBE),
        ] {
            let listen = listen.parse().expect("an address");
            let listeners = crate::serve::Listeners::bind(&[listen], 1).expect("a free port");
            let socket = listeners.udp[0].socket.as_raw_fd();
            let (mut value, mut length) = (-1, mem::size_of::<libc::c_int>() as libc::socklen_t);
            // SAFETY: the kernel writes at most `length` octets to `value`, and both outlive the call.
            let result = unsafe { libc::getsockopt(socket, level, name, (&raw mut value).cast(), &raw mut length) };
            assert_eq!((result, value), (0, expected), "{listen}");
        }
    }

    #[test]
    fn a_program_chooses_the_socket() {
        let group = || {
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).expect("a socket");
            socket.set_reuse_port(true).expect("an option");
            socket.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
            socket
        };
        let bind = |socket: &socket2::Socket, address: SocketAddr| socket.bind(&address.into()).expect("bound");
        let (first, second, client) = (group(), group(), socket("127.0.0.1:0"));
        bind(&first, SocketAddr::from(([127, 0, 0, 1], 0)));
        let address = first.local_addr().expect("an address").as_socket().expect("an internet address");
        bind(&second, address);
        for (index, chosen) in [(0, &first), (1, &second)] {
            let always = libc::sock_filter { code: (libc::BPF_RET | libc::BPF_K) as _, jt: 0, jf: 0, k: index };
            choose_by(first.as_fd(), &[always]).expect("a program");
            for number in 0..8u8 {
                client.send_to(&[number], address).expect("sent");
                let mut buffer = [mem::MaybeUninit::new(0)];
                assert_eq!(chosen.recv(&mut buffer).expect("a datagram"), 1);
            }
        }
        assert!(choose_by(first.as_fd(), &[]).is_err(), "no program");
        assert!(choose_by(client.as_fd(), &[libc::sock_filter { code: 6, jt: 0, jf: 0, k: 0 }]).is_err(), "no group");
    }

    #[test]
    fn a_thread_runs_where_it_is_pinned() {
        for core in usable_cores().expect("cores") {
            let pinned = thread::spawn(move || {
                pin_to(core).expect("pinned");
                usable_cores().expect("cores")
            });
            assert_eq!(pinned.join().expect("a thread"), [core]);
        }
        assert!(pin_to(MOST_CORES - 1).is_err() && pin_to(MOST_CORES).is_err());
    }

    #[test]
    fn the_descriptor_limit_goes_up_to_the_hard_one() {
        raise_descriptor_limit();
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: writes `limit` alone.
        let got = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
        assert_eq!((got, limit.rlim_cur >= limit.rlim_max.min(MOST_DESCRIPTORS)), (0, true));
    }
}
