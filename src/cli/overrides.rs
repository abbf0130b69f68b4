//! `waymark drain | enable | force-up | force-down | weight | freeze | resume | overrides`: what the operator says beside the checks
//! (SPEC 8.2).

use std::time::Duration;

use clap::Args;
use comfy_table::Table;

use super::status::{span, table};
use super::{ControlArg, End, output};
use crate::admin::client;
use crate::admin::overrides::Wanted;
use crate::config;
use crate::control::latches::Latch;
use crate::control::overrides::Left;
use crate::control::overrides::percent;
use crate::control::{Action, Applied, Override, ShownOverride, Wish};
use crate::time::unix_seconds;

/// Most instances named in the answer of a command.
const MOST_NAMED: usize = 10;

/// What an order says beside its action.
#[derive(Args, Debug)]
pub(super) struct Order {
    /// instance/POOL/NAME, pool/NAME, region/NAME or service/NAME; * stands for any characters of a name
    target: String,
    #[command(flatten)]
    manner: Manner,
}

/// How an order is given.
#[derive(Args, Debug)]
struct Manner {
    /// How long: 30m, 2h, 1d12h; without it, until it is ended
    #[arg(long = "for", value_name = "TIME", value_parser = time)]
    lasts: Option<Duration>,
    /// Why; shown wherever the override is
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    /// Also when it takes the last available region or instance of a service, or names nothing yet
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    control: ControlArg,
    /// Print what was done as JSON
    #[arg(long)]
    json: bool,
}

/// What `waymark weight` says.
#[derive(Args, Debug)]
pub(super) struct Weight {
    /// instance/POOL/NAME or region/NAME; * stands for any characters of a name
    target: String,
    /// Of an instance: how much of its configured weight, from 0% (nothing) to 1000%. Of a region: how many of the clients
    /// whose first choice it is begin there, from 0% to 100%; the others begin at their next region
    #[arg(value_name = "SHARE", value_parser = percent)]
    share: u16,
    #[command(flatten)]
    manner: Manner,
}

/// What `waymark freeze` says.
#[derive(Args, Debug)]
pub(super) struct Freeze {
    /// all, instance/POOL/NAME, pool/NAME, region/NAME or service/NAME (the instances of its pool); * stands for any characters of a name
    target: String,
    #[command(flatten)]
    manner: Manner,
}

/// What `waymark resume` says.
#[derive(Args, Debug)]
pub(super) struct Resume {
    /// As it was typed to be frozen; all ends every freeze. With a REGION: a service
    #[arg(default_value = "all")]
    target: String,
    /// A region that is latched out of the service, so that it serves again; * stands for any characters of a name
    region: Option<String>,
    #[command(flatten)]
    control: ControlArg,
    /// Print what was done as JSON
    #[arg(long)]
    json: bool,
}

/// What `waymark overrides` says.
#[derive(Args, Debug)]
pub(super) struct Overrides {
    /// End the overrides whose target was typed exactly so
    #[arg(long, value_name = "TARGET")]
    remove: Option<String>,
    /// With --remove: also when it takes the last available region or instance of a service
    #[arg(long, requires = "remove")]
    force: bool,
    #[command(flatten)]
    control: ControlArg,
    /// Print them as JSON
    #[arg(long)]
    json: bool,
}

fn time(text: &str) -> Result<Duration, String> {
    let time = config::duration(text).filter(|time| time.subsec_millis() == 0);
    time.ok_or_else(|| format!("{text:?} is no time in whole seconds, as 30m, 2h, 1d12h"))
}

impl Order {
    /// Gives the order.
    pub(super) fn run(self, action: Action) -> End {
        self.manner.give(self.target, action)
    }
}

impl Weight {
    pub(super) fn run(self) -> End {
        self.manner.give(self.target, Action::Weight(self.share))
    }
}

impl Freeze {
    pub(super) fn run(self) -> End {
        self.manner.give(self.target, Action::Freeze)
    }
}

impl Resume {
    pub(super) fn run(self) -> End {
        let Resume { target, region, control, json } = self;
        match region {
            None => control.end(&target, &[("only", "freeze")], json),
            Some(region) => {
                let name = target.strip_prefix("service/").unwrap_or(&target);
                control.end(&format!("service/{name}"), &[("only", "latch"), ("region", &region)], json)
            }
        }
    }
}

impl Manner {
    fn give(self, target: String, action: Action) -> End {
        let Manner { lasts, reason, force, control, json } = self;
        let wish = Wish { target, action, who: String::new(), why: reason, lasts };
        if let Err(problem) = wish.check() {
            output::error(&problem);
            return End::Wrong;
        }
        let Wish { target, action, why: reason, .. } = wish;
        let wanted =
            Wanted { target, action, reason, for_s: lasts.map(|lasts| lasts.as_secs()), force, who: on_behalf() };
        control.ask(|socket| client::set_override(socket, &wanted), |applied| show(&wanted, applied, json))
    }
}

/// Who uses sudo.
fn on_behalf() -> Option<String> {
    std::env::var("SUDO_USER").ok().filter(|user| !user.is_empty())
}

fn show(wanted: &Wanted, applied: &Applied, json: bool) {
    if json {
        return output::json(applied);
    }
    let lasts = wanted.for_s.map_or(String::new(), |seconds| format!(" for {}", span(seconds)));
    output::line(&format!("{} {}{lasts}: {}", wanted.action, wanted.target, named(&wanted.target, &applied.instances)));
    for of in &applied.held_by {
        output::line(&format!("some stay out, by another level: {of}"));
    }
    if let Some(seconds) = applied.caches_hold_s {
        output::line(&format!("caches may hand out answers of before for {} more", span(seconds.into())));
    }
    lost(applied);
    doubt(applied);
}

fn doubt(applied: &Applied) {
    if let Some(why) = &applied.not_durable {
        output::line(&format!("in force, but a loss of power may undo it: {why}"));
    }
}

/// `2 instances: web/eu-1 web/eu-2`.
fn named(target: &str, instances: &[String]) -> String {
    let shown: Vec<&str> = instances.iter().take(MOST_NAMED).map(String::as_str).collect();
    let more = if instances.len() > shown.len() { " …" } else { "" };
    match instances.len() {
        0 if target.starts_with("service/") => "no service now, those that will be named so".into(),
        0 => "no instance now, those that will be named so".into(),
        count => format!("{}: {}{more}", output::count(count, "instance"), shown.join(" ")),
    }
}

fn lost(applied: &Applied) {
    for service in &applied.lost {
        output::line(&format!("service/{service} has lost its last region or instance, for some clients at least"));
    }
}

impl Overrides {
    pub(super) fn run(self) -> End {
        let Overrides { remove, force, control, json } = self;
        match remove {
            None => control.ask(client::overrides, |listed| match json {
                true => output::json(listed),
                false => print(&listed.overrides),
            }),
            Some(target) => control.end(&target, &[("force", if force { "true" } else { "false" })], json),
        }
    }
}

fn print(overrides: &[ShownOverride]) {
    if overrides.is_empty() {
        return output::line("no overrides: checks decide");
    }
    output::line(&list(overrides).to_string());
}

fn ended(applied: &Applied) {
    applied.ended.iter().for_each(|of| output::line(&format!("ended: {of}")));
    for Latch { service, region, ipv6, .. } in &applied.resumed {
        let family = if *ipv6 { "IPv6" } else { "IPv4" };
        output::line(&format!("resumed: region/{region} serves service/{service} again ({family}), by region-ramp"));
    }
    lost(applied);
    doubt(applied);
}

/// A table of overrides, oldest first.
pub(super) fn list(overrides: &[ShownOverride]) -> Table {
    let now = unix_seconds();
    let mut table = table(&["OVERRIDE", "ACTION", "BY", "SINCE", "LEFT", "REASON", "STATE"]);
    for ShownOverride { of, left: rest } in overrides {
        let left = of.until.map_or_else(|| "no end".into(), |until| span(until.saturating_sub(now)));
        let since = span(now.saturating_sub(of.since));
        let why = if of.why.is_empty() { "-".into() } else { of.why.clone() };
        table.add_row([
            of.target.clone(),
            of.action.to_string(),
            of.who.clone(),
            since,
            left,
            why,
            state(of, rest.as_ref(), now),
        ]);
    }
    table
}

/// `drained; last answers expire 14:03:05Z (in 25s)`.
fn state(of: &Override, left: Option<&Left>, now: u64) -> String {
    let Some(Left { expire_at, still_given }) = left else { return "-".into() };
    let word = match of.action {
        Action::Weight(_) => of.action.to_string(),
        action => action.said().state.word().into(),
    };
    let mut text = format!("{word}; {}", expiry(*expire_at, now));
    if !still_given.is_empty() {
        text.push_str(&format!("; still given out: {}", still_given.join("; ")));
    }
    text
}

/// `last answers expire 14:03:05Z (in 25s)`.
pub(super) fn expiry(at: u64, now: u64) -> String {
    match at.checked_sub(now) {
        None | Some(0) => "last answers have expired".into(),
        Some(left) => format!("last answers expire {} (in {})", clock(at), span(left)),
    }
}

/// The time of day, in UTC.
fn clock(unix: u64) -> String {
    let of_day = unix % 86_400;
    format!("{:02}:{:02}:{:02}Z", of_day / 3600, of_day / 60 % 60, of_day % 60)
}

impl ControlArg {
    /// Has overrides of a target ended, and shows which.
    fn end(&self, target: &str, manner: &[(&str, &str)], json: bool) -> End {
        let who = on_behalf();
        let who = who.iter().map(|who| ("who", who.as_str()));
        let manner: Vec<(&str, &str)> = manner.iter().copied().chain(who).collect();
        self.ask(
            |socket| client::end_override(socket, target, &manner),
            |applied| if json { output::json(applied) } else { ended(applied) },
        )
    }
}
