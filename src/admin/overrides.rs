//! `/v1/overrides` (SPEC 8.5): what operators override. Only the control socket may write, so who may is a matter of its
//! mode; who does is what the kernel says of the process at the other end.
//!
//! | request | does |
//! |---|---|
//! | `GET /v1/overrides` | lists, oldest first |
//! | `PUT /v1/overrides` | sets one; the body is a [`Wanted`] |
//! | `DELETE /v1/overrides/TARGET` | ends those typed so; `?force=true` as in a body; `?only=freeze` only its freezes, of `all` any |
//! | `DELETE /v1/overrides/service/NAME?only=latch&region=NAME` | lets a region serve again that was latched out of a service |
//!
//! A refusal is a [`Refusal`] as JSON, whatever its status.

use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::connect_info::Connected;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{ConnectInfo, Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::serve::IncomingStream;
use serde::{Deserialize, Serialize};
use tokio::net::UnixListener;
use tokio::sync::oneshot;

use super::Api;
use crate::control::{Action, Change, Order, Refusal, RefusalCode, ShownOverride, What, Wish};

/// Longest name of a user, in octets.
const LONGEST_NAME: usize = 64;

/// An override that somebody wants.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// `instance/web/eu-1`, `pool/web`, `region/eu-*`, `service/www.example.com`; to be frozen `all`.
    pub target: String,
    /// `drain`, `enable`, `force-up`, `force-down`, `weight 50%`, `freeze`.
    pub action: Action,
    /// Why.
    #[serde(default)]
    pub reason: String,
    /// How long it lasts, seconds; without it, until it is ended.
    #[serde(default)]
    pub for_s: Option<u64>,
    /// Also when it takes the last region or instance of a service, or names nothing.
    #[serde(default)]
    pub force: bool,
    /// On whose behalf, when that is not whom the process belongs to.
    #[serde(default)]
    pub who: Option<String>,
}

/// What `GET /v1/overrides` says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Listed {
    /// Oldest first.
    pub overrides: Vec<ShownOverride>,
}

/// What may stand behind `DELETE /v1/overrides/TARGET`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Manner {
    #[serde(default)]
    force: bool,
    #[serde(default)]
    who: Option<String>,
    #[serde(default)]
    only: Option<Only>,
    #[serde(default)]
    region: Option<String>,
}

/// Which overrides of a target.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Only {
    Freeze,
    Latch,
}

/// Who is at the other end of the control socket.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    user: String,
}

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Peer {
        let user = match stream.io().peer_cred() {
            Ok(credentials) => user_name(credentials.uid()),
            Err(_) => "unknown".into(),
        };
        Peer { user }
    }
}

impl Peer {
    /// `alice`, or `alice (as root)` when root says so.
    fn on_behalf(&self, who: Option<String>) -> String {
        let plain = |who: &String| !who.is_empty() && who.len() <= LONGEST_NAME && !who.chars().any(char::is_control);
        match who.filter(plain).filter(|who| *who != self.user) {
            Some(who) => format!("{who} (as {})", self.user),
            None => self.user.clone(),
        }
    }
}

/// The name of a user, as `/etc/passwd` has it.
fn user_name(uid: u32) -> String {
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    name_in(&users, uid).map_or_else(|| format!("uid {uid}"), str::to_owned)
}

fn name_in(users: &str, uid: u32) -> Option<&str> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
    })
}

pub(super) async fn list(State(api): State<Api>) -> Response {
    let (reply, answer) = oneshot::channel();
    let sent = api.changes.send(Change::Overrides(reply)).await;
    match answer.await {
        Ok(overrides) if sent.is_ok() => Json(Listed { overrides }).into_response(),
        _ => refuse(&gone()),
    }
}

pub(super) async fn set(
    State(api): State<Api>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let body = match body {
        Ok(body) => body,
        Err(rejection) => return refuse_as(rejection.status(), &wrong(rejection.body_text())),
    };
    let wanted: Wanted = match serde_json::from_slice(&body) {
        Ok(wanted) => wanted,
        Err(problem) => return refuse(&wrong(format!("the body is not understood: {problem}"))),
    };
    let Wanted { target, action, reason, for_s, force, who } = wanted;
    let lasts = for_s.map(Duration::from_secs);
    let wish = Wish { target, action, who: peer.on_behalf(who), why: reason, lasts };
    order(&api, What::Set(wish), force).await
}

pub(super) async fn end(
    State(api): State<Api>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(target): Path<String>,
    manner: Result<Query<Manner>, QueryRejection>,
) -> Response {
    let Query(manner) = match manner {
        Ok(manner) => manner,
        Err(rejection) => return refuse(&wrong(rejection.body_text())),
    };
    let who = peer.on_behalf(manner.who);
    let what = match manner.only {
        Some(Only::Freeze) => What::Resume { target, who },
        Some(Only::Latch) => match manner.region {
            Some(region) => What::Unlatch { service: target, region, who },
            None => return refuse(&wrong("`only=latch` is of a service and a `region`".into())),
        },
        None => What::End { target, who },
    };
    order(&api, what, manner.force).await
}

/// Where only reading is allowed.
pub(super) async fn forbid() -> Response {
    let hint = "use the control socket, state-dir/control, as `waymark drain` and the other commands do";
    refuse(&Refusal::new(RefusalCode::Forbidden, "without tokens this listener may only read", Some(hint)))
}

async fn order(api: &Api, what: What, force: bool) -> Response {
    let (reply, answer) = oneshot::channel();
    let sent = api.changes.send(Change::Override(Box::new(Order { what, force, reply }))).await;
    match answer.await {
        Ok(Ok(applied)) if sent.is_ok() => Json(applied).into_response(),
        Ok(Err(refusal)) => refuse(&refusal),
        _ => refuse(&gone()),
    }
}

pub(super) fn wrong(problem: String) -> Refusal {
    Refusal::new(RefusalCode::Wrong, problem, None)
}

pub(super) fn gone() -> Refusal {
    Refusal::new(RefusalCode::Busy, "the control loop has ended", None)
}

pub(super) fn refuse(refusal: &Refusal) -> Response {
    let status = match refusal.code {
        RefusalCode::Wrong => StatusCode::BAD_REQUEST,
        RefusalCode::NotFound => StatusCode::NOT_FOUND,
        RefusalCode::LastAvailable => StatusCode::CONFLICT,
        RefusalCode::NotStored => StatusCode::INSUFFICIENT_STORAGE,
        RefusalCode::Forbidden => StatusCode::FORBIDDEN,
        RefusalCode::Busy => StatusCode::SERVICE_UNAVAILABLE,
    };
    refuse_as(status, refusal)
}

pub(super) fn refuse_as(status: StatusCode, refusal: &Refusal) -> Response {
    (status, Json(refusal)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_have_names() {
        let users = "root:x:0:0:root:/root:/bin/sh\n\nbroken\nalice:x:1000:100::/home/alice:/bin/sh\n";
        assert_eq!((name_in(users, 0), name_in(users, 1000), name_in(users, 7)), (Some("root"), Some("alice"), None));
        let peer = Peer { user: "root".into() };
        for (who, expected) in [
            (None, "root"),
            (Some("root"), "root"),
            (Some(""), "root"),
            (Some("a\nb"), "root"),
            (Some("al"), "al (as root)"),
        ] {
            assert_eq!(peer.on_behalf(who.map(str::to_owned)), expected);
        }
    }
}
