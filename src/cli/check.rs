//! `waymark check`: is this configuration right, and does it do what its tests expect?

use clap::Args;
use serde::Serialize;

use super::{ConfigArg, End, load, output};
use crate::config::Configuration;
use crate::control::{World, explain};
use crate::problem::Severity;

/// Load the configuration with all its files, report every problem, and run its tests
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

#[derive(Serialize)]
struct ProblemReport {
    severity: &'static str,
    place: Option<String>,
    message: String,
    allowed: Option<String>,
    hint: Option<String>,
}

impl Check {
    pub(super) fn run(self) -> End {
        let path = self.config.path();
        if self.json {
            return as_json(&path);
        }
        let configuration = match load(&path) {
            Ok(configuration) => configuration,
            Err(end) => return end,
        };
        let (report, end) = report(configuration, Vec::new());
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

fn as_json(path: &std::path::Path) -> End {
    let crate::config::Loaded { configuration, problems, sources } = crate::config::load_to_serve(path);
    let problems: Vec<ProblemReport> = problems.iter().map(|problem| problem_report(problem, &sources)).collect();
    // The texts of all files may be a lot, and compiling takes memory too.
    drop(sources);
    let (report, end) = match configuration {
        Some(configuration) => report(configuration, problems),
        None => (
            Report { ok: false, problems, tests: 0, failed_tests: Vec::new(), zones: 0, services: 0, instances: 0 },
            End::Wrong,
        ),
    };
    output::json(&report);
    end
}

fn report(configuration: Configuration, problems: Vec<ProblemReport>) -> (Report, End) {
    let zones = configuration.zones.len();
    let world = World::compile(configuration);
    let failed_tests = explain::failed_tests(&world);
    let end = if failed_tests.is_empty() { End::Done } else { End::Failed };
    let report = Report {
        ok: end == End::Done,
        problems,
        tests: world.tests.len(),
        failed_tests,
        zones,
        services: world.steering.services.len(),
        instances: world.fleet().instances.len(),
    };
    (report, end)
}

fn problem_report(problem: &crate::problem::Problem, sources: &crate::problem::Sources) -> ProblemReport {
    ProblemReport {
        severity: match problem.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        },
        place: problem.span.as_ref().map(|span| sources.place(span)),
        message: problem.message.clone(),
        allowed: problem.allowed.clone(),
        hint: problem.hint.clone(),
    }
}
