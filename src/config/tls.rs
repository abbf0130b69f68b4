//! `[tls]`: encrypted transports, each only where it is listed, and the certificate that all of them show.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::fields::Fields;
use super::files::{self, Document};
use super::findings::Findings;
use super::keys;
use super::kinds;
use super::server::nowhere;
use super::value::{Value, quoted};
use super::{Server, Tls};
use crate::problem::{Problem, Sources, Span};
use crate::time::unix_seconds;
use crate::tls::{Files, Identity, certificates, private_key};

const CERTIFICATE: &str = "certificate";
const KEY: &str = "key";
/// Lists of addresses, each with the protocol below it.
const LISTS: [(&str, &str); 4] = [("dot", "TCP"), ("doh", "TCP"), ("doq", "UDP"), ("doh3", "UDP")];

/// Compiles `[tls]`; `None` when nothing listens, or when what it needs is wrong, which is said.
pub(super) fn compile(document: &Document, server: &Server, sources: &Sources, findings: &mut Findings) -> Option<Tls> {
    let fields = Fields::alone(&keys::TLS, nowhere(), document.single("tls"));
    let lists = LISTS.map(|(name, _)| fields.each(name, kinds::socket));
    tell_collisions(&fields, server, findings);
    let listed = LISTS.iter().zip(&lists).find(|(_, list)| !list.is_empty()).map(|((name, _), _)| *name);
    match listed {
        Some(name) => tell_missing(&fields, name, findings),
        None => tell_unused(&fields, findings),
    }
    let (certificate, key) = (path(&fields, CERTIFICATE, sources), path(&fields, KEY, sources));
    let chain = certificate.as_ref().and_then(|(path, span)| file(path, *span, findings, certificates));
    let key_read = key.as_ref().and_then(|(path, span)| file(path, *span, findings, private_key));
    key.iter().for_each(|(path, span)| files::tell_open(path, *span, findings));
    let ((certificate, at), (key, key_at)) = (certificate?, key?);
    let identity = Identity::new(chain?, key_read?)
        .map_err(|wrong| findings.cross.push(Problem::error(key_at, wrong).also(at, "the certificate")))
        .ok()?;
    tell_expired(&identity, &certificate, at, findings);
    listed?;
    let [dot, doh, doq, doh3] = lists.map(|list| list.iter().map(|(socket, _)| *socket).collect());
    let doh_path = fields.custom("doh-path", |value| url_path(value).ok()).unwrap_or_default();
    Some(Tls { files: Files { certificate, key }, identity: Arc::new(identity), dot, doh, doq, doh3, doh_path })
}

/// What a key names, and where.
fn path(fields: &Fields<'_>, name: &str, sources: &Sources) -> Option<(PathBuf, Span)> {
    let value = fields.own(name)?;
    Some((files::resolve(sources, value.span.source, value.text()?), value.span))
}

/// What stands in a file.
fn file<T>(
    path: &Path,
    span: Span,
    findings: &mut Findings,
    parse: impl Fn(&[u8]) -> Result<T, &'static str>,
) -> Option<T> {
    let octets = match files::read_octets(path) {
        Ok(octets) => octets,
        Err(error) => {
            findings.local.push(files::unreadable(span, path, &error));
            return None;
        }
    };
    let problem = |wrong| Problem::error(span, format!("{}: {wrong}", quoted(&path.display().to_string())));
    parse(&octets).map_err(|wrong| findings.local.push(problem(wrong).allowed("a file in PEM format"))).ok()
}

fn tell_expired(identity: &Identity, path: &Path, span: Span, findings: &mut Findings) {
    let now = unix_seconds();
    if let Some(expires) = identity.expires().filter(|expires| *expires < now) {
        let days = (now - expires) / 86_400;
        let problem = Problem::warning(span, format!("{}: the certificate expired {days} days ago", path.display()));
        findings.local.push(problem.hint("most clients refuse it; a newer one is taken without a reload"));
    }
}

/// Something listens, and cannot without certificate and key.
fn tell_missing(fields: &Fields<'_>, list: &str, findings: &mut Findings) {
    for name in [CERTIFICATE, KEY].into_iter().filter(|name| fields.own(name).is_none()) {
        let problem = Problem::error(fields.at(list), format!("`{list}` without `{name}`"));
        findings.cross.push(problem.hint(format!("add {name} = \"{name}.pem\" to [tls]")));
    }
}

/// There is a certificate, and nobody is shown it.
fn tell_unused(fields: &Fields<'_>, findings: &mut Findings) {
    if fields.own(CERTIFICATE).is_some() {
        let problem = Problem::warning(fields.at(CERTIFICATE), "a certificate, and no encrypted transport is listed");
        findings.cross.push(problem.hint("list addresses: dot = [\"0.0.0.0:853\"]"));
    }
}

/// Two listeners on one address and port, over TCP or over UDP.
fn tell_collisions(fields: &Fields<'_>, server: &Server, findings: &mut Findings) {
    let mut taken: Vec<(SocketAddr, &str, Option<Span>)> =
        server.listen.iter().flat_map(|socket| [(*socket, "TCP", None), (*socket, "UDP", None)]).collect();
    for (name, protocol) in LISTS {
        for &(socket, span) in &fields.each(name, kinds::socket) {
            let is_same = |(earlier, below, _): &&(SocketAddr, &str, Option<Span>)| {
                *earlier == socket && *below == protocol && socket.port() != 0
            };
            match taken.iter().find(is_same) {
                Some((_, _, first)) => {
                    let problem = Problem::error(span, format!("{socket} is listed twice over {protocol}"));
                    findings.cross.push(match first {
                        Some(first) => problem.also(*first, "first listed here"),
                        None => problem.hint("`listen` of [server] has it; nothing unencrypted is served on its port"),
                    });
                }
                None => taken.push((socket, protocol, Some(span))),
            }
        }
    }
}

/// Checks `doh-path`.
pub(super) fn check_path(value: &Value, problems: &mut Vec<Problem>) {
    kinds::report(url_path(value), value, problems);
}

/// The path of a URL, as it goes over the wire.
fn url_path(value: &Value) -> kinds::Read<String> {
    let text = kinds::text(value)?;
    let is_plain = |octet: u8| octet.is_ascii_graphic() && !b"?#{}\"<>\\^`|".contains(&octet);
    if text.starts_with('/') && text.bytes().all(is_plain) {
        return Ok(text.to_string());
    }
    let problem = Problem::error(value.span, format!("{} cannot be the path of a URL", quoted(text)));
    Err(Box::new(problem.allowed("\"/dns-query\": begins with \"/\", without query and blanks")))
}
