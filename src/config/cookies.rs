//! `[cookies]`: DNS cookies, and the secrets that nodes behind one address share.

use std::path::Path;
use std::sync::Arc;

use super::Cookies;
use super::fields::Fields;
use super::files::{self, Document};
use super::findings::Findings;
use super::keys;
use super::server::nowhere;
use crate::dns::Secrets;
use crate::dns::cookie::{Require, Secret};
use crate::problem::{Problem, Sources, Span};

/// Most secrets of a file: each may be tried for a query.
const MOST: usize = 8;

/// Compiles `[cookies]`.
pub(super) fn compile(document: &Document, sources: &Sources, findings: &mut Findings) -> Cookies {
    let fields = Fields::alone(&keys::COOKIES, nowhere(), document.single("cookies"));
    let require = match fields.text("require").as_deref() {
        Some("never") => Require::Never,
        Some("always") => Require::Always,
        _ => Require::Limited,
    };
    let secrets = fields.own("secret-file").and_then(|value| {
        let path = files::resolve(sources, value.span.source, value.text()?);
        read(&path, value.span, findings).map(Arc::new)
    });
    Cookies { enabled: fields.boolean("enabled"), require, secrets }
}

/// The secrets of a file. What is wrong with it is said without what stands there.
fn read(path: &Path, span: Span, findings: &mut Findings) -> Option<Secrets> {
    let text = files::read_secret(path, span, findings)?;
    let lines = (1..).zip(text.lines()).map(|(number, line)| (number, line.split('#').next().unwrap_or("").trim()));
    let mut secrets = Vec::new();
    for (number, line) in lines.filter(|(_, line)| !line.is_empty()) {
        match Secret::from_hex(line) {
            Some(secret) => secrets.push(secret),
            None => {
                let problem = Problem::error(span, format!("{}:{number}: this is no secret", path.display()));
                findings.local.push(problem.allowed("32 hexadecimal digits").hint("make one: openssl rand -hex 16"));
            }
        }
    }
    if !(1..=MOST).contains(&secrets.len()) {
        let problem = Problem::error(span, format!("{}: {} secrets", path.display(), secrets.len()));
        findings.local.push(problem.allowed(format!("1 to {MOST}, one a line")));
    }
    Some(Secrets(secrets))
}
