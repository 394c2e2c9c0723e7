//! The battery's answer to prices: one value of stored energy as long as the battery is neither full nor
//! empty, and a new one each time it is. Owns that search.
//!
//! What a stranger gets wrong: what is left at the end beyond what was asked for is worth nothing.

use super::market::{BALANCED, Market, Offer, Spot};
use super::problem::Store;

/// What the battery does and what a kWh in it is worth at the end of each step.
#[derive(Clone, Debug, Default)]
pub struct Course {
    pub kw: Vec<f64>,
    pub worth: Vec<f64>,
}

enum End {
    /// Would pass its upper level in this step.
    Full(usize),
    /// Would fall below its lower level, or end too low.
    Empty(usize),
    Fits,
}

struct Reservoir {
    store: Store,
    hours: f64,
    steps: usize,
    offers: Vec<Offer>,
    start: Vec<usize>,
}

/// The best course of the battery, given all loads. `rounds` is how finely its value is looked for.
pub fn respond(market: &mut Market<'_>, rounds: usize) -> Course {
    let site = market.site;
    let Some(store) = site.store else {
        return Course { kw: vec![0.0; site.steps], worth: vec![0.0; site.steps] };
    };
    let (mut offers, mut start) = (Vec::new(), vec![0]);
    for t in 0..site.steps {
        let range = (-store.discharge_kw, store.charge_kw);
        let spot = Spot { t, place: t, now: market.store[t] };
        market.offer(BALANCED, spot, range, &mut offers);
        start.push(offers.len());
    }
    let reservoir = Reservoir { store, hours: site.hours, steps: site.steps, offers, start };
    let most = 2.0 * market.top / (site.hours * store.eff_charge);
    let (course, work) = reservoir.course(most, rounds);
    market.work += work;
    course
}

impl Reservoir {
    /// The power at which one more kW is worth its price, kW.
    fn power(&self, t: usize, worth: f64) -> f64 {
        let (store, hours) = (&self.store, self.hours);
        let wear = store.wear_per_kwh * hours / 2.0;
        let offers = &self.offers[self.start[t]..self.start[t + 1]];
        let at = |price: f64| -> f64 {
            offers.iter().map(|offer| offer.at(price)).sum::<f64>() - store.discharge_kw
        };
        let charge = at(worth * hours * store.eff_charge - wear);
        if charge > 0.0 {
            return charge;
        }
        at(worth * hours / store.eff_discharge + wear).min(0.0)
    }

    fn moved(&self, kw: f64) -> f64 {
        self.hours
            * if kw > 0.0 { kw * self.store.eff_charge } else { kw / self.store.eff_discharge }
    }

    /// How far one value leads from `level` at the start of step `from`.
    fn run(&self, worth: f64, (from, level): (usize, f64), kw: &mut [f64], work: &mut u64) -> End {
        let (store, mut level) = (&self.store, level);
        for (t, kw) in kw.iter_mut().enumerate().skip(from) {
            *kw = self.power(t, worth);
            *work += 12;
            let after = level + self.moved(*kw);
            let last = t + 1 == self.steps;
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

    fn course(&self, most: f64, rounds: usize) -> (Course, u64) {
        let mut course = Course { kw: vec![0.0; self.steps], worth: vec![0.0; self.steps] };
        let (mut from, mut level, mut work) = (0, self.store.soc0_kwh, 0);
        let mut kw = vec![0.0; self.steps];
        while from < self.steps {
            let (mut low, mut high) = (-most, most);
            let (mut full, mut empty) = (self.steps - 1, self.steps - 1);
            let mut fits = None;
            for _ in 0..rounds {
                let worth = 0.5 * (low + high);
                match self.run(worth, (from, level), &mut kw, &mut work) {
                    End::Full(t) => (high, full) = (worth, t),
                    End::Empty(t) => (low, empty) = (worth, t),
                    End::Fits => {
                        fits = Some(worth);
                        low = worth;
                    }
                }
            }
            let (worth, to) = match fits {
                Some(worth) if low <= worth => (worth, self.steps - 1),
                _ if full < empty => (high, full),
                _ => (low, empty),
            };
            self.run(worth, (from, level), &mut kw, &mut work);
            course.kw[from..=to].copy_from_slice(&kw[from..=to]);
            course.worth[from..=to].fill(worth);
            for kw in &course.kw[from..=to] {
                level += self.moved(*kw);
            }
            from = to + 1;
        }
        (course, work)
    }
}
