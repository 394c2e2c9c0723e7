//! What is known of a picture when it is kept, for whoever curates or reviews it later: what the eyes said, what the
//! chargers said, and which of the bays disagree.
//!
//! What a stranger gets wrong: only who is plugged in is a label. A bay without a plug may be occupied.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::logic::decision::{BayView, CameraView, Overview};
use crate::logic::site::Id;
use crate::logic::vision::BayState;
use crate::units::Moment;

/// Eyes and charger disagree when they have for so long: each bay was read again meanwhile.
const DISAGREE_AFTER: Duration = Duration::from_secs(90);
/// What was not looked at for longer may have been otherwise meanwhile.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);
/// Pictures of one bay that disagrees: one in such a time.
const KEPT_EVERY: Duration = Duration::from_secs(3600);

/// What is known of a camera's picture, as JSON; `masked`: whether something is painted over in it.
pub(super) fn facts(overview: &Overview, camera: &CameraView, masked: bool) -> Value {
    let mine = overview.bays.iter().filter(|bay| bay.camera.as_ref() == Some(&camera.id));
    let bay = |bay: &BayView| {
        json!({
            "id": bay.id,
            "polygon": bay.polygon,
            "score": bay.score,
            "eyes": bay.eyes,
            "charger": bay.charger,
            "plugged": bay.plugged,
            "label": (bay.plugged == Some(true)).then_some(BayState::Occupied),
        })
    };
    json!({
        "camera": camera.id,
        "seen": camera.ts,
        "verdict": camera.verdict,
        "tier": camera.tier,
        "fire": camera.fire,
        "smoke": camera.smoke,
        "masked": masked,
        "bays": mine.map(bay).collect::<Vec<Value>>(),
    })
}

/// Bays that are called free while a vehicle is plugged in there.
#[derive(Debug, Default)]
pub(super) struct Disagreements(BTreeMap<Id, Disagreement>);

#[derive(Clone, Copy, Debug)]
struct Disagreement {
    since: Option<Moment>,
    looked: Moment,
    kept: Option<Moment>,
}

impl Disagreements {
    /// Bays for which a picture of this camera is worth keeping now.
    pub fn look(&mut self, overview: &Overview, camera: &Id, now: Moment) -> Vec<Id> {
        let mut worth = Vec::new();
        for bay in overview.bays.iter().filter(|bay| bay.camera.as_ref() == Some(camera)) {
            let disagrees = bay.plugged == Some(true) && bay.eyes == Some(BayState::Free);
            let new = Disagreement { since: None, looked: now, kept: None };
            let known = self.0.entry(bay.id.clone()).or_insert(new);
            let lately = known.looked.age_at(now) <= FORGOTTEN_AFTER;
            known.since = disagrees.then(|| known.since.filter(|_| lately).unwrap_or(now));
            known.looked = now;
            let lasts = known.since.is_some_and(|since| since.age_at(now) >= DISAGREE_AFTER);
            let due = known.kept.is_none_or(|kept| kept.age_at(now) >= KEPT_EVERY);
            worth.extend((lasts && due).then(|| bay.id.clone()));
        }
        worth
    }

    /// A picture was kept for these bays: none is for a while.
    pub fn kept(&mut self, bays: &[Id], now: Moment) {
        for (_, known) in self.0.iter_mut().filter(|(id, _)| bays.contains(id)) {
            known.kept = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::clock::Clock;

    fn overview() -> Overview {
        let text = include_str!("../../../tests/golden/mqtt/overview.json");
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_bay_that_is_called_free_with_a_plug_in_is_kept_once_an_hour() {
        let mut overview = overview();
        let camera = overview.cameras[0].id.clone();
        overview.bays.truncate(1);
        overview.bays[0].camera = Some(camera.clone());
        let (begun, mut disagreements) = (Clock::real().now(), Disagreements::default());
        let mut looked = 0;
        let mut look = |second, plugged, eyes| {
            // Meanwhile all is as it was.
            for until in (looked + 30..second).step_by(30) {
                let at = begun.after(Duration::from_secs(until));
                assert!(disagreements.look(&overview, &camera, at).is_empty(), "{until} s");
            }
            looked = second;
            (overview.bays[0].plugged, overview.bays[0].eyes) = (plugged, eyes);
            let at = begun.after(Duration::from_secs(second));
            let wrong = disagreements.look(&overview, &camera, at);
            disagreements.kept(&wrong, at);
            !wrong.is_empty()
        };
        let free = Some(BayState::Free);
        // (second, plugged, eyes, whether it is kept)
        let table = [
            (0, Some(true), free, false),
            (60, Some(true), Some(BayState::Occupied), false),
            (100, Some(true), free, false),
            (189, Some(true), free, false),
            (190, Some(true), free, true),
            (191, Some(true), free, false),
            (3789, Some(true), free, false),
            (3790, Some(true), free, true),
            (3791, Some(false), free, false),
            (9000, Some(true), Some(BayState::Unknown), false),
            (9001, None, free, false),
            (9002, Some(true), free, false),
            (9092, Some(true), free, true),
        ];
        for (second, plugged, eyes, wanted) in table {
            assert_eq!(look(second, plugged, eyes), wanted, "{second} s");
        }
        let other = Id::try_from("other").unwrap();
        assert!(disagreements.look(&overview, &other, begun).is_empty());
    }

    #[test]
    fn nobody_knows_how_a_bay_was_while_nobody_looked() {
        let mut overview = overview();
        let camera = overview.cameras[0].id.clone();
        overview.bays.truncate(1);
        overview.bays[0].camera = Some(camera.clone());
        (overview.bays[0].plugged, overview.bays[0].eyes) = (Some(true), Some(BayState::Free));
        let (begun, mut disagreements) = (Clock::real().now(), Disagreements::default());
        let mut worth = |second| {
            let at = begun.after(Duration::from_secs(second));
            !disagreements.look(&overview, &camera, at).is_empty()
        };
        // An hour without a look, then one that is kept nowhere.
        let table =
            [(0, false), (60, false), (3660, false), (3720, false), (3750, true), (3751, true)];
        for (second, wanted) in table {
            assert_eq!(worth(second), wanted, "{second} s");
        }
    }

    #[test]
    fn a_plug_is_a_label_and_no_plug_is_none() {
        let mut overview = overview();
        let camera = overview.cameras[0].clone();
        overview.bays.truncate(1);
        overview.bays[0].camera = Some(camera.id.clone());
        for (plugged, label) in
            [(Some(true), json!("occupied")), (Some(false), json!(null)), (None, json!(null))]
        {
            overview.bays[0].plugged = plugged;
            let facts = facts(&overview, &camera, false);
            assert_eq!((&facts["bays"][0]["label"], &facts["camera"]), (&label, &json!(camera.id)));
            assert_eq!(facts["bays"][0]["polygon"], json!(overview.bays[0].polygon));
        }
    }
}
