//! Appends to the journal, in a thread of its own, so that nobody waits for the disk.
//!
//! ```text
//! whoever notes ── bounded queue ──► thread ── a batch at a time ──► state-dir/journal
//!                  full: counted ──────┘ said in the next record, as are those that a full disk did not take
//! ```
//! The file is opened for each batch: one that somebody moves away begins anew. It is not forced to the disk; what was
//! written outlives the process, not a machine that loses its power in that moment.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread::Builder;
use std::time::Duration;

use super::{Record, earlier};

/// Records that may wait.
const QUEUE: usize = 4096;
/// Records that are written at once.
const BATCH: usize = 256;
/// Octets after which another file is begun.
const LARGEST: u64 = 8 << 20;

/// Where things are noted; a copy notes in the same journal. The default forgets everything.
#[derive(Clone, Debug, Default)]
pub struct Journal(Option<Arc<Queue>>);

#[derive(Debug)]
struct Queue {
    sender: SyncSender<Message>,
    /// Records that could not be written since the last one that was.
    lost: Arc<AtomicU64>,
}

#[derive(Debug)]
enum Message {
    Note(Box<Record>),
    /// The last one; the sender is dropped when all is written.
    End(#[expect(dead_code, reason = "dropping it is the message")] mpsc::Sender<()>),
}

impl Journal {
    /// Begins to write to the file at `path`.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(path: PathBuf) -> io::Result<Journal> {
        let (sender, queue) = mpsc::sync_channel(QUEUE);
        let lost = Arc::new(AtomicU64::new(0));
        let mut writer = Writer { path, lost: Arc::clone(&lost), failing: false };
        Builder::new().name("journal".into()).spawn(move || writer.run(&queue))?;
        Ok(Journal(Some(Arc::new(Queue { sender, lost }))))
    }

    /// Notes something; does not wait. What does not fit into the queue is counted.
    pub fn note(&self, record: impl FnOnce() -> Record) {
        let Some(queue) = &self.0 else { return };
        if queue.sender.try_send(Message::Note(Box::new(record()))).is_err() {
            queue.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Has everything written that was noted, and ends the thread; waits at most `patience` for the disk.
    pub fn finish(&self, patience: Duration) {
        let Some(queue) = &self.0 else { return };
        let (end, ended) = mpsc::channel();
        if queue.sender.try_send(Message::End(end)).is_ok() {
            // Either way: it is over, or it took too long.
            let _ = ended.recv_timeout(patience);
        }
    }
}

struct Writer {
    path: PathBuf,
    lost: Arc<AtomicU64>,
    failing: bool,
}

impl Writer {
    /// Writes until it is told to end.
    fn run(&mut self, queue: &Receiver<Message>) {
        while let Ok(first) = queue.recv() {
            let mut records = Vec::new();
            let mut end = None;
            for message in std::iter::once(first).chain(queue.try_iter().take(BATCH - 1)) {
                match message {
                    Message::Note(record) => records.push(*record),
                    Message::End(_) => end = Some(message),
                }
            }
            self.write(records);
            if end.is_some() {
                return;
            }
        }
    }

    fn write(&mut self, mut records: Vec<Record>) {
        let Some(first) = records.first_mut() else { return };
        first.lost = self.lost.swap(0, Ordering::Relaxed);
        let count = records.len() as u64 + first_lost(&records);
        let written = append(&self.path, &lines(&records), LARGEST);
        if written.is_err() {
            self.lost.fetch_add(count, Ordering::Relaxed);
        }
        self.say(written);
    }

    /// One warning when writing begins to fail, one line when that ends.
    fn say(&mut self, written: io::Result<()>) {
        let path = self.path.display();
        match written {
            Err(error) if !self.failing => {
                tracing::warn!("{path}: {error}; what happens is not kept for `waymark history`");
                self.failing = true;
            }
            Ok(()) if self.failing => {
                tracing::info!("{path}: written again");
                self.failing = false;
            }
            Ok(()) | Err(_) => {}
        }
    }
}

fn first_lost(records: &[Record]) -> u64 {
    records.first().map_or(0, |first| first.lost)
}

fn lines(records: &[Record]) -> Vec<u8> {
    let mut lines = Vec::new();
    for record in records {
        serde_json::to_writer(&mut lines, record).expect("texts and numbers into memory");
        lines.push(b'\n');
    }
    lines
}

/// Appends whole lines, or nothing. A file that would grow beyond `largest` is put aside first.
fn append(path: &Path, lines: &[u8], largest: u64) -> io::Result<()> {
    let open = || File::options().read(true).append(true).create(true).open(path);
    let mut file = open()?;
    let mut length = file.metadata()?.len();
    if length > 0 && length + lines.len() as u64 > largest {
        fs::rename(path, earlier(path))?;
        file = open()?;
        length = 0;
    }
    let begin: &[u8] = if length > 0 && is_torn(&mut file)? { b"\n" } else { b"" };
    let written = file.write_all(begin).and_then(|()| file.write_all(lines));
    if written.is_err() {
        // Part of it may be there; if it stays, it is passed over like any line that was torn.
        let _ = file.set_len(length);
    }
    written
}

/// Whether the last line has no end.
fn is_torn(file: &mut File) -> io::Result<bool> {
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

#[cfg(test)]
mod tests {
    use super::super::{Kind, Wanted, path, read};
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);
    const ALL: Wanted = Wanted { target: None, since_ms: 0, limit: usize::MAX };

    fn note(journal: &Journal, target: &str) {
        journal.note(|| Record::new(Kind::Verdict, target));
    }

    #[test]
    fn what_is_noted_is_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = path(folder.path());
        for target in ["instance/web/a", "instance/web/b\n\"ä\""] {
            let journal = Journal::start(path.clone()).expect("a thread");
            note(&journal, target);
            journal.finish(PATIENCE);
            // Killed while it wrote the next.
            File::options().append(true).open(&path).and_then(|mut file| file.write_all(b"{\"time")).expect("torn");
        }
        let read = read(&path, &ALL).expect("read");
        let targets: Vec<&str> = read.iter().map(|record| &*record.target).collect();
        assert_eq!(targets, ["instance/web/a", "instance/web/b\n\"ä\""]);
        note(&Journal::default(), "nothing");
    }

    #[test]
    fn it_does_not_grow_for_ever() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = path(folder.path());
        let line = |number: u64| lines(&[Record { time_ms: number, ..Record::new(Kind::Verdict, "x".repeat(100)) }]);
        (1..100).for_each(|number| append(&path, &line(number), 4096).expect("written"));
        let length = |path: &Path| fs::metadata(path).expect("a file").len();
        assert!(length(&path) <= 4096 && length(&earlier(&path)) <= 4096);
        let numbers: Vec<u64> = read(&path, &ALL).expect("read").iter().map(|record| record.time_ms).collect();
        assert!(numbers.len() > 15 && numbers.is_sorted() && numbers.last() == Some(&99), "{numbers:?}");
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 2);
    }

    #[test]
    fn what_is_lost_is_said() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = path(&folder.path().join("later"));
        let mut writer = Writer { path: path.clone(), lost: Arc::default(), failing: false };
        let record = || Record::new(Kind::Verdict, "instance/web/a");
        writer.write(vec![record(), record()]);
        writer.write(vec![record()]);
        assert!(writer.failing);
        fs::create_dir(folder.path().join("later")).expect("a folder");
        writer.write(vec![record(), record()]);
        assert!(!writer.failing);
        let lost: Vec<u64> = read(&path, &ALL).expect("read").iter().map(|record| record.lost).collect();
        assert_eq!(lost, [3, 0]);
    }

    #[test]
    fn a_full_queue_holds_nobody_up() {
        let (sender, queue) = mpsc::sync_channel(2);
        let journal = Journal(Some(Arc::new(Queue { sender, lost: Arc::default() })));
        (0..5).for_each(|_| note(&journal, "x"));
        assert_eq!(journal.0.as_ref().map(|queue| queue.lost.load(Ordering::Relaxed)), Some(3));
        journal.finish(PATIENCE);
        assert_eq!(queue.try_iter().count(), 2);
    }
}
