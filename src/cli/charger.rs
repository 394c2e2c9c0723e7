//! `wattgate charger`: shows how chargers charge and chooses how they do, at the control socket of the gateway on
//! this machine.
//!
//! What a stranger gets wrong: what is printed after a choice is not the choice. It is the mode that the controller
//! shows, with the current that the charger is told under it and the reason.

use super::arguments::{Chargers, Format, Place};
use super::{FAILED, alarm, complain, say};
use crate::app::charging::{Charging, ChargingWish};
use crate::app::desk::{self, Answer, Request};
use crate::logic::decision::{DeviceView, Overview};
use crate::logic::site::TargetWords;
use crate::texts::{Lang, fill, text};

/// Asks and prints; the exit code.
pub fn run(action: Chargers, lang: Lang) -> u8 {
    match action {
        Chargers::List { place, format } => list(&place, format, lang),
        Chargers::Mode { charger, mode, energy_kwh, stay_h, leaves, place, format } => {
            let target = energy_kwh.map(|energy_kwh| TargetWords { energy_kwh, stay_h, leaves });
            choose(&place, ChargingWish { charger, mode, target }, format, lang)
        }
    }
}

fn ask(place: &Place, request: &Request, lang: Lang) -> Result<Answer, u8> {
    let state = alarm::state(place, lang)?;
    desk::ask(&state, request).map_err(|error| alarm::no_gateway(&state, &error, lang))
}

fn choose(place: &Place, wish: ChargingWish, format: Format, lang: Lang) -> u8 {
    match ask(place, &Request::Charge(wish), lang) {
        Ok(Answer::Charging(charging)) if format == Format::Json => {
            say(&serde_json::json!(charging).to_string())
        }
        Ok(Answer::Charging(charging)) => {
            let Charging { charger, outlook } = *charging;
            let code = say(&line(&charger, None, lang));
            match outlook {
                Some(outlook) => say(text(lang, &format!("cli.charger.{}", outlook.code()))),
                None => code,
            }
        }
        Ok(Answer::NotAllowed(why)) => {
            complain(&fill(lang, "cli.charger.not_taken", &[("why", why)]));
            FAILED
        }
        Ok(Answer::Refused(refusal)) => alarm::refused(refusal, lang),
        Ok(_) => FAILED,
        Err(code) => code,
    }
}

fn list(place: &Place, format: Format, lang: Lang) -> u8 {
    let overview = match ask(place, &Request::Overview, lang) {
        Ok(Answer::Overview(overview)) => overview,
        Ok(Answer::Refused(refusal)) => return alarm::refused(refusal, lang),
        Ok(_) => return FAILED,
        Err(code) => return code,
    };
    let chargers: Vec<&DeviceView> =
        overview.devices.iter().filter(|device| device.kind == "charger").collect();
    if format == Format::Json {
        return say(&serde_json::json!({"chargers": chargers}).to_string());
    }
    let lines: Vec<String> =
        chargers.iter().map(|charger| line(charger, Some(&overview), lang)).collect();
    if lines.is_empty() { say(text(lang, "cli.charger.none")) } else { say(&lines.join("\n")) }
}

/// One charger: its mode, its car, what it is told and why; what is planned where the plan has something for it.
fn line(charger: &DeviceView, overview: Option<&Overview>, lang: Lang) -> String {
    let word = |key: &str, value: Option<&str>| match value {
        Some(value) => text(lang, &format!("{key}{value}")).to_owned(),
        None => "-".to_owned(),
    };
    let told = charger.setpoint.as_ref();
    let amps = told.and_then(|told| told.current_a).unwrap_or(0.0);
    let about = told.and_then(|told| told.about.as_ref());
    let why = word("reason.", told.map(|told| told.reason.as_str()));
    let vehicle = charger.values.get("vehicle").and_then(serde_json::Value::as_str);
    let values = [
        ("id", charger.id.to_string()),
        ("mode", word("mode.", charger.mode())),
        ("vehicle", word("page.vehicle_", vehicle)),
        ("amps", format!("{amps:.1}")),
        ("why", about.map_or(why.clone(), |about| format!("{why}, {about}"))),
    ];
    let line = fill(lang, "cli.charger.line", &values);
    let lanes = overview.and_then(|o| o.plan.as_ref()).map(|plan| plan.lanes.as_slice());
    let mine = lanes.unwrap_or_default().iter().find(|lane| lane.id == charger.id);
    let Some(target) = mine.and_then(|lane| lane.target.as_ref()) else { return line };
    let values = [
        ("kwh", format!("{:.1}", target.energy_wh / 1000.0)),
        ("by", target.by.format("%Y-%m-%d %H:%MZ").to_string()),
    ];
    format!("{line}\n    {}", fill(lang, "cli.charger.target", &values))
}
