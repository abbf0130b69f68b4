//! The HTTP API, metrics and health of the process (SPEC 8.5, 8.6), over TCP on loopback and over the control socket.
//!
//! | path | says |
//! |---|---|
//! | `GET /v1/status` | everything that `waymark status` shows, as JSON |
//! | `/v1/overrides` | what operators override; written over the control socket alone (`overrides`) |
//! | `PUT /v1/health/instance/POOL/NAME` | an instance reports of itself, over the control socket alone (`push`) |
//! | `GET /v1/explain?name=&client=` … | why a client gets what it gets (`explain`) |
//! | `PUT /v1/load/instance/POOL/NAME`, `PUT /v1/load` | instances report their load, over the control socket alone (`load`) |
//! | `/v1/latency` | round-trip times that clients measured; written over the control socket alone (`latency`) |
//! | `GET /v1/history?target=&since=&limit=` | what happened and why, from the journal |
//! | `GET /metrics` | counters in the OpenMetrics text format |
//! | `GET /healthz` | 200 while the process lives and its control loop answers |
//! | `GET /readyz` | 200 once queries are answered, 503 before |
//!
//! Without tokens a listener may only read, and only from this machine; a `Host` header that is not this node's gets
//! 403, so that no web page of another origin can read here (DNS rebinding).

pub mod client;
pub mod explain;
mod history;
pub mod latency;
pub mod load;
mod metrics;
pub mod overrides;
pub mod push;

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post, put};
use axum::{Json, Router};
use ipnet::IpNet;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::oneshot;

use crate::control::resolution::Resolutions;
use crate::control::status::{EcsStatus, Sender};
use crate::control::{Change, Changes, Status};
use crate::metrics::{Registry, TRANSPORTS, TYPES};
use crate::probe::Totals;
use crate::tls::Certificates;

/// Longest body of a request, in octets.
const LONGEST_BODY: usize = 16 << 10;
/// Networks of resolvers that `status` names.
const MOST_SENDERS: usize = 20;
pub use history::{History, MOST_RECORDS, Question, RECORDS};

/// What the handlers need.
#[derive(Clone, Debug)]
pub struct Api {
    /// Where changes and questions go.
    pub changes: Changes,
    /// Counters of all threads.
    pub registry: Arc<Registry>,
    /// Counters of probes.
    pub probes: Arc<Totals>,
    /// Counters of targets that were resolved.
    pub resolutions: Arc<Resolutions>,
    /// Secondary zones.
    pub secondaries: Arc<crate::control::secondary::Board>,
    /// What became of updates.
    pub updates: Arc<crate::control::update::Totals>,
    /// What became of notifies.
    pub notifies: Arc<crate::control::notify::Notifies>,
    /// Counters of round-trip times.
    pub latency: Arc<crate::control::latency::Totals>,
    /// What encrypted transports show; `None` = there are none.
    pub certificates: Option<Arc<Certificates>>,
    /// Whether queries are answered.
    pub ready: Arc<AtomicBool>,
    /// Where the journal is.
    pub journal: PathBuf,
}

/// Where the control socket of a server is.
#[must_use]
pub fn control_socket(state_dir: &Path) -> PathBuf {
    state_dir.join("control")
}

/// Serves the API over TCP until the process ends; `hosts` are the names accepted in `Host`.
///
/// # Errors
/// When the listener fails.
pub async fn serve_tcp(api: Api, listener: TcpListener, hosts: Vec<String>) -> io::Result<()> {
    let hosts = Arc::new(Hosts { names: hosts, address: listener.local_addr()? });
    let writing = Router::new()
        .route("/v1/overrides", put(overrides::forbid))
        .route("/v1/overrides/{*target}", delete(overrides::forbid))
        .route("/v1/health/{*target}", put(overrides::forbid))
        .route("/v1/load", put(overrides::forbid))
        .route("/v1/load/{*target}", put(overrides::forbid))
        .route("/v1/latency", post(overrides::forbid));
    let router = router(api, writing).layer(middleware::from_fn_with_state(hosts, guard_host));
    axum::serve(listener, router).await
}

/// Serves the API over the control socket at `path` until the process ends. A stale socket there is replaced.
///
/// # Errors
/// When the socket cannot be made or fails.
pub async fn serve_control(api: Api, path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o660))?;
    let writing = Router::new()
        .route("/v1/overrides", put(overrides::set))
        .route("/v1/overrides/{*target}", delete(overrides::end))
        .route("/v1/health/{*target}", put(push::report))
        .route("/v1/load/{*target}", put(load::report))
        .layer(DefaultBodyLimit::max(LONGEST_BODY))
        .route("/v1/load", put(load::report_all).layer(DefaultBodyLimit::max(load::LONGEST_BODY)))
        .route("/v1/latency", post(latency::take).layer(DefaultBodyLimit::max(latency::LONGEST_BODY)));
    axum::serve(listener, router(api, writing).into_make_service_with_connect_info::<overrides::Peer>()).await
}

/// All that may be read, and what this listener makes of `writing`.
fn router(api: Api, writing: Router<Api>) -> Router {
    let paths = "/v1/status, /v1/explain, /v1/history, /v1/overrides, /v1/latency, /metrics, /healthz, /readyz";
    writing
        .route("/v1/overrides", get(overrides::list))
        .route("/v1/latency", get(latency::look))
        .route("/v1/status", get(status))
        .route("/v1/explain", get(explain::explain))
        .route("/v1/history", get(history::history))
        .route("/metrics", get(scrape))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .fallback(move || async move { (StatusCode::NOT_FOUND, format!("not found; see {paths}\n")) })
        .with_state(api)
}

/// Names and addresses that may stand in `Host`.
struct Hosts {
    names: Vec<String>,
    address: SocketAddr,
}

impl Hosts {
    fn accept(&self, host: &str) -> bool {
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|octet| octet.is_ascii_digit()) => name,
            _ => host,
        };
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        bare.eq_ignore_ascii_case("localhost")
            || bare.parse() == Ok(self.address.ip())
            || self.names.iter().any(|known| known.eq_ignore_ascii_case(bare))
    }
}

async fn guard_host(State(hosts): State<Arc<Hosts>>, request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|value| value.to_str().ok());
    if host.is_some_and(|host| hosts.accept(host)) {
        next.run(request).await
    } else {
        let hint =
            "this Host is not accepted; use the listener's address, localhost, the node's name or [admin] hosts\n";
        (StatusCode::FORBIDDEN, hint).into_response()
    }
}

async fn status(State(api): State<Api>) -> Response {
    match ask(&api).await {
        Some(status) => {
            Json(Status { ecs: ecs(&api.registry), secondaries: api.secondaries.shown(), ..status }).into_response()
        }
        None => gone(),
    }
}

/// Who sends client subnets, by what all threads saw.
fn ecs(registry: &Registry) -> EcsStatus {
    let queries = (0..TRANSPORTS.len()).flat_map(|transport| (0..TYPES.len()).map(move |rtype| (transport, rtype)));
    let counted = |(transport, rtype): (usize, usize)| registry.sum(|all| &all.answering.queries[transport][rtype]);
    let (networks, seen) = registry.senders();
    let sender =
        |(network, count): (IpNet, u64)| Sender { network: network.to_string(), share: count as f64 / seen as f64 };
    EcsStatus {
        queries: queries.map(counted).sum(),
        with_subnet: registry.sum(|all| &all.answering.ecs),
        senders: networks.into_iter().take(MOST_SENDERS).map(sender).collect(),
    }
}

async fn scrape(State(api): State<Api>) -> Response {
    let Some(status) = ask(&api).await else { return gone() };
    match metrics::encode(&api, &status) {
        Ok(text) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "the metrics could not be written\n").into_response(),
    }
}

async fn healthz(State(api): State<Api>) -> Response {
    if ask(&api).await.is_some() { "ok\n".into_response() } else { gone() }
}

async fn readyz(State(api): State<Api>) -> Response {
    if api.ready.load(Ordering::Relaxed) {
        "ready\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not answering queries yet: the first round of checks is under way\n")
            .into_response()
    }
}

/// Asks the control loop; `None` when it is gone.
async fn ask(api: &Api) -> Option<Status> {
    let (reply, answer) = oneshot::channel();
    api.changes.send(Change::Status(reply)).await.ok()?;
    answer.await.ok()
}

fn gone() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, "the control loop has ended\n").into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_hosts() {
        let hosts = Hosts { names: vec!["ams-1".into()], address: "127.0.0.1:8053".parse().expect("address") };
        for (host, accepted) in [
            ("127.0.0.1:8053", true),
            ("127.0.0.1", true),
            ("localhost:9", true),
            ("LOCALHOST", true),
            ("AMS-1:8053", true),
            ("evil.example", false),
            ("evil.example:8053", false),
            ("[::1]:8053", false),
            ("", false),
        ] {
            assert_eq!(hosts.accept(host), accepted, "{host}");
        }
    }
}
