//! What a decision says of itself: `explain` records every stage, answering records nothing and pays nothing.

use std::borrow::Cow;
use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::fleet::{Family, InstanceId};
use crate::health::Remark;

/// Takes the stages of a decision as it is made.
pub trait Trace {
    /// Whether anything is kept: what is made for a trace alone need not be made else.
    const KEEPS: bool;
    /// Notes a stage; the text is only made by traces that keep it.
    fn note(&mut self, stage: &'static str, text: impl FnOnce() -> String);
    /// Notes an instance that could be picked, or why it cannot.
    fn candidate(&mut self, candidate: impl FnOnce() -> Candidate);
}

/// Keeps nothing.
#[derive(Clone, Copy, Debug)]
pub struct Silent;

impl Trace for Silent {
    const KEEPS: bool = false;
    fn note(&mut self, _: &'static str, _: impl FnOnce() -> String) {}
    fn candidate(&mut self, _: impl FnOnce() -> Candidate) {}
}

/// One line of an explanation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    /// Which step: `client`, `place`, `entry`, `fence`, `order`, `region`, `candidate`, `balance`, `ttl`, `scope` …
    pub stage: Cow<'static, str>,
    /// What it did and why.
    pub text: String,
}

/// An instance of a region that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Which.
    pub instance: InstanceId,
    /// Its name, `eu-1`.
    pub name: String,
    /// The region's name.
    pub region: String,
    /// The family asked for.
    pub family: Family,
    /// `up`, `down`, `unknown`, `out` (by an override), `drained` (by its agent), `full` (at its `max-load`), `never` (weight 0),
    /// `no address` (of the family).
    pub state: &'static str,
    /// Its configured weight.
    pub weight: u32,
    /// What of it counts now, when that is less, in percent: it returns from a failure.
    pub ramp_percent: Option<u64>,
    /// What is to be said of it beside its health.
    pub remark: Option<Remark>,
}

impl Candidate {
    /// Whether its health has nothing to do with its state.
    fn is_apart_from_health(&self) -> bool {
        matches!(self.state, "never" | "no address")
    }

    /// `eu-1 up (weight 3)`.
    fn text(&self) -> String {
        let Candidate { name, state, weight, .. } = self;
        let ramp = self.ramp_percent.map_or(String::new(), |percent| format!(", {percent}% of it while it returns"));
        let remark = self.remark.map_or(String::new(), |remark| format!(", {}", remark.words()));
        match *state {
            "never" => format!("{name} never (weight 0)"),
            "no address" => format!("{name} has no {} address", self.family),
            "out" => format!("{name} is taken out by an override (weight {weight})"),
            "drained" => format!("{name} is drained by its agent (weight {weight})"),
            "full" => format!("{name} is at its max-load (weight {weight})"),
            _ => format!("{name} {state} (weight {weight}{ramp}{remark})"),
        }
    }
}

/// A [`Candidate`] with the reason of its state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Considered {
    /// `eu-1`.
    pub instance: String,
    /// `eu-west`.
    pub region: String,
    /// As [`Candidate::state`].
    pub state: String,
    /// Its configured weight.
    pub weight: u32,
    /// Why it is in that state, in words; empty where nobody knows.
    pub reason: String,
}

/// Why instances are in the state they are in, by family.
pub type Reasons = HashMap<(InstanceId, Family), String>;

/// Keeps all stages in order.
#[derive(Clone, Debug, Default)]
pub struct Recorded {
    /// In order.
    pub stages: Vec<Stage>,
    /// The instances that were looked at, in order.
    pub considered: Vec<Considered>,
    /// What is known of instances beside their verdicts.
    pub reasons: Reasons,
    /// The reason of those that have none there.
    pub otherwise: &'static str,
}

impl Recorded {
    /// Nothing yet; `reasons` are shown with the instances that are looked at.
    #[must_use]
    pub fn with(reasons: Reasons, otherwise: &'static str) -> Recorded {
        Recorded { reasons, otherwise, ..Recorded::default() }
    }
}

impl Trace for Recorded {
    const KEEPS: bool = true;

    fn note(&mut self, stage: &'static str, text: impl FnOnce() -> String) {
        self.stages.push(Stage { stage: stage.into(), text: text() });
    }

    fn candidate(&mut self, candidate: impl FnOnce() -> Candidate) {
        let candidate = candidate();
        let known = self.reasons.get(&(candidate.instance, candidate.family)).map_or(self.otherwise, |known| known);
        let reason = if candidate.is_apart_from_health() { "" } else { known }.to_string();
        let gap = if reason.is_empty() { "" } else { ": " };
        let text = format!("{}{gap}{reason}", candidate.text());
        self.stages.push(Stage { stage: "candidate".into(), text });
        let Candidate { name, region, state, weight, .. } = candidate;
        self.considered.push(Considered { instance: name, region, state: state.into(), weight, reason });
    }
}
