//! Cameras whose pictures crash the eyes, and how long each is left out of their next lives so that the others
//! go on (design/decisions.md: twice in a minute, then 1, 2, 4 .. 60 s).
//!
//! ```text
//!   blamed ──▶ noted ──again within a minute of being back──▶ left out 1 s, 2 s, 4 s .. 60 s
//!                 ▲                                                     │
//!                 └────────────── a minute without blame ───────────────┘
//! ```
//! What a stranger gets wrong: the minute counts from when the camera was back, not from when it was blamed:
//! else the longest pause would always end with a clean record.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::logic::site::Id;

/// Blamed again within this time of being back, a camera is left out.
const WITHIN: Duration = Duration::from_secs(60);
/// The first pause, and the longest.
const FIRST: Duration = Duration::from_secs(1);
const MOST: Duration = Duration::from_secs(60);

/// What is held against the cameras. All times on one clock that never jumps.
#[derive(Debug, Default)]
pub struct Quarantine(BTreeMap<Id, Blamed>);

#[derive(Debug)]
struct Blamed {
    /// The pause that the last blame brought.
    pause: Duration,
    /// When the camera is back.
    back: Duration,
}

impl Quarantine {
    /// The eyes crashed or hung over a picture of this camera; for how long it is left out now.
    pub fn blame(&mut self, camera: &Id, now: Duration) -> Duration {
        self.0.retain(|_, blamed| now.saturating_sub(blamed.back) < WITHIN);
        let pause = match self.0.get(camera) {
            None => Duration::ZERO,
            Some(before) => (before.pause * 2).clamp(FIRST, MOST),
        };
        self.0.insert(camera.clone(), Blamed { pause, back: now + pause });
        pause
    }

    /// Who is left out, and for how long from now on.
    #[must_use]
    pub fn left_out(&self, now: Duration) -> Vec<(Id, Duration)> {
        let out = self.0.iter().filter(|(_, blamed)| blamed.back > now);
        out.map(|(camera, blamed)| (camera.clone(), blamed.back - now)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cam4_twice_in_a_minute_is_a_pause_that_doubles_up_to_a_minute() {
        let [bad, good] = ["bad", "good"].map(|id| Id::try_from(id).unwrap());
        let mut quarantine = Quarantine::default();
        let mut now = Duration::from_secs(1000);
        for wanted in [0, 1, 2, 4, 8, 16, 32, 60, 60] {
            let pause = quarantine.blame(&bad, now);
            assert_eq!(pause, Duration::from_secs(wanted));
            let out: Vec<_> = quarantine.left_out(now).into_iter().collect();
            assert_eq!(out, if wanted > 0 { vec![(bad.clone(), pause)] } else { vec![] });
            // Back, and half a minute later it does it again.
            now += pause;
            assert_eq!(quarantine.left_out(now), []);
            now += WITHIN / 2;
        }
        assert_eq!(quarantine.blame(&good, now), Duration::ZERO, "each camera for itself");
        now += WITHIN * 2;
        assert_eq!(quarantine.blame(&bad, now), Duration::ZERO, "forgotten after a good minute");
    }
}
