//! Why a client gets what it gets (SPEC 8.4): the real answer of `answer::respond`, and beside it the same decision once
//! more with a trace, both from one seed.

use std::sync::Arc;

use hickory_proto::op::{Edns as MessageEdns, Message, MessageType, OpCode, Query as Question};
use hickory_proto::rr::rdata::opt::{ClientSubnet as SubnetOption, EdnsCode, EdnsOption};
use hickory_proto::rr::{Name as MessageName, RecordType as MessageRecordType};
use ipnet::IpNet;
use serde::Serialize;

use super::world::World;
use crate::answer::{Transport, Worker, respond};
use crate::config::Test;
use crate::dns::{ClientSubnet, LowerName, Name, Rcode, RecordType};
use crate::fleet::{Family, InstanceId};
use crate::snapshot::{Settings, Snapshot};
use crate::steering::balance::{Choice, pick};
use crate::steering::client::Origin;
use crate::steering::trace::{Recorded, Stage, Trace};
use crate::steering::{Local, Outcome, ServiceId, decide, hash};
use crate::zone::Found;

/// What is asked.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The name.
    pub name: Name,
    /// The type.
    pub rtype: RecordType,
    /// The client: its prefix, as ECS would say it.
    pub client: IpNet,
    /// Seed of the random draws.
    pub seed: u64,
}

/// The answer and how it came about.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// The name asked.
    pub name: String,
    /// The type asked.
    #[serde(rename = "type")]
    pub rtype: String,
    /// The client's prefix.
    pub client: String,
    /// `NOERROR`, `NXDOMAIN` …
    pub rcode: String,
    /// The region that serves; `None` when the name is not steered, or nothing serves.
    pub region: Option<String>,
    /// The instances answered, best first.
    pub instances: Vec<String>,
    /// The instances that could have been answered, by other draws or clients of this order.
    pub candidates: Vec<String>,
    /// Records of the answer section, in zone file form.
    pub answers: Vec<String>,
    /// Seconds, of the first record: of the answer section, else of the authority section.
    pub ttl: Option<u32>,
    /// ECS scope prefix length; `None` where no client subnet is echoed.
    pub scope: Option<u8>,
    /// Every stage in order.
    pub stages: Vec<Stage>,
}

/// What the trace found beside its stages.
#[derive(Default)]
struct Traced {
    region: Option<String>,
    instances: Vec<String>,
    candidates: Vec<String>,
}

/// Explains an answer from `snapshot`, a snapshot of `world`.
#[must_use]
pub fn explain(world: &World, snapshot: &Snapshot, ask: &Ask) -> Explanation {
    // Explanations are for whoever may read the configuration, so any subnet is taken, as from a trusted source.
    let mut settings = Settings::clone(&snapshot.settings);
    settings.ecs.trusted = ["0.0.0.0/0", "::/0"].iter().filter_map(|net| net.parse().ok()).collect();
    let settings = Arc::new(settings);
    let open = Snapshot {
        serial: snapshot.serial,
        authority: Arc::clone(&snapshot.authority),
        steering: Arc::clone(&snapshot.steering),
        standings: snapshot.standings.clone(),
        latency: snapshot.latency.clone(),
        settings,
        tallies: Arc::default(),
    };
    let mut trace = Recorded::default();
    let traced = traced(world, &open, ask, &mut trace);
    answered(&open, ask, traced, trace.0)
}

/// The answer as a client sees it.
fn answered(snapshot: &Snapshot, ask: &Ask, traced: Traced, mut stages: Vec<Stage>) -> Explanation {
    let mut worker = Worker::new(&Arc::default(), ask.seed);
    worker.adopt(snapshot);
    let mut out = vec![0; usize::from(u16::MAX)];
    let length = query(ask)
        .map_or(0, |query| respond(snapshot, &mut worker, &query, ask.client.addr(), Transport::Tcp, &mut out));
    let message = Message::from_vec(&out[..length]).ok();
    let scope = message.as_ref().and_then(|message| match message.edns.as_ref()?.option(EdnsCode::Subnet)? {
        EdnsOption::Subnet(subnet) => Some(subnet.scope_prefix()),
        _ => None,
    });
    let records = message.as_ref().map_or(&[][..], |message| &message.answers[..]);
    let authority = message.as_ref().map_or(&[][..], |message| &message.authorities[..]);
    let ttl = records.first().or(authority.first()).map(|record| record.ttl);
    let answers: Vec<String> = records.iter().map(ToString::to_string).collect();
    let rcode = message.as_ref().map_or_else(String::new, |m| Rcode(u16::from(m.response_code)).to_string());
    let shown = if answers.is_empty() { "no records".into() } else { answers.join("; ") };
    let ttl_text = ttl.map_or(String::new(), |ttl| format!(", TTL {ttl}"));
    let scope_text = scope.map_or(String::new(), |scope| format!(", ECS scope {scope}"));
    stages.push(Stage { stage: "answer", text: format!("{rcode}{ttl_text}{scope_text}: {shown}") });
    Explanation {
        name: ask.name.to_plain(),
        rtype: ask.rtype.to_string(),
        client: ask.client.to_string(),
        rcode,
        region: traced.region,
        instances: traced.instances,
        candidates: traced.candidates,
        answers,
        ttl,
        scope,
        stages,
    }
}

fn query(ask: &Ask) -> Option<Vec<u8>> {
    let mut message = Message::new(1, MessageType::Query, OpCode::Query);
    let name = MessageName::from_labels(ask.name.labels()).ok()?;
    message.add_query(Question::query(name, MessageRecordType::from(ask.rtype.0)));
    let mut edns = MessageEdns::new();
    edns.set_max_payload(1232);
    edns.options_mut().insert(EdnsOption::Subnet(SubnetOption::new(
        ask.client.trunc().addr(),
        ask.client.prefix_len(),
        0,
    )));
    message.set_edns(edns);
    message.to_vec().ok()
}

/// The decision with its trace.
fn traced(world: &World, snapshot: &Snapshot, ask: &Ask, trace: &mut Recorded) -> Traced {
    let Some((service, label)) = find(snapshot, ask, trace) else { return Traced::default() };
    let family = match ask.rtype {
        RecordType::A => Family::V4,
        RecordType::AAAA => Family::V6,
        other => {
            trace.note("type", || {
                format!("a steered name has addresses; {other} is answered from the zone, else NODATA")
            });
            return Traced::default();
        }
    };
    let steering = &snapshot.steering;
    let steered = steering.service(service);
    let subnet = ClientSubnet {
        family: if ask.client.addr().is_ipv4() { 1 } else { 2 },
        source: ask.client.prefix_len(),
        address: ask.client.trunc().addr(),
    };
    let mut client = snapshot.settings.ecs.client(ask.client.addr(), Some(&subnet), steered.manner.ecs);
    client.label = label;
    trace.note("client", || match client.origin {
        Origin::Subnet => format!("address {} of the client subnet", client.address),
        Origin::Resolver => format!("address {} of the resolver: ECS is off or not sent", client.address),
        Origin::SetAside(_) => format!("address {} of the resolver: the client subnet was set aside", client.address),
    });
    let place = steering.atlas.lookup(client.address).0;
    trace.note("place", || {
        let sources: Vec<String> = world.geo.sources(client.address).iter().map(ToString::to_string).collect();
        let sources = if sources.is_empty() { "no network or data base knows it".into() } else { sources.join("; ") };
        format!("{}: {sources}", steering.atlas.place(place))
    });
    steering.describe(steered, client.address, trace);
    let mut local = Local::new(ask.seed);
    local.adopt(steering);
    let decision = decide(steering, snapshot.situation(), service, &client, family, &mut local, trace);
    let Outcome::Pick { roster, group, version } = decision.outcome else { return Traced::default() };
    let answering = steering.service(decision.service);
    let mut instances: Vec<InstanceId> = Vec::new();
    let choice = Choice { roster, group, version, family };
    pick(steering, answering, choice, &client, &mut local, trace, |instance, _| {
        if !instances.contains(&instance) {
            instances.push(instance);
        }
    });
    let regions = &steering.layout(answering.layout).groups[group].regions;
    let name = |id: &InstanceId| steering.fleet.instance(*id).name.to_string();
    let of_first = instances.first().and_then(|&id| steering.fleet.instance(id).regions.first());
    let region = if let [only] = regions[..] { Some(only) } else { of_first.copied() };
    Traced {
        region: region.map(|region| steering.fleet.region(region).name.clone()),
        instances: instances.iter().map(name).collect(),
        candidates: roster.entries.iter().map(|entry| name(&entry.instance)).collect(),
    }
}

/// Most CNAMEs followed, as in `answer`.
const MAX_CHAIN: usize = 16;

/// The service at the name asked, or where its CNAMEs lead to in our zones; and the hash of that name's leftmost label.
fn find(snapshot: &Snapshot, ask: &Ask, trace: &mut Recorded) -> Option<(ServiceId, u64)> {
    let mut lower = LowerName::new();
    lower.set(ask.name.as_wire())?;
    for _ in 0..MAX_CHAIN {
        match look_up(snapshot, &lower, ask.rtype, trace) {
            Ok(service) => return Some((service, hash::of_label(lower.first_label()))),
            Err(target) => lower.set(target?)?,
        };
    }
    None
}

/// The service at a name; else the target of its CNAME, if it has one that is to be followed.
fn look_up<'a>(
    snapshot: &'a Snapshot,
    name: &LowerName,
    rtype: RecordType,
    trace: &mut Recorded,
) -> Result<ServiceId, Option<&'a [u8]>> {
    let authority = &snapshot.authority;
    let mut note = |text: String| trace.note("name", || text);
    match authority.find(name, rtype) {
        Found::NotOurs => note("in none of the zones".into()),
        Found::Referral { cut } => note(format!("below the zone cut {}", cut.owner())),
        Found::Dname { node, .. } => note(format!("below the DNAME {}", node.owner())),
        Found::Nxdomain { zone } => note(format!("does not exist in zone {}", authority.zone(zone).origin)),
        Found::ParentSide { zone, .. } => {
            note(format!("DS is answered by the parent zone {}", authority.zone(zone).origin));
        }
        Found::Data { node, wildcard } => {
            let by = if wildcard { format!(" by the wildcard {}", node.owner()) } else { String::new() };
            if let Some(tag) = node.tag() {
                let steered = snapshot.steering.service(ServiceId(tag));
                let pool = &snapshot.steering.fleet.pool(steered.configured.service.pool).name;
                note(format!("service/{}{by}, pool/{pool}", steered.configured.name));
                return Ok(ServiceId(tag));
            }
            let cname = node.rrset(RecordType::CNAME).filter(|_| rtype != RecordType::CNAME);
            let Some(target) = cname.and_then(|cname| cname.rdatas().next()) else {
                note(format!("static name{by}: not steered"));
                return Err(None);
            };
            let shown = Name::from_wire(target).map_or_else(|_| "?".into(), |name| name.to_plain());
            note(format!("static CNAME{by} to {shown}"));
            return Err(Some(target));
        }
    }
    Err(None)
}

/// What `[[tests]]` expected and did not get, one text for each that failed.
#[must_use]
pub fn failed_tests(world: &World) -> Vec<String> {
    world.tests.iter().filter_map(|test| failure(world, test)).collect()
}

fn failure(world: &World, test: &Test) -> Option<String> {
    let ask = Ask { name: test.name.clone(), rtype: test.rtype, client: test.client, seed: 0 };
    let explanation = explain(world, &world.offline(&test.down), &ask);
    let mut wrong = Vec::new();
    if let Some(expected) = &test.expect_region
        && explanation.region.as_ref() != Some(expected)
    {
        wrong.push(format!("expected region {expected}, got {}", explanation.region.as_deref().unwrap_or("none")));
    }
    if let Some(expected) = &test.expect_instances {
        let (mut expected, mut got) = (expected.clone(), explanation.candidates.clone());
        expected.sort_unstable();
        got.sort_unstable();
        if expected != got {
            wrong.push(format!("expected instances {expected:?}, got {got:?}"));
        }
    }
    let down = if test.down.is_empty() { String::new() } else { format!(" with {} down", test.down.join(", ")) };
    let what = format!("{} {} for client {}{down}", ask.name.to_plain(), ask.rtype, ask.client);
    (!wrong.is_empty()).then(|| format!("{}: test failed: {what}: {}", test.place, wrong.join("; ")))
}
