//! `client-certificate` and `client-key` of checks: PEM files, read with the configuration.

use std::fmt::Display;
use std::sync::Arc;

use super::fields::Fields;
use super::files;
use super::findings::Findings;
use super::value::quoted;
use crate::probe::Identity;
use crate::problem::{Problem, Sources, Span};
use crate::tls::{certificates, private_key};

const CERTIFICATE: &str = "client-certificate";
const KEY: &str = "client-key";

/// What a check shows to targets that ask for a certificate; `None` also when something is wrong with it, which is said.
pub(super) fn read(fields: &Fields<'_>, sources: &Sources, findings: &mut Findings) -> Option<Arc<Identity>> {
    let chain = file(fields, CERTIFICATE, sources, findings, certificates);
    let key = file(fields, KEY, sources, findings, private_key);
    for (given, missing) in [(CERTIFICATE, KEY), (KEY, CERTIFICATE)] {
        if fields.find(given).is_some() && fields.find(missing).is_none() {
            let problem = Problem::error(fields.at(given), format!("`{given}` without `{missing}`"));
            findings.cross.push(problem.hint(format!("add {missing} = \"….pem\"; both may name the same file")));
        }
    }
    match Identity::new(chain?, key?) {
        Ok(identity) => Some(Arc::new(identity)),
        Err(wrong) => {
            let problem = Problem::error(fields.at(KEY), wrong);
            findings.cross.push(problem.also(fields.at(CERTIFICATE), "the certificate"));
            None
        }
    }
}

/// What a file holds that a key names.
fn file<T>(
    fields: &Fields<'_>,
    name: &str,
    sources: &Sources,
    findings: &mut Findings,
    parse: impl Fn(&[u8]) -> Result<T, &'static str>,
) -> Option<T> {
    let value = fields.find(name)?;
    let path = files::resolve(sources, value.span.source, value.text()?);
    let octets = match files::read_octets(&path) {
        Ok(octets) => octets,
        Err(error) => {
            findings.local.push(files::unreadable(value.span, &path, &error));
            return None;
        }
    };
    parse(&octets).map_err(|wrong| findings.local.push(problem(value.span, path.display(), wrong))).ok()
}

fn problem(span: Span, path: impl Display, wrong: &str) -> Problem {
    Problem::error(span, format!("{}: {wrong}", quoted(&path.to_string()))).allowed("a file in PEM format")
}
