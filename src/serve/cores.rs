//! Pinning (`[server] pin-workers`): worker *i* runs on the *i*-th core that the process may use, and the kernel hands it
//! what that core receives, by a classic BPF program on the group of sockets of each listen address. A datagram is then
//! answered where the network card's interrupt put it, with what is in that core's cache.
//!
//! Whatever of this fails costs the gain, not the service: without the program clients are spread as always.

use std::net::SocketAddr;
use std::os::fd::AsFd;

use super::{socket, udp};

/// Number of a core, as the kernel counts.
pub(super) type Core = usize;

/// Gives each of `sockets`, `workers` for each of `addresses`, its core, and has the kernel choose by core among those of
/// one address. Says in the log what runs where.
pub(super) fn assign(addresses: &[SocketAddr], sockets: &mut [udp::Socket], workers: usize) {
    let usable = match socket::usable_cores() {
        Ok(usable) if !usable.is_empty() => usable,
        Ok(_) => return tracing::warn!("no core to pin workers to; they run anywhere"),
        Err(error) => return tracing::warn!(%error, "cannot tell which cores may be used; workers run anywhere"),
    };
    let cores: Vec<Core> = usable.iter().copied().cycle().take(workers).collect();
    let program = program(&cores);
    for (address, group) in addresses.iter().zip(sockets.chunks_mut(workers)) {
        for (socket, &core) in group.iter_mut().zip(&cores) {
            socket.core = Some(core);
        }
        steer(address, group, &program);
    }
    tracing::info!("UDP workers pinned: {}", placement(&cores));
}

/// Puts `program` on the group that `sockets` form; one call serves for all of them.
fn steer(address: &SocketAddr, sockets: &[udp::Socket], program: &[libc::sock_filter]) {
    let Some(first) = sockets.first() else { return };
    if let Err(error) = socket::choose_by(first.socket.as_fd(), program) {
        tracing::warn!(%address, %error, "datagrams are not handed to the worker of their core");
    }
}

/// `0 on core 2, 1 on core 3`.
fn placement(cores: &[Core]) -> String {
    let each = cores.iter().enumerate().map(|(worker, core)| format!("{worker} on core {core}"));
    each.collect::<Vec<_>>().join(", ")
}

/// Returns the index of the socket, in the order of binding, that gets what arrives on a core, for workers on `cores`.
/// Cores without a worker are spread over all. Of workers on one core the first gets all: the core is no wider.
///
/// ```text
///       ld  cpu
///       jeq core, +0, +1      for each worker whose core does not come out of the modulo anyway
///       ret worker
///       mod workers
///       ret a
/// ```
fn program(cores: &[Core]) -> Vec<libc::sock_filter> {
    let workers = cores.len().max(1);
    let mut program = vec![step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, CPU)];
    for (worker, &core) in cores.iter().enumerate() {
        let is_first = !cores[..worker].contains(&core);
        if is_first && core % workers != worker {
            program.push(libc::sock_filter { jf: 1, ..step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, core as u32) });
            program.push(step(libc::BPF_RET | libc::BPF_K, worker as u32));
        }
    }
    program.push(step(libc::BPF_ALU | libc::BPF_MOD | libc::BPF_K, workers as u32));
    program.push(step(libc::BPF_RET | BPF_A, 0));
    program
}

/// `SKF_AD_OFF + SKF_AD_CPU`: the offset at which a program finds the core it runs on.
const CPU: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_CPU) as u32;
/// Return the accumulator.
const BPF_A: u32 = 0x10;

fn step(code: u32, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt: 0, jf: 0, k }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `program` returns on `core`, by a reading of its few kinds of steps.
    fn chosen(program: &[libc::sock_filter], core: Core) -> usize {
        let (mut at, mut a) = (0, 0);
        loop {
            let step = program[at];
            at += 1;
            match (u32::from(step.code), step.k) {
                (0x20, CPU) => a = core as u32,
                (0x15, k) => at += usize::from(if a == k { step.jt } else { step.jf }),
                (0x94, k) => a %= k,
                (0x06, k) => return k as usize,
                (0x16, _) => return a as usize,
                (code, _) => panic!("step {code:#x}"),
            }
        }
    }

    #[test]
    fn each_core_has_its_worker() {
        // Cores of the workers, then for cores 0 to 7 which worker is meant.
        let cases: [(&[Core], [usize; 8], usize); 5] = [
            (&[0, 1], [0, 1, 0, 1, 0, 1, 0, 1], 3),
            (&[0], [0; 8], 3),
            (&[2, 3, 5], [0, 1, 0, 1, 1, 2, 0, 1], 7),
            (&[1, 0], [1, 0, 0, 1, 0, 1, 0, 1], 7),
            // More workers than cores: the second on a core gets nothing from it.
            (&[4, 6, 4, 6], [0, 1, 2, 3, 0, 1, 1, 3], 5),
        ];
        for (cores, expected, steps) in cases {
            let program = program(cores);
            assert_eq!(std::array::from_fn::<_, 8, _>(|core| chosen(&program, core)), expected, "{cores:?}");
            assert_eq!(program.len(), steps, "{cores:?}");
        }
    }

    #[test]
    fn the_largest_program_is_one_the_kernel_takes() {
        // No more than BPF_MAXINSNS for 1024 workers, none of which the modulo finds.
        let cores: Vec<Core> = (1..=1024).collect();
        assert_eq!(program(&cores).len(), 2 * 1024 + 3);
    }

    #[test]
    fn placements_are_told() {
        assert_eq!(placement(&[2, 3, 2]), "0 on core 2, 1 on core 3, 2 on core 2");
    }
}
