//! What there is to say about a plan, in the reader's language. Owns the choice of text keys; the words
//! are in `texts`.

use super::Planned;
use super::schedule::legal_gap_pct;
use crate::logic::energy::plan::{Bottleneck, FaultKind, Limit, Member, Place};
use crate::texts::{Lang, fill, text};

/// More lines than this of one kind are counted instead.
const MOST_LINES: usize = 20;
/// More names than this on one line are counted instead.
const MOST_NAMES: usize = 8;

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
        FaultKind::EndOfSunOnly => ("cli.plan.end_of_sun_only", 0.0),
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

/// A limit without how often it is met.
fn because(done: &Planned, lang: Lang, limit: Limit) -> String {
    let (key, name) = match limit {
        Limit::Stay => ("cli.plan.limit_stay", String::new()),
        Limit::LeastPower => ("cli.plan.limit_least", String::new()),
        Limit::Import { .. } => ("cli.plan.because_import", String::new()),
        Limit::Phase { phase, .. } => ("cli.plan.because_phase", format!("L{}", phase + 1)),
        Limit::Group { group, .. } => {
            let name = done.scenario.groups.get(group).cloned().unwrap_or_default();
            ("cli.plan.because_group", name)
        }
    };
    fill(lang, key, &[("name", name)])
}

/// Who is short of what, and why: those that share a limit together, the largest lack first.
#[must_use]
pub fn explain(done: &Planned, lang: Lang) -> Vec<String> {
    let mut causes: Vec<(String, Vec<&Bottleneck>)> = Vec::new();
    for short in &done.plan.bottlenecks {
        let cause = because(done, lang, short.limit);
        match causes.iter_mut().find(|(known, _)| *known == cause) {
            Some((_, all)) => all.push(short),
            None => causes.push((cause, vec![short])),
        }
    }
    let lack = |all: &[&Bottleneck]| all.iter().map(|short| short.short_kwh).sum::<f64>();
    causes.sort_by(|a, b| lack(&b.1).total_cmp(&lack(&a.1)));
    let mut lines = remarks_on_all(done, lang);
    if causes.is_empty() {
        lines.push(text(lang, "cli.plan.nobody_short").to_owned());
    }
    for (cause, all) in causes {
        let from = all.iter().map(|short| short.steps.0).min().unwrap_or(0);
        let to = all.iter().map(|short| short.steps.1).max().unwrap_or(0);
        let mut names: Vec<String> =
            all.iter().take(MOST_NAMES).map(|short| member(done, short.member)).collect();
        if all.len() > MOST_NAMES {
            let more = [("count", (all.len() - MOST_NAMES).to_string())];
            names.push(fill(lang, "cli.plan.more", &more));
        }
        let values = [
            ("count", all.len().to_string()),
            ("kwh", number(lack(&all))),
            ("from", done.scenario.clock(from)),
            ("to", done.scenario.clock(to)),
            ("limit", cause),
            ("names", names.join(", ")),
        ];
        lines.push(fill(lang, "cli.plan.short_together", &values));
    }
    lines
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
    let mut lines = remarks_on_all(done, lang);
    let short = done.plan.bottlenecks.iter().map(|b| {
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

/// The result, and what could not be planned.
fn remarks_on_all(done: &Planned, lang: Lang) -> Vec<String> {
    let plan = &done.plan;
    let values = [
        ("cost", number(plan.cost)),
        ("short", number(plan.unserved_kwh)),
        ("gap", number(legal_gap_pct(plan))),
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
    lines
}
