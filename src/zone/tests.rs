//! Tests of zone files as a whole: rows, golden files, properties.

use std::io;
use std::path::{Path, PathBuf};

use hickory_proto::rr::{RData, RecordType as HickoryType};
use hickory_proto::serialize::binary::{BinDecoder, Restrict};
use proptest::prelude::*;

use super::{Files, Record, Records, lines, parse, wire};
use crate::dns::{Name, RecordType};
use crate::problem::{Problem, Severity, Sources};

const HEAD: &str = "$TTL 300\n@ SOA ns1 hostmaster 1 7200 1800 1209600 30\n@ NS ns1\nns1 A 192.0.2.53\n";

fn origin() -> Name {
    Name::parse("example.com.", None).expect("a name")
}

/// Files by their paths.
struct InMemory<'a>(&'a [(&'a str, &'a str)]);

impl Files for InMemory<'_> {
    fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        Ok(path.into())
    }

    fn root(&self) -> Option<&Path> {
        None
    }

    fn read(&self, resolved: &Path) -> io::Result<String> {
        let found = self.0.iter().find(|(name, _)| Path::new(name) == resolved);
        found.map(|(_, text)| (*text).to_string()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

/// Loads `text` as `test.zone`; files beside it are `files`.
fn load_with(text: &str, files: &[(&str, &str)]) -> (Sources, Records, Vec<Problem>) {
    let mut sources = Sources::default();
    let file = sources.add(Path::new("zones/test.zone"), text.into());
    let (records, problems) = parse(&mut sources, file, &origin(), &InMemory(files));
    (sources, records, problems)
}

fn load(text: &str) -> (Sources, Records, Vec<Problem>) {
    load_with(text, &[])
}

fn hexadecimal(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// One line for a problem, and one for every place that belongs to it.
fn show(sources: &Sources, problem: &Problem) -> String {
    let severity = if problem.severity == Severity::Error { "error" } else { "warning" };
    let place = problem.span.as_ref().map_or(String::new(), |span| format!("{}: ", sources.place(span)));
    let mut line = format!("{place}{severity}: {}", problem.message);
    if let Some(allowed) = &problem.allowed {
        line += &format!(" (allowed: {allowed})");
    }
    if let Some(hint) = &problem.hint {
        line += &format!(" (hint: {hint})");
    }
    for (span, label) in &problem.also {
        line += &format!("\n  {}: {label}", sources.place(span));
    }
    line
}

/// What the second parser makes of record data; `None` for types that it does not know.
fn second_parser(record: &Record<'_>) -> Option<Result<RData, String>> {
    let rtype = HickoryType::from(record.rtype.0);
    if matches!(rtype, HickoryType::Unknown(_)) {
        return None;
    }
    let mut decoder = BinDecoder::new(record.rdata);
    let length = Restrict::new(u16::try_from(record.rdata.len()).expect("at most 65535 octets"));
    let parsed = RData::read(&mut decoder, rtype, length).map_err(|error| error.to_string());
    Some(parsed).filter(|parsed| parsed.is_ok() || !is_beyond_second_parser(record))
}

/// Where the second parser is narrower than the RFC.
fn is_beyond_second_parser(record: &Record<'_>) -> bool {
    match record.rtype {
        // It takes protocol ids for UTF-8; they are octets (RFC 9460 §7.1.1).
        RecordType::SVCB | RecordType::HTTPS => std::str::from_utf8(record.rdata).is_err(),
        // It holds tags to the 15 octets of RFC 6844, which RFC 8659 §4.1 lifted.
        RecordType::CAA => record.rdata[1] > 15,
        _ => false,
    }
}

/// Record data: text and the octets that it is.
const GOOD: &[(&str, &str)] = &[
    ("A 192.0.2.1", "c0000201"),
    ("AAAA 2001:db8::1", "20010db8000000000000000000000001"),
    ("AAAA ::ffff:192.0.2.1", "00000000000000000000ffffc0000201"),
    ("NS ns.example.net.", "026e73076578616d706c65036e657400"),
    ("NS @", "076578616d706c6503636f6d00"),
    ("CNAME Web", "03576562076578616d706c6503636f6d00"),
    ("CNAME a\\.b\\032c.", "05612e62206300"),
    ("CNAME \\@.", "014000"),
    ("DNAME .", "00"),
    ("PTR x.", "017800"),
    ("MB x.", "017800"),
    ("MX 10 x.", "000a017800"),
    ("MX ( 10 ; preference\n x. )", "000a017800"),
    ("TXT abc \"d e;f\" \"\"", "036162630564206 53b6600"),
    ("TXT \"a\\\"b\\\\c\\000\\255\"", "076122625c6300ff"),
    ("TXT \"é\"", "02c3a9"),
    ("TXT \"a\"\"b\"", "01610162"),
    ("SPF x", "0178"),
    ("SRV 1 2 65535 x.", "00010002ffff017800"),
    ("HINFO \"PC\" Linux", "025043054c696e7578"),
    ("MINFO a. b.", "016100016200"),
    ("RP a. .", "01610000"),
    ("AFSDB 1 x.", "0001017800"),
    ("RT 1 x.", "0001017800"),
    ("KX 1 x.", "0001017800"),
    ("LP 10 x.", "000a017800"),
    ("PX 1 a. b.", "0001016100016200"),
    ("X25 311061700956", "0c333131303631373030393536"),
    ("ISDN 15 004", "0231350330 3034"),
    ("ISDN 15", "023135"),
    ("NSAP 0x47.0005.80", "47000580"),
    ("WKS 192.0.2.1 TCP smtp 0", "c000020106800000 40"),
    ("WKS 192.0.2.1 17", "c000020111"),
    ("LOC 42 21 54 N 71 06 18 W -24m 30m", "00331613 89172dd0 70be15f0 00988d20"),
    ("LOC 0 N 180 E 0", "00121613 80000000 a69fb200 00989680"),
    ("LOC 1 2 3.5 S 4 5 6.789 e 10.5 1 2 3m", "00122232 7fc72f14 80e06865 00989a9a"),
    ("NAPTR 100 10 \"u\" \"E2U+sip\" \"!^.*$!sip:x!\" .", "0064000a01750745325 52b73697 00c215e2e2a24217369703a782100"),
    ("CERT PKIX 1 RSASHA256 AAEC", "0001000108000102"),
    ("CERT 65000 1 8 AAEC", "fde8000108000102"),
    ("APL 1:192.0.2.0/24 !2:2001:db8::/32 1:0.0.0.0/0", "00011803c00002 0002208420010db8 00010000"),
    ("APL", ""),
    ("DS 60485 ECDSAP256SHA256 240 2BB1 83af", "ec450df02bb183af"),
    ("DS 1 8 1 2BB183AF5F22588179A53B0A 98631FAD1A292118", "000108012bb183af5f22588179a53b0a98631fad1a292118"),
    ("CDS 0 0 0 00", "0000000000"),
    ("CDNSKEY 0 3 0 AA==", "0000030000"),
    ("DNSKEY 257 3 13 AQID", "0101030d010203"),
    ("KEY 512 3 8 AQID", "02000308010203"),
    ("SSHFP 4 9 0102", "04090102"),
    ("IPSECKEY 10 1 2 192.0.2.38 AQID", "0a0102c0000226010203"),
    ("IPSECKEY 10 0 0 .", "0a0000"),
    ("IPSECKEY 10 3 2 x. AQID", "0a0302017800010203"),
    ("DHCID AAIBY2/A", "000201636fc0"),
    ("OPENPGPKEY AQID BAUG", "010203040506"),
    ("TLSA 3 1 0 d2abde", "030100d2abde"),
    ("SMIMEA 3 1 9 d2abde", "030109d2abde"),
    ("HIP 2 200100 AQID a. b.", "03020003200100010203016100016200"),
    ("CSYNC 66 3 A NS AAAA", "00000042000300046000 0008"),
    ("CSYNC 66 3 TYPE257 A A", "00000042000300014001 0140"),
    ("CSYNC 66 3", "000000420003"),
    ("ZONEMD 1 1 240 000102030405060708090a0b", "0000000101f0000102030405060708090a0b"),
    ("NID 10 14:4fff:ff20:ee64", "000a00144fffff20ee64"),
    ("L64 10 2001:DB8:1140:1000", "000a20010db811401000"),
    ("L32 10 10.1.2.0", "000a0a010200"),
    ("EUI48 00-00-5e-00-53-2a", "00005e00532a"),
    ("EUI64 00-00-5E-ef-10-00-00-2a", "00005eef1000002a"),
    ("URI 10 1 \"ftp://x/\"", "000a00016674703a2f2f782f"),
    ("CAA 0 issue \"ca.example; policy=ev\"", "000569737375 6563612e6578616d706c653b20706f6c6963793d6576"),
    ("CAA 128 iodef \"\"", "8005696f646566"),
    ("TYPE65400 \\# 4 0A00 0001", "0a000001"),
    ("TYPE65400 \\# 0", ""),
    ("TYPE1 192.0.2.1", "c0000201"),
    ("A \\# 4 c0000201", "c0000201"),
    ("MX \\# 5 000a017800", "000a017800"),
    ("NULL \\# 1 00", "00"),
    // RFC 9460 appendix D.
    ("HTTPS 0 foo.example.com.", "000003666f6f076578616d706c6503636f6d00"),
    ("SVCB 1 .", "000100"),
    ("SVCB 16 foo.example.com. port=53", "001003666f6f076578616d706c6503636f6d00000300020035"),
    ("SVCB 1 foo.example.com. key667=hello", "000103666f6f076578616d706c6503636f6d00029b000568656c6c6f"),
    (
        "SVCB 1 foo.example.com. key667=\"hello\\210qoo\"",
        "000103666f6f076578616d706c6503636f6d00029b000968656c6c6fd2716f6f",
    ),
    (
        "SVCB 1 foo.example.com. ( ipv6hint=\"2001:db8::1,2001:db8::53:1\" )",
        "000103666f6f076578616d706c6503636f6d0000060020 20010db800000000000000000000000120010db8000000000000000000530001",
    ),
    (
        "SVCB 16 foo.example.org. (\n alpn=h2,h3-19 mandatory=ipv4hint,alpn\n ipv4hint=192.0.2.1 )",
        "001003666f6f076578616d706c65036f7267000000000400010004 00010009026832 0568332d3139 00040004c0000201",
    ),
    (
        "SVCB 16 foo.example.org. alpn=\"f\\\\\\\\oo\\\\,bar,h2\"",
        "001003666f6f076578616d706c65036f726700 0001000c08665c6f6f2c626172026832",
    ),
    (
        "SVCB 16 foo.example.org. alpn=f\\\\\\092oo\\092,bar,h2",
        "001003666f6f076578616d706c65036f726700 0001000c08665c6f6f2c626172026832",
    ),
    ("HTTPS 1 . alpn=h2 no-default-alpn", "000100 00010003026832 00020000"),
    ("HTTPS 1 . ech=AAEC dohpath=/q{?dns} ohttp", "000100 00050003000102 000700082f717b3f646e737d 00080000"),
    ("HTTPS 1 . key65534 key3=\\001\\187", "000100 0003000201bb fffe0000"),
];

#[test]
fn record_data_becomes_octets() {
    for (text, expected) in GOOD {
        let (sources, records, problems) = load(&format!("{HEAD}x.y {text}\n"));
        let errors: Vec<String> = problems
            .iter()
            .filter(|problem| problem.severity == Severity::Error)
            .map(|problem| show(&sources, problem))
            .collect();
        assert!(errors.is_empty(), "{text}: {errors:?}");
        let record = records.last().expect("a record");
        assert_eq!(hexadecimal(record.rdata), expected.replace(' ', ""), "{text}");
        assert_eq!(record.name().to_string(), "x.y.example.com.");
        if let Some(Err(error)) = second_parser(&record) {
            panic!("{text}: the second parser says {error}");
        }
        generic_form_is_the_same(&record, text);
    }
}

/// Text for text as `format` prints it.
const PRINTED: &[(&str, &str)] = &[
    ("A 192.0.2.1", "A\t192.0.2.1"),
    ("AAAA 2001:DB8:0::1", "AAAA\t2001:db8::1"),
    ("MX 10 Mail", "MX\t10 Mail.example.com."),
    ("CNAME a\\.b\\@\\$\\;\\\"\\\\\\000.", "CNAME\ta\\.b\\@\\$\\;\\\"\\\\\\000."),
    ("TXT a \"b;c\\\"\\\\é\" \"\"", "TXT\t\"a\" \"b;c\\\"\\\\\\195\\169\" \"\""),
    ("SRV 1 2 3 .", "SRV\t1 2 3 ."),
    ("SOA a b 1 1h 2h 3h 4h", "SOA\ta.example.com. b.example.com. 1 3600 7200 10800 14400"),
    ("ISDN 15", "ISDN\t\"15\""),
    ("NSAP 0x47.0005.80", "NSAP\t0x47000580"),
    ("WKS 192.0.2.1 TCP smtp 0", "WKS\t192.0.2.1 6 0 25"),
    ("WKS \\# 6 C00002010600", "WKS\t\\# 6 C00002010600"),
    ("LOC 42 21 54 N 71 06 18 W -24m 30m", "LOC\t42 21 54.000 N 71 6 18.000 W -24.00m 30.00m 10000.00m 10.00m"),
    ("LOC \\# 16 0000000000000000ffffffff00000000", "LOC\t\\# 16 0000000000000000FFFFFFFF00000000"),
    ("LOC \\# 16 00011613800000008000000000989680", "LOC\t\\# 16 00011613800000008000000000989680"),
    ("APL 1:192.0.2.0/24 !2:2001:db8::/32", "APL\t1:192.0.2.0/24 !2:2001:db8::/32"),
    ("APL", "APL"),
    ("DS 1 ECDSAP256SHA256 240 2bb1 83af", "DS\t1 13 240 2BB183AF"),
    ("CERT PKIX 1 8 AAEC", "CERT\t1 1 8 AAEC"),
    ("IPSECKEY 10 0 0 .", "IPSECKEY\t10 0 0 ."),
    ("IPSECKEY 10 3 2 x AQID", "IPSECKEY\t10 3 2 x.example.com. AQID"),
    ("HIP 2 200100 AQID a. b.", "HIP\t2 200100 AQID a. b."),
    ("CSYNC 66 3 TYPE257 A", "CSYNC\t66 3 A CAA"),
    ("L64 10 2001:DB8:1140:1000", "L64\t10 2001:0db8:1140:1000"),
    ("EUI48 00-00-5E-00-53-2A", "EUI48\t00-00-5e-00-53-2a"),
    ("CAA 0 issue \"a; b\"", "CAA\t0 issue \"a; b\""),
    ("TYPE65400 \\# 4 0a00 0001", "TYPE65400\t\\# 4 0A000001"),
    ("TYPE65400 \\# 0", "TYPE65400\t\\# 0"),
    ("NULL \\# 1 00", "NULL\t\\# 1 00"),
    ("TYPE1 \\# 4 c0000201", "A\t192.0.2.1"),
    ("HTTPS 1 . port=53 alpn=h2,h3 no-default-alpn", "HTTPS\t1 . alpn=\"h2,h3\" no-default-alpn port=53"),
    (
        "SVCB 1 . mandatory=key667,ipv4hint ipv4hint=192.0.2.1,192.0.2.2 key667=\"a\\\"b\\200\"",
        "SVCB\t1 . mandatory=ipv4hint,key667 ipv4hint=192.0.2.1,192.0.2.2 key667=\"a\\\"b\\200\"",
    ),
    ("SVCB 1 . alpn=\"f\\\\\\\\oo\\\\,bar,h2\"", "SVCB\t1 . alpn=\"f\\\\\\\\oo\\\\,bar,h2\""),
    ("HTTPS 1 . ech=AAEC dohpath=/q{?dns} ohttp key9", "HTTPS\t1 . ech=AAEC dohpath=\"/q{?dns}\" ohttp key9"),
];

#[test]
fn records_are_printed() {
    for (text, expected) in PRINTED {
        let (_, records, _) = load(&format!("{HEAD}x {text}\n"));
        let printed = lines(&origin(), &records).last().expect("a line");
        assert_eq!(printed, format!("x.example.com.\t300\tIN\t{expected}"), "{text}");
    }
}

/// Everything that has a text form is printed in it.
#[test]
fn known_types_are_printed_in_their_own_form() {
    for (text, _) in GOOD {
        let (_, records, _) = load(&format!("{HEAD}x {text}\n"));
        let printed = lines(&origin(), &records).last().expect("a line");
        let has_form = !["TYPE65400", "NULL"].iter().any(|rtype| text.starts_with(rtype));
        assert_eq!(printed.contains("\\#"), !has_form, "{printed}");
    }
}

#[test]
fn zones_are_printed_in_canonical_order() {
    let text = "$TTL 5\nb TXT x\nZ.a TXT x\na TXT x\n*.a TXT x\n$ORIGIN EXAMPLE.com.\nB A 192.0.2.2\n\
        @ A 192.0.2.1\nb 7 A 192.0.2.1\n@ NS a\n@ 9 SOA a b 1 2 3 4 5\n@ NS 0\nb A 192.0.2.1\n";
    let (_, records, _) = load(text);
    let expected = "$ORIGIN example.com.|\
        EXAMPLE.com. 9 IN SOA a.EXAMPLE.com. b.EXAMPLE.com. 1 2 3 4 5|\
        EXAMPLE.com. 5 IN A 192.0.2.1|\
        EXAMPLE.com. 5 IN NS 0.EXAMPLE.com.|EXAMPLE.com. 5 IN NS a.EXAMPLE.com.|\
        a.example.com. 5 IN TXT \"x\"|*.a.example.com. 5 IN TXT \"x\"|Z.a.example.com. 5 IN TXT \"x\"|\
        b.EXAMPLE.com. 7 IN A 192.0.2.1|B.EXAMPLE.com. 5 IN A 192.0.2.2|b.example.com. 5 IN TXT \"x\"";
    let printed: Vec<String> = lines(&origin(), &records).map(|line| line.replace('\t', " ")).collect();
    assert_eq!(printed.join("|"), expected);
}

/// What is printed of records is read as the same records, and printed the same.
fn prints_what_it_reads(records: &Records) {
    let mut printed: Vec<String> = lines(&origin(), records).collect();
    let (sources, again, problems) = load(&(printed.join("\n") + "\n"));
    let unread = |problem: &&Problem| matches!(problem.span, Some(span) if again.len() < records.len() && sources.position(&span).0 > 1);
    assert_eq!(again.len(), records.len(), "{:?}", problems.iter().find(unread));
    assert_eq!(again.digest(), records.digest());
    assert!(lines(&origin(), &again).eq(printed.drain(..)));
}

/// Every record can be given as `\#` too.
fn generic_form_is_the_same(record: &Record<'_>, text: &str) {
    let generic = format!("TYPE{} \\# {} {}", record.rtype.0, record.rdata.len(), hexadecimal(record.rdata));
    let (_, again, _) = load(&format!("{HEAD}x.y {generic}\n"));
    assert_eq!(again.last().map(|record| record.rdata), Some(record.rdata), "{text}");
}

/// Record and the problem: column in the line, then the start of its message.
const BAD: &[(&str, usize, &str)] = &[
    ("A", 3, "the record ends where there should be: IPv4 address"),
    ("A 192.0.2", 5, "`192.0.2` is not a valid IPv4 address"),
    ("A 192.0.2.01", 5, "`192.0.2.01` is not a valid IPv4 address"),
    ("A 192.0.2.1 192.0.2.2", 15, "unexpected `192.0.2.2` behind the record data"),
    ("A \"192.0.2.1\"", 6, "a quoted string where there should be: IPv4 address"),
    ("AAAA 192.0.2.1", 8, "`192.0.2.1` is not a valid IPv6 address"),
    ("AAAA fe80::1%eth0", 8, "`fe80::1%eth0` is not a valid IPv6 address"),
    ("NS a..b", 6, "`a..b`: empty label"),
    ("NS a\\256", 6, "`a\\256`: bad escape"),
    ("NS \"a\"", 7, "a quoted string, not a name"),
    ("NS a\"b\"", 8, "unexpected `b` behind the record data"),
    ("NS münchen", 6, "`münchen` has characters beyond ASCII"),
    ("CNAME a b", 11, "unexpected `b`"),
    ("MX mail", 6, "`mail` is not a valid number 0-65535"),
    ("MX 65536 a", 6, "`65536` is not a valid number 0-65535"),
    ("MX +1 a", 6, "`+1` is not a valid number 0-65535"),
    ("MX 10", 6, "the record ends where there should be: name"),
    ("TXT", 3, "the record ends where there should be: string"),
    ("TXT v=\"a b\"", 7, "a quote in the middle of a string"),
    ("TXT \"\\999\"", 8, "bad escape"),
    ("TXT \"a", 7, "`\"` is not closed on its line"),
    ("SRV 1 2 3", 11, "the record ends where there should be: name"),
    ("SOA a. b. 1 2 3 4", 19, "the record ends where there should be: period"),
    ("SOA a. b. 1 2 3 4 1x", 21, "`1x` is not a valid period"),
    ("LOC 91 N 0 E 0", 7, "`91` is not a valid number of degrees"),
    ("LOC 90 1 N 0 E 0", 12, "more than 90 degrees"),
    ("LOC 1 60 N 0 E 0", 9, "`60` is not a valid number of minutes"),
    ("LOC 1 N 1 E", 13, "the record ends where there should be: altitude"),
    ("LOC 1 X 1 E 0", 9, "`X` is not a valid number of minutes"),
    ("LOC 1 N 1 E 42849672.96", 15, "`42849672.96` is not a valid altitude"),
    ("LOC 1 N 1 E 1.", 15, "`1.` is not a valid altitude"),
    ("APL 1:192.0.2.0/33", 7, "`1:192.0.2.0/33` is not"),
    ("APL 3:1/1", 7, "`3:1/1` is not"),
    ("WKS 192.0.2.1 6 65536", 19, "`65536` is not a valid port"),
    ("DS 1 8 2 00", 6, "not a valid DS: the digest's length does not fit its type"),
    ("DS 1 8 240 0", 14, "hexadecimal digits in pairs"),
    ("DS 1 300 240 00", 8, "`300` is not a valid algorithm"),
    ("DNSKEY 257 2 13 AQID", 10, "not a valid DNSKEY: the protocol must be 3"),
    ("DNSKEY 257 3 13 AQI", 19, "base64 with its padding"),
    ("DNSKEY 257 3 13", 16, "the record ends where there should be: base64"),
    ("SSHFP 1 1 00", 9, "not a valid SSHFP: the digest"),
    ("TLSA 3 1 1 00", 8, "not a valid TLSA: the digest"),
    ("IPSECKEY 1 4 1 . AQID", 16, "gateway types are"),
    ("EUI48 00-00-5e-00-53", 9, "`00-00-5e-00-53` is not a valid group of 6"),
    ("EUI48 0-0-5e-00-53-2a", 9, "`0-0-5e-00-53-2a` is not a valid group of 6"),
    ("L64 10 2001:db8::", 10, "`2001:db8::` is not a valid group of 4"),
    ("CAA 0 is-sue \"x\"", 9, "`is-sue` is not a valid tag"),
    ("CAA 0 issue", 9, "the record ends where there should be: quoted string"),
    ("CAA 0 issue a b", 17, "unexpected `b`"),
    ("URI 1 1 \"\"", 7, "not a valid URI: it is cut off"),
    ("NAPTR 1 1 \"\\\"u\" \"\" \"\" .", 9, "not a valid NAPTR: the flags must be"),
    ("CSYNC 1 4 A", 9, "not a valid CSYNC: unknown flags"),
    ("CSYNC 1 1 FOO", 13, "`FOO` is not a valid type"),
    ("NULL x", 3, "NULL has no text form here"),
    ("TYPE65400 x", 3, "TYPE65400 has no text form here"),
    ("TYPE65400 \\# 2 00", 16, "length 2, but 1 octets follow"),
    ("TYPE65400 \\# 1 0g", 18, "hexadecimal digits in pairs"),
    ("TYPE65400 \\# 65536 00", 16, "`65536` is not a valid length"),
    ("A \\# 3 c00002", 5, "not a valid A: it is cut off"),
    ("MX \\# 6 000a0178c000", 6, "not a valid MX: a name with a compression pointer"),
    ("TYPE65536 \\# 0", 3, "unknown type `TYPE65536`"),
    ("ANY \\# 0", 3, "ANY is a type of queries and messages"),
    ("OPT \\# 0", 3, "OPT is a type of queries"),
    ("TYPE252 \\# 0", 3, "AXFR is a type of queries"),
    ("RRSIG \\# 0", 3, "RRSIG in a zone file"),
    ("NSEC a. A", 3, "NSEC in a zone file"),
    ("TYPE51 \\# 0", 3, "NSEC3PARAM in a zone file"),
    ("CHAME a", 3, "unknown type `CHAME`"),
    ("CH TXT a", 3, "class `CH`"),
    ("CLASS2 TXT a", 3, "class `CLASS2`"),
    ("1x A 192.0.2.1", 3, "`1x` is not a TTL"),
    ("2147483648 A 192.0.2.1", 3, "a TTL of 2147483648 seconds"),
    ("4000w A 192.0.2.1", 3, "a TTL of 2419200000 seconds"),
    ("IN", 3, "the record ends before its type"),
    ("\"A\" 192.0.2.1", 4, "a quoted string where the type should be"),
    ("HTTPS 0 . alpn=h2", 9, "not a valid HTTPS: priority 0 is an alias"),
    ("HTTPS 1 . port=1 port=2", 9, "not a valid HTTPS: a parameter is given twice"),
    ("HTTPS 1 . alpn=h2 key1=\\002h3", 9, "not a valid HTTPS: a parameter is given twice"),
    ("HTTPS 1 . mandatory=alpn", 9, "not a valid HTTPS: a parameter that `mandatory` names is missing"),
    ("HTTPS 1 . mandatory=port,port port=1", 9, "not a valid HTTPS: `mandatory` names a key twice"),
    ("HTTPS 1 . mandatory=mandatory", 9, "not a valid HTTPS: `mandatory` names itself"),
    ("HTTPS 1 . mandatory=foo", 13, "`foo` is not a list of keys"),
    ("HTTPS 1 . no-default-alpn", 9, "not a valid HTTPS: `no-default-alpn` needs `alpn`"),
    ("HTTPS 1 . no-default-alpn=1", 13, "`no-default-alpn` has no value"),
    ("HTTPS 1 . alpn", 13, "`alpn` needs a value"),
    ("HTTPS 1 . alpn=h2,", 13, "a protocol id has 1 to 255 octets"),
    ("HTTPS 1 . port=65536", 13, "`65536` is not a port"),
    ("HTTPS 1 . port=+1", 13, "`+1` is not a port"),
    ("HTTPS 1 . ipv4hint=::1", 13, "`::1` is not an address"),
    ("HTTPS 1 . ipv6hint=::1,", 13, "`` is not an address"),
    ("HTTPS 1 . ech=AAE", 13, "base64"),
    ("HTTPS 1 . dohpath=q{?dns}", 9, "not a valid HTTPS: `dohpath`"),
    ("HTTPS 1 . key65535=a", 13, "unknown parameter `key65535`"),
    ("HTTPS 1 . key01=a", 13, "unknown parameter `key01`"),
    ("HTTPS 1 . ALPN=h2", 13, "unknown parameter `ALPN`"),
    ("HTTPS 1 . alpn=\"h2\"x", 13, "quote the whole value"),
    ("HTTPS 1 . \"alpn=h2\"", 14, "only the value of a parameter is quoted"),
    ("HTTPS \\# 14 0001000003000200350001000102", 9, "not a valid HTTPS: the parameters are not in the order"),
];

#[test]
fn bad_records_are_problems_at_their_place() {
    for (text, column, message) in BAD {
        let (sources, records, problems) = load(&format!("{HEAD}x {text}\nz A 192.0.2.1\n"));
        let errors: Vec<&Problem> = problems.iter().filter(|problem| problem.severity == Severity::Error).collect();
        let shown: Vec<String> = errors.iter().map(|problem| show(&sources, problem)).collect();
        assert_eq!(errors.len(), 1, "{text}: {shown:?}");
        assert!(errors[0].message.starts_with(message), "{text}: {shown:?}");
        let span = errors[0].span.as_ref().expect("a place");
        assert_eq!(sources.position(span), (5, *column), "{text}: {shown:?}");
        assert_eq!(records.len(), 4, "{text}: the record is left out, the next is read");
    }
}

#[test]
fn long_text_is_a_problem_with_its_place() {
    let long = "1".repeat(10_000);
    let label = "a".repeat(64);
    let name = "a.".repeat(128);
    let params = format!("1 . key9={0} key10={0}", "a".repeat(40_000));
    for (text, column, message) in [
        (format!("A {long}"), 5, "`111111111111111111111111111111111111111111111111…` (10000 octets) is not"),
        (format!("AAAA {long}"), 8, "`1111"),
        (format!("MX {long} x"), 6, "`1111"),
        (format!("TXT \"{long}\""), 8, "a string of 10000 octets"),
        (format!("TXT {}", "a ".repeat(40_000)), 7, "record data of 80000 octets"),
        (format!("TXT {}", "\"\" ".repeat(65_600)), 196_802, "too much in one entry"),
        (format!("CAA 0 issue {}", "a".repeat(65_536)), 7, "record data of 65543 octets"),
        (format!("TYPE65400 \\# 65000 {}", "00".repeat(65_000)), 1, "the RRset x.example.com. TYPE65400 has 65012"),
        (format!("HTTPS {params}"), 9, "record data of 80"),
        (format!("NS {label}"), 6, "`aaaa"),
        (format!("NS {name}"), 6, "`a.a."),
        (format!("{long} A 192.0.2.1"), 3, "`1111"),
        (format!("FOO{long} x"), 3, "unknown type `FOO111"),
        ("a".repeat(300_000), 3, "text of more than 262140 octets"),
    ] {
        let (sources, _, problems) = load(&format!("{HEAD}x {text}\n"));
        let error = problems.iter().find(|problem| problem.severity == Severity::Error).expect(&text[..20]);
        let shown = show(&sources, error);
        assert!(error.message.starts_with(message), "{shown}");
        assert!(shown.len() < 500, "{shown}");
        let (line, found) = sources.position(error.span.as_ref().expect("a place"));
        // Of a record that did not become one the line is what matters.
        assert_eq!((line, found), (5, column), "{shown}");
    }
}

/// All records but the first three, which every zone here begins with.
fn table(records: &Records) -> Vec<String> {
    let line = |record: Record<'_>| {
        format!("{} {} {} {}", record.name().to_plain(), record.ttl, record.rtype, hexadecimal(record.rdata))
    };
    records.iter().skip(3).map(line).collect()
}

#[test]
fn directives_and_heads() {
    for (text, expected) in [
        ("a A 192.0.2.1", "a.example.com 300 A c0000201"),
        ("a 5 IN A 192.0.2.1", "a.example.com 5 A c0000201"),
        ("a in 1h30m a 192.0.2.1", "a.example.com 5400 A c0000201"),
        ("a CLASS1 TYPE1 192.0.2.1", "a.example.com 300 A c0000201"),
        ("@ TXT x", "example.com 300 TXT 0178"),
        ("A.b.Example.COM. TXT x", "A.b.Example.COM 300 TXT 0178"),
        ("a TXT x\n\t; nothing\n\n  TXT y", "a.example.com 300 TXT 0178|a.example.com 300 TXT 0179"),
        ("\\@ TXT x", "\\@.example.com 300 TXT 0178"),
        ("\\$ttl TXT x", "\\$ttl.example.com 300 TXT 0178"),
        ("a\\;\\\"\\(\\032 TXT x", "a\\;\\\"\\(\\032.example.com 300 TXT 0178"),
        ("$TTL 1d\na TXT x", "a.example.com 86400 TXT 0178"),
        ("$ttl 0\na TXT x", "a.example.com 0 TXT 0178"),
        ("$ORIGIN sub\na TXT x\n@ TXT y", "a.sub.example.com 300 TXT 0178|sub.example.com 300 TXT 0179"),
        ("$ORIGIN com.\nexample TXT x", "example.com 300 TXT 0178"),
        ("$GENERATE 1-3/2 h$ A 192.0.2.$", "h1.example.com 300 A c0000201|h3.example.com 300 A c0000203"),
        ("$GENERATE 9-9 $$${0,3} 60 IN A 10.0.0.$", "\\$009.example.com 60 A 0a000009"),
        ("$GENERATE 1-1 h$ MX \"1$ x$.\"", "h1.example.com 300 MX 000b02783100"),
        ("$GENERATE 1-1 h$ TXT \"a b$\"", "h1.example.com 300 TXT 0461206231"),
        ("$GENERATE 1-1 h$ CAA 0 issue \"a b$\"", "h1.example.com 300 CAA 000569737375656120623 1"),
    ] {
        let (sources, records, problems) = load(&format!("{HEAD}{text}"));
        let errors: Vec<String> = problems.iter().map(|problem| show(&sources, problem)).collect();
        assert!(problems.iter().all(|problem| problem.severity == Severity::Warning), "{text}: {errors:?}");
        assert_eq!(table(&records).join("|"), expected.replace("3 1", "31"), "{text}");
    }
}

#[test]
fn ttl_that_is_not_given() {
    let last = "ns1 60 A 192.0.2.1\n@ NS ns1\n@ SOA ns1 h 1 2 3 4 5\n";
    let soa = "@ SOA ns1 h 1 2 3 4 5\n@ NS ns1\nns1 60 A 192.0.2.1\n  AAAA ::1\n";
    let default = "@ 9 SOA ns1 h 1 2 3 4 5\n@ NS ns1\n$TTL 7\nns1 60 A 192.0.2.1\n  AAAA ::1\n";
    for (text, expected) in [(last, vec![60, 60, 60]), (soa, vec![5, 5, 60, 60]), (default, vec![9, 9, 60, 7])] {
        let (_, records, problems) = load(text);
        assert_eq!(records.iter().map(|record| record.ttl).collect::<Vec<_>>(), expected, "{problems:?}");
        assert!(problems.is_empty(), "{problems:?}");
    }
    let (sources, _, problems) = load("@ NS ns1\n@ NS ns2\n");
    assert_eq!(problems.len(), 1);
    assert!(show(&sources, &problems[0]).starts_with("zones/test.zone:1:3: error: no TTL is known here"));
}

#[test]
fn includes_restore_origin_and_owner() {
    let text = format!("{HEAD}a TXT x\n$INCLUDE \"sub/b.zone\" b\n  TXT y\nc TXT z\n");
    let files = [("zones/sub/b.zone", "  TXT q\n@ TXT 1\n$INCLUDE c.zone\n"), ("zones/sub/c.zone", "d TXT 2")];
    let (sources, records, problems) = load_with(&text, &files);
    assert!(problems.is_empty(), "{problems:?}");
    let expected = [
        "a.example.com 300 TXT 0178",
        "a.example.com 300 TXT 0171",
        "b.example.com 300 TXT 0131",
        "d.b.example.com 300 TXT 0132",
        "a.example.com 300 TXT 0179",
        "c.example.com 300 TXT 017a",
    ];
    assert_eq!(table(&records), expected);
    assert_eq!(sources.place(&records.get(6).span), "zones/sub/c.zone:1:1");
}

#[test]
fn includes_are_bounded() {
    let deep: Vec<(String, String)> =
        (1..12).map(|n| (format!("zones/{n}"), format!("$INCLUDE {}\nh{n} A 192.0.2.1", n + 1))).collect();
    let deep: Vec<(&str, &str)> = deep.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    for (text, files, expected) in [
        ("$INCLUDE missing", &[][..], "zones/test.zone:5:10: error: zones/missing cannot be read: entity not found"),
        ("$INCLUDE test.zone", &[], "zones/test.zone:5:10: error: zones/test.zone includes itself"),
        ("$INCLUDE a", &[("zones/a", "$INCLUDE a")], "zones/a:1:10: error: zones/a includes itself"),
        ("$INCLUDE 1", &deep, "zones/8:1:10: error: more than 8 files included within one another"),
        ("$INCLUDE a b c", &[], "zones/test.zone:5:14: error: unexpected `c` (allowed: $INCLUDE file [origin])"),
        ("$INCLUDE", &[], "zones/test.zone:5:1: error: the directive ends too early (allowed: $INCLUDE file"),
        ("$INCLUDE \"\"", &[], "zones/test.zone:5:11: error: `` is not a path"),
        ("$INCLUD a", &[], "zones/test.zone:5:1: error: unknown directive `$INCLUD`"),
    ] {
        let (sources, _, problems) = load_with(&format!("{HEAD}{text}"), files);
        let shown: Vec<String> = problems.iter().map(|problem| show(&sources, problem)).collect();
        assert_eq!(shown.len(), 1, "{shown:?}");
        assert!(shown[0].starts_with(expected), "{shown:?}");
    }
}

/// The zone of the end-to-end tests and of the benchmarks.
#[test]
fn the_example_zone_loads() {
    let text = "$ORIGIN example.com.\n$TTL 300\n\
        @       IN SOA ns1 hostmaster 2026112301 7200 1800 1209600 30\n\
        @       IN NS  ns1\n@       IN NS  ns2\n\
        ns1     IN A   127.0.0.1\nns2     IN A   127.0.0.1\n        IN AAAA ::1\n\
        static  IN A   192.0.2.1\n        IN A   192.0.2.2\n\
        alias   IN CNAME www\n\
        text    IN TXT \"v=spf1 -all\" \"second string\"\n\
        *.wild  IN A   192.0.2.77\na.b.ent IN A   192.0.2.9\n\
        mail    IN MX  10 static\n\
        svc     IN HTTPS 1 . alpn=h2 ipv4hint=192.0.2.1\n\
        sub     IN NS  ns.sub\nns.sub  IN A   192.0.2.53\n\
        odd     IN TYPE65400 \\# 4 0A000001\n";
    let (_, records, problems) = load(text);
    assert!(problems.is_empty(), "{problems:?}");
    assert_eq!(records.len(), 17);
    let terse = "$ORIGIN example.com.\n$TTL 30\n@ 3600 IN SOA ns1 hostmaster 1 7200 1800 259200 60\n@ 3600 NS ns1\n\
        @ 3600 NS ns2\nns1 3600 A 127.0.0.1\nns2 3600 A 127.0.0.1\nwww A 192.0.2.10\nwww A 192.0.2.11\nh1 A 192.0.2.2\n";
    let (_, records, problems) = load(terse);
    assert!(problems.is_empty(), "{problems:?}");
    assert_eq!(records.len(), 8);
}

#[test]
fn problems_are_bounded() {
    let (_, _, problems) = load(&format!("{HEAD}{}", "x BAD\n".repeat(3000)));
    assert_eq!(problems.len(), 1001);
    assert_eq!(problems[1000].message, "and 2000 more errors");
    let generate = format!("{HEAD}{}", "$GENERATE 0-65535 h$ A 192.0.2.x\n".repeat(20));
    let (_, _, problems) = load(&generate);
    assert_eq!(problems.len(), 20, "a directive stops at its first problem");
}

#[test]
fn generated_records_are_bounded() {
    let directive = "$GENERATE 0-65535 h$ TYPE65400 \\# 0\n";
    let (sources, _, problems) = load(&format!("{HEAD}{}", directive.repeat(17)));
    let error = problems.iter().find(|problem| problem.severity == Severity::Error).expect("an error");
    assert!(show(&sources, error).contains(":21:1: error: more than 1048576 generated records"), "{error:?}");
}

/// `tests/zones/NAME.zone` has the problems of `NAME.txt`; `BLESS=1` writes them.
#[test]
fn golden_files() {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/zones"));
    let entries = std::fs::read_dir(&folder).expect("tests/zones");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "zone"));
    assert!(files.len() >= 4);
    for file in files {
        let text = std::fs::read_to_string(&file).expect("a zone file");
        let mut sources = Sources::default();
        let short = Path::new(file.file_name().expect("a file name"));
        let id = sources.add(short, text);
        let (_, problems) = parse(&mut sources, id, &origin(), &InMemory(&[]));
        let shown: String = problems.iter().map(|problem| show(&sources, problem) + "\n").collect();
        let expected = file.with_extension("txt");
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&expected, &shown).expect("written");
        }
        assert_eq!(std::fs::read_to_string(&expected).unwrap_or_default(), shown, "{}", file.display());
    }
}

/// Pieces of zone files, good and bad, for the mutations.
const PIECES: &[&str] = &[
    "\n",
    " ",
    "\t",
    "(",
    ")",
    "\"",
    "\\",
    ";",
    "@",
    "$",
    "$ORIGIN ",
    "$TTL ",
    "$INCLUDE x",
    "$GENERATE 1-3 ",
    "\\# ",
    "${0,3,n}",
    "*.",
    ".",
    "IN ",
    "CH ",
    "A ",
    "CNAME x",
    "DNAME x",
    "NS sub",
    "TXT ",
    "HTTPS 1 . ",
    "alpn=",
    "=\"",
    "SOA a b 1 2 3 4 5",
    "0",
    "65536",
    "1h30m",
    "\\300",
    "\\000",
    "é",
    "\0",
    "\r\n",
    "192.0.2.1",
    "::1",
    "AAEC",
    "TYPE",
    "a.b.c",
    "2147483648",
    "LOC 1 N 1 E 1m ",
    "APL !1:1.2.3.4/8",
    "-",
    "/",
    ",",
    "mandatory=",
    "\u{feff}",
];

fn good_zone() -> String {
    let records = GOOD.iter().enumerate().map(|(index, (text, _))| format!("h{index} {text}\n"));
    HEAD.chars().chain(records.collect::<String>().chars()).collect()
}

fn mutate(text: &mut String, place: usize, removed: usize, piece: usize) {
    let boundary = |text: &str, mut at: usize| {
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    let start = boundary(text, place % (text.len() + 1));
    let end = boundary(text, (start + removed).min(text.len())).max(start);
    text.replace_range(start..end, PIECES.get(piece).copied().unwrap_or(""));
}

/// What must hold for every record that is returned.
fn is_in_order(record: Record<'_>) {
    assert!(record.rdata.len() <= 65_535);
    assert!(i32::try_from(record.ttl).is_ok());
    assert!(record.name().is_at_or_below(&origin()));
    assert!(!record.rtype.is_meta());
    assert_eq!(wire::verify(record.rtype, record.rdata), Ok(()));
    if let Some(Err(error)) = second_parser(&record) {
        panic!("{} {}: {error}", record.rtype, hexadecimal(record.rdata));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn mutated_zones_never_panic(
        mutations in prop::collection::vec((any::<usize>(), 0usize..40, 0usize..PIECES.len() + 10), 1..60)
    ) {
        let mut text = good_zone();
        for (place, removed, piece) in mutations {
            mutate(&mut text, place, removed, piece);
        }
        let (sources, records, problems) = load_with(&text, &[("zones/x", "i TXT x\n")]);
        records.iter().for_each(is_in_order);
        prints_what_it_reads(&records);
        for problem in &problems {
            prop_assert!(!show(&sources, problem).is_empty());
        }
    }

    #[test]
    fn any_octets_are_printed(
        number in 0usize..GOOD.len(),
        changes in prop::collection::vec((any::<usize>(), any::<u8>()), 0..4),
        labels in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..20), 0..8),
    ) {
        let mut owner: Vec<u8> = labels.iter().flat_map(|label| [&[label.len() as u8], &label[..]].concat()).collect();
        owner.extend(origin().as_wire());
        let (_, known, _) = load(&format!("{HEAD}x {}\n", GOOD[number].0));
        let known = known.last().expect("a record");
        let mut rdata = known.rdata.to_vec();
        for (place, octet) in changes {
            let length = rdata.len().max(1);
            if let Some(at) = rdata.get_mut(place % length) {
                *at = octet;
            }
        }
        prop_assume!(wire::verify(known.rtype, &rdata).is_ok());
        let records: Records = [Record { owner: &owner, rdata: &rdata, ..known }].into_iter().collect();
        prints_what_it_reads(&records);
    }

    #[test]
    fn names_survive_a_file(labels in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..20), 1..8)) {
        let mut octets: Vec<u8> = Vec::new();
        for label in &labels {
            octets.push(label.len() as u8);
            octets.extend(label);
        }
        octets.extend(origin().as_wire());
        let name = Name::from_wire(&octets).expect("a name");
        let relative = name.to_string().replace(".example.com.", "");
        let text = format!("{HEAD}{name} TXT absolute\n{relative} TXT relative\nto CNAME {name}\n");
        let (_, records, problems) = load(&text);
        prop_assert!(problems.iter().all(|problem| problem.severity == Severity::Warning), "{text} {problems:?}");
        prop_assert_eq!(records.get(3).owner, name.as_wire());
        prop_assert_eq!(records.get(4).owner, name.as_wire());
        prop_assert_eq!(records.get(5).rdata, name.as_wire());
    }

    #[test]
    fn strings_survive_a_file(string in prop::collection::vec(any::<u8>(), 0..256)) {
        let escaped: String = string.iter().map(|octet| match octet {
            b'"' | b'\\' => format!("\\{}", char::from(*octet)),
            b' '..=b'~' => char::from(*octet).to_string(),
            _ => format!("\\{octet:03}"),
        }).collect();
        let (_, records, _) = load(&format!("{HEAD}x TXT \"{escaped}\"\n"));
        prop_assert_eq!(records.get(3).rtype, RecordType::TXT);
        prop_assert_eq!(&records.get(3).rdata[1..], &string[..]);
    }
}
