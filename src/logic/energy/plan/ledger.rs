//! The last look at a schedule: makes every number legal, then counts overload, energy and cost. Owns
//! the promise that nothing illegal leaves the planner, whatever the computation before it did.

use super::answer::UNSERVED;
use super::rooms::Rooms;
use super::sieve::Sound;

/// Overload below this is a sum's last digit, kWh.
const ROUNDING_KWH: f64 = 1e-9;

/// A schedule in which every rule holds, and what it comes to.
#[derive(Clone, Debug, Default)]
pub struct Sheet {
    pub kw: Vec<Vec<f64>>,
    pub store: Vec<f64>,
    pub curtail: Vec<f64>,
    pub overload_kwh: f64,
    pub unserved_kwh: f64,
    pub cost: f64,
    /// kWh by which the battery ends too low, and export that nothing could avoid.
    pub broken: f64,
    pub short: Vec<f64>,
}

impl Sheet {
    /// Cost, and the judge's price for what was not served.
    pub fn score(&self) -> f64 {
        self.cost + UNSERVED * self.unserved_kwh
    }

    /// Whether this is the better schedule: rules, overload, then energy and cost at the weight given.
    pub fn beats(&self, other: &Sheet, unserved: f64) -> bool {
        let grade = |s: &Sheet| ((s.broken * 1e3).round(), (s.overload_kwh * 200.0).round());
        let value = |s: &Sheet| s.cost + unserved * s.unserved_kwh;
        let (a, b) = (grade(self), grade(other));
        a.0 < b.0 || (a.0 == b.0 && (a.1 < b.1 || (a.1 == b.1 && value(self) < value(other))))
    }
}

fn legal_powers(site: &Sound, kw: &mut [Vec<f64>]) {
    for (load, kw) in site.loads.iter().zip(kw.iter_mut()) {
        for kw in kw.iter_mut() {
            let on = load.servable && kw.is_finite() && *kw > 0.5 * load.min_kw && *kw > 1e-5;
            *kw = if on { kw.clamp(load.min_kw, load.max_kw) } else { 0.0 };
        }
        let mut extra = kw.iter().sum::<f64>() - load.kwh / load.gain;
        for down_to in [load.min_kw, 0.0] {
            for kw in kw.iter_mut().rev().filter(|kw| **kw > 0.0) {
                if extra > 1e-9 {
                    let less = if down_to > 0.0 { extra.min(*kw - down_to) } else { *kw };
                    *kw -= less;
                    extra -= less;
                }
            }
        }
        if let Some(taper) = load.taper {
            let mut left = load.kwh;
            for kw in kw.iter_mut() {
                let most = taper.kw_per_kwh * left;
                *kw = if most < load.min_kw { 0.0 } else { kw.min(most) };
                left -= load.gain * *kw;
            }
        }
    }
}

/// Lowers loads, first to their least power, then off, until every limit holds that lowering can save.
fn within_limits(site: &Sound, sheet: &mut Sheet) {
    let mut rooms = Rooms::new(site, &sheet.store, &sheet.curtail, 0.0);
    let fixed = rooms.clone();
    for (load, kw) in site.loads.iter().zip(&sheet.kw) {
        rooms.take_all(load, kw);
    }
    for off in [false, true] {
        for (load, kw) in site.loads.iter().zip(sheet.kw.iter_mut()) {
            for (k, kw) in kw.iter_mut().enumerate().filter(|(_, kw)| **kw > 0.0) {
                let (t, room) = (load.from + k, rooms.of(load, load.from + k));
                if room >= -1e-7 {
                    continue;
                }
                let tiny = room > -2e-4 && off;
                let floor = if off && !tiny { 0.0 } else { load.min_kw };
                let hopeless = fixed.of(load, t) < 0.0 && off;
                let less = if hopeless || (off && !tiny) { *kw } else { (-room).min(*kw - floor) };
                *kw -= less;
                rooms.take(load, t, -less);
            }
        }
    }
}

fn legal_store(site: &Sound, Sheet { kw: loads, store, .. }: &mut Sheet) -> f64 {
    let Some(battery) = site.store else {
        store.fill(0.0);
        return 0.0;
    };
    let hours = site.hours;
    let mut level = battery.soc0_kwh;
    let sum = load_of_steps(site, loads);
    let charge: Vec<f64> = (0..site.steps).map(|t| site.charge_beside(t, sum[t])).collect();
    // The least level from which the end can still be reached.
    let mut later = charge.iter().sum::<f64>() * battery.eff_charge * hours;
    for (t, kw) in store.iter_mut().enumerate() {
        later -= charge[t] * battery.eff_charge * hours;
        let least = battery.soc_min_kwh.max(battery.soc_end_min_kwh - later);
        let up = ((battery.soc_max_kwh - level) / (battery.eff_charge * hours)).max(0.0);
        let down = ((level - least) * battery.eff_discharge / hours).max(0.0);
        let must = ((least - level) / (battery.eff_charge * hours)).max(0.0);
        let wish = if kw.is_finite() { *kw } else { 0.0 };
        let most = charge[t].min(up);
        *kw = wish.clamp(-battery.discharge_kw.min(down), most);
        if must > 0.0 {
            *kw = kw.max(must.min(most));
        }
        level +=
            hours * if *kw > 0.0 { *kw * battery.eff_charge } else { *kw / battery.eff_discharge };
    }
    (battery.soc_end_min_kwh - level - 5e-4).max(0.0)
}

fn load_of_steps(site: &Sound, kw: &[Vec<f64>]) -> Vec<f64> {
    let mut sum = site.base.clone();
    for (load, kw) in site.loads.iter().zip(kw) {
        kw.iter().enumerate().for_each(|(k, kw)| sum[load.from + k] += kw);
    }
    sum
}

/// Less discharge and more curtailment until export holds; what is left over, kWh.
fn legal_export(site: &Sound, sheet: &mut Sheet) -> f64 {
    let sum = load_of_steps(site, &sheet.kw);
    let bound_to_sun = site.store.is_some_and(|store| store.no_discharge_to_grid);
    let fed_by_sun = site.store.is_some_and(|store| store.sun_only);
    let mut left = 0.0;
    for (t, sum) in sum.into_iter().enumerate() {
        let most = if site.curtailable { site.pv[t] } else { 0.0 };
        let wish = if sheet.curtail[t].is_finite() { sheet.curtail[t] } else { 0.0 };
        // The battery's sun is not let go.
        let kept = if fed_by_sun && sheet.store[t] > 0.0 { sum + sheet.store[t] } else { 0.0 };
        let mut curtail = wish.min(site.pv[t] - kept).clamp(0.0, most);
        let export = |store: f64, curtail: f64| site.pv[t] - curtail - store - sum;
        if bound_to_sun {
            let extra = export(sheet.store[t], 0.0) - site.pv[t];
            sheet.store[t] += extra.max(0.0).min((-sheet.store[t]).max(0.0));
        }
        let extra = export(sheet.store[t], curtail) - site.export[t];
        sheet.store[t] += extra.max(0.0).min((-sheet.store[t]).max(0.0));
        let extra = (export(sheet.store[t], curtail) - site.export[t]).max(0.0);
        let more = extra.min(most - curtail);
        curtail += more;
        sheet.curtail[t] = curtail;
        left += (extra - more) * site.hours;
    }
    left
}

/// Makes the schedule legal and counts it.
pub fn settle(site: &Sound, kw: Vec<Vec<f64>>, store: Vec<f64>, curtail: Vec<f64>) -> Sheet {
    let mut sheet = Sheet { kw, store, curtail, ..Sheet::default() };
    legal_powers(site, &mut sheet.kw);
    legal_store(site, &mut sheet);
    legal_export(site, &mut sheet);
    within_limits(site, &mut sheet);
    let left = legal_export(site, &mut sheet);
    // Less discharge may have filled the battery: once more through its limits, and count what stays.
    let low = legal_store(site, &mut sheet);
    sheet.broken = left + low;
    count(site, &mut sheet);
    sheet
}

fn count(site: &Sound, sheet: &mut Sheet) {
    let sum = load_of_steps(site, &sheet.kw);
    let hours = site.hours;
    let (mut cost, mut over, mut peak) = (0.0, 0.0, site.so_far);
    let mut phases = vec![0.0; 3 * site.steps];
    for (load, kw) in site.loads.iter().zip(&sheet.kw) {
        for phase in (0..3).filter(|p| load.phases[*p]) {
            let base = phase * site.steps + load.from;
            kw.iter().enumerate().for_each(|(k, kw)| phases[base + k] += kw * load.share);
        }
    }
    let wear = site.store.map_or(0.0, |store| store.wear_per_kwh / 2.0);
    for t in 0..site.steps {
        let beside = sheet.store[t] - site.pv[t] + sheet.curtail[t];
        let net = sum[t] + beside;
        cost += hours * (site.buy[t] * net.max(0.0) - site.sell[t] * (-net).max(0.0));
        cost += hours * wear * sheet.store[t].abs();
        peak = peak.max(net);
        over += (net - site.import[t]).max(0.0);
        if let Some(limit) = site.phase {
            for phase in 0..3 {
                let flow = phases[phase * site.steps + t]
                    + site.share[phase] * site.base[t]
                    + beside / 3.0;
                over += (flow.abs() - limit).max(0.0);
            }
        }
    }
    let short = |(load, kw): (&super::sieve::Load, &Vec<f64>)| {
        (load.kwh - load.gain * kw.iter().sum::<f64>()).max(0.0)
    };
    sheet.short = site.loads.iter().zip(&sheet.kw).map(short).collect();
    sheet.unserved_kwh = site.lost_kwh + sheet.short.iter().sum::<f64>();
    sheet.overload_kwh = if over * hours > ROUNDING_KWH { over * hours } else { 0.0 };
    sheet.cost = cost + site.per_kw * peak;
}
