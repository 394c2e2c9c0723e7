//! The folder of the outbox and what stands beside it: the marker that a store was made here
//! (`outbox.installed`), damaged stores moved aside (`outbox.corrupt-<time>`), and the old store while
//! an empty one takes its place (`outbox.old`).
//!
//! What a stranger gets wrong: the marker is beside the folder, not in it, so that deleting the store
//! is noticed instead of looking like a new gateway.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::StoreError;

pub(super) fn beside(folder: &Path, ending: &str) -> PathBuf {
    let name = folder.file_name().map_or_else(|| "outbox".into(), |name| name.to_string_lossy());
    folder.with_file_name(format!("{name}.{ending}"))
}

pub(super) fn marker(folder: &Path) -> PathBuf {
    beside(folder, "installed")
}

/// A stop between the two renames of a swap: the old store is the whole truth.
pub(super) fn put_back_unfinished_swap(folder: &Path) -> Result<(), StoreError> {
    let old = beside(folder, "old");
    if !old.exists() {
        return Ok(());
    }
    // The old one was empty when the swap began: only its counters are worth anything.
    if fs::metadata(folder.join("db")).is_ok_and(|data| data.len() > 0) {
        fs::remove_dir_all(&old)?;
        return Ok(());
    }
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::rename(&old, folder)?;
    Ok(())
}

pub(super) fn quarantine(folder: &Path) -> Result<PathBuf, StoreError> {
    let now = crate::io::clock::Clock::real().now().utc;
    let aside = beside(folder, &format!("corrupt-{}", now.format("%Y%m%dT%H%M%S%3fZ")));
    fs::rename(folder, &aside)?;
    Ok(aside)
}

pub(super) fn sync_folder(folder: &Path) -> Result<(), StoreError> {
    File::open(folder)?.sync_all()?;
    Ok(())
}

pub(super) fn words_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "panic".to_owned())
}
