//! The hazard level of each zone, from what the cameras say. This first version knows vision only; the
//! battery's and the sensors' votes have their place beside it.
//!
//! ```text
//!             doubtful in two looks, or blind            fire or smoke confirmed
//!   Normal ─────────────────────────────────▶ Watch ───────────────────────────▶ Alarm (latched)
//!      ▲                                        │
//!      ├──────── 10 min clear and seen ─────────┘                                │
//!      └──────── reset by a person, 10 min clear and seen ◀──────────────────────┘
//! ```
//! What a stranger gets wrong: `fault` stands beside the level. A blind zone is derated when the site
//! says so, and it is never clear: time without sight does not count towards leaving Watch.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::logic::site::{Id, Zone};
use crate::logic::vision::{Scene, Verdict};
use crate::units::Moment;

/// No frame for this long is a fault of the camera's zones (decisions: 5 s).
pub const BLIND_AFTER: Duration = Duration::from_secs(5);
/// Watch ends after this long clear (design/safety).
const CLEAR_FOR: Duration = Duration::from_secs(600);
/// Doubtful looks that make a Watch.
const DOUBTS: u32 = 2;

/// How dangerous a zone is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Nothing known.
    #[default]
    Normal,
    /// Something may be wrong: half power.
    Watch,
    /// Fire or smoke: stop charging in the zone and its neighbours. Latched.
    Alarm,
    /// Isolated. Latched. Not entered on vision alone.
    Trip,
}

impl Level {
    /// 0 to 3, as MQTT and the page say it.
    #[must_use]
    pub fn number(self) -> u8 {
        self as u8
    }
}

/// The hazard of one zone now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hazard {
    /// The level.
    pub level: Level,
    /// A camera of the zone is blind.
    pub fault: bool,
    /// Since when the level stands.
    pub since: Moment,
}

/// A latched zone, as it is remembered across a restart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LatchedZone {
    /// Alarm or Trip.
    pub level: Level,
    /// Since when.
    pub since: DateTime<Utc>,
}

/// Why a latched zone is not released.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResetObstacle {
    /// The zone is not latched: there is nothing to reset.
    NotLatched,
    /// Fire or smoke is still seen.
    StillSeen,
    /// A camera of the zone is blind: nobody can say that it is clear.
    Blind,
    /// It is clear, but not for ten minutes yet.
    NotClearLongEnough,
}

/// Watches the zones of a site.
#[derive(Clone, Debug)]
pub struct FireWatch {
    zones: BTreeMap<Id, Watching>,
    eyes: BTreeMap<Id, Eye>,
    blind_after: Duration,
}

#[derive(Clone, Debug)]
struct Watching {
    cameras: Vec<Id>,
    level: Level,
    since: Moment,
    clear_since: Option<Moment>,
}

#[derive(Clone, Debug)]
struct Eye {
    /// The last frame that was really seen: no fault.
    seen: Option<Moment>,
    frame: Option<u64>,
    verdict: Verdict,
    doubts: u32,
}

impl FireWatch {
    /// Every zone normal, every camera not yet seen.
    #[must_use]
    pub fn new(zones: &[Zone], now: Moment) -> FireWatch {
        let watching = |zone: &Zone| Watching {
            cameras: zone.cameras.clone(),
            level: Level::Normal,
            since: now,
            clear_since: None,
        };
        let eye = || Eye { seen: None, frame: None, verdict: Verdict::Clear, doubts: 0 };
        FireWatch {
            zones: zones.iter().map(|zone| (zone.id.clone(), watching(zone))).collect(),
            eyes: zones.iter().flat_map(|z| &z.cameras).map(|c| (c.clone(), eye())).collect(),
            blind_after: BLIND_AFTER,
        }
    }

    /// Stretches the limit of blindness, for simulated sites whose time runs faster than cameras.
    pub fn stretch(&mut self, pace: f64) {
        self.blind_after = BLIND_AFTER.mul_f64(pace.clamp(1.0, 1000.0));
    }

    /// Takes up zones that were latched before the gateway started.
    pub fn restore(&mut self, latched: &BTreeMap<Id, LatchedZone>, now: Moment) {
        for (id, remembered) in latched {
            if let Some(zone) = self.zones.get_mut(id) {
                zone.level = remembered.level.max(Level::Alarm);
                zone.since = Moment { uptime: now.uptime, utc: remembered.since };
            }
        }
    }

    /// The zones that stay stopped until a person resets them.
    #[must_use]
    pub fn latched(&self) -> BTreeMap<Id, LatchedZone> {
        let latched = |(id, zone): (&Id, &Watching)| {
            let held = LatchedZone { level: zone.level, since: zone.since.utc };
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
        watching.reset_obstacle(&self.seeing(now), now)
    }

    /// Releases a latched zone on a person's word, when nothing forbids it. Whether it was released.
    pub fn reset(&mut self, zone: &Id, now: Moment) -> bool {
        let free = self.reset_obstacle(zone, now).is_none();
        if let Some(watching) = self.zones.get_mut(zone).filter(|_| free) {
            watching.level = Level::Normal;
            watching.since = now;
        }
        free
    }

    /// Takes in a judged frame. A frame counts once; a faulty one is no sight.
    pub fn see(&mut self, scene: &Scene) {
        let Some(eye) = self.eyes.get_mut(&scene.camera) else {
            return;
        };
        if scene.fault.is_some() {
            eye.seen = None;
            return;
        }
        if eye.frame == Some(scene.frame) {
            return;
        }
        eye.frame = Some(scene.frame);
        eye.seen = Some(scene.at);
        eye.verdict = scene.verdict;
        eye.doubts = match scene.verdict {
            Verdict::Clear => 0,
            _ => eye.doubts.saturating_add(1),
        };
    }

    /// The vision process is gone: every camera is blind.
    pub fn go_blind(&mut self) {
        for eye in self.eyes.values_mut() {
            eye.seen = None;
            eye.frame = None;
        }
    }

    /// Steps every zone to `now` and tells its hazard.
    pub fn assess(&mut self, now: Moment) -> BTreeMap<Id, Hazard> {
        let seeing = self.seeing(now);
        let step = |(id, zone): (&Id, &mut Watching)| (id.clone(), zone.step(&seeing, now));
        self.zones.iter_mut().map(step).collect()
    }

    /// Whether the camera delivers frames.
    #[must_use]
    pub fn sees(&self, camera: &Id, now: Moment) -> bool {
        self.eyes.get(camera).is_some_and(|eye| self.has_sight(eye, now))
    }

    fn has_sight(&self, eye: &Eye, now: Moment) -> bool {
        eye.seen.is_some_and(|seen| seen.age_at(now) < self.blind_after)
    }

    /// What each camera sees now; nothing where it is blind.
    fn seeing(&self, now: Moment) -> BTreeMap<Id, Option<Sight>> {
        let sight = |eye: &Eye| Sight { verdict: eye.verdict, doubts: eye.doubts };
        let now_seen = |eye| self.has_sight(eye, now).then(|| sight(eye));
        self.eyes.iter().map(|(id, eye)| (id.clone(), now_seen(eye))).collect()
    }
}

/// What a camera that is not blind sees.
#[derive(Clone, Copy, Debug)]
struct Sight {
    verdict: Verdict,
    doubts: u32,
}

impl Watching {
    /// The sights of its cameras; a camera that is not known is blind.
    fn mine<'s>(
        &'s self,
        seeing: &'s BTreeMap<Id, Option<Sight>>,
    ) -> impl Iterator<Item = Option<Sight>> + 's {
        self.cameras.iter().map(|camera| seeing.get(camera).copied().flatten())
    }

    fn reset_obstacle(
        &self,
        seeing: &BTreeMap<Id, Option<Sight>>,
        now: Moment,
    ) -> Option<ResetObstacle> {
        if self.mine(seeing).flatten().any(|sight| sight.verdict != Verdict::Clear) {
            Some(ResetObstacle::StillSeen)
        } else if self.mine(seeing).any(|sight| sight.is_none()) {
            Some(ResetObstacle::Blind)
        } else if self.clear_since.is_none_or(|since| since.age_at(now) < CLEAR_FOR) {
            Some(ResetObstacle::NotClearLongEnough)
        } else {
            None
        }
    }

    fn step(&mut self, seeing: &BTreeMap<Id, Option<Sight>>, now: Moment) -> Hazard {
        let fault = self.mine(seeing).any(|sight| sight.is_none());
        let wanted = if self.mine(seeing).flatten().any(|s| s.verdict == Verdict::Alarm) {
            Level::Alarm
        } else if self.mine(seeing).flatten().any(|s| s.doubts >= DOUBTS) {
            Level::Watch
        } else {
            Level::Normal
        };
        if wanted > self.level {
            self.level = wanted;
            self.since = now;
        }
        let clear = wanted == Level::Normal && !fault;
        self.clear_since = if clear { self.clear_since.or(Some(now)) } else { None };
        let long_clear = self.clear_since.is_some_and(|since| since.age_at(now) >= CLEAR_FOR);
        if self.level == Level::Watch && long_clear {
            self.level = Level::Normal;
            self.since = now;
        }
        Hazard { level: self.level, fault, since: self.since }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::site::OnBlind;
    use crate::logic::vision::{CameraFault, Tier};

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
        FireWatch::new(&[zone], second(0))
    }

    fn level(watch: &mut FireWatch, s: u64) -> (Level, bool) {
        let hazard = watch.assess(second(s))[&id("zone")];
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
                assert!(!watch.reset(&zone, second(s)));
            }
        }
        assert!(watch.reset(&zone, second(603)));
        assert_eq!(level(&mut watch, 603).0, Level::Normal);
        assert!(watch.latched().is_empty());
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
