//! Instructions that one answer takes, by kind of answer, with a limit for each: past it the command fails, and with it
//! `.ci/run`. Counts are steady where times are not, so a change that makes answers dearer shows at once.
//!
//! ```sh
//! cargo bench --bench instructions        # needs valgrind, and gungraun-runner of the version in Cargo.lock
//! ```
//!
//! What is counted is [`ANSWERS`] answers to queries built beforehand, each from another client, after as many to warm
//! up: `Instructions: 512345` means 512.3 for one answer. Loading the configuration is not counted.

// Of what gungraun's macros make.
#![allow(missing_docs)]

use gungraun::{Callgrind, EventKind, LibraryBenchmarkConfig};
use gungraun::{library_benchmark, library_benchmark_group, main};

use support::fixture::{Fixture, KINDS, Kind};
use support::query::Random;

mod support;

/// Answers that are counted.
const ANSWERS: usize = 1000;

/// Most instructions of one answer: about an eighth more than measured, as another compiler may lay code out otherwise.
/// A change that makes an answer cheaper lowers its limit. `sticky_of_1000` is that of a processor with AVX2.
const LIMITS: [(&str, u64); KINDS.len()] = [
    ("static_data", 1_270),
    ("nxdomain", 1_450),
    ("nodata", 1_350),
    ("cname_chain", 4_230),
    ("geo_weighted", 2_600),
    ("nearest", 2_600),
    ("latency", 3_560),
    ("sticky_of_3", 2_700),
    ("sticky_of_30", 3_370),
    ("sticky_of_1000", 5_460),
    ("round_robin", 2_580),
    ("load", 2_600),
    ("tcp", 8_500),
];

#[library_benchmark(setup = prepare)]
#[bench::static_data(args = ("static_data"), config = limit("static_data"))]
#[bench::nxdomain(args = ("nxdomain"), config = limit("nxdomain"))]
#[bench::nodata(args = ("nodata"), config = limit("nodata"))]
#[bench::cname_chain(args = ("cname_chain"), config = limit("cname_chain"))]
#[bench::geo_weighted(args = ("geo_weighted"), config = limit("geo_weighted"))]
#[bench::nearest(args = ("nearest"), config = limit("nearest"))]
#[bench::latency(args = ("latency"), config = limit("latency"))]
#[bench::sticky_of_3(args = ("sticky_of_3"), config = limit("sticky_of_3"))]
#[bench::sticky_of_30(args = ("sticky_of_30"), config = limit("sticky_of_30"))]
#[bench::sticky_of_1000(args = ("sticky_of_1000"), config = limit("sticky_of_1000"))]
#[bench::round_robin(args = ("round_robin"), config = limit("round_robin"))]
#[bench::load(args = ("load"), config = limit("load"))]
#[bench::tcp(args = ("tcp"), config = limit("tcp"))]
fn answers(mut prepared: Prepared) -> Prepared {
    prepared.answer_all();
    prepared
}

/// Fails past the limit of this kind.
fn limit(name: &str) -> LibraryBenchmarkConfig {
    let &(_, limit) = LIMITS.iter().find(|(kind, _)| *kind == name).expect("a row of the table");
    let mut callgrind = Callgrind::with_args(["cache-sim=no"]);
    callgrind.hard_limits([(EventKind::Ir, limit * ANSWERS as u64)]);
    LibraryBenchmarkConfig::default().tool(callgrind).clone()
}

/// All that answering takes.
struct Prepared {
    kind: &'static Kind,
    fixture: Fixture,
    queries: Vec<Vec<u8>>,
}

impl Prepared {
    fn answer_all(&mut self) {
        for query in &self.queries {
            std::hint::black_box(self.fixture.answer(self.kind, std::hint::black_box(query)));
        }
    }
}

/// Everything that is not counted.
fn prepare(name: &str) -> Prepared {
    let kind = Kind::named(name);
    let (mut query, mut random) = (kind.query(), Random(1));
    let queries = (0..ANSWERS).map(|_| query.vary(&mut random).to_vec()).collect();
    let mut prepared = Prepared { kind, fixture: Fixture::new(kind), queries };
    prepared.answer_all();
    prepared
}

library_benchmark_group!(name = instructions, benchmarks = answers);
main!(library_benchmark_groups = instructions);
