//! Where a plan stood when it was made, and the plan after a small change that is mended from it: who stays has what
//! it had, who is new finds its place, and the old prices prove how good that is. Owns who is taken for whom, and when
//! a mended plan will do.
//!
//! What a stranger gets wrong: a mended plan is held against its own bound and may be no further from it than the plan
//! that was searched for; what it may be off is not added up from one mending to the next. Where the old prices prove
//! too little it is not lost: the search begins with it, and ends where new prices prove that it will do.

use super::answer::Answer;
use super::fluid::{self, curtail};
use super::ledger::{self, Sheet};
use super::quick;
use super::sieve::{Load, Sound};
use super::{auction, market::Market};

/// Most loads that are new in a plan that is mended.
const MOST_NEW: usize = 4;
/// A need that has changed by no more than this is that of the same load, kWh.
const SAME_KWH: f64 = 1.0;

/// Where a plan stands: its prices, who had what, and how far it is from its bound. The plan after a small change
/// begins there.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Standing {
    step: Vec<f64>,
    rows: Vec<f64>,
    stays: Vec<Stay>,
    store: Vec<f64>,
    /// Above its bound, currency; of the plan that was searched for.
    gap: f64,
}

/// A load and what it had.
#[derive(Clone, Debug, PartialEq)]
struct Stay {
    from: usize,
    to: usize,
    kwh: f64,
    min_kw: f64,
    max_kw: f64,
    phases: [bool; 3],
    groups: Vec<usize>,
    kw: Vec<f64>,
}

impl Stay {
    fn of(load: &Load, kw: &[f64]) -> Stay {
        let Load { from, to, kwh, min_kw, max_kw, phases, .. } = *load;
        Stay { from, to, kwh, min_kw, max_kw, phases, groups: load.groups.clone(), kw: kw.to_vec() }
    }

    fn is(&self, load: &Load) -> bool {
        (self.from, self.to, self.phases) == (load.from, load.to, load.phases)
            && (self.kwh - load.kwh).abs() <= SAME_KWH
            && self.min_kw == load.min_kw
            && self.max_kw == load.max_kw
            && self.groups == load.groups
    }
}

impl Standing {
    /// Of a plan and the fluid one it follows.
    pub(super) fn of(site: &Sound, sheet: &Sheet, fluid: &Answer) -> Standing {
        let rows = [fluid.phase_price.as_slice(), fluid.group_price.as_slice()].concat();
        let stays = site.loads.iter().zip(&sheet.kw).map(|(load, kw)| Stay::of(load, kw));
        let gap = (sheet.score() - fluid.floor).max(0.0);
        let (step, store) = (fluid.price.clone(), sheet.store.clone());
        Standing { step, rows, stays: stays.collect(), store, gap }
    }

    /// Of a plan that was mended from this one: it is held to the same gap.
    pub(super) fn mended(&self, site: &Sound, sheet: &Sheet, fluid: &Answer) -> Standing {
        Standing { gap: self.gap, ..Standing::of(site, sheet, fluid) }
    }

    /// What the plan that was searched for is above its bound, currency.
    pub(super) fn gap(&self) -> f64 {
        self.gap
    }

    /// Prices of the steps, and of phases and circuits in them.
    pub(super) fn prices(&self) -> (&[f64], &[f64]) {
        (&self.step, &self.rows)
    }

    /// Powers of those who stay, nothing for those who are new, and who these are; nothing where too many are.
    fn powers(&self, site: &Sound) -> Option<(Vec<Vec<f64>>, Vec<usize>)> {
        let (mut free, mut new) = (self.stays.iter().collect::<Vec<&Stay>>(), Vec::new());
        let mut powers = Vec::with_capacity(site.loads.len());
        // Loads come in the same order as they did, nearly: who is looked for is near the front.
        for (i, load) in site.loads.iter().enumerate() {
            let known = free.iter().take(MOST_NEW + 1).position(|stay| stay.is(load));
            match known {
                Some(place) => powers.push(free.remove(place).kw.clone()),
                None => {
                    new.push(i);
                    powers.push(vec![0.0; load.to - load.from]);
                }
            }
            if new.len() > MOST_NEW {
                return None;
            }
        }
        Some((powers, new))
    }
}

/// The plan before with what has changed put in its place, and the fluid one at the old prices; whether it will do is
/// said beside. Takes from `work`.
pub fn mend(site: &Sound, before: &Standing, work: &mut u64) -> Option<(Sheet, Answer, bool)> {
    if before.step.len() != site.steps || before.store.len() != site.steps {
        return None;
    }
    let (powers, new) = before.powers(site)?;
    let fluid = auction::stand(site, before, work)?;
    let mut market: Market<'_> = fluid::open(site);
    market.load(&powers, &before.store);
    let curtail = (0..site.steps).map(|t| curtail(site, t, market.demand[t])).collect();
    let sheet = ledger::settle(site, powers, before.store.clone(), curtail);
    let sheet = quick::mend(&mut market, (sheet, &new), &fluid, before.gap);
    *work = work.saturating_sub(market.work);
    let good = quick::as_close(site, &sheet, fluid.floor, before.gap);
    Some((sheet, fluid, good))
}
