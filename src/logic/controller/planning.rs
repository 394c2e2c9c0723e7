//! The plan of the day: who charges in which quarter of an hour, and what the battery does meanwhile.
//! It is made anew every quarter hour, when a car comes or goes, and it binds nobody: allocation and
//! interlock keep their word whatever it says, and a plan that is old is not looked at.
//!
//! What a stranger gets wrong: a car without an expected stay is not planned; it gets its share of what
//! planned cars leave, at once. So does a car whose need is met or whose time is over.

mod feeding;
mod given;
mod shown;
mod store;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{DateTime, Timelike, Utc};

use super::MARGIN;
use super::tasks::{Tasks, lanes};
use super::visits::{Visits, Wanted};
use crate::logic::compute::{JobBook, Task};
use crate::logic::decision::PlanView;
use crate::logic::energy::plan::{self, Budget, Group, Member, Problem, Session, Standing};
use crate::logic::energy::{
    BatteryTarget, Circuits, SLOT_MINUTES, SlotMemory, Steps, earliest_first, early_for_nothing,
};
use crate::logic::site::{Charger, ChargingMode, ChosenModes, Circuit, Id, Site, Tariff};
use crate::units::{Amps, Moment, PerPhase, Phase, Soc, Watts};

/// Slots of a plan: 24 h.
pub(super) const STEPS: usize = 24 * 60 / SLOT_MINUTES;
pub(super) const SLOT_HOURS: f64 = SLOT_MINUTES as f64 / 60.0;
pub(super) const STEP_S: i64 = SLOT_MINUTES as i64 * 60;
/// Shortest time between two plans.
const AT_MOST_EVERY: Duration = Duration::from_secs(10);
/// After so many slots a plan says nothing of the one to come.
const MOST_OVER: usize = 4;
/// A plan older than this is not looked at, and so no more than the first slots of one.
const OLD_AFTER: i64 = 2 * STEP_S;
const LOOKED_AT: usize = 3;
/// Losses of the battery in each direction, where nobody has measured better.
const EFFICIENCY: f64 = 0.95;
/// What one solution may cost in the control thread, multiplications: some hundredths of a second. A car that
/// is short costs another one.
const BUDGET: Budget = Budget(40_000_000);
/// After so many solutions all cars have until they leave.
const ROUNDS: usize = 3;
/// Energy is moved to earlier steps up to this share of the connection: phases are not loaded alike.
const FILLED_EARLY: f64 = 0.75;
/// A plan that leaves less than this open serves everybody, kWh.
const SHORT_KWH: f64 = 0.2;
/// How fast the share of each phase in the other load is forgotten: time constant, s.
const SHARE_FADES_S: f64 = 300.0;

/// What a plan was made for and what it says.
#[derive(Clone, Debug)]
struct DayPlan {
    made: DateTime<Utc>,
    start: DateTime<Utc>,
    /// Where its prices stand, for the plan after it.
    standing: Standing,
    chargers: BTreeMap<Id, Vec<f64>>,
    jobs: BTreeMap<Id, Vec<f64>>,
    /// Battery, discharge positive, kW; nothing where no battery is planned.
    battery: Option<(Id, Vec<f64>)>,
    grid: Vec<f64>,
    /// Chargers whose cars get less than they need.
    short: BTreeSet<Id>,
    early: Early,
    view: PlanView,
}

/// What being early is worth, and how far it may go.
#[derive(Clone, Debug)]
struct Early {
    /// Of each slot that is looked at.
    slots: Vec<Later>,
    /// Import that nobody passes by it, kW.
    most_kw: f64,
}

/// What later slots have for chargers at prices no lower than a slot's own, kW and steps.
#[derive(Clone, Debug)]
struct Later {
    has: BTreeMap<Id, f64>,
    /// Chargers for which that is something.
    takers: usize,
}

impl Early {
    /// From what a little more energy costs in each slot, and what each charger has there.
    fn of(marginal: &[f64], chargers: &BTreeMap<Id, Vec<f64>>, most_kw: f64) -> Early {
        let slot = |slot: usize| {
            let dearer = |kw: &Vec<f64>| -> f64 {
                let later = kw.iter().zip(marginal).skip(slot + 1);
                later.filter(|(_, later)| **later >= marginal[slot]).map(|(kw, _)| kw).sum()
            };
            let has: BTreeMap<Id, f64> =
                chargers.iter().map(|(id, kw)| (id.clone(), dearer(kw))).collect();
            let takers = has.values().filter(|kw| **kw > 0.0).count();
            Later { has, takers }
        };
        let slots = (0..LOOKED_AT.min(marginal.len())).map(slot).collect();
        Early { slots, most_kw }
    }
}

/// Keeps the plan.
#[derive(Debug, Default)]
pub(super) struct Planning {
    memory: SlotMemory,
    sampled: Option<Moment>,
    pub visits: Visits,
    /// Other load on each phase, W; nothing before it was measured.
    by_phase: Option<[f64; 3]>,
    plan: Option<DayPlan>,
    made: Option<Moment>,
    /// A car came or went, or something else that a plan depends on.
    changed: bool,
    /// The book of jobs as of the plan.
    jobs_at: u64,
}

impl Planning {
    /// Takes in PV and uncontrolled load, at most once a second.
    pub fn sample(&mut self, now: Moment, pv: Watts, load: PerPhase<Watts>) {
        let Some(since) = self.sampled.map(|at| at.age_at(now)) else {
            self.sampled = Some(now);
            return;
        };
        if since >= Duration::from_secs(1) {
            self.sampled = Some(now);
            self.memory.take_in(now.utc, pv, load.0.into_iter().sum());
            let weight = (since.as_secs_f64() / SHARE_FADES_S).min(1.0);
            let load = load.0.map(|watts| watts.get().max(0.0));
            let known = self.by_phase.get_or_insert(load);
            for (known, now) in known.iter_mut().zip(load) {
                *known += (now - *known) * weight;
            }
        }
    }

    /// Share of each phase in the other load.
    fn base_share(&self) -> [f64; 3] {
        let watts = self.by_phase.unwrap_or_default();
        let sum: f64 = watts.iter().sum();
        if sum < 1.0 { [1.0 / 3.0; 3] } else { watts.map(|phase| phase / sum) }
    }

    /// Makes the plan anew when a slot has begun or something has changed.
    pub fn renew(
        &mut self,
        (site, modes, circuits): (&Site, &ChosenModes, &[Circuit]),
        now: Moment,
        soc: Option<Soc>,
        book: &JobBook,
    ) {
        let Some(tariff) = &site.tariff else {
            return;
        };
        self.changed |= self.visits.take_changed(now) | (self.jobs_at != book.changes());
        let young = self.made.is_some_and(|made| made.age_at(now) < AT_MOST_EVERY);
        let start = slot_start(now.utc);
        let same_slot = self.plan.as_ref().is_some_and(|plan| plan.start == start);
        if young || (same_slot && !self.changed) {
            return;
        }
        (self.made, self.changed, self.jobs_at) = (Some(now), false, book.changes());
        let tasks = book.tasks(&site.work, now.utc);
        self.plan = Some(self.make((site, tariff, modes, circuits), (now, start), soc, &tasks));
    }

    fn make(
        &self,
        (site, tariff, modes, circuits): (&Site, &Tariff, &ChosenModes, &[Circuit]),
        (moment, start): (Moment, DateTime<Utc>),
        soc: Option<Soc>,
        tasks: &[Task],
    ) -> DayPlan {
        let now = moment.utc;
        let forecast = self.memory.forecast(now, STEPS, noon(now, tariff));
        let cars = self.cars((site, modes), tariff, moment);
        let planned = cars.partition_point(|car| car.mode == ChargingMode::Departure);
        let at = |step: usize| start + chrono::Duration::seconds(STEP_S * step as i64);
        let store = store::of(site, soc);
        let volts = site.limits.nominal_voltage.get();
        // What allocation will grant: the limit less its margin, and no more to all cars together.
        let phase_kw =
            Phase::ALL.map(|p| (site.limits.limit.on(p) - MARGIN).get() * volts / 1000.0);
        let all_kw: f64 = phase_kw.iter().sum();
        let mut problem = Problem {
            steps: STEPS,
            step_hours: SLOT_HOURS,
            pv_kw: forecast.pv.iter().map(|w| w.get() / 1000.0).collect(),
            pv_curtailable: false,
            base_kw: forecast.load.iter().map(|w| w.get().max(0.0) / 1000.0).collect(),
            import_price: (0..STEPS).map(|step| tariff.import_at(at(step))).collect(),
            export_price: vec![tariff.export; STEPS],
            demand: store::peak(&site.batteries),
            import_limit_kw: vec![all_kw; STEPS],
            export_limit_kw: vec![all_kw; STEPS],
            phase_limit_kw: phase_kw.into_iter().reduce(f64::min),
            base_share: self.base_share(),
            store: store.as_ref().map(|(_, store)| *store),
            sessions: Vec::new(),
            jobs: Vec::new(),
            groups: vec![Group {
                limit_kw: all_kw,
                members: (0..planned).map(Member::Session).collect(),
            }],
        };
        let given = give(&mut problem, &cars[planned..], (start, volts), all_kw);
        let by_plan = &cars[..planned];
        problem.sessions =
            by_plan.iter().map(|car| car.session(car.wanted.done_by, start, volts)).collect();
        problem.groups.extend(feeding::groups((site, circuits), by_plan, &problem.sessions));
        let due: Vec<i64> = problem.sessions.iter().map(|session| session.departure).collect();
        let tasks = Tasks::put(&mut problem, tasks, (site, start));
        let mut solved = solve_with_late_ones(&mut problem, self.standing(start), |i| {
            let car = &cars[i];
            car.session(car.wanted.leaves, start, volts).departure
        });
        tasks.keep_places(&problem, &mut solved);
        if store.as_ref().is_some_and(|(id, _)| store::is_for_sun(site, id)) {
            store::keep_to_sun(&problem, &mut solved);
        }
        let grid = in_good_order((&problem, &due), &mut solved, all_kw);
        let powers = solved.session_kw.iter().cloned().chain(given);
        let chargers: BTreeMap<Id, Vec<f64>> =
            cars.iter().map(|car| car.charger.id.clone()).zip(powers).collect();
        let jobs = tasks.powers(&solved);
        let lacks =
            cars.iter().zip(short_of(&problem, &solved)).filter(|(_, kwh)| *kwh > SHORT_KWH);
        let short = lacks.map(|(car, _)| car.charger.id.clone()).collect();
        let battery = store.map(|(id, _)| (id, solved.store_kw.iter().map(|kw| -kw).collect()));
        let early = Early::of(&marginal(&problem, &grid), &chargers, highest(&problem, &grid));
        let told = shown::Told { site, tariff, now, start, cars: &cars, forecast: &forecast, soc };
        let mut view = shown::view(&told, (&chargers, battery.as_ref(), &grid));
        lanes(&mut view, tasks.told(), &jobs);
        let standing = solved.standing;
        DayPlan { made: now, start, standing, chargers, jobs, battery, grid, short, early, view }
    }

    /// Where the plan before stands by now: mostly a car more or less has changed, or a slot is over.
    fn standing(&self, start: DateTime<Utc>) -> Standing {
        let over = |plan: &DayPlan| usize::try_from((start - plan.start).num_seconds() / STEP_S);
        let before = self.plan.as_ref().and_then(|plan| Some((plan, over(plan).ok()?)));
        let young = before.filter(|(_, over)| *over <= MOST_OVER);
        young.map(|(plan, over)| plan.standing.later(over)).unwrap_or_default()
    }

    /// Cars that are expected to leave, and what they still need: those that are planned, and then those whose
    /// mode decides for itself.
    fn cars<'s>(
        &self,
        (site, modes): (&'s Site, &ChosenModes),
        tariff: &Tariff,
        now: Moment,
    ) -> Vec<Car<'s>> {
        let volts = site.limits.nominal_voltage.get();
        let car = |charger: &'s Charger| {
            let mode = Some(modes.of(charger)).filter(|mode| *mode != ChargingMode::Off)?;
            let wanted = self.visits.wanted(charger, volts, tariff.zone, now)?;
            Some(Car { charger, wanted, mode })
        };
        let mut cars: Vec<Car<'s>> = site.chargers.iter().filter_map(car).collect();
        // Who takes it at once takes it before who waits for what is left over.
        cars.sort_by_key(|car| match car.mode {
            ChargingMode::Departure => 0,
            ChargingMode::Fast => 1,
            _ => 2,
        });
        cars
    }

    /// What a charger may draw in the running slot; nothing where it is not planned.
    pub fn share(&self, charger: &Id, now: Moment) -> Option<Watts> {
        let (plan, slot) = self.running(now)?;
        let visit_planned = plan.chargers.get(charger)?.get(slot)?;
        Some(Watts(visit_planned * 1000.0))
    }

    /// What a job may draw in the running slot; nothing where it is not planned.
    pub fn job_share(&self, job: &Id, now: Moment) -> Option<Watts> {
        let (plan, slot) = self.running(now)?;
        Some(Watts(plan.jobs.get(job)?.get(slot)? * 1000.0))
    }

    /// Whether there is a plan that can be looked at.
    pub fn plans(&self, now: Moment) -> bool {
        self.running(now).is_some()
    }

    /// What a charger may take in the running slot beyond its share: what the plan has for it in later
    /// slots in which energy costs as much or more need not be hoped for then. Where the site would
    /// export, only the export; where a peak costs something, its part of what is left below the highest planned one,
    /// if that is the least that it can use; without bound for a car that the plan leaves short.
    pub fn beyond_share(&self, charger: &Id, least: Watts, now: Moment) -> Watts {
        let Some((plan, slot)) = self.running(now) else { return Watts::ZERO };
        if plan.short.contains(charger) {
            return Watts(f64::MAX);
        }
        let Some(later) = plan.early.slots.get(slot) else { return Watts::ZERO };
        let dearer = later.has.get(charger).copied().unwrap_or(0.0);
        let grid = plan.grid.get(slot).copied().unwrap_or(0.0);
        let bound = if grid < 0.0 { -grid } else { f64::MAX };
        let below = (plan.early.most_kw - grid).max(0.0) / later.takers.max(1) as f64;
        let below = if below * 1000.0 < least.get() { 0.0 } else { below };
        Watts(dearer.min(bound).min(below) * 1000.0)
    }

    /// What the battery and the grid connection are meant to do in the running slot.
    pub fn battery(&self, battery: &Id, now: Moment) -> Option<BatteryTarget> {
        let (plan, slot) = self.running(now)?;
        let (planned, powers) = plan.battery.as_ref()?;
        let power = Watts(powers.get(slot)? * 1000.0);
        let grid = Watts(plan.grid.get(slot)? * 1000.0);
        (planned == battery).then_some(BatteryTarget { power, grid })
    }

    fn running(&self, now: Moment) -> Option<(&DayPlan, usize)> {
        let plan = self.plan.as_ref()?;
        let age = (now.utc - plan.made).num_seconds();
        let slot = usize::try_from((now.utc - plan.start).num_seconds() / STEP_S).ok()?;
        // A clock that was set back makes a plan old, too.
        (0..OLD_AFTER).contains(&age).then_some((plan, slot))
    }

    /// The plan as MQTT and the page show it.
    pub fn view(&self) -> Option<&PlanView> {
        self.plan.as_ref().map(|plan| &plan.view)
    }
}

/// A car that is planned.
struct Car<'s> {
    charger: &'s Charger,
    wanted: Wanted,
    mode: ChargingMode,
}

/// What cars draw that the plan does not move: it becomes load.
fn give(
    problem: &mut Problem,
    cars: &[Car<'_>],
    (start, volts): (DateTime<Utc>, f64),
    all_kw: f64,
) -> Vec<Vec<f64>> {
    let mut all = Vec::with_capacity(cars.len());
    for car in cars {
        let session = car.session(car.wanted.leaves, start, volts);
        let powers = given::powers(car.mode, &session, problem, all_kw);
        problem.base_kw.iter_mut().zip(&powers).for_each(|(base, kw)| *base += kw);
        all.push(powers);
    }
    all
}

impl Car<'_> {
    fn session(&self, by: DateTime<Utc>, start: DateTime<Utc>, volts: f64) -> Session {
        let mut phases = [false; 3];
        let used = if self.wanted.one_phase { 1 } else { self.charger.phases.len() };
        for phase in self.charger.phases.iter().take(used) {
            phases[*phase as usize] = true;
        }
        let kw = |amps: Amps| amps.get() * volts * used as f64 / 1000.0;
        let min_kw = kw(self.charger.min);
        // The running slot counts whole, so that a car that leaves within it is in the plan.
        let departure = ((by - start).num_seconds() / STEP_S).max(1);
        Session {
            arrival: 0,
            departure,
            // Less than a slot at the minimum cannot be planned; the car stops by itself.
            need_kwh: (self.wanted.need.get() / 1000.0).max(min_kw * SLOT_HOURS * 1.001),
            efficiency: 1.0,
            min_kw,
            max_kw: kw(self.wanted.most).max(min_kw),
            phases,
            taper: None,
        }
    }
}

fn slot_start(at: DateTime<Utc>) -> DateTime<Utc> {
    let into = i64::from(at.minute()) * 60 + i64::from(at.second());
    let start = at - chrono::Duration::seconds(into % STEP_S);
    start.with_nanosecond(0).unwrap_or(start)
}

/// UTC hour of the local noon.
fn noon(now: DateTime<Utc>, tariff: &Tariff) -> f64 {
    use chrono::Offset;
    let offset = now.with_timezone(&tariff.zone).offset().fix().local_minus_utc();
    (12.0 - f64::from(offset) / 3600.0).rem_euclid(24.0)
}

/// A plan by which cars are done early; those for which that is too short have until they leave, and from
/// the third round on all have: the control thread waits for it.
fn solve_with_late_ones(
    problem: &mut Problem,
    mut before: Standing,
    leaves: impl Fn(usize) -> i64,
) -> plan::Plan {
    let mut round = 0;
    loop {
        round += 1;
        let solved = plan::solve_after(&before, problem, BUDGET);
        let lacks = short_of(problem, &solved);
        let late: Vec<usize> = (0..lacks.len())
            .filter(|&i| lacks[i] > SHORT_KWH && problem.sessions[i].departure < leaves(i))
            .collect();
        if late.is_empty() {
            return solved;
        }
        let all = if round >= ROUNDS { (0..lacks.len()).collect() } else { late };
        all.into_iter().for_each(|i| problem.sessions[i].departure = leaves(i));
        before = solved.standing;
    }
}

/// Puts what costs the same in the order in which it is safest to have: by the step in which each car should
/// be done, also where it has got until it leaves. Import of each step, kW.
fn in_good_order(
    (problem, due): (&Problem, &[i64]),
    solved: &mut plan::Plan,
    all_kw: f64,
) -> Vec<f64> {
    let stored = problem.store.as_ref().map(|store| (store, solved.store_kw.as_mut_slice()));
    let circuits = Circuits::of(&problem.groups[1..], &solved.session_kw);
    earliest_first((&problem.sessions, &circuits), due, &mut solved.session_kw, stored);
    let mut grid = grid(problem, solved);
    // Nobody is early for the price of a peak.
    let most_kw = highest(problem, &grid).min(all_kw * FILLED_EARLY);
    let price = &problem.import_price;
    let mut steps = Steps { price, grid: &mut grid, most_kw, circuits };
    early_for_nothing(&problem.sessions, due, &mut solved.session_kw, &mut steps);
    grid
}

/// Import that nobody passes by being early, kW: the highest planned one where a peak costs something.
fn highest(problem: &Problem, grid: &[f64]) -> f64 {
    let highest = grid.iter().copied().fold(problem.demand.so_far_kw, f64::max);
    if problem.demand.per_kw > 0.0 { highest } else { f64::MAX }
}

/// What a little more energy costs in each step, per kWh.
fn marginal(problem: &Problem, grid: &[f64]) -> Vec<f64> {
    let costs = |(t, kw): (usize, &f64)| {
        let exports = *kw < 0.0;
        if exports { problem.export_price[t] } else { problem.import_price[t] }
    };
    grid.iter().enumerate().map(costs).collect()
}

/// What each car lacks, kWh.
fn short_of(problem: &Problem, solved: &plan::Plan) -> Vec<f64> {
    let given = |kw: &Vec<f64>| kw.iter().sum::<f64>() * problem.step_hours;
    let of = |(car, kw): (&Session, &Vec<f64>)| (car.need_kwh - given(kw)).max(0.0);
    problem.sessions.iter().zip(&solved.session_kw).map(of).collect()
}

/// Import of each step, kW.
fn grid(problem: &Problem, solved: &plan::Plan) -> Vec<f64> {
    let of = |series: &[f64], step: usize| series.get(step).copied().unwrap_or(0.0);
    let step = |step: usize| {
        let loads = solved.session_kw.iter().chain(&solved.job_kw);
        let loads: f64 = loads.map(|kw| of(kw, step)).sum();
        let sun = of(&problem.pv_kw, step) - of(&solved.curtail_kw, step);
        of(&problem.base_kw, step) + loads + of(&solved.store_kw, step) - sun
    };
    (0..problem.steps).map(step).collect()
}
