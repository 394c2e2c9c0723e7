//! What an installer's tools have in common: a profile by name or file, a runtime for one question, and
//! profiles from tables.

use std::fs::TryLockError;
use std::future::Future;
use std::io;
use std::path::Path;

use super::control::LOCK;
use crate::config::{self, Profile, Report};
use crate::io::clock::Clock;
use crate::io::store::load_writes;

/// Waits for one answer on a runtime of its own.
///
/// # Errors
/// When no runtime can be made.
pub fn wait_for<T>(question: impl Future<Output = T>) -> io::Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    Ok(runtime.block_on(question))
}

/// Whether a gateway runs on this state folder. Nothing is made, and nothing is held beyond the instant of the look.
#[must_use]
pub fn is_running(state: &Path) -> bool {
    let file = std::fs::File::open(state.join(LOCK));
    file.is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// Now, for people and for JSON.
#[must_use]
pub fn stamp() -> String {
    Clock::real().now().utc.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

/// How often the gateway of this state folder wrote each register of a device, since ever, as of a minute ago;
/// zero-based addresses.
#[must_use]
pub fn writes_of(state: &Path, device: &str) -> Vec<(u16, u64)> {
    let of = |(name, count): (String, u64)| {
        let (id, address) = name.split_once('/')?;
        (id == device).then_some((address.parse().ok()?, count))
    };
    let mut all: Vec<(u16, u64)> = load_writes(state).into_iter().filter_map(of).collect();
    all.sort_unstable();
    all
}

/// A profile by its id, or from a file where the name ends in `.toml`.
///
/// # Errors
/// The report about the file, or that there is no such profile.
pub fn profile_named(name: &str) -> Result<Profile, Report> {
    if name.ends_with(".toml") {
        return config::profile_file(Path::new(name));
    }
    config::builtin_profiles().remove(name).ok_or_else(|| config::no_such_profile(name))
}

/// What a table does not say.
#[derive(Clone, Debug)]
pub struct Head {
    /// Id of the profile.
    pub id: String,
    /// Its kind.
    pub kind: String,
    /// Maker and model.
    pub name: String,
    /// Where the table comes from.
    pub source: String,
}

/// What is wrong with a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CsvFault {
    /// Line, from 1.
    pub line: usize,
    /// Key of its text.
    pub code: &'static str,
    /// What was found there.
    pub value: String,
}

/// Columns that become keys of a point: name, and whether its value is a text.
const COLUMNS: [(&str, bool); 16] = [
    ("quantity", true),
    ("table", true),
    ("address", false),
    ("type", true),
    ("words", false),
    ("order", true),
    ("shift", false),
    ("mask", false),
    ("scale", false),
    ("unit", true),
    ("invert", false),
    ("scale_at", false),
    ("none", false),
    ("min", false),
    ("max", false),
    ("rate", false),
];

/// The text of a profile made from a table with a head row.
///
/// # Errors
/// The first line that cannot be understood.
pub fn profile_from_csv(table: &str, head: &Head) -> Result<String, CsvFault> {
    let mut rows = table.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let fault =
        |line: usize, code, value: &str| CsvFault { line: line + 1, code, value: value.to_owned() };
    let (_, names) = rows.next().ok_or_else(|| fault(0, "cli.csv.empty", ""))?;
    let divider = if names.contains(';') { ';' } else { ',' };
    let mut columns = Vec::new();
    for name in cells(names, divider) {
        let known = COLUMNS.iter().find(|(known, _)| *known == name);
        columns.push(*known.ok_or_else(|| fault(0, "cli.csv.column", &name))?);
    }
    let quote = |text: &str| toml_edit::Value::from(text).to_string().trim().to_owned();
    let mut points = String::new();
    for (line, row) in rows {
        let values = cells(row, divider);
        if values.len() > columns.len() {
            return Err(fault(line, "cli.csv.long", row));
        }
        let mut keys = Vec::new();
        for ((name, is_text), value) in columns.iter().zip(&values) {
            if value.is_empty() {
                continue;
            }
            let list = if *name == "none" { format!("[{value}]") } else { value.clone() };
            let written = if *is_text { quote(value) } else { list };
            let sound = written.parse::<toml_edit::Value>().is_ok();
            if !sound {
                return Err(fault(line, "cli.csv.value", value));
            }
            keys.push(format!("{name} = {written}"));
        }
        points += &format!("  {{ {} }},\n", keys.join(", "));
    }
    Ok(format!(
        "id = {}\nkind = {}\nname = {}\nsource = {}\nconfidence = \"unverified\"\n\npoints = [\n{points}]\n",
        quote(&head.id),
        quote(&head.kind),
        quote(&head.name),
        quote(&head.source)
    ))
}

/// The cells of a row; a cell in quotes may hold the divider, and "" for a quote.
fn cells(row: &str, divider: char) -> Vec<String> {
    let (mut all, mut cell, mut quoted) = (Vec::new(), String::new(), false);
    let mut letters = row.trim_end_matches('\r').chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => {
                letters.next();
                cell.push('"');
            }
            '"' => quoted = !quoted,
            letter if letter == divider && !quoted => {
                all.push(std::mem::take(&mut cell).trim().to_owned());
            }
            letter => cell.push(letter),
        }
    }
    all.push(cell.trim().to_owned());
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> Head {
        let text = str::to_owned;
        Head { id: text("m1"), kind: text("meter"), name: text("M \"1\""), source: text("a PDF") }
    }

    #[test]
    fn a_table_becomes_a_profile_that_reads() {
        let table = "quantity;address;type;scale;unit\r\n\
            voltage_l1_v;0x00;u16;0.1;V\r\ncurrent_l1_a;1;u16;;mA\r\npower_w;2;\"i32\";;\r\n";
        let made =
            profile_from_csv(table, &head()).unwrap().replace("points", "phases = 1\npoints");
        let mut faults = Vec::new();
        let profile = config::read_profile(&made, &mut faults);
        let profile = profile.unwrap_or_else(|| panic!("{faults:?}\n{made}"));
        assert_eq!(profile.name, "M \"1\"");
        assert_eq!(profile.points.len(), 3);
        assert_eq!(profile.points[1].scale, 0.001);
    }

    #[test]
    fn a_bad_table_is_told_with_its_line() {
        let fault = |table: &str| profile_from_csv(table, &head()).unwrap_err();
        assert_eq!(fault("").code, "cli.csv.empty");
        assert_eq!(fault("quantity,register\n").value, "register");
        let value = fault("quantity,address\n\npower_w,twelve\n");
        assert_eq!((value.line, value.code), (3, "cli.csv.value"));
        assert_eq!(fault("quantity\npower_w,2\n").code, "cli.csv.long");
    }
}
