//! The hazard level of each zone, from cameras, sensors and the battery's own management.
//!
//! ```text
//!            any watch line            any alarm line            any trip line
//!   Normal ──────────────────▶ Watch ──────────────────▶ Alarm ──────────────────▶ Trip
//!      ▲  └───────────────────────┼── (straight up, never delayed) ──▶│               │
//!      ├──── 10 min clear ────────┘                                   │               │
//!      └──── reset by a person, two steps, all causes clear 10 min ◀──┴── role safety ┘
//!   Fault stands beside every level: a sensor or camera of the zone does not deliver, or has not been
//!   good for 60 s since. Alarm and Trip are latched across power loss; the lines are in `signs`.
//! ```
//! One sample at an alarm limit stops the zone at once and for ten seconds, without a latch: it is on Watch
//! until the next sample says the same, which makes the Alarm, or does not.
//!
//! What a stranger gets wrong: `fault` is not a level. A zone at fault is never clear, so time at fault
//! counts neither towards leaving Watch nor towards a reset. And Trip alone does not open a contactor:
//! that needs its own vote (`sensing`), which vision never decides alone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::eyes::{Eyes, Sight};
pub use super::level::{Hazard, LatchedZone, Level, ResetObstacle};
use super::sensing::{Sensing, Vote};
use super::signs::{Cause, Sign};
use crate::logic::site::{Id, Limits, Reading, Sensor, Site};
use crate::logic::vision::{Scene, Verdict};
use crate::units::Moment;

/// Watch ends, and a reset is possible, after this long clear (design/safety).
const CLEAR_FOR: Duration = Duration::from_secs(600);
/// How long one sample stops a zone that no other confirms: levels fall at most once in ten seconds
/// (design/safety).
const STOPS_FOR: Duration = Duration::from_secs(10);
/// The second step of a reset must follow the first within this time. Our own figure.
const STEPS_WITHIN: Duration = Duration::from_secs(3600);

/// Watches the zones of a site.
#[derive(Clone, Debug)]
pub struct FireWatch {
    zones: BTreeMap<Id, Watching>,
    eyes: Eyes,
    sensing: Sensing,
}

#[derive(Clone, Debug)]
struct Watching {
    cameras: Vec<Id>,
    limits: Limits,
    has_battery: bool,
    level: Level,
    since: Moment,
    clear_since: Option<Moment>,
    isolate: bool,
    told_otherwise: bool,
    /// When a sample last stopped it that was not confirmed.
    unconfirmed: Option<Moment>,
    /// Who took the first step of a reset, and when.
    begun: Option<(String, Moment)>,
}

/// What a zone is judged by at one moment.
struct Evidence {
    causes: Vec<Cause>,
    blind: bool,
    sensor_fault: bool,
    bms_silent: bool,
    vote: Vote,
}

impl FireWatch {
    /// Every zone normal, nothing seen or sensed yet.
    #[must_use]
    pub fn new(site: &Site, now: Moment) -> FireWatch {
        let watching = |zone: &crate::logic::site::Zone| Watching {
            cameras: zone.cameras.clone(),
            limits: site.guard.limits(&zone.id),
            has_battery: zone.battery.is_some(),
            level: Level::Normal,
            since: now,
            clear_since: None,
            isolate: false,
            told_otherwise: false,
            unconfirmed: None,
            begun: None,
        };
        FireWatch {
            zones: site.zones.iter().map(|zone| (zone.id.clone(), watching(zone))).collect(),
            eyes: Eyes::new(&site.zones),
            sensing: Sensing::new(site, now),
        }
    }

    /// Stretches the limits of blindness and silence, for simulated sites whose time runs faster than
    /// cameras and field buses.
    pub fn stretch(&mut self, pace: f64) {
        self.eyes.stretch(pace);
        self.sensing.stretch(pace);
    }

    /// Takes up zones that were latched before the gateway started.
    pub fn restore(&mut self, latched: &BTreeMap<Id, LatchedZone>, now: Moment) {
        for (id, remembered) in latched {
            if let Some(zone) = self.zones.get_mut(id) {
                zone.level = remembered.level.max(Level::Alarm);
                zone.since = Moment { uptime: now.uptime, utc: remembered.since };
                zone.isolate = remembered.isolate;
            }
        }
    }

    /// The zones that stay stopped until a person resets them.
    #[must_use]
    pub fn latched(&self) -> BTreeMap<Id, LatchedZone> {
        let latched = |(id, zone): (&Id, &Watching)| {
            let (level, since, isolate) = (zone.level, zone.since.utc, zone.isolate);
            let held = LatchedZone { level, since, isolate, feeder: false };
            (zone.level >= Level::Alarm).then(|| (id.clone(), held))
        };
        self.zones.iter().filter_map(latched).collect()
    }

    /// What keeps a zone from being reset; nothing if it may be.
    #[must_use]
    pub fn reset_obstacle(&self, zone: &Id, now: Moment) -> Option<ResetObstacle> {
        let Some(watching) = self.zones.get(zone).filter(|zone| zone.level >= Level::Alarm) else {
            return Some(ResetObstacle::NotLatched);
        };
        let evidence = self.evidence(zone, watching, (&[], now));
        if evidence.asks_for() >= Level::Alarm || evidence.doubts() || evidence.is_unconfirmed() {
            Some(ResetObstacle::StillSeen)
        } else if evidence.blind {
            Some(ResetObstacle::Blind)
        } else if evidence.sensor_fault {
            Some(ResetObstacle::SensorFault)
        } else if watching.clear_since.is_none_or(|since| since.age_at(now) < CLEAR_FOR) {
            Some(ResetObstacle::NotClearLongEnough)
        } else {
            None
        }
    }

    /// The first step of a reset, of the zone or of its feeder: a person says that they go and look.
    pub fn begin_reset(&mut self, zone: &Id, by: &str, now: Moment) {
        if let Some(watching) = self.zones.get_mut(zone) {
            watching.begun = Some((by.to_owned(), now));
        }
    }

    /// Who has begun to reset a zone, if that still counts.
    #[must_use]
    pub fn reset_begun(&self, zone: &Id, now: Moment) -> Option<&str> {
        let (by, at) = self.zones.get(zone)?.begun.as_ref()?;
        (at.age_at(now) < STEPS_WITHIN).then_some(by.as_str())
    }

    /// The second step where only the feeder is held open: whether the same person has begun it in time.
    pub fn end_reset(&mut self, zone: &Id, by: &str, now: Moment) -> bool {
        let looked = self.reset_begun(zone, now) == Some(by);
        if let Some(watching) = self.zones.get_mut(zone).filter(|_| looked) {
            watching.begun = None;
        }
        looked
    }

    /// The second step: releases a latched zone on the word of the person who began, when nothing forbids
    /// it. Whether it was released.
    pub fn reset(&mut self, zone: &Id, by: &str, now: Moment) -> bool {
        let free =
            self.reset_begun(zone, now) == Some(by) && self.reset_obstacle(zone, now).is_none();
        if let Some(watching) = self.zones.get_mut(zone).filter(|_| free) {
            watching.level = Level::Normal;
            watching.since = now;
            watching.isolate = false;
            watching.begun = None;
        }
        free
    }

    /// Takes in a judged frame. A frame counts once; a faulty one is no sight.
    pub fn see(&mut self, scene: &Scene) {
        self.eyes.see(scene);
    }

    /// The vision process is gone: every camera is blind.
    pub fn go_blind(&mut self) {
        self.eyes.go_blind();
    }

    /// Takes in what a device said. Whether it makes something worse, so that it is worth deciding at once.
    pub fn sense(&mut self, device: &Id, at: Moment, reading: &Reading) -> bool {
        self.sensing.take(device, at, reading)
    }

    /// Steps every zone to `now` and tells its hazard. `overdue`: sensors and relays whose proof is overdue.
    pub fn assess(&mut self, overdue: &[(Id, Id)], now: Moment) -> BTreeMap<Id, Hazard> {
        let judged: Vec<(Id, Evidence)> = self
            .zones
            .iter()
            .map(|(id, zone)| (id.clone(), self.evidence(id, zone, (overdue, now))))
            .collect();
        let mut hazards = BTreeMap::new();
        for (id, evidence) in judged {
            if let Some(zone) = self.zones.get_mut(&id) {
                hazards.insert(id, zone.step(evidence, now));
            }
        }
        hazards
    }

    /// Whether the camera delivers frames.
    #[must_use]
    pub fn sees(&self, camera: &Id, now: Moment) -> bool {
        self.eyes.sight(camera, now).is_some()
    }

    /// Sensors at fault.
    pub fn sensor_faults(&self, now: Moment) -> impl Iterator<Item = &Sensor> {
        self.sensing.all_faults(now)
    }

    /// The sensors, for those who must know what they said.
    #[must_use]
    pub fn sensing(&self) -> &Sensing {
        &self.sensing
    }

    fn evidence(
        &self,
        id: &Id,
        zone: &Watching,
        (overdue, now): (&[(Id, Id)], Moment),
    ) -> Evidence {
        let mut causes = self.sensing.causes(id, now);
        let vote = self.sensing.vote(id, &causes, now);
        let mut blind = false;
        for camera in &zone.cameras {
            let by = || camera.clone();
            match self.eyes.sight(camera, now) {
                None => {
                    blind = true;
                    if self.eyes.burns_late(camera) {
                        causes.push(Cause { sign: Sign::SeenFire, by: by() });
                    }
                }
                Some(Sight { verdict: Verdict::Alarm, .. }) => {
                    causes.push(Cause { sign: Sign::SeenFire, by: by() });
                }
                Some(Sight { doubts: true, .. }) => {
                    causes.push(Cause { sign: Sign::SeenDoubtful, by: by() });
                }
                Some(_) => {}
            }
        }
        // Two different signs on one battery, of which a camera may see one.
        let tells = |sign: &Sign| sign.is_of_battery() || *sign == Sign::SeenDoubtful;
        let signs: BTreeSet<Sign> = causes.iter().map(|cause| cause.sign).filter(tells).collect();
        if zone.has_battery && signs.len() >= 2 {
            causes.push(Cause { sign: Sign::TwoWatchSigns, by: id.clone() });
        }
        let mine = overdue.iter().filter(|(zone, _)| zone == id);
        causes.extend(mine.map(|(_, by)| Cause { sign: Sign::ProofOverdue, by: by.clone() }));
        causes.sort_by_key(|cause| std::cmp::Reverse(cause.sign.level()));
        let silent = causes.iter().any(|cause| cause.sign == Sign::BmsSilent);
        let bms_silent = zone.has_battery && silent;
        let sensor_fault = self.sensing.faults(id, now).next().is_some();
        Evidence { causes, blind, sensor_fault, bms_silent, vote }
    }
}

impl Evidence {
    fn asks_for(&self) -> Level {
        self.causes.iter().map(|cause| cause.sign.level()).max().unwrap_or_default()
    }

    fn doubts(&self) -> bool {
        self.causes.iter().any(|cause| cause.sign == Sign::SeenDoubtful)
    }

    fn is_unconfirmed(&self) -> bool {
        self.causes.iter().any(|cause| cause.sign == Sign::Unconfirmed)
    }

    fn is_fault(&self) -> bool {
        self.blind || self.sensor_fault || self.bms_silent
    }
}

impl Watching {
    fn step(&mut self, evidence: Evidence, now: Moment) -> Hazard {
        let cut_off = evidence.bms_silent && self.limits.isolate_on_bms_loss;
        let wanted = if cut_off { Level::Trip } else { evidence.asks_for() };
        if wanted > self.level {
            self.told_otherwise = self.level == Level::Normal;
            self.level = wanted;
            self.since = now;
        }
        let told = |cause: &Cause| cause.sign.is_told_otherwise();
        self.told_otherwise &= evidence.causes.iter().all(told);
        let tripped = self.level == Level::Trip;
        self.isolate |= tripped && evidence.vote.isolates(self.limits.confirmed_by.is_some());
        self.isolate |= cut_off;
        // A latched zone may be reset while something is only on watch; it goes to Watch then.
        let clear_below = if self.level >= Level::Alarm { Level::Alarm } else { Level::Watch };
        let unconfirmed = evidence.is_unconfirmed();
        let doubtful = evidence.doubts() || unconfirmed;
        let clear = wanted < clear_below && !doubtful && !evidence.is_fault();
        if unconfirmed {
            self.unconfirmed = Some(now);
        }
        let stopped = self.unconfirmed.is_some_and(|since| since.age_at(now) < STOPS_FOR);
        self.clear_since = if clear { self.clear_since.or(Some(now)) } else { None };
        let long_clear = self.clear_since.is_some_and(|since| since.age_at(now) >= CLEAR_FOR);
        if self.level == Level::Watch && long_clear {
            self.level = Level::Normal;
            self.since = now;
        }
        Hazard {
            level: self.level,
            stops: stopped || self.level >= Level::Alarm,
            fault: evidence.is_fault(),
            since: self.since,
            battery_rests: evidence.bms_silent,
            isolate: self.isolate,
            told_otherwise: self.told_otherwise,
            causes: evidence.causes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::site::{GridLimits, Guard, Mode, OnBlind, Zone};
    use crate::logic::vision::{CameraFault, Tier};
    use crate::units::{Amps, PerPhase, Volts};

    fn id(text: &str) -> Id {
        Id::try_from(text).unwrap()
    }

    fn second(s: u64) -> Moment {
        let utc = chrono::DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        Moment { uptime: Duration::from_secs(100), utc }.after(Duration::from_secs(s))
    }

    fn scene(s: u64, verdict: Verdict, fault: Option<CameraFault>) -> Scene {
        Scene {
            camera: id("cam"),
            frame: s,
            at: second(s),
            fire: 0.0,
            smoke: 0.0,
            verdict,
            tier: Tier::Small,
            bays: Vec::new(),
            scored_by: None,
            cpu_ms: 1.0,
            fault,
        }
    }

    fn watch() -> FireWatch {
        let zone = Zone {
            id: id("zone"),
            bays: Vec::new(),
            chargers: Vec::new(),
            cameras: vec![id("cam")],
            battery: None,
            neighbours: Vec::new(),
            on_blind: OnBlind::Derate,
        };
        let limits = GridLimits {
            limit: PerPhase::default(),
            breaker: Amps::ZERO,
            nominal_voltage: Volts(230.0),
            max_base_load: Amps::ZERO,
            power: None,
            unbalance: None,
            demand: None,
            dimmed_least: crate::units::Watts::ZERO,
            export: None,
        };
        let site = Site {
            id: id("site"),
            name: "site".into(),
            mode: Mode::Observe,
            limits,
            meter: id("grid"),
            chargers: Vec::new(),
            batteries: Vec::new(),
            computes: Vec::new(),
            pvs: Vec::new(),
            inverters: Vec::new(),
            bays: Vec::new(),
            zones: vec![zone],
            cameras: Vec::new(),
            tariff: None,
            circuits: Vec::new(),
            guard: Guard::default(),
            work: Default::default(),
        };
        FireWatch::new(&site, second(0))
    }

    fn level(watch: &mut FireWatch, s: u64) -> (Level, bool) {
        let hazard = watch.assess(&[], second(s)).remove(&id("zone")).unwrap();
        (hazard.level, hazard.fault)
    }

    #[test]
    fn two_doubtful_looks_make_a_watch_and_ten_clear_minutes_end_it() {
        let mut watch = watch();
        watch.see(&scene(1, Verdict::Doubtful, None));
        watch.see(&scene(1, Verdict::Doubtful, None));
        assert_eq!(level(&mut watch, 1), (Level::Normal, false), "a frame counts once");
        watch.see(&scene(2, Verdict::Doubtful, None));
        assert_eq!(level(&mut watch, 2), (Level::Watch, false));
        for s in 3..602 {
            watch.see(&scene(s, Verdict::Clear, None));
            assert_eq!(level(&mut watch, s), (Level::Watch, false), "{s}");
        }
        for s in 602..605 {
            watch.see(&scene(s, Verdict::Clear, None));
            level(&mut watch, s);
        }
        assert_eq!(level(&mut watch, 604), (Level::Normal, false));
    }

    #[test]
    fn an_alarm_stays_whatever_is_seen_later() {
        let mut watch = watch();
        watch.see(&scene(1, Verdict::Alarm, None));
        assert_eq!(level(&mut watch, 1), (Level::Alarm, false));
        for s in 2..2000 {
            watch.see(&scene(s, Verdict::Clear, None));
            assert_eq!(level(&mut watch, s).0, Level::Alarm);
        }
    }

    #[test]
    fn a_reset_needs_ten_clear_minutes_and_a_latched_zone_survives_a_restart() {
        let mut first = watch();
        let zone = id("zone");
        assert_eq!(first.reset_obstacle(&zone, second(0)), Some(ResetObstacle::NotLatched));
        first.see(&scene(1, Verdict::Alarm, None));
        assert_eq!(level(&mut first, 1).0, Level::Alarm);
        assert_eq!(first.reset_obstacle(&zone, second(1)), Some(ResetObstacle::StillSeen));
        let mut watch = watch();
        watch.restore(&first.latched(), second(2));
        assert_eq!(level(&mut watch, 2).0, Level::Alarm);
        assert_eq!(watch.reset_obstacle(&zone, second(2)), Some(ResetObstacle::Blind));
        for s in 3..604 {
            watch.see(&scene(s, Verdict::Clear, None));
            assert_eq!(level(&mut watch, s).0, Level::Alarm);
            if s < 603 {
                let obstacle = watch.reset_obstacle(&zone, second(s));
                assert_eq!(obstacle, Some(ResetObstacle::NotClearLongEnough), "{s}");
                watch.begin_reset(&zone, "Li", second(s));
                assert!(!watch.reset(&zone, "Li", second(s)));
            }
        }
        assert!(!watch.reset(&zone, "Wang", second(603)), "the one who began has to end it");
        assert!(watch.reset(&zone, "Li", second(603)));
        assert_eq!(level(&mut watch, 603).0, Level::Normal);
        assert!(watch.latched().is_empty());
    }

    #[test]
    fn fire_that_is_confirmed_too_late_is_an_alarm_of_a_blind_camera() {
        let mut watch = watch();
        watch.see(&scene(1, Verdict::Doubtful, Some(CameraFault::Late)));
        assert_eq!(level(&mut watch, 1), (Level::Normal, true), "a late doubt is only blindness");
        watch.see(&scene(2, Verdict::Alarm, Some(CameraFault::Late)));
        assert_eq!(level(&mut watch, 2), (Level::Alarm, true));
        let zone = id("zone");
        let still_seen = Some(ResetObstacle::StillSeen);
        assert_eq!(watch.reset_obstacle(&zone, second(2)), still_seen);
        watch.see(&scene(3, Verdict::Doubtful, Some(CameraFault::Late)));
        assert_eq!(level(&mut watch, 3), (Level::Alarm, true), "latched");
        assert_ne!(watch.reset_obstacle(&zone, second(3)), still_seen, "no longer seen");
    }

    #[test]
    fn blindness_is_a_fault_and_never_clear() {
        let mut watch = watch();
        assert_eq!(level(&mut watch, 0), (Level::Normal, true));
        watch.see(&scene(1, Verdict::Doubtful, None));
        watch.see(&scene(2, Verdict::Doubtful, None));
        assert_eq!(level(&mut watch, 2), (Level::Watch, false));
        watch.go_blind();
        for s in 3..2000 {
            assert_eq!(level(&mut watch, s), (Level::Watch, true));
        }
        watch.see(&scene(2000, Verdict::Clear, Some(CameraFault::Frozen)));
        assert_eq!(level(&mut watch, 2000), (Level::Watch, true));
    }
}
