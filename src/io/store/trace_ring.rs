//! The last 24 hours of traces in a folder: a file for each hour, the oldest go first. A thread of its
//! own writes them; whoever decides never waits for the disk.
//!
//! What a stranger gets wrong: a full channel loses lines, and the trace then says so (`Gap`); a replay
//! across a gap, or from the middle of a run, cannot be held to the same decisions.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::trace::{Head, Line, TraceWriter};
use crate::units::Moment;

/// Lines that may wait for the disk.
const WAITING: usize = 4096;
/// A new file begins so often, of site time.
const PART: Duration = Duration::from_secs(3600);
/// Files that are kept: 24 whole hours and the running one.
const PARTS: usize = 25;
/// All files together; beyond, the oldest go before their time.
const MOST_BYTES: u64 = 512 << 20;
/// What is held back reaches the disk after so long.
const FLUSHED_IN: Duration = Duration::from_secs(5);

/// The way to the thread.
pub struct TraceRing {
    lines: SyncSender<Line>,
    lost: u64,
    thread: Option<JoinHandle<()>>,
}

impl TraceRing {
    /// Starts a run's trace in `folder`.
    ///
    /// # Errors
    /// When the folder cannot be used or the thread cannot start.
    pub fn start(folder: &Path, head: Head) -> io::Result<TraceRing> {
        fs::create_dir_all(folder)?;
        let run = head.started.utc.format("%Y%m%dT%H%M%SZ").to_string();
        let mut keeper =
            Keeper { folder: folder.to_owned(), run, since: head.started, head, writer: None };
        keeper.begin_part()?;
        let (lines, inbox) = sync_channel(WAITING);
        let thread = std::thread::Builder::new()
            .name("trace".to_owned())
            .spawn(move || keeper.keep(&inbox))?;
        Ok(TraceRing { lines, lost: 0, thread: Some(thread) })
    }

    /// Hands a line over; it is lost, and counted, when the disk is too slow.
    pub fn append(&mut self, line: Line) {
        if self.lost > 0 && self.lines.try_send(Line::Gap(self.lost)).is_ok() {
            self.lost = 0;
        }
        if self.lost > 0 || self.lines.try_send(line).is_err() {
            self.lost += 1;
        }
    }
}

impl Drop for TraceRing {
    /// Writes what was handed over.
    fn drop(&mut self) {
        let (closed, _) = sync_channel(0);
        drop(std::mem::replace(&mut self.lines, closed));
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the trace's thread ended by a panic");
        }
    }
}

struct Keeper {
    folder: PathBuf,
    run: String,
    since: Moment,
    head: Head,
    writer: Option<TraceWriter>,
}

impl Keeper {
    fn keep(mut self, inbox: &Receiver<Line>) {
        loop {
            let done = match inbox.recv_timeout(FLUSHED_IN) {
                Ok(line) => self.take(&line),
                Err(RecvTimeoutError::Timeout) => self.flush(),
                Err(RecvTimeoutError::Disconnected) => break,
            };
            if let Err(cause) = done {
                tracing::warn!(%cause, folder = %self.folder.display(), "the trace cannot be written");
                self.writer = None;
            }
        }
        if let Err(cause) = self.flush() {
            tracing::warn!(%cause, "the end of the trace could not be written");
        }
    }

    fn take(&mut self, line: &Line) -> io::Result<()> {
        if let Line::Ticked { at, .. } = line
            && self.since.age_at(*at) >= PART
        {
            self.flush()?;
            self.since = *at;
            self.head.part += 1;
            self.begin_part()?;
        }
        match &mut self.writer {
            Some(writer) => writer.append(line),
            None => Ok(()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.as_mut().map_or(Ok(()), TraceWriter::flush)
    }

    fn begin_part(&mut self) -> io::Result<()> {
        let name = format!("{}-{:05}.trace", self.run, self.head.part);
        self.writer = Some(TraceWriter::create(&self.folder.join(name), self.head.clone())?);
        self.forget_oldest()
    }

    fn forget_oldest(&self) -> io::Result<()> {
        let files = parts(&self.folder)?;
        let size = |path: &PathBuf| fs::metadata(path).map_or(0, |data| data.len());
        let mut bytes: u64 = files.iter().map(size).sum();
        let mut count = files.len();
        for file in &files {
            if count <= 1 || (count <= PARTS && bytes <= MOST_BYTES) {
                break;
            }
            bytes -= size(file).min(bytes);
            count -= 1;
            fs::remove_file(file)?;
        }
        Ok(())
    }
}

/// The trace files of a folder, oldest first.
///
/// # Errors
/// When the folder cannot be read.
pub fn parts(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries: io::Result<Vec<_>> = fs::read_dir(folder)?.collect();
    let mut files: Vec<PathBuf> = entries?.into_iter().map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|e| e == "trace"));
    files.sort();
    Ok(files)
}
