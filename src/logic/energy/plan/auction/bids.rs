//! A site as an auction: every step has a price, as has every phase and circuit in it, and at these prices each
//! load takes its cheapest steps and the battery its best course. Owns the prices and who takes what at them;
//! `newton` moves the prices until all that is taken is what there is.
//!
//! What a stranger gets wrong: this is the fluid plan, without least powers; its prices prove a bound
//! (`bound`), and its powers guide the legal plan (`legal`). A load's taking rises over a small width of
//! price, and every load sees its own small noise, so that takings change evenly and equal steps differ.

use super::super::answer::{crowded, speckle, weights};
use super::super::careful::phase_candidates;
use super::super::curve::Reach;
use super::super::market::reach;
use super::super::reservoir::Course;
use super::super::sieve::{Load, Sound};
use super::super::standing::Standing;
use super::supply::Supply;

/// Noises; a load sees as many in a row as it has steps, from a place of its own.
const NOISES: usize = 8192;

/// Who draws alike: the same phases with the same share, the same circuits.
#[derive(Clone, Debug, PartialEq)]
pub struct Class {
    pub phases: [bool; 3],
    pub share: f64,
    pub groups: Vec<usize>,
    /// Its rows, each by its first step, with the share of a kW that flows there.
    pub rows: Vec<(usize, f64)>,
}

impl Class {
    fn new(site: &Sound, phases: [bool; 3], share: f64, groups: Vec<usize>) -> Class {
        let (steps, circuits) = (site.steps, circuits(site));
        let on = (0..3).filter(|p| circuits > 0 && phases[*p]).map(|p| (p * steps, share));
        let rows = on.chain(groups.iter().map(|g| (circuits + g * steps, 1.0))).collect();
        Class { phases, share, groups, rows }
    }
}

/// First row of the circuits: behind those of the phases, where these have a limit.
fn circuits(site: &Sound) -> usize {
    if site.phase.is_some() { 3 * site.steps } else { 0 }
}

/// A load that buys.
#[derive(Clone, Copy, Debug)]
pub struct Buyer {
    /// Its place among the loads.
    pub load: usize,
    pub class: usize,
    pub from: usize,
    pub to: usize,
    pub max_kw: f64,
    /// kW it wants over all steps.
    pub want: f64,
    /// What a kW is worth at most, currency.
    pub worth: f64,
    /// Where its noise begins.
    noise: usize,
    /// Price at which it stops buying.
    pub level: f64,
}

/// How evenly takings change.
#[derive(Clone, Copy, Debug)]
pub struct Softness {
    /// Width of price over which a load goes from nothing to its most, currency per kW and step.
    pub width: f64,
    /// Highest noise, likewise.
    pub noise: f64,
    /// Rise of the flats, currency per kW and step for each kW.
    pub tilt: f64,
}

pub struct Auction<'a> {
    pub site: &'a Sound,
    pub soft: Softness,
    pub top: f64,
    pub reach: Vec<Reach>,
    pub supply: Supply,
    pub classes: Vec<Class>,
    pub buyers: Vec<Buyer>,
    noises: Vec<f64>,
    /// Price of a kW in each step.
    pub price: Vec<f64>,
    /// Price of a kW on each phase and circuit; phase after phase, then circuit after circuit.
    pub row_price: Vec<f64>,
    /// Rows that could be passed at all.
    pub candidate: Vec<bool>,
    /// First row of the circuits.
    pub circuits: usize,
    /// What each class pays in each step, class after class.
    pub paid: Vec<f64>,
    /// What each class takes.
    pub taken: Vec<f64>,
    /// How much less each class takes for a price higher by one.
    pub yielding: Vec<f64>,
    /// Steps in which a buyer takes a part, buyer after buyer, and where each begins.
    pub parts: Vec<u32>,
    pub part_start: Vec<usize>,
    pub course: Course,
    /// Base load, loads and battery of each step, kW.
    pub demand: Vec<f64>,
    /// Flow on phases and circuits, kW.
    pub flow: Vec<f64>,
    pub work: u64,
}

impl<'a> Auction<'a> {
    pub fn new(site: &'a Sound, soft: Softness) -> Auction<'a> {
        let weights = weights(site);
        let steps = site.steps;
        // The battery is a class of its own, the first.
        let mut classes = vec![Class::new(site, [true; 3], 1.0 / 3.0, Vec::new())];
        let mut buyers = Vec::new();
        for (i, load) in site.loads.iter().enumerate().filter(|(_, load)| load.servable) {
            let class = class(site, &mut classes, load);
            let want = load.kwh / load.gain;
            buyers.push(Buyer {
                load: i,
                class,
                from: load.from,
                to: load.to,
                max_kw: load.max_kw,
                want,
                worth: weights.unserved * load.gain,
                noise: (i * 2_654_435_761) % (NOISES - steps.min(NOISES - 1)),
                level: 0.0,
            });
        }
        let circuits = circuits(site);
        let rows = circuits + site.groups.len() * steps;
        let gain = site.loads.iter().map(|l| l.gain).fold(site.hours, f64::max);
        let top = 1.5 * weights.unserved * gain;
        let reach = reach(site);
        let supply = Supply::new(site, &reach, top);
        let mut candidate = phase_candidates(site);
        candidate.extend(crowded(site));
        let price = (0..steps).map(|t| supply.flat(t, site.base[t])).collect();
        let places = classes.len() * steps;
        Auction {
            soft,
            top,
            reach,
            supply,
            buyers,
            noises: (0..NOISES).map(|k| speckle(k, 7)).collect(),
            price,
            row_price: vec![0.0; rows],
            candidate,
            circuits,
            paid: vec![0.0; places],
            taken: vec![0.0; places],
            yielding: vec![0.0; places],
            parts: Vec::new(),
            part_start: Vec::new(),
            course: Course::default(),
            demand: site.base.clone(),
            flow: vec![0.0; rows],
            classes,
            work: 0,
            site,
        }
    }

    /// Takes over the prices of a plan before; whether they are of as many steps, phases and circuits.
    pub fn begin(&mut self, before: &Standing) -> bool {
        let (step, rows) = before.prices();
        let known = step.len() == self.price.len() && rows.len() == self.row_price.len();
        if known {
            self.price.copy_from_slice(step);
            self.row_price.copy_from_slice(rows);
        }
        known
    }

    /// Limit of a row, kW.
    pub fn limit(&self, row: usize) -> f64 {
        if row < self.circuits {
            return self.site.phase.unwrap_or(0.0);
        }
        self.site.groups[(row - self.circuits) / self.site.steps]
    }

    /// Everybody's answer to the prices as they are.
    pub fn answer(&mut self) {
        let steps = self.site.steps;
        for class in 0..self.classes.len() {
            self.pay(class);
        }
        self.taken.fill(0.0);
        self.yielding.fill(0.0);
        self.parts.clear();
        self.part_start.clear();
        self.part_start.push(0);
        let (width, noise) = (self.soft.width, self.soft.noise);
        let mut evaluated = 0;
        for buyer in &mut self.buyers {
            let (from, to) = (buyer.class * steps + buyer.from, buyer.class * steps + buyer.to);
            let bid = Bid {
                paid: &self.paid[from..to],
                noise: &self.noises[buyer.noise..buyer.noise + buyer.to - buyer.from],
                scale: noise,
                over: buyer.max_kw / width,
                max_kw: buyer.max_kw,
                want: buyer.want,
                worth: buyer.worth,
                spread: 2.0 * (width + noise),
            };
            evaluated += bid.settle(&mut buyer.level) * (to - from);
            bid.take(buyer.level, &mut self.taken[from..to], &mut self.yielding[from..to], |t| {
                self.parts.push((buyer.from + t) as u32);
            });
            self.part_start.push(self.parts.len());
        }
        self.work += 4 * evaluated as u64;
        self.charge();
        self.sum_up();
        self.supply.answer(&self.price);
    }

    /// What a class pays: the step, and its share of each row.
    fn pay(&mut self, class: usize) {
        let steps = self.site.steps;
        let paid = &mut self.paid[class * steps..(class + 1) * steps];
        paid.copy_from_slice(&self.price);
        for (row, share) in &self.classes[class].rows {
            let prices = &self.row_price[*row..row + steps];
            paid.iter_mut().zip(prices).for_each(|(paid, price)| *paid += share * price);
        }
    }

    /// kW that a load goes without more for a level higher by one: nothing where it has all or none.
    pub fn without(&self, buyer: &Buyer) -> f64 {
        let spread = 2.0 * (self.soft.width + self.soft.noise);
        let above = buyer.level - buyer.worth;
        if above > 0.0 && above < spread { buyer.want / spread } else { 0.0 }
    }

    /// Other widths, from the same prices.
    pub fn soften(&mut self, soft: Softness) {
        self.soft = soft;
        (self.supply.tilt, self.supply.blur) = (soft.tilt, soft.width);
    }

    /// What the battery does, kW.
    pub fn store(&self) -> Vec<f64> {
        if self.site.store.is_some() { self.course.kw.clone() } else { vec![0.0; self.site.steps] }
    }

    fn charge(&mut self) {
        let Some(store) = self.site.store else {
            return;
        };
        let steps = self.site.steps;
        let most = 2.0 * self.top / (self.site.hours * store.eff_charge);
        let (site, width) = (self.site, self.soft.width);
        self.work += self.course.answer((site, &store), (width, most), &self.paid[..steps]);
        self.taken[..steps].copy_from_slice(&self.course.kw);
    }

    /// Demand and flows from what the classes take.
    fn sum_up(&mut self) {
        let (site, steps) = (self.site, self.site.steps);
        self.demand.copy_from_slice(&site.base);
        for k in 0..self.circuits {
            let (phase, t) = (k / steps, k % steps);
            self.flow[k] = site.share[phase] * site.base[t] - site.pv[t] / 3.0;
        }
        self.flow[self.circuits..].fill(0.0);
        for class in 0..self.classes.len() {
            let taken = &self.taken[class * steps..(class + 1) * steps];
            self.demand.iter_mut().zip(taken).for_each(|(demand, kw)| *demand += kw);
            for (row, share) in &self.classes[class].rows {
                let flow = &mut self.flow[*row..row + steps];
                flow.iter_mut().zip(taken).for_each(|(flow, kw)| *flow += share * kw);
            }
        }
    }

    /// Powers of all loads at the prices, one list each.
    pub fn powers(&self) -> Vec<Vec<f64>> {
        let mut powers: Vec<Vec<f64>> =
            self.site.loads.iter().map(|load| vec![0.0; load.to - load.from]).collect();
        let (steps, width) = (self.site.steps, self.soft.width);
        for buyer in &self.buyers {
            let from = buyer.class * steps;
            let paid = &self.paid[from + buyer.from..from + buyer.to];
            let over = buyer.max_kw / width;
            for ((kw, paid), noise) in
                powers[buyer.load].iter_mut().zip(paid).zip(&self.noises[buyer.noise..])
            {
                let bid = (buyer.level - paid - self.soft.noise * noise) * over;
                *kw = bid.clamp(0.0, buyer.max_kw);
            }
        }
        powers
    }
}

/// The place of a load's class; a new one where nobody draws like it. The first is the battery's.
fn class(site: &Sound, classes: &mut Vec<Class>, load: &Load) -> usize {
    let same = |class: &Class| {
        class.phases == load.phases && class.share == load.share && class.groups == load.groups
    };
    if let Some(place) = classes.iter().skip(1).position(same) {
        return place + 1;
    }
    classes.push(Class::new(site, load.phases, load.share, load.groups.clone()));
    classes.len() - 1
}

/// One load before its prices.
struct Bid<'b> {
    paid: &'b [f64],
    noise: &'b [f64],
    scale: f64,
    /// kW for each currency per kW and step.
    over: f64,
    max_kw: f64,
    want: f64,
    worth: f64,
    /// How far apart levels are that are worth a try.
    spread: f64,
}

impl Bid<'_> {
    /// kW taken over all steps at a level, and how many steps are taken in part.
    fn sum(&self, level: f64) -> (f64, f64) {
        let (mut sums, mut parts) = ([0.0; 4], [0.0; 4]);
        let (over, most) = (self.over, self.max_kw);
        let mut one = |k: usize, paid: f64, noise: f64| {
            let bid = (level - paid - self.scale * noise) * over;
            let low = if bid > 0.0 { bid } else { 0.0 };
            let kw = if low < most { low } else { most };
            sums[k] += kw;
            parts[k] += if kw == bid { 1.0 } else { 0.0 };
        };
        let (mut paid, mut noise) = (self.paid.chunks_exact(4), self.noise.chunks_exact(4));
        for (paid, noise) in paid.by_ref().zip(noise.by_ref()) {
            for k in 0..4 {
                one(k, paid[k], noise[k]);
            }
        }
        for (k, (paid, noise)) in paid.remainder().iter().zip(noise.remainder()).enumerate() {
            one(k, *paid, *noise);
        }
        ((sums[0] + sums[2]) + (sums[1] + sums[3]), (parts[0] + parts[2]) + (parts[1] + parts[3]))
    }

    /// Finds the level at which it has what it wants, or goes without some of it; how often it looked.
    fn settle(&self, level: &mut f64) -> usize {
        let (mut low, mut high, mut reach) = (f64::NEG_INFINITY, f64::INFINITY, self.spread);
        // Going without costs a little more the more it is.
        let without = self.want / self.spread;
        for round in 1..60 {
            let (kw, parts) = self.sum(*level);
            let missing = ((*level - self.worth) * without).clamp(0.0, self.want);
            let over = kw + missing - self.want;
            if over.abs() <= 1e-7 * self.want {
                return round;
            }
            let slope = parts * self.over
                + if missing > 0.0 && missing < self.want { without } else { 0.0 };
            if over > 0.0 {
                high = *level
            } else {
                low = *level
            }
            let mut next = if slope > 0.0 { *level - over / slope } else { f64::NAN };
            if !(next > low && next < high) {
                next = if low.is_finite() && high.is_finite() {
                    0.5 * (low + high)
                } else if over > 0.0 {
                    *level - reach
                } else {
                    *level + reach
                };
                reach *= 4.0;
            }
            if next == *level {
                return round;
            }
            *level = next;
        }
        60
    }

    /// Adds what it takes, and names the steps in which that is a part.
    fn take(
        &self,
        level: f64,
        taken: &mut [f64],
        yielding: &mut [f64],
        mut part: impl FnMut(usize),
    ) {
        for (t, (paid, noise)) in self.paid.iter().zip(self.noise).enumerate() {
            let bid = (level - paid - self.scale * noise) * self.over;
            if bid > 0.0 {
                taken[t] += bid.min(self.max_kw);
                if bid < self.max_kw {
                    yielding[t] += self.over;
                    part(t);
                }
            }
        }
    }
}
