//! What the documents say is true: samples load, commands and flags exist, printed output is what comes, metrics are
//! scraped; and the configuration and zone that come with Waymark are good.
//!
//! Fences of the README: `toml complete` is a whole configuration, `toml` a piece that [`FRAME`] completes. In a `console`
//! block the output of `$ waymark check` and `$ waymark explain` is compared; what needs a running server is not.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use waymark::config;
use waymark::control::{World, explain};
use waymark::problem::render;

use crate::support;

/// What stands around a piece of a configuration, table by table: those that the piece has itself are left out.
const FRAME: &[(&str, &str)] = &[
    ("[zones.\"gslb.example.com\"]", "file = \"../zones/gslb.example.com.zone\""),
    ("[geo]", "networks = \"networks.toml\""),
    ("[regions.eu-west]", "location = { latitude = 53.3, longitude = -6.3 }"),
    ("[regions.us-east]", "location = { latitude = 38.9, longitude = -77.0 }"),
    ("[regions.ap-southeast]", "location = { latitude = 1.3, longitude = 103.8 }"),
    ("[maps.world]", "default = [\"us-east\", \"*\"]\n\"continent:EU\" = [\"eu-west\", \"*\"]"),
    ("[checks.web]", "type = \"tcp\"\nport = 443"),
    ("[pools.web]", "check = \"web\""),
    (
        "[pools.web.instances]",
        "eu-1 = { region = \"eu-west\", address = \"192.0.2.11\" }\n\
         eu-2 = { region = \"eu-west\", address = \"192.0.2.12\" }\n\
         us-1 = { region = \"us-east\", address = \"198.51.100.11\" }\n\
         us-2 = { region = \"us-east\", address = \"198.51.100.12\" }\n\
         ap-1 = { region = \"ap-southeast\", address = \"203.0.113.11\" }",
    ),
    ("[services.\"www.gslb.example.com\"]", "pool = \"web\"\nsteer = \"geo\"\nmap = \"world\""),
];

/// A fenced block: what stands behind the opening fence, the number of its line, the text.
struct Block {
    kind: String,
    line: usize,
    text: String,
}

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect("a file of the repository")
}

fn blocks(text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut is_open = false;
    for (index, line) in text.lines().enumerate() {
        match (line.strip_prefix("```"), is_open) {
            (Some(kind), false) => blocks.push(Block { kind: kind.to_string(), line: index + 1, text: String::new() }),
            (None, true) => {
                let block = blocks.last_mut().expect("a block is open");
                block.text.push_str(line);
                block.text.push('\n');
            }
            (Some(_), true) | (None, false) => {}
        }
        is_open ^= line.starts_with("```");
    }
    assert!(!is_open, "the last fence is not closed");
    blocks
}

/// What is wrong with the configuration at `path`; empty when it loads without a warning and its tests pass.
fn complaints(path: &Path) -> String {
    let config::Loaded { configuration, problems, sources } = config::load(path);
    let mut complaints = render(&problems, &sources, false);
    if let Some(configuration) = configuration {
        complaints.push_str(&explain::failed_tests(&World::compile(configuration)).join("\n"));
    }
    complaints
}

/// A folder that looks like this repository, with `text` as its configuration.
fn complaints_of(text: &str) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, text).expect("a file");
    };
    write("config/waymark.toml", text);
    write("config/networks.toml", &read("config/networks.toml"));
    write("config/services/mail.toml", "[services.\"imap.gslb.example.com\"]\npool = \"web\"\n");
    write("zones/gslb.example.com.zone", &read("zones/gslb.example.com.zone"));
    let issued = support::tls::Authority::new().issue(2020, 2100);
    issued.write(&folder.path().join("config/cert.pem"), &folder.path().join("config/key.pem"));
    complaints(&folder.path().join("config/waymark.toml"))
}

fn framed(piece: &str) -> String {
    let mut text = piece.to_string();
    for (header, body) in FRAME.iter().filter(|(header, _)| !piece.lines().any(|line| line.starts_with(header))) {
        text.push_str(&format!("\n{header}\n{body}\n"));
    }
    text
}

#[test]
fn samples_load() {
    let mut count = 0;
    for Block { kind, line, text } in blocks(&read("README.md")) {
        let complaints = match kind.as_str() {
            "toml complete" => complaints_of(&text),
            "toml" => complaints_of(&framed(&text)),
            _ => continue,
        };
        assert_eq!(complaints, "", "README.md:{line}");
        count += 1;
    }
    assert!(count > 5, "the samples were found");
    assert_eq!(complaints_of(&framed("")), "", "the frame");
}

#[test]
fn the_configuration_that_comes_with_it_is_good() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/waymark.toml");
    assert_eq!(complaints(&path), "");
    let tests = config::load(&path).configuration.expect("it loads").tests.len();
    assert!(tests > 5, "it shows how to write tests");
}

#[test]
fn zones_parse() {
    let mut count = 0;
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("zones")).expect("the folder") {
        let path = entry.expect("an entry").path();
        let config::LoadedZone { records, problems, sources, .. } = config::load_zone(&path, None, None);
        assert_eq!(render(&problems, &sources, false), "");
        assert!(!records.is_empty());
        count += 1;
    }
    assert!(count > 0, "a zone");
}

/// Everything that is to be typed as `waymark …`: in `sh` and `console` blocks and in `code` of the running text.
fn commands(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for block in blocks(text).iter().filter(|block| ["sh", "console"].contains(&block.kind.as_str())) {
        found.extend(block.text.lines().map(|line| line.trim_start_matches("$ ").to_string()));
    }
    let mut prose = String::new();
    let mut is_block = false;
    for line in text.lines() {
        let is_fence = line.starts_with("```");
        is_block ^= is_fence;
        if !is_block && !is_fence {
            prose.push_str(line);
            prose.push('\n');
        }
    }
    found.extend(prose.split('`').skip(1).step_by(2).map(|code| code.replace('\n', " ")));
    let typed = |line: String| -> Option<String> {
        let line = line.replace("cargo run --release -- ", "waymark ").replace("cargo run -- ", "waymark ");
        let line = line.split(" #").next().unwrap_or_default().trim();
        line.starts_with("waymark ").then(|| line.to_string())
    };
    found.into_iter().filter_map(typed).collect()
}

/// The help of a command, and of the command inside it that `next` names.
fn help(command: &str, next: Option<&str>) -> String {
    let of = |words: &[&str]| {
        let output = support::waymark().args(words).arg("--help").output().expect("the program runs");
        assert!(output.status.success(), "waymark {words:?} --help");
        String::from_utf8(output.stdout).expect("text")
    };
    let outer = of(&[command]);
    let inside = next.filter(|next| outer.contains(&format!("\n  {next} ")));
    outer.clone() + &inside.map_or_else(String::new, |inside| of(&[command, inside]))
}

#[test]
fn commands_and_flags_exist() {
    let mut seen = BTreeSet::new();
    for document in ["README.md", "ARCHITECTURE.md", "CHANGELOG.md"] {
        for line in commands(&read(document)) {
            let mut words = line.split_whitespace().skip(1);
            let command = words.next().expect("a command");
            let help = help(command, words.clone().next());
            for flag in words.filter(|word| word.starts_with("--")) {
                assert!(help.contains(flag), "{document}: `{line}`: no {flag}");
            }
            seen.insert(command.to_string());
        }
    }
    for command in ["run", "demo", "check", "explain", "status", "history"] {
        assert!(seen.contains(command), "the documents show `waymark {command}`");
    }
}

#[test]
fn the_health_check_of_the_image_exists() {
    let text = read("Dockerfile");
    let words = text.lines().find_map(|line| line.trim().strip_prefix("CMD [").filter(|line| line.contains("status")));
    let words: Vec<&str> = words.expect("a health check").trim_end_matches(']').split('"').skip(1).step_by(2).collect();
    let help = help(words[1], None);
    assert!(words[2..].iter().filter(|word| word.starts_with("--")).all(|flag| help.contains(flag)), "{words:?}");
}

/// Name and file of each bench.
fn benches() -> Vec<(String, String)> {
    let manifest: toml::Table = read("Cargo.toml").parse().expect("TOML");
    let name_and_file = |bench: &toml::Value| {
        let name = bench["name"].as_str().expect("a name").to_string();
        let file = bench.get("path").and_then(toml::Value::as_str).map(str::to_string);
        let file = file.unwrap_or_else(|| format!("benches/{name}.rs"));
        (name, file)
    };
    manifest["bench"].as_array().expect("benches").iter().map(name_and_file).collect()
}

#[test]
fn the_image_has_a_placeholder_for_every_bench() {
    let dockerfile = read("Dockerfile");
    for (_, file) in benches() {
        assert!(dockerfile.contains(&format!(" {file} ")), "Dockerfile: no placeholder for {file}");
    }
}

#[test]
fn benches_exist() {
    let benches = benches();
    for document in ["README.md", "ARCHITECTURE.md", ".ci/run"] {
        let text = read(document);
        let named = text.split("cargo bench").skip(1).filter_map(|rest| rest.lines().next()?.split_once("--bench "));
        let names: Vec<&str> =
            named.filter_map(|(_, rest)| rest.split(|c: char| !c.is_ascii_alphanumeric()).next()).collect();
        for name in &names {
            assert!(benches.iter().any(|(bench, _)| bench == name), "{document}: no bench {name}");
        }
        assert!(!names.is_empty(), "{document} names a bench");
    }
}

#[test]
fn the_runner_to_install_is_that_of_the_benches() {
    let lock: toml::Table = read("Cargo.lock").parse().expect("TOML");
    let mut packages = lock["package"].as_array().expect("packages").iter();
    let gungraun = packages.find(|package| package["name"].as_str() == Some("gungraun")).expect("a dependency");
    let version = gungraun["version"].as_str().expect("a version");
    let command = format!("cargo install --locked gungraun-runner --version {version} ");
    assert!(read("README.md").contains(&command), "README.md: {command}");
}

#[test]
fn printed_output_is_what_comes() {
    let mut count = 0;
    for Block { text, line, .. } in blocks(&read("README.md")).iter().filter(|block| block.kind == "console") {
        for session in text.split("$ ").skip(1) {
            let (command, expected) = session.split_once('\n').expect("a line");
            let mut words = command.split_whitespace();
            let is_offline = words.next() == Some("waymark")
                && ["check", "explain", "geo", "zone"].contains(&words.clone().next().unwrap_or(""));
            if !is_offline || expected.trim().is_empty() || command.contains("--config") {
                continue;
            }
            let mut program = support::waymark();
            program.args(words).current_dir(env!("CARGO_MANIFEST_DIR")).env_remove("WAYMARK_CONFIG");
            let output = program.output().expect("the program runs");
            let printed = String::from_utf8([output.stderr, output.stdout].concat()).expect("text");
            assert_eq!(printed.trim_end(), expected.trim_end(), "README.md:{line}: {command}");
            count += 1;
        }
    }
    assert!(count > 2, "the sessions were found");
}

#[test]
fn metrics_are_scraped() {
    let scrape = read("src/admin/metrics.rs");
    let readme = read("README.md");
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let names: BTreeSet<&str> = readme
        .split(|c| !is_part(c))
        .filter_map(|word| word.strip_prefix("waymark_"))
        .filter(|word| !word.is_empty())
        .collect();
    for name in &names {
        let bare = name.trim_end_matches("_total");
        assert!(scrape.contains(&format!("\"{bare}\"")), "README.md names waymark_{name}, which is not scraped");
        let is = |kind: &str| scrape.contains(&format!("{kind}(encoder, \"{bare}\""));
        let is_counter = !is("gauge") && !is("histogram");
        assert_eq!(is_counter, name.ends_with("_total"), "waymark_{name}: counters end in _total, others do not");
    }
    assert!(names.len() > 15, "the metrics were found");
}

#[test]
fn links_lead_somewhere() {
    for document in ["README.md", "ARCHITECTURE.md", "CHANGELOG.md"] {
        let text = read(document);
        let anchors: BTreeSet<String> = text.lines().filter(|line| line.starts_with('#')).map(anchor).collect();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if let Some(wanted) = target.strip_prefix('#') {
                assert!(anchors.contains(wanted), "{document}: no heading #{wanted}");
            } else if !target.starts_with("https://") {
                assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join(target).exists(), "{document}: no {target}");
            }
        }
    }
}

/// What a heading is called in links.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|&c| c.is_alphanumeric() || c == ' ' || c == '-' || c == '_');
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// The beacon asks each region twice, takes the time of the second request, and passes over what cannot be reached.
#[test]
fn the_beacon_measures() {
    const AROUND: &str = r#"
        const seen = [];
        globalThis.fetch = async (url) => {
            if (url.includes("us-east")) throw new Error("down");
            seen.push({ name: url, requestStart: 100, responseStart: 100 + (seen.length % 2 ? 34.26 : 250) });
            return { arrayBuffer: async () => {} };
        };
        // A full buffer takes no entry more.
        let room = 0;
        const full = () => seen.slice(0, room);
        globalThis.performance = { getEntriesByType: full, setResourceTimingBufferSize: (size) => { room = size; } };
        const navigator = { sendBeacon: (to, body) => console.log(to, body) };
    "#;
    if !support::has("node") {
        return;
    }
    let program = format!("{AROUND}{}", read("config/beacon.js"));
    let output = std::process::Command::new("node").args(["-e", &program]).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout);
    let (to, body) = said.trim().split_once(' ').unwrap_or_else(|| panic!("{said}{:?}", output.stderr));
    let samples: serde_json::Value = serde_json::from_str(body).expect("JSON");
    let sample = |region| serde_json::json!({"region": region, "rtt-ms": 34.3});
    assert_eq!((to, samples), ("/collect/latency", serde_json::json!([sample("eu-west"), sample("ap-southeast")])));
}

/// Each test that the table of RFCs names is there.
#[test]
fn tests_of_rfcs_exist() {
    let table = read("tests/RFC.md");
    let is_place = |part: &&str| part.starts_with("tests/") || part.starts_with("src/");
    let mut count = 0;
    for place in table.lines().filter(|line| line.starts_with('|')).flat_map(|line| line.split('`')).filter(is_place) {
        let (path, test) = place.split_once("::").map_or((place, None), |(path, test)| (path, Some(test)));
        let text = read(path);
        let is_there = test.is_none_or(|test| text.contains(&format!("fn {test}(")));
        assert!(is_there, "tests/RFC.md names {place}");
        count += 1;
    }
    assert!(count > 60, "{count} tests were found");
}
