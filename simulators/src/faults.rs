//! Fault switches of the simulated devices, one set for each device.
//!
//! What a stranger gets wrong: setting replaces the whole set; what is not said is off again. A reboot
//! and what another master writes are not states but acts: they happen once, when they are set.

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
    /// Answers writes, and only those, with this exception.
    pub write_exception: Option<u8>,
    /// Answers no writes.
    pub write_silent: bool,
    /// Knows this register no more: who asks for it gets exception 2.
    pub unknown_register: Option<u16>,
    /// Answers with what it measured when the switch was set.
    pub frozen: bool,
    /// Takes setpoints, shows them, and does not follow them.
    pub ignores_setpoint: bool,
    /// Takes the wish for one phase or three and does not follow it.
    pub ignores_phases: bool,
    /// Takes one client; the next one is closed at once.
    pub one_client: bool,
    /// Flips a bit of each byte of its answers with this chance, in a million.
    pub flips_ppm: u32,
    /// Answers reads with one register less than asked for, in a valid frame.
    pub short: bool,
    /// Answers reads with one register more than asked for, in a valid frame.
    pub long: bool,
    /// Answers as the unit after it.
    pub wrong_unit: bool,
    /// Every register reads as this word, in a valid frame: 65535, 32768, 19373 (22.7 MW as a float), ...
    pub garbage: Option<u16>,
    /// Power-cycles now: connections are cut, setpoints forgotten, the failsafe as from the factory.
    pub reboot: bool,
    /// Another master writes this setpoint now, A; for chargers.
    pub foreign_a: Option<u16>,
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
        if self.flips_ppm > 1_000_000 {
            return Some("`flips_ppm` is at most 1000000".to_owned());
        }
        if self.short && self.long {
            return Some("`short` and `long` contradict each other".to_owned());
        }
        let unknown = |code: &u8| !matches!(code, 1..=6 | 8 | 10 | 11);
        let code = self.exception.into_iter().chain(self.write_exception).find(unknown)?;
        Some(format!("{code} is not a Modbus exception"))
    }
}
