//! What the fuzzer throws octets at, and what must hold then. The targets of `fuzz/` call it, and a test with the corpus.

// Each program that includes this file uses a part of it.
#![allow(dead_code, unreachable_pub)]

use std::cell::RefCell;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Uri};
use waymark::answer::{Transport, Worker, respond};
use waymark::control::World;
use waymark::control::secondary::assemble;
use waymark::dns::tsig::{self, Algorithm, Checker, Fault, Key, Signer, Tsig};
use waymark::dns::{LowerName, Name, Parsed, RecordType, query};
use waymark::problem::Sources;
use waymark::serve::doh::request::{self, Asked, Refusal};
use waymark::serve::proxy;
use waymark::snapshot::Snapshot;
use waymark::zone::{self, Files, Record, Records};

use super::message::{ANY, Answer, Ask, Edns, IN};
use super::name;

const DOWN: [&[&str]; 3] = [&[], &["region/eu-west"], &["region/*"]];
/// Options that an answer may have without being asked: an extended error.
const UNASKED: u16 = 15;
/// Options that somebody might answer: NSID, client subnet, expire, cookie, keepalive, padding, chain, error.
const OPTIONS: [u16; 12] = [0, 3, 5, 8, 9, 10, 11, 12, 13, 14, 15, 18];
const NAMES: [&str; 6] = [
    "www.gslb.example.com",
    "static.gslb.example.com",
    "nope.gslb.example.com",
    "a.sub.gslb.example.com",
    "version.bind",
    "",
];

struct Node {
    /// Each with a worker of its own: they were made apart, so that versions of one mean nothing in another.
    snapshots: Vec<(Snapshot, Worker)>,
    out: Vec<u8>,
}

impl Node {
    fn new() -> Node {
        let configurations =
            [concat!(env!("CARGO_MANIFEST_DIR"), "/tests"), concat!(env!("CARGO_MANIFEST_DIR"), "/../tests")];
        let path = configurations.map(|tests| Path::new(tests).join("example/waymark.toml"));
        let path = path.iter().find(|path| path.is_file()).expect("the example");
        let world = World::compile(waymark::config::load(path).configuration.expect("the example loads"));
        let down = |names: &&[&str]| names.iter().map(|name| (*name).to_string()).collect::<Vec<String>>();
        let with_worker = |names| {
            let (snapshot, mut worker) = (world.offline(&down(names)), Worker::new(&Arc::default(), 1));
            worker.adopt(&snapshot);
            (snapshot, worker)
        };
        Node { snapshots: DOWN.iter().map(with_worker).collect(), out: vec![0; 65_535] }
    }

    /// The answer, of which what holds always was looked at.
    fn answer(&mut self, choice: u8, query: &[u8]) -> &[u8] {
        let transport = match choice & 0x41 {
            0 | 0x40 => Transport::Udp,
            1 => Transport::Tcp,
            _ => Transport::Tls,
        };
        let (snapshot, worker) = &mut self.snapshots[usize::from(choice >> 1) % DOWN.len()];
        let source = IpAddr::from([127, 0, 0, choice]);
        let length = respond(snapshot, worker, query, source, transport, &mut self.out).length();
        let answer = &self.out[..length];
        if query.len() < 12 || query[2] & 0x80 != 0 {
            assert!(answer.is_empty());
            return answer;
        }
        assert!(length >= 12);
        assert!(transport != Transport::Udp || length <= usize::from(snapshot.settings.max_udp_payload));
        assert_eq!(answer[..2], query[..2]);
        assert_eq!(answer[2] & 0xf9, 0x80 | query[2] & 0x79);
        assert_eq!(answer[3] & 0xe0, 0);
        answer
    }
}

thread_local! {
    static NODE: RefCell<Node> = RefCell::new(Node::new());
}

/// Any octets as a packet, over UDP and TCP, to the example configuration: no panic, no answer to a response, never too
/// long, id and opcode echoed. The first octet chooses the transport and what is down.
pub fn packet(octets: &[u8]) {
    let Some((&choice, query)) = octets.split_first() else { return };
    NODE.with_borrow_mut(|node| {
        node.answer(choice, query);
    });
    // What is found without looking closely is what it says, if it is good.
    let likely = query::likely_subnet(query);
    if let (Parsed::Query(asked), Some(likely)) = (query::parse(query, &mut LowerName::new()), likely) {
        assert_eq!(asked.edns.and_then(|edns| edns.client_subnet).map(|subnet| subnet.address), Some(likely));
    }
}

/// A good query with any options: the same holds, the answer is a message with one OPT, of version 0, or none where none
/// was sent, and with no option that was not sent, but for an extended error.
///
/// ```text
/// ┌────────┬──────┬──────┬─────────┬─────────┬───────┬────────────────────────────────────┐
/// │ choice │ name │ type │ version │ payload │ flags │ options: code, length, data, again │
/// └────────┴──────┴──────┴─────────┴─────────┴───────┴────────────────────────────────────┘
/// ```
pub fn edns(octets: &[u8]) {
    let Some((&[choice, name, qtype, version, payload, flags], mut rest)) = octets.split_first_chunk() else { return };
    let mut options = vec![];
    while let Some((&[code, length], behind)) = rest.split_first_chunk() {
        let (data, behind) = behind.split_at(usize::from(length).min(behind.len()));
        let code = OPTIONS.get(usize::from(code)).copied().unwrap_or(u16::from(code) << 8);
        options.push((code, data.to_vec()));
        rest = behind;
    }
    // One version in sixteen is another than 0.
    let version = if version & 15 == 15 { version } else { 0 };
    let edns = Edns { payload: u16::from(payload) << 5, version, flags: u16::from(flags) << 8, options };
    let ask = Ask {
        flags: u16::from(choice & 0x80) << 1,
        name: name::of(NAMES[usize::from(name) % NAMES.len()]),
        qtype: if qtype == 0 { ANY } else { u16::from(qtype) },
        class: if name & 0x80 == 0 { IN } else { 3 },
        edns: Some(edns),
        tcp: false,
    };
    let mut query = ask.encode(0x4711);
    // A second OPT, now and then.
    let is_twice = flags & 0x7f == 0x7f;
    if is_twice {
        query[11] = 2;
        query.extend([0, 0, 41, 4, 0, 0, 0, 0, 0, 0, 0]);
    }
    NODE.with_borrow_mut(|node| {
        let answer = Answer::parse(node.answer(choice, &query)).expect("a message");
        let opt = answer.opt.expect("an OPT for an OPT");
        assert_eq!((opt.version, opt.flags & 0x7fff), (0, 0));
        assert!(!is_twice || answer.rcode == 1);
        let sent = ask.edns.iter().flat_map(|edns| &edns.options);
        let sent: Vec<u16> = sent.map(|option| option.0).chain([UNASKED]).collect();
        for (at, (code, _)) in opt.options.iter().enumerate() {
            assert!(sent.contains(code), "option {code} was not sent");
            assert!(opt.options[..at].iter().all(|other| other.0 != *code), "option {code} twice");
        }
        // Without an OPT in the query there is none in the answer.
        let plain = Ask { edns: None, ..ask.clone() };
        let answer = Answer::parse(node.answer(choice, &plain.encode(0x4711))).expect("a message");
        assert!(answer.opt.is_none());
    });
}

/// Any octets as what a balancer sends: no panic, and a header that is read is within them, of bounded length, and the
/// same whatever follows it.
pub fn proxy(octets: &[u8]) {
    let Some(header) = proxy::parse(octets) else { return };
    assert!((16..=octets.len().min(1024)).contains(&header.length));
    assert_eq!(proxy::parse(&octets[..header.length]), Some(header));
    assert_eq!(proxy::parse(&octets[..header.length - 1]), None);
}

/// Any octets as a request of DNS over HTTPS: no panic, a message of bounded length for GET and HEAD alone, a body for POST
/// alone, none for another path; and as an answer: its head is always one, and says how long it is fresh.
///
/// ```text
/// ┌────────┬──────────────────────┬────────────┬──────────────────┬────────────┬────────┐
/// │ method │ path and query, \n   │ type, \n   │ length, \n       │ accept, \n │ answer │
/// └────────┴──────────────────────┴────────────┴──────────────────┴────────────┴────────┘
/// ```
pub fn doh(octets: &[u8]) {
    let Some((&method, rest)) = octets.split_first() else { return };
    let method =
        [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::CONNECT][usize::from(method) % 5].clone();
    let mut parts = rest.splitn(5, |octet| *octet == b'\n');
    let mut part = || parts.next().unwrap_or_default();
    let uri = part();
    let mut headers = HeaderMap::new();
    for name in [CONTENT_TYPE, CONTENT_LENGTH, ACCEPT] {
        if let Ok(value) = HeaderValue::from_bytes(part()) {
            headers.append(name, value);
        }
    }
    let answer = part();
    if let Ok(uri) = Uri::try_from(uri) {
        let asked = request::read("/dns-query", &method, &uri, &headers);
        let is_there = uri.path() == "/dns-query";
        match &asked {
            Ok(Asked::Query(message)) => {
                assert!(is_there && message.len() <= 65_535 && [Method::GET, Method::HEAD].contains(&method));
            }
            Ok(Asked::Body) => assert!(is_there && method == Method::POST),
            Err(refusal) => assert!(refusal.head().status().is_client_error()),
        }
        assert_eq!(asked == Err(Refusal::NotFound), !is_there);
    }
    let head = request::head(answer);
    assert_eq!(head.headers()[CACHE_CONTROL], format!("private, max-age={}", request::freshness(answer)));
}

/// Whatever is included is a piece of the same text.
struct Half(String);

impl Files for Half {
    fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        Ok(path.into())
    }

    fn root(&self) -> Option<&Path> {
        None
    }

    fn read(&self, _: &Path) -> io::Result<String> {
        Ok(self.0.clone())
    }
}

/// Any octets as a zone file: no panic, every record that is returned is in order, and what is printed of them is read as
/// the same records.
pub fn zone_file(octets: &[u8]) {
    let text = String::from_utf8_lossy(octets);
    let origin = Name::parse("example.com.", None).expect("a name");
    let mut sources = Sources::default();
    let file = sources.add(Path::new("zone"), text.to_string());
    let half = Half(text.chars().skip(text.chars().count() / 2).collect());
    let (records, problems) = zone::parse(&mut sources, file, &origin, &half);
    for record in records.iter() {
        assert!(record.name().is_at_or_below(&origin));
        assert!(record.rdata.len() <= 65_535);
        assert!(i32::try_from(record.ttl).is_ok());
        assert!(!record.rtype.is_meta());
        let _ = sources.place(&record.span);
    }
    for problem in problems {
        for span in problem.span.iter().chain(problem.also.iter().map(|(span, _)| span)) {
            let _ = sources.place(span);
        }
    }
    let _ = zone::first_origin(&text);
    // A few octets of `$GENERATE` make a million records.
    if records.len() < 1000 {
        let printed: String = zone::lines(&origin, &records).map(|line| line + "\n").collect();
        let file = sources.add(Path::new("printed"), printed);
        let (again, _) = zone::parse(&mut sources, file, &origin, &half);
        assert_eq!(again.len(), records.len());
        assert_eq!(again.digest(), records.digest());
    }
}

/// Any octets as the messages of a copy of `z.`, each behind its length: no panic, and what is taken is a zone: its SOA first and
/// once, its NS, nothing outside. The first octet says whether serial 4 of it is there already.
pub fn transfer(octets: &[u8]) {
    let Some((&choice, messages)) = octets.split_first() else { return };
    let origin = Name::parse("z.", None).expect("a name");
    let soa = [&[0, 0][..], &4u32.to_be_bytes(), &[0; 16]].concat();
    let records = [(RecordType::SOA, &soa[..]), (RecordType::NS, &[0][..]), (RecordType::A, &[192, 0, 2, 1][..])];
    let known: Records =
        records.iter().map(|(rtype, rdata)| Record::made(origin.as_wire(), *rtype, 60, rdata)).collect();
    let known = Arc::new(known);
    let Ok(Some(zone)) = assemble(&origin, (choice & 1 == 1).then_some(&known), messages) else { return };
    let at_apex = |rtype| zone.iter().filter(|one| one.rtype == rtype && one.name() == origin).count();
    assert_eq!(zone.iter().next().map(|first| first.rtype), Some(RecordType::SOA));
    assert!(zone.iter().filter(|one| one.rtype == RecordType::SOA).count() == 1 && at_apex(RecordType::NS) > 0);
    assert!(zone.iter().all(|one| one.name().is_at_or_below(&origin) && !one.rtype.is_meta()));
    assert!(choice & 1 == 0 || zone.digest() != known.digest());
}

/// Any octets as a message that may be signed: no panic, and nobody without the key has signed it. What we sign ourselves is
/// good, and is not with any octet changed.
pub fn tsig(octets: &[u8]) {
    const NOW: u64 = 1_800_000_000;
    let name = Name::parse("key.", None).expect("a name");
    let key = Key::new(&name, Algorithm::Sha256, &[7; 32]);
    let asked = Signer::asking();
    for asked in [None, Some(&asked)] {
        if let Some(tsig) = tsig::find(octets).and_then(|at| Tsig::read(octets, at)) {
            assert_ne!(tsig.verify(octets, Some(&key), NOW, asked), Ok(()));
            assert_eq!(tsig.verify(octets, None, NOW, asked), Err(Fault::BadKey));
            let mut out = [octets, &[0; 512]].concat();
            let length = tsig.answer_unsigned(Fault::BadSig, NOW, &mut out, 12, 512);
            assert!((12..=512).contains(&length));
        }
    }
    let mut checker = Checker::new(&key, &asked);
    assert!(checker.check(octets, NOW).is_err());
    // A message as long as any, with its header and counts as they come.
    if octets.len() < 12 || octets.len() > 60_000 {
        return;
    }
    let (mut signed, mut signer) = ([octets, &vec![0; key.room()]].concat(), Signer::asking());
    let length = signer.sign(&key, NOW, &mut signed, octets.len());
    signed.truncate(length);
    // What stands behind the last record would become part of the name of the key.
    let found = tsig::find(&signed).filter(|&at| at == octets.len());
    let Some(tsig) = found.and_then(|at| Tsig::read(&signed, at)) else { return };
    assert_eq!(tsig.verify(&signed, Some(&key), NOW, None), Ok(()));
    let at = usize::from(octets[0]) % (octets.len() - 2) + 2;
    signed[at] ^= 1;
    if let Some(tsig) = tsig::find(&signed).and_then(|at| Tsig::read(&signed, at)) {
        assert_ne!(tsig.verify(&signed, Some(&key), NOW, None), Ok(()), "octet {at}");
    }
}
