//! The hazard machine in virtual time: a guarded store with a battery, a pile, sensors and relays, and the
//! controller over it. `table` walks the risk table line by line, `faults` the rows EN1 to EN5 of the fault
//! matrix, `bounds` the edges of what a sensor can say, `people` who may release what, `traces` random days,
//! `gate` the interlock alone.
//!
//! What a stranger gets wrong: values change between two samples; a sample comes every second, so a bound
//! counted in seconds from the change has that second in it.

mod bounds;
mod faults;
mod gate;
mod people;
pub mod site;
mod table;
mod traces;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use wattgate::logic::controller::Controller;
use wattgate::logic::decision::{Decision, ZoneView};
use wattgate::logic::observation::Observation;
use wattgate::logic::safety::fire::Level;
use wattgate::logic::site::{
    BatteryReading, ChargerReading, ChargerSetpoint, Id, InputsReading, MeterReading, PvReading,
    Reading, RelaySetpoint, Site, Vehicle,
};
use wattgate::logic::vision::{Scene, Tier, Verdict};
use wattgate::units::{Amps, Hertz, Moment, PerPhase, Soc, Volts, Watts};

pub fn id(text: &str) -> Id {
    Id::try_from(text).unwrap()
}

/// Milliamperes of a 4 to 20 mA loop at `percent` of its range.
pub fn loop_ma(percent: f64) -> f64 {
    4.0 + percent / 100.0 * 16.0
}

/// What the modules of the guarded store say when all is well.
pub fn quiet() -> (BTreeMap<String, f64>, BTreeMap<String, f64>) {
    let io = [("gas1", 4.0), ("gas2", 4.0), ("gas3", 4.0), ("smoke", 0.0), ("heat", 0.0)];
    let io = io.into_iter().chain([("stop_closed", 1.0), ("panel", 0.0), ("insulation", 0.0)]);
    let io = io.chain([("board", 40.0), ("contactor_closed", 1.0), ("feeder_closed", 1.0)]);
    let mut bms: BTreeMap<String, f64> =
        [("current".to_owned(), 20.0), ("level".to_owned(), 0.0)].into();
    for cell in 1..=6 {
        bms.insert(format!("t{cell}"), 25.0);
        bms.insert(format!("v{cell}"), 3.3);
    }
    (io.map(|(name, value)| (name.to_owned(), value)).collect(), bms)
}

/// The controller on the bench.
pub struct Rig {
    pub controller: Controller,
    pub io: BTreeMap<String, f64>,
    pub bms: BTreeMap<String, f64>,
    /// Devices that do not answer: `io`, `bms`, `pack`, `grid`, `pile1`, `pile2`, `cam`.
    pub silent: BTreeSet<&'static str>,
    pub verdict: Verdict,
    /// The pile goes on whatever it is told.
    pub deaf: bool,
    /// The contactor does not open.
    pub welded: bool,
    pub battery_w: f64,
    /// State of charge, 0 to 1.
    pub soc: f64,
    pub now: Moment,
    seconds: u64,
    last: Option<Decision>,
}

impl Rig {
    pub fn new() -> Rig {
        Rig::of(site::guarded())
    }

    /// Half a minute in which all is well.
    pub fn of(site: Site) -> Rig {
        let mut rig = Rig::cold(site);
        for _ in 0..30 {
            rig.second();
        }
        assert_eq!(rig.level(), Level::Normal, "{:?}", rig.zone());
        assert!(!rig.zone().fault, "{:?}", rig.zone());
        rig
    }

    /// Nothing has answered yet.
    pub fn cold(site: Site) -> Rig {
        let utc = chrono::DateTime::from_timestamp(1_780_000_000, 0).unwrap();
        let now = Moment { uptime: Duration::from_secs(1000), utc };
        let (io, bms) = quiet();
        Rig {
            controller: Controller::new(site, now),
            io,
            bms,
            silent: BTreeSet::new(),
            verdict: Verdict::Clear,
            deaf: false,
            welded: false,
            battery_w: -4000.0,
            soc: 0.5,
            now,
            seconds: 0,
            last: None,
        }
    }

    pub fn set(&mut self, name: &str, value: f64) {
        let map = if self.io.contains_key(name) { &mut self.io } else { &mut self.bms };
        assert!(map.insert(name.to_owned(), value).is_some(), "there is no {name}");
    }

    pub fn zone(&self) -> ZoneView {
        let overview = self.controller.overview(self.last.as_ref().unwrap());
        overview.zones.into_iter().find(|zone| zone.id == id("store")).unwrap()
    }

    pub fn level(&self) -> Level {
        [Level::Normal, Level::Watch, Level::Alarm, Level::Trip][usize::from(self.zone().level)]
    }

    pub fn decision(&self) -> &Decision {
        self.last.as_ref().unwrap()
    }

    pub fn told(&self, pile: &str) -> ChargerSetpoint {
        self.decision().permitted.charger(&id(pile)).unwrap().0
    }

    pub fn relay(&self, relay: &str) -> RelaySetpoint {
        self.decision().permitted.relay(&id(relay)).unwrap().0
    }

    pub fn battery_told(&self) -> f64 {
        self.decision().permitted.battery(&id("pack")).unwrap().0.get()
    }

    pub fn alarms(&self) -> Vec<String> {
        let alarms = self.controller.overview(self.decision()).alarms;
        alarms.into_iter().filter(|a| a.active).map(|a| a.id).collect()
    }

    /// Seconds until `holds`, at most `most`.
    pub fn until(&mut self, most: u64, holds: impl Fn(&Rig) -> bool) -> Option<u64> {
        (1..=most).find(|_| {
            self.second();
            holds(self)
        })
    }

    pub fn run(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.second();
        }
    }

    /// A second passes, every device answers, the controller decides, the plant follows.
    pub fn second(&mut self) {
        self.seconds += 1;
        self.now = self.now.after(Duration::from_secs(1));
        self.answer();
        let decision = self.controller.decide(self.now);
        self.last = Some(decision);
        if self.relay("contactor") == RelaySetpoint::Act && !self.welded {
            self.set("contactor_closed", 0.0);
            self.set("current", 0.0);
            self.battery_w = 0.0;
        }
        if self.relay("feeder") == RelaySetpoint::Act {
            self.set("feeder_closed", 0.0);
        }
    }

    fn answer(&mut self) {
        let inputs = |values: &BTreeMap<String, f64>| {
            Reading::Inputs(InputsReading { values: values.clone() })
        };
        let soc = Soc::from_ratio(self.soc).unwrap();
        let battery = BatteryReading { power: Watts(self.battery_w), soc };
        let readings = [
            ("grid", Reading::Meter(meter(self.seconds))),
            ("pile1", Reading::Charger(self.pile("pile1"))),
            ("pile2", Reading::Charger(self.pile("pile2"))),
            ("pack", Reading::Hybrid { battery, pv: PvReading { power: Watts(0.0) } }),
            ("io", inputs(&self.io)),
            ("bms", inputs(&self.bms)),
        ];
        for (device, reading) in readings {
            if !self.silent.contains(device) {
                let device = id(device);
                self.controller.observe(Observation::Answered { device, at: self.now, reading });
            }
        }
        if !self.silent.contains("cam") {
            self.controller.observe(Observation::Scene(Scene {
                camera: id("cam"),
                frame: self.seconds,
                at: self.now,
                fire: 0.0,
                smoke: 0.0,
                verdict: self.verdict,
                tier: Tier::Small,
                bays: Vec::new(),
                scored_by: None,
                cpu_ms: 1.0,
                fault: None,
            }));
        }
    }

    fn pile(&self, pile: &str) -> ChargerReading {
        let told = self.last.as_ref().and_then(|d| d.permitted.charger(&id(pile)));
        let told = told.map_or(6.0, |(setpoint, _)| setpoint.amps().get());
        let dead = pile == "pile1" && self.io["feeder_closed"] == 0.0;
        let amps = match (dead, self.deaf && pile == "pile1") {
            (true, _) => 0.0,
            (_, true) => 16.0,
            _ => told,
        };
        ChargerReading {
            vehicle: if amps > 0.0 { Vehicle::Charging } else { Vehicle::Connected },
            current: PerPhase::all(Amps(amps)),
            voltage: PerPhase::all(Volts(230.0)),
            power: Watts(3.0 * 230.0 * amps),
            limit: Amps(told),
            energy: None,
            phases: None,
            lease: None,
        }
    }
}

fn meter(seconds: u64) -> MeterReading {
    let watts = 1000.0 + (seconds % 7) as f64;
    MeterReading {
        power: Watts(3.0 * watts),
        phase_power: PerPhase::all(Watts(watts)),
        current: PerPhase::all(Amps(watts / 230.0)),
        voltage: PerPhase::all(Volts(230.0)),
        frequency: Some(Hertz(50.0)),
        import: None,
        export: None,
    }
}
