//! From the fluid plan's prices to a legal plan: every load in turn is on in the steps that are cheapest for
//! it, at no less than its least power, or off. Owns that choice.
//!
//! What a stranger gets wrong: at the right prices many steps cost a load the same, and who takes which is
//! what is decided here. So a step that draws more than its price would have costs a little more, one that
//! draws less a little less; limits are never passed.

use super::super::answer::weights;
use super::super::fluid::{curtail, size};
use super::super::ledger::{self, Sheet};
use super::super::reservoir::Course;
use super::super::sieve::Load;
use super::bids::Auction;

/// Up to so many times what a kW is worth, a load that gets nothing else takes it.
const DEAR: f64 = 1.2;

/// A step in which a load could be on.
#[derive(Clone, Copy)]
struct Place {
    at: usize,
    price: f64,
    room: f64,
}

/// The plan as it stands, and what it is measured by.
pub struct Desk<'m, 'a> {
    market: &'m Auction<'a>,
    pub kw: Vec<Vec<f64>>,
    pub store: Vec<f64>,
    demand: Vec<f64>,
    flow: Vec<f64>,
    /// Demand at which a step's price is right, from and to, kW.
    right: Vec<(f64, f64)>,
    /// Highest import that costs no more demand charge, kW.
    cap: f64,
    /// Currency per kW and step for each kW beside the right demand.
    rise: f64,
    hard: bool,
    places: Vec<Place>,
}

impl<'m, 'a> Desk<'m, 'a> {
    /// A desk before a market's prices, with a fluid plan's powers to begin with.
    pub fn new(market: &'m Auction<'a>, kw: Vec<Vec<f64>>, store: Vec<f64>) -> Desk<'m, 'a> {
        let site = market.site;
        let width = market.soft.width;
        let right = (0..site.steps).map(|t| {
            let asked = market.price[t] - market.supply.felt[t];
            let at = |price: f64| market.supply.tariff(t).answer(price, (1e-9, 1e-9), site.pv[t]).0;
            let cap =
                if market.supply.felt[t] > 0.0 { market.supply.cap + site.pv[t] } else { f64::MAX };
            (at(asked - width).min(cap), at(asked + width).min(cap))
        });
        let mut desk = Desk {
            right: right.collect(),
            kw: Vec::new(),
            store: store.clone(),
            demand: market.demand.clone(),
            flow: market.flow.clone(),
            cap: if site.per_kw > 0.0 { market.supply.cap } else { f64::MAX },
            rise: 0.0,
            hard: false,
            places: Vec::new(),
            market,
        };
        desk.reset(kw, store);
        desk
    }

    /// These powers, and what flows then.
    fn reset(&mut self, kw: Vec<Vec<f64>>, store: Vec<f64>) {
        let (site, steps) = (self.market.site, self.market.site.steps);
        self.demand = site.base.iter().zip(&store).map(|(base, store)| base + store).collect();
        self.flow.fill(0.0);
        for k in 0..self.market.circuits {
            let (phase, t) = (k / steps, k % steps);
            self.flow[k] = site.share[phase] * site.base[t] + (store[t] - site.pv[t]) / 3.0;
        }
        for (load, kw) in site.loads.iter().zip(&kw) {
            self.change(load, kw, 1.0);
        }
        (self.kw, self.store) = (kw, store);
    }

    /// Every load in turn decides anew.
    pub fn round(&mut self, rise: f64, hard: bool) -> u64 {
        let market = self.market;
        let spread = weights(market.site).spread * market.site.hours;
        self.rise = rise * spread / size(market.site);
        self.hard = hard;
        for buyer in &market.buyers {
            let load = &market.site.loads[buyer.load];
            if load.taper.is_some() {
                self.slow(buyer.load, load);
                continue;
            }
            let mut kw = std::mem::take(&mut self.kw[buyer.load]);
            self.change(load, &kw, -1.0);
            let paid = &market.paid[buyer.class * market.site.steps..];
            self.choose(load, (&paid[load.from..load.to], buyer.worth), &mut kw);
            self.change(load, &kw, 1.0);
            self.kw[buyer.load] = kw;
        }
        20 * market.buyers.iter().map(|buyer| buyer.to - buyer.from).sum::<usize>() as u64
    }

    /// Adds a load's powers, or takes them away.
    fn change(&mut self, load: &Load, kw: &[f64], sign: f64) {
        let (steps, circuits) = (self.market.site.steps, self.market.circuits);
        for (t, kw) in (load.from..).zip(kw).filter(|(_, kw)| **kw != 0.0) {
            self.demand[t] += sign * kw;
            if circuits > 0 {
                for p in (0..3).filter(|p| load.phases[*p]) {
                    self.flow[p * steps + t] += sign * kw * load.share;
                }
            }
            for g in &load.groups {
                self.flow[circuits + g * steps + t] += sign * kw;
            }
        }
    }

    /// What a load may take more in step `t`, kW.
    fn room(&self, load: &Load, t: usize) -> f64 {
        let (site, circuits) = (self.market.site, self.market.circuits);
        let steps = site.steps;
        let mut room = site.import[t] + site.pv[t] - self.demand[t];
        if circuits > 0 {
            let limit = site.phase.unwrap_or(0.0);
            for p in (0..3).filter(|p| load.phases[*p]) {
                room = room.min((limit - self.flow[p * steps + t]) / load.share);
            }
        }
        let of =
            |room: f64, g: &usize| room.min(site.groups[*g] - self.flow[circuits + g * steps + t]);
        load.groups.iter().fold(room, of)
    }

    /// One load decides: below the cap if that gives it all it wants, or else beyond it.
    fn choose(&mut self, load: &Load, offer: (&[f64], f64), kw: &mut [f64]) {
        let mut places = std::mem::take(&mut self.places);
        let want = load.kwh / load.gain;
        for cap in [self.cap, f64::MAX] {
            self.survey(load, offer, cap, &mut places);
            cheapest_first(&mut places, want, load.max_kw);
            kw.fill(0.0);
            if fill(&places, want, load.min_kw, kw) <= 1e-6 || cap == f64::MAX || !self.hard {
                break;
            }
        }
        self.places = places;
    }

    /// Where a load could be on, at what price.
    fn survey(&self, load: &Load, (paid, worth): (&[f64], f64), cap: f64, places: &mut Vec<Place>) {
        let (site, half) = (self.market.site, 0.5 * load.max_kw);
        places.clear();
        for (at, paid) in paid.iter().enumerate() {
            let t = load.from + at;
            let (mut room, mut over) = (load.max_kw, 0.0);
            if self.hard {
                room = room.min(self.room(load, t)).min(cap + site.pv[t] - self.demand[t]);
            } else if self.demand[t] + half > cap + site.pv[t] {
                over = site.per_kw;
            }
            if room < load.min_kw || room < 1e-3 {
                continue;
            }
            let (low, high) = self.right[t];
            let then = self.demand[t] + half;
            let beside = (then - high).max(0.0) + (then - low).min(0.0);
            let price = paid + self.rise * beside + over;
            if price < DEAR * worth {
                places.push(Place { at, price, room });
            }
        }
    }

    /// A load that slows down: as the fluid plan has it, as far as it takes it.
    fn slow(&mut self, i: usize, load: &Load) {
        let Some(taper) = load.taper else { return };
        let mut kw = std::mem::take(&mut self.kw[i]);
        self.change(load, &kw, -1.0);
        let mut left = load.kwh;
        for (at, kw) in kw.iter_mut().enumerate() {
            let most = (taper.kw_per_kwh * left).min(load.max_kw).min(left / load.gain);
            let most = most.min(self.room(load, load.from + at));
            let rest = load.gain * load.max_kw * (load.to - load.from - at - 1) as f64;
            let wish =
                if left > rest || taper.kw_per_kwh * left < load.max_kw { most } else { *kw };
            *kw = if wish > 1e-6 && most >= load.min_kw {
                wish.clamp(load.min_kw, most)
            } else {
                0.0
            };
            left -= load.gain * *kw;
        }
        self.change(load, &kw, 1.0);
        self.kw[i] = kw;
    }

    /// The battery's best course beside the loads.
    pub fn charge(&mut self, course: &mut Course) -> u64 {
        let Some(store) = self.market.site.store else {
            return 0;
        };
        let market = self.market;
        let site = market.site;
        let most = 2.0 * market.top / (site.hours * store.eff_charge);
        let loads: Vec<f64> = self.demand.iter().zip(&self.store).map(|(d, s)| d - s).collect();
        let steps = site.steps;
        let (paid, rise) = (&market.paid[..steps], self.rise);
        let power = |t: usize, price: f64| {
            let (low, high) = self.right[t];
            let over = (price - paid[t]) / rise;
            let wish = if over > 0.0 { high + over } else { low + over } - loads[t];
            wish.min(site.charge_beside(t, loads[t]))
        };
        let work = course.follow(&store, (site.hours, most), steps, power);
        for t in 0..steps {
            let change = course.kw[t] - self.store[t];
            self.store[t] = course.kw[t];
            self.demand[t] += change;
            if market.circuits > 0 {
                (0..3).for_each(|p| self.flow[p * steps + t] += change / 3.0);
            }
        }
        work
    }

    /// What it comes to.
    pub fn sheet(&self) -> Sheet {
        let site = self.market.site;
        let curtail = (0..site.steps).map(|t| curtail(site, t, self.demand[t])).collect();
        ledger::settle(site, self.kw.clone(), self.store.clone(), curtail)
    }
}

/// As many places as may be needed, cheapest first; the others behind them in any order.
fn cheapest_first(places: &mut [Place], want: f64, most: f64) {
    let by_price = |a: &Place, b: &Place| a.price.total_cmp(&b.price).then(a.at.cmp(&b.at));
    let count = (want / most) as usize + 2;
    if count < places.len() {
        places.select_nth_unstable_by(count, by_price);
        if places[..count].iter().map(|place| place.room).sum::<f64>() >= want {
            places[..=count].sort_unstable_by(by_price);
            return;
        }
    }
    places.sort_unstable_by(by_price);
}

/// Powers for what is wanted, cheapest places first, each at no less than `least`; what is still wanted, kW.
fn fill(places: &[Place], want: f64, least: f64, kw: &mut [f64]) -> f64 {
    let (mut left, mut used) = (want, 0);
    for place in places {
        if left <= 1e-9 {
            break;
        }
        if left < least {
            // The last is too small: others give it some, or it stays away.
            let mut lack = least - left;
            if places[..used].iter().map(|p| kw[p.at] - least).sum::<f64>() < lack {
                break;
            }
            for p in places[..used].iter().rev() {
                let less = lack.min(kw[p.at] - least);
                kw[p.at] -= less;
                lack -= less;
            }
            left = least;
        }
        kw[place.at] = place.room.min(left);
        left -= kw[place.at];
        used += 1;
    }
    left
}
