//! The report of a day: where its energy went, which jobs ended, which alarms there were; for machines as JSON,
//! for people in both languages.
//!
//! What a stranger gets wrong: the day is the site's, from midnight to midnight of the tariff's time zone, and
//! made of whole hours of UTC. Where a zone is half an hour off, so are the ends of the day. It says what was kept
//! when it was made, which is up to ten minutes old.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Days, NaiveDate, NaiveTime, TimeZone, Utc};
use chrono_tz::Tz;
use serde_json::{Value, json};

use super::{BuiltInError, Options, REPORTS, failed};
use crate::config::Config;
use crate::io::store::{look_into_books, write_whole};
use crate::logic::compute::{Job, JobBook};
use crate::logic::site::{Daybook, Happened, Id, Tally};
use crate::texts::{Lang, fill, text};

/// Files that are kept: three for each day of a quarter of a year.
const MOST_FILES: usize = 3 * 92;

/// A day of the site.
struct Day {
    date: NaiveDate,
    zone: Tz,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
}

/// Writes the report of a day; the place of it.
pub(super) fn write(config: &Config, options: &Options) -> Result<String, BuiltInError> {
    let zone = config.site.tariff.as_ref().map_or(Tz::UTC, |tariff| tariff.zone);
    let ago = match options.days_ago {
        0.0 => 0,
        1.0 => 1,
        _ => return Err(BuiltInError::NoSuchDay),
    };
    let day = Day::of(zone, options.at, ago).ok_or(BuiltInError::NoSuchDay)?;
    let (jobs, days) = look_into_books(&options.state).map_err(failed(&options.state))?;
    let folder = options.state.join(REPORTS);
    std::fs::create_dir_all(&folder).map_err(failed(&folder))?;
    let name = &config.site.name;
    let report = report((name, options.at), &day, &jobs, &days);
    let mut files = vec![(format!("{}.json", day.date), format!("{report:#}\n"))];
    for (lang, code) in [(Lang::En, "en"), (Lang::Zh, "zh")] {
        files.push((format!("{}.{code}.md", day.date), words(&report, lang)));
    }
    for (file, content) in &files {
        let place = folder.join(file);
        write_whole(&folder, file, content.as_bytes()).map_err(failed(&place))?;
    }
    forget_old(&folder);
    Ok(folder.join(&files[0].0).display().to_string())
}

impl Day {
    /// The day of the site that was so many days before `at`.
    fn of(zone: Tz, at: DateTime<Utc>, ago: u64) -> Option<Day> {
        let date = at.with_timezone(&zone).date_naive().checked_sub_days(Days::new(ago))?;
        let midnight = |date: NaiveDate| {
            // Where the clock is put forward at midnight, the day begins when there is a time again.
            let hour = |h| {
                zone.from_local_datetime(&date.and_time(NaiveTime::from_hms_opt(h, 0, 0)?))
                    .earliest()
            };
            (0..3).find_map(hour).map(|begins| begins.to_utc())
        };
        let to = midnight(date.checked_add_days(Days::new(1))?)?;
        Some(Day { date, zone, from: midnight(date)?, to })
    }

    /// Whether something that went from `since` to `until` was in the day.
    fn meets(&self, since: DateTime<Utc>, until: Option<DateTime<Utc>>) -> bool {
        since < self.to && until.is_none_or(|until| until >= self.from)
    }
}

/// All of it, as JSON.
fn report((site, made): (&str, DateTime<Utc>), day: &Day, jobs: &JobBook, days: &Daybook) -> Value {
    let wh = |tally: &Tally| round(tally.between(day.from, day.to).get());
    let of = |tallies: &BTreeMap<Id, Tally>| -> BTreeMap<String, f64> {
        tallies.iter().map(|(id, tally)| (id.to_string(), wh(tally))).collect()
    };
    let flows = days.flows.iter().map(|(flow, tally)| (flow.code().to_owned(), wh(tally)));
    let job = |job: &Job| {
        json!({
            "id": job.ask.job,
            "workload": job.ask.workload,
            "state": job.state,
            "submitted": job.submitted,
            "deadline": job.ask.deadline,
            "ended": job.ended,
            "energy_wh": round(job.used().get()),
            "joules": round(job.used().get() * 3600.0),
            "method": job.method,
            "held_by": job.held_by,
        })
    };
    let mine = jobs.jobs().iter().filter(|job| day.meets(job.submitted, job.ended));
    let alarms = days.alarms.iter().filter(|alarm| day.meets(alarm.since, alarm.until));
    json!({
        "site": site,
        "day": day.date,
        "timezone": day.zone.name(),
        "from": day.from,
        "to": day.to,
        "made": made,
        "energy_wh": flows.collect::<BTreeMap<String, f64>>(),
        "cameras_wh": of(&days.cameras),
        "workloads_wh": of(jobs.tallies()),
        "jobs": mine.map(job).collect::<Vec<Value>>(),
        "alarms": alarms.collect::<Vec<&Happened>>(),
    })
}

/// The same for people.
fn words(report: &Value, lang: Lang) -> String {
    let of = |key: &str| report[key].as_str().unwrap_or_default().to_owned();
    let title = ["site", "day"].map(|key| (key, of(key)));
    let title = [title.as_slice(), &[("zone", of("timezone"))]].concat();
    let as_of = ["from", "to", "made"].map(|key| (key, of(key)));
    let mut lines = vec![
        format!("# {}", fill(lang, "report.title", &title)),
        fill(lang, "report.as_of", &as_of),
    ];
    let mut part = |heading: &str, mut told: Vec<String>| {
        if told.is_empty() {
            told.push(text(lang, "report.none").to_owned());
        }
        lines.push(format!("\n## {}", text(lang, heading)));
        lines.append(&mut told);
    };
    let energies = |key: &str, name: fn(&str, Lang) -> String| -> Vec<String> {
        let all = report[key].as_object().into_iter().flatten();
        let line = |(id, wh): (&String, &Value)| {
            let values = [("what", name(id, lang)), ("wh", wh.to_string())];
            fill(lang, "report.line", &values)
        };
        all.map(line).collect()
    };
    let flow = |code: &str, lang| text(lang, &format!("flow.{code}")).to_owned();
    part("report.energy", energies("energy_wh", flow));
    part("report.looking", energies("cameras_wh", |id, _| id.to_owned()));
    part("report.work", energies("workloads_wh", |id, _| id.to_owned()));
    let job = |job: &Value| {
        let word = |key: &str| job[key].as_str().unwrap_or("-").to_owned();
        let mut values = ["id", "workload", "state", "method"].map(|key| (key, word(key))).to_vec();
        values.push(("wh", job["energy_wh"].to_string()));
        fill(lang, "report.job", &values)
    };
    let each = |key: &str| report[key].as_array().cloned().unwrap_or_default();
    part("report.jobs", each("jobs").iter().map(job).collect());
    let alarm = |alarm: &Value| {
        let word = |key: &str| alarm[key].as_str().unwrap_or_default().to_owned();
        let open = || text(lang, "report.open").to_owned();
        let until = alarm["until"].as_str().map_or_else(open, str::to_owned);
        let what = fill(lang, &format!("alarm.{}", word("code")), &[("about", word("about"))]);
        fill(lang, "report.alarm", &[("since", word("since")), ("until", until), ("what", what)])
    };
    part("report.alarms", each("alarms").iter().map(alarm).collect());
    lines.push(String::new());
    lines.join("\n")
}

/// Removes the oldest where there are too many; their names begin with the day, and what has another is a person's.
fn forget_old(folder: &Path) {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let ours = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.get(..10).is_some_and(|day| day.parse::<NaiveDate>().is_ok())
    };
    let mut files: Vec<_> = entries.map(|entry| entry.path()).filter(ours).collect();
    files.sort();
    for old in files.iter().take(files.len().saturating_sub(MOST_FILES)) {
        let _ = std::fs::remove_file(old);
    }
}

fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, BuiltIn};
    use crate::io::store::{write_book, write_days};
    use crate::logic::site::Flow;
    use crate::units::WattHours;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn a_day_is_the_sites_also_where_the_clock_is_changed() {
        let table = [
            (
                Tz::Asia__Shanghai,
                "2026-05-04T20:00:00Z",
                0,
                "2026-05-05",
                "2026-05-04T16:00:00Z",
                24,
            ),
            (
                Tz::Asia__Shanghai,
                "2026-05-04T20:00:00Z",
                1,
                "2026-05-04",
                "2026-05-03T16:00:00Z",
                24,
            ),
            (
                Tz::Europe__Berlin,
                "2026-10-25T12:00:00Z",
                0,
                "2026-10-25",
                "2026-10-24T22:00:00Z",
                25,
            ),
            (
                Tz::Europe__Berlin,
                "2026-03-29T12:00:00Z",
                0,
                "2026-03-29",
                "2026-03-28T23:00:00Z",
                23,
            ),
            // Midnight is left out in Beirut on the day when summer time begins.
            (Tz::Asia__Beirut, "2026-03-29T12:00:00Z", 0, "2026-03-29", "2026-03-28T22:00:00Z", 23),
        ];
        for (zone, now, ago, date, from, hours) in table {
            let day = Day::of(zone, at(now), ago).unwrap();
            assert_eq!((day.date.to_string().as_str(), day.from), (date, at(from)), "{zone} {now}");
            assert_eq!((day.to - day.from).num_hours(), hours, "{zone} {now}");
        }
    }

    #[test]
    fn the_oldest_reports_go_and_nothing_of_a_person() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        let begun = NaiveDate::from_ymd_opt(2026, 1, 1).unwrap();
        for day in begun.iter_days().take(MOST_FILES + 1) {
            std::fs::write(place(&format!("{day}.json")), "{}").unwrap();
        }
        std::fs::write(place("0-notes.txt"), "a person's").unwrap();
        forget_old(folder.path());
        assert!(place("0-notes.txt").exists());
        assert!(!place("2026-01-01.json").exists() && place("2026-01-02.json").exists());
    }

    #[test]
    fn a_report_holds_the_energy_jobs_and_alarms_of_its_day_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("site.toml");
        let site = "[site]\nid = \"s\"\nname = \"Depot\"\n[grid]\nmeter = \"grid\"\nlimit_a = 50\nbreaker_a = 63\n\
             [[device]]\nid = \"grid\"\nprofile = \"eastron-sdm630\"\naddress = \"tcp://127.0.0.1:1\"\n\
             [[workload]]\nid = \"report\"\nbuiltin = \"report\"\nenergy_wh = 0.01\nmax_w = 4\n";
        std::fs::write(&file, site).unwrap();
        let mut days = Daybook::default();
        for (when, wh) in [
            ("2026-05-03T23:59:00Z", 1.0),
            ("2026-05-04T00:00:00Z", 2.0),
            ("2026-05-04T23:59:59Z", 4.0),
            ("2026-05-05T00:00:00Z", 8.0),
        ] {
            let pv = days.flows.entry(Flow::Pv).or_default();
            pv.add(WattHours(wh), at(when));
        }
        for (about, since, until) in [
            ("early", "2026-05-03T10:00:00Z", "2026-05-03T11:00:00Z"),
            ("long", "2026-05-03T10:00:00Z", "2026-05-04T11:00:00Z"),
            ("open", "2026-05-04T12:00:00Z", "-"),
        ] {
            let (code, until) = ("device_lost".to_owned(), until.parse().ok());
            let since = at(since);
            days.alarms.push_back(Happened { code, about: about.to_owned(), since, until });
        }
        write_days(folder.path(), &days).unwrap();
        write_book(folder.path(), &JobBook::default()).unwrap();
        let mut options = Options {
            name: BuiltIn::Report,
            config: file.clone(),
            state: folder.path().to_owned(),
            models: Path::new(env!("CARGO_MANIFEST_DIR")).join("models"),
            at: at("2026-05-05T06:00:00Z"),
            days_ago: 1.0,
            camera: None,
            most: 200.0,
        };
        let place = super::super::run(&options).unwrap();
        assert_eq!(Path::new(&place), folder.path().join("reports/2026-05-04.json"));
        let told: Value = serde_json::from_str(&std::fs::read_to_string(&place).unwrap()).unwrap();
        assert_eq!(
            (told["site"].as_str(), told["energy_wh"]["pv"].as_f64()),
            (Some("Depot"), Some(6.0))
        );
        let about: Vec<&Value> =
            told["alarms"].as_array().unwrap().iter().map(|a| &a["about"]).collect();
        assert_eq!(about, ["long", "open"]);
        for (lang, sun) in [("en", "from the sun: 6.0 Wh"), ("zh", "光伏发电：6.0 Wh")] {
            let path = folder.path().join(format!("reports/2026-05-04.{lang}.md"));
            let text = std::fs::read_to_string(path).unwrap();
            assert!(text.contains(sun) && !text.contains('{'), "{text}");
            assert!(!text.contains("alarm.") && !text.contains("report."), "{text}");
        }
        options.days_ago = 2.0;
        assert!(matches!(super::super::run(&options), Err(BuiltInError::NoSuchDay)));
        std::fs::write(folder.path().join("days"), "nonsense").unwrap();
        options.days_ago = 0.0;
        let said = super::super::run(&options).unwrap_err().to_string();
        assert!(said.contains("days: the book is damaged"), "{said}");
        assert!(config::load(&file).is_ok());
    }
}
