//! How an inverter is told the most that it may give: SunSpec's model 123 as a share of its rated power, with a
//! time after which it is free again, renewed well inside that time and read back.
//!
//! What a stranger gets wrong: the share is of the power the inverter is set to (model 121 `WMax`), which may be
//! less than its nameplate says (model 120 `WRtg`); only where 121 is missing the nameplate counts. All five
//! registers go out in one write, so that the inverter's time begins anew whichever of them it watches.

use std::time::Duration;

use super::bus::{Bus, BusError};
use super::device::{self, Device, Rank};
use super::order::{Order, Step, Verdict, Want};
use super::sunspec::{self, Model, Models};
use crate::config::{ProfileKind, Table};
use crate::io::clock::Clock;
use crate::logic::safety::interlock::Permitted;
use crate::units::Moment;

/// Models with the control, the settings and the nameplate.
const CONTROLS: u16 = 123;
const SETTINGS: u16 = 121;
const NAMEPLATE: u16 = 120;
/// `WMaxLimPct` to `WMaxLim_Ena`: share, window, revert time, ramp, whether it holds.
const LIMIT: u16 = 5;
const LIMIT_WORDS: u16 = 5;
/// Where the share's scale factor stands.
const LIMIT_SF: usize = 23;
/// Limits closer than this are the same, W. Our own figure.
const NEAR_W: f64 = 10.0;
/// A control that is missing or refused is tried again after this. Our own figure.
const TRY_AGAIN: Duration = Duration::from_secs(60);
/// So often a device that is read in between may leave the word of its limit unanswered; then it counts as refused.
/// Our own figure.
const MOST_UNANSWERED: u32 = 2;

/// What is needed to say a limit in the device's own words.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Controls {
    /// Address of the share.
    at: u16,
    rated_w: f64,
    /// What one step of the share is, percent.
    step_pct: f64,
    /// The ramp as it was found: it stays as it is.
    ramp: u16,
}

impl Controls {
    /// From models 123 and 121 (or 120) as they were read.
    fn of(at: u16, control: &Model, (rating, id): (&Model, u16)) -> Option<Controls> {
        let rated_w = match id {
            SETTINGS => rating.unsigned(2, 22),
            _ => rating.unsigned(3, 4),
        };
        let rated_w = rated_w.filter(|watts| *watts > 0.0)?;
        let step_pct = control.scaled(1.0, LIMIT_SF)?;
        Some(Controls { at: at + LIMIT, rated_w, step_pct, ramp: control.word(8)? })
    }

    /// Rounded down: never more than is meant.
    fn share(&self, watts: f64) -> u16 {
        let percent = (watts / self.rated_w * 100.0).clamp(0.0, 100.0);
        (percent / self.step_pct + 1e-6).floor().clamp(0.0, 65_534.0) as u16
    }

    fn words(&self, watts: f64) -> [u16; 5] {
        [self.share(watts), 0, sunspec::REVERT_S, self.ramp, 1]
    }

    /// What registers that say `held` let the inverter give, W.
    fn watts(&self, held: &[u16]) -> f64 {
        match held {
            [share, .., 1] => f64::from(*share) * self.step_pct / 100.0 * self.rated_w,
            _ => self.rated_w,
        }
    }
}

/// What an inverter was told.
#[derive(Debug, Default)]
pub(super) struct Curb {
    order: Order,
    controls: Option<Controls>,
    /// The share that was written last.
    share: Option<u16>,
    /// It has no such control, or refuses it: since when.
    refused: Option<Moment>,
    /// Times in a row that it was not answered, by a device that was read in between.
    unanswered: u32,
}

impl Curb {
    /// Whether people must be told that it cannot be limited.
    pub fn is_refused(&self) -> bool {
        self.refused.is_some()
    }

    /// The device cannot be read either: it is the device that is gone, not the control.
    pub fn unread(&mut self) {
        self.unanswered = 0;
    }

    /// Whether somebody else has limited it within the last minute.
    pub fn has_rival(&mut self, now: Moment) -> bool {
        self.order.has_rival(now)
    }

    /// What it holds is not known any more.
    pub fn forget(&mut self) {
        self.order.forget();
        self.controls = None;
    }
}

impl Device {
    fn curb_want(&self, permitted: &Permitted, now: Moment) -> Option<Want> {
        if self.config.profile.kind != ProfileKind::SunspecHybrid || self.hybrid.is_none() {
            return None;
        }
        self.models.as_ref()?;
        if self.health.reads_first(now) {
            return None;
        }
        if self.curb.refused.is_some_and(|at| at.age_at(now) < TRY_AGAIN) {
            return None;
        }
        let (watts, _) = permitted.inverter(&self.config.id)?;
        Some(self.curb.order.settle(Want {
            value: watts.get(),
            resolution: NEAR_W,
            expires_s: Some(f64::from(sunspec::REVERT_S)),
            stop: false,
            failsafe: false,
            spacing_s: 0.0,
        }))
    }

    /// When the limit of the output needs something, and how urgent that is.
    pub(super) fn next_curb(&self, permitted: &Permitted, now: Moment) -> Option<(Moment, Rank)> {
        let want = self.curb_want(permitted, now)?;
        let (at, rank, _) = self.curb.order.next(&want, now);
        (!self.health.is_absent()).then_some((at, rank))
    }

    /// Takes the next step of the limit.
    pub(super) async fn curtail(&mut self, bus: &mut Bus, clock: &Clock, permitted: &Permitted) {
        let Some(want) = self.curb_want(permitted, clock.now()) else { return };
        let (_, _, step) = self.curb.order.next(&want, clock.now());
        let outcome = match step {
            Step::Write => self.write_limit(bus, clock, want.value).await,
            Step::ReadBack | Step::Look => self.check_limit(bus, clock, &want).await,
        };
        let now = clock.now();
        let device = self.config.id.as_str();
        match outcome {
            Ok(Verdict::Obeyed) => (self.curb.refused, self.curb.unanswered) = (None, 0),
            Ok(Verdict::Again) => {}
            Ok(Verdict::Disobeyed) => {
                tracing::warn!(device, watts = want.value, "the inverter does not hold its limit");
            }
            Err(error) => {
                tracing::warn!(device, %error, "the inverter's limit could not be written");
                self.curb.order.failed(want.value, now);
                self.curb.controls = None;
                match &error {
                    BusError::Exception(code) if device::is_refusal(*code) => {
                        self.curb.refused = Some(now);
                    }
                    BusError::Exception(_) => {}
                    _ => {
                        self.forget_models();
                        self.health.not_told(&error, now);
                        self.curb.unanswered = self.curb.unanswered.saturating_add(1);
                        if self.curb.unanswered >= MOST_UNANSWERED {
                            self.curb.refused = Some(now);
                        }
                    }
                }
            }
        }
    }

    async fn write_limit(
        &mut self,
        bus: &mut Bus,
        clock: &Clock,
        watts: f64,
    ) -> Result<Verdict, BusError> {
        let Some(controls) = self.curb.controls else {
            self.learn_controls(bus, clock.now()).await?;
            return Ok(Verdict::Again);
        };
        self.notice_rival(bus, clock, controls).await?;
        self.put(bus, 16, (controls.at, &controls.words(watts))).await?;
        self.curb.share = Some(controls.share(watts));
        self.curb.order.sent(watts, clock.now(), Duration::ZERO);
        Ok(Verdict::Again)
    }

    /// Looks before it writes: what stands there and is not ours is somebody else's limit (FB14).
    async fn notice_rival(
        &mut self,
        bus: &mut Bus,
        clock: &Clock,
        controls: Controls,
    ) -> Result<(), BusError> {
        if !self.curb.order.is_held() {
            return Ok(());
        }
        let asked = clock.now();
        let span = (controls.at, LIMIT_WORDS);
        let held = bus.read(self.config.unit, Table::Holding, span, self.pace).await?;
        if held.first() == self.curb.share.as_ref() && held.get(4) == Some(&1) {
            return Ok(());
        }
        let watts = controls.watts(&held);
        if self.curb.order.notice(watts, NEAR_W, (asked, bus.made())) {
            let device = self.config.id.as_str();
            tracing::warn!(device, watts, "somebody else limits the inverter");
        }
        Ok(())
    }

    async fn check_limit(
        &mut self,
        bus: &mut Bus,
        clock: &Clock,
        want: &Want,
    ) -> Result<Verdict, BusError> {
        let (Some(controls), Some(told)) = (self.curb.controls, self.curb.order.pending()) else {
            self.curb.order.forget();
            return Ok(Verdict::Again);
        };
        let span = (controls.at, LIMIT_WORDS);
        let held = bus.read(self.config.unit, Table::Holding, span, self.pace).await?;
        // The revert time counts down on some inverters.
        let holds = held.first() == Some(&controls.share(told)) && held.get(4) == Some(&1);
        let at = (clock.now(), bus.made());
        Ok(self.curb.order.read_back(holds.then_some(told), want.resolution, at))
    }

    /// Reads where and in what steps the limit is said. A device without it is told of.
    async fn learn_controls(&mut self, bus: &mut Bus, now: Moment) -> Result<(), BusError> {
        let Some((control, rating, id)) = self.models.as_ref().and_then(places) else {
            let device = self.config.id.as_str();
            tracing::warn!(device, "no SunSpec model 123: its output cannot be limited");
            self.curb.refused = Some(now);
            return Ok(());
        };
        let (unit, pace) = (self.config.unit, self.pace);
        let rating = sunspec::read_model(bus, unit, rating, pace).await?;
        let read = sunspec::read_model(bus, unit, control, pace).await?;
        self.curb.controls = Controls::of(control.0, &read, (&rating, id));
        if self.curb.controls.is_none() {
            let device = self.config.id.as_str();
            tracing::warn!(device, "SunSpec models 120, 121 or 123 make no sense");
            self.curb.refused = Some(now);
        }
        Ok(())
    }
}

type Place = (u16, u16);

/// Where the control stands, and the rated power, and in which model.
fn places(models: &Models) -> Option<(Place, Place, u16)> {
    let all = models.places();
    let find = |wanted: u16| all.iter().find(|(id, _)| *id == wanted).map(|(_, place)| *place);
    let rated = [SETTINGS, NAMEPLATE].into_iter().find_map(|id| Some((find(id)?, id)));
    let (rating, id) = rated?;
    Some((find(CONTROLS)?, rating, id))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(length: usize, values: &[(usize, i16)]) -> Model {
        let mut words = vec![0; length];
        for &(offset, value) in values {
            words[offset] = value as u16;
        }
        Model::new(words)
    }

    #[test]
    fn a_limit_is_a_share_of_what_the_inverter_is_set_to_and_never_more() {
        let control = model(26, &[(23, -2), (8, 7)]);
        let settings = model(32, &[(2, 1_000), (22, 1)]);
        let controls = Controls::of(40_300, &control, (&settings, SETTINGS)).unwrap();
        assert_eq!(controls.words(2_500.0), [2_500, 0, sunspec::REVERT_S, 7, 1]);
        assert_eq!(controls.at, 40_305);
        assert_eq!(
            [0.0, -5.0, 3_333.39, 12_000.0].map(|w| controls.share(w)),
            [0, 0, 3_333, 10_000]
        );
        let nameplate = model(28, &[(3, 20_000), (4, 0)]);
        let whole = model(26, &[(23, 0)]);
        let controls = Controls::of(40_300, &whole, (&nameplate, NAMEPLATE)).unwrap();
        assert_eq!(controls.share(2_999.0), 14);
        // A rated power of nothing, or a mad factor, is no control.
        assert_eq!(Controls::of(1, &whole, (&model(28, &[]), NAMEPLATE)), None);
        assert_eq!(Controls::of(1, &model(26, &[(23, 11)]), (&nameplate, NAMEPLATE)), None);
    }
}
