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
//! What a stranger gets wrong: acknowledging says "a person knows", it changes nothing that acts; only
//! a reset releases a latched zone, and it is no business of this file.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::units::Moment;

/// A condition must be gone this long before its alarm clears. Our own figure, against flapping.
const GONE_FOR: Duration = Duration::from_secs(5);
/// Most alarms kept; a site that has more is told by those it has.
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
}

impl AlarmBook {
    /// Takes up what was known before the gateway started.
    pub fn restore(&mut self, alarms: &[Alarm]) {
        for alarm in alarms.iter().take(MOST) {
            self.alarms.insert(alarm.id.clone(), alarm.clone());
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
        let active = self.alarms.values_mut().filter(|a| a.active && !holding.contains_key(&a.id));
        for alarm in active {
            let since = *self.gone.entry(alarm.id.clone()).or_insert(now);
            if since.age_at(now) >= GONE_FOR {
                alarm.active = false;
                alarm.cleared = Some(now.utc);
            }
        }
        self.alarms.retain(|_, alarm| alarm.active || !alarm.acknowledged);
        let alarms = &self.alarms;
        self.gone.retain(|id, _| alarms.get(id).is_some_and(|alarm| alarm.active));
    }

    fn raise(&mut self, id: &str, condition: &Condition, now: Moment) {
        if let Some(alarm) = self.alarms.get_mut(id) {
            alarm.severity = condition.severity;
            if !alarm.active {
                // It is back: whoever acknowledged it before did not mean this time.
                *alarm = Alarm { since: now.utc, ..fresh(id, condition, now) };
            }
        } else if self.alarms.len() < MOST {
            self.alarms.insert(id.to_owned(), fresh(id, condition, now));
        }
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

    /// All alarms: not acknowledged first, then the worse, then the newer.
    #[must_use]
    pub fn list(&self) -> Vec<Alarm> {
        let mut alarms: Vec<Alarm> = self.alarms.values().cloned().collect();
        alarms
            .sort_by_key(|a| (a.acknowledged, !a.active, std::cmp::Reverse((a.severity, a.since))));
        alarms
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
        for s in 1..60 {
            book.step(&[], second(s));
        }
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
    fn flapping_makes_one_alarm() {
        let mut book = AlarmBook::default();
        for s in 0..100 {
            let held = if s % 3 == 0 { vec![lost(0)] } else { Vec::new() };
            book.step(&held, second(s));
            assert_eq!(book.list().len(), 1);
            assert_eq!(book.list()[0].since, second(0).utc);
        }
    }
}
