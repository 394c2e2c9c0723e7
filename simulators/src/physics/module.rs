//! An input/output module in a guarded store, and what hangs on it: contacts and 4 to 20 mA loops that a
//! person sets, a battery contactor, the feeder of the piles, siren, fan, and the breaker above the
//! contactor.
//!
//! What a stranger gets wrong: contactor and feeder are held closed. A module without power lets go, and
//! both open.

use std::collections::BTreeMap;

use super::{Hybrid, Pile};

/// Outputs: contactor, feeder, siren, fan, breaker, and three that nothing hangs on.
pub const CONTACTOR: usize = 0;
pub const FEEDER: usize = 1;
pub const BREAKER: usize = 4;
/// Inputs that the plant drives: feeder closed, contactor closed.
const FEEDER_CLOSED: usize = 6;
const CONTACTOR_CLOSED: usize = 7;

/// The module.
#[derive(Clone, Debug)]
pub struct Module {
    /// Outputs as they were written, 0 or 1.
    pub outputs: [u16; 8],
    /// Contacts, 0 or 1.
    pub contacts: [u16; 8],
    /// Loops, mA.
    pub loops_ma: [f64; 8],
    /// Fault switch: the contactor is welded.
    pub welded: bool,
}

impl Default for Module {
    fn default() -> Module {
        let mut module = Module {
            outputs: [1, 1, 0, 0, 0, 0, 0, 0],
            // The loop of the emergency stop is closed.
            contacts: [0, 0, 1, 0, 0, 0, 0, 0],
            loops_ma: [4.0; 8],
            welded: false,
        };
        module.step();
        module
    }
}

impl Module {
    /// Power-cycled: every output lets go.
    pub fn reboot(&mut self) {
        self.outputs = [0; 8];
        self.step();
    }

    /// Contacts follow what they are on.
    pub fn step(&mut self) {
        self.contacts[FEEDER_CLOSED] = self.outputs[FEEDER];
        self.contacts[CONTACTOR_CLOSED] = u16::from(self.welded || self.outputs[CONTACTOR] == 1);
    }

    /// What it has cut off carries nothing.
    pub fn cut_off(&mut self, hybrid: &mut Hybrid, piles: &mut [Pile]) {
        self.step();
        if !self.battery_connected() {
            hybrid.battery_w = 0.0;
        }
        if !self.piles_powered() {
            piles.iter_mut().for_each(|pile| pile.current_a = 0.0);
        }
    }

    /// Whether the battery is connected.
    #[must_use]
    pub fn battery_connected(&self) -> bool {
        self.contacts[CONTACTOR_CLOSED] == 1 && self.outputs[BREAKER] == 0
    }

    /// Whether the piles have power.
    #[must_use]
    pub fn piles_powered(&self) -> bool {
        self.outputs[FEEDER] == 1
    }

    /// Sets contacts `di1` to `di6` and loops `ai1_ma` to `ai8_ma` by their names; all or none. The name that
    /// there is not, if any.
    pub fn set(&mut self, values: &BTreeMap<String, f64>) -> Option<String> {
        let mut changed = self.clone();
        for (name, value) in values {
            let number = |start: &str, end: &str| -> Option<usize> {
                let number: usize = name.strip_prefix(start)?.strip_suffix(end)?.parse().ok()?;
                (1..=8).contains(&number).then(|| number - 1)
            };
            match (number("di", ""), number("ai", "_ma")) {
                (Some(i), _) if i < FEEDER_CLOSED => {
                    changed.contacts[i] = u16::from(*value != 0.0);
                }
                (_, Some(i)) => changed.loops_ma[i] = value.clamp(0.0, 24.0),
                _ => return Some(name.clone()),
            }
        }
        *self = changed;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_lets_go_without_power_and_takes_all_values_or_none() {
        let mut module = Module::default();
        assert!(module.battery_connected() && module.piles_powered());
        module.welded = true;
        module.outputs[CONTACTOR] = 0;
        module.step();
        assert!(module.battery_connected(), "welded");
        module.outputs[BREAKER] = 1;
        assert!(!module.battery_connected());
        module.welded = false;
        module.reboot();
        assert!(!module.battery_connected() && !module.piles_powered());
        let values = |pairs: &[(&str, f64)]| -> BTreeMap<String, f64> {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect()
        };
        assert_eq!(module.set(&values(&[("ai2_ma", 12.0), ("di3", 1.0)])), None);
        assert_eq!((module.loops_ma[1], module.contacts[2]), (12.0, 1));
        let wrong = module.set(&values(&[("ai1_ma", 9.0), ("di8", 1.0)]));
        assert_eq!((wrong.as_deref(), module.loops_ma[0]), (Some("di8"), 4.0));
    }
}
