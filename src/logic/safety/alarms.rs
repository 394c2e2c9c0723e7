//! The alarms of the site: what is wrong now, what was wrong and nobody has acknowledged yet.
//!
//! ```text
//!             condition holds long enough           condition gone 5 s
//!   (none) ─────────────────────────────▶ active ─────────────────────▶ cleared
//!                                           ▲  │                          │
//!                                           └──┼── condition is back ─────┤
//!                                     acknowledge            acknowledge  ▼
//!                                    (stays, active)                    (gone)
//! ```
//! An alarm that comes back again and again clears only after a minute without its condition. Warnings that
//! come all at once are raised a few at a time; alarms and trips never wait.
//!
//! What a stranger gets wrong: acknowledging says "a person knows", it changes nothing that acts; only
//! a reset releases a latched zone, and it is no business of this file. Shelving puts an alarm out of sight for
//! a time, never for good; a trip cannot be shelved.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::units::Moment;

/// A condition must be gone this long before its alarm clears. Our own figure, against flapping.
const GONE_FOR: Duration = Duration::from_secs(5);
/// An alarm that was raised this often within ten minutes chatters, and must be gone this long. Our own.
const CHATTERS: usize = 4;
const CHATTER_WINDOW: Duration = Duration::from_secs(600);
const CHATTER_GONE_FOR: Duration = Duration::from_secs(60);
/// Most warnings raised within ten seconds; the others follow. Our own figure.
const WARNINGS_AT_ONCE: usize = 20;
const AT_ONCE: Duration = Duration::from_secs(10);
/// Longest time on the shelf: a warning, an alarm. Our own figures.
const SHELF_WARNING: Duration = Duration::from_secs(7 * 86_400);
const SHELF_ALARM: Duration = Duration::from_secs(8 * 3600);
/// Most alarms kept; a site that has more is told by those it has. In a full book something worse takes the
/// place of the mildest.
const MOST: usize = 256;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Something is degraded.
    Warning,
    /// Something was stopped, or nobody can tell any more.
    Alarm,
    /// Isolated, or treated as such.
    Trip,
}

/// Something that holds now.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    /// Stable code: the key of the text in `texts/*/page.json` (`alarm.<code>`).
    pub code: &'static str,
    /// What it is about: a device, zone or camera; empty for the site.
    pub about: String,
    /// How bad it is.
    pub severity: Severity,
    /// It must hold this long before it becomes an alarm.
    pub holds_for: Duration,
}

/// One alarm, as it is stored, published and shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alarm {
    /// `<code>` or `<code>-<about>`.
    pub id: String,
    /// Stable code.
    pub code: String,
    /// What it is about; empty for the site.
    pub about: String,
    /// How bad it is.
    pub severity: Severity,
    /// Whether its condition still holds.
    pub active: bool,
    /// Whether a person has said that they know.
    pub acknowledged: bool,
    /// Since when it is active (the last time it became so).
    pub since: DateTime<Utc>,
    /// When its condition went.
    pub cleared: Option<DateTime<Utc>>,
    /// Who acknowledged it.
    pub by: Option<String>,
    /// What they noted.
    pub note: Option<String>,
    /// Out of sight until then.
    #[serde(default)]
    pub shelved_until: Option<DateTime<Utc>>,
}

/// Who acknowledges, and what they want to have written down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// A name; not empty.
    pub by: String,
    /// A note.
    pub note: Option<String>,
}

/// All alarms.
#[derive(Clone, Debug, Default)]
pub struct AlarmBook {
    alarms: BTreeMap<String, Alarm>,
    /// Conditions that hold, and since when.
    held: BTreeMap<String, Moment>,
    /// Active alarms whose condition is gone, and since when.
    gone: BTreeMap<String, Moment>,
    /// When each alarm was raised lately, oldest first.
    raised: BTreeMap<String, VecDeque<Moment>>,
    /// When warnings were raised lately, oldest first.
    warned: VecDeque<Moment>,
    /// When the time on the shelf ends, on the clock that nobody sets.
    shelved: BTreeMap<String, Moment>,
}

impl AlarmBook {
    /// Takes up what was known before the gateway started.
    pub fn restore(&mut self, alarms: &[Alarm]) {
        for alarm in alarms.iter().take(MOST) {
            // Nobody knows how long it was dark: what lay on the shelf is in sight again.
            let alarm = Alarm { shelved_until: None, ..alarm.clone() };
            self.alarms.insert(alarm.id.clone(), alarm);
        }
    }

    /// Steps the book to `now` with everything that holds.
    pub fn step(&mut self, conditions: &[Condition], now: Moment) {
        let holding: BTreeMap<String, &Condition> =
            conditions.iter().map(|c| (id_of(c), c)).collect();
        self.held.retain(|id, _| holding.contains_key(id));
        for (id, condition) in &holding {
            let since = *self.held.entry(id.clone()).or_insert(now);
            self.gone.remove(id);
            if since.age_at(now) >= condition.holds_for {
                self.raise(id, condition, now);
            }
        }
        self.end_shelving(now);
        let active = self.alarms.values_mut().filter(|a| a.active && !holding.contains_key(&a.id));
        for alarm in active {
            let since = *self.gone.entry(alarm.id.clone()).or_insert(now);
            let chatters = self.raised.get(&alarm.id).is_some_and(|r| r.len() >= CHATTERS);
            let gone_for = if chatters { CHATTER_GONE_FOR } else { GONE_FOR };
            if since.age_at(now) >= gone_for {
                alarm.active = false;
                alarm.cleared = Some(now.utc);
            }
        }
        self.alarms.retain(|_, alarm| alarm.active || !alarm.acknowledged);
        let alarms = &self.alarms;
        self.gone.retain(|id, _| alarms.get(id).is_some_and(|alarm| alarm.active));
    }

    fn end_shelving(&mut self, now: Moment) {
        let alarms = &mut self.alarms;
        self.shelved.retain(|id, until| {
            let ends = now.uptime >= until.uptime;
            if let (true, Some(alarm)) = (ends, alarms.get_mut(id)) {
                alarm.shelved_until = None;
            }
            !ends && alarms.contains_key(id)
        });
        for raised in self.raised.values_mut() {
            while raised.front().is_some_and(|at| at.age_at(now) >= CHATTER_WINDOW) {
                raised.pop_front();
            }
        }
        self.raised.retain(|_, raised| !raised.is_empty());
        while self.warned.front().is_some_and(|at| at.age_at(now) >= AT_ONCE) {
            self.warned.pop_front();
        }
    }

    fn raise(&mut self, id: &str, condition: &Condition, now: Moment) {
        let is_active = self.alarms.get(id).is_some_and(|alarm| alarm.active);
        let is_warning = condition.severity == Severity::Warning;
        if !is_active && is_warning && self.warned.len() >= WARNINGS_AT_ONCE {
            return;
        }
        // Before anything is counted: what finds no place was not raised.
        if !self.alarms.contains_key(id) && !self.makes_room(condition.severity) {
            return;
        }
        if !is_active {
            if is_warning {
                self.warned.push_back(now);
            }
            let raised = self.raised.entry(id.to_owned()).or_default();
            raised.push_back(now);
            if raised.len() > CHATTERS {
                raised.pop_front();
            }
        }
        if let Some(alarm) = self.alarms.get_mut(id) {
            if condition.severity > alarm.severity {
                // Worse than what was put on the shelf.
                alarm.shelved_until = None;
                self.shelved.remove(id);
            }
            alarm.severity = condition.severity;
            if !alarm.active {
                // It is back: whoever acknowledged it before did not mean this time.
                *alarm = Alarm { since: now.utc, ..fresh(id, condition, now) };
            }
        } else {
            self.alarms.insert(id.to_owned(), fresh(id, condition, now));
        }
    }

    /// Whether there is a place for another alarm: in a full book the mildest makes room for a worse one,
    /// first of those of a kind what is over, then the oldest.
    fn makes_room(&mut self, severity: Severity) -> bool {
        if self.alarms.len() < MOST {
            return true;
        }
        let rank = |alarm: &Alarm| (alarm.severity, alarm.active);
        let mildest = self.alarms.values().min_by_key(|alarm| (rank(alarm), alarm.since));
        let Some(id) = mildest.filter(|a| rank(a) < (severity, true)).map(|a| a.id.clone()) else {
            return false;
        };
        self.alarms.remove(&id);
        self.gone.remove(&id);
        self.shelved.remove(&id);
        true
    }

    /// A person knows. Whether there is such an alarm.
    pub fn acknowledge(&mut self, id: &str, signature: &Signature) -> bool {
        let Some(alarm) = self.alarms.get_mut(id) else {
            return false;
        };
        alarm.acknowledged = true;
        alarm.by = Some(signature.by.clone());
        alarm.note.clone_from(&signature.note);
        true
    }

    /// Puts an alarm out of sight for a time. Whether that is possible: a trip cannot be shelved, an alarm for
    /// eight hours at most, a warning for a week.
    pub fn shelve(
        &mut self,
        id: &str,
        signature: &Signature,
        (span, now): (Duration, Moment),
    ) -> bool {
        let Some(alarm) = self.alarms.get_mut(id) else {
            return false;
        };
        if !may_shelve(alarm.severity, span) {
            return false;
        }
        let until = now.after(span);
        alarm.shelved_until = Some(until.utc);
        alarm.by = Some(signature.by.clone());
        alarm.note.clone_from(&signature.note);
        self.shelved.insert(id.to_owned(), until);
        true
    }

    /// All alarms: those on the shelf last, not acknowledged first, then the worse, then the newer.
    #[must_use]
    pub fn list(&self) -> Vec<Alarm> {
        let mut alarms: Vec<Alarm> = self.alarms.values().cloned().collect();
        alarms.sort_by_key(|a| {
            let worst = std::cmp::Reverse((a.severity, a.since));
            (a.shelved_until.is_some(), a.acknowledged, !a.active, worst)
        });
        alarms
    }
}

/// Whether an alarm of this severity may be shelved for so long.
#[must_use]
pub fn may_shelve(severity: Severity, span: Duration) -> bool {
    match severity {
        Severity::Warning => !span.is_zero() && span <= SHELF_WARNING,
        Severity::Alarm => !span.is_zero() && span <= SHELF_ALARM,
        Severity::Trip => false,
    }
}

fn id_of(condition: &Condition) -> String {
    if condition.about.is_empty() {
        condition.code.to_owned()
    } else {
        format!("{}-{}", condition.code, condition.about)
    }
}

fn fresh(id: &str, condition: &Condition, now: Moment) -> Alarm {
    Alarm {
        id: id.to_owned(),
        code: condition.code.to_owned(),
        about: condition.about.clone(),
        severity: condition.severity,
        active: true,
        acknowledged: false,
        since: now.utc,
        cleared: None,
        by: None,
        note: None,
        shelved_until: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(s: u64) -> Moment {
        let utc = chrono::DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        Moment { uptime: Duration::from_secs(100), utc }.after(Duration::from_secs(s))
    }

    fn lost(holds_for: u64) -> Condition {
        Condition {
            code: "device_lost",
            about: "pile1".to_owned(),
            severity: Severity::Warning,
            holds_for: Duration::from_secs(holds_for),
        }
    }

    fn signed() -> Signature {
        Signature { by: "Li".to_owned(), note: None }
    }

    #[test]
    fn a_short_trouble_is_no_alarm_and_a_long_one_is_one_alarm() {
        let mut book = AlarmBook::default();
        for s in 0..3 {
            book.step(&[lost(5)], second(s));
        }
        book.step(&[], second(3));
        assert!(book.list().is_empty());
        for s in 4..20 {
            book.step(&[lost(5)], second(s));
        }
        assert_eq!(book.list().len(), 1);
        assert_eq!(book.list()[0].since, second(9).utc);
    }

    #[test]
    fn cleared_alarms_stay_until_somebody_knows() {
        let mut book = AlarmBook::default();
        book.step(&[lost(0)], second(0));
        (1..60).for_each(|s| book.step(&[], second(s)));
        let alarm = book.list().remove(0);
        assert!(!alarm.active && !alarm.acknowledged);
        assert_eq!(alarm.cleared, Some(second(6).utc), "gone for 5 s after the first look without");
        assert!(book.acknowledge("device_lost-pile1", &signed()));
        book.step(&[], second(60));
        assert!(book.list().is_empty());
        assert!(!book.acknowledge("device_lost-pile1", &signed()));
    }

    #[test]
    fn an_acknowledged_alarm_that_comes_back_is_new() {
        let mut book = AlarmBook::default();
        book.step(&[lost(0)], second(0));
        assert!(book.acknowledge("device_lost-pile1", &signed()));
        book.step(&[lost(0)], second(1));
        assert!(book.list()[0].acknowledged, "as long as it holds, one acknowledgement is enough");
        for s in 2..10 {
            book.step(&[], second(s));
        }
        book.step(&[lost(0)], second(10));
        assert!(!book.list()[0].acknowledged);
    }

    #[test]
    fn what_is_over_stands_after_what_holds() {
        let both = [named("a", Severity::Warning), named("b", Severity::Warning)];
        for holds in both.chunks(1) {
            let mut book = AlarmBook::default();
            (0..20).for_each(|s| book.step(if s == 0 { &both } else { holds }, second(s)));
            assert!(book.list()[0].active && !book.list()[1].active, "{holds:?}");
        }
    }

    #[test]
    fn flapping_makes_one_alarm() {
        let mut book = AlarmBook::default();
        for s in 0..100 {
            let held = if s % 3 == 0 { vec![lost(0)] } else { Vec::new() };
            book.step(&held, second(s));
            assert_eq!(book.list().len(), 1);
            assert_eq!(book.list()[0].since, second(0).utc);
        }
    }

    #[test]
    fn a_full_book_takes_what_is_worse_and_counts_nothing_that_it_does_not_take() {
        let mut book = AlarmBook::default();
        let many = |severity, from: usize| -> Vec<Condition> {
            (from..from + MOST).map(|n| named(&format!("d{n:04}"), severity)).collect()
        };
        // Warnings are told a few at a time: the book is full after some of these rounds.
        let warnings = many(Severity::Warning, 0);
        (0..200).for_each(|s| book.step(&warnings, second(s)));
        assert_eq!(book.list().len(), MOST);
        let mut all = warnings.clone();
        all.push(named("late", Severity::Warning));
        (200..230).for_each(|s| book.step(&all, second(s)));
        assert!(book.list().iter().all(|alarm| alarm.about != "late"), "no milder one was there");
        assert!(book.warned.is_empty() && !book.raised.contains_key("device_lost-late"));
        all.push(named("burns", Severity::Trip));
        book.step(&all, second(230));
        assert_eq!((book.list().len(), book.list()[0].about.as_str()), (MOST, "burns"));
        // What is over goes first.
        let over = named("d0007", Severity::Warning);
        all.retain(|condition| *condition != over);
        (231..240).for_each(|s| book.step(&all, second(s)));
        all.push(named("again", Severity::Alarm));
        book.step(&all, second(240));
        let list = book.list();
        assert!(list.iter().any(|alarm| alarm.about == "again"));
        assert!(list.iter().all(|alarm| alarm.about != "d0007"), "d0007 had gone");
    }

    fn named(about: &str, severity: Severity) -> Condition {
        Condition { about: about.to_owned(), severity, ..lost(0) }
    }

    #[test]
    fn an_alarm_that_chatters_clears_only_after_a_minute() {
        let mut book = AlarmBook::default();
        let mut raised = 0;
        let mut was_active = false;
        for s in 0..400 {
            let held = if s % 10 == 0 { vec![lost(0)] } else { Vec::new() };
            book.step(&held, second(s));
            let active = book.list()[0].active;
            raised += u32::from(active && !was_active);
            was_active = active;
        }
        assert_eq!(raised, 4, "it comes back every ten seconds and is told four times");
        for s in 400..451 {
            book.step(&[], second(s));
            assert!(book.list()[0].active, "{s}");
        }
        (451..460).for_each(|s| book.step(&[], second(s)));
        assert!(!book.list()[0].active);
    }

    #[test]
    fn a_flood_of_warnings_is_told_a_few_at_a_time_and_a_trip_does_not_wait() {
        let mut book = AlarmBook::default();
        let mut all: Vec<Condition> =
            (0..200).map(|n| named(&format!("d{n:03}"), Severity::Warning)).collect();
        all.push(named("z", Severity::Trip));
        book.step(&all, second(0));
        assert_eq!(book.list().len(), WARNINGS_AT_ONCE + 1);
        assert_eq!(book.list()[0].severity, Severity::Trip);
        for s in 1..120 {
            let before = book.list().len();
            book.step(&all, second(s));
            assert!(book.list().len() - before <= WARNINGS_AT_ONCE);
        }
        assert_eq!(book.list().len(), 201, "all are told in the end");
    }

    #[test]
    fn the_shelf_has_a_time_limit_and_holds_no_trip() {
        let hour = Duration::from_secs(3600);
        for (severity, span, may) in [
            (Severity::Warning, hour * 168, true),
            (Severity::Warning, hour * 169, false),
            (Severity::Warning, Duration::ZERO, false),
            (Severity::Alarm, hour * 8, true),
            (Severity::Alarm, hour * 9, false),
            (Severity::Trip, Duration::from_secs(1), false),
        ] {
            assert_eq!(may_shelve(severity, span), may, "{severity:?} {span:?}");
        }
        let mut book = AlarmBook::default();
        book.step(&[named("a", Severity::Warning), named("b", Severity::Warning)], second(0));
        let a = "device_lost-a";
        assert!(book.shelve(a, &signed(), (hour, second(0))));
        assert_eq!(book.list()[1].id, a, "out of sight, not out of the list");
        assert_eq!(book.list()[1].shelved_until, Some(second(3600).utc));
        book.step(&[named("a", Severity::Warning), named("b", Severity::Warning)], second(3599));
        assert!(book.list()[1].shelved_until.is_some());
        book.step(&[named("a", Severity::Warning), named("b", Severity::Warning)], second(3600));
        assert!(book.list().iter().all(|alarm| alarm.shelved_until.is_none()));
        assert!(book.shelve(a, &signed(), (hour, second(3600))));
        book.step(&[named("a", Severity::Alarm)], second(3601));
        assert_eq!(book.list()[0].id, a, "it got worse");
        assert!(book.list()[0].shelved_until.is_none());
        assert!(!book.shelve("no_such", &signed(), (hour, second(3601))));
        assert!(book.shelve(a, &signed(), (hour, second(3602))));
        let mut after_restart = AlarmBook::default();
        after_restart.restore(&book.list());
        assert!(after_restart.list().iter().all(|alarm| alarm.shelved_until.is_none()));
    }
}
