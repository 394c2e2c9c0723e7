//! Built-in workloads: what the gateway itself does when a job asks for it. Each is a process of its own below a
//! warden, as any other program of a job: held to its power, paused, ended and metered like one.
//!
//! What a stranger gets wrong: it runs beside the gateway and not in it. It reads what the gateway has kept in the
//! state folder, leaves files there, and touches nothing that acts.

mod curate;
mod recalibrate;
mod report;
mod review;

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};

use crate::config::{self, BuiltIn};
use crate::io::inference::ModelError;

/// Folder of what built-in workloads write, in the state folder.
const REPORTS: &str = "reports";

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which.
    pub name: BuiltIn,
    /// The site file.
    pub config: PathBuf,
    /// The state folder.
    pub state: PathBuf,
    /// Folder of the models.
    pub models: PathBuf,
    /// Site time.
    pub at: DateTime<Utc>,
    /// The day of a report: 0 is today, 1 yesterday.
    pub days_ago: f64,
    /// The only camera that it is about; all of them unless one is named.
    pub camera: Option<String>,
    /// Most pictures of a training set.
    pub most: f64,
}

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
pub enum BuiltInError {
    /// The site file.
    #[error("the configuration cannot be used")]
    Config(config::Report),
    /// What the gateway has kept cannot be read, or what it shall keep cannot be written.
    #[error("{what}: {cause}")]
    Files {
        /// Which.
        what: String,
        /// Why.
        cause: io::Error,
    },
    /// One of its kind is not done yet.
    #[error("another `{0}` is at work")]
    Twice(&'static str),
    /// The day is not kept.
    #[error("days_ago is 0 (today) or 1 (yesterday): hours of older days are not kept")]
    NoSuchDay,
    /// The models folder has no big net.
    #[error("there is no big fire net in {0}: nothing can be reviewed")]
    NoBigNet(PathBuf),
    /// Bays that a detector of the site's own reads have no cuts.
    #[error("the site's own detector reads the bays: there are no cuts to calibrate")]
    OwnDetector,
    /// No training set is that large or small.
    #[error("most is 1 to {0} pictures")]
    NoSuchNumber(usize),
    /// A net.
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// Does it; what came of it, in one line.
///
/// # Errors
/// When it cannot be done; see [`BuiltInError`].
pub fn run(options: &Options) -> Result<String, BuiltInError> {
    let site = || {
        let loaded = config::load_or_last_good(&options.config, Some(&options.state));
        loaded.map(|loaded| loaded.config).map_err(BuiltInError::Config)
    };
    let _alone = alone(options)?;
    match options.name {
        BuiltIn::Report => report::write(&site()?, options),
        BuiltIn::Review => review::review(options),
        BuiltIn::Recalibrate => recalibrate::recalibrate(&site()?, options),
        BuiltIn::Curate => curate::curate(options),
    }
}

/// One of a kind at a time, for as long as the file lives: two would take what the other has half written for their own.
fn alone(options: &Options) -> Result<File, BuiltInError> {
    let name = options.name.name();
    let path = options.state.join(format!("{name}.lock"));
    let file = std::fs::create_dir_all(&options.state).and_then(|()| File::create(&path));
    let file = file.map_err(failed(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(BuiltInError::Twice(name)),
        Err(TryLockError::Error(cause)) => Err(failed(&path)(cause)),
    }
}

/// What went wrong with a file.
fn failed(what: &Path) -> impl FnOnce(io::Error) -> BuiltInError {
    let what = what.display().to_string();
    move |cause| BuiltInError::Files { what, cause }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::store::TrainingSet;

    #[test]
    fn two_of_a_kind_do_not_take_each_others_files() {
        let state = tempfile::tempdir().unwrap();
        let at: DateTime<Utc> = "2026-05-05T06:00:00Z".parse().unwrap();
        let options = Options {
            name: BuiltIn::Curate,
            config: PathBuf::new(),
            state: state.path().to_owned(),
            models: PathBuf::new(),
            at,
            days_ago: 0.0,
            camera: None,
            most: 10.0,
        };
        let mut set = TrainingSet::begin(state.path(), at).unwrap();
        assert!(set.put("mine.jpg", b"picture").unwrap());
        let first = alone(&options).unwrap();
        let said = run(&options).unwrap_err().to_string();
        assert_eq!(said, "another `curate` is at work");
        assert!(alone(&Options { name: BuiltIn::Report, ..options.clone() }).is_ok());
        let place = set.finish(b"{}").unwrap();
        assert!(place.join("mine.jpg").exists(), "it is whole");
        drop(first);
        let later = Options { at: at + chrono::Duration::seconds(1), ..options };
        assert!(run(&later).is_ok());
    }
}
