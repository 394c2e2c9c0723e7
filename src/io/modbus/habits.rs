//! How quickly each unit of a line answers, and how long it is therefore worth waiting for.
//!
//! What a stranger gets wrong: the time-out of a profile is meant for the slowest device of its kind on the
//! slowest line. Where units share a line, the others pay for it when one dies. So a unit that has answered
//! many times is given up after a few times its slowest answer, never later than the profile says; it is then
//! probed, and now and then for the whole time-out, since it may only have become slow (`health`). A read that
//! can be made again later is waited for less still, in haste; who was wronged by that is given more time from
//! then on. Answers of any kind count, refusals and echoes of writes too. Old ones fade.

use std::collections::BTreeMap;
use std::time::Duration;

/// Nobody is known before so many answers. Our own figure.
const KNOWN_AFTER: u32 = 16;
/// A known unit is waited for so many times its slowest answer, and no less than this: who only became slower is
/// found again late, and what it still says breaks the next exchange. Our own figures.
pub const TIMES: u32 = 4;
const LEAST: Duration = Duration::from_millis(500);
/// In haste it is waited for so many times its slowest answer, and no less than this: with the silence after it,
/// less than a twentieth of a second more than what units on one line are apart (`task`). Our own figures.
const HASTY_TIMES: u32 = 3;
const HASTY_LEAST: Duration = Duration::from_millis(40);
/// No haste with a unit whose profile gives it more time than this: on a line without transaction ids it is left
/// alone for that long afterwards, and its last reading would grow old. Our own figure.
const HASTY_UP_TO: Duration = Duration::from_secs(2);
/// Share of what it is above the newest answer by which the slowest one fades with each answer: half of it in
/// 2,800, so that haste is wrong about a unit once in a long while and not every few minutes. Our own figure.
const FADES: u32 = 4096;

/// One unit.
#[derive(Clone, Copy, Debug, Default)]
struct Habit {
    answers: u32,
    slowest: Duration,
    /// What haste grants beyond that to who was wronged. Nobody else waits for it: a lost frame is no slow answer.
    granted: Duration,
}

/// The units of one line.
#[derive(Clone, Debug, Default)]
pub struct Habits(BTreeMap<u8, Habit>);

impl Habits {
    /// A unit answered after `took`.
    pub fn heard(&mut self, unit: u8, took: Duration) {
        let habit = self.0.entry(unit).or_default();
        habit.answers = habit.answers.saturating_add(1);
        habit.slowest -= habit.slowest.saturating_sub(took) / FADES;
        habit.slowest = habit.slowest.max(took);
        habit.granted -= habit.granted / FADES;
    }

    /// The slowest answer of a unit, old ones faded; zero before the first.
    #[must_use]
    pub fn slowest(&self, unit: u8) -> Duration {
        self.0.get(&unit).map_or(Duration::ZERO, |habit| habit.slowest)
    }

    /// The slowest answer of all other units.
    #[must_use]
    pub fn slowest_beside(&self, unit: u8) -> Duration {
        let others = self.0.iter().filter(|(other, _)| **other != unit);
        others.map(|(_, habit)| habit.slowest).max().unwrap_or_default()
    }

    /// Haste was wrong about a unit: it was there, and slower. It is waited for twice as long from now on.
    pub fn wronged(&mut self, unit: u8) {
        let habit = self.0.entry(unit).or_default();
        habit.granted = habit.granted.max(habit.slowest * HASTY_TIMES).max(HASTY_LEAST) * 2;
    }

    /// How long a unit is waited for in haste, where others wait behind it and it can be asked again later; at
    /// most its [`Habits::patience`].
    #[must_use]
    pub fn haste(&self, unit: u8, call: Duration) -> Duration {
        let patience = self.patience(unit, call);
        match self.0.get(&unit) {
            Some(habit) if habit.answers >= KNOWN_AFTER && call <= HASTY_UP_TO => {
                (habit.slowest * HASTY_TIMES).max(habit.granted).max(HASTY_LEAST).min(patience)
            }
            _ => patience,
        }
    }

    /// How long a unit is waited for where others wait behind it; at most the time-out of its profile.
    #[must_use]
    pub fn patience(&self, unit: u8, call: Duration) -> Duration {
        match self.0.get(&unit) {
            Some(habit) if habit.answers >= KNOWN_AFTER => {
                (habit.slowest * TIMES).max(LEAST).min(call)
            }
            _ => call,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: Duration = Duration::from_secs(1);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn fb12_a_unit_is_waited_for_as_long_as_it_has_ever_needed_and_a_stranger_for_the_whole_time_out()
     {
        let mut habits = Habits::default();
        for _ in 0..KNOWN_AFTER - 1 {
            habits.heard(7, ms(5));
            assert_eq!(habits.patience(7, CALL), CALL, "not known yet");
        }
        habits.heard(7, ms(5));
        assert_eq!(habits.patience(7, CALL), ms(500));
        assert_eq!(habits.patience(7, ms(80)), ms(80), "never longer than the profile says");
        assert_eq!(habits.patience(8, CALL), CALL, "another unit");
        habits.heard(7, ms(200));
        assert_eq!(habits.patience(7, CALL), ms(800), "one slow answer makes patient");
        habits.heard(7, ms(700));
        assert_eq!(habits.patience(7, CALL), CALL);
        assert_eq!((habits.slowest(7), habits.slowest_beside(7)), (ms(700), Duration::ZERO));
        assert_eq!((habits.slowest(8), habits.slowest_beside(8)), (Duration::ZERO, ms(700)));
    }

    #[test]
    fn fb12_haste_is_a_few_answers_long_and_twice_as_long_for_who_was_wronged() {
        let mut habits = Habits::default();
        assert_eq!(habits.haste(7, CALL), CALL, "a stranger");
        for _ in 0..KNOWN_AFTER {
            habits.heard(7, ms(5));
        }
        assert_eq!(habits.haste(7, CALL), HASTY_LEAST);
        assert_eq!(habits.haste(7, ms(30)), ms(30), "never longer than the profile says");
        assert_eq!(habits.haste(7, ms(3000)), ms(500), "it would be left alone for too long");
        let waits: Vec<u128> = (0..5)
            .map(|_| {
                habits.wronged(7);
                habits.haste(7, CALL).as_millis()
            })
            .collect();
        assert_eq!(waits, [80, 160, 320, 500, 500], "up to what it is waited for without haste");
        let slowest = (habits.slowest(7), habits.slowest_beside(9));
        assert_eq!(slowest, (ms(5), ms(5)), "a lost frame makes no probe of a neighbour longer");
        (0..8000).for_each(|_| habits.heard(7, ms(5)));
        assert!(habits.haste(7, CALL) < ms(200), "{:?}", habits.haste(7, CALL));
        habits.heard(8, ms(20));
        for _ in 1..KNOWN_AFTER {
            habits.heard(8, ms(20));
        }
        assert_eq!(habits.haste(8, CALL), ms(60));
    }

    #[test]
    fn a_slow_answer_is_remembered_for_hundreds_of_others_and_not_for_ever() {
        let mut habits = Habits::default();
        habits.heard(1, ms(200));
        for _ in 0..300 {
            habits.heard(1, ms(10));
        }
        assert!(habits.patience(1, CALL) > ms(500), "{:?}", habits.patience(1, CALL));
        for _ in 0..5000 {
            habits.heard(1, ms(10));
        }
        assert_eq!(habits.patience(1, CALL), ms(500));
    }
}
