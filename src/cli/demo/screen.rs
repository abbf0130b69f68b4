//! What the demo shows: tables of health and answers, lines to paste, help.

use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};

use comfy_table::{Table, presets};

use super::Ports;
use super::backends::Backends;
use super::scratch::Scratch;
use super::sight::{Eyes, Sight, WATCHED};
use super::site::Site;
use crate::cli::output;

/// Queries behind the shares that `show` prints.
const QUERIES: u32 = 100;
/// Queries in a row that show a rotation.
const IN_A_ROW: u32 = 10;

/// What `help` says, and the welcome.
const COMMANDS: [(&str, &str); 6] = [
    ("kill eu-1", "close a backend; also a region (`kill eu-west`), several, or `all`"),
    ("revive eu-1", "start it again; `revive all`"),
    ("show", "health, and who is answered what now"),
    ("try", "lines to paste into another terminal"),
    ("help", "this"),
    ("quit", "end the demo; so does Ctrl-C"),
];

/// The first line.
pub(super) fn welcome(site: &Site, ports: Ports) {
    output::line(&format!(
        "Waymark demo: {} live HTTP backends in {} regions, and a DNS server for them on 127.0.0.1 port {}.\n\
         All of it is on loopback, IPv4 only as IPv6 has a single loopback address; nothing leaves this machine.",
        site.instances.len(),
        site.regions().len(),
        ports.dns,
    ));
}

pub(super) fn help() {
    output::line("\nType here:");
    for (command, meaning) in COMMANDS {
        output::line(&format!("  {command:12} {meaning}"));
    }
}

/// Where everything is and how it is.
pub(super) fn health(site: &Site, backends: &Backends, sight: &Sight) {
    let mut table = table(&["REGION", "INSTANCE", "WEIGHT", "BACKEND", "IT IS", "ITS CHECK SAYS"]);
    for (index, (placed, health)) in site.instances.iter().zip(&sight.health).enumerate() {
        table.add_row([
            placed.region.clone(),
            placed.name.clone(),
            placed.weight.to_string(),
            format!("http://{}/", placed.address),
            if backends.is_alive(index) { "alive".into() } else { "killed".into() },
            format!("{}: {}", health.verdict, health.reason),
        ]);
    }
    print(&table);
}

/// Who is answered what, found out by asking.
pub(super) async fn answers(eyes: &mut Eyes) {
    let mut table = table(&["CLIENTS IN", "PLACE", "www (geo, weighted)", "near (nearest, sticky)"]);
    for client in eyes.clients.clone() {
        let www = eyes.sample(WATCHED, client.prefix, QUERIES).await;
        let near = eyes.sample("near.gslb.example.com.", client.prefix, IN_A_ROW).await;
        table.add_row([
            client.prefix.to_string(),
            client.place.into(),
            shares(&eyes.site, &www),
            eyes.site.describe(&near.into_keys().collect::<Vec<_>>()),
        ]);
    }
    print(&table);
    let Some(anyone) = eyes.clients.first().map(|client| client.prefix) else { return };
    output::line("");
    let turns = eyes.in_turn("rr.gslb.example.com.", anyone, IN_A_ROW).await;
    output::line(&format!("rr (any region, round-robin), {IN_A_ROW} queries in a row: {}", names(&eyes.site, &turns)));
    let all = eyes.in_turn("dr.gslb.example.com.", anyone, 1).await;
    output::line(&format!("dr (failover us-east, eu-west), all addresses in one answer: {}", names(&eyes.site, &all)));
}

/// `eu-west (eu-1 76%, eu-2 24%)`.
fn shares(site: &Site, counts: &BTreeMap<usize, u32>) -> String {
    let total: u32 = counts.values().sum();
    let share = |(&index, &count): (&usize, &u32)| {
        let placed = &site.instances[index];
        (placed.region.as_str(), format!("{} {}%", placed.name, count * 100 / total.max(1)))
    };
    match counts.len() {
        0 | 1 => site.describe(&counts.keys().copied().collect::<Vec<_>>()),
        _ => {
            let shares: Vec<_> = counts.iter().map(share).collect();
            let mut regions: Vec<&str> = shares.iter().map(|(region, _)| *region).collect();
            regions.dedup();
            let of = |region: &&str| {
                let names: Vec<&str> =
                    shares.iter().filter(|(of, _)| of == region).map(|(_, text)| text.as_str()).collect();
                format!("{region} ({})", names.join(", "))
            };
            regions.iter().map(of).collect::<Vec<_>>().join(" + ")
        }
    }
}

fn names(site: &Site, instances: &[usize]) -> String {
    let names: Vec<&str> = instances.iter().map(|&index| site.instances[index].name.as_str()).collect();
    if names.is_empty() { "nothing".into() } else { names.join(" ") }
}

/// Lines to paste into another terminal; each works as it stands.
#[derive(Clone, Debug)]
pub(super) struct Tries(Vec<(String, String)>);

impl Tries {
    pub(super) fn new(ports: Ports, scratch: &Scratch) -> Tries {
        let dig = format!("dig @127.0.0.1 -p {}", ports.dns);
        let www = |subnet: &str| format!("{dig} www.gslb.example.com +subnet={subnet} +short");
        let program = shell(&program());
        let config = shell(&scratch.config());
        let control = shell(&crate::admin::control_socket(&scratch.state_dir()));
        let explain = format!("{program} explain www.gslb.example.com --client 203.0.113.0/24 --config {config}");
        let reload = format!("its configuration; `kill -HUP {}` reloads it after an edit", std::process::id());
        let lines = [
            (www("203.0.113.0/24"), "a client in Germany: eu-west, 3 of 4 times eu-1"),
            (www("192.0.2.0/24"), "in New York: us-east"),
            (www("198.51.100.0/24"), "in India: ap-south"),
            (
                format!("{dig} alias.gslb.example.com"),
                "a static CNAME to www, followed; your place is unknown: us-east",
            ),
            (format!("curl -s http://$({}):{}/", www("203.0.113.0/24"), ports.backend), "all the way to a backend"),
            (explain.clone(), "why it is answered so"),
            (format!("{explain} --down region/eu-west"), "and what if a region failed"),
            (format!("{program} status --control {control}"), "health and regions of the running server"),
            (
                format!("curl -s http://127.0.0.1:{}/v1/status", ports.admin),
                "the same as JSON; /metrics for Prometheus",
            ),
            (format!("cat {config}"), reload.as_str()),
        ];
        Tries(lines.map(|(line, meaning)| (line, meaning.to_string())).into())
    }

    pub(super) fn show(&self) {
        output::line("\nTry in another terminal:");
        for (line, meaning) in &self.0 {
            output::line(&format!("  # {meaning}\n  {line}"));
        }
    }
}

/// This program as the user can call it: relative to the current folder where it lies below.
fn program() -> PathBuf {
    let program = env::current_exe().unwrap_or_else(|_| "waymark".into());
    let below = env::current_dir().ok().and_then(|here| program.strip_prefix(here).ok().map(Path::to_path_buf));
    below.filter(|path| path.components().count() > 1).unwrap_or(program)
}

/// A path as a shell takes it.
fn shell(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

fn table(head: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(head.iter().copied());
    table
}

/// Without the spaces that fill the last column.
fn print(table: &Table) {
    output::line(&format!("\n{}", table.trim_fmt()));
}

#[cfg(test)]
mod tests {
    use super::super::site::tests::site;
    use super::*;

    #[test]
    fn shares_of_a_region() {
        let site = site();
        assert_eq!(shares(&site, &BTreeMap::from([(0, 75), (1, 25)])), "eu-west (eu-1 75%, eu-2 25%)");
        assert_eq!(shares(&site, &BTreeMap::from([(0, 1), (2, 1)])), "eu-west (eu-1 50%) + us-east (us-1 50%)");
        assert_eq!(shares(&site, &BTreeMap::from([(2, 9)])), "us-east (us-1)");
        assert_eq!(shares(&site, &BTreeMap::new()), "nothing");
    }

    #[test]
    fn paths_for_a_shell() {
        for (path, shown) in [
            ("/tmp/waymark-demo-1/state", "/tmp/waymark-demo-1/state"),
            ("/tmp/my files/a", "'/tmp/my files/a'"),
            ("/tmp/it's", r"'/tmp/it'\''s'"),
        ] {
            assert_eq!(shell(Path::new(path)), shown);
        }
    }
}
