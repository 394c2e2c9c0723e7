//! A schedule for the eye: one line for a step or some steps, with the numbers and a bar for what the grid
//! gives (#) or takes (-). Owns the columns; the words are in `texts`.

use super::Planned;
use crate::texts::{Lang, text};

/// More lines than this are merged, some steps to one.
const MOST_LINES: usize = 48;
/// Characters of the longest bar.
const BAR: f64 = 24.0;

/// A heading and the lines. Powers are means in kW; battery and grid are positive when they give.
#[must_use]
pub fn picture(done: &Planned, lang: Lang) -> Vec<String> {
    let (problem, plan) = (&done.scenario.problem, &done.plan);
    let merged = problem.steps.div_ceil(MOST_LINES).max(1);
    let mut lines = vec![text(lang, "cli.plan.show_head").to_owned()];
    let sum = |rows: &[Vec<f64>], t: usize| rows.iter().map(|row| row[t]).sum::<f64>();
    let one = |t: usize| {
        let (cars, jobs) = (sum(&plan.session_kw, t), sum(&plan.job_kw, t));
        let sun = problem.pv_kw[t] - plan.curtail_kw[t];
        let grid = problem.base_kw[t] + cars + jobs + plan.store_kw[t] - sun;
        [problem.import_price[t], sun, problem.base_kw[t], cars, jobs, -plan.store_kw[t], grid]
    };
    let rows: Vec<[f64; 7]> = (0..problem.steps)
        .step_by(merged)
        .map(|from| {
            let to = (from + merged).min(problem.steps);
            let mut mean = [0.0; 7];
            for t in from..to {
                mean.iter_mut().zip(one(t)).for_each(|(m, v)| *m += v / (to - from) as f64);
            }
            mean
        })
        .collect();
    let longest = rows.iter().map(|row| row[6].abs()).fold(1e-3, f64::max);
    for (k, [price, sun, base, cars, jobs, battery, grid]) in rows.iter().enumerate() {
        let mark = if *grid < 0.0 { "-" } else { "#" };
        let bar = mark.repeat((grid.abs() / longest * BAR).round() as usize);
        lines.push(format!(
            "{:>5} {price:>8.4} {sun:>8.2} {base:>8.2} {cars:>8.2} {jobs:>8.2} {battery:>8.2} {grid:>8.2} {bar}",
            done.scenario.clock(k * merged),
        ));
    }
    lines
}
