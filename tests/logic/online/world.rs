//! A site that lives through its steps under a policy that sees only what is there: cars from the moment they are
//! plugged in, sun and building as they are now. Owns the rules that hold for every policy, and the bill.
//!
//! What a stranger gets wrong: the truth is a whole scenario, but a policy is only handed a [`View`].

use wattgate::logic::energy::plan::{Problem, Session, Store};

/// Powers below this are nothing, kW.
const NOTHING: f64 = 1e-6;

/// A rest that is too large for less than its least power and too small for two steps waits for room while more
/// steps than this are left.
const PATIENCE: i64 = 4;

/// A car that is plugged in.
#[derive(Clone, Copy, Debug)]
pub struct Present {
    /// Its place among all cars.
    pub car: usize,
    /// As told at plug-in.
    pub told: Session,
    /// Still missing, kWh.
    pub left: f64,
    /// Steps until it leaves, this one counted.
    pub steps_left: i64,
}

impl Present {
    /// kW over one step that would give all that is missing.
    pub fn rest_kw(&self, hours: f64) -> f64 {
        self.left / (hours * self.told.efficiency)
    }
}

/// What can be known at the start of a step.
pub struct View<'w> {
    pub step: usize,
    /// Limits, tariff and battery; of its series only what the policy may know is to be read.
    pub site: &'w Problem,
    pub pv_kw: f64,
    pub base_kw: f64,
    pub present: Vec<Present>,
    /// Charge of the battery, kWh.
    pub level_kwh: f64,
    /// Highest import so far, kW.
    pub peak_kw: f64,
}

/// What a policy wants in a step.
#[derive(Clone, Debug, Default)]
pub struct Act {
    /// kW of each car that is present, in their order.
    pub cars: Vec<f64>,
    /// Charging positive; nothing for a battery that looks after itself.
    pub store: Option<f64>,
    /// Whether limits bind it.
    pub heedless: bool,
}

/// What a week came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bill {
    pub asked_kwh: f64,
    pub given_kwh: f64,
    pub cost: f64,
    pub over_kwh: f64,
    pub peak_kw: f64,
}

impl Bill {
    /// Two weeks in one.
    pub fn add(&mut self, other: &Bill) {
        self.asked_kwh += other.asked_kwh;
        self.given_kwh += other.given_kwh;
        self.cost += other.cost;
        self.over_kwh += other.over_kwh;
        self.peak_kw = self.peak_kw.max(other.peak_kw);
    }
}

/// Everything that happened, for a judge.
#[derive(Clone, Debug, Default)]
pub struct Record {
    pub cars: Vec<Vec<f64>>,
    pub store: Vec<f64>,
    pub curtail: Vec<f64>,
}

/// Room in a step: of the connection and of each phase.
#[derive(Clone, Copy)]
pub struct Room {
    pub site: f64,
    pub phase: [f64; 3],
}

impl Room {
    /// Beside building and sun, kW.
    pub fn beside(view: &View<'_>) -> Room {
        let site = view.site;
        let phase = [0, 1, 2].map(|p| match site.phase_limit_kw {
            Some(limit) => limit - site.base_share[p] * view.base_kw + view.pv_kw / 3.0,
            None => f64::MAX,
        });
        Room { site: site.import_limit_kw[view.step] - view.base_kw + view.pv_kw, phase }
    }

    pub fn of(&self, phases: [bool; 3]) -> f64 {
        let count = phases.iter().filter(|on| **on).count() as f64;
        let on = (0..3).filter(|p| phases[*p]).map(|p| self.phase[p] * count);
        on.fold(self.site, f64::min)
    }

    pub fn take(&mut self, phases: [bool; 3], kw: f64) {
        let count = phases.iter().filter(|on| **on).count() as f64;
        self.site -= kw;
        (0..3).filter(|p| phases[*p]).for_each(|p| self.phase[p] -= kw / count);
    }
}

/// What a car is given of a wish: nothing or at least its least, no more than is missing, and no rest that is too
/// small to be given later.
pub fn legal_kw(present: &Present, wish: f64, hours: f64) -> f64 {
    let (least, most) = (present.told.min_kw.min(present.told.max_kw), present.told.max_kw);
    let rest = present.rest_kw(hours);
    let kw = wish.min(most).min(rest);
    if kw < least - NOTHING || kw <= NOTHING {
        return 0.0;
    }
    let after = rest - kw;
    match present.steps_left {
        _ if after <= NOTHING || after >= least => kw,
        0 | 1 => kw,
        _ if rest - least >= least => rest - least,
        // All at once, later, where there is time for that.
        left if left > PATIENCE && rest <= most => 0.0,
        _ => kw,
    }
}

/// A battery that looks after itself: it takes the sun's surplus and gives what is above what must be left.
fn by_itself(store: &Store, level: f64, net: f64, hours: f64) -> f64 {
    if net < 0.0 {
        return (-net).min((store.soc_max_kwh - level) / (hours * store.eff_charge)).max(0.0);
    }
    let keep = store.soc_end_min_kwh.max(store.soc_min_kwh);
    -net.min(((level - keep) * store.eff_discharge / hours).max(0.0))
}

/// What its level allows of a wish, with the end still in reach.
fn legal_store(store: &Store, (level, wish): (f64, f64), steps_after: usize, hours: f64) -> f64 {
    let later = steps_after as f64 * hours * store.charge_kw * store.eff_charge;
    let least = store.soc_min_kwh.max(store.soc_end_min_kwh - later);
    let up = (store.soc_max_kwh - level).max(0.0) / (hours * store.eff_charge);
    let must = (least - level).max(0.0) / (hours * store.eff_charge);
    let down = (level - least).max(0.0) * store.eff_discharge / hours;
    let kw = wish.clamp(-store.discharge_kw.min(down), store.charge_kw.min(up));
    if must > 0.0 { kw.max(must.min(up)) } else { kw }
}

/// The world: a scenario as it comes true.
pub struct World<'w> {
    pub site: &'w Problem,
    left: Vec<f64>,
    level: f64,
    pub bill: Bill,
    pub record: Record,
}

impl<'w> World<'w> {
    pub fn new(site: &'w Problem) -> World<'w> {
        let left: Vec<f64> = site.sessions.iter().map(|car| car.need_kwh).collect();
        let bill = Bill { asked_kwh: left.iter().sum(), ..Bill::default() };
        let record = Record {
            cars: vec![vec![0.0; site.steps]; left.len()],
            store: vec![0.0; site.steps],
            curtail: vec![0.0; site.steps],
        };
        let level = site.store.map_or(0.0, |store| store.soc0_kwh);
        World { site, left, level, bill, record }
    }

    /// Who is there, and how things are.
    pub fn view(&self, step: usize) -> View<'w> {
        let site = self.site;
        let there = |car: &usize| {
            let told = &site.sessions[*car];
            (told.arrival..told.departure).contains(&(step as i64))
        };
        let present = (0..self.left.len()).filter(there);
        let present = present.map(|car| Present {
            car,
            told: site.sessions[car],
            left: self.left[car],
            steps_left: site.sessions[car].departure - step as i64,
        });
        View {
            step,
            site,
            pv_kw: site.pv_kw[step],
            base_kw: site.base_kw[step],
            present: present.filter(|car| car.left > NOTHING).collect(),
            level_kwh: self.level,
            peak_kw: self.bill.peak_kw.max(site.demand.so_far_kw),
        }
    }

    /// One step under a policy's wish.
    pub fn live(&mut self, view: &View<'_>, act: &Act) {
        let (site, t, hours) = (self.site, view.step, self.site.step_hours);
        let mut room = Room::beside(view);
        let wanted = act.store.filter(|kw| *kw < 0.0).unwrap_or(0.0);
        room.site -= wanted;
        room.phase.iter_mut().for_each(|phase| *phase -= wanted / 3.0);
        let mut cars = 0.0;
        for (present, wish) in view.present.iter().zip(&act.cars) {
            let free = if act.heedless { f64::MAX } else { room.of(present.told.phases) };
            let kw = legal_kw(present, wish.min(free + NOTHING), hours);
            room.take(present.told.phases, kw);
            self.record.cars[present.car][t] = kw;
            self.left[present.car] -= kw * hours * present.told.efficiency;
            self.bill.given_kwh += kw * hours * present.told.efficiency;
            cars += kw;
        }
        let mut net = view.base_kw + cars - view.pv_kw;
        let mut stored = 0.0;
        if let Some(store) = &site.store {
            let wish = act.store.unwrap_or_else(|| by_itself(store, self.level, net, hours));
            let lowest = if store.no_discharge_to_grid { 0.0 } else { -site.export_limit_kw[t] };
            // No import beyond the limit for the battery, no export beyond its own.
            let wish = wish.min((site.import_limit_kw[t] - net).max(0.0));
            let wish = wish.max((lowest - net).min(0.0));
            stored = legal_store(store, (self.level, wish), site.steps - t - 1, hours);
            self.level += hours
                * if stored > 0.0 {
                    stored * store.eff_charge
                } else {
                    stored / store.eff_discharge
                };
            self.bill.cost += hours * store.wear_per_kwh / 2.0 * stored.abs();
        }
        net += stored;
        let curtail = (-net - site.export_limit_kw[t]).clamp(0.0, view.pv_kw);
        net += curtail;
        (self.record.store[t], self.record.curtail[t]) = (stored, curtail);
        let price = if net > 0.0 { site.import_price[t] } else { site.export_price[t] };
        self.bill.cost += hours * net * price;
        self.bill.over_kwh += hours * (net - site.import_limit_kw[t]).max(0.0);
        let peak = view.peak_kw.max(net);
        self.bill.cost += site.demand.per_kw * (peak - if t > 0 { view.peak_kw } else { 0.0 });
        self.bill.peak_kw = peak;
    }
}
