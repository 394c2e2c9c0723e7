//! The careful way: the fluid plan as a linear programme, solved by the interior-point method, a legal plan along it
//! (`quick`), and where that is not near enough more limits, more digits, a `dive`, and programmes for the powers once
//! it is known who is on. Owns how far: the way of small sites, and of large ones whose prices do not do (`auction`).

use super::answer::{self, Answer, Ways};
use super::auction;
use super::dive;
use super::interior::Point;
use super::ledger::{self, Sheet};
use super::model::{Model, Switches};
use super::quick;
use super::sieve::Sound;
use super::standing::Standing;
use super::sweep;

/// Gap at which a programme counts as solved, and one whose powers are used as they are.
const GAP: f64 = 1e-4;
const EXACT: f64 = 5e-6;
/// How eagerly loads are switched on, one value a try.
const EAGER: [f64; 4] = [0.5, 0.9, 0.2, 0.7];
/// Gap that is good enough once powers have been programmed, as a part of the score and at least, currency.
const ENOUGH: f64 = 9.8e-4;
const ENOUGH_AT_LEAST: f64 = 9.8e-3;
/// Most programmes with switches.
const MOST_TRIES: usize = 5;
/// Most rounds of finding phase limits that matter.
const MOST_PHASE_ROUNDS: usize = 4;
/// Up to so many phase rows are written at once.
const FEW_ROWS: usize = 12;
/// Gap at which a programme is known roughly, still far enough from all bounds to go on from with more rows, and the part
/// of a limit from which on it may matter then.
const ROUGH: f64 = 0.3;
const NEAR: f64 = 0.9;
/// The same where a limit is passed.
const NEARER: f64 = 0.95;

/// A plan at least as good as `best`, and the fluid one it follows; takes from `work`. Where the best was mended from a
/// plan before, it will do when it is as near its bound as that was.
pub fn careful(
    site: &Sound,
    (best, before): (Option<Sheet>, Option<&Standing>),
    work: &mut u64,
) -> (Sheet, Answer) {
    let mut search = Search::new(site, before, *work);
    let mut fluid = search.fluid();
    let mut sheet = search.follow(&fluid, best);
    let held = |sheet: &Sheet, floor: f64| {
        before.is_some_and(|before| quick::as_close(site, sheet, floor, before.gap()))
    };
    if before.is_some() && !held(&sheet, fluid.floor) {
        // Whoever was on before is a good guess of who will be.
        let kw = sheet.kw.clone();
        search.refine(&fluid, kw, &mut sheet);
    }
    let dives = if auction::large(site) || site.tapers() { 0 } else { dive::ORDERS };
    let mut programmed = false;
    for tried in 0..dives + EAGER.len() {
        // What loads can do in turn must be close; what has been programmed, near.
        let enough = |sheet: &Sheet, fluid: &Answer| {
            let near = programmed && near(site, sheet, fluid.floor);
            let close = near || quick::close(site, sheet, fluid.floor, 1.0);
            (close && quick::as_fed(site, sheet, fluid)) || held(sheet, fluid.floor)
        };
        while !enough(&sheet, &fluid) {
            let Some(nearer) = search.again(&fluid, programmed) else { break };
            fluid = nearer;
            sheet = search.follow(&fluid, Some(sheet));
        }
        let left = if tried < dives { *work / 5 } else { *work / 2 };
        if enough(&sheet, &fluid) || search.work < left {
            break;
        }
        match tried.checked_sub(dives) {
            // The dearest way, for what is far from any measure.
            None if !far(site, &sheet, fluid.floor) => continue,
            None => dive::dive(&mut search, &fluid, tried, &mut sheet),
            Some(k) => {
                let kw = sweep::sweep(site, &fluid, EAGER[k]);
                search.refine(&fluid, kw, &mut sheet);
            }
        }
        programmed = true;
    }
    *work = search.work;
    (sheet, fluid)
}

/// What a plan of such a score may be off, currency.
fn allowed(score: f64) -> f64 {
    (ENOUGH * score.abs()).max(ENOUGH_AT_LEAST)
}

/// Whether a plan is not even good beside all that is asked for, broken or not.
fn far(site: &Sound, sheet: &Sheet, floor: f64) -> bool {
    answer::weighed(site, sheet) - floor > allowed(floor - quick::sunk(site))
}

/// Whether a plan is good enough. For few loads, what was left out as broken makes a gap no smaller.
fn near(site: &Sound, sheet: &Sheet, floor: f64) -> bool {
    let lost = if auction::large(site) { 0.0 } else { answer::UNSERVED * site.lost_kwh };
    let allowed = allowed(floor - lost - quick::sunk(site));
    sheet.score() - floor < allowed && sheet.overload_kwh <= 0.0 && sheet.broken <= 0.0
}

pub struct Search<'a> {
    pub site: &'a Sound,
    pub work: u64,
    /// Phases and steps that could be passed at all, and those whose rows are written; phase after phase.
    candidates: Vec<bool>,
    pub phases: Vec<bool>,
    /// The programme, a rough plan to go on from when rows are added, and the last one.
    now: Option<(Model<'a>, Point, Point)>,
    rounds: usize,
    exact: bool,
    /// Highest bound and floor of a fluid plan so far.
    proven: (f64, f64),
}

impl<'a> Search<'a> {
    /// Phase limits that had a price before are written from the beginning.
    fn new(site: &'a Sound, before: Option<&Standing>, work: u64) -> Search<'a> {
        let candidates = phase_candidates(site);
        let few = candidates.iter().filter(|on| **on).count() <= FEW_ROWS;
        let known = before.map(|before| before.prices().1).unwrap_or_default();
        let priced = |k: usize| known.get(k).is_some_and(|price| *price != 0.0);
        let phases = candidates.iter().enumerate().map(|(k, on)| *on && (few || priced(k)));
        let phases = phases.collect();
        let proven = (f64::NEG_INFINITY, f64::NEG_INFINITY);
        Search { site, work, candidates, phases, now: None, rounds: 0, exact: false, proven }
    }

    /// A legal plan along the fluid one, no worse than `best`.
    fn follow(&mut self, fluid: &Answer, best: Option<Sheet>) -> Sheet {
        let site = self.site;
        let best = best.map(|best| match auction::large(site) {
            true => auction::follow(site, fluid, best, &mut self.work),
            false => best,
        });
        match best {
            Some(best) if quick::close(site, &best, fluid.floor, 1.0) => best,
            best => quick::follow(site, fluid, best, &mut self.work),
        }
    }

    /// Powers for these switches, then switches where energy is still missing, and again.
    fn refine(&mut self, fluid: &Answer, mut kw: Vec<Vec<f64>>, best: &mut Sheet) {
        let (site, weight) = (self.site, answer::weights(self.site).unserved);
        let first = ledger::settle(site, kw.clone(), fluid.store.clone(), fluid.curtail.clone());
        let lacks = |short: &[f64]| -> Vec<f64> {
            let lack = |(i, short): (usize, &f64)| {
                let load = &site.loads[i];
                let want: f64 = fluid.kw[i].iter().sum();
                short - (load.kwh - load.gain * want).max(0.0)
            };
            short.iter().enumerate().map(lack).collect()
        };
        sweep::enrich(site, fluid, &mut kw, &lacks(&first.short));
        if first.beats(best, weight) {
            *best = first;
        }
        for _ in 0..MOST_TRIES {
            let switches = kw.iter().cloned().map(Some).collect();
            let answer = self.switched(&switches, fluid, EXACT);
            let (store, curtail) = (answer.store.clone(), answer.curtail.clone());
            let mut sheet = ledger::settle(site, answer.kw.clone(), store, curtail);
            if sweep::top_up(site, &answer, &mut sheet) {
                kw.clone_from(&sheet.kw);
            }
            let short = lacks(&sheet.short);
            if sheet.beats(best, weight) {
                *best = sheet;
            }
            if !sweep::enrich(site, &answer, &mut kw, &short) {
                break;
            }
        }
    }

    /// The programme where these loads are switched, as near its best as `gap`.
    pub fn switched(&mut self, switches: &Switches, fluid: &Answer, gap: f64) -> Answer {
        let model = Model::new(self.site, switches.clone(), fluid.ways.clone(), &self.phases);
        model.solve(gap, &mut self.work)
    }

    /// Writes the rows of phases that carry more than so much of their limit where one is passed; whether there are
    /// new ones.
    pub fn widen(&mut self, answer: &Answer, part: f64) -> bool {
        passed(self.site, answer) && self.grow(answer, part)
    }

    /// Writes the rows of phases in which so much flows; whether there are new ones.
    pub fn write(&mut self, flow: &[f64], part: f64) -> bool {
        let limit = self.site.phase.unwrap_or(0.0);
        let mut grown = false;
        for ((on, candidate), kw) in self.phases.iter_mut().zip(&self.candidates).zip(flow) {
            if *candidate && !*on && kw.abs() > part * limit {
                (*on, grown) = (true, true);
            }
        }
        grown
    }

    /// The fluid plan with those phase limits that a rough one comes near to.
    fn fluid(&mut self) -> Answer {
        let mut model = self.model();
        let mut rough = model.point(None, ROUGH, &mut self.work);
        if self.grow(&model.read(&rough), NEAR) {
            let next = self.model();
            rough = next.carry(&model, &rough);
            model = next;
        }
        self.go_on(model, rough.clone(), rough)
    }

    /// A nearer one: with those limits that this one passes, or else with more digits where `exact`; if it can be
    /// had.
    fn again(&mut self, fluid: &Answer, exact: bool) -> Option<Answer> {
        let (model, rough, last) = self.now.take()?;
        self.rounds += 1;
        if self.rounds <= MOST_PHASE_ROUNDS && self.widen(fluid, NEARER) {
            let next = self.model();
            let rough = next.carry(&model, &rough);
            return Some(self.go_on(next, rough.clone(), rough));
        }
        if exact && !self.exact {
            self.exact = true;
            return Some(self.go_on(model, rough, last));
        }
        self.now = Some((model, rough, last));
        None
    }

    fn go_on(&mut self, model: Model<'a>, rough: Point, from: Point) -> Answer {
        let gap = if self.exact { EXACT } else { GAP };
        let point = model.point(Some(from), gap, &mut self.work);
        let mut answer = model.read(&point);
        self.now = Some((model, rough, point));
        // What has been proven stays proven.
        self.proven = (self.proven.0.max(answer.bound), self.proven.1.max(answer.floor));
        (answer.bound, answer.floor) = self.proven;
        answer
    }

    fn model(&self) -> Model<'a> {
        Model::new(self.site, Switches::new(), Ways::open(self.site.steps), &self.phases)
    }

    /// Writes the rows of phases that carry more than so much of their limit; whether there are new ones.
    fn grow(&mut self, answer: &Answer, part: f64) -> bool {
        self.write(&phase_loads(self.site, answer), part)
    }
}

/// Phases and steps at which the limit could be passed at all.
pub fn phase_candidates(site: &Sound) -> Vec<bool> {
    let Some(limit) = site.phase else {
        return Vec::new();
    };
    let mut most = vec![0.0; 3 * site.steps];
    for load in &site.loads {
        for phase in (0..3).filter(|p| load.phases[*p]) {
            for t in load.from..load.to {
                most[phase * site.steps + t] += load.max_kw * load.share;
            }
        }
    }
    let store = site.store.map_or(0.0, |s| s.charge_kw.max(s.discharge_kw)) / 3.0;
    let over = |k: usize| {
        let (phase, t) = (k / site.steps, k % site.steps);
        let base = site.share[phase] * site.base[t];
        base + most[k] + store > limit || site.pv[t] / 3.0 + store - base > limit
    };
    (0..3 * site.steps).map(over).collect()
}

/// Whether a phase carries more than it may.
fn passed(site: &Sound, answer: &Answer) -> bool {
    let limit = site.phase.unwrap_or(f64::MAX);
    phase_loads(site, answer).iter().any(|kw| kw.abs() > limit + 1e-6)
}

/// What each phase carries in each step, kW; phase after phase.
fn phase_loads(site: &Sound, answer: &Answer) -> Vec<f64> {
    let rest = |k: usize| {
        let (phase, t) = (k / site.steps, k % site.steps);
        let beside = answer.store[t] - site.pv[t] + answer.curtail[t];
        site.share[phase] * site.base[t] + beside / 3.0
    };
    let mut flow: Vec<f64> = (0..3 * site.steps).map(rest).collect();
    for (load, kw) in site.loads.iter().zip(&answer.kw) {
        for phase in (0..3).filter(|p| load.phases[*p]) {
            let base = phase * site.steps + load.from;
            kw.iter().enumerate().for_each(|(k, kw)| flow[base + k] += kw * load.share);
        }
    }
    flow
}
