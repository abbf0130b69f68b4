//! `[server]`, `[admin]`, `[ecs]` and `[latency]`.

use std::net::SocketAddr;

use super::fields::Fields;
use super::files::{self, Document};
use super::findings::Findings;
use super::keys;
use super::kinds::{self, Read};
use super::text::show_duration;
use super::value::Value;
use super::{Admin, Ecs, Latency, Server, Tcp};
use crate::latency::Policy;
use crate::problem::{Problem, SourceId, Sources, Span};

/// Where sections that are not there would be: the beginning of the main file.
pub(super) fn nowhere() -> Span {
    Span::new(SourceId(0), 0..0)
}

/// Compiles `[server]`; beside it the places of its `whoami` names.
pub(super) fn server(document: &Document, sources: &Sources, findings: &mut Findings) -> (Server, Vec<Span>) {
    let fields = Fields::alone(&keys::SERVER, nowhere(), document.single("server"));
    let state_dir = fields.text("state-dir").unwrap_or_default();
    let named_in = fields.own("state-dir").map_or(SourceId(0), |value| value.span.source);
    let (whoami, places) = Vec::from(fields.each("whoami", kinds::domain_name)).into_iter().unzip();
    let server = Server {
        listen: listen(&fields, findings),
        node: fields.text("node").unwrap_or_else(host_name),
        state_dir: files::resolve(sources, named_in, &state_dir),
        workers: fields.integer("workers").unwrap_or_else(cores),
        pin_workers: fields.boolean("pin-workers"),
        max_udp_payload: fields.integer("max-udp-payload").unwrap_or_default(),
        startup_grace: fields.duration("startup-grace").unwrap_or_default(),
        resolvers: fields.each("resolvers", resolver).iter().map(|(socket, _)| *socket).collect(),
        identity: fields.boolean("identity"),
        whoami,
        tcp: tcp(&fields, findings),
        explain_from: fields.each("explain-from", kinds::prefix).iter().map(|(prefix, _)| *prefix).collect(),
        proxies: fields.each("proxy-protocol-from", kinds::prefix).iter().map(|(prefix, _)| *prefix).collect(),
    };
    (server, places)
}

/// Most resolvers.
const MAX_RESOLVERS: usize = 16;

/// Checks `resolvers`.
pub(super) fn check_resolvers(value: &Value, problems: &mut Vec<Problem>) {
    if value.elements().len() > MAX_RESOLVERS {
        let problem = Problem::error(value.span, format!("{} resolvers", value.elements().len()));
        problems.push(problem.allowed(format!("at most {MAX_RESOLVERS}")));
    }
    kinds::check_each(value, resolver, problems);
}

/// An address, with a port if it is not 53.
fn resolver(value: &Value) -> Read<SocketAddr> {
    kinds::address(value).map(|address| SocketAddr::new(address, 53)).or_else(|_| kinds::socket(value))
}

fn tcp(fields: &Fields<'_>, findings: &mut Findings) -> Tcp {
    let count = |name| fields.integer(name).unwrap_or(1);
    let time = |name| fields.duration(name).unwrap_or_default();
    let (connections, connections_per_prefix) = (count("tcp-connections"), count("tcp-connections-per-prefix"));
    if connections_per_prefix > connections && fields.own("tcp-connections-per-prefix").is_some() {
        let what = format!("{connections_per_prefix} connections of a prefix, and {connections} of all");
        let problem = Problem::error(fields.at("tcp-connections-per-prefix"), what);
        findings.cross.push(problem.allowed("at most `tcp-connections`"));
    }
    Tcp {
        connections,
        connections_per_prefix,
        idle: time("tcp-idle"),
        idle_when_pressed: time("tcp-idle-when-pressed"),
        message: time("tcp-message-timeout"),
        write: time("tcp-write-timeout"),
        burst: count("tcp-burst"),
    }
}

fn listen(fields: &Fields<'_>, findings: &mut Findings) -> Vec<SocketAddr> {
    let mut sockets: Vec<(SocketAddr, Span)> = Vec::new();
    for &(socket, span) in &fields.each("listen", kinds::socket) {
        match sockets.iter().find(|(earlier, _)| *earlier == socket && socket.port() != 0) {
            Some((_, first)) => {
                let problem = Problem::error(span, format!("{socket} is listed twice"));
                findings.cross.push(problem.also(*first, "first listed here"));
            }
            None => sockets.push((socket, span)),
        }
    }
    if let Some(value) = fields.own("listen")
        && value.elements().is_empty()
    {
        let problem = Problem::error(value.span, "no address to listen on");
        findings.cross.push(problem.hint("leave `listen` out to listen on port 53 of all addresses"));
    }
    sockets.into_iter().map(|(socket, _)| socket).collect()
}

fn host_name() -> String {
    let usable = |name: String| Some(name.trim().to_string()).filter(|name| !name.is_empty() && name.len() <= 255);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/hostname").ok().and_then(usable);
    kernel.or_else(|| std::env::var("HOSTNAME").ok().and_then(usable)).unwrap_or_else(|| "waymark".to_string())
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Compiles `[admin]`. Without tokens only this machine may reach it (SPEC 8.5).
pub(super) fn admin(document: &Document, findings: &mut Findings) -> Admin {
    let fields = Fields::alone(&keys::ADMIN, nowhere(), document.single("admin"));
    let (listen, span) = fields
        .each("listen", kinds::socket)
        .first()
        .copied()
        .unwrap_or_else(|| (SocketAddr::from(([127, 0, 0, 1], 8053)), nowhere()));
    if !listen.ip().is_loopback() {
        let problem = Problem::error(span, format!("{} is not a loopback address", listen.ip()))
            .allowed("127.0.0.0/8 or ::1")
            .hint(
                "who may do what is not yet told apart: reach it through a tunnel or a proxy that asks for a password",
            );
        findings.cross.push(problem);
    }
    let hosts = fields.each("hosts", |value| kinds::text(value).map(str::to_string));
    Admin { listen, hosts: hosts.iter().map(|(host, _)| host.clone()).collect() }
}

/// Compiles `[ecs]`.
pub(super) fn ecs(document: &Document) -> Ecs {
    let fields = Fields::alone(&keys::ECS, nowhere(), document.single("ecs"));
    Ecs {
        enabled: fields.boolean("enabled"),
        ipv4: fields.integer("ipv4").unwrap_or_default(),
        ipv6: fields.integer("ipv6").unwrap_or_default(),
        trusted: fields.each("trusted", kinds::prefix).iter().map(|(prefix, _)| *prefix).collect(),
    }
}

/// Compiles `[latency]`.
pub(super) fn latency(document: &Document, findings: &mut Findings) -> Latency {
    let fields = Fields::alone(&keys::LATENCY, nowhere(), document.single("latency"));
    let half_life = fields.duration("half-life").unwrap_or_default();
    let expire_after = fields.duration("expire-after").unwrap_or_default();
    if expire_after < half_life && !fields.is_wrong_duration("half-life") && !fields.is_wrong_duration("expire-after") {
        let given = if fields.own("expire-after").is_some() { "expire-after" } else { "half-life" };
        let problem = Problem::error(fields.at(given), "`expire-after` is less than `half-life`");
        let (half_life, expire_after) = (show_duration(half_life), show_duration(expire_after));
        findings.cross.push(problem.hint(format!(
            "half-life is {half_life}, expire-after {expire_after}: estimates would be forgotten before they count half"
        )));
    }
    let prefixes = fields.integer("prefixes").unwrap_or(1);
    Latency {
        policy: Policy { half_life, expire_after, prefixes },
        explore: fields.share("explore").unwrap_or_default(),
    }
}
