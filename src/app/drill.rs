//! Drills: a fault is made visible on a running gateway, and what it does is measured against its bound. The
//! gateway is asked at its control socket; what happens is seen in its own overview.
//!
//! ```text
//!   meter-loss        the grid meter's answers are put aside for 25 s → every charger at its safe share
//!   broker-loss       the broker is put aside for 25 s → control goes on, the alarm comes and goes
//!   charger-disobeys  a charger seems to draw more than it was told for 20 s → alarm, and it is paused
//!   fire              one confirmed flame of a zone's camera → its chargers stop, the zone is latched
//! ```
//! What a stranger gets wrong: nothing is pretended. The gateway reacts as it would, chargers follow, and
//! after a fire drill the zone stays stopped until a person resets it.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::desk::{self, Answer, Refusal, Request};
use crate::io::clock::Clock;
use crate::logic::decision::{DeviceView, Overview};
use crate::logic::site::Id;
use crate::units::Moment;

/// How long meter or broker are put aside: the loss, and a little more to see what follows.
pub const PUT_ASIDE: Duration = Duration::from_secs(25);
/// How long a charger seems to disobey: until it is paused, and not until its zone's feeder would open for good
/// (fault FB10: after 23 s).
pub const DISOBEYS_FOR: Duration = Duration::from_secs(20);
/// How often the overview is looked at, and how long after the bound.
const LOOK_EVERY: Duration = Duration::from_millis(200);
const LOOK_BEYOND: Duration = Duration::from_secs(10);
/// Bound of fault FB1, for the alarm; chargers are seen to hold what was written in time a reading and a decision
/// later.
const LOSS_KNOWN_WITHIN: Duration = Duration::from_millis(11_500);
const SAFE_SHARE_WITHIN: Duration = Duration::from_millis(11_500 + 2_000);
/// Of the risk table.
const STOPPED_WITHIN: Duration = Duration::from_secs(15);
/// Ten seconds that a broker may be away, and two looks at the link.
const BROKER_ALARM_WITHIN: Duration = Duration::from_secs(13);
/// A broker that is there again: a new connection, and five seconds until an alarm is over.
const BROKER_BACK_WITHIN: Duration = Duration::from_secs(25 + 20);
/// Longest time between two decisions, two periods.
const DECIDES_WITHIN: Duration = Duration::from_secs(2);
/// Bound of fault FB10, and a reading and a decision.
const DISOBEDIENCE_WITHIN: Duration = Duration::from_secs(17);
/// The end of the drill, and the time that a car needs.
const AT_REST_WITHIN: Duration = Duration::from_secs(20 + 15);
/// A charger below this current has stopped, A.
const STOPPED_A: f64 = 1.0;

/// A drill.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Drill {
    /// The grid meter falls silent.
    MeterLoss,
    /// The broker is away.
    BrokerLoss,
    /// A charger draws more than it was told.
    ChargerDisobeys,
    /// A camera confirms a flame.
    Fire,
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
type Expected = (&'static str, Duration, fn(&Overview, &mut Seen) -> bool);

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
    let expected = expected(drill);
    let mut findings: Vec<Finding> =
        expected.iter().map(|&(what, bound, _)| Finding { what, after: None, bound }).collect();
    let most = expected.iter().map(|(_, bound, _)| *bound).max().unwrap_or_default() + LOOK_BEYOND;
    let mut pulse = Pulse { sequence: 0, since: began, longest: Duration::ZERO };
    let mut seen = Seen::default();
    while findings.iter().any(|finding| finding.after.is_none()) && began.age_at(clock.now()) < most
    {
        let overview = look(state)?;
        pulse.see(overview.sequence, clock.now());
        for (finding, (.., holds)) in findings.iter_mut().zip(&expected) {
            if finding.after.is_none() && holds(&overview, &mut seen) {
                finding.after = Some(began.age_at(clock.now()));
            }
        }
        std::thread::sleep(LOOK_EVERY);
    }
    if drill == Drill::BrokerLoss {
        let (what, bound) = ("control_goes_on", DECIDES_WITHIN);
        findings.push(Finding { what, after: Some(pulse.longest), bound });
    }
    Ok(findings)
}

fn expected(drill: Drill) -> Vec<Expected> {
    match drill {
        Drill::MeterLoss => vec![
            ("meter_alarm", LOSS_KNOWN_WITHIN, meter_alarm),
            ("safe_share", SAFE_SHARE_WITHIN, safe_share),
        ],
        Drill::BrokerLoss => vec![
            ("broker_alarm", BROKER_ALARM_WITHIN, broker_alarm),
            ("broker_back", BROKER_BACK_WITHIN, broker_back),
        ],
        Drill::ChargerDisobeys => vec![
            ("disobeys_alarm", DISOBEDIENCE_WITHIN, disobeys_alarm),
            ("disobeys_paused", DISOBEDIENCE_WITHIN, disobeys_paused),
            ("disobeys_at_rest", AT_REST_WITHIN, disobeys_at_rest),
        ],
        Drill::Fire => {
            vec![("latched", Duration::from_secs(2), latched), ("stopped", STOPPED_WITHIN, stopped)]
        }
    }
}

/// How regularly the gateway decides.
struct Pulse {
    sequence: u64,
    since: Moment,
    longest: Duration,
}

impl Pulse {
    fn see(&mut self, sequence: u64, now: Moment) {
        self.longest = self.longest.max(self.since.age_at(now));
        if sequence != self.sequence {
            (self.sequence, self.since) = (sequence, now);
        }
    }
}

/// What a drill has seen so far and needs for what follows.
#[derive(Default)]
struct Seen {
    broker_alarm: bool,
    disobedient: Option<Id>,
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

fn meter_alarm(overview: &Overview, _: &mut Seen) -> bool {
    let meter = overview.devices.iter().find(|device| device.kind == "meter");
    let alarm = meter.map(|meter| format!("device_lost-{}", meter.id));
    overview.alarms.iter().any(|known| known.active && Some(&known.id) == alarm.as_ref())
}

/// Every charger is told its safe share, and says that it applies no more.
fn safe_share(overview: &Overview, _: &mut Seen) -> bool {
    chargers(overview).all(|charger| {
        let told = charger.setpoint.as_ref();
        let lost = told.is_some_and(|told| told.reason == "meter_lost");
        let most = told.and_then(|told| told.current_a).unwrap_or(0.0);
        let held = charger.values.get("limit_a").and_then(serde_json::Value::as_f64);
        lost && held.is_some_and(|held| held <= most + 0.5)
    })
}

fn latched(overview: &Overview, _: &mut Seen) -> bool {
    overview.zones.iter().any(|zone| zone.level >= 2)
}

/// Every charger that is told to stop for a fire draws next to nothing.
fn stopped(overview: &Overview, seen: &mut Seen) -> bool {
    let told = |charger: &&DeviceView| {
        charger.setpoint.as_ref().is_some_and(|told| told.reason == "fire_alarm")
    };
    latched(overview, seen) && !chargers(overview).filter(told).any(draws)
}

/// Whether a charger draws current, or may do so for all that is known.
fn draws(charger: &DeviceView) -> bool {
    ["current_l1_a", "current_l2_a", "current_l3_a"].iter().any(|key| {
        let amps = charger.values.get(*key).and_then(serde_json::Value::as_f64);
        amps.is_none_or(|amps| amps >= STOPPED_A)
    })
}

fn broker_alarm(overview: &Overview, seen: &mut Seen) -> bool {
    seen.broker_alarm |= overview.alarms.iter().any(|a| a.active && a.code == "broker_down");
    seen.broker_alarm
}

fn broker_back(overview: &Overview, seen: &mut Seen) -> bool {
    seen.broker_alarm && !overview.alarms.iter().any(|a| a.active && a.code == "broker_down")
}

fn disobeys_alarm(overview: &Overview, seen: &mut Seen) -> bool {
    let alarm = overview.alarms.iter().find(|a| a.active && a.code == "charger_disobeys");
    let about = alarm.and_then(|alarm| Id::try_from(alarm.about.as_str()).ok());
    seen.disobedient = seen.disobedient.take().or(about);
    seen.disobedient.is_some()
}

fn disobeys_paused(overview: &Overview, seen: &mut Seen) -> bool {
    let told = |charger: &DeviceView| {
        let told = charger.setpoint.as_ref();
        told.is_some_and(|told| told.reason == "disobeys" && told.current_a == Some(0.0))
    };
    chargers(overview)
        .any(|charger| Some(&charger.id) == seen.disobedient.as_ref() && told(charger))
}

/// By what it says itself, once the drill is over.
fn disobeys_at_rest(overview: &Overview, seen: &mut Seen) -> bool {
    chargers(overview)
        .any(|charger| Some(&charger.id) == seen.disobedient.as_ref() && !draws(charger))
}
