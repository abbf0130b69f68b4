//! `waymark check`: is this configuration right, and does it do what its tests expect?

use clap::Args;
use serde::Serialize;

use super::output::ProblemReport;
use super::{ConfigArg, End, output, refuse};
use crate::config::{self, Configuration, Loaded};
use crate::control::{World, explain};
use crate::geo::Atlas;
use crate::problem::Problem;

/// Load the configuration with all its files, report every problem, and run its tests; warns of selectors of maps that no
/// client can ever reach
#[derive(Args, Debug)]
pub(super) struct Check {
    #[command(flatten)]
    config: ConfigArg,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    ok: bool,
    problems: Vec<ProblemReport>,
    tests: usize,
    failed_tests: Vec<String>,
    zones: usize,
    services: usize,
    instances: usize,
}

impl Check {
    pub(super) fn run(self) -> End {
        let path = self.config.path();
        if self.json {
            return as_json(&path);
        }
        let Loaded { configuration, mut problems, sources } = config::load_to_serve(&path);
        let compiled = configuration.map(|configuration| with_atlas(configuration, &mut problems));
        output::problems(&problems, &sources);
        // The texts of all files may be a lot, and compiling takes memory too.
        drop(sources);
        let Some((configuration, atlas)) = compiled else { return refuse(&path, &problems) };
        let (report, end) = report(configuration, atlas, Vec::new());
        for failed in &report.failed_tests {
            output::error(failed);
        }
        let Report { tests, zones, services, instances, .. } = &report;
        let passed = tests - report.failed_tests.len();
        let verdict = if end == End::Done { "good" } else { "tests failed" };
        output::line(&format!(
            "{}: {verdict}: {}, {}, {}, {passed} of {tests} tests passed",
            path.display(),
            output::count(*zones, "zone"),
            output::count(*services, "service"),
            output::count(*instances, "instance"),
        ));
        end
    }
}

/// The configuration with its places compiled; warns of selectors that none of these reaches.
fn with_atlas(configuration: Configuration, problems: &mut Vec<Problem>) -> (Configuration, Atlas) {
    let atlas = Atlas::compile(&configuration.geo);
    problems.extend(config::unreached(&configuration, &atlas));
    (configuration, atlas)
}

fn as_json(path: &std::path::Path) -> End {
    let Loaded { configuration, mut problems, sources } = config::load_to_serve(path);
    let compiled = configuration.map(|configuration| with_atlas(configuration, &mut problems));
    let problems: Vec<ProblemReport> = problems.iter().map(|problem| ProblemReport::of(problem, &sources)).collect();
    // The texts of all files may be a lot, and compiling takes memory too.
    drop(sources);
    let (report, end) = match compiled {
        Some((configuration, atlas)) => report(configuration, atlas, problems),
        None => (
            Report { ok: false, problems, tests: 0, failed_tests: Vec::new(), zones: 0, services: 0, instances: 0 },
            End::Wrong,
        ),
    };
    output::json(&report);
    end
}

fn report(configuration: Configuration, atlas: Atlas, problems: Vec<ProblemReport>) -> (Report, End) {
    let zones = configuration.zones.len();
    let world = World::compile_over(configuration, atlas);
    let failed_tests = explain::failed_tests(&world);
    let end = if failed_tests.is_empty() { End::Done } else { End::Failed };
    let report = Report {
        ok: end == End::Done,
        problems,
        tests: world.tests.len(),
        failed_tests,
        zones,
        services: world.steering.configured(),
        instances: world.fleet().instances.len(),
    };
    (report, end)
}
