//! Certificate and key of encrypted transports, replaced while the server runs: their files are polled, as geo files are
//! (`renewal`), and read once they look the same at two polls. What is wrong is not taken: the certificate before is shown on.
//!
//! They are more urgent than geo files: whoever renews one has little time to see that it works.

use std::sync::Arc;
use std::time::Duration;

use crate::config::Stamp;
use crate::tls::{Certificates, Files};

/// How often the files are looked at: twice, and what is good is in use within two seconds.
const POLL: Duration = Duration::from_millis(750);

/// Which versions stand at the two paths; `None` where there is none.
type Stamps = [Option<Stamp>; 2];

/// What was seen and read of the files.
#[derive(Debug, Default)]
struct Watch {
    /// `None` = whatever is there is to be read.
    read: Option<Stamps>,
    seen: Option<Stamps>,
}

impl Watch {
    /// Whether what stands there now is to be read. It counts as read.
    fn is_due(&mut self, now: Stamps) -> bool {
        let is_settled = self.seen.replace(now) == Some(now);
        is_settled && self.read.replace(now) != Some(now)
    }
}

/// Takes what stands in the files, whenever that is another certificate, until the process ends.
pub async fn keep(certificates: Arc<Certificates>) {
    let mut watch = Watch::default();
    loop {
        tokio::time::sleep(POLL).await;
        let looked = Arc::clone(&certificates);
        // A file system may keep whoever asks waiting.
        let Ok(now) = tokio::task::spawn_blocking(move || stamps(&looked.files())).await else { return };
        if watch.is_due(now) {
            let read = Arc::clone(&certificates);
            let _ = tokio::task::spawn_blocking(move || renew(&read)).await;
        }
    }
}

fn stamps(files: &Files) -> Stamps {
    [&files.certificate, &files.key].map(|path| Stamp::at(path).ok())
}

fn renew(certificates: &Certificates) {
    let name = certificates.files().certificate;
    match certificates.reload() {
        Ok(true) => tracing::info!("[tls] {}: replaced, taken", name.display()),
        Ok(false) => {}
        Err(problem) => tracing::error!("[tls] not taken, the certificate before is still shown: {problem}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_once_it_has_settled() {
        let folder = tempfile::tempdir().expect("a folder");
        let files = Files { certificate: folder.path().join("certificate"), key: folder.path().join("key") };
        let write = |octets: &str| std::fs::write(&files.certificate, octets).expect("written");
        let mut watch = Watch::default();
        let mut look = || watch.is_due(stamps(&files));
        assert_eq!([look(), look(), look()], [false, true, false], "even if there is nothing");
        write("1");
        assert!(!look());
        write("12");
        assert_eq!([look(), look(), look()], [false, true, false]);
        std::fs::write(&files.key, "1").expect("written");
        assert_eq!([look(), look(), look()], [false, true, false], "either of them");
    }
}
