//! The interior-point method (Mehrotra's predictor and corrector) on a [`Program`]. Owns how a point
//! moves and when it is good enough; promises nothing about a point that ran out of work but that its
//! prices still give a bound.

use super::program::{Factor, NONE, Program};

const MOST_ROUNDS: usize = 60;
/// Gap from which on a point is of no use, and from which on one that moves away again is not waited for, however rough
/// it may be.
const FAR: f64 = 0.03;
const LOST: f64 = 0.1;

/// Where the method stopped.
#[derive(Clone, Debug, Default)]
pub struct Point {
    pub x: Vec<f64>,
    /// Prices of each column's bounds, low and high.
    pub z: Vec<f64>,
    pub w: Vec<f64>,
    /// Prices of own and shared rows.
    pub own: Vec<f64>,
    pub shared: Vec<f64>,
    pub good: bool,
}

struct Walk<'a> {
    program: &'a Program,
    factor: Factor,
    x: Vec<f64>,
    /// Distance to the upper bound.
    s: Vec<f64>,
    z: Vec<f64>,
    w: Vec<f64>,
    y_own: Vec<f64>,
    y: Vec<f64>,
    theta: Vec<f64>,
    /// One over `x` and `s`.
    over_x: Vec<f64>,
    over_s: Vec<f64>,
    left_own: Vec<f64>,
    left: Vec<f64>,
    dual_left: Vec<f64>,
    /// The products wanted, low and high, for each column.
    low: Vec<f64>,
    high: Vec<f64>,
    step: Step,
}

/// A move and what it is computed with, kept from round to round: these lists are long, and asking for
/// them anew costs more than filling them.
#[derive(Default)]
struct Step {
    dx: Vec<f64>,
    dz: Vec<f64>,
    dw: Vec<f64>,
    own: Vec<f64>,
    shared: Vec<f64>,
    pull: Vec<f64>,
    want_own: Vec<f64>,
    want: Vec<f64>,
    met_own: Vec<f64>,
    met: Vec<f64>,
}

impl Step {
    fn of(columns: usize, own: usize, shared: usize) -> Step {
        let column = || vec![0.0; columns];
        let (of_own, of_shared) = (|| vec![0.0; own], || vec![0.0; shared]);
        Step {
            dx: column(),
            dz: column(),
            dw: column(),
            pull: column(),
            own: of_own(),
            want_own: of_own(),
            met_own: of_own(),
            shared: of_shared(),
            want: of_shared(),
            met: of_shared(),
        }
    }
}

/// How often the change fits before a value is nothing.
fn longest(value: &[f64], change: &[f64], sign: f64) -> f64 {
    let mut most = [1e-9; 4];
    let (mut values, mut changes) = (value.chunks_exact(4), change.chunks_exact(4));
    for (value, change) in values.by_ref().zip(changes.by_ref()) {
        for k in 0..4 {
            let part = -sign * change[k] / value[k];
            most[k] = if part > most[k] { part } else { most[k] };
        }
    }
    let rest = values.remainder().iter().zip(changes.remainder());
    let rest = rest.fold(1e-9, |most: f64, (value, change)| most.max(-sign * change / value));
    1.0 / most.into_iter().fold(rest, f64::max)
}

impl Point {
    /// Half of what each column may be, all prices alike.
    fn middle(program: &Program) -> Point {
        let cost = &program.cost;
        let mean = cost.iter().map(|c| c.abs()).sum::<f64>() / cost.len().max(1) as f64;
        let spread = (0.3 * mean).max(1e-3);
        Point {
            x: program.upper.iter().map(|u| u * 0.5).collect(),
            z: cost.iter().map(|c| c.max(0.0) + spread).collect(),
            w: cost.iter().map(|c| (-c).max(0.0) + spread).collect(),
            own: vec![0.0; program.own_rhs.len()],
            shared: vec![0.0; program.rhs.len()],
            good: false,
        }
    }

    /// Mean product of a bound's distance and its price.
    pub fn mu(&self, program: &Program) -> f64 {
        let ends = self.x.iter().zip(&program.upper).zip(self.z.iter().zip(&self.w));
        let sum: f64 = ends.map(|((x, upper), (z, w))| x * z + (upper - x) * w).sum();
        sum / (2 * self.x.len()).max(1) as f64
    }
}

impl<'a> Walk<'a> {
    fn begin(program: &'a Program, from: Point) -> Walk<'a> {
        let n = program.columns();
        let Point { x, z, w, own, shared, .. } = from;
        Walk {
            factor: Factor::shape(program),
            s: program.upper.iter().zip(&x).map(|(u, x)| (u - x).max(1e-14)).collect(),
            x,
            z,
            w,
            y_own: own,
            y: shared,
            theta: vec![0.0; n],
            over_x: vec![0.0; n],
            over_s: vec![0.0; n],
            left_own: vec![0.0; program.own_rhs.len()],
            left: vec![0.0; program.rhs.len()],
            dual_left: vec![0.0; n],
            low: vec![0.0; n],
            high: vec![0.0; n],
            step: Step::of(n, program.own_rhs.len(), program.rhs.len()),
            program,
        }
    }

    /// Where it stands.
    fn keep(&self, point: &mut Point, good: bool) {
        point.x.clone_from(&self.x);
        point.z.clone_from(&self.z);
        point.w.clone_from(&self.w);
        point.own.clone_from(&self.y_own);
        point.shared.clone_from(&self.y);
        point.good = good;
    }

    /// Mean product of a bound's distance and its price.
    fn mu(&self) -> f64 {
        let low: f64 = self.x.iter().zip(&self.z).map(|(a, b)| a * b).sum();
        let high: f64 = self.s.iter().zip(&self.w).map(|(a, b)| a * b).sum();
        (low + high) / (2 * self.x.len()).max(1) as f64
    }

    fn residuals(&mut self) {
        self.program.times(&self.x, &mut self.left_own, &mut self.left);
        let own = self.left_own.iter_mut().zip(&self.program.own_rhs);
        own.for_each(|(left, rhs)| *left = rhs - *left);
        self.left.iter_mut().zip(&self.program.rhs).for_each(|(left, rhs)| *left = rhs - *left);
        self.program.times_transposed(&self.y_own, &self.y, &mut self.dual_left);
        for j in 0..self.x.len() {
            self.dual_left[j] = self.program.cost[j] - self.dual_left[j] - self.z[j] + self.w[j];
            let (over_x, over_s) = (1.0 / self.x[j], 1.0 / self.s[j]);
            self.theta[j] = 1.0 / (self.z[j] * over_x + self.w[j] * over_s);
            (self.over_x[j], self.over_s[j]) = (over_x, over_s);
        }
    }

    /// The move towards the wanted products.
    fn aim(&mut self, exact: bool) {
        let (program, n) = (self.program, self.x.len());
        let Step { dx, dz, dw, own, shared, pull, want_own, want, met_own, met } = &mut self.step;
        for j in 0..n {
            pull[j] =
                self.dual_left[j] - self.low[j] * self.over_x[j] + self.high[j] * self.over_s[j];
            dx[j] = self.theta[j] * pull[j];
        }
        program.times(dx, own, shared);
        own.iter_mut().zip(&self.left_own).for_each(|(v, left)| *v += left);
        shared.iter_mut().zip(&self.left).for_each(|(v, left)| *v += left);
        want_own.copy_from_slice(own);
        want.copy_from_slice(shared);
        self.factor.solve(own, shared);
        program.times_transposed(own, shared, dx);
        if exact {
            // Once more on what is left over.
            dx.iter_mut().zip(&self.theta).for_each(|(d, t)| *d *= t);
            program.times(dx, met_own, met);
            met_own.iter_mut().zip(&*want_own).for_each(|(m, w)| *m = w - *m);
            met.iter_mut().zip(&*want).for_each(|(m, w)| *m = w - *m);
            self.factor.solve(met_own, met);
            own.iter_mut().zip(&*met_own).for_each(|(o, m)| *o += m);
            shared.iter_mut().zip(&*met).for_each(|(o, m)| *o += m);
            program.times_transposed(own, shared, dx);
        }
        for j in 0..n {
            dx[j] = self.theta[j] * (dx[j] - pull[j]);
            dz[j] = (self.low[j] - self.z[j] * dx[j]) * self.over_x[j];
            dw[j] = (self.high[j] + self.w[j] * dx[j]) * self.over_s[j];
        }
    }

    fn lengths(&self) -> (f64, f64) {
        let step = &self.step;
        let primal = longest(&self.x, &step.dx, 1.0).min(longest(&self.s, &step.dx, -1.0));
        let dual = longest(&self.z, &step.dz, 1.0).min(longest(&self.w, &step.dw, 1.0));
        (primal.min(1.0), dual.min(1.0))
    }

    fn round(&mut self, mu: f64) {
        self.factor.compute(self.program, &self.theta);
        let n = self.x.len();
        for j in 0..n {
            (self.low[j], self.high[j]) = (-self.x[j] * self.z[j], -self.s[j] * self.w[j]);
        }
        self.aim(false);
        let (primal, dual) = self.lengths();
        let guess = &self.step;
        let mut after = 0.0;
        for j in 0..n {
            after += (self.x[j] + primal * guess.dx[j]) * (self.z[j] + dual * guess.dz[j]);
            after += (self.s[j] - primal * guess.dx[j]) * (self.w[j] + dual * guess.dw[j]);
        }
        let ratio = (after / (2 * n).max(1) as f64 / mu).clamp(0.0, 1.0);
        let aim = ratio * ratio * ratio * mu;
        for j in 0..n {
            self.low[j] = self.low[j] + aim - guess.dx[j] * guess.dz[j];
            self.high[j] = self.high[j] + aim + guess.dx[j] * guess.dw[j];
        }
        self.aim(true);
        let (primal, dual) = self.lengths();
        let step = &self.step;
        let keep = (1.0 - 10.0 * mu).clamp(0.99, 0.9995);
        let (primal, dual) = (keep * primal, keep * dual);
        for j in 0..n {
            let move_by = primal * step.dx[j];
            self.x[j] = (self.x[j] + move_by).max(1e-14);
            self.s[j] = (self.s[j] - move_by).max(1e-14);
            self.z[j] = (self.z[j] + dual * step.dz[j]).max(1e-14);
            self.w[j] = (self.w[j] + dual * step.dw[j]).max(1e-14);
        }
        self.y_own.iter_mut().zip(&step.own).for_each(|(y, d)| *y += dual * d);
        self.y.iter_mut().zip(&step.shared).for_each(|(y, d)| *y += dual * d);
    }
}

/// Solves to a relative gap of `gap`, from a point of the same programme where there is one; takes from `work` what
/// it uses and stops when that is spent.
pub fn solve(program: &Program, from: Option<Point>, gap: f64, work: &mut u64) -> Point {
    let mut walk = Walk::begin(program, from.unwrap_or_else(|| Point::middle(program)));
    let scale = program.own_rhs.iter().chain(&program.rhs).fold(1.0_f64, |m, v| m.max(v.abs()));
    let (mut least, mut best) = (f64::INFINITY, Point::default());
    for _ in 0..MOST_ROUNDS {
        walk.residuals();
        let mu = walk.mu();
        let value: f64 = program.cost.iter().zip(&walk.x).map(|(c, x)| c * x).sum();
        let off = walk.left_own.iter().chain(&walk.left).fold(0.0_f64, |m, v| m.max(v.abs()));
        let between = mu * (2 * walk.x.len()) as f64 / (1.0 + value.abs());
        if !mu.is_finite() || !off.is_finite() {
            break;
        }
        // One number for both: how far from the best, and how far from meeting the rows.
        let merit = between.max(0.1 * off / scale);
        let good = between < gap && off < (0.01 * gap).max(1e-6) * scale;
        if merit < least {
            least = merit;
            walk.keep(&mut best, good || (between < (gap * 300.0).min(FAR) && off < 1e-4 * scale));
        }
        // Past the best that numbers of this size can say.
        let lost = merit > 100.0 * least && least < (gap * 1e3).min(LOST);
        if good || lost || *work < walk.factor.effort {
            break;
        }
        *work -= walk.factor.effort;
        walk.round(mu);
    }
    if !least.is_finite() {
        walk.keep(&mut best, false);
    }
    best
}

/// What no point that meets the rows can cost less than, by the prices alone: true for any prices.
pub fn bound(program: &Program, cost: &[f64], (own, shared): (&[f64], &[f64])) -> f64 {
    let mut reduced = vec![0.0; program.columns()];
    program.times_transposed(own, shared, &mut reduced);
    let rows = program.own_rhs.iter().zip(own).chain(program.rhs.iter().zip(shared));
    let mut total: f64 = rows.map(|(rhs, y)| rhs * y).sum();
    for j in 0..program.columns() {
        total += (cost[j] - reduced[j]).min(0.0) * program.upper[j];
    }
    debug_assert!(program.own.iter().all(|own| *own == NONE || *own < program.own_rhs.len()));
    total
}
