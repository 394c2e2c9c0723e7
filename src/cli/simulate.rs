//! `wattgate simulate` and `wattgate replay`: their outcomes in words.

use std::path::Path;

use super::{CONFIGURATION, FAILED, complain, outcome, say, tick};
use crate::app::replay;
#[cfg(feature = "demo")]
use crate::app::simulate::{self, SimulateError, SimulateOptions, Summary};
use crate::texts::{Lang, fill, text};

/// Simulates and prints; the exit code.
#[cfg(feature = "demo")]
pub fn run(options: &SimulateOptions, lang: Lang) -> u8 {
    match simulate::run(options) {
        Ok(summary) => say(&words(&summary, lang)),
        Err(SimulateError::Config(report)) => {
            complain(report.render(lang).trim_end());
            CONFIGURATION
        }
        Err(error) => outcome(Err(error.to_string())),
    }
}

#[cfg(feature = "demo")]
fn words(summary: &Summary, lang: Lang) -> String {
    let cost = summary.cost.as_ref().map_or_else(
        || text(lang, "cli.simulate.no_tariff").to_owned(),
        |(cost, currency)| format!("{cost:.2} {currency}"),
    );
    let values = [
        ("days", summary.days.to_string()),
        ("chargers", summary.chargers.to_string()),
        ("took", format!("{:.1}", summary.took_s)),
        ("cars", summary.cars.to_string()),
        ("cars_kwh", format!("{:.1}", summary.cars_kwh)),
        ("import", format!("{:.1}", summary.import_kwh)),
        ("export", format!("{:.1}", summary.export_kwh)),
        ("cost", cost),
        ("stress", format!("{:.3}", summary.stress)),
        ("over", format!("{:.1}", summary.over_s)),
        ("throttled", summary.throttled.to_string()),
        ("paused", summary.paused.to_string()),
        ("alarms", summary.alarms.to_string()),
    ];
    let lines = ["done", "energy", "cost", "stress", "interventions", "alarms"];
    let line = |key: &str| fill(lang, &format!("cli.simulate.{key}"), &values);
    lines.map(line).join("\n")
}

/// Replays a trace and prints; 0 only if every decision is the same.
pub fn replay(path: &Path, lang: Lang) -> u8 {
    let replayed = match replay::run(path) {
        Ok(replayed) => replayed,
        Err(error) => return outcome(Err(error.to_string())),
    };
    let mut values = vec![
        ("decisions", replayed.decisions.to_string()),
        ("heard", replayed.heard.to_string()),
        ("differ", replayed.differ.to_string()),
        ("lost", replayed.lost.to_string()),
    ];
    let same = replayed.differ == 0;
    let first = replayed.first.map_or_else(String::new, |at| at.utc.to_rfc3339());
    values.push(("first", first));
    let key = if same { "cli.replay.same" } else { "cli.replay.differ" };
    let mut lines = vec![tick(same, lang, key, &values)];
    let remarks = [
        (replayed.begins_late, "cli.replay.begins_late"),
        (replayed.lost > 0, "cli.replay.lost"),
        (replayed.torn, "cli.replay.torn"),
    ];
    let remarks = remarks.into_iter().filter(|(holds, _)| *holds);
    lines.extend(remarks.map(|(_, key)| fill(lang, key, &values)));
    let said = say(&lines.join("\n"));
    if same { said } else { FAILED }
}
