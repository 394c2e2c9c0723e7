//! What a device made from a profile shows: each quantity of the site as the physics has it.
//!
//! What a stranger gets wrong: not everything has physics. What has none is a fixed figure.

use super::Measured;
use crate::physics::{Pile, World};

/// The site as the device sees it at one moment.
pub struct Sight<'a> {
    /// The world.
    pub world: &'a World,
    /// `meter`, `charger`, `compute` or `battery`.
    pub kind: &'a str,
    /// The pile that it is, or the first.
    pub pile: Option<&'a Pile>,
    /// What that pile measures.
    pub measured: Option<Measured>,
    /// The measuring noise of the moment, -1 to 1.
    pub jitter: f64,
    /// Its setpoint as written, A or W.
    pub told: Option<f64>,
}

impl Sight<'_> {
    /// A quantity in the site's unit and sign; a fixed figure where it has no physics.
    pub fn quantity(&self, name: &str) -> Option<f64> {
        let world = self.world;
        let hybrid = &world.hybrid;
        let pile = self.pile;
        let phase = ["_l1_", "_l2_", "_l3_"].iter().position(|mark| name.contains(mark));
        if let Some(phase) = phase {
            return self.on_phase(name, phase);
        }
        Some(match name {
            "power_w" => self.power()?,
            "frequency_hz" => world.hertz + 0.002 * self.jitter,
            "import_wh" => world.import_wh,
            "export_wh" => world.export_wh,
            "energy_wh" if self.kind == "compute" => world.node.as_ref()?.energy_wh,
            "energy_wh" => pile?.energy_wh,
            "session_wh" => 1_500.0,
            "plugged" => f64::from(u8::from(pile?.car.is_some())),
            "setpoint_w" => world.node.as_ref()?.setpoint_w,
            "cap_w" => world.node.as_ref()?.cap_w(),
            "setpoint_a" => self.told.unwrap_or(pile?.setpoint_a),
            "limit_a" => pile?.limit_a(),
            "failsafe_a" => pile?.safe_a,
            "failsafe_s" => pile?.validity_s,
            "lease_s" => pile?.left_s.ceil(),
            "battery_w" => hybrid.battery_w + 0.4 * self.jitter,
            "soc_pct" => hybrid.soc() * 100.0,
            "pv_w" => hybrid.pv_w,
            "car_soc_pct" => pile?.car.as_ref()?.soc() * 100.0,
            "temperature_c" => 31.5,
            "error_code" => 0.0,
            _ => return None,
        })
    }

    fn power(&self) -> Option<f64> {
        match self.kind {
            "meter" => Some(self.world.grid_w() + 2.4 * self.jitter),
            "compute" => self.world.node.as_ref().map(|node| node.power_w),
            _ => self.measured.as_ref().map(Measured::power_w),
        }
    }

    /// A meter tells magnitudes of currents, as most do.
    fn on_phase(&self, name: &str, phase: usize) -> Option<f64> {
        let (volts, watts, amps) = match (&self.measured, self.kind) {
            (Some(measured), "charger") => {
                let (volts, amps) = (measured.volts[phase], measured.amps[phase]);
                (volts, volts * amps, amps)
            }
            (_, "meter") => {
                let volts = self.world.volts[phase] + 0.05 * self.jitter;
                let watts = self.world.grid_phases_w()[phase] + 0.8 * self.jitter;
                (volts, watts, (watts / volts).abs())
            }
            _ => return None,
        };
        match name.split('_').next() {
            Some("voltage") => Some(volts),
            Some("current") => Some(amps),
            Some("power") => Some(watts),
            _ => None,
        }
    }
}
