//! A small file written whole or not at all: anew beside the old one, flushed, then put in its place, and
//! the folder flushed so that a power cut does not bring the old one back.
//!
//! What a stranger gets wrong: after an error the old file is still there, and nothing else is promised.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// Puts `bytes` into the place of `folder/name`.
///
/// # Errors
/// When the disk refuses; what was there before is still there then.
pub fn replace(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let fresh = folder.join(format!("{name}.new"));
    let mut file = File::create(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&fresh, folder.join(name))?;
    File::open(folder)?.sync_all()
}
