//! `wattgate alarm`: asks the gateway that runs on this machine, at its control socket.

use std::io;
use std::path::{Path, PathBuf};

use super::arguments::{Alarms, Format, Place};
use super::{CONFIGURATION, FAILED, NOT_PERMITTED, OUT_OF_REACH, complain, say};
use crate::app::desk::{self, Answer, Refusal, Request};
use crate::config;
use crate::logic::decision::ZoneView;
use crate::logic::safety::alarms::{Alarm, Signature};
use crate::texts::{Lang, fill, text};

/// Asks and prints; the exit code.
pub fn run(action: Alarms, lang: Lang) -> u8 {
    match action {
        Alarms::List { place, format } => list(&place, format == Format::Json, lang),
        Alarms::Ack { alarm, by, note, place } => {
            let signature = Signature { by, note };
            settle(&place, &Request::Acknowledge { alarm, signature }, lang)
        }
        Alarms::Shelve { alarm, by, minutes, note, place } => {
            let signature = Signature { by, note };
            settle(&place, &Request::Shelve { alarm, signature, minutes }, lang)
        }
        Alarms::Prove { id, by, place } => settle(&place, &Request::Prove { id, by }, lang),
        Alarms::Reset { zone, by, inspected, place } => {
            let ask = Request::Reset { zone: zone.clone(), by, inspected };
            let code = settle(&place, &ask, lang);
            if inspected || code != 0 {
                return code;
            }
            complain(&fill(lang, "cli.alarm.inspect_first", &[("zone", zone)]));
            NOT_PERMITTED
        }
    }
}

/// The state folder: as told, else from the site file, else the usual one.
pub(super) fn state(place: &Place, lang: Lang) -> Result<PathBuf, u8> {
    match (&place.state, &place.config) {
        (Some(state), _) => Ok(state.clone()),
        // A release that runs may know more of the file than this version.
        (None, Some(file)) if file.exists() => Ok(config::state_folder(file)),
        (None, Some(file)) => {
            complain(&fill(lang, "cli.no_site_file", &[("file", file.display().to_string())]));
            Err(CONFIGURATION)
        }
        (None, None) => Ok(PathBuf::from(config::DEFAULT_STATE)),
    }
}

fn ask(place: &Place, request: &Request, lang: Lang) -> Result<Answer, u8> {
    let state = state(place, lang)?;
    desk::ask(&state, request).map_err(|error| no_gateway(&state, &error, lang))
}

/// No gateway answers on a state folder; the exit code.
pub fn no_gateway(state: &Path, error: &io::Error, lang: Lang) -> u8 {
    let socket = desk::socket(state).display().to_string();
    let values = [("socket", socket), ("cause", error.to_string())];
    complain(&fill(lang, "cli.alarm.no_gateway", &values));
    OUT_OF_REACH
}

/// The gateway did not do it; the exit code.
pub fn refused(refusal: Refusal, lang: Lang) -> u8 {
    complain(text(lang, &format!("cli.refused.{}", refusal.code())));
    FAILED
}

fn settle(place: &Place, request: &Request, lang: Lang) -> u8 {
    match ask(place, request, lang) {
        Ok(Answer::Done) => say(text(lang, "cli.alarm.done")),
        Ok(Answer::Refused(refusal)) => refused(refusal, lang),
        Ok(_) => FAILED,
        Err(code) => code,
    }
}

fn list(place: &Place, json: bool, lang: Lang) -> u8 {
    match ask(place, &Request::Alarms, lang) {
        Ok(Answer::Alarms { alarms, zones }) if json => {
            say(&serde_json::json!({ "alarms": alarms, "zones": zones }).to_string())
        }
        Ok(Answer::Alarms { alarms, zones }) => say(&table(&alarms, &zones, lang)),
        Ok(Answer::Refused(refusal)) => refused(refusal, lang),
        Ok(_) => FAILED,
        Err(code) => code,
    }
}

fn table(alarms: &[Alarm], zones: &[ZoneView], lang: Lang) -> String {
    let mut lines = Vec::new();
    for alarm in alarms {
        let about = [("about", alarm.about.clone())];
        let what = fill(lang, &format!("alarm.{}", alarm.code), &about);
        let active = if alarm.active { "cli.alarm.active" } else { "cli.alarm.cleared" };
        let known = match &alarm.by {
            Some(by) if alarm.acknowledged => {
                fill(lang, "cli.alarm.acknowledged", &[("by", by.clone())])
            }
            _ => text(lang, "cli.alarm.not_acknowledged").to_owned(),
        };
        let since = alarm.since.format("%Y-%m-%d %H:%M:%SZ");
        let active = match alarm.shelved_until {
            Some(until) => {
                let until = [("until", until.format("%Y-%m-%d %H:%M:%SZ").to_string())];
                format!("{}, {}", text(lang, active), fill(lang, "cli.alarm.shelved", &until))
            }
            None => text(lang, active).to_owned(),
        };
        lines.push(format!("{:32} {since}  {active}, {known}\n    {what}", alarm.id));
    }
    if alarms.is_empty() {
        lines.push(text(lang, "cli.alarm.none").to_owned());
    }
    for zone in zones.iter().filter(|zone| desk::is_latched(zone)) {
        let values = [("zone", zone.id.to_string())];
        lines.push(fill(lang, "cli.alarm.latched", &values));
        if let Some(obstacle) = zone.reset_obstacle {
            let code = desk::Refusal::Reset(obstacle).code();
            lines.push(format!("    {}", text(lang, &format!("cli.refused.{code}"))));
        }
    }
    lines.join("\n")
}
