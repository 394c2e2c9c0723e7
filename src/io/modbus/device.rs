//! One device behind a link: what it needs next, and how it is read. One step is one request, so that
//! whatever is more urgent can go in between.
//!
//! What a stranger gets wrong: blocks of registers that a device refuses (exceptions 1 to 3) are not asked
//! again; first the block is taken apart where it bridges unused registers, since those may be the illegal
//! ones. A refused block is tried again after ten minutes, or when the device was connected anew.

use std::time::Duration;

use tokio_modbus::ExceptionCode;

use super::blocks::{self, Block};
use super::bus::{Bus, BusError, Pace};
use super::codec::Raw;
use super::decoder::Decoder;
use super::health::{self, Health};
use super::lookout::Lookout;
use super::order::Order;
use super::outputs::Outputs;
use super::readings::{self, Unusable, Values};
use super::server::Shelf;
use super::storage::Script;
use super::sunspec::{self, Hybrid, Model, Models, Walk};
use super::telling::{self, Counter};
use crate::config::{DeviceConfig, ProfileKind, Table};
use crate::io::clock::Clock;
use crate::logic::observation::{Finding, Observation, Silence};
use crate::logic::site::Reading;
use crate::units::Moment;

/// How often every device is asked.
const PERIOD: Duration = Duration::from_secs(1);
/// This many identical answers of a meter in a row mean that it is frozen (decisions).
const FROZEN_AFTER: u32 = 20;
/// A refused block is asked again after this long. Our own figure.
const REFUSED_FOR: Duration = Duration::from_secs(600);
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
    /// The periodic read.
    Fast,
    /// A probe of an absent unit: in the pauses of the others.
    Slow,
}

/// One read and what became of it.
#[derive(Clone, Debug)]
struct Ask {
    block: Block,
    refused: Option<Refused>,
}

#[derive(Clone, Copy, Debug)]
struct Refused {
    at: Moment,
    made: u64,
}

/// A periodic read under way.
#[derive(Debug)]
struct Round {
    began: Moment,
    next: usize,
    values: Values,
    words: Vec<u16>,
    /// SunSpec models read so far.
    models: Vec<Model>,
}

/// One device.
pub struct Device {
    pub(super) config: DeviceConfig,
    pub(super) pace: Pace,
    models: Option<Models>,
    walk: Walk,
    /// What a battery is being told.
    pub(super) script: Script,
    pub(super) hybrid: Option<Hybrid>,
    pub(super) order: Order,
    pub(super) outputs: Outputs,
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
    asks: Vec<Ask>,
    round: Option<Round>,
    next_poll: Option<Moment>,
    decoder: Decoder,
    findings: Vec<Finding>,
    refused_since: Option<Moment>,
    last_words: Vec<u16>,
    same_words: u32,
    trouble: Option<String>,
    shelf: Option<Shelf>,
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
        let blocks = blocks::compile(profile).into_iter();
        let asks = blocks.map(|block| Ask { block, refused: None }).collect();
        Device {
            config,
            pace,
            models: None,
            walk: Walk::default(),
            script: Script::default(),
            hybrid: None,
            order: Order::default(),
            outputs: Outputs::default(),
            health: Health::new(shared),
            lookout: Lookout::default(),
            failsafe: (None, None),
            failsafe_tries: 0,
            silent_until: None,
            refuses_writes: false,
            asks,
            round: None,
            next_poll: None,
            decoder,
            findings: Vec::new(),
            refused_since: None,
            last_words: Vec::new(),
            same_words: 0,
            trouble: None,
            shelf,
            writes: None,
        }
    }

    /// When the next read is due, and how urgent it is. A round under way goes on at once.
    #[must_use]
    pub fn next_read(&self, bus: &Bus, clock: &Clock, now: Moment) -> (Moment, Rank) {
        let at = match &self.round {
            Some(round) => round.began,
            None => self.next_poll.unwrap_or(now),
        };
        let rests = bus.rests(self.config.unit).mul_f64(clock.speed());
        let rests = (!rests.is_zero()).then(|| now.after(rests));
        let at = health::due_after(at, [self.health.rest_until(), self.silent_until, rests]);
        (at, if self.health.is_absent() { Rank::Slow } else { Rank::Fast })
    }

    /// Whether it is only probed.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        self.health.is_absent()
    }

    /// Wall time that a probe takes at most.
    #[must_use]
    pub fn probe_wait(&self, neighbours: Duration) -> Duration {
        self.health.probe_wait(neighbours, self.pace.call)
    }

    /// The slowest answer of the device so far.
    #[must_use]
    pub fn slowest(&self) -> Duration {
        self.health.slowest()
    }

    /// Makes the next read; tells what came once the round is complete, or what went wrong. `neighbours` is
    /// the slowest answer of the others on the line.
    pub async fn read(
        &mut self,
        bus: &mut Bus,
        clock: &Clock,
        neighbours: Duration,
        told: &mut Vec<Observation>,
    ) {
        let pace = match self.health.is_absent() {
            true => Pace { call: self.probe_wait(neighbours), ..self.pace },
            false => self.pace,
        };
        let now = clock.now();
        if self.round.is_none() {
            self.begin(now);
        }
        let done = match self.config.profile.kind {
            ProfileKind::SunspecHybrid => self.read_hybrid(bus, pace).await,
            ProfileKind::SunspecMeter => self.read_sunspec_meter(bus, pace).await,
            _ => self.read_block(bus, clock, pace).await,
        };
        let outcome = match done {
            Ok(None) => return,
            Ok(Some(outcome)) => Ok(outcome),
            Err(error) => Err(error),
        };
        let began = self.round.take().map_or(now, |round| round.began);
        self.conclude(outcome, began, (bus, clock.now()), told);
    }

    /// Missed ticks are skipped, not queued.
    fn begin(&mut self, now: Moment) {
        let due = self.next_poll.unwrap_or(now);
        let periods = due.age_at(now).as_secs_f64() / PERIOD.as_secs_f64();
        self.next_poll = Some(due.after(PERIOD.mul_f64(periods.floor() + 1.0)));
        let (values, words, models) = (Values::new(), Vec::new(), Vec::new());
        self.round = Some(Round { began: now, next: 0, values, words, models });
    }

    /// Tells how a round ended.
    fn conclude(
        &mut self,
        outcome: Result<Result<Reading, Unusable>, BusError>,
        began: Moment,
        (bus, now): (&Bus, Moment),
        told: &mut Vec<Observation>,
    ) {
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
                self.tell_trouble(Some(error.to_string()));
                silent(error.silence())
            }
        };
        told.push(observation);
        match &outcome {
            Ok(_) => {
                if self.health.answered(bus.took()) {
                    // Whatever it holds, it was out of reach: it is told anew.
                    self.order.forget();
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
            || self.failsafe_tries >= telling::FAILSAFE_TRIES
            || self.asks.iter().any(|ask| ask.refused.is_some());
        let holds = [
            (Finding::Misconfigured, refuses),
            (Finding::DeviceFault, self.health.is_faulty()),
            (Finding::OtherMaster, self.refused_since.is_some_and(held_off)),
            (Finding::ForeignWriter, self.order.has_rival(now)),
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

    /// Where a SunSpec device keeps what; walked once for each life of the connection, a request at a time.
    /// Nothing while it walks.
    async fn models(&mut self, bus: &mut Bus, pace: Pace) -> Result<Option<Models>, BusError> {
        if self.models.is_none() {
            self.models = self.walk.step(bus, self.config.unit, pace).await?;
            // What was read before the walk lay elsewhere.
            self.round.iter_mut().for_each(|round| round.models.clear());
            return Ok(None);
        }
        Ok(self.models.clone())
    }

    /// After a fault the device may be another one.
    pub(super) fn forget_models(&mut self) {
        (self.models, self.walk) = (None, Walk::default());
    }

    async fn read_hybrid(
        &mut self,
        bus: &mut Bus,
        pace: Pace,
    ) -> Result<Option<Result<Reading, Unusable>>, BusError> {
        let Some(models) = self.models(bus, pace).await? else { return Ok(None) };
        let (places, unit) = (models.hybrid()?, self.config.unit);
        let Some(round) = &mut self.round else { return Ok(None) };
        if let Some(place) = places.get(round.models.len()) {
            round.models.push(sunspec::read_model(bus, unit, *place, pace).await?);
        }
        if round.models.len() < places.len() {
            return Ok(None);
        }
        let hybrid = Hybrid::of(&models, std::mem::take(&mut round.models))?;
        let reading = hybrid.reading();
        if self.order.is_held() && !hybrid.shows(self.script.told()) {
            let asked = round.began;
            self.notice_other("the storage control", (asked, bus.made()));
        }
        self.hybrid = Some(hybrid);
        Ok(Some(reading))
    }

    async fn read_sunspec_meter(
        &mut self,
        bus: &mut Bus,
        pace: Pace,
    ) -> Result<Option<Result<Reading, Unusable>>, BusError> {
        let Some(models) = self.models(bus, pace).await? else { return Ok(None) };
        let words = bus.read(self.config.unit, Table::Holding, models.meter()?, pace).await?;
        if !sunspec::is_meter(&words) {
            // Garbage, or the models lie elsewhere now: they are walked anew.
            self.forget_models();
        }
        let reading = sunspec::meter_reading(&words);
        let frozen = self.is_frozen(words);
        Ok(Some(if frozen { Err(Unusable::Frozen(self.same_words)) } else { reading }))
    }

    /// Reads the next block of the round; the reading once it was the last.
    async fn read_block(
        &mut self,
        bus: &mut Bus,
        clock: &Clock,
        pace: Pace,
    ) -> Result<Option<Result<Reading, Unusable>>, BusError> {
        let now = clock.now();
        let Some(round) = &mut self.round else {
            return Ok(None);
        };
        let made = bus.made();
        let due = |ask: &Ask| {
            ask.refused
                .is_none_or(|refused| refused.made != made || refused.at.age_at(now) >= REFUSED_FOR)
        };
        let Some(i) = (round.next..self.asks.len()).find(|&i| due(&self.asks[i])) else {
            return Ok(Some(self.finish(bus, now)));
        };
        round.next = i + 1;
        let block = self.asks[i].block.clone();
        let span = (block.first, block.count);
        match bus.read(self.config.unit, block.table, span, pace).await {
            Ok(words) => {
                self.asks[i].refused = None;
                if let Some(unusable) = self.take(&block, words, clock.now()) {
                    return Ok(Some(Err(unusable)));
                }
            }
            Err(BusError::Exception(code)) if is_refusal(code) => {
                self.refuse(i, code, Refused { at: now, made });
            }
            Err(error) => return Err(error),
        }
        let rest = self.round.as_ref().map_or(0, |round| round.next);
        if self.asks[rest..].iter().any(due) {
            return Ok(None);
        }
        Ok(Some(self.finish(bus, now)))
    }

    /// The device refuses a block: its parts are asked one by one, a part is left out.
    fn refuse(&mut self, i: usize, code: ExceptionCode, refused: Refused) {
        let parts = blocks::parts(&self.config.profile, &self.asks[i].block);
        let (first, count) = (self.asks[i].block.first, self.asks[i].block.count);
        let device = self.config.id.as_str();
        if parts.len() > 1 {
            tracing::info!(device, first, count, %code, "refused: its parts are asked one by one");
            let asks = parts.into_iter().map(|block| Ask { block, refused: None });
            self.asks.splice(i..=i, asks);
            if let Some(round) = &mut self.round {
                round.next = i;
            }
            return;
        }
        tracing::warn!(device, first, count, %code, "refused: is this the right profile and address?");
        self.asks[i].refused = Some(refused);
    }

    /// Decodes a block into the round.
    fn take(&mut self, block: &Block, words: Vec<u16>, now: Moment) -> Option<Unusable> {
        if let Some(shelf) = &self.shelf {
            shelf.put(block.table, block.first, &words, now);
        }
        let round = self.round.as_mut()?;
        let (profile, answer) = (&self.config.profile, (block, words.as_slice()));
        let taken = self.decoder.take(profile, answer, now, &mut round.values);
        round.words.extend(words);
        taken.err()
    }

    fn finish(&mut self, bus: &Bus, now: Moment) -> Result<Reading, Unusable> {
        let (began, values, words) = match &mut self.round {
            Some(round) => {
                let (values, words) = (&mut round.values, &mut round.words);
                (round.began, std::mem::take(values), std::mem::take(words))
            }
            None => (now, Values::default(), Vec::new()),
        };
        if self.is_frozen(words) {
            return Err(Unusable::Frozen(self.same_words));
        }
        self.notice_foreign_value(&values, (began, bus.made()));
        self.notice_outputs(&values, began);
        self.notice_failsafe(&values);
        readings::reading(&self.config.profile, &values)
    }

    /// A live meter is never still: no bit changed in twenty answers means frozen (fault FB2).
    fn is_frozen(&mut self, words: Vec<u16>) -> bool {
        let kind = self.config.profile.kind;
        let is_meter = matches!(kind, ProfileKind::Meter | ProfileKind::SunspecMeter);
        let same = is_meter && words == self.last_words;
        self.same_words = if same { self.same_words.saturating_add(1) } else { 0 };
        self.last_words = words;
        self.same_words >= FROZEN_AFTER
    }

    /// The value that shows the setpoint.
    pub(super) fn setpoint_quantity(&self) -> &'static str {
        if self.config.profile.kind == ProfileKind::Compute { "setpoint_w" } else { "setpoint_a" }
    }

    /// The device holds another setpoint than the last one written: it is written again (FB11, FB14).
    fn notice_foreign_value(&mut self, values: &Values, at: (Moment, u64)) {
        let (Some(recipe), Some(Raw::Number(held))) =
            (&self.config.profile.setpoint, values.get(self.setpoint_quantity()))
        else {
            return;
        };
        if self.order.is_paused() && !recipe.pause.is_empty() {
            // A switch that pauses leaves the setpoint as it was.
            return;
        }
        if self.order.notice(*held, recipe.step_a / 2.0, at) {
            let device = self.config.id.as_str();
            tracing::warn!(device, held, "somebody else has changed the setpoint");
        }
    }
}
