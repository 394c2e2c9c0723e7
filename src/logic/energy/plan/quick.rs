//! From a fluid plan to a legal one: on or off by a sweep through time, and then every load improves its own part
//! in turn, as in a market. Owns the order of these steps, and what is good enough.

use super::answer::{self, Answer, UNSERVED};
use super::auction;
use super::fluid::{self, curtail, size};
use super::ledger::{self, Sheet};
use super::market::Market;
use super::polish::{Bench, polish};
use super::reservoir::respond;
use super::sieve::Sound;
use super::sweep;

/// How eagerly loads are switched on (the share of its least power that one must lag behind): one try after the
/// other.
const EAGER: [f64; 2] = [0.5, 0.2];
/// Ramps of limits and of the demand charge while loads improve, as parts of the site's size.
const POLISH: [(f64, f64); 3] = [(0.01, 0.05), (0.003, 0.03), (0.001, 0.02)];
/// Gap that is good enough, as a part of the score.
const ENOUGH: f64 = 9.8e-4;
/// Shortfalls above this are worth a look for room, kWh.
const WORTH_KWH: f64 = 0.01;

/// Whether nothing worth a word is left to gain, or no more than `times` as much. What was left out as broken
/// makes a gap no smaller; in a crowd it counts for no more than what is there, since some ask for what nobody
/// could give.
pub fn close(site: &Sound, sheet: &Sheet, floor: f64, times: f64) -> bool {
    let asked = match auction::large(site) {
        true => site.loads.iter().map(|load| load.kwh).sum(),
        false => 0.0,
    };
    let planned = floor - UNSERVED * (site.lost_kwh - asked).max(0.0);
    let allowed = times * (ENOUGH * planned.abs()).max(0.001);
    sheet.broken <= 0.0 && sheet.overload_kwh <= 0.0 && sheet.score() - floor < allowed
}

/// A legal plan along a fluid one from elsewhere, where that is better than `best`; takes from `work`.
pub fn follow(site: &Sound, fluid: &Answer, mut best: Option<Sheet>, work: &mut u64) -> Sheet {
    let mut market = fluid::open(site);
    for eager in EAGER {
        market.load(&fluid.kw, &fluid.store);
        legal(&mut market, fluid, eager, (&mut best, *work));
        if market.work > *work || best.as_ref().is_some_and(|b| close(site, b, fluid.floor, 1.0)) {
            break;
        }
    }
    *work = work.saturating_sub(market.work);
    best.unwrap_or_default()
}

/// Who is on when the fluid plan says so, and then each load in turn makes its part better.
fn legal(
    market: &mut Market<'_>,
    fluid: &Answer,
    eager: f64,
    (best, most): (&mut Option<Sheet>, u64),
) {
    let site = market.site;
    let weight = answer::weights(site).unserved;
    // The caps that the fluid plan has at the ramps that follow.
    let caps = POLISH.map(|(ramp, peak)| {
        sharpen(market, ramp, peak);
        market.settle_cap();
        market.cap
    });
    let kw = sweep::sweep(site, fluid, eager);
    let sheet = ledger::settle(site, kw, fluid.store.clone(), fluid.curtail.clone());
    market.load(&sheet.kw, &sheet.store);
    keep(best, sheet, weight);
    let mut bench = Bench::default();
    for ((ramp, peak), cap) in POLISH.into_iter().zip(caps) {
        if market.work > most {
            break;
        }
        market.cap = cap;
        sharpen(market, ramp, peak);
        let mut better = round(market, &mut bench);
        let short = better.unserved_kwh > site.lost_kwh + WORTH_KWH;
        if short && sweep::top_up(site, fluid, &mut better) {
            better = ledger::settle(site, better.kw, better.store, better.curtail);
            market.load(&better.kw, &better.store);
        }
        keep(best, better, weight);
        if best.as_ref().is_some_and(|best| close(site, best, fluid.floor, 1.0)) {
            break;
        }
    }
}

fn keep(best: &mut Option<Sheet>, sheet: Sheet, weight: f64) {
    if best.as_ref().is_none_or(|best| sheet.beats(best, weight)) {
        *best = Some(sheet);
    }
}

fn sharpen(market: &mut Market<'_>, ramp: f64, peak: f64) {
    let (mut sharp, size) = (market.sharp, size(market.site));
    (sharp.ramp, sharp.peak_ramp) = (ramp * size, peak * size);
    market.sharpen(sharp);
}

/// Every load improves, then the battery; what that comes to.
fn round(market: &mut Market<'_>, bench: &mut Bench) -> Sheet {
    let site = market.site;
    polish(market, bench);
    let course = respond(market);
    market.set_store(&course.kw);
    let curtail = (0..site.steps).map(|t| curtail(site, t, market.demand[t])).collect();
    ledger::settle(site, market.powers(), market.store.clone(), curtail)
}
