//! A dive from the fluid plan to a legal one: one group of loads after the other is switched, and each time the
//! programme is solved anew for all that is still open, so that the others and the battery make way. Owns the order
//! and how many are switched at once; the way of small sites, where each load is large.
//!
//! What a stranger gets wrong: the programmes between need few digits, since of them only guides who is on next; how
//! much everybody takes is settled by the last.

use super::answer::{Answer, weighed, weights};
use super::careful::Search;
use super::fluid;
use super::ledger::{self, Sheet};
use super::market::Market;
use super::model::Switches;
use super::polish::{Bench, Guide, decide};
use super::quick::{polished, sharpen, tightest_first};
use super::rooms::Rooms;
use super::sieve::{Load, Sound};
use super::sweep;

/// Gap of the programmes between, and of the last.
const ROUGH: f64 = 1e-2;
const LAST: f64 = 1e-4;
/// Ramps while loads decide, as in `quick`.
const RAMPS: (f64, f64) = (0.003, 0.02);
/// The part of a limit from which on it may matter.
const NEAR: f64 = 0.97;
/// Up to so many times the last programme is solved for phases that it passes.
const MOST_ROUNDS: usize = 3;
/// From this part of its stay on a load has no choice and comes first.
const TIGHT: f64 = 0.8;
/// Work that opening a market takes a step.
const STEP: u64 = 1000;
/// The last programme costs about so many of those between.
const LAST_COSTS: u64 = 4;

/// Orders in which loads may be switched.
pub const ORDERS: usize = 2;

/// Loads with no choice first, then those with the highest least power, each the tightest first; or simply the
/// tightest first.
fn order(site: &Sound, which: usize) -> Vec<usize> {
    let mut order = tightest_first(site);
    if which > 0 {
        return order;
    }
    let easy = |i: &usize| {
        let load = &site.loads[*i];
        load.kwh < TIGHT * load.gain * load.max_kw * (load.to - load.from) as f64
    };
    order.sort_by(|a, b| {
        let size = |i: &usize| if easy(i) { site.loads[*i].min_kw } else { f64::MAX };
        size(b).total_cmp(&size(a))
    });
    order
}

/// A legal plan near the fluid one, where that is better than `best`. Rows that only switched loads need are gone
/// afterwards.
pub fn dive(search: &mut Search<'_>, fluid: &Answer, which: usize, best: &mut Sheet) {
    let phases = search.phases.clone();
    if let Some(sheet) = reach(search, fluid, which, best) {
        let sheet = polished(search.site, fluid, sheet, &mut search.work);
        if sheet.beats(best, weights(search.site).unserved) {
            *best = sheet;
        }
    }
    search.phases = phases;
}

/// A legal plan, unless a programme between says that it would be no better than `best`.
fn reach(search: &mut Search<'_>, fluid: &Answer, which: usize, best: &Sheet) -> Option<Sheet> {
    let site = search.site;
    let order = order(site, which);
    let switched = |load: &Load| (!load.servable).then(|| vec![0.0; load.to - load.from]);
    let mut switches: Switches = site.loads.iter().map(switched).collect();
    let (mut market, mut now) = (fluid::open(site), fluid.clone());
    let (mut done, mut each) = (0, 0);
    while done < order.len() {
        // As many at once as the work that is left asks for.
        let affordable = (search.work / each.max(1)).saturating_sub(LAST_COSTS).max(1);
        let many = ((order.len() - done) as u64).div_ceil(affordable);
        let group = &order[done..order.len().min(done + many as usize)];
        done += group.len();
        let counted = market.work;
        switch(&mut market, &now, group, &mut switches);
        let spent = market.work - counted + STEP * site.steps as u64;
        search.work = search.work.saturating_sub(spent);
        search.write(&market.flow, NEAR);
        let before = search.work;
        let last = done == order.len();
        for _ in 0..if last { MOST_ROUNDS } else { 1 } {
            now = search.switched(&switches, fluid, if last { LAST } else { ROUGH });
            if !search.widen(&now, NEAR) {
                break;
            }
        }
        each = before - search.work;
        if !now.good || now.bound > weighed(site, best) {
            return None;
        }
    }
    let mut sheet = ledger::settle(site, now.kw.clone(), now.store.clone(), now.curtail.clone());
    sweep::top_up(site, &now, &mut sheet);
    Some(sheet)
}

/// These loads decide where they are on, beside those that are switched and those that are still open.
fn switch(market: &mut Market<'_>, now: &Answer, group: &[usize], switches: &mut Switches) {
    let site = market.site;
    market.load(&now.kw, &now.store);
    sharpen(market, RAMPS.0, RAMPS.1);
    market.settle_cap();
    let mut rooms = Rooms::new(site, &now.store, &now.curtail, 0.0);
    for (i, _) in switches.iter().enumerate().filter(|(_, switch)| switch.is_some()) {
        rooms.take_all(&site.loads[i], &now.kw[i]);
    }
    market.release(now);
    let mut bench = Bench::default();
    for &i in group {
        let guide = Guide { fluid: now, rooms: &rooms, spread: weights(site).spread * site.hours };
        decide(market, i, &guide, &mut bench);
        let kw = market.kw[market.start[i]..market.start[i + 1]].to_vec();
        rooms.take_all(&site.loads[i], &kw);
        switches[i] = Some(kw);
    }
    market.hold();
}
