//! `wattgate job`: what can be typed.

use clap::Subcommand;

use super::{Format, Place};

#[derive(Debug, Subcommand)]
pub enum Jobs {
    /// Lists jobs and what they have spent.
    List {
        #[command(flatten)]
        place: Place,
        #[arg(long, value_enum, default_value = "table")]
        format: Format,
    },
    /// Shows one job.
    Show {
        /// The job.
        job: String,
        #[command(flatten)]
        place: Place,
        #[arg(long, value_enum, default_value = "table")]
        format: Format,
    },
    /// Asks for a new job of a workload that the site file declares.
    Submit {
        /// The workload.
        workload: String,
        /// Values of its parameters, name=value.
        parameters: Vec<String>,
        /// Hours until it must be done.
        #[arg(long)]
        within_h: Option<f64>,
        /// 0 to 9, higher first.
        #[arg(long)]
        priority: Option<u8>,
        #[command(flatten)]
        place: Place,
    },
    /// Lets a job wait.
    Pause {
        /// The job.
        job: String,
        #[command(flatten)]
        place: Place,
    },
    /// Lets a job that waits go on.
    Resume {
        /// The job.
        job: String,
        #[command(flatten)]
        place: Place,
    },
    /// Ends a job.
    Cancel {
        /// The job.
        job: String,
        #[command(flatten)]
        place: Place,
    },
}
