//! What values of a key may be, and how they are read: each kind of value has one reader that returns it or says what is
//! wrong with it. The table of keys (`keys`) names a [`Kind`] for each key; [`check`] applies it wherever the key stands.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;

use super::keys::Section;
use super::text::{self, PrefixError};
use super::value::{Data, Value, quoted};
use crate::dns::Name;
use crate::problem::Problem;

/// A value, or what is wrong with it.
pub(super) type Read<T> = Result<T, Box<Problem>>;

const SOCKET_FORMS: &str = "\"192.0.2.1:53\" or \"[2001:db8::1]:53\"";
/// Longest text of a value, in octets.
const MAX_TEXT: usize = 255;
/// Longest array of a value.
const MAX_ELEMENTS: usize = 4096;

/// What a value of a key may be.
pub(super) enum Kind {
    Boolean,
    Integer {
        min: i128,
        max: i128,
    },
    Number {
        min: f64,
        max: f64,
    },
    /// Printable, not empty, at most 255 octets.
    Text,
    Texts,
    /// One of a few words; `later` are words that a later version knows.
    Choice {
        words: &'static [&'static str],
        later: &'static [&'static str],
    },
    /// In milliseconds; whole seconds when `min_ms` and `max_ms` are.
    Duration {
        min_ms: u64,
        max_ms: u64,
    },
    /// In 1/10 000.
    Share {
        max: u32,
    },
    Address,
    Socket,
    Sockets,
    Prefix,
    Prefixes,
    DomainName,
    DomainNames,
    Path,
    Paths,
    /// Name of another thing of the configuration; the text says of what.
    Reference(&'static str),
    References(&'static str),
    /// A table of fixed keys.
    Table(&'static Section),
    /// Anything else: how it is described, and what checks it.
    Custom {
        describe: &'static str,
        check: fn(&Value, &mut Vec<Problem>),
    },
}

impl Kind {
    /// Type, range and unit in words, for the reference.
    pub(super) fn describe(&self) -> String {
        match self {
            Kind::Boolean => "true or false".into(),
            Kind::Integer { min, max } => format!("integer, {min} to {max}"),
            Kind::Number { min, max } => format!("number, {min} to {max}"),
            Kind::Text => "text".into(),
            Kind::Texts => "array of texts".into(),
            Kind::Choice { words, .. } => words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", "),
            Kind::Duration { min_ms, max_ms } => format!("duration, {}", duration_range(*min_ms, *max_ms)),
            Kind::Share { max } => format!("share, 0% to {}", text::show_share(*max)),
            Kind::Address => "address".into(),
            Kind::Socket => "address:port".into(),
            Kind::Sockets => "array of address:port".into(),
            Kind::Prefix => "prefix or address".into(),
            Kind::Prefixes => "array of prefixes".into(),
            Kind::DomainName => "domain name".into(),
            Kind::DomainNames => "array of domain names".into(),
            Kind::Path => "path".into(),
            Kind::Paths => "array of paths".into(),
            Kind::Reference(what) => format!("name of a {what}"),
            Kind::References(what) => format!("name of a {what}, or array of them"),
            Kind::Table(section) => format!("table, see {}", section.title),
            Kind::Custom { describe, .. } => (*describe).into(),
        }
    }
}

/// Checks a value against its kind. What the parser could not read is passed over: that was reported.
pub(super) fn check(kind: &Kind, value: &Value, problems: &mut Vec<Problem>) {
    match kind {
        Kind::Boolean => report(boolean(value), value, problems),
        Kind::Integer { min, max } => report(integer(value, *min, *max), value, problems),
        Kind::Number { min, max } => report(number(value, *min, *max), value, problems),
        Kind::Text | Kind::Path | Kind::Reference(_) => report(text(value), value, problems),
        Kind::Choice { words, later } => report(choice(value, words, later), value, problems),
        Kind::Duration { min_ms, max_ms } => report(duration(value, *min_ms, *max_ms), value, problems),
        Kind::Share { max } => report(share(value, *max), value, problems),
        Kind::Address => report(address(value), value, problems),
        Kind::Socket => report(socket(value), value, problems),
        Kind::Prefix => report(prefix(value), value, problems),
        Kind::DomainName => report(domain_name(value), value, problems),
        Kind::Texts | Kind::Paths | Kind::References(_) => check_each(value, text, problems),
        Kind::Sockets => check_each(value, socket, problems),
        Kind::Prefixes => check_each(value, prefix, problems),
        Kind::DomainNames => check_each(value, domain_name, problems),
        Kind::Table(section) => match &value.data {
            Data::Table(table) => super::keys::check_table(section, table, problems),
            _ => report::<()>(Err(wrong_type(value, "a table")), value, problems),
        },
        Kind::Custom { check, .. } => {
            if !matches!(value.data, Data::Broken) {
                check(value, problems);
            }
        }
    }
}

/// Keeps what is wrong with a value, unless the parser has already said so.
pub(super) fn report<T>(read: Read<T>, value: &Value, problems: &mut Vec<Problem>) {
    if let Err(problem) = read
        && !matches!(value.data, Data::Broken)
    {
        problems.push(*problem);
    }
}

/// Checks each element of an array, or a value alone.
pub(super) fn check_each<'v, T>(value: &'v Value, read: fn(&'v Value) -> Read<T>, problems: &mut Vec<Problem>) {
    if value.elements().len() > MAX_ELEMENTS {
        let found = format!("{} elements", value.elements().len());
        problems.push(Problem::error(value.span, found).allowed(format!("at most {MAX_ELEMENTS}")));
        return;
    }
    for element in value.elements() {
        report(read(element), element, problems);
    }
}

/// A problem saying that another type was expected.
pub(super) fn wrong_type(value: &Value, expected: &str) -> Box<Problem> {
    Box::new(Problem::error(value.span, format!("expected {expected}, found {}", value.shown())))
}

/// A problem saying that a later version brings it.
pub(super) fn not_available(value: &Value, what: &str, hint: &str) -> Box<Problem> {
    let message = format!("{what} is not available in this version of Waymark");
    Box::new(Problem::error(value.span, message).hint(hint))
}

pub(super) fn boolean(value: &Value) -> Read<bool> {
    match value.data {
        Data::Boolean(value) => Ok(value),
        _ => Err(wrong_type(value, "true or false")),
    }
}

pub(super) fn integer(value: &Value, min: i128, max: i128) -> Read<i128> {
    match value.integer() {
        Some(number) if (min..=max).contains(&number) => Ok(number),
        Some(i128::MAX | i128::MIN) => Err(out_of_range(value, "this number", &format!("{min} to {max}"))),
        Some(number) => Err(out_of_range(value, &number.to_string(), &format!("{min} to {max}"))),
        None => Err(wrong_type(value, "an integer")),
    }
}

pub(super) fn number(value: &Value, min: f64, max: f64) -> Read<f64> {
    let found = match (value.integer(), &value.data) {
        (Some(number), _) => number as f64,
        (None, Data::Float(number)) => *number,
        _ => return Err(wrong_type(value, "a number")),
    };
    if (min..=max).contains(&found) {
        Ok(found)
    } else {
        Err(out_of_range(value, &found.to_string(), &format!("{min} to {max}")))
    }
}

fn out_of_range(value: &Value, found: &str, allowed: &str) -> Box<Problem> {
    Box::new(Problem::error(value.span, format!("{found} is out of range")).allowed(allowed))
}

pub(super) fn text(value: &Value) -> Read<&str> {
    let Data::Text(text) = &value.data else { return Err(wrong_type(value, "a string")) };
    let refused = |message: String| Err(Box::new(Problem::error(value.span, message)));
    if text.is_empty() {
        return refused("empty string".into());
    }
    if text.len() > MAX_TEXT {
        return refused(format!("string of {} octets, at most {MAX_TEXT} are allowed", text.len()));
    }
    match text.chars().find(|c| c.is_control()) {
        Some(c) => refused(format!("control character {c:?} in a string")),
        None => Ok(text),
    }
}

pub(super) fn choice<'v>(value: &'v Value, words: &[&str], later: &[&str]) -> Read<&'v str> {
    let Data::Text(found) = &value.data else {
        return Err(Box::new(wrong_type(value, "a string").allowed(words.join(", "))));
    };
    if words.contains(&found.as_str()) {
        return Ok(found);
    }
    if later.contains(&found.as_str()) {
        return Err(not_available(value, &quoted(found), &format!("available: {}", words.join(", "))));
    }
    let problem = Problem::error(value.span, format!("unknown value {}", quoted(found))).allowed(words.join(", "));
    Err(Box::new(did_you_mean(problem, found, words.iter().copied())))
}

/// Adds a suggestion when one of the names is near.
pub(super) fn did_you_mean<'a>(problem: Problem, found: &str, names: impl IntoIterator<Item = &'a str>) -> Problem {
    match text::nearest(found, names) {
        Some(name) => problem.hint(format!("did you mean \"{name}\"?")),
        None => problem,
    }
}

pub(super) fn duration(value: &Value, min_ms: u64, max_ms: u64) -> Read<Duration> {
    const FORMS: &str = "\"250ms\", \"5s\", \"1m30s\", \"2h\"";
    let Data::Text(found) = &value.data else {
        let problem = wrong_type(value, "a duration");
        return Err(Box::new(match value.integer() {
            Some(number) => problem.allowed(FORMS).hint(format!("write the unit: \"{number}s\"")),
            None => problem.allowed(FORMS),
        }));
    };
    let Some(duration) = text::duration(found) else {
        let problem = Problem::error(value.span, format!("{} is not a duration", quoted(found)));
        return Err(Box::new(problem.allowed(FORMS)));
    };
    if duration < Duration::from_millis(min_ms) || duration > Duration::from_millis(max_ms) {
        return Err(out_of_range(value, &text::show_duration(duration), &duration_range(min_ms, max_ms)));
    }
    Ok(duration)
}

fn duration_range(min_ms: u64, max_ms: u64) -> String {
    let show = |ms| text::show_duration(Duration::from_millis(ms));
    format!("{} to {}", show(min_ms), show(max_ms))
}

pub(super) fn share(value: &Value, max: u32) -> Read<u32> {
    let Data::Text(found) = &value.data else {
        let problem = wrong_type(value, "a share");
        return Err(Box::new(match value.integer() {
            Some(number) => problem.hint(format!("write it as \"{number}%\"")),
            None => problem.allowed("\"50%\", \"12.5%\""),
        }));
    };
    match text::share(found) {
        Some(share) if share <= max => Ok(share),
        Some(_) => Err(out_of_range(value, found, &format!("0% to {}", text::show_share(max)))),
        None => {
            let problem = Problem::error(value.span, format!("{} is not a share", quoted(found)));
            Err(Box::new(problem.allowed("\"50%\", \"12.5%\"")))
        }
    }
}

pub(super) fn address(value: &Value) -> Read<IpAddr> {
    let Data::Text(found) = &value.data else { return Err(wrong_type(value, "an address")) };
    let Ok(address) = found.parse::<IpAddr>() else {
        let problem = Problem::error(value.span, format!("{} is not an address", quoted(found)));
        return Err(Box::new(problem.allowed("an IPv4 or IPv6 address, \"192.0.2.1\" or \"2001:db8::1\"")));
    };
    if let IpAddr::V6(v6) = address
        && let Some(v4) = v6.to_ipv4_mapped()
    {
        let problem = Problem::error(value.span, format!("{} is an IPv4 address mapped into IPv6", quoted(found)));
        return Err(Box::new(problem.hint(format!("write \"{v4}\""))));
    }
    Ok(address)
}

pub(super) fn socket(value: &Value) -> Read<SocketAddr> {
    let Data::Text(found) = &value.data else {
        return Err(Box::new(wrong_type(value, "an address with a port").allowed(SOCKET_FORMS)));
    };
    found.parse().map_err(|_| {
        let problem = Problem::error(value.span, format!("{} is not an address with a port", quoted(found)))
            .allowed(SOCKET_FORMS);
        Box::new(match found.parse::<IpAddr>() {
            Ok(IpAddr::V4(v4)) => problem.hint(format!("add the port: \"{v4}:53\"")),
            Ok(IpAddr::V6(v6)) => problem.hint(format!("add the port: \"[{v6}]:53\"")),
            Err(_) => problem,
        })
    })
}

pub(super) fn prefix(value: &Value) -> Read<IpNet> {
    let Data::Text(found) = &value.data else { return Err(wrong_type(value, "a prefix")) };
    prefix_of(found).map_err(|(message, hint)| {
        let problem = Problem::error(value.span, message);
        Box::new(match hint {
            Some(hint) => problem.hint(hint),
            None => problem.allowed("\"192.0.2.0/24\" or \"2001:db8::/32\""),
        })
    })
}

/// A prefix in text that may also be a key; what is wrong and a hint otherwise.
pub(super) fn prefix_of(found: &str) -> Result<IpNet, (String, Option<String>)> {
    text::prefix(found).map_err(|error| match error {
        PrefixError::Malformed => (format!("{} is not a prefix", quoted(found)), None),
        PrefixError::HostBits(net) => {
            (format!("{} has bits set past its prefix", quoted(found)), Some(format!("write \"{net}\"")))
        }
        PrefixError::Mapped(net) => {
            (format!("{} is IPv4 mapped into IPv6", quoted(found)), Some(format!("write \"{net}\"")))
        }
    })
}

pub(super) fn domain_name(value: &Value) -> Read<Name> {
    let Data::Text(found) = &value.data else { return Err(wrong_type(value, "a domain name")) };
    domain_name_of(found).map_err(|message| Box::new(Problem::error(value.span, message)))
}

/// A domain name in text that may also be a key; what is wrong otherwise.
pub(super) fn domain_name_of(found: &str) -> Result<Name, String> {
    if let Some(c) = found.chars().find(|c| c.is_whitespace() || c.is_control()) {
        return Err(format!("{} is not a domain name: {c:?} in it", quoted(found)));
    }
    let name = Name::parse(found, None).map_err(|error| format!("{} is not a domain name: {error}", quoted(found)))?;
    if name.labels().skip(1).any(|label| label == b"*") {
        return Err(format!(
            "{} is not a domain name that can be served: \"*\" must be its first label",
            quoted(found)
        ));
    }
    Ok(name)
}
