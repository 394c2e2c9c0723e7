//! `wattgate job`: asks for jobs and shows them, at the control socket of the gateway on this machine;
//! and the warden, which the gateway starts for itself.

use std::path::PathBuf;

use chrono::{DateTime, Utc};

use super::arguments::{Format, Jobs, Place};
use super::{FAILED, USAGE, alarm, complain, outcome, say};
use crate::app::builtin;
use crate::app::desk::{self, Answer, Request};
use crate::io::workers;
use crate::logic::compute::{Taken, TooLong};
use crate::logic::decision::{EnergyView, JobView, Overview};
use crate::logic::site::{JobWish, SubmissionWords};
use crate::texts::{Lang, fill, text};

/// Asks and prints; the exit code.
pub fn run(action: Jobs, lang: Lang) -> u8 {
    match action {
        Jobs::List { place, format } => list(&place, None, format, lang),
        Jobs::Show { job, place, format } => list(&place, Some(&job), format, lang),
        Jobs::Submit { workload, parameters, within_h, priority, place } => {
            let mut words = SubmissionWords { within_h, priority, ..SubmissionWords::default() };
            for pair in parameters {
                let Some((name, value)) = pair.split_once('=') else {
                    complain(&fill(lang, "cli.job.name_value", &[("text", pair)]));
                    return USAGE;
                };
                words.parameters.insert(name.to_owned(), value.into());
            }
            order(&place, JobWish::Submit { workload, words }, lang)
        }
        Jobs::Pause { job, place } => order(&place, JobWish::Pause(job), lang),
        Jobs::Resume { job, place } => order(&place, JobWish::Resume(job), lang),
        Jobs::Cancel { job, place } => order(&place, JobWish::Cancel(job), lang),
    }
}

/// Guards a program until it ends, or the gateway does.
pub fn warden((cores, groups): (f64, Option<PathBuf>), program: Vec<String>) -> u8 {
    let mut words = program.into_iter();
    let Some(program) = words.next() else { return USAGE };
    let arguments: Vec<String> = words.collect();
    let hold = workers::Hold { cores, groups: groups.as_deref() };
    let done =
        workers::guard(program.as_ref(), &arguments, hold, (std::io::stdin(), std::io::stdout()));
    outcome(done.map_err(|error| error.to_string()))
}

/// Does a built-in workload; what came of it, or why it was not done.
pub fn built_in(options: &builtin::Options) -> u8 {
    match builtin::run(options) {
        Ok(done) => say(&done),
        Err(error) => outcome(Err(error.to_string())),
    }
}

fn ask(place: &Place, request: &Request, lang: Lang) -> Result<Answer, u8> {
    let state = alarm::state(place, lang)?;
    desk::ask(&state, request).map_err(|error| alarm::no_gateway(&state, &error, lang))
}

fn order(place: &Place, wish: JobWish, lang: Lang) -> u8 {
    match ask(place, &Request::Job(wish), lang) {
        Ok(Answer::Ordered(Taken { job, too_long })) => {
            // To the other stream: a script reads the job's name.
            too_long.iter().for_each(|late| complain(&cannot_be_in_time(late, lang)));
            say(job.as_str())
        }
        Ok(Answer::NotAllowed(why)) => {
            complain(&fill(lang, "cli.job.not_allowed", &[("why", why)]));
            FAILED
        }
        Ok(Answer::Refused(refusal)) => alarm::refused(refusal, lang),
        Ok(_) => FAILED,
        Err(code) => code,
    }
}

fn cannot_be_in_time(late: &TooLong, lang: Lang) -> String {
    let values = [
        ("takes", format!("{:.1}", late.takes_h)),
        ("late", format!("{:.1}", late.late_h)),
        ("due", stamp(late.due)),
    ];
    fill(lang, "cli.job.too_long", &values)
}

fn stamp(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%MZ").to_string()
}

fn list(place: &Place, only: Option<&String>, format: Format, lang: Lang) -> u8 {
    let overview = match ask(place, &Request::Overview, lang) {
        Ok(Answer::Overview(overview)) => overview,
        Ok(Answer::Refused(refusal)) => return alarm::refused(refusal, lang),
        Ok(_) => return FAILED,
        Err(code) => return code,
    };
    let mine = |job: &&JobView| only.is_none_or(|only| job.id.as_str() == only);
    let jobs: Vec<&JobView> = overview.jobs.iter().filter(mine).collect();
    if let (Some(job), true) = (only, jobs.is_empty()) {
        complain(&fill(lang, "cli.job.unknown", &[("job", job.clone())]));
        return FAILED;
    }
    if format == Format::Json {
        let (budget, ledger) = (&overview.job_budget, &overview.ledger);
        let all = serde_json::json!({"jobs": jobs, "budget": budget, "ledger": ledger});
        return say(&all.to_string());
    }
    say(&table(&jobs, &overview, only.is_none(), lang))
}

fn table(jobs: &[&JobView], overview: &Overview, all: bool, lang: Lang) -> String {
    let mut lines = Vec::new();
    for job in jobs {
        let word = |value: serde_json::Value| value.as_str().unwrap_or("-").to_owned();
        let values = [
            ("id", job.id.to_string()),
            ("workload", job.workload.to_string()),
            ("state", word(serde_json::json!(job.state))),
            ("why", text(lang, &format!("job.{}", job.why)).to_owned()),
            ("power", format!("{:.1}", job.power_w)),
            ("wh", format!("{:.3}", job.energy_wh)),
            ("joules", format!("{:.0}", job.joules)),
            ("method", word(serde_json::json!(job.method))),
            ("hour", format!("{:.3}", job.hour_wh)),
            ("day", format!("{:.3}", job.day_wh)),
            ("held", held(job, lang)),
            ("deadline", stamp(job.deadline)),
        ];
        lines.push(fill(lang, "cli.job.line", &values));
        let due = job.due.map(|due| fill(lang, "cli.job.late", &[("due", stamp(due))]));
        lines.extend(due);
        lines.extend(job.trouble.iter().map(|trouble| format!("    {trouble}")));
    }
    if jobs.is_empty() {
        lines.push(text(lang, "cli.job.none").to_owned());
    }
    if let Some(budget) = &overview.job_budget {
        let bound = |wh: Option<f64>| wh.map_or("-".to_owned(), |wh| format!("{wh:.0}"));
        let values = [
            ("hour", format!("{:.3}", budget.hour_wh)),
            ("per_hour", bound(budget.per_hour_wh)),
            ("day", format!("{:.3}", budget.day_wh)),
            ("per_day", bound(budget.per_day_wh)),
        ];
        lines.push(fill(lang, "cli.job.budget", &values));
    }
    if all {
        lines.extend(ledger(overview, lang));
    }
    lines.join("\n")
}

/// By what a job is held to its power.
fn held(job: &JobView, lang: Lang) -> String {
    let means = job.held_by.map(|means| serde_json::json!(means));
    let means = means.as_ref().and_then(serde_json::Value::as_str);
    means.map_or_else(|| "-".to_owned(), |means| text(lang, &format!("held.{means}")).to_owned())
}

/// What each workload and each camera has taken.
fn ledger(overview: &Overview, lang: Lang) -> Vec<String> {
    let line = |kind: &str, name: &str, energy: &EnergyView| {
        let values = [
            ("what", text(lang, kind).to_owned()),
            ("name", name.to_owned()),
            ("hour", format!("{:.3}", energy.hour_wh)),
            ("day", format!("{:.3}", energy.day_wh)),
            ("all", format!("{:.3}", energy.all_wh)),
        ];
        fill(lang, "cli.job.ledger", &values)
    };
    let workloads = overview.ledger.workloads.iter();
    let lines = workloads.map(|(id, energy)| line("cli.job.workload", id.as_str(), energy));
    let cameras = overview.ledger.cameras.iter();
    lines.chain(cameras.map(|(id, energy)| line("cli.job.camera", id.as_str(), energy))).collect()
}
