//! `waymark demo`: stub.
use clap::Args;
use super::End;
/// run
#[derive(Args, Debug)]
pub(super) struct Demo {}
impl Demo { pub(super) fn run(self) -> End { End::Done } }
