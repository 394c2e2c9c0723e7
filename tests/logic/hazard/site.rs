//! A guarded store: one zone with a battery, a pile and a camera, and a second zone with a pile, far away.

use wattgate::logic::site::{
    Battery, Camera, Charger, Compute, GridLimits, Guard, Id, Limits, Mode, OnBlind, Relay,
    RelayKind, Sensor, SensorKind, Site, Zone,
};
use wattgate::units::{Amps, PerPhase, Phase, Soc, Volts, Watts};

use super::id;

/// Floor of the battery, a share of its charge.
pub const FLOOR: f64 = 0.1;

fn pile(name: &str) -> Charger {
    Charger {
        id: id(name),
        name: name.into(),
        phases: Phase::ALL.to_vec(),
        min: Amps(6.0),
        max: Amps(32.0),
        failsafe: Amps(6.0),
        step: Amps(0.1),
        stay: None,
        right: Default::default(),
        switching: None,
        mode: wattgate::logic::site::ChargingMode::default(),
        falls_back_within: wattgate::logic::site::FALLS_BACK_WITHIN,
    }
}

fn zone(name: &str, pile: &str, (cameras, battery): (Vec<Id>, Option<Id>)) -> Zone {
    Zone {
        id: id(name),
        bays: Vec::new(),
        chargers: vec![id(pile)],
        cameras,
        battery,
        neighbours: Vec::new(),
        on_blind: OnBlind::Derate,
    }
}

pub fn sensor(name: &str, kind: SensorKind, (device, points): (&str, &[&str])) -> Sensor {
    Sensor {
        id: id(name),
        name: name.into(),
        kind,
        zones: vec![id("store")],
        device: id(device),
        points: points.iter().map(|&point| point.to_owned()).collect(),
        active_low: false,
        loop_full: None,
        certified: false,
        stuck_after: None,
        proof_every: None,
    }
}

fn relay(name: &str, kind: RelayKind, feedback: Option<&str>) -> Relay {
    Relay {
        id: id(name),
        name: name.into(),
        kind,
        zones: vec![id("store")],
        device: id("io"),
        feedback: feedback.map(|point| (id("io"), point.to_owned())),
        proof_every: None,
    }
}

fn gas(name: &str) -> Sensor {
    Sensor { loop_full: Some(100.0), ..sensor(name, SensorKind::Gas, ("io", &[name])) }
}

pub fn guard() -> Guard {
    use SensorKind as Kind;
    let temperatures = ["t1", "t2", "t3", "t4", "t5", "t6"];
    let voltages = ["v1", "v2", "v3", "v4", "v5", "v6"];
    let stop = sensor("stop", Kind::EmergencyStop, ("io", &["stop_closed"]));
    let limits =
        Limits { confirmed_by: Some("data sheet of the maker".into()), ..Limits::default() };
    Guard {
        dimming: None,
        sensors: vec![
            gas("gas1"),
            gas("gas2"),
            gas("gas3"),
            sensor("smoke", Kind::Smoke, ("io", &["smoke"])),
            sensor("heat", Kind::Heat, ("io", &["heat"])),
            Sensor { active_low: true, ..stop },
            sensor("panel", Kind::FirePanel, ("io", &["panel"])),
            sensor("insulation", Kind::Insulation, ("io", &["insulation"])),
            sensor("board", Kind::BoardTemperature, ("io", &["board"])),
            sensor("cells", Kind::CellTemperature, ("bms", &temperatures)),
            sensor("volts", Kind::CellVoltage, ("bms", &voltages)),
            sensor("current", Kind::BatteryCurrent, ("bms", &["current"])),
            sensor("level", Kind::BmsLevel, ("bms", &["level"])),
        ],
        relays: vec![
            relay("contactor", RelayKind::Contactor, Some("contactor_closed")),
            relay("breaker", RelayKind::ShuntTrip, None),
            relay("feeder", RelayKind::Feeder, Some("feeder_closed")),
            relay("siren", RelayKind::Siren, None),
            relay("fan", RelayKind::Fan, None),
        ],
        limits: [(id("store"), limits)].into(),
        roles: Default::default(),
        lines: Vec::new(),
    }
}

pub fn guarded() -> Site {
    let store = zone("store", "pile1", (vec![id("cam")], Some(id("pack"))));
    Site {
        id: id("guarded"),
        name: "guarded".into(),
        mode: Mode::Auto,
        limits: GridLimits {
            limit: PerPhase::all(Amps(80.0)),
            breaker: Amps(100.0),
            nominal_voltage: Volts(230.0),
            max_base_load: Amps(20.0),
            power: None,
            unbalance: None,
            demand: None,
            dimmed_least: Watts::ZERO,
            export: None,
        },
        meter: id("grid"),
        chargers: vec![pile("pile1"), pile("pile2")],
        batteries: vec![Battery {
            id: id("pack"),
            name: "pack".into(),
            max_charge: Watts(10_000.0),
            max_discharge: Watts(10_000.0),
            min_soc: Soc::from_ratio(FLOOR).unwrap(),
            capacity: None,
            strategy: Default::default(),
        }],
        computes: Vec::new(),
        pvs: Vec::new(),
        inverters: Vec::new(),
        bays: Vec::new(),
        zones: vec![store, zone("far", "pile2", (Vec::new(), None))],
        cameras: vec![Camera { id: id("cam"), name: "cam".into() }],
        tariff: None,
        circuits: Vec::new(),
        guard: guard(),
        work: Default::default(),
    }
}

/// The demo's compute node.
pub fn node() -> Compute {
    Compute {
        id: id("node"),
        name: "node".into(),
        phases: Phase::ALL.to_vec(),
        min: Watts(800.0),
        max: Watts(6000.0),
        failsafe: Watts(2000.0),
        step: Watts(1.0),
    }
}
