//! The book of jobs on disk (`jobs`): written anew as a whole, flushed, then put in the place of the old.
//!
//! ```text
//!   wattgate-jobs 1 <CRC-32 of the rest, hex>
//!   {"jobs": [...], "spent": ..., "accounts": ...}
//! ```
//! What a stranger gets wrong: a book that cannot be believed is no reason to stop. It is set aside for
//! whoever wants to look, and jobs have to be asked for again.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::whole::replace;
use crate::logic::compute::JobBook;

const NAME: &str = "jobs";
const MAGIC: &str = "wattgate-jobs 1";
/// A full book is some ten kilobytes; anything above is not ours.
const MOST_BYTES: u64 = 4 << 20;

fn place(folder: &Path) -> PathBuf {
    folder.join(NAME)
}

/// The book as it was kept; an empty one where there is none.
///
/// # Errors
/// When what is there cannot be believed; it was set aside as `jobs.damaged`.
pub fn read_book(folder: &Path) -> io::Result<JobBook> {
    let path = place(folder);
    let length = match fs::metadata(&path) {
        Ok(found) => found.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(JobBook::default()),
        Err(error) => return Err(error),
    };
    let believed = (length <= MOST_BYTES).then(|| fs::read(&path).ok()).flatten();
    let book = believed.and_then(|bytes| {
        let end = bytes.iter().position(|byte| *byte == b'\n')?;
        let sum = std::str::from_utf8(&bytes[..end]).ok()?.strip_prefix(MAGIC)?.trim();
        let whole = u32::from_str_radix(sum, 16).ok()? == crc32fast::hash(&bytes[end + 1..]);
        whole.then(|| serde_json::from_slice(&bytes[end + 1..]).ok()).flatten()
    });
    book.ok_or_else(|| {
        let _ = fs::rename(&path, folder.join("jobs.damaged"));
        io::Error::new(io::ErrorKind::InvalidData, "the book of jobs is damaged: set aside")
    })
}

/// Keeps the book.
///
/// # Errors
/// When the disk refuses; what was kept before is still there then.
pub fn write_book(folder: &Path, book: &JobBook) -> io::Result<()> {
    let body = serde_json::to_vec(book).map_err(io::Error::other)?;
    let mut text = format!("{MAGIC} {:08x}\n", crc32fast::hash(&body)).into_bytes();
    text.extend(body);
    replace(folder, NAME, &text)
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
        let whole = fs::read(place(folder.path())).unwrap();
        for bit in 0..whole.len() * 8 {
            let mut damaged = whole.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            fs::write(place(folder.path()), &damaged).unwrap();
            // A capital letter in the sum is the same sum.
            if let Ok(read) = read_book(folder.path()) {
                assert_eq!(read, JobBook::default(), "bit {bit}");
            }
        }
        fs::write(place(folder.path()), &whole[..whole.len() / 2]).unwrap();
        assert!(read_book(folder.path()).is_err());
        assert!(folder.path().join("jobs.damaged").exists());
    }
}
