//! Dynamic updates of ACME challenges (RFC 2136): nsupdate, who may and who may not, what stays over restarts, what expires.

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use hickory_proto::rr::{RData, RecordType};

use crate::support::secondary::{Key, Secondary};
use crate::support::server::Server;
use crate::support::site::Site;
use crate::support::{client, has, ports, program, until_so};

const ZONE: &str = "gslb.example.com";
const SERIAL: u32 = 2_026_112_301;
const NAME: &str = "_acme-challenge.www.gslb.example.com";
const KEY: Key = Key { name: "acme", algorithm: "hmac-sha256", secret: "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=" };
const OTHER_SECRET: &str = "HxwdGhsYGRYXFBUSExAREA8ODQwLCgkIBwYFBAMCAQA=";

/// The example, where the zone says this as well.
fn site(zone_keys: &str) -> Site {
    let site = Site::unchecked();
    let file = "file = \"gslb.example.com.zone\"\n";
    site.edit(file, &format!("{file}{zone_keys}\n"));
    site.write("secret", KEY.secret);
    fs::set_permissions(site.path("secret"), fs::Permissions::from_mode(0o600)).expect("a mode");
    site.append(&format!("\n[keys.{}]\nalgorithm = \"{}\"\nsecret-file = \"secret\"\n", KEY.name, KEY.algorithm));
    site
}

/// Sends what these lines say to nsupdate; the rcode that it tells, empty = it was done.
#[track_caller]
fn nsupdate(server: &Server, arguments: &[&str], lines: &[&str]) -> String {
    let mut command = Command::new(program("nsupdate").expect("it is installed"));
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    let head = format!("server {} {}\nzone {ZONE}\nttl 60\ncheck-names no\n", server.dns.ip(), server.dns.port());
    let text = format!("{head}{}\nsend\n", lines.join("\n"));
    child.stdin.take().expect("piped").write_all(text.as_bytes()).expect("written");
    let output = child.wait_with_output().expect("it ends");
    let text = client::text(&output);
    match text.split_once("update failed: ") {
        Some((_, rcode)) => rcode.split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default().to_owned(),
        None => {
            assert!(output.status.success(), "{text}");
            String::new()
        }
    }
}

/// The TXT records of a name, sorted.
fn texts(server: &Server, name: &str) -> Vec<String> {
    let answer = server.ask(name, RecordType::TXT, "");
    let text = |data: &RData| if let RData::TXT(txt) = data { Some(txt.to_string()) } else { None };
    let mut texts: Vec<String> = answer.answers.iter().filter_map(|record| text(&record.data)).collect();
    texts.sort_unstable();
    texts
}

fn serial(server: &Server) -> u32 {
    let answer = server.ask(ZONE, RecordType::SOA, "");
    let serial = |data: &RData| if let RData::SOA(soa) = data { Some(soa.serial) } else { None };
    answer.answers.iter().find_map(|record| serial(&record.data)).expect("a SOA")
}

#[test]
fn challenges_come_and_go() {
    if !has("nsupdate") {
        return;
    }
    let server = site("update-from = [\"127.0.0.0/8\", \"::1\"]\nkey = \"acme\"").start();
    let signed = format!("{}:{}:{}", KEY.algorithm, KEY.name, KEY.secret);
    for transport in [&["-y", &signed][..], &["-v", "-y", &signed]] {
        let before = serial(&server);
        let send = |lines: &[&str]| nsupdate(&server, transport, lines);
        let add = |text: &str| format!("update add {NAME} 86400 TXT {text}");
        assert_eq!(send(&[&add("one")]), "");
        // What was acknowledged is served.
        assert_eq!(texts(&server, NAME), ["one"]);
        assert_eq!(client::ttl(&server.ask(NAME, RecordType::TXT, "")), 300);
        assert_eq!(serial(&server), before + 1);
        assert_eq!(send(&[&add("two"), "update add _ACME-challenge.gslb.example.com TXT apex"]), "");
        assert_eq!(texts(&server, NAME), ["one", "two"]);
        assert_eq!(texts(&server, "_acme-challenge.gslb.example.com"), ["apex"]);
        assert_eq!(serial(&server), before + 2);
        // Nothing that is not so already.
        assert_eq!(send(&[&add("two")]), "");
        assert_eq!(send(&[&format!("update delete {NAME} TXT three")]), "");
        assert_eq!(serial(&server), before + 2);
        assert_eq!(send(&[&format!("update delete {NAME} TXT one")]), "");
        assert_eq!(texts(&server, NAME), ["two"]);
        assert_eq!(send(&[&format!("update delete {NAME} TXT"), &add("new")]), "");
        assert_eq!(texts(&server, NAME), ["new"]);
        for (prerequisite, expected) in [
            (format!("prereq yxrrset {NAME} TXT"), ""),
            (format!("prereq yxrrset {NAME} TXT new"), ""),
            (format!("prereq yxrrset {NAME} TXT other"), "NXRRSET"),
            (format!("prereq nxrrset {NAME} TXT"), "YXRRSET"),
            (format!("prereq nxdomain {NAME}"), "YXDOMAIN"),
            ("prereq yxdomain x.gslb.example.com".into(), "NXDOMAIN"),
            ("prereq yxdomain www.gslb.example.com".into(), ""),
            ("prereq yxrrset static.gslb.example.com A 192.0.2.1".into(), "NXRRSET"),
            ("prereq nxdomain example.org".into(), "NOTZONE"),
        ] {
            assert_eq!(send(&[&prerequisite, &add("more")]), expected, "{prerequisite}");
            assert_eq!(send(&[&format!("update delete {NAME} TXT more")]), "");
        }
        assert_eq!(send(&[&format!("update delete {NAME}"), "update delete _acme-challenge.gslb.example.com TXT"]), "");
        assert_eq!(texts(&server, NAME), [""; 0]);
        assert_eq!(server.ask(NAME, RecordType::TXT, "").response_code.low(), 3, "the name is gone");
    }
    assert!(server.metric("waymark_updates_total{outcome=\"done\"}") >= Some(20.0));
    assert_eq!(server.metric("waymark_updates_total{outcome=\"failed\"}"), Some(0.0));
}

#[test]
fn who_may_not_changes_nothing() {
    if !has("nsupdate") {
        return;
    }
    let add = format!("update add {NAME} TXT x");
    let signed = |name: &str, secret: &str| format!("{}:{name}:{secret}", KEY.algorithm);
    let open = site("update-from = [\"127.0.0.1\"]").start();
    assert_eq!(nsupdate(&open, &[], &["local 127.0.0.2", &add]), "REFUSED");
    assert_eq!(texts(&open, NAME), [""; 0]);
    assert_eq!(open.metric("waymark_updates_refused_total"), Some(1.0));
    assert_eq!(nsupdate(&open, &[], &[&add]), "");
    assert_eq!(texts(&open, NAME), ["x"]);
    let keyed = site("update-from = [\"127.0.0.1\"]\nkey = \"acme\"").start();
    for (key, local, expected) in [
        (None, "127.0.0.1", "REFUSED"),
        (Some(signed(KEY.name, OTHER_SECRET)), "127.0.0.1", "NOTAUTH"),
        (Some(signed("nobody", KEY.secret)), "127.0.0.1", "NOTAUTH"),
        (Some(signed(KEY.name, KEY.secret)), "127.0.0.2", "REFUSED"),
        (Some(signed(KEY.name, KEY.secret)), "127.0.0.1", ""),
    ] {
        let arguments: Vec<&str> = key.iter().flat_map(|key| ["-y", key]).collect();
        assert_eq!(texts(&keyed, NAME), [""; 0]);
        assert_eq!(nsupdate(&keyed, &arguments, &[&format!("local {local}"), &add]), expected, "{arguments:?} {local}");
    }
    // Where nobody may, nobody knows the opcode.
    assert_eq!(nsupdate(&site("").start(), &[], &[&add]), "NOTIMP");
}

#[test]
fn nothing_but_challenges_may_be_changed() {
    if !has("nsupdate") {
        return;
    }
    let site = site("update-from = [\"127.0.0.1\"]");
    let zone = fs::read_to_string(site.path("gslb.example.com.zone")).expect("a zone");
    let more = "_acme-challenge.filed TXT of-the-file\n_acme-challenge.moved CNAME x\n";
    site.write("gslb.example.com.zone", &(zone + more));
    let server = site.start();
    let before = serial(&server);
    for (line, expected, told) in [
        ("update add www.gslb.example.com TXT x", "REFUSED", "only names that begin with _acme-challenge"),
        ("update add x._acme-challenge.gslb.example.com TXT x", "REFUSED", "only names that begin"),
        ("update add _acme-challenges.gslb.example.com TXT x", "REFUSED", "only names that begin"),
        ("update delete static.gslb.example.com", "REFUSED", "only names that begin"),
        ("update add _acme-challenge.gslb.example.com A 192.0.2.1", "REFUSED", "only TXT records"),
        ("update delete _acme-challenge.gslb.example.com A", "REFUSED", "only TXT records"),
        ("update add _acme-challenge.sub.gslb.example.com TXT x", "REFUSED", "a delegation or DNAME hides"),
        ("update add _acme-challenge.x.wild.gslb.example.com TXT x", "REFUSED", "from a wildcard"),
        ("update add _acme-challenge.moved.gslb.example.com TXT x", "REFUSED", "the name has a CNAME"),
        ("update delete _acme-challenge.filed.gslb.example.com TXT", "REFUSED", "of the zone file cannot be deleted"),
        ("update add _acme-challenge.example.org TXT x", "NOTZONE", "a name outside the zone"),
    ] {
        assert_eq!(nsupdate(&server, &[], &[line]), expected, "{line}");
        // The log has one line a second at most.
        assert!(server.logged(&["an update by 127.0.0.1 is not done"]).len() <= 10, "{told}");
    }
    server.wait_logged(&["is not done: REFUSED, only names that begin with _acme-challenge"]);
    // A message is done whole or not at all.
    let lines = [format!("update add {NAME} TXT x"), "update add www.gslb.example.com TXT x".to_owned()];
    assert_eq!(nsupdate(&server, &[], &[&lines[0], &lines[1]]), "REFUSED");
    assert_eq!((texts(&server, NAME), serial(&server)), (Vec::new(), before));
    assert_eq!(nsupdate(&server, &[], &["update add _acme-challenge.wild.gslb.example.com TXT x"]), "");
    assert_eq!(server.addresses("x.wild.gslb.example.com", ""), ["192.0.2.77"]);
    let filed = "_acme-challenge.filed.gslb.example.com";
    assert_eq!(nsupdate(&server, &[], &[&format!("update add {filed} TXT beside")]), "");
    assert_eq!(texts(&server, filed), ["beside", "of-the-file"]);
    let many: Vec<String> = (0..101).map(|number| format!("update add {NAME} TXT {number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(nsupdate(&server, &["-v"], &many), "REFUSED");
    assert_eq!(nsupdate(&server, &["-v"], &many[..100]), "");
    assert!(server.metric("waymark_updates_total{outcome=\"refused\"}") >= Some(12.0));
}

#[test]
fn restarts_and_reloads_keep_them() {
    if !has("nsupdate") {
        return;
    }
    let site = site("update-from = [\"127.0.0.1\"]");
    let server = site.start();
    assert_eq!(nsupdate(&server, &[], &[&format!("update add {NAME} TXT one")]), "");
    assert_eq!(nsupdate(&server, &[], &[&format!("update add {NAME} TXT two")]), "");
    assert_eq!(serial(&server), SERIAL + 2);
    // Killed, as it is when the power goes.
    drop(server);
    let server = site.start();
    assert_eq!(texts(&server, NAME), ["one", "two"]);
    assert_eq!(serial(&server), SERIAL + 2);
    server.reload();
    assert_eq!((texts(&server, NAME).len(), serial(&server)), (2, SERIAL + 2));
    // The file has changed, and is behind: copies must notice all the same.
    let edit = |from: u32, to: u32, address: [&str; 2]| {
        site.edit_file("gslb.example.com.zone", &from.to_string(), &to.to_string());
        site.edit_file("gslb.example.com.zone", address[0], address[1]);
        server.reload();
    };
    edit(SERIAL, SERIAL + 1, ["192.0.2.77", "192.0.2.78"]);
    assert_eq!((texts(&server, NAME).len(), serial(&server)), (2, SERIAL + 3));
    edit(SERIAL + 1, SERIAL + 50, ["192.0.2.78", "192.0.2.79"]);
    assert_eq!((texts(&server, NAME).len(), serial(&server)), (2, SERIAL + 50));
    assert_eq!(nsupdate(&server, &[], &[&format!("update delete {NAME}")]), "");
    assert_eq!((texts(&server, NAME).len(), serial(&server)), (0, SERIAL + 51));
    drop(server);
    let server = site.start();
    assert_eq!((texts(&server, NAME).len(), serial(&server)), (0, SERIAL + 51));
}

#[test]
fn they_go_by_themselves() {
    if !has("nsupdate") {
        return;
    }
    let server = site("update-from = [\"127.0.0.1\"]\nupdate-expire = \"2s\"").start();
    assert_eq!(nsupdate(&server, &[], &[&format!("update add {NAME} TXT x")]), "");
    until_so("it goes", || texts(&server, NAME).is_empty());
    assert_eq!(serial(&server), SERIAL + 2);
    assert_eq!(server.metric("waymark_updates_expired_total"), Some(1.0));
}

/// certbot proves to an authority whose a name is; that asks the server itself.
#[test]
fn certbot_gets_a_certificate() {
    if !has("certbot") || !has("pebble") || !has("openssl") {
        return;
    }
    let site = site("update-from = [\"127.0.0.1\"]\nkey = \"acme\"");
    let server = site.start();
    let run = |name: &str, arguments: &str| {
        let mut command = Command::new(program(name).expect("it is installed"));
        let folder = site.path("");
        command.args(arguments.split_whitespace()).current_dir(folder).env("REQUESTS_CA_BUNDLE", site.path("cert.pem"));
        command.env("PEBBLE_VA_NOSLEEP", "1").env("PEBBLE_WFE_NONCEREJECT", "0").stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    let certificate = "req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -subj /CN=localhost -addext \
                       subjectAltName=IP:127.0.0.1";
    assert!(run("openssl", certificate).output().expect("it runs").status.success());
    let [port, management] = [ports::free(), ports::free()];
    let authority = format!(
        "{{\"pebble\": {{\"listenAddress\": \"127.0.0.1:{port}\", \"managementListenAddress\": \
         \"127.0.0.1:{management}\", \"certificate\": \"cert.pem\", \"privateKey\": \"key.pem\"}}}}"
    );
    site.write("pebble.json", &authority);
    let account = format!(
        "dns_rfc2136_server = {}\ndns_rfc2136_port = {}\ndns_rfc2136_name = {}\ndns_rfc2136_secret = \
         {}\ndns_rfc2136_algorithm = HMAC-SHA256\ndns_rfc2136_sign_query = true\n",
        server.dns.ip(),
        server.dns.port(),
        KEY.name,
        KEY.secret
    );
    site.write("account", &account);
    fs::set_permissions(site.path("account"), fs::Permissions::from_mode(0o600)).expect("a mode");
    let log = fs::File::create(site.path("pebble.log")).expect("a log");
    let mut pebble = run("pebble", &format!("-config pebble.json -dnsserver {}", server.dns));
    let mut pebble = pebble.stdout(log.try_clone().expect("a log")).stderr(log).spawn().expect("it starts");
    until_so("pebble listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
    let certbot = format!(
        "certonly --non-interactive --agree-tos -m a@example.org --no-verify-ssl --server https://127.0.0.1:{port}/dir \
         --config-dir le --work-dir le --logs-dir le --dns-rfc2136 --dns-rfc2136-credentials account \
         --dns-rfc2136-propagation-seconds 1 -d www.{ZONE} -d *.{ZONE}"
    );
    let output = run("certbot", &certbot).output().expect("it runs");
    let _ = pebble.kill();
    let _ = pebble.wait();
    let told = fs::read_to_string(site.path("pebble.log")).expect("a log");
    assert!(output.status.success(), "{}\n{told}", client::text(&output));
    assert!(site.path(&format!("le/live/www.{ZONE}/fullchain.pem")).exists());
    // It has taken away what it had added.
    assert_eq!((texts(&server, NAME), texts(&server, "_acme-challenge.gslb.example.com")), (Vec::new(), Vec::new()));
    assert!(serial(&server) > SERIAL);
}

#[test]
fn secondaries_get_what_has_changed() {
    if !has("nsupdate") || !has("knotd") || !has("dig") {
        return;
    }
    let port = Secondary::port();
    let keys = "update-from = [\"127.0.0.1\"]\ntransfer-to = [\"127.0.0.1\"]\ntransfer-steered = \"skip\"";
    let server = site(&format!("{keys}\nnotify = [\"127.0.0.1:{port}\"]")).start();
    let secondary = Secondary::start("knotd", ZONE, port, server.dns, None);
    secondary.wait_serial(ZONE, SERIAL);
    assert_eq!(nsupdate(&server, &[], &[&format!("update add {NAME} TXT x")]), "");
    secondary.wait_serial(ZONE, SERIAL + 1);
    assert_eq!(server.metric("waymark_transfers_total{answer=\"incremental\"}"), Some(1.0));
    let text = client::tool("dig", server.dns, &[ZONE, &format!("IXFR={SERIAL}"), "+nocookie", "+tcp"]);
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with(';') && !line.is_empty()).collect();
    assert_eq!(lines.len(), 5, "{text}");
    assert!(lines[3].starts_with(NAME) && lines[3].contains("\"x\""), "{text}");
}
