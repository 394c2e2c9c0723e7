//! `wattgate profile`: lists, shows, checks and tries register maps, and makes them from tables.

use std::path::Path;

use serde_json::json;

use super::arguments::{Format, Profiles};
use super::{CONFIGURATION, FAILED, OUT_OF_REACH, complain, outcome, say};
use crate::app::installer::{self, profile_named};
use crate::config::{self, Profile};
use crate::io::modbus::{Inspector, Verdict};
use crate::texts::{Lang, fill, text};

/// Does it; the exit code.
pub fn run(action: Profiles, lang: Lang) -> u8 {
    match action {
        Profiles::List { config, format } => list(config.as_deref(), format == Format::Json, lang),
        Profiles::Show { profile, format } => match profile_named(&profile) {
            Ok(profile) => show(&profile, format == Format::Json, lang),
            Err(report) => refuse(&report, lang),
        },
        Profiles::Lint { files } => lint(&files, lang),
        Profiles::Test { profile, address, unit, format } => match profile_named(&profile) {
            Ok(profile) => try_on(profile, (&address, unit), format == Format::Json, lang),
            Err(report) => refuse(&report, lang),
        },
        Profiles::ImportCsv { file, id, kind, name, source } => {
            import(&file, &installer::Head { id, kind, name, source }, lang)
        }
        Profiles::Schema => say(&format!("{:#}", config::profile_schema())),
    }
}

/// Says why a file cannot be used.
pub fn refuse(report: &config::Report, lang: Lang) -> u8 {
    complain(report.render(lang).trim_end());
    CONFIGURATION
}

fn list(site: Option<&Path>, as_json: bool, lang: Lang) -> u8 {
    let folder = site.and_then(Path::parent).unwrap_or(Path::new("."));
    let (profiles, broken) = match site {
        Some(_) => config::profiles_beside(folder),
        None => (config::builtin_profiles(), Vec::new()),
    };
    broken.iter().for_each(|report| complain(report.render(lang).trim_end()));
    if as_json {
        let entry = |p: &Profile| json!({"id": p.id, "kind": p.kind, "name": p.name, "confidence": p.confidence, "source": p.source, "capabilities": p.capabilities()});
        return say(&serde_json::Value::from_iter(profiles.values().map(entry)).to_string());
    }
    let line = |p: &Profile| {
        let can = p.capabilities().join(" ");
        let kind = p.kind.name();
        format!("{:22} {kind:15} {:10} {can:18} {}", p.id, p.confidence, p.name)
    };
    say(&profiles.values().map(line).collect::<Vec<_>>().join("\n"))
}

fn show(profile: &Profile, as_json: bool, lang: Lang) -> u8 {
    if as_json {
        return outcome_of(serde_json::to_string_pretty(profile));
    }
    let mut lines = vec![
        format!("{}  {} ({})", profile.id, profile.name, profile.kind.name()),
        fill(
            lang,
            "cli.profile.source",
            &[("source", profile.source.clone()), ("confidence", profile.confidence.clone())],
        ),
    ];
    for point in &profile.points {
        let place = format!("{0} {1} (0x{1:04X})", point.table.name(), point.address);
        let form = format!("{} {}", point.value_type.name(), point.order.name());
        let scale = point.scale_at.map_or(String::new(), |at| format!(" · 10^[{at}]"));
        let scale = format!("× {}{scale}", point.scale);
        lines.push(format!("  {:16} {place:24} {form:11} {scale}", point.quantity));
    }
    lines.push(fill(
        lang,
        "cli.profile.reads",
        &[
            ("count", crate::io::modbus::requests(profile).to_string()),
            ("most", profile.max_registers.to_string()),
        ],
    ));
    if let Some(setpoint) = &profile.setpoint {
        let fed = serde_json::to_value(setpoint.fed_by).ok();
        let fed = fed.as_ref().and_then(|fed| fed.as_str()).unwrap_or_default().to_owned();
        lines.push(fill(
            lang,
            "cli.profile.setpoint",
            &[
                ("address", setpoint.address.to_string()),
                ("function", setpoint.function.to_string()),
                ("expires", setpoint.expires_s.map_or("-".to_owned(), |s| s.to_string())),
                ("fed", fed),
            ],
        ));
    }
    say(&lines.join("\n"))
}

fn outcome_of(made: Result<String, serde_json::Error>) -> u8 {
    match made {
        Ok(text) => say(&text),
        Err(error) => outcome(Err(error.to_string())),
    }
}

fn lint(files: &[std::path::PathBuf], lang: Lang) -> u8 {
    let mut code = 0;
    for file in files {
        match config::profile_file(file) {
            Ok(profile) => {
                let values = [("file", file.display().to_string()), ("id", profile.id)];
                say(&fill(lang, "cli.profile.sound", &values));
            }
            Err(report) => code = refuse(&report, lang),
        }
    }
    code
}

fn try_on(profile: Profile, (address, unit): (&str, Option<u8>), as_json: bool, lang: Lang) -> u8 {
    let Some(place) = config::address_of(address) else {
        let values = [("address", address.to_owned())];
        complain(&fill(lang, "WG0013", &values));
        return super::USAGE;
    };
    if profile.kind.is_walked() {
        complain(text(lang, "cli.profile.walked"));
        return FAILED;
    }
    let unit = unit.unwrap_or(profile.unit);
    let id = profile.id.clone();
    let mut inspector = Inspector::new(place, profile, unit);
    match installer::wait_for(inspector.try_on()) {
        Ok(Ok(verdict)) => tell(&verdict, &id, as_json, lang),
        Ok(Err(error)) => {
            // Who cannot be connected to is named in the error itself.
            let named = error.to_string().contains(address);
            let place = if named { String::new() } else { format!("{address}: ") };
            complain(&format!("wattgate: {place}{error}"));
            OUT_OF_REACH
        }
        Err(error) => outcome(Err(error.to_string())),
    }
}

fn tell(verdict: &Verdict, id: &str, as_json: bool, lang: Lang) -> u8 {
    let own = &verdict.as_written;
    let code = if verdict.fits() { 0 } else { FAILED };
    if as_json {
        let way = |h: &crate::io::modbus::Hypothesis| json!({"order": h.order.name(), "address_shift": h.shift, "held": h.held, "checks": h.checks, "wrong": h.wrong});
        let better = verdict.better.as_ref().map(way);
        say(&json!({"profile": id, "fits": verdict.fits(), "as_written": way(own), "better": better}).to_string());
        return code;
    }
    let counts = [("held", own.held.to_string()), ("checks", own.checks.to_string())];
    if verdict.fits() {
        say(&fill(lang, "cli.profile.fits", &counts));
        return code;
    }
    say(&fill(
        lang,
        "cli.profile.misfits",
        &[
            ("held", own.held.to_string()),
            ("checks", own.checks.to_string()),
            ("wrong", own.wrong.join(", ")),
        ],
    ));
    match &verdict.better {
        Some(better) => {
            let mut hints = Vec::new();
            if better.order != own.order {
                hints.push(format!("order = \"{}\"", better.order.name()));
            }
            if better.shift != 0 {
                hints.push(match better.shift {
                    -1 => "address_base = 1".to_owned(),
                    _ => text(lang, "cli.profile.one_more").to_owned(),
                });
            }
            say(&fill(
                lang,
                "cli.profile.better",
                &[
                    ("hint", hints.join(", ")),
                    ("held", better.held.to_string()),
                    ("checks", better.checks.to_string()),
                ],
            ));
        }
        None => _ = say(text(lang, "cli.profile.no_better")),
    }
    code
}

fn import(file: &Path, head: &installer::Head, lang: Lang) -> u8 {
    let table = match std::fs::read_to_string(file) {
        Ok(table) => table,
        Err(error) => return outcome(Err(format!("{}: {error}", file.display()))),
    };
    let made = match installer::profile_from_csv(&table, head) {
        Ok(made) => made,
        Err(installer::CsvFault { line, code, value }) => {
            let values = [
                ("file", file.display().to_string()),
                ("line", line.to_string()),
                ("value", value),
            ];
            complain(&fill(lang, code, &values));
            return CONFIGURATION;
        }
    };
    say(made.trim_end());
    // What the table cannot say is asked for at once, with places in what was printed.
    let mut faults = Vec::new();
    if config::read_profile(&made, &mut faults).is_none() {
        let file = format!("{}.toml", head.id).into();
        let report = config::Report { file, text: made, faults, parts: Vec::new() };
        complain(report.render(lang).trim_end());
    }
    0
}
