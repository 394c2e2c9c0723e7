//! Our own planning, step by step, as the controller does it: the product's forecast of sun and building, the day
//! plan of the cars that are there, what costs the same as early as it can be had, and of all that the first step.
//!
//! What a stranger gets wrong: nothing here knows the future. Forecasts come from past days and what is
//! measured now; prices are known as far as they have been published.

use chrono::{DateTime, Duration, Utc};
use wattgate::logic::energy::plan::{
    Budget, Demand, Plan, Problem, Session, Standing, Store, solve_after,
};
use wattgate::logic::energy::{
    Circuits, SLOT_MINUTES, SlotMemory, Steps, earliest_first, early_for_nothing,
};
use wattgate::units::Watts;

use super::storing::{given_late, stored_early};

use super::world::{Act, Present, Room, View};

/// Hours that a plan looks ahead.
const AHEAD_H: f64 = 24.0;
/// A car is to be done so long before it leaves, where it can be: nobody knows what the last minutes bring.
const EARLY_H: f64 = 1.0;
/// Energy is moved to earlier steps up to this share of the connection, as the controller does.
const FILLED_EARLY: f64 = 0.75;

/// What is known of the time before.
pub struct Past<'p> {
    pub start: DateTime<Utc>,
    /// UTC hour of the local noon.
    pub noon: f64,
    /// Hour of the day, UTC, at which the next day's prices are published; none where the tariff is fixed.
    pub published: Option<f64>,
    pub memory: &'p SlotMemory,
    /// Who came in the week before, by the steps of that week.
    pub came: &'p [Session],
    /// The highest import that such a week needs, as far as that can be known, kW.
    pub level_kw: f64,
}

impl Past<'_> {
    pub fn at(&self, step: usize, hours: f64) -> DateTime<Utc> {
        self.start + Duration::milliseconds((step as f64 * hours * 3.6e6).round() as i64)
    }

    /// Import and export price of a step, seen from `now`: where not yet published, that of the day before.
    fn price(&self, site: &Problem, (now, step): (usize, usize)) -> (f64, f64) {
        let day = (24.0 / site.step_hours).round() as usize;
        let known = match self.published {
            None => usize::MAX,
            Some(hour) => {
                let today = now / day;
                let told = (now % day) as f64 * site.step_hours >= hour;
                (today + if told { 2 } else { 1 }) * day
            }
        };
        let mut step = step;
        while step >= known && step >= day {
            step -= day;
        }
        (site.import_price[step], site.export_price[step])
    }
}

/// The problem of the coming hours as it can be known: the cars that are there, in their order.
pub fn horizon(view: &View<'_>, past: &Past<'_>) -> Problem {
    let (site, now, hours) = (view.site, view.step, view.site.step_hours);
    let steps = ((AHEAD_H / hours).round() as usize).min(site.steps - now);
    let slot = SLOT_MINUTES as f64 / 60.0;
    let slots = (steps as f64 * hours / slot).ceil() as usize + 1;
    let forecast = past.memory.forecast(past.at(now, hours), slots, past.noon);
    let into = (now as f64 * hours).rem_euclid(slot);
    let of = |series: &[Watts], step: usize| {
        series[((step as f64 * hours + into + 1e-9) / slot) as usize].get() / 1000.0
    };
    let series = |what: &[Watts], first: f64| -> Vec<f64> {
        (0..steps).map(|step| if step == 0 { first } else { of(what, step).max(0.0) }).collect()
    };
    let prices: Vec<(f64, f64)> =
        (0..steps).map(|step| past.price(site, (now, now + step))).collect();
    let store = site.store.map(|store| Store { soc0_kwh: view.level_kwh, ..store });
    let sessions = view.present.iter().map(|present| Session {
        arrival: 0,
        departure: present.told.departure - now as i64,
        need_kwh: present.left,
        ..present.told
    });
    Problem {
        steps,
        step_hours: hours,
        pv_kw: series(&forecast.pv, view.pv_kw),
        pv_curtailable: site.pv_curtailable,
        base_kw: series(&forecast.load, view.base_kw),
        import_price: prices.iter().map(|price| price.0).collect(),
        export_price: prices.iter().map(|price| price.1).collect(),
        demand: Demand { so_far_kw: view.peak_kw, ..site.demand },
        import_limit_kw: site.import_limit_kw[now..now + steps].to_vec(),
        export_limit_kw: site.export_limit_kw[now..now + steps].to_vec(),
        phase_limit_kw: site.phase_limit_kw,
        base_share: site.base_share,
        store,
        sessions: sessions.collect(),
        jobs: Vec::new(),
        groups: Vec::new(),
    }
}

/// Who came at this time a week ago and is not here yet, as if it were to come again.
fn expected(view: &View<'_>, past: &Past<'_>, steps: usize) -> Vec<Session> {
    let now = view.step as i64;
    let again = past.came.iter().map(|car| Session {
        arrival: car.arrival - now,
        departure: car.departure - now,
        ..*car
    });
    again.filter(|car| (1..steps as i64).contains(&car.arrival)).collect()
}

/// Import of each step, kW.
pub fn grid(problem: &Problem, plan: &Plan) -> Vec<f64> {
    let loads = |step: usize| plan.session_kw.iter().map(|kw| kw[step]).sum::<f64>();
    let net = |step: usize| {
        problem.base_kw[step] + loads(step) + plan.store_kw[step] - problem.pv_kw[step]
            + plan.curtail_kw[step]
    };
    (0..problem.steps).map(net).collect()
}

/// No more than a stay can give, and nobody who wants less than one step at the least power gives: for those the
/// plan could do nothing, and what they cost would hide what others cost.
fn servable(session: &Session, hours: f64) -> Session {
    let gain = hours * session.efficiency;
    let stay = (session.departure - session.arrival).max(0) as f64;
    Session { need_kwh: session.need_kwh.min(gain * session.max_kw * stay), ..*session }
}

/// The step by which a car is to be done: before it leaves, as far as its stay leaves room for that.
fn done_by(session: &Session, hours: f64) -> i64 {
    let least = session.need_kwh / (hours * session.efficiency * session.max_kw);
    let early = session.departure - (EARLY_H / hours).round() as i64;
    let needs = (1.5 * least).ceil() as i64 + 1;
    early.max(needs).min(session.departure)
}

/// The first step of the plan of what is known now.
pub fn ours(view: &View<'_>, past: &Past<'_>) -> Act {
    let mut problem = horizon(view, past);
    let here = problem.sessions.len();
    let steps = problem.steps;
    problem.sessions.extend(expected(view, past, steps));
    let hours = problem.step_hours;
    problem.sessions[..here]
        .iter_mut()
        .for_each(|session| session.departure = done_by(session, hours));
    let known = problem.sessions.iter();
    problem.sessions = known.map(|session| servable(session, hours)).collect();
    problem.demand.so_far_kw = problem.demand.so_far_kw.max(past.level_kw);
    let mut plan = solve_after(&Standing::default(), &problem, Budget::default());
    let promised: Vec<f64> = plan.session_kw[..here].iter().map(|kw| kw[0]).collect();
    let due: Vec<i64> = problem.sessions.iter().map(|session| session.departure).collect();
    let stored = problem.store.as_ref().map(|store| (store, plan.store_kw.as_mut_slice()));
    let circuits = Circuits::of(&problem.groups, &plan.session_kw);
    earliest_first((&problem.sessions, &circuits), &due, &mut plan.session_kw, stored);
    let mut grid = grid(&problem, &plan);
    let highest = grid.iter().copied().fold(problem.demand.so_far_kw, f64::max);
    let limit = problem.import_limit_kw.iter().copied().fold(f64::MAX, f64::min);
    let charged = problem.demand.per_kw > 0.0;
    let most_kw = if charged { highest.min(limit) } else { FILLED_EARLY * limit };
    let mut steps = Steps { price: &problem.import_price, grid: &mut grid, most_kw, circuits };
    early_for_nothing(&problem.sessions, &due, &mut plan.session_kw, &mut steps);
    if let Some(store) = &problem.store {
        given_late(store, &mut plan.store_kw, &mut steps);
        stored_early(store, &mut plan.store_kw, &problem.export_price, &mut steps);
    }
    // What a plan leaves over by rounding is taken in the same step, be it of what is missing or of the most there is.
    let whole = |(present, kw): (&Present, &Vec<f64>)| {
        let (rest, most) = (present.rest_kw(hours), present.told.max_kw);
        let kw = if kw[0] > (1.0 - 1e-6) * most { most } else { kw[0] };
        if kw > 0.0 && rest < 1.1 * kw { rest } else { kw }
    };
    let mut cars: Vec<f64> = view.present.iter().zip(&plan.session_kw[..here]).map(whole).collect();
    promised_first(view, (&promised, plan.store_kw[0]), &mut cars);
    Act { cars, store: Some(plan.store_kw[0]), heedless: false }
}

/// What the plan promised comes before what is brought forward, as in the gateway's allocation: a car with no choice
/// does not lose to one that was to be early.
fn promised_first(view: &View<'_>, (promised, store_kw): (&[f64], f64), cars: &mut [f64]) {
    let mut room = Room::beside(view);
    room.site -= store_kw.min(0.0);
    room.phase.iter_mut().for_each(|phase| *phase -= store_kw.min(0.0) / 3.0);
    for ((present, kw), promised) in view.present.iter().zip(&*cars).zip(promised) {
        room.take(present.told.phases, kw.min(*promised));
    }
    for ((present, kw), promised) in view.present.iter().zip(cars).zip(promised) {
        let more = (*kw - promised).min(room.of(present.told.phases).max(0.0));
        if more > 0.0 {
            *kw = promised + more;
            room.take(present.told.phases, more);
        } else {
            *kw = kw.min(*promised);
        }
    }
}
