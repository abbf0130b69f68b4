//! `waymark zone check` and `waymark zone format`, as they are typed. BIND's compiler is the second reader of what is
//! printed.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value as Json;

use crate::support::{self, waymark};

const GOOD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/zones/good.zone");

fn zone(arguments: &[&str]) -> Output {
    waymark().arg("zone").args(arguments).output().expect("the program runs")
}

fn printed(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A folder with a file of this name and text, and its path.
fn file(name: &str, text: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(name);
    fs::write(&path, text).expect("written");
    let path = path.to_str().expect("text").to_string();
    (folder, path)
}

#[test]
fn a_good_zone_is_good() {
    let output = zone(&["check", GOOD]);
    assert_eq!(printed(&output), format!("{GOOD}: good: zone example.com, serial 2026112301, 17 records\n"));
    assert_eq!((output.status.code(), errors(&output).as_str()), (Some(0), ""));
}

#[test]
fn problems_are_shown_with_their_lines() {
    let (_folder, path) =
        file("example.org.zone", "$TTL 60\n@ SOA ns h 1 2 3 4 5\n@ NS ns\nns A 192.0.2.300\nx FOO y\n");
    for command in ["check", "format"] {
        let output = zone(&[command, &path]);
        assert_eq!((output.status.code(), printed(&output).as_str()), (Some(2), ""), "{command}");
        let told = errors(&output);
        for part in ["`192.0.2.300` is not a valid IPv4 address", "zone:4:6", "ns A 192.0.2.300", "unknown type `FOO`"]
        {
            assert!(told.contains(part), "{command}: {part}: {told}");
        }
        assert!(told.ends_with(&format!("waymark: {path}: 2 errors\n")), "{told}");
    }
    let output = zone(&["check", "--json", &path]);
    assert_eq!(output.status.code(), Some(2));
    let report: Json = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(
        (&report["ok"], &report["origin"], &report["serial"]),
        (&false.into(), &"example.org".into(), &1.into())
    );
    assert_eq!(report["problems"][0]["severity"], "error");
    assert!(report["problems"][0]["place"].as_str().is_some_and(|place| place.ends_with("zone:4:6")), "{report}");
    assert_eq!(report["problems"].as_array().map(Vec::len), Some(2));
}

#[test]
fn the_zone_is_named_or_found() {
    let text = "$TTL 60\n@ SOA ns h 7 2 3 4 5\n@ NS ns.example.net.\n";
    let with_origin = format!("$ORIGIN example.org.\n{text}");
    for (name, text, arguments, expected) in [
        ("example.com.zone", text, &[][..], "zone example.com,"),
        ("example.com.zone", text, &["--origin", "example.net."], "zone example.net,"),
        ("db.master", &with_origin, &[], "zone example.org,"),
        ("db.master", text, &[], "nothing says which zone this is"),
        ("db.master", text, &["--origin", "a..b"], "empty label"),
        ("db.master", text, &["--origin", "*.example"], "cannot be a wildcard"),
    ] {
        let (_folder, path) = file(name, text);
        let output = zone(&[&["check", &path], arguments].concat());
        let told = printed(&output) + &errors(&output);
        assert!(told.contains(expected), "{name} {arguments:?}: {told}");
        assert_eq!(output.status.code(), Some(if expected.starts_with("zone") { 0 } else { 2 }), "{told}");
    }
    let output = zone(&["check", "nowhere/example.com.zone"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(errors(&output).contains("No such file"), "{}", errors(&output));
}

#[test]
fn includes_stay_in_their_folder() {
    let text = "$TTL 60\n@ SOA ns h 7 2 3 4 5\n@ NS ns.example.net.\n$INCLUDE ../common/mail.inc\n";
    let folder = tempfile::tempdir().expect("a folder");
    for (path, text) in [("zones/example.com.zone", text), ("common/mail.inc", "@ MX 0 .\n")] {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, text).expect("written");
    }
    let path = folder.path().join("zones/example.com.zone");
    let path = path.to_str().expect("text");
    let output = zone(&["check", path]);
    assert_eq!(output.status.code(), Some(2));
    assert!(errors(&output).contains("mail.inc is outside"), "{}", errors(&output));
    assert!(errors(&output).contains("include-root"), "{}", errors(&output));
    let root = folder.path().to_str().expect("text");
    let output = zone(&["format", path, "--include-root", root]);
    assert_eq!(output.status.code(), Some(0), "{}", errors(&output));
    assert!(printed(&output).contains("example.com.\t60\tIN\tMX\t0 .\n"));
}

#[test]
fn what_is_printed_is_printed_the_same_again() {
    let first = zone(&["format", GOOD]);
    assert_eq!((first.status.code(), errors(&first).as_str()), (Some(0), ""));
    let text = printed(&first);
    assert!(text.starts_with(
        "$ORIGIN example.com.\nexample.com.\t300\tIN\tSOA\tns1.example.com. hostmaster.example.com. 2026112301 7200 1800 \
         1209600 30\n"
    ));
    let (_folder, path) = file("again", &text);
    let again = zone(&["format", &path]);
    assert_eq!(printed(&again), text);
}

/// Types that BIND reads too, and odd names.
const TYPES: &str = r#"$TTL 1h30m
@ SOA ns1 h 1 2 3 4 5
@ NS ns1
ns1 A 192.0.2.1
a AAAA 2001:db8::1
b TXT "a\"b\\c\000;" d é
c SRV 1 2 3 x.
d LOC 42 21 54 N 71 06 18 W -24m 30m
e NAPTR 100 10 "u" "E2U+sip" "!^.*$!sip:x!" .
f APL 1:192.0.2.0/24 !2:2001:db8::/32
g NS ns1
g DS 1 ECDSAP256SHA256 2 0000000000000000000000000000000000000000000000000000000000000000
h DNSKEY 257 3 13 AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyAhIiMkJSYnKCkqKywtLi8wMTIzNDU2Nzg5Ojs8PT4/QA==
i SSHFP 4 2 0102030405060708091011121314151617181920212223242526272829303132
j IPSECKEY 10 1 2 192.0.2.38 AQID
k TLSA 3 1 0 d2abde
l HIP 2 200100 AQID a. b.
m CSYNC 66 3 A NS AAAA
n NID 10 14:4fff:ff20:ee64
o EUI48 00-00-5e-00-53-2a
p URI 10 1 "ftp://x/"
q CAA 0 issue "ca.example; \"x\""
r TYPE65400 \# 4 0A00 0001
s HTTPS 16 . ( alpn="h2,h3" mandatory=ipv4hint,alpn ipv4hint=192.0.2.1 key667="a\210" ech=AAEC )
t WKS 192.0.2.1 TCP smtp 0
u CERT PKIX 1 RSASHA256 AAEC
v HINFO "a b" c
w L64 10 2001:db8:0:1
x RP a.b c
y SVCB 1 . alpn="f\\\\oo\\,bar,h2" port=53
z MX 10 Mail
\$a\@b\"c\\d\;e\(f\)g\032h\200\.i 5 TXT x
*.wild CNAME \@
\@ A 192.0.2.7
"#;

/// The records of a zone file, as BIND prints them.
fn compiled(path: &Path, out: &Path) -> String {
    let program = support::program("named-compilezone").expect("looked for before");
    let checks = ["-k", "ignore", "-n", "ignore", "-i", "none", "-m", "ignore", "-M", "ignore", "-S", "ignore"];
    let output =
        Command::new(program).args(checks).args(["-s", "full", "-o"]).arg(out).arg("example.com").arg(path).output();
    let output = output.expect("it runs");
    assert!(output.status.success(), "{} {}", printed(&output), errors(&output));
    fs::read_to_string(out).expect("text")
}

#[test]
fn bind_reads_the_same_from_what_is_printed() {
    if !support::has("named-compilezone") {
        return;
    }
    let (folder, path) = file("example.com.zone", TYPES);
    let output = zone(&["format", &path]);
    assert_eq!(output.status.code(), Some(0), "{}", errors(&output));
    let own = folder.path().join("own");
    fs::write(&own, &output.stdout).expect("written");
    let out = folder.path().join("out");
    assert_eq!(compiled(&own, &out), compiled(Path::new(&path), &out));
    assert_eq!(printed(&output).lines().count(), 1 + TYPES.lines().count() - 1);
}
