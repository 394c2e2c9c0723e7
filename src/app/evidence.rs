//! Keeps the pictures of what the eyes doubt, and of bays of which a charger knows better, on a thread of its own: the
//! disk may take its time. What is known of a picture is kept beside it (`facts`).
//!
//! What a stranger gets wrong: it only looks, five times a second, at what page and MQTT are shown. A picture that
//! comes and goes between two looks is not kept.

mod facts;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::watch;

use self::facts::{Disagreements, facts};
use super::control::{RunError, named};
use crate::config::Config;
use crate::io::camera::StillBoard;
use crate::io::store::{ALARM, DISAGREED, Evidence};
use crate::logic::decision::Overview;
use crate::logic::site::Id;
use crate::logic::vision::Verdict;
use crate::units::Moment;

const LOOKS_EVERY: Duration = Duration::from_millis(200);

/// Starts the thread where the site file wants it; it ends when it is told to stop.
///
/// # Errors
/// When it cannot be started.
pub(super) fn start(
    config: &Config,
    (stills, overview): (&StillBoard, &watch::Receiver<Option<Arc<Overview>>>),
    stop: &Arc<AtomicBool>,
) -> Result<Option<JoinHandle<()>>, RunError> {
    if !config.vision.evidence {
        return Ok(None);
    }
    let (mut evidence, stop) = (Evidence::open(&config.state), Arc::clone(stop));
    let (stills, overview) = (stills.clone(), overview.clone());
    let masked = config.cameras.iter().filter(|camera| !camera.masks.is_empty());
    let masked = masked.map(|camera| camera.id.clone()).collect();
    let thread = named("evidence", move || {
        let (mut seen, mut well) = (Seen { masked, ..Seen::default() }, true);
        while !stop.load(Ordering::Relaxed) {
            std::thread::park_timeout(LOOKS_EVERY);
            let newest = overview.borrow().clone();
            let Some(newest) = newest else { continue };
            let kept = look(&mut evidence, &mut seen, &newest, &stills);
            if let (Err(error), true) = (&kept, well) {
                tracing::warn!(%error, "pictures of what is doubted are not kept");
            }
            well = kept.is_ok();
        }
    });
    thread.map(Some)
}

/// What was looked at.
#[derive(Default)]
struct Seen {
    /// The newest still of each camera.
    stills: BTreeMap<Id, Moment>,
    disagreements: Disagreements,
    /// Cameras in whose stills something is painted over.
    masked: BTreeSet<Id>,
}

/// Keeps the newest still of each camera that is in doubt, once. One that cannot be kept keeps no other from it;
/// the first such error.
fn look(
    evidence: &mut Evidence,
    seen: &mut Seen,
    overview: &Overview,
    stills: &StillBoard,
) -> std::io::Result<()> {
    let mut said = Ok(());
    for camera in overview.cameras.iter().filter(|camera| camera.fault.is_none()) {
        let Some(still) = stills.get(&camera.id) else { continue };
        let mut wrong = Vec::new();
        let verdict = match camera.verdict {
            Some(Verdict::Doubtful) => "doubtful",
            Some(Verdict::Alarm) => ALARM,
            Some(Verdict::Clear) => {
                wrong = seen.disagreements.look(overview, &camera.id, still.at);
                if wrong.is_empty() {
                    continue;
                }
                DISAGREED
            }
            None => continue,
        };
        if seen.stills.insert(camera.id.clone(), still.at) != Some(still.at) {
            let masked = seen.masked.contains(&camera.id);
            let facts = format!("{:#}\n", facts(overview, camera, masked));
            let kept =
                evidence.keep((&camera.id, still.at.utc), verdict, (&still.jpeg, facts.as_bytes()));
            if kept.is_ok() {
                seen.disagreements.kept(&wrong, still.at);
            }
            said = said.and(kept.map(|_| ()));
        }
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::camera::Still;
    use crate::io::clock::Clock;
    use crate::io::store::pictures;

    #[test]
    fn each_still_of_a_camera_in_doubt_is_kept_once_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let text = include_str!("../../tests/golden/mqtt/overview.json");
        let mut overview: Overview = serde_json::from_str(text).unwrap();
        let camera = overview.cameras[0].id.clone();
        let stills = StillBoard::new([camera.clone()].into_iter());
        let (mut evidence, mut seen) = (Evidence::open(folder.path()), Seen::default());
        let begun = Clock::real().now();
        // (what is thought, whether it is blind, second of the newest still, pictures then)
        let table = [
            (Some(Verdict::Doubtful), false, None, 0),
            (Some(Verdict::Clear), false, Some(0), 0),
            (Some(Verdict::Doubtful), false, Some(0), 1),
            (Some(Verdict::Doubtful), false, Some(0), 1),
            (Some(Verdict::Alarm), false, Some(1), 2),
            (Some(Verdict::Alarm), true, Some(2), 2),
            (None, false, Some(3), 2),
            (Some(Verdict::Clear), false, Some(4), 2),
        ];
        for (verdict, blind, second, expected) in table {
            if let Some(second) = second {
                let at = begun.after(Duration::from_secs(second));
                stills.put(&camera, Still { jpeg: [7, 7].into(), at });
            }
            overview.cameras[0].verdict = verdict;
            overview.cameras[0].fault = blind.then(|| "lost".to_owned());
            look(&mut evidence, &mut seen, &overview, &stills).unwrap();
            let kept = pictures(folder.path()).unwrap();
            assert_eq!(kept.len(), expected, "{verdict:?} {blind} {second:?}");
        }
        let verdicts = pictures(folder.path()).unwrap().into_iter().map(|p| p.verdict);
        assert_eq!(verdicts.collect::<Vec<_>>(), ["doubtful", "alarm"]);
    }

    #[test]
    fn a_disagreement_that_could_not_be_kept_is_kept_when_it_can() {
        let folder = tempfile::tempdir().unwrap();
        let text = include_str!("../../tests/golden/mqtt/overview.json");
        let mut overview: Overview = serde_json::from_str(text).unwrap();
        overview.cameras.truncate(1);
        let camera = overview.cameras[0].id.clone();
        (overview.cameras[0].verdict, overview.cameras[0].fault) = (Some(Verdict::Clear), None);
        overview.bays.truncate(1);
        let bay = &mut overview.bays[0];
        (bay.camera, bay.plugged) = (Some(camera.clone()), Some(true));
        bay.eyes = Some(crate::logic::vision::BayState::Free);
        let stills = StillBoard::new([camera.clone()].into_iter());
        let (mut evidence, mut seen) = (Evidence::open(folder.path()), Seen::default());
        let begun = Clock::real().now();
        let mut look = |second| {
            let at = begun.after(Duration::from_secs(second));
            stills.put(&camera, Still { jpeg: [7, 7].into(), at });
            let kept = look(&mut evidence, &mut seen, &overview, &stills);
            (kept.is_ok(), pictures(folder.path()).unwrap().len())
        };
        let in_the_way = folder.path().join("evidence").join(camera.as_str());
        std::fs::create_dir(folder.path().join("evidence")).unwrap();
        std::fs::write(&in_the_way, "").unwrap();
        assert_eq!([look(0), look(50)], [(true, 0); 2], "it may be nothing");
        assert_eq!(look(100), (false, 0));
        std::fs::remove_file(in_the_way).unwrap();
        assert_eq!([look(101), look(102)], [(true, 1); 2], "one in an hour");
    }

    #[test]
    fn a_camera_whose_picture_cannot_be_kept_keeps_no_other_from_it() {
        let folder = tempfile::tempdir().unwrap();
        let text = include_str!("../../tests/golden/mqtt/overview.json");
        let mut overview: Overview = serde_json::from_str(text).unwrap();
        let mut first = overview.cameras[0].clone();
        (first.verdict, first.fault) = (Some(Verdict::Alarm), None);
        let mut second = first.clone();
        second.id = Id::try_from("second").unwrap();
        let ids = [first.id.clone(), second.id.clone()];
        let stills = StillBoard::new(ids.iter().cloned());
        let at = Clock::real().now();
        ids.iter().for_each(|id| stills.put(id, Still { jpeg: [7, 7].into(), at }));
        std::fs::create_dir(folder.path().join("evidence")).unwrap();
        std::fs::write(folder.path().join("evidence").join(ids[0].as_str()), "").unwrap();
        overview.cameras = vec![first, second];
        let mut evidence = Evidence::open(folder.path());
        let mut seen = Seen { masked: [ids[1].clone()].into(), ..Seen::default() };
        assert!(look(&mut evidence, &mut seen, &overview, &stills).is_err());
        let kept = pictures(folder.path()).unwrap();
        assert_eq!(kept.iter().map(|picture| &picture.camera).collect::<Vec<_>>(), ["second"]);
        let facts = std::fs::read_to_string(kept[0].seen()).unwrap();
        assert!(facts.contains("\"masked\": true"), "{facts}");
    }
}
