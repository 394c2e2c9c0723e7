//! What looking costs: CPU time of each stage of each camera, the joules that follow from it, and the
//! big net's account.
//!
//! What a stranger gets wrong: only CPU time is measured here. Joules are that time times what a second
//! of CPU draws on this machine, and `metering` says how that figure was come by; an assumed one is
//! good for an order, not for a bill.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::logic::site::Id;

/// How joules were come by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metering {
    /// The machine's own energy counter (RAPL), shared out by CPU time; idle power is in it.
    Counter,
    /// `watt_per_core` of the site file, measured by whoever built the site.
    Calibrated,
    /// An assumed figure for a busy core: good to a factor of two.
    #[default]
    Nominal,
}

/// CPU time of a look by stage, ms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stages {
    /// From the camera's bytes to pixels.
    pub decode_ms: f64,
    /// Glance, change, health.
    pub gate_ms: f64,
    /// The small fire net.
    pub fire_ms: f64,
    /// The bay net.
    pub bays_ms: f64,
    /// The big net, where this look went to it.
    pub big_ms: f64,
}

impl Stages {
    /// All stages, ms.
    #[must_use]
    pub fn sum(&self) -> f64 {
        self.decode_ms + self.gate_ms + self.fire_ms + self.bays_ms + self.big_ms
    }

    fn add(&mut self, more: &Stages) {
        self.decode_ms += more.decode_ms;
        self.gate_ms += more.gate_ms;
        self.fire_ms += more.fire_ms;
        self.bays_ms += more.bays_ms;
        self.big_ms += more.big_ms;
    }
}

/// One camera since the vision process started.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CameraLedger {
    /// Looks.
    pub looks: u64,
    /// Parts of looks that the big net saw.
    pub escalated: u64,
    /// CPU time so far by stage, ms.
    pub cpu: Stages,
    /// Energy so far, J.
    pub joules: f64,
}

impl CameraLedger {
    /// Mean energy of a look, J.
    #[must_use]
    pub fn joules_per_look(&self) -> f64 {
        if self.looks == 0 { 0.0 } else { self.joules / self.looks as f64 }
    }
}

/// Why the big net is not as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BigTrouble {
    /// The remote one does not answer, or not in time; the local one does its work.
    RemoteLost,
    /// Neither answers: doubts stay doubts.
    Failed,
}

/// The big net since the vision process started.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BigLedger {
    /// What it may spend in any hour, Wh.
    pub budget_wh: f64,
    /// What it spent in the last hour, Wh.
    pub spent_wh: f64,
    /// Looks that it took here.
    pub local: u64,
    /// Looks that a remote one took.
    pub remote: u64,
    /// Doubts taken back.
    pub released: u64,
    /// Doubts confirmed.
    pub confirmed: u64,
    /// Doubts that grew old before it had room for them.
    pub dropped: u64,
    /// What is wrong with it.
    pub trouble: Option<BigTrouble>,
}

/// The whole account.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ledger {
    /// How joules were come by.
    pub metering: Metering,
    /// What a second of CPU time draws, J.
    pub joules_per_cpu_s: f64,
    /// The cameras.
    pub cameras: BTreeMap<Id, CameraLedger>,
    /// The big net; nothing where there is none.
    pub big: Option<BigLedger>,
    /// A model file is not what its manifest says; the last good copy is in use (fault INF2).
    #[serde(default)]
    pub altered: bool,
}

impl Ledger {
    /// Books a look of a camera; the joules of it.
    pub fn book(&mut self, camera: &Id, stages: &Stages) -> f64 {
        let joules = stages.sum() / 1000.0 * self.joules_per_cpu_s;
        let account = self.cameras.entry(camera.clone()).or_default();
        account.looks += 1;
        account.cpu.add(stages);
        account.joules += joules;
        joules
    }

    /// Books what the big net took for a camera. Remote looks have joules and no CPU time here.
    pub fn book_big(&mut self, camera: &Id, cpu_ms: f64, joules: f64) {
        let account = self.cameras.entry(camera.clone()).or_default();
        account.escalated += 1;
        account.cpu.big_ms += cpu_ms;
        account.joules += joules;
    }

    /// Share of the looks that went to the big net, 0 to 1 (above where several parts of a look did).
    #[must_use]
    pub fn escalation_rate(&self) -> f64 {
        let sum = |of: fn(&CameraLedger) -> u64| self.cameras.values().map(of).sum::<u64>() as f64;
        let looks = sum(|camera| camera.looks);
        if looks == 0.0 { 0.0 } else { sum(|camera| camera.escalated) / looks }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joules_are_cpu_time_times_what_a_second_draws() {
        let mut ledger = Ledger { joules_per_cpu_s: 4.0, ..Ledger::default() };
        let camera = Id::try_from("cam").unwrap();
        let stages = Stages { decode_ms: 3.0, fire_ms: 2.0, ..Stages::default() };
        for _ in 0..4 {
            assert!((ledger.book(&camera, &stages) - 0.02).abs() < 1e-12);
        }
        ledger.book_big(&camera, 50.0, 0.2);
        let account = &ledger.cameras[&camera];
        assert_eq!((account.looks, account.escalated), (4, 1));
        assert!((account.joules - 0.28).abs() < 1e-12);
        assert!((account.joules_per_look() - 0.07).abs() < 1e-12);
        assert!((account.cpu.sum() - 70.0).abs() < 1e-12);
        assert!((ledger.escalation_rate() - 0.25).abs() < 1e-12);
    }
}
