//! Training sets: folders of copied pictures with a manifest, in the state folder (`training/TIME`). A set is there
//! whole or not at all.
//!
//! What a stranger gets wrong: nothing takes a set away from the device by itself; a person does. The newest few are
//! kept, each below a bound, and none where the disk has little left.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use chrono::{DateTime, NaiveDateTime, Utc};

use super::evidence::{LEAST_FREE, free};
use super::whole::replace;

/// Folder of them, in the state folder.
const FOLDER: &str = "training";
/// Sets that are kept.
const MOST_SETS: usize = 3;
/// What the pictures of one may take, bytes.
const MOST_BYTES: u64 = 64 << 20;
/// What says what is in it.
const MANIFEST: &str = "manifest.json";
/// Name of one: when it was made.
const TIME: &str = "%Y%m%dT%H%M%SZ";
/// One that is being made, or was when the power went.
const HALF: &str = ".half";

/// A set in the making.
#[derive(Debug)]
pub struct TrainingSet {
    folder: PathBuf,
    name: String,
    bytes: u64,
    most_bytes: u64,
}

impl TrainingSet {
    /// Begins one; what was left half made is removed. Whoever begins one sees to it that no other is in the making.
    ///
    /// # Errors
    /// When the disk refuses, or there is one of that time.
    pub fn begin(state: &Path, at: DateTime<Utc>) -> io::Result<TrainingSet> {
        let (folder, name) = (state.join(FOLDER), at.format(TIME).to_string());
        match fs::remove_dir_all(folder.join(HALF)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        if folder.join(&name).exists() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        fs::create_dir_all(folder.join(HALF))?;
        Ok(TrainingSet { folder, name, bytes: 0, most_bytes: MOST_BYTES })
    }

    /// Puts a picture in, under a plain name. Whether there was room: for another one there may be.
    ///
    /// # Errors
    /// When the disk refuses, or has too little left for anything but what the gateway needs.
    pub fn put(&mut self, name: &str, jpeg: &[u8]) -> io::Result<bool> {
        let size = jpeg.len() as u64;
        if self.bytes + size > self.most_bytes {
            return Ok(false);
        }
        let half = self.folder.join(HALF);
        if free(&half)? < LEAST_FREE.saturating_add(size) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        fs::write(half.join(plain(name)?), jpeg)?;
        self.bytes += size;
        Ok(true)
    }

    /// Makes it whole, and removes the oldest ones; where it is.
    ///
    /// # Errors
    /// When the disk refuses; there is no such set then.
    pub fn finish(self, manifest: &[u8]) -> io::Result<PathBuf> {
        let (half, whole) = (self.folder.join(HALF), self.folder.join(&self.name));
        replace(&half, MANIFEST, manifest)?;
        fs::rename(&half, &whole)?;
        fs::File::open(&self.folder)?.sync_all()?;
        let mut sets = sets(&self.folder)?;
        sets.sort();
        for old in sets.iter().take(sets.len().saturating_sub(MOST_SETS)) {
            fs::remove_dir_all(self.folder.join(old))?;
        }
        Ok(whole)
    }
}

/// Names of ours; what has another is a person's.
fn sets(folder: &Path) -> io::Result<Vec<String>> {
    let names = fs::read_dir(folder)?.flatten().map(|entry| entry.file_name());
    let names = names.filter_map(|name| name.into_string().ok());
    Ok(names.filter(|name| NaiveDateTime::parse_from_str(name, TIME).is_ok()).collect())
}

/// A name that leads nowhere else.
fn plain(name: &str) -> io::Result<&str> {
    let leads = name.contains(['/', '\0']) || name.starts_with('.') || name.is_empty();
    if leads { Err(io::ErrorKind::InvalidInput.into()) } else { Ok(name) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_777_888_800 + second, 0).unwrap()
    }

    #[test]
    fn a_set_is_whole_or_not_there_and_the_newest_few_are_kept() {
        let state = tempfile::tempdir().unwrap();
        let folder = state.path().join(FOLDER);
        for second in 0..5 {
            // One that was cut off.
            TrainingSet::begin(state.path(), at(100)).unwrap().put("lost.jpg", b"x").unwrap();
            let mut set = TrainingSet::begin(state.path(), at(second)).unwrap();
            assert!(set.put("a.jpg", b"picture").unwrap());
            set.most_bytes = 10;
            assert!(!set.put("b.jpg", b"four").unwrap() && set.put("c.jpg", b"six").unwrap());
            for name in ["../b.jpg", "", ".b", "x/y"] {
                assert!(set.put(name, b"").is_err(), "{name}");
            }
            fs::write(folder.join("notes"), "a person's").unwrap();
            let place = set.finish(b"{}").unwrap();
            let names = fs::read_dir(&place).unwrap().map(|entry| entry.unwrap().file_name());
            let mut names: Vec<_> = names.collect();
            names.sort();
            assert_eq!(names, ["a.jpg", "c.jpg", "manifest.json"]);
        }
        let mut left = sets(&folder).unwrap();
        left.sort();
        assert_eq!(left, [2, 3, 4].map(|second| at(second).format(TIME).to_string()));
        assert!(folder.join("notes").exists() && !folder.join(HALF).exists());
        assert!(TrainingSet::begin(state.path(), at(4)).is_err(), "there is one");
    }
}
