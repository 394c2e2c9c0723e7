//! Calibration of each camera's bays anew, from the labels that its chargers have given since the site was set up
//! (`logic::site::labels`, kept with the daybook). The eyes take the cuts up by themselves.
//!
//! What a stranger gets wrong: it changes when a bay is called free or occupied, never when fire is. And where the labels
//! are few it changes nothing: see `logic::vision::calibration`.

use serde::Serialize;

use super::{BuiltInError, Options, REPORTS, failed};
use crate::app::vision::{BayPlace, Calibrated, place, scored_by};
use crate::config::Config;
use crate::io::inference::{Detector, shipped_cuts};
use crate::io::store::{look_into_books, write_whole};
use crate::logic::site::Id;
use crate::logic::vision::{BayCuts, Calibration, LEAST_STAYS, calibrate};

/// What is told of a camera.
#[derive(Debug, Serialize)]
struct Told {
    camera: Id,
    /// The cuts that came with the net.
    shipped: BayCuts,
    #[serde(flatten)]
    calibration: Calibration,
    /// Whether these are cuts of its own.
    changed: bool,
    /// Stays that are needed before anything is changed.
    least_stays: u32,
}

/// Finds the cuts of each camera, and leaves them for the eyes; how it was for each.
pub(super) fn recalibrate(config: &Config, options: &Options) -> Result<String, BuiltInError> {
    if Detector::open(&options.models)?.is_some() {
        return Err(BuiltInError::OwnDetector);
    }
    let (net, shipped) = shipped_cuts(&options.models)?;
    let (_, days) = look_into_books(&options.state).map_err(failed(&options.state))?;
    let mut told = Vec::new();
    let wanted = |id: &Id| options.camera.as_ref().is_none_or(|camera| camera == id.as_str());
    for source in config.cameras.iter().filter(|source| wanted(&source.id)) {
        let places: Vec<BayPlace> = config.site.bays_of(&source.id).map(BayPlace::of).collect();
        let of = place(Some(&source.url), &places);
        // What another net has scored, or the camera before it was turned, is no measure for what it scores today.
        let today = scored_by(&options.state, &source.id, (&net, of));
        let labels = days.labels.get(&source.id).zip(today);
        let labels = labels.map(|(labels, today)| labels.clone().of(today)).unwrap_or_default();
        let calibration = calibrate(shipped, &labels);
        let found = Calibrated { net: net.clone(), of, at: options.at, calibration };
        found.write(&options.state, &source.id).map_err(failed(&options.state))?;
        let changed = calibration.cuts != shipped;
        let (camera, least_stays) = (source.id.clone(), LEAST_STAYS);
        told.push(Told { camera, shipped, calibration, changed, least_stays });
    }
    let folder = options.state.join(REPORTS);
    std::fs::create_dir_all(&folder).map_err(failed(&folder))?;
    let text = serde_json::json!({"made": options.at, "net": net, "cameras": told});
    write_whole(&folder, "calibration.json", format!("{text:#}\n").as_bytes())
        .map_err(failed(&folder))?;
    Ok(told.iter().map(line).collect::<Vec<String>>().join("; "))
}

fn line(told: &Told) -> String {
    let Told { camera, shipped, calibration: found, .. } = told;
    let BayCuts { free_below, occupied_above } = found.cuts;
    format!(
        "{camera}: free {} -> {free_below:.2}, occupied {} -> {occupied_above:.2}, {} stays, agreement {:.1} % -> {:.1} %",
        shipped.free_below,
        shipped.occupied_above,
        found.stays,
        found.agreed * 100.0,
        found.agrees * 100.0
    )
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::app::vision::{cuts_file, memory_file};
    use crate::config::BuiltIn;
    use crate::io::store::write_days;
    use crate::logic::site::{Daybook, Labels};

    /// A site file with two cameras, `north` and `south`, a bay before each.
    fn site_file(folder: &Path) -> std::path::PathBuf {
        let file = folder.join("site.toml");
        let camera = |id: &str| {
            format!(
                "[[camera]]\nid = \"{id}\"\nsnapshot = \"http://127.0.0.1:1/{id}.jpg\"\n\
                 [[bay]]\nid = \"bay-{id}\"\ncamera = \"{id}\"\n\
                 polygon = [[0.1, 0.4], [0.4, 0.4], [0.4, 0.8], [0.1, 0.8]]\n"
            )
        };
        let site = "[site]\nid = \"s\"\n[grid]\nmeter = \"grid\"\nlimit_a = 50\nbreaker_a = 63\n\
             [[device]]\nid = \"grid\"\nprofile = \"eastron-sdm630\"\naddress = \"tcp://127.0.0.1:1\"\n";
        std::fs::write(&file, [site, &camera("north"), &camera("south")].concat()).unwrap();
        file
    }

    /// What the eyes are left, and that it holds for this net and these places alone.
    #[test]
    fn cuts_are_found_for_each_camera_with_labels_and_left_for_the_eyes() {
        let folder = tempfile::tempdir().unwrap();
        let file = site_file(folder.path());
        let (north, south) = (Id::try_from("north").unwrap(), Id::try_from("south").unwrap());
        let bay = |camera: &str| Id::try_from(format!("bay-{camera}")).unwrap();
        let polygon = vec![[0.1, 0.4], [0.4, 0.4], [0.4, 0.8], [0.1, 0.8]];
        let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
        let (net, _) = shipped_cuts(&models).unwrap();
        let of = |camera: &Id| {
            let places = [BayPlace { id: bay(camera.as_str()), polygon: polygon.clone() }];
            place(Some(&format!("http://127.0.0.1:1/{camera}.jpg")), &places)
        };
        let learned = |camera: &Id, since: &str| {
            let file = memory_file(folder.path(), camera);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            let learned = serde_json::json!({"of": of(camera), "since": since});
            std::fs::write(file, learned.to_string()).unwrap();
            scored_by(folder.path(), camera, (&net, of(camera))).unwrap()
        };
        let mut days = Daybook::default();
        for camera in [&north, &south] {
            let mut labels = Labels::default().of(learned(camera, "2026-05-04T06:00:00Z"));
            for stay in 0..400 {
                let score = if stay % 4 == 0 { 0.72 } else { 0.97 };
                labels.add(&bay(camera.as_str()), true, score, None);
                labels.add(&bay(camera.as_str()), false, 0.03, None);
            }
            days.labels.insert(camera.clone(), labels);
        }
        write_days(folder.path(), &days).unwrap();
        // `south` was turned and learned anew since.
        learned(&south, "2026-05-05T05:00:00Z");
        let options = |camera: Option<&str>| Options {
            name: BuiltIn::Recalibrate,
            config: file.clone(),
            state: folder.path().to_owned(),
            models: models.clone(),
            at: "2026-05-05T06:00:00Z".parse().unwrap(),
            days_ago: 1.0,
            camera: camera.map(str::to_owned),
            most: 200.0,
        };
        let said = super::super::run(&options(Some("north"))).unwrap();
        let wanted = "north: free 0.15 -> 0.15, occupied 0.85 -> 0.65, 400 stays, agreement 75.0 % -> 100.0 %";
        assert_eq!(said, wanted);
        assert!(!cuts_file(folder.path(), &south).exists(), "nobody asked for it");
        let said = super::super::run(&options(None)).unwrap();
        assert!(
            said.contains("south: free 0.15 -> 0.15, occupied 0.85 -> 0.85, 0 stays"),
            "{said}"
        );
        let of = of(&north);
        let kept = Calibrated::read(folder.path(), &north).unwrap();
        assert!(kept.holds(&net, of) && !kept.holds("another", of) && !kept.holds(&net, of + 1));
        assert!((kept.calibration.cuts.occupied_above - 0.65).abs() < 1e-9);
        let told = std::fs::read_to_string(folder.path().join("reports/calibration.json")).unwrap();
        let told: serde_json::Value = serde_json::from_str(&told).unwrap();
        assert_eq!(
            (&told["cameras"][0]["changed"], &told["cameras"][1]["changed"]),
            (&true.into(), &false.into())
        );
        // Another net reads the bays from now on: what the one before has scored is no measure for it.
        let other = scored_by(folder.path(), &north, ("another", of)).unwrap();
        let labels = days.labels[&north].clone();
        assert_eq!(labels.all().plugged.stays(), 400);
        days.labels.insert(north.clone(), labels.of(other));
        write_days(folder.path(), &days).unwrap();
        let said = super::super::run(&options(Some("north"))).unwrap();
        assert!(said.contains("occupied 0.85 -> 0.85, 0 stays"), "{said}");
    }
}
