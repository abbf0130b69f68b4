//! `[server] canaries`: checks with addresses of their own, which tell whether this node sees the world (SPEC 2.8).

use super::checks::{Host, Placed, TypePort};
use super::fields::{Fields, Index};
use super::files::Document;
use super::findings::Findings;
use super::keys;
use super::server::nowhere;
use super::value::Value;
use crate::fleet::{CheckId, Fleet, Target, TargetId};
use crate::problem::{Problem, Span};

/// Most targets that are canaries: a few say all that can be known.
const MAX_CANARIES: usize = 256;

/// Adds the targets of canaries to a fleet.
pub(super) fn compile(document: &Document, checks: &[Placed], fleet: &mut Fleet, findings: &mut Findings) {
    let fields = Fields::alone(&keys::SERVER, nowhere(), document.single("server"));
    let names = Index::new("check", document.section("checks"));
    let mut used: Vec<(CheckId, Span)> = Vec::new();
    for value in fields.find("canaries").map(Value::elements).unwrap_or_default() {
        let Some(check) = names.resolve(value, findings).map(CheckId) else { continue };
        if let Some((_, first)) = used.iter().find(|(earlier, _)| *earlier == check) {
            let problem = Problem::error(value.span, format!("{} is listed twice", value.shown()));
            findings.cross.push(problem.also(*first, "first listed here"));
            continue;
        }
        used.push((check, value.span));
    }
    let mut canaries: Vec<TargetId> = Vec::new();
    for &(check, span) in &used {
        let placed = &checks[check.0 as usize];
        findings.cross.extend(unfit(placed, span));
        canaries.extend(targets(check, placed).map(|target| take_in(fleet, target)));
    }
    if canaries.len() > MAX_CANARIES
        && let Some(value) = fields.find("canaries")
    {
        let problem = Problem::error(value.span, format!("{} addresses of canaries", canaries.len()));
        findings.cross.push(problem.allowed(format!("at most {MAX_CANARIES}")));
    }
    fleet.canaries = canaries.into();
    warn_of_others(checks, &used, findings);
}

/// Why a check cannot be a canary.
fn unfit(placed: &Placed, span: Span) -> Vec<Problem> {
    let name = &placed.check.name;
    let problem = |message: String, hint: &str| Problem::error(span, message).hint(hint).also(placed.name, "the check");
    let mut problems = Vec::new();
    // An address that is wrong was reported.
    if placed.addresses.is_empty() && placed.address.is_none() {
        let hint = "add address = [\"192.0.2.1\"] to it: something far away that is always there";
        problems.push(problem(format!("check \"{name}\" has no `address`: what is this canary to probe?"), hint));
    }
    if placed.host == (Host::Pool { needed: true }) {
        let hint = "give `host` in the check, or `verify = false`";
        problems.push(problem(format!("check \"{name}\" verifies certificates, but for which host?"), hint));
    }
    if placed.port.is_none() && placed.type_port == TypePort::Needed {
        let hint = "give `port` in the check: this type of check has no port of its own";
        problems.push(problem(format!("no port for check \"{name}\""), hint));
    }
    problems
}

fn targets(check: CheckId, placed: &Placed) -> impl Iterator<Item = Target> {
    let port = match placed.type_port {
        TypePort::Unused => 0,
        TypePort::Usual(usual) => placed.port.unwrap_or(usual),
        TypePort::Needed => placed.port.unwrap_or_default(),
    };
    let host = match &placed.host {
        Host::Named(name) => Some(name.clone()),
        Host::Address | Host::Pool { .. } | Host::Instance | Host::Unused => None,
    };
    placed.addresses.iter().map(move |&address| Target { check, address, port, host: host.clone() })
}

/// The number of a target, which some instance may have as well.
fn take_in(fleet: &mut Fleet, target: Target) -> TargetId {
    let known = fleet.targets.iter().position(|other| *other == target);
    let number = known.unwrap_or_else(|| {
        fleet.targets.push(target);
        fleet.targets.len() - 1
    });
    TargetId(number as u32)
}

/// Addresses that nothing probes.
fn warn_of_others(checks: &[Placed], used: &[(CheckId, Span)], findings: &mut Findings) {
    let others = (0..).map(CheckId).zip(checks).filter(|(id, _)| !used.iter().any(|(check, _)| check == id));
    for (_, placed) in others {
        let Some(span) = placed.address else { continue };
        let message = format!("check \"{}\" is no canary: its `address` is not probed", placed.check.name);
        let hint = format!("name it in `[server]`: canaries = [\"{}\"]", placed.check.name);
        findings.cross.push(Problem::warning(span, message).hint(hint));
    }
}

#[cfg(test)]
mod tests {
    use crate::config::load;

    /// The canaries of a configuration, `world@192.0.2.1:80`, and how many targets it has.
    fn canaries(text: &str) -> (Vec<String>, usize) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("waymark.toml");
        std::fs::write(&path, text).expect("written");
        let loaded = load(&path);
        let configuration = loaded.configuration.unwrap_or_else(|| panic!("{:?}", loaded.problems));
        let fleet = &configuration.fleet;
        let shown = fleet.canaries.iter().map(|&id| {
            let target = fleet.target(id);
            format!("{}@{}:{}", configuration.checks[target.check.0 as usize].name, target.address, target.port)
        });
        (shown.collect(), fleet.targets.len())
    }

    #[test]
    fn every_address_of_every_canary_is_a_target() {
        let text = r#"
            [server]
            canaries = ["world", "near"]
            [checks.world]
            type = "tcp"
            port = 443
            address = ["192.0.2.1", "2001:db8::1"]
            [checks.near]
            type = "icmp"
            address = "192.0.2.2"
            [pools.web]
            check = "world"
            [pools.web.instances]
            a1 = { address = "192.0.2.1" }
            a2 = { address = "192.0.2.3" }
        "#;
        let shown = ["world@192.0.2.1:443", "world@2001:db8::1:443", "near@192.0.2.2:0"];
        // What an instance has probed in the same way is probed once.
        assert_eq!(canaries(text), (shown.map(String::from).to_vec(), 4));
    }
}
