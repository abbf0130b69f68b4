//! `[rate-limit]`: how many answers over UDP a network gets.

use super::fields::Fields;
use super::files::Document;
use super::keys;
use super::kinds;
use super::server::nowhere;
use crate::limit::Policy;

/// Compiles `[rate-limit]`; `None` = off.
pub(super) fn compile(document: &Document) -> Option<Policy> {
    let fields = Fields::alone(&keys::RATE_LIMIT, nowhere(), document.single("rate-limit"));
    fields.boolean("enabled").then(|| Policy {
        rate: fields.integer("answers-per-second").unwrap_or(1),
        total: fields.integer("total-per-second").unwrap_or_default(),
        slip: fields.integer("slip").unwrap_or_default(),
        ipv4: fields.integer("ipv4").unwrap_or(32),
        ipv6: fields.integer("ipv6").unwrap_or(64),
        exempt: fields.each("exempt", kinds::prefix).iter().map(|(prefix, _)| *prefix).collect(),
        dry_run: fields.boolean("dry-run"),
        buckets: fields.integer("buckets").unwrap_or(1),
    })
}
