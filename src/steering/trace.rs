//! What a decision says of itself: `explain` records every stage, answering records nothing and pays nothing.

use serde::Serialize;

/// Takes the stages of a decision as it is made.
pub trait Trace {
    /// Notes a stage; the text is only made by traces that keep it.
    fn note(&mut self, stage: &'static str, text: impl FnOnce() -> String);
}

/// Keeps nothing.
#[derive(Clone, Copy, Debug)]
pub struct Silent;

impl Trace for Silent {
    fn note(&mut self, _: &'static str, _: impl FnOnce() -> String) {}
}

/// One line of an explanation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stage {
    /// Which step: `client`, `place`, `entry`, `fence`, `order`, `region`, `balance`, …
    pub stage: &'static str,
    /// What it did and why.
    pub text: String,
}

/// Keeps all stages in order.
#[derive(Clone, Debug, Default)]
pub struct Recorded(pub Vec<Stage>);

impl Trace for Recorded {
    fn note(&mut self, stage: &'static str, text: impl FnOnce() -> String) {
        self.0.push(Stage { stage, text: text() });
    }
}
