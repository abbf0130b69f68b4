//! `GET /v1/history`: what happened and why, from the journal.

use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use super::Api;
use crate::config;
use crate::control::journal::{self, Record, Wanted};
use crate::time::unix_milliseconds;

/// Records that are shown unless more are asked for.
pub const RECORDS: u16 = 100;
/// Most records that may be asked for.
pub const MOST_RECORDS: u16 = 10_000;

/// Readings of the journal at once: each costs a core for a moment.
static READING: Semaphore = Semaphore::const_new(1);

/// What is asked.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// A name as `instance/web/*` or `region/eu-west`, or a part of one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// How far back, `1h`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Most records, the newest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u16>,
}

/// What happened, the oldest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// One for each thing that happened.
    pub records: Vec<Record>,
}

impl Question {
    /// The records that it asks for.
    ///
    /// # Errors
    /// In words, what is wrong with it.
    pub fn wanted(&self) -> Result<Wanted, String> {
        let since_ms = match &self.since {
            None => 0,
            Some(text) => {
                let span = config::duration(text).ok_or_else(|| format!("since: {text:?} is no duration as 1h30m"))?;
                unix_milliseconds().saturating_sub(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
            }
        };
        let limit = self.limit.unwrap_or(RECORDS);
        if !(1..=MOST_RECORDS).contains(&limit) {
            return Err(format!("limit: {limit} is not from 1 to {MOST_RECORDS}"));
        }
        Ok(Wanted { target: self.target.clone(), since_ms, limit: limit.into() })
    }
}

pub(super) async fn history(State(api): State<Api>, Query(question): Query<Question>) -> Response {
    let wanted = match question.wanted() {
        Ok(wanted) => wanted,
        Err(problem) => return (StatusCode::BAD_REQUEST, problem + "\n").into_response(),
    };
    let _permit = READING.acquire().await;
    let path = api.journal.clone();
    match tokio::task::spawn_blocking(move || journal::read(&path, &wanted)).await {
        Ok(Ok(records)) => Json(History { records }).into_response(),
        Ok(Err(error)) => (StatusCode::INTERNAL_SERVER_ERROR, format!("the journal: {error}\n")).into_response(),
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "reading the journal failed inside\n").into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_checked() {
        for (since, limit, problem) in [
            (None, None, ""),
            (Some("1h30m"), Some(1), ""),
            (Some("yesterday"), None, "since"),
            (Some("99999999999999999d"), None, "since"),
            (None, Some(0), "limit"),
            (None, Some(10_001), "limit"),
        ] {
            let question = Question { target: None, since: since.map(str::to_string), limit };
            match question.wanted() {
                Ok(_) => assert_eq!(problem, "", "{question:?}"),
                Err(said) => assert!(!problem.is_empty() && said.contains(problem), "{said}"),
            }
        }
    }
}
