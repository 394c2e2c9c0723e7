//! From any input to one that can be computed with, and the list of what was wrong. Owns every default
//! and bound on numbers; behind it nothing is infinite, missing, or the wrong way round.

use super::problem::{Fault, FaultKind, Member, Place, Problem, Store, Taper};

/// More than any site has, kW; what is larger counts as this.
const MOST_KW: f64 = 1e6;
/// More than anybody asks for in earnest, kWh; what is larger counts as this.
const MOST_KWH: f64 = 1e9;
/// Loads that ask for less than this are done, kWh.
pub const NOTHING_KWH: f64 = 1e-6;
/// More steps than this are not looked at.
const MOST_STEPS: usize = 4096;

/// A load that can be planned: a car or a job.
#[derive(Clone, Debug)]
pub struct Load {
    pub member: Member,
    /// It is there in `from..to`, never empty.
    pub from: usize,
    pub to: usize,
    /// Asked for, kWh at the load, as far as its own power and stay can give it.
    pub kwh: f64,
    /// Asked for beyond that, kWh: what nothing can give takes nothing from others.
    pub beyond: f64,
    /// kWh at the load for each kW in one step.
    pub gain: f64,
    pub min_kw: f64,
    pub max_kw: f64,
    pub phases: [bool; 3],
    /// Share of its power on each phase it loads.
    pub share: f64,
    pub groups: Vec<usize>,
    pub taper: Option<Taper>,
    /// False where no legal schedule can give it anything: it only counts for the bound.
    pub servable: bool,
}

/// A problem in which every number is finite and every series has its length.
#[derive(Clone, Debug)]
pub struct Sound {
    pub steps: usize,
    pub hours: f64,
    pub pv: Vec<f64>,
    pub curtailable: bool,
    pub base: Vec<f64>,
    pub buy: Vec<f64>,
    pub sell: Vec<f64>,
    pub per_kw: f64,
    pub so_far: f64,
    pub import: Vec<f64>,
    pub export: Vec<f64>,
    pub phase: Option<f64>,
    pub share: [f64; 3],
    pub store: Option<Store>,
    pub loads: Vec<Load>,
    pub groups: Vec<f64>,
    /// kWh that are never served: asked for by what is no load here (left out as broken), or beyond what a
    /// load's own power and stay can give.
    pub lost_kwh: f64,
}

impl Sound {
    /// Whether some load takes less the fuller it is.
    pub fn tapers(&self) -> bool {
        self.loads.iter().any(|load| load.servable && load.taper.is_some())
    }

    /// Most that the battery may be charged with in step `t` whatever the loads do, kW; nothing without one.
    pub fn charge_kw(&self, t: usize) -> f64 {
        self.charge_beside(t, self.base[t])
    }

    /// The same where base load and loads together draw so much.
    pub fn charge_beside(&self, t: usize, drawn: f64) -> f64 {
        match self.store {
            Some(store) if store.sun_only => (self.pv[t] - drawn).clamp(0.0, store.charge_kw),
            Some(store) => store.charge_kw,
            None => 0.0,
        }
    }
}

fn good(value: f64, low: f64, high: f64) -> bool {
    value.is_finite() && value >= low && value <= high
}

struct Sieve<'a> {
    problem: &'a Problem,
    faults: Vec<Fault>,
}

impl Sieve<'_> {
    fn fault(&mut self, place: Place, kind: FaultKind) {
        self.faults.push(Fault { place, kind });
    }

    fn series(&mut self, name: &'static str, from: &[f64], bounds: (f64, f64)) -> Vec<f64> {
        let steps = self.problem.steps.min(MOST_STEPS);
        let bad = |v: &f64| v.is_nan() || *v < bounds.0;
        if from.len() < steps || from.iter().take(steps).any(bad) {
            self.fault(Place::Site(name), FaultKind::BadNumber);
        }
        let one = |t: usize| {
            let value = from.get(t).copied().unwrap_or(0.0);
            if value.is_nan() { 0.0_f64.max(bounds.0) } else { value.clamp(bounds.0, bounds.1) }
        };
        (0..steps).map(one).collect()
    }

    fn number(&mut self, name: &'static str, value: f64) -> f64 {
        if good(value, 0.0, f64::MAX) {
            return value.min(MOST_KW);
        }
        self.fault(Place::Site(name), FaultKind::BadNumber);
        0.0
    }

    fn load(&mut self, asked: Asked, hours: f64) -> Option<Load> {
        let place = Place::Load(asked.member);
        let numbers = good(asked.kwh, f64::MIN, f64::MAX)
            && good(asked.efficiency, 1e-6, 1e3)
            && good(asked.min_kw, 0.0, f64::MAX)
            && good(asked.max_kw, 0.0, f64::MAX)
            && asked.taper.is_none_or(|taper| good(taper.kw_per_kwh, 1e-9, f64::MAX));
        if !numbers || asked.kwh < 0.0 {
            self.fault(place, FaultKind::BadNumber);
            return None;
        }
        let steps = i64::try_from(self.problem.steps.min(MOST_STEPS)).unwrap_or(0);
        let (from, to) = (asked.from.clamp(0, steps), asked.to.clamp(0, steps));
        let (from, to) = (usize::try_from(from).unwrap_or(0), usize::try_from(to).unwrap_or(0));
        let count = asked.phases.iter().filter(|phase| **phase).count();
        if from >= to {
            self.fault(place, FaultKind::NoWindow);
            return None;
        }
        if count == 0 {
            self.fault(place, FaultKind::NoPhase);
            return None;
        }
        if asked.kwh <= NOTHING_KWH {
            return None;
        }
        let max_kw = asked.max_kw.min(MOST_KW);
        let job = matches!(asked.member, Member::Job(_));
        let mut servable = max_kw > 1e-3;
        if asked.min_kw > max_kw + 1e-9 {
            self.fault(place, FaultKind::MinAboveMax);
            servable &= !job;
        } else if max_kw <= 1e-3 {
            self.fault(place, FaultKind::NeedTooLarge { most_kwh: 0.0 });
        }
        let min_kw = asked.min_kw.min(max_kw);
        let gain = hours * asked.efficiency;
        let (least, most) = (gain * min_kw, gain * max_kw * (to - from) as f64);
        let all = asked.kwh.min(MOST_KWH);
        if servable && least > all + 5e-4 {
            self.fault(place, FaultKind::NeedTooSmall { least_kwh: least });
            servable = false;
        } else if servable && all > most + 1e-6 {
            self.fault(place, FaultKind::NeedTooLarge { most_kwh: most });
        }
        let kwh = if servable { all.min(most) } else { all };
        let (phases, taper, beyond) = (asked.phases, asked.taper, all - kwh);
        let (member, share, groups) = (asked.member, 1.0 / count as f64, Vec::new());
        let load = Load {
            member,
            from,
            to,
            kwh,
            beyond,
            gain,
            min_kw,
            max_kw,
            phases,
            share,
            groups,
            taper,
            servable,
        };
        Some(load)
    }

    fn store(&mut self, store: Store, hours: f64) -> Option<Store> {
        let powers =
            [store.charge_kw, store.discharge_kw, store.wear_per_kwh, store.soc_end_min_kwh];
        let levels = [store.soc0_kwh, store.soc_min_kwh, store.soc_max_kwh];
        let efficiencies = [store.eff_charge, store.eff_discharge];
        let sound = powers.iter().chain(&levels).all(|v| good(*v, 0.0, 1e7))
            && efficiencies.iter().all(|v| good(*v, 1e-3, 1.0))
            && store.soc_min_kwh <= store.soc_max_kwh;
        if !sound {
            self.fault(Place::Store, FaultKind::BadNumber);
            return None;
        }
        let mut store = store;
        // A level outside its range is where it is: the range gives way, it is not left further.
        store.soc_min_kwh = store.soc_min_kwh.min(store.soc0_kwh);
        store.soc_max_kwh = store.soc_max_kwh.max(store.soc0_kwh);
        let span = self.problem.steps.min(MOST_STEPS) as f64 * hours;
        let reach = store.soc0_kwh + span * store.charge_kw * store.eff_charge;
        let reach = reach.min(store.soc_max_kwh);
        // Nobody can promise what the sun will leave over: what is there can be kept.
        let (reach, fault) = if store.sun_only && reach >= store.soc_end_min_kwh {
            (store.soc0_kwh, FaultKind::EndOfSunOnly)
        } else {
            (if store.sun_only { store.soc0_kwh } else { reach }, FaultKind::EndOutOfReach)
        };
        if store.soc_end_min_kwh > reach + 1e-9 {
            self.fault(Place::Store, fault);
            store.soc_end_min_kwh = reach;
        }
        Some(store)
    }
}

/// What cars and jobs have in common.
struct Asked {
    member: Member,
    from: i64,
    to: i64,
    kwh: f64,
    efficiency: f64,
    min_kw: f64,
    max_kw: f64,
    phases: [bool; 3],
    taper: Option<Taper>,
}

fn asked(problem: &Problem) -> Vec<Asked> {
    let cars = problem.sessions.iter().enumerate().map(|(i, s)| Asked {
        member: Member::Session(i),
        from: s.arrival,
        to: s.departure,
        kwh: s.need_kwh,
        efficiency: s.efficiency,
        min_kw: s.min_kw,
        max_kw: s.max_kw,
        phases: s.phases,
        taper: s.taper,
    });
    let jobs = problem.jobs.iter().enumerate().map(|(i, j)| Asked {
        member: Member::Job(i),
        from: j.release,
        to: j.deadline,
        kwh: j.need_kwh,
        efficiency: 1.0,
        min_kw: j.min_kw,
        max_kw: j.max_kw,
        phases: j.phases,
        taper: None,
    });
    cars.chain(jobs).collect()
}

/// Takes what can be taken.
pub fn sift(problem: &Problem) -> (Sound, Vec<Fault>) {
    let mut sieve = Sieve { problem, faults: Vec::new() };
    let mut hours = problem.step_hours;
    if !good(hours, 1e-6, 1e4) {
        sieve.fault(Place::Site("step_hours"), FaultKind::BadNumber);
        hours = 0.25;
    }
    if problem.steps == 0 || problem.steps > MOST_STEPS {
        sieve.fault(Place::Site("steps"), FaultKind::BadNumber);
    }
    let mut lost_kwh = 0.0;
    let mut loads: Vec<Load> = Vec::new();
    for asked in asked(problem) {
        let kwh = if good(asked.kwh, 0.0, f64::MAX) { asked.kwh.min(MOST_KWH) } else { 0.0 };
        match sieve.load(asked, hours) {
            Some(load) => {
                lost_kwh += load.beyond;
                loads.push(load);
            }
            None => lost_kwh += kwh,
        }
    }
    let mut groups = Vec::new();
    for (index, group) in problem.groups.iter().enumerate() {
        if !good(group.limit_kw, 0.0, f64::MAX) {
            sieve.fault(Place::Group(index), FaultKind::BadNumber);
            continue;
        }
        for member in &group.members {
            let known = match member {
                Member::Session(i) => *i < problem.sessions.len(),
                Member::Job(i) => *i < problem.jobs.len(),
            };
            if !known {
                sieve.fault(Place::Group(index), FaultKind::UnknownMember);
            } else if let Ok(i) = loads.binary_search_by_key(member, |load| load.member)
                && loads[i].groups.last() != Some(&groups.len())
            {
                loads[i].groups.push(groups.len());
            }
        }
        groups.push(group.limit_kw.min(MOST_KW));
    }
    let share = problem.base_share.map(|s| if s.is_finite() { s } else { 1.0 / 3.0 });
    let sound = Sound {
        steps: problem.steps.min(MOST_STEPS),
        hours,
        pv: sieve.series("pv_kw", &problem.pv_kw, (0.0, MOST_KW)),
        curtailable: problem.pv_curtailable,
        base: sieve.series("base_kw", &problem.base_kw, (-MOST_KW, MOST_KW)),
        buy: sieve.series("import_price", &problem.import_price, (-1e5, 1e5)),
        sell: sieve.series("export_price", &problem.export_price, (-1e5, 1e5)),
        per_kw: sieve.number("demand", problem.demand.per_kw),
        so_far: sieve.number("demand", problem.demand.so_far_kw),
        import: sieve.series("import_limit_kw", &problem.import_limit_kw, (0.0, MOST_KW)),
        export: sieve.series("export_limit_kw", &problem.export_limit_kw, (0.0, MOST_KW)),
        phase: problem.phase_limit_kw.map(|limit| sieve.number("phase_limit_kw", limit)),
        share,
        store: problem.store.and_then(|store| sieve.store(store, hours)),
        loads,
        groups,
        lost_kwh,
    };
    (sound, sieve.faults)
}
