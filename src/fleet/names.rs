//! Names of things as people write them (SPEC 1.6): `region/eu-west`, `pool/web`, `instance/web/eu-1`, with globs.

use super::{Fleet, InstanceId};

/// Whether `text` matches `pattern`, in which `*` stands for any characters but `/`.
#[must_use]
pub fn glob(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or("");
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut last = None;
    for part in parts {
        if let Some(before) = last.replace(part) {
            let Some(at) = rest.find(before) else { return false };
            if rest[..at].contains('/') {
                return false;
            }
            rest = &rest[at + before.len()..];
        }
    }
    match last {
        None => rest.is_empty(),
        Some(end) => rest.strip_suffix(end).is_some_and(|between| !between.contains('/')),
    }
}

impl Fleet {
    /// The instances that a name stands for: those of a region, of a pool, or themselves. Empty when it names nothing.
    #[must_use]
    pub fn named(&self, pattern: &str) -> Vec<InstanceId> {
        let regions: &[bool] =
            &self.regions.iter().map(|region| glob(pattern, &format!("region/{}", region.name))).collect::<Vec<_>>();
        let pools = self.pools.iter().flat_map(|pool| {
            let is_whole = glob(pattern, &format!("pool/{}", pool.name));
            let own = own_pattern(pattern, &pool.name);
            pool.instances.iter().copied().filter(move |&id| {
                let instance = self.instance(id);
                is_whole
                    || own.is_some_and(|own| glob(own, &instance.name))
                    || instance.regions.iter().any(|&region| regions[region.0 as usize])
            })
        });
        pools.collect()
    }
}

/// What a pattern says of the instances of a pool: no name holds a slash and no `*` stands for one, so part goes with
/// part.
fn own_pattern<'p>(pattern: &'p str, pool: &str) -> Option<&'p str> {
    let (path, own) = pattern.rsplit_once('/')?;
    let (kind, of) = path.split_once('/')?;
    (glob(kind, "instance") && glob(of, pool)).then_some(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        for (pattern, text, matches) in [
            ("region/eu-west", "region/eu-west", true),
            ("region/eu-*", "region/eu-west", true),
            ("region/*", "region/eu-west", true),
            ("*", "region/eu-west", false),
            ("instance/web/*-1", "instance/web/eu-1", true),
            ("instance/*/eu-1", "instance/web/eu-1", true),
            ("instance/*", "instance/web/eu-1", false),
            ("instance/w*b/e*1", "instance/web/eu-1", true),
            ("instance/w*x/e*1", "instance/web/eu-1", false),
            ("region/eu-west", "region/eu-west-2", false),
            ("*a*b*", "aab", true),
            ("*b*a", "ab", false),
        ] {
            assert_eq!(glob(pattern, text), matches, "{pattern} {text}");
        }
    }
}
