//! Packets that no client sends: whatever the octets, no panic, at most one answer, never too long, always a message
//! that another parser reads (SPEC 7.3, 7.4; RFC 6891, 8906).

use std::cell::RefCell;
use std::net::IpAddr;

use hickory_proto::op::Message;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use waymark::answer::Transport;

use crate::support::node::Node;
use crate::support::query::{Ask, wire};

const SOURCE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 9));
const MAX_UDP_PAYLOAD: usize = 1232;
const NAMES: [&str; 8] = ["www", "static", "alias", "x.wild", "a.sub", "nope", "b.ent", "dr"];

/// What holds whatever was asked. Returns the answer, if there is one.
fn check(node: &mut Node, query: &[u8], transport: Transport) -> Option<Message> {
    let answer = node.respond(query, SOURCE, transport).to_vec();
    if query.len() < 12 || query[2] & 0x80 != 0 {
        assert!(answer.is_empty(), "junk and responses are not answered: {query:02x?}");
        return None;
    }
    assert!(answer.len() >= 12, "everything else is: {query:02x?}");
    let message = Message::from_vec(&answer).unwrap_or_else(|error| panic!("{query:02x?} gave {answer:02x?}: {error}"));
    assert_eq!(answer[..2], query[..2], "id");
    assert!(answer[2] & 0x80 != 0, "QR");
    assert_eq!(answer[2] & 0x79, query[2] & 0x79, "opcode and RD of {query:02x?}");
    assert_eq!(answer[3] & 0xe0, 0, "RA, Z, AD");
    assert!(answer.len() <= limit(query, &message, transport), "{query:02x?} gave {} octets", answer.len());
    if answer[5] == 1 {
        let end = question_end(&answer);
        assert_eq!(answer.get(12..end), query.get(12..end), "question");
    }
    if let Some(asked) = understood(query) {
        assert_eq!(message.edns.is_some(), asked.edns.is_some(), "OPT of {query:02x?}");
        assert_eq!(answer[5], 1, "the question of {query:02x?} is echoed");
    }
    Some(message)
}

/// The query as the other parser reads it, if it is an ordinary one.
fn understood(query: &[u8]) -> Option<Message> {
    let is_ordinary = query[2] & 0x78 == 0 && query[4..10] == [0, 1, 0, 0, 0, 0];
    // The other parser follows pointers and reads OPTs in places where they are none.
    let no_pointer = question_end(query) <= query.len() && query[12..].iter().all(|octet| octet & 0xc0 == 0);
    Message::from_vec(query).ok().filter(|_| is_ordinary && no_pointer)
}

fn limit(query: &[u8], answer: &Message, transport: Transport) -> usize {
    let payload = understood(query).and_then(|query| query.edns).map(|edns| usize::from(edns.max_payload()));
    match (transport, &answer.edns, payload) {
        (Transport::Udp, None, _) => 512,
        (Transport::Udp, Some(_), payload) => payload.unwrap_or(MAX_UDP_PAYLOAD).clamp(512, MAX_UDP_PAYLOAD),
        _ => 65_535,
    }
}

/// Where the question of a message ends; beyond the message when it does not.
fn question_end(message: &[u8]) -> usize {
    let mut end = 12;
    while let Some(&length) = message.get(end)
        && length != 0
    {
        end += 1 + usize::from(length);
    }
    end + 5
}

fn good(name: &str, qtype: u16) -> Ask {
    Ask::new(&format!("{name}.gslb.example.com"), qtype).subnet("203.0.113.0/24").option(3, Vec::new())
}

fn goods() -> Vec<Vec<u8>> {
    let mut goods = Vec::new();
    for name in NAMES {
        for qtype in [1, 28, 255, 5] {
            goods.push(good(name, qtype).encode());
            goods.push(good(name, qtype).plain().encode());
        }
    }
    goods
}

fn cases(count: u32) -> TestRunner {
    TestRunner::new(ProptestConfig { cases: count, failure_persistence: None, ..ProptestConfig::default() })
}

fn transport() -> impl Strategy<Value = Transport> {
    prop_oneof![Just(Transport::Udp), Just(Transport::Tcp), Just(Transport::Tls), Just(Transport::Quic)]
}

#[test]
fn random_octets() {
    let node = RefCell::new(Node::example());
    let octets = prop::collection::vec(prop_oneof![3 => any::<u8>(), 2 => 0u8..4, 1 => Just(0xc0u8)], 0..600);
    // A header that gets past the first tests, half of the time.
    let header = prop_oneof![Just(None), (any::<u16>(), 0u8..3).prop_map(Some)];
    let run = cases(4000).run(&(octets, header, transport()), |(mut octets, header, transport)| {
        if let (Some((id, additional)), true) = (header, octets.len() >= 12) {
            octets[..2].copy_from_slice(&id.to_be_bytes());
            octets[2..12].copy_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, additional]);
        }
        check(&mut node.borrow_mut(), &octets, transport);
        Ok(())
    });
    run.expect("holds");
}

#[test]
fn mutated_queries() {
    let node = RefCell::new(Node::example());
    let goods = goods();
    let edit = (any::<prop::sample::Index>(), any::<u8>(), 0u8..4);
    let all = (0..goods.len(), prop::collection::vec(edit, 1..6), transport());
    let run = cases(6000).run(&all, |(which, edits, transport)| {
        let mut query = goods[which].clone();
        for (at, octet, how) in edits {
            let at = at.index(query.len());
            match how {
                0 => query[at] = octet,
                1 => query[at] ^= 1 << (octet % 8),
                2 => query.insert(at, octet),
                _ => drop(query.remove(at)),
            }
        }
        check(&mut node.borrow_mut(), &query, transport);
        Ok(())
    });
    run.expect("holds");
}

#[test]
fn queries_cut_anywhere_or_with_a_tail() {
    let mut node = Node::example();
    for query in goods() {
        for length in 0..query.len() {
            let answer = check(&mut node, &query[..length], Transport::Udp);
            let rcode = answer.map(|message| u16::from(message.metadata.response_code.low()));
            assert_eq!(rcode, (length >= 12).then_some(1), "FORMERR for {length} of {query:02x?}");
        }
        check(&mut node, &[&query[..], &[0xff; 40]].concat(), Transport::Udp);
    }
}

#[test]
fn every_type_class_opcode_and_option() {
    let mut node = Node::example();
    for (name, qtypes) in [("www", 0..=65_535u16), ("static", 0..=512), ("a.sub", 0..=512), ("x.wild", 0..=512)] {
        let mut query = good(name, 0).encode();
        let at = question_end(&query) - 4;
        for qtype in qtypes {
            query[at..at + 2].copy_from_slice(&qtype.to_be_bytes());
            let message = check(&mut node, &query, Transport::Udp).expect("an answer");
            let expected = match qtype {
                128 => 1,
                // They are names in a zone, not its apex.
                251 | 252 => 9,
                _ => 0,
            };
            assert_eq!(u16::from(message.metadata.response_code.low()), expected, "{name} TYPE{qtype}");
        }
    }
    let mut query = good("www", 1).encode();
    let at = question_end(&query) - 2;
    for class in 0..=65_535u16 {
        query[at..at + 2].copy_from_slice(&class.to_be_bytes());
        let message = check(&mut node, &query, Transport::Udp).expect("an answer");
        let expected = if [1, 255].contains(&class) { 0 } else { 5 };
        assert_eq!(u16::from(message.metadata.response_code.low()), expected, "CLASS{class}");
    }
    for flags in 0..=0x7fffu16 {
        let query = Ask { flags, ..good("static", 1) }.encode();
        let message = check(&mut node, &query, Transport::Udp).expect("an answer");
        let expected = if flags & 0x7800 == 0 { 0 } else { 4 };
        assert_eq!(u16::from(message.metadata.response_code.low()), expected, "flags {flags:04x}");
    }
    for code in (0..=65_535u16).filter(|code| ![8, 10].contains(code)) {
        let query = Ask::new("static.gslb.example.com", 1).option(code, vec![1, 2, 3]).encode();
        let message = check(&mut node, &query, Transport::Udp).expect("an answer");
        assert_eq!(u16::from(message.metadata.response_code.low()), 0, "option {code}");
        let options = message.edns.expect("an OPT").options().as_ref().len();
        assert_eq!(options, usize::from(code == 3), "option {code} is not echoed");
    }
}

#[test]
fn every_count() {
    let mut node = Node::example();
    let query = good("static", 1).plain().encode();
    for at in [4, 6, 8, 10] {
        for count in [0u16, 1, 2, 255, 256, 65_535] {
            let mut query = query.clone();
            query[at..at + 2].copy_from_slice(&count.to_be_bytes());
            let message = check(&mut node, &query, Transport::Udp).expect("an answer");
            let fine = count == u16::from(at == 4);
            assert_eq!(u16::from(message.metadata.response_code.low()), u16::from(!fine), "{count} at {at}");
        }
    }
}

/// Names of 255 octets with the longest options, at the smallest payload: the OPT stays, the limit holds.
#[test]
fn longest_names() {
    let mut node = Node::example();
    let mut settings = waymark::snapshot::Settings::clone(&node.snapshot.settings);
    settings.node = "n".repeat(255);
    node.snapshot.settings = settings.into();
    let suffix = wire("wild.gslb.example.com");
    let mut deep = Vec::new();
    while deep.len() + suffix.len() + 2 <= 255 {
        deep.extend([1, b'a']);
    }
    deep.extend(&suffix);
    let wide: Vec<u8> = [63u8, 63, 63, 61].iter().flat_map(|&l| [vec![l], vec![b'x'; l.into()]].concat()).collect();
    for name in [deep, [wide, vec![0]].concat(), wire("gslb.example.com"), wire(".")] {
        for (qtype, version, class) in [(1, 0, 1), (16, 0, 1), (255, 0, 1), (1, 1, 1), (1, 0, 9), (16, 0, 3)] {
            let mut ask = Ask { name: name.clone(), class, ..Ask::new(".", qtype) }
                .subnet("2001:db8:1:2:3:4:5:6/128")
                .option(3, Vec::new());
            let edns = ask.edns.as_mut().expect("EDNS");
            (edns.payload, edns.version) = (0, version);
            let message = check(&mut node, &ask.encode(), Transport::Udp).expect("an answer");
            let edns = message.edns.expect("the OPT stays");
            assert_eq!(u8::from(edns.rcode_high() == 1), version, "BADVERS");
        }
    }
}

/// Two OPTs, an OPT of another owner, malformed client subnets of every first octets.
#[test]
fn client_subnets_of_every_shape() {
    let mut node = Node::example();
    for family in 0..=3u8 {
        for source in 0..=140u8 {
            for octets in 0..=17usize {
                for scope in [0, 1] {
                    let data = [&[0, family, source, scope][..], &vec![0; octets]].concat();
                    let ask = Ask::new("www.gslb.example.com", 1).option(8, data);
                    let longest = [0, 32, 128, 0][usize::from(family)];
                    let whole = octets == usize::from(source).div_ceil(8);
                    let fine = family < 3 && source <= longest && whole && scope == 0;
                    let octets = node.respond(&ask.encode(), SOURCE, Transport::Udp);
                    assert_eq!(octets[3] & 0x0f == 0, fine, "{ask:?}");
                }
            }
        }
    }
}

/// A truncated answer holds whole RRsets only: what it has of an owner and type is all there is over TCP.
#[test]
fn nothing_is_cut_in_half() {
    let mut zone = String::from("$TTL 300\n@ SOA ns hostmaster 1 2 3 4 60\n@ NS ns\nns A 127.0.0.1\n");
    let fill = "x".repeat(40);
    for size in 1..40 {
        for at in 0..size {
            zone += &format!("t{size} TXT \"{at} {fill}\"\nm{size} MX {at} t{at}\nd{size} NS n{at}.d{size}\n");
            zone +=
                &format!("n{at}.d{size} A 192.0.2.{at}\nn{at}.d{size} AAAA 2001:db8::{at}\nc{size} A 192.0.2.{at}\n");
        }
        zone += &format!("a{size} CNAME t{size}\n");
    }
    let configuration = "[zones.\"example\"]\nfile = \"zone\"\n";
    let mut node = Node::of(&[("waymark.toml", configuration), ("zone", &zone)]);
    for size in 1..40 {
        for (name, qtype) in [("t", 16), ("m", 15), ("x.d", 1), ("a", 16), ("c", 1)] {
            let ask = Ask::new(&format!("{name}{size}.example"), qtype);
            let whole = node.ask(&ask.clone().tcp());
            assert!(!whole.metadata.truncation);
            for payload in [512u16, 700, 1232] {
                let mut ask = ask.clone().option(3, Vec::new());
                ask.edns.as_mut().expect("EDNS").payload = payload;
                let part = check(&mut node, &ask.encode(), Transport::Udp).expect("an answer");
                let sections = |message: &Message| [message.answers.len(), message.authorities.len()];
                let complete = sections(&part) == sections(&whole);
                let is_referral = name == "x.d";
                let glue_missing = is_referral && part.additionals.len() < whole.additionals.len();
                assert_eq!(part.metadata.truncation, !complete || glue_missing, "{ask:?}");
                for (found, all) in [(&part.answers, &whole.answers), (&part.authorities, &whole.authorities)] {
                    for record in found {
                        let same = |other: &&hickory_proto::rr::Record| {
                            (&other.name, other.record_type()) == (&record.name, record.record_type())
                        };
                        assert_eq!(found.iter().filter(same).count(), all.iter().filter(same).count(), "{ask:?}");
                    }
                }
            }
        }
    }
}
