//! How a charger charges, by the names that people know: off, on sun only, at least the minimum and sun beyond
//! it, fast, or by the plan so that the car is ready when it leaves.
//!
//! What a stranger gets wrong: a mode is a wish. Limits, ramps and the interlock stand above every one of them,
//! and a charger that hears nothing falls back to its failsafe current whatever its mode was.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Charger, Id};

/// How a charger charges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChargingMode {
    /// Not at all.
    Off,
    /// Only with what the sun leaves over.
    PvOnly,
    /// The minimum current always, more with what the sun leaves over.
    MinPv,
    /// All it can get, at once.
    Fast,
    /// By the plan: ready when the car leaves; without a plan all it can get.
    #[default]
    Departure,
}

impl ChargingMode {
    /// All of them, as they are shown.
    pub const ALL: [ChargingMode; 5] = [
        ChargingMode::Off,
        ChargingMode::PvOnly,
        ChargingMode::MinPv,
        ChargingMode::Fast,
        ChargingMode::Departure,
    ];

    /// Its name in the site file, in messages, and the key of its text (`mode.<name>`).
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            ChargingMode::Off => "off",
            ChargingMode::PvOnly => "pv_only",
            ChargingMode::MinPv => "min_pv",
            ChargingMode::Fast => "fast",
            ChargingMode::Departure => "departure",
        }
    }

    /// The mode of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<ChargingMode> {
        ChargingMode::ALL.into_iter().find(|mode| mode.name() == name)
    }

    /// The mode that somebody asks for by its name.
    ///
    /// # Errors
    /// Which modes there are, where this is none of them.
    pub fn asked(name: &str) -> Result<ChargingMode, String> {
        let names = || ChargingMode::ALL.map(ChargingMode::name).join(", ");
        ChargingMode::named(name)
            .ok_or_else(|| format!("there is no mode `{name}`: use one of {}", names()))
    }

    /// Whether it goes by what the sun leaves over.
    #[must_use]
    pub fn follows_sun(self) -> bool {
        matches!(self, ChargingMode::PvOnly | ChargingMode::MinPv)
    }
}

/// A mode as HTTP carries it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModeWords {
    /// Name of the mode.
    pub mode: String,
}

/// Modes that people have chosen; the others are as the site file has them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChosenModes(BTreeMap<Id, ChargingMode>);

impl ChosenModes {
    /// The mode of a charger.
    #[must_use]
    pub fn of(&self, charger: &Charger) -> ChargingMode {
        self.0.get(&charger.id).copied().unwrap_or(charger.mode)
    }

    /// From now on; whether that changes anything. What the site file has anyway need not be kept.
    pub fn choose(&mut self, charger: &Charger, mode: ChargingMode) -> bool {
        let before = self.of(charger);
        if mode == charger.mode {
            self.0.remove(&charger.id);
        } else {
            self.0.insert(charger.id.clone(), mode);
        }
        before != mode
    }

    /// Whether nothing is chosen.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those of the chargers that there are.
    #[must_use]
    pub fn on<'a>(&self, chargers: impl Iterator<Item = &'a Charger>) -> ChosenModes {
        let known =
            |charger: &'a Charger| self.0.get(&charger.id).map(|mode| (charger.id.clone(), *mode));
        ChosenModes(chargers.filter_map(known).collect())
    }
}
