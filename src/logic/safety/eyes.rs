//! What the cameras say: the last judged frame of each, and for how long it counts as sight.
//!
//! What a stranger gets wrong: a frame counts once; what the big net says of it later only changes its
//! verdict. A faulty one is no sight. A camera without sight is blind, which is never "clear".

use std::collections::BTreeMap;
use std::time::Duration;

use crate::logic::site::{Id, Zone};
use crate::logic::vision::{CameraFault, Scene, Tier, Verdict};
use crate::units::Moment;

/// No frame for this long is a fault of the camera's zones (decisions: 5 s).
pub const BLIND_AFTER: Duration = Duration::from_secs(5);
/// Doubtful looks that make a Watch.
const DOUBTS: u32 = 2;

/// What a camera that is not blind sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sight {
    /// The verdict over time.
    pub verdict: Verdict,
    /// Whether it doubted in two looks.
    pub doubts: bool,
}

/// All cameras of the zones.
#[derive(Clone, Debug)]
pub struct Eyes {
    eyes: BTreeMap<Id, Eye>,
    blind_after: Duration,
}

#[derive(Clone, Debug)]
struct Eye {
    /// The last frame that was really seen: no fault.
    seen: Option<Moment>,
    frame: Option<u64>,
    verdict: Verdict,
    doubts: u32,
    /// Whether the last frame confirmed fire, but was judged too late to be sight.
    burns_late: bool,
}

impl Eyes {
    /// None has seen anything yet.
    #[must_use]
    pub fn new(zones: &[Zone]) -> Eyes {
        let (verdict, burns_late) = (Verdict::Clear, false);
        let eye = || Eye { seen: None, frame: None, verdict, doubts: 0, burns_late };
        let eyes = zones.iter().flat_map(|z| &z.cameras).map(|c| (c.clone(), eye())).collect();
        Eyes { eyes, blind_after: BLIND_AFTER }
    }

    /// Stretches the limit of blindness, for simulated sites whose time runs faster than cameras.
    pub fn stretch(&mut self, pace: f64) {
        self.blind_after = BLIND_AFTER.mul_f64(pace.clamp(1.0, 1000.0));
    }

    /// Takes in a judged frame.
    pub fn see(&mut self, scene: &Scene) {
        let Some(eye) = self.eyes.get_mut(&scene.camera) else {
            return;
        };
        eye.burns_late = scene.fault == Some(CameraFault::Late) && scene.verdict == Verdict::Alarm;
        if scene.fault.is_some() {
            eye.seen = None;
            return;
        }
        let again = eye.frame == Some(scene.frame);
        if again && scene.tier != Tier::Big {
            return;
        }
        eye.frame = Some(scene.frame);
        eye.seen = Some(scene.at);
        eye.verdict = scene.verdict;
        eye.doubts = match scene.verdict {
            Verdict::Clear => 0,
            _ => eye.doubts.saturating_add(u32::from(!again)),
        };
    }

    /// The vision process is gone: every camera is blind.
    pub fn go_blind(&mut self) {
        for eye in self.eyes.values_mut() {
            eye.seen = None;
            eye.frame = None;
            eye.burns_late = false;
        }
    }

    /// Whether its last frame confirmed fire, too late to say that all is well: not too late to say that it
    /// burns.
    #[must_use]
    pub fn burns_late(&self, camera: &Id) -> bool {
        self.eyes.get(camera).is_some_and(|eye| eye.burns_late)
    }

    /// What a camera sees now; nothing where it is blind or not known.
    #[must_use]
    pub fn sight(&self, camera: &Id, now: Moment) -> Option<Sight> {
        let eye = self.eyes.get(camera)?;
        let sees = eye.seen.is_some_and(|seen| seen.age_at(now) < self.blind_after);
        sees.then_some(Sight { verdict: eye.verdict, doubts: eye.doubts >= DOUBTS })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> Id {
        Id::try_from(text).unwrap()
    }

    fn second(s: u64) -> Moment {
        let utc = chrono::DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        Moment { uptime: Duration::ZERO, utc }.after(Duration::from_secs(s))
    }

    fn scene(frame: u64, (verdict, tier): (Verdict, Tier)) -> Scene {
        Scene {
            camera: id("cam"),
            frame,
            at: second(frame),
            fire: 0.0,
            smoke: 0.0,
            verdict,
            tier,
            bays: Vec::new(),
            scored_by: None,
            cpu_ms: 1.0,
            fault: None,
        }
    }

    #[test]
    fn what_the_big_net_says_of_a_frame_replaces_the_verdict_and_counts_no_doubt_twice() {
        let eye =
            Eye { seen: None, frame: None, verdict: Verdict::Clear, doubts: 0, burns_late: false };
        let mut eyes = Eyes { eyes: [(id("cam"), eye)].into(), blind_after: BLIND_AFTER };
        let mut say = |frame: u64, verdict: Verdict, tier: Tier| {
            eyes.see(&scene(frame, (verdict, tier)));
            let sight = eyes.sight(&id("cam"), second(frame)).unwrap();
            (sight.verdict, sight.doubts)
        };
        let (clear, doubt, alarm) = (Verdict::Clear, Verdict::Doubtful, Verdict::Alarm);
        assert_eq!(say(1, doubt, Tier::Small), (doubt, false));
        assert_eq!(say(1, doubt, Tier::Big), (doubt, false));
        assert_eq!(say(1, clear, Tier::Small), (doubt, false), "again");
        assert_eq!(say(2, doubt, Tier::Small), (doubt, true));
        assert_eq!(say(2, alarm, Tier::Big), (alarm, true));
        assert_eq!(say(3, clear, Tier::Small), (clear, false));
    }
}
