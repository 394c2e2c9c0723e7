//! `wattgate alarm`: what can be typed.

use clap::Subcommand;

use super::{Format, Place};

#[derive(Debug, Subcommand)]
pub enum Alarms {
    /// Lists alarms and latched zones.
    List {
        #[command(flatten)]
        place: Place,
        #[arg(long, value_enum, default_value = "table")]
        format: Format,
    },
    /// Says that a person knows of an alarm.
    Ack {
        /// The alarm, as `alarm list` calls it.
        alarm: String,
        /// Who acknowledges or resets.
        #[arg(long)]
        by: String,
        /// A note for the record.
        #[arg(long)]
        note: Option<String>,
        #[command(flatten)]
        place: Place,
    },
    /// Puts an alarm out of sight for a time; a trip cannot be.
    Shelve {
        /// The alarm, as `alarm list` calls it.
        alarm: String,
        /// Who acknowledges or resets.
        #[arg(long)]
        by: String,
        /// For how long.
        #[arg(long)]
        minutes: u32,
        /// A note for the record.
        #[arg(long)]
        note: Option<String>,
        #[command(flatten)]
        place: Place,
    },
    /// Records that a sensor or relay was tested, if it was seen to react.
    Prove {
        /// The sensor or relay.
        id: String,
        /// Who acknowledges or resets.
        #[arg(long)]
        by: String,
        #[command(flatten)]
        place: Place,
    },
    /// Releases a latched zone in two steps, once it has been clear for ten minutes.
    Reset {
        /// The zone.
        zone: String,
        /// Who acknowledges or resets.
        #[arg(long)]
        by: String,
        /// The second step: the place was inspected, charging may start again.
        #[arg(long)]
        inspected: bool,
        #[command(flatten)]
        place: Place,
    },
}
