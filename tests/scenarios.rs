//! Scenarios: text files of queries, expected answers and what happens to instances between them. No sockets, no
//! clock: `answer::respond` over a configuration, each answer read by `hickory-proto`.
//!
//! A file may begin with the files of its configuration, each below a line `--- file NAME`, up to `--- script`; without,
//! it is about `tests/example`. `#` begins a comment. Steps:
//!
//! | step | does |
//! |---|---|
//! | `up`, `down`, `unknown` `NAME [ipv4\|ipv6]` | sets what checks say: `instance/web/eu-1`, `region/*` |
//! | `load NAME 345`, `agent NAME 75%\|drain\|100%` | an instance reports its load; its agent says what part of its weight it is to have |
//! | `wait 61s`, `grace running`, `grace over` | time passes; `startup-grace` |
//! | `measure PREFIX REGION MS` | clients measured that round trip, as often as counts; answers go by it |
//! | `ask NAME [CLASS] TYPE …` | `subnet PREFIX` `from ADDRESS` `tcp` `plain` (no EDNS) `payload N` `nsid` `do` `cd` `norec` `flags HEX` `opcode N` `version N` `option CODE HEX` `qdcount N` `ancount N` `record HEX` (a further additional record) |
//! | `send HEX` | these octets |
//! | `expect silence` | no answer |
//! | `expect RCODE …` | `aa` `tc` (exactly those given) `scope N` `nsid TEXT` `ede CODE` `do` (each exactly if given) `noquestion` `noopt` |
//!
//! Below an `expect` the records of the answer stand, all of them, in any order within a section:
//! `answer|authority|additional OWNER TTL [CLASS] TYPE DATA`. In the data `x|y` means either, `*` anything.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use hickory_proto::op::Message;
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_proto::rr::{DNSClass, RData, Record};
use waymark::answer::Transport;
use waymark::dns::{Name, Rcode, RecordType};
use waymark::fleet::Family;
use waymark::health::Verdict;
use waymark::latency::ENOUGH;

use crate::support::node::{Node, folder};
use crate::support::query::{Ask, NSID, scope};

/// What was asked last, and what came.
struct Exchange {
    query: Vec<u8>,
    answer: Vec<u8>,
}

/// A line of a script and where it stands.
struct Line<'a> {
    place: String,
    words: Vec<&'a str>,
    text: &'a str,
}

#[test]
fn scenarios() {
    let mut paths: Vec<_> = std::fs::read_dir(folder().join("scenarios"))
        .expect("the folder")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    paths.sort();
    assert!(paths.len() > 7, "the scenarios were found");
    let failures: Vec<String> = paths.iter().flat_map(|path| run(path)).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

/// Runs a file; returns what did not hold.
fn run(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).expect("text");
    let (files, script, first) = parts(&text);
    let mut node = if files.is_empty() { Node::example() } else { Node::of(&files) };
    let name = path.file_name().expect("a name").to_string_lossy();
    let lines: Vec<Line<'_>> = script
        .lines()
        .enumerate()
        .map(|(number, line)| {
            let text = line.split(" #").next().unwrap_or_default().trim();
            let text = if text.starts_with('#') { "" } else { text };
            Line { place: format!("{name}:{}", first + number), words: text.split_whitespace().collect(), text }
        })
        .filter(|line| !line.words.is_empty())
        .collect();
    steps(&mut node, &lines)
}

/// The files, the script, and the number of its first line.
fn parts(text: &str) -> (Vec<(&str, &str)>, &str, usize) {
    const FILE: &str = "--- file ";
    const SCRIPT: &str = "--- script\n";
    let Some((head, script)) = text.split_once(SCRIPT) else { return (Vec::new(), text, 1) };
    let files = head.split(FILE).skip(1).map(|part| part.split_once('\n').expect("a name in its line")).collect();
    (files, script, head.lines().count() + 2)
}

fn steps(node: &mut Node, lines: &[Line<'_>]) -> Vec<String> {
    let mut failures = Vec::new();
    let mut last: Option<Exchange> = None;
    let mut at = 0;
    while at < lines.len() {
        let line = &lines[at];
        at += 1;
        match line.words[0] {
            "ask" | "send" => last = Some(exchange(node, line)),
            "expect" => {
                let records = lines[at..].iter().take_while(|line| is_record(line)).count();
                let exchange = last.as_ref().unwrap_or_else(|| panic!("{}: nothing was asked", line.place));
                if let Err(error) = expect(line, &lines[at..at + records], exchange) {
                    failures.push(format!("{}: {}\n{error}", line.place, line.text));
                }
                at += records;
            }
            "load" => {
                let load = line.words[2].parse().expect("a number");
                assert!(node.report_load(line.words[1], load) > 0, "{}: names nothing", line.place);
            }
            "agent" => {
                let (part, load) = match line.words[2].trim_end_matches('%').parse::<u16>() {
                    Ok(percent) => (percent, Some(100_u16.saturating_sub(percent))),
                    Err(_) => (0, None),
                };
                assert!(node.agent_says(line.words[1], part, load) > 0, "{}: names nothing", line.place);
            }
            "measure" => measure(node, line),
            "wait" => node.wait(seconds(line.words[1])),
            "grace" => node.set_grace_over(line.words[1] == "over"),
            "up" => set(node, line, Verdict::Up),
            "down" => set(node, line, Verdict::Down),
            "unknown" => set(node, line, Verdict::Unknown),
            other => panic!("{}: no such step: {other}", line.place),
        }
    }
    failures
}

fn is_record(line: &Line<'_>) -> bool {
    ["answer", "authority", "additional"].contains(&line.words[0])
}

fn seconds(text: &str) -> Duration {
    Duration::from_secs(text.trim_end_matches('s').parse().expect("seconds"))
}

fn set(node: &mut Node, line: &Line<'_>, verdict: Verdict) {
    let families: &[Family] = match line.words.get(2) {
        Some(&"ipv4") => &[Family::V4],
        Some(&"ipv6") => &[Family::V6],
        _ => &Family::BOTH,
    };
    assert!(node.set(line.words[1], families, verdict) > 0, "{}: names nothing", line.place);
}

fn measure(node: &mut Node, line: &Line<'_>) {
    let client = line.words[1].parse().expect("a prefix");
    let ms = line.words[3].parse().expect("milliseconds");
    (0..ENOUGH).for_each(|_| node.measure(client, line.words[2], ms));
    node.go_by_measured();
}

fn exchange(node: &mut Node, line: &Line<'_>) -> Exchange {
    let (query, source, transport) = if line.words[0] == "send" {
        (hex(line.words[1]), IpAddr::from([127, 0, 0, 1]), Transport::Udp)
    } else {
        let (ask, oddities) = ask(line);
        let mut query = ask.encode();
        query[5] = oddities.qdcount;
        query[7] = oddities.ancount;
        query[11] += oddities.records.len() as u8;
        query.extend(oddities.records.concat());
        (query, ask.source, ask.transport)
    };
    let answer = node.respond(&query, source, transport).to_vec();
    Exchange { query, answer }
}

/// What no proper query has.
struct Oddities {
    qdcount: u8,
    ancount: u8,
    records: Vec<Vec<u8>>,
}

fn ask(line: &Line<'_>) -> (Ask, Oddities) {
    let mut words = line.words[1..].iter().copied().peekable();
    let mut ask = Ask::new(words.next().expect("a name"), 1);
    let class = words.next_if(|word| ["IN", "CH", "HS", "NONE", "CLASSANY"].contains(word));
    ask.class = match class {
        Some("CH") => 3,
        Some("HS") => 4,
        Some("NONE") => 254,
        Some("CLASSANY") => 255,
        _ => 1,
    };
    let qtype = words.next().expect("a type");
    ask.qtype = RecordType::parse(qtype).unwrap_or_else(|| panic!("{}: no type: {qtype}", line.place)).0;
    let mut oddities = Oddities { qdcount: 1, ancount: 0, records: Vec::new() };
    while let Some(word) = words.next() {
        let mut value = || words.next().unwrap_or_else(|| panic!("{}: {word} needs a value", line.place));
        let edns = |ask: &mut Ask, change: &dyn Fn(&mut crate::support::query::Edns)| {
            change(ask.edns.as_mut().expect("EDNS"));
        };
        match word {
            "subnet" => ask = ask.subnet(value()),
            "from" => ask = ask.from(value()),
            "tcp" => ask = ask.tcp(),
            "plain" => ask = ask.plain(),
            "nsid" => ask = ask.option(NSID, Vec::new()),
            "payload" => {
                let octets = value().parse().expect("octets");
                edns(&mut ask, &|edns| edns.payload = octets);
            }
            "version" => {
                let version = value().parse().expect("a number");
                edns(&mut ask, &|edns| edns.version = version);
            }
            "do" => edns(&mut ask, &|edns| edns.dnssec_ok = true),
            "option" => {
                let code = value().parse().expect("a code");
                ask = ask.option(code, hex(value()));
            }
            "cd" => ask.flags |= 0x0010,
            "norec" => ask.flags &= !0x0100,
            "flags" => ask.flags |= u16::from_str_radix(value(), 16).expect("a number"),
            "opcode" => ask.flags |= value().parse::<u16>().expect("a number") << 11,
            "qdcount" => oddities.qdcount = value().parse().expect("a number"),
            "ancount" => oddities.ancount = value().parse().expect("a number"),
            "record" => oddities.records.push(hex(value())),
            other => panic!("{}: no such word: {other}", line.place),
        }
    }
    (ask, oddities)
}

fn hex(text: &str) -> Vec<u8> {
    let text = text.trim_matches('-');
    (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).expect("hexadecimal")).collect()
}

/// What an `expect` line says.
#[derive(Debug, Default, PartialEq)]
struct Said {
    rcode: String,
    authoritative: bool,
    truncated: bool,
    dnssec_ok: bool,
    scope: Option<u8>,
    nsid: Option<String>,
    extended_error: Option<u16>,
    question: bool,
    opt: bool,
    records: Vec<String>,
}

fn expect(line: &Line<'_>, records: &[Line<'_>], exchange: &Exchange) -> Result<(), String> {
    if line.words[1] == "silence" {
        return if exchange.answer.is_empty() { Ok(()) } else { Err("there was an answer".into()) };
    }
    let message = Message::from_vec(&exchange.answer).map_err(|error| format!("{error}: {:02x?}", exchange.answer))?;
    always(&message, exchange)?;
    let found = found(&message);
    let mut wanted = wanted(line, records, exchange);
    align(&mut wanted.records, &found.records);
    if wanted == found { Ok(()) } else { Err(format!("  wanted {wanted:?}\n  found  {found:?}")) }
}

/// What holds of every answer.
fn always(message: &Message, exchange: &Exchange) -> Result<(), String> {
    let flags = u16::from_be_bytes([exchange.query[2], exchange.query[3]]);
    let header = &message.metadata;
    let checks = [
        (exchange.answer[..2] == exchange.query[..2], "another id"),
        (exchange.answer[2] & 0x80 != 0, "QR is clear"),
        (!header.recursion_available, "RA is set"),
        (!header.authentic_data, "AD is set"),
        (exchange.answer[3] & 0x40 == 0, "Z is set"),
        (header.recursion_desired == (flags & 0x0100 != 0), "RD is not copied"),
        (!header.checking_disabled, "CD is set (RFC 4035 §3.1.6)"),
        (u16::from(exchange.answer[2] & 0x78) == flags >> 8 & 0x78, "another opcode"),
    ];
    match checks.iter().find(|(holds, _)| !holds) {
        Some((_, wrong)) => Err((*wrong).into()),
        None if exchange.answer[5] == 1 && !echoes_question(exchange) => Err("another question".into()),
        None => Ok(()),
    }
}

/// The question octet by octet, case and all.
fn echoes_question(exchange: &Exchange) -> bool {
    let mut end = 12;
    while exchange.query[end] != 0 {
        end += 1 + usize::from(exchange.query[end]);
    }
    exchange.answer.get(12..end + 5) == exchange.query.get(12..end + 5)
}

fn found(message: &Message) -> Said {
    let edns = message.edns.as_ref();
    let nsid = edns.and_then(|edns| match edns.option(EdnsCode::NSID)? {
        EdnsOption::NSID(nsid) => Some(String::from_utf8_lossy(nsid.as_ref()).into_owned()),
        _ => None,
    });
    let extended_error = edns.and_then(|edns| match edns.option(EdnsCode::Unknown(15))? {
        EdnsOption::Unknown(_, data) => Some(u16::from_be_bytes([data[0], data[1]])),
        _ => None,
    });
    let high = edns.map_or(0, |edns| u16::from(edns.rcode_high()) << 4);
    let sections =
        [("answer", &message.answers), ("authority", &message.authorities), ("additional", &message.additionals)];
    Said {
        rcode: Rcode(high | u16::from(message.metadata.response_code.low())).to_string(),
        authoritative: message.metadata.authoritative,
        truncated: message.metadata.truncation,
        dnssec_ok: edns.is_some_and(|edns| edns.flags().dnssec_ok),
        scope: scope(message),
        nsid,
        extended_error,
        question: message.queries.len() == 1,
        opt: edns.is_some(),
        records: sections
            .iter()
            .flat_map(|(section, records)| records.iter().map(move |record| shown(section, record)))
            .collect(),
    }
}

fn shown(section: &str, record: &Record) -> String {
    let class = if record.dns_class == DNSClass::IN { "" } else { " CH" };
    let rtype = RecordType(record.record_type().into());
    let data = match &record.data {
        // The other parser does not know it.
        RData::Unknown { rdata, .. } if rtype == RecordType::DNAME => {
            Name::from_wire(&rdata.anything).expect("a name").to_string()
        }
        RData::TXT(text) => {
            let quoted = |string: &[u8]| format!("\"{}\"", String::from_utf8_lossy(string));
            text.txt_data.iter().map(|string| quoted(string)).collect::<Vec<_>>().join(" ")
        }
        // The other parser ends each of a list with a comma.
        RData::HTTPS(_) | RData::SVCB(_) => record.data.to_string().replace(", ", " ").trim_end_matches(',').into(),
        data => data.to_string(),
    };
    format!("{section} {} {}{class} {rtype} {data}", record.name, record.ttl)
}

fn wanted(line: &Line<'_>, records: &[Line<'_>], exchange: &Exchange) -> Said {
    let words = &line.words[2..];
    let has = |word: &str| words.contains(&word);
    let value = |word: &str| words.iter().position(|&each| each == word).map(|at| words[at + 1]);
    Said {
        rcode: line.words[1].into(),
        authoritative: has("aa"),
        truncated: has("tc"),
        dnssec_ok: has("do"),
        scope: value("scope").map(|scope| scope.parse().expect("a scope")),
        nsid: value("nsid").map(Into::into),
        extended_error: value("ede").map(|code| code.parse().expect("a code")),
        question: !has("noquestion"),
        opt: !has("noopt") && exchange.query[11] > 0,
        records: records.iter().map(|line| line.words.join(" ")).collect(),
    }
}

/// Puts what was found in the place of what was wanted where it fits, so that the two compare equal.
fn align(wanted: &mut Vec<String>, found: &[String]) {
    let mut left: Vec<String> = std::mem::take(wanted);
    for record in found {
        if let Some(at) = left.iter().position(|pattern| fits(pattern, record)) {
            left.remove(at);
            wanted.push(record.clone());
        }
    }
    wanted.append(&mut left);
}

fn fits(pattern: &str, record: &str) -> bool {
    let (pattern, record): (Vec<&str>, Vec<&str>) = (pattern.split(' ').collect(), record.split_whitespace().collect());
    for (at, word) in pattern.iter().enumerate() {
        match record.get(at) {
            _ if *word == "*" => return true,
            Some(found) if word.split('|').any(|each| each == *found) => {}
            _ => return false,
        }
    }
    pattern.len() == record.len()
}
