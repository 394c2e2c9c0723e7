//! The book of jobs (`jobs`) and the daybook (`days`) on disk: each is written anew as a whole, flushed,
//! then put in the place of the old.
//!
//! ```text
//!   wattgate-jobs 1 <CRC-32 of the rest, hex>
//!   {"jobs": [...], "spent": ..., "accounts": ...}
//! ```
//! What a stranger gets wrong: a book that cannot be believed is no reason to stop. It is set aside for
//! whoever wants to look, jobs have to be asked for again, and energy is counted from zero.

use std::fs;
use std::io;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::whole::replace;
use crate::logic::compute::JobBook;
use crate::logic::site::Daybook;

/// A full book is some ten kilobytes; anything above is not ours.
const MOST_BYTES: u64 = 4 << 20;

/// A kind of book.
struct Kind {
    name: &'static str,
    magic: &'static str,
}

const JOBS: Kind = Kind { name: "jobs", magic: "wattgate-jobs 1" };
const DAYS: Kind = Kind { name: "days", magic: "wattgate-days 1" };

/// The book of jobs as it was kept; an empty one where there is none.
///
/// # Errors
/// When what is there cannot be believed; it was set aside as `jobs.damaged`.
pub fn read_book(folder: &Path) -> io::Result<JobBook> {
    read(folder, &JOBS).inspect_err(|_| set_aside(folder, &JOBS))
}

/// The daybook as it was kept; an empty one where there is none.
///
/// # Errors
/// When what is there cannot be believed; it was set aside as `days.damaged`.
pub fn read_days(folder: &Path) -> io::Result<Daybook> {
    read(folder, &DAYS).inspect_err(|_| set_aside(folder, &DAYS))
}

/// Both books as a running gateway has kept them last; nothing is set aside.
///
/// # Errors
/// When what is there cannot be believed.
pub fn look_into_books(folder: &Path) -> io::Result<(JobBook, Daybook)> {
    Ok((read(folder, &JOBS)?, read(folder, &DAYS)?))
}

/// Keeps the book of jobs.
///
/// # Errors
/// When the disk refuses; what was kept before is still there then.
pub fn write_book(folder: &Path, book: &JobBook) -> io::Result<()> {
    write(folder, &JOBS, book)
}

/// Keeps the daybook.
///
/// # Errors
/// When the disk refuses; what was kept before is still there then.
pub fn write_days(folder: &Path, book: &Daybook) -> io::Result<()> {
    write(folder, &DAYS, book)
}

fn read<T: Default + DeserializeOwned>(folder: &Path, kind: &Kind) -> io::Result<T> {
    let path = folder.join(kind.name);
    let length = match fs::metadata(&path) {
        Ok(found) => found.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(T::default()),
        Err(error) => return Err(error),
    };
    let believed = (length <= MOST_BYTES).then(|| fs::read(&path).ok()).flatten();
    let book = believed.and_then(|bytes| {
        let end = bytes.iter().position(|byte| *byte == b'\n')?;
        let sum = std::str::from_utf8(&bytes[..end]).ok()?.strip_prefix(kind.magic)?.trim();
        let whole = u32::from_str_radix(sum, 16).ok()? == crc32fast::hash(&bytes[end + 1..]);
        whole.then(|| serde_json::from_slice(&bytes[end + 1..]).ok()).flatten()
    });
    book.ok_or_else(|| {
        let why = format!("{}: the book is damaged", path.display());
        io::Error::new(io::ErrorKind::InvalidData, why)
    })
}

fn set_aside(folder: &Path, kind: &Kind) {
    let _ = fs::rename(folder.join(kind.name), folder.join(format!("{}.damaged", kind.name)));
}

fn write(folder: &Path, kind: &Kind, book: &impl Serialize) -> io::Result<()> {
    let body = serde_json::to_vec(book).map_err(io::Error::other)?;
    let mut text = format!("{} {:08x}\n", kind.magic, crc32fast::hash(&body)).into_bytes();
    text.extend(body);
    replace(folder, kind.name, &text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_book_is_found_again_and_a_damaged_one_is_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read_book(folder.path()).unwrap(), JobBook::default());
        write_book(folder.path(), &JobBook::default()).unwrap();
        assert_eq!(read_book(folder.path()).unwrap(), JobBook::default());
        let whole = fs::read(folder.path().join("jobs")).unwrap();
        for bit in 0..whole.len() * 8 {
            let mut damaged = whole.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            fs::write(folder.path().join("jobs"), &damaged).unwrap();
            // A capital letter in the sum is the same sum.
            if let Ok(read) = read_book(folder.path()) {
                assert_eq!(read, JobBook::default(), "bit {bit}");
            }
        }
        fs::write(folder.path().join("jobs"), &whole[..whole.len() / 2]).unwrap();
        assert!(read_book(folder.path()).is_err());
        assert!(folder.path().join("jobs.damaged").exists());
    }

    #[test]
    fn a_daybook_comes_back_as_it_was_and_a_look_sets_nothing_aside() {
        let folder = tempfile::tempdir().unwrap();
        let mut days = Daybook::default();
        let now = "2026-05-04T10:00:00Z".parse().unwrap();
        let pv = days.flows.entry(crate::logic::site::Flow::Pv).or_default();
        pv.add(crate::units::WattHours(0.1 + 0.2), now);
        days.see_alarms([("device_lost", "grid", now)].into_iter(), now);
        write_days(folder.path(), &days).unwrap();
        assert_eq!(read_days(folder.path()).unwrap(), days);
        assert_eq!(look_into_books(folder.path()).unwrap(), (JobBook::default(), days));
        let path = folder.path().join("days");
        let text = fs::read_to_string(&path).unwrap().replace("grid", "mesh");
        fs::write(&path, text).unwrap();
        assert!(look_into_books(folder.path()).is_err() && path.exists());
        assert!(read_days(folder.path()).is_err() && !path.exists());
        assert!(folder.path().join("days.damaged").exists());
    }
}
