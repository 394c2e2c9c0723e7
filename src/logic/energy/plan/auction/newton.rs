//! Moves a market's prices to where all that is taken is what there is: Newton's method on the excess of each
//! step and of each row that is at its limit. Owns the matrix and the step.
//!
//! What a stranger gets wrong: takings fall evenly with prices, so the matrix is what everybody yields, less,
//! for each load, what it takes elsewhere instead: its energy stays. Who reaches how far is asked before anything is
//! written: the matrix has room for that and no more, and a step that would take more work than there is, is not taken.

use super::super::program::dot;
use super::bids::Auction;

const NONE: usize = usize::MAX;
/// No price moves further at once than so many widths.
const FARTHEST: f64 = 8.0;
/// How much everybody is taken to yield at least over a width, beside what there is too much: those who
/// do not yield yet will.
const RIDGE: f64 = 0.01;
/// Most lengths tried for one step.
const TRIES: usize = 5;
/// How far past the balance a step may end, as a part of how far before it it began.
const PAST: f64 = 0.5;

/// The matrix, kept from step to step.
#[derive(Debug, Default)]
pub struct Newton {
    /// Places of the steps' prices and of the rows'.
    step: Vec<usize>,
    row: Vec<usize>,
    /// Which price stands where: a step, or a row after all steps.
    order: Vec<usize>,
    /// First place of each row of the matrix, and where its numbers begin, from the first to the diagonal.
    first: Vec<usize>,
    offset: Vec<usize>,
    /// Whether only the first places are asked for.
    asking: bool,
    data: Vec<f64>,
    inverse: Vec<f64>,
    excess: Vec<f64>,
    change: Vec<f64>,
    before: Vec<f64>,
    rows_before: Vec<f64>,
    entries: Vec<(usize, f64)>,
}

impl Newton {
    /// Excess of every price that may move, kW; all of it together as a part of all that is taken.
    pub fn look(&mut self, market: &Auction<'_>) -> f64 {
        let steps = market.site.steps;
        self.step.clear();
        self.step.resize(steps, NONE);
        self.row.clear();
        self.row.resize(market.flow.len(), NONE);
        self.order.clear();
        self.excess.clear();
        let (mut over, mut all) = (0.0, 1e-6);
        for t in 0..steps {
            self.step[t] = self.order.len();
            self.order.push(t);
            let excess = market.demand[t] - market.supply.kw[t];
            self.excess.push(excess);
            over += excess.abs();
            all += market.demand[t].abs();
            for k in (t..market.flow.len()).step_by(steps).filter(|k| market.candidate[*k]) {
                let excess = row_excess(market, k);
                if excess != 0.0 || market.row_price[k] != 0.0 {
                    self.row[k] = self.order.len();
                    self.order.push(steps + k);
                    self.excess.push(excess);
                    over += excess.abs();
                }
            }
        }
        over / all
    }

    /// One step of the prices, and everybody's answer; `look` came before it. Where the end of the step has gone
    /// past the balance, a shorter one is taken. Says so where it would take more than `most` work, and moves nothing.
    pub fn advance(&mut self, market: &mut Auction<'_>, most: u64) -> bool {
        self.shape(market);
        let after = market.work.saturating_add(self.effort());
        if after > most {
            return false;
        }
        market.work = after;
        self.fill(market);
        self.decompose();
        self.solve();
        let most = FARTHEST * (market.soft.width + market.soft.noise);
        self.change.iter_mut().for_each(|change| *change = change.clamp(-most, most));
        self.before.clone_from(&market.price);
        self.rows_before.clone_from(&market.row_price);
        let along: f64 = self.change.iter().zip(&self.excess).map(|(c, e)| c * e).sum();
        let mut part = 1.0;
        for _ in 0..TRIES {
            self.go(market, part);
            market.answer();
            let here = self.along(market);
            if here > -PAST * along {
                break;
            }
            part *= (along / (along - here)).clamp(0.1, 0.7);
        }
        true
    }

    /// The change of prices times the excess as it is now.
    fn along(&self, market: &Auction<'_>) -> f64 {
        let steps = market.site.steps;
        let excess = |which: usize| match which.checked_sub(steps) {
            Some(row) => row_excess(market, row),
            None => market.demand[which] - market.supply.kw[which],
        };
        self.order.iter().zip(&self.change).map(|(which, change)| change * excess(*which)).sum()
    }

    /// Prices a part of the way. A row's price does not change its side.
    fn go(&self, market: &mut Auction<'_>, part: f64) {
        let (steps, most) = (market.site.steps, 4.0 * market.top);
        for (place, which) in self.order.iter().enumerate() {
            let change = part * self.change[place];
            let Some(row) = which.checked_sub(steps) else {
                market.price[*which] = (self.before[*which] + change).clamp(-most, most);
                continue;
            };
            let from = self.rows_before[row];
            let side = if from == 0.0 { self.excess[place] } else { from };
            let after = from + change;
            market.row_price[row] = if after * side > 0.0 { after.clamp(-most, most) } else { 0.0 };
        }
    }

    fn effort(&self) -> u64 {
        let width = |(i, first): (usize, &usize)| ((i - first) * (i - first)) as u64 / 2;
        self.first.iter().enumerate().map(width).sum()
    }

    /// How far each row of the matrix reaches.
    fn shape(&mut self, market: &Auction<'_>) {
        self.first.clear();
        self.first.extend(0..self.order.len());
        self.asking = true;
        self.products(market);
        self.asking = false;
        self.offset.clear();
        self.offset.push(0);
        for (i, first) in self.first.iter().enumerate() {
            self.offset.push(self.offset[i] + i - first + 1);
        }
    }

    fn fill(&mut self, market: &Auction<'_>) {
        let (n, steps) = (self.order.len(), market.site.steps);
        self.data.clear();
        self.data.resize(self.offset[n], 0.0);
        let mean = market.demand.iter().map(|kw| kw.abs()).sum::<f64>() / steps as f64;
        let far = market.soft.width + market.soft.noise;
        for place in 0..n {
            let ridge = (RIDGE * (mean + 0.1) + self.excess[place].abs()) / far;
            self.data[self.offset[place + 1] - 1] = ridge;
        }
        for t in 0..steps {
            self.data[self.offset[self.step[t] + 1] - 1] += market.supply.slope[t];
        }
        self.products(market);
    }

    /// What everybody yields, and what that takes with it.
    fn products(&mut self, market: &Auction<'_>) {
        let (steps, supply) = (market.site.steps, &market.supply);
        self.entries.clear();
        for t in 0..steps {
            if supply.felt[t] > 0.0 {
                self.entries.push((self.step[t], 1.0));
            }
        }
        self.product(supply.shared);
        for class in 0..market.classes.len() {
            for t in 0..steps {
                let yielding = match class {
                    0 => battery_yield(market, t),
                    _ => market.yielding[class * steps + t],
                };
                if yielding > 0.0 {
                    self.entries.clear();
                    self.enter(market, class, (t, 1.0));
                    self.product(yielding);
                }
            }
        }
        for (i, buyer) in market.buyers.iter().enumerate() {
            let parts = &market.parts[market.part_start[i]..market.part_start[i + 1]];
            if parts.is_empty() {
                continue;
            }
            self.entries.clear();
            parts.iter().for_each(|t| self.enter(market, buyer.class, (*t as usize, 1.0)));
            let over = buyer.max_kw / market.soft.width;
            let all = parts.len() as f64 * over + market.without(buyer);
            self.product(-over * over / all);
        }
        self.battery(market);
    }

    fn battery(&mut self, market: &Auction<'_>) {
        let (course, steps) = (&market.course, market.site.steps);
        for (k, (from, fixed)) in course.stretches.iter().enumerate() {
            let to = course.stretches.get(k + 1).map_or(steps, |next| next.0);
            if !fixed {
                continue;
            }
            self.entries.clear();
            let mut all = 0.0;
            for t in *from..to {
                let yielding = battery_yield(market, t);
                if yielding > 0.0 {
                    self.enter(market, 0, (t, yielding * course.part[t]));
                    all += yielding * course.part[t] * course.part[t];
                }
            }
            if all > 0.0 {
                self.product(-1.0 / all);
            }
        }
    }

    /// The prices that a class pays in a step.
    fn enter(&mut self, market: &Auction<'_>, class: usize, (t, kw): (usize, f64)) {
        self.entries.push((self.step[t], kw));
        for (row, share) in &market.classes[class].rows {
            let place = self.row[row + t];
            if place != NONE {
                self.entries.push((place, share * kw));
            }
        }
    }

    /// Adds `weight` times the entries' product with themselves; their places rise.
    fn product(&mut self, weight: f64) {
        let Some(first) = self.entries.first().map(|entry| entry.0) else {
            return;
        };
        if self.asking {
            let first_of = &mut self.first;
            self.entries.iter().for_each(|(i, _)| first_of[*i] = first_of[*i].min(first));
            return;
        }
        for (a, (i, x)) in self.entries.iter().enumerate() {
            let row = &mut self.data[self.offset[*i]..self.offset[i + 1]];
            let from = self.first[*i];
            self.entries[..=a].iter().for_each(|(j, y)| row[j - from] += weight * x * y);
        }
    }

    fn decompose(&mut self) {
        self.inverse.clear();
        for i in 0..self.order.len() {
            let (above, here) = self.data.split_at_mut(self.offset[i]);
            let first = self.first[i];
            let row = &mut here[..=i - first];
            for j in first..i {
                let low = first.max(self.first[j]);
                let other = &above[self.offset[j] + low - self.first[j]..];
                let sum = dot(&row[low - first..j - first], &other[..j - low]);
                row[j - first] = (row[j - first] - sum) * self.inverse[j];
            }
            let before = row[i - first];
            let left = before - dot(&row[..i - first], &row[..i - first]);
            let sound = left > before * 1e-12 && left > 1e-300;
            self.inverse.push(if sound { 1.0 / left.sqrt() } else { 0.0 });
        }
    }

    fn solve(&mut self) {
        self.change.clone_from(&self.excess);
        let (n, change) = (self.order.len(), &mut self.change);
        for i in 0..n {
            let first = self.first[i];
            let row = &self.data[self.offset[i]..self.offset[i + 1] - 1];
            change[i] = (change[i] - dot(row, &change[first..i])) * self.inverse[i];
        }
        for i in (0..n).rev() {
            change[i] *= self.inverse[i];
            let (first, value) = (self.first[i], change[i]);
            let row = &self.data[self.offset[i]..self.offset[i + 1] - 1];
            change[first..i].iter_mut().zip(row).for_each(|(c, l)| *c -= value * l);
        }
    }
}

/// How much less the battery takes for a price higher by one.
fn battery_yield(market: &Auction<'_>, t: usize) -> f64 {
    let (course, Some(store)) = (&market.course, market.site.store) else {
        return 0.0;
    };
    match course.part[t] {
        part if part <= 0.0 => 0.0,
        _ if course.kw[t] > 0.0 => market.site.charge_kw(t) / market.soft.width,
        _ => store.discharge_kw / market.soft.width,
    }
}

fn row_excess(market: &Auction<'_>, k: usize) -> f64 {
    let (flow, limit, price) = (market.flow[k], market.limit(k), market.row_price[k]);
    if price > 0.0 || (price == 0.0 && flow > limit) {
        flow - limit
    } else if price < 0.0 || (k < market.circuits && flow < -limit) {
        flow + limit
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::problem::{Problem, Session};
    use super::super::super::sieve::sift;
    use super::super::open;
    use super::*;

    const STEPS: usize = 720;

    /// A day in steps of two minutes, with cars that stay for all of it on phases at their limits.
    fn fine() -> Problem {
        let car = |i: usize| Session {
            departure: STEPS as i64,
            need_kwh: 40.0,
            efficiency: 1.0,
            max_kw: 7.0,
            phases: [0, 1, 2].map(|p| p == i % 3),
            ..Session::default()
        };
        let all = |value: f64| vec![value; STEPS];
        Problem {
            steps: STEPS,
            step_hours: 24.0 / STEPS as f64,
            pv_kw: all(0.0),
            base_kw: all(1.0),
            import_price: (0..STEPS).map(|t| 0.2 + 0.1 * (t % 7) as f64).collect(),
            export_price: all(0.05),
            import_limit_kw: all(20.0),
            export_limit_kw: all(20.0),
            phase_limit_kw: Some(3.0),
            base_share: [1.0 / 3.0; 3],
            sessions: (0..6).map(car).collect(),
            ..Problem::default()
        }
    }

    #[test]
    fn no_room_is_taken_for_a_step_that_is_beyond_the_budget() {
        let (site, _) = sift(&fine());
        let (mut auction, mut newton) = (open(&site), Newton::default());
        auction.answer();
        newton.look(&auction);
        let (before, work) = (auction.price.clone(), auction.work);
        assert!(!newton.advance(&mut auction, 1_000_000), "a step of more than a million");
        assert_eq!(auction.price, before);
        assert_eq!(auction.work, work, "what is not done costs nothing");
        assert_eq!(newton.data.capacity(), 0);
        // Where there is work enough it has no more room than rows reach.
        auction.work = 0;
        assert!(newton.advance(&mut auction, u64::MAX));
        let most: usize = newton.first.iter().enumerate().map(|(i, first)| i - first + 1).sum();
        assert_eq!(newton.data.len(), most);
        assert!(auction.price != before);
    }
}
