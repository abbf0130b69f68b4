//! Why a client gets what it gets (SPEC 8.4): the real answer of `answer::respond`, and beside it the same decision once
//! more with a trace (`answer::explain`), both from one seed. `live` adds what a running node knows.

mod live;

use std::net::IpAddr;
use std::sync::Arc;

use hickory_proto::op::{Edns as MessageEdns, Message, MessageType, OpCode, Query as Question};
use hickory_proto::rr::rdata::opt::{ClientSubnet as SubnetOption, EdnsCode, EdnsOption};
use hickory_proto::rr::{Name as MessageName, RecordType as MessageRecordType};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::world::World;
use crate::answer::explain::{Asked, Traced, trace};
use crate::answer::{Transport, Worker, respond};
use crate::config::Test;
use crate::dns::{ClientSubnet, LowerName, Name, Rcode, RecordType};
use crate::fleet::Family;
use crate::snapshot::{Settings, Snapshot};
use crate::steering::Local;
use crate::steering::trace::{Considered, Reasons, Recorded, Stage};
use crate::zone::Found;
pub(super) use live::{Kept, TargetKept};
pub use live::{Live, Look};

/// What is asked.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The name.
    pub name: Name,
    /// The type.
    pub rtype: RecordType,
    /// The client: its prefix, as ECS would say it; `None` = no client subnet is sent.
    pub client: Option<IpNet>,
    /// The packet's source. `None` = the client itself, and whatever subnet it names is taken.
    pub resolver: Option<IpAddr>,
    /// Seed of the random draws.
    pub seed: u64,
}

/// The answer and how it came about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// The name asked.
    pub name: String,
    /// The type asked.
    #[serde(rename = "type")]
    pub rtype: String,
    /// The client's prefix; the resolver's address where no client subnet is sent.
    pub client: String,
    /// The resolver's address, where one was named.
    pub resolver: Option<String>,
    /// `NOERROR`, `NXDOMAIN` …
    pub rcode: String,
    /// The region that serves; `None` when the name is not steered, or nothing serves.
    pub region: Option<String>,
    /// The instances answered, best first.
    pub instances: Vec<String>,
    /// The instances that could have been answered, by other draws or clients of this order.
    pub candidates: Vec<String>,
    /// All instances that were looked at, region by region, each with its state and the reason of that.
    pub considered: Vec<Considered>,
    /// Records of the answer section, in zone file form.
    pub answers: Vec<String>,
    /// Seconds, of the first record: of the answer section, else of the authority section.
    pub ttl: Option<u32>,
    /// ECS scope prefix length; `None` where no client subnet is echoed.
    pub scope: Option<u8>,
    /// Every stage in order.
    pub stages: Vec<Stage>,
}

impl Ask {
    /// What a query of this client would carry.
    fn subnet(&self) -> Option<ClientSubnet> {
        self.client.map(|client| ClientSubnet {
            family: if client.addr().is_ipv4() { 1 } else { 2 },
            source: client.prefix_len(),
            address: client.trunc().addr(),
        })
    }
}

/// Explains an answer from `snapshot`; what `recorded` knows of instances is shown with them.
#[must_use]
pub fn explain(snapshot: &Snapshot, ask: &Ask, mut recorded: Recorded) -> Explanation {
    let mut lower = LowerName::new();
    if lower.set(ask.name.as_wire()).is_none() {
        lower = LowerName::default();
    }
    let subnet = ask.subnet();
    let asked = Asked { name: &lower, rtype: ask.rtype, resolver: ask.resolver, subnet: subnet.as_ref() };
    let traced = trace(snapshot, &asked, &mut Local::new(ask.seed), &mut recorded);
    let open = Snapshot {
        serial: snapshot.serial,
        authority: Arc::clone(&snapshot.authority),
        steering: Arc::clone(&snapshot.steering),
        standings: snapshot.standings.clone(),
        settings: Arc::new(Settings {
            ecs: asked.policy(&snapshot.settings.ecs).into_owned(),
            ..Settings::clone(&snapshot.settings)
        }),
        secrets: Arc::clone(&snapshot.secrets),
        latency: snapshot.latency.clone(),
        transfers: Arc::clone(&snapshot.transfers),
        limiter: None,
        blind: snapshot.blind,
        tallies: Arc::default(),
    };
    answered(&open, ask, asked.source(), traced, recorded)
}

/// Explains what a configuration does by itself: everything is up, but for what `down` names.
#[must_use]
pub fn offline(world: &World, ask: &Ask, down: &[String]) -> Explanation {
    explain(&world.offline(down), ask, Recorded::with(said_down(world, down), "assumed"))
}

/// Why the instances are down that `down` names.
fn said_down(world: &World, down: &[String]) -> Reasons {
    let named = down.iter().flat_map(|name| world.fleet().named(name));
    named.flat_map(|id| Family::BOTH.map(|family| ((id, family), "--down".to_string()))).collect()
}

/// The answer as a client sees it.
fn answered(snapshot: &Snapshot, ask: &Ask, source: IpAddr, traced: Traced, recorded: Recorded) -> Explanation {
    let Recorded { mut stages, considered, .. } = recorded;
    let mut worker = Worker::new(&Arc::default(), ask.seed);
    worker.adopt(snapshot);
    let mut out = vec![0; usize::from(u16::MAX)];
    let length =
        query(ask).map_or(0, |query| respond(snapshot, &mut worker, &query, source, Transport::Tcp, &mut out).length());
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
    stages.push(Stage { stage: "answer".into(), text: format!("{rcode}{ttl_text}{scope_text}: {shown}") });
    Explanation {
        name: ask.name.to_plain(),
        rtype: ask.rtype.to_string(),
        client: ask.client.map_or_else(|| source.to_string(), |client| client.to_string()),
        resolver: ask.resolver.map(|resolver| resolver.to_string()),
        rcode,
        region: traced.region,
        instances: traced.instances,
        candidates: traced.candidates,
        considered,
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
    if let Some(ClientSubnet { address, source, .. }) = ask.subnet() {
        edns.options_mut().insert(EdnsOption::Subnet(SubnetOption::new(address, source, 0)));
    }
    message.set_edns(edns);
    message.to_vec().ok()
}

/// What `[[tests]]` expected and did not get, one text for each that failed.
#[must_use]
pub fn failed_tests(world: &World) -> Vec<String> {
    // Of a zone that was not copied yet nothing can be expected.
    let is_known = |test: &&Test| {
        let mut name = LowerName::new();
        name.set(test.name.as_wire());
        !matches!(world.authority.find(&name, test.rtype), Found::Void)
    };
    world.tests.iter().filter(is_known).filter_map(|test| failure(world, test)).collect()
}

fn failure(world: &World, test: &Test) -> Option<String> {
    let client = Some(test.client);
    let ask = Ask { name: test.name.clone(), rtype: test.rtype, client, resolver: None, seed: 0 };
    let explanation = offline(world, &ask, &test.down);
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
    let what = format!("{} {} for client {}{down}", ask.name.to_plain(), ask.rtype, test.client);
    (!wrong.is_empty()).then(|| format!("{}: test failed: {what}: {}", test.place, wrong.join("; ")))
}
