//! What guards the site against harm: sensors and relays on input/output modules, the limits of each
//! zone's battery, and the people who may release what was tripped. Valid by construction of `config`.
//!
//! What a stranger gets wrong: one `Sensor` is one voice in a vote. All cells behind one sensor (a
//! battery monitoring unit) speak with that one voice; a second voice needs a second sensor.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{DimContact, Id};

/// What a sensor measures or watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SensorKind {
    /// Combustible gas, in the unit of the zone's `gas_stage1` and `gas_stage2` (usually % LEL).
    Gas,
    /// A smoke point: 0 quiet, anything else smoke.
    Smoke,
    /// A heat point: 0 quiet, anything else heat.
    Heat,
    /// An emergency stop. A hard input: it trips alone and at once.
    EmergencyStop,
    /// The alarm contact of a fire panel. A hard input.
    FirePanel,
    /// Temperatures of cells or modules that are neighbours, °C.
    CellTemperature,
    /// Voltages of cells that are neighbours, V.
    CellVoltage,
    /// Current of the battery, A; its sign does not matter here.
    BatteryCurrent,
    /// Alarm level of the battery's own management: 0 none, 1 warning, 2 and more alarm.
    BmsLevel,
    /// Contact of an insulation monitor: 0 sound, anything else a fault.
    Insulation,
    /// Temperature of a charger's board, °C.
    BoardTemperature,
}

impl SensorKind {
    /// All of them.
    pub const ALL: [SensorKind; 11] = [
        SensorKind::Gas,
        SensorKind::Smoke,
        SensorKind::Heat,
        SensorKind::EmergencyStop,
        SensorKind::FirePanel,
        SensorKind::CellTemperature,
        SensorKind::CellVoltage,
        SensorKind::BatteryCurrent,
        SensorKind::BmsLevel,
        SensorKind::Insulation,
        SensorKind::BoardTemperature,
    ];

    /// Its name in the site file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            SensorKind::Gas => "gas",
            SensorKind::Smoke => "smoke",
            SensorKind::Heat => "heat",
            SensorKind::EmergencyStop => "emergency_stop",
            SensorKind::FirePanel => "fire_panel",
            SensorKind::CellTemperature => "cell_temperature",
            SensorKind::CellVoltage => "cell_voltage",
            SensorKind::BatteryCurrent => "battery_current",
            SensorKind::BmsLevel => "bms_level",
            SensorKind::Insulation => "insulation",
            SensorKind::BoardTemperature => "board_temperature",
        }
    }

    /// Whether it trips alone: a certified input that a person or a fire panel acts on.
    #[must_use]
    pub fn is_hard(self) -> bool {
        matches!(self, SensorKind::EmergencyStop | SensorKind::FirePanel)
    }

    /// Whether its values are contacts, not amounts.
    #[must_use]
    pub fn is_contact(self) -> bool {
        self.is_hard()
            || matches!(self, SensorKind::Smoke | SensorKind::Heat | SensorKind::Insulation)
    }

    /// Whether it comes from the battery's own management: its silence is fault EN4.
    #[must_use]
    pub fn is_bms(self) -> bool {
        matches!(
            self,
            SensorKind::CellTemperature
                | SensorKind::CellVoltage
                | SensorKind::BatteryCurrent
                | SensorKind::BmsLevel
        )
    }
}

/// One sensor: one voice.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sensor {
    /// Its id.
    pub id: Id,
    /// What people call it.
    pub name: String,
    /// What it is.
    pub kind: SensorKind,
    /// Zones that it guards; at least one.
    pub zones: Vec<Id>,
    /// The device that delivers it.
    pub device: Id,
    /// Values of that device that belong to it; at least one.
    pub points: Vec<String>,
    /// A contact that opens when there is danger: 0 means danger.
    pub active_low: bool,
    /// Upper end of a 4 to 20 mA loop in the sensor's unit; nothing: values come in that unit.
    pub loop_full: Option<f64>,
    /// Its highest stage counts as a hard input: it isolates a battery alone.
    pub certified: bool,
    /// A value that does not change by a bit for this long is a fault.
    pub stuck_after: Option<Duration>,
    /// It must be seen to react this often.
    pub proof_every: Option<Duration>,
}

/// What a relay does when it acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RelayKind {
    /// Opens the battery's contactor.
    Contactor,
    /// Trips the breaker above a contactor that did not open.
    ShuntTrip,
    /// Opens the feeder of the zone's chargers.
    Feeder,
    /// Sounds and flashes.
    Siren,
    /// Ventilates.
    Fan,
}

impl RelayKind {
    /// All of them.
    pub const ALL: [RelayKind; 5] = [
        RelayKind::Contactor,
        RelayKind::ShuntTrip,
        RelayKind::Feeder,
        RelayKind::Siren,
        RelayKind::Fan,
    ];

    /// Its name in the site file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            RelayKind::Contactor => "contactor",
            RelayKind::ShuntTrip => "shunt_trip",
            RelayKind::Feeder => "feeder",
            RelayKind::Siren => "siren",
            RelayKind::Fan => "fan",
        }
    }
}

/// One relay.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Relay {
    /// Its id.
    pub id: Id,
    /// What people call it.
    pub name: String,
    /// What it does.
    pub kind: RelayKind,
    /// Zones that it acts for; at least one.
    pub zones: Vec<Id>,
    /// The device that drives it.
    pub device: Id,
    /// Device and value of its feedback contact; a value of 0 means open.
    pub feedback: Option<(Id, String)>,
    /// It must be seen to act this often.
    pub proof_every: Option<Duration>,
}

/// When a zone counts as how dangerous. Defaults of design/safety; a battery's own come from its maker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// A cell over this is on watch, °C.
    pub cell_watch_c: f64,
    /// A cell from this on is an alarm, °C.
    pub cell_alarm_c: f64,
    /// A cell from this on is a trip, °C.
    pub cell_trip_c: f64,
    /// Cells further apart than this are on watch, K.
    pub cell_spread_k: f64,
    /// Rise against the neighbours over two minutes, K/min.
    pub rise_watch_k_min: f64,
    /// Rise over ten seconds, K/s.
    pub rise_alarm_k_s: f64,
    /// Rise over three seconds, K/s.
    pub rise_trip_k_s: f64,
    /// A cell further from its neighbours than this, at rest for ten minutes, is on watch, V.
    pub cell_off_v: f64,
    /// Share of its voltage that a cell loses within a minute when it fails.
    pub voltage_drop: f64,
    /// A battery below this current is at rest, and an isolated one carries no more, A.
    pub rest_a: f64,
    /// First stage of gas.
    pub gas_stage1: f64,
    /// Second stage of gas.
    pub gas_stage2: f64,
    /// A charger's board over this is on watch, °C.
    pub board_watch_c: f64,
    /// A charger's board from this on is an alarm, °C.
    pub board_alarm_c: f64,
    /// Where the battery's maker confirmed these limits; without it the contactor is never opened.
    pub confirmed_by: Option<String>,
    /// The maker wants the contactor open when the battery's management falls silent.
    pub isolate_on_bms_loss: bool,
}

impl Default for Limits {
    /// The risk table of design/safety. Gas stages are our own figures, in % LEL, and so are the board's.
    fn default() -> Limits {
        Limits {
            cell_watch_c: 45.0,
            cell_alarm_c: 55.0,
            cell_trip_c: 60.0,
            cell_spread_k: 8.0,
            rise_watch_k_min: 1.0,
            rise_alarm_k_s: 0.1,
            rise_trip_k_s: 1.0,
            cell_off_v: 0.05,
            voltage_drop: 0.25,
            rest_a: 1.0,
            gas_stage1: 20.0,
            gas_stage2: 40.0,
            board_watch_c: 85.0,
            board_alarm_c: 100.0,
            confirmed_by: None,
            isolate_on_bms_loss: false,
        }
    }
}

/// Who may release a latched zone, by name. Without any name, whoever is at the device itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roles {
    /// May release an Alarm.
    pub operators: Vec<String>,
    /// May release an Alarm and a Trip.
    pub safety: Vec<String>,
}

impl Roles {
    /// Whether this person may release a zone that is `tripped`, or only in alarm.
    #[must_use]
    pub fn may_release(&self, person: &str, tripped: bool) -> bool {
        let named = |names: &[String]| names.iter().any(|name| name == person);
        if tripped {
            self.safety.is_empty() || named(&self.safety)
        } else {
            let open = self.operators.is_empty() && self.safety.is_empty();
            open || named(&self.operators) || named(&self.safety)
        }
    }
}

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Guard {
    /// Sensors.
    pub sensors: Vec<Sensor>,
    /// Relays.
    pub relays: Vec<Relay>,
    /// Limits of the zones that have their own.
    pub limits: BTreeMap<Id, Limits>,
    /// People.
    pub roles: Roles,
    /// Devices that share a line: where none of them answers, that is one trouble.
    #[serde(default)]
    pub lines: Vec<Vec<Id>>,
    /// The grid operator's contact, where there is one.
    #[serde(default)]
    pub dimming: Option<DimContact>,
}

impl Guard {
    /// The limits of a zone.
    #[must_use]
    pub fn limits(&self, zone: &Id) -> Limits {
        self.limits.get(zone).cloned().unwrap_or_default()
    }

    /// Every device that sensors, relays and the grid operator's contact speak through, each once.
    #[must_use]
    pub fn devices(&self) -> Vec<Id> {
        let sensors = self.sensors.iter().map(|sensor| &sensor.device);
        let relays = self.relays.iter().map(|relay| &relay.device);
        let feedbacks = self.relays.iter().filter_map(|relay| Some(&relay.feedback.as_ref()?.0));
        let contact = self.dimming.iter().map(|contact| &contact.device);
        let all: std::collections::BTreeSet<&Id> =
            sensors.chain(relays).chain(feedbacks).chain(contact).collect();
        all.into_iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trip_is_released_by_the_safety_role_only() {
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        let roles = Roles { operators: names(&["Li"]), safety: names(&["Wang"]) };
        for (person, alarm, trip) in
            [("Li", true, false), ("Wang", true, true), ("Zhao", false, false)]
        {
            assert_eq!(roles.may_release(person, false), alarm, "{person}");
            assert_eq!(roles.may_release(person, true), trip, "{person}");
        }
        assert!(Roles::default().may_release("Zhao", true), "nobody is named");
        let safety_only = Roles { operators: Vec::new(), safety: names(&["Wang"]) };
        assert!(!safety_only.may_release("Zhao", false));
    }
}
