//! The hazard level of each zone, from what the cameras say. This first version knows vision only; the
//! battery's and the sensors' votes have their place beside it.
//!
//! ```text
//!             doubtful in two looks, or blind            fire or smoke confirmed
//!   Normal ─────────────────────────────────▶ Watch ───────────────────────────▶ Alarm (latched)
//!      ▲                                        │
//!      └──────── 10 min clear and seen ─────────┘
//! ```
//! What a stranger gets wrong: `fault` stands beside the level. A blind zone is derated when the site
//! says so, and it is never clear: time without sight does not count towards leaving Watch.

use std::collections::BTreeMap;
use std::time::Duration;

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

/// Watches the zones of a site.
#[derive(Clone, Debug)]
pub struct FireWatch {
    zones: BTreeMap<Id, Watching>,
    eyes: BTreeMap<Id, Eye>,
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
        }
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
        let eyes = &self.eyes;
        let step = |(id, zone): (&Id, &mut Watching)| (id.clone(), zone.step(eyes, now));
        self.zones.iter_mut().map(step).collect()
    }

    /// Whether the camera delivers frames.
    #[must_use]
    pub fn sees(&self, camera: &Id, now: Moment) -> bool {
        self.eyes.get(camera).is_some_and(|eye| eye.sees(now))
    }
}

impl Eye {
    fn sees(&self, now: Moment) -> bool {
        self.seen.is_some_and(|seen| seen.age_at(now) < BLIND_AFTER)
    }
}

impl Watching {
    fn step(&mut self, eyes: &BTreeMap<Id, Eye>, now: Moment) -> Hazard {
        let mine = || self.cameras.iter().filter_map(|camera| eyes.get(camera));
        let fault = mine().any(|eye| !eye.sees(now));
        let seeing = || mine().filter(|eye| eye.sees(now));
        let wanted = if seeing().any(|eye| eye.verdict == Verdict::Alarm) {
            Level::Alarm
        } else if seeing().any(|eye| eye.doubts >= DOUBTS) {
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
