//! How well one unit answers, and when it may be asked again.
//!
//! ```text
//!             time-out, exception 10 or 11, others wait behind it
//!   present ────────────────────────────────────────────────────▶ absent: probed after 1, 2, 4 ... 30 s,
//!    ▲  │ no answer in haste                              time-out  ▲ │     in the pauses of the others
//!    │  └──────────────▶ doubted: asked again with patience ────────┘ │
//!    │                      in a pause of the others                  │
//!    └────────────────────── any answer ◀─────────────────────────────┘
//! ```
//! What a stranger gets wrong: a unit alone on its line is never absent. It is asked every period, since
//! nobody waits behind it and its return should be seen at once.

use std::time::Duration;

use tokio_modbus::ExceptionCode;

use super::bus::BusError;
use super::device::Rank;
use super::habits;
use crate::units::Moment;

/// Longest pause between two probes of an absent unit, and between two tries at a busy one (FB6).
const LONGEST_REST: Duration = Duration::from_secs(30);
/// A probe waits at least this long for its answer: an RTU unit at 9600 baud needs up to 0.25 s.
const LEAST_PROBE: Duration = Duration::from_millis(300);
/// So many first probes wait at least this long: who was given up soon may only have become slower. Longer pauses
/// are rare where ten units share a line and are read one after the other (`task`). Our own figures.
const FIRST_PROBES: u32 = 2;
const LEAST_FIRST_PROBE: Duration = Duration::from_millis(400);
/// In a longer pause a probe waits up to this long: a neighbour may be told to stop meanwhile. Our own figure.
pub const LONGEST_PROBE: Duration = Duration::from_millis(600);
/// A probe waits this many times the slowest answer seen of the unit and of its neighbours.
const PROBE_WAITS: (u32, u32) = (2, 4);
/// Of so many probes this one waits for the whole time-out: the unit may only have become slow. The first of
/// them comes 15 s after the unit was given up. Our own figures.
const PATIENT_PROBE: (u32, u32) = (8, 4);
/// So long a write that was not answered waits for a reading before it is tried again. Our own figure.
const READS_WITHIN: Duration = Duration::from_secs(5);
/// After so many failures in a row an absent unit is told nothing again before a probe has found it. Our own figure.
const TOLD_WHILE_ABSENT: u32 = 3;
/// Device failures (exception 4 or 8) in a row that make a device fault (FB6).
const DEVICE_FAULT: u32 = 3;

/// When a read falls due that was planned for `at`: not before the last of the waits is over. A wait that is
/// over already still says since when the read is due.
#[must_use]
pub fn due_after(at: Moment, waits: [Option<Moment>; 3]) -> Moment {
    let later = |at: Moment, wait: Moment| if wait.uptime > at.uptime { wait } else { at };
    waits.into_iter().flatten().fold(at, later)
}

/// One unit's health.
#[derive(Clone, Debug, Default)]
pub struct Health {
    /// Whether others wait behind it.
    shared: bool,
    /// Probes in a row without an answer; 0 while present.
    absent: u32,
    /// Times in a row that the device said it was busy.
    busy: u32,
    /// Device failures in a row.
    faults: u32,
    /// It was waited for in haste and did not answer: nothing is known of it yet.
    doubted: bool,
    rest_until: Option<Moment>,
    /// A write that was not answered waits for a reading since then.
    reads_first: Option<Moment>,
}

impl Health {
    /// Of a unit that shares its line, or not.
    #[must_use]
    pub fn new(shared: bool) -> Health {
        Health { shared, ..Health::default() }
    }

    /// The unit answered with values. Whether it was absent.
    pub fn answered(&mut self) -> bool {
        let was_absent = self.absent > 0;
        self.doubted = false;
        (self.absent, self.busy, self.faults, self.rest_until) = (0, 0, 0, None);
        was_absent
    }

    /// The unit did not answer in haste. That says nothing: it is asked again, with patience, in a pause of the
    /// others.
    pub fn doubt(&mut self) {
        self.doubted = true;
    }

    /// Whether it is to be asked again with patience before anything is said of it.
    #[must_use]
    pub fn is_doubted(&self) -> bool {
        self.doubted
    }

    /// The unit answered; whether haste was wrong about it.
    pub fn cleared(&mut self) -> bool {
        std::mem::take(&mut self.doubted)
    }

    /// The unit did not answer as it should.
    pub fn failed(&mut self, error: &BusError, now: Moment) {
        self.doubted = false;
        let rest = |times: u32| {
            let seconds = 1u64 << (times.saturating_sub(1)).min(5);
            LONGEST_REST.min(Duration::from_secs(seconds))
        };
        match error {
            BusError::Exception(ExceptionCode::Acknowledge | ExceptionCode::ServerDeviceBusy) => {
                self.busy = self.busy.saturating_add(1);
                self.rest_until = Some(now.after(rest(self.busy)));
            }
            BusError::Exception(
                ExceptionCode::ServerDeviceFailure | ExceptionCode::MemoryParityError,
            ) => self.faults = self.faults.saturating_add(1),
            BusError::Timeout(_)
            | BusError::Exception(
                ExceptionCode::GatewayPathUnavailable | ExceptionCode::GatewayTargetDevice,
            ) if self.shared => {
                self.absent = self.absent.saturating_add(1);
                // With jitter, so that several dead units are not probed in one pause.
                let jitter = 0.8 + fastrand::f64() * 0.4;
                self.rest_until = Some(now.after(rest(self.absent).mul_f64(jitter)));
            }
            _ => {}
        }
    }

    /// The unit did not take a write, or did not show it. Who is too busy for that is read all the same.
    pub fn not_told(&mut self, error: &BusError, now: Moment) {
        let busy = matches!(
            error,
            BusError::Exception(ExceptionCode::Acknowledge | ExceptionCode::ServerDeviceBusy)
        );
        if !matches!(error, BusError::Exception(_)) {
            self.reads_first = Some(now);
        }
        if !busy {
            self.failed(error, now);
        }
    }

    /// A reading came to its end, one way or the other.
    pub fn tried_to_read(&mut self) {
        self.reads_first = None;
    }

    /// Whether it is read before it is told again: a device that leaves its writes unanswered but can be read
    /// must not be lost for that.
    #[must_use]
    pub fn reads_first(&self, now: Moment) -> bool {
        self.reads_first.is_some_and(|since| since.age_at(now) < READS_WITHIN)
    }

    /// Whether it is only probed.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        self.absent > 0
    }

    /// Whether it may be told again what it did not take: a lost frame is made good at once, a unit that is gone
    /// must not hold up the others on its line (FB12).
    #[must_use]
    pub fn may_be_told(&self, now: Moment) -> bool {
        let rested = self.rest_until.is_none_or(|rest| rest.uptime <= now.uptime);
        self.absent <= 1 || (self.absent < TOLD_WHILE_ABSENT && rested)
    }

    /// How urgent it is to tell it to stop. A stop that it was never told goes at once, and once more where a frame
    /// may have been lost; whatever else is told to who is absent is a probe, in the pauses of the others (FB12).
    #[must_use]
    pub fn rank_of_stop(&self, rank: Rank, (is_new, stands): (bool, bool)) -> Rank {
        let lost_frame = self.absent == 1 && !stands;
        if self.absent == 0 || is_new || lost_frame { rank } else { Rank::Probe }
    }

    /// Whether it failed so often that its maker should look.
    #[must_use]
    pub fn is_faulty(&self) -> bool {
        self.faults >= DEVICE_FAULT
    }

    /// Before this it is not asked.
    #[must_use]
    pub fn rest_until(&self) -> Option<Moment> {
        self.rest_until
    }

    /// Whether others wait behind it.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.shared
    }

    /// How long a probe waits, given the slowest answers of the unit and of its neighbours, and the whole
    /// time-out.
    #[must_use]
    pub fn probe_wait(&self, (own, neighbours): (Duration, Duration), call: Duration) -> Duration {
        let (of, patient) = PATIENT_PROBE;
        if self.absent % of == patient {
            return call;
        }
        // Who is only doubted is waited for no less than anybody who is there.
        let times = if self.doubted { (habits::TIMES, PROBE_WAITS.1) } else { PROBE_WAITS };
        let least = if self.absent <= FIRST_PROBES { LEAST_FIRST_PROBE } else { LEAST_PROBE };
        (own * times.0).max(neighbours * times.1).max(least).min(call)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment { uptime: Duration::from_secs(seconds), utc: chrono::DateTime::UNIX_EPOCH }
    }

    #[test]
    fn fb6_a_busy_device_is_asked_after_1_2_4_up_to_30_s() {
        let mut health = Health::new(false);
        let rests: Vec<u64> = (0..7)
            .map(|_| {
                health.failed(&BusError::Exception(ExceptionCode::ServerDeviceBusy), at(100));
                health.rest_until().unwrap().uptime.as_secs() - 100
            })
            .collect();
        assert_eq!(rests, [1, 2, 4, 8, 16, 30, 30]);
        health.answered();
        assert_eq!(health.rest_until(), None);
    }

    #[test]
    fn fb6_three_device_failures_in_a_row_are_a_device_fault() {
        let mut health = Health::new(false);
        let failure = BusError::Exception(ExceptionCode::ServerDeviceFailure);
        for expected in [false, false, true] {
            health.failed(&failure, at(1));
            assert_eq!(health.is_faulty(), expected);
        }
        health.answered();
        assert!(!health.is_faulty());
    }

    #[test]
    fn fb6_every_exception_is_handled_by_its_kind() {
        use ExceptionCode::{
            Acknowledge, GatewayPathUnavailable, GatewayTargetDevice, IllegalDataAddress,
            IllegalDataValue, IllegalFunction, MemoryParityError, ServerDeviceBusy,
            ServerDeviceFailure,
        };
        let after = |code: ExceptionCode| {
            let mut health = Health::new(true);
            (0..3).for_each(|_| health.failed(&BusError::Exception(code), at(10)));
            (health.busy, health.faults, health.absent, health.rest_until.is_some())
        };
        for code in [IllegalFunction, IllegalDataAddress, IllegalDataValue] {
            assert_eq!(after(code), (0, 0, 0, false), "{code}: its block is not asked again");
        }
        for code in [Acknowledge, ServerDeviceBusy] {
            assert_eq!(after(code), (3, 0, 0, true), "{code}: left alone for a while");
        }
        for code in [ServerDeviceFailure, MemoryParityError] {
            assert_eq!(after(code), (0, 3, 0, false), "{code}: the device is broken");
        }
        for code in [GatewayPathUnavailable, GatewayTargetDevice] {
            assert_eq!(after(code), (0, 0, 3, true), "{code}: it is not behind the bridge");
        }
    }

    #[test]
    fn only_a_unit_that_shares_its_line_is_absent() {
        for shared in [false, true] {
            let mut health = Health::new(shared);
            health.failed(&BusError::Timeout(Duration::from_secs(1)), at(10));
            assert_eq!(health.is_absent(), shared);
            assert_eq!(health.rest_until().is_some(), shared);
            assert_eq!(health.answered(), shared);
        }
    }

    #[test]
    fn a_probe_waits_for_what_is_usual_on_the_line_and_sometimes_longer() {
        let mut health = Health::new(true);
        let call = Duration::from_secs(1);
        let ms = Duration::from_millis;
        let mut waits = Vec::new();
        for _ in 0..8 {
            health.failed(&BusError::Timeout(call), at(10));
            waits.push(health.probe_wait((ms(10), ms(100)), call));
        }
        assert_eq!(waits[..4], [ms(400), ms(400), ms(400), call]);
        assert_eq!(waits[4..], [ms(400); 4]);
        assert_eq!(health.probe_wait((ms(300), ms(100)), call), ms(600), "its own answers");
        assert_eq!(health.probe_wait((ms(1), ms(1)), call), LEAST_PROBE);
        let mut doubted = Health::new(true);
        doubted.doubt();
        let waits = [5, 200].map(|own| doubted.probe_wait((ms(own), ms(5)), call));
        assert_eq!(waits, [ms(400), ms(800)], "haste waited for three times its slowest answer");
    }

    #[test]
    fn fb12_a_read_is_due_since_its_last_wait_was_over() {
        let (planned, rest) = (at(10), Some(at(40)));
        assert_eq!(due_after(planned, [rest, None, Some(at(20))]).uptime, at(40).uptime);
        assert_eq!(due_after(at(50), [rest, None, None]).uptime, at(50).uptime);
        assert_eq!(due_after(planned, [None; 3]).uptime, planned.uptime);
    }

    #[test]
    fn fb12_who_is_gone_is_told_a_few_times_and_then_not_before_it_was_found() {
        let mut health = Health::new(true);
        let mut told = Vec::new();
        for second in 0..60 {
            if health.may_be_told(at(second)) {
                health.not_told(&BusError::Timeout(Duration::from_secs(1)), at(second));
                told.push(second);
            }
        }
        assert_eq!(told.len(), 3, "told in seconds {told:?}");
        assert_eq!(told[..2], [0, 1], "a lost frame is made good at once");
        health.answered();
        assert!(health.may_be_told(at(60)));
    }

    #[test]
    fn fb12_only_a_first_stop_and_a_lost_frame_of_it_go_before_the_others() {
        let mut health = Health::new(true);
        let rank = |health: &Health, told| health.rank_of_stop(Rank::Setpoint, told);
        let (new, stands) = ((true, false), (false, true));
        assert_eq!(rank(&health, stands), Rank::Setpoint, "it is there");
        health.failed(&BusError::Timeout(Duration::from_secs(1)), at(1));
        assert_eq!(rank(&health, new), Rank::Setpoint, "a first stop");
        assert_eq!(rank(&health, (false, false)), Rank::Setpoint, "a frame was lost");
        assert_eq!(rank(&health, stands), Rank::Probe, "it holds the stop already");
        health.failed(&BusError::Timeout(Duration::from_secs(1)), at(3));
        assert_eq!(rank(&health, new), Rank::Setpoint, "a first stop");
        assert_eq!(rank(&health, (false, false)), Rank::Probe, "it was silent twice");
        health.answered();
        assert_eq!(rank(&health, (false, false)), Rank::Setpoint);
    }

    #[test]
    fn fb6_a_busy_answer_to_a_write_does_not_put_the_reads_to_rest() {
        let mut health = Health::new(false);
        health.not_told(&BusError::Exception(ExceptionCode::ServerDeviceBusy), at(10));
        assert_eq!(health.rest_until(), None);
        let mut absent = Health::new(true);
        absent.not_told(&BusError::Timeout(Duration::from_secs(1)), at(10));
        assert!(absent.is_absent());
    }
}
