//! `PUT /v1/health/instance/POOL/NAME` (SPEC 2.6, 8.5): the instance or its agent reports, for checks of type `push`. As
//! with overrides only the control socket may write, and a refusal is a `Refusal` as JSON.

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::Api;
use super::overrides::{gone, refuse, refuse_as, wrong};
use crate::control::{Change, Push};

/// A report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Said {
    /// The check it is for; may be left out where the instance has one check of type `push`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<String>,
    /// Whether the instance is.
    pub healthy: bool,
    /// Why; shown wherever health is, in its first 200 characters.
    #[serde(default)]
    pub reason: String,
}

pub(super) async fn report(
    State(api): State<Api>,
    Path(target): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let body = match body {
        Ok(body) => body,
        Err(rejection) => return refuse_as(rejection.status(), &wrong(rejection.body_text())),
    };
    let Said { check, healthy, reason } = match serde_json::from_slice(&body) {
        Ok(said) => said,
        Err(problem) => return refuse(&wrong(format!("the body is not understood: {problem}"))),
    };
    let (reply, answer) = oneshot::channel();
    let sent = api.changes.send(Change::Push(Box::new(Push { target, check, healthy, reason, reply }))).await;
    match answer.await {
        Ok(Ok(pushed)) if sent.is_ok() => Json(pushed).into_response(),
        Ok(Err(refusal)) => refuse(&refusal),
        _ => refuse(&gone()),
    }
}
