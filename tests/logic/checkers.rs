//! What must hold in every closed-loop run, whatever the story: each second's decision and what the
//! world did with it pass through here.

use std::collections::BTreeMap;

use wattgate::logic::decision::Decision;
use wattgate::logic::site::{ChargerSetpoint, Id, Site};

/// Longest time that a phase may be over its limit (design: 12.5 s with a slow car).
pub const OVER_AT_MOST_S: f64 = 12.5;

/// Watches one run.
#[derive(Default)]
pub struct Checkers {
    over_s: f64,
    longest_over_s: f64,
    last: BTreeMap<Id, (f64, bool)>,
}

impl Checkers {
    /// One decision: complete, bounded, never between zero and the minimum, nothing raised on stale data.
    pub fn decision(&mut self, site: &Site, decision: &Decision, meter_fresh: bool, seed: u64) {
        for charger in &site.chargers {
            let (setpoint, _) = decision.permitted.charger(&charger.id).unwrap();
            let amps = setpoint.amps();
            assert!(amps <= charger.max, "seed {seed}: {amps} over the maximum");
            let legal = *setpoint == ChargerSetpoint::Pause || amps >= charger.min;
            assert!(legal, "seed {seed}: {amps} is between zero and the minimum");
            if let Some(&(before, was_writing)) = self.last.get(&charger.id)
                && was_writing
                && !meter_fresh
            {
                assert!(amps.get() <= before + 1e-9, "seed {seed}: raised on stale data");
            }
            self.last.insert(charger.id.clone(), (amps.get(), decision.writing));
        }
        for node in &site.computes {
            let (cap, _) = decision.permitted.compute(&node.id).unwrap();
            assert!((node.min..=node.max).contains(cap), "seed {seed}: a cap of {cap}");
        }
        for inverter in &site.inverters {
            let (most, _) = decision.permitted.inverter(&inverter.id).unwrap();
            let legal = most.get() >= 0.0 && *most <= inverter.rated;
            assert!(legal, "seed {seed}: a limit of {most}");
        }
        for battery in &site.batteries {
            let (power, _) = decision.permitted.battery(&battery.id).unwrap();
            assert!(power.get() <= battery.max_discharge.get() + 1e-9, "seed {seed}");
            assert!(power.get() >= -battery.max_charge.get() - 1e-9, "seed {seed}");
        }
    }

    /// The world's true currents over `dt` seconds.
    pub fn currents(&mut self, amps: [f64; 3], limit: f64, dt: f64, seed: u64) {
        let over = amps.iter().any(|a| *a > limit);
        self.over_s = if over { self.over_s + dt } else { 0.0 };
        self.longest_over_s = self.longest_over_s.max(self.over_s);
        assert!(self.over_s <= OVER_AT_MOST_S, "seed {seed}: over the limit for {} s", self.over_s);
    }

    pub fn longest_over_s(&self) -> f64 {
        self.longest_over_s
    }
}
