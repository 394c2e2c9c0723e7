//! What no legal schedule can cost less than, by the market's prices: true for any prices. Owns the proof.

use super::answer::UNSERVED;
use super::curve::{Peak, tariff};
use super::market::{BALANCED, Draw, Market};
use super::reservoir::Course;

/// The bound by the fluid plan's prices, and the nearer one that knows which loads no legal schedule can serve.
pub fn bound(market: &Market<'_>, course: &Course) -> (f64, f64) {
    let site = market.site;
    let (prices, of_steps) = steps(market);
    let mut total = UNSERVED * site.lost_kwh + of_steps + rows(market);
    total += store(market, course, &prices);
    let (mut out_of_reach, mut window) = (0.0, Vec::new());
    for load in &site.loads {
        let draw = Draw::of(load);
        let price = |t: usize| market.price(draw, t, prices[t]);
        if load.servable {
            window.clear();
            window.extend((load.from..load.to).map(price));
            let count = (load.kwh / load.gain / load.max_kw).ceil() as usize;
            let mut level = UNSERVED * load.gain;
            if count > 0 && count <= window.len() {
                level = level.min(*window.select_nth_unstable_by(count - 1, f64::total_cmp).1);
            }
            let below: f64 = window.iter().map(|price| (level - price).max(0.0)).sum();
            total += level * load.kwh / load.gain - load.max_kw * below;
            continue;
        }
        let least = (load.from..load.to).map(price).fold(UNSERVED * load.gain, f64::min);
        let relaxed = if load.max_kw > 0.0 { least / load.gain } else { UNSERVED };
        total += load.kwh * relaxed;
        out_of_reach += load.kwh * (UNSERVED - relaxed);
    }
    (total, total + out_of_reach)
}

/// Grid and sun, each step alone; the demand charge is spread over the steps that feel the cap, and their
/// prices are brought to what it is. The prices, and the bound's part.
fn steps(market: &Market<'_>) -> (Vec<f64>, f64) {
    let site = market.site;
    let felt: Vec<f64> = (0..site.steps).map(|t| market.felt(t, market.cap)).collect();
    let sum: f64 = felt.iter().sum();
    // Where the connection's own limit is as low as the cap, it bears what is too much.
    let limit = site.import.iter().fold(0.0_f64, |m, v| m.max(*v));
    let bound_by_limit = market.cap > 0.97 * limit;
    let scale = if sum > 0.0 { site.per_kw / sum } else { 0.0 };
    let scale = if bound_by_limit { scale.min(1.0) } else { scale };
    let mut total = (site.per_kw - scale * sum) * site.so_far;
    let mut prices = Vec::with_capacity(site.steps);
    for (t, felt) in felt.iter().enumerate() {
        let price = market.step_price(t) + if bound_by_limit { 0.0 } else { (scale - 1.0) * felt };
        let peak = Peak { flat: scale * felt, above: 0.0, cap: f64::MAX };
        let tariff = tariff(site, t, market.reach[t], peak, market.top);
        total += tariff.least(price) + price * site.base[t];
        prices.push(price);
    }
    (prices, total)
}

/// Phases and circuits at their prices.
fn rows(market: &Market<'_>) -> f64 {
    let (site, steps) = (market.site, market.site.steps);
    let mut total = 0.0;
    for (k, flow) in market.flow.iter().enumerate() {
        let t = k % steps;
        let limit = if k < market.circuits {
            site.phase.unwrap_or(0.0)
        } else {
            site.groups[(k - market.circuits) / steps]
        };
        let price = market.row_price(*flow, limit);
        total -= price.abs() * limit;
        if k < market.circuits && price != 0.0 {
            total += price * (site.share[k / steps] * site.base[t] - site.pv[t] / 3.0);
            // Sun let go takes load off a phase that gives too much.
            if price < 0.0 && site.curtailable {
                total += price * site.pv[t] / 3.0;
            }
        }
    }
    total
}

/// The battery at what its energy is worth.
fn store(market: &Market<'_>, course: &Course, prices: &[f64]) -> f64 {
    let site = market.site;
    let Some(store) = site.store else {
        return 0.0;
    };
    let (hours, wear) = (site.hours, store.wear_per_kwh * site.hours / 2.0);
    let mut total = -course.worth[0] * store.soc0_kwh;
    for (t, price) in prices.iter().enumerate() {
        let (price, worth) = (market.price(BALANCED, t, *price), course.worth[t]);
        total += store.charge_kw * (price + wear - worth * hours * store.eff_charge).min(0.0);
        total += store.discharge_kw * (wear - price + worth * hours / store.eff_discharge).min(0.0);
        let last = t + 1 == site.steps;
        let least =
            if last { store.soc_end_min_kwh.max(store.soc_min_kwh) } else { store.soc_min_kwh };
        let change = worth - if last { 0.0 } else { course.worth[t + 1] };
        total += (change * least).min(change * store.soc_max_kwh);
    }
    total
}
