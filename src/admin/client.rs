//! The client of the control socket, and of the API over HTTP, for commands.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Client, RequestBuilder, Url};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::explain::WhyQuestion;
use super::overrides::{Listed, Wanted};
use super::push::Said;
use super::{History, Question, load};
use crate::control::explain::Explanation;
use crate::control::latency::{Given, Looked, Summary, Taken};
use crate::control::{Applied, LoadsTaken, Pushed, Refusal, RefusalCode, Status};

/// Longest wait for an answer to a question.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait for an explanation.
const EXPLAIN_TIMEOUT: Duration = Duration::from_secs(20);
/// Longest wait for an order to be written and served.
const ORDER_TIMEOUT: Duration = Duration::from_secs(30);

/// Where a server is asked.
#[derive(Clone, Debug)]
pub enum Place<'a> {
    /// Its control socket.
    Socket(&'a Path),
    /// Its API over HTTP.
    Server(Url),
}

impl Place<'_> {
    /// A server's API, `http://127.0.0.1:8053`.
    ///
    /// # Errors
    /// In words, when it is anything else.
    pub fn server(text: &str) -> Result<Place<'static>, String> {
        const FORM: &str = "give it as http://127.0.0.1:8053";
        let url = Url::parse(text).map_err(|error| format!("{error}; {FORM}"))?;
        let is_bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        let is_anonymous = url.username().is_empty() && url.password().is_none();
        match url.scheme() {
            "http" if is_bare && is_anonymous => Ok(Place::Server(url)),
            "http" => Err(format!("only an address and a port; {FORM}")),
            other => Err(format!("the API is served over http, not {other}; {FORM}")),
        }
    }

    /// Where a resource is, `/v1/status`.
    fn url(&self, path: &str) -> Url {
        let mut url = match self {
            Place::Socket(_) => Url::parse("http://localhost").expect("a constant"),
            Place::Server(url) => url.clone(),
        };
        url.set_path(path);
        url
    }

    fn client(&self, patience: Duration) -> reqwest::Result<Client> {
        let builder = Client::builder().timeout(patience).no_proxy().redirect(Policy::none());
        match self {
            Place::Socket(path) => builder.unix_socket(*path).build(),
            Place::Server(_) => builder.build(),
        }
    }
}

/// Why there is no answer, or not the one wanted.
#[derive(Clone, Debug, PartialEq)]
pub enum Failure {
    /// Nobody listens there.
    NobodyListens,
    /// No right to, or the answer is not understood; in words.
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
            Failure::NobodyListens => f.write_str(
                "no server is running there (start one with `waymark run`, or name its socket with --control)",
            ),
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

/// What happened, by the server at `socket`; `Ok(None)` when nobody listens there.
///
/// # Errors
/// In words: no right to, or the answer is not understood.
pub fn history(socket: &Path, question: &Question) -> Result<Option<History>, String> {
    let mut url = Url::parse("http://localhost/v1/history").expect("a constant");
    let limit = question.limit.map(|limit| limit.to_string());
    for (key, value) in [("target", &question.target), ("since", &question.since), ("limit", &limit)] {
        if let Some(value) = value {
            url.query_pairs_mut().append_pair(key, value);
        }
    }
    match ask(socket, TIMEOUT, |client| client.get(url)) {
        Ok(history) => Ok(Some(history)),
        Err(Failure::NobodyListens) => Ok(None),
        Err(failure) => Err(format!("{}: {failure}", socket.display())),
    }
}

/// Why a client gets what it gets from that server now.
///
/// # Errors
/// When there is no answer, or the server refuses.
pub fn explain(place: &Place<'_>, question: &WhyQuestion) -> Result<Explanation, Failure> {
    let mut url = place.url("/v1/explain");
    url.query_pairs_mut().extend_pairs(question.parameters());
    let explanation = ask_at(place, EXPLAIN_TIMEOUT, |client| client.get(url));
    explanation.map_err(|failure| match (place, failure) {
        (Place::Server(_), Failure::NobodyListens) => Failure::Unreachable("no server is running there".into()),
        (_, failure) => failure,
    })
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
        let mut url = path_of("overrides", target);
        url.query_pairs_mut().extend_pairs(manner);
        client.delete(url)
    })
}

/// Reports the load of an instance, `instance/web/eu-1`.
///
/// # Errors
/// When there is no answer, or the server refuses.
pub fn report_load(socket: &Path, target: &str, load: f64) -> Result<LoadsTaken, Failure> {
    ask(socket, TIMEOUT, |client| client.put(path_of("load", target)).json(&load::Said { load }))
}

/// Reports how an instance fares, `instance/web/eu-1`.
///
/// # Errors
/// When there is no answer, or the server refuses.
pub fn report(socket: &Path, target: &str, said: &Said) -> Result<Pushed, Failure> {
    ask(socket, TIMEOUT, |client| client.put(path_of("health", target)).json(said))
}

/// Has samples of round-trip times taken in, at most [`crate::control::latency::MOST_SAMPLES`].
///
/// # Errors
/// When there is no answer, or the server refuses.
pub fn take_latency(socket: &Path, samples: &[&Given]) -> Result<Taken, Failure> {
    let sample =
        |given: &&Given| json!({"client": given.client.to_string(), "region": given.region, "rtt-ms": given.rtt_ms});
    let samples: Vec<Value> = samples.iter().map(sample).collect();
    ask(socket, ORDER_TIMEOUT, |client| client.post("http://localhost/v1/latency").json(&samples))
}

/// How much is known of round-trip times.
///
/// # Errors
/// When there is no answer.
pub fn latency(socket: &Path) -> Result<Summary, Failure> {
    ask(socket, TIMEOUT, |client| client.get("http://localhost/v1/latency"))
}

/// What is known of the round-trip times of a client.
///
/// # Errors
/// When there is no answer, or the client is none.
pub fn latency_of(socket: &Path, client: &str) -> Result<Looked, Failure> {
    let mut url = Url::parse("http://localhost/v1/latency").expect("a constant");
    url.query_pairs_mut().append_pair("client", client);
    ask(socket, TIMEOUT, |client| client.get(url))
}

/// `/v1/overrides/instance/web/eu-1`.
fn path_of(resource: &str, target: &str) -> Url {
    let mut url = Url::parse("http://localhost/v1").expect("a constant");
    if let Ok(mut path) = url.path_segments_mut() {
        path.push(resource).extend(target.split('/'));
    }
    url
}

/// Asks, and reads the answer or the refusal.
fn ask<T: DeserializeOwned>(
    socket: &Path,
    patience: Duration,
    request: impl FnOnce(&Client) -> RequestBuilder,
) -> Result<T, Failure> {
    ask_at(&Place::Socket(socket), patience, request)
}

fn ask_at<T: DeserializeOwned>(
    place: &Place<'_>,
    patience: Duration,
    request: impl FnOnce(&Client) -> RequestBuilder,
) -> Result<T, Failure> {
    let unreachable = |error: &reqwest::Error| cause(error, patience);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Failure::Unreachable(error.to_string()))?.block_on(async {
        let client = place.client(patience).map_err(|error| unreachable(&error))?;
        let response = request(&client).send().await.map_err(|error| unreachable(&error))?;
        if response.status().is_success() {
            return response.json().await.map_err(|error| unreachable(&error));
        }
        let status = response.status();
        let said = response.text().await.unwrap_or_default();
        let in_words = |_| Failure::Unreachable(format!("the server answers {status}: {}", said.trim_end()));
        Err(serde_json::from_str(&said).map_or_else(in_words, Failure::Refused))
    })
}

/// The innermost cause, with what to do where that is plain.
fn cause(error: &reqwest::Error, patience: Duration) -> Failure {
    let mut inner: &dyn std::error::Error = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    let kind = inner.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
    match kind {
        Some(std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused) => Failure::NobodyListens,
        _ if error.is_timeout() => Failure::Unreachable(format!("no answer within {patience:?}")),
        _ => Failure::Unreachable(inner.to_string()),
    }
}
