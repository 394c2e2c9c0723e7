//! `wattgate update`: what can be typed.

use std::path::PathBuf;

use clap::Subcommand;

use super::Place;

#[derive(Debug, Subcommand)]
pub enum Updates {
    /// Puts a signed version on trial: it runs from the next start of the gateway on.
    Install {
        /// The program; its signature (minisign) lies beside it.
        program: PathBuf,
        /// The site file: it names the key, and the new version must understand it.
        #[arg(long)]
        config: PathBuf,
        /// State folder instead of the configured one.
        #[arg(long)]
        state: Option<PathBuf>,
    },
    /// Undoes what is on trial, or else what is kept, from the next start on.
    Undo {
        #[command(flatten)]
        place: Place,
    },
    /// Which version runs, which is on trial, which was undone.
    Show {
        #[command(flatten)]
        place: Place,
    },
}
