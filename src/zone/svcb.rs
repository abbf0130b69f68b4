//! Service parameters of SVCB and HTTPS (RFC 9460 §2, §7, appendix A; RFC 9461 §5; RFC 9540 §4).
//!
//! Text may give the keys in any order; they are sorted here. Octets (`\#`) must have them in order already. A value
//! that a client would have to reject never loads (RFC 9460 §2.2).

use std::net::{Ipv4Addr, Ipv6Addr};

use super::encoding::{base64, to_base64};
use super::lexer::{Outcome, Quoting, Token, octets, quote};
use super::present::quoted;
use super::rdata::Fields;

const MANDATORY: u16 = 0;
const ALPN: u16 = 1;
const NO_DEFAULT_ALPN: u16 = 2;
const PORT: u16 = 3;
const IPV4_HINT: u16 = 4;
const ECH: u16 = 5;
const IPV6_HINT: u16 = 6;
const DOHPATH: u16 = 7;
const OHTTP: u16 = 8;

/// Keys that have a name.
const KEYS: &[(&str, u16)] = &[
    ("mandatory", MANDATORY),
    ("alpn", ALPN),
    ("no-default-alpn", NO_DEFAULT_ALPN),
    ("port", PORT),
    ("ipv4hint", IPV4_HINT),
    ("ech", ECH),
    ("ipv6hint", IPV6_HINT),
    ("dohpath", DOHPATH),
    ("ohttp", OHTTP),
];

/// Reads `key[=value] …` to the end and writes them in the order of their numbers.
pub(super) fn params(fields: &mut Fields<'_>) -> Outcome<()> {
    let mut params: Vec<(u16, Vec<u8>)> = Vec::new();
    while !fields.is_done() {
        params.push(param(fields)?);
    }
    params.sort_by_key(|(key, _)| *key);
    for (key, value) in params {
        let length = u16::try_from(value.len()).map_err(|_| fields.error("a value of more than 65535 octets"))?;
        fields.put(&key.to_be_bytes());
        fields.put(&length.to_be_bytes());
        fields.put(&value);
    }
    Ok(())
}

fn param(fields: &mut Fields<'_>) -> Outcome<(u16, Vec<u8>)> {
    let token = fields.next("key[=value]")?;
    if token.quoting == Quoting::Quoted {
        return Err(fields.error("only the value of a parameter is quoted: key=\"value\""));
    }
    let raw = fields.input.raw(token);
    let (name, value) = raw.split_once('=').map_or((raw, None), |(name, value)| (name, Some(value)));
    let Some(key) = key(name) else {
        let problem = fields.error(format!("unknown parameter {}", quote(name)));
        return Err(Box::new(problem.allowed("a known key such as alpn, or key1 to key65534").hint(near(name))));
    };
    let value = unquoted(fields, token, value)?;
    encoded(key, name, value).map(|value| (key, value)).map_err(|message| fields.error(message))
}

/// The value as written, without its quotes.
fn unquoted<'a>(fields: &Fields<'a>, token: Token, value: Option<&'a str>) -> Outcome<Option<&'a str>> {
    if token.quoting == Quoting::Bare {
        return Ok(value);
    }
    let inner = value.and_then(|value| value.strip_prefix('"')?.strip_suffix('"'));
    let inner = inner.ok_or_else(|| fields.error("quote the whole value: key=\"value\""))?;
    // A quote inside must be escaped, else the token is several strings (`key="a",k="b"`).
    let mut escaped = false;
    for octet in inner.bytes() {
        if octet == b'"' && !escaped {
            return Err(fields.error("quote the whole value: key=\"value\""));
        }
        escaped = octet == b'\\' && !escaped;
    }
    Ok(Some(inner))
}

fn key(name: &str) -> Option<u16> {
    if let Some((_, key)) = KEYS.iter().find(|(known, _)| *known == name) {
        return Some(*key);
    }
    let digits = name.strip_prefix("key")?;
    let is_plain = digits.bytes().all(|octet| octet.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
    digits.parse().ok().filter(|key| is_plain && *key != u16::MAX)
}

fn near(name: &str) -> String {
    let best = KEYS.iter().map(|(known, _)| (strsim::damerau_levenshtein(known, &name.to_lowercase()), known)).min();
    match best {
        Some((distance, known)) if distance <= 2 && name.len() < 64 => format!("did you mean `{known}`?"),
        _ => "keys are written in lower case".into(),
    }
}

/// The octets of a value.
fn encoded(key: u16, name: &str, value: Option<&str>) -> Result<Vec<u8>, String> {
    // In the generic form the text is the value's octets.
    if name.starts_with("key") {
        return octets(value.unwrap_or("")).map(Into::into).map_err(Into::into);
    }
    if matches!(key, NO_DEFAULT_ALPN | OHTTP) {
        return if value.unwrap_or("").is_empty() { Ok(Vec::new()) } else { Err(format!("`{name}` has no value")) };
    }
    let value = value.filter(|value| !value.is_empty()).ok_or_else(|| format!("`{name}` needs a value"))?;
    match key {
        ALPN => alpn(value),
        DOHPATH => octets(value).map(Into::into).map_err(Into::into),
        _ if value.contains('\\') => Err(format!("`{name}` takes no escapes")),
        MANDATORY => mandatory(value),
        PORT => {
            let digits = value.bytes().all(|octet| octet.is_ascii_digit());
            let port = value.parse::<u16>().ok().filter(|_| digits);
            port.map(|port| port.to_be_bytes().into()).ok_or_else(|| format!("{} is not a port", quote(value)))
        }
        IPV4_HINT => hints(value, |text| text.parse().ok().map(|address: Ipv4Addr| address.octets().into())),
        IPV6_HINT => hints(value, |text| text.parse().ok().map(|address: Ipv6Addr| address.octets().into())),
        ECH => base64(value).map_err(Into::into),
        _ => Err(format!("`{name}` has no text form")),
    }
}

fn mandatory(value: &str) -> Result<Vec<u8>, String> {
    let keys: Option<Vec<u16>> = value.split(',').map(key).collect();
    let mut keys = keys.ok_or_else(|| format!("{} is not a list of keys", quote(value)))?;
    keys.sort_unstable();
    Ok(keys.into_iter().flat_map(u16::to_be_bytes).collect())
}

fn hints(value: &str, parse: impl Fn(&str) -> Option<Vec<u8>>) -> Result<Vec<u8>, String> {
    let mut octets = Vec::new();
    for text in value.split(',') {
        octets.extend(parse(text).ok_or_else(|| format!("{} is not an address of that family", quote(text)))?);
    }
    Ok(octets)
}

/// A list of protocol ids; within it `\,` and `\\` are escapes of their own (RFC 9460 appendix A.1).
fn alpn(value: &str) -> Result<Vec<u8>, String> {
    let list = octets(value)?;
    let mut ids = vec![Vec::new()];
    let mut rest = list.iter();
    while let Some(octet) = rest.next() {
        let last = ids.last_mut().expect("there is one from the start");
        match octet {
            b',' => ids.push(Vec::new()),
            b'\\' => match rest.next() {
                Some(escaped @ (b',' | b'\\')) => last.push(*escaped),
                _ => return Err("in a list a backslash escapes a comma or a backslash only".into()),
            },
            _ => last.push(*octet),
        }
    }
    let mut encoded = Vec::new();
    for id in ids {
        let length = u8::try_from(id.len()).ok().filter(|length| *length > 0);
        encoded.push(length.ok_or("a protocol id has 1 to 255 octets")?);
        encoded.extend(id);
    }
    Ok(encoded)
}

/// What text calls a key.
pub(super) fn name_of(key: u16) -> String {
    let named = KEYS.iter().find(|(_, known)| *known == key);
    named.map_or_else(|| format!("key{key}"), |(name, _)| (*name).to_string())
}

/// The text of a key's value; `None` of one without value, or whose octets are the text.
pub(super) fn text(key: u16, value: &[u8]) -> Option<String> {
    match key {
        MANDATORY => Some(list(value, |[a, b]| name_of(u16::from_be_bytes([a, b])))),
        ALPN => ids(value).map(|ids| quoted(&ids)),
        PORT => value.try_into().ok().map(|octets| u16::from_be_bytes(octets).to_string()),
        IPV4_HINT => Some(list(value, |octets: [u8; 4]| Ipv4Addr::from(octets).to_string())),
        IPV6_HINT => Some(list(value, |octets: [u8; 16]| Ipv6Addr::from(octets).to_string())),
        ECH => Some(to_base64(value)),
        DOHPATH => Some(quoted(value)),
        _ => None,
    }
}

fn list<const N: usize>(value: &[u8], text: impl Fn([u8; N]) -> String) -> String {
    value.as_chunks::<N>().0.iter().map(|octets| text(*octets)).collect::<Vec<_>>().join(",")
}

/// The list of protocol ids as [`alpn`] reads it.
fn ids(mut value: &[u8]) -> Option<Vec<u8>> {
    let mut list = Vec::new();
    while let Some((&length, rest)) = value.split_first() {
        let (id, behind) = rest.split_at_checked(length.into())?;
        if !list.is_empty() {
            list.push(b',');
        }
        for octet in id {
            list.extend([b'\\'].iter().filter(|_| matches!(octet, b',' | b'\\')).chain([octet]));
        }
        value = behind;
    }
    Some(list)
}

/// Checks the parameters in wire format of a record with this priority.
pub(super) fn verify(priority: u16, params: &[u8]) -> Result<(), &'static str> {
    let params = split(params)?;
    if priority == 0 && !params.is_empty() {
        return Err("priority 0 is an alias and takes no parameters");
    }
    if params.windows(2).any(|pair| pair[0].0 == pair[1].0) {
        return Err("a parameter is given twice");
    }
    if !params.is_sorted_by_key(|(key, _)| *key) {
        return Err("the parameters are not in the order of their keys");
    }
    let has = |key| params.binary_search_by_key(&key, |(key, _)| *key).is_ok();
    if has(NO_DEFAULT_ALPN) && !has(ALPN) {
        return Err("`no-default-alpn` needs `alpn`");
    }
    params.iter().try_for_each(|(key, value)| verify_value(*key, value, &has))
}

pub(super) fn split(mut params: &[u8]) -> Result<Vec<(u16, &[u8])>, &'static str> {
    let mut split = Vec::new();
    while !params.is_empty() {
        let (head, rest) = params.split_first_chunk::<4>().ok_or("a parameter is cut off")?;
        let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
        let value = rest.get(..length).ok_or("a parameter is cut off")?;
        split.push((u16::from_be_bytes([head[0], head[1]]), value));
        params = &rest[length..];
    }
    Ok(split)
}

fn verify_value(key: u16, value: &[u8], has: &impl Fn(u16) -> bool) -> Result<(), &'static str> {
    let sized = |size: usize| !value.is_empty() && value.len().is_multiple_of(size);
    match key {
        MANDATORY => verify_mandatory(value, has),
        ALPN => verify_alpn(value),
        NO_DEFAULT_ALPN | OHTTP if !value.is_empty() => Err("`no-default-alpn` and `ohttp` have no value"),
        PORT if value.len() != 2 => Err("`port` has two octets"),
        IPV4_HINT if !sized(4) => Err("`ipv4hint` holds IPv4 addresses"),
        IPV6_HINT if !sized(16) => Err("`ipv6hint` holds IPv6 addresses"),
        ECH if value.is_empty() => Err("`ech` needs a value"),
        DOHPATH => verify_dohpath(value),
        u16::MAX => Err("key 65535 is reserved"),
        _ => Ok(()),
    }
}

/// RFC 9460 §8: present, in order, without itself.
fn verify_mandatory(value: &[u8], has: &impl Fn(u16) -> bool) -> Result<(), &'static str> {
    let (keys, rest) = value.as_chunks::<2>();
    let keys: Vec<u16> = keys.iter().map(|octets| u16::from_be_bytes(*octets)).collect();
    if keys.is_empty() || !rest.is_empty() {
        return Err("`mandatory` is a list of keys");
    }
    if !keys.is_sorted_by(|a, b| a < b) {
        return Err("`mandatory` names a key twice or not in order");
    }
    if keys[0] == MANDATORY {
        return Err("`mandatory` names itself");
    }
    if keys.into_iter().all(has) { Ok(()) } else { Err("a parameter that `mandatory` names is missing") }
}

fn verify_alpn(mut value: &[u8]) -> Result<(), &'static str> {
    if value.is_empty() {
        return Err("`alpn` needs a value");
    }
    while let Some((&length, rest)) = value.split_first() {
        if length == 0 || rest.len() < usize::from(length) {
            return Err("`alpn` is a list of protocol ids of 1 to 255 octets");
        }
        value = &rest[usize::from(length)..];
    }
    Ok(())
}

/// RFC 9461 §5: a relative URI template with the variable `dns`.
fn verify_dohpath(value: &[u8]) -> Result<(), &'static str> {
    let template = std::str::from_utf8(value).ok().filter(|template| template.starts_with('/'));
    match template.filter(|template| template.contains("dns") && template.contains('{')) {
        Some(_) => Ok(()),
        None => Err("`dohpath` is a path with the variable dns, such as /dns-query{?dns}"),
    }
}
