//! Signs of harm: every line of the risk table as a word of its own, with the level that it asks for.
//!
//! What a stranger gets wrong: a sign is what holds now. What was once a sign and had to be remembered
//! is the level of the zone (`fire`), not in here.

use serde::{Deserialize, Serialize};

use super::fire::Level;
use crate::logic::site::Id;

/// One line of the risk table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sign {
    /// A camera doubts in two looks.
    SeenDoubtful,
    /// A cell is over the watch limit.
    CellWarm,
    /// Cells are too far apart in temperature.
    CellSpread,
    /// A cell rises against its neighbours.
    CellDrifts,
    /// A cell's voltage is off its neighbours at rest.
    CellOff,
    /// A quarter of gas stage 1.
    GasTrace,
    /// The battery's management warns.
    BmsWarns,
    /// The battery's management is silent.
    BmsSilent,
    /// The insulation monitor reports a fault.
    Insulation,
    /// A charger's board is too warm.
    BoardWarm,
    /// A sensor that guards against fire is lost.
    SensorLost,
    /// A sensor or relay was not seen to react for too long.
    ProofOverdue,
    /// One sample at an alarm limit: it stops the zone for a moment, and the next one decides.
    Unconfirmed,
    /// Flame or smoke confirmed by a camera.
    SeenFire,
    /// A cell is at the alarm limit.
    CellHot,
    /// A cell rises by the alarm rate.
    CellRises,
    /// Gas stage 1 at one sensor.
    Gas,
    /// A smoke point.
    Smoke,
    /// A heat point.
    Heat,
    /// The battery's management is in alarm.
    BmsAlarm,
    /// A charger's board is at the alarm limit.
    BoardHot,
    /// Two different watch signs on one battery.
    TwoWatchSigns,
    /// A cell is at the trip limit.
    CellBurns,
    /// A cell rises by the trip rate.
    CellRunsAway,
    /// A cell lost its voltage while the battery is warm.
    CellCollapses,
    /// Gas stage 2, or stage 1 at two sensors.
    GasHigh,
    /// Smoke and heat together.
    SmokeAndHeat,
    /// The emergency stop is pressed.
    EmergencyStop,
    /// The fire panel is in alarm.
    FirePanel,
}

impl Sign {
    /// The level that it asks for.
    #[must_use]
    pub fn level(self) -> Level {
        match self {
            Sign::SeenDoubtful
            | Sign::CellWarm
            | Sign::CellSpread
            | Sign::CellDrifts
            | Sign::CellOff
            | Sign::GasTrace
            | Sign::BmsWarns
            | Sign::BmsSilent
            | Sign::Insulation
            | Sign::BoardWarm
            | Sign::SensorLost
            | Sign::ProofOverdue
            | Sign::Unconfirmed => Level::Watch,
            Sign::SeenFire
            | Sign::CellHot
            | Sign::CellRises
            | Sign::Gas
            | Sign::Smoke
            | Sign::Heat
            | Sign::BmsAlarm
            | Sign::BoardHot
            | Sign::TwoWatchSigns => Level::Alarm,
            Sign::CellBurns
            | Sign::CellRunsAway
            | Sign::CellCollapses
            | Sign::GasHigh
            | Sign::SmokeAndHeat
            | Sign::EmergencyStop
            | Sign::FirePanel => Level::Trip,
        }
    }

    /// Whether it is about the battery itself: two different ones of these make an alarm.
    #[must_use]
    pub fn is_of_battery(self) -> bool {
        matches!(
            self,
            Sign::CellWarm
                | Sign::CellSpread
                | Sign::CellDrifts
                | Sign::CellOff
                | Sign::GasTrace
                | Sign::BmsWarns
                | Sign::Insulation
        )
    }

    /// Whether an alarm of its own tells of it: of the device that is lost, or of the proof.
    #[must_use]
    pub fn is_told_otherwise(self) -> bool {
        matches!(self, Sign::SensorLost | Sign::BmsSilent | Sign::ProofOverdue)
    }

    /// Whether it is a temperature that makes a lost voltage believable.
    #[must_use]
    pub fn is_of_temperature(self) -> bool {
        matches!(
            self,
            Sign::CellWarm
                | Sign::CellSpread
                | Sign::CellDrifts
                | Sign::CellHot
                | Sign::CellRises
                | Sign::CellBurns
                | Sign::CellRunsAway
        )
    }
}

/// A sign and who gives it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Cause {
    /// What.
    pub sign: Sign,
    /// The sensor, relay or camera; for what several say together, the zone.
    pub by: Id,
}
