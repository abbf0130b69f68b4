//! `/v1/latency` (SPEC 8.5): round-trip times that clients measured. As with overrides only the control socket may write,
//! and a refusal is a `Refusal` as JSON.
//!
//! | request | does |
//! |---|---|
//! | `POST /v1/latency` | takes samples, `[{"client": "203.0.113.0/24", "region": "eu-west", "rtt-ms": 34}]`: all, or none |
//! | `GET /v1/latency?client=203.0.113.7` | what is known for a client, region by region |
//! | `GET /v1/latency` | how much is known |

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::sync::oneshot;

use super::Api;
use super::overrides::{gone, refuse, refuse_as, wrong};
use crate::control::Change;
use crate::control::desk::Refusal;
use crate::control::latency::{Ask, Given, MOST_SAMPLES, Report, parse_client};

/// Longest body with samples, in octets.
pub(super) const LONGEST_BODY: usize = 1 << 20;

/// What may stand behind `GET /v1/latency`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Of {
    client: Option<String>,
}

pub(super) async fn take(State(api): State<Api>, body: Result<Bytes, BytesRejection>) -> Response {
    let body = match body {
        Ok(body) => body,
        Err(rejection) => return refuse_as(rejection.status(), &wrong(rejection.body_text())),
    };
    let given: Vec<Value> = match serde_json::from_slice(&body) {
        Ok(given) => given,
        Err(problem) => return refuse(&wrong(format!("the body is not understood: {problem}"))),
    };
    drop(body);
    if given.len() > MOST_SAMPLES {
        return refuse(&wrong(format!("{} samples in one request, at most {MOST_SAMPLES} are allowed", given.len())));
    }
    let (mut samples, mut problems) = (Vec::with_capacity(given.len()), Vec::new());
    for (at, value) in given.iter().enumerate() {
        match sample(value) {
            Ok(given) => samples.push((at, given)),
            Err(problem) => problems.push((at, problem)),
        }
    }
    let (reply, answer) = oneshot::channel();
    let asked = Ask::Take(Report { samples, problems, reply });
    match ask(&api, asked, answer).await {
        Some(Ok(taken)) => Json(taken).into_response(),
        Some(Err(refusal)) => refuse(&refusal),
        None => refuse(&gone()),
    }
}

/// A sample from JSON.
///
/// # Errors
/// In words, what is wrong with it.
pub fn sample(value: &Value) -> Result<Given, String> {
    let Some(parts) = value.as_object() else { return Err(format!("not an object: {}", shown(value))) };
    if let Some(other) = parts.keys().find(|key| !["client", "region", "rtt-ms"].contains(&key.as_str())) {
        return Err(format!("unknown key {:?}; allowed are client, region, rtt-ms", cut(other)));
    }
    let rtt = part(parts, "rtt-ms")?;
    let rtt_ms = rtt.as_f64().ok_or_else(|| format!("rtt-ms: not a number: {}", shown(rtt)))?;
    Given::new(text(parts, "client")?, text(parts, "region")?, rtt_ms)
}

fn part<'v>(parts: &'v Map<String, Value>, key: &str) -> Result<&'v Value, String> {
    parts.get(key).ok_or_else(|| format!("{key}: missing"))
}

fn text<'v>(parts: &'v Map<String, Value>, key: &str) -> Result<&'v str, String> {
    let value = part(parts, key)?;
    value.as_str().ok_or_else(|| format!("{key}: not a text: {}", shown(value)))
}

fn shown(value: &Value) -> String {
    cut(&value.to_string())
}

/// What somebody sent, as far as it fits into a message.
fn cut(text: &str) -> String {
    text.chars().take(60).collect()
}

pub(super) async fn look(State(api): State<Api>, of: Result<Query<Of>, QueryRejection>) -> Response {
    let client = match of {
        Ok(Query(Of { client })) => client,
        Err(rejection) => return refuse_as(rejection.status(), &wrong(rejection.body_text())),
    };
    let Some(client) = client else {
        let (reply, answer) = oneshot::channel();
        return shown_as_json(ask(&api, Ask::Sum(reply), answer).await);
    };
    match parse_client(&client) {
        Ok(client) => {
            let (reply, answer) = oneshot::channel();
            shown_as_json(ask(&api, Ask::Look(client, reply), answer).await)
        }
        Err(problem) => refuse(&wrong(problem)),
    }
}

fn shown_as_json(answer: Option<Result<impl serde::Serialize, Refusal>>) -> Response {
    match answer {
        Some(Ok(answer)) => Json(answer).into_response(),
        Some(Err(refusal)) => refuse(&refusal),
        None => refuse(&gone()),
    }
}

/// Asks by way of the control loop; `None` when there is no answer.
async fn ask<T>(api: &Api, ask: Ask, answer: oneshot::Receiver<T>) -> Option<T> {
    api.changes.send(Change::Latency(Box::new(ask))).await.ok()?;
    answer.await.ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn samples_are_read_from_json() {
        let good = json!({"client": "203.0.113.0/24", "region": "eu-west", "rtt-ms": 34});
        assert_eq!(sample(&good), Given::new("203.0.113.0/24", "eu-west", 34.0));
        for (value, said) in [
            (json!(3), "not an object: 3"),
            (json!({}), "rtt-ms: missing"),
            (json!({"client": "203.0.113.7", "rtt-ms": 1}), "region: missing"),
            (json!({"client": "203.0.113.7", "region": 7, "rtt-ms": 1}), "region: not a text: 7"),
            (json!({"client": "203.0.113.7", "region": "eu", "rtt-ms": "1"}), "rtt-ms: not a number: \"1\""),
            (json!({"client": "203.0.113.7", "region": "eu", "rtt-ms": 0}), "rtt-ms: 0 is not above 0"),
            (json!({"client": "nobody", "region": "eu", "rtt-ms": 1}), "client: \"nobody\" is no address"),
            (json!({"client": "203.0.113.7", "region": "eu", "rtt": 1}), "unknown key \"rtt\""),
        ] {
            let problem = sample(&value).expect_err("refused");
            assert!(problem.contains(said), "{value}: {problem}");
        }
    }
}
