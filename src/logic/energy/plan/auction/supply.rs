//! What each step can give, as a price that rises with what is drawn: grid and sun, kinks where curtailment
//! ends, where the sun ends, at the connection's limit. Owns the answer to a price, and the one import cap
//! that all steps pay the demand charge for.
//!
//! What a stranger gets wrong: the flats rise a little (`tilt`), so that equal steps are filled evenly and
//! the answer is one number; the proof (`bound`) takes them flat again.

use super::super::curve::{Peak, Reach, Tariff, tariff};
use super::super::sieve::Sound;

/// The steps' tariffs and the cap.
#[derive(Debug)]
pub struct Supply {
    tariffs: Vec<Tariff>,
    /// Rise of the flats, currency per kW and step for each kW.
    pub tilt: f64,
    /// Over how wide a range of prices an answer is the mean.
    pub blur: f64,
    /// Demand from which the rise counts, kW, one a step.
    middle: Vec<f64>,
    per_kw: f64,
    so_far: f64,
    /// Highest import, kW; no bound where the demand charge is nothing.
    pub cap: f64,
    /// What each step bears of the demand charge, currency per kW.
    pub felt: Vec<f64>,
    /// Demand that is offered at the prices last asked, kW.
    pub kw: Vec<f64>,
    /// How much more for a price higher by one, kW; nothing in a kink.
    pub slope: Vec<f64>,
    /// Whether the demand charge itself gives way: the steps that feel it share one slope.
    pub shared: f64,
}

impl Supply {
    pub fn new(site: &Sound, reach: &[Reach], top: f64) -> Supply {
        let tariffs =
            (0..site.steps).map(|t| tariff(site, t, reach[t], Peak::flat(0.0), top)).collect();
        Supply {
            tariffs,
            tilt: 0.0,
            blur: 1e-9,
            middle: site.pv.clone(),
            per_kw: site.per_kw,
            so_far: site.so_far,
            cap: f64::MAX,
            felt: vec![0.0; site.steps],
            kw: vec![0.0; site.steps],
            slope: vec![0.0; site.steps],
            shared: 0.0,
        }
    }

    /// Price of step `t` where nothing is tight: of the flat that `kw` lies on.
    pub fn flat(&self, t: usize, kw: f64) -> f64 {
        self.tariffs[t].price(kw)
    }

    /// What one more kW costs at a demand, on the lower side of a kink.
    pub fn tariff(&self, t: usize) -> &Tariff {
        &self.tariffs[t]
    }

    /// The steps' answer to prices.
    pub fn answer(&mut self, price: &[f64]) {
        if self.per_kw > 0.0 {
            self.settle_cap(price);
        }
        for (t, tariff) in self.tariffs.iter().enumerate() {
            let asked = price[t] - self.felt[t];
            (self.kw[t], self.slope[t]) =
                tariff.answer(asked, (self.tilt, self.blur), self.middle[t]);
            if self.felt[t] > 0.0 {
                (self.kw[t], self.slope[t]) = (self.cap + self.middle[t], 0.0);
            }
        }
    }

    /// The cap at which the steps bear the demand charge between them: above it each would pay what its
    /// price is more than its energy. Where that is the connection's own limit, they share the charge.
    fn settle_cap(&mut self, price: &[f64]) {
        let limit = |t: usize| self.tariffs[t].most() - self.middle[t];
        let highest = (0..price.len()).map(limit).fold(self.so_far, f64::max);
        let mut cap = self.so_far;
        let feel = |cap: f64, felt: &mut [f64]| {
            let (mut sum, mut slope) = (0.0, 0.0);
            for (t, felt) in felt.iter_mut().enumerate() {
                let above = price[t] - self.tariffs[t].bought() - self.tilt * cap;
                *felt = if cap < limit(t) + 1e-9 { above.max(0.0) } else { 0.0 };
                sum += *felt;
                slope += if *felt > 0.0 { self.tilt } else { 0.0 };
            }
            (sum, slope)
        };
        let mut felt = std::mem::take(&mut self.felt);
        let (mut sum, mut slope) = feel(cap, &mut felt);
        for _ in 0..40 {
            let over = sum - self.per_kw;
            if over <= 1e-9 * self.per_kw || slope <= 0.0 || cap >= highest {
                break;
            }
            cap = (cap + over / slope).min(highest);
            (sum, slope) = feel(cap, &mut felt);
        }
        self.shared = 0.0;
        if sum > self.per_kw * (1.0 + 1e-6) {
            felt.iter_mut().for_each(|felt| *felt *= self.per_kw / sum);
        } else if cap > self.so_far && cap < highest && slope > 0.0 {
            self.shared = 1.0 / slope;
        }
        (self.felt, self.cap) = (felt, cap);
    }
}
