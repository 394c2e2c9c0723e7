//! `wattgate device`: one device looked at by a person, and the write test.

use std::io::{self, BufRead, Write};
use std::path::Path;
use std::time::Duration;

use serde_json::json;

use super::arguments::{Devices, Format, Which};
use super::profile::refuse;
use super::{FAILED, NOT_PERMITTED, OUT_OF_REACH, USAGE, complain, outcome, say, tick};
use crate::app::installer::{self, profile_named};
use crate::app::write_test::{self, Plan, Refused};
use crate::config::{self, Address, Config, DeviceConfig};
use crate::io::modbus::{Inspector, Raw, Seen};
use crate::texts::{Lang, fill, text};

/// Does it; the exit code.
pub fn run(action: Devices, lang: Lang) -> u8 {
    match action {
        Devices::Read { which, format } => watch(&which, (Some(1), format), lang),
        Devices::Watch { which, count, format } => watch(&which, (count, format), lang),
        Devices::Write { device, config, state, test: _, value, hold_s } => {
            let loaded = config::load(&config);
            match loaded {
                Ok((mut config, _)) => {
                    if let Some(state) = state {
                        config.state = state;
                    }
                    write(&config, &device, (value, Duration::from_secs(hold_s)), lang)
                }
                Err(report) => refuse(&report, lang),
            }
        }
    }
}

/// Writes of each register since ever, zero-based.
type Counts = Vec<(u16, u64)>;

/// The inspector of the device that is meant, and what the gateway has written to it so far.
fn inspector(which: &Which, lang: Lang) -> Result<(Inspector, Counts), u8> {
    if let Some(name) = &which.profile {
        let profile = profile_named(name).map_err(|report| refuse(&report, lang))?;
        let written = which.address.clone().unwrap_or_default();
        let address = config::address_of(&written).ok_or_else(|| {
            complain(&fill(lang, "WG0013", &[("address", written)]));
            USAGE
        })?;
        let unit = which.unit.unwrap_or(profile.unit);
        return Ok((Inspector::new(address, profile, unit), Counts::new()));
    }
    let file = which.config.as_deref().unwrap_or(Path::new(""));
    let (config, _) = config::load(file).map_err(|report| refuse(&report, lang))?;
    let id = which.device.as_deref().unwrap_or_default();
    let device = find(&config, id, lang)?.clone();
    alone(&config, &device, which.beside_gateway, lang)?;
    let unit = which.unit.unwrap_or(device.unit);
    let counted = installer::writes_of(&config.state, id);
    let inspector = Inspector::new(device.address, device.profile, unit);
    Ok((inspector.known_by(config.fieldbus.identity.as_ref()), counted))
}

/// No line is opened that a running gateway holds: a device of one client would cut it off, and on a serial line
/// both would hear the other's answers.
fn alone(config: &Config, device: &DeviceConfig, beside: bool, lang: Lang) -> Result<(), u8> {
    let serial = matches!(device.address, Address::Serial(_));
    if !installer::is_running(&config.state) || (beside && !serial) {
        return Ok(());
    }
    let key = if serial { "cli.device.held" } else { "cli.device.one_client" };
    let values = [("state", config.state.display().to_string()), ("id", device.id.to_string())];
    complain(&fill(lang, key, &values));
    Err(NOT_PERMITTED)
}

fn find<'c>(config: &'c Config, id: &str, lang: Lang) -> Result<&'c DeviceConfig, u8> {
    config.devices.iter().find(|device| device.id.as_str() == id).ok_or_else(|| {
        let known: Vec<&str> = config.devices.iter().map(|device| device.id.as_str()).collect();
        let values = [("id", id.to_owned()), ("known", known.join(", "))];
        complain(&fill(lang, "cli.device.unknown", &values));
        FAILED
    })
}

fn watch(which: &Which, (count, format): (Option<u32>, Format), lang: Lang) -> u8 {
    let (mut inspector, counted) = match inspector(which, lang) {
        Ok(both) => both,
        Err(code) => return code,
    };
    let done = installer::wait_for(async {
        let mut left = count;
        loop {
            let seen = tokio::select! {
                seen = inspector.look() => seen,
                _ = tokio::signal::ctrl_c() => return 0,
            };
            match seen {
                Ok(seen) => print(&seen, &counted, format, lang),
                Err(error) => {
                    complain(&format!("wattgate: {error}"));
                    if left.is_some() {
                        return OUT_OF_REACH;
                    }
                }
            }
            left = left.map(|left| left.saturating_sub(1));
            if left == Some(0) {
                return 0;
            }
            tokio::select! {
                () = tokio::time::sleep(Duration::from_secs(1)) => {}
                _ = tokio::signal::ctrl_c() => return 0,
            }
        }
    });
    done.unwrap_or_else(|error| outcome(Err(error.to_string())))
}

fn print(seen: &[Seen], counted: &Counts, format: Format, lang: Lang) {
    let at = installer::stamp();
    let table = |seen: &Seen| seen.table.name();
    let raw = |seen: &Seen| {
        seen.words.iter().map(|word| format!("{word:04X}")).collect::<Vec<_>>().join(" ")
    };
    if format == Format::Json {
        let entry = |s: &Seen| {
            let value = match &s.value {
                Ok(Some(Raw::Number(number))) => json!(number),
                Ok(Some(Raw::Text(text))) => json!(text),
                Ok(None) | Err(_) => serde_json::Value::Null,
            };
            json!({"ts": at, "quantity": s.quantity, "value": value, "why": s.value.as_ref().err(), "table": table(s), "address": s.address, "raw": raw(s), "latency_ms": s.latency.as_secs_f64() * 1000.0, "age_ms": s.age().as_secs_f64() * 1000.0})
        };
        let writes = |(address, count): &(u16, u64)| json!({"ts": at, "quantity": "writes", "value": count, "table": "holding", "address": address});
        let all = seen.iter().map(entry).chain(counted.iter().map(writes));
        say(&serde_json::Value::from_iter(all).to_string());
        return;
    }
    let line = |s: &Seen| {
        let value = match &s.value {
            Ok(Some(Raw::Number(number))) => format!("{number:.3}"),
            Ok(Some(Raw::Text(text))) => text.clone(),
            Ok(None) => text(lang, "cli.device.not_there").to_owned(),
            Err(why) => format!("✗ {why}"),
        };
        let ms = s.latency.as_secs_f64() * 1000.0;
        let place = format!("{} {}", table(s), s.address);
        let age = [("age", format!("{:.1}", s.age().as_secs_f64()))];
        let age = fill(lang, "cli.device.age", &age);
        format!("{:16} {value:>16}   {place:15} {:24} {ms:6.1} ms  {age}", s.quantity, raw(s))
    };
    let writes = |(address, count): &(u16, u64)| {
        let values = [("address", address.to_string()), ("count", count.to_string())];
        fill(lang, "cli.device.writes", &values)
    };
    let lines = std::iter::once(at.clone()).chain(seen.iter().map(line));
    say(&lines.chain(counted.iter().map(writes)).collect::<Vec<_>>().join("\n"));
}

fn write(config: &Config, id: &str, (value, hold): (Option<f64>, Duration), lang: Lang) -> u8 {
    let device = match find(config, id, lang) {
        Ok(device) => device,
        Err(code) => return code,
    };
    let confirm = |plan: &Plan| {
        say(&fill(
            lang,
            "cli.write.plan",
            &[
                ("id", plan.device.clone()),
                ("address", plan.address.to_string()),
                ("function", plan.function.to_string()),
                ("old", format!("{:.2}", plan.old)),
                ("new", format!("{:.2}", plan.new)),
                ("unit", plan.unit.to_owned()),
            ],
        ));
        say(&fill(lang, "cli.write.type_name", &[("id", plan.device.clone())]));
        let _ = io::stdout().flush();
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line).is_ok() && line.trim() == plan.device
    };
    let done = installer::wait_for(write_test::run(config, device, (value, hold), confirm));
    let report = match done {
        Ok(Ok(report)) => report,
        Ok(Err(refused)) => {
            let cause = [("cause", refused.cause())];
            complain(&fill(lang, &format!("cli.write.{}", refused.code()), &cause));
            return match refused {
                Refused::OutOfReach(_) => OUT_OF_REACH,
                _ => NOT_PERMITTED,
            };
        }
        Err(error) => return outcome(Err(error.to_string())),
    };
    let ms = format!("{:.0}", report.took.as_secs_f64() * 1000.0);
    let amps = |amps: Option<[f64; 3]>| {
        amps.map_or("-".to_owned(), |[a, b, c]| format!("{a:.1} / {b:.1} / {c:.1} A"))
    };
    let lines = [
        tick(report.obeyed, lang, "cli.write.read_back", &[("ms", ms)]),
        format!(
            "  {}",
            fill(
                lang,
                "cli.write.meter",
                &[("before", amps(report.meter_before)), ("after", amps(report.meter_after)),]
            )
        ),
        tick(report.restored, lang, "cli.write.restored", &[]),
        format!("  {}", fill(lang, "cli.write.count", &[("count", report.writes.to_string())])),
    ];
    say(&lines.join("\n"));
    if report.obeyed && report.restored { 0 } else { FAILED }
}
