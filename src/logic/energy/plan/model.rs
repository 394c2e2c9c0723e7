//! The site as a linear programme, and its answer read back. Owns the rows: balance, battery, phases, circuits and
//! the peak's way from step to step as shared rows; energy of a load and peak of a step as own rows.
//!
//! What a stranger gets wrong: the grid's direction and the battery's are left open where prices would
//! pay for both at once; that only lowers the bound. `Ways` fixes them for the schedule itself.

use super::answer::{Answer, UNSERVED, Ways, Weights, speckle, weights};
use super::interior::{self, Point};
use super::program::{NONE, Program};
use super::rows::Rows;
use super::sieve::{Load, Sound};

const TINY: f64 = 1e-9;

/// What each load may do: with a list on where that is above nothing, at least at its least power (one that tapers as
/// the list says); without a list, anything from nothing to its most.
pub type Switches = Vec<Option<Vec<f64>>>;

/// Which columns are where.
#[derive(Default)]
struct Places {
    load: Vec<usize>,
    flow: Vec<Flow>,
    slack_end: usize,
    /// First column of the phases' slacks, which stand behind all others, and how many a row has.
    phase_slack: usize,
    slacks: usize,
}

#[derive(Clone, Copy)]
struct Flow {
    import: usize,
    export: usize,
    curtail: usize,
    charge: usize,
    discharge: usize,
}

pub struct Model<'a> {
    site: &'a Sound,
    weights: Weights,
    switches: Switches,
    ways: Ways,
    program: Program,
    /// True costs: no noise, the judge's price of unserved energy.
    cost: Vec<f64>,
    places: Places,
    rows: Rows,
    /// Charge at the end below what was asked for.
    constant: f64,
}

impl<'a> Model<'a> {
    /// `phases` says for each phase and step (phase after phase) whether its row is written.
    pub fn new(site: &'a Sound, switches: Switches, ways: Ways, phases: &[bool]) -> Model<'a> {
        let steps = site.steps;
        let most = most_load(site);
        let top = |t: usize| (site.base[t] + most[t] + site.charge_kw(t)).max(0.0);
        let above = (0..steps).map(|t| top(t) - site.so_far).fold(0.0, f64::max);
        let room = if site.per_kw > 0.0 { above } else { 0.0 };
        let peaked = |t: usize| room > TINY && top(t) > site.so_far + TINY;
        let rows = Rows::new(site, phases, &(0..steps).map(peaked).collect::<Vec<bool>>());
        let mut model = Model {
            weights: weights(site),
            program: Program::new(rows.count),
            cost: Vec::new(),
            places: Places::default(),
            constant: UNSERVED * site.lost_kwh + site.per_kw * site.so_far,
            site,
            switches,
            ways,
            rows,
        };
        for t in 0..steps {
            model.program.rhs[model.rows.balance[t]] = site.base[t] - site.pv[t];
        }
        model.right_hand_sides();
        for i in 0..site.loads.len() {
            model.load(i);
        }
        for t in 0..steps {
            model.grid(t, (top(t), if peaked(t) { room } else { 0.0 }));
        }
        model.store();
        model.slacks();
        model
    }

    fn column(
        &mut self,
        cost: (f64, f64),
        upper: f64,
        own: (usize, f64),
        entries: &[(usize, f64)],
    ) -> usize {
        if upper <= TINY {
            return NONE;
        }
        self.cost.push(cost.1);
        self.program.column((cost.0, upper), own, entries)
    }

    fn right_hand_sides(&mut self) {
        let (steps, site) = (self.site.steps, self.site);
        let limit = site.phase.unwrap_or(0.0);
        for (k, row) in self.rows.phase.iter().enumerate().filter(|(_, row)| **row != NONE) {
            let (phase, t) = (k / steps, k % steps);
            let fixed = site.share[phase] * site.base[t] - site.pv[t] / 3.0;
            // flow + slack + over − under = limit, with slack up to twice the limit.
            self.program.rhs[*row] = limit - fixed;
        }
        for (k, row) in self.rows.group.iter().enumerate().filter(|(_, row)| **row != NONE) {
            self.program.rhs[*row] = site.groups[k / steps];
        }
    }

    /// Shared rows that a kW of the load is in.
    fn entries(&self, load: &Load, t: usize, out: &mut Vec<(usize, f64)>) {
        let steps = self.site.steps;
        out.clear();
        for phase in (0..3).filter(|p| load.phases[*p]) {
            match self.rows.phase.get(phase * steps + t) {
                Some(row) if *row != NONE => out.push((*row, load.share)),
                _ => {}
            }
        }
        for group in &load.groups {
            let row = self.rows.group[group * steps + t];
            if row != NONE {
                out.push((row, 1.0));
            }
        }
        out.push((self.rows.balance[t], -1.0));
    }

    fn load(&mut self, i: usize) {
        let load = &self.site.loads[i];
        let mut entries = Vec::new();
        let (least, fixed) = match self.switches.get(i).cloned().flatten() {
            Some(kw) if load.taper.is_some() => (None, Some(kw)),
            switches => (switches, None),
        };
        self.places.load.push(self.program.columns());
        if let Some(kw) = fixed {
            for (k, kw) in kw.iter().enumerate().filter(|(_, kw)| **kw > 0.0) {
                self.entries(load, load.from + k, &mut entries);
                entries.iter().for_each(|(row, coef)| self.program.rhs[*row] -= coef * kw);
            }
            return;
        }
        if !load.servable {
            return;
        }
        let mut need = load.kwh;
        let own = self.program.open(0.0);
        for t in load.from..load.to {
            self.entries(load, t, &mut entries);
            let mut upper = load.max_kw;
            if let Some(kw) = &least {
                if kw[t - load.from] <= 0.0 {
                    continue;
                }
                need -= load.gain * load.min_kw;
                entries.iter().for_each(|(row, coef)| self.program.rhs[*row] -= coef * load.min_kw);
                upper -= load.min_kw;
            }
            let late = (t - load.from) as f64 / (load.to - load.from) as f64;
            let noise = self.weights.noise * self.site.hours * (speckle(i, t) + 0.2 * late);
            self.column((noise, 0.0), upper, (own, load.gain), &entries);
        }
        self.program.own_rhs[own] = need.max(0.0);
        self.column((self.weights.unserved, UNSERVED), need.max(1e-6), (own, 1.0), &[]);
    }

    /// The peak above what it was, as step `t` sees it: that of all steps, which pay for it once.
    fn peak(&mut self, t: usize, own: usize, room: f64) {
        let (here, later) = (self.rows.link[t], &self.rows.link[t + 1..]);
        let next = later.iter().find(|row| **row != NONE);
        let cost = if next.is_none() { self.site.per_kw } else { 0.0 };
        let links = [(Some(&here).filter(|row| **row != NONE), -1.0), (next, 1.0)];
        let links = links.into_iter().filter_map(|(row, sign)| Some((*row?, sign)));
        let links: Vec<(usize, f64)> = links.collect();
        self.column((cost, cost), room, (own, -1.0), &links);
    }

    /// Grid and sun of step `t`: import that is no more than `top`, and a peak where there is room for one.
    fn grid(&mut self, t: usize, (top, peak): (f64, f64)) {
        let (site, hours, row) = (self.site, self.site.hours, self.rows.balance[t]);
        let steps = site.steps;
        let store = site.store.unwrap_or_default();
        let way = self.ways.grid[t];
        let within = if way < 0 { 0.0 } else { top.min(site.import[t]) };
        let buy = site.buy[t] * hours;
        let own = if peak > 0.0 { self.program.open(site.so_far) } else { NONE };
        let import = self.column((buy, buy), within, (own, 1.0), &[(row, 1.0)]);
        let over = buy + self.weights.over * hours;
        self.column((over, over), top - within + 1e-6, (own, 1.0), &[(row, 1.0)]);
        if own != NONE {
            self.column((0.0, 0.0), site.so_far + peak, (own, 1.0), &[]);
            self.peak(t, own, peak);
        }
        let spare =
            (site.pv[t] - site.base[t]).max(0.0) + store.discharge_kw + (-site.base[t]).max(0.0);
        let away = if way > 0 { 0.0 } else { spare.min(site.export[t]) };
        let sell = -site.sell[t] * hours;
        let own = match store.no_discharge_to_grid {
            true => self.program.open(site.pv[t]),
            false => NONE,
        };
        let export = self.column((sell, sell), away, (own, 1.0), &[(row, -1.0)]);
        let mut entries = Vec::new();
        for phase in 0..3 {
            match self.rows.phase.get(phase * steps + t) {
                Some(row) if *row != NONE => entries.push((*row, 1.0 / 3.0)),
                _ => {}
            }
        }
        entries.push((row, -1.0));
        let most = if site.curtailable { site.pv[t] } else { 0.0 };
        let curtail = self.column((0.0, 0.0), most, (own, 1.0), &entries);
        if own != NONE {
            self.column((0.0, 0.0), site.pv[t], (own, 1.0), &[]);
            // A row that export alone cannot meet is left open.
            self.column((0.0, 0.0), 1e-6, (own, -1.0), &[]);
        }
        let hard = 4.0 * self.weights.over * hours;
        self.column((hard, hard), (spare - away).max(0.0) + 1e-6, (NONE, 0.0), &[(row, -1.0)]);
        let flow = Flow { import, export, curtail, charge: NONE, discharge: NONE };
        self.places.flow.push(flow);
    }

    fn store(&mut self) {
        let Some(store) = self.site.store else {
            return;
        };
        let (site, hours, steps) = (self.site, self.site.hours, self.site.steps);
        let wear = store.wear_per_kwh * hours / 2.0;
        for t in 0..steps {
            let mut entries = vec![(self.rows.store[t], -store.eff_charge * hours)];
            for phase in 0..3 {
                match self.rows.phase.get(phase * steps + t) {
                    Some(row) if *row != NONE => entries.push((*row, 1.0 / 3.0)),
                    _ => {}
                }
            }
            entries.push((self.rows.balance[t], -1.0));
            let way = self.ways.store[t];
            let most = if way < 0 { 0.0 } else { site.charge_kw(t) };
            // A shade later is a shade dearer, so that equal plans have one answer.
            let shade = self.weights.noise * hours * 0.05 * (1.0 + t as f64 / steps as f64);
            let charge = self.column((wear + shade, wear), most, (NONE, 0.0), &entries);
            entries.iter_mut().for_each(|entry| entry.1 = -entry.1);
            entries[0].1 = hours / store.eff_discharge;
            let most = if way > 0 { 0.0 } else { store.discharge_kw };
            let discharge = self.column((wear + shade, wear), most, (NONE, 0.0), &entries);
            let last = t + 1 == steps;
            let low = store.soc_min_kwh;
            // What the row counts from: the level above its least.
            let mut rhs = if t == 0 { store.soc0_kwh - low } else { 0.0 };
            let mut room = store.soc_max_kwh - low;
            if last {
                let end = (store.soc_end_min_kwh - low).clamp(0.0, room);
                rhs -= end;
                room -= end;
            }
            self.program.rhs[self.rows.store[t]] = rhs;
            let level = self.rows.store[t..].iter().zip([1.0, -1.0]);
            let level: Vec<(usize, f64)> = level.map(|(row, sign)| (*row, sign)).collect();
            self.column((0.0, 0.0), room, (NONE, 0.0), &level);
            self.places.flow[t].charge = charge;
            self.places.flow[t].discharge = discharge;
        }
        let hard = 8.0 * self.weights.over;
        let deep = site.store.map_or(0.0, |s| s.soc_max_kwh).max(1e-6);
        self.places.slack_end =
            self.column((hard, hard), deep, (NONE, 0.0), &[(self.rows.store[steps - 1], -1.0)]);
    }

    fn slacks(&mut self) {
        let (site, steps) = (self.site, self.site.steps);
        let limit = site.phase.unwrap_or(0.0);
        let over = self.weights.over * site.hours;
        for k in 0..self.rows.group.len() {
            let row = self.rows.group[k];
            if row != NONE {
                let room = self.program.rhs[row].max(1e-6);
                self.column((0.0, 0.0), room, (NONE, 0.0), &[(row, 1.0)]);
            }
        }
        self.places.phase_slack = self.program.columns();
        self.places.slacks = if 2.0 * limit > TINY { 3 } else { 2 };
        for k in 0..self.rows.phase.len() {
            let row = self.rows.phase[k];
            if row != NONE {
                let far = 3.0 * limit + self.program.rhs[row].abs() + site.pv[k % steps] + 1e3;
                self.column((0.0, 0.0), 2.0 * limit, (NONE, 0.0), &[(row, 1.0)]);
                self.column((over, over), far, (NONE, 0.0), &[(row, -1.0)]);
                self.column((over, over), far, (NONE, 0.0), &[(row, 1.0)]);
            }
        }
    }

    /// A point of a programme with fewer phase rows as one of this: new rows without a price, and what is left of
    /// their limits as slack.
    pub fn carry(&self, before: &Model<'_>, point: &Point) -> Point {
        let (head, slacks) = (self.places.phase_slack, self.places.slacks);
        let mu = point.mu(&before.program);
        let upto = |list: &[f64]| list[..head].to_vec();
        let mut next = Point {
            x: upto(&point.x),
            z: upto(&point.z),
            w: upto(&point.w),
            own: point.own.clone(),
            shared: vec![0.0; self.program.rhs.len()],
            good: false,
        };
        let mut flow = next.x.clone();
        flow.resize(self.program.columns(), 0.0);
        let (mut own, mut shared) = (next.own.clone(), next.shared.clone());
        self.program.times(&flow, &mut own, &mut shared);
        let mut old = head;
        for (k, row) in self.rows.phase.iter().enumerate().filter(|(_, row)| **row != NONE) {
            let known = before.rows.phase[k] != NONE;
            for _ in 0..slacks {
                let (j, cost) = (next.x.len(), self.program.cost[next.x.len()]);
                let upper = self.program.upper[j];
                let left =
                    if cost > 0.0 { mu / cost } else { self.program.rhs[*row] - shared[*row] };
                let x = left.clamp(0.02 * upper.min(1.0), 0.98 * upper);
                let fresh = (x, mu / x, mu / (upper - x));
                let one = if known { (point.x[old], point.z[old], point.w[old]) } else { fresh };
                next.x.push(one.0);
                next.z.push(one.1 + if known { 0.0 } else { cost });
                next.w.push(one.2);
                old += usize::from(known);
            }
        }
        for (from, to) in before.rows.all().zip(self.rows.all()) {
            if *from != NONE && *to != NONE {
                next.shared[*to] = point.shared[*from];
            }
        }
        next
    }

    /// Solves it, taking from `work`.
    pub fn solve(&self, gap: f64, work: &mut u64) -> Answer {
        self.read(&self.point(None, gap, work))
    }

    /// The same as a point, from another where there is one.
    pub fn point(&self, from: Option<Point>, gap: f64, work: &mut u64) -> Point {
        interior::solve(&self.program, from, gap, work)
    }

    /// A point in the site's words.
    pub fn read(&self, point: &Point) -> Answer {
        let (site, steps) = (self.site, self.site.steps);
        let value = |column: usize| if column == NONE { 0.0 } else { point.x[column] };
        let flows = &self.places.flow;
        let store = flows.iter().map(|f| value(f.charge) - value(f.discharge)).collect();
        let side = |x: f64, y: f64| -> i8 { if x >= y { 1 } else { -1 } };
        let both = |x: f64, y: f64| x > 1e-5 && y > 1e-5;
        let ways = Ways {
            grid: (0..steps)
                .map(|t| match site.buy[t] < site.sell[t] - 1e-12 && self.ways.grid[t] == 0 {
                    true => side(value(flows[t].import), value(flows[t].export)),
                    false => self.ways.grid[t],
                })
                .collect(),
            store: (0..steps)
                .map(|t| match both(value(flows[t].charge), value(flows[t].discharge)) {
                    true => side(value(flows[t].charge), value(flows[t].discharge)),
                    false => self.ways.store[t],
                })
                .collect(),
        };
        let sum: f64 = self.never_served(point);
        // The programme wants energy more than the judge prices it; no kWh is worth more than that to the proof.
        let mut own = point.own.clone();
        let wanting = self.site.loads.iter().filter(|load| load.servable).count();
        own.iter_mut().take(wanting).for_each(|price| *price = price.min(UNSERVED));
        let prices = (own.as_slice(), point.shared.as_slice());
        let bound = interior::bound(&self.program, &self.cost, prices) + self.constant;
        let y = |row: usize| if row == NONE { 0.0 } else { point.shared[row] };
        Answer {
            kw: (0..site.loads.len()).map(|i| self.load_kw(i, point)).collect(),
            store,
            curtail: flows.iter().map(|f| value(f.curtail)).collect(),
            price: (0..steps).map(|t| y(self.rows.balance[t])).collect(),
            phase_price: self.rows.phase.iter().map(|row| -y(*row)).collect(),
            worth: self.rows.store.iter().map(|row| -y(*row)).collect(),
            group_price: self.rows.group.iter().map(|row| -y(*row)).collect(),
            bound: bound + sum,
            floor: bound + self.out_of_reach(),
            ways,
            good: point.good,
        }
    }

    fn load_kw(&self, i: usize, point: &Point) -> Vec<f64> {
        let (load, from) = (&self.site.loads[i], self.places.load[i]);
        let window = load.to - load.from;
        match self.switches.get(i).and_then(Option::as_ref) {
            None if load.servable => point.x[from..from + window].to_vec(),
            None => vec![0.0; window],
            Some(kw) if load.taper.is_none() && load.servable => {
                let mut next = from;
                let moves = load.max_kw - load.min_kw > TINY;
                let one = |kw: &f64| match (*kw > 0.0, moves) {
                    (true, true) => {
                        next += 1;
                        load.min_kw + point.x[next - 1]
                    }
                    (true, false) => load.min_kw,
                    (false, _) => 0.0,
                };
                kw.iter().map(one).collect()
            }
            Some(kw) => kw.clone(),
        }
    }

    /// What one more kW costs a load in each step of its window.
    fn load_price(&self, i: usize, point: &Point) -> Vec<f64> {
        let load = &self.site.loads[i];
        let mut entries = Vec::new();
        let price = |t: usize| {
            self.entries(load, t, &mut entries);
            -entries.iter().map(|(row, coef)| coef * point.shared[*row]).sum::<f64>()
        };
        (load.from..load.to).map(price).collect()
    }

    /// The judge's price of all that cannot be served.
    fn out_of_reach(&self) -> f64 {
        let out = self.site.loads.iter().filter(|load| !load.servable);
        UNSERVED * out.map(|load| load.kwh).sum::<f64>()
    }

    /// What the bound owes for loads that the programme leaves out: the relaxed problem may serve them.
    fn never_served(&self, point: &Point) -> f64 {
        let out = self.site.loads.iter().enumerate().filter(|(_, load)| !load.servable);
        let cost = |(i, load): (usize, &Load)| {
            let price = self.load_price(i, point).into_iter().fold(f64::INFINITY, f64::min);
            let best = (price / load.gain).min(UNSERVED);
            load.kwh * if load.max_kw > 0.0 { best } else { UNSERVED }
        };
        out.map(cost).sum()
    }
}

/// Most that the loads of each step can take; with those that cannot be served, because the bound lets them have
/// something.
fn most_load(site: &Sound) -> Vec<f64> {
    let mut most = vec![0.0; site.steps];
    for load in &site.loads {
        most[load.from..load.to].iter_mut().for_each(|most| *most += load.max_kw);
    }
    most
}
