//! Fault switches of the simulated devices, one set for each device.
//!
//! What a stranger gets wrong: setting replaces the whole set; what is not said is off again. A reboot
//! is not a state but an act: it happens once, when it is set.

use serde::Deserialize;

/// Longest delay of an answer, ms.
pub const MOST_LATE_MS: u64 = 120_000;

/// What is wrong with a device on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// Closes its connections and refuses new ones.
    pub unreachable: bool,
    /// Takes requests and never answers.
    pub silent: bool,
    /// Answers this much late, ms.
    pub late_ms: u64,
    /// Answers every request with exception 4.
    pub broken: bool,
    /// Answers every request with this exception: 1 to 6, 8, 10 or 11.
    pub exception: Option<u8>,
    /// Answers with what it measured when the switch was set.
    pub frozen: bool,
    /// Takes setpoints, shows them, and does not follow them.
    pub ignores_setpoint: bool,
    /// Power-cycles now: connections are cut, setpoints forgotten, the failsafe as from the factory.
    pub reboot: bool,
}

impl Faults {
    /// The exception that answers every request, if any.
    #[must_use]
    pub fn exception(&self) -> Option<u8> {
        self.exception.or(self.broken.then_some(4))
    }

    /// What makes no sense in this set.
    #[must_use]
    pub fn complaint(&self) -> Option<String> {
        if self.late_ms > MOST_LATE_MS {
            return Some(format!("`late_ms` is at most {MOST_LATE_MS}"));
        }
        match self.exception {
            None | Some(1..=6 | 8 | 10 | 11) => None,
            Some(code) => Some(format!("`exception` {code} is not a Modbus exception")),
        }
    }
}
