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
        let mut keeper = Keeper {
            folder: folder.to_owned(),
            run,
            since: head.started,
            head,
            writer: None,
            lost: 0,
        };
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
    /// Lines that found no file since one broke.
    lost: u64,
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
            None => {
                self.lost += 1;
                Ok(())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.as_mut().map_or(Ok(()), TraceWriter::flush)
    }

    fn begin_part(&mut self) -> io::Result<()> {
        let name = format!("{}-{:05}.trace", self.run, self.head.part);
        let file = self.folder.join(name);
        let writer = self.writer.insert(TraceWriter::create(&file, self.head.clone())?);
        if self.lost > 0 {
            writer.append(&Line::Gap(std::mem::take(&mut self.lost)))?;
        }
        self.forget_oldest(&file)
    }

    /// Never the one just begun: a clock that stands wrong may have given it the oldest name.
    fn forget_oldest(&self, begun: &Path) -> io::Result<()> {
        let mut files = parts(&self.folder)?;
        files.sort_by_key(|file| file == begun);
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

#[cfg(test)]
mod tests {
    use super::super::trace::{TraceReader, site_hash};
    use super::*;
    use crate::logic::decision::Latched;
    use crate::logic::observation::{Observation, Trouble};
    use crate::logic::site::{GridLimits, Id, LEAST_EACH, Mode, Site};
    use crate::units::{Amps, PerPhase, Volts};

    fn site() -> Site {
        Site {
            id: Id::try_from("s").unwrap(),
            name: "s".into(),
            mode: Mode::Observe,
            limits: GridLimits {
                limit: PerPhase::all(Amps(1.0 / 3.0)),
                breaker: Amps(40.0),
                nominal_voltage: Volts(230.0),
                max_base_load: Amps(0.1),
                power: None,
                unbalance: None,
                demand: None,
                dimmed_least: LEAST_EACH,
                export: None,
            },
            meter: Id::try_from("grid").unwrap(),
            chargers: Vec::new(),
            batteries: Vec::new(),
            computes: Vec::new(),
            pvs: Vec::new(),
            inverters: Vec::new(),
            bays: Vec::new(),
            zones: Vec::new(),
            cameras: Vec::new(),
            tariff: None,
            guard: crate::logic::site::Guard::default(),
            work: Default::default(),
            circuits: Vec::new(),
        }
    }

    fn second(s: u64) -> Moment {
        let utc = chrono::DateTime::from_timestamp(1_780_000_000, 0).unwrap();
        Moment { uptime: Duration::from_secs(5), utc }.after(Duration::from_secs(s))
    }

    fn head() -> Head {
        Head {
            site_hash: site_hash(&site()),
            site: site(),
            latched: Latched::default(),
            jobs: Default::default(),
            started: second(0),
            vision_pace: 1.0,
            part: 0,
        }
    }

    fn lines(seconds: u64) -> Vec<Line> {
        let heard = |s| Observation::Trouble {
            trouble: Trouble::BrokerDown,
            holds: s % 2 == 0,
            at: second(s),
        };
        let pair = |s| [Line::Heard(heard(s)), Line::Ticked { at: second(s), digest: s as u32 }];
        (0..seconds).flat_map(pair).collect()
    }

    #[test]
    fn a_trace_is_read_as_it_was_written_and_a_torn_end_is_only_an_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.trace");
        let mut writer = TraceWriter::create(&path, head()).unwrap();
        for line in lines(3000) {
            writer.append(&line).unwrap();
        }
        writer.flush().unwrap();
        let mut reader = TraceReader::open(&path).unwrap();
        let all: Vec<Line> = (&mut reader).collect();
        assert!(!reader.is_torn());
        assert_eq!(all[0], Line::Head(Box::new(head())));
        assert_eq!(all[1..], lines(3000));
        let bytes = fs::read(&path).unwrap();
        assert_eq!(bytes.len() as u64, writer.written());
        let mut rng = fastrand::Rng::with_seed(3);
        for _ in 0..60 {
            let mut damaged = bytes.clone();
            let place = rng.usize(17..bytes.len());
            if rng.bool() {
                damaged.truncate(place)
            } else {
                damaged[place] ^= 1 << rng.u8(0..8)
            }
            fs::write(&path, &damaged).unwrap();
            let mut reader = TraceReader::open(&path).unwrap();
            let read: Vec<Line> = (&mut reader).collect();
            assert!(read.len() < all.len() || damaged == bytes, "damage at {place} went unseen");
            assert_eq!(read[..], all[..read.len()], "damage at {place} changed a line");
        }
        fs::write(&path, b"something else").unwrap();
        assert!(TraceReader::open(&path).is_err());
    }

    #[test]
    fn the_ring_keeps_a_day_in_hours() {
        let folder = tempfile::tempdir().unwrap();
        let mut keeper = Keeper {
            folder: folder.path().to_owned(),
            run: "r".into(),
            since: second(0),
            head: head(),
            writer: None,
            lost: 0,
        };
        keeper.begin_part().unwrap();
        for minute in 0..30 * 60 {
            keeper.take(&Line::Ticked { at: second(minute * 60), digest: 0 }).unwrap();
        }
        keeper.flush().unwrap();
        let files = parts(folder.path()).unwrap();
        assert_eq!(files.len(), PARTS);
        let first = |path: &PathBuf| match TraceReader::open(path).unwrap().next() {
            Some(Line::Head(head)) => head.part,
            other => panic!("{other:?}"),
        };
        assert_eq!((first(&files[0]), first(&files[PARTS - 1])), (5, 29));
    }
}
