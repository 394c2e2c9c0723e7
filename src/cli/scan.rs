//! `wattgate scan`: rows as they come, progress beside them, ctrl-C at any time.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::time::Duration;

use tokio::sync::mpsc;

use super::arguments::{Listing, Looking, Scans};
use super::{USAGE, complain, newcomer, outcome, say};
use crate::app::installer;
use crate::config::{self, Address, Profile};
use crate::io::camera::onvif;
use crate::io::modbus::scan::{self, News, Row, Wanted};
use crate::texts::{Lang, fill, text};

/// Unit ids that are tried on a serial line unless others are named.
const FIRST_UNITS: std::ops::RangeInclusive<u8> = 1..=32;

/// Does it; the exit code.
pub fn run(action: Scans, lang: Lang) -> u8 {
    let (places, units, how) = match action {
        Scans::Onvif { wait_s, from, to, format } => {
            let wanted = onvif::Wanted { to, from, wait: Duration::from_secs(wait_s) };
            return newcomer::scan(wanted, format, lang);
        }
        Scans::Tcp { hosts, ports, units, how } => (scan::places(&hosts, &ports), units, how),
        Scans::Rtu { path, baud, frame, units, how } => {
            let units = if units.is_empty() { FIRST_UNITS.collect() } else { units };
            (lines(&path, &baud, &frame), units, how)
        }
    };
    let Some(places) = places else {
        complain(text(lang, "cli.scan.no_place"));
        return USAGE;
    };
    let (format, wanted) = (how.format, wanted(places, units, &how));
    match installer::wait_for(look(wanted, format, lang)) {
        Ok(code) => code,
        Err(error) => outcome(Err(error.to_string())),
    }
}

fn wanted(places: Vec<Address>, units: Vec<u8>, how: &Looking) -> Wanted {
    let folder = how.config.as_deref().and_then(Path::parent);
    let profiles = match folder {
        Some(folder) => config::profiles_beside(folder).0,
        None => config::builtin_profiles(),
    };
    let profiles: Vec<Profile> = profiles.into_values().collect();
    Wanted { places, units, profiles, call: Duration::from_millis(how.wait_ms) }
}

/// One address for each speed.
fn lines(path: &Path, baud: &[u32], frame: &str) -> Option<Vec<Address>> {
    let path = path.to_str()?;
    let line = |baud: &u32| config::address_of(&format!("rtu://{path}?baud={baud}&frame={frame}"));
    baud.iter().map(line).collect()
}

async fn look(wanted: Wanted, format: Listing, lang: Lang) -> u8 {
    let (send, mut news) = mpsc::channel(64);
    let scanning = tokio::spawn(scan::scan(wanted, send));
    let live = io::stderr().is_terminal();
    let mut rows = Vec::new();
    if format == Listing::Csv {
        say("address,units,identity,sunspec,profile,confidence");
    }
    loop {
        let next = tokio::select! {
            next = news.recv() => next,
            _ = tokio::signal::ctrl_c() => {
                scanning.abort();
                complain(text(lang, "cli.scan.stopped"));
                break;
            }
        };
        match next {
            None => break,
            Some(News::Found(row)) => {
                clear(live);
                match format {
                    Listing::Table => _ = say(&line(&row)),
                    Listing::Csv => _ = say(&csv(&row)),
                    Listing::Json => {}
                }
                rows.push(row);
            }
            Some(News::Progress { done, total, left }) if live => {
                let values = [
                    ("done", done.to_string()),
                    ("total", total.to_string()),
                    ("left", left.as_secs().to_string()),
                ];
                clear(live);
                let _ = write!(io::stderr(), "{}", fill(lang, "cli.scan.progress", &values));
            }
            Some(News::Progress { .. }) => {}
        }
    }
    clear(live);
    match (format, rows.is_empty()) {
        (Listing::Json, _) => say(&serde_json::json!(rows).to_string()),
        (Listing::Table, true) => say(text(lang, "cli.scan.nothing")),
        _ => 0,
    }
}

/// Takes the progress line away.
fn clear(live: bool) {
    if live {
        let _ = write!(io::stderr(), "\r\x1b[K");
    }
}

fn units(row: &Row) -> String {
    row.units.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

fn models(row: &Row) -> String {
    row.sunspec.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

fn line(row: &Row) -> String {
    let fit = |fit: &scan::Fit| format!("{} {:.0} %", fit.profile, fit.confidence * 100.0);
    let fits = row.fits.iter().map(fit).collect::<Vec<_>>().join(", ");
    let mut told = row.identity.join(" ");
    if !row.sunspec.is_empty() {
        told += &format!(" SunSpec {}", models(row));
    }
    format!("{:32} unit {:12} {fits:44} {}", row.address, units(row), told.trim())
}

fn csv(row: &Row) -> String {
    let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
    let best = row.fits.first();
    let cells = [
        quoted(&row.address),
        quoted(&units(row)),
        quoted(&row.identity.join(" ")),
        quoted(&models(row)),
        quoted(best.map_or("", |fit| fit.profile.as_str())),
        best.map_or(String::new(), |fit| format!("{:.2}", fit.confidence)),
    ];
    cells.join(",")
}
