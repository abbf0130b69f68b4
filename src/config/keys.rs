//! Every key there is: name, kind, default and a line of meaning. This is the one place that says so: the check for
//! unknown keys, the readers' defaults and the reference are made from these tables (SPEC 1.3, 1.5).

use std::collections::HashMap;
use std::sync::LazyLock;

use super::kinds::{self, Kind};
use super::value::{Entry, Table, Value};
use super::{checks, keyring, maps, pools, records, regions, server, services, tls};
use crate::problem::{Problem, SourceId, Span};

/// A table of fixed keys.
pub(super) struct Section {
    /// As written: `[checks.NAME]`.
    pub(super) title: &'static str,
    /// In messages: `a check`.
    pub(super) noun: &'static str,
    pub(super) meaning: &'static str,
    pub(super) keys: &'static [Key],
    /// Keys that are no fixed words, as selectors are.
    pub(super) open: Option<Open>,
}

/// Keys of a free form.
pub(super) struct Open {
    /// For the reference and for messages.
    pub(super) describe: &'static str,
    pub(super) meaning: &'static str,
    /// Whether a key is meant to be one of these.
    pub(super) is_meant: fn(&str) -> bool,
    pub(super) check: fn(&Entry, &mut Vec<Problem>),
}

/// One key.
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) default: Default,
    pub(super) meaning: &'static str,
    /// Only its default is accepted, a later version brings the rest; what is available instead.
    pub(super) later: Option<&'static str>,
}

/// What holds when a key is not given.
pub(super) enum Default {
    /// This value, in TOML.
    Value(&'static str),
    /// What these words say.
    Words(&'static str),
    /// Nothing: it must be given.
    Required,
}

use Default::{Required, Value as Is, Words};

const fn key(name: &'static str, kind: Kind, default: Default, meaning: &'static str) -> Key {
    Key { name, kind, default, meaning, later: None }
}

/// A key of a later version; `hint` names what is available.
const fn later(name: &'static str, default: Default, meaning: &'static str, hint: &'static str) -> Key {
    let kind = Kind::Custom { describe: "later version", check: |_, _| {} };
    Key { name, kind, default, meaning, later: Some(hint) }
}

const fn section(title: &'static str, noun: &'static str, meaning: &'static str, keys: &'static [Key]) -> Section {
    Section { title, noun, meaning, keys, open: None }
}

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;

const PORT: Kind = Kind::Integer { min: 1, max: 65_535 };
/// `capacity` and `max-load`.
const LOAD: Kind = Kind::Number { min: 0.001, max: 1e12 };
/// Largest weight and share.
pub(super) const MAX_WEIGHT: i128 = 1_000_000;

/// What stands at the top of a file.
pub(super) enum Shape {
    /// One table.
    Single(&'static Section),
    /// A table of named tables.
    Named(&'static Section),
    /// An array of tables.
    Several(&'static Section),
    /// `[defaults.check]` and so on.
    Defaults,
    /// `include`.
    Include,
}

/// The sections, in the order of the reference.
pub(super) static TOP: &[(&str, Shape)] = &[
    ("include", Shape::Include),
    ("server", Shape::Single(&SERVER)),
    ("admin", Shape::Single(&ADMIN)),
    ("tls", Shape::Single(&TLS)),
    ("keys", Shape::Named(&KEY)),
    ("zones", Shape::Named(&ZONE)),
    ("geo", Shape::Single(&GEO)),
    ("ecs", Shape::Single(&ECS)),
    ("cookies", Shape::Single(&COOKIES)),
    ("rate-limit", Shape::Single(&RATE_LIMIT)),
    ("latency", Shape::Single(&LATENCY)),
    ("regions", Shape::Named(&REGION)),
    ("maps", Shape::Named(&MAP)),
    ("checks", Shape::Named(&CHECK)),
    ("pools", Shape::Named(&POOL)),
    ("services", Shape::Named(&SERVICE)),
    ("defaults", Shape::Defaults),
    ("guard", Shape::Single(&GUARD)),
    ("tests", Shape::Several(&TEST)),
];

/// Sections of tables inside values, each with the one that holds it.
pub(super) static INNER: &[(&str, &Section)] = &[
    ("geo", &NETWORK),
    ("regions", &LOCATION),
    ("checks", &WINDOW),
    ("pools", &INSTANCE),
    ("services", &STICKY),
    ("services", &TTL),
    ("services", &BINDING),
    ("services", &SRV),
];

/// `[defaults.…]` by kind.
pub(super) static DEFAULTS: &[(&str, &Section)] = &[("check", &CHECK), ("pool", &POOL), ("service", &SERVICE)];
/// What `[defaults.…]` and `extends` never hand on: it belongs to one thing only.
pub(super) const PERSONAL: &[&str] = &["extends", "aliases", "address"];

pub(super) static SERVER: Section = section(
    "[server]",
    "[server]",
    "The process: where it listens and what it is called.",
    &[
        key("listen", Kind::Sockets, Is(r#"["0.0.0.0:53", "[::]:53"]"#), "UDP and TCP on each."),
        key("node", Kind::Text, Words("the host name"), "Name of this node: NSID, metrics."),
        key(
            "state-dir",
            Kind::Path,
            Is(r#""state""#),
            "Folder of the control socket, the lock, overrides, last-good health, measured round-trip times, secrets of DNS \
             cookies and the journal.",
        ),
        key("workers", Kind::Integer { min: 1, max: 1024 }, Words("one per core"), "UDP threads."),
        key(
            "pin-workers",
            Kind::Boolean,
            Is("false"),
            "Keep each UDP thread on a core of its own, and hand it what that core receives.",
        ),
        key(
            "max-udp-payload",
            Kind::Integer { min: 512, max: 4096 },
            Is("1232"),
            "Largest answer over UDP, in octets: at most what every path to a resolver takes, as none is fragmented.",
        ),
        key(
            "startup-grace",
            Kind::Duration { min_ms: 0, max_ms: 5 * MINUTE },
            Is(r#""5s""#),
            "Longest wait for the first observations before listening.",
        ),
        key(
            "identity",
            Kind::Boolean,
            Is("true"),
            "Answer `id.server` and `version.bind` (class CHAOS); false: REFUSED.",
        ),
        key(
            "whoami",
            Kind::DomainNames,
            Is("[]"),
            "Names that say who asks: TXT the resolver, its client subnet, the client's place, this node; A and AAAA the \
             resolver's address.",
        ),
        key(
            "explain-from",
            Kind::Prefixes,
            Is("[]"),
            "Packet sources for which TXT of `_explain.NAME` (and `_explain-aaaa.NAME`) tells why its answer is what it is.",
        ),
        key(
            "tcp-connections",
            Kind::Integer { min: 1, max: 60_000 },
            Is("20000"),
            "TCP and QUIC connections open at once; a newcomer replaces the one that finished nothing for longest.",
        ),
        key(
            "tcp-connections-per-prefix",
            Kind::Integer { min: 1, max: 60_000 },
            Is("50"),
            "The same per client prefix (/24, /48), within which a newcomer replaces another.",
        ),
        key(
            "tcp-idle",
            Kind::Duration { min_ms: 100, max_ms: 10 * MINUTE },
            Is(r#""10s""#),
            "A connection without a query for so long is closed; what clients are told that ask (RFC 7828).",
        ),
        key(
            "tcp-idle-when-pressed",
            Kind::Duration { min_ms: 100, max_ms: 10 * MINUTE },
            Is(r#""2s""#),
            "The same while more than half of `tcp-connections` are open, if it is less.",
        ),
        key(
            "tcp-message-timeout",
            Kind::Duration { min_ms: 100, max_ms: MINUTE },
            Is(r#""5s""#),
            "A message over TCP must be whole so long after its first octet; so long may a TLS handshake take, and a header of \
             `proxy-protocol-from`.",
        ),
        key(
            "tcp-write-timeout",
            Kind::Duration { min_ms: 100, max_ms: MINUTE },
            Is(r#""5s""#),
            "A client must have taken its answers over TCP so long after they were ready.",
        ),
        key(
            "tcp-burst",
            Kind::Integer { min: 1, max: 1_000 },
            Is("100"),
            "Answers written at once to a TCP connection; further queries wait, unread, until the client took them.",
        ),
        key(
            "canaries",
            Kind::References("check"),
            Is("[]"),
            "Checks with an `address`: while all of these fail, and over half of all targets, this node sees nothing and \
             verdicts are frozen.",
        ),
        key(
            "resolvers",
            Kind::Custom { describe: "array of address or address:port", check: server::check_resolvers },
            Words("the system's"),
            "Resolvers that are asked for the addresses of `target`s; port 53 unless given.",
        ),
        key(
            "proxy-protocol-from",
            Kind::Prefixes,
            Is("[]"),
            "Balancers: connections and datagrams from there must begin with a PROXY protocol header, version 2, whose source \
             is the client. From others it is never read.",
        ),
        later("watch", Is("false"), "Reload when a named file changes.", "reload with SIGHUP"),
    ],
);

pub(super) static ADMIN: Section = section(
    "[admin]",
    "[admin]",
    "API, metrics and status page.",
    &[
        key("listen", Kind::Socket, Is(r#""127.0.0.1:8053""#), "Where; a loopback address."),
        key("hosts", Kind::Texts, Is("[]"), "Host names accepted beside its addresses, localhost and `node`."),
    ],
);

pub(super) static TLS: Section = section(
    "[tls]",
    "[tls]",
    "Encrypted transports, each only where it is listed. Certificate and key are read again when their files change.",
    &[
        key(
            "certificate",
            Kind::Path,
            Words("none"),
            "PEM file: the certificate, and behind it those that it was issued by.",
        ),
        key("key", Kind::Path, Words("none"), "PEM file of the certificate's key, not encrypted."),
        key("dot", Kind::Sockets, Is("[]"), "DNS over TLS (RFC 7858); its port is 853."),
        key("doh", Kind::Sockets, Is("[]"), "DNS over HTTPS (RFC 8484), HTTP/1.1 and HTTP/2; its port is 443."),
        key("doq", Kind::Sockets, Is("[]"), "DNS over QUIC (RFC 9250); its port is 853 of UDP."),
        key("doh3", Kind::Sockets, Is("[]"), "DNS over HTTP/3; its port is 443 of UDP."),
        key(
            "doh-path",
            Kind::Custom { describe: "path of a URL", check: tls::check_path },
            Is(r#""/dns-query""#),
            "Path of the URL of DNS over HTTPS.",
        ),
    ],
);

pub(super) static ZONE: Section = section(
    "[zones.\"NAME\"]",
    "a zone",
    "A zone and its static records.",
    &[
        key("file", Kind::Path, Required, "Zone file; a zone has this or `primaries`."),
        key(
            "include-root",
            Kind::Path,
            Words("the folder of `file`"),
            "Folder that files named by `$INCLUDE` must be in, or further below.",
        ),
        key(
            "primaries",
            Kind::Custom { describe: "array of address or address:port", check: keyring::check_primaries },
            Words("none"),
            "Where a secondary zone is copied from, tried in turn; port 53 unless given. The copy is kept in `state-dir`. \
             Where there is a `key`, both sides sign.",
        ),
        key(
            "max-shrink",
            Kind::Share { max: 10_000 },
            Is(r#""50%""#),
            "A copy that has lost more of its records than this is refused, and the one before it served on.",
        ),
        key(
            "key",
            Kind::Reference("key"),
            Words("none"),
            "What transfers of the zone, notifies and updates must be signed with, in and out.",
        ),
        key(
            "transfer-to",
            Kind::Prefixes,
            Is("[]"),
            "Who may transfer the zone (AXFR, IXFR); where there is a `key`, only if signed with it.",
        ),
        key(
            "transfer-steered",
            Kind::Choice { words: &["all", "skip"], later: &[] },
            Is(r#""all""#),
            "What transfers hold at steered names: `all` the addresses of all instances with a weight, whatever their \
             health, with the service's least TTL; `skip` nothing.",
        ),
        key(
            "notify",
            Kind::Custom { describe: "array of address or address:port", check: keyring::check_notify },
            Is("[]"),
            "Who is told when the serial goes up, and at a start; port 53 unless given.",
        ),
        key(
            "update-from",
            Kind::Prefixes,
            Is("[]"),
            "Who may update the zone (RFC 2136): TXT records of names that begin with `_acme-challenge`, nothing else; where \
             there is a `key`, only if signed with it.",
        ),
        key(
            "update-expire",
            Kind::Duration { min_ms: SECOND, max_ms: 7 * 24 * HOUR },
            Is(r#""1h""#),
            "How long what was updated stays, if nobody deletes it before.",
        ),
    ],
);

pub(super) static KEY: Section = section(
    "[keys.NAME]",
    "a key",
    "A secret shared with others, which messages are signed with (TSIG); its name is a domain name of at most 63 octets, the same on both sides.",
    &[
        key(
            "algorithm",
            Kind::Choice { words: &["hmac-sha256", "hmac-sha384", "hmac-sha512"], later: &[] },
            Is(r#""hmac-sha256""#),
            "How messages are signed.",
        ),
        key("secret-file", Kind::Path, Required, "File of the secret: base64 of 16 to 512 octets, nothing else."),
    ],
);

pub(super) static GEO: Section = section(
    "[geo]",
    "[geo]",
    "Where clients are.",
    &[
        key("databases", Kind::Paths, Is("[]"), "MaxMind DB files, asked in order; what one lacks, the next adds."),
        key(
            "networks",
            Kind::Path,
            Words("none"),
            "TOML file of networks and their places; it comes before the data bases.",
        ),
    ],
);

pub(super) static NETWORK: Section = section(
    "networks file, \"PREFIX\" = { … }",
    "a network",
    "A network and its place; what is not given comes from the data bases.",
    &[
        key(
            "continent",
            Kind::Custom { describe: "AF AN AS EU NA OC SA", check: maps::check_continent },
            Words("that of the country"),
            "Continent.",
        ),
        key(
            "country",
            Kind::Custom { describe: "ISO 3166-1 code", check: maps::check_country },
            Words("none"),
            "Country.",
        ),
        key(
            "subdivision",
            Kind::Custom { describe: "ISO 3166-2 code, `US-CA`", check: maps::check_subdivision },
            Words("none"),
            "Subdivision.",
        ),
        key("city", Kind::Integer { min: 1, max: u32::MAX as i128 }, Words("none"), "GeoNames id of the city."),
        key("as", Kind::Integer { min: 1, max: u32::MAX as i128 }, Words("none"), "Autonomous system."),
        key("latitude", Kind::Number { min: -90.0, max: 90.0 }, Words("none"), "Degrees, north positive."),
        key("longitude", Kind::Number { min: -180.0, max: 180.0 }, Words("none"), "Degrees, east positive."),
    ],
);

pub(super) static ECS: Section = section(
    "[ecs]",
    "[ecs]",
    "EDNS Client Subnet.",
    &[
        key("enabled", Kind::Boolean, Is("true"), "Whether it is looked at, at all."),
        key("ipv4", Kind::Integer { min: 0, max: 32 }, Is("24"), "Most bits of an IPv4 prefix that are looked at."),
        key("ipv6", Kind::Integer { min: 0, max: 128 }, Is("56"), "Most bits of an IPv6 prefix that are looked at."),
        key(
            "trusted",
            Kind::Prefixes,
            Is(r#"["127.0.0.0/8", "::1/128"]"#),
            "Packet sources whose ECS may name addresses that are not global unicast.",
        ),
    ],
);

pub(super) static COOKIES: Section = section(
    "[cookies]",
    "[cookies]",
    "DNS cookies: clients prove that they are not spoofed.",
    &[
        key("enabled", Kind::Boolean, Is("true"), "Whether they are answered; false: an unknown option."),
        key(
            "secret-file",
            Kind::Path,
            Words("a random secret in `state-dir`, replaced daily"),
            "File of secrets that nodes behind one address share, 32 hexadecimal digits a line: the first makes cookies, all \
             are accepted.",
        ),
        key(
            "require",
            Kind::Choice { words: &["never", "limited", "always"], later: &[] },
            Is(r#""limited""#),
            "When a query over UDP whose client has a cookie, but no good one of this server, gets BADCOOKIE and a fresh one: \
             `limited` is where the rate limit would withhold its answer.",
        ),
    ],
);

pub(super) static RATE_LIMIT: Section = section(
    "[rate-limit]",
    "[rate-limit]",
    "How many answers over UDP a network gets, so that nobody gains from queries sent in its name. TCP and good DNS cookies \
     are exempt.",
    &[
        key("enabled", Kind::Boolean, Is("false"), "Whether answers are counted, at all."),
        key(
            "answers-per-second",
            Kind::Integer { min: 1, max: 1_000_000 },
            Is("200"),
            "To one prefix, of one kind: of a name, of a wildcard, NXDOMAIN of a zone, referrals of a zone cut, errors.",
        ),
        key(
            "total-per-second",
            Kind::Integer { min: 0, max: 1_000_000 },
            Is("0"),
            "To one prefix, of all kinds; 0: as many as there are.",
        ),
        key(
            "slip",
            Kind::Integer { min: 0, max: 100 },
            Is("2"),
            "Of the answers beyond the rate every so many goes out truncated, so that the client comes by TCP; 0: none.",
        ),
        key("ipv4", Kind::Integer { min: 8, max: 32 }, Is("24"), "Bits of an IPv4 prefix."),
        key("ipv6", Kind::Integer { min: 16, max: 64 }, Is("64"), "Bits of an IPv6 prefix."),
        key("exempt", Kind::Prefixes, Is("[]"), "Packet sources that are not limited."),
        key("dry-run", Kind::Boolean, Is("false"), "Count and log, and withhold nothing."),
        key(
            "buckets",
            Kind::Integer { min: 1_000, max: 100_000_000 },
            Is("1000000"),
            "Most prefixes and kinds that are counted at once; 8 octets each, rounded up to a power of two.",
        ),
    ],
);

pub(super) static LATENCY: Section = section(
    "[latency]",
    "[latency]",
    "Round-trip times that were measured, for `steer = \"latency\"`.",
    &[
        key(
            "half-life",
            Kind::Duration { min_ms: SECOND, max_ms: 24 * HOUR },
            Is(r#""10m""#),
            "After so long, or about a dozen samples, whichever is sooner, what was measured before counts half.",
        ),
        key(
            "expire-after",
            Kind::Duration { min_ms: MINUTE, max_ms: 720 * HOUR },
            Is(r#""1d""#),
            "An estimate without a sample for so long is forgotten; at least `half-life`.",
        ),
        key(
            "prefixes",
            Kind::Integer { min: 1, max: 1_000_000 },
            Is("100000"),
            "Most prefixes that have estimates of their own; those measured last stay. 100000 of them take up to 190 MB \
             with 32 regions each.",
        ),
        key(
            "explore",
            Kind::Share { max: 1_000 },
            Is(r#""0%""#),
            "Share of the clients, by hash, that begin at the second best region, so that it is measured at all.",
        ),
    ],
);

pub(super) static REGION: Section = section(
    "[regions.NAME]",
    "a region",
    "A place that holds instances.",
    &[
        key(
            "location",
            Kind::Custom {
                describe: "`{ latitude = …, longitude = … }`, or a region of a cloud: `\"aws:eu-west-1\"`",
                check: regions::check_location,
            },
            Words("none: never nearest, last in `\"*\"`"),
            "Where it is.",
        ),
        key(
            "bias",
            Kind::Integer { min: -99, max: 99 },
            Is("0"),
            "Positive: draws clients from farther away; negative: from less far.",
        ),
        key(
            "only-named",
            Kind::Boolean,
            Is("false"),
            "Reached only where a list names it, never through `\"*\"`, nearest or any.",
        ),
    ],
);

pub(super) static LOCATION: Section = section(
    "[regions.NAME] location",
    "a location",
    "Coordinates.",
    &[
        key("latitude", Kind::Number { min: -90.0, max: 90.0 }, Required, "Degrees, north positive."),
        key("longitude", Kind::Number { min: -180.0, max: 180.0 }, Required, "Degrees, east positive."),
    ],
);

pub(super) static MAP: Section = Section {
    title: "[maps.NAME]",
    noun: "a map",
    meaning: "Place of the client → ordered regions. The most specific entry wins: longest prefix, as, city, \
              subdivision, country, continent, `default`.",
    keys: &[
        key("extends", Kind::Reference("map"), Words("none"), "Takes what is not given from that map, entry by entry."),
        key(
            "within",
            Kind::Choice { words: &["nearest", "latency", "listed"], later: &[] },
            Is(r#""nearest""#),
            "Order inside a tier.",
        ),
        key(
            "fence-unknown",
            Kind::Choice { words: &["default", "nodata"], later: &[] },
            Is(r#""default""#),
            "What clients of unknown place get where fences exist.",
        ),
        key(
            "default",
            Kind::Custom { describe: "list", check: maps::check_list },
            Words("required where a service steers by `geo`"),
            "Regions for clients that no entry fits.",
        ),
        key(
            "fences",
            Kind::Custom { describe: "table: selector = array of regions", check: maps::check_fences },
            Words("none"),
            "Hard limits: clients in it reach these regions only.",
        ),
    ],
    open: Some(Open {
        describe: "\"continent:EU\", \"country:DE\", \"subdivision:US-CA\", \"city:2643743\", \"as:64500\", \"192.0.2.0/24\"",
        meaning: "A list: regions in order, an array inside is a tier of equals, a table \
                  inside splits the clients by shares, `\"*\"` is all others, nearest first. \
                  Selectors joined with `,` must all hold.",
        is_meant: |name| name.contains([':', '/', ',']) || name.contains('.') || name.is_empty(),
        check: maps::check_entry,
    }),
};

pub(super) static CHECK: Section = section(
    "[checks.NAME]",
    "a check",
    "A reusable health check.",
    &[
        key("extends", Kind::Reference("check"), Words("none"), "Takes what is not given from that check."),
        key(
            "type",
            Kind::Choice {
                words: &["http", "https", "tcp", "tls", "dns", "grpc", "exec", "icmp", "push", "agent"],
                later: &[],
            },
            Required,
            "What a probe does.",
        ),
        key(
            "address",
            Kind::Custom { describe: "address or array of them", check: pools::check_addresses },
            Words("none"),
            "What a check in `[server] canaries` probes, beside the instances of its pools. Not inherited.",
        ),
        key(
            "port",
            PORT,
            Words("the instance's port, else that of the type: 80, 443 and 53 for `http`, `https` and `dns`"),
            "Port that is probed.",
        ),
        key(
            "method",
            Kind::Custom { describe: "HTTP method", check: checks::check_method },
            Is(r#""GET""#),
            "Request method.",
        ),
        key(
            "path",
            Kind::Custom { describe: "path, begins with `/`", check: checks::check_path },
            Is(r#""/""#),
            "Path and query.",
        ),
        key(
            "host",
            Kind::Custom { describe: "host name, or `\"address\"`", check: checks::check_host },
            Words("the pool's host"),
            "Host header, SNI, `WAYMARK_HOST`; `\"address\"` is the address itself.",
        ),
        key(
            "headers",
            Kind::Custom { describe: "table of texts", check: checks::check_headers },
            Is("{}"),
            "Further request headers.",
        ),
        key(
            "expect-status",
            Kind::Custom { describe: "array of statuses and ranges, 100 to 599", check: checks::check_statuses },
            Is(r#"["200-299"]"#),
            "Statuses that pass.",
        ),
        key(
            "expect-body",
            Kind::Custom { describe: "text, or `\"/regular expression/\"`", check: checks::check_body },
            Words("anything"),
            "What the first 64 KiB of the body must hold.",
        ),
        key(
            "load-header",
            Kind::Custom { describe: "header name", check: checks::check_header_name },
            Words("none"),
            "Header of the response that tells the instance's load, a number from 0, in the unit of its `capacity`.",
        ),
        key(
            "load-json",
            Kind::Custom { describe: "JSON pointer, `/load/now`", check: checks::check_pointer },
            Words("none"),
            "Where the load stands in the first 64 KiB of a JSON body, instead.",
        ),
        key(
            "send",
            Kind::Custom { describe: "text of at most 256 octets", check: checks::check_send },
            Words("nothing"),
            "What an agent is sent before it says its line: `\"state\\n\"`.",
        ),
        key(
            "http-version",
            Kind::Choice { words: &["1.1", "2"], later: &[] },
            Is(r#""1.1""#),
            "HTTP that is spoken; `\"2\"` is agreed on by ALPN over TLS, and taken for granted with `http`.",
        ),
        key("tls", Kind::Boolean, Is("false"), "Whether gRPC is spoken over TLS."),
        key("service", Kind::Text, Words("the server as a whole"), "gRPC service whose health is asked for."),
        key("verify", Kind::Boolean, Is("true"), "Whether the certificate must be valid for the host."),
        key(
            "client-certificate",
            Kind::Path,
            Words("none"),
            "PEM file: the certificate that is shown to targets that ask for one, its issuers behind it.",
        ),
        key("client-key", Kind::Path, Words("required with `client-certificate`"), "PEM file: its private key."),
        key(
            "command",
            Kind::Custom { describe: "array of texts", check: checks::check_command },
            Words("required for `exec`"),
            "Program and arguments; exit 0 passes. Its environment has `WAYMARK_ADDRESS`, `WAYMARK_PORT`, `WAYMARK_HOST`.",
        ),
        key("query", Kind::DomainName, Words("required for `dns`"), "Name that is asked for."),
        key(
            "query-type",
            Kind::Custom { describe: "record type", check: super::expectations::check_type },
            Is(r#""A""#),
            "Type that is asked for.",
        ),
        key(
            "expect-rcode",
            Kind::Choice { words: checks::RCODE_WORDS, later: &[] },
            Is(r#""NOERROR""#),
            "Rcode that passes.",
        ),
        key(
            "expect-answer",
            Kind::Text,
            Words("anything"),
            "Data of a record that the answer must hold: an address, a name, the text of a TXT.",
        ),
        key(
            "interval",
            Kind::Duration { min_ms: 100, max_ms: HOUR },
            Is(r#""5s""#),
            "Time between probes of one target; between reports for `push`, 3 times without one is a failure.",
        ),
        key(
            "timeout",
            Kind::Duration { min_ms: 10, max_ms: HOUR },
            Is(r#""2s""#),
            "Longest probe; less than `interval`.",
        ),
        key("fall", Kind::Integer { min: 1, max: 100 }, Is("3"), "Consecutive failures that take a target down."),
        key("rise", Kind::Integer { min: 1, max: 100 }, Is("3"), "Consecutive passes that bring it up."),
        key(
            "window",
            Kind::Custom { describe: "`{ failures = …, of = … }` or `\"off\"`", check: checks::check_window },
            Is("{ failures = 6, of = 20 }"),
            "Also down when that many of the last probes failed.",
        ),
        key(
            "fast-interval",
            Kind::Duration { min_ms: 50, max_ms: HOUR },
            Words("max(interval / 2, timeout)"),
            "Time between probes while an up target has a running failure; at most `interval`.",
        ),
        key(
            "hold-down",
            Kind::Duration { min_ms: 0, max_ms: 5 * MINUTE },
            Is(r#""30s""#),
            "From the second time down within 10 minutes on, the n-th lasts at least this × n, at most 5m.",
        ),
        key("source", Kind::Address, Words("the system chooses"), "Address that probes come from."),
    ],
);

pub(super) static WINDOW: Section = section(
    "[checks.NAME] window",
    "a window",
    "Failures among the last probes.",
    &[
        key("failures", Kind::Integer { min: 1, max: 64 }, Required, "That many failures; at most `of`."),
        key("of", Kind::Integer { min: 1, max: 64 }, Required, "Among that many probes."),
    ],
);

pub(super) static POOL: Section = section(
    "[pools.NAME]",
    "a pool",
    "Named instances that are checked alike.",
    &[
        key("extends", Kind::Reference("pool"), Words("none"), "Takes what is not given from that pool."),
        key("check", Kind::References("check"), Is("[]"), "All must pass; none: always up."),
        key(
            "host",
            Kind::Custom { describe: "host name", check: checks::check_host },
            Words("none"),
            "Host for checks that name none.",
        ),
        key(
            "up-threshold",
            Kind::Share { max: 10_000 },
            Is(r#""50%""#),
            "Least share of the weight that must work for a region to be available.",
        ),
        key(
            "ramp",
            Kind::Duration { min_ms: 0, max_ms: 24 * HOUR },
            Is(r#""0s""#),
            "How long it takes until an instance that recovered has its whole weight; it begins with a tenth.",
        ),
        key(
            "return-after",
            Kind::Duration { min_ms: 0, max_ms: 24 * HOUR },
            Is(r#""30s""#),
            "How long a region that was lost must be available again before it is used.",
        ),
        key(
            "region-ramp",
            Kind::Duration { min_ms: 0, max_ms: 24 * HOUR },
            Is(r#""2m""#),
            "How long it then takes until all its clients are back, by client.",
        ),
        key(
            "failback",
            Kind::Choice { words: &["auto", "manual"], later: &[] },
            Is(r#""auto""#),
            "`manual`: a region that was lost stays out of a service until `waymark resume SERVICE REGION`.",
        ),
        key(
            "instances",
            Kind::Custom { describe: "table: name = instance", check: pools::check_instances },
            Required,
            "Its instances, see [pools.NAME.instances].",
        ),
    ],
);

pub(super) static INSTANCE: Section = section(
    "[pools.NAME.instances] NAME = { … }",
    "an instance",
    "One member of a pool.",
    &[
        key("region", Kind::References("region"), Words("none: only for `steer = \"any\"`"), "Where it is."),
        key(
            "address",
            Kind::Custom { describe: "address or array of them", check: pools::check_addresses },
            Words("none; required without `target`"),
            "Handed out in answers, and probed.",
        ),
        key("port", PORT, Words("the check's"), "Port that is probed, and that of SRV records."),
        key("weight", Kind::Integer { min: 0, max: MAX_WEIGHT }, Is("1"), "Its part of the clients; 0: never."),
        key("check-address", Kind::Address, Words("its addresses"), "Probed instead of its addresses."),
        key("check-port", PORT, Words("the check's `port`, else `port`"), "Port that is probed instead."),
        key(
            "target",
            Kind::DomainName,
            Words("none; instead of `address`"),
            "Handed out as a CNAME; the addresses that this name has are found and probed, and one that passes suffices.",
        ),
        key(
            "capacity",
            LOAD,
            Is("100"),
            "Its load when it is fully used, in the unit of what it reports; 100: reports are in percent.",
        ),
        key(
            "max-load",
            LOAD,
            Words("none; `spill` goes by `capacity`"),
            "From this load on, in the same unit, it gets no clients while another of its region can have them.",
        ),
    ],
);

pub(super) static SERVICE: Section = section(
    "[services.\"NAME\"]",
    "a service",
    "A domain name that is steered; `*` may be its first label.",
    &[
        key(
            "extends",
            Kind::Reference("service"),
            Words("none"),
            "Takes what is not given, but for aliases, from that service.",
        ),
        key(
            "pool",
            Kind::Custom {
                describe: "name of a pool, or table: pool = share, 0 to 1000000",
                check: services::check_pool,
            },
            Required,
            "Where its instances are; of several pools each gets its share of every region's traffic.",
        ),
        key(
            "steer",
            Kind::Choice { words: &["geo", "nearest", "latency", "failover", "weighted", "any"], later: &[] },
            Is(r#""any""#),
            "Which region.",
        ),
        key("map", Kind::Reference("map"), Words("none"), "For `geo`; its fences hold for every `steer`."),
        key(
            "balance",
            Kind::Choice { words: &["weighted", "round-robin", "sticky", "least-load", "random"], later: &[] },
            Is(r#""weighted""#),
            "Which instance inside the region.",
        ),
        key("answers", Kind::Integer { min: 0, max: 1_000 }, Is("1"), "Most addresses in one answer; 0: all."),
        key(
            "ttl",
            Kind::Custom {
                describe: "duration in whole seconds, 0s to 1d, or `{ max, min }`",
                check: services::check_ttl,
            },
            Is(r#""30s""#),
            "TTL of its answers; with `max` and `min` it follows health.",
        ),
        key(
            "when-all-down",
            Kind::Custom {
                describe: "`\"serve-all\"`, `\"nodata\"`, `\"servfail\"`, `{ service = … }`, `{ address = … }`",
                check: services::check_when_all_down,
            },
            Is(r#""serve-all""#),
            "What is answered when nothing works.",
        ),
        key("aliases", Kind::DomainNames, Is("[]"), "Further names that answer alike."),
        key("order", Kind::References("region"), Words("regions as configured"), "For `failover`: most wanted first."),
        key(
            "shares",
            Kind::Custom { describe: "table: region = integer, 0 to 1000000", check: services::check_shares },
            Words("required for `weighted`"),
            "For `weighted`: share of each region.",
        ),
        key(
            "tolerance",
            Kind::Custom { describe: "share, 0% to 100%, or duration, 0s to 1s", check: services::check_tolerance },
            Words("`\"5%\"` for `nearest`, `\"10ms\"` for `latency`"),
            "Regions this much farther, or slower, than the best are equals.",
        ),
        key(
            "spill",
            Kind::Custom { describe: "number above 0, to 100", check: services::check_spill },
            Words("off"),
            "Instead of `up-threshold`: this × the working part of a region's weight is the part of its clients that stays.",
        ),
        key(
            "sticky",
            Kind::Custom { describe: "table", check: services::check_sticky },
            Is(r#"{ by = "client", level = "instance", ipv4 = 24, ipv6 = 56 }"#),
            "How clients are grouped for all that keeps a client where it is.",
        ),
        key("ecs", Kind::Boolean, Is("true"), "Whether ECS is looked at."),
        key(
            "region-names",
            Kind::Boolean,
            Is("false"),
            "A name for each region, `eu-west.NAME`, that answers with its instances alone; NODATA while none works.",
        ),
        key(
            "https",
            Kind::Custom { describe: "table", check: records::check_binding },
            Words("none"),
            "HTTPS records, with the addresses that are answered as hints.",
        ),
        key(
            "svcb",
            Kind::Custom { describe: "table", check: records::check_binding },
            Words("none"),
            "The same as SVCB records.",
        ),
        key(
            "srv",
            Kind::Custom { describe: "table", check: records::check_srv },
            Words("none"),
            "SRV records of its instances, and a name with addresses for each of these, `eu-1.NAME`.",
        ),
    ],
);

pub(super) static BINDING: Section = section(
    "[services.\"NAME\"] https, svcb",
    "`https` or `svcb`",
    "The parameters of HTTPS and SVCB records; nothing needs to be given.",
    &[
        key(
            "alpn",
            Kind::Custom { describe: "array of 1 to 16 texts", check: records::check_alpn },
            Words("none"),
            "Protocols, as \"h2\", \"h3\".",
        ),
        key("port", PORT, Words("none: that of the scheme"), "Port."),
        key(
            "ech",
            Kind::Custom { describe: "base64", check: records::check_ech },
            Words("none"),
            "Configuration of Encrypted ClientHello.",
        ),
        key("hints", Kind::Boolean, Is("true"), "Whether `ipv4hint` and `ipv6hint` are given."),
        key(
            "tiers",
            Kind::Integer { min: 1, max: 4 },
            Is("1"),
            "Most regions that have a record: the one that serves, and those that would serve next by their `region-names`.",
        ),
    ],
);

pub(super) static SRV: Section = section(
    "[services.\"NAME\"] srv",
    "`srv`",
    "SRV records below the service's names.",
    &[
        key(
            "names",
            Kind::Custom { describe: "array of 1 to 16 texts, `\"_sip._tcp\"`", check: records::check_prefixes },
            Required,
            "What stands before the service's name and its aliases, but for wildcards.",
        ),
        key("port", PORT, Words("that of each instance"), "Port of instances that give none."),
        key(
            "tiers",
            Kind::Integer { min: 1, max: 4 },
            Is("1"),
            "Most regions that have records: the one that serves, priority 0, and those that would serve next.",
        ),
    ],
);

pub(super) static STICKY: Section = section(
    "[services.\"NAME\"] sticky",
    "`sticky`",
    "The mask that groups clients.",
    &[
        key(
            "by",
            Kind::Choice { words: &["client", "label"], later: &[] },
            Is(r#""client""#),
            "By what: the client's network, or the leftmost label of a wildcard service.",
        ),
        key(
            "level",
            Kind::Choice { words: &["instance", "region"], later: &[] },
            Is(r#""instance""#),
            "What stays where instances are `sticky` or regions are drawn by `weighted`; `region`: instances are balanced inside.",
        ),
        key("ipv4", Kind::Integer { min: 0, max: 32 }, Is("24"), "Bits of an IPv4 client."),
        key("ipv6", Kind::Integer { min: 0, max: 128 }, Is("56"), "Bits of an IPv6 client."),
    ],
);

pub(super) static TTL: Section = section(
    "[services.\"NAME\"] ttl",
    "`ttl`",
    "A TTL that follows health.",
    &[
        key(
            "max",
            Kind::Custom { describe: "duration in whole seconds, 0s to 1d", check: services::check_seconds },
            Required,
            "While nothing speaks against the verdicts that an answer goes by; else the time until one may change, if less.",
        ),
        key(
            "min",
            Kind::Custom { describe: "duration in whole seconds, 0s to 1d", check: services::check_seconds },
            Required,
            "At least; while failing open or frozen, and of negative answers, at most.",
        ),
    ],
);

pub(super) static GUARD: Section = section(
    "[guard]",
    "[guard]",
    "Limits of what a reload or checks may change.",
    &[
        later("max-shift", Is(r#""50%""#), "Most clients that a reload may move.", "available: \"50%\", the default"),
        later("min-regions", Is("0"), "Fewest regions that checks leave.", "available: 0, the default"),
    ],
);

pub(super) static TEST: Section = section(
    "[[tests]]",
    "a test",
    "An expectation, run by `waymark check` and before every reload.",
    &[
        key("name", Kind::DomainName, Required, "Name of a service."),
        key("client", Kind::Prefix, Required, "Where the client is."),
        key(
            "type",
            Kind::Custom { describe: "record type", check: super::expectations::check_type },
            Is(r#""A""#),
            "Type asked.",
        ),
        key(
            "down",
            Kind::Texts,
            Is("[]"),
            "What is down: `region/…`, `pool/…`, `instance/pool/…`; `*` is anything but `/`.",
        ),
        key("expect-region", Kind::Reference("region"), Words("any"), "Region that must be chosen."),
        key("expect-instances", Kind::Texts, Words("any"), "Instances that may be answered, exactly these."),
    ],
);

impl Section {
    /// The key of that name. A name that is not in the table is a mistake in this module's callers.
    pub(super) fn key(&self, name: &str) -> &'static Key {
        let keys: &'static [Key] = self.keys;
        keys.iter().find(|key| key.name == name).expect("readers ask for keys that the table has")
    }
}

impl Key {
    /// The default as a value.
    pub(super) fn default_value(&self) -> Option<&'static Value> {
        let Default::Value(text) = self.default else { return None };
        DEFAULT_VALUES.get(text)
    }
}

/// All defaults by their text, parsed once: a large configuration asks for some a million times.
static DEFAULT_VALUES: LazyLock<HashMap<&str, Value>> = LazyLock::new(|| {
    let top = TOP.iter().filter_map(|(_, shape)| match shape {
        Shape::Single(section) | Shape::Named(section) | Shape::Several(section) => Some(*section),
        Shape::Defaults | Shape::Include => None,
    });
    let keys = top.chain(INNER.iter().map(|(_, section)| *section)).flat_map(|section| section.keys);
    let texts = keys.filter_map(|key| match key.default {
        Default::Value(text) => Some(text),
        Words(_) | Required => None,
    });
    let parse = |text| Value::new(SourceId(0), &toml::de::DeValue::parse_recoverable(text).0);
    texts.map(|text| (text, parse(text))).collect()
});

/// Checks the keys of a table and their values, one by one; what is missing is not told here.
pub(super) fn check_table(section: &Section, table: &Table, problems: &mut Vec<Problem>) {
    for entry in &table.entries {
        match section.keys.iter().find(|key| entry.name == key.name) {
            Some(Key { later: Some(hint), .. }) => check_later(section, entry, hint, problems),
            Some(key) => kinds::check(&key.kind, &entry.value, problems),
            None => match &section.open {
                Some(open) if (open.is_meant)(&entry.name) => (open.check)(entry, problems),
                _ => problems.push(unknown_key(section, entry)),
            },
        }
    }
}

/// Checks a table of fixed keys inside a value, where nothing can be inherited: required keys must be there.
pub(super) fn check_whole_table(section: &Section, value: &Value, problems: &mut Vec<Problem>) {
    let Some(table) = value.table() else {
        kinds::report::<()>(Err(kinds::wrong_type(value, "a table")), value, problems);
        return;
    };
    check_table(section, table, problems);
    for key in section.keys {
        if matches!(key.default, Default::Required) && table.get(key.name).is_none() {
            problems.extend(missing(section, key, table, value.span));
        }
    }
}

/// The problem of a required key that is not there; none when it is there but misspelt, for that has its own problem.
pub(super) fn missing(section: &Section, key: &Key, table: &Table, place: Span) -> Option<Problem> {
    let is_known = |name: &str| section.keys.iter().any(|known| known.name == name);
    let is_meant = |name: &str| super::text::nearest(name, [key.name]).is_some();
    if table.entries.iter().any(|entry| !is_known(&entry.name) && is_meant(&entry.name)) {
        return None;
    }
    let problem = Problem::error(place, format!("`{}` is missing in {}", key.name, section.noun));
    Some(problem.hint(format!("add `{}`: {}", key.name, key.kind.describe())))
}

fn check_later(section: &Section, entry: &Entry, hint: &str, problems: &mut Vec<Problem>) {
    let is_default =
        section.key(&entry.name).default_value().is_some_and(|default| default.says_the_same(&entry.value));
    if !is_default {
        let message = format!("`{}` is not available in this version of Waymark", entry.name);
        problems.push(Problem::error(entry.key, message).hint(hint));
    }
}

fn unknown_key(section: &Section, entry: &Entry) -> Problem {
    let names: Vec<&str> = section.keys.iter().map(|key| key.name).collect();
    let mut allowed = names.join(", ");
    if let Some(open) = &section.open {
        allowed = format!("{allowed}, {}", open.describe);
    }
    let message = format!("unknown key {} in {}", super::value::quoted(&entry.name), section.noun);
    unknown(Problem::error(entry.key, message).allowed(allowed), &entry.name, &names)
}

/// Suggests the name that was meant.
pub(super) fn unknown(problem: Problem, found: &str, names: &[&str]) -> Problem {
    match super::text::nearest(found, names.iter().copied()) {
        Some(near) => problem.hint(format!("did you mean `{near}`?")),
        None => problem,
    }
}

/// An empty table, for sections that are not there.
pub(super) static EMPTY: LazyLock<Table> = LazyLock::new(Table::default);

/// Whether a group of named tables has such a key.
pub(super) fn is_key(group: &str, name: &str) -> bool {
    TOP.iter().any(|(top, shape)| match shape {
        Shape::Named(section) if *top == group => section.keys.iter().any(|key| key.name == name),
        _ => false,
    })
}
