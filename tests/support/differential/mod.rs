//! Waymark beside NSD and Knot: all serve the same zones, made from a seed, and each query goes to all of them. Code,
//! flags, question, OPT and the sets of records must be the same, or [`rules::RULES`] says why not.
//!
//! ```text
//! zones ─► servers ◄─ queries           message: octets taken apart
//!             │ answers
//!             ▼
//! complete: what was cut off, asked for over TCP; a chain that goes on in another zone, followed
//!             ▼
//! rules: each difference has a reason, or is told
//! ```
//!
//! | file | has |
//! |---|---|
//! | `name`, `message` | the wire format, apart from the server's own code |
//! | `zones`, `queries` | what is drawn |
//! | `servers` | the programs, and asking them |
//! | `rules` | differences that there are for a reason |

// Each program that includes this file uses a part of it.
#![allow(dead_code, unreachable_pub)]

pub mod message;
pub mod name;
mod queries;
pub mod rules;
mod servers;
mod zones;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use message::{ANY, Answer, Ask, CNAME, IN, NS, Record, TC};
use queries::Queries;
use rules::{Case, Facet};
pub use servers::Peer;
use servers::Server;
use zones::Zones;

/// Queries that are out at a time; their answers fit into the receive buffer of a socket.
const WINDOW: usize = 64;
/// Queries for each set of zones, before others are made.
const QUERIES_PER_SEED: u64 = 100_000;
/// The smallest number of sets.
const SEEDS: u64 = 2;
/// Most zones that a chain is followed through.
const ZONES_OF_CHAIN: usize = 32;
/// Octets of an answer over UDP: at least, and at most by configuration.
const MIN_PAYLOAD: usize = 512;
const MAX_PAYLOAD: usize = 1232;
/// Differences that are told of each kind.
const TOLD: usize = 1;

/// What to compare.
pub struct Options<'a> {
    pub queries: u64,
    pub seed: u64,
    pub waymark: &'a Path,
    /// Other servers and their programs.
    pub peers: &'a [(Peer, &'a Path)],
    /// Free ports on 127.0.0.1: two for Waymark, then one for each other; those of one run serve the next.
    pub ports: &'a [u16],
    /// A scratch folder.
    pub folder: &'a Path,
}

/// What came of it.
#[derive(Default)]
pub struct Outcome {
    pub asked: u64,
    /// Answers of each server that were compared.
    pub compared: BTreeMap<Peer, u64>,
    /// Of those, the ones that are the same.
    pub same: BTreeMap<Peer, u64>,
    /// Those of which each rule explains a difference.
    pub explained: BTreeMap<(&'static str, Peer), u64>,
    /// What no rule explains: how many of a kind, and some of them.
    pub unexplained: BTreeMap<String, (u64, Vec<String>)>,
    pub took: Duration,
}

impl Outcome {
    /// Whether every difference has its reason.
    pub fn holds(&self) -> bool {
        self.unexplained.is_empty()
    }

    fn tell(&mut self, kind: String, text: impl FnOnce() -> String) {
        let (count, told) = self.unexplained.entry(kind).or_default();
        *count += 1;
        if told.len() < TOLD {
            told.push(text());
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} queries in {:.1} s", self.asked, self.took.as_secs_f64())?;
        for (peer, compared) in &self.compared {
            let same = self.same.get(peer).copied().unwrap_or(0);
            write!(f, "\n{}: {same} of {compared} answers are the same", peer.name())?;
        }
        for ((rule, peer), count) in &self.explained {
            write!(f, "\n  {count:>8}  {}: {rule}", peer.name())?;
        }
        for (kind, (count, told)) in &self.unexplained {
            write!(f, "\nUNEXPLAINED {count:>8}  {kind}")?;
            told.iter().try_for_each(|text| write!(f, "\n    {text}"))?;
        }
        Ok(())
    }
}

/// Asks all of it. Fails when a server does not run.
pub fn run(options: &Options<'_>) -> Result<Outcome, String> {
    let began = Instant::now();
    let mut outcome = Outcome::default();
    let seeds = options.queries.div_ceil(QUERIES_PER_SEED).max(SEEDS);
    for number in 0..seeds {
        let queries = options.queries / seeds + u64::from(number < options.queries % seeds);
        Session::start(options, options.seed.wrapping_add(number), &mut outcome)?.run(queries)?;
    }
    outcome.took = began.elapsed();
    Ok(outcome)
}

/// One set of zones, served by all.
struct Session<'a> {
    zones: Zones,
    seed: u64,
    waymark: Party,
    others: Vec<Party>,
    outcome: &'a mut Outcome,
}

impl<'a> Session<'a> {
    fn start(options: &Options<'_>, seed: u64, outcome: &'a mut Outcome) -> Result<Session<'a>, String> {
        let zones = Zones::new(seed);
        let folder = |peer: Peer| options.folder.join(format!("{}-{seed}", peer.name()));
        let start = |peer, program, ports| {
            let server = Server::start(peer, program, &zones, &folder(peer), ports)?;
            Ok::<_, String>(Party { server, known: HashMap::new() })
        };
        let [port, admin, ports @ ..] = options.ports else { return Err("too few ports".to_owned()) };
        let waymark = start(Peer::Waymark, options.waymark, [*port, *admin])?;
        let others = options.peers.iter().zip(ports).map(|((peer, program), port)| start(*peer, program, [*port, 0]));
        let others = others.collect::<Result<_, _>>()?;
        Ok(Session { zones, seed, waymark, others, outcome })
    }

    fn run(mut self, queries: u64) -> Result<(), String> {
        // Moved out while it is borrowed for what is drawn.
        let zones = std::mem::replace(&mut self.zones, Zones { zones: vec![], names: vec![] });
        let mut drawn = Queries::new(&zones, self.seed);
        let mut left = queries;
        while left > 0 {
            let count = left.min(WINDOW as u64);
            let asks: Vec<Ask> = (0..count).map(|_| drawn.draw()).collect();
            self.window(&zones, &asks)?;
            left -= count;
        }
        Ok(())
    }

    fn window(&mut self, zones: &Zones, asks: &[Ask]) -> Result<(), String> {
        let mut parties: Vec<&mut Party> = std::iter::once(&mut self.waymark).chain(&mut self.others).collect();
        let begun: Result<Vec<_>, _> = parties.iter_mut().map(|party| party.server.begin(asks)).collect();
        let mut windows = begun?;
        for (party, window) in parties.iter_mut().zip(&mut windows) {
            party.server.finish(asks, window)?;
        }
        self.outcome.asked += asks.len() as u64;
        for (at, ask) in asks.iter().enumerate() {
            let ours = windows[0].answers[at].as_deref();
            for (other, window) in self.others.iter_mut().zip(&windows[1..]) {
                let theirs = window.answers[at].as_deref();
                if theirs.is_some_and(<[u8]>::is_empty) {
                    continue;
                }
                let mut pair = Pair { zones, seed: self.seed, ask, waymark: &mut self.waymark, other };
                pair.compare(ours, theirs, self.outcome)?;
            }
        }
        Ok(())
    }
}

/// A server, and what it was asked for behind the answers that are compared.
struct Party {
    server: Server,
    known: HashMap<(Vec<u8>, u16), Option<Answer>>,
}

impl Party {
    /// All of an answer that was cut off.
    fn whole(&mut self, ask: &Ask) -> Result<Option<Answer>, String> {
        let answers = self.server.ask(&[Ask { tcp: true, ..ask.clone() }])?;
        Ok(answers.into_iter().next().flatten().as_deref().and_then(Answer::parse))
    }

    fn plain(&mut self, name: &[u8], qtype: u16) -> Result<Option<Answer>, String> {
        let key = (name.to_vec(), qtype);
        if let Some(known) = self.known.get(&key) {
            return Ok(known.clone());
        }
        let answer = self.whole(&Ask::plain(name.to_vec(), qtype))?;
        self.known.insert(key, answer.clone());
        Ok(answer)
    }

    /// The answer with what follows where a chain of aliases leads into another of the zones: others than Waymark stop
    /// there, and leave it to the resolver to ask for the rest.
    fn complete(&mut self, zones: &Zones, ask: &Ask, mut answer: Answer) -> Result<Answer, String> {
        if ![IN, ANY].contains(&ask.class) || [CNAME, ANY].contains(&ask.qtype) || ask.opcode() != 0 {
            return Ok(answer);
        }
        let mut seen = vec![];
        for _ in 0..ZONES_OF_CHAIN {
            let mut name = ask.name.to_ascii_lowercase();
            seen.clear();
            while let Some(next) = answer.cname(&name).filter(|_| !seen.contains(&name)) {
                seen.push(std::mem::replace(&mut name, next.clone()));
            }
            let has_data = answer.sections[0].iter().any(|record| record.owner == name && record.rtype == ask.qtype);
            // A referral to a zone that is served as well says where the rest is.
            let says_nothing =
                |record: &Record| record.rtype == NS && zones.zones.iter().any(|zone| zone.origin == record.owner);
            let is_open =
                !seen.is_empty() && !seen.contains(&name) && !has_data && answer.sections[1].iter().all(says_nothing);
            if answer.rcode != 0 || !is_open || zones.zone_of(&name).is_none() {
                break;
            }
            let Some(next) = self.plain(&name, ask.qtype)? else { break };
            let before = answer.sections[0].len();
            let [found, authority, additional] = next.sections;
            answer.sections[0].extend(found);
            answer.sections[0].sort_unstable();
            answer.sections[0].dedup();
            (answer.rcode, answer.sections[1], answer.sections[2]) = (next.rcode, authority, additional);
            if answer.sections[0].len() == before {
                break;
            }
        }
        Ok(answer)
    }
}

/// One query and two servers.
struct Pair<'a> {
    zones: &'a Zones,
    seed: u64,
    ask: &'a Ask,
    waymark: &'a mut Party,
    other: &'a mut Party,
}

impl Pair<'_> {
    fn compare(&mut self, ours: Option<&[u8]>, theirs: Option<&[u8]>, outcome: &mut Outcome) -> Result<(), String> {
        let (peer, ask, seed) = (self.other.server.peer, self.ask, self.seed);
        *outcome.compared.entry(peer).or_default() += 1;
        let (Some(our_octets), Some(their_octets)) = (ours, theirs) else {
            let kind = format!("{}: silence of {}", peer.name(), if ours.is_none() { "waymark" } else { "the other" });
            outcome.tell(kind, || format!("seed {seed}: {ask}"));
            return Ok(());
        };
        let (Some(ours), Some(theirs)) = (Answer::parse(our_octets), Answer::parse(their_octets)) else {
            outcome.tell(format!("{}: no message", peer.name()), || {
                format!("seed {seed}: {ask}: {our_octets:02x?} {their_octets:02x?}")
            });
            return Ok(());
        };
        let Some((ours, theirs)) = self.whole(ours, theirs, outcome)? else { return Ok(()) };
        let ours = self.waymark.complete(self.zones, ask, ours)?;
        let theirs = self.other.complete(self.zones, ask, theirs)?;
        if ours.sections.iter().any(|section| section.windows(2).any(|pair| pair[0] == pair[1])) {
            outcome.tell("a record twice".to_owned(), || format!("seed {seed}: {ask}\n      {ours:?}"));
        }
        let case = Case { peer, ask, ours: &ours, theirs: &theirs };
        let facets = case.facets();
        if facets.is_empty() {
            *outcome.same.entry(peer).or_default() += 1;
            return Ok(());
        }
        let left: Vec<Facet> = facets
            .iter()
            .copied()
            .filter(|facet| match case.explain(*facet) {
                Some(rule) => {
                    *outcome.explained.entry((rule, peer)).or_default() += 1;
                    false
                }
                None => true,
            })
            .collect();
        if !left.is_empty() {
            let kind = format!("{}: {left:?}, {} vs {}{}", peer.name(), ours.rcode, theirs.rcode, case.bucket());
            outcome.tell(kind, || format!("seed {seed}: {ask}\n      ours   {ours:?}\n      theirs {theirs:?}"));
        }
        Ok(())
    }

    /// Both answers; where one is cut off, what both say over TCP. `None` when Waymark cut off wrongly, which is told.
    fn whole(
        &mut self,
        ours: Answer,
        theirs: Answer,
        outcome: &mut Outcome,
    ) -> Result<Option<(Answer, Answer)>, String> {
        let ask = self.ask;
        // NSD repeats a TC of queries that it does not understand.
        let is_cut = ours.has(TC) || theirs.has(TC) && ask.opcode() == 0 && theirs.rcode != 16;
        if ask.tcp || ask.qtype == ANY || !is_cut {
            return Ok(Some((ours, theirs)));
        }
        let (our_whole, their_whole) = (self.waymark.whole(ask)?, self.other.whole(ask)?);
        let (Some(our_whole), Some(their_whole)) = (&our_whole, &their_whole) else {
            let silent = if our_whole.is_none() { Peer::Waymark } else { self.other.server.peer };
            outcome.tell(format!("{}: nothing over TCP", silent.name()), || format!("seed {}: {ask}", self.seed));
            return Ok(None);
        };
        let (our_whole, their_whole) = (our_whole.clone(), their_whole.clone());
        if let Some(wrong) = wrongly_cut(ask, &ours, &our_whole) {
            outcome.tell(wrong.to_owned(), || format!("{ask}\n      cut   {ours:?}\n      whole {our_whole:?}"));
            return Ok(None);
        }
        Ok(Some((our_whole, their_whole)))
    }
}

/// How long an answer over UDP may be.
fn payload(ask: &Ask) -> usize {
    ask.edns.as_ref().map_or(MIN_PAYLOAD, |edns| usize::from(edns.payload).clamp(MIN_PAYLOAD, MAX_PAYLOAD))
}

/// What is wrong with an answer over UDP, beside all of it.
fn wrongly_cut(ask: &Ask, cut: &Answer, whole: &Answer) -> Option<&'static str> {
    let payload = payload(ask);
    if cut.length > payload {
        return Some("longer than was asked for");
    }
    let is_whole = (0..2).all(|section| cut.sections[section] == whole.sections[section]);
    if !cut.has(TC) {
        return (!is_whole).then_some("something is missing without TC");
    }
    if whole.length <= payload {
        return Some("cut off though there is room");
    }
    let set = |records: &[Record], of: &Record| {
        records.iter().filter(|each| (&each.owner, each.rtype) == (&of.owner, of.rtype)).count()
    };
    let is_part = |section: usize| {
        let (cut, whole) = (&cut.sections[section], &whole.sections[section]);
        cut.iter().all(|record| whole.contains(record) && set(cut, record) == set(whole, record))
    };
    (!(0..3).all(is_part)).then_some("half an RRset, or something else than all of it")
}
