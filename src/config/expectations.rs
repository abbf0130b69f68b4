//! `[[tests]]`: what is expected of the finished configuration. They are run elsewhere.

use std::cell::OnceCell;
use std::collections::HashMap;

use super::Test;
use super::fields::{Fields, unknown_reference};
use super::files::Document;
use super::findings::Findings;
use super::keys;
use super::kinds;
use super::services::Placed;
use super::value::{Value, quoted};
use crate::dns::{Name, RecordType};
use crate::fleet::{Fleet, InstanceId, glob};
use crate::problem::{Problem, Sources};

/// Compiles all tests, in configured order.
pub(super) fn compile(
    document: &Document,
    sources: &Sources,
    fleet: &Fleet,
    services: &[Placed],
    findings: &mut Findings,
) -> Vec<Test> {
    let things = Things { fleet, paths: OnceCell::new() };
    let names = Names::of(if document.tests.is_empty() { &[] } else { services });
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
        let service = names.service_of(&name);
        if service.is_none() {
            let known = document.section("services").names();
            if let Some(value) = fields.find("name") {
                findings.cross.push(unknown_reference(value, "service", &name.to_plain(), known));
            }
        }
        check_expectations(&fields, fleet, service, findings);
        for pattern in fields.find("down").map(Value::elements).unwrap_or_default() {
            things.check_pattern(pattern, findings);
        }
        let texts = |key: &str| -> Vec<String> {
            fields
                .each(key, |value| kinds::text(value).map(str::to_string))
                .iter()
                .map(|(text, _)| text.clone())
                .collect()
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

/// Services by the names that they answer for.
struct Names<'s> {
    exact: HashMap<&'s Name, &'s Placed>,
    /// What is above each wildcard, in configured order.
    wildcards: Vec<(Name, &'s Placed)>,
}

impl<'s> Names<'s> {
    fn of(services: &'s [Placed]) -> Names<'s> {
        let mut names = Names { exact: HashMap::new(), wildcards: Vec::new() };
        for placed in services {
            for (name, _) in placed.names() {
                names.exact.entry(name).or_insert(placed);
                let parent = name.parent().filter(|_| name.is_wildcard());
                names.wildcards.extend(parent.map(|parent| (parent, placed)));
            }
        }
        names
    }

    /// The service that answers for a name: its own, an alias, or a wildcard above it.
    fn service_of(&self, name: &Name) -> Option<&'s Placed> {
        let covers = |parent: &Name| name != parent && name.is_at_or_below(parent);
        let wildcard = || self.wildcards.iter().find(|(parent, _)| covers(parent)).map(|(_, placed)| *placed);
        self.exact.get(name).copied().or_else(wildcard)
    }
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
struct Things<'f> {
    fleet: &'f Fleet,
    /// All in words, for suggestions: a large fleet has a million.
    paths: OnceCell<Vec<String>>,
}

impl Things<'_> {
    fn check_pattern(&self, value: &Value, findings: &mut Findings) {
        let Ok(pattern) = kinds::text(value) else { return };
        if self.is_there(pattern) {
            return;
        }
        let paths = self.paths.get_or_init(|| self.paths());
        // A name with a slash is refused elsewhere, once.
        if paths.iter().any(|path| glob(pattern, path)) {
            return;
        }
        let message = format!("{} names nothing", quoted(pattern));
        let problem = Problem::error(value.span, message)
            .allowed("region/NAME, pool/NAME, instance/POOL/NAME; * stands for all but /");
        findings.cross.push(kinds::did_you_mean(problem, pattern, paths.iter().map(String::as_str)));
    }

    /// Whether a pattern names something. No name holds a slash and no `*` stands for one, so part goes with part.
    fn is_there(&self, pattern: &str) -> bool {
        let parts: Vec<&str> = pattern.split('/').collect();
        let (regions, pools) = (&self.fleet.regions, &self.fleet.pools);
        match parts[..] {
            [kind, name] => {
                glob(kind, "region") && regions.iter().any(|region| glob(name, &region.name))
                    || glob(kind, "pool") && pools.iter().any(|pool| glob(name, &pool.name))
            }
            [kind, pool, name] => {
                let holds = |id: &InstanceId| glob(name, &self.fleet.instance(*id).name);
                let of_pool = pools.iter().filter(|each| glob(pool, &each.name)).flat_map(|each| &each.instances);
                glob(kind, "instance") && of_pool.into_iter().any(holds)
            }
            _ => false,
        }
    }

    fn paths(&self) -> Vec<String> {
        let regions = self.fleet.regions.iter().map(|region| format!("region/{}", region.name));
        let pools = self.fleet.pools.iter().map(|pool| format!("pool/{}", pool.name));
        let instances = self.fleet.pools.iter().flat_map(|pool| &pool.instances);
        let instances = instances.map(|id| format!("instance/{}", self.fleet.instance_path(*id)));
        regions.chain(pools).chain(instances).collect()
    }
}
