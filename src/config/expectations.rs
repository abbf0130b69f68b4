//! `[[tests]]`: what is expected of the finished configuration. They are run elsewhere.

use super::Test;
use super::fields::{Fields, unknown_reference};
use super::files::Document;
use super::findings::Findings;
use super::keys;
use super::kinds;
use super::services::Placed;
use super::value::{Value, quoted};
use crate::dns::{Name, RecordType};
use crate::fleet::{Fleet, glob};
use crate::problem::{Problem, Sources};

/// Compiles all tests, in configured order.
pub(super) fn compile(
    document: &Document,
    sources: &Sources,
    fleet: &Fleet,
    services: &[Placed],
    findings: &mut Findings,
) -> Vec<Test> {
    let things = Things::of(fleet);
    let mut tests = Vec::new();
    for value in &document.tests {
        let Some(table) = value.table() else { continue };
        let fields = Fields::alone(&keys::TEST, value.span, table);
        let Some((name, client)) = fields
            .custom("name", |value| kinds::domain_name(value).ok())
            .zip(fields.custom("client", |value| kinds::prefix(value).ok()))
        else {
            continue;
        };
        let service = service_of(&name, services);
        if service.is_none() {
            let known = document.named("services").iter().map(|entry| entry.name.as_str());
            if let Some(value) = fields.find("name") {
                findings.cross.push(unknown_reference(value, "service", &name.to_plain(), known));
            }
        }
        check_expectations(&fields, fleet, service, findings);
        for pattern in fields.find("down").map(Value::elements).unwrap_or_default() {
            things.check_pattern(pattern, findings);
        }
        let texts = |key: &str| -> Vec<String> {
            fields.each(key, |value| kinds::text(value).map(str::to_string)).into_iter().map(|(text, _)| text).collect()
        };
        tests.push(Test {
            place: sources.place(&value.span),
            name,
            rtype: fields.text("type").and_then(|text| RecordType::parse(&text)).unwrap_or(RecordType::A),
            client,
            down: texts("down"),
            expect_region: fields.text("expect-region"),
            expect_instances: fields.find("expect-instances").map(|_| texts("expect-instances")),
        });
    }
    tests
}

/// The service that answers for a name: its own, an alias, or a wildcard above it.
fn service_of<'s>(name: &Name, services: &'s [Placed]) -> Option<&'s Placed> {
    let covers = |owner: &Name| {
        owner == name
            || owner.is_wildcard()
                && owner.parent().is_some_and(|parent| name != &parent && name.is_at_or_below(&parent))
    };
    let is_exact = |placed: &&Placed| &placed.service.name == name || placed.service.aliases.contains(name);
    let exact = services.iter().find(is_exact);
    exact.or_else(|| {
        services.iter().find(|placed| covers(&placed.service.name) || placed.service.aliases.iter().any(covers))
    })
}

fn check_expectations(fields: &Fields<'_>, fleet: &Fleet, service: Option<&Placed>, findings: &mut Findings) {
    if fields.find("expect-region").is_none() && fields.find("expect-instances").is_none() {
        let problem = Problem::error(fields.place, "a test that expects nothing");
        findings.cross.push(problem.hint("add expect-region = \"…\" or expect-instances = [\"…\"]"));
    }
    if let Some((value, name)) = fields.find("expect-region").zip(fields.text("expect-region")) {
        let names = || fleet.regions.iter().map(|region| region.name.as_str());
        if !names().any(|known| known == name) {
            findings.cross.push(unknown_reference(value, "region", &name, names()));
        }
    }
    let Some(service) = service.filter(|service| service.has_pool) else { return };
    let pool = fleet.pool(service.service.pool);
    let names = || pool.instances.iter().map(|id| fleet.instance(*id).name.as_str());
    for value in fields.find("expect-instances").map(Value::elements).unwrap_or_default() {
        let Ok(name) = kinds::text(value) else { continue };
        if !names().any(|known| known == name) {
            let problem = unknown_reference(value, "instance", name, names());
            let message = format!("pool \"{}\" has no instance {}", pool.name, quoted(name));
            findings.cross.push(Problem { message, ..problem });
        }
    }
}

/// Checks `type`.
pub(super) fn check_type(value: &Value, problems: &mut Vec<Problem>) {
    match kinds::text(value).map(|text| (text, RecordType::parse(text))) {
        Ok((_, Some(rtype))) if !rtype.is_meta() => {}
        Ok((text, _)) => {
            let problem = Problem::error(value.span, format!("{} is not a record type", quoted(text)));
            problems.push(problem.allowed("A, AAAA, TXT …"));
        }
        Err(problem) => problems.push(*problem),
    }
}

/// All that `down` can name.
struct Things {
    paths: Vec<String>,
}

impl Things {
    fn of(fleet: &Fleet) -> Things {
        let regions = fleet.regions.iter().map(|region| format!("region/{}", region.name));
        let pools = fleet.pools.iter().map(|pool| format!("pool/{}", pool.name));
        let instances = fleet
            .pools
            .iter()
            .flat_map(|pool| &pool.instances)
            .map(|id| format!("instance/{}", fleet.instance_path(*id)));
        Things { paths: regions.chain(pools).chain(instances).collect() }
    }

    fn check_pattern(&self, value: &Value, findings: &mut Findings) {
        let Ok(pattern) = kinds::text(value) else { return };
        if self.paths.iter().any(|path| glob(pattern, path)) {
            return;
        }
        let message = format!("{} names nothing", quoted(pattern));
        let problem = Problem::error(value.span, message)
            .allowed("region/NAME, pool/NAME, instance/POOL/NAME; * stands for all but /");
        findings.cross.push(kinds::did_you_mean(problem, pattern, self.paths.iter().map(String::as_str)));
    }
}
