//! A linear programme of the planner's own form, and the factor of its normal equations. Every column
//! lies between 0 and a finite bound. Rows are of two kinds: *own* rows, which share no column with one
//! another (a load's energy, a step's peak) and are removed at once, and *shared* rows (a step's balance,
//! a circuit, the battery's charge), which remain as one small system with an envelope.
//!
//! What a stranger gets wrong: the order of the shared rows is the model's, and decides how far the envelope
//! reaches; the rows of one column stand near each other.

/// No own row.
pub const NONE: usize = usize::MAX;
/// Own rows of so few columns are removed pair by pair.
const FEW: usize = 4;

/// The programme: least `cost` with every row met.
#[derive(Debug, Default)]
pub struct Program {
    pub cost: Vec<f64>,
    pub upper: Vec<f64>,
    pub own: Vec<usize>,
    pub own_coef: Vec<f64>,
    pub start: Vec<usize>,
    pub row: Vec<usize>,
    pub coef: Vec<f64>,
    pub own_rhs: Vec<f64>,
    /// Columns of each own row.
    pub span: Vec<(usize, usize)>,
    pub rhs: Vec<f64>,
}

impl Program {
    pub fn new(shared: usize) -> Program {
        Program { rhs: vec![0.0; shared], start: vec![0], ..Program::default() }
    }

    /// Opens an own row; the columns that follow with it must come at once.
    pub fn open(&mut self, rhs: f64) -> usize {
        let here = self.cost.len();
        self.own_rhs.push(rhs);
        self.span.push((here, here));
        self.own_rhs.len() - 1
    }

    /// Adds a column: cost and upper bound, own row and its coefficient, shared entries.
    pub fn column(
        &mut self,
        (cost, upper): (f64, f64),
        own: (usize, f64),
        entries: &[(usize, f64)],
    ) -> usize {
        self.cost.push(cost);
        self.upper.push(upper.max(0.0));
        self.own.push(own.0);
        self.own_coef.push(own.1);
        for (row, coef) in entries {
            self.row.push(*row);
            self.coef.push(*coef);
        }
        self.start.push(self.row.len());
        if own.0 != NONE {
            self.span[own.0].1 = self.cost.len();
        }
        self.cost.len() - 1
    }

    pub fn columns(&self) -> usize {
        self.cost.len()
    }

    /// `A x` into own and shared parts.
    pub fn times(&self, x: &[f64], own: &mut [f64], shared: &mut [f64]) {
        own.fill(0.0);
        shared.fill(0.0);
        for j in 0..self.columns() {
            let xj = x[j];
            if self.own[j] != NONE {
                own[self.own[j]] += self.own_coef[j] * xj;
            }
            for k in self.start[j]..self.start[j + 1] {
                shared[self.row[k]] += self.coef[k] * xj;
            }
        }
    }

    /// `Aᵀ y`, one number a column.
    pub fn times_transposed(&self, own: &[f64], shared: &[f64], out: &mut [f64]) {
        for j in 0..self.columns() {
            let mut sum =
                if self.own[j] == NONE { 0.0 } else { self.own_coef[j] * own[self.own[j]] };
            for k in self.start[j]..self.start[j + 1] {
                sum += self.coef[k] * shared[self.row[k]];
            }
            out[j] = sum;
        }
    }
}

/// The Cholesky factor of the shared system, row by row from its first entry.
#[derive(Debug)]
pub struct Factor {
    first: Vec<usize>,
    offset: Vec<usize>,
    data: Vec<f64>,
    inverse: Vec<f64>,
    own: Vec<f64>,
    /// First shared row that an own row couples, and where its couplings begin: one for every row from there
    /// to the last, nothing in those between that it has no part in.
    low: Vec<usize>,
    coupled: Vec<usize>,
    coupling: Vec<f64>,
    /// For each coupling the first shared row of the column it comes from, counted from `low`.
    column_first: Vec<usize>,
    /// Multiplications that one factorisation takes, about.
    pub effort: u64,
}

/// The sum of the products, in eight lanes.
pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; 8];
    let (mut left, mut right) = (a.chunks_exact(8), b.chunks_exact(8));
    for (x, y) in left.by_ref().zip(right.by_ref()) {
        for k in 0..8 {
            sums[k] += x[k] * y[k];
        }
    }
    let rest: f64 = left.remainder().iter().zip(right.remainder()).map(|(x, y)| x * y).sum();
    rest + ((sums[0] + sums[4]) + (sums[1] + sums[5])) + ((sums[2] + sums[6]) + (sums[3] + sums[7]))
}

impl Factor {
    /// The shape of the factor of `program`, without numbers and without room for them.
    pub fn shape(program: &Program) -> Factor {
        let rows = program.rhs.len();
        let mut first: Vec<usize> = (0..rows).collect();
        let (mut lows, mut coupled, mut column_first) = (Vec::new(), vec![0], Vec::new());
        let mut effort = 0u64;
        for (from, to) in &program.span {
            let entries = &program.row[program.start[*from]..program.start[*to]];
            let low = entries.iter().copied().min().unwrap_or(0);
            let end = entries.iter().max().map_or(low, |high| high + 1);
            let at = column_first.len();
            column_first.resize(at + end - low, 0);
            for j in *from..*to {
                let entries = &program.row[program.start[j]..program.start[j + 1]];
                let least = entries.iter().copied().min().unwrap_or(low);
                for row in entries {
                    column_first[at + row - low] = least - low;
                    first[*row] = first[*row].min(low);
                }
                effort += (entries.len() * (end - low) / 4) as u64;
            }
            lows.push(low);
            coupled.push(column_first.len());
        }
        for j in 0..program.columns() {
            let entries = &program.row[program.start[j]..program.start[j + 1]];
            let least = entries.iter().copied().min().unwrap_or(0);
            entries.iter().for_each(|row| first[*row] = first[*row].min(least));
        }
        let mut offset = vec![0; rows + 1];
        for i in 0..rows {
            offset[i + 1] = offset[i] + i - first[i] + 1;
            let width = (i - first[i]) as u64;
            effort += width * width / 2;
        }
        let own = program.own_rhs.len();
        Factor {
            data: Vec::new(),
            inverse: vec![0.0; rows],
            own: vec![0.0; own],
            coupling: vec![0.0; column_first.len()],
            effort: effort + 30 * program.row.len() as u64 + 70 * program.columns() as u64,
            first,
            offset,
            low: lows,
            coupled,
            column_first,
        }
    }

    fn at(&self, i: usize, j: usize) -> usize {
        let (high, low) = if i > j { (i, j) } else { (j, i) };
        self.offset[high] + low - self.first[high]
    }

    /// Numbers for the weights `theta` of the columns.
    pub fn compute(&mut self, program: &Program, theta: &[f64]) {
        self.data.resize(self.offset[self.inverse.len()], 0.0);
        self.data.fill(0.0);
        self.coupling.fill(0.0);
        self.own.fill(0.0);
        for (j, theta) in theta.iter().enumerate() {
            let own = program.own[j];
            if own == NONE {
                self.add(program, j, *theta);
                continue;
            }
            let weight = theta * program.own_coef[j];
            self.own[own] += weight * program.own_coef[j];
            let (base, low) = (self.coupled[own], self.low[own]);
            for k in program.start[j]..program.start[j + 1] {
                self.coupling[base + program.row[k] - low] += weight * program.coef[k];
            }
        }
        for own in 0..self.own.len() {
            let (from, to) = program.span[own];
            if to - from <= FEW {
                self.remove_few(program, theta, own);
            } else {
                self.remove(program, theta, own);
            }
        }
        self.decompose();
    }

    fn add(&mut self, program: &Program, j: usize, weight: f64) {
        let (from, to) = (program.start[j], program.start[j + 1]);
        for a in from..to {
            for b in from..=a {
                let place = self.at(program.row[a], program.row[b]);
                self.data[place] += weight * program.coef[a] * program.coef[b];
            }
        }
    }

    /// Takes an own row of few columns out of the shared system, pair by pair (Lagrange's identity), so
    /// that nothing large is subtracted from something large.
    fn remove_few(&mut self, program: &Program, theta: &[f64], own: usize) {
        let (from, to) = program.span[own];
        let over = 1.0 / self.own[own].max(1e-300);
        let mut merged: Vec<(usize, f64)> = Vec::new();
        for j in from..to {
            for k in j + 1..to {
                merged.clear();
                for (column, factor) in [(j, program.own_coef[k]), (k, -program.own_coef[j])] {
                    for e in program.start[column]..program.start[column + 1] {
                        let (row, value) = (program.row[e], factor * program.coef[e]);
                        match merged.iter_mut().find(|entry| entry.0 == row) {
                            Some(entry) => entry.1 += value,
                            None => merged.push((row, value)),
                        }
                    }
                }
                let weight = theta[j] * theta[k] * over;
                for a in 0..merged.len() {
                    for b in 0..=a {
                        let place = self.at(merged[a].0, merged[b].0);
                        self.data[place] += weight * merged[a].1 * merged[b].1;
                    }
                }
            }
        }
    }

    /// Takes a load's row out of the shared system. No shared row holds two columns of one load, so what
    /// a column keeps of itself is its weight times the share of all others: a sum, not a difference.
    fn remove(&mut self, program: &Program, theta: &[f64], own: usize) {
        let (from, to) = program.span[own];
        let over = 1.0 / self.own[own].max(1e-300);
        let part = |j: usize| theta[j] * program.own_coef[j] * program.own_coef[j];
        let mut others = vec![0.0; to - from];
        let (mut before, mut after) = (0.0, 0.0);
        for k in 0..to - from {
            others[k] += before;
            before += part(from + k);
            others[to - from - 1 - k] += after;
            after += part(to - 1 - k);
        }
        for j in from..to {
            self.add(program, j, theta[j] * others[j - from] * over);
        }
        let range = self.coupled[own]..self.coupled[own + 1];
        let (low, values) = (self.low[own], &self.coupling[range.clone()]);
        for (a, until) in self.column_first[range].iter().enumerate() {
            if values[a] == 0.0 {
                continue;
            }
            // All before those of its own column, which stand side by side.
            let (row, factor) = (low + a, values[a] * over);
            let base = self.offset[row] + low - self.first[row];
            let target = &mut self.data[base..base + until];
            target.iter_mut().zip(values).for_each(|(t, v)| *t -= factor * v);
        }
    }

    fn decompose(&mut self) {
        for i in 0..self.inverse.len() {
            let (above, from_here) = self.data.split_at_mut(self.offset[i]);
            let first = self.first[i];
            let row = &mut from_here[..=i - first];
            let before = row[i - first];
            for j in first..i {
                let low = first.max(self.first[j]);
                let other = &above[self.offset[j] + low - self.first[j]..];
                let sum = dot(&row[low - first..j - first], &other[..j - low]);
                row[j - first] = (row[j - first] - sum) * self.inverse[j];
            }
            let left = before - dot(&row[..i - first], &row[..i - first]);
            // A row that depends on those above it takes no part.
            self.inverse[i] =
                if left > before * 1e-15 && left > 1e-300 { 1.0 / left.sqrt() } else { 0.0 };
        }
    }

    /// Solves the normal equations in place.
    pub fn solve(&self, own: &mut [f64], shared: &mut [f64]) {
        for (k, value) in own.iter().enumerate() {
            let factor = value / self.own[k].max(1e-300);
            let coupling = &self.coupling[self.coupled[k]..self.coupled[k + 1]];
            let target = shared[self.low[k]..].iter_mut();
            target.zip(coupling).for_each(|(s, c)| *s -= factor * c);
        }
        let rows = self.inverse.len();
        for i in 0..rows {
            let row = &self.data[self.offset[i]..self.offset[i + 1] - 1];
            let sum = dot(row, &shared[self.first[i]..i]);
            shared[i] = (shared[i] - sum) * self.inverse[i];
        }
        for i in (0..rows).rev() {
            shared[i] *= self.inverse[i];
            let value = shared[i];
            let row = &self.data[self.offset[i]..self.offset[i + 1] - 1];
            shared[self.first[i]..i].iter_mut().zip(row).for_each(|(s, l)| *s -= value * l);
        }
        for (k, value) in own.iter_mut().enumerate() {
            let coupling = &self.coupling[self.coupled[k]..self.coupled[k + 1]];
            let sum = dot(coupling, &shared[self.low[k]..self.low[k] + coupling.len()]);
            *value = (*value - sum) / self.own[k].max(1e-300);
        }
    }
}
