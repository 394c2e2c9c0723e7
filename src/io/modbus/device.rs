//! One device behind a link: what it needs next, and how it is read. One step is one request, so that
//! whatever is more urgent can go in between.
//!
//! What a stranger gets wrong: a reading is told once a round, and its age is that of the round; what is read
//! more rarely (see `rota`) goes with it while it is young enough for its own period.

use std::time::Duration;

use tokio_modbus::ExceptionCode;

use super::blocks::Block;
use super::bus::{Bus, BusError, Pace};
use super::copies::Copies;
use super::curtailing::Curb;
use super::decoder::Decoder;
use super::habits::Habits;
use super::health::{self, Health};
use super::lookout::Lookout;
use super::order::Order;
use super::outputs::Outputs;
use super::phases::Phases;
use super::readings::{self, Unusable, Values};
use super::rota::Rota;
use super::server::Shelf;
use super::storage::Script;
use super::sunspec::{Hybrid, Models, Walk};
use super::telling::Counter;
use crate::config::{DeviceConfig, ProfileKind};
use crate::io::clock::Clock;
use crate::logic::observation::{Finding, Observation, Silence};
use crate::logic::site::Reading;
use crate::units::Moment;

/// A connection refused for this long means that somebody else may hold the device (FB13: 30 s).
const REFUSED_MEANS_RIVAL: Duration = Duration::from_secs(15);

/// What goes first on a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// A new setpoint.
    Setpoint,
    /// Its read back.
    ReadBack,
    /// A setpoint that would expire.
    Renewal,
    /// A look at what another master may have changed.
    Look,
    /// A read of the round.
    Fast,
    /// A read of what changes slowly.
    Slow,
    /// A probe of an absent unit: in the pauses of the others.
    Probe,
}

/// A periodic read under way.
#[derive(Debug)]
pub(super) struct Round {
    pub(super) began: Moment,
    /// The block or model to be read next.
    pub(super) next: usize,
    /// Begun as a probe: nothing of it is asked in haste.
    patient: bool,
}

/// One device.
pub struct Device {
    pub(super) config: DeviceConfig,
    pub(super) pace: Pace,
    pub(super) models: Option<Models>,
    pub(super) walk: Walk,
    pub(super) copies: Copies,
    /// What a battery is being told.
    pub(super) script: Script,
    pub(super) hybrid: Option<Hybrid>,
    pub(super) curb: Curb,
    pub(super) order: Order,
    pub(super) outputs: Outputs,
    pub(super) phases: Phases,
    pub(super) health: Health,
    pub(super) lookout: Lookout,
    /// What the device said of its failsafe last: A and s.
    pub(super) failsafe: (Option<f64>, Option<f64>),
    /// Writes of the failsafe in a row after which it did not hold it.
    pub(super) failsafe_tries: u32,
    /// No request before this: the device must run into its failsafe.
    pub(super) silent_until: Option<Moment>,
    /// Whether it refused the last write (exceptions 1 to 3).
    pub(super) refuses_writes: bool,
    rota: Rota,
    pub(super) round: Option<Round>,
    next_poll: Option<Moment>,
    /// Whether the request under way is waited for in haste.
    pub(super) in_haste: bool,
    decoder: Decoder,
    findings: Vec<Finding>,
    refused_since: Option<Moment>,
    trouble: Option<String>,
    pub(super) shelf: Option<Shelf>,
    /// Where writes are counted.
    pub(super) writes: Option<Counter>,
}

/// The device does not know what it is asked for: asking again helps nobody.
pub(super) fn is_refusal(code: ExceptionCode) -> bool {
    matches!(
        code,
        ExceptionCode::IllegalFunction
            | ExceptionCode::IllegalDataAddress
            | ExceptionCode::IllegalDataValue
    )
}

impl Device {
    /// Prepared from its configuration; nothing is asked yet. `shared` says whether other devices wait
    /// behind it on the same line; what it reads is put on `shelf`.
    #[must_use]
    pub fn new(config: DeviceConfig, shared: bool, shelf: Option<Shelf>) -> Device {
        let profile = &config.profile;
        let pace = Pace {
            connect: Duration::from_millis(profile.connect_ms),
            call: Duration::from_millis(profile.call_ms),
            gap: Duration::from_millis(profile.pace_ms),
        };
        let decoder = Decoder::new(profile);
        let (rota, copies) = (Rota::of(profile), Copies::of(profile));
        Device {
            config,
            pace,
            models: None,
            walk: Walk::default(),
            copies,
            script: Script::default(),
            hybrid: None,
            curb: Curb::default(),
            order: Order::default(),
            outputs: Outputs::default(),
            phases: Phases::default(),
            health: Health::new(shared),
            lookout: Lookout::default(),
            failsafe: (None, None),
            failsafe_tries: 0,
            silent_until: None,
            refuses_writes: false,
            rota,
            round: None,
            next_poll: None,
            in_haste: false,
            decoder,
            findings: Vec::new(),
            refused_since: None,
            trouble: None,
            shelf,
            writes: None,
        }
    }

    /// When the next read is due, and how urgent it is. A round under way goes on at once.
    #[must_use]
    pub fn next_read(&self, bus: &Bus, clock: &Clock, now: Moment) -> (Moment, Rank) {
        let mut at = match &self.round {
            Some(round) => round.began,
            None => self.next_poll.unwrap_or(now),
        };
        // A round under way has had an answer: the unit is there.
        let away = self.health.is_absent() || self.health.is_doubted();
        let probes = away && self.round.is_none();
        let mut rank = if probes { Rank::Probe } else { Rank::Fast };
        if let Some((slow, _)) = self.next_slow(now)
            && slow.uptime < at.uptime
        {
            (at, rank) = (slow, Rank::Slow);
        }
        let late = self.late_until(bus, clock, now);
        let waits = [self.health.rest_until(), self.silent_until, late];
        (health::due_after(at, waits), rank)
    }

    /// The slow block that is due next, and when: none while a round is under way or due, or the unit is away.
    fn next_slow(&self, now: Moment) -> Option<(Moment, usize)> {
        let away = self.health.is_absent() || self.health.is_doubted();
        let idle = self.round.is_none() && !away;
        let due = self.next_poll.is_none_or(|poll| poll.uptime <= now.uptime);
        if idle && !due { self.rota.next_slow(now) } else { None }
    }

    /// Whether it is only probed.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        self.health.is_absent()
    }

    /// Whether it is asked again with patience before anything is said of it.
    #[must_use]
    pub fn is_doubted(&self) -> bool {
        self.health.is_doubted()
    }

    /// How often it is read.
    #[must_use]
    pub fn period(&self) -> Duration {
        self.rota.period()
    }

    /// It is read at this moment first, and then by its period.
    pub fn start_at(&mut self, at: Moment) {
        self.next_poll = Some(at);
    }

    /// How long the answer to the next request is waited for, wall time, when nobody else needs the line for
    /// `pause`. What is only read is waited for in haste where others share the line: it is asked again later. A
    /// probe may have the whole of a pause.
    pub fn waits(&mut self, rank: Rank, habits: &Habits, pause: Duration) -> Duration {
        let (patience, call) = (self.patience(rank, habits), self.pace.call);
        let hurries = self.health.is_shared() && self.round.as_ref().is_none_or(|r| !r.patient);
        let wait = match rank {
            Rank::Probe => patience.max(pause.min(health::LONGEST_PROBE)).min(call),
            Rank::Look | Rank::Fast | Rank::Slow if hurries => {
                habits.haste(self.config.unit, call).max(pause).min(patience)
            }
            _ => patience,
        };
        self.in_haste = wait < patience;
        wait
    }

    /// How long an answer is waited for, wall time. A new setpoint has the whole time-out: it may be a stop.
    #[must_use]
    pub fn patience(&self, rank: Rank, habits: &Habits) -> Duration {
        let (unit, call) = (self.config.unit, self.pace.call);
        match rank {
            Rank::Probe => {
                let slowest = (habits.slowest(unit), habits.slowest_beside(unit));
                self.health.probe_wait(slowest, call)
            }
            Rank::Setpoint => call,
            _ if self.health.is_shared() => habits.patience(unit, call),
            _ => call,
        }
    }

    /// Makes the next read; tells what came once the round is complete, or what went wrong.
    pub async fn read(&mut self, bus: &mut Bus, clock: &Clock, told: &mut Vec<Observation>) {
        let now = clock.now();
        if let Some((at, i)) = self.next_slow(now)
            && at.uptime <= now.uptime
        {
            return self.read_slow(i, (bus, clock), told).await;
        }
        if self.round.is_none() {
            self.begin(now);
        }
        let done = match self.config.profile.kind {
            ProfileKind::SunspecHybrid => self.read_hybrid(bus, clock).await,
            ProfileKind::SunspecMeter => self.read_sunspec_meter(bus, clock).await,
            _ => self.read_block(bus, clock).await,
        };
        if done.is_ok() && self.health.cleared() {
            bus.wronged(self.config.unit);
        }
        let outcome = match done {
            Ok(None) => return,
            Err(BusError::Timeout(_)) if self.in_haste => {
                self.round = None;
                return self.health.doubt();
            }
            Ok(Some(outcome)) => Ok(outcome),
            Err(error) => Err(error),
        };
        let began = self.round.take().map_or(now, |round| round.began);
        self.conclude(outcome, began, clock.now(), told);
    }

    /// Missed ticks are skipped, not queued.
    fn begin(&mut self, now: Moment) {
        let (due, period) = (self.next_poll.unwrap_or(now), self.rota.period());
        let periods = due.age_at(now).as_secs_f64() / period.as_secs_f64();
        self.next_poll = Some(due.after(period.mul_f64(periods.floor() + 1.0)));
        let patient = self.health.is_absent() || self.health.is_doubted();
        self.round = Some(Round { began: now, next: 0, patient });
    }

    /// Tells how a round ended.
    fn conclude(
        &mut self,
        outcome: Result<Result<Reading, Unusable>, BusError>,
        began: Moment,
        now: Moment,
        told: &mut Vec<Observation>,
    ) {
        self.health.tried_to_read();
        let device = self.config.id.clone();
        let silent = |why| Observation::Silent { device: device.clone(), at: now, why };
        let observation = match &outcome {
            Ok(Ok(reading)) => {
                self.tell_trouble(None);
                let (device, reading) = (device.clone(), reading.clone());
                Observation::Answered { device, at: began, reading }
            }
            Ok(Err(unusable)) => {
                self.tell_trouble(Some(unusable.to_string()));
                silent(Silence::Implausible)
            }
            Err(error) => {
                self.forget_models();
                self.rota.forget();
                self.curb.unread();
                self.tell_trouble(Some(error.to_string()));
                silent(error.silence())
            }
        };
        told.push(observation);
        match &outcome {
            Ok(_) => {
                if self.health.answered() {
                    // Whatever it holds, it was out of reach: it is told anew.
                    self.order.forget();
                    self.curb.forget();
                }
            }
            Err(error) => self.health.failed(error, now),
        }
        let refused = matches!(&outcome, Err(BusError::Refused { .. }));
        self.refused_since = refused.then_some(self.refused_since.unwrap_or(now));
        self.find(now, told);
    }

    /// Tells the findings that have begun or ended.
    fn find(&mut self, now: Moment, told: &mut Vec<Observation>) {
        let held_off = |since: Moment| since.age_at(now) >= REFUSED_MEANS_RIVAL;
        let refuses = self.refuses_writes
            || self.curb.is_refused()
            || self.rota.is_refused()
            || self.failsafe_is_stubborn();
        let holds = [
            (Finding::Misconfigured, refuses),
            (Finding::DeviceFault, self.health.is_faulty()),
            (Finding::OtherMaster, self.refused_since.is_some_and(held_off)),
            (Finding::ForeignWriter, self.order.has_rival(now) || self.curb.has_rival(now)),
        ];
        for (finding, holds) in holds {
            if self.findings.contains(&finding) == holds {
                continue;
            }
            let id = self.config.id.as_str();
            if holds {
                tracing::warn!(device = id, finding = finding.code(), "noticed");
                self.findings.push(finding);
            } else {
                tracing::info!(device = id, finding = finding.code(), "no longer so");
                self.findings.retain(|known| *known != finding);
            }
            let device = self.config.id.clone();
            told.push(Observation::Found { device, at: now, finding, holds });
        }
    }

    /// The controller did not hear this: a finding is told again with the next round.
    pub fn was_not_heard(&mut self, lost: &Observation) {
        let Observation::Found { finding, holds, .. } = lost else {
            return;
        };
        if *holds {
            self.findings.retain(|known| known != finding);
        } else {
            self.findings.push(*finding);
        }
    }

    /// Logs a trouble when it begins, changes and ends; not every second.
    fn tell_trouble(&mut self, trouble: Option<String>) {
        if trouble == self.trouble {
            return;
        }
        let device = self.config.id.as_str();
        match (&trouble, &self.trouble) {
            (Some(why), _) => tracing::warn!(device, %why, "device gives no usable answer"),
            (None, Some(_)) => tracing::info!(device, "device answers again"),
            (None, None) => {}
        }
        self.trouble = trouble;
    }

    /// Reads the next block of the round; the reading once it was the last.
    async fn read_block(
        &mut self,
        bus: &mut Bus,
        clock: &Clock,
    ) -> Result<Option<Result<Reading, Unusable>>, BusError> {
        let (now, made) = (clock.now(), bus.made());
        let Some(round) = &mut self.round else {
            return Ok(None);
        };
        let Some(i) = self.rota.next_of_round(round.next, (now, made)) else {
            return Ok(Some(self.finish(bus, now)));
        };
        round.next = i + 1;
        if let Some(unusable) = self.take_block(i, (bus, clock)).await? {
            return Ok(Some(Err(unusable)));
        }
        let next = self.round.as_ref().map_or(0, |round| round.next);
        if self.rota.next_of_round(next, (now, bus.made())).is_some() {
            return Ok(None);
        }
        Ok(Some(self.finish(bus, clock.now())))
    }

    /// Reads a slow block between two rounds; only trouble is told, its values go with the next reading.
    async fn read_slow(
        &mut self,
        i: usize,
        (bus, clock): (&mut Bus, &Clock),
        told: &mut Vec<Observation>,
    ) {
        let began = clock.now();
        let outcome = match self.take_block(i, (&mut *bus, clock)).await {
            Ok(None) => return,
            Err(BusError::Timeout(_)) if self.in_haste => return self.health.doubt(),
            Ok(Some(unusable)) => Ok(Err(unusable)),
            Err(error) => Err(error),
        };
        self.conclude(outcome, began, clock.now(), told);
    }

    /// Asks one block and keeps its values; what of it cannot be believed.
    async fn take_block(
        &mut self,
        i: usize,
        (bus, clock): (&mut Bus, &Clock),
    ) -> Result<Option<Unusable>, BusError> {
        let (now, pace) = (clock.now(), self.pace);
        let block = self.rota.ask(i, now);
        match bus.read(self.config.unit, block.table, (block.first, block.count), pace).await {
            Ok(words) => Ok(self.take(i, &block, &words, clock.now()).err()),
            Err(BusError::Exception(code)) if is_refusal(code) => {
                self.refuse(i, &block, code, (now, bus.made()));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// The device refuses a block: its parts are asked one by one, a part is left out.
    fn refuse(&mut self, i: usize, block: &Block, code: ExceptionCode, at: (Moment, u64)) {
        let (device, first, count) = (self.config.id.as_str(), block.first, block.count);
        if self.rota.refuse(i, &self.config.profile, at) > 1 {
            tracing::info!(device, first, count, %code, "refused: its parts are asked one by one");
            if let Some(round) = &mut self.round {
                round.next = i;
            }
        } else {
            tracing::warn!(device, first, count, %code, "refused: is this the right profile and address?");
        }
    }

    /// Decodes a block and keeps its values.
    fn take(
        &mut self,
        i: usize,
        block: &Block,
        words: &[u16],
        now: Moment,
    ) -> Result<(), Unusable> {
        if let Some(shelf) = &self.shelf {
            shelf.put(block, words, now);
        }
        let mut values = Values::new();
        self.decoder.take(&self.config.profile, (block, words), now, &mut values)?;
        self.rota.keep(i, values);
        Ok(())
    }

    fn finish(&mut self, bus: &Bus, now: Moment) -> Result<Reading, Unusable> {
        let began = self.round.as_ref().map_or(now, |round| round.began);
        let values = self.rota.values(began, now);
        self.notice_foreign_value(&values, bus.made());
        self.notice_outputs(&values);
        self.notice_failsafe(&values);
        self.notice_phases(&values);
        self.notice_wear(began);
        readings::reading(&self.config.profile, &values)
    }

    /// When the value of a quantity was asked for that stands now.
    pub(super) fn asked(&self, quantity: &str) -> Option<Moment> {
        self.rota.asked(&self.config.profile, quantity)
    }

    /// The value that shows the setpoint.
    pub(super) fn setpoint_quantity(&self) -> &'static str {
        if self.config.profile.kind == ProfileKind::Compute { "setpoint_w" } else { "setpoint_a" }
    }
}

#[cfg(test)]
mod tests;
