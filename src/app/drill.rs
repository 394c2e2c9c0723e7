//! Drills: a fault is made visible on a running gateway, and what it does is measured against its bound. The
//! gateway is asked at its control socket; what happens is seen in its own overview.
//!
//! ```text
//!   meter-loss   the grid meter's answers are put aside for 25 s → every charger at its safe share
//!   fire         one confirmed flame of a zone's camera → its chargers stop, the zone is latched
//! ```
//! What a stranger gets wrong: nothing is pretended. The gateway reacts as it would, chargers follow, and
//! after a fire drill the zone stays stopped until a person resets it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::desk::{self, Answer, Refusal, Request};
use super::life::millis;
use crate::io::clock::Clock;
use crate::logic::decision::{DeviceView, Overview};
use crate::logic::observation::Observation;
use crate::logic::site::Id;

/// How long the meter is put aside: its loss, and a little more to see what follows.
const PUT_ASIDE: Duration = Duration::from_secs(25);
/// How often the overview is looked at, and how long after the bound.
const LOOK_EVERY: Duration = Duration::from_millis(200);
const LOOK_BEYOND: Duration = Duration::from_secs(10);
/// Bounds of faults FB1 and of the risk table.
const SAFE_SHARE_WITHIN: Duration = Duration::from_millis(11_500);
const STOPPED_WITHIN: Duration = Duration::from_secs(15);
/// A charger below this current has stopped, A.
const STOPPED_A: f64 = 1.0;

/// A drill.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Drill {
    /// The grid meter falls silent.
    MeterLoss,
    /// A camera confirms a flame.
    Fire,
}

/// Until when the meter's answers are put aside; shared by the desk and the control thread.
#[derive(Clone, Debug, Default)]
pub struct PutAside(Arc<AtomicU64>);

impl PutAside {
    /// Puts the meter's answers aside from now on.
    pub fn begin(&self, clock: Clock) {
        let until = millis(clock.now()).saturating_add(PUT_ASIDE.as_millis() as u64);
        self.0.store(until, Ordering::Relaxed);
    }

    /// Whether an observation is one of those.
    #[must_use]
    pub fn takes(&self, observation: &Observation, meter: &Id, clock: Clock) -> bool {
        let until = self.0.load(Ordering::Relaxed);
        until > 0
            && matches!(observation, Observation::Answered { device, .. } if device == meter)
            && millis(clock.now()) < until
    }
}

/// One thing that was to happen, and when it did.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// Key of its text (`cli.drill.<key>`).
    pub what: &'static str,
    /// After how long; nothing: not at all.
    pub after: Option<Duration>,
    /// Within which time it had to.
    pub bound: Duration,
}

impl Finding {
    /// Whether it happened in time.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.after.is_some_and(|after| after <= self.bound)
    }
}

/// Why a drill could not be made.
#[derive(Debug, thiserror::Error)]
pub enum DrillError {
    /// The gateway does not answer.
    #[error("{0}")]
    Socket(std::io::Error),
    /// The gateway refused.
    #[error("{0:?}")]
    Refused(Refusal),
}

/// What is expected, within which time, and how it shows.
type Expected = (&'static str, Duration, fn(&Overview) -> bool);

/// Makes the drill on the gateway of a state folder.
///
/// # Errors
/// When the gateway does not answer or refuses.
pub fn run(state: &Path, drill: Drill) -> Result<Vec<Finding>, DrillError> {
    let clock = Clock::real();
    look(state)?;
    let answer = desk::ask(state, &Request::Drill { drill }).map_err(DrillError::Socket)?;
    if let Answer::Refused(refusal) = answer {
        return Err(DrillError::Refused(refusal));
    }
    let began = clock.now();
    let expected: &[Expected] = match drill {
        Drill::MeterLoss => &[
            ("meter_alarm", SAFE_SHARE_WITHIN, meter_alarm),
            ("safe_share", SAFE_SHARE_WITHIN, safe_share),
        ],
        Drill::Fire => {
            &[("latched", Duration::from_secs(2), latched), ("stopped", STOPPED_WITHIN, stopped)]
        }
    };
    let mut findings: Vec<Finding> =
        expected.iter().map(|&(what, bound, _)| Finding { what, after: None, bound }).collect();
    let most = expected.iter().map(|(_, bound, _)| *bound).max().unwrap_or_default() + LOOK_BEYOND;
    while findings.iter().any(|finding| finding.after.is_none()) && began.age_at(clock.now()) < most
    {
        let overview = look(state)?;
        for (finding, (.., holds)) in findings.iter_mut().zip(expected) {
            if finding.after.is_none() && holds(&overview) {
                finding.after = Some(began.age_at(clock.now()));
            }
        }
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(findings)
}

fn look(state: &Path) -> Result<Overview, DrillError> {
    match desk::ask(state, &Request::Overview).map_err(DrillError::Socket)? {
        Answer::Overview(overview) => Ok(*overview),
        Answer::Refused(refusal) => Err(DrillError::Refused(refusal)),
        _ => Err(DrillError::Refused(Refusal::NoAnswer)),
    }
}

fn chargers(overview: &Overview) -> impl Iterator<Item = &DeviceView> {
    overview.devices.iter().filter(|device| device.kind == "charger")
}

fn meter_alarm(overview: &Overview) -> bool {
    let meter = overview.devices.iter().find(|device| device.kind == "meter");
    let alarm = meter.map(|meter| format!("device_lost-{}", meter.id));
    overview.alarms.iter().any(|known| known.active && Some(&known.id) == alarm.as_ref())
}

/// Every charger is told its safe share, and says that it applies no more.
fn safe_share(overview: &Overview) -> bool {
    chargers(overview).all(|charger| {
        let told = charger.setpoint.as_ref();
        let lost = told.is_some_and(|told| told.reason == "meter_lost");
        let most = told.and_then(|told| told.current_a).unwrap_or(0.0);
        let held = charger.values.get("limit_a").and_then(serde_json::Value::as_f64);
        lost && held.is_some_and(|held| held <= most + 0.5)
    })
}

fn latched(overview: &Overview) -> bool {
    overview.zones.iter().any(|zone| zone.level >= 2)
}

/// Every charger that is told to stop for a fire draws next to nothing.
fn stopped(overview: &Overview) -> bool {
    let told = |charger: &&DeviceView| {
        charger.setpoint.as_ref().is_some_and(|told| told.reason == "fire_alarm")
    };
    let draws = |charger: &DeviceView| {
        ["current_l1_a", "current_l2_a", "current_l3_a"].iter().any(|key| {
            let amps = charger.values.get(*key).and_then(serde_json::Value::as_f64);
            amps.is_none_or(|amps| amps >= STOPPED_A)
        })
    };
    latched(overview) && !chargers(overview).filter(told).any(draws)
}
