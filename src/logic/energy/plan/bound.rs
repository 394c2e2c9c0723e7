//! What no legal schedule can cost less than, by the market's prices: true for any prices. Owns the proof.

use super::answer::UNSERVED;
use super::curve::{Peak, Reach, tariff};
use super::sieve::{Load, Sound};

/// Prices that prove a bound.
pub struct Prices<'p> {
    pub site: &'p Sound,
    /// Of a kW in each step, currency.
    pub step: &'p [f64],
    /// What each step bears of the demand charge.
    pub felt: &'p [f64],
    /// Beside that on each phase, phase after phase, then on each circuit, circuit after circuit.
    pub rows: &'p [f64],
    /// First row of the circuits.
    pub circuits: usize,
    /// Of a kWh in the battery at the end of each step.
    pub worth: &'p [f64],
    /// What each step can draw and give.
    pub reach: &'p [Reach],
    /// Of a kW beyond the limits.
    pub top: f64,
}

impl Prices<'_> {
    /// What a load pays for a kW in step `t`.
    pub fn of(&self, load: &Load, t: usize) -> f64 {
        let steps = self.site.steps;
        let on = |p: &usize| self.circuits > 0 && load.phases[*p];
        let phases: f64 = (0..3).filter(on).map(|p| self.rows[p * steps + t]).sum();
        let circuits = load.groups.iter().map(|g| self.rows[self.circuits + g * steps + t]);
        self.step[t] + load.share * phases + circuits.sum::<f64>()
    }

    /// What the battery pays.
    fn of_store(&self, t: usize) -> f64 {
        let steps = self.site.steps;
        let phases: f64 = (0..self.circuits / steps).map(|p| self.rows[p * steps + t]).sum();
        self.step[t] + phases / 3.0
    }
}

/// The bound by the fluid plan's prices, and the nearer one that knows which loads no legal schedule can serve.
pub fn bound(prices: &Prices<'_>) -> (f64, f64) {
    let site = prices.site;
    let mut total = UNSERVED * site.lost_kwh + steps(prices) + rows(prices) + store(prices);
    let (mut out_of_reach, mut window) = (0.0, Vec::new());
    for load in &site.loads {
        window.clear();
        window.extend((load.from..load.to).map(|t| prices.of(load, t)));
        if load.servable {
            let want = load.kwh / load.gain;
            let count = (want / load.max_kw).ceil() as usize;
            let mut level = UNSERVED * load.gain;
            if count > 0 && count <= window.len() {
                level = level.min(*window.select_nth_unstable_by(count - 1, f64::total_cmp).1);
            }
            let below: f64 = window.iter().map(|price| (level - price).max(0.0)).sum();
            total += level * want - load.max_kw * below;
            continue;
        }
        let least = window.iter().copied().fold(UNSERVED * load.gain, f64::min);
        let relaxed = if load.max_kw > 0.0 { least / load.gain } else { UNSERVED };
        total += load.kwh * relaxed;
        out_of_reach += load.kwh * (UNSERVED - relaxed);
    }
    (total, total + out_of_reach)
}

/// Grid and sun, each step alone, with what it feels of the demand charge; all feel no more than it is.
fn steps(prices: &Prices<'_>) -> f64 {
    let site = prices.site;
    let sum: f64 = prices.felt.iter().sum();
    let scale = if sum > site.per_kw { site.per_kw / sum } else { 1.0 };
    let mut total = (site.per_kw - scale * sum) * site.so_far;
    let given = site.store.map_or(0.0, |store| store.discharge_kw);
    for (t, (price, felt)) in prices.step.iter().zip(prices.felt).enumerate() {
        let tariff = tariff(site, t, prices.reach[t], Peak::flat(scale * felt), prices.top);
        // No more than all who are there can take, and no less than the battery can give.
        let range = (site.base[t] - given, prices.reach[t].import);
        total += tariff.least(*price, range) + price * site.base[t];
    }
    total
}

/// Phases and circuits at their prices.
fn rows(prices: &Prices<'_>) -> f64 {
    let (site, steps) = (prices.site, prices.site.steps);
    let mut total = 0.0;
    for (k, price) in prices.rows.iter().copied().enumerate() {
        let t = k % steps;
        let limit = match k.checked_sub(prices.circuits) {
            Some(circuit) => site.groups[circuit / steps],
            None => site.phase.unwrap_or(0.0),
        };
        total -= price.abs() * limit;
        if k < prices.circuits && price != 0.0 {
            total += price * (site.share[k / steps] * site.base[t] - site.pv[t] / 3.0);
            // Sun let go takes load off a phase that gives too much.
            if price < 0.0 && site.curtailable {
                total += price * site.pv[t] / 3.0;
            }
        }
    }
    total
}

/// The battery at what its energy is worth.
fn store(prices: &Prices<'_>) -> f64 {
    let (site, worths) = (prices.site, prices.worth);
    let Some(store) = site.store else {
        return 0.0;
    };
    let (hours, wear) = (site.hours, store.wear_per_kwh * site.hours / 2.0);
    let mut total = -worths[0] * store.soc0_kwh;
    for (t, worth) in worths.iter().copied().enumerate() {
        let price = prices.of_store(t);
        let paid = price + wear - worth * hours * store.eff_charge;
        total += site.charge_kw(t) * paid.min(0.0);
        total += store.discharge_kw * (wear - price + worth * hours / store.eff_discharge).min(0.0);
        let last = t + 1 == site.steps;
        let least =
            if last { store.soc_end_min_kwh.max(store.soc_min_kwh) } else { store.soc_min_kwh };
        let change = worth - if last { 0.0 } else { worths[t + 1] };
        total += (change * least).min(change * store.soc_max_kwh);
    }
    total
}

#[cfg(test)]
mod tests {
    use super::super::market::reach;
    use super::super::problem::{Group, Member, Problem, Session};
    use super::super::sieve::sift;
    use super::*;

    /// One hour with a car on the first phase that asks for 10 kWh.
    fn hour() -> Problem {
        let car = Session {
            departure: 1,
            need_kwh: 10.0,
            efficiency: 1.0,
            max_kw: 10.0,
            phases: [true, false, false],
            ..Session::default()
        };
        Problem {
            steps: 1,
            step_hours: 1.0,
            pv_kw: vec![3.0],
            pv_curtailable: true,
            base_kw: vec![3.0],
            import_price: vec![0.3],
            export_price: vec![0.08],
            import_limit_kw: vec![30.0],
            export_limit_kw: vec![30.0],
            base_share: [0.5, 0.25, 0.25],
            sessions: vec![car],
            ..Problem::default()
        }
    }

    /// What these prices of the step and of its rows prove.
    fn proven(problem: &Problem, step: f64, rows: &[f64]) -> f64 {
        let (site, _) = sift(problem);
        let circuits = if site.phase.is_some() { 3 } else { 0 };
        let (reach, top) = (reach(&site), 1.5 * UNSERVED);
        let prices = Prices {
            site: &site,
            step: &[step],
            felt: &[0.0],
            rows,
            circuits,
            worth: &[0.0],
            reach: &reach,
            top,
        };
        bound(&prices).0
    }

    /// The right prices prove the cost of the best plan to the digit, so no term can be missing.
    #[test]
    fn a_phase_at_its_limit_is_proven_with_building_and_sun_on_it() {
        let mut problem = hour();
        problem.phase_limit_kw = Some(4.0);
        // Half the building's 3 kW and a third of the sun's are on the phase: 3.5 kW are left.
        let best = 3.5 * 0.3 + 6.5 * UNSERVED;
        let found = proven(&problem, 0.3, &[UNSERVED - 0.3, 0.0, 0.0]);
        assert!((found - best).abs() < 1e-9, "{found} {best}");
    }

    #[test]
    fn a_circuit_at_its_limit_is_proven() {
        let mut problem = hour();
        problem.groups = vec![Group { limit_kw: 2.0, members: vec![Member::Session(0)] }];
        let best = 2.0 * 0.3 + 8.0 * UNSERVED;
        let found = proven(&problem, 0.3, &[UNSERVED - 0.3]);
        assert!((found - best).abs() < 1e-9, "{found} {best}");
    }

    /// Prices of phases that give too much prove little, but never too much: sun can be let go.
    #[test]
    fn sun_that_a_phase_cannot_carry_is_let_go() {
        let mut problem = hour();
        (problem.sessions, problem.base_kw, problem.pv_kw) = (Vec::new(), vec![0.0], vec![30.0]);
        problem.phase_limit_kw = Some(4.0);
        let best = -12.0 * 0.08;
        for price in [0.0, -0.05, -0.2, -1.0] {
            let found = proven(&problem, 0.08, &[price; 3]);
            assert!(found <= best + 1e-9, "{price}: {found} {best}");
        }
    }

    /// Where nobody can take anything the interior-point method leaves any price at all.
    #[test]
    fn a_step_in_which_nobody_is_there_is_proven_at_any_price() {
        let mut problem = hour();
        (problem.sessions, problem.pv_kw) = (Vec::new(), vec![0.0]);
        for price in [0.3, 12.0, -12.0] {
            let found = proven(&problem, price, &[]);
            assert!((found - 3.0 * 0.3).abs() < 1e-9, "{price}: {found}");
        }
    }
}
