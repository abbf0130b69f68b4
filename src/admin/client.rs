//! The client of the control socket, for commands.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use reqwest::{Client, RequestBuilder};
use serde::de::DeserializeOwned;

use super::overrides::{Listed, Wanted};
use crate::control::{Applied, Refusal, RefusalCode, Status};

/// Longest wait for an answer to a question.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait for an order to be written and served.
const ORDER_TIMEOUT: Duration = Duration::from_secs(30);

/// Why there is no answer, or not the one wanted.
#[derive(Clone, Debug, PartialEq)]
pub enum Failure {
    /// Nobody listens there, no right to, or the answer is not understood; in words.
    Unreachable(String),
    /// The server refuses.
    Refused(Box<Refusal>),
}

impl Failure {
    /// Whether what was asked for is not well-formed or names nothing.
    #[must_use]
    pub fn is_wrong(&self) -> bool {
        matches!(self, Failure::Refused(refusal)
            if matches!(refusal.code, RefusalCode::Wrong | RefusalCode::NotFound))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Unreachable(problem) => f.write_str(problem),
            Failure::Refused(refusal) => {
                f.write_str(&refusal.error)?;
                refusal.hint.iter().try_for_each(|hint| write!(f, " ({hint})"))
            }
        }
    }
}

/// The status of the server at `socket`.
///
/// # Errors
/// In words: nobody listens there, no right to, or the answer is not understood.
pub fn status(socket: &Path) -> Result<Status, String> {
    let get = |client: &Client| client.get("http://localhost/v1/status");
    ask(socket, TIMEOUT, get).map_err(|failure| failure.to_string())
}

/// The overrides in force.
///
/// # Errors
/// When there is no answer.
pub fn overrides(socket: &Path) -> Result<Listed, Failure> {
    ask(socket, TIMEOUT, |client| client.get("http://localhost/v1/overrides"))
}

/// Sets an override; it is served when this returns.
///
/// # Errors
/// When there is no answer, or the server refuses.
pub fn set_override(socket: &Path, wanted: &Wanted) -> Result<Applied, Failure> {
    ask(socket, ORDER_TIMEOUT, |client| client.put("http://localhost/v1/overrides").json(wanted))
}

/// Ends the overrides typed as `target`; `manner` is what stands in the query of the request.
///
/// # Errors
/// When there is no answer, or the server refuses.
pub fn end_override(socket: &Path, target: &str, manner: &[(&str, &str)]) -> Result<Applied, Failure> {
    ask(socket, ORDER_TIMEOUT, |client| {
        let mut url = reqwest::Url::parse("http://localhost/v1/overrides").expect("a constant");
        if let Ok(mut path) = url.path_segments_mut() {
            path.extend(target.split('/'));
        }
        url.query_pairs_mut().extend_pairs(manner);
        client.delete(url)
    })
}

/// Asks, and reads the answer or the refusal.
fn ask<T: DeserializeOwned>(
    socket: &Path,
    patience: Duration,
    request: impl FnOnce(&Client) -> RequestBuilder,
) -> Result<T, Failure> {
    let unreachable = |error: &reqwest::Error| Failure::Unreachable(cause(error, patience));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Failure::Unreachable(error.to_string()))?.block_on(async {
        let client = Client::builder().unix_socket(socket).timeout(patience).no_proxy().build();
        let client = client.map_err(|error| unreachable(&error))?;
        let response = request(&client).send().await.map_err(|error| unreachable(&error))?;
        if response.status().is_success() {
            return response.json().await.map_err(|error| unreachable(&error));
        }
        let status = response.status();
        let refusal = response.json().await;
        Err(refusal.map_or_else(
            |_| Failure::Unreachable(format!("the server answers {status}; is it of another version?")),
            Failure::Refused,
        ))
    })
}

/// The innermost cause, with what to do where that is plain.
fn cause(error: &reqwest::Error, patience: Duration) -> String {
    let mut inner: &dyn std::error::Error = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    let kind = inner.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
    match kind {
        Some(std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused) => {
            "no server is running there (start one with `waymark run`, or name its socket with --control)".into()
        }
        _ if error.is_timeout() => format!("no answer within {patience:?}"),
        _ => inner.to_string(),
    }
}
