//! The battery's answer to prices: one value of stored energy as long as the battery is neither full nor
//! empty, and a new one each time it is. Owns that search.
//!
//! What a stranger gets wrong: what is left at the end beyond what was asked for is worth nothing.

use super::market::{BALANCED, Market, Offer, Spot};
use super::problem::Store;
use super::sieve::Sound;

/// Rounds in which a value is looked for.
const FINE: usize = 36;

/// What the battery does and what a kWh in it is worth at the end of each step.
#[derive(Clone, Debug, Default)]
pub struct Course {
    pub kw: Vec<f64>,
    pub worth: Vec<f64>,
    /// kWh that a kW more moves, where it could do a little more or less; nothing where it could not.
    pub part: Vec<f64>,
    /// First step of each stretch between full and empty, and whether its energy is fixed.
    pub stretches: Vec<(usize, bool)>,
    spare: Vec<f64>,
}

enum End {
    /// Would pass its upper level in this step.
    Full(usize),
    /// Would fall below its lower level, or end too low.
    Empty(usize),
    Fits,
}

/// The best course of the battery, given all loads.
pub fn respond(market: &mut Market<'_>) -> Course {
    let (site, mut course) = (market.site, Course::default());
    let Some(store) = site.store else {
        (course.kw, course.worth) = (vec![0.0; site.steps], vec![0.0; site.steps]);
        return course;
    };
    let (mut offers, mut start): (Vec<Offer>, _) = (Vec::new(), vec![0]);
    for t in 0..site.steps {
        let most = site.charge_beside(t, market.demand[t] - market.store[t]);
        let range = (-store.discharge_kw, most);
        let spot = Spot { t, place: t, now: market.store[t] };
        market.offer(BALANCED, spot, range, &mut offers);
        start.push(offers.len());
    }
    let most = 2.0 * market.top / (site.hours * store.eff_charge);
    let power = |t: usize, price: f64| {
        let offers = &offers[start[t]..start[t + 1]];
        offers.iter().map(|offer| offer.at(price)).sum::<f64>() - store.discharge_kw
    };
    let work = course.follow(&store, (site.hours, most), site.steps, power);
    // Each step is asked for all its offers.
    market.work += work * (1 + offers.len() as u64 / site.steps as u64);
    course
}

/// The battery before prices.
struct Reservoir<'r, P> {
    store: &'r Store,
    hours: f64,
    steps: usize,
    /// kW that it would take in a step at a price, below nothing where it would rather give.
    power: P,
}

impl Course {
    /// The best course at the prices of a kW, where it goes from nothing to its most over `width`; `most` is
    /// more than any value of energy. Returns the work done.
    pub fn answer(
        &mut self,
        (site, store): (&Sound, &Store),
        (width, most): (f64, f64),
        paid: &[f64],
    ) -> u64 {
        let hours = site.hours;
        let power = |t: usize, price: f64| {
            let over = (price - paid[t]) / width;
            if over > 0.0 { over.min(1.0) * site.charge_kw(t) } else { over * store.discharge_kw }
        };
        let work = self.follow(store, (hours, most), paid.len(), power);
        self.part.clear();
        for (t, kw) in self.kw.iter().enumerate() {
            let inside = *kw > -store.discharge_kw && *kw < site.charge_kw(t);
            self.part.push(match inside {
                true if *kw > 0.0 => hours * store.eff_charge,
                true if *kw < 0.0 => hours / store.eff_discharge,
                _ => 0.0,
            });
        }
        work
    }

    /// The best course where `power` says what it would take in a step at a price, kW.
    pub fn follow(
        &mut self,
        store: &Store,
        (hours, most): (f64, f64),
        steps: usize,
        power: impl Fn(usize, f64) -> f64,
    ) -> u64 {
        let reservoir = Reservoir { store, hours, steps, power };
        for list in [&mut self.kw, &mut self.worth, &mut self.spare] {
            list.clear();
            list.resize(steps, 0.0);
        }
        self.stretches.clear();
        let (mut from, mut level, mut work) = (0, store.soc0_kwh, 0);
        while from < steps {
            let (worth, to, fixed) =
                reservoir.stretch((from, level), most, &mut self.spare, &mut work);
            self.stretches.push((from, fixed));
            self.kw[from..=to].copy_from_slice(&self.spare[from..=to]);
            self.worth[from..=to].fill(worth);
            for kw in &self.kw[from..=to] {
                level += reservoir.moved(*kw);
            }
            from = to + 1;
        }
        work
    }
}

impl<P: Fn(usize, f64) -> f64> Reservoir<'_, P> {
    /// What it does at a value of energy, kW.
    fn power(&self, t: usize, worth: f64) -> f64 {
        let (store, wear) = (self.store, self.store.wear_per_kwh * self.hours / 2.0);
        let charge = (self.power)(t, worth * self.hours * store.eff_charge - wear);
        if charge > 0.0 {
            return charge.min(store.charge_kw);
        }
        let give = (self.power)(t, worth * self.hours / store.eff_discharge + wear);
        give.clamp(-store.discharge_kw, 0.0)
    }

    fn moved(&self, kw: f64) -> f64 {
        self.hours
            * if kw > 0.0 { kw * self.store.eff_charge } else { kw / self.store.eff_discharge }
    }

    /// How far one value leads from `level` at the start of step `from`.
    fn run(&self, worth: f64, (from, level): (usize, f64), kw: &mut [f64], work: &mut u64) -> End {
        let (store, mut level, steps) = (self.store, level, self.steps);
        for (t, kw) in kw.iter_mut().enumerate().skip(from) {
            *kw = self.power(t, worth);
            *work += 8;
            let after = level + self.moved(*kw);
            let last = t + 1 == steps;
            let least =
                if last { store.soc_min_kwh.max(store.soc_end_min_kwh) } else { store.soc_min_kwh };
            if after > store.soc_max_kwh {
                *kw = ((store.soc_max_kwh - level) / (self.hours * store.eff_charge)).max(0.0);
                return End::Full(t);
            }
            if after < least {
                let need = least - level;
                let by = if need > 0.0 { 1.0 / store.eff_charge } else { store.eff_discharge };
                *kw = (need * by / self.hours).clamp(-store.discharge_kw, store.charge_kw);
                return End::Empty(t);
            }
            level = after;
            if last && level > least + 1e-9 && worth > 0.0 {
                return End::Full(t);
            }
        }
        End::Fits
    }

    /// The next stretch: its value of energy, its last step, and whether its energy is fixed.
    fn stretch(
        &self,
        start: (usize, f64),
        most: f64,
        kw: &mut [f64],
        work: &mut u64,
    ) -> (f64, usize, bool) {
        let last = self.steps - 1;
        let (mut low, mut high) = (-most, most);
        let (mut full, mut empty) = (last, last);
        let mut fits = None;
        for _ in 0..FINE {
            let worth = 0.5 * (low + high);
            match self.run(worth, start, kw, work) {
                End::Full(t) => (high, full) = (worth, t),
                End::Empty(t) => (low, empty) = (worth, t),
                End::Fits => {
                    fits = Some(worth);
                    low = worth;
                }
            }
        }
        let (worth, to) = match fits {
            Some(worth) if low <= worth => (worth, last),
            _ if full < empty => (high, full),
            _ => (low, empty),
        };
        self.run(worth, start, kw, work);
        (worth, to, fits.is_none() || worth.abs() > 1e-9)
    }
}
