//! `waymark report`: an agent on the same machine says how an instance fares, for checks of type `push`.

use clap::Args;

use super::{ControlArg, End, output};
use crate::admin::client;
use crate::admin::push::Said;

/// Say how an instance fares, for checks of type `push`: each report is one observation
#[derive(Args, Debug)]
pub(super) struct Report {
    /// instance/POOL/NAME
    target: String,
    #[command(flatten)]
    health: Health,
    /// The check it is for, where the instance has several of type `push`
    #[arg(long, value_name = "NAME")]
    check: Option<String>,
    /// Why; shown wherever health is
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    #[command(flatten)]
    control: ControlArg,
}

/// One of the two.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct Health {
    /// It is healthy
    #[arg(long)]
    up: bool,
    /// It is not
    #[arg(long)]
    down: bool,
}

impl Report {
    pub(super) fn run(self) -> End {
        let Report { target, health, check, reason, control } = self;
        let said = Said { check, healthy: health.up, reason };
        let word = if health.up { "healthy" } else { "unhealthy" };
        control.ask(
            |socket| client::report(socket, &target, &said),
            |pushed| output::line(&format!("{}: reported {word} to check/{}", pushed.target, pushed.check)),
        )
    }
}
