//! A charging pile and the car at its plug.
//!
//! What a stranger gets wrong: the car, not the pile, decides how much is drawn. It follows a changed
//! limit after a delay, ramps, and tapers when it is nearly full.

use crate::scenario::{Make, PileSpec, Visit};

/// State of the control pilot (IEC 61851).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlugState {
    /// No vehicle.
    A,
    /// Connected, not charging.
    B,
    /// Charging.
    C,
}

/// A car at the plug.
#[derive(Clone, Debug)]
pub struct Car {
    /// Battery capacity, Wh.
    pub capacity_wh: f64,
    /// Energy in the battery, Wh.
    pub energy_wh: f64,
    /// Largest current on each of its phases, A.
    pub max_a: f64,
    /// Phases it charges on, 1 or 3.
    pub phases: usize,
    /// Time until it follows a changed limit, s.
    pub delay_s: f64,
}

impl Car {
    /// The car of a visit, as it arrives.
    #[must_use]
    pub fn of(visit: &Visit) -> Car {
        let capacity_wh = visit.capacity_kwh * 1000.0;
        Car {
            capacity_wh,
            energy_wh: capacity_wh * visit.soc,
            max_a: visit.max_a,
            phases: visit.phases,
            delay_s: 2.0,
        }
    }

    /// 0 to 1.
    #[must_use]
    pub fn soc(&self) -> f64 {
        self.energy_wh / self.capacity_wh
    }

    /// What it would draw without a limit: tapers above 80 %, nothing when full.
    fn wish_a(&self) -> f64 {
        let soc = self.soc();
        if soc >= 1.0 {
            0.0
        } else if soc > 0.8 {
            (self.max_a * (1.0 - soc) / 0.2).max(6.0).min(self.max_a)
        } else {
            self.max_a
        }
    }
}

/// Rate at which a car moves its current, A/s.
const RAMP_A_PER_S: f64 = 8.0;
/// Safe current as it leaves the factory, A.
const FACTORY_SAFE_A: f64 = 6.0;
/// Time to the fall-back as it leaves the factory, s.
const FACTORY_VALIDITY_S: f64 = 60.0;
/// Below this current there is no charging.
const LEAST_A: f64 = 6.0;

/// One pile that falls back when it is not fed.
#[derive(Clone, Debug)]
pub struct Pile {
    /// Its id.
    pub id: String,
    /// The car, if one is plugged in.
    pub car: Option<Car>,
    /// Setpoint as last written, A; below 6 A pauses.
    pub setpoint_a: f64,
    /// Current that is applied when the setpoint has expired, A.
    pub safe_a: f64,
    /// Rated current, A.
    pub max_a: f64,
    /// Time without a sign of life after which it falls back, s; 0 means never.
    pub validity_s: f64,
    /// Time until it falls back, s.
    pub left_s: f64,
    /// Grid phase (0 to 2) behind each of its own phases.
    pub rotation: [usize; 3],
    make: Make,
    /// Current drawn on each active phase, A.
    pub current_a: f64,
    /// Energy delivered since ever, Wh.
    pub energy_wh: f64,
    /// Fault switch: takes setpoints but does not follow them.
    pub ignores_setpoint: bool,
    /// Phases that its contactors connect, 1 or 3.
    pub connected: usize,
    /// Fault switch: takes the wish for another number of phases and does not follow it.
    pub ignores_phases: bool,
    /// Times that its contactors moved under current: what wears them out, and what some cars do not survive.
    pub hot_switches: u32,
    /// The limit that the car follows after its delay.
    heard_a: f64,
    since_change_s: f64,
}

impl Pile {
    /// An idle pile at its safe current.
    #[must_use]
    pub fn new(id: &str, spec: &PileSpec) -> Pile {
        let mut pile = Pile {
            id: id.to_owned(),
            rotation: spec.rotation.map(|phase| phase.saturating_sub(1).min(2)),
            make: spec.make,
            car: None,
            setpoint_a: FACTORY_SAFE_A,
            safe_a: FACTORY_SAFE_A,
            max_a: 32.0,
            validity_s: 60.0,
            left_s: 0.0,
            current_a: 0.0,
            energy_wh: 1_234_567.0,
            ignores_setpoint: false,
            connected: 3,
            ignores_phases: false,
            hot_switches: 0,
            heard_a: 0.0,
            since_change_s: 0.0,
        };
        pile.reboot();
        pile
    }

    /// The limit in force: setpoint or, once it has expired, the safe current.
    #[must_use]
    pub fn limit_a(&self) -> f64 {
        let fed = self.left_s > 0.0 || self.validity_s == 0.0;
        let told = if fed { self.setpoint_a } else { self.safe_a };
        if self.ignores_setpoint { self.max_a } else { told.min(self.max_a) }
    }

    /// A sign of life, of the kind that this make counts.
    pub fn feed(&mut self) {
        self.left_s = self.validity_s;
    }

    /// Writes a setpoint, which lives for `validity_s`.
    pub fn write_setpoint(&mut self, amps: f64) {
        self.setpoint_a = amps.clamp(0.0, self.max_a);
        self.feed();
    }

    /// Connects one phase or all three.
    pub fn connect(&mut self, phases: usize) {
        if self.ignores_phases || phases == self.connected {
            return;
        }
        if self.current_a > 0.5 {
            self.hot_switches += 1;
        }
        self.connected = phases;
    }

    /// Phases that the car at the plug charges on now.
    fn phases(&self) -> usize {
        self.car.as_ref().map_or(0, |car| car.phases.min(self.connected).min(3))
    }

    /// Power-cycled: forgets the setpoint and the failsafe that was written. A KEBA then allows its rated
    /// current and has no failsafe at all until one is written.
    pub fn reboot(&mut self) {
        self.safe_a = FACTORY_SAFE_A;
        self.setpoint_a = self.safe_a;
        self.validity_s = FACTORY_VALIDITY_S;
        self.left_s = 0.0;
        self.connected = 3;
        if self.make == Make::Keba {
            self.setpoint_a = self.max_a;
            self.validity_s = 0.0;
        }
    }

    /// Control pilot state.
    #[must_use]
    pub fn state(&self) -> PlugState {
        match &self.car {
            None => PlugState::A,
            Some(_) if self.current_a > 0.5 => PlugState::C,
            Some(_) => PlugState::B,
        }
    }

    /// Current on each phase of the grid, A.
    #[must_use]
    pub fn grid_currents(&self) -> [f64; 3] {
        let mut grid = [0.0; 3];
        for (own, amps) in self.currents().into_iter().enumerate() {
            grid[self.rotation[own]] = amps;
        }
        grid
    }

    /// The grid's voltages as its own phases see them, V.
    #[must_use]
    pub fn own_volts(&self, grid: [f64; 3]) -> [f64; 3] {
        self.rotation.map(|phase| grid[phase])
    }

    /// Current on each of its own phases, A.
    #[must_use]
    pub fn currents(&self) -> [f64; 3] {
        let phases = self.phases();
        std::array::from_fn(|i| if i < phases { self.current_a } else { 0.0 })
    }

    /// Moves on by `dt` seconds at the given voltages of the grid.
    pub fn step(&mut self, dt: f64, grid: [f64; 3]) {
        let volts = self.own_volts(grid);
        self.left_s = (self.left_s - dt).max(0.0);
        let (limit, phases) = (self.limit_a(), self.phases());
        let Some(car) = &mut self.car else {
            self.current_a = 0.0;
            self.heard_a = limit;
            return;
        };
        if (limit - self.heard_a).abs() > 1e-9 {
            self.since_change_s += dt;
            if self.since_change_s >= car.delay_s {
                self.heard_a = limit;
                self.since_change_s = 0.0;
            }
        } else {
            self.since_change_s = 0.0;
        }
        let allowed = if self.heard_a < LEAST_A { 0.0 } else { self.heard_a };
        let target = car.wish_a().min(allowed);
        let step = RAMP_A_PER_S * dt;
        self.current_a += (target - self.current_a).clamp(-step, step);
        let power: f64 = volts[..phases].iter().map(|v| v * self.current_a).sum();
        let energy = power * dt / 3600.0;
        car.energy_wh = (car.energy_wh + energy).min(car.capacity_wh);
        self.energy_wh += energy;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pile() -> Pile {
        let spec = PileSpec { make: Make::Alfen, rotation: [1, 2, 3] };
        let mut pile = Pile::new("p", &spec);
        pile.car =
            Some(Car { capacity_wh: 60e3, energy_wh: 20e3, max_a: 32.0, phases: 3, delay_s: 2.0 });
        pile
    }

    #[test]
    fn a_car_follows_late_and_falls_to_the_safe_current_without_renewal() {
        let mut pile = pile();
        pile.write_setpoint(20.0);
        pile.step(1.0, [230.0; 3]);
        assert!(pile.current_a < 6.0 + 1e-9);
        for _ in 0..20 {
            pile.step(1.0, [230.0; 3]);
        }
        assert!((pile.current_a - 20.0).abs() < 1e-9);
        for _ in 0..60 {
            pile.step(1.0, [230.0; 3]);
        }
        assert!((pile.current_a - 6.0).abs() < 1e-9, "{}", pile.current_a);
    }

    #[test]
    fn below_six_amperes_nothing_flows() {
        let mut pile = pile();
        for _ in 0..20 {
            pile.write_setpoint(5.9);
            pile.step(1.0, [230.0; 3]);
        }
        assert_eq!(pile.state(), PlugState::B);
    }
}
