//! The price of one more kW in a step, as a rising curve over all that draws from grid and sun there.
//! Owns the kinks: where curtailment ends, where sun ends, the peak so far, the connection's limit.
//!
//! What a stranger gets wrong: a kink is drawn as a ramp that *ends* at it, so that who follows the prices
//! stays inside the limit; and the flats rise a little, so that equal steps are filled evenly.

use super::sieve::Sound;

/// Most knots of a step's kinks, each a ramp, and those of what the battery takes beside them.
const PLAIN: usize = 16;
const KNOTS: usize = PLAIN + 4;

/// How sharp curves are.
#[derive(Clone, Copy, Debug)]
pub struct Sharpness {
    /// Width of a kink's ramp, kW.
    pub ramp: f64,
    /// Rise of the flats, currency per kW and step for each kW.
    pub tilt: f64,
    /// How a high ramp rises: by how much at which part of its width. Most trade happens among prices
    /// that are close to each other, so these get most of the width.
    pub shape: [(f64, f64); 2],
    /// Width of the demand charge's ramp, kW, and how it rises.
    pub peak_ramp: f64,
    pub peak_shape: (f64, f64),
}

/// A rising curve: knots, between them straight.
#[derive(Clone, Copy, Debug, Default)]
pub struct Curve {
    at: [f64; KNOTS],
    price: [f64; KNOTS],
    /// Slope of the piece after each knot.
    slope: [f64; KNOTS],
    first: f64,
    len: usize,
}

impl Curve {
    /// From the price at the far left and the kinks in rising order.
    fn new(first: f64, kinks: &[Kink], sharp: &Sharpness) -> Curve {
        let mut curve = Curve::default();
        let (mut before, mut end) = (first, f64::NEG_INFINITY);
        for kink in kinks {
            if kink.after - before < 1e-9 || curve.len + 4 > PLAIN {
                continue;
            }
            let (ramp, shape) = match kink.peak {
                true => (sharp.peak_ramp, [sharp.peak_shape, (1.0, f64::MAX)]),
                false => (sharp.ramp, sharp.shape),
            };
            let from = (kink.at - ramp).max(end + 1e-7);
            let to = kink.at.max(from + 1e-6);
            let mut knot = |part: f64, price: f64| {
                let at = from + part * (to - from);
                curve.at[curve.len] = at;
                curve.price[curve.len] = price + sharp.tilt * at;
                curve.len += 1;
            };
            knot(0.0, before);
            for (part, rise) in shape {
                if rise < kink.after - before {
                    knot(part, before + rise);
                }
            }
            knot(1.0, kink.after);
            (before, end) = (kink.after, to);
        }
        let len = curve.len;
        curve.settle_slopes();
        // The outer pieces: as the flats, and as steep as the last ramp.
        curve.first = sharp.tilt;
        if len > 1 {
            curve.slope[len - 1] = curve.slope[len - 2];
        }
        curve
    }

    /// The demand at which a price is reached, kW.
    fn demand(&self, price: f64) -> f64 {
        let (k, from, slope) = match self.price[..self.len].iter().filter(|p| **p <= price).count()
        {
            0 => (0, self.price[0], self.first),
            k => (k - 1, self.price[k - 1], self.slope[k - 1]),
        };
        self.at[k] + if slope > 0.0 { (price - from) / slope } else { 0.0 }
    }

    /// The price of what is drawn beside somebody who takes so much at each price.
    pub fn beside(&self, taking: &Taking) -> Curve {
        let mut curve = *self;
        let knots = match taking {
            Taking::Fixed(kw) => {
                curve.at.iter_mut().for_each(|at| *at -= kw);
                return curve;
            }
            Taking::Falling(knots) => knots,
        };
        let mut prices = [0.0; KNOTS];
        prices[..self.len].copy_from_slice(&self.price[..self.len]);
        prices[self.len..].iter_mut().zip(knots).for_each(|(price, knot)| *price = knot.0);
        let prices = &mut prices[..self.len + knots.len()];
        prices.sort_unstable_by(f64::total_cmp);
        curve.len = 0;
        for price in prices.iter().copied() {
            let (at, len) = (self.demand(price) - taking.kw(price), curve.len);
            if len == 0 || (at > curve.at[len - 1] + 1e-9 && price > curve.price[len - 1]) {
                (curve.at[len], curve.price[len], curve.len) = (at, price, len + 1);
            }
        }
        curve.settle_slopes();
        curve.slope[curve.len - 1] = self.slope[self.len.max(1) - 1];
        curve
    }

    /// Slopes between the knots.
    fn settle_slopes(&mut self) {
        for k in 1..self.len {
            let (width, rise) = (self.at[k] - self.at[k - 1], self.price[k] - self.price[k - 1]);
            self.slope[k - 1] = rise / width;
        }
    }

    /// Which piece `y` lies in, counted from the left.
    pub fn piece(&self, y: f64) -> usize {
        self.at[..self.len].iter().filter(|at| **at <= y).count()
    }

    /// The price at `y`, which lies in that piece.
    pub fn price_in(&self, piece: usize, y: f64) -> f64 {
        match piece {
            0 => self.price[0] + self.first * (y - self.at[0]),
            _ => self.price[piece - 1] + self.slope[piece - 1] * (y - self.at[piece - 1]),
        }
    }

    /// The price at `y`.
    pub fn price(&self, y: f64) -> f64 {
        self.price_in(self.piece(y), y)
    }

    /// The knot at the right end of a piece, and the price there.
    pub fn knot(&self, piece: usize) -> Option<(f64, f64)> {
        (piece < self.len).then(|| (self.at[piece], self.price[piece]))
    }

    /// Where all knots are, in rising order.
    pub fn knots(&self) -> impl Iterator<Item = f64> {
        self.at[..self.len].iter().copied()
    }
}

/// What somebody takes at a price, kW.
#[derive(Clone, Copy, Debug)]
pub enum Taking {
    /// The same at every price.
    Fixed(f64),
    /// Price and kW at four knots, straight between them and level outside.
    Falling([(f64, f64); 4]),
}

impl Taking {
    /// Its most `charge` up to one price, its most `give` above another, nothing between; each comes over `width`.
    pub fn falling(charge: (f64, f64), give: (f64, f64), width: f64) -> Taking {
        let from = give.0.max(charge.0);
        let (low, high) = ((charge.0 - width, charge.1), (from + width, -give.1));
        Taking::Falling([low, (charge.0, 0.0), (from, 0.0), high])
    }

    /// kW at a price.
    pub fn kw(&self, price: f64) -> f64 {
        let knots = match self {
            Taking::Fixed(kw) => return *kw,
            Taking::Falling(knots) => knots,
        };
        match knots.iter().filter(|knot| knot.0 <= price).count() {
            0 => knots[0].1,
            4 => knots[3].1,
            k => {
                let ((from, low), (to, high)) = (knots[k - 1], knots[k]);
                low + (high - low) * (price - from) / (to - from)
            }
        }
    }

    /// kW at the highest price.
    pub fn least(&self) -> f64 {
        self.kw(f64::MAX)
    }
}

/// Where a step's price rises.
#[derive(Clone, Copy, Debug, Default)]
struct Kink {
    at: f64,
    after: f64,
    /// The demand charge's.
    peak: bool,
}

/// What a step costs by its gross demand `y` (base load, loads and battery; sun not subtracted): prices of
/// the straight pieces and the kinks between them.
#[derive(Clone, Debug)]
pub struct Tariff {
    first: f64,
    kinks: [Kink; 6],
    len: usize,
    /// A demand whose cost is known, and that cost.
    anchor: (f64, f64),
}

/// What a step can draw from the grid and give to it at most, kW.
#[derive(Clone, Copy, Debug)]
pub struct Reach {
    pub import: f64,
    pub export: f64,
}

/// What high import costs beyond its energy, currency per kW and step.
#[derive(Clone, Copy, Debug)]
pub struct Peak {
    /// On every kW.
    pub flat: f64,
    /// On every kW above `cap`.
    pub above: f64,
    /// kW of import.
    pub cap: f64,
}

impl Peak {
    /// So much on every kW, and no cap.
    pub fn flat(flat: f64) -> Peak {
        Peak { flat, above: 0.0, cap: f64::MAX }
    }
}

/// The tariff of step `t`; `top` is what a kW beyond the limits is priced at.
pub fn tariff(site: &Sound, t: usize, reach: Reach, peak: Peak, top: f64) -> Tariff {
    let hours = site.hours;
    let (mut buy, mut sell) = (hours * site.buy[t] + peak.flat, hours * site.sell[t]);
    let (sun, import, export) = (site.pv[t], site.import[t], site.export[t]);
    let mut rest = 0.0;
    if sell > buy {
        // Bought and sold at once would pay: between the prices, by what either way can carry.
        let (inward, outward) = (import.min(reach.import), export.min(reach.export));
        let chord = (buy * inward + sell * outward) / (inward + outward).max(1e-9);
        rest = (buy - chord) * inward;
        (buy, sell) = (chord, chord);
    }
    let let_go = site.curtailable && buy < 0.0;
    let anchor = (if let_go { 0.0 } else { sun }, rest);
    let mut tariff = Tariff { first: -top, kinks: [Kink::default(); 6], len: 0, anchor };
    let mut kink = |at: f64, price: f64| {
        tariff.kinks[tariff.len] = Kink { at, after: price, peak: false };
        tariff.len += 1;
    };
    let lowest = if bound_to_sun(site) { site.base[t].min(0.0) } else { -export };
    if let_go {
        // Paid to draw: sun is let go first.
        kink(lowest, sell.min(buy));
        kink(0.0, buy);
        kink(import, 0.0);
    } else if site.curtailable {
        kink(lowest, 0.0);
        kink((sun - export).max(lowest), sell.max(0.0));
        kink(sun, buy);
    } else {
        kink((sun - export).max(lowest), sell);
        kink(sun, buy);
    }
    if peak.cap < import {
        kink(peak.cap + sun, buy.max(0.0) + peak.above);
    }
    kink(import + sun, top);
    if peak.cap < import {
        tariff.kinks[tariff.len - 2].peak = true;
    }
    tariff
}

impl Tariff {
    /// Demand that is met at `price`, kW, and how much more for a price higher by one: the mean over the prices
    /// within `blur`, where flats rise by `tilt` from `middle`.
    pub fn answer(&self, price: f64, (tilt, blur): (f64, f64), middle: f64) -> (f64, f64) {
        let kinks = &self.kinks[..self.len];
        let (low, high) = (price - 0.5 * blur, price + 0.5 * blur);
        let (mut sum, mut at, mut ends) = (0.0, low, (kinks[0].at, kinks[0].at));
        let mut started = false;
        let mut stretch = |to: f64, from_kw: f64, to_kw: f64, from: f64| {
            // A straight piece of the curve from price `from` to `to`.
            let end = to.min(high);
            if end <= at && started {
                return;
            }
            if to <= low {
                return;
            }
            let kw = |p: f64| {
                if to_kw > from_kw {
                    from_kw + (p - from) / (to - from) * (to_kw - from_kw)
                } else {
                    from_kw
                }
            };
            if !started {
                ends.0 = kw(low);
                started = true;
            }
            ends.1 = kw(end.max(at));
            sum += (end - at).max(0.0) * 0.5 * (kw(at) + kw(end.max(at)));
            at = end.max(at);
        };
        let mut from = f64::NEG_INFINITY;
        for (k, kink) in kinks.iter().enumerate() {
            let last = k + 1 == kinks.len();
            let to = if last { f64::INFINITY } else { kink.after + tilt * (kink.at - middle) };
            stretch(to, kink.at, kink.at, from);
            if !last {
                from = kink.after + tilt * (kinks[k + 1].at - middle);
                stretch(from, kink.at, kinks[k + 1].at, to);
            }
            if from >= high {
                break;
            }
        }
        (sum / blur, (ends.1 - ends.0) / blur)
    }

    /// Most demand, kW.
    pub fn most(&self) -> f64 {
        self.kinks[self.len - 1].at
    }

    /// Price of the kW just above `kw`.
    pub fn price(&self, kw: f64) -> f64 {
        let below = self.kinks[..self.len].iter().rev().find(|kink| kink.at <= kw + 1e-9);
        below.map_or(self.first, |kink| kink.after)
    }

    /// Price of the flat before the connection's limit.
    pub fn bought(&self) -> f64 {
        self.kinks[self.len - 2].after
    }

    pub fn curve(&self, sharp: &Sharpness) -> Curve {
        Curve::new(self.first, &self.kinks[..self.len], sharp)
    }

    /// The least of cost less `price` times demand, over demand between the outer kinks and, as far as that is inside
    /// them, from `low` to `high`.
    pub fn least(&self, price: f64, (low, high): (f64, f64)) -> f64 {
        let kinks = &self.kinks[..self.len];
        // The demand at which the price is passed.
        let best = kinks[..self.len - 1].iter().find(|kink| kink.after > price);
        let best = best.map_or(kinks[self.len - 1].at, |kink| kink.at);
        // It falls before the best and rises behind it.
        let best = best.max(low).min(high).max(kinks[0].at).min(kinks[self.len - 1].at);
        self.cost(best) - price * best
    }

    /// Cost of demand `y` between the outer kinks.
    fn cost(&self, y: f64) -> f64 {
        let mut sum = self.anchor.1;
        for pair in self.kinks[..self.len].windows(2) {
            let inside = |y: f64| y.max(pair[0].at).min(pair[1].at);
            sum += pair[0].after * (inside(y) - inside(self.anchor.0));
        }
        sum
    }
}

/// Whether nothing but sun may go to the grid.
pub fn bound_to_sun(site: &Sound) -> bool {
    site.store.is_none_or(|store| store.no_discharge_to_grid)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who draws beside the battery pays the price at which what it takes and what they draw is what there is.
    #[test]
    fn the_price_beside_somebody_clears() {
        for seed in 0..200 {
            let mut r = fastrand::Rng::with_seed(seed);
            let mut at = -20.0;
            let mut kink = |after: f64| {
                at += 1.0 + 10.0 * r.f64();
                Kink { at, after, peak: false }
            };
            let kinks = [kink(0.0), kink(0.08), kink(0.3), kink(5.0)];
            let sharp = Sharpness {
                ramp: 0.2,
                tilt: 1e-5,
                shape: [(0.45, 0.4), (0.8, 2.0)],
                peak_ramp: 1.0,
                peak_shape: (0.7, 0.8),
            };
            let curve = Curve::new(-5.0, &kinks, &sharp);
            let charge = 0.35 * r.f64();
            let falling = Taking::falling((charge, 6.0), (charge + 0.1 * r.f64(), 4.0), 1e-3);
            for taking in [falling, Taking::Fixed(3.0)] {
                let beside = curve.beside(&taking);
                for y in (-300..=300).map(|y| f64::from(y) * 0.1) {
                    let price = beside.price(y);
                    // Prices beyond the outer knots are straight on, in slopes of their own.
                    if price > -4.9 && price < 4.9 {
                        let there = curve.demand(price) - taking.kw(price);
                        assert!((there - y).abs() < 1e-3, "seed {seed}: {y} kW, {there} kW");
                    }
                }
            }
        }
    }
}
