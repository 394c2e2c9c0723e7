//! Built-in workloads: what the gateway itself does when a job asks for it. Each is a process of its own below a
//! warden, as any other program of a job: held to its power, paused, ended and metered like one.
//!
//! What a stranger gets wrong: it runs beside the gateway and not in it. It reads what the gateway has kept in the
//! state folder, leaves files there, and touches nothing that acts.

mod report;
mod review;

use std::path::PathBuf;

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
    /// The camera of a review; all of them unless one is named.
    pub camera: Option<String>,
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
        cause: std::io::Error,
    },
    /// The day is not kept.
    #[error("days_ago is 0 (today) or 1 (yesterday): hours of older days are not kept")]
    NoSuchDay,
    /// The models folder has no big net.
    #[error("there is no big fire net in {0}: nothing can be reviewed")]
    NoBigNet(PathBuf),
    /// The big net.
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// Does it; what came of it, in one line.
///
/// # Errors
/// When it cannot be done; see [`BuiltInError`].
pub fn run(options: &Options) -> Result<String, BuiltInError> {
    match options.name {
        BuiltIn::Report => {
            let loaded = config::load_or_last_good(&options.config, Some(&options.state));
            report::write(&loaded.map_err(BuiltInError::Config)?.config, options)
        }
        BuiltIn::Review => review::review(options),
    }
}
