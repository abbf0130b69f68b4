//! The client of the control socket, for commands.

use std::path::Path;
use std::time::Duration;

use crate::control::Status;

/// Longest wait for an answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The status of the server at `socket`.
///
/// # Errors
/// In words: nobody listens there, no right to, or the answer is not understood.
pub fn status(socket: &Path) -> Result<Status, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| error.to_string())?.block_on(async {
        let client = reqwest::Client::builder().unix_socket(socket).timeout(TIMEOUT).no_proxy().build();
        let client = client.map_err(|error| cause(&error))?;
        let response = client.get("http://localhost/v1/status").send().await.map_err(|error| cause(&error))?;
        response.json().await.map_err(|error| cause(&error))
    })
}

/// The innermost cause, with what to do where that is plain.
fn cause(error: &reqwest::Error) -> String {
    let mut inner: &dyn std::error::Error = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    let kind = inner.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
    match kind {
        Some(std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused) => {
            "no server is running there (start one with `waymark run`, or name its socket with --control)".into()
        }
        _ if error.is_timeout() => format!("no answer within {TIMEOUT:?}"),
        _ => inner.to_string(),
    }
}
