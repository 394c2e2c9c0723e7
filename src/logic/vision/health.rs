//! Whether a camera shows what it showed when it was set up: from cheap measures of each frame to a
//! fault, over time.
//!
//! What a stranger gets wrong: a fault never says that a place is free or without fire; it says that
//! nobody is looking. And light changes everything but the pattern: a camera that was moved is told by
//! the pattern, not by brightness.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::CameraFault;

/// Darker and flatter than this (0 to 255) there is nothing to see; flatter alone is a cover or a blinded lens,
/// whatever the camera usually has: it may have been covered since before the first frame.
const DARK: f32 = 5.0;
const FLAT: f32 = 1.5;
/// The same picture for this long and this many frames is a frozen camera: sensors always have noise.
const FROZEN: Duration = Duration::from_secs(8);
const FROZEN_FRAMES: u32 = 4;
/// Contrast or detail below these shares of what the camera usually has is a cover or lost focus ...
const COVERED_CONTRAST: f32 = 0.25;
const COVERED_DETAIL: f32 = 0.3;
/// ... when it lasts (faults.md, CAM3: told within 30 s). A van that stops before the lens drives on.
const COVERED: Duration = Duration::from_secs(15);
/// Below this likeness to the usual pattern for this long, the camera looks elsewhere.
const UNLIKE: f32 = 0.3;
const MOVED: Duration = Duration::from_secs(15);
/// Width to height may differ by this share from the first frame's.
const SHAPE: f64 = 0.02;
/// Frames until the usual contrast and detail count as known, and how slowly they follow.
const LEARNED: u32 = 5;
const FOLLOWS: f32 = 0.02;
/// Frames after which a frame more counts as little as any later one.
const USUAL_AFTER: u32 = 50;

/// What `io::camera::gate` measures of a frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measures {
    /// Mean brightness, 0 to 255.
    pub brightness: f32,
    /// Standard deviation of the cells, 0 to 127.
    pub contrast: f32,
    /// Mean difference of neighbouring pixels, 0 to 255.
    pub detail: f32,
    /// Likeness to the usual pattern by its edges, -1 to 1; none where it has too few to tell.
    pub alike: Option<f32>,
    /// Whether not a single cell differs from the frame before.
    pub same: bool,
    /// Pixels: width, height.
    pub size: (usize, usize),
}

/// What is remembered of one camera.
#[derive(Clone, Debug, Default)]
pub struct Health {
    aspect: Option<f64>,
    frames: u32,
    contrast: f32,
    detail: f32,
    same_frames: u32,
    same_since: Option<Duration>,
    covered_since: Option<Duration>,
    unlike_since: Option<Duration>,
    /// What was usual before a restart.
    recalled: Option<Usual>,
    /// Pixels of a row in the frame before.
    width: u32,
}

/// What a camera usually shows, as far as it is a number; its pattern is kept beside it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Usual {
    /// Width to height.
    pub aspect: f64,
    /// Standard deviation of the cells, 0 to 127.
    pub contrast: f32,
    /// Mean difference of neighbouring pixels, 0 to 255.
    pub detail: f32,
    /// Pixels of a row that it was measured in; 0 where nobody wrote it down.
    #[serde(default)]
    pub width: u32,
}

impl Usual {
    /// Whether a frame lacks most of the detail that its contrast had before. Light and fog change both alike, a lens
    /// out of focus only the one; a picture of another size has another detail.
    fn is_sharper_than(&self, seen: &Measures) -> bool {
        let same_size = u32::try_from(seen.size.0).is_ok_and(|width| width == self.width);
        same_size && seen.detail * self.contrast < COVERED_DETAIL * self.detail * seen.contrast
    }
}

impl Health {
    /// Takes up what a camera usually showed before a restart, so that one that was turned or covered meanwhile is
    /// not taken for usual. Contrast and detail follow the light within minutes, so they count each for itself only
    /// where that was `lately`; shape, pattern and what detail there is for the contrast always do.
    pub fn recall(&mut self, usual: Usual, lately: bool) {
        self.aspect = Some(usual.aspect);
        self.recalled = Some(usual);
        if lately {
            (self.contrast, self.detail) = (usual.contrast, usual.detail);
            self.frames = USUAL_AFTER;
        }
    }

    /// What the camera usually shows; nothing before that is known.
    #[must_use]
    pub fn usual(&self) -> Option<Usual> {
        let aspect = self.aspect.filter(|_| self.frames >= LEARNED)?;
        Some(Usual { aspect, contrast: self.contrast, detail: self.detail, width: self.width })
    }

    /// Takes the measures of a frame at `at` (any steady clock) and tells what is wrong, the worst first.
    pub fn judge(&mut self, at: Duration, seen: &Measures) -> Option<CameraFault> {
        let aspect = seen.size.0 as f64 / seen.size.1.max(1) as f64;
        let usual = *self.aspect.get_or_insert(aspect);
        let frozen = self.frozen(at, seen.same);
        if (aspect / usual - 1.0).abs() > SHAPE {
            return Some(CameraFault::Shape);
        }
        if seen.brightness < DARK && seen.contrast < FLAT {
            return Some(CameraFault::Dark);
        }
        if frozen {
            return Some(CameraFault::Frozen);
        }
        let known = self.frames >= LEARNED;
        let less = seen.contrast < self.contrast * COVERED_CONTRAST
            || seen.detail < self.detail * COVERED_DETAIL;
        let unsharp = self.recalled.is_some_and(|before| before.is_sharper_than(seen));
        let flat = seen.contrast < FLAT || if known { less } else { unsharp };
        let covered = lasts(&mut self.covered_since, at, flat, COVERED);
        let unlike = (known || self.recalled.is_some())
            && !flat
            && seen.alike.is_some_and(|alike| alike < UNLIKE);
        let moved = lasts(&mut self.unlike_since, at, unlike, MOVED);
        if flat || unlike {
            let fault = if covered { Some(CameraFault::Covered) } else { None };
            return fault.or(moved.then_some(CameraFault::Moved));
        }
        self.learn(seen);
        None
    }

    /// Whether the frame last judged is one that the usual pattern may be learned from.
    #[must_use]
    pub fn is_usual(&self) -> bool {
        self.covered_since.is_none() && self.unlike_since.is_none()
    }

    fn learn(&mut self, seen: &Measures) {
        self.frames = self.frames.saturating_add(1);
        self.width = u32::try_from(seen.size.0).unwrap_or(0);
        // The first frames count alike, later ones little: a running mean that becomes a slow one.
        let share = (1.0 / self.frames as f32).max(FOLLOWS);
        self.contrast += (seen.contrast - self.contrast) * share;
        self.detail += (seen.detail - self.detail) * share;
    }

    fn frozen(&mut self, at: Duration, same: bool) -> bool {
        if !same {
            self.same_frames = 0;
            self.same_since = Some(at);
            return false;
        }
        self.same_frames += 1;
        let since = *self.same_since.get_or_insert(at);
        self.same_frames >= FROZEN_FRAMES && at.saturating_sub(since) >= FROZEN
    }
}

/// Whether something has held since long enough.
fn lasts(since: &mut Option<Duration>, at: Duration, holds: bool, long: Duration) -> bool {
    if !holds {
        *since = None;
        return false;
    }
    let since = *since.get_or_insert(at);
    at.saturating_sub(since) >= long
}

#[cfg(test)]
mod tests {
    use super::*;

    const USUAL: Measures = Measures {
        brightness: 110.0,
        contrast: 40.0,
        detail: 8.0,
        alike: Some(0.95),
        same: false,
        size: (640, 360),
    };

    /// Ten usual looks, then `then` once a second; when and which fault comes first.
    fn first_fault(then: Measures) -> Option<(u64, CameraFault)> {
        let mut health = Health::default();
        for second in 0..10 {
            assert_eq!(health.judge(Duration::from_secs(second), &USUAL), None);
        }
        let look = |second| Some((second - 10, health.judge(Duration::from_secs(second), &then)?));
        (10..60).find_map(look)
    }

    #[test]
    fn cam2_a_frozen_picture_is_told_within_ten_seconds() {
        let (after, fault) = first_fault(Measures { same: true, ..USUAL }).unwrap();
        assert_eq!(fault, CameraFault::Frozen);
        assert!(after <= 10, "{after} s");
    }

    #[test]
    fn cam3_black_covered_defocused_and_moved_are_told_within_thirty_seconds() {
        let table = [
            (Measures { brightness: 1.0, contrast: 0.4, detail: 0.2, ..USUAL }, CameraFault::Dark),
            (
                Measures { contrast: 3.0, detail: 0.8, alike: Some(0.0), ..USUAL },
                CameraFault::Covered,
            ),
            (Measures { detail: 1.5, alike: Some(0.9), ..USUAL }, CameraFault::Covered),
            (Measures { alike: Some(0.05), ..USUAL }, CameraFault::Moved),
        ];
        assert_eq!(first_fault(Measures { alike: None, ..USUAL }), None);
        for (measures, wanted) in table {
            let (after, fault) = first_fault(measures).unwrap();
            assert_eq!(fault, wanted, "{measures:?}");
            assert!(after <= 30, "{after} s for {measures:?}");
        }
    }

    #[test]
    fn cam3_a_cover_from_before_the_first_frame_is_told_too() {
        // Tape before the lens when the process starts: nothing of it may become the usual.
        let tape = Measures { contrast: 0.6, detail: 0.9, alike: None, ..USUAL };
        let mut health = Health::default();
        let judge =
            |health: &mut Health, second, seen| health.judge(Duration::from_secs(second), seen);
        let told = (0..60).find_map(|second| Some((second, judge(&mut health, second, &tape)?)));
        assert_eq!(told.map(|(_, fault)| fault), Some(CameraFault::Covered));
        assert!(told.is_some_and(|(second, _)| second <= 30), "{told:?}");
        assert!(!health.is_usual());
        assert_eq!(judge(&mut health, 60, &USUAL), None, "the tape is off");
        assert!(health.is_usual());
    }

    /// What is left of a camera in each fault, after a restart a second or a day later.
    #[test]
    fn cam3_what_went_wrong_before_a_restart_is_not_the_usual_after_it() {
        let turned = Measures { alike: Some(0.05), ..USUAL };
        let unsharp = Measures { detail: 1.5, alike: Some(0.9), ..USUAL };
        let other = Measures { size: (640, 480), ..USUAL };
        let dusk = Measures { brightness: 30.0, contrast: 9.0, detail: 1.5, ..USUAL };
        let larger = Measures { size: (1920, 1080), detail: 2.2, ..USUAL };
        let table = [
            (turned, true, Some(CameraFault::Moved)),
            (turned, false, Some(CameraFault::Moved)),
            (unsharp, true, Some(CameraFault::Covered)),
            // A day later the light is another, and so is what there is to see; not how sharp it is.
            (unsharp, false, Some(CameraFault::Covered)),
            (dusk, false, None),
            (larger, false, None),
            (other, false, Some(CameraFault::Shape)),
            (USUAL, true, None),
            (USUAL, false, None),
        ];
        for (then, lately, wanted) in table {
            let mut before = Health::default();
            assert_eq!(before.usual(), None);
            for second in 0..10 {
                before.judge(Duration::from_secs(second), &USUAL);
            }
            let mut after = Health::default();
            after.recall(before.usual().unwrap(), lately);
            let told = (0..31).find_map(|second| after.judge(Duration::from_secs(second), &then));
            assert_eq!(told, wanted, "{then:?} lately {lately}");
        }
    }

    #[test]
    fn cam5_another_shape_is_told_at_once_another_size_is_none() {
        let other = first_fault(Measures { size: (640, 480), ..USUAL });
        assert_eq!(other, Some((0, CameraFault::Shape)));
        assert_eq!(first_fault(Measures { size: (1920, 1080), ..USUAL }), None);
    }

    #[test]
    fn light_and_passing_vans_are_no_faults() {
        let dusk =
            Measures { brightness: 30.0, contrast: 15.0, detail: 4.0, alike: Some(0.6), ..USUAL };
        assert_eq!(first_fault(dusk), None);
        let mut health = Health::default();
        for second in 0..60 {
            let van = Measures { contrast: 6.0, alike: Some(0.1), ..USUAL };
            let seen = if second % 20 > 12 { van } else { USUAL };
            assert_eq!(health.judge(Duration::from_secs(second), &seen), None, "{second}");
        }
    }
}
