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
    kept: Option<Moment>,
}

impl Disagreements {
    /// Whether a picture of this camera is worth keeping now for one of its bays; then none is for a while.
    pub fn look(&mut self, overview: &Overview, camera: &Id, now: Moment) -> bool {
        let mut worth = false;
        for bay in overview.bays.iter().filter(|bay| bay.camera.as_ref() == Some(camera)) {
            let disagrees = bay.plugged == Some(true) && bay.eyes == Some(BayState::Free);
            let known =
                self.0.entry(bay.id.clone()).or_insert(Disagreement { since: None, kept: None });
            known.since = if disagrees { known.since.or(Some(now)) } else { None };
            let lasts = known.since.is_some_and(|since| since.age_at(now) >= DISAGREE_AFTER);
            let due = known.kept.is_none_or(|kept| kept.age_at(now) >= KEPT_EVERY);
            if lasts && due {
                known.kept = Some(now);
                worth = true;
            }
        }
        worth
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
        let mut look = |second, plugged, eyes| {
            (overview.bays[0].plugged, overview.bays[0].eyes) = (plugged, eyes);
            disagreements.look(&overview, &camera, begun.after(Duration::from_secs(second)))
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
        assert!(!disagreements.look(&overview, &Id::try_from("other").unwrap(), begun));
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
