//! Which version of the program runs. The one that was installed with the system is never replaced: it looks at
//! the book of releases in the state folder and runs, in its own place, the newest one that has proven itself,
//! or one that is on trial.
//!
//! ```text
//!   update install ─▶ on trial ─▶ 20 decisions, as many devices heard as before ─▶ kept
//!                        └─ two starts without that, or 40 s, or a bad signature ─▶ undone: the last kept one
//! ```
//! What a stranger gets wrong: a version that crashes before its first line cannot undo itself. So the start is
//! counted, on disk, by the installed version before the new one gets a turn (fault PR6). And the book is only
//! a memory: what runs is signed by the key of the site file, which is looked at again at every start.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::control::lock;
use super::update;
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
/// A trial that ended after this long does not get its second start: both would take longer than the minute.
const LATE_END: Duration = Duration::from_secs(20);
/// A release on trial that has not come as far as to be watched by then ends.
const STARTED_WITHIN: Duration = Duration::from_secs(45);
/// Folder of the releases in the state folder, the book in it, and who writes the book.
const FOLDER: &str = "releases";
const BOOK: &str = "book.json";
const LOCK: &str = "book.lock";
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

/// A release that has not proven itself yet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// Which.
    pub version: Version,
    /// How often it was started.
    pub starts: u32,
    /// When it was started last, time since boot.
    #[serde(default)]
    pub began: Duration,
    /// Devices that the version before it heard when it was installed.
    pub heard: usize,
}

/// Why a trial ended badly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Failing {
    /// It ended by itself, or was ended, at its starts.
    Ended,
    /// It ran and did not prove itself.
    Unproven,
    /// Its file is not, or no longer, what the site's key signed.
    Damaged,
    /// A person undid it.
    Asked,
    /// A reason of a later version: the installed one reads what every later one writes.
    #[serde(other)]
    Other,
}

/// The book of releases.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Book {
    /// The newest one that has proven itself; nothing: the installed one.
    pub kept: Option<Version>,
    /// The one that was kept before it.
    pub before: Option<Version>,
    /// The one on trial.
    pub trial: Option<Trial>,
    /// The last one that was undone.
    pub undone: Option<(Version, Failing)>,
    /// The highest one that was ever kept.
    pub highest: Option<Version>,
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

    /// No version that is not above this is taken.
    #[must_use]
    pub fn floor(&self) -> Version {
        [self.kept, self.highest].into_iter().flatten().fold(Version::own(), Version::max)
    }

    /// What is to run in the place of the installed version `own` at `uptime` since boot; a trial's start is
    /// counted.
    fn next(
        &mut self,
        (own, uptime): (Version, Duration),
        is_signed: impl Fn(Version) -> bool,
    ) -> Option<Version> {
        if let Some(trial) = &mut self.trial {
            let late = uptime.checked_sub(trial.began).is_some_and(|age| age > LATE_END);
            if trial.version <= own {
                // The installed version was replaced by one as new.
                self.trial = None;
            } else if trial.starts >= TRIES || (trial.starts > 0 && late) {
                self.undo(Failing::Ended);
            } else if !is_signed(trial.version) {
                self.undo(Failing::Damaged);
            } else {
                (trial.starts, trial.began) = (trial.starts + 1, uptime);
                return Some(trial.version);
            }
        }
        while let Some(kept) = self.kept.filter(|kept| *kept > own) {
            if is_signed(kept) {
                return Some(kept);
            }
            self.undone = Some((kept, Failing::Damaged));
            self.kept = self.before.take();
        }
        None
    }

    fn undo(&mut self, failing: Failing) {
        if let Some(trial) = self.trial.take() {
            self.undone = Some((trial.version, failing));
        }
    }

    /// Undoes what is on trial, or else what is kept. Which; nothing where there is neither.
    pub fn undo_last(&mut self) -> Option<Version> {
        if self.trial.is_some() {
            self.undo(Failing::Asked);
        } else {
            self.undone = Some((self.kept?, Failing::Asked));
            self.kept = self.before.take();
        }
        self.undone.map(|(version, _)| version)
    }
}

/// Folder of the releases of a state folder.
#[must_use]
pub fn folder(state: &Path) -> PathBuf {
    state.join(FOLDER)
}

/// Where the program of a version lies; its signature lies beside it.
#[must_use]
pub fn program(state: &Path, version: Version) -> PathBuf {
    folder(state).join(version.to_string()).join(PROGRAM)
}

/// Held while the book is read, changed and written.
///
/// # Errors
/// When the disk refuses.
pub fn hold(state: &Path) -> io::Result<File> {
    let file = File::create(folder(state).join(LOCK))?;
    file.lock()?;
    Ok(file)
}

/// Puts the release that is to run into the place of this process; `site` names the key. Comes back where that is
/// this program itself: it is a release already, or there is none, or none can run.
pub fn step_aside(state: &Path, site: &Path) {
    if std::env::var_os(RUNS_AS).is_some() || !folder(state).join(BOOK).exists() {
        return;
    }
    // Beside a gateway that runs nothing is counted; this one is refused in a moment.
    let Ok(_held) = lock(state) else {
        return;
    };
    let key = config::signed_by(site);
    let is_signed = |version: Version| {
        let signed = key.as_deref().map(|key| update::signed(&program(state, version), key));
        signed.is_some_and(|signed| signed.is_ok_and(|(signed, _)| signed == version))
    };
    let releases = choose(state, is_signed).unwrap_or_else(|error| {
        tracing::error!(%error, "the book of releases cannot be used: the installed version runs");
        Vec::new()
    });
    for version in releases {
        tracing::info!(%version, "this release runs in the place of the installed version");
        let error = Command::new(program(state, version))
            .args(std::env::args_os().skip(1))
            .env(RUNS_AS, version.to_string())
            .envs(std::env::current_exe().map(|exe| (config::INSTALLED, exe)))
            .exec();
        tracing::error!(%error, %version, "the release cannot run");
    }
}

/// The releases that may run, the first one first; the book is on disk before they get their turn.
fn choose(state: &Path, is_signed: impl Fn(Version) -> bool) -> io::Result<Vec<Version>> {
    let _held = hold(state)?;
    let mut book = Book::open(state)?;
    let (before, now) = (book.clone(), (Version::own(), Clock::real().now().uptime));
    let next = book.next(now, &is_signed);
    let kept = |book: &Book| book.kept.filter(|kept| *kept > now.0 && is_signed(*kept));
    if book == before {
        return Ok(next.into_iter().collect());
    }
    if book.undone != before.undone {
        tracing::error!(undone = ?book.undone, "the update is undone");
    }
    if let Err(error) = book.keep(state) {
        // A start that cannot be counted is no trial; what is kept needs no counting.
        tracing::error!(%error, "the book of releases cannot be written: no trial");
        return Ok(kept(&before).into_iter().collect());
    }
    clear(state, &book);
    let kept = kept(&book).filter(|kept| Some(*kept) != next);
    Ok(next.into_iter().chain(kept).collect())
}

/// Removes the programs that the book does not name; what cannot be removed only takes room.
fn clear(state: &Path, book: &Book) {
    let trial = book.trial.as_ref().map(|trial| trial.version);
    let named: Vec<String> =
        [book.kept, book.before, trial].into_iter().flatten().map(String::from).collect();
    for entry in fs::read_dir(folder(state)).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_dir() && !named.contains(&name) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Whether an update was undone, until another one is installed; also where nobody can tell.
#[must_use]
pub fn undone(state: &Path) -> bool {
    Book::open(state).map_or(true, |book| book.undone.is_some())
}

/// What this process has to prove: the trial that it is.
#[must_use]
pub fn on_trial(state: &Path) -> Option<Trial> {
    let own = Version::try_from(std::env::var(RUNS_AS).ok()?).ok()?;
    Book::open(state).ok()?.trial.filter(|trial| trial.version == own)
}

/// Ends a release on trial that hangs before anybody watches it: `watched` is set by [`trial`].
pub fn end_unless_watched(state: &Path, watched: &Arc<AtomicBool>) {
    if on_trial(state).is_none() {
        return;
    }
    let watched = Arc::clone(watched);
    let wait = move || {
        std::thread::sleep(STARTED_WITHIN);
        if !watched.load(Ordering::Relaxed) {
            tracing::error!("this release hangs at its start and ends");
            std::process::exit(1);
        }
    };
    if let Err(error) = std::thread::Builder::new().name("trial".to_owned()).spawn(wait) {
        tracing::warn!(%error, "nobody ends this release where it hangs at its start");
    }
}

/// Comes back only where this process is a release on trial and does not prove itself: that is written down, and
/// it should end as failed.
pub async fn trial(
    state: PathBuf,
    (overviews, watched): (watch::Receiver<Option<Arc<Overview>>>, Arc<AtomicBool>),
) {
    watched.store(true, Ordering::Relaxed);
    if let Some(trial) = on_trial(&state) {
        let proof = proven(trial.heard, overviews, hears);
        let is_proven = tokio::time::timeout(PROVEN_WITHIN, proof).await.is_ok();
        if !settle(&state, &trial, is_proven) {
            return;
        }
    }
    std::future::pending().await
}

/// Writes down how a trial ended; whether its release may go on.
fn settle(state: &Path, trial: &Trial, is_proven: bool) -> bool {
    let version = trial.version;
    let held = hold(state);
    let mut book = Book::open(state).unwrap_or_default();
    if book.trial.as_ref().is_none_or(|now| now.version != version) {
        // Another update came meanwhile: the next start is about that one.
        return true;
    }
    if is_proven {
        let mut kept = book.clone();
        kept.before = kept.kept.replace(version);
        (kept.trial, kept.highest) = (None, kept.highest.max(Some(version)));
        match held.and_then(|_held| kept.keep(state)) {
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
mod tests;
