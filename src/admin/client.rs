//! The client of the control socket, for commands.

use std::path::Path;
use std::time::Duration;

use reqwest::Url;
use serde::de::DeserializeOwned;

use super::{History, Question};
use crate::control::Status;

/// Longest wait for an answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The status of the server at `socket`.
///
/// # Errors
/// In words: nobody listens there, no right to, or the answer is not understood.
pub fn status(socket: &Path) -> Result<Status, String> {
    get(socket, url("/v1/status")).map_err(Failure::in_words)
}

/// What happened, by the server at `socket`; `Ok(None)` when nobody listens there.
///
/// # Errors
/// In words: no right to, or the answer is not understood.
pub fn history(socket: &Path, question: &Question) -> Result<Option<History>, String> {
    let mut url = url("/v1/history");
    let limit = question.limit.map(|limit| limit.to_string());
    for (key, value) in [("target", &question.target), ("since", &question.since), ("limit", &limit)] {
        if let Some(value) = value {
            url.query_pairs_mut().append_pair(key, value);
        }
    }
    match get(socket, url) {
        Ok(history) => Ok(Some(history)),
        Err(Failure::NobodyListens) => Ok(None),
        Err(failure) => Err(format!("{}: {}", socket.display(), failure.in_words())),
    }
}

fn url(path: &str) -> Url {
    let mut url = Url::parse("http://localhost").expect("a URL");
    url.set_path(path);
    url
}

/// Why there is no answer.
enum Failure {
    NobodyListens,
    Other(String),
}

impl Failure {
    /// With what to do where that is plain.
    fn in_words(self) -> String {
        match self {
            Failure::NobodyListens => {
                "no server is running there (start one with `waymark run`, or name its socket with --control)".into()
            }
            Failure::Other(cause) => cause,
        }
    }
}

fn get<T: DeserializeOwned>(socket: &Path, url: Url) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Failure::Other(error.to_string()))?.block_on(async {
        let client = reqwest::Client::builder().unix_socket(socket).timeout(TIMEOUT).no_proxy().build();
        let client = client.map_err(|error| cause(&error))?;
        let response = client.get(url).send().await.map_err(|error| cause(&error))?;
        if !response.status().is_success() {
            let status = response.status();
            let said = response.text().await.unwrap_or_default();
            return Err(Failure::Other(format!("{status}: {}", said.trim_end())));
        }
        response.json().await.map_err(|error| cause(&error))
    })
}

/// The innermost cause.
fn cause(error: &reqwest::Error) -> Failure {
    let mut inner: &dyn std::error::Error = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    let kind = inner.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
    match kind {
        Some(std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused) => Failure::NobodyListens,
        _ if error.is_timeout() => Failure::Other(format!("no answer within {TIMEOUT:?}")),
        _ => Failure::Other(inner.to_string()),
    }
}
