//! What operators touch: the API over HTTP and the control socket, metrics, and the commands (SPEC 8.1, 8.4 – 8.6).

use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::process::Output;

use hickory_proto::rr::RecordType;
use regex::Regex;
use serde_json::Value;

use crate::support::backend::{Backends, Behaviour, EXAMPLE};
use crate::support::client;
use crate::support::site::Site;
use crate::support::{until_so, waymark};

#[test]
fn ready_means_that_the_first_round_is_over() {
    let site = Site::waiting();
    let mut backends = Backends::example(site.backends);
    backends.set("eu-1", Behaviour::Hang);
    let mut server = site.spawn();
    until_so("/healthz", || client::try_get(server.admin, "/healthz").is_some_and(|health| health.status == 200));
    until_so("the others", || EXAMPLE[1..].iter().all(|(name, _)| server.health(name).0 == "up"));
    let ready = server.get("/readyz");
    assert_eq!(ready.status, 503);
    assert!(ready.body.contains("first round"), "{}", ready.body);
    // Nobody listens yet, so the answers after the start are right at once.
    drop(std::net::TcpListener::bind(server.dns).expect("still free"));
    backends.kill(&["eu-1"]);
    server.wait_ready();
    assert_eq!(server.addresses("www.gslb.example.com", "203.0.113.0/25"), ["127.0.11.2"]);
}

#[test]
fn the_grace_ends_the_wait() {
    let site = Site::waiting();
    site.edit("startup-grace = \"50s\"", "startup-grace = \"2s\"");
    let mut backends = Backends::example(site.backends);
    backends.set("ap-1", Behaviour::Hang);
    let server = site.start();
    server.wait_logged(&["no observation after 2s"]);
    assert_eq!(server.health("ap-1"), ("unknown".into(), "no probe has ended yet".into()));
    assert_eq!(server.addresses("dr.gslb.example.com", "").len(), 2);
}

#[test]
fn http_answers_and_guards() {
    let site = Site::unchecked();
    site.edit("listen = \"127.0.0.1:", "hosts = [\"waymark.example.net\"]\nlisten = \"127.0.0.1:");
    let server = site.start();
    let own = server.admin.to_string();
    for (method, path, host, expected) in [
        ("GET", "/healthz", &*own, 200),
        ("GET", "/readyz", &own, 200),
        ("GET", "/metrics", &own, 200),
        ("GET", "/v1/status", &own, 200),
        ("GET", "/v1/status", "localhost", 200),
        ("GET", "/v1/status", "test-1", 200),
        ("GET", "/v1/status", "TEST-1:8053", 200),
        ("GET", "/v1/status", "waymark.example.net", 200),
        ("GET", "/v1/status", "evil.example", 403),
        ("GET", "/metrics", "evil.example:80", 403),
        ("GET", "/nothing", "evil.example", 403),
        ("GET", "/v1/status", "127.0.0.2", 403),
        ("GET", "/v1/status", "", 403),
        ("GET", "/", &own, 404),
        ("GET", "/v1/nothing", &own, 404),
        ("GET", "/v1/status/", &own, 404),
        ("POST", "/v1/status", &own, 405),
        ("DELETE", "/metrics", &own, 405),
        ("PUT", "/readyz", &own, 405),
    ] {
        let response = client::request(server.admin, method, path, host).expect("a response");
        assert_eq!(response.status, expected, "{method} {path} for {host}: {}", response.body);
    }
    let kind = |path| server.get(path).head.to_lowercase();
    assert!(kind("/metrics").contains("content-type: application/openmetrics-text"));
    assert!(kind("/v1/status").contains("content-type: application/json"));
}

/// Problems of a text in the OpenMetrics format (its §"ABNF", what of it a scraper insists on).
fn openmetrics_problems(text: &str) -> Vec<String> {
    let name = "[a-zA-Z_:][a-zA-Z0-9_:]*";
    let label = r#"[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\[n"\\])*""#;
    let sample = format!(r"^({name})(\{{{label}(?:,{label})*\}})? (-?[0-9.]+(?:e[+-]?[0-9]+)?|NaN|[+-]Inf)$");
    let sample = Regex::new(&sample).expect("an expression");
    let meta = Regex::new(&format!("^# (HELP|TYPE|UNIT) ({name}) .+$")).expect("an expression");
    let mut problems = Vec::new();
    let mut seen = std::collections::HashSet::new();
    let (mut family, mut kind) = (String::new(), String::new());
    let lines: Vec<&str> = text.lines().collect();
    let [lines @ .., "# EOF"] = &lines[..] else { return vec!["no # EOF at the end".into()] };
    for line in lines {
        if let Some(found) = meta.captures(line) {
            family = found[2].to_owned();
            if &found[1] == "TYPE" {
                kind = line.rsplit(' ').next().unwrap_or_default().to_owned();
                if !seen.insert(format!("TYPE {family}")) {
                    problems.push(format!("a family twice: {line}"));
                }
            }
        } else if let Some(found) = sample.captures(line) {
            let suffixes: &[&str] = match &*kind {
                "counter" => &["_total"],
                "histogram" => &["_bucket", "_sum", "_count"],
                _ => &[""],
            };
            let labels = found.get(2).map_or("", |labels| labels.as_str());
            if !suffixes.iter().any(|suffix| found[1] == format!("{family}{suffix}")) {
                problems.push(format!("not of family {family} ({kind}): {line}"));
            } else if !seen.insert(format!("{}{labels}", &found[1])) {
                problems.push(format!("twice: {line}"));
            }
        } else {
            problems.push(format!("not understood: {line}"));
        }
    }
    problems
}

#[test]
fn metrics_are_well_formed_and_move() {
    let site = Site::example();
    let _backends = Backends::example(site.backends);
    let server = site.start();
    assert_eq!(openmetrics_problems(&server.get("/metrics").body), Vec::<String>::new());
    let samples = [
        ("waymark_queries_total{transport=\"udp\",type=\"A\"}", 3.0),
        ("waymark_queries_total{transport=\"tcp\",type=\"TXT\"}", 2.0),
        ("waymark_answers_total{transport=\"udp\",rcode=\"NOERROR\"}", 2.0),
        ("waymark_answers_total{transport=\"udp\",rcode=\"NXDOMAIN\"}", 1.0),
        ("waymark_steered_answers_total{service=\"dr.gslb.example.com\",region=\"us-east\"}", 2.0),
        ("waymark_ecs_queries_total{family=\"ipv4\"}", 1.0),
        ("waymark_ecs_answers_total{scope=\"zero\"}", 1.0),
    ];
    let before = samples.map(|(sample, _)| server.metric(sample).unwrap_or(0.0));
    server.ask("dr.gslb.example.com", RecordType::A, "");
    server.ask("dr.gslb.example.com", RecordType::A, "203.0.113.0/24");
    server.ask("nothing.gslb.example.com", RecordType::A, "");
    let text = [(); 2].map(|()| client::query("text.gslb.example.com", RecordType::TXT, ""));
    client::tcp(server.dns, &text);
    for ((sample, more), before) in samples.into_iter().zip(before) {
        assert_eq!(server.metric(sample), Some(before + more), "{sample}");
    }
    for (name, address) in EXAMPLE {
        let target = format!("{address}:{}", site.backends);
        let sample = format!("waymark_target_up{{instance=\"web/{name}\",check=\"web\",target=\"{target}\"}}");
        assert_eq!(server.metric(&sample), Some(1.0), "{sample}");
    }
    let passed = "waymark_probes_total{kind=\"http\",outcome=\"pass\"}";
    let before = server.metric(passed);
    assert!(before >= Some(5.0), "{before:?}");
    until_so("more probes", || server.metric(passed) > before);
    let late = |sample: &str| server.metric(&format!("waymark_probe_lateness_seconds_{sample}"));
    assert!(late("count") >= Some(5.0) && late("bucket{le=\"+Inf\"}") >= Some(5.0));
    assert_eq!(openmetrics_problems(&server.get("/metrics").body), Vec::<String>::new());
}

#[test]
fn status_over_the_control_socket() {
    let site = Site::example();
    let _backends = Backends::example(site.backends);
    let server = site.start();
    let socket = site.path("state/control");
    let metadata = std::fs::symlink_metadata(&socket).expect("the control socket");
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.permissions().mode() & 0o7777, 0o660);

    let text = client::text(&site.run(&["status"]));
    for (name, address) in EXAMPLE {
        let line = text.lines().find(|line| line.contains(&format!("instance/web/{name} "))).expect("a line");
        assert!(line.contains(address) && line.contains("up") && line.contains("status 200"), "{line}");
    }
    for name in ["www", "near", "rr", "dr"] {
        assert!(text.contains(&format!("service/{name}.gslb.example.com")), "{text}");
    }
    let mut by_socket = waymark();
    by_socket.args(["status", "--json", "--control"]).arg(&socket);
    for output in [site.run(&["status", "--json"]), by_socket.output().expect("it runs")] {
        let status = json(&output);
        assert_eq!(status["node"], "test-1");
        assert_eq!(status["pools"][0]["instances"].as_array().map(Vec::len), Some(5));
        let keys = |value: &Value| value.as_object().map(|object| object.keys().cloned().collect::<Vec<_>>());
        assert_eq!(keys(&status), keys(&server.status()), "the same as over HTTP");
    }
    drop(server);
    let gone = site.run(&["status"]);
    assert_eq!(gone.status.code(), Some(1));
    assert!(client::text(&gone).contains("no server is running"), "{}", client::text(&gone));
}

#[track_caller]
fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", client::text(output));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", client::text(output)))
}

#[test]
fn explain_tells_every_stage() {
    let site = Site::example();
    let name = "www.gslb.example.com";
    let text = client::text(&site.run(&["explain", name, "--client", "203.0.113.0/24"]));
    for part in [
        "place",
        "country DE",
        "continent:EU",
        "eu-west (1091 km), us-east (6530 km), ap-south (10260 km)",
        "eu-1 up (weight 3): assumed",
        "eu-west serves",
        "ECS scope 25",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let down = ["--down", "region/eu-west"];
    for (client, down, region, instances) in [
        ("203.0.113.0/24", &[][..], "eu-west", &["eu-1", "eu-2"][..]),
        ("203.0.113.7", &down, "us-east", &["us-1", "us-2"]),
        ("198.18.0.0/24", &down, "ap-south", &["ap-1"]),
        ("198.18.0.0/24", &["--down", "instance/web/ap-*", "--down", "region/eu-west"], "us-east", &["us-1", "us-2"]),
        ("2001:db8:1::/48", &[], "eu-west", &["eu-1", "eu-2"]),
    ] {
        let arguments = [&["explain", name, "A", "--json", "--client", client], down].concat();
        let explained = json(&site.run(&arguments));
        for key in ["name", "type", "client", "rcode", "region", "instances", "answers", "ttl", "scope", "stages"] {
            assert!(explained.get(key).is_some(), "{key}: {explained}");
        }
        assert_eq!((&explained["rcode"], &explained["ttl"]), (&"NOERROR".into(), &5.into()));
        assert_eq!(explained["region"], region, "{client} {down:?}");
        assert_eq!(explained["candidates"], Value::from(instances), "{client} {down:?}");
    }
    for (arguments, code, said) in [
        (&["explain", "nothing.gslb.example.com", "--client", "192.0.2.0/24"][..], 0, "NXDOMAIN"),
        (&["explain", "static.gslb.example.com", "--client", "192.0.2.0/24"], 0, "not steered"),
        (&["explain", "www.example.org", "--client", "192.0.2.0/24"], 0, "REFUSED"),
        (&["explain", name, "AAAA", "--client", "192.0.2.0/24"], 0, "no records"),
        (&["explain", name, "--client", "192.0.2.0/24", "--down", "region/mars"], 2, "region/mars"),
        (&["explain", name, "--client", "nobody"], 2, "nobody"),
        (&["explain", name], 2, "--client"),
        (&["explain", name, "--resolver", "203.0.113.7"], 0, "no client subnet was sent"),
        (
            &["explain", name, "--client", "10.1.2.0/24", "--resolver", "9.9.9.9"],
            0,
            "set aside, as 10.0.0.0/8 is not public",
        ),
        (
            &["explain", name, "--client", "10.1.2.0/24", "--resolver", "127.0.0.1"],
            0,
            "not public, but 127.0.0.1 is trusted",
        ),
    ] {
        let output = site.run(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", client::text(&output));
        assert!(client::text(&output).contains(said), "{arguments:?}: {}", client::text(&output));
    }
}

#[test]
fn check_tells_by_its_exit_code() {
    let wrong_test =
        "\n[[tests]]\nname = \"www.gslb.example.com\"\nclient = \"192.0.2.0/24\"\nexpect-region = \"eu-west\"\n";
    type Change = fn(&Site);
    let rows: [(Change, i32, &str); 5] = [
        (|_| {}, 0, "2 of 2 tests passed"),
        (|site| site.edit("ttl     = \"5s\"", "ttl     = \"5 s\""), 2, "5 s"),
        (|site| site.edit("networks.toml", "nowhere.toml"), 2, "nowhere.toml"),
        (|site| site.edit_file("gslb.example.com.zone", "192.0.2.77", "192.0.2.777"), 2, "gslb.example.com.zone:13:16"),
        (|site| std::fs::remove_file(site.configuration()).expect("removed"), 2, "waymark.toml"),
    ];
    for (change, code, said) in rows {
        let site = Site::example();
        change(&site);
        let output = site.run(&["check"]);
        assert_eq!(output.status.code(), Some(code), "{}", client::text(&output));
        assert!(client::text(&output).contains(said), "{said}: {}", client::text(&output));
        let output = site.run(&["check", "--json"]);
        assert_eq!(output.status.code(), Some(code), "{}", client::text(&output));
        let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(report["ok"], code == 0, "{report}");
    }
    let site = Site::example();
    site.append(wrong_test);
    let output = site.run(&["check"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(client::text(&output).contains("expected region eu-west, got us-east"), "{}", client::text(&output));
}

#[test]
fn every_command_has_help() {
    let run = |arguments: &[&str]| waymark().args(arguments).output().expect("it runs");
    let help = client::text(&run(&["--help"]));
    let commands: Vec<&str> = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .map_while(|line| line.strip_prefix("  "))
        .filter(|line| !line.starts_with(' '))
        .filter_map(|line| line.split(' ').next())
        .filter(|command| *command != "help")
        .collect();
    for command in ["run", "check", "explain", "status"] {
        assert!(commands.contains(&command), "{help}");
    }
    for command in commands {
        let output = run(&[command, "--help"]);
        assert_eq!(output.status.code(), Some(0), "{command}");
        assert!(client::text(&output).contains("Usage: waymark"), "{command}");
    }
    let version = run(&["--version"]);
    assert_eq!(client::text(&version), format!("waymark {}\n", env!("CARGO_PKG_VERSION")));
    for (arguments, code) in
        [(&["nonsense"][..], 2), (&["run", "--nonsense"], 2), (&[], 2), (&["status", "--json", "-x"], 2)]
    {
        assert_eq!(run(arguments).status.code(), Some(code), "{arguments:?}");
    }
}
