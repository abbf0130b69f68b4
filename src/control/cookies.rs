//! `state-dir/cookie-secrets`: what DNS cookies are made with where no `secret-file` says it. A random secret that is
//! replaced daily; the one before it is accepted for as long again, so that no cookie is lost at a roll or a restart.
//!
//! Two lines at most, the newest first: 32 hexadecimal digits, and when it was made in seconds since the Unix epoch. A
//! folder that cannot be written costs the cookies of a restart, nothing else.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::files::NewFile;
use super::{Change, Changes};
use crate::config;
use crate::dns::Secrets;
use crate::dns::cookie::Secret;
use crate::time::unix_seconds;

/// Seconds that a secret makes cookies.
const LIFE: u64 = 24 * 3600;
/// The one in use, and the one before.
const KEPT: usize = 2;
/// How often is looked whether a secret is to be replaced: the wall clock may jump.
const LOOK: Duration = Duration::from_secs(60);

/// The secrets of this node.
#[derive(Debug)]
pub struct Jar {
    path: PathBuf,
    /// The newest first, each with when it was made.
    secrets: Vec<(Secret, u64)>,
}

impl Jar {
    /// Takes over the secrets that `state_dir` holds, and makes one where it is time for that.
    #[must_use]
    pub fn open(state_dir: &Path) -> Jar {
        let path = state_dir.join("cookie-secrets");
        let secrets = read(&path).unwrap_or_else(|problem| {
            tracing::warn!("{}: not used: {problem}", path.display());
            Vec::new()
        });
        let mut jar = Jar { path, secrets };
        jar.roll(unix_seconds());
        jar
    }

    /// What cookies are made with, and accepted by.
    #[must_use]
    pub fn secrets(&self) -> Arc<Secrets> {
        Arc::new(Secrets(self.secrets.iter().map(|(secret, _)| *secret).collect()))
    }

    /// Replaces the newest secret whenever it is a day old, and says so to the control loop; ends with it.
    pub async fn keep(mut self, changes: Changes) {
        loop {
            tokio::time::sleep(LOOK).await;
            let now = unix_seconds();
            if !self.is_due(now) {
                continue;
            }
            // The disk may keep whoever writes waiting.
            let Ok(rolled) = tokio::task::spawn_blocking(move || self.rolled(now)).await else { return };
            self = rolled;
            if changes.send(Change::Cookies(self.secrets())).await.is_err() {
                return;
            }
        }
    }

    fn rolled(mut self, now: u64) -> Jar {
        self.roll(now);
        self
    }

    /// Whether the newest is a day old; also by a clock that was set back.
    fn is_due(&self, now: u64) -> bool {
        self.secrets.first().is_none_or(|(_, made)| now.abs_diff(*made) >= LIFE)
    }

    fn roll(&mut self, now: u64) {
        if !self.is_due(now) {
            return;
        }
        match random() {
            Some(secret) => self.secrets.insert(0, (secret, now)),
            None => return tracing::error!("no random numbers for a secret of DNS cookies; the one before stays"),
        }
        self.secrets.truncate(KEPT);
        if let Err(error) = self.write() {
            tracing::warn!("{}: {error}; cookies of this process will not be good for the next", self.path.display());
        }
    }

    fn write(&self) -> io::Result<()> {
        let mut new = NewFile::secret_beside(&self.path, "new")?;
        for (secret, made) in &self.secrets {
            writeln!(new.file, "{} {made}", secret.to_hex())?;
        }
        new.take_place()
    }
}

fn random() -> Option<Secret> {
    let mut secret = Secret([0; 16]);
    rustls::crypto::ring::default_provider().secure_random.fill(&mut secret.0).ok()?;
    Some(secret)
}

fn read(path: &Path) -> Result<Vec<(Secret, u64)>, String> {
    let text = match config::read_octets(path) {
        Ok(octets) => String::from_utf8(octets).unwrap_or_default(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error.to_string()),
    };
    let line = |line: &str| {
        let (secret, made) = line.split_once(' ')?;
        Some((Secret::from_hex(secret)?, made.parse().ok()?))
    };
    let secrets: Option<Vec<(Secret, u64)>> = text.lines().map(line).collect();
    secrets.filter(|secrets| (1..=KEPT).contains(&secrets.len())).ok_or_else(|| "damaged".into())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn secrets_outlive_the_process_and_roll() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut jar = Jar::open(folder.path());
        let path = folder.path().join("cookie-secrets");
        let [first] = jar.secrets().0[..] else { panic!("one secret") };
        assert_eq!(fs::metadata(&path).expect("a file").permissions().mode() & 0o777, 0o600);
        assert_eq!(Jar::open(folder.path()).secrets(), jar.secrets());

        let made = jar.secrets[0].1;
        jar.roll(made + LIFE - 1);
        assert_eq!(jar.secrets().0, [first], "not yet");
        jar.roll(made + LIFE);
        let [second, before] = jar.secrets().0[..] else { panic!("two secrets") };
        assert!(before == first && second != first);
        jar.roll(made + 2 * LIFE);
        assert_eq!(jar.secrets().0[1..], [second], "no more than two");
        jar.roll(made);
        assert_ne!(jar.secrets().0[1], second, "a clock that was set back");
        assert_eq!(read(&path).map(|kept| kept.len()), Ok(2));
    }

    #[test]
    fn a_damaged_file_is_replaced() {
        for damaged in ["x", "e5e973e5a6b2a43f48e7dc849e37bfcf", "e5e973e5a6b2a43f48e7dc849e37bfcf 1x\n"] {
            let folder = tempfile::tempdir().expect("a folder");
            let path = folder.path().join("cookie-secrets");
            fs::write(&path, damaged).expect("a file");
            assert!(read(&path).is_err());
            let jar = Jar::open(folder.path());
            assert_eq!(jar.secrets().0.len(), 1);
            assert_eq!(read(&path), Ok(jar.secrets));
        }
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_no_reason_not_to_have_one() {
        assert_eq!(Jar::open(Path::new("/proc/no-such-folder")).secrets().0.len(), 1);
    }
}
