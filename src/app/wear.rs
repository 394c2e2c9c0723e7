//! Keeps how often each register was written. The field bus counts and never waits for a disk; this thread keeps
//! the counts once a minute, and once more when the field bus has ended.
//!
//! What a stranger gets wrong: a kill loses at most the last minute's counts, on purpose: a write to the disk
//! for each write to a device would wear out the disk instead.

use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::watch;

use super::control::{RunError, named};
use crate::io::store::{Writes, load_writes, save_writes};

/// How often changed counts go to disk.
const KEPT_EVERY: Duration = Duration::from_secs(60);

/// The thread, where the field bus counts, and where others look.
type Wear = (JoinHandle<()>, watch::Sender<Writes>, watch::Receiver<Writes>);

/// Takes up the counts of the state folder and starts the thread; it ends once nobody counts any more.
///
/// # Errors
/// When the thread cannot start.
pub fn keep(folder: PathBuf) -> Result<Wear, RunError> {
    let failed = |cause| RunError::Start { what: "wear", cause };
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(failed)?;
    let mut kept = load_writes(&folder);
    let (counter, counts) = watch::channel(kept.clone());
    let mut newest = counts.clone();
    let thread = named("wear", move || {
        runtime.block_on(async {
            loop {
                let ended = async { while newest.changed().await.is_ok() {} };
                let ended = tokio::time::timeout(KEPT_EVERY, ended).await.is_ok();
                if *newest.borrow() != kept {
                    kept = newest.borrow().clone();
                    if let Err(error) = save_writes(&folder, &kept) {
                        tracing::warn!(%error, "the counts of writes could not be kept");
                    }
                }
                if ended {
                    return;
                }
            }
        });
    })?;
    Ok((thread, counter, counts))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_taken_up_added_to_and_kept_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        for round in 1..=3 {
            let (thread, counter, counts) = keep(folder.path().to_owned()).unwrap();
            counter.send_modify(|all| *all.entry("pile/1210".to_owned()).or_insert(0) += 5);
            assert_eq!(counts.borrow()["pile/1210"], 5 * round);
            drop(counter);
            thread.join().unwrap();
            assert_eq!(load_writes(folder.path())["pile/1210"], 5 * round);
        }
    }
}
