//! A hybrid inverter: PV on the roof, a battery behind it, one AC connection on three phases.
//!
//! What a stranger gets wrong: the two rates of the storage control are a window for the battery's
//! power, not two commands. A negative rate moves its edge to the other side of zero and so forces the
//! other direction; equal edges pin the power. Left alone, this battery rests at 0 W.

/// Storage control as SunSpec model 124 knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StorageControl {
    /// Bit 0: the charging rate limits; bit 1: the discharging rate limits.
    pub mode: u16,
    /// Charge at most this, hundredths of a percent of the largest power; negative forces discharging.
    pub charge_rate: i16,
    /// Discharge at most this, hundredths of a percent; negative forces charging.
    pub discharge_rate: i16,
    /// Without a write for this long the mode falls to 0, s; 0 = never.
    pub revert_s: u16,
    /// Time since the last write, s.
    pub silent_s: f64,
}

impl StorageControl {
    /// A control that pins `watts` (discharge positive) of `max_w` and reverts after `revert_s`.
    #[must_use]
    pub fn pinned(watts: f64, max_w: f64, revert_s: u16) -> StorageControl {
        let rate = (watts / max_w * 10_000.0).round().clamp(-10_000.0, 10_000.0) as i16;
        StorageControl {
            mode: 3,
            charge_rate: -rate,
            discharge_rate: rate,
            revert_s,
            silent_s: 0.0,
        }
    }

    /// Power that the battery aims at, discharge positive, W. Edges that cross give 0.
    #[must_use]
    pub fn target_w(&self, max_w: f64) -> f64 {
        let watts = |rate: i16| (f64::from(rate) / 10_000.0 * max_w).clamp(-max_w, max_w);
        let least = if self.mode & 1 == 1 { -watts(self.charge_rate) } else { -max_w };
        let most = if self.mode & 2 == 2 { watts(self.discharge_rate) } else { max_w };
        if least > most { 0.0 } else { 0.0f64.clamp(least, most) }
    }

    fn step(&mut self, dt: f64) {
        self.silent_s += dt;
        if self.revert_s > 0 && self.silent_s >= f64::from(self.revert_s) {
            self.mode = 0;
        }
    }
}

/// Output limit as SunSpec model 123 knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct OutputLimit {
    /// Whether it holds.
    pub enabled: bool,
    /// Most of the rated power, hundredths of a percent.
    pub share: u16,
    /// Without a write for this long it is off, s; 0 = never.
    pub revert_s: u16,
    /// Time since the last write, s.
    pub silent_s: f64,
}

impl OutputLimit {
    /// A limit of `watts` of `rated_w` that is off again after `revert_s`.
    #[must_use]
    pub fn at(watts: f64, rated_w: f64, revert_s: u16) -> OutputLimit {
        let share = (watts / rated_w * 10_000.0).floor().clamp(0.0, 10_000.0) as u16;
        OutputLimit { enabled: true, share, revert_s, silent_s: 0.0 }
    }

    fn step(&mut self, dt: f64) {
        self.silent_s += dt;
        if self.revert_s > 0 && self.silent_s >= f64::from(self.revert_s) {
            self.enabled = false;
        }
    }

    fn most_w(&self, rated_w: f64) -> f64 {
        if self.enabled { f64::from(self.share) / 10_000.0 * rated_w } else { f64::INFINITY }
    }
}

/// The inverter with its battery.
#[derive(Clone, Debug)]
pub struct Hybrid {
    /// PV power now, W.
    pub pv_w: f64,
    /// Battery power now, W, discharge positive.
    pub battery_w: f64,
    /// Battery capacity, Wh.
    pub capacity_wh: f64,
    /// Energy in the battery, Wh.
    pub energy_wh: f64,
    /// Largest charging and discharging power, W.
    pub max_w: f64,
    /// What was asked for over the wire.
    pub control: StorageControl,
    /// What the inverter is rated at, W.
    pub rated_w: f64,
    /// Limit of its output.
    pub limit: OutputLimit,
    /// Fault switch: takes the control but rests.
    pub ignores_setpoint: bool,
    /// PV energy since ever, Wh.
    pub pv_energy_wh: f64,
    /// Energy taken by the battery since ever, Wh.
    pub charged_wh: f64,
    /// Energy given by the battery since ever, Wh.
    pub discharged_wh: f64,
}

/// Losses of each direction.
const EFFICIENCY: f64 = 0.95;
/// How fast a limit takes sun away, W/s, or the rated power in a second.
const PV_RAMP_W_PER_S: f64 = 5_000.0;
/// How fast the battery's power moves, W/s.
const RAMP_W_PER_S: f64 = 5_000.0;

impl Default for Hybrid {
    fn default() -> Hybrid {
        Hybrid {
            pv_w: 0.0,
            battery_w: 0.0,
            capacity_wh: 20_000.0,
            energy_wh: 11_000.0,
            max_w: 10_000.0,
            control: StorageControl::default(),
            rated_w: 20_000.0,
            limit: OutputLimit::default(),
            ignores_setpoint: false,
            pv_energy_wh: 8_000_000.0,
            charged_wh: 2_100_000.0,
            discharged_wh: 1_900_000.0,
        }
    }
}

impl Hybrid {
    /// State of charge, 0 to 1.
    #[must_use]
    pub fn soc(&self) -> f64 {
        self.energy_wh / self.capacity_wh
    }

    /// AC power, production positive, W.
    #[must_use]
    pub fn ac_w(&self) -> f64 {
        self.pv_w + self.battery_w
    }

    /// Power-cycled: forgets what was asked for.
    pub fn reboot(&mut self) {
        self.control = StorageControl::default();
        self.limit = OutputLimit::default();
    }

    /// Moves on by `dt` seconds; the roof could give `roof_w`.
    pub fn step(&mut self, dt: f64, roof_w: f64) {
        self.control.step(dt);
        self.limit.step(dt);
        let mut target = self.control.target_w(self.max_w);
        if self.ignores_setpoint {
            target = 0.0;
        }
        let step = RAMP_W_PER_S * dt;
        let wanted = self.battery_w + (target - self.battery_w).clamp(-step, step);
        let most = self.limit.most_w(self.rated_w);
        self.battery_w = self.within_the_battery(wanted.min(most), dt);
        let pv_w = roof_w.min((most - self.battery_w).max(0.0));
        // Down within a second, up as fast as the sun.
        self.pv_w = pv_w.max(self.pv_w.min(roof_w) - PV_RAMP_W_PER_S.max(self.rated_w) * dt);
        self.pv_energy_wh += self.pv_w * dt / 3600.0;
        let moved = self.battery_w * dt / 3600.0;
        if moved > 0.0 {
            self.discharged_wh += moved;
            self.energy_wh -= moved / EFFICIENCY;
        } else {
            self.charged_wh -= moved;
            self.energy_wh -= moved * EFFICIENCY;
        }
        self.energy_wh = self.energy_wh.clamp(0.0, self.capacity_wh);
    }

    /// The part of `watts` that the energy left, or the room left, can carry for `dt` seconds.
    fn within_the_battery(&self, watts: f64, dt: f64) -> f64 {
        if dt <= 0.0 {
            return watts;
        }
        let most = self.energy_wh * EFFICIENCY * 3600.0 / dt;
        let least = (self.energy_wh - self.capacity_wh) / EFFICIENCY * 3600.0 / dt;
        watts.clamp(least.min(0.0), most.max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mode, charging rate, discharging rate in percent; power in W of a 10 kW battery.
    #[test]
    fn the_rates_are_a_window() {
        for (mode, charge, discharge, watts) in [
            (0, 0, 0, 0.0),
            (3, 40, 40, 0.0),
            (3, -25, 25, 2500.0),
            (3, 25, -25, -2500.0),
            (1, -30, 0, 3000.0),
            (2, 0, -30, -3000.0),
            (3, -50, 20, 0.0),
        ] {
            let control = StorageControl {
                mode,
                charge_rate: charge * 100,
                discharge_rate: discharge * 100,
                ..StorageControl::default()
            };
            assert_eq!(control.target_w(10_000.0), watts, "{control:?}");
        }
    }

    #[test]
    fn no_energy_comes_from_nowhere() {
        for watts in [10_000.0, -10_000.0] {
            let mut hybrid = Hybrid::default();
            hybrid.control = StorageControl::pinned(watts, hybrid.max_w, 0);
            let start = hybrid.clone();
            for _ in 0..20_000 {
                hybrid.step(0.5, 0.0);
                assert!((0.0..=1.0).contains(&hybrid.soc()));
                assert!(hybrid.battery_w.abs() <= hybrid.max_w);
            }
            assert!(hybrid.battery_w.abs() < 1e-6, "{}", hybrid.battery_w);
            let taken = (hybrid.charged_wh - start.charged_wh) * EFFICIENCY;
            let given = (hybrid.discharged_wh - start.discharged_wh) / EFFICIENCY;
            let stored = hybrid.energy_wh - start.energy_wh;
            assert!((taken - given - stored).abs() < 1e-3, "{taken} {given} {stored}");
        }
    }
}
