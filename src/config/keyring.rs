//! `[keys.NAME]`: secrets that messages are signed with (TSIG); and what a zone says about who may copy it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;

use super::fields::{Fields, Index};
use super::files::{self, Document};
use super::findings::Findings;
use super::keys;
use super::kinds::{self, Read};
use super::value::Value;
use crate::dns::Name;
use crate::dns::tsig::{Algorithm, Key, MAX_KEY_NAME};
use crate::problem::{Problem, Sources, Span};
use crate::snapshot::{KeyId, ZonePolicy};
use crate::zone::base64;

/// Octets of a secret, fewest and most.
const SECRET: std::ops::RangeInclusive<usize> = 16..=512;
/// Most servers that a zone is copied from.
const MOST_PRIMARIES: usize = 16;
/// Most servers that a zone's changes are told to.
const MOST_NOTIFIED: usize = 64;

/// Compiles `[keys]`: all that are right, and the number of each by its place in the document.
pub(super) fn compile(document: &Document, sources: &Sources, findings: &mut Findings) -> Keyring {
    let mut ring = Keyring { keys: Vec::new(), numbers: Vec::new() };
    let mut first: HashMap<Name, Span> = HashMap::new();
    for entry in document.named("keys") {
        let fields = Fields::alone(&keys::KEY, entry.key, entry.value.table().unwrap_or(&keys::EMPTY));
        fields.require(findings);
        let key = kinds::domain_name_of(&entry.name).ok().and_then(|name| {
            if let Some(first) = first.insert(name.clone(), entry.key) {
                let problem = Problem::error(entry.key, format!("key {} is defined twice", name.to_plain()));
                findings.cross.push(problem.also(first, "first defined here"));
            }
            key(&name, &fields, sources, findings)
        });
        ring.numbers.push(key.is_some().then_some(KeyId(ring.keys.len() as u32)));
        ring.keys.extend(key);
    }
    ring
}

/// The keys of a configuration.
pub(super) struct Keyring {
    /// By `KeyId`.
    pub(super) keys: Vec<Key>,
    /// In the order of the document; none for those with which something is wrong.
    numbers: Vec<Option<KeyId>>,
}

fn key(name: &Name, fields: &Fields<'_>, sources: &Sources, findings: &mut Findings) -> Option<Key> {
    if name.as_wire().len() > MAX_KEY_NAME {
        let found = format!("{} is too long for the name of a key", name.to_plain());
        let problem = Problem::error(fields.place, found);
        findings
            .cross
            .push(problem.allowed(format!("at most {MAX_KEY_NAME} octets, with one for each label and the root")));
        return None;
    }
    let algorithm = fields.text("algorithm")?;
    let (_, algorithm) = *Algorithm::ALL.iter().find(|(word, _)| *word == algorithm)?;
    let file = fields.own("secret-file")?;
    let path = files::resolve(sources, file.span.source, file.text()?);
    let secret = read(&path, file.span, findings)?;
    Some(Key::new(name, algorithm, &secret))
}

/// The secret of a file. What is wrong with it is said without what stands there.
fn read(path: &Path, span: Span, findings: &mut Findings) -> Option<Vec<u8>> {
    let text = files::read_secret(path, span, findings)?;
    let wrong = |what: String| {
        let problem = Problem::error(span, format!("{}: {what}", path.display()));
        let allowed = format!("base64 of {} to {} octets", SECRET.start(), SECRET.end());
        problem.allowed(allowed).hint("make one: openssl rand -base64 32")
    };
    let joined: String = text.split_whitespace().collect();
    let found = match base64(&joined) {
        Ok(secret) if SECRET.contains(&secret.len()) => return Some(secret),
        Ok(secret) => format!("a secret of {} octets", secret.len()),
        Err(_) => "this is no secret".into(),
    };
    findings.local.push(wrong(found));
    None
}

/// What a zone says about who may copy it.
pub(super) fn policy(fields: &Fields<'_>, document: &Document, ring: &Keyring, findings: &mut Findings) -> ZonePolicy {
    let keys = Index::new("key", document.section("keys"));
    let number = fields.own("key").and_then(|value| keys.resolve(value, findings));
    if let (Some(notify), None) = (fields.own("notify"), fields.own("transfer-to")) {
        let problem = Problem::warning(notify.span, "servers are told of changes, and nobody may transfer the zone");
        findings.cross.push(problem.hint("say who may: `transfer-to`"));
    }
    ZonePolicy {
        key: number.and_then(|number| *ring.numbers.get(number as usize)?),
        transfer_to: fields.each("transfer-to", kinds::prefix).iter().map(|(prefix, _)| *prefix).collect(),
        notify: fields.each("notify", server).iter().map(|(socket, _)| *socket).collect(),
        skips_steered: fields.text("transfer-steered").as_deref() == Some("skip"),
        primaries: fields.each("primaries", server).iter().map(|(socket, _)| *socket).collect(),
        update_from: fields.each("update-from", kinds::prefix).iter().map(|(prefix, _)| *prefix).collect(),
    }
}

/// Checks `notify`.
pub(super) fn check_notify(value: &Value, problems: &mut Vec<Problem>) {
    if value.elements().len() > MOST_NOTIFIED {
        let problem = Problem::error(value.span, format!("{} servers to notify", value.elements().len()));
        problems.push(problem.allowed(format!("at most {MOST_NOTIFIED}")));
    }
    kinds::check_each(value, server, problems);
}

/// Checks `primaries`.
pub(super) fn check_primaries(value: &Value, problems: &mut Vec<Problem>) {
    if !(1..=MOST_PRIMARIES).contains(&value.elements().len()) {
        let problem = Problem::error(value.span, format!("{} primaries", value.elements().len()));
        problems.push(problem.allowed(format!("1 to {MOST_PRIMARIES}")));
    }
    kinds::check_each(value, server, problems);
}

/// An address, with a port if it is not 53.
fn server(value: &Value) -> Read<SocketAddr> {
    kinds::address(value).map(|address| SocketAddr::new(address, 53)).or_else(|_| kinds::socket(value))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::problem::SourceId;

    #[test]
    fn secrets() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("key");
        let long = "A".repeat(684);
        for (text, mode, expected) in [
            ("AAAAAAAAAAAAAAAAAAAAAA==", 0o640, ""),
            ("AAAAAAAAAAA\nAAAAAAAAAAA==\n", 0o600, ""),
            ("AAAAAAAAAAAAAAAAAAAAAA==", 0o644, "anybody on this machine may read it"),
            ("AAAAAAAAAAAAAAAAAAAA", 0o600, "a secret of 15 octets"),
            (&long, 0o600, "a secret of 513 octets"),
            ("", 0o600, "a secret of 0 octets"),
            ("AAAAAAAAAAAAAAAAAAAAAA=", 0o600, "this is no secret"),
            ("# no comment", 0o600, "this is no secret"),
        ] {
            fs::write(&path, text).expect("written");
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("a mode");
            let mut findings = Findings::default();
            let read = read(&path, Span::new(SourceId(0), 0..0), &mut findings);
            let messages: Vec<&str> = findings.local.iter().map(|problem| &*problem.message).collect();
            assert_eq!(read.is_some(), expected.is_empty() || mode == 0o644, "{text}: {messages:?}");
            assert_eq!(messages.len(), usize::from(!expected.is_empty()), "{text}: {messages:?}");
            assert!(messages.iter().all(|message| message.ends_with(expected)), "{text}: {messages:?}");
        }
    }
}
