//! `wattgate charger`: what can be typed.

use chrono::{DateTime, Utc};
use clap::Subcommand;

use super::{Format, Place};
use crate::logic::site::ChargingMode;

#[derive(Debug, Subcommand)]
pub enum Chargers {
    /// Lists chargers: mode, car, what they are told and why, and what is planned.
    List {
        #[command(flatten)]
        place: Place,
        #[arg(long, value_enum, default_value = "table")]
        format: Format,
    },
    /// Chooses how a charger charges from now on, and says what its car needs by when.
    Mode {
        /// The charger, as the site file calls it.
        charger: String,
        /// off, pv_only, min_pv, fast or departure (ready when the car leaves).
        #[arg(value_parser = ChargingMode::asked)]
        mode: ChargingMode,
        /// Energy that the car shall still get, kWh.
        #[arg(long)]
        energy_kwh: Option<f64>,
        /// Hours until it leaves.
        #[arg(long, requires = "energy_kwh", conflicts_with = "leaves")]
        stay_h: Option<f64>,
        /// When it leaves, as 2026-05-28T17:30:00+02:00.
        #[arg(long, requires = "energy_kwh")]
        leaves: Option<DateTime<Utc>>,
        #[command(flatten)]
        place: Place,
        #[arg(long, value_enum, default_value = "table")]
        format: Format,
    },
}
