//! `waymark demo`: stub.
use super::End;
use clap::Args;
/// run
#[derive(Args, Debug)]
pub(super) struct Demo {}
impl Demo {
    pub(super) fn run(self) -> End {
        End::Done
    }
}
