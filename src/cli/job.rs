//! `wattgate job`: asks for jobs and shows them, at the control socket of the gateway on this machine;
//! and the warden, which the gateway starts for itself.

use super::arguments::{Format, Jobs, Place};
use super::{FAILED, USAGE, alarm, complain, outcome, say};
use crate::app::desk::{self, Answer, Request};
use crate::io::workers;
use crate::logic::decision::{JobView, Overview};
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
pub fn warden(cores: f64, program: Vec<String>) -> u8 {
    let mut words = program.into_iter();
    let Some(program) = words.next() else { return USAGE };
    let arguments: Vec<String> = words.collect();
    let done =
        workers::guard(program.as_ref(), &arguments, cores, (std::io::stdin(), std::io::stdout()));
    outcome(done.map_err(|error| error.to_string()))
}

fn ask(place: &Place, request: &Request, lang: Lang) -> Result<Answer, u8> {
    let state = alarm::state(place, lang)?;
    desk::ask(&state, request).map_err(|error| alarm::no_gateway(&state, &error, lang))
}

fn order(place: &Place, wish: JobWish, lang: Lang) -> u8 {
    match ask(place, &Request::Job(wish), lang) {
        Ok(Answer::Ordered(job)) => say(job.as_str()),
        Ok(Answer::NotAllowed(why)) => {
            complain(&fill(lang, "cli.job.not_allowed", &[("why", why)]));
            FAILED
        }
        Ok(Answer::Refused(refusal)) => alarm::refused(refusal, lang),
        Ok(_) => FAILED,
        Err(code) => code,
    }
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
        let all = serde_json::json!({"jobs": jobs, "budget": overview.job_budget});
        return say(&all.to_string());
    }
    say(&table(&jobs, &overview, lang))
}

fn table(jobs: &[&JobView], overview: &Overview, lang: Lang) -> String {
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
            ("deadline", job.deadline.format("%Y-%m-%d %H:%MZ").to_string()),
        ];
        lines.push(fill(lang, "cli.job.line", &values));
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
    lines.join("\n")
}
