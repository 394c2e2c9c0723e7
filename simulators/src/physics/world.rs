//! The whole site, stepped together. The grid carries what is left: building and cars less PV and
//! battery, on each phase.

use std::collections::BTreeMap;

use super::charger::{Car, Pile};
use super::habits::use_of_hour;
use super::hybrid::Hybrid;
use super::module::Module;
use super::node::Node;
use crate::scenario::{Event, EventKind, Scenario, Visit};

/// One bay with its visitors.
#[derive(Clone, Debug)]
pub struct Bay {
    /// Its id.
    pub id: String,
    /// The pile that serves it.
    pub pile: Option<String>,
    /// Whether a car stands there.
    pub occupied: bool,
    /// Which car it looks like; changes with every visitor.
    pub look: u64,
    /// Flame on the bay, 0 to 1.
    pub fire: f64,
    /// Smoke on the bay, 0 to 1.
    pub smoke: f64,
}

/// What is overridden by a test or a person; `None` leaves it to the model.
#[derive(Clone, Debug, Default)]
struct Overrides {
    building_w: Option<f64>,
    pv_w: Option<f64>,
    occupied: BTreeMap<String, bool>,
}

/// The world.
#[derive(Clone, Debug)]
pub struct World {
    scenario: Scenario,
    rng: fastrand::Rng,
    /// Site time since the start, s.
    pub elapsed_s: f64,
    /// Piles.
    pub piles: Vec<Pile>,
    /// The hybrid inverter.
    pub hybrid: Hybrid,
    /// The compute node, if there is one.
    pub node: Option<Node>,
    /// The input/output module of a guarded store, if there is one.
    pub module: Option<Module>,
    /// Bays.
    pub bays: Vec<Bay>,
    /// Voltage of each phase, V.
    pub volts: [f64; 3],
    /// Grid frequency, Hz.
    pub hertz: f64,
    /// Building load of each phase, W.
    pub building_w: [f64; 3],
    /// Energy imported on each phase, Wh.
    pub import_phase_wh: [f64; 3],
    /// Energy exported on each phase, Wh.
    pub export_phase_wh: [f64; 3],
    /// Imported energy, Wh.
    pub import_wh: f64,
    /// Exported energy, Wh.
    pub export_wh: f64,
    overrides: Overrides,
    /// Share of the sun that comes through.
    clouds: f64,
    /// The share that the sky is moving to, and until when, s.
    cloud: (f64, f64),
    /// Whether the broker can be reached.
    pub broker_up: bool,
    /// Events of the scenario that have happened.
    played: usize,
    /// Until then nobody comes or goes, s.
    visits_due_s: f64,
}

impl World {
    /// A site as the scenario starts it.
    #[must_use]
    pub fn new(scenario: Scenario, seed: u64) -> World {
        let bay = |i: usize| Bay {
            id: format!("bay{}", i + 1),
            pile: (i < scenario.piles.len()).then(|| format!("pile{}", i + 1)),
            occupied: false,
            look: i as u64,
            fire: 0.0,
            smoke: 0.0,
        };
        let number = |(i, spec)| Pile::new(&format!("pile{}", i + 1), spec);
        let piles = scenario.piles.iter().enumerate().map(number);
        let mut world = World {
            piles: piles.collect(),
            node: scenario.node_w.map(Node::new),
            module: scenario.module.then(Module::default),
            bays: (0..scenario.bays).map(bay).collect(),
            scenario,
            rng: fastrand::Rng::with_seed(seed),
            elapsed_s: 0.0,
            hybrid: Hybrid::default(),
            volts: [230.0; 3],
            hertz: 50.0,
            building_w: [0.0; 3],
            import_phase_wh: [1_500_000.0, 1_100_000.0, 856_000.0],
            export_phase_wh: [400_000.0, 412_000.0, 422_000.0],
            import_wh: 3_456_000.0,
            export_wh: 1_234_000.0,
            overrides: Overrides::default(),
            clouds: 0.9,
            cloud: (0.9, 30.0),
            broker_up: true,
            played: 0,
            visits_due_s: 0.0,
        };
        world.step(0.001);
        world
    }

    /// Moves on by `dt` seconds; steps longer than half a second are split.
    pub fn step(&mut self, dt: f64) {
        let parts = (dt / 0.5).ceil().max(1.0);
        for _ in 0..parts as usize {
            self.small_step(dt / parts);
        }
    }

    fn small_step(&mut self, dt: f64) {
        self.elapsed_s += dt;
        self.play();
        if self.elapsed_s >= self.visits_due_s {
            self.visits();
            self.visits_due_s = self.next_visit_s();
        }
        self.load(dt);
        let pv = self.sun();
        self.hybrid.step(dt, pv);
        let volts = self.volts;
        for pile in &mut self.piles {
            pile.step(dt, volts);
        }
        if let Some(node) = &mut self.node {
            node.step(dt, self.elapsed_s);
        }
        if let Some(module) = &mut self.module {
            module.cut_off(&mut self.hybrid, &mut self.piles);
        }
        let phases = self.grid_phases_w();
        let grid: f64 = phases.iter().sum();
        if grid > 0.0 {
            self.import_wh += grid * dt / 3600.0;
        } else {
            self.export_wh -= grid * dt / 3600.0;
        }
        for (i, watts) in phases.into_iter().enumerate() {
            self.import_phase_wh[i] += watts.max(0.0) * dt / 3600.0;
            self.export_phase_wh[i] += (-watts).max(0.0) * dt / 3600.0;
        }
        let sag = |i: usize| 0.02 * phases[i] / self.volts[i];
        self.volts = [231.0 - sag(0), 230.4 - sag(1), 229.8 - sag(2)];
        self.hertz = 50.0 + 0.01 * (self.elapsed_s / 37.0).sin();
    }

    /// Events of the scenario, in their order.
    fn play(&mut self) {
        while let Some(event) = self.scenario.events.get(self.played) {
            if event.at_s > self.elapsed_s {
                return;
            }
            let Event { kind, bay, value, .. } = event.clone();
            self.played += 1;
            match kind {
                EventKind::Broker => self.broker_up = value > 0.0,
                EventKind::Fire => _ = self.set_fire(&bay, value),
                EventKind::Smoke => _ = self.set_smoke(&bay, value),
            }
        }
    }

    /// Cars come and go as the scenario, or a person, says.
    fn visits(&mut self) {
        for i in 0..self.bays.len() {
            let visit = self.visit(&self.bays[i].id);
            let bay = &mut self.bays[i];
            let car = match &visit {
                Some(visit) if bay.occupied && bay.look == visit.look => continue,
                None if !bay.occupied => continue,
                Some(visit) => {
                    bay.look = visit.look;
                    Some(Car::of(visit))
                }
                None => None,
            };
            bay.occupied = visit.is_some();
            if let Some(pile) = self.piles.iter_mut().find(|p| Some(&p.id) == bay.pile.as_ref()) {
                pile.car = car;
            }
        }
    }

    /// When the next car comes or goes, s after the start.
    fn next_visit_s(&self) -> f64 {
        let again = self.scenario.repeat_h.map_or(f64::INFINITY, |hours| hours * 3600.0);
        let (round, now) = if again.is_finite() {
            (self.elapsed_s - self.elapsed_s % again, self.elapsed_s % again)
        } else {
            (0.0, self.elapsed_s)
        };
        let edges = self.scenario.visits.iter().flat_map(|visit| [visit.arrives_s, visit.leaves_s]);
        round + edges.filter(|edge| *edge > now).fold(again, f64::min)
    }

    /// Who stands in a bay now.
    fn visit(&self, bay: &str) -> Option<Visit> {
        let again = self.scenario.repeat_h.map_or(f64::INFINITY, |hours| hours * 3600.0);
        let now = if again.is_finite() { self.elapsed_s % again } else { self.elapsed_s };
        let here =
            |visit: &&Visit| visit.bay == bay && now >= visit.arrives_s && now < visit.leaves_s;
        let planned = self.scenario.visits.iter().find(here).cloned();
        match self.overrides.occupied.get(bay) {
            None => planned,
            Some(false) => None,
            Some(true) => planned.or_else(|| Some(Visit::guest(bay))),
        }
    }

    /// When the car at a pile leaves, s after the start; nothing where none is, or where it has not been said.
    #[must_use]
    pub fn leaves_s(&self, pile: &str) -> Option<f64> {
        let bay = self.bays.iter().find(|bay| bay.pile.as_deref() == Some(pile))?;
        let visit = self.visit(&bay.id).filter(|visit| visit.leaves_s.is_finite())?;
        let round = self.scenario.repeat_h.map_or(0.0, |hours| {
            let again = hours * 3600.0;
            (self.elapsed_s / again).floor() * again
        });
        Some(round + visit.leaves_s)
    }

    /// Building load: unbalanced, following the hour of the day, slowly wandering; and the sky, which
    /// fields of clouds cross within seconds.
    fn load(&mut self, dt: f64) {
        let t = self.elapsed_s;
        let share = [0.45, 0.33, 0.22];
        let wander = (t / 190.0).sin() * 0.12 + (t / 47.0).sin() * 0.05;
        let total = self
            .overrides
            .building_w
            .unwrap_or(self.scenario.building_w * use_of_hour(self.hour_of_day()) * (1.0 + wander));
        self.building_w = share.map(|share| total * share);
        if t >= self.cloud.1 {
            let clear = self.rng.f64() < 0.6;
            let through =
                if clear { 0.85 + 0.13 * self.rng.f64() } else { 0.22 + 0.4 * self.rng.f64() };
            let lasts =
                if clear { 60.0 + 540.0 * self.rng.f64() } else { 20.0 + 160.0 * self.rng.f64() };
            self.cloud = (through, t + lasts);
        }
        self.clouds += (self.cloud.0 - self.clouds) * (dt / 8.0).min(1.0);
    }

    /// PV power: a sun between 6 and 18 o'clock, behind slow clouds.
    fn sun(&self) -> f64 {
        let hour = self.hour_of_day();
        let height = ((hour - 6.0) / 12.0 * std::f64::consts::PI).sin().max(0.0);
        let bright = self.scenario.pv_peak_w * height.powf(1.3) * self.clouds;
        self.overrides.pv_w.unwrap_or(if (6.0..=18.0).contains(&hour) { bright } else { 0.0 })
    }

    /// Hour of the day at the start.
    #[must_use]
    pub fn start_hour(&self) -> f64 {
        self.scenario.start_hour
    }

    /// Hour of the day, 0 to 24.
    #[must_use]
    pub fn hour_of_day(&self) -> f64 {
        (self.scenario.start_hour + self.elapsed_s / 3600.0).rem_euclid(24.0)
    }

    /// Power of each phase at the grid connection, import positive, W.
    #[must_use]
    pub fn grid_phases_w(&self) -> [f64; 3] {
        let ac = self.hybrid.ac_w() / 3.0;
        std::array::from_fn(|i| {
            let cars: f64 = self.piles.iter().map(|p| p.grid_currents()[i] * self.volts[i]).sum();
            self.building_w[i] + cars + self.node_w() / 3.0 - ac
        })
    }

    pub(super) fn node_w(&self) -> f64 {
        self.node.as_ref().map_or(0.0, |node| node.power_w)
    }

    pub(super) fn grid_phase_a(&self, i: usize) -> f64 {
        self.grid_phases_w()[i] / self.volts[i]
    }

    /// Power at the grid connection, import positive, W.
    #[must_use]
    pub fn grid_w(&self) -> f64 {
        self.grid_phases_w().iter().sum()
    }

    /// Fixes the building load (W), or gives it back to the model.
    pub fn set_building(&mut self, watts: Option<f64>) {
        self.overrides.building_w = watts;
    }

    /// Puts a car into a bay, takes it away, or gives the bay back to the scenario. False for a bay that
    /// is not there.
    pub fn set_plugged(&mut self, bay: &str, plugged: Option<bool>) -> bool {
        if !self.bays.iter().any(|known| known.id == bay) {
            return false;
        }
        match plugged {
            Some(plugged) => self.overrides.occupied.insert(bay.to_owned(), plugged),
            None => self.overrides.occupied.remove(bay),
        };
        self.visits();
        true
    }

    /// Sets the flame on a bay, 0 to 1. False for a bay that is not there.
    pub fn set_fire(&mut self, bay: &str, intensity: f64) -> bool {
        let found = self.bays.iter_mut().find(|known| known.id == bay);
        found.map(|bay| bay.fire = intensity.clamp(0.0, 1.0)).is_some()
    }

    /// Sets the smoke on a bay, 0 to 1. False for a bay that is not there.
    pub fn set_smoke(&mut self, bay: &str, intensity: f64) -> bool {
        let found = self.bays.iter_mut().find(|known| known.id == bay);
        found.map(|bay| bay.smoke = intensity.clamp(0.0, 1.0)).is_some()
    }

    /// Fixes the PV power (W), or gives it back to the model.
    pub fn set_pv(&mut self, watts: Option<f64>) {
        self.overrides.pv_w = watts;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::physics::StorageControl;

    #[test]
    fn the_grid_is_the_balance_of_all() {
        let mut world = World::new(Scenario::sunny_day(), 3);
        for i in 0..5000 {
            if i == 100 {
                world.piles[0].write_setpoint(16.0);
                world.hybrid.control = StorageControl::pinned(-2500.0, 10_000.0, 60);
            }
            world.step(0.2);
            let truth = world.truth();
            let cars: f64 = truth.chargers.iter().map(|c| c.power_w).sum();
            let balance = truth.building_w + truth.node_w + cars - truth.pv_w - truth.battery_w;
            assert!((truth.grid_w - balance).abs() < 1e-6);
            for phase in 0..3 {
                let amps: f64 = world.piles.iter().map(|pile| pile.grid_currents()[phase]).sum();
                let car = amps * world.volts[phase];
                let balance =
                    world.building_w[phase] + car + truth.node_w / 3.0 - world.hybrid.ac_w() / 3.0;
                let metered = truth.grid_a[phase] * world.volts[phase];
                assert!((metered - balance).abs() < 1e-6, "phase {phase}");
            }
            assert!((0.0..=1.0).contains(&truth.soc));
        }
    }

    #[test]
    fn a_person_may_bring_a_car_and_take_it_away() {
        let mut world = World::new(Scenario::sunny_day(), 3);
        assert!(world.set_plugged("bay1", Some(false)));
        assert_eq!(world.truth().chargers[0].state, "A");
        assert!(world.set_plugged("bay4", Some(true)));
        assert!(world.truth().bays[3].occupied);
        world.step(10.0);
        assert!(!world.truth().bays[0].occupied && world.truth().bays[3].occupied);
        assert!(world.set_plugged("bay1", None) && world.set_plugged("bay4", None));
        assert!(world.truth().chargers[0].plugged && !world.truth().bays[3].occupied);
        assert!(!world.set_plugged("bay9", Some(true)));
    }

    #[test]
    fn the_same_seed_gives_the_same_world() {
        let run = |seed| {
            let mut world = World::new(Scenario::sunny_day(), seed);
            (0..500).for_each(|_| world.step(1.0));
            world.truth().grid_w
        };
        assert_eq!(run(5), run(5));
        assert_ne!(run(5), run(6));
    }
}
