//! One site on the bench: the simulated world, the controller, and between them what the field bus
//! would carry, in virtual time.

use std::time::Duration;

use simulators::physics::{Pile, PlugState, StorageControl, World};
use simulators::scenario::Scenario;
use wattgate::logic::controller::Controller;
use wattgate::logic::decision::{Decision, Overview};
use wattgate::logic::observation::Observation;
use wattgate::logic::site::{
    Battery, BatteryReading, Bay, Camera, Charger, ChargerReading, ChargerSetpoint, ChargingMode,
    ComputeReading, Daybook, FALLS_BACK_WITHIN, GridLimits, Id, LEAST_EACH, MeterReading, Mode,
    OnBlind, PvReading, Reading, Right, Site, Target, Vehicle, Zone,
};
use wattgate::logic::vision::{BayLook, Scene, Tier, Verdict};
use wattgate::units::{Amps, Hertz, Moment, PerPhase, Phase, Soc, Volts, WattHours, Watts};

use crate::checkers::Checkers;

/// Limit of the site with one pile.
const LIMIT_A: f64 = 35.0;

/// Who does not answer.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silenced {
    pub meter: bool,
    pub charger: bool,
    pub vision: bool,
}

pub struct Bench {
    pub world: World,
    pub rng: fastrand::Rng,
    pub silenced: Silenced,
    pub verdict: Verdict,
    controller: Controller,
    checkers: Checkers,
    now: Moment,
    meter_at: Option<Moment>,
    seed: u64,
    frame: u64,
    last: Option<Decision>,
    started_wh: f64,
    /// Drivers say what they need and when they leave.
    pub drivers_tell: bool,
    /// What the eyes say of the bays.
    pub looks: Vec<BayLook>,
    /// What these scores are of.
    pub scored_by: u32,
    told: Vec<Option<f64>>,
}

pub fn id(text: &str) -> Id {
    Id::try_from(text).unwrap()
}

pub fn site() -> Site {
    Site {
        id: id("bench"),
        name: "bench".into(),
        mode: Mode::Auto,
        limits: GridLimits {
            limit: PerPhase::all(Amps(LIMIT_A)),
            breaker: Amps(40.0),
            nominal_voltage: Volts(230.0),
            max_base_load: Amps(25.0),
            power: None,
            unbalance: None,
            demand: None,
            dimmed_least: LEAST_EACH,
            export: None,
        },
        meter: id("grid"),
        chargers: vec![Charger {
            id: id("pile1"),
            name: "pile1".into(),
            phases: Phase::ALL.to_vec(),
            min: Amps(6.0),
            max: Amps(32.0),
            failsafe: Amps(6.0),
            step: Amps(0.1),
            stay: None,
            right: Right::default(),
            switching: None,
            mode: ChargingMode::default(),
            falls_back_within: FALLS_BACK_WITHIN,
        }],
        batteries: vec![Battery {
            id: id("hybrid"),
            name: "hybrid".into(),
            max_charge: Watts(10_000.0),
            max_discharge: Watts(10_000.0),
            min_soc: Soc::from_ratio(0.1).unwrap(),
            capacity: None,
            strategy: Default::default(),
        }],
        pvs: vec![id("hybrid")],
        inverters: Vec::new(),
        bays: vec![Bay {
            id: id("bay1"),
            name: "bay1".into(),
            charger: Some(id("pile1")),
            camera: Some(id("cam1")),
            polygon: vec![[0.1, 0.1], [0.4, 0.1], [0.4, 0.5]],
        }],
        zones: vec![Zone {
            id: id("site"),
            bays: vec![id("bay1")],
            chargers: vec![id("pile1")],
            cameras: vec![id("cam1")],
            battery: Some(id("hybrid")),
            neighbours: Vec::new(),
            on_blind: OnBlind::Derate,
        }],
        cameras: vec![Camera { id: id("cam1"), name: "cam1".into() }],
        computes: Vec::new(),
        tariff: None,
        circuits: Vec::new(),
        guard: Default::default(),
        work: Default::default(),
    }
}

impl Bench {
    pub fn new(seed: u64) -> Bench {
        Bench::of(site(), Scenario::one_pile(), seed)
    }

    /// A site and what happens on it; one pile, as in [`site`].
    pub fn of(site: Site, scenario: Scenario, seed: u64) -> Bench {
        // The site's local time is the scenario's.
        let midnight = chrono::NaiveDate::from_ymd_opt(2026, 5, 28).unwrap().and_hms_opt(0, 0, 0);
        let zone = site.tariff.as_ref().map_or(chrono_tz::Tz::UTC, |tariff| tariff.zone);
        let midnight = midnight.unwrap().and_local_timezone(zone).unwrap().to_utc();
        let hour = (scenario.start_hour * 3600.0) as i64;
        let utc = midnight + chrono::Duration::seconds(hour);
        let now = Moment { uptime: Duration::from_secs(1000), utc };
        let world = World::new(scenario, seed);
        Bench {
            started_wh: world.piles[0].energy_wh,
            world,
            rng: fastrand::Rng::with_seed(seed),
            silenced: Silenced::default(),
            verdict: Verdict::Clear,
            controller: Controller::new(site, now),
            checkers: Checkers::default(),
            now,
            meter_at: None,
            seed,
            frame: 0,
            last: None,
            drivers_tell: false,
            looks: Vec::new(),
            scored_by: 1,
            told: Vec::new(),
        }
    }

    pub fn site(&self) -> &Site {
        self.controller.site()
    }

    pub fn pile(&self) -> Id {
        id("pile1")
    }

    pub fn told(&self) -> ChargerSetpoint {
        self.last
            .as_ref()
            .and_then(|d| d.permitted.charger(&self.pile()))
            .map_or(ChargerSetpoint::Pause, |s| s.0)
    }

    pub fn energy_to_cars_wh(&self) -> f64 {
        self.world.piles[0].energy_wh - self.started_wh
    }

    /// Seconds since the start.
    pub fn seconds(&self) -> u64 {
        self.now.uptime.as_secs() - 1000
    }

    /// One line on what every charger does, for a person who looks for a cause.
    #[allow(clippy::print_stdout)]
    pub fn trace(&self) {
        let Some(last) = &self.last else { return };
        let cars: Vec<String> = self
            .world
            .piles
            .iter()
            .map(|pile| {
                let (setpoint, why) = last.permitted.charger(&id(&pile.id)).unwrap();
                let soc = pile.car.as_ref().map_or(0.0, |car| car.soc());
                let (told, takes) = (setpoint.amps().get(), pile.current_a);
                format!("{soc:.2} {told:4.1}/{takes:4.1} {}", why.code())
            })
            .collect();
        let grid = self.world.truth().grid_a.map(|a| a.round());
        println!("{:6} {grid:?} {}", self.seconds(), cars.join(" | "));
    }

    pub fn longest_over_s(&self) -> f64 {
        self.checkers.longest_over_s()
    }

    pub fn overview(&self) -> Overview {
        self.controller.overview(self.last.as_ref().unwrap())
    }

    /// Something comes in that the world does not say by itself.
    /// The daybook as it would be kept now.
    pub fn days(&self) -> Daybook {
        self.controller.days()
    }

    pub fn tell(&mut self, what: impl FnOnce(Moment) -> Observation) {
        let observation = what(self.now);
        self.controller.observe(observation);
    }

    pub fn now(&self) -> Moment {
        self.now
    }

    pub fn run(&mut self, seconds: u32) {
        for _ in 0..seconds {
            self.second();
        }
    }

    /// One second: the world moves, is read, the controller decides, the devices are told.
    pub fn second(&mut self) -> Decision {
        for _ in 0..4 {
            self.world.step(0.25);
            let limit = self.site().limits.limit.on(Phase::L1).get();
            self.checkers.currents(self.world.truth().grid_a, limit, 0.25, self.seed);
        }
        self.now = self.now.after(Duration::from_secs(1));
        self.observe();
        let decision = self.controller.decide(self.now);
        let age = self.meter_at.map_or(Duration::MAX, |at| at.age_at(self.now));
        let meter_fresh = age < Duration::from_secs(5);
        self.checkers.decision(self.controller.site(), &decision, meter_fresh, self.seed);
        if decision.writing {
            for pile in &mut self.world.piles {
                let (setpoint, _) = decision.permitted.charger(&id(&pile.id)).unwrap();
                pile.write_setpoint(setpoint.amps().get());
            }
            if let Some(node) = &mut self.world.node {
                node.write_cap(decision.permitted.compute(&id("node")).unwrap().0.get());
            }
            let watts = decision.permitted.battery(&id("hybrid")).unwrap().0.get();
            let largest = self.world.hybrid.max_w;
            self.world.hybrid.control = StorageControl::pinned(watts, largest, 30);
        }
        self.last = Some(decision.clone());
        decision
    }

    fn observe(&mut self) {
        let at = self.now;
        if !self.silenced.meter {
            self.meter_at = Some(at);
            let reading = Reading::Meter(self.meter());
            self.controller.observe(Observation::Answered { device: id("grid"), at, reading });
        }
        for i in 0..self.world.piles.len() {
            if self.silenced.charger && i == 0 {
                continue;
            }
            let pile = &self.world.piles[i];
            let (device, reading) = (id(&pile.id), Reading::Charger(self.charger(pile)));
            self.controller.observe(Observation::Answered { device, at, reading });
        }
        if self.drivers_tell {
            self.drivers();
        }
        if let Some(node) = &self.world.node {
            let reading = Reading::Compute(ComputeReading {
                power: Watts(node.power_w),
                cap: Watts(node.cap_w()),
                energy: Some(WattHours(node.energy_wh)),
            });
            self.controller.observe(Observation::Answered { device: id("node"), at, reading });
        }
        let hybrid = &self.world.hybrid;
        let reading = Reading::Hybrid {
            battery: BatteryReading {
                power: Watts(hybrid.battery_w),
                soc: Soc::from_ratio(hybrid.soc()).unwrap(),
            },
            pv: PvReading { power: Watts(hybrid.pv_w) },
        };
        self.controller.observe(Observation::Answered { device: id("hybrid"), at, reading });
        if !self.silenced.vision {
            self.frame += 1;
            self.controller.observe(Observation::Scene(Scene {
                camera: id("cam1"),
                frame: self.frame,
                at,
                fire: 0.0,
                smoke: 0.0,
                verdict: self.verdict,
                tier: Tier::Small,
                bays: self.looks.clone(),
                scored_by: Some(self.scored_by),
                cpu_ms: 5.0,
                fault: None,
            }));
        }
    }

    fn meter(&mut self) -> MeterReading {
        let noise = (self.rng.f64() - 0.5) * 0.1;
        let powers = self.world.grid_phases_w();
        let volts = self.world.volts;
        MeterReading {
            power: Watts(powers.iter().sum()),
            phase_power: PerPhase(powers.map(Watts)),
            current: PerPhase(std::array::from_fn(|i| Amps(powers[i] / volts[i] + noise))),
            voltage: PerPhase(volts.map(Volts)),
            frequency: Some(Hertz(50.0)),
            import: None,
            export: None,
        }
    }

    /// Whoever has just plugged in says what the car lacks and when it leaves.
    fn drivers(&mut self) {
        self.told.resize(self.world.piles.len(), None);
        for i in 0..self.world.piles.len() {
            let pile = &self.world.piles[i];
            let leaves = self.world.leaves_s(&pile.id);
            if std::mem::replace(&mut self.told[i], leaves) == leaves {
                continue;
            }
            let (Some(leaves), Some(car)) = (leaves, &pile.car) else { continue };
            let stays = (leaves - self.world.elapsed_s) as i64;
            let target = Target {
                need: WattHours(car.capacity_wh - car.energy_wh),
                leaves: self.now.utc + chrono::Duration::seconds(stays),
            };
            let charger = id(&pile.id);
            self.controller.observe(Observation::Asked { charger, target, at: self.now });
        }
    }

    fn charger(&self, pile: &Pile) -> ChargerReading {
        let currents = pile.currents();
        let power: f64 = currents.iter().zip(self.world.volts).map(|(a, v)| a * v).sum();
        ChargerReading {
            vehicle: match pile.state() {
                PlugState::A => Vehicle::Absent,
                PlugState::B => Vehicle::Connected,
                PlugState::C => Vehicle::Charging,
            },
            current: PerPhase(currents.map(Amps)),
            voltage: PerPhase(self.world.volts.map(Volts)),
            power: Watts(power),
            limit: Amps(pile.limit_a()),
            energy: Some(WattHours(pile.energy_wh)),
            phases: None,
            lease: None,
        }
    }
}
