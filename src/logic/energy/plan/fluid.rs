//! The fluid plan: the market with ramps that grow sharper, until its prices prove enough. Owns how sharp,
//! how often, and what the market's state means in the site's words.

use super::answer::{Answer, Ways, weights};
use super::bound::{Prices, bound};
use super::curve::Sharpness;
use super::market::Market;
use super::reservoir::{Course, respond};
use super::sieve::Sound;

/// Ramps of limits and of the demand charge as parts of the site's size, the tilt of the flats as a part of
/// the spread of prices, and how often all trade at most.
pub type Stage = (f64, f64, f64, usize);

/// From afar to near.
pub const FIRST: &[Stage] =
    &[(0.1, 1.0, 1e-3, 3), (0.03, 0.4, 6e-4, 3), (0.01, 0.2, 3e-4, 3), (0.003, 0.1, 2e-4, 3)];
/// Once more, from where the first ended.
pub const AGAIN: &[Stage] =
    &[(0.05, 0.3, 3e-4, 4), (0.015, 0.15, 2e-4, 4), (0.004, 0.08, 1e-4, 4), (0.001, 0.05, 1e-4, 2)];
/// A stage is over when no more than this part of all power moved.
const CALM: f64 = 0.008;
/// What the connection leaves to loads where it leaves most, kW: the measure of all ramps.
pub fn size(site: &Sound) -> f64 {
    let left = site.import.iter().zip(&site.base).map(|(import, base)| import - base);
    left.fold(1.0, f64::max)
}

/// A market in which nobody has bought yet.
pub fn open(site: &Sound) -> Market<'_> {
    Market::new(site, sharpness(site, FIRST[0]))
}

fn sharpness(site: &Sound, (ramp, peak, tilt, _): Stage) -> Sharpness {
    let (size, weights) = (size(site), weights(site));
    let spread = weights.spread * site.hours;
    Sharpness {
        ramp: ramp * size,
        tilt: tilt * spread / size,
        shape: [(0.45, 1.5 * spread), (0.8, weights.unserved * site.hours)],
        peak_ramp: peak * size,
        peak_shape: (0.7, 2.0 * spread),
    }
}

/// Trades until the market is in balance, or has done `most` work; its answer.
pub fn balance(market: &mut Market<'_>, stages: &[Stage], most: u64) -> Answer {
    let (mut least, mut floor) = (f64::NEG_INFINITY, f64::NEG_INFINITY);
    for stage in stages {
        market.sharpen(sharpness(market.site, *stage));
        market.settle_cap();
        let mut course = Course::default();
        for _ in 0..stage.3 {
            let moved = market.trade();
            market.settle_cap();
            course = respond(market);
            market.set_store(&course.kw);
            market.settle_cap();
            if market.work > most || moved < CALM {
                break;
            }
        }
        let (relaxed, legal) = proof(market, &course);
        if relaxed > least {
            (least, floor) = (relaxed, legal);
        }
        if market.work > most {
            break;
        }
    }
    answer(market, (least, floor), market.work <= most)
}

fn answer(market: &Market<'_>, (bound, floor): (f64, f64), good: bool) -> Answer {
    let site = market.site;
    let rows = row_prices(market);
    Answer {
        kw: market.powers(),
        store: market.store.clone(),
        curtail: (0..site.steps).map(|t| curtail(site, t, market.demand[t])).collect(),
        price: (0..site.steps).map(|t| market.step_price(t)).collect(),
        phase_price: rows[..market.circuits].to_vec(),
        group_price: rows[market.circuits..].to_vec(),
        bound,
        floor,
        ways: Ways::open(site.steps),
        good,
    }
}

fn row_prices(market: &Market<'_>) -> Vec<f64> {
    let price = |(k, flow): (usize, &f64)| market.row_price(*flow, market.limit(k));
    market.flow.iter().enumerate().map(price).collect()
}

/// What the market's prices prove. The demand charge is spread over the steps that feel the cap, and their
/// prices are brought to what it is.
fn proof(market: &Market<'_>, course: &Course) -> (f64, f64) {
    let site = market.site;
    let mut felt: Vec<f64> = (0..site.steps).map(|t| market.felt(t, market.cap)).collect();
    let mut step: Vec<f64> = (0..site.steps).map(|t| market.step_price(t)).collect();
    let sum: f64 = felt.iter().sum();
    // Where the connection's own limit is as low as the cap, it bears what is too much.
    let limit = site.import.iter().fold(0.0_f64, |m, v| m.max(*v));
    if market.cap <= 0.97 * limit && sum > 0.0 {
        let scale = site.per_kw / sum;
        step.iter_mut().zip(&felt).for_each(|(price, felt)| *price += (scale - 1.0) * felt);
        felt.iter_mut().for_each(|felt| *felt *= scale);
    }
    let (rows, circuits) = (row_prices(market), market.circuits);
    let (reach, worth, top) = (&market.reach, &course.worth, market.top);
    bound(&Prices { site, step: &step, felt: &felt, rows: &rows, circuits, worth, reach, top })
}

/// Sun that is let go at a demand: what may not be given, and all of it where drawing is paid for.
pub fn curtail(site: &Sound, t: usize, demand: f64) -> f64 {
    if !site.curtailable {
        return 0.0;
    }
    let net = demand - site.pv[t];
    let keep = if site.buy[t] < 0.0 {
        site.import[t] - net
    } else if site.sell[t] < 0.0 {
        -net
    } else {
        -net - site.export[t]
    };
    keep.clamp(0.0, site.pv[t])
}
