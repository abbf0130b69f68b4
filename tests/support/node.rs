//! A node without sockets: a configuration, verdicts set by hand, a clock that moves when told, and one worker.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::Message;
use ipnet::IpNet;
use waymark::answer::{Transport, Worker, respond};
use waymark::control::resolution::Found;
use waymark::control::world::Health;
use waymark::control::{Loads, World};
use waymark::dns::Name;
use waymark::fleet::{Family, InstanceId};
use waymark::health::{Operator, Said, Verdict};
use waymark::latency::{Book, Rtt, Sample, View};
use waymark::probe::Heard;
use waymark::snapshot::Snapshot;
use waymark::steering::{LayoutId, Table};
use waymark::time::Tick;

use super::query::Ask;

/// Longest message.
const MAX_MESSAGE: usize = 65_535;

/// A configuration that answers, with everything up at first.
pub(crate) struct Node {
    pub(crate) world: World,
    pub(crate) snapshot: Snapshot,
    pub(crate) worker: Worker,
    verdicts: Vec<Verdict>,
    /// Instances without check, taken down by hand.
    down: Vec<bool>,
    /// By target: when it came up after it was down.
    recovered: Vec<Option<Tick>>,
    /// What instances report.
    loads: Loads,
    /// What an operator says of regions.
    regions: Vec<Said>,
    /// Round-trip times that were measured.
    book: Book,
    grace_over: bool,
    now: Tick,
    serial: u64,
    out: Vec<u8>,
}

impl Node {
    /// The example of the documentation, unchanged.
    pub(crate) fn example() -> Node {
        Node::load(&folder().join("example/waymark.toml"))
    }

    /// A configuration file.
    pub(crate) fn load(path: &Path) -> Node {
        let loaded = waymark::config::load(path);
        let problems: Vec<&str> = loaded.problems.iter().map(|problem| problem.message.as_str()).collect();
        let configuration = loaded.configuration.unwrap_or_else(|| panic!("{}: {problems:#?}", path.display()));
        let world = World::compile(configuration);
        let world_policy = world.latency.policy;
        let mut node = Node {
            verdicts: vec![Verdict::Up; world.fleet().targets.len()],
            recovered: vec![None; world.fleet().targets.len()],
            down: vec![false; world.fleet().instances.len()],
            snapshot: world.offline(&[]),
            worker: Worker::new(&Arc::default(), 1),
            world,
            loads: Loads::new(Tick(1_000)),
            regions: Vec::new(),
            book: Book::new(world_policy),
            grace_over: true,
            now: Tick(1_000),
            serial: 0,
            out: vec![0; MAX_MESSAGE],
        };
        node.worker.adopt(&node.snapshot);
        node
    }

    /// A configuration from texts; one file must be `waymark.toml`.
    pub(crate) fn of(files: &[(&str, &str)]) -> Node {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).expect("a file");
        }
        Node::load(&folder.path().join("waymark.toml"))
    }

    /// Sets the verdicts of what `pattern` names, in these families; returns how many instances that are.
    pub(crate) fn set(&mut self, pattern: &str, families: &[Family], verdict: Verdict) -> usize {
        let named = self.world.fleet().named(pattern);
        for &id in &named {
            self.set_one(id, families, verdict);
        }
        self.judge();
        named.len()
    }

    /// Shorthand for both families.
    pub(crate) fn down(&mut self, pattern: &str) {
        assert!(self.set(pattern, &Family::BOTH, Verdict::Down) > 0, "{pattern} names nothing");
    }

    /// Shorthand for both families.
    pub(crate) fn up(&mut self, pattern: &str) {
        assert!(self.set(pattern, &Family::BOTH, Verdict::Up) > 0, "{pattern} names nothing");
    }

    fn set_one(&mut self, id: InstanceId, families: &[Family], verdict: Verdict) {
        let instance = self.world.fleet().instance(id);
        let has_check = instance.addresses.iter().any(|address| !address.targets.is_empty());
        let addresses = instance.addresses.iter().filter(|address| families.contains(&Family::of(address.ip)));
        let targets: Vec<_> = addresses.flat_map(|address| address.targets.to_vec()).collect();
        self.down[id.0 as usize] = !has_check && verdict == Verdict::Down;
        for target in targets {
            let before = std::mem::replace(&mut self.verdicts[target.0 as usize], verdict);
            let recovers = (before, verdict) == (Verdict::Down, Verdict::Up);
            self.recovered[target.0 as usize] = recovers.then_some(self.now);
        }
    }

    /// The instances that `pattern` names report a load; how many that are.
    pub(crate) fn report_load(&mut self, pattern: &str, load: f64) -> usize {
        let named = self.world.fleet().named(pattern);
        for &id in &named {
            let _ = self.loads.say(self.world.fleet(), id, load, self.now);
        }
        self.judge();
        named.len()
    }

    /// Agents of the instances that `pattern` names say a line; how many that are.
    pub(crate) fn agent_says(&mut self, pattern: &str, part: u16, load: Option<u16>) -> usize {
        let named = self.world.fleet().named(pattern);
        for &id in &named {
            for target in self.world.fleet().instance(id).addresses.iter().flat_map(|one| one.targets.to_vec()) {
                let heard = Heard::Agent { part, load };
                self.loads.hear(self.world.fleet(), std::iter::once(id), target, heard, self.now);
            }
        }
        self.judge();
        named.len()
    }

    /// Has that part of the clients that would begin in a region begin there, in percent.
    pub(crate) fn weigh(&mut self, region: &str, percent: u16) {
        let regions = &self.world.fleet().regions;
        let at = regions.iter().position(|one| one.name == region).expect("a region");
        self.regions.resize(regions.len(), Said::default());
        self.regions[at].percent = percent;
        self.judge();
    }

    /// Clients of a prefix measured the way to a region, in milliseconds, once; see [`Node::go_by_measured`].
    pub(crate) fn measure(&mut self, client: IpNet, region: &str, ms: f64) {
        let atlas = &self.world.steering.atlas;
        let place = atlas.place(atlas.lookup(client.addr()).0);
        let region = self.book.region(region);
        let (as_number, country) = (place.as_number, place.country);
        // The clock of a node begins before what a book can tell.
        let now = Tick::START.plus(self.now.since(Tick(0)));
        self.book.take(&Sample { client, as_number, country, region, rtt: Rtt::from_ms(ms) }, now);
    }

    /// Answers go by what was measured.
    pub(crate) fn go_by_measured(&mut self) {
        let measured = Arc::new(self.book.freeze(&self.snapshot.latency.measured));
        self.snapshot.latency = View::of(measured, self.world.fleet(), self.world.latency.explore);
    }

    /// Time passes.
    pub(crate) fn wait(&mut self, time: Duration) {
        self.now = self.now.plus(time);
        while self.loads.pop(self.world.fleet(), self.now).is_some() {}
        self.judge();
    }

    /// These addresses are found behind the CNAMEs to `target`, and nothing behind others; everything is up then.
    pub(crate) fn find(&mut self, target: &str, addresses: &[&str]) {
        let addresses = addresses.iter().map(|address| address.parse().expect("an address")).collect();
        let target = Name::parse(target, None).expect("a name");
        self.world = self.world.with_found(&Found::from([(target, addresses)]));
        self.verdicts = vec![Verdict::Up; self.world.fleet().targets.len()];
        self.recovered = vec![None; self.verdicts.len()];
        self.judge();
    }

    /// Whether `startup-grace` is over; it is at first.
    pub(crate) fn set_grace_over(&mut self, over: bool) {
        self.grace_over = over;
        self.judge();
    }

    /// A new snapshot from the verdicts, as the control plane makes one.
    fn judge(&mut self) {
        self.serial += 1;
        let health = Health {
            verdicts: &self.verdicts,
            down: &self.down,
            steady_for: &[],
            operator: Operator { regions: &self.regions, ..Operator::default() },
            reported: self.loads.reported(),
            held: &[],
            recovered: &self.recovered,
            unresolved: Verdict::Unknown,
            grace_over: self.grace_over,
            now: self.now,
            serial: self.serial,
        };
        let standings = &self.snapshot.standings;
        let layouts = (0..standings.len() as u32).map(LayoutId);
        let judged: Table =
            layouts.map(|layout| self.world.judge(layout, health, Some(standings.get(layout)))).collect();
        let latency = self.snapshot.latency.clone();
        self.snapshot = Snapshot { latency, ..self.world.freeze(judged, self.serial) };
        self.worker.adopt(&self.snapshot);
    }

    /// The answer to any octets; empty when there is none.
    pub(crate) fn respond(&mut self, query: &[u8], source: IpAddr, transport: Transport) -> &[u8] {
        let length = respond(&self.snapshot, &mut self.worker, query, source, transport, &mut self.out).length();
        &self.out[..length]
    }

    /// The answer, read by another parser than ours.
    pub(crate) fn ask(&mut self, ask: &Ask) -> Message {
        let octets = self.respond(&ask.encode(), ask.source, ask.transport);
        Message::from_vec(octets).unwrap_or_else(|error| panic!("{ask:?}: {error}: {octets:02x?}"))
    }

    /// The addresses of an answer, in its order.
    pub(crate) fn addresses(&mut self, ask: &Ask) -> Vec<IpAddr> {
        self.ask(ask).answers.iter().filter_map(|record| record.data.ip_addr()).collect()
    }

    /// The only address of an answer.
    pub(crate) fn address(&mut self, ask: &Ask) -> IpAddr {
        let addresses = self.addresses(ask);
        assert_eq!(addresses.len(), 1, "{ask:?}");
        addresses[0]
    }
}

/// The folder of the tests.
pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}
