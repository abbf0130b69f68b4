//! `state-dir/latency`: what was measured, for the next start.
//!
//! ```text
//! waymark latency 1 8f3a0c5e71d2b946\n     the version of the format, XXH3 of all that follows the line
//! u64 milliseconds since the Unix epoch, little-endian; then the estimates, as `latency::stored` draws them
//! ```

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::Builder;
use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64;

use super::super::files;
use crate::latency::{Book, Policy};
use crate::time::Tick;

/// What the file begins with, before the checksum.
const HEAD: &str = "waymark latency 1 ";
/// The largest file that is read, octets: a million prefixes with 32 regions take half of it.
const LARGEST: u64 = 1 << 30;

/// Where the file of a server is.
#[must_use]
pub fn path(state_dir: &Path) -> PathBuf {
    state_dir.join("latency")
}

/// The file.
pub(super) fn encode(book: &Book, now: Tick, unix_ms: u64) -> Vec<u8> {
    let line = |sum: u64| format!("{HEAD}{sum:016x}\n");
    let mut octets = line(0).into_bytes();
    let body = octets.len();
    octets.extend(unix_ms.to_le_bytes());
    book.encode(now, &mut octets);
    let head = line(xxh3_64(&octets[body..]));
    octets[..body].copy_from_slice(head.as_bytes());
    octets
}

/// Reads the file at `path`; `Ok(None)` when there is none. What is not believed is moved aside, so that it is not
/// overwritten: another version, or another clock, may believe it.
///
/// # Errors
/// In words, why it is not believed: damaged, of another version, too old, far in the future, or not to be read.
pub(super) fn read(path: &Path, policy: Policy, now: Tick, unix_ms: u64) -> Result<Option<Book>, String> {
    let mut octets = Vec::new();
    match File::open(path).and_then(|file| file.take(LARGEST).read_to_end(&mut octets)) {
        Ok(_) => parse(&octets, policy, now, unix_ms).map(Some).map_err(|why| format!("{why}; {}", moved_aside(path))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

fn moved_aside(path: &Path) -> String {
    let aside = path.with_extension("aside");
    match fs::rename(path, &aside) {
        Ok(()) => format!("moved to {}", aside.display()),
        Err(error) => format!("and cannot be moved aside: {error}"),
    }
}

fn parse(octets: &[u8], policy: Policy, now: Tick, unix_ms: u64) -> Result<Book, String> {
    let longest = HEAD.len() + 17;
    let end = octets.iter().take(longest).position(|&octet| octet == b'\n');
    let (head, body) =
        end.map(|end| (&octets[..end], &octets[end + 1..])).ok_or("it is damaged: it has no first line")?;
    let sum = head.strip_prefix(HEAD.as_bytes()).ok_or("it is of another version, or no such file at all")?;
    if sum != format!("{:016x}", xxh3_64(body)).as_bytes() {
        return Err("it is damaged: its checksum is wrong".into());
    }
    let (written_ms, estimates) = body.split_first_chunk().ok_or("it is damaged: it ends too early")?;
    let written_ms = u64::from_le_bytes(*written_ms);
    // Clocks are set back a little; then it is of just now.
    if Duration::from_millis(written_ms.saturating_sub(unix_ms)) >= policy.expire_after {
        return Err("it is from the future by this machine's clock".into());
    }
    let age = unix_ms.saturating_sub(written_ms);
    if Duration::from_millis(age) >= policy.expire_after {
        return Err(format!("it is {} s old, and estimates expire after {:?}", age / 1000, policy.expire_after));
    }
    let elapsed_s = u32::try_from(age / 1000).unwrap_or(u32::MAX);
    Book::decode(estimates, policy, now, elapsed_s).map_err(|why| format!("it is damaged: {why}"))
}

/// What the writer is at.
#[derive(Debug, Default)]
pub(super) struct State {
    writing: AtomicBool,
    failed: AtomicBool,
}

impl State {
    /// Something is about to be sent to it.
    pub(super) fn begin(&self) {
        self.writing.store(true, Ordering::Release);
    }

    /// Whether it has not done yet what it was sent.
    pub(super) fn is_writing(&self) -> bool {
        self.writing.load(Ordering::Acquire)
    }

    /// Whether something could not be written since this was asked last.
    pub(super) fn has_failed(&self) -> bool {
        self.failed.swap(false, Ordering::AcqRel)
    }
}

/// A thread that writes: where to send it what, what it is at, and what is closed when it has ended.
type Writer = (mpsc::SyncSender<Vec<u8>>, Arc<State>, mpsc::Receiver<()>);

/// Starts a thread that writes what it is sent.
///
/// # Errors
/// When no thread can be started.
pub(super) fn start_writer(path: PathBuf) -> io::Result<Writer> {
    let (writer, files) = mpsc::sync_channel::<Vec<u8>>(1);
    let (running, ended) = mpsc::channel();
    let state = Arc::new(State::default());
    let told = Arc::clone(&state);
    Builder::new().name("latency-file".into()).spawn(move || {
        let _running: mpsc::Sender<()> = running;
        let mut failing = false;
        for octets in files {
            let written = files::replace(&path, "latency-tmp", &octets);
            drop(octets);
            told.failed.store(written.is_err(), Ordering::Release);
            told.writing.store(false, Ordering::Release);
            say(&path, written, &mut failing);
        }
    })?;
    Ok((writer, state, ended))
}

/// One warning when writing begins to fail, one line when that ends.
fn say(path: &Path, written: io::Result<()>, failing: &mut bool) {
    match written {
        Err(error) if !*failing => {
            tracing::warn!("{}: {error}; round-trip times are not kept for the next start", path.display());
            *failing = true;
        }
        Ok(()) if *failing => {
            tracing::info!("{}: written again", path.display());
            *failing = false;
        }
        Ok(()) | Err(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::latency::{Rtt, Sample};

    const UNIX_MS: u64 = 1_700_000_000_000;

    fn book() -> Book {
        let mut book = Book::new(Policy::default());
        let region = book.region("eu-west");
        let client = "203.0.113.0/24".parse().expect("a prefix");
        let sample = Sample { client, as_number: Some(64500), country: None, region, rtt: Rtt(340) };
        (0..5).for_each(|_| book.take(&sample, Tick::START));
        book
    }

    #[test]
    fn what_cannot_be_believed_is_refused() {
        let good = encode(&book(), Tick::START, UNIX_MS);
        let with = |at: usize, octet: u8| {
            let mut other = good.clone();
            other[at] ^= octet;
            other
        };
        let day = 86_400_000;
        for (octets, unix_ms, said) in [
            (good.clone(), UNIX_MS, ""),
            (good.clone(), UNIX_MS + day - 1, ""),
            (good.clone(), UNIX_MS + day, "expire"),
            (good.clone(), UNIX_MS - 1, ""),
            (good.clone(), UNIX_MS - day + 1, ""),
            (good.clone(), UNIX_MS - day, "future"),
            (good.clone(), 0, "future"),
            (good[..good.len() - 1].to_vec(), UNIX_MS, "checksum"),
            (with(good.len() - 3, 1), UNIX_MS, "checksum"),
            (with(HEAD.len() - 2, 3), UNIX_MS, "another version"),
            (Vec::new(), UNIX_MS, "no first line"),
            (vec![0xff; 4096], UNIX_MS, "no first line"),
            (b"\n".repeat(4096), UNIX_MS, "another version"),
        ] {
            match parse(&octets, Policy::default(), Tick::START, unix_ms) {
                Ok(_) => assert_eq!(said, ""),
                Err(why) => assert!(!said.is_empty() && why.contains(said), "{why}, expected {said:?}"),
            }
        }
    }

    #[test]
    fn a_file_is_read_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = path(folder.path());
        let (policy, now) = (Policy::default(), Tick::START);
        assert!(matches!(read(&path, policy, now, UNIX_MS), Ok(None)));
        let (writer, state, ended) = start_writer(path.clone()).expect("a thread");
        state.begin();
        writer.send(encode(&book(), now, UNIX_MS)).expect("it runs");
        drop(writer);
        let _ = ended.recv();
        assert!(!state.is_writing() && !state.has_failed());
        let again = read(&path, policy, now, UNIX_MS).expect("readable").expect("there");
        assert_eq!(encode(&again, now, UNIX_MS), encode(&book(), now, UNIX_MS));
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1);
    }

    #[test]
    fn what_is_not_believed_is_kept_aside() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = path(folder.path());
        fs::write(&path, "waymark latency 9 of tomorrow\n").expect("written");
        let why = read(&path, Policy::default(), Tick::START, UNIX_MS).map(|_| ()).expect_err("not believed");
        assert!(why.contains("another version") && why.contains("moved to"), "{why}");
        assert!(!path.exists() && folder.path().join("latency.aside").exists());
    }

    #[test]
    fn what_cannot_be_written_is_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let (writer, state, ended) = start_writer(folder.path().join("nowhere/latency")).expect("a thread");
        state.begin();
        writer.send(vec![1]).expect("it runs");
        drop(writer);
        let _ = ended.recv();
        assert!(state.has_failed() && !state.has_failed() && !state.is_writing());
    }
}
