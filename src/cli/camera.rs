//! `wattgate camera`: probe, still, watch, relearn.

use std::io;

use super::arguments::{Cameras, Place};
use super::{alarm, complain, outcome, say};
use crate::app::camera::{self, UseError};
use crate::app::vision::{Sight, cuts_file, memory_file};
use crate::config;
use crate::io::camera::CameraError;
use crate::io::clock::Clock;
use crate::logic::site::Id;
use crate::texts::{Lang, fill, text};

/// A keyframe should come this often, s: more, and a look has to decode what lies between.
const KEYFRAMES_S: f64 = 1.5;

/// Does it; the exit code.
pub fn run(action: Cameras, lang: Lang) -> u8 {
    let done = match action {
        Cameras::Probe { url } => return probe(&url, lang),
        Cameras::Still { url, out } => camera::still(&url, &out).map(|(width, height)| {
            let values =
                [("file", out.display().to_string()), ("size", format!("{width} x {height}"))];
            say(&fill(lang, "cli.camera.kept", &values));
        }),
        Cameras::Relearn { camera, place } => return relearn(&camera, &place, lang),
        Cameras::Watch { url, looks, models } => {
            let models = models.unwrap_or_else(config::models_beside);
            let mut tell = |seen: Result<&Sight, &CameraError>| match seen {
                Ok(sight) => camera::line(&mut io::stdout(), sight),
                Err(error) => {
                    complain(&format!("{error}"));
                    Ok(())
                }
            };
            let clock = Clock::real();
            camera::watch(&url, (&models, clock), looks, &mut tell)
        }
    };
    match done {
        Err(UseError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => 0,
        done => outcome(done.map_err(|error| error.to_string())),
    }
}

/// Takes the memory of a camera away; its eyes notice.
fn relearn(camera: &Id, place: &Place, lang: Lang) -> u8 {
    let state = match alarm::state(place, lang) {
        Ok(state) => state,
        Err(code) => return code,
    };
    let file = memory_file(&state, camera);
    let values = [("camera", camera.to_string()), ("file", file.display().to_string())];
    // Another place has another light: there may be none.
    let _ = std::fs::remove_file(cuts_file(&state, camera));
    match std::fs::remove_file(&file) {
        Ok(()) => say(&fill(lang, "cli.camera.relearns", &values)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            outcome(Err(fill(lang, "cli.camera.not_learned", &values)))
        }
        Err(error) => outcome(Err(format!("{}: {error}", file.display()))),
    }
}

fn probe(url: &str, lang: Lang) -> u8 {
    let found = match camera::probe(url, Clock::real()) {
        Ok(found) => found,
        Err(error) => return outcome(Err(error.to_string())),
    };
    let values = [
        ("size", format!("{} x {}", found.size.0, found.size.1)),
        ("kind", if found.is_video { "H.264" } else { "JPEG" }.to_owned()),
        ("kb", format!("{:.0}", found.bytes as f64 / 1000.0)),
        ("interval", format!("{:.2}", found.interval.as_secs_f64())),
        ("decode", format!("{:.1}", found.decode.as_secs_f64() * 1000.0)),
    ];
    let told = say(&fill(lang, "cli.camera.probe", &values));
    let slow = found.dependent > 0 || found.interval.as_secs_f64() > KEYFRAMES_S;
    if found.is_video && slow {
        return say(text(lang, "cli.camera.keyframes"));
    }
    told
}
