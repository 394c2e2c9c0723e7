//! A site as a market: every step has a price that rises with what is drawn, near a limit steeply. Owns the state
//! of that: powers, flows, prices, and what a step offers to one load given all others.
//!
//! What a stranger gets wrong: prices rise before a limit and not at it, so that who follows them stays inside.

use super::answer::weights;
use super::curve::{Curve, Peak, Reach, Sharpness, tariff};
use super::release::Released;
use super::sieve::{Load, Sound};

/// Some power at a price that rises evenly.
#[derive(Clone, Copy, Debug)]
pub struct Offer {
    pub from: f64,
    pub to: f64,
    pub kw: f64,
    pub place: usize,
}

impl Offer {
    /// kW of it that are worth `price`.
    pub fn at(&self, price: f64) -> f64 {
        if price >= self.to {
            self.kw
        } else if price <= self.from {
            0.0
        } else {
            self.kw * (price - self.from) / (self.to - self.from)
        }
    }
}

/// A step as a draw sees it: which, the draw's own mark for it, and the kW it has there now.
#[derive(Clone, Copy, Debug)]
pub struct Spot {
    pub t: usize,
    pub place: usize,
    pub now: f64,
}

/// Who draws: which phases, with what share on each, and which circuits.
#[derive(Clone, Copy)]
pub struct Draw<'a> {
    pub phases: [bool; 3],
    pub share: f64,
    pub groups: &'a [usize],
}

impl<'a> Draw<'a> {
    pub fn of(load: &'a Load) -> Draw<'a> {
        Draw { phases: load.phases, share: load.share, groups: &load.groups }
    }
}

/// Every third of the battery's power is on a phase.
pub const BALANCED: Draw<'static> = Draw { phases: [true; 3], share: 1.0 / 3.0, groups: &[] };

/// Width of the ramps of phases and circuits, as a part of the connection's.
const ROW_RAMP: f64 = 0.4;

pub struct Market<'a> {
    pub site: &'a Sound,
    pub sharp: Sharpness,
    /// Import above which the demand charge is felt, kW.
    pub cap: f64,
    pub top: f64,
    pub unserved: f64,
    pub reach: Vec<Reach>,
    pub(super) curves: Vec<Curve>,
    pub(super) released: Released,
    /// Flow up to which a phase has no price, and each circuit, kW.
    phase_free: f64,
    group_free: Vec<f64>,
    /// Base load, loads and battery of each step, kW.
    pub demand: Vec<f64>,
    /// Flow on phases and circuits, kW; phase after phase, then circuit after circuit.
    pub flow: Vec<f64>,
    /// First row of the circuits.
    pub circuits: usize,
    pub kw: Vec<f64>,
    pub start: Vec<usize>,
    pub store: Vec<f64>,
    pub work: u64,
}

impl<'a> Market<'a> {
    pub fn new(site: &'a Sound, sharp: Sharpness) -> Market<'a> {
        let weights = weights(site);
        let mut start = vec![0];
        for load in &site.loads {
            start.push(start[start.len() - 1] + load.to - load.from);
        }
        let circuits = if site.phase.is_some() { 3 * site.steps } else { 0 };
        let mut market = Market {
            sharp,
            cap: f64::MAX,
            top: 1.5
                * weights.unserved
                * site.loads.iter().map(|l| l.gain).fold(site.hours, f64::max),
            unserved: weights.unserved,
            reach: reach(site),
            curves: Vec::new(),
            released: Released::default(),
            phase_free: 0.0,
            group_free: Vec::new(),
            demand: Vec::new(),
            flow: vec![0.0; circuits + site.groups.len() * site.steps],
            circuits,
            kw: vec![0.0; start[site.loads.len()]],
            start,
            store: vec![0.0; site.steps],
            work: 0,
            site,
        };
        market.tally();
        market.sharpen(sharp);
        market
    }

    /// Prices with other ramps.
    pub fn sharpen(&mut self, sharp: Sharpness) {
        self.sharp = sharp;
        let limit = self.site.phase.unwrap_or(0.0);
        self.phase_free = limit - self.row_ramp(limit);
        let groups = self.site.groups.iter();
        self.group_free = groups.map(|limit| limit - self.row_ramp(*limit)).collect();
        let peak = Peak { flat: 0.0, above: self.site.per_kw, cap: self.cap };
        let curve = |t| tariff(self.site, t, self.reach[t], peak, self.top).curve(&sharp);
        self.curves = (0..self.site.steps).map(curve).collect();
    }

    /// Flows from the powers, anew.
    pub fn tally(&mut self) {
        let (site, steps) = (self.site, self.site.steps);
        self.demand = site.base.iter().zip(&self.store).map(|(base, store)| base + store).collect();
        self.flow.fill(0.0);
        for k in 0..self.circuits {
            let (phase, t) = (k / steps, k % steps);
            self.flow[k] = site.share[phase] * site.base[t] + (self.store[t] - site.pv[t]) / 3.0;
        }
        for (i, load) in site.loads.iter().enumerate() {
            for t in load.from..load.to {
                self.shift(Draw::of(load), t, self.kw[self.start[i] + t - load.from]);
            }
        }
    }

    pub(super) fn shift(&mut self, draw: Draw<'_>, t: usize, kw: f64) {
        self.demand[t] += kw;
        let steps = self.site.steps;
        if self.circuits > 0 {
            for phase in (0..3).filter(|p| draw.phases[*p]) {
                self.flow[phase * steps + t] += kw * draw.share;
            }
        }
        draw.groups.iter().for_each(|group| self.flow[self.circuits + group * steps + t] += kw);
    }

    /// Rows that a draw is in at a step, with its share and the row's limit.
    pub(super) fn rows(
        &self,
        draw: Draw<'a>,
        t: usize,
    ) -> impl Iterator<Item = (usize, f64, f64)> + use<'a> {
        let (steps, circuits, site) = (self.site.steps, self.circuits, self.site);
        let limit = site.phase.unwrap_or(0.0);
        let phases = (0..3).filter(move |p| circuits > 0 && draw.phases[*p]);
        let phases = phases.map(move |p| (p * steps + t, draw.share, limit));
        let groups = draw.groups.iter();
        phases.chain(groups.map(move |g| (circuits + g * steps + t, 1.0, site.groups[*g])))
    }

    /// Width of the ramp before a row's limit.
    fn row_ramp(&self, limit: f64) -> f64 {
        (ROW_RAMP * self.sharp.ramp).min(0.5 * limit).max(1e-6)
    }

    /// Price of a row at a flow.
    pub fn row_price(&self, flow: f64, limit: f64) -> f64 {
        let ramp = self.row_ramp(limit);
        let into = flow.abs() - limit + ramp;
        if into <= 0.0 {
            return 0.0;
        }
        let part = into / ramp;
        let (mut from, mut low) = (0.0, 0.0);
        for (to, high) in self.sharp.shape.into_iter().chain([(1.0, self.top)]) {
            if part < to || to == 1.0 {
                let price = low + (high - low) * (part - from) / (to - from);
                return price.copysign(flow);
            }
            (from, low) = (to, high);
        }
        0.0
    }

    /// What a draw could have in a step between two powers, cheapest first.
    pub fn offer(&self, draw: Draw<'a>, spot: Spot, range: (f64, f64), out: &mut Vec<Offer>) {
        let first = out.len();
        match self.tight(draw, spot, range) {
            true => self.tight_offer(draw, spot, range, out),
            false => self.open_offer(spot, range, out),
        }
        let toll = self.toll(draw, spot.t);
        if toll != 0.0 {
            for offer in &mut out[first..] {
                (offer.from, offer.to) = (offer.from + toll, offer.to + toll);
            }
        }
    }

    /// The same where no row comes near its limit.
    fn open_offer(&self, spot: Spot, (low, high): (f64, f64), out: &mut Vec<Offer>) {
        let (curve, beside) = self.curve(spot);
        let mut next = curve.piece(beside + low);
        let (mut at, mut from) = (low, curve.price_in(next, beside + low));
        let mut push = |kw: f64, from: f64, to: f64| {
            out.push(Offer { from, to: to.max(from + 1e-12), kw, place: spot.place });
        };
        while let Some((y, price)) = curve.knot(next).filter(|(y, _)| *y < beside + high) {
            if y - beside > at {
                push(y - beside - at, from, price);
            }
            (at, from, next) = (y - beside, price, next + 1);
        }
        push(high - at, from, curve.price_in(next, beside + high));
    }

    /// Whether a row comes near its limit somewhere between two powers.
    fn tight(&self, draw: Draw<'a>, spot: Spot, (low, high): (f64, f64)) -> bool {
        let steps = self.site.steps;
        let near = |k: usize, share: f64, free: f64| {
            let rest = self.flow[k] - share * spot.now;
            rest + share * high > free || rest + share * low < -free
        };
        if self.circuits > 0 {
            for phase in 0..3 {
                if draw.phases[phase] && near(phase * steps + spot.t, draw.share, self.phase_free) {
                    return true;
                }
            }
        }
        let first = self.circuits + spot.t;
        draw.groups.iter().any(|group| near(first + group * steps, 1.0, self.group_free[*group]))
    }

    /// The same where rows have their prices, too.
    fn tight_offer(&self, draw: Draw<'a>, spot: Spot, range: (f64, f64), out: &mut Vec<Offer>) {
        let (low, high) = range;
        let (curve, beside) = self.curve(spot);
        let (mut at, mut len) = ([0.0; 64], 1);
        at[0] = low;
        let mut knot = |p: f64| {
            if p > low && p < high && len < 63 {
                at[len] = p;
                len += 1;
            }
        };
        curve.knots().for_each(|y| knot(y - beside));
        for (k, share, limit) in self.rows(draw, spot.t) {
            let (ramp, rest) = (self.row_ramp(limit), self.flow[k] - share * spot.now);
            for part in [0.0, self.sharp.shape[0].0, self.sharp.shape[1].0, 1.0] {
                knot((limit + (part - 1.0) * ramp - rest) / share);
                knot(((1.0 - part) * ramp - limit - rest) / share);
            }
        }
        at[..len].sort_unstable_by(f64::total_cmp);
        at[len] = high;
        let price = |p: f64| {
            let rows = self.rows(draw, spot.t).map(|(k, share, limit)| {
                share * self.row_price(self.flow[k] + share * (p - spot.now), limit)
            });
            curve.price(beside + p) + rows.sum::<f64>()
        };
        let mut from = price(low);
        for pair in at[..=len].windows(2).filter(|pair| pair[1] > pair[0]) {
            let to = price(pair[1]);
            let kw = pair[1] - pair[0];
            out.push(Offer { from, to: to.max(from + 1e-12), kw, place: spot.place });
            from = to;
        }
    }

    /// What a draw may take more in step `t` without passing a limit, kW.
    pub fn room(&self, draw: Draw<'a>, t: usize) -> f64 {
        let site = self.site;
        let room = site.import[t] + site.pv[t] - self.demand[t] + self.yields(t);
        let rows = self.rows(draw, t);
        rows.fold(room, |room, (k, share, limit)| room.min((limit - self.flow[k]) / share))
    }

    /// Powers of all loads, one list each.
    pub fn powers(&self) -> Vec<Vec<f64>> {
        self.start.windows(2).map(|pair| self.kw[pair[0]..pair[1]].to_vec()).collect()
    }

    /// Takes over a plan.
    pub fn load(&mut self, kw: &[Vec<f64>], store: &[f64]) {
        for (i, kw) in kw.iter().enumerate() {
            self.kw[self.start[i]..self.start[i + 1]].copy_from_slice(kw);
        }
        self.store.copy_from_slice(store);
        self.tally();
    }

    /// Sets one power of a load.
    pub fn set(&mut self, i: usize, at: usize, kw: f64) {
        let load = &self.site.loads[i];
        let change = kw - self.kw[self.start[i] + at];
        if change != 0.0 {
            self.kw[self.start[i] + at] = kw;
            self.shift(Draw::of(load), load.from + at, change);
            self.answer(load.from + at);
        }
    }

    /// The battery's powers, and what follows from them.
    pub fn set_store(&mut self, store: &[f64]) {
        for (t, kw) in store.iter().enumerate() {
            let change = kw - self.store[t];
            self.shift(BALANCED, t, change);
            self.store[t] = *kw;
        }
    }

    pub fn import(&self, t: usize) -> f64 {
        self.demand[t] - self.site.pv[t]
    }

    /// What each step bears of the demand charge, currency per kW.
    pub fn felt(&self, t: usize, cap: f64) -> f64 {
        let site = self.site;
        if site.per_kw <= 0.0 || cap >= site.import[t] {
            return 0.0;
        }
        let from = (cap - self.sharp.peak_ramp).max(0.0);
        let part = (self.import(t) - from) / (cap - from).max(1e-6);
        let (to, rise) = self.sharp.peak_shape;
        let charge = site.per_kw;
        match part {
            p if p <= 0.0 => 0.0,
            p if p >= 1.0 => charge,
            p if rise >= charge => p * charge,
            p if p < to => p / to * rise,
            p => rise + (charge - rise) * (p - to) / (1.0 - to),
        }
    }

    /// The cap at which the steps bear the demand charge between them.
    pub fn settle_cap(&mut self) {
        let site = self.site;
        if site.per_kw <= 0.0 {
            return;
        }
        let highest = (0..site.steps).map(|t| self.import(t)).fold(0.0, f64::max);
        let limit = site.import.iter().fold(0.0_f64, |m, v| m.max(*v)) * 0.998;
        let (mut low, mut high) = (site.so_far, (highest + self.sharp.peak_ramp).min(limit));
        for _ in 0..24 {
            let cap = 0.5 * (low + high);
            let felt: f64 = (0..site.steps).map(|t| self.felt(t, cap)).sum();
            if felt > site.per_kw { low = cap } else { high = cap }
        }
        self.cap = high.max(site.so_far);
        self.sharpen(self.sharp);
    }
}

/// What each step can draw and give at most.
pub fn reach(site: &Sound) -> Vec<Reach> {
    let store = site.store.unwrap_or_default();
    let mut most: Vec<f64> = (0..site.steps).map(|t| site.charge_kw(t)).collect();
    for load in site.loads.iter() {
        most[load.from..load.to].iter_mut().for_each(|kw| *kw += load.max_kw);
    }
    let away = if store.no_discharge_to_grid { 0.0 } else { store.discharge_kw };
    let one = |(t, most): (usize, f64)| Reach {
        import: (site.base[t].max(0.0) + most).max(0.0),
        export: site.pv[t] + away + (-site.base[t]).max(0.0),
    };
    most.into_iter().enumerate().map(one).collect()
}

/// The price at which the offers sum up to `want` kW, at most `most`.
pub fn level(offers: &[Offer], spare: &mut Vec<Offer>, want: f64, most: f64) -> f64 {
    let all: f64 = offers.iter().map(|offer| offer.at(most)).sum();
    if all <= want {
        return most;
    }
    spare.clear();
    spare.extend(offers.iter().filter(|offer| offer.from < most));
    let (mut low, mut high, mut full) = (f64::NEG_INFINITY, most, 0.0);
    loop {
        // A knot strictly inside, taken from the middle of the list.
        let inside = |price: f64| price > low && price < high;
        let (before, after) = spare.split_at(spare.len() / 2);
        let candidates = after.iter().chain(before);
        let mut knots = candidates.flat_map(|offer| [offer.from, offer.to]);
        let Some(pivot) = knots.find(|price| inside(*price)) else {
            break;
        };
        let sum: f64 = spare.iter().map(|offer| offer.at(pivot)).sum();
        if full + sum > want {
            high = pivot;
            spare.retain(|offer| offer.from < pivot);
        } else {
            low = pivot;
            spare.retain(|offer| {
                let open = offer.to > pivot;
                full += if open { 0.0 } else { offer.kw };
                open
            });
        }
    }
    // Between two knots all is straight.
    let slope: f64 = spare.iter().map(|offer| offer.kw / (offer.to - offer.from)).sum();
    let least = || spare.iter().fold(high, |least, offer| least.min(offer.from));
    let from = if low.is_finite() { low } else { least() };
    let at: f64 = spare.iter().map(|offer| offer.at(from)).sum();
    if slope <= 0.0 { from } else { (from + (want - full - at) / slope).min(high) }
}
