//! `wattgate camera probe HOST` and `wattgate scan onvif`: cameras that stand in no site file yet.

use std::io::IsTerminal;
use std::path::PathBuf;

use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::arguments::Listing;
use super::{FAILED, NOT_PERMITTED, OUT_OF_REACH, USAGE, complain, outcome, say};
use crate::app::installer;
use crate::app::newcomer::{self, Advice, Newcomer, Wish};
use crate::io::camera::Login;
use crate::io::camera::onvif::{self, Found, OnvifError, Profile, Remark, Wanted};
use crate::io::clock::Clock;
use crate::logic::site::Id;
use crate::texts::{Lang, fill, text};

/// Answers that may wait to be printed.
const WAITING: usize = 64;

/// Asks one camera; the exit code.
pub fn meet(
    place: &str,
    (login, id): (Option<(Login, PathBuf)>, Option<Id>),
    as_json: bool,
    lang: Lang,
) -> u8 {
    let login = login.as_ref().map(|(login, file)| (login.clone(), file.as_path()));
    let met = match newcomer::meet(place, &Wish { login, id }, Clock::real()) {
        Ok(met) => met,
        Err(error) => {
            complain(&format!("wattgate: {}", error.say(lang)));
            return match error {
                OnvifError::Address(_) => USAGE,
                OnvifError::NoAnswer { .. } => OUT_OF_REACH,
                OnvifError::Refused { .. } => NOT_PERMITTED,
                _ => FAILED,
            };
        }
    };
    let told = if as_json { document(&met, lang).to_string() } else { table(&met, lang) };
    let said = say(told.trim_end());
    if met.choice.is_none() { FAILED } else { said }
}

fn document(met: &Newcomer, lang: Lang) -> Value {
    let profile = |profile: &Profile| {
        json!({
            "token": profile.token, "name": profile.name, "codec": profile.codec,
            "width": profile.size.map(|size| size.0), "height": profile.size.map(|size| size.1),
            "fps": profile.fps, "kbps": profile.kbps, "keyframes_s": profile.keyframes_s(),
            "stream": profile.stream, "snapshot": profile.snapshot,
        })
    };
    let identity = &met.interview.identity;
    let choice = met.choice.as_ref().map(|choice| {
        let size = choice.snapshot.as_ref().map(|(_, size)| *size);
        json!({
            "profile": met.interview.profiles[choice.profile].token, "url": choice.url(),
            "snapshot": choice.snapshot.as_ref().map(|(url, _)| url), "stream": choice.stream,
            "width": size.map(|size| size.0), "height": size.map(|size| size.1),
        })
    });
    json!({
        "device": met.interview.device,
        "maker": identity.maker, "model": identity.model,
        "firmware": identity.firmware, "serial": identity.serial,
        "profiles": met.interview.profiles.iter().map(profile).collect::<Vec<_>>(),
        "use": choice, "remarks": remarks(met, lang), "block": met.block,
    })
}

fn table(met: &Newcomer, lang: Lang) -> String {
    let identity = &met.interview.identity;
    let mut lines = vec![
        fill(
            lang,
            "cli.newcomer.device",
            &[
                ("maker", identity.maker.clone()),
                ("model", identity.model.clone()),
                ("firmware", identity.firmware.clone()),
                ("serial", identity.serial.clone()),
                ("device", met.interview.device.clone()),
            ],
        ),
        text(lang, "cli.newcomer.head").to_owned(),
    ];
    let chosen = met.choice.as_ref().map(|choice| choice.profile);
    for (place, profile) in met.interview.profiles.iter().enumerate() {
        let mark = if chosen == Some(place) { '*' } else { ' ' };
        let or_none = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
        let size = or_none(profile.size.map(|(width, height)| format!("{width} x {height}")));
        let (fps, kbps) = (or_none(profile.fps.map(|f| f.to_string())), profile.kbps);
        let keyframes = or_none(profile.keyframes_s().map(|seconds| format!("{seconds:.1}")));
        let (name, codec) =
            (&profile.name, or_none(Some(profile.codec.clone()).filter(|c| !c.is_empty())));
        let kbps = or_none(kbps.map(|kbps| kbps.to_string()));
        lines.push(format!(
            "{mark} {name:20} {codec:6} {size:>12} {fps:>6} {kbps:>7} {keyframes:>9}"
        ));
        lines.extend(
            [&profile.stream, &profile.snapshot].into_iter().flatten().map(|u| format!("    {u}")),
        );
    }
    lines.extend(remarks(met, lang).into_iter().map(|remark| format!("! {remark}")));
    match &met.choice {
        Some(choice) => {
            let way = if choice.snapshot.is_some() {
                "cli.newcomer.snapshot"
            } else {
                "cli.newcomer.stream"
            };
            lines.push(fill(lang, way, &[("url", choice.url().to_owned())]));
            lines.push(String::new());
            lines.push(met.block.clone());
        }
        None => lines.push(text(lang, "cli.newcomer.nothing").to_owned()),
    }
    lines.join("\n")
}

/// What the camera's answers and the trial have shown, in words.
fn remarks(met: &Newcomer, lang: Lang) -> Vec<String> {
    let said = met.interview.remarks.iter().map(|remark| match remark {
        Remark::ClockOff(seconds) => {
            let key = if *seconds > 0 { "onvif.clock_ahead" } else { "onvif.clock_behind" };
            fill(lang, key, &[("seconds", seconds.unsigned_abs().to_string())])
        }
        Remark::NoClock => text(lang, "onvif.no_clock").to_owned(),
        Remark::NoIdentity(said) => fill(lang, "onvif.no_identity", &[("said", said.clone())]),
        Remark::OtherHost { named, used } => {
            fill(lang, "onvif.other_host", &[("named", named.clone()), ("used", used.clone())])
        }
        Remark::Secret(profile) => fill(lang, "onvif.secret", &[("profile", profile.clone())]),
        Remark::NoAddress { profile, call, said } => fill(
            lang,
            "onvif.no_address",
            &[("profile", profile.clone()), ("call", (*call).to_owned()), ("said", said.clone())],
        ),
        Remark::More(count) => fill(lang, "onvif.more", &[("count", count.to_string())]),
    });
    let advised = met.advice.iter().map(|advice| match advice {
        Advice::NoH264 => text(lang, "cli.newcomer.no_h264").to_owned(),
        Advice::SnapshotFails(why) => {
            fill(lang, "cli.newcomer.snapshot_fails", &[("why", why.clone())])
        }
        Advice::KeyframesSeldom(seconds) => {
            fill(lang, "cli.newcomer.keyframes", &[("seconds", format!("{seconds:.1}"))])
        }
    });
    said.chain(advised).collect()
}

/// Looks for cameras and prints each as it answers; the exit code.
pub fn scan(wanted: Wanted, format: Listing, lang: Lang) -> u8 {
    let live = std::io::stderr().is_terminal();
    if live {
        let seconds = wanted.wait.as_secs().to_string();
        complain(&fill(lang, "cli.newcomer.asking", &[("seconds", seconds)]));
    }
    match installer::wait_for(look(wanted, format, lang)) {
        Ok(code) => code,
        Err(error) => outcome(Err(error.to_string())),
    }
}

async fn look(wanted: Wanted, format: Listing, lang: Lang) -> u8 {
    let (send, mut news) = mpsc::channel(WAITING);
    let asking = tokio::spawn(onvif::discover(wanted, send));
    let mut found = Vec::new();
    if format == Listing::Csv {
        say("address,name,hardware,location");
    }
    loop {
        let next = tokio::select! {
            next = news.recv() => next,
            _ = tokio::signal::ctrl_c() => {
                asking.abort();
                complain(text(lang, "cli.scan.stopped"));
                break;
            }
        };
        let Some(camera) = next else { break };
        match format {
            Listing::Table => _ = say(&line(&camera, lang)),
            Listing::Csv => _ = say(&csv(&camera)),
            Listing::Json => {}
        }
        found.push(camera);
    }
    if let Ok(Err(error)) = asking.await {
        complain(&fill(lang, "cli.newcomer.cannot_ask", &[("cause", error.to_string())]));
        return OUT_OF_REACH;
    }
    match (format, found.is_empty()) {
        (Listing::Json, _) => say(&json!(found).to_string()),
        (Listing::Table, true) => say(text(lang, "cli.newcomer.nobody")),
        _ => 0,
    }
}

fn line(camera: &Found, lang: Lang) -> String {
    let Found { address, name, hardware, location, named } = camera;
    let named = named.as_ref().map_or(String::new(), |named| {
        format!("  ({})", fill(lang, "cli.newcomer.named", &[("named", named.clone())]))
    });
    format!("{address:48} {name:24} {hardware:24} {location}{named}").trim_end().to_owned()
}

fn csv(camera: &Found) -> String {
    let cells = [&camera.address, &camera.name, &camera.hardware, &camera.location];
    let quoted = cells.map(|cell| format!("\"{}\"", cell.replace('"', "\"\"")));
    quoted.join(",")
}
