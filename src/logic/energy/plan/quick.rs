//! From a fluid plan to a legal one: load by load while the battery answers to each, or on and off by a sweep through
//! time, and then every load improves its own part in turn, as in a market. Owns the order of these steps, and what is good enough.

use super::answer::{self, Answer, UNSERVED};
use super::auction;
use super::fluid::{self, curtail, size};
use super::ledger::{self, Sheet};
use super::market::Market;
use super::polish::{Bench, fix, polish};
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
/// Shortfalls above this are worth a look for room, kWh: energy comes before cost, however little it is.
pub const WORTH_KWH: f64 = 1e-3;
/// What a cost may be off where the plan before it had that much less to win: a part of it, and at least, currency.
const OFF: f64 = 1e-3;
const OFF_AT_LEAST: f64 = 0.01;

/// What the peak so far costs whatever is planned, currency: no measure of what is left to gain.
pub fn sunk(site: &Sound) -> f64 {
    site.per_kw * site.so_far
}

/// Whether nothing worth a word is left to gain, or no more than `times` as much. What was left out as broken
/// makes a gap no smaller; in a crowd it counts for no more than what is there, since some ask for what nobody
/// could give.
pub fn close(site: &Sound, sheet: &Sheet, floor: f64, times: f64) -> bool {
    let asked = match auction::large(site) {
        true => site.loads.iter().map(|load| load.kwh).sum(),
        false => 0.0,
    };
    let planned = floor - UNSERVED * (site.lost_kwh - asked).max(0.0) - sunk(site);
    let allowed = times * (ENOUGH * planned.abs()).max(0.001);
    sheet.broken <= 0.0 && sheet.overload_kwh <= 0.0 && sheet.score() - floor < allowed
}

/// Whether a plan is as near its bound as the one before it was, whose gap is known, or near enough: energy counts
/// in full, the cost may be a little off, but not where that would be too much for any plan.
pub fn as_close(site: &Sound, sheet: &Sheet, floor: f64, gap: f64) -> bool {
    let off = (OFF * (sheet.cost - sunk(site)).abs()).max(OFF_AT_LEAST);
    let allowed = (gap + off).min(gap.max(ENOUGH * (floor - sunk(site)).abs()));
    // A gap is an allowance of cost: where somebody lacks energy, a search is worth its work.
    let fed = sheet.unserved_kwh <= site.lost_kwh + WORTH_KWH;
    let sound = fed && sheet.broken <= 0.0 && sheet.overload_kwh <= 0.0;
    (sound && sheet.score() - floor <= allowed) || close(site, sheet, floor, 1.0)
}

/// Whether a plan leaves out no more energy than the fluid one: that comes before cost, and what a car with no choice
/// loses a little of in each plan it never gets back.
pub fn as_fed(site: &Sound, sheet: &Sheet, fluid: &Answer) -> bool {
    let loads = site.loads.iter().zip(&fluid.kw);
    let short = loads.map(|(load, kw)| (load.kwh - load.gain * kw.iter().sum::<f64>()).max(0.0));
    sheet.unserved_kwh <= site.lost_kwh + short.sum::<f64>() + WORTH_KWH
}

/// A legal plan along a fluid one from elsewhere, where that is better than `best`; takes from `work`.
pub fn follow(site: &Sound, fluid: &Answer, mut best: Option<Sheet>, work: &mut u64) -> Sheet {
    let mut market = fluid::open(site);
    let mut bench = Bench::default();
    let store = site.store.is_some_and(|store| !store.sun_only);
    let answers = store && !auction::large(site) && !site.tapers();
    for eager in [None].into_iter().filter(|_| answers).chain(EAGER.map(Some)) {
        market.load(&fluid.kw, &fluid.store);
        let caps = caps(&mut market);
        match eager {
            None => answered(&mut market, fluid, (&caps, &mut best, *work), &mut bench),
            Some(eager) => swept(&mut market, fluid, (eager, &mut best)),
        }
        sharper(&mut market, fluid, (&caps, &mut best, *work), &mut bench);
        // Where somebody lacks energy, a sweep may find it, which knows who has no choice.
        let done =
            |sheet: &Sheet| as_fed(site, sheet, fluid) && close(site, sheet, fluid.floor, 1.0);
        if market.work > *work || best.as_ref().is_some_and(done) {
            break;
        }
    }
    *work = work.saturating_sub(market.work);
    best.unwrap_or_default()
}

/// The caps that a plan has at the ramps that follow.
fn caps(market: &mut Market<'_>) -> [f64; POLISH.len()] {
    POLISH.map(|(ramp, peak)| {
        sharpen(market, ramp, peak);
        market.settle_cap();
        market.cap
    })
}

/// The tightest first: those whose power and stay leave them least choice.
pub fn tightest_first(site: &Sound) -> Vec<usize> {
    let mut order: Vec<usize> = (0..site.loads.len()).filter(|i| site.loads[*i].servable).collect();
    let tight = |i: usize| {
        let load = &site.loads[i];
        load.kwh / (load.gain * load.max_kw * (load.to - load.from) as f64)
    };
    order.sort_by(|a, b| tight(*b).total_cmp(&tight(*a)).then(a.cmp(b)));
    order
}

/// One load after the other becomes legal beside those that are still as in the fluid plan, and then each improves its
/// part, while the battery answers to each at once.
fn answered(
    market: &mut Market<'_>,
    fluid: &Answer,
    (caps, best, most): (&[f64], &mut Option<Sheet>, u64),
    bench: &mut Bench,
) {
    let (site, weight) = (market.site, answer::weights(market.site).unserved);
    let order = tightest_first(site);
    for (round, ((ramp, peak), cap)) in POLISH.into_iter().zip(caps).enumerate() {
        if round > 0 && market.work > most {
            break;
        }
        market.cap = *cap;
        sharpen(market, ramp, peak);
        market.release(fluid);
        match round {
            0 => order.iter().for_each(|i| fix(market, *i, bench)),
            _ => drop(polish(market, order.iter().copied(), bench)),
        }
        market.hold();
        let sheet = charged(market);
        keep(best, topped(market, fluid, sheet), weight);
    }
}

/// Who is on when the fluid plan says so.
fn swept(market: &mut Market<'_>, fluid: &Answer, (eager, best): (f64, &mut Option<Sheet>)) {
    let (site, weight) = (market.site, answer::weights(market.site).unserved);
    let kw = sweep::sweep(site, fluid, eager);
    let sheet = ledger::settle(site, kw, fluid.store.clone(), fluid.curtail.clone());
    market.load(&sheet.kw, &sheet.store);
    keep(best, sheet, weight);
}

/// Each load in turn makes its part better, ever more sharply.
fn sharper(
    market: &mut Market<'_>,
    fluid: &Answer,
    (caps, best, most): (&[f64], &mut Option<Sheet>, u64),
    bench: &mut Bench,
) {
    let (site, weight) = (market.site, answer::weights(market.site).unserved);
    for ((ramp, peak), cap) in POLISH.into_iter().zip(caps) {
        if market.work > most {
            break;
        }
        market.cap = *cap;
        sharpen(market, ramp, peak);
        let better = round(market, 0..site.loads.len(), bench);
        let better = topped(market, fluid, better);
        keep(best, better, weight);
        if best.as_ref().is_some_and(|best| close(site, best, fluid.floor, 1.0)) {
            break;
        }
    }
}

/// A legal plan made better by its loads and the battery in turn.
pub fn polished(site: &Sound, fluid: &Answer, sheet: Sheet, work: &mut u64) -> Sheet {
    let mut market = fluid::open(site);
    market.load(&sheet.kw, &sheet.store);
    let caps = caps(&mut market);
    let mut best = Some(sheet);
    sharper(&mut market, fluid, (&caps, &mut best, *work), &mut Bench::default());
    *work = work.saturating_sub(market.work);
    best.unwrap_or_default()
}

fn keep(best: &mut Option<Sheet>, sheet: Sheet, weight: f64) {
    if best.as_ref().is_none_or(|best| sheet.beats(best, weight)) {
        *best = Some(sheet);
    }
}

/// A plan that is nearly right made better, as sharply as it ends: these loads and the battery, then all loads, until
/// it is as near its bound as the plan before it was.
pub fn mend(
    market: &mut Market<'_>,
    (sheet, new): (Sheet, &[usize]),
    fluid: &Answer,
    gap: f64,
) -> Sheet {
    let (site, weight) = (market.site, answer::weights(market.site).unserved);
    let (ramp, peak) = POLISH[POLISH.len() - 1];
    let mut bench = Bench::default();
    market.load(&sheet.kw, &sheet.store);
    sharpen(market, ramp, peak);
    market.settle_cap();
    let mut best = Some(sheet);
    for all in [false, true] {
        let loads = if all { 0..site.loads.len() } else { 0..new.len() };
        let loads = loads.map(|k| if all { k } else { new[k] });
        let sheet = round(market, loads, &mut bench);
        let sheet = topped(market, fluid, sheet);
        keep(&mut best, sheet, weight);
        if best.as_ref().is_some_and(|best| as_close(site, best, fluid.floor, gap)) {
            break;
        }
    }
    best.unwrap_or_default()
}

/// With what room is left given to those who still lack energy.
fn topped(market: &mut Market<'_>, fluid: &Answer, mut sheet: Sheet) -> Sheet {
    let site = market.site;
    let short = sheet.unserved_kwh > site.lost_kwh + WORTH_KWH;
    if short && sweep::top_up(site, fluid, &mut sheet) {
        market.load(&sheet.kw, &sheet.store);
    }
    sheet
}

pub fn sharpen(market: &mut Market<'_>, ramp: f64, peak: f64) {
    let (mut sharp, size) = (market.sharp, size(market.site));
    (sharp.ramp, sharp.peak_ramp) = (ramp * size, peak * size);
    market.sharpen(sharp);
}

/// Each of these loads improves, then the battery; what that comes to.
fn round(market: &mut Market<'_>, loads: impl Iterator<Item = usize>, bench: &mut Bench) -> Sheet {
    polish(market, loads, bench);
    charged(market)
}

/// The battery's best course beside the loads; what it all comes to.
fn charged(market: &mut Market<'_>) -> Sheet {
    let (site, course) = (market.site, respond(market));
    market.set_store(&course.kw);
    let curtail = (0..site.steps).map(|t| curtail(site, t, market.demand[t])).collect();
    ledger::settle(site, market.powers(), market.store.clone(), curtail)
}

#[cfg(test)]
mod tests {
    use super::super::problem::{Demand, Problem, Session};
    use super::super::sieve::sift;
    use super::*;

    fn site(demand: Demand) -> Sound {
        let car = Session {
            departure: 8,
            need_kwh: 4.0,
            efficiency: 1.0,
            max_kw: 11.0,
            phases: [true; 3],
            ..Session::default()
        };
        sift(&Problem {
            steps: 8,
            step_hours: 0.25,
            pv_kw: vec![0.0; 8],
            base_kw: vec![1.0; 8],
            import_price: vec![0.3; 8],
            export_price: vec![0.05; 8],
            import_limit_kw: vec![400.0; 8],
            export_limit_kw: vec![400.0; 8],
            base_share: [1.0 / 3.0; 3],
            demand,
            sessions: vec![car],
            ..Problem::default()
        })
        .0
    }

    /// What the plan before was above its bound may be lost in cost again, but not in energy.
    #[test]
    fn a_mended_plan_that_leaves_energy_out_will_not_do() {
        let (site, floor, gap) = (site(Demand::default()), 20.0, 5.0);
        let short = Sheet { cost: floor, unserved_kwh: 0.4, ..Sheet::default() };
        assert!(!as_close(&site, &short, floor, gap));
        let dear = Sheet { cost: floor + 4.0, ..Sheet::default() };
        assert!(as_close(&site, &dear, floor, gap));
    }

    /// The price of the peak so far is in every plan: a saving is as much worth beside it.
    #[test]
    fn a_high_peak_makes_no_gap_good_enough() {
        for so_far_kw in [0.0, 200.0] {
            let site = site(Demand { per_kw: 5.0, so_far_kw });
            let floor = 5.0 * so_far_kw + 2.0;
            let off = |off: f64| Sheet { cost: floor + off, ..Sheet::default() };
            assert!(!close(&site, &off(0.1), floor, 1.0), "peak {so_far_kw} kW");
            assert!(!as_close(&site, &off(0.1), floor, 0.0), "peak {so_far_kw} kW");
            assert!(close(&site, &off(1e-3), floor, 1.0), "peak {so_far_kw} kW");
        }
    }
}
