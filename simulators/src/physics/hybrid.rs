//! A hybrid inverter: PV on the roof, a battery behind it, one AC connection on three phases.

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
    /// Power that is forced from outside, discharge positive, W.
    pub forced_w: Option<f64>,
    /// Time until the forced power is dropped, s; counts only while it is forced.
    pub revert_s: f64,
    /// PV energy since ever, Wh.
    pub pv_energy_wh: f64,
}

/// Losses of each direction.
const EFFICIENCY: f64 = 0.95;
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
            forced_w: None,
            revert_s: 0.0,
            pv_energy_wh: 8_000_000.0,
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

    /// Moves on by `dt` seconds with `pv_w` from the roof.
    pub fn step(&mut self, dt: f64, pv_w: f64) {
        self.pv_w = pv_w;
        self.pv_energy_wh += pv_w * dt / 3600.0;
        if self.forced_w.is_some() {
            self.revert_s -= dt;
            if self.revert_s <= 0.0 {
                self.forced_w = None;
            }
        }
        let mut target = self.forced_w.unwrap_or(0.0).clamp(-self.max_w, self.max_w);
        if (target > 0.0 && self.energy_wh <= 0.0) || (target < 0.0 && self.soc() >= 1.0) {
            target = 0.0;
        }
        let step = RAMP_W_PER_S * dt;
        self.battery_w += (target - self.battery_w).clamp(-step, step);
        let losses = if self.battery_w > 0.0 { 1.0 / EFFICIENCY } else { EFFICIENCY };
        let energy = self.energy_wh - self.battery_w * losses * dt / 3600.0;
        self.energy_wh = energy.clamp(0.0, self.capacity_wh);
    }
}
