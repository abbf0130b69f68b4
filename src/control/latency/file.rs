//! `state-dir/latency`: what was measured, for the next start.
//!
//! ```text
//! waymark latency 1 8f3a0c5e71d2b946\n     the version of the format, XXH3 of all that follows the line
//! u64 milliseconds since the Unix epoch, little-endian; then the estimates, as `latency::stored` draws them
//! ```

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::super::files::NewFile;
use crate::latency::{Book, Policy};
use crate::time::Tick;

/// What the file begins with, before the checksum.
const HEAD: &str = "waymark latency 1 ";
/// The largest file that is read, octets: a million prefixes with 32 regions take half of it.
const LARGEST: u64 = 1 << 30;

/// Octets that are written at once.
const PIECE: usize = 1 << 16;

/// Where the file of a server is.
#[must_use]
pub fn path(state_dir: &Path) -> PathBuf {
    state_dir.join("latency")
}

/// Writes it to `file`, which is empty.
///
/// # Errors
/// Those of the disk.
fn encode(book: &Book, now: Tick, unix_ms: u64, mut file: impl Write + Seek) -> io::Result<()> {
    let line = |sum: u64| format!("{HEAD}{sum:016x}\n");
    // Known at the end.
    file.write_all(line(0).as_bytes())?;
    let mut body = BufWriter::with_capacity(PIECE, Summed { inner: &mut file, sum: Xxh3::new() });
    body.write_all(&unix_ms.to_le_bytes())?;
    book.encode(now, &mut body)?;
    let Summed { sum, .. } = body.into_inner().map_err(|error| error.into_error())?;
    file.rewind()?;
    file.write_all(line(sum.digest()).as_bytes())
}

/// Sums up what is written through it.
struct Summed<W> {
    inner: W,
    sum: Xxh3,
}

impl<W: Write> Write for Summed<W> {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(octets)?;
        self.sum.update(&octets[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
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

/// Writes the file at `path` anew. What waits until all of it is on the disk is a thread's.
///
/// # Errors
/// Those of the disk; the file is as it was. The thread's are the same.
pub(super) fn write(path: &Path, book: &Book, now: Tick, unix_ms: u64) -> io::Result<JoinHandle<io::Result<()>>> {
    let mut new = NewFile::beside(path, "latency-tmp")?;
    encode(book, now, unix_ms, &mut new.file)?;
    Builder::new().name("latency-file".into()).spawn(move || new.take_place())
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

    fn encoded(book: &Book) -> Vec<u8> {
        let mut octets = io::Cursor::new(Vec::new());
        encode(book, Tick::START, UNIX_MS, &mut octets).expect("written");
        octets.into_inner()
    }

    #[test]
    fn what_cannot_be_believed_is_refused() {
        let good = encoded(&book());
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
        let writing = write(&path, &book(), now, UNIX_MS).expect("written");
        writing.join().expect("no panic").expect("in place");
        let again = read(&path, policy, now, UNIX_MS).expect("readable").expect("there");
        assert_eq!(encoded(&again), encoded(&book()));
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
    fn what_cannot_be_written_leaves_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |path: &Path| write(path, &book(), Tick::START, UNIX_MS);
        assert!(write(&folder.path().join("nowhere/latency")).is_err());
        let path = path(folder.path());
        fs::create_dir_all(path.join("in the way")).expect("a folder");
        let writing = write(&path).expect("written");
        writing.join().expect("no panic").expect_err("it has no place");
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1);
    }
}
