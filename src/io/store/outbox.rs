//! The outbox on disk: sled, used by the rules that make it safe. One owner; a batch counts as stored
//! after `apply_batch`, `flush` **and** our own `sync_data` on sled's file, because sled's flush does
//! not sync the file's length. Releases are lazy: a record that comes back after a power cut is sent
//! twice, with the same id.
//!
//! What a stranger gets wrong: sled never shrinks, so an empty store that has grown past the cap is
//! replaced by a new one; and sled can panic on damaged files, so it is opened inside `catch_unwind`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::StoreError;
use super::index::{Entry, Index};
use super::place::{beside, marker, put_back_unfinished_swap, quarantine, sync_folder, words_of};
use super::record::{self, Class, Stored};

/// Memory that sled may use for its pages.
const CACHE_BYTES: u64 = 16 << 20;
/// Most records, whatever their size: bounds the index in memory (24 bytes each).
const MAX_RECORDS: u64 = 1_000_000;
/// Key of the counters; longer than a sequence number, so it is never taken for a record.
const COUNTERS: &[u8] = b"wattgate-counters";

/// How often, and how long apart, a held lock is tried again.
const LOCK_TRIES: u32 = 40;
const LOCK_PAUSE: Duration = Duration::from_millis(50);
/// Numbers left out after the counters were damaged, so that none is used twice.
const LOST_COUNTERS: u64 = MAX_RECORDS;

/// How the store was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opened {
    /// There was none, and none was expected.
    New,
    /// It was there and readable.
    Found,
    /// The marker says there was one, but it is gone or empty: what it held is lost.
    Missing,
    /// It could not be read: moved aside, an empty one started.
    Quarantined(PathBuf),
}

/// Records waiting for the broker.
#[derive(Debug)]
pub struct Outbox {
    db: sled::Db,
    file: File,
    folder: PathBuf,
    index: Index,
    cap_bytes: u64,
    counters: Counters,
}

/// What is kept beside the records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counters {
    /// First sequence number never used.
    next: u64,
    dropped: u64,
    damaged: u64,
}

impl Counters {
    fn bytes(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(28);
        for value in [self.next, self.dropped, self.damaged] {
            bytes.extend_from_slice(&value.to_be_bytes());
        }
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
        bytes
    }

    fn read(bytes: &[u8]) -> Option<Counters> {
        let (values, sum) = bytes.split_at_checked(24)?;
        if crc32fast::hash(values).to_be_bytes() != *sum {
            return None;
        }
        let mut values = values.as_chunks::<8>().0.iter().map(|eight| u64::from_be_bytes(*eight));
        Some(Counters { next: values.next()?, dropped: values.next()?, damaged: values.next()? })
    }
}

impl Outbox {
    /// Opens the store in `folder`, or makes it. A damaged one is moved aside and an empty one
    /// started. Beside the folder stands a marker that tells a lost store from a new one.
    ///
    /// # Errors
    /// When the disk does not let it; never for damage.
    pub fn open(folder: &Path, cap_bytes: u64) -> Result<(Outbox, Opened), StoreError> {
        let parent = folder.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(parent)
            .map_err(|cause| StoreError::Folder { path: parent.to_owned(), cause })?;
        put_back_unfinished_swap(folder)?;
        let (marker, db_file) = (marker(folder), folder.join("db"));
        let filled = fs::metadata(&db_file).is_ok_and(|data| data.len() > 0);
        let opened = match (filled, marker.exists()) {
            (true, _) => Opened::Found,
            (false, true) => Opened::Missing,
            (false, false) => Opened::New,
        };
        let (outbox, opened) = match Outbox::open_sled(folder, cap_bytes, opened == Opened::Found) {
            Ok(outbox) => (outbox, opened),
            Err(StoreError::Damaged(why)) => {
                let aside = quarantine(folder)?;
                tracing::error!(%why, aside = %aside.display(), "the outbox is damaged: starting an empty one");
                (Outbox::open_sled(folder, cap_bytes, false)?, Opened::Quarantined(aside))
            }
            Err(other) => return Err(other),
        };
        File::create(&marker)?.sync_all()?;
        sync_folder(folder)?;
        sync_folder(parent)?;
        Ok((outbox, opened))
    }

    /// sled panics on some damage instead of saying so, and opens a file full of garbage as an empty
    /// store: one that must have counters (`used`) and has none is damaged.
    fn open_sled(folder: &Path, cap_bytes: u64, used: bool) -> Result<Outbox, StoreError> {
        let opened = std::panic::catch_unwind(|| {
            let mut outbox = Outbox::open_unguarded(folder, cap_bytes)?;
            if outbox.read_through()? || !used {
                outbox.append_batch(&[])?;
                return Ok(outbox);
            }
            Err(StoreError::Damaged("its counters are gone".to_owned()))
        });
        opened.unwrap_or_else(|panic| Err(StoreError::Damaged(words_of(panic.as_ref()))))
    }

    fn open_unguarded(folder: &Path, cap_bytes: u64) -> Result<Outbox, StoreError> {
        let settings = sled::Config::new().path(folder).cache_capacity(CACHE_BYTES);
        let mut opened = settings.open();
        // sled's own threads may hold the lock for a moment after a store was closed.
        for _ in 0..LOCK_TRIES {
            match &opened {
                Err(sled::Error::Io(cause)) if cause.to_string().contains("acquire lock") => {
                    std::thread::sleep(LOCK_PAUSE);
                    opened = settings.open();
                }
                _ => break,
            }
        }
        let db = opened?;
        let file = File::open(folder.join("db"))?;
        Ok(Outbox {
            db,
            file,
            folder: folder.to_owned(),
            index: Index::default(),
            cap_bytes,
            counters: Counters::default(),
        })
    }

    /// Fills the index; takes out what cannot be read, and counts it. Whether counters were there.
    fn read_through(&mut self) -> Result<bool, StoreError> {
        let (mut last, mut bad) = (0, sled::Batch::default());
        let mut counters = None;
        let mut damaged = 0;
        for item in self.db.iter() {
            let (key, value) = item?;
            if key == COUNTERS {
                counters = Some(Counters::read(&value));
                continue;
            }
            let seq = <[u8; 8]>::try_from(key.as_ref()).map(u64::from_be_bytes).ok();
            last = last.max(seq.unwrap_or(0));
            match seq.and_then(|seq| record::decode(seq, &value).ok()) {
                Some(stored) => self.index.push(stored.record.class, Entry::of(&stored)),
                None => {
                    bad.remove(key);
                    damaged += 1;
                }
            }
        }
        let readable = counters.flatten();
        let gap = if counters.is_some() && readable.is_none() { LOST_COUNTERS } else { 1 };
        self.counters = readable.unwrap_or_default();
        self.counters.next = self.counters.next.max(last + gap);
        if damaged > 0 {
            self.counters.damaged += damaged;
            bad.insert(COUNTERS, self.counters.bytes());
            self.db.apply_batch(bad)?;
        }
        Ok(counters.is_some())
    }

    /// Stores records, in order, and returns when they would survive a power cut. Their numbers must
    /// be above all before. At the cap the oldest of the cheapest class goes, and is counted.
    ///
    /// # Errors
    /// When the disk refuses; then none of them counts as stored.
    pub fn append_batch(&mut self, batch: &[Stored]) -> Result<(), StoreError> {
        let mut changes = sled::Batch::default();
        for stored in batch {
            changes.insert(&stored.seq.to_be_bytes(), record::encode(stored));
            self.index.push(stored.record.class, Entry::of(stored));
            self.counters.next = self.counters.next.max(stored.seq + 1);
        }
        while self.index.bytes() > self.cap_bytes || self.index.len() > MAX_RECORDS {
            let Some(first) = self.index.first_to_go() else { break };
            self.index.remove(first.seq);
            changes.remove(&first.seq.to_be_bytes());
            self.counters.dropped += 1;
        }
        changes.insert(COUNTERS, self.counters.bytes());
        self.db.apply_batch(changes)?;
        self.sync()
    }

    /// Makes everything so far survive a power cut.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn sync(&self) -> Result<(), StoreError> {
        self.db.flush()?;
        self.file.sync_data()?;
        Ok(())
    }

    /// At most `most` records of a class from the number `from` on. A damaged one is taken out,
    /// counted and skipped.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub fn peek_from(
        &mut self,
        class: Class,
        from: u64,
        most: usize,
    ) -> Result<Vec<Stored>, StoreError> {
        let numbers: Vec<u64> = self.index.from(class, from).take(most).collect();
        let mut found = Vec::with_capacity(numbers.len());
        for seq in numbers {
            let value = self.db.get(seq.to_be_bytes())?;
            match value.and_then(|value| record::decode(seq, &value).ok()) {
                Some(stored) => found.push(stored),
                None => {
                    self.index.remove(seq);
                    self.counters.damaged += 1;
                    self.db.remove(seq.to_be_bytes())?;
                }
            }
        }
        Ok(found)
    }

    /// Takes out records that the broker has acknowledged. Not synced: the worst is a duplicate.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn release(&mut self, seqs: &[u64]) -> Result<(), StoreError> {
        let mut changes = sled::Batch::default();
        for seq in seqs {
            if self.index.remove(*seq).is_some() {
                changes.remove(&seq.to_be_bytes());
            }
        }
        self.db.apply_batch(changes)?;
        Ok(())
    }

    /// Replaces an empty store that has grown past the cap, since sled never gives space back.
    ///
    /// # Errors
    /// When the disk refuses; the store must then be opened again.
    pub fn shrink_if_empty(self) -> Result<Outbox, StoreError> {
        if self.index.len() > 0 || self.db.size_on_disk()? <= self.cap_bytes {
            return Ok(self);
        }
        let Outbox { db, file, folder, cap_bytes, counters, .. } = self;
        drop((db, file));
        let old = beside(&folder, "old");
        fs::rename(&folder, &old)?;
        let mut fresh = Outbox::open_sled(&folder, cap_bytes, false)?;
        fresh.counters = counters;
        fresh.append_batch(&[])?;
        sync_folder(&folder)?;
        sync_folder(folder.parent().unwrap_or(Path::new(".")))?;
        fs::remove_dir_all(&old)?;
        Ok(fresh)
    }

    /// Records held.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.index.len()
    }

    /// Whether nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes held, topics and heads included.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.index.bytes()
    }

    /// First sequence number that was never used.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.counters.next
    }

    /// Records dropped at the cap, and damaged ones skipped, since the store was made.
    #[must_use]
    pub fn losses(&self) -> (u64, u64) {
        (self.counters.dropped, self.counters.damaged)
    }

    pub(super) fn oldest_ms(&self) -> Option<i64> {
        self.index.oldest_ms()
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::sample;
    use super::*;

    const CAP: u64 = 1 << 20;

    fn seqs(outbox: &mut Outbox, class: Class, from: u64) -> Vec<u64> {
        let found = outbox.peek_from(class, from, 1000).unwrap();
        found.iter().map(|stored| stored.seq).collect()
    }

    fn batch(seqs: std::ops::Range<u64>, class: Class) -> Vec<Stored> {
        seqs.map(|seq| sample(seq, class)).collect()
    }

    #[test]
    fn what_was_appended_survives_and_what_was_released_does_not() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("outbox");
        let (mut outbox, opened) = Outbox::open(&folder, CAP).unwrap();
        assert_eq!(opened, Opened::New);
        outbox.append_batch(&batch(1..11, Class::C)).unwrap();
        outbox.append_batch(&batch(11..13, Class::A)).unwrap();
        outbox.release(&[1, 3, 99]).unwrap();
        outbox.sync().unwrap();
        drop(outbox);
        let (mut outbox, opened) = Outbox::open(&folder, CAP).unwrap();
        assert_eq!(opened, Opened::Found);
        assert_eq!(seqs(&mut outbox, Class::C, 0), [2, 4, 5, 6, 7, 8, 9, 10]);
        assert_eq!(seqs(&mut outbox, Class::C, 9), [9, 10]);
        assert_eq!(outbox.peek_from(Class::A, 0, 1).unwrap(), [sample(11, Class::A)]);
        assert_eq!((outbox.len(), outbox.next()), (10, 13));
        assert!(outbox.bytes() > 0);
    }

    #[test]
    fn numbers_are_not_used_again_after_everything_was_released() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("outbox");
        let (mut outbox, _) = Outbox::open(&folder, CAP).unwrap();
        outbox.append_batch(&batch(1..6, Class::C)).unwrap();
        outbox.release(&[1, 2, 3, 4, 5]).unwrap();
        drop(outbox);
        let (outbox, _) = Outbox::open(&folder, CAP).unwrap();
        assert!(outbox.is_empty());
        assert_eq!(outbox.next(), 6);
    }

    #[test]
    fn at_the_cap_the_oldest_telemetry_goes_and_is_counted() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("outbox");
        let cap = sample(100, Class::C).record.size() * 10;
        let (mut outbox, _) = Outbox::open(&folder, cap).unwrap();
        outbox.append_batch(&batch(100..105, Class::A)).unwrap();
        outbox.append_batch(&batch(105..115, Class::C)).unwrap();
        assert_eq!(seqs(&mut outbox, Class::A, 0), [100, 101, 102, 103, 104]);
        assert_eq!(seqs(&mut outbox, Class::C, 0), [110, 111, 112, 113, 114]);
        assert_eq!(outbox.losses(), (5, 0));
        drop(outbox);
        let (outbox, _) = Outbox::open(&folder, cap).unwrap();
        assert_eq!((outbox.len(), outbox.losses()), (10, (5, 0)));
    }

    #[test]
    fn a_damaged_record_is_counted_and_skipped() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("outbox");
        let (mut outbox, _) = Outbox::open(&folder, CAP).unwrap();
        outbox.append_batch(&batch(1..6, Class::C)).unwrap();
        for (seq, position) in [(2u64, 3), (4, 20)] {
            let mut bytes = outbox.db.get(seq.to_be_bytes()).unwrap().unwrap().to_vec();
            bytes[position] ^= 4;
            outbox.db.insert(seq.to_be_bytes(), bytes).unwrap();
        }
        assert_eq!(seqs(&mut outbox, Class::C, 3), [3, 5]);
        drop(outbox);
        let (mut outbox, opened) = Outbox::open(&folder, CAP).unwrap();
        assert_eq!(opened, Opened::Found);
        assert_eq!(seqs(&mut outbox, Class::C, 0), [1, 3, 5]);
        assert!(outbox.losses().1 >= 1);
    }

    #[test]
    fn garbage_is_moved_aside_and_a_lost_store_is_noticed() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("outbox");
        let (mut outbox, _) = Outbox::open(&folder, CAP).unwrap();
        outbox.append_batch(&batch(1..200, Class::C)).unwrap();
        drop(outbox);
        let mut random = fastrand::Rng::with_seed(7);
        let garbage: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(1 << 20).collect();
        fs::write(folder.join("db"), &garbage).unwrap();
        let (mut outbox, opened) = Outbox::open(&folder, CAP).unwrap();
        let Opened::Quarantined(aside) = opened else { panic!("{opened:?}") };
        assert!(aside.join("db").exists());
        outbox.append_batch(&batch(1..3, Class::C)).unwrap();
        drop(outbox);
        fs::remove_dir_all(&folder).unwrap();
        let (_outbox, opened) = Outbox::open(&folder, CAP).unwrap();
        assert_eq!(opened, Opened::Missing);
    }

    #[test]
    fn an_empty_store_that_grew_is_replaced() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("outbox");
        let (mut outbox, _) = Outbox::open(&folder, 10_000).unwrap();
        outbox.append_batch(&batch(1..50, Class::C)).unwrap();
        outbox.release(&(1..50).collect::<Vec<_>>()).unwrap();
        outbox.cap_bytes = 1; // sled takes 512 KiB at once
        let mut outbox = outbox.shrink_if_empty().unwrap();
        assert_eq!((outbox.len(), outbox.next()), (0, 50));
        assert!(!beside(&folder, "old").exists());
        outbox.cap_bytes = 10_000;
        outbox.append_batch(&batch(50..52, Class::C)).unwrap();
        drop(outbox);
        let (mut outbox, opened) = Outbox::open(&folder, 10_000).unwrap();
        assert_eq!((opened, seqs(&mut outbox, Class::C, 0)), (Opened::Found, vec![50, 51]));
    }
}
