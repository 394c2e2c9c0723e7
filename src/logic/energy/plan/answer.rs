//! What a programme is weighed by, and what it answers in the site's words. Owns the order of wishes as
//! weights, and the small numbers that make equal plans differ so that there is one best.

use super::ledger::Sheet;
use super::sieve::{Load, Sound};

/// The judge's price of a kWh that was asked for and not given.
pub const UNSERVED: f64 = 10.0;

/// Directions that are fixed, a step each: above 0 import or charge only, below 0 export or discharge.
#[derive(Clone, Debug, Default)]
pub struct Ways {
    pub grid: Vec<i8>,
    pub store: Vec<i8>,
}

/// The programme's answer in the site's words.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// kW in each step of a load's window.
    pub kw: Vec<Vec<f64>>,
    pub store: Vec<f64>,
    pub curtail: Vec<f64>,
    /// Price of one more kW in each step, currency.
    pub price: Vec<f64>,
    /// What it costs more on a phase, phase after phase, and on a circuit, circuit after circuit; shorter
    /// where nothing else costs anything.
    pub phase_price: Vec<f64>,
    pub group_price: Vec<f64>,
    /// What a kWh in the battery is worth at the end of each step, currency; empty without one.
    pub worth: Vec<f64>,
    /// No legal schedule scores less; meaningful for a fluid programme.
    pub bound: f64,
    /// The same with loads that no legal schedule can serve left unserved: nearer to the truth.
    pub floor: f64,
    pub ways: Ways,
    pub good: bool,
}

/// Weights of what is wanted, in currency per kWh.
#[derive(Clone, Copy, Debug)]
pub struct Weights {
    pub unserved: f64,
    pub over: f64,
    pub noise: f64,
    /// Between the lowest and the highest price, currency per kWh.
    pub spread: f64,
}

pub fn weights(site: &Sound) -> Weights {
    let prices = site.buy.iter().chain(&site.sell);
    let (low, high) = prices.fold((0.0_f64, 0.0_f64), |(l, h), p| (l.min(*p), h.max(*p)));
    let worst = site.loads.iter().map(|l| l.gain / site.hours).fold(1.0_f64, f64::min);
    let unserved = (1.2 * (high - low + site.per_kw / site.hours) / worst).max(UNSERVED);
    let spread = (high - low).max(0.01);
    Weights { unserved, over: 8.0 * unserved, noise: 1e-4 * spread, spread }
}

/// What a plan comes to where what it passes and breaks counts as in a bound.
pub fn weighed(site: &Sound, sheet: &Sheet) -> f64 {
    sheet.score() + weights(site).over * (sheet.overload_kwh + sheet.broken)
}

/// A number in 0..1 that depends on load and step only.
pub fn speckle(load: usize, step: usize) -> f64 {
    let mut h = (load as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15)
        ^ (step as u64).wrapping_mul(0xD1B5_4A32_D192_ED03);
    h = (h ^ (h >> 31)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((h ^ (h >> 29)) >> 11) as f64 / (1u64 << 53) as f64
}

/// Circuits and steps where the members present could take more than the limit.
pub fn crowded(site: &Sound) -> Vec<bool> {
    let mut most = vec![0.0; site.groups.len() * site.steps];
    for load in site.loads.iter().filter(|load| load.servable) {
        for group in &load.groups {
            for t in load.from..load.to {
                most[group * site.steps + t] += load.max_kw;
            }
        }
    }
    most.iter().enumerate().map(|(k, kw)| *kw > site.groups[k / site.steps]).collect()
}

impl Answer {
    /// What one more kW costs a load in step `t`, all limits included.
    pub fn price_of(&self, load: &Load, t: usize) -> f64 {
        let steps = self.price.len();
        let row = |prices: &[f64], k: usize| prices.get(k * steps + t).copied().unwrap_or(0.0);
        let on = (0..3).filter(|phase| load.phases[*phase]);
        let phases: f64 = on.map(|phase| row(&self.phase_price, phase)).sum();
        let circuits: f64 = load.groups.iter().map(|group| row(&self.group_price, *group)).sum();
        self.price[t] + load.share * phases + circuits
    }

    /// Whether step `t` is at the import limit: its price is far above what a kWh costs.
    pub fn tight_import(&self, site: &Sound, t: usize) -> bool {
        self.price[t] > (site.buy[t].max(0.0) + 0.05 * UNSERVED) * site.hours
    }
}

impl Ways {
    pub fn open(steps: usize) -> Ways {
        Ways { grid: vec![0; steps], store: vec![0; steps] }
    }
}
