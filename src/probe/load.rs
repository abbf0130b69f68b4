//! The load that a response to a check tells (SPEC 5.4): in a header, or in a field of a JSON body. One that is not there, or
//! no number, is said with the probe and is no failure.

use http::HeaderMap;
use serde_json::Value;

use super::http::BODY_LIMIT;
use super::{Finding, Heard};

/// The greatest load that is taken for one.
const MOST: f64 = 1e12;
/// Most characters of what is no load that are shown.
const MOST_SHOWN: usize = 40;

/// Where a response tells its sender's load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoadSource {
    /// In this header.
    Header(String),
    /// In the number that this JSON pointer (RFC 6901) leads to, in the first 64 KiB of the body.
    Json(String),
}

impl LoadSource {
    /// Whether it takes a body to tell.
    pub(super) fn needs_body(&self) -> bool {
        matches!(self, LoadSource::Json(_))
    }

    /// The load, 0 or more; or why there is none. `body` is its first [`BODY_LIMIT`] octets, or why there are none.
    pub(super) fn read(&self, headers: &HeaderMap, body: Result<&[u8], &str>) -> Result<f64, String> {
        match self {
            LoadSource::Header(name) => {
                let value = headers.get(name).ok_or_else(|| format!("no header {name}"))?;
                let text = value.to_str().map_err(|_| format!("{name} is no text"))?.trim();
                let load = text.parse().ok().filter(is_load);
                load.ok_or_else(|| format!("{name} is {:?}, which is no number from 0", short(text)))
            }
            LoadSource::Json(pointer) => {
                let body = body?;
                let value: Value = match serde_json::from_slice(body) {
                    Ok(value) => value,
                    Err(_) if body.len() >= BODY_LIMIT => return Err("the body is longer than 64 KiB".into()),
                    Err(_) => return Err("the body is no JSON".into()),
                };
                let value = value.pointer(pointer).ok_or_else(|| format!("the body has no {pointer}"))?;
                let load = value.as_f64().filter(is_load);
                load.ok_or_else(|| format!("{pointer} is {}, which is no number from 0", short(&value.to_string())))
            }
        }
    }
}

/// The finding of a response that passes, with the load that it tells, if it is asked for one.
pub(super) fn passed(reason: &str, load: Option<Result<f64, String>>) -> Finding {
    match load {
        None => Finding::pass(reason),
        Some(Ok(load)) => Finding { heard: Heard::Load(load), ..Finding::pass(&format!("{reason}, load {load}")) },
        Some(Err(why)) => Finding { heard: Heard::NoLoad, ..Finding::pass(&format!("{reason}; load ignored: {why}")) },
    }
}

fn is_load(number: &f64) -> bool {
    (0.0..=MOST).contains(number)
}

fn short(text: &str) -> String {
    text.chars().take(MOST_SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers() {
        for (value, expected) in [
            (Some("345"), Ok(345.0)),
            (Some(" 0.75 "), Ok(0.75)),
            (Some("0"), Ok(0.0)),
            (Some("1e3"), Ok(1000.0)),
            (Some("-1"), Err("X-Load is \"-1\", which is no number from 0")),
            (Some("NaN"), Err("X-Load is \"NaN\", which is no number from 0")),
            (Some("inf"), Err("X-Load is \"inf\", which is no number from 0")),
            (Some("1e300"), Err("X-Load is \"1e300\", which is no number from 0")),
            (Some("75%"), Err("X-Load is \"75%\", which is no number from 0")),
            (Some(""), Err("X-Load is \"\", which is no number from 0")),
            (None, Err("no header X-Load")),
        ] {
            let mut headers = HeaderMap::new();
            value.map(|value| headers.insert("x-load", value.parse().unwrap()));
            let found = LoadSource::Header("X-Load".into()).read(&headers, Err("never read"));
            assert_eq!(found, expected.map_err(String::from), "{value:?}");
        }
        let mut headers = HeaderMap::new();
        headers.insert("x-load", http::HeaderValue::from_bytes(b"\xff").unwrap());
        assert!(LoadSource::Header("X-Load".into()).read(&headers, Err("")).is_err());
    }

    #[test]
    fn fields() {
        let long = format!("[1{}]", " ".repeat(BODY_LIMIT));
        let deep = "[".repeat(BODY_LIMIT - 1);
        for (body, expected) in [
            (r#"{"load": {"now": 12.5}}"#, Ok(12.5)),
            (r#"{"load": {"now": 0}}"#, Ok(0.0)),
            (r#"{"load": {"now": -3}}"#, Err("/load/now is -3, which is no number from 0")),
            (r#"{"load": {"now": "12"}}"#, Err("/load/now is \"12\", which is no number from 0")),
            (r#"{"load": {"now": null}}"#, Err("/load/now is null, which is no number from 0")),
            (r#"{"load": 5}"#, Err("the body has no /load/now")),
            ("{\"load\": {\"now\": 1", Err("the body is no JSON")),
            ("", Err("the body is no JSON")),
            (&deep, Err("the body is no JSON")),
            (&long[..BODY_LIMIT], Err("the body is longer than 64 KiB")),
        ] {
            let found = LoadSource::Json("/load/now".into()).read(&HeaderMap::new(), Ok(body.as_bytes()));
            assert_eq!(found, expected.map_err(String::from), "{:.60}", body);
        }
        assert_eq!(LoadSource::Json(String::new()).read(&HeaderMap::new(), Ok(b"7")), Ok(7.0), "the whole body");
        let late = LoadSource::Json("/load".into()).read(&HeaderMap::new(), Err("it did not come in time"));
        assert_eq!(late, Err("it did not come in time".into()));
    }
}
