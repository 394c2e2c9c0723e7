//! From a fluid plan to a legal one: step by step, loads are on at no less than their least power or
//! off, each following what the fluid plan had given it by then. Owns which steps a load is on in; how
//! much it gets there is settled afterwards by the programme with these switches.

use super::answer::Answer;
use super::ledger::{self, Sheet};
use super::rooms::Rooms;
use super::sieve::{Load, Sound};

const DUST: f64 = 1e-6;

struct Sweep<'a> {
    site: &'a Sound,
    fluid: &'a Answer,
    eager: f64,
    rooms: Rooms,
    kw: Vec<Vec<f64>>,
    /// Given so far, due by the fluid plan so far, and due in all, kWh.
    got: Vec<f64>,
    due: Vec<f64>,
    want: Vec<f64>,
}

/// One legal schedule near the fluid one.
/// `eager` is the share of its least power that a load must lag behind to be switched on.
pub fn sweep(site: &Sound, fluid: &Answer, eager: f64) -> Vec<Vec<f64>> {
    let want = |(i, load): (usize, &Load)| load.gain * fluid.kw[i].iter().sum::<f64>();
    let mut sweep = Sweep {
        rooms: Rooms::new(site, &fluid.store, &fluid.curtail, 0.0),
        kw: site.loads.iter().map(|load| vec![0.0; load.to - load.from]).collect(),
        got: vec![0.0; site.loads.len()],
        due: vec![0.0; site.loads.len()],
        want: site.loads.iter().enumerate().map(want).collect(),
        site,
        fluid,
        eager,
    };
    let mut coming: Vec<usize> =
        (0..site.loads.len()).filter(|i| site.loads[*i].servable).collect();
    coming.sort_by_key(|i| site.loads[*i].from);
    let (mut next, mut here): (usize, Vec<usize>) = (0, Vec::new());
    for t in 0..site.steps {
        here.retain(|i| site.loads[*i].to > t);
        while next < coming.len() && site.loads[coming[next]].from <= t {
            here.push(coming[next]);
            next += 1;
        }
        sweep.step(t, &here);
    }
    sweep.kw
}

impl Sweep<'_> {
    fn step(&mut self, t: usize, here: &[usize]) {
        let mut target = 0.0;
        let mut order: Vec<(bool, f64, usize)> = Vec::with_capacity(here.len());
        for &i in here {
            let load = &self.site.loads[i];
            let fluid = self.fluid.kw[i][t - load.from];
            self.due[i] += load.gain * fluid;
            target += fluid;
            if load.kwh - self.got[i] < load.gain * load.min_kw - DUST {
                continue;
            }
            let lag = (self.due[i] - self.got[i]) / load.gain;
            order.push((self.pressed(i, t) > 0.0, lag, i));
        }
        order.sort_by(|a, b| b.0.cmp(&a.0).then(b.1.total_cmp(&a.1)).then(a.2.cmp(&b.2)));
        for (pressed, lag, i) in &order {
            let load = &self.site.loads[*i];
            if !pressed && (*lag < self.eager * load.min_kw || target < 0.5 * load.min_kw) {
                continue;
            }
            let wish = lag.max(self.pressed(*i, t));
            let wish = if *pressed { wish } else { wish.min(target.max(load.min_kw)) };
            target -= self.give(*i, t, wish);
        }
        // What is left of the step's share goes to those that can still use it.
        for (_, _, i) in &order {
            let load = &self.site.loads[*i];
            let now = self.kw[*i][t - load.from];
            let open = self.want[*i] - self.got[*i] > load.gain * load.min_kw;
            if target > 0.25 && open && (now > 0.0 || target >= load.min_kw) {
                target -= self.give(*i, t, target);
            }
        }
    }

    /// The power below which what is wanted cannot be had in the steps that follow, kW.
    fn pressed(&self, i: usize, t: usize) -> f64 {
        let load = &self.site.loads[i];
        let later = load.gain * load.max_kw * (load.to - t - 1) as f64;
        let left = self.want[i] - self.got[i];
        if left > DUST { ((left - later) / load.gain).max(0.0) } else { 0.0 }
    }

    /// Gives at least the least power or nothing; the kW added.
    fn give(&mut self, i: usize, t: usize, wish: f64) -> f64 {
        let load = &self.site.loads[i];
        let place = t - load.from;
        let now = self.kw[i][place];
        let open = load.kwh - self.got[i];
        let mut most = load.max_kw.min(now + open / load.gain).min(now + self.rooms.of(load, t));
        if let Some(taper) = load.taper {
            let before = open + now * load.gain;
            most = most.min(taper.kw_per_kwh * before);
        }
        let kw = (now + wish).max(load.min_kw).min(most);
        if kw < load.min_kw - DUST || kw <= DUST {
            return 0.0;
        }
        self.kw[i][place] = kw;
        self.got[i] += load.gain * (kw - now);
        self.rooms.take(load, t, kw - now);
        kw - now
    }
}

/// Switches loads on in more steps where they lack energy; whether anything changed. `short` is what
/// each lacks in kWh; the powers stay to be settled.
pub fn enrich(site: &Sound, guide: &Answer, kw: &mut [Vec<f64>], short: &[f64]) -> bool {
    let mut rooms = Rooms::new(site, &guide.store, &guide.curtail, 1e-6);
    for (load, kw) in site.loads.iter().zip(kw.iter()) {
        for (k, kw) in kw.iter().enumerate().filter(|(_, kw)| **kw > 0.0) {
            let least = if load.taper.is_some() { *kw } else { load.min_kw };
            rooms.take(load, load.from + k, least);
        }
    }
    let mut changed = false;
    for (i, load) in site.loads.iter().enumerate() {
        if short[i] <= 1e-4 || !load.servable || load.taper.is_some() {
            continue;
        }
        let mut on = kw[i].iter().filter(|kw| **kw > 0.0).count();
        let mut added = 0;
        let mut order: Vec<usize> = (0..kw[i].len()).filter(|k| kw[i][*k] <= 0.0).collect();
        let price = |k: &usize| guide.price_of(load, load.from + k);
        order.sort_by(|a, b| price(a).total_cmp(&price(b)).then(a.cmp(b)));
        for k in order {
            let full = on as f64 * load.gain * load.max_kw >= load.kwh - DUST;
            let fits = (on + 1) as f64 * load.gain * load.min_kw <= load.kwh + DUST;
            if (full && added > 0) || !fits {
                break;
            }
            if rooms.of(load, load.from + k) >= load.min_kw {
                kw[i][k] = load.min_kw;
                rooms.take(load, load.from + k, load.min_kw);
                (on, added, changed) = (on + 1, added + 1, true);
            }
        }
    }
    changed
}

/// Gives what room is left to loads that still lack energy, cheapest steps first, and settles what it comes to;
/// whether any was given.
pub fn top_up(site: &Sound, guide: &Answer, sheet: &mut Sheet) -> bool {
    let mut rooms = Rooms::new(site, &sheet.store, &sheet.curtail, 0.0);
    for (load, kw) in site.loads.iter().zip(&sheet.kw) {
        rooms.take_all(load, kw);
    }
    let mut given = false;
    for (i, load) in site.loads.iter().enumerate() {
        let mut open = sheet.short[i] / load.gain;
        if sheet.short[i] <= 1e-3 || !load.servable || load.taper.is_some() {
            continue;
        }
        let kw = &mut sheet.kw[i];
        let mut order: Vec<usize> = (0..kw.len()).collect();
        let price = |k: &usize| guide.price_of(load, load.from + k);
        order.sort_by(|a, b| price(a).total_cmp(&price(b)).then(a.cmp(b)));
        for k in order {
            let room = rooms.of(load, load.from + k).min(load.max_kw - kw[k]).min(open);
            if room > 1e-4 && (kw[k] > 0.0 || room >= load.min_kw) {
                kw[k] += room;
                open -= room;
                rooms.take(load, load.from + k, room);
                given = true;
            }
        }
    }
    if given {
        let Sheet { kw, store, curtail, .. } = std::mem::take(sheet);
        *sheet = ledger::settle(site, kw, store, curtail);
    }
    given
}
