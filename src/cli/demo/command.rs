//! What may be typed while the demo runs.

use super::site::Site;

/// A command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// Close the backends of these instances.
    Kill(Vec<usize>),
    /// Start them again.
    Revive(Vec<usize>),
    /// Health and answers as they are.
    Show,
    /// What to try in another terminal.
    Try,
    /// What may be typed.
    Help,
    /// End the demo.
    Quit,
}

/// The words that begin a command.
const WORDS: [&str; 6] = ["kill", "revive", "show", "try", "help", "quit"];

impl Command {
    /// `None` for an empty line; the error says what is allowed.
    pub(super) fn parse(line: &str, site: &Site) -> Result<Option<Command>, String> {
        let mut words = line.split_whitespace();
        let Some(first) = words.next() else { return Ok(None) };
        let targets: Vec<&str> = words.collect();
        let command = match first.to_ascii_lowercase().as_str() {
            "kill" => return targets_of(first, &targets, site).map(Command::Kill).map(Some),
            "revive" => return targets_of(first, &targets, site).map(Command::Revive).map(Some),
            "show" => Command::Show,
            "try" => Command::Try,
            "help" | "?" => Command::Help,
            "quit" | "exit" | "q" => Command::Quit,
            _ => return Err(unknown("command", first, WORDS)),
        };
        match targets.first() {
            None => Ok(Some(command)),
            Some(more) => Err(format!("`{first}` takes nothing more, but `{more}` follows")),
        }
    }
}

/// The instances meant, each once, in the site's order.
fn targets_of(command: &str, targets: &[&str], site: &Site) -> Result<Vec<usize>, String> {
    if targets.is_empty() {
        return Err(format!("{command} what? Allowed are {}", allowed(site).join(", ")));
    }
    let mut meant = Vec::new();
    for target in targets {
        let named = site.named(target);
        if named.is_empty() {
            return Err(unknown("instance or region", target, allowed(site)));
        }
        meant.extend(named);
    }
    meant.sort_unstable();
    meant.dedup();
    Ok(meant)
}

/// What `kill` and `revive` take.
fn allowed(site: &Site) -> Vec<&str> {
    let instances = site.instances.iter().map(|placed| placed.name.as_str());
    instances.chain(site.regions()).chain(["all"]).collect()
}

/// What was found, what is allowed, and a near miss.
fn unknown<'a>(kind: &str, found: &str, allowed: impl IntoIterator<Item = &'a str>) -> String {
    let allowed: Vec<&str> = allowed.into_iter().collect();
    let shown: String = found.chars().take(40).collect();
    let lower = shown.to_lowercase();
    let near = allowed.iter().map(|word| (strsim::osa_distance(word, &lower), word)).min();
    let hint = match near {
        Some((distance, word)) if distance <= 2 && distance < word.len() => format!("; did you mean `{word}`?"),
        _ => String::new(),
    };
    format!("no {kind} `{shown}`; allowed are {}{hint}", allowed.join(", "))
}

#[cfg(test)]
mod tests {
    use super::super::site::tests::site;
    use super::*;

    #[test]
    fn commands() {
        let site = site();
        for (line, expected) in [
            ("kill eu-1", Some(Command::Kill(vec![0]))),
            ("  KILL   eu-1\r\n", Some(Command::Kill(vec![0]))),
            ("kill us-1 eu-west eu-1", Some(Command::Kill(vec![0, 1, 2]))),
            ("revive region/eu-west", Some(Command::Revive(vec![0, 1]))),
            ("revive all", Some(Command::Revive(vec![0, 1, 2]))),
            ("show", Some(Command::Show)),
            ("try", Some(Command::Try)),
            ("help", Some(Command::Help)),
            ("?", Some(Command::Help)),
            ("quit", Some(Command::Quit)),
            ("exit", Some(Command::Quit)),
            ("", None),
            (" \t\n", None),
        ] {
            assert_eq!(Command::parse(line, &site), Ok(expected), "{line:?}");
        }
    }

    #[test]
    fn refused() {
        let site = site();
        for (line, parts) in [
            ("kil eu-1", &["no command `kil`", "kill, revive, show", "did you mean `kill`?"][..]),
            ("frobnicate", &["no command `frobnicate`", "help, quit"]),
            ("kill", &["kill what?", "eu-1, eu-2, us-1, eu-west, us-east, all"]),
            ("kill eu-3", &["no instance or region `eu-3`", "did you mean `eu-1`?"]),
            ("kill eu-1 mars", &["no instance or region `mars`"]),
            ("show eu-1", &["`show` takes nothing more, but `eu-1` follows"]),
        ] {
            let problem = Command::parse(line, &site).expect_err(line);
            for part in parts {
                assert!(problem.contains(part), "{line}: {problem}");
            }
        }
        assert!(!Command::parse("frobnicate", &site).expect_err("unknown").contains("did you mean"));
        assert!(Command::parse(&"x".repeat(100_000), &site).expect_err("unknown").len() < 200);
    }
}
