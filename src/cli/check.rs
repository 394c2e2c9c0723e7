//! `wattgate check`: a tick list of what was checked, then every fault with its place.

use std::io::Write;
use std::path::Path;

use serde_json::json;

use super::{CONFIGURATION, tick};
use crate::config::{self, Config, Report, Severity};
use crate::logic::site::Mode;
use crate::texts::Lang;
use crate::units::{Amps, Phase};

/// Checks and prints; the exit code.
pub fn run(file: &Path, (deny_warnings, json): (bool, bool), lang: Lang) -> u8 {
    let (config, report) = match config::load(file) {
        Ok((config, report)) => (Some(config), report),
        Err(report) => (None, report),
    };
    let bad = report.has_errors() || (deny_warnings && !report.faults.is_empty());
    let text =
        if json { as_json(&report, lang, bad) } else { as_text(config.as_ref(), &report, lang) };
    let _ = write!(std::io::stdout().lock(), "{text}");
    if bad { CONFIGURATION } else { 0 }
}

fn as_json(report: &Report, lang: Lang, bad: bool) -> String {
    let fault = |fault: &config::Fault| {
        let place = report.place(fault);
        let severity = if fault.severity == Severity::Error { "error" } else { "warning" };
        json!({
            "code": fault.code,
            "severity": severity,
            "line": place.map(|p| p.0),
            "column": place.map(|p| p.1),
            "message": crate::texts::fill(lang, fault.code, &fault.values),
            "nearest": fault.nearest,
        })
    };
    let faults: Vec<_> = report.faults.iter().map(fault).collect();
    format!(
        "{}\n",
        json!({"file": report.file.display().to_string(), "ok": !bad, "faults": faults})
    )
}

/// Groups of codes, in the order of the tick list.
const GROUPS: [(&str, &[&str]); 7] = [
    (
        "cli.check.syntax",
        &["WG0001", "WG0002", "WG0003", "WG0004", "WG0005", "WG0009", "WG0010", "WG0044", "WG0045"],
    ),
    ("cli.check.names", &["WG0006", "WG0007", "WG0008"]),
    (
        "cli.check.devices",
        &[
            "WG0011", "WG0012", "WG0013", "WG0014", "WG0015", "WG0016", "WG0021", "WG0022",
            "WG0023", "WG0028", "WG0029",
        ],
    ),
    (
        "cli.check.places",
        &[
            "WG0030", "WG0031", "WG0032", "WG0033", "WG0034", "WG0132", "WG0135", "WG0137",
            "WG0138", "WG0139",
        ],
    ),
    (
        "cli.check.guard",
        &["WG0110", "WG0111", "WG0112", "WG0113", "WG0114", "WG0115", "WG0116", "WG0117", "WG0118"],
    ),
    ("cli.check.tariff", &["WG0025", "WG0026", "WG0027"]),
    ("cli.check.links", &["WG0040", "WG0041", "WG0042", "WG0043", "WG0046"]),
];

fn as_text(config: Option<&Config>, report: &Report, lang: Lang) -> String {
    let mut lines = Vec::new();
    let errors = |codes: &[&str]| {
        let of = |f: &&config::Fault| f.severity == Severity::Error && codes.contains(&f.code);
        report.faults.iter().filter(of).count()
    };
    // Where the text itself cannot be read, nothing else was checked.
    let unread = errors(&["WG0001", "WG0010"]) > 0;
    for (key, codes) in GROUPS {
        let count = errors(codes);
        if count > 0 || !unread {
            lines.push(tick(count == 0, lang, key, &[]));
        }
    }
    if let Some(config) = config {
        lines.extend(failsafe_sums(config, lang));
        let mode = match config.site.mode {
            Mode::Observe => "cli.check.observe",
            Mode::Auto => "cli.check.auto",
        };
        lines.push(tick(true, lang, mode, &[]));
    } else if errors(&["WG0020", "WG0024", "WG0047"]) > 0 {
        lines.push(tick(false, lang, "cli.check.limits", &[]));
    }
    let mut text = lines.join("\n") + "\n";
    if !report.faults.is_empty() {
        text += "\n";
        text += &report.render(lang);
    }
    text
}

/// Chargers at their failsafe plus the largest base load, against the breaker, for each phase.
fn failsafe_sums(config: &Config, lang: Lang) -> Vec<String> {
    let site = &config.site;
    let line = |phase: Phase| {
        let on_phase = site.chargers.iter().filter(|charger| charger.phases.contains(&phase));
        let chargers: Amps = on_phase.map(|charger| charger.unheard()).sum();
        let sum = chargers + site.limits.max_base_load;
        let values = [
            ("phase", phase.to_string()),
            ("chargers", chargers.get().to_string()),
            ("base", site.limits.max_base_load.get().to_string()),
            ("breaker", site.limits.breaker.get().to_string()),
        ];
        tick(sum <= site.limits.breaker, lang, "cli.check.failsafe", &values)
    };
    Phase::ALL.into_iter().map(line).collect()
}
