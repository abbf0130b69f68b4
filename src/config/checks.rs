//! `[checks]`.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use super::fields::{Fields, entries};
use super::files::Document;
use super::findings::Findings;
use super::identity;
use super::keys;
use super::kinds::{self, Read};
use super::pools;
use super::text::show_duration;
use super::value::{Data, Entry, Value, quoted};
use crate::dns::{Name, Rcode, RecordType};
use crate::fleet::Few;
use crate::health::Policy;
use crate::probe::{BodyMatch, Check, Dns, Exec, Grpc, Http, Identity, Kind, LoadSource, Version};
use crate::problem::{Problem, Sources, Span};

/// Keys that only some types use, each with these types.
const KEYS_OF_TYPES: &[(&str, &[&str])] = &[
    ("address", &["agent", "dns", "exec", "grpc", "http", "https", "icmp", "tcp", "tls"]),
    ("source", &["agent", "dns", "grpc", "http", "https", "icmp", "tcp", "tls"]),
    ("port", &["agent", "dns", "exec", "grpc", "http", "https", "tcp", "tls"]),
    ("timeout", &["agent", "dns", "exec", "grpc", "http", "https", "icmp", "tcp", "tls"]),
    ("command", &["exec"]),
    ("method", &["http", "https"]),
    ("path", &["http", "https"]),
    ("host", &["exec", "grpc", "http", "https", "tls"]),
    ("http-version", &["http", "https"]),
    ("headers", &["http", "https"]),
    ("expect-status", &["http", "https"]),
    ("expect-body", &["http", "https"]),
    ("load-header", &["http", "https"]),
    ("load-json", &["http", "https"]),
    ("send", &["agent"]),
    ("tls", &["grpc"]),
    ("service", &["grpc"]),
    ("verify", TLS_TYPES),
    ("client-certificate", TLS_TYPES),
    ("client-key", TLS_TYPES),
    ("query", &["dns"]),
    ("query-type", &["dns"]),
    ("expect-rcode", &["dns"]),
    ("expect-answer", &["dns"]),
];
/// Types over TLS, `grpc` where it says so.
const TLS_TYPES: &[&str] = &["grpc", "https", "tls"];
/// Headers of a connection, which HTTP/2 has none of (RFC 9113 §8.2.2).
const CONNECTION_HEADERS: &[&str] =
    &["connection", "keep-alive", "proxy-connection", "te", "transfer-encoding", "upgrade"];
/// What `expect-rcode` can name, as in [`RCODE_WORDS`].
const RCODES: &[Rcode] =
    &[Rcode::NOERROR, Rcode::FORMERR, Rcode::SERVFAIL, Rcode::NXDOMAIN, Rcode::NOTIMP, Rcode::REFUSED];
/// Words of `expect-rcode`.
pub(super) const RCODE_WORDS: &[&str] = &["NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED"];
/// Most headers, and most ranges of statuses.
const MAX_LIST: usize = 64;
/// Most octets that an agent is sent.
const MAX_SEND: usize = 256;

/// A check, and what pools need of it.
pub(super) struct Placed {
    pub(super) check: Check,
    pub(super) name: Span,
    /// What it probes as a canary.
    pub(super) addresses: Few<IpAddr>,
    /// Where these stand.
    pub(super) address: Option<Span>,
    /// Port that it names.
    pub(super) port: Option<u16>,
    pub(super) host: Host,
    /// Port of its type.
    pub(super) type_port: TypePort,
}

/// What a type of check makes of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TypePort {
    /// Goes to this one unless told otherwise.
    Usual(u16),
    /// Must be told one.
    Needed,
    /// Has none.
    Unused,
}

/// Where Host header and SNI come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Host {
    /// The check's own.
    Named(Arc<str>),
    /// `host = "address"`.
    Address,
    /// The pool's; one is needed to verify a certificate.
    Pool { needed: bool },
    /// The instance itself, which nothing else reports for.
    Instance,
    /// The type has none.
    Unused,
}

/// Compiles all checks, in configured order.
pub(super) fn compile(document: &Document, sources: &Sources, findings: &mut Findings) -> Vec<Placed> {
    let mut checks = Vec::new();
    for entry in document.named("checks") {
        let fields = Fields::of(document, "checks", "check", &keys::CHECK, entry, findings);
        fields.require(findings);
        checks.push(check(&fields, &entry.name, sources, findings));
    }
    checks
}

fn check(fields: &Fields<'_>, name: &str, sources: &Sources, findings: &mut Findings) -> Placed {
    let kind_name = fields.text("type").unwrap_or_default();
    let is_tls = TLS_TYPES.contains(&kind_name.as_str()) && (kind_name != "grpc" || fields.boolean("tls"));
    let verify = is_tls && fields.boolean("verify");
    let identity = if is_tls { identity::read(fields, sources, findings) } else { None };
    refuse_keys_of_others(fields, &kind_name, findings);
    if kind_name == "grpc" && !is_tls {
        let of_tls = ["verify", "client-certificate", "client-key"];
        refuse_unused(fields, &of_tls, "`type = \"grpc\"` without `tls = true`", findings);
    }
    Placed {
        check: Check {
            name: name.to_string(),
            policy: policy(fields, kind_name == "push", findings),
            kind: match kind_name.as_str() {
                "agent" => Kind::Agent { send: fields.custom("send", |value| send(value).ok()).unwrap_or_default() },
                "dns" => Kind::Dns(dns(fields, findings)),
                "exec" => Kind::Exec(exec(fields, findings)),
                "grpc" => {
                    let service = fields.text("service").unwrap_or_default();
                    Kind::Grpc(Grpc { tls: is_tls, verify, identity, service })
                }
                "icmp" => Kind::Icmp,
                "push" => Kind::Push,
                "tcp" => Kind::Tcp,
                "tls" => Kind::Tls { verify, identity },
                _ => Kind::Http(http(fields, is_tls, verify, identity, findings)),
            },
            source: fields.address("source"),
        },
        name: fields.place,
        addresses: pools::unique_addresses(fields, findings),
        address: fields.own("address").map(|value| value.span),
        port: fields.integer("port"),
        host: host(fields, &kind_name, verify),
        type_port: match kind_name.as_str() {
            "dns" => TypePort::Usual(53),
            "http" => TypePort::Usual(80),
            "https" => TypePort::Usual(443),
            "icmp" | "push" => TypePort::Unused,
            "agent" | "grpc" | "tcp" | "tls" => TypePort::Needed,
            // A program need not have one. What is wrong with another type was said.
            _ => TypePort::Usual(0),
        },
    }
}

/// Says of keys that another type's checks would read that this one's do not.
fn refuse_keys_of_others(fields: &Fields<'_>, kind: &str, findings: &mut Findings) {
    // What is wrong with the type was said.
    if !Kind::NAMES.contains(&kind) {
        return;
    }
    let of_others = KEYS_OF_TYPES.iter().filter(|(_, types)| !types.contains(&kind)).map(|(key, _)| *key);
    refuse_unused(fields, &of_others.collect::<Vec<_>>(), &format!("`type = \"{kind}\"`"), findings);
}

fn host(fields: &Fields<'_>, kind: &str, verify: bool) -> Host {
    match fields.text("host").as_deref() {
        _ if matches!(kind, "agent" | "dns" | "icmp" | "tcp") => Host::Unused,
        _ if kind == "push" => Host::Instance,
        Some("address") => Host::Address,
        Some(name) => Host::Named(name.into()),
        None => Host::Pool { needed: verify },
    }
}

/// Keys that a table gives itself although nothing reads them.
pub(super) fn refuse_unused(fields: &Fields<'_>, names: &[&str], where_: &str, findings: &mut Findings) {
    for name in names {
        if let Some(entry) = fields.own.and_then(|table| table.entry(name)) {
            findings.cross.push(Problem::error(entry.key, format!("`{name}` has no meaning with {where_}")));
        }
    }
}

/// A key that the type cannot do without.
fn need(fields: &Fields<'_>, name: &str, kind: &str, example: &str, findings: &mut Findings) {
    if fields.find(name).is_none() {
        let message = format!("`{name}` is missing in a check of `type = \"{kind}\"`");
        findings.cross.push(Problem::error(fields.place, message).hint(format!("add {name} = {example}")));
    }
}

fn exec(fields: &Fields<'_>, findings: &mut Findings) -> Exec {
    need(fields, "command", "exec", "[\"/usr/local/bin/check-web\", \"--quick\"]", findings);
    let words = fields.each("command", |value| kinds::text(value).map(str::to_string));
    Exec { command: words.iter().map(|(word, _)| word.clone()).collect() }
}

fn dns(fields: &Fields<'_>, findings: &mut Findings) -> Dns {
    need(fields, "query", "dns", "\"www.example.com\"", findings);
    let rtype = fields.text("query-type").and_then(|text| RecordType::parse(&text)).unwrap_or(RecordType::A);
    let expect_answer = fields.text("expect-answer");
    if let Some(text) = &expect_answer {
        findings.cross.extend(not_data_of(rtype, text, fields.at("expect-answer")));
    }
    let rcode = fields.text("expect-rcode").and_then(|word| RCODES.iter().find(|rcode| rcode.to_string() == word));
    Dns {
        name: fields.custom("query", |value| kinds::domain_name(value).ok()).unwrap_or_else(Name::root),
        rtype,
        expect_rcode: rcode.copied().unwrap_or(Rcode::NOERROR),
        // An address is written in the one form that answers are shown in.
        expect_answer: expect_answer
            .map(|text| text.parse::<std::net::IpAddr>().map_or(text, |address| address.to_string())),
    }
}

/// Text that no record of that type has as its data.
fn not_data_of(rtype: RecordType, text: &str, place: Span) -> Option<Problem> {
    let (is_data, allowed) = match rtype {
        RecordType::A => (text.parse::<std::net::Ipv4Addr>().is_ok(), "an IPv4 address"),
        RecordType::AAAA => (text.parse::<std::net::Ipv6Addr>().is_ok(), "an IPv6 address"),
        RecordType::CNAME | RecordType::NS | RecordType::PTR => (kinds::domain_name_of(text).is_ok(), "a domain name"),
        _ => return None,
    };
    let problem = || Problem::error(place, format!("{} is not the data of an {rtype} record", quoted(text)));
    (!is_data).then(|| problem().allowed(allowed))
}

fn http(
    fields: &Fields<'_>,
    tls: bool,
    verify: bool,
    identity: Option<Arc<Identity>>,
    findings: &mut Findings,
) -> Http {
    let headers = fields.find("headers").map(entries).unwrap_or_default();
    let version = if fields.text("http-version").as_deref() == Some("2") { Version::Two } else { Version::One };
    if version == Version::Two {
        let of_connections =
            |entry: &&Entry| CONNECTION_HEADERS.iter().any(|name| entry.name.eq_ignore_ascii_case(name));
        for entry in headers.iter().filter(of_connections) {
            let message = format!("{} is no header of HTTP/2", quoted(&entry.name));
            findings.cross.push(Problem::error(entry.key, message).also(fields.at("http-version"), "the version"));
        }
    }
    Http {
        tls,
        verify,
        identity,
        version,
        load: load(fields, findings),
        method: fields.text("method").unwrap_or_default(),
        path: fields.text("path").unwrap_or_default(),
        headers: headers
            .iter()
            .filter_map(|entry| Some((entry.name.to_string(), entry.value.text()?.to_string())))
            .collect(),
        expect_status: fields.each("expect-status", status).iter().map(|(range, _)| range.clone()).collect(),
        expect_body: fields.custom("expect-body", |value| body(value).ok()),
    }
}

/// Where a response tells the load.
fn load(fields: &Fields<'_>, findings: &mut Findings) -> Option<LoadSource> {
    let (header, json) = (fields.text("load-header"), fields.text("load-json"));
    if let (Some(_), Some(_)) = (&header, &json) {
        let problem = Problem::error(fields.at("load-json"), "a load from a header and from the body: which one?");
        findings.cross.push(problem.also(fields.at("load-header"), "the header").hint("keep one of the two"));
    }
    if json.is_some() && fields.text("method").as_deref() == Some("HEAD") {
        let problem = Problem::error(fields.at("load-json"), "a response to HEAD has no body");
        findings.cross.push(problem.also(fields.at("method"), "the method").hint("`load-header` reads a header"));
    }
    header.map(LoadSource::Header).or_else(|| json.map(LoadSource::Json))
}

/// Checks that only wait for reports have no timeout.
fn policy(fields: &Fields<'_>, only_waits: bool, findings: &mut Findings) -> Policy {
    let interval = fields.duration("interval").unwrap_or_default();
    let timeout = fields.duration("timeout").filter(|_| !only_waits).unwrap_or_default();
    let fast_interval = fields.duration("fast-interval");
    let all_right = !["interval", "timeout"].iter().any(|name| fields.is_wrong_duration(name));
    if all_right && !only_waits && timeout >= interval {
        findings.cross.push(not_less(fields, interval, timeout));
    }
    if let Some(fast) = fast_interval
        && fast > interval
        && all_right
    {
        let message =
            format!("fast-interval {} is longer than interval {}", show_duration(fast), show_duration(interval));
        findings.cross.push(Problem::error(fields.at("fast-interval"), message));
    }
    Policy {
        interval,
        timeout,
        fall: fields.integer("fall").unwrap_or(3),
        rise: fields.integer("rise").unwrap_or(3),
        window: fields.custom("window", window).flatten(),
        fast_interval: fast_interval.unwrap_or_else(|| (interval / 2).max(timeout)),
        hold_down: fields.duration("hold-down").unwrap_or_default(),
    }
}

fn not_less(fields: &Fields<'_>, interval: Duration, timeout: Duration) -> Problem {
    let message = format!("timeout {} is not less than interval {}", show_duration(timeout), show_duration(interval));
    let at = if fields.find("timeout").is_some() { "timeout" } else { "interval" };
    let problem = Problem::error(fields.at(at), message).hint("a probe must have ended when the next one begins");
    match (fields.find("timeout"), fields.find("interval")) {
        (Some(_), Some(interval)) => problem.also(interval.span, "the interval"),
        (Some(_), None) => problem.allowed("interval is 5s by default"),
        _ => problem.allowed("timeout is 2s by default"),
    }
}

fn window(value: &Value) -> Option<Option<(u32, u32)>> {
    if value.text() == Some("off") {
        return Some(None);
    }
    let fields = Fields::alone(&keys::WINDOW, value.span, value.table()?);
    let (failures, of) = (fields.integer("failures")?, fields.integer("of")?);
    (failures <= of).then_some(Some((failures, of)))
}

/// Checks `window`.
pub(super) fn check_window(value: &Value, problems: &mut Vec<Problem>) {
    match &value.data {
        Data::Text(text) if text == "off" => {}
        Data::Table(_) => {
            let before = problems.len();
            keys::check_whole_table(&keys::WINDOW, value, problems);
            if problems.len() == before && window(value).is_none() {
                problems.push(Problem::error(value.span, "more failures than probes").allowed("failures ≤ of"));
            }
        }
        _ => problems.push(kinds::wrong_type(value, "a window").allowed("{ failures = 6, of = 20 } or \"off\"")),
    }
}

fn is_token(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    !text.is_empty() && text.chars().all(allowed)
}

/// Checks `method`.
pub(super) fn check_method(value: &Value, problems: &mut Vec<Problem>) {
    check_text(value, problems, |text| {
        if is_token(text) && text == text.to_uppercase() {
            return None;
        }
        let problem = Problem::error(value.span, format!("{} is not a request method", quoted(text)));
        Some(problem.allowed("GET, HEAD, POST, OPTIONS …"))
    });
}

/// Checks `path`.
pub(super) fn check_path(value: &Value, problems: &mut Vec<Problem>) {
    check_text(value, problems, |text| {
        if text.starts_with('/') && text.bytes().all(|octet| octet.is_ascii_graphic() && octet != b'#') {
            return None;
        }
        let problem = Problem::error(value.span, format!("{} is not a path", quoted(text)));
        let hint = "begin with \"/\"; write %20 for a space, %23 for # and so on";
        Some(problem.hint(hint))
    });
}

/// Checks `host`.
pub(super) fn check_host(value: &Value, problems: &mut Vec<Problem>) {
    check_text(value, problems, |text| {
        let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let is_host = text.chars().all(is_part) && kinds::domain_name_of(text).is_ok();
        if is_host || text.parse::<std::net::IpAddr>().is_ok() {
            return None;
        }
        let problem = Problem::error(value.span, format!("{} is not a host name", quoted(text)));
        let hint = if text.contains(':') {
            "a host without scheme and port; ports have keys of their own"
        } else {
            "www.example.com"
        };
        Some(problem.hint(hint))
    });
}

fn check_text(value: &Value, problems: &mut Vec<Problem>, wrong: impl Fn(&str) -> Option<Problem>) {
    match kinds::text(value) {
        Ok(text) => problems.extend(wrong(text)),
        Err(problem) => problems.push(*problem),
    }
}

/// Checks `headers`.
pub(super) fn check_headers(value: &Value, problems: &mut Vec<Problem>) {
    let Some(table) = value.table() else {
        problems.push(kinds::wrong_type(value, "a table of headers").allowed("{ Authorization = \"…\" }"));
        return;
    };
    if table.entries.len() > MAX_LIST {
        problems.push(Problem::error(value.span, "too many headers").allowed(format!("at most {MAX_LIST}")));
    }
    for entry in &table.entries {
        if !is_token(&entry.name) {
            let message = format!("{} is not a header name", quoted(&entry.name));
            problems.push(Problem::error(entry.key, message));
        } else if entry.name.eq_ignore_ascii_case("host") {
            problems.push(Problem::error(entry.key, "the Host header has a key of its own").hint("write host = \"…\""));
        }
        check_text(&entry.value, problems, |text| {
            let is_plain = text.bytes().all(|octet| (0x20..0x7f).contains(&octet));
            (!is_plain).then(|| Problem::error(entry.value.span, "a header may hold printable ASCII only"))
        });
    }
}

fn status(value: &Value) -> Read<RangeInclusive<u16>> {
    let wrong = || {
        let problem = Problem::error(value.span, format!("{} is not a status or a range", value.shown()));
        Box::new(problem.allowed("\"200\", \"200-299\"; 100 to 599"))
    };
    let (from, to) = match &value.data {
        Data::Integer(number) => (u16::try_from(*number).ok(), u16::try_from(*number).ok()),
        Data::Text(text) => {
            let (from, to) = text.split_once('-').unwrap_or((text, text));
            (from.trim().parse().ok(), to.trim().parse().ok())
        }
        _ => return Err(wrong()),
    };
    match (from, to) {
        (Some(from), Some(to)) if 100 <= from && from <= to && to <= 599 => Ok(from..=to),
        _ => Err(wrong()),
    }
}

/// Checks `expect-status`.
pub(super) fn check_statuses(value: &Value, problems: &mut Vec<Problem>) {
    let statuses = value.elements();
    if statuses.is_empty() || statuses.len() > MAX_LIST {
        let problem = Problem::error(value.span, format!("{} statuses", statuses.len()));
        problems.push(problem.allowed(format!("1 to {MAX_LIST}")));
    }
    for element in statuses {
        kinds::report(status(element), element, problems);
    }
}

fn body(value: &Value) -> Read<BodyMatch> {
    let text = kinds::text(value)?;
    let Some(pattern) =
        text.strip_prefix('/').and_then(|rest| rest.strip_suffix('/')).filter(|inner| !inner.is_empty())
    else {
        return Ok(BodyMatch::Contains(text.to_string()));
    };
    let compiled = regex::bytes::RegexBuilder::new(pattern).size_limit(1 << 20).build();
    compiled.map(BodyMatch::Regex).map_err(|error| {
        let text = error.to_string();
        let reason = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
        Box::new(Problem::error(value.span, format!("bad regular expression: {reason}")))
    })
}

/// Checks `expect-body`.
pub(super) fn check_body(value: &Value, problems: &mut Vec<Problem>) {
    kinds::report(body(value), value, problems);
}

/// Checks `load-header`.
pub(super) fn check_header_name(value: &Value, problems: &mut Vec<Problem>) {
    check_text(value, problems, |text| {
        let problem = || Problem::error(value.span, format!("{} is not a header name", quoted(text)));
        (!is_token(text)).then(|| problem().allowed("X-Load"))
    });
}

/// Checks `load-json`.
pub(super) fn check_pointer(value: &Value, problems: &mut Vec<Problem>) {
    check_text(value, problems, |text| {
        // RFC 6901 §3: `~` stands in `~0` and `~1` only.
        let is_escaped = text.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
        let problem = || Problem::error(value.span, format!("{} is not a JSON pointer", quoted(text)));
        let hint = "begin with \"/\", as in \"/load/now\"; ~1 is a / in a name, ~0 a ~";
        (!is_escaped || !text.starts_with('/')).then(|| problem().hint(hint))
    });
}

/// What an agent is sent: any text, as a line of it ends in a control character.
fn send(value: &Value) -> Read<String> {
    let Data::Text(text) = &value.data else { return Err(kinds::wrong_type(value, "a string")) };
    if (1..=MAX_SEND).contains(&text.len()) {
        return Ok(text.to_string());
    }
    let problem = Problem::error(value.span, format!("{} octets to send to an agent", text.len()));
    Err(Box::new(problem.allowed(format!("1 to {MAX_SEND}"))))
}

/// Checks `send`.
pub(super) fn check_send(value: &Value, problems: &mut Vec<Problem>) {
    kinds::report(send(value), value, problems);
}

/// Checks `command`.
pub(super) fn check_command(value: &Value, problems: &mut Vec<Problem>) {
    const FORM: &str = "[\"/usr/local/bin/check-web\", \"--quick\"]";
    let Data::Array(words) = &value.data else {
        problems.push(kinds::wrong_type(value, "an array: a program and its arguments").allowed(FORM));
        return;
    };
    if words.is_empty() || words.len() > MAX_LIST {
        let problem = Problem::error(value.span, format!("{} words", words.len()));
        problems.push(problem.allowed(format!("1 to {MAX_LIST}: a program and its arguments")));
    }
    for word in words {
        kinds::report(kinds::text(word), word, problems);
    }
    if let Some(program) = words.first().and_then(|word| word.text())
        && program.contains('/')
        && !program.starts_with('/')
    {
        let message = format!("{} is relative to a folder that may change", quoted(program));
        problems.push(Problem::error(words[0].span, message).allowed("an absolute path, or a name that is in PATH"));
    }
}
