//! `waymark report`: an agent on the same machine says how an instance fares, for checks of type `push`, and how loaded it
//! is.

use clap::Args;

use super::{ControlArg, End, output};
use crate::admin::client;
use crate::admin::push::Said;

/// Say how an instance fares, for checks of type `push`, or how loaded it is: each report is one observation
#[derive(Args, Debug)]
pub(super) struct Report {
    /// instance/POOL/NAME
    target: String,
    #[command(flatten)]
    what: What,
    /// The check it is for, where the instance has several of type `push`
    #[arg(long, value_name = "NAME", conflicts_with = "load")]
    check: Option<String>,
    /// Why; shown wherever health is
    #[arg(long, value_name = "TEXT", default_value = "", conflicts_with = "load")]
    reason: String,
    #[command(flatten)]
    control: ControlArg,
}

/// One of these.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct What {
    /// It is healthy
    #[arg(long)]
    up: bool,
    /// It is not
    #[arg(long)]
    down: bool,
    /// Its load, from 0, in the unit of its `capacity`
    #[arg(long, value_name = "NUMBER")]
    load: Option<f64>,
}

impl Report {
    pub(super) fn run(self) -> End {
        let Report { target, what, check, reason, control } = self;
        if let Some(load) = what.load {
            return control.ask(
                |socket| client::report_load(socket, &target, load),
                |_| output::line(&format!("{target}: reported a load of {load}")),
            );
        }
        let said = Said { check, healthy: what.up, reason };
        let word = if what.up { "healthy" } else { "unhealthy" };
        control.ask(
            |socket| client::report(socket, &target, &said),
            |pushed| output::line(&format!("{}: reported {word} to check/{}", pushed.target, pushed.check)),
        )
    }
}
