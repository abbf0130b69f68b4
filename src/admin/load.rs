//! `PUT /v1/load/instance/POOL/NAME` and `PUT /v1/load` (SPEC 5.4, 8.5): instances report their load. As with overrides
//! only the control socket may write, and a refusal is a `Refusal` as JSON.

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::Api;
use super::overrides::{gone, refuse, refuse_as, wrong};
use crate::control::{Change, LoadReport, LoadReports};

/// Longest body with the reports of several instances, in octets.
pub(super) const LONGEST_BODY: usize = 512 << 10;
/// Most reports in it.
pub(super) const MOST_REPORTS: usize = 5_000;

/// A report of one instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Said {
    /// 0 or more, in the unit of its capacity.
    pub load: f64,
}

pub(super) async fn report(
    State(api): State<Api>,
    Path(target): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    match read(body) {
        Ok(Said { load }) => take(&api, vec![LoadReport { target, load }]).await,
        Err(response) => *response,
    }
}

pub(super) async fn report_all(State(api): State<Api>, body: Result<Bytes, BytesRejection>) -> Response {
    match read::<Vec<LoadReport>>(body) {
        Ok(reports) if reports.len() > MOST_REPORTS => {
            refuse(&wrong(format!("{} reports, at most {MOST_REPORTS} at once", reports.len())))
        }
        Ok(reports) => take(&api, reports).await,
        Err(response) => *response,
    }
}

fn read<T: for<'d> Deserialize<'d>>(body: Result<Bytes, BytesRejection>) -> Result<T, Box<Response>> {
    let body = body.map_err(|rejection| refuse_as(rejection.status(), &wrong(rejection.body_text())))?;
    let read = serde_json::from_slice(&body);
    read.map_err(|problem| Box::new(refuse(&wrong(format!("the body is not understood: {problem}")))))
}

async fn take(api: &Api, reports: Vec<LoadReport>) -> Response {
    let (reply, answer) = oneshot::channel();
    let sent = api.changes.send(Change::Load(LoadReports { reports, reply })).await;
    match answer.await {
        Ok(Ok(taken)) if sent.is_ok() => Json(taken).into_response(),
        Ok(Err(refusal)) => refuse(&refusal),
        _ => refuse(&gone()),
    }
}
