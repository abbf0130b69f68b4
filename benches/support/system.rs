//! System calls that the standard library does not offer: batches of datagrams (`recvmmsg`, `sendmmsg`), and where a
//! thread or a child may run. The only module of the benches with `unsafe`.
#![allow(unsafe_code)]
// Lengths have other types in other C libraries.
#![allow(clippy::unnecessary_cast)]

use std::io;
use std::mem;
use std::net::UdpSocket;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr;

/// Octets of a datagram that are kept; no answer that is measured has more.
pub(crate) const ROOM: usize = 4096;

/// Datagrams that are received or sent by one system call. One index stands for one datagram in all its arrays.
pub(crate) struct Batch {
    messages: Box<[[u8; ROOM]]>,
    lengths: Box<[usize]>,
    /// Where a datagram came from and goes to: room for a `sockaddr_in6`, or a `sockaddr_in`, which is smaller.
    names: Box<[(libc::sockaddr_in6, libc::socklen_t)]>,
    iovecs: Box<[libc::iovec]>,
    headers: Box<[libc::mmsghdr]>,
    /// False for a connected socket, which has one peer only.
    addressed: bool,
}

impl Batch {
    /// Of `size` datagrams; `addressed` when the socket is not connected.
    pub(crate) fn new(size: usize, addressed: bool) -> Batch {
        // SAFETY: these are C structures of integers and pointers, for which all zeroes is a value.
        let (name, iovec, header) = unsafe { (mem::zeroed(), mem::zeroed(), mem::zeroed()) };
        Batch {
            messages: vec![[0; ROOM]; size].into(),
            lengths: vec![0; size].into(),
            names: vec![(name, 0); size].into(),
            iovecs: vec![iovec; size].into(),
            headers: vec![header; size].into(),
            addressed,
        }
    }

    /// The datagram at `index`.
    pub(crate) fn message(&self, index: usize) -> &[u8] {
        &self.messages[index][..self.lengths[index]]
    }

    /// Makes the datagram at `index` this long, at most [`ROOM`], and hands it out to be written.
    pub(crate) fn resize(&mut self, index: usize, length: usize) -> &mut [u8] {
        let length = length.min(ROOM);
        self.lengths[index] = length;
        &mut self.messages[index][..length]
    }

    /// Takes the datagrams that are there, and waits for the first one if `wait`. Returns how many.
    pub(crate) fn receive(&mut self, socket: &UdpSocket, wait: bool) -> io::Result<usize> {
        let size = self.messages.len();
        self.lengths.fill(ROOM);
        self.names.iter_mut().for_each(|(_, length)| *length = mem::size_of::<libc::sockaddr_in6>() as _);
        self.point(0..size);
        let flags = if wait { libc::MSG_WAITFORONE } else { libc::MSG_DONTWAIT };
        // SAFETY: `point` just made each of `size` headers point to memory of its own in arrays that `self`, borrowed
        // exclusively, owns, with the sizes that memory has.
        let count = unsafe {
            libc::recvmmsg(socket.as_raw_fd(), self.headers.as_mut_ptr(), size as _, flags as _, ptr::null_mut())
        };
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        for index in 0..count {
            self.lengths[index] = (self.headers[index].msg_len as usize).min(ROOM);
            self.names[index].1 = self.headers[index].msg_hdr.msg_namelen;
        }
        Ok(count)
    }

    /// Sends the datagrams of `range`, back to where they came from if the batch is addressed. Returns how many went.
    pub(crate) fn send(&mut self, socket: &UdpSocket, range: Range<usize>) -> io::Result<usize> {
        self.point(range.clone());
        let headers = &mut self.headers[range];
        // SAFETY: `point` just made these headers point to memory that `self`, borrowed exclusively, owns, with lengths
        // within it; the kernel reads them and writes only `msg_len`.
        let count = unsafe {
            libc::sendmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), headers.len() as _, libc::MSG_NOSIGNAL as _)
        };
        usize::try_from(count).map_err(|_| io::Error::last_os_error())
    }

    /// Pointers are made anew for each call, so that none outlives a borrow of what it points to.
    fn point(&mut self, range: Range<usize>) {
        for index in range {
            let iov_base = self.messages[index].as_mut_ptr().cast();
            self.iovecs[index] = libc::iovec { iov_base, iov_len: self.lengths[index] };
            let (name, name_length) = &mut self.names[index];
            let header = &mut self.headers[index].msg_hdr;
            header.msg_iov = &raw mut self.iovecs[index];
            header.msg_iovlen = 1;
            if self.addressed {
                header.msg_name = ptr::from_mut(name).cast();
                header.msg_namelen = *name_length;
            }
        }
    }
}

/// Has the calling thread run on this core only.
pub(crate) fn pin(core: usize) -> io::Result<()> {
    // SAFETY: a structure of integers, for which all zeroes is a value.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    if core >= 8 * mem::size_of_val(&set) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: `set` has a bit for `core`, as was just seen; the kernel reads `set`, of the length given.
    let result = unsafe {
        libc::CPU_SET(core, &mut set);
        libc::sched_setaffinity(0, mem::size_of_val(&set), &raw const set)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Has the child run on this core only, with all its threads, and end with the thread that started it.
pub(crate) fn confine(command: &mut Command, core: usize) {
    let before = move || {
        pin(core)?;
        // SAFETY: takes integers only.
        let result = unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM as libc::c_ulong, 0, 0, 0) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    // SAFETY: between fork and exec it makes two system calls and touches no memory but its own stack.
    unsafe { command.pre_exec(before) };
}

/// What is sent to a process to end it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Signal {
    /// It may put its house in order first.
    Term = libc::SIGTERM as isize,
    Kill = libc::SIGKILL as isize,
}

/// Sends a signal to one process; nothing happens when it has ended.
pub(crate) fn signal(process: u32, signal: Signal) {
    // 0 and negative numbers mean groups of processes, ours among them.
    if let Some(process) = libc::pid_t::try_from(process).ok().filter(|process| *process > 0) {
        // SAFETY: takes integers only.
        unsafe { libc::kill(process, signal as libc::c_int) };
    }
}
