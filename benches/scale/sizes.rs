//! Load time, memory, processor time per query, by size.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

use crate::child::Server;
use crate::set::Set;
use crate::support::load;
use crate::{Arguments, median, mib, print};

#[derive(serde::Serialize)]
struct Row {
    services: usize,
    names: usize,
    /// From the start of the process to the first answer, the first round of checks (at most a second) in it.
    ready_s: f64,
    peak: u64,
    resident: u64,
    static_us: f64,
    steered_us: f64,
    /// The same as ratios to the first row.
    static_ratio: f64,
    steered_ratio: f64,
    lost: u64,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Row { services, names, ready_s, static_us, steered_us, static_ratio, steered_ratio, lost, .. } = self;
        let (peak, resident) = (mib(self.peak), mib(self.resident));
        write!(
            f,
            "{services} services, {names} names: ready in {ready_s:.2} s, peak {peak:.0} MiB, resident {resident:.0} MiB; \
             CPU per query: static {static_us:.3} µs ({static_ratio:.2}), steered {steered_us:.3} µs \
             ({steered_ratio:.2}); lost {lost}"
        )
    }
}

/// Three sizes at once, so that each round compares them.
pub(crate) fn run(arguments: &Arguments, folder: &Path) -> io::Result<()> {
    let most = (arguments.services as usize, arguments.names as usize);
    let sizes = [(1, 100), (1000, 1000), most].into_iter().filter(|size| *size == most || size.0 < most.0);
    let mut running = Vec::new();
    for (at, (services, names)) in sizes.enumerate() {
        let set = arguments.set(services, names)?;
        let folder = folder.join(format!("size-{at}"));
        std::fs::create_dir_all(&folder)?;
        running.push(Sized::start(arguments, set, &folder)?);
    }
    for _ in 0..arguments.rounds {
        running.iter_mut().try_for_each(Sized::round)?;
    }
    let mut first = None;
    for sized in running {
        let row = sized.row(&mut first);
        print(&row, arguments.json, &row.to_string())?;
    }
    Ok(())
}

/// A set that is served.
struct Sized {
    set: Set,
    server: Server,
    /// Answers the checks.
    _listening: TcpListener,
    loads: [load::Options; 2],
    figures: [Vec<f64>; 2],
    lost: u64,
}

impl Sized {
    fn start(arguments: &Arguments, set: Set, folder: &Path) -> io::Result<Sized> {
        let path = set.write(folder)?;
        let listening = listen(set.check)?;
        let server = Server::start(&path, arguments.server_core)?;
        let load =
            |names: Vec<String>| load::Options { process: Some(server.pid()), ..arguments.load(set.dns, &names) };
        let loads = [load(set.static_names()), load(set.steered_names())];
        Ok(Sized { set, server, _listening: listening, loads, figures: Default::default(), lost: 0 })
    }

    fn round(&mut self) -> io::Result<()> {
        for (load, figures) in self.loads.iter().zip(&mut self.figures) {
            let report = load::run(load)?;
            if report.bad + report.short > 0 {
                return Err(io::Error::other(format!("{} bad answers, {} short ones", report.bad, report.short)));
            }
            self.lost += report.lost;
            figures.extend(report.cpu_per_answer().map(|cpu| cpu.as_secs_f64() * 1e6));
        }
        Ok(())
    }

    /// `first` are the figures that others are compared with.
    fn row(mut self, first: &mut Option<[f64; 2]>) -> Row {
        let [static_us, steered_us] = [0, 1].map(|kind| median(&mut self.figures[kind]));
        let first = first.get_or_insert([static_us, steered_us]);
        let (resident, peak) = self.server.memory();
        Row {
            services: self.set.services,
            names: self.set.names,
            ready_s: self.server.ready_after.as_secs_f64(),
            peak,
            resident,
            static_us,
            steered_us,
            static_ratio: static_us / first[0],
            steered_ratio: steered_us / first[1],
            lost: self.lost,
        }
    }
}

/// A port that checks find open, at every loopback address; the kernel takes connections by itself.
pub(crate) fn listen(port: u16) -> io::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).and_then(|listener| {
        let accepting = listener.try_clone()?;
        std::thread::spawn(move || accepting.incoming().for_each(drop));
        Ok(listener)
    })
}
