//! What stirs in front of a camera. Flame flickers and smoke moves; a stain on the ground does neither, whatever a
//! net takes it for. So a score over the alarm cut counts towards an alarm only where its part of the frame
//! stirs, and stirs at one place for as long as fire must be seen; a still one stays a doubt (`triage`).
//!
//! ```text
//!   cell now  ──like a moment long ago, or the usual──▶ gone back: still      (the car has driven on)
//!      │
//!      ├── unlike a second ago ─────────────────────▶ moves: stirs           (flame, smoke, the car)
//!      └── changed step by step over 5 or 15 s ─────▶ thickens: stirs        (a veil; not a car that parked)
//! ```
//! How unlike is measured in the camera's own noise, because between two looks most of a picture shows nothing else,
//! and at edges in what the wind does to its pole.
//!
//! What a stranger gets wrong: still is not clear. A hall full of smoke may be still, and so is a camera that has
//! frozen; neither takes a doubt back. And the cells of a picture are means of brightness: no pixel comes here.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

/// Ages of the moments that a cell is held against, s: what moves against the first, what thickens against these
/// shares of the steps, what has gone back against those long ago. Our own figures, like all that follow.
const LATELY: f64 = 1.0;
const STEPS: [f64; 2] = [5.0, 15.0];
const LONG_AGO: [f64; 3] = [5.0, 15.0, 60.0];
/// A moment stands for an age from this share of it on.
const NEARLY: f64 = 0.8;
/// The first looks have nothing older than this to be held against, s.
const AT_LEAST: f64 = 0.15;
/// Nothing older is remembered, s.
const FORGOTTEN: f64 = 75.0;
/// How far moments of some age (up to, in s) are kept apart, s.
const APART: [(f64, f64); 5] = [(2.0, 0.15), (6.5, 0.5), (20.0, 1.5), (FORGOTTEN, 8.0), (1e9, 0.0)];
/// So many times the camera's noise is a change, in levels of brightness within these bounds: rounding and what a
/// coder does to a still picture, and the least that a flame does at night.
const NOISES: f32 = 5.0;
const LEAST: f32 = 3.0;
const MOST: f32 = 12.0;
/// The mean of nine cells has less noise: a change of it counts from this share on.
const MEAN: f32 = 0.5;
/// A camera that shakes moves a cell by up to this share of itself, and an edge with it.
const SHAKE: f32 = 0.3;
/// A quarter of normal noise is within this share of its standard deviation.
const QUARTER: f32 = 0.319;
/// Noise is followed down and up with these time constants, s: nobody learns within seconds that a frame full of
/// smoke is noise.
const QUIETER: f64 = 5.0;
const LOUDER: f64 = 60.0;
/// The last quarter and half of the steps bring this share of the change; all of it at once is something that came
/// and stays.
const SHARES: [(f64, Range<f32>); 2] = [(0.25, 0.05..0.6), (0.5, 0.2..0.85)];
/// A cell that has stirred goes on doing so if it does it again within this time, or so many looks where they are
/// far apart.
const AGAIN: Duration = Duration::from_millis(1500);
const AGAIN_LOOKS: f64 = 3.5;
/// A part stirs where so many of its cells do, each with so many of those around it, in this look or the one before:
/// fire has an extent, and grains of sand glitter one by one.
const CELLS: usize = 4;
const AROUND: usize = 2;

/// The recent moments of one camera, and what stirs in its newest.
#[derive(Clone, Debug)]
pub struct Stir {
    /// Cells in a row.
    across: usize,
    moments: VecDeque<(Duration, Vec<f32>)>,
    noise: Option<f32>,
    /// When the look before the newest was.
    before: Duration,
    runs: Vec<Option<Run>>,
}

/// A cell that stirs now and again.
#[derive(Clone, Copy, Debug)]
struct Run {
    since: Duration,
    last: Duration,
}

/// A moment that the newest is held against.
struct Past<'a> {
    cells: &'a [f32],
    across: usize,
    /// How much lighter it is now all over.
    lighter: f32,
    age: f64,
}

impl Past<'_> {
    fn change(&self, cell: usize, now: f32) -> f32 {
        now - self.cells[cell] - self.lighter
    }

    /// The mean change of a cell and those around it: a veil is wider than a cell, and noise is not.
    fn mean_change(&self, cell: usize, now: &[f32]) -> f32 {
        let (sum, count) = around(cell, self.across, now.len())
            .fold((0.0, 0.0f32), |(sum, count), i| (sum + self.change(i, now[i]), count + 1.0));
        sum / count.max(1.0)
    }

    /// Whether a change is more than noise and shaking make of this cell.
    fn is_beyond(&self, change: f32, cell: usize, limit: f32) -> bool {
        change.abs() > limit && change.abs() > limit + SHAKE * self.steepness(cell)
    }

    /// The greatest difference between a cell and those beside, above and below it.
    fn steepness(&self, cell: usize) -> f32 {
        let (here, across) = (self.cells[cell], self.across);
        let column = cell % across;
        let beside = [
            (column > 0).then(|| cell - 1),
            (column + 1 < across).then_some(cell + 1),
            cell.checked_sub(across),
            Some(cell + across).filter(|below| *below < self.cells.len()),
        ];
        let step = |other: usize| (self.cells[other] - here).abs();
        beside.into_iter().flatten().map(step).fold(0.0, f32::max)
    }
}

impl Stir {
    /// Nothing seen yet. `across`: cells in a row.
    #[must_use]
    pub fn new(across: usize) -> Stir {
        let (moments, before) = (VecDeque::new(), Duration::ZERO);
        Stir { across: across.max(1), moments, noise: None, before, runs: Vec::new() }
    }

    /// Takes in the cells of the look at `at` (any steady clock of the source), row by row, 0 to 255, and what the
    /// camera usually shows, where that is known. A look that is not newer than the last one changes nothing;
    /// another number of cells begins anew.
    pub fn look(&mut self, at: Duration, cells: &[f32], usual: Option<&[f32]>) {
        if self.runs.len() != cells.len() {
            self.runs = vec![None; cells.len()];
            self.moments.clear();
            self.noise = None;
        }
        if self.moments.back().is_some_and(|(last, _)| at <= *last) {
            return;
        }
        self.before = self.moments.back().map_or(at, |(last, _)| *last);
        let again = AGAIN.max((at - self.before).mul_f64(AGAIN_LOOKS));
        let limit = self.limit(at, cells);
        let stirring = self.stirring(at, cells, usual.filter(|u| u.len() == cells.len()), limit);
        for (run, stirs) in self.runs.iter_mut().zip(stirring) {
            let goes_on = run.filter(|run| at.saturating_sub(run.last) <= again);
            *run = match stirs {
                true => Some(Run { since: goes_on.map_or(at, |run| run.since), last: at }),
                false => goes_on,
            };
        }
        self.remember(at, cells);
    }

    /// For how long a part of the frame (left, top, width, height as shares of it) has been stirring at one place
    /// by the newest look; nothing where it is still.
    #[must_use]
    pub fn within(&self, [left, top, width, height]: [f64; 4]) -> Option<Duration> {
        let (at, _) = self.moments.back()?;
        let (across, down) = (self.across as f64, (self.runs.len() / self.across) as f64);
        let inside = |cell: usize| {
            let x = ((cell % self.across) as f64 + 0.5) / across;
            let y = ((cell / self.across) as f64 + 0.5) / down;
            (left..left + width).contains(&x) && (top..top + height).contains(&y)
        };
        let stirs = |(cell, run): (usize, &Option<Run>)| {
            let run = run.filter(|run| run.last == *at && inside(cell))?;
            (self.around(cell) >= AROUND).then(|| at.saturating_sub(run.since))
        };
        let mut since: Vec<Duration> = self.runs.iter().enumerate().filter_map(stirs).collect();
        since.sort_unstable_by(|a, b| b.cmp(a));
        since.get(CELLS - 1).copied()
    }

    /// How many of the eight cells around one stir with it.
    fn around(&self, cell: usize) -> usize {
        let stirs = |other: &usize| {
            *other != cell && self.runs[*other].is_some_and(|run| run.last >= self.before)
        };
        around(cell, self.across, self.runs.len()).filter(stirs).count()
    }

    /// The youngest moment of about that age or more.
    fn past(&self, at: Duration, age: f64, cells: &[f32]) -> Option<Past<'_>> {
        let of = |then: &Duration| at.saturating_sub(*then).as_secs_f64();
        let mut newest_first = self.moments.iter().rev();
        let (then, past) = newest_first.find(|(then, _)| of(then) >= age * NEARLY)?;
        Some(self.held(past, cells, of(then)))
    }

    fn held<'a>(&self, then: &'a [f32], now: &[f32], age: f64) -> Past<'a> {
        Past { cells: then, across: self.across, lighter: lighter(now, then), age }
    }

    /// What a cell is held against to see whether it moves: the moment a second ago, or the oldest there is.
    fn lately(&self, at: Duration, cells: &[f32]) -> Option<Past<'_>> {
        let oldest = || {
            let (then, past) = self.moments.front()?;
            let age = at.saturating_sub(*then).as_secs_f64();
            (age >= AT_LEAST).then(|| self.held(past, cells, age))
        };
        self.past(at, LATELY, cells).or_else(oldest)
    }

    /// How unlike a cell must be, in levels; learns what noise the camera makes.
    fn limit(&mut self, at: Duration, cells: &[f32]) -> f32 {
        let fresh = self.lately(at, cells).map(|past| {
            let change = |cell: usize| past.change(cell, cells[cell]).abs();
            let quarter = quantile((0..cells.len()).map(change).collect(), 0.25);
            (quarter / QUARTER, past.age)
        });
        if let Some((fresh, _)) = fresh {
            let passed = self.moments.back().map_or(Duration::ZERO, |(last, _)| at - *last);
            let noise = self.noise.unwrap_or(fresh);
            let follows = if fresh < noise { QUIETER } else { LOUDER };
            let share = (passed.as_secs_f64() / follows).min(1.0) as f32;
            self.noise = Some(noise + (fresh - noise) * share);
        }
        (self.noise.unwrap_or(0.0) * NOISES).clamp(LEAST, MOST)
    }

    /// Whether each cell stirs.
    fn stirring(
        &self,
        at: Duration,
        cells: &[f32],
        usual: Option<&[f32]>,
        limit: f32,
    ) -> Vec<bool> {
        let Some(lately) = self.lately(at, cells) else { return vec![false; cells.len()] };
        let mut long_ago: Vec<Past> =
            LONG_AGO.iter().filter_map(|age| self.past(at, *age, cells)).collect();
        long_ago.extend(usual.map(|usual| self.held(usual, cells, f64::INFINITY)));
        let step = |age: &f64| {
            let [quarter, half] = SHARES.map(|(share, _)| self.past(at, age * share, cells));
            Some(([quarter?, half?], self.past(at, *age, cells)?))
        };
        let steps: Vec<([Past; 2], Past)> = STEPS.iter().filter_map(step).collect();
        let unlike =
            |past: &Past, cell: usize| past.is_beyond(past.change(cell, cells[cell]), cell, limit);
        let mean_limit = (limit * MEAN).max(LEAST);
        let thickens = |(parts, whole): &([Past; 2], Past), cell: usize| {
            let all = whole.mean_change(cell, cells);
            let by_then = |past: &Past| past.mean_change(cell, cells) / all;
            whole.is_beyond(all, cell, mean_limit)
                && parts.iter().zip(SHARES).all(|(part, (_, share))| share.contains(&by_then(part)))
        };
        let stirs = |cell: usize| {
            if unlike(&lately, cell) {
                return long_ago.iter().all(|past| unlike(past, cell));
            }
            steps.iter().any(|step| {
                let older = long_ago.iter().filter(|past| past.age > step.1.age);
                let unlike =
                    |past: &Past| past.is_beyond(past.mean_change(cell, cells), cell, mean_limit);
                thickens(step, cell) && older.into_iter().all(unlike)
            })
        };
        (0..cells.len()).map(stirs).collect()
    }

    /// Keeps the moment, and fewer the older they are.
    fn remember(&mut self, at: Duration, cells: &[f32]) {
        self.moments.push_back((at, cells.to_vec()));
        let age = |then: Duration| at.saturating_sub(then).as_secs_f64();
        let mut older: Option<Duration> = None;
        self.moments.retain(|(then, _)| {
            let apart = APART.iter().find(|(to, _)| age(*then) <= *to).map_or(0.0, |(_, s)| *s);
            let room = older.is_none_or(|older| (*then - older).as_secs_f64() >= apart);
            let kept = age(*then) <= FORGOTTEN && (room || *then == at);
            if kept {
                older = Some(*then);
            }
            kept
        });
    }
}

/// A cell and those around it.
fn around(cell: usize, across: usize, count: usize) -> impl Iterator<Item = usize> {
    let (x, y) = (cell % across, cell / across);
    let columns = x.saturating_sub(1)..(x + 2).min(across);
    let rows = y.saturating_sub(1)..y + 2;
    let cells = rows.flat_map(move |y| columns.clone().map(move |x| y * across + x));
    cells.filter(move |cell| *cell < count)
}

/// How much lighter most of the cells are than they were.
fn lighter(now: &[f32], then: &[f32]) -> f32 {
    // A third of them says it as well.
    quantile(now.iter().zip(then).step_by(3).map(|(now, then)| now - then).collect(), 0.5)
}

fn quantile(mut values: Vec<f32>, part: f64) -> f32 {
    let place = (values.len() as f64 * part) as usize;
    if place >= values.len() {
        return 0.0;
    }
    *values.select_nth_unstable_by(place, f32::total_cmp).1
}
