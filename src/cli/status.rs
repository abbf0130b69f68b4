//! `waymark status`: what a running server sees and serves.

use std::time::Duration;

use clap::Args;
use comfy_table::{Table, presets};

use super::{ControlArg, End, output, overrides};
use crate::admin::client;
use crate::control::status::{
    CheckStatus, EcsStatus, FamilyStatus, InstanceStatus, RegionStatus, Sender, ServiceStatus, Status as Shown,
};
use crate::time::unix_seconds;

/// Show services, regions and instances of the running server, with the health of each and its reason
#[derive(Args, Debug)]
pub(super) struct Status {
    #[command(flatten)]
    control: ControlArg,
    /// Print the status as JSON
    #[arg(long)]
    json: bool,
}

impl Status {
    pub(super) fn run(self) -> End {
        let socket = match self.control.socket() {
            Ok(socket) => socket,
            Err(end) => return end,
        };
        match client::status(&socket) {
            Err(problem) => {
                output::error(&format!("{}: {problem}", socket.display()));
                End::Failed
            }
            Ok(status) if self.json => {
                output::json(&status);
                End::Done
            }
            Ok(status) => {
                print(&status);
                End::Done
            }
        }
    }
}

fn print(status: &Shown) {
    let now = unix_seconds();
    output::line(&format!(
        "{}  waymark {}  up {}  configuration loaded {} ago  snapshot {}",
        status.node,
        status.version,
        span(status.uptime_s),
        span(now.saturating_sub(status.loaded_at)),
        status.serial,
    ));
    if !status.problems.is_empty() {
        output::line("\nThe last reload was refused; the configuration before it is still served:");
        status.problems.iter().for_each(|problem| output::line(problem.trim_end()));
    }
    if !status.warnings.is_empty() {
        output::line("\nThe last reload is served, but:");
        status.warnings.iter().for_each(|warning| output::line(warning));
    }
    for blind in &status.blind {
        let family = if blind.family == "ipv4" { "IPv4" } else { "IPv6" };
        output::line(&format!(
            "\nBLIND over {family} for {}: all canaries fail, and {} of {} targets; verdicts are frozen",
            span(now.saturating_sub(blind.since)),
            blind.failing,
            blind.targets,
        ));
    }
    for suspect in &status.suspects {
        let (check, left) = (&suspect.check, span(suspect.held_for_s));
        output::line(&format!(
            "\ncheck/{check} is suspect: all its targets fail at once; verdicts are held for {left}"
        ));
    }
    output::line(&format!("\n{}", services(status, now)));
    output::line(&format!("\n{}", instances(status, now)));
    if !status.canaries.is_empty() {
        output::line(&format!("\n{}", canaries(status)));
    }
    if !status.geo.is_empty() {
        output::line(&format!("\n{}", geo(status, now)));
    }
    if !status.secondaries.is_empty() {
        output::line(&format!("\n{}", secondaries(status, now)));
    }
    if status.ecs.with_subnet > 0 {
        output::line(&format!("\n{}", senders(&status.ecs)));
    }
    if !status.overrides.is_empty() {
        output::line(&format!("\n{}", overrides::list(&status.overrides)));
    }
}

fn gap(before: &str) -> &'static str {
    if before.is_empty() { "" } else { "; " }
}

/// Secondary zones.
fn secondaries(status: &Shown, now: u64) -> Table {
    let mut table = table(&["SECONDARY ZONE", "SERIAL", "CONFIRMED", "EXPIRES", "PRIMARY", ""]);
    for zone in &status.secondaries {
        let is_served = zone.serial.is_some();
        let age = zone.confirmed_at.map(|at| format!("{} ago", span(now.saturating_sub(at))));
        let left = zone.expires_at.filter(|_| is_served).map(|at| format!("in {}", span(at.saturating_sub(now))));
        table.add_row([
            format!("zone/{}", zone.zone),
            zone.serial.map_or("SERVFAIL".to_owned(), |serial| serial.to_string()),
            age.unwrap_or_else(|| "never".into()),
            left.unwrap_or_default(),
            zone.primary.clone().unwrap_or_default(),
            zone.problem.clone().unwrap_or_default(),
        ]);
    }
    table
}

/// Since when a region is latched out, in some family.
fn latched_since(region: &RegionStatus) -> Option<u64> {
    let families = [&region.ipv4, &region.ipv6];
    families.into_iter().flatten().filter_map(|family| family.latched_since).min()
}

fn services(status: &Shown, now: u64) -> Table {
    let mut table = table(&["SERVICE", "POOL", "REGION", "IPV4", "IPV6", ""]);
    for service in &status.services {
        let mut note = match &service.failing_open[..] {
            [] => String::new(),
            families => format!("ALL DOWN for some clients ({}): answering by when-all-down", families.join(", ")),
        };
        for region in &service.regions {
            if let Some(since) = latched_since(region) {
                let (service, region, since) = (&service.name, &region.region, span(now.saturating_sub(since)));
                note = format!("{note}{}out for {since} until `waymark resume {service} {region}`", gap(&note));
            }
            table.add_row([
                service_cell(service),
                service.pool.clone(),
                region_cell(region),
                family(region.ipv4.as_ref()),
                family(region.ipv6.as_ref()),
                std::mem::take(&mut note),
            ]);
        }
    }
    table
}

/// `service/www.example.com`, `service/www.example.com (drained)`.
fn service_cell(service: &ServiceStatus) -> String {
    match &*service.administrative {
        "" | "enabled" => format!("service/{}", service.name),
        state => format!("service/{} ({state})", service.name),
    }
}

/// `eu-west`, `eu-west (drained)`, `eu-west (weight 70%)`.
fn region_cell(region: &RegionStatus) -> String {
    match (&*region.administrative, region.weight_percent) {
        ("" | "enabled", 100..) => region.region.clone(),
        ("" | "enabled", percent) => format!("{} (weight {percent}%)", region.region),
        (state, _) => format!("{} ({state})", region.region),
    }
}

/// `enabled`, `drained`, `enabled 50%`, `forced-up 50%`.
fn operator_cell(instance: &InstanceStatus, now: u64) -> String {
    let state = match instance.weight_percent {
        100 => instance.administrative.clone(),
        percent => format!("{} {percent}%", instance.administrative),
    };
    match instance.answers_expire_at {
        Some(at) => format!("{state}; {}", overrides::expiry(at, now)),
        None => state,
    }
}

fn family(family: Option<&FamilyStatus>) -> String {
    let Some(family) = family else { return "-".into() };
    let word = match family.share {
        _ if family.latched_since.is_some() && family.available => "latched out".into(),
        _ if family.latched_since.is_some() => "unavailable, latched out".into(),
        _ if !family.available => "unavailable".into(),
        share if share <= 0.0 => "waiting".into(),
        share if share < 1.0 => {
            format!("{} {:.0}%", if family.returning { "returning" } else { "overflowing" }, share * 100.0)
        }
        _ => "available".into(),
    };
    format!("{word} {}/{}", family.eligible_weight, family.allowed_weight)
}

/// `345 of 800`, `700 of 800 (at max-load)`, `agent 75%`, `10 of 100 (new); drained by its agent`.
fn load_cell(instance: &InstanceStatus) -> String {
    let load = instance.load.as_ref().map(|load| {
        let remark = match () {
            () if load.expired => format!(" ({} ago: too old)", span(load.age_s)),
            () if load.at_max_load => " (at max-load)".into(),
            () if load.new => " (new)".into(),
            () => String::new(),
        };
        format!("{} of {}{remark}", rounded(load.load), rounded(load.capacity))
    });
    let agent = instance.agent_percent.map(|percent| match percent {
        0 => "drained by its agent".into(),
        percent => format!("agent {percent}%"),
    });
    let all: Vec<String> = load.into_iter().chain(agent).collect();
    if all.is_empty() { "-".into() } else { all.join("; ") }
}

/// In three places at most.
fn rounded(number: f64) -> f64 {
    (number * 1e3).round() / 1e3
}

/// The load has a column where some instance reports one.
fn instances(status: &Shown, now: u64) -> Table {
    let mut head =
        vec!["INSTANCE", "REGION", "WEIGHT", "OPERATOR", "ADDRESS", "HEALTH", "CHECK", "SINCE", "LAST PROBE"];
    let mut all = status.pools.iter().flat_map(|pool| &pool.instances);
    let is_reported = all.any(|instance| instance.load.is_some() || instance.agent_percent.is_some());
    if is_reported {
        head.insert(4, "LOAD");
    }
    let mut table = table(&head);
    for pool in &status.pools {
        for instance in &pool.instances {
            let head = |address: String, health: String| -> Vec<String> {
                let load = is_reported.then(|| load_cell(instance));
                let head = [
                    format!("instance/{}/{}", pool.name, instance.name),
                    instance.regions.join(" "),
                    instance.weight.to_string(),
                    operator_cell(instance, now),
                ];
                head.into_iter().chain(load).chain([address, health]).collect()
            };
            if let (Some(target), []) = (&instance.target, &instance.addresses[..]) {
                let head = head(target.clone(), "-".into()).into_iter();
                table.add_row(head.chain(["-".into(), "-".into(), "no address of it is known".into()]));
            }
            for address in &instance.addresses {
                let of_target = instance.target.as_ref().map_or(String::new(), |target| format!(" ({target})"));
                let health = format!("{}{}", address.verdict, if instance.frozen { " (frozen)" } else { "" });
                let head = head(format!("{}{of_target}", address.address), health);
                if address.checks.is_empty() {
                    table.add_row(head.iter().cloned().chain(["-".into(), "-".into(), "no check: always up".into()]));
                }
                for check in &address.checks {
                    table.add_row(head.iter().cloned().chain(check_cells(check, now)));
                }
            }
        }
    }
    table
}

fn canaries(status: &Shown) -> Table {
    let mut table = table(&["CANARY", "TARGET", "PASSES", "LAST PROBE"]);
    for canary in &status.canaries {
        table.add_row([
            format!("check/{}", canary.check),
            canary.target.clone(),
            if canary.passes { "yes" } else { "no" }.into(),
            format!("{} ({:.1} ms)", canary.reason, canary.took_ms),
        ]);
    }
    table
}

fn geo(status: &Shown, now: u64) -> Table {
    let mut table = table(&["GEO FILE", "TYPE", "NETWORKS", "BUILT", "READ", ""]);
    for file in &status.geo {
        let ago = |at: u64| format!("{} ago", span(now.saturating_sub(at)));
        let note = file.refused.as_ref().map(|reason| format!("NOT TAKEN as it is now: {}", reason.trim_end()));
        table.add_row([
            file.file.clone(),
            file.kind.clone(),
            file.networks.to_string(),
            file.built_at.map_or("-".into(), ago),
            ago(file.loaded_at),
            note.unwrap_or_default(),
        ]);
    }
    table
}

/// Most networks of resolvers that are shown; `--json` has more.
const MOST_SENDERS: usize = 5;

/// How many queries carry a client subnet, and who sends them.
fn senders(ecs: &EcsStatus) -> String {
    let EcsStatus { queries, with_subnet, senders } = ecs;
    let share = *with_subnet as f64 / (*queries).max(1) as f64;
    let mut text = format!(" ECS: {with_subnet} of {queries} queries ({}) carry a client subnet", percent(share));
    if !senders.is_empty() {
        let named = |sender: &Sender| format!("{} {}", sender.network, percent(sender.share));
        let named: Vec<String> = senders.iter().take(MOST_SENDERS).map(named).collect();
        text.push_str(&format!("; of a sample: {}", named.join(", ")));
    }
    text
}

fn percent(share: f64) -> String {
    format!("{:.1}%", share * 100.0)
}

fn check_cells(check: &CheckStatus, now: u64) -> [String; 3] {
    let stale = if check.stale { " (stale)" } else { "" };
    let held = if check.held_for_s > 0 { format!(" (held {} more)", span(check.held_for_s)) } else { String::new() };
    [
        format!("{} {}{stale}{held}", check.check, check.verdict),
        span(now.saturating_sub(check.since)),
        format!("{} ({:.1} ms)", check.reason, check.took_ms),
    ]
}

pub(super) fn table(head: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(head.iter().copied());
    table
}

/// `3d4h`, `2m5s`, `7s`.
pub(super) fn span(seconds: u64) -> String {
    let parts = [(86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")];
    let mut left = Duration::from_secs(seconds).as_secs();
    let mut text = String::new();
    let mut shown = 0;
    for (size, unit) in parts {
        let count = left / size;
        left %= size;
        if count > 0 && shown < 2 {
            text.push_str(&format!("{count}{unit}"));
            shown += 1;
        }
    }
    if text.is_empty() { "0s".into() } else { text }
}
