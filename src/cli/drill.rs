//! `wattgate drill`: makes a fault visible on the gateway that runs on this machine, and reports what it did
//! against the bounds, as Markdown.

use std::path::PathBuf;

use super::arguments::{DrillName, Place};
use super::{FAILED, alarm, complain, say};
use crate::app::drill::{self, Drill, DrillError, Finding};
use crate::io::clock::Clock;
use crate::texts::{Lang, text};

/// Makes the drill, prints or writes the report; the exit code.
pub fn run(name: DrillName, place: &Place, out: Option<PathBuf>, lang: Lang) -> u8 {
    let (drill, key) = match name {
        DrillName::MeterLoss => (Drill::MeterLoss, "meter_loss"),
        DrillName::BrokerLoss => (Drill::BrokerLoss, "broker_loss"),
        DrillName::ChargerDisobeys => (Drill::ChargerDisobeys, "charger_disobeys"),
        DrillName::Fire => (Drill::Fire, "fire"),
    };
    let state = match alarm::state(place, lang) {
        Ok(state) => state,
        Err(code) => return code,
    };
    let findings = match drill::run(&state, drill) {
        Ok(findings) => findings,
        Err(DrillError::Refused(refusal)) => return alarm::refused(refusal, lang),
        Err(DrillError::Socket(error)) => return alarm::no_gateway(&state, &error, lang),
    };
    let report = report(key, &findings, lang);
    let written = match out {
        None => say(report.trim_end()),
        Some(file) => match std::fs::write(&file, report) {
            Ok(()) => 0,
            Err(error) => {
                complain(&format!("{}: {error}", file.display()));
                FAILED
            }
        },
    };
    if findings.iter().all(Finding::passed) { written } else { FAILED }
}

fn report(key: &str, findings: &[Finding], lang: Lang) -> String {
    let at = Clock::real().now().utc.format("%Y-%m-%d %H:%M:%SZ").to_string();
    let (name, then) = (format!("cli.drill.{key}"), format!("cli.drill.after_{key}"));
    let mut lines = vec![format!("# {}", text(lang, &name)), String::new(), at, String::new()];
    lines.push(format!("| {} |", text(lang, "cli.drill.columns")));
    lines.push("|---|---|---|---|".to_owned());
    for finding in findings {
        let seconds = |span: std::time::Duration| format!("{:.1} s", span.as_secs_f64());
        let after = finding.after.map_or("–".to_owned(), seconds);
        let verdict = if finding.passed() { "cli.drill.passed" } else { "cli.drill.failed" };
        let key = format!("cli.drill.{}", finding.what);
        let what = text(lang, &key);
        let bound = seconds(finding.bound);
        lines.push(format!("| {what} | {after} | {bound} | {} |", text(lang, verdict)));
    }
    lines.push(String::new());
    lines.push(text(lang, &then).to_owned());
    lines.join("\n") + "\n"
}
