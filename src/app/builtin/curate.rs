//! Curation: from all kept pictures a small set to train with, of every camera, without the many that are alike, and
//! first those from which most is learned. A folder of copies with a manifest; for whoever trains nets.
//!
//! What a stranger gets wrong: nothing leaves the device. The set lies in the state folder until a person takes it, and
//! is masked as far as the kept pictures are.

use std::io;

use serde_json::{Value, json};

use super::{BuiltInError, Options, failed};
use crate::io::camera::gate::Glance;
use crate::io::camera::{Frame, likeness};
use crate::io::store::{DISAGREED, Picture, TrainingSet, pictures};
use crate::logic::vision::{Candidate, Worth, pick};

/// Most pictures of a set.
const MOST: usize = 500;
/// What stands beside a picture is small; anything above is not ours.
const MOST_BESIDE: u64 = 256 << 10;

/// A picture, and what is known of it.
struct Known {
    picture: Picture,
    seen: Value,
    review: Value,
}

/// Makes a set; where it is, and of how many.
pub(super) fn curate(options: &Options) -> Result<String, BuiltInError> {
    let most = options.most;
    if !(1.0..=MOST as f64).contains(&most) {
        return Err(BuiltInError::NoSuchNumber(MOST));
    }
    let all = pictures(&options.state).map_err(failed(&options.state))?;
    let wanted =
        |picture: &Picture| options.camera.as_ref().is_none_or(|camera| *camera == picture.camera);
    let (mut known, mut candidates, mut unreadable) = (Vec::new(), Vec::new(), 0);
    for picture in all.into_iter().filter(wanted) {
        let Some(bytes) = bytes_of(&picture).map_err(failed(&picture.path))? else { continue };
        let Ok(frame) = Frame::decode(&bytes) else {
            unreadable += 1;
            continue;
        };
        let (seen, review) = (beside(&picture.seen()), beside(&picture.review()));
        let (camera, likeness) = (picture.camera.clone(), likeness(&Glance::of(&frame)));
        let one = Known { picture, seen, review };
        candidates.push(Candidate { camera, worth: worth(&one), likeness });
        known.push(one);
    }
    let (picked, alike) = pick(&candidates, most as usize);
    let folder = options.state.join("training");
    let mut set = TrainingSet::begin(&options.state, options.at).map_err(failed(&folder))?;
    let mut entries = Vec::new();
    for place in picked {
        let Some(one) = known.get(place) else { continue };
        let Some(bytes) = bytes_of(&one.picture).map_err(failed(&one.picture.path))? else {
            continue;
        };
        let name = name(&one.picture);
        if set.put(&name, &bytes).map_err(failed(&folder))? {
            entries.push(entry(one, &name, candidates.get(place).map(|one| one.worth)));
        }
    }
    let manifest = json!({
        "made": options.at,
        "looked_at": known.len(),
        "alike": alike,
        "unreadable": unreadable,
        "pictures": entries,
    });
    let place = set.finish(format!("{manifest:#}\n").as_bytes()).map_err(failed(&folder))?;
    Ok(format!("{}: {} of {} pictures", place.display(), entries.len(), known.len()))
}

/// Nothing where it was old, and has made room for a newer one.
fn bytes_of(picture: &Picture) -> io::Result<Option<Vec<u8>>> {
    match std::fs::read(&picture.path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// What stands beside a picture; nothing where there is none, or none that can be read.
pub(super) fn beside(path: &std::path::Path) -> Value {
    let small = std::fs::metadata(path).is_ok_and(|found| found.len() <= MOST_BESIDE);
    let bytes = small.then(|| std::fs::read(path).ok()).flatten();
    bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

fn worth(one: &Known) -> Worth {
    let Known { picture, seen, review } = one;
    let bays = seen["bays"].as_array();
    let disagrees = |bay: &Value| bay["label"] == "occupied" && bay["eyes"] == "free";
    let alarm = picture.verdict == "alarm";
    if picture.verdict == DISAGREED || bays.is_some_and(|bays| bays.iter().any(disagrees)) {
        Worth::Disagreed
    } else if review["answer"] == if alarm { "released" } else { "confirmed" } {
        Worth::Contradicted
    } else if alarm {
        Worth::Alarm
    } else {
        Worth::Doubtful
    }
}

fn name(picture: &Picture) -> String {
    let name = picture.path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    format!("{}-{name}", picture.camera)
}

/// One picture in the manifest.
fn entry(one: &Known, name: &str, worth: Option<Worth>) -> Value {
    let Known { picture, seen, review } = one;
    json!({
        "file": name,
        "camera": picture.camera,
        "at": picture.at,
        "verdict": picture.verdict,
        "why": worth,
        "fire": seen["fire"],
        "smoke": seen["smoke"],
        "bays": seen["bays"],
        "review": review,
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::BuiltIn;
    use crate::io::store::Evidence;
    use crate::logic::site::Id;

    /// A wall with a box at `left`, in a sensor's noise.
    fn wall(rng: &mut fastrand::Rng, left: usize) -> Vec<u8> {
        let pixel = |i: usize| {
            let (x, y) = (i % 320, i / 320);
            let inside = (left..left + 60).contains(&x) && (40..140).contains(&y);
            [if inside { 220 } else { 90 } + rng.u8(0..8); 3]
        };
        let rgb = (0..320 * 180).flat_map(pixel).collect();
        Frame { rgb, width: 320, height: 180 }.jpeg(85).unwrap()
    }

    fn begun() -> chrono::DateTime<chrono::Utc> {
        "2026-05-04T10:00:00Z".parse().unwrap()
    }

    fn second(second: i64) -> chrono::DateTime<chrono::Utc> {
        begun() + chrono::Duration::seconds(second)
    }

    /// Twenty alike and four others of two cameras, and one that is no picture.
    fn lay(state: &Path) {
        let (mut evidence, mut rng) = (Evidence::open(state), fastrand::Rng::with_seed(3));
        let mut keep = |camera: &str, at, verdict: &str, left, seen: Value| {
            let (camera, jpeg) = (Id::try_from(camera).unwrap(), wall(&mut rng, left));
            let seen = seen.to_string();
            let kept = evidence.keep((&camera, second(at)), verdict, (&jpeg, seen.as_bytes()));
            assert!(kept.unwrap());
        };
        let bay = |eyes: &str, label: Value| json!({"fire": 0.1, "bays": [{"id": "b", "eyes": eyes, "label": label}]});
        (0..20).for_each(|s| keep("north", s, "doubtful", 20, bay("free", json!(null))));
        keep("north", 30, "doubtful", 200, bay("free", json!("occupied")));
        keep("north", 31, "doubtful", 120, json!({}));
        keep("south", 40, "alarm", 20, bay("occupied", json!("occupied")));
        keep("south", 41, DISAGREED, 160, json!({}));
        let all = pictures(state).unwrap();
        let reviewed = all.iter().find(|picture| picture.at == second(31)).unwrap();
        std::fs::write(reviewed.review(), "{\"answer\": \"confirmed\"}").unwrap();
        let none = state.join("evidence/south/20260504T110000000Z-alarm.jpg");
        std::fs::write(none, "none").unwrap();
    }

    fn options(state: &Path, most: f64, camera: Option<&str>, at: i64) -> Options {
        Options {
            name: BuiltIn::Curate,
            config: state.join("site.toml"),
            state: state.to_owned(),
            models: Path::new("nowhere").to_owned(),
            at: second(at),
            days_ago: 1.0,
            camera: camera.map(str::to_owned),
            most,
        }
    }

    #[test]
    fn a_set_has_every_camera_and_kind_and_what_is_alike_once() {
        let state = tempfile::tempdir().unwrap();
        let state = state.path();
        lay(state);
        let said = curate(&options(state, 200.0, None, 100)).unwrap();
        assert!(said.ends_with("training/20260504T100140Z: 5 of 24 pictures"), "{said}");
        let folder = state.join("training/20260504T100140Z");
        let text = std::fs::read_to_string(folder.join("manifest.json")).unwrap();
        let told: Value = serde_json::from_str(&text).unwrap();
        let mut why = Vec::new();
        for picture in told["pictures"].as_array().unwrap() {
            let copy = std::fs::read(folder.join(picture["file"].as_str().unwrap())).unwrap();
            assert!(Frame::decode(&copy).is_ok(), "{picture}");
            why.push((picture["camera"].as_str().unwrap(), picture["why"].as_str().unwrap()));
        }
        let wanted = [
            ("north", "disagreed"),
            ("south", "disagreed"),
            ("north", "contradicted"),
            ("north", "doubtful"),
            ("south", "alarm"),
        ];
        assert_eq!(why, wanted);
        let counts = ["looked_at", "alike", "unreadable"].map(|key| told[key].as_u64().unwrap());
        assert_eq!(counts, [24, 19, 1]);
        assert_eq!(told["pictures"][0]["bays"][0]["label"], "occupied");
        assert_eq!(told["pictures"][2]["review"]["answer"], "confirmed");
        assert!(curate(&options(state, 2.0, None, 101)).unwrap().contains("2 of 24"));
        let south = curate(&options(state, 200.0, Some("south"), 102)).unwrap();
        assert!(south.contains("2 of 2 pictures"), "{south}");
        for most in [0.0, 501.0, f64::NAN] {
            assert!(curate(&options(state, most, None, 103)).is_err(), "{most}");
        }
        let nothing = options(&state.join("nothing"), 9.0, None, 104);
        assert!(curate(&nothing).unwrap().contains("0 of 0"));
    }
}
