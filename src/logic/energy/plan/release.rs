//! The battery as one who answers: at what a kWh in it is worth it takes where a step is cheap and gives where one is
//! dear, at once, while loads decide one after the other. Owns that answer, and what scarce limits cost meanwhile; its
//! true course is found afterwards (`reservoir`).
//!
//! What a stranger gets wrong: where a phase or circuit is scarce, the battery's power hangs on what flows there and
//! not on a price, so it stays where it stands.

use super::answer::{Answer, weights};
use super::curve::{Curve, Taking};
use super::market::{BALANCED, Draw, Market, Spot};

/// Price over which the battery goes from nothing to its most, as a part of the spread of prices.
const WIDTH: f64 = 0.01;
/// From this part of its limit on import is scarce where a kW costs more than its energy.
const FULL: f64 = 0.99;
/// A scarcity below this is none, as a part of the spread of prices.
const FAINT: f64 = 1e-6;

/// What the battery takes at a price in each step, the curves beside it, and the prices of what is scarce: of each
/// step, and of each row as in the market's flows.
#[derive(Default)]
pub struct Released {
    takes: Vec<Taking>,
    beside: Vec<Curve>,
    step: Vec<f64>,
    row: Vec<f64>,
}

impl<'a> Market<'a> {
    /// From here to [`Market::hold`] the battery answers to each change of a load, at the worths of a fluid plan, and
    /// what is scarce there has its price.
    pub fn release(&mut self, fluid: &Answer) {
        let (site, hours) = (self.site, self.site.hours);
        let scarce = |t: usize| match self.import(t) > FULL * site.import[t] {
            true => (fluid.price[t] - site.buy[t] * hours).max(0.0),
            false => 0.0,
        };
        let row = |k: usize| match k.checked_sub(self.circuits) {
            Some(k) => fluid.group_price.get(k),
            None => fluid.phase_price.get(k),
        };
        self.released.step = (0..site.steps).map(scarce).collect();
        self.released.row = (0..self.flow.len()).map(|k| row(k).copied().unwrap_or(0.0)).collect();
        let Some(store) = site.store.filter(|store| !store.sun_only) else { return };
        let spread = weights(site).spread * hours;
        let wear = store.wear_per_kwh * hours / 2.0;
        let taking = |t: usize| {
            let worth = fluid.worth.get(t).copied().unwrap_or(0.0);
            if self.toll(BALANCED, t).abs() > FAINT * spread {
                return Taking::Fixed(self.store[t]);
            }
            let (charge, give) = (
                worth * hours * store.eff_charge - wear,
                worth * hours / store.eff_discharge + wear,
            );
            Taking::falling((charge, store.charge_kw), (give, store.discharge_kw), WIDTH * spread)
        };
        self.released.takes = (0..site.steps).map(taking).collect();
        let pairs = self.curves.iter().zip(&self.released.takes);
        self.released.beside = pairs.map(|(curve, taking)| curve.beside(taking)).collect();
        (0..site.steps).for_each(|t| self.answer(t));
    }

    /// The battery stays where it is, and nothing but limits is scarce.
    pub fn hold(&mut self) {
        self.released = Released::default();
    }

    /// What scarce limits cost a draw in step `t`, currency per kW.
    pub fn toll(&self, draw: Draw<'a>, t: usize) -> f64 {
        let Some(step) = self.released.step.get(t) else { return 0.0 };
        step + self.rows(draw, t).map(|(k, share, _)| share * self.released.row[k]).sum::<f64>()
    }

    /// The battery answers to what step `t` draws.
    pub fn answer(&mut self, t: usize) {
        let Some(curve) = self.released.beside.get(t) else { return };
        let kw = self.released.takes[t].kw(curve.price(self.demand[t] - self.store[t]));
        self.shift(BALANCED, t, kw - self.store[t]);
        self.store[t] = kw;
    }

    /// The price of a step, and the demand on it beside one who draws.
    pub fn curve(&self, spot: Spot) -> (&Curve, f64) {
        let drawn = self.demand[spot.t] - spot.now;
        match self.released.beside.get(spot.t) {
            Some(curve) => (curve, drawn - self.store[spot.t]),
            None => (&self.curves[spot.t], drawn),
        }
    }

    /// kW that the battery would give up for others in step `t`.
    pub fn yields(&self, t: usize) -> f64 {
        self.released.takes.get(t).map_or(0.0, |taking| self.store[t] - taking.least())
    }
}

#[cfg(test)]
mod tests {
    use super::super::fluid;
    use super::super::problem::{Problem, Session, Store};
    use super::super::quick::sharpen;
    use super::super::sieve::sift;
    use super::*;

    /// What a car takes more is what the battery takes less while it answers, and nothing once it is held.
    #[test]
    fn the_battery_makes_way_for_a_car() {
        let car = Session {
            departure: 2,
            need_kwh: 4.0,
            efficiency: 1.0,
            max_kw: 11.0,
            phases: [true; 3],
            ..Session::default()
        };
        let store = Store {
            soc0_kwh: 5.0,
            soc_max_kwh: 20.0,
            charge_kw: 8.0,
            discharge_kw: 8.0,
            eff_charge: 1.0,
            eff_discharge: 1.0,
            ..Store::default()
        };
        let (site, _) = sift(&Problem {
            steps: 2,
            step_hours: 1.0,
            pv_kw: vec![6.0; 2],
            base_kw: vec![0.0; 2],
            import_price: vec![0.3; 2],
            export_price: vec![0.05; 2],
            import_limit_kw: vec![20.0; 2],
            export_limit_kw: vec![20.0; 2],
            base_share: [1.0 / 3.0; 3],
            store: Some(store),
            sessions: vec![car],
            ..Problem::default()
        });
        let mut market = fluid::open(&site);
        sharpen(&mut market, 0.001, 0.02);
        // Worth more than sun that is sold, less than what is bought: it takes the sun that nobody else does.
        let fluid = Answer { price: vec![0.2; 2], worth: vec![0.2; 2], ..Answer::default() };
        market.release(&fluid);
        let before = market.store[0];
        assert!((before - 6.0).abs() < 0.5, "{before} kW");
        market.set(0, 0, 4.0);
        assert!((before - market.store[0] - 4.0).abs() < 0.1, "{} kW", market.store[0]);
        market.hold();
        let held = market.store[0];
        market.set(0, 0, 2.0);
        assert_eq!(market.store[0], held);
    }
}
