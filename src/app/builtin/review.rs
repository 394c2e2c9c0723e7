//! The review of kept pictures: the big net on every part of each picture that the small net doubted and that was
//! not reviewed yet. What it says stands beside the picture (`TIME-VERDICT.json`), so that a review that is ended
//! goes on where it was when it is asked for again.
//!
//! What a stranger gets wrong: nothing is taken back by it. An alarm of yesterday stays what it was; people learn
//! what the big net would have said, and which pictures are worth training with. And a kept picture is not all that was
//! seen: where masks are painted over, a fire may lie behind them, and nothing is released.

use std::io;

use serde_json::{Value, json};

use super::curate::beside;
use super::{BuiltInError, Options, failed};
use crate::app::vision::PARTS;
use crate::io::camera::Frame;
use crate::io::inference::{BigNet, Crop, Engine, ModelError};
use crate::io::store::{DISAGREED, Picture, pictures, write_whole};
use crate::logic::vision::Answer;

/// How many of each.
#[derive(Debug, Default)]
struct Count {
    confirmed: u32,
    doubtful: u32,
    released: u32,
    unreadable: u32,
}

/// Reviews what was not; how many of each.
pub(super) fn review(options: &Options) -> Result<String, BuiltInError> {
    // Only the net on this machine: what another one draws no meter here would count.
    let mut net = BigNet::open(&options.models, Engine::Best, None)?
        .ok_or_else(|| BuiltInError::NoBigNet(options.models.clone()))?;
    let all = pictures(&options.state).map_err(failed(&options.state))?;
    let wanted = |picture: &&Picture| {
        options.camera.as_ref().is_none_or(|camera| *camera == picture.camera)
            && picture.verdict != DISAGREED
            && !picture.review().exists()
    };
    let mut count = Count::default();
    for picture in all.iter().filter(wanted) {
        let bytes = match std::fs::read(&picture.path) {
            Ok(bytes) => bytes,
            // It was old, and made room for a newer one.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(cause) => return Err(failed(&picture.path)(cause)),
        };
        let said = match Frame::decode(&bytes) {
            Ok(frame) => {
                let masked = beside(&picture.seen())["masked"] == true;
                opinion(&mut net, (&frame, masked), &mut count)?
            }
            Err(error) => {
                count.unreadable += 1;
                json!({"answer": "unreadable", "error": error.to_string()})
            }
        };
        keep(picture, said).map_err(failed(&picture.review()))?;
    }
    let Count { confirmed, doubtful, released, unreadable } = count;
    Ok(format!(
        "confirmed {confirmed}, doubtful {doubtful}, released {released}, unreadable {unreadable}"
    ))
}

/// What the big net says of the worst part of a picture; of a masked one it releases nothing.
fn opinion(
    net: &mut BigNet,
    (frame, masked): (&Frame, bool),
    count: &mut Count,
) -> Result<Value, ModelError> {
    let rank = |answer: Answer| match answer {
        Answer::Released => 0,
        Answer::Doubtful => 1,
        Answer::Confirmed { .. } => 2,
    };
    let (mut worst, mut scores) = ((u8::from(masked), 0), (0.0_f64, 0.0_f64));
    for (part, place) in PARTS.into_iter().enumerate() {
        let Some(crop) = Crop::of(frame, place, net.side()) else { continue };
        let said = net.ask(&crop)?;
        scores = (scores.0.max(said.flame), scores.1.max(said.smoke));
        if rank(said.answer) > worst.0 {
            worst = (rank(said.answer), part);
        }
    }
    let answer = match worst.0 {
        0 => (&mut count.released, "released"),
        1 => (&mut count.doubtful, "doubtful"),
        _ => (&mut count.confirmed, "confirmed"),
    };
    *answer.0 += 1;
    Ok(json!({"answer": answer.1, "part": PARTS[worst.1], "flame": scores.0, "smoke": scores.1}))
}

fn keep(picture: &Picture, mut said: Value) -> io::Result<()> {
    said["at"] = json!(picture.at);
    said["camera"] = json!(picture.camera);
    said["verdict"] = json!(picture.verdict);
    let path = picture.review();
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
    match (path.parent(), name) {
        (Some(folder), Some(name)) => write_whole(folder, &name, format!("{said:#}\n").as_bytes())?,
        _ => return Ok(()),
    }
    // It may have made room for a newer one while the job waited: nobody would ever remove what is said of it.
    if picture.path.exists() { Ok(()) } else { std::fs::remove_file(path) }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::BuiltIn;
    use crate::io::store::Evidence;
    use crate::logic::site::Id;

    /// With the shipped net: a plain wall is released, a flame of the painter is not; what was reviewed is not
    /// reviewed again, and what is no picture stops nobody.
    #[test]
    fn kept_pictures_are_reviewed_once_each() {
        let folder = tempfile::tempdir().unwrap();
        let mut evidence = Evidence::open(folder.path());
        let wall = Frame { rgb: [120, 118, 115].repeat(320 * 180), width: 320, height: 180 };
        let wall = wall.jpeg(80).unwrap();
        let at = "2026-05-04T10:00:00Z".parse().unwrap();
        let (north, south) = (Id::try_from("north").unwrap(), Id::try_from("south").unwrap());
        evidence.keep((&north, at), "doubtful", (&wall, b"")).unwrap();
        let second = at + chrono::Duration::seconds(1);
        evidence.keep((&north, second), "alarm", (b"no picture", b"")).unwrap();
        evidence.keep((&south, at), "doubtful", (&wall, b"")).unwrap();
        evidence.keep((&south, second), "alarm", (&wall, b"{\"masked\": true}")).unwrap();
        let options = |camera: Option<&str>| Options {
            name: BuiltIn::Review,
            config: folder.path().join("site.toml"),
            state: folder.path().to_owned(),
            models: Path::new(env!("CARGO_MANIFEST_DIR")).join("models"),
            at,
            days_ago: 1.0,
            camera: camera.map(str::to_owned),
            most: 200.0,
        };
        let said = review(&options(Some("north"))).unwrap();
        assert_eq!(said, "confirmed 0, doubtful 0, released 1, unreadable 1");
        let all = pictures(folder.path()).unwrap();
        let told = |picture: &Picture| -> Value {
            serde_json::from_str(&std::fs::read_to_string(picture.review()).unwrap()).unwrap()
        };
        let of = |camera: &str| all.iter().find(|p| p.camera == camera).unwrap();
        assert_eq!(told(of("north"))["answer"], "released");
        assert!(!of("south").review().exists(), "nobody asked for it");
        let said = review(&options(None)).unwrap();
        assert_eq!(said, "confirmed 0, doubtful 1, released 1, unreadable 0", "the rest");
        let masked = all.iter().find(|p| p.camera == "south" && p.verdict == "alarm").unwrap();
        assert_eq!(told(masked)["answer"], "doubtful", "the fire may lie behind a mask");
        let said = review(&options(None)).unwrap();
        assert_eq!(said, "confirmed 0, doubtful 0, released 0, unreadable 0", "nothing is left");
        // One that made room for a newer one while the net looked at it.
        let gone = of("south");
        std::fs::remove_file(&gone.path).unwrap();
        keep(gone, json!({"answer": "released"})).unwrap();
        assert!(!gone.review().exists(), "nobody would ever remove it");
        let nowhere = Options { models: folder.path().to_owned(), ..options(None) };
        assert!(review(&nowhere).is_err(), "no nets");
    }
}
