//! The plan of a large site: prices are cried, everybody answers, and prices move until all that is taken is what
//! there is, with answers that grow sharper each time; from the last prices a legal plan. Owns how sharp, how
//! often, and when it ends. What everybody answers is in `bids` and `supply`, how prices move in `newton`, who
//! gets what in the end in `legal`.
//!
//! What a stranger gets wrong: with few loads each is too large for prices to tell it what to do; such a site
//! is planned load by load (`quick`).

mod bids;
mod legal;
mod newton;
mod supply;

use super::answer::{self, Answer, Ways, weights};
use super::bound::{Prices, bound};
use super::fluid::{curtail, size};
use super::ledger::Sheet;
use super::quick::{WORTH_KWH, close};
use super::reservoir::Course;
use super::sieve::Sound;
use super::standing::Standing;
use super::sweep;
use bids::{Auction, Softness};
use legal::Desk;
use newton::Newton;

/// A site is large with so many loads times steps.
const LARGE: usize = 3000;
/// Width of price over which takings change at first, as a part of what energy is worth; at last, as a part of
/// the spread of prices, and where that did not do.
const FIRST: f64 = 0.02;
const LAST: f64 = 0.008;
const LEAST: f64 = 0.002;
/// Up to so many times the gap that is good enough, a narrower width may do.
const FAR: f64 = 6.0;
/// Each width is so much narrower than the one before.
const NARROWER: f64 = 2.0;
/// Steps of the prices for each width, and for the last.
const STEPS: usize = 1;
const LAST_STEPS: usize = 4;
/// Excess, as a part of all that is taken, at which a width is done with, and the last.
const CALM: f64 = 0.02;
const LAST_CALM: f64 = 0.002;
/// Noise, and the rise of the flats over the site's size, as parts of the width.
const NOISE: f64 = 0.3;
const TILT: f64 = 0.3;

/// How much dearer a step is that draws all the site has beside its price's demand, in spreads of prices:
/// at first, and how it grows; so often limits are no matter, and so often they are.
const RISE: f64 = 2.0;
const STEEPER: f64 = 1.5;
const FREE: usize = 4;
const BOUND: usize = 6;

/// Whether the site is one for this room.
pub fn large(site: &Sound) -> bool {
    let loads = site.loads.iter().filter(|load| load.servable && load.taper.is_none());
    loads.map(|load| load.to - load.from).sum::<usize>() >= LARGE
}

/// How soft takings are at a width, as a part of the spread of prices.
fn softness(site: &Sound, width: f64) -> Softness {
    let width = width * weights(site).spread * site.hours;
    Softness { width, noise: NOISE * width, tilt: TILT * width / size(site) }
}

/// An auction at its first prices, as sharp as a fluid plan ends.
fn open(site: &Sound) -> Auction<'_> {
    Auction::new(site, softness(site, LAST))
}

/// Moves the prices until the auction is in balance at a width, by widths ever narrower, or has done `most`
/// work.
fn balance(auction: &mut Auction<'_>, newton: &mut Newton, (from, to): (f64, f64), most: u64) {
    let mut width = from.max(to);
    loop {
        let last = width <= to;
        let (steps, calm) = if last { (LAST_STEPS, LAST_CALM) } else { (STEPS, CALM) };
        auction.soften(softness(auction.site, width));
        auction.answer();
        for _ in 0..steps {
            if newton.look(auction) < calm || auction.work > most {
                break;
            }
            if !newton.advance(auction, most) {
                // Steps of narrower widths take no less.
                return;
            }
        }
        if last || auction.work > most {
            break;
        }
        width = (width / NARROWER).max(to);
    }
}

/// What the prices prove.
fn proof(auction: &Auction<'_>) -> (f64, f64) {
    let site = auction.site;
    let (step, felt, rows) = (&auction.price, &auction.supply.felt, &auction.row_price);
    let (circuits, worth) = (auction.circuits, &auction.course.worth);
    let (reach, top) = (&auction.reach, auction.top);
    bound(&Prices { site, step, felt, rows, circuits, worth, reach, top })
}

fn answer(auction: &Auction<'_>, (bound, floor): (f64, f64), good: bool) -> Answer {
    let site = auction.site;
    Answer {
        kw: auction.powers(),
        store: auction.store(),
        curtail: (0..site.steps).map(|t| curtail(site, t, auction.demand[t])).collect(),
        price: auction.price.clone(),
        worth: auction.course.worth.clone(),
        phase_price: auction.row_price[..auction.circuits].to_vec(),
        group_price: auction.row_price[auction.circuits..].to_vec(),
        bound,
        floor,
        ways: Ways::open(site.steps),
        good,
    }
}

/// A legal plan and the fluid one it follows; begins with the prices of a plan before, where there is one for
/// as many steps, phases and circuits, and with what was mended from it.
pub fn plan(
    site: &Sound,
    (mended, before): (Option<Sheet>, &Standing),
    work: &mut u64,
) -> (Sheet, Answer) {
    let (mut auction, mut newton, weights) = (open(site), Newton::default(), weights(site));
    let (mut sheet, mut proven) =
        (mended.unwrap_or_default(), (f64::NEG_INFINITY, f64::NEG_INFINITY));
    let (mut from, mut to) = (FIRST * weights.unserved / weights.spread, LAST);
    if auction.begin(before) {
        from = NARROWER * to;
    }
    loop {
        balance(&mut auction, &mut newton, (from, to), *work);
        let found = proof(&auction);
        proven = (proven.0.max(found.0), proven.1.max(found.1));
        let fluid = answer(&auction, proven, auction.work <= *work);
        sheet = legal(&mut auction, &fluid, sheet, *work);
        let enough = close(site, &sheet, proven.1, 1.0) || auction.work > *work;
        let far = !close(site, &sheet, proven.1, FAR);
        if enough || far || to <= LEAST {
            *work = work.saturating_sub(auction.work);
            return (sheet, fluid);
        }
        (from, to) = (to, to / NARROWER);
    }
}

/// Who takes what at the prices of a plan before, and what these prove, where they are of such a site.
pub fn stand(site: &Sound, before: &Standing, work: &mut u64) -> Option<Answer> {
    let mut auction = open(site);
    auction.soften(softness(site, LEAST));
    if !auction.begin(before) {
        return None;
    }
    auction.answer();
    *work = work.saturating_sub(auction.work);
    Some(answer(&auction, proof(&auction), true))
}

/// A legal plan along a fluid one from elsewhere, where that is better than `best`; takes from `work`.
pub fn follow(site: &Sound, fluid: &Answer, best: Sheet, work: &mut u64) -> Sheet {
    let mut auction = open(site);
    auction.price.copy_from_slice(&fluid.price);
    let rows = fluid.phase_price.iter().chain(&fluid.group_price);
    auction.row_price.iter_mut().zip(rows).for_each(|(price, from)| *price = *from);
    auction.answer();
    let best = legal(&mut auction, fluid, best, *work);
    *work = work.saturating_sub(auction.work);
    best
}

/// Every load in turn decides, again and again; the best of what comes of it and `best`.
fn legal(auction: &mut Auction<'_>, fluid: &Answer, mut best: Sheet, most: u64) -> Sheet {
    let site = auction.site;
    let weight = answer::weights(site).unserved;
    let mut work = auction.work;
    let mut desk = Desk::new(auction, fluid.kw.clone(), fluid.store.clone());
    let mut course = Course::default();
    let mut rise = RISE;
    for round in 0..FREE + BOUND {
        work += desk.round(rise, round >= FREE);
        rise *= STEEPER;
        work += desk.charge(&mut course);
        let last = round + 1 == FREE + BOUND || work > most;
        if round < FREE && !last {
            continue;
        }
        let mut sheet = desk.sheet();
        if sheet.unserved_kwh > site.lost_kwh + WORTH_KWH {
            sweep::top_up(site, fluid, &mut sheet);
        }
        if best.kw.is_empty() || sheet.beats(&best, weight) {
            best = sheet;
        }
        if last || close(site, &best, fluid.floor, 1.0) {
            break;
        }
    }
    auction.work = work;
    best
}
