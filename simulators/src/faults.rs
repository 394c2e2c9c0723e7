//! Fault switches of the simulated devices, one set for each device.

use serde::Deserialize;

/// What is wrong with a device on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// Takes requests and never answers.
    pub silent: bool,
    /// Answers this much late, ms.
    pub late_ms: u64,
    /// Answers every request with exception 4.
    pub broken: bool,
    /// Answers with what it measured when the switch was set.
    pub frozen: bool,
}
