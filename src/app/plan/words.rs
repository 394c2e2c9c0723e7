//! What there is to say about a plan, in the reader's language. Owns the choice of text keys; the words
//! are in `texts`.

use super::Planned;
use super::schedule::gap_pct;
use crate::logic::energy::plan::{FaultKind, Limit, Member, Place};
use crate::texts::{Lang, fill, text};

/// More lines than this of one kind are counted instead.
const MOST_LINES: usize = 20;

fn number(value: f64) -> String {
    format!("{value:.3}")
}

fn member(done: &Planned, member: Member) -> String {
    let name = match member {
        Member::Session(i) => done.scenario.cars.get(i),
        Member::Job(i) => done.scenario.jobs.get(i),
    };
    name.cloned().unwrap_or_default()
}

fn fault(done: &Planned, lang: Lang, place: Place, kind: FaultKind) -> String {
    let place = match place {
        Place::Load(load) => member(done, load),
        Place::Store => "battery".to_owned(),
        Place::Group(i) => done.scenario.groups.get(i).cloned().unwrap_or_default(),
        Place::Site(name) => name.to_owned(),
    };
    let (key, kwh) = match kind {
        FaultKind::BadNumber => ("cli.plan.bad_number", 0.0),
        FaultKind::NoWindow => ("cli.plan.no_window", 0.0),
        FaultKind::NeedTooLarge { most_kwh } => ("cli.plan.need_too_large", most_kwh),
        FaultKind::NeedTooSmall { least_kwh } => ("cli.plan.need_too_small", least_kwh),
        FaultKind::MinAboveMax => ("cli.plan.min_above_max", 0.0),
        FaultKind::NoPhase => ("cli.plan.no_phase", 0.0),
        FaultKind::UnknownMember => ("cli.plan.unknown_member", 0.0),
        FaultKind::EndOutOfReach => ("cli.plan.end_out_of_reach", 0.0),
    };
    let values = [("place", place), ("kwh", number(kwh))];
    // Not every text has a place for the energy.
    fill(lang, key, &values)
}

fn limit(done: &Planned, lang: Lang, limit: Limit) -> String {
    let (key, name, steps) = match limit {
        Limit::Stay => ("cli.plan.limit_stay", String::new(), 0),
        Limit::LeastPower => ("cli.plan.limit_least", String::new(), 0),
        Limit::Import { steps } => ("cli.plan.limit_import", String::new(), steps),
        Limit::Phase { phase, steps } => ("cli.plan.limit_phase", format!("L{}", phase + 1), steps),
        Limit::Group { group, steps } => {
            let name = done.scenario.groups.get(group).cloned().unwrap_or_default();
            ("cli.plan.limit_group", name, steps)
        }
    };
    fill(lang, key, &[("name", name), ("steps", steps.to_string())])
}

fn cut(lines: Vec<String>, lang: Lang) -> Vec<String> {
    let more = lines.len().saturating_sub(MOST_LINES);
    let mut shown: Vec<String> = lines.into_iter().take(MOST_LINES).collect();
    if more > 0 {
        shown.push(fill(lang, "cli.plan.more", &[("count", more.to_string())]));
    }
    shown
}

/// One line with the result, then what could not be planned and who is short, and why.
#[must_use]
pub fn remarks(done: &Planned, lang: Lang) -> Vec<String> {
    let plan = &done.plan;
    let values = [
        ("cost", number(plan.cost)),
        ("short", number(plan.unserved_kwh)),
        ("gap", number(gap_pct(plan))),
        ("ms", format!("{:.1}", done.solve_ms)),
    ];
    let mut lines = vec![fill(lang, "cli.plan.done", &values)];
    if plan.overload_kwh > 1e-3 {
        let values = [("kwh", number(plan.overload_kwh))];
        lines.push(fill(lang, "cli.plan.overload", &values));
    }
    if !plan.finished {
        lines.push(text(lang, "cli.plan.stopped").to_owned());
    }
    let unread = done.scenario.unread.iter();
    let mut faults: Vec<String> =
        unread.map(|at| fill(lang, "cli.plan.unread", &[("place", at.clone())])).collect();
    faults.extend(plan.faults.iter().map(|f| fault(done, lang, f.place, f.kind)));
    lines.extend(cut(faults, lang));
    let short = plan.bottlenecks.iter().map(|b| {
        let values = [
            ("place", member(done, b.member)),
            ("kwh", number(b.short_kwh)),
            ("limit", limit(done, lang, b.limit)),
        ];
        fill(lang, "cli.plan.short", &values)
    });
    lines.extend(cut(short.collect(), lang));
    lines
}
