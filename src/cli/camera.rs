//! `wattgate camera`: probe, still, watch, relearn.

use std::io;
use std::path::PathBuf;

use super::arguments::{Cameras, Format, Place, Who};
use super::{alarm, complain, newcomer, outcome, say};
use crate::app::camera::{self, UseError};
use crate::app::vision::{Sight, cuts_file, memory_file};
use crate::config;
use crate::io::camera::{CameraError, Login, onvif};
use crate::io::clock::Clock;
use crate::logic::site::Id;
use crate::texts::{Lang, fill, text};

/// A keyframe should come this often, s: more, and a look has to decode what lies between.
const KEYFRAMES_S: f64 = 1.5;

/// Does it; the exit code.
pub fn run(action: Cameras, lang: Lang) -> u8 {
    let done = match action {
        Cameras::Probe { target, who, camera_id, format } => {
            let login = match known(&who) {
                Ok(login) => login,
                Err(why) => return outcome(Err(why)),
            };
            let json = format == Format::Json;
            if onvif::is_device(&target) {
                return newcomer::meet(&target, (login, camera_id), json, lang);
            }
            return probe(&target, login.map(|(login, _)| login), json, lang);
        }
        Cameras::Still { url, out, who } => match known(&who) {
            Ok(login) => camera::still(&url, login.map(|(login, _)| login), &out).map(|size| {
                let size = format!("{} x {}", size.0, size.1);
                let values = [("file", out.display().to_string()), ("size", size)];
                say(&fill(lang, "cli.camera.kept", &values));
            }),
            Err(why) => return outcome(Err(why)),
        },
        Cameras::Relearn { camera, place } => return relearn(&camera, &place, lang),
        Cameras::Watch { url, looks, models, who } => {
            let login = match known(&who) {
                Ok(login) => login.map(|(login, _)| login),
                Err(why) => return outcome(Err(why)),
            };
            let models = models.unwrap_or_else(config::models_beside);
            let mut tell = |seen: Result<&Sight, &CameraError>| match seen {
                Ok(sight) => camera::line(&mut io::stdout(), sight),
                Err(error) => {
                    complain(&format!("{error}"));
                    Ok(())
                }
            };
            let clock = Clock::real();
            camera::watch((&url, login), (&models, clock), looks, &mut tell)
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

/// Who we are, and the file of the password with its whole path, as a site file elsewhere has to name it.
fn known(who: &Who) -> Result<Option<(Login, PathBuf)>, String> {
    let (Some(user), Some(file)) = (&who.user, &who.password_file) else { return Ok(None) };
    let failed = |error: io::Error| format!("{}: {error}", file.display());
    let login = Login::from_file(user, file).map_err(failed)?;
    Ok(Some((login, file.canonicalize().map_err(failed)?)))
}

fn probe(url: &str, login: Option<Login>, json: bool, lang: Lang) -> u8 {
    let found = match camera::probe(url, login, Clock::real()) {
        Ok(found) => found,
        Err(error) => return outcome(Err(error.to_string())),
    };
    if json {
        let told = serde_json::json!({
            "url": url, "width": found.size.0, "height": found.size.1,
            "codec": found.codec,
            "bytes": found.bytes, "interval_s": found.interval.as_secs_f64(),
            "decode_cpu_ms": found.decode.as_secs_f64() * 1000.0, "dependent": found.dependent,
        });
        return say(&told.to_string());
    }
    let values = [
        ("size", format!("{} x {}", found.size.0, found.size.1)),
        ("kind", found.codec.replace("H26", "H.26")),
        ("kb", format!("{:.0}", found.bytes as f64 / 1000.0)),
        ("interval", format!("{:.2}", found.interval.as_secs_f64())),
        ("decode", format!("{:.1}", found.decode.as_secs_f64() * 1000.0)),
    ];
    let told = say(&fill(lang, "cli.camera.probe", &values));
    let slow = found.dependent > 0 || found.interval.as_secs_f64() > KEYFRAMES_S;
    if found.codec != "JPEG" && slow {
        return say(text(lang, "cli.camera.keyframes"));
    }
    told
}
