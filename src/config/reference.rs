//! The reference of all keys, made from the tables of `keys` (SPEC 1.3).

use super::keys::{Default, INNER, Key, Section, Shape, TOP};

/// All keys with type, range, default and meaning, in Markdown.
#[must_use]
pub fn reference() -> String {
    let mut out = String::from(
        "# Configuration reference\n\n\
         Generated from `src/config/keys.rs`; `UPDATE_REFERENCE=1 cargo test` rewrites it.\n\n\
         Durations are `\"250ms\"`, `\"5s\"`, `\"1m30s\"`, `\"2h\"`; shares are `\"50%\"`; relative paths are relative to the\n\
         file that names them. Keys marked *later* are accepted with their default only.\n",
    );
    for (name, shape) in TOP {
        match shape {
            Shape::Include => push_lines(
                &mut out,
                "include",
                "Array of files and patterns (`*`) that are merged in, in this order; a name may be defined once only. \
                 Only the main file includes others.",
            ),
            Shape::Defaults => push_lines(
                &mut out,
                "[defaults.check], [defaults.pool], [defaults.service]",
                "What a check, pool or service takes that neither gives it nor extends one that does; the keys are theirs, \
                 but for `extends` and `aliases`.",
            ),
            Shape::Single(section) | Shape::Named(section) | Shape::Several(section) => push_section(&mut out, section),
        }
        for (_, section) in INNER.iter().filter(|(after, _)| after == name) {
            push_section(&mut out, section);
        }
    }
    out
}

fn push_lines(out: &mut String, title: &str, text: &str) {
    out.push_str(&format!("\n## `{title}`\n\n{text}\n"));
}

fn push_section(out: &mut String, section: &Section) {
    push_lines(out, section.title, section.meaning);
    out.push_str("\n| key | value | default | meaning |\n|---|---|---|---|\n");
    for key in section.keys {
        push_row(out, key);
    }
    if let Some(open) = &section.open {
        let forms: Vec<String> = open.describe.split(", ").map(|form| format!("`{form}`")).collect();
        out.push_str(&format!("| {} | list | | {} |\n", forms.join(", "), open.meaning));
    }
}

fn push_row(out: &mut String, key: &Key) {
    let default = match key.default {
        Default::Value(text) => format!("`{text}`"),
        Default::Words(words) => words.to_string(),
        Default::Required => "required".to_string(),
    };
    let kind = if key.later.is_some() { "*later*".to_string() } else { key.kind.describe() };
    out.push_str(&format!("| `{}` | {kind} | {default} | {} |\n", key.name, key.meaning.replace('|', "\\|")));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_reference_is_current() {
        let path = "config/REFERENCE.md";
        let current = reference();
        if std::env::var_os("UPDATE_REFERENCE").is_some() {
            std::fs::write(path, &current).expect("the reference can be written");
        }
        let committed = std::fs::read_to_string(path).expect("the reference is committed");
        assert_eq!(committed, current, "run UPDATE_REFERENCE=1 cargo test");
    }

    #[test]
    fn every_default_is_in_order() {
        for (_, shape) in TOP {
            let (Shape::Single(section) | Shape::Named(section) | Shape::Several(section)) = shape else { continue };
            for key in section.keys {
                let Some(default) = key.default_value() else { continue };
                let mut problems = Vec::new();
                super::super::kinds::check(&key.kind, default, &mut problems);
                assert!(problems.is_empty(), "{} {}: {problems:?}", section.title, key.name);
            }
        }
    }
}
