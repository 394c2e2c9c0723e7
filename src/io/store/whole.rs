//! A small file written whole or not at all: anew beside the old one, flushed, then put in its place, and
//! the folder flushed so that a power cut does not bring the old one back.
//!
//! What a stranger gets wrong: after an error the old file is still there and nothing lies beside it; after a power
//! cut there may be a half one with `.new` behind its name.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// Puts `bytes` into the place of `folder/name`.
///
/// # Errors
/// When the disk refuses; what was there before is still there then.
pub fn replace(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let fresh = folder.join(format!("{name}.new"));
    let written = File::create(&fresh)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&fresh, folder.join(name)));
    if written.is_err() {
        let _ = fs::remove_file(&fresh);
    }
    written?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_put_in_its_place_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        replace(folder.path(), "a", b"1").unwrap();
        replace(folder.path(), "a", b"2").unwrap();
        assert_eq!(fs::read(folder.path().join("a")).unwrap(), b"2");
        fs::create_dir(folder.path().join("b")).unwrap();
        assert!(replace(folder.path(), "b", b"3").is_err(), "a folder is there");
        let names = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = names.collect();
        names.sort();
        assert_eq!(names, ["a", "b"]);
    }
}
