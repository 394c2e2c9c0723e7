//! Which version of the program runs. The one that was installed with the system is never replaced: it looks at
//! the book of releases in the state folder and runs, in its own place, the newest one that has proven itself,
//! or one that is on trial.
//!
//! ```text
//!   update install ─▶ on trial ─▶ 20 decisions, every device heard that was heard before ─▶ kept
//!                        └─ two starts without that, or 40 s, or a damaged file ─▶ undone: the last kept one
//! ```
//! What a stranger gets wrong: a version that crashes before its first line cannot undo itself. So the start is
//! counted, on disk, by the installed version before the new one gets a turn (fault PR6).

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use super::control::lock;
use crate::config;
use crate::io::clock::Clock;
use crate::io::store::write_whole;
use crate::logic::decision::{Overview, Quality};

/// Starts that a version on trial gets. With these and the times below the last version is back within 60 s
/// (fault PR6), wherever the new one hangs. Our own figure.
const TRIES: u32 = 2;
/// Decisions in a row that prove it.
const PROVEN_BY: u32 = 20;
/// A longer time between two decisions starts the proof anew.
const IN_A_ROW: Duration = Duration::from_secs(3);
/// From its start on; the control loop itself is watched by the service manager.
const PROVEN_WITHIN: Duration = Duration::from_secs(40);
/// Folder of the releases in the state folder, and the book in it.
const FOLDER: &str = "releases";
const BOOK: &str = "book.json";
/// The program in the folder of its version.
pub const PROGRAM: &str = "wattgate";
/// Says to a release which one it is, and that it chooses no other.
const RUNS_AS: &str = "WATTGATE_RELEASE";

/// A version: three numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Version([u32; 3]);

impl Version {
    /// Of this program.
    #[must_use]
    pub fn own() -> Version {
        let own = env!("CARGO_PKG_VERSION").to_owned();
        Version::try_from(own).unwrap_or(Version([0; 3]))
    }
}

impl TryFrom<String> for Version {
    type Error = String;

    fn try_from(text: String) -> Result<Version, String> {
        let numbers: Option<Vec<u32>> = text.split('.').map(|part| part.parse().ok()).collect();
        let three = numbers.and_then(|numbers| numbers.try_into().ok());
        three.map(Version).ok_or_else(|| format!("`{text}` is no version: three numbers with dots"))
    }
}

impl From<Version> for String {
    fn from(version: Version) -> String {
        version.to_string()
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Version([major, minor, patch]) = self;
        write!(f, "{major}.{minor}.{patch}")
    }
}

/// A program in the folder of releases.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Release {
    /// Its version, as signed.
    pub version: Version,
    /// Hash of the program, hexadecimal.
    pub sha256: String,
}

/// A release that has not proven itself yet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// Which.
    pub release: Release,
    /// How often it was started.
    pub starts: u32,
    /// Devices that the version before it heard when it was installed.
    pub heard: usize,
}

/// Why a trial ended badly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Failing {
    /// It ended by itself, or was ended, at each of its starts.
    Ended,
    /// It ran and did not prove itself.
    Unproven,
    /// Its file is not what was installed.
    Damaged,
}

/// The book of releases.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Book {
    /// The newest one that has proven itself; nothing: the installed one.
    pub kept: Option<Release>,
    /// The one on trial.
    pub trial: Option<Trial>,
    /// The last one that did not prove itself.
    pub undone: Option<(Version, Failing)>,
}

impl Book {
    /// The book of a state folder; empty where there is none.
    ///
    /// # Errors
    /// When it cannot be read or believed.
    pub fn open(state: &Path) -> io::Result<Book> {
        match fs::read(folder(state).join(BOOK)) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Book::default()),
            Err(error) => Err(error),
        }
    }

    /// Writes it, whole or not at all.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn keep(&self, state: &Path) -> io::Result<()> {
        write_whole(&folder(state), BOOK, &serde_json::to_vec_pretty(self)?)
    }

    /// No version below this is taken.
    #[must_use]
    pub fn floor(&self) -> Version {
        self.kept.as_ref().map_or(Version::own(), |kept| kept.version.max(Version::own()))
    }

    /// What is to run in the place of the installed version `own`; a trial's start is counted.
    fn next(&mut self, own: Version, is_whole: impl Fn(&Release) -> bool) -> Option<Release> {
        if let Some(trial) = &mut self.trial {
            let failing = if trial.release.version <= own {
                None
            } else if trial.starts >= TRIES {
                Some(Failing::Ended)
            } else if !is_whole(&trial.release) {
                Some(Failing::Damaged)
            } else {
                trial.starts += 1;
                return Some(trial.release.clone());
            };
            match failing {
                Some(failing) => self.undo(failing),
                // The installed version was replaced by one as new.
                None => self.trial = None,
            }
        }
        let kept = self.kept.clone().filter(|kept| kept.version > own)?;
        if is_whole(&kept) {
            return Some(kept);
        }
        self.undone = Some((kept.version, Failing::Damaged));
        self.kept = None;
        None
    }

    fn undo(&mut self, failing: Failing) {
        if let Some(trial) = self.trial.take() {
            self.undone = Some((trial.release.version, failing));
        }
    }
}

/// Folder of the releases of a state folder.
#[must_use]
pub fn folder(state: &Path) -> PathBuf {
    state.join(FOLDER)
}

/// Where the program of a version lies.
#[must_use]
pub fn program(state: &Path, version: Version) -> PathBuf {
    folder(state).join(version.to_string()).join(PROGRAM)
}

/// Hash of a file, hexadecimal.
///
/// # Errors
/// When it cannot be read.
pub fn hash(path: &Path) -> io::Result<String> {
    let (mut file, mut hasher, mut part) = (File::open(path)?, Sha256::new(), vec![0; 1 << 16]);
    loop {
        match file.read(&mut part)? {
            0 => break,
            length => hasher.update(&part[..length]),
        }
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Puts the release that is to run into the place of this process. Comes back where that is this program
/// itself: it is a release already, or there is none, or none can run.
pub fn step_aside(state: &Path) {
    if std::env::var_os(RUNS_AS).is_some() || !folder(state).join(BOOK).exists() {
        return;
    }
    // Beside a gateway that runs nothing is counted; this one is refused in a moment.
    let Ok(_held) = lock(state) else {
        return;
    };
    let release = match choose(state) {
        Ok(Some(release)) => release,
        Ok(None) => return,
        Err(error) => {
            tracing::error!(%error, "the book of releases cannot be used: the installed version runs");
            return;
        }
    };
    tracing::info!(version = %release.version, "this release runs in the place of the installed version");
    let error = Command::new(program(state, release.version))
        .args(std::env::args_os().skip(1))
        .env(RUNS_AS, release.version.to_string())
        .envs(std::env::current_exe().map(|exe| (config::INSTALLED, exe)))
        .exec();
    tracing::error!(%error, version = %release.version, "the release cannot run: the installed version does");
}

/// The next release; the book is on disk before it gets its turn.
fn choose(state: &Path) -> io::Result<Option<Release>> {
    let mut book = Book::open(state)?;
    let before = book.clone();
    let is_whole = |release: &Release| {
        hash(&program(state, release.version)).is_ok_and(|found| found == release.sha256)
    };
    let next = book.next(Version::own(), is_whole);
    if book != before {
        if book.undone != before.undone {
            tracing::error!(undone = ?book.undone, "the update did not prove itself and is undone");
        }
        book.keep(state)?;
    }
    Ok(next)
}

/// The version that did not prove itself, until another one is installed.
#[must_use]
pub fn undone(state: &Path) -> bool {
    Book::open(state).is_ok_and(|book| book.undone.is_some())
}

/// Comes back only where this process is a release on trial and does not prove itself: that is written down, and
/// it should end as failed.
pub async fn trial(state: PathBuf, overviews: watch::Receiver<Option<Arc<Overview>>>) {
    if let Some(trial) = on_trial(&state) {
        let proof = proven(trial.heard, overviews, hears);
        let is_proven = tokio::time::timeout(PROVEN_WITHIN, proof).await.is_ok();
        if !settle(&state, trial, is_proven) {
            return;
        }
    }
    std::future::pending().await
}

/// What this process has to prove: the trial that it is.
fn on_trial(state: &Path) -> Option<Trial> {
    let own = Version::try_from(std::env::var(RUNS_AS).ok()?).ok()?;
    Book::open(state).ok()?.trial.filter(|trial| trial.release.version == own)
}

/// Writes down how a trial ended; whether its release may go on.
fn settle(state: &Path, trial: Trial, is_proven: bool) -> bool {
    let version = trial.release.version;
    let mut book = Book::open(state).unwrap_or_default();
    if book.trial.as_ref().is_none_or(|now| now.release != trial.release) {
        // Another update came meanwhile: the next start is about that one.
        return true;
    }
    if is_proven {
        let mut kept = book.clone();
        (kept.kept, kept.trial) = (Some(trial.release), None);
        match kept.keep(state) {
            Ok(()) => {
                tracing::info!(%version, "this release has proven itself");
                return true;
            }
            Err(error) => {
                tracing::error!(%error, "the proof of this release cannot be written down")
            }
        }
    }
    tracing::error!(%version, "this release did not prove itself in time and ends");
    book.undo(Failing::Unproven);
    if let Err(error) = book.keep(state) {
        tracing::error!(%error, "the book of releases cannot be written");
    }
    false
}

/// Comes back after enough decisions in a row, with as many devices heard.
async fn proven<T>(
    heard: usize,
    mut overviews: watch::Receiver<Option<Arc<T>>>,
    hears: fn(&T) -> usize,
) {
    let (mut decisions, mut last) = (0, Clock::real().now().uptime);
    while overviews.changed().await.is_ok() {
        let now = Clock::real().now().uptime;
        let overdue = now.saturating_sub(last) > IN_A_ROW;
        last = now;
        decisions = if overdue { 0 } else { decisions + 1 };
        let heard_now = overviews.borrow_and_update().as_deref().map_or(0, hears);
        if decisions >= PROVEN_BY && heard_now >= heard {
            return;
        }
    }
    std::future::pending().await
}

/// Devices whose values are fresh.
#[must_use]
pub fn hears(overview: &Overview) -> usize {
    overview.devices.iter().filter(|device| device.q == Quality::Good).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        Version::try_from(text.to_owned()).unwrap()
    }

    fn release(text: &str) -> Release {
        Release { version: version(text), sha256: text.to_owned() }
    }

    fn trial(text: &str) -> Book {
        let trial = Trial { release: release(text), starts: 0, heard: 3 };
        Book { trial: Some(trial), ..Book::default() }
    }

    #[test]
    fn versions_are_compared_by_their_numbers() {
        assert!(version("0.10.0") > version("0.9.12"));
        for bad in ["1.2", "1.2.3.4", "1.2.x", "v1.2.3", "", "1.2.-3"] {
            assert!(Version::try_from(bad.to_owned()).is_err(), "{bad}");
        }
        assert_eq!(Version::own().to_string(), env!("CARGO_PKG_VERSION"));
    }

    #[test]
    fn a_trial_that_ends_twice_is_undone_and_the_last_kept_one_runs() {
        let mut book = Book { kept: Some(release("0.2.0")), ..trial("0.3.0") };
        let own = version("0.1.0");
        for start in 1..=TRIES {
            assert_eq!(book.next(own, |_| true), Some(release("0.3.0")));
            assert_eq!(book.trial.as_ref().unwrap().starts, start);
        }
        assert_eq!(book.next(own, |_| true), Some(release("0.2.0")));
        assert_eq!(book.undone, Some((version("0.3.0"), Failing::Ended)));
        assert_eq!(book.next(own, |_| true), Some(release("0.2.0")), "and stays");
    }

    #[test]
    fn a_damaged_file_never_runs() {
        let mut book = trial("0.3.0");
        assert_eq!(book.next(version("0.1.0"), |_| false), None);
        assert_eq!(book.undone, Some((version("0.3.0"), Failing::Damaged)));
        let mut book = Book { kept: Some(release("0.2.0")), ..Book::default() };
        assert_eq!(book.next(version("0.1.0"), |_| false), None);
        assert_eq!(book.undone, Some((version("0.2.0"), Failing::Damaged)));
    }

    #[test]
    fn an_installed_version_that_is_newer_runs_itself() {
        let mut book = Book { kept: Some(release("0.2.0")), ..trial("0.3.0") };
        assert_eq!(book.next(version("0.3.0"), |_| true), None);
        assert_eq!((book.trial, book.undone), (None, None));
    }

    #[test]
    fn what_is_proven_is_kept_and_what_another_update_overtook_is_left_to_that() {
        let state = tempfile::tempdir().unwrap();
        fs::create_dir(folder(state.path())).unwrap();
        for is_proven in [true, false] {
            let book = trial("0.3.0");
            book.keep(state.path()).unwrap();
            assert_eq!(settle(state.path(), book.trial.unwrap(), is_proven), is_proven);
            let book = Book::open(state.path()).unwrap();
            assert_eq!(book.kept, is_proven.then(|| release("0.3.0")));
            assert_eq!(book.undone.is_some(), !is_proven);
            assert_eq!(book.trial, None);
        }
        let newer = trial("0.4.0");
        newer.keep(state.path()).unwrap();
        for is_proven in [true, false] {
            assert!(settle(state.path(), trial("0.3.0").trial.unwrap(), is_proven));
            assert_eq!(Book::open(state.path()).unwrap(), newer);
        }
    }

    /// After how many decisions a release is proven that has to hear one device.
    async fn proven_after(hears_from: u32) -> Option<u32> {
        let (tell, hear) = watch::channel(None);
        let hears = |heard: &usize| *heard;
        let mut proof = std::pin::pin!(proven(1, hear, hears));
        for decision in 1..=60 {
            tell.send_replace(Some(Arc::new(usize::from(decision >= hears_from))));
            let seen = tokio::time::timeout(Duration::ZERO, &mut proof);
            if seen.await.is_ok() {
                return Some(decision);
            }
        }
        None
    }

    #[tokio::test]
    async fn twenty_decisions_prove_a_release_once_every_device_is_heard() {
        for (hears_from, after) in [(1, Some(20)), (20, Some(20)), (35, Some(35)), (61, None)] {
            assert_eq!(proven_after(hears_from).await, after, "heard from {hears_from} on");
        }
    }
}
