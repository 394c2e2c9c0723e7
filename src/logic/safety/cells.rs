//! Cells beside their neighbours: how fast a temperature rises, and how a voltage stands apart or falls.
//!
//! What a stranger gets wrong: management units report whole degrees. One step of 1 K within ten seconds
//! is no rise; both halves of a window must rise before it counts.

use std::time::Duration;

use super::channel::{Channel, Sample};
use super::signs::Sign;
use crate::logic::site::Limits;
use crate::units::Moment;

/// Windows of design/safety: trip, alarm and watch.
const TRIP_WINDOW: Duration = Duration::from_secs(3);
const ALARM_WINDOW: Duration = Duration::from_secs(10);
const WATCH_WINDOW: Duration = Duration::from_secs(120);
/// The watch window is looked at this often: it moves slowly.
const WATCH_EVERY: Duration = Duration::from_secs(5);
/// A voltage must be off its neighbours for this long, at rest (design/safety).
const OFF_FOR: Duration = Duration::from_secs(600);
/// How much of a new voltage goes into what a cell is compared with: it follows within ten minutes at 1 Hz,
/// as charge and discharge need it, and stands still while the cell is collapsed. Our own figure.
const FOLLOWS: f64 = 1.0 / 600.0;
/// Samples whose median it starts from.
const FIRST: usize = 3;
/// Samples in a row that a collapse needs.
const COLLAPSED: u32 = 2;
/// What rounding to whole degrees may hide of a rise.
const ROUNDED: f64 = 0.9;
/// Each half of a window must have at least this share of the rise.
const HALF: f64 = 0.3;

/// What is known of one cell beside its history.
#[derive(Clone, Debug, Default)]
pub struct Cell {
    drifts: bool,
    drift_judged: Option<Moment>,
    rises: bool,
    runs_away: bool,
    off_since: Option<Moment>,
    is_off: bool,
    first_v: Vec<f64>,
    usual_v: Option<f64>,
    collapsed: u32,
}

impl Cell {
    /// The signs that it gives.
    pub fn signs(&self) -> impl Iterator<Item = Sign> {
        let all = [
            (self.drifts, Sign::CellDrifts),
            (self.rises, Sign::CellRises),
            (self.runs_away, Sign::CellRunsAway),
            (self.is_off, Sign::CellOff),
            (self.collapsed >= COLLAPSED, Sign::CellCollapses),
        ];
        all.into_iter().filter(|(holds, _)| *holds).map(|(_, sign)| sign)
    }
}

/// Judges every cell of one unit after a sample.
pub fn judge_temperatures(cells: &mut [Cell], channels: &[Channel], limits: &Limits, at: Moment) {
    for (i, cell) in cells.iter_mut().enumerate() {
        let channel = &channels[i];
        let exact = |age| channel.before(age);
        let smooth = |age| channel.smooth_before(age);
        cell.runs_away = rises(exact, TRIP_WINDOW, limits.rise_trip_k_s);
        cell.rises = rises(smooth, ALARM_WINDOW, limits.rise_alarm_k_s);
        if cell.drift_judged.is_none_or(|judged| judged.age_at(at) >= WATCH_EVERY) {
            cell.drift_judged = Some(at);
            let beside = |age| {
                let own = smooth(age)?;
                let others = median(i, channels, |c| c.smooth_before(age).map(|s| s.value))?;
                Some(Sample { at: own.at, value: own.value - others })
            };
            cell.drifts = rises(beside, WATCH_WINDOW, limits.rise_watch_k_min / 60.0);
        }
    }
}

/// Whether the window rose by `rate` (K/s), and each half of it by a part of that.
fn rises(sample: impl Fn(Duration) -> Option<Sample>, window: Duration, rate: f64) -> bool {
    let (Some(first), Some(last)) = (sample(window), sample(Duration::ZERO)) else {
        return false;
    };
    let span = last.at.saturating_sub(first.at).as_secs_f64();
    // A hole in the samples makes a window that says nothing of its rate.
    if span <= 0.0
        || span > window.as_secs_f64() * 1.5
        || last.value - first.value < rate * ROUNDED * span
    {
        return false;
    }
    let Some(middle) = sample(window / 2) else {
        return false;
    };
    let enough = |from: Sample, to: Sample| {
        let span = to.at.saturating_sub(from.at).as_secs_f64();
        to.value - from.value >= rate * HALF * span
    };
    enough(first, middle) && enough(middle, last)
}

/// Judges every cell of one unit after a sample.
pub fn judge_voltages(
    cells: &mut [Cell],
    channels: &[Channel],
    (limits, at_rest): (&Limits, bool),
    at: Moment,
) {
    for (i, cell) in cells.iter_mut().enumerate() {
        let channel = &channels[i];
        let Some(volts) = channel.value(at) else {
            continue;
        };
        let off = at_rest
            && median(i, channels, |channel| channel.value(at))
                .is_some_and(|others| (volts - others).abs() > limits.cell_off_v);
        cell.off_since = if off { cell.off_since.or(Some(at)) } else { None };
        cell.is_off = cell.off_since.is_some_and(|since| since.age_at(at) >= OFF_FOR);
        let Some(usual) = cell.usual_v else {
            cell.first_v.push(volts);
            if cell.first_v.len() >= FIRST {
                cell.usual_v = middle(std::mem::take(&mut cell.first_v));
            }
            continue;
        };
        if volts < usual * (1.0 - limits.voltage_drop) {
            cell.collapsed = cell.collapsed.saturating_add(1);
        } else {
            cell.collapsed = 0;
            cell.usual_v = Some(usual + (volts - usual) * FOLLOWS);
        }
    }
}

/// The median of all cells but one; nothing where there is no other.
fn median(
    own: usize,
    channels: &[Channel],
    value: impl Fn(&Channel) -> Option<f64>,
) -> Option<f64> {
    let others = channels.iter().enumerate().filter(|(i, _)| *i != own);
    middle(others.filter_map(|(_, channel)| value(channel)).collect())
}

fn middle(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        count if count % 2 == 0 => Some((values[middle - 1] + values[middle]) / 2.0),
        _ => Some(values[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(10);

    /// Whether a value that is `of` seconds at each second rises by 1 K/s in ten of them.
    fn rises_by_one(seconds: &[u64], of: impl Fn(u64) -> f64) -> bool {
        let last = *seconds.last().unwrap();
        let sample = |age: Duration| {
            let at = seconds.iter().rfind(|at| **at + age.as_secs() <= last)?;
            Some(Sample { at: Duration::from_secs(*at), value: of(*at) })
        };
        rises(sample, WINDOW, 1.0)
    }

    #[test]
    fn both_halves_of_a_window_rise_and_a_hole_in_it_says_nothing() {
        let every: Vec<u64> = (0..=10).collect();
        assert!(rises_by_one(&every, |at| at as f64));
        assert!(!rises_by_one(&every, |at| if at < 5 { 0.0 } else { 10.0 }), "one step");
        assert!(
            !rises_by_one(&every, |at| if at <= 5 { at as f64 / 5.0 } else { 10.0 }),
            "1 K, 9 K"
        );
        assert!(!rises_by_one(&every[..5], |at| at as f64), "too short");
        assert!(rises_by_one(&[0, 7, 14], |at| at as f64), "a hole of less than half a window");
        assert!(!rises_by_one(&[0, 12, 21], |at| at as f64), "a longer one");
        assert!(!rises_by_one(&[3], |_| 90.0), "one sample");
    }

    #[test]
    fn the_middle_is_of_one_of_two_or_there_is_none() {
        assert_eq!(middle(Vec::new()), None);
        assert_eq!(middle(vec![3.0]), Some(3.0));
        assert_eq!(middle(vec![4.0, 1.0]), Some(2.5));
        assert_eq!(middle(vec![4.0, 1.0, 2.0]), Some(2.0));
    }
}
