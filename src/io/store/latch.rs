//! What must survive anything: latched zones and the alarms behind them, in two small files of their
//! own (`latch.a`, `latch.b`), outside the outbox and its database.
//!
//! ```text
//!   wattgate-latch 1 <number of the write> <CRC-32 of the rest, hex>
//!   {"zones": ..., "alarms": ...}
//! ```
//! What a stranger gets wrong: a file that is missing where a latch was once installed, or that cannot
//! be believed, is not "nothing latched". Unless the other copy is whole, the site counts as tripped.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::whole::replace;
use crate::logic::decision::Latched;

const COPIES: [&str; 2] = ["latch.a", "latch.b"];
const INSTALLED: &str = "latch.installed";
const MAGIC: &str = "wattgate-latch 1";
/// A latch is a few hundred bytes; anything above is not ours.
const MOST_BYTES: u64 = 1 << 20;

/// What was found at start.
#[derive(Clone, Debug, PartialEq)]
pub enum Remembered {
    /// No latch was ever installed in this state folder: a new site.
    Nothing,
    /// What was latched.
    Latched(Latched),
    /// There should be a latch and none can be believed: tripped.
    Unreadable,
}

/// The latch of one state folder.
#[derive(Debug)]
pub struct Latch {
    folder: PathBuf,
    number: u64,
}

impl Latch {
    /// Reads what was latched.
    #[must_use]
    pub fn open(folder: &Path) -> (Latch, Remembered) {
        let copies = COPIES.map(|name| read(&folder.join(name)));
        let newest = copies.iter().flatten().max_by_key(|(number, _)| *number);
        let touched = COPIES.iter().any(|name| folder.join(name).exists());
        let remembered = match newest {
            Some((_, latched)) => Remembered::Latched(latched.clone()),
            None if touched || folder.join(INSTALLED).exists() => Remembered::Unreadable,
            None => Remembered::Nothing,
        };
        let number = newest.map_or(0, |(number, _)| *number);
        (Latch { folder: folder.to_owned(), number }, remembered)
    }

    /// Writes both copies, one after the other, each on disk before the next is touched.
    ///
    /// # Errors
    /// When the disk refuses; the copy that was not reached holds what it held before.
    pub fn write(&mut self, latched: &Latched) -> io::Result<()> {
        self.number += 1;
        let body = serde_json::to_vec(latched).map_err(io::Error::other)?;
        let sum = crc32fast::hash(&body);
        let mut text = format!("{MAGIC} {} {sum:08x}\n", self.number).into_bytes();
        text.extend(body);
        for name in COPIES {
            replace(&self.folder, name, &text)?;
        }
        if !self.folder.join(INSTALLED).exists() {
            replace(&self.folder, INSTALLED, b"a latch was installed here\n")?;
        }
        Ok(())
    }
}

fn read(path: &Path) -> Option<(u64, Latched)> {
    if fs::metadata(path).ok()?.len() > MOST_BYTES {
        return None;
    }
    let bytes = fs::read(path).ok()?;
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let (header, body) = (std::str::from_utf8(&bytes[..end]).ok()?, &bytes[end + 1..]);
    let (number, sum) = header.strip_prefix(MAGIC)?.trim_start().split_once(' ')?;
    let believed = u32::from_str_radix(sum, 16).ok()? == crc32fast::hash(body);
    let latched = believed.then(|| serde_json::from_slice(body).ok()).flatten()?;
    Some((number.parse().ok()?, latched))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::safety::fire::{LatchedZone, Level};
    use crate::logic::site::Id;

    fn burning() -> Latched {
        let since = chrono::DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        let zone = LatchedZone { level: Level::Alarm, since, isolate: true, feeder: false };
        let zones = [(Id::try_from("row").unwrap(), zone)].into();
        Latched { zones, ..Latched::default() }
    }

    #[test]
    fn what_was_latched_is_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let (mut latch, found) = Latch::open(folder.path());
        assert_eq!(found, Remembered::Nothing);
        latch.write(&Latched::default()).unwrap();
        latch.write(&burning()).unwrap();
        assert_eq!(Latch::open(folder.path()).1, Remembered::Latched(burning()));
    }

    #[test]
    fn one_damaged_copy_is_enough_and_two_are_a_trip() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (folder.path().join("latch.a"), folder.path().join("latch.b"));
        let (mut latch, _) = Latch::open(folder.path());
        latch.write(&burning()).unwrap();
        let whole = fs::read(&a).unwrap();
        for bit in 0..whole.len() * 8 {
            let mut damaged = whole.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            fs::write(&a, &damaged).unwrap();
            let one = Latch::open(folder.path()).1;
            assert_eq!(one, Remembered::Latched(burning()), "bit {bit}");
        }
        for length in 0..whole.len() {
            fs::write(&a, &whole[..length]).unwrap();
            fs::write(&b, b"").unwrap();
            assert_eq!(Latch::open(folder.path()).1, Remembered::Unreadable, "cut to {length}");
        }
        fs::remove_file(&a).unwrap();
        fs::remove_file(&b).unwrap();
        assert_eq!(Latch::open(folder.path()).1, Remembered::Unreadable, "only the marker is left");
    }

    #[test]
    fn a_write_that_reached_one_copy_only_counts() {
        let folder = tempfile::tempdir().unwrap();
        let (mut latch, _) = Latch::open(folder.path());
        latch.write(&Latched::default()).unwrap();
        let old = fs::read(folder.path().join("latch.b")).unwrap();
        latch.write(&burning()).unwrap();
        fs::write(folder.path().join("latch.b"), old).unwrap();
        assert_eq!(Latch::open(folder.path()).1, Remembered::Latched(burning()));
    }
}
