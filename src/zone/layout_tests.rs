//! What is copied from the arena against what the writer makes of the same data, both read by a second parser.

use hickory_proto::op::Message;
use proptest::prelude::*;

use super::{Authority, Found, Record, Records, Rrset};
use crate::dns::query::HEADER;
use crate::dns::{Full, LowerName, Name, Owner, RecordType, Section, Targets, Writer};
use crate::problem::{SourceId, Span};

/// Types of every kind: no names, names that are not compressed, one, two, one behind a number.
const TYPES: [RecordType; 8] = [
    RecordType::A,
    RecordType::AAAA,
    RecordType::TXT,
    RecordType::SRV,
    RecordType::NS,
    RecordType::PTR,
    RecordType::MINFO,
    RecordType::MX,
];
const ORIGINS: [&str; 4] = [".", "z.", "Zone.Example.", "a.very-long-label-for-an-apex.zone.example."];

fn name(text: &str) -> Name {
    Name::parse(text, None).expect("a name")
}

/// Labels in either case, below an origin.
fn below(most: usize) -> impl Strategy<Value = String> {
    prop::collection::vec("[a-cA-C]{1,3}|[a-z]{60}", 0..=most).prop_map(|labels| labels.join("."))
}

fn joined(labels: &str, origin: &str) -> Name {
    if labels.is_empty() { name(origin) } else { name(&format!("{labels}.{}", origin.trim_start_matches('.'))) }
}

fn span() -> Span {
    Span::new(SourceId(0), 0..0)
}

fn rdata(rtype: RecordType, target: &Name, number: u8) -> Vec<u8> {
    let target = target.as_wire();
    match rtype {
        RecordType::A => vec![192, 0, 2, number],
        RecordType::AAAA => [&[0x20; 15][..], &[number]].concat(),
        RecordType::TXT => [&[number % 16][..], &vec![b'x'; usize::from(number % 16)]].concat(),
        RecordType::SRV => [&[0, 1, 0, 2, 0, number], target].concat(),
        RecordType::MINFO => [target, target].concat(),
        RecordType::MX => [&[0, number][..], target].concat(),
        _ => target.to_vec(),
    }
}

/// Header and question.
fn query(qname: &Name) -> Vec<u8> {
    [&[0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0], qname.as_wire(), &[0, 1, 0, 1]].concat()
}

/// The message that `write` makes behind a question, as octets and as a second parser reads it.
fn message(
    qname: &Name,
    limit: usize,
    write: impl FnOnce(&mut Writer<'_>) -> Result<(), Full>,
) -> Result<(usize, Message), Full> {
    let (mut out, mut targets) = (vec![0xaa; 65_535], Targets::default());
    let head = query(qname);
    let mut writer = Writer::new(&mut out, &mut targets, limit, 0x8400, &head);
    let written = write(&mut writer);
    let length = writer.length();
    if written.is_err() {
        assert_eq!((length, &out[6..12]), (head.len(), &[0; 6][..]), "nothing is written");
    }
    written.map(|()| (length, Message::from_vec(&out[..length]).expect("a message")))
}

/// The RRset by the writer alone.
fn written(writer: &mut Writer<'_>, rrset: &Rrset<'_>, owner: Owner<'_>) -> Result<(), Full> {
    let mark = writer.mark();
    let mut rdatas = rrset.rdatas();
    let written = rdatas.try_for_each(|rdata| writer.record(Section::Answer, owner, rrset.rtype, rrset.ttl(), rdata));
    if written.is_err() {
        writer.rewind(mark);
    }
    written
}

/// A zone with records at one owner, its SOA by these names.
fn authority(origin: &Name, owner: &Name, records: &[(RecordType, Vec<u8>)], soa: [&Name; 2]) -> Authority {
    let soa = [soa[0].as_wire(), soa[1].as_wire(), &[0; 16], &60u32.to_be_bytes()].concat();
    let record = |owner, rtype, rdata| Record { owner, rtype, ttl: 300, rdata, span: span() };
    let apex = std::iter::once(record(origin.as_wire(), RecordType::SOA, &soa));
    let others = records.iter().map(|(rtype, rdata)| record(owner.as_wire(), *rtype, rdata));
    let records: Records = apex.chain(others).collect();
    Authority::build([(origin.clone(), records)], [])
}

fn find<'a>(authority: &'a Authority, qname: &Name, rtype: RecordType) -> Found<'a> {
    let mut lower = LowerName::new();
    lower.set(qname.as_wire()).expect("a name");
    authority.find(&lower, rtype)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn copied_rrsets_are_those_that_are_written(
        origin in prop::sample::select(&ORIGINS[..]),
        (labels, target) in (below(2), below(2)),
        rtype in prop::sample::select(&TYPES[..]),
        numbers in prop::collection::btree_set(any::<u8>(), 1..30),
        wildcard in any::<bool>(),
        limit in 100usize..1500,
    ) {
        let (below_it, target) = (joined(&labels, origin), joined(&target, origin));
        let owner = if wildcard { joined("*", &below_it.to_string()) } else { below_it.clone() };
        let qname = if wildcard { joined("Any.Thing", &below_it.to_string()) } else { below_it };
        let rdatas: Vec<_> = numbers.iter().map(|number| (rtype, rdata(rtype, &target, *number))).collect();
        let apex = name(origin);
        let authority = authority(&apex, &owner, &rdatas, [&apex, &apex]);
        // NS below the apex is a zone cut.
        let node = match find(&authority, &qname, rtype) {
            Found::Data { node, wildcard: expanded } => { prop_assert_eq!(expanded, wildcard); node }
            Found::Referral { cut } => cut,
            other => return Err(TestCaseError::fail(format!("{other:?}"))),
        };
        prop_assert_eq!(node.name(), owner.as_wire());
        let rrset = node.rrset(rtype).expect("an RRset");
        for limit in [limit, 65_535] {
            let copied = message(&qname, limit, |writer| rrset.write(writer, Section::Answer, Owner::Question));
            let expected = message(&qname, limit, |writer| written(writer, &rrset, Owner::Question));
            prop_assert_eq!(&copied, &expected);
            // Behind a CNAME the owner is a name that stands in the message.
            let link = |writer: &mut Writer<'_>| {
                writer.record(Section::Answer, Owner::Question, RecordType::CNAME, 5, target.as_wire())
            };
            let mark = |writer: &Writer<'_>| writer.name_in_rdata().map_or(Owner::Name(target.as_wire()), Owner::At);
            let copied = message(&qname, 65_535, |writer| {
                link(writer)?;
                rrset.write(writer, Section::Answer, mark(writer))
            });
            let expected = message(&qname, 65_535, |writer| {
                link(writer)?;
                written(writer, &rrset, Owner::Name(target.as_wire()))
            });
            prop_assert_eq!(copied, expected);
        }
    }

    #[test]
    fn negative_answers_are_those_that_are_written(
        origin in prop::sample::select(&ORIGINS[..]),
        qname in below(3),
        names in (below(2), prop::sample::select(&ORIGINS[..]), below(2), prop::sample::select(&ORIGINS[..])),
        ttl in 0u32..100,
        limit in 100usize..700,
    ) {
        let (mname, rname) = (joined(&names.0, names.1), joined(&names.2, names.3));
        let (apex, qname) = (name(origin), joined(&qname, origin));
        let authority = authority(&apex, &apex, &[], [&mname, &rname]);
        let apex = &authority.zones()[0];
        let soa = |limit, qname: &Name, asked| {
            message(qname, limit, |writer| authority.write_soa(apex, writer, ttl, asked))
        };
        let ready = soa(65_535, &qname, Some(qname.as_wire().len())).expect("room");
        let expected = soa(65_535, &qname, None).expect("room");
        prop_assert_eq!(&ready.1, &expected.1);
        prop_assert_eq!(ready.1.authorities[0].ttl, ttl.min(60));
        // The names of the SOA may be compressed against labels before the apex as well, then it is shorter.
        prop_assert!(ready.0 >= expected.0);
        if qname.as_wire().len() == apex.origin.as_wire().len() {
            prop_assert_eq!(ready.0, expected.0);
        }
        let short = soa(limit, &qname, Some(qname.as_wire().len()));
        prop_assert_eq!(short.is_ok(), ready.0 <= limit);
    }
}

#[test]
fn octets_of_a_static_answer() {
    let (apex, owner) = (name("example.com"), name("www.example.com"));
    let authority = authority(&apex, &owner, &[(RecordType::A, vec![192, 0, 2, 1])], [&apex, &apex]);
    let Found::Data { node, .. } = find(&authority, &name("WWW.Example.com"), RecordType::A) else { panic!("data") };
    let (mut out, mut targets) = ([0; 512], Targets::default());
    let head = query(&owner);
    let mut writer = Writer::new(&mut out, &mut targets, 512, 0x8400, &head);
    let rrset = node.rrset(RecordType::A).expect("an RRset");
    rrset.write(&mut writer, Section::Answer, Owner::Question).expect("room");
    let length = writer.length();
    let record = [0xc0, 12, 0, 1, 0, 1, 0, 0, 1, 44, 0, 4, 192, 0, 2, 1];
    assert_eq!(out[HEADER..length], [&head[HEADER..], &record[..]].concat());
    assert_eq!((rrset.count(), node.rrsets().count(), node.tag()), (1, 1, None));
}
