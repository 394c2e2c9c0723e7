//! Makes a plan legal and better, one load at a time: given all others, it is on in the steps that are cheapest
//! for it, at no less than its least power, or else stays as it is, or off where it must be legal. Owns that choice;
//! passes no limit beside those that have decided.

use super::answer::Answer;
use super::market::{Draw, Market, Offer, Spot, level};
use super::rooms::Rooms;

/// How near a load stays to the fluid plan where steps cost the same, as a part of the spread of prices.
const NEAR: f64 = 0.02;
/// What is scarce costs more than this, currency per kW.
const SCARCE: f64 = 1e-6;

/// The fluid plan that guides a load while others are still open: where something is scarce there, they make way for
/// its price, and what has been decided leaves `rooms`.
pub struct Guide<'g> {
    pub fluid: &'g Answer,
    pub rooms: &'g Rooms,
    /// Between the lowest and the highest price, currency per kW and step.
    pub spread: f64,
}

/// What a load decides for.
#[derive(Clone, Copy)]
enum Wish<'g> {
    /// A better part for it, or none.
    Better,
    /// A legal part, whatever it costs.
    Legal,
    /// The same, guided.
    Guided(&'g Guide<'g>),
}

/// A step a load could be on in.
#[derive(Clone, Copy)]
struct Place {
    /// Step of its window.
    at: usize,
    /// Its offers, from the first to before the last.
    offers: (usize, usize),
    /// Most power there, kW.
    most: f64,
    /// Mean price at the least power.
    price: f64,
}

/// Lists that are used again for every load.
#[derive(Default)]
pub struct Bench {
    offers: Vec<Offer>,
    places: Vec<Place>,
    upper: Vec<Offer>,
    spare: Vec<Offer>,
    kw: Vec<f64>,
    best: Vec<f64>,
}

/// What the first `kw` of a step's offers cost.
fn cost(offers: &[Offer], kw: f64) -> f64 {
    let (mut left, mut sum) = (kw, 0.0);
    for offer in offers {
        let part = left.min(offer.kw);
        if part <= 0.0 {
            break;
        }
        sum += part * (offer.from + 0.5 * (offer.to - offer.from) * part / offer.kw);
        left -= part;
    }
    sum
}

/// Each of these loads in turn; how many changed.
pub fn polish(
    market: &mut Market<'_>,
    loads: impl Iterator<Item = usize>,
    bench: &mut Bench,
) -> usize {
    loads.filter(|i| improve(market, *i, Wish::Better, bench)).count()
}

/// This load becomes legal beside all others as they are.
pub fn fix(market: &mut Market<'_>, i: usize, bench: &mut Bench) {
    improve(market, i, Wish::Legal, bench);
}

/// This load becomes legal beside others that are still open.
pub fn decide(market: &mut Market<'_>, i: usize, guide: &Guide<'_>, bench: &mut Bench) {
    improve(market, i, Wish::Guided(guide), bench);
}

fn improve(market: &mut Market<'_>, i: usize, wish: Wish<'_>, bench: &mut Bench) -> bool {
    let load = &market.site.loads[i];
    if !load.servable || load.taper.is_some() {
        return false;
    }
    let (want, unserved) = (load.kwh / load.gain, market.unserved * load.gain);
    let (now, given) = survey(market, i, wish, bench);
    market.work += 30 * bench.offers.len() as u64;
    bench.places.sort_unstable_by(|a, b| a.price.total_cmp(&b.price).then(a.at.cmp(&b.at)));
    bench.best.clear();
    let legal = !matches!(wish, Wish::Better);
    let mut least = if legal { f64::INFINITY } else { now - unserved * given - 1e-7 };
    let mut room = 0.0;
    for count in 1..=bench.places.len() {
        let last = (count + 1) as f64 * load.min_kw > want + 1e-9;
        let lack = (want - room).min(load.max_kw);
        if last && lack > load.min_kw {
            market.work += 10 * (bench.places.len() - count) as u64;
            bring_up(bench, count - 1, lack, unserved);
        }
        room += bench.places[count - 1].most;
        if count as f64 * load.min_kw > want + 1e-9 {
            break;
        }
        if room < want - 1e-9
            && count < bench.places.len()
            && (count + 1) as f64 * load.min_kw <= want
        {
            continue;
        }
        let value = fill(bench, count, (load.min_kw, want), unserved);
        if value < least {
            least = value;
            bench.best.clone_from(&bench.kw);
        } else if !bench.best.is_empty() || room >= 1.5 * want {
            break;
        }
    }
    if bench.best.is_empty() && !legal {
        return false;
    }
    let best = std::mem::take(&mut bench.best);
    let mut next = vec![0.0; load.to - load.from];
    for (place, kw) in bench.places.iter().zip(&best) {
        next[place.at] = *kw;
    }
    bench.best = best;
    for (at, kw) in next.iter().enumerate() {
        market.set(i, at, *kw);
    }
    true
}

/// Where a load could be on and at what price, into `bench.places`; what it pays and takes as it is.
fn survey(market: &Market<'_>, i: usize, wish: Wish<'_>, bench: &mut Bench) -> (f64, f64) {
    let load = &market.site.loads[i];
    let (draw, base) = (Draw::of(load), market.start[i]);
    bench.offers.clear();
    bench.places.clear();
    let (mut now, mut given) = (0.0, 0.0);
    let guide = match wish {
        Wish::Guided(guide) => Some(guide),
        Wish::Better | Wish::Legal => None,
    };
    for t in load.from..load.to {
        let (at, kw) = (t - load.from, market.kw[base + t - load.from]);
        let scarce = guide.filter(|_| market.toll(draw, t) > SCARCE);
        let most = match scarce {
            Some(guide) => load.max_kw.min(guide.rooms.of(load, t)),
            None => load.max_kw.min(kw + market.room(draw, t)).max(kw),
        };
        if most < load.min_kw - 1e-9 || most <= 1e-6 {
            continue;
        }
        let from = bench.offers.len();
        match scarce {
            Some(guide) => {
                let price = guide.fluid.price_of(load, t);
                bench.offers.push(Offer { from: price, to: price + 1e-9, kw: most, place: at });
            }
            None => {
                let spot = Spot { t, place: at, now: kw };
                market.offer(draw, spot, (0.0, most), &mut bench.offers);
            }
        }
        let offers = &bench.offers[from..];
        if kw > 0.0 {
            now += cost(offers, kw);
            given += kw;
        }
        let least = load.min_kw.max(1e-3);
        let near = guide.map_or(0.0, |guide| {
            NEAR * guide.spread * guide.fluid.kw[i][at] / load.max_kw.max(1e-3)
        });
        let price = cost(offers, least) / least - near;
        bench.places.push(Place { at, offers: (from, bench.offers.len()), most, price });
    }
    (now, given)
}

/// Brings that place up to the `first` which gives so much at least cost, what it cannot give counted as unserved: the
/// last of few steps must take all that is left, and the cheapest may have no room for it.
fn bring_up(bench: &mut Bench, first: usize, kw: f64, unserved: f64) {
    let Bench { offers, places, .. } = bench;
    let price = |place: &Place| {
        let part = kw.min(place.most);
        cost(&offers[place.offers.0..place.offers.1], part) + unserved * (kw - part)
    };
    let mut best = (first, price(&places[first]));
    for (k, place) in places.iter().enumerate().skip(first + 1) {
        let price = price(place);
        if price < best.1 - 1e-9 {
            best = (k, price);
        }
    }
    places[first..=best.0].rotate_right(1);
}

/// On in the `count` cheapest places: powers into `bench.kw`; what that costs, less what it is worth.
fn fill(bench: &mut Bench, count: usize, (least, want): (f64, f64), unserved: f64) -> f64 {
    let Bench { offers, places, upper, spare, kw, .. } = bench;
    upper.clear();
    kw.clear();
    for (k, place) in places[..count].iter().enumerate() {
        let mut skip = least;
        for offer in &offers[place.offers.0..place.offers.1] {
            let below = skip.min(offer.kw);
            skip -= below;
            let rest = offer.kw - below;
            if rest > 1e-9 {
                let from = offer.from + below / offer.kw * (offer.to - offer.from);
                upper.push(Offer { from, kw: rest, place: k, ..*offer });
            }
        }
    }
    let price = level(upper, spare, want - least * count as f64, unserved);
    kw.resize(count, least);
    for offer in upper.iter() {
        kw[offer.place] += offer.at(price);
    }
    let mut value = 0.0;
    for (place, kw) in places[..count].iter().zip(kw.iter()) {
        value += cost(&offers[place.offers.0..place.offers.1], *kw) - unserved * kw;
    }
    value
}

#[cfg(test)]
mod tests {
    use super::super::fluid;
    use super::super::problem::{Problem, Session};
    use super::super::sieve::sift;
    use super::*;

    /// One step must take all: the cheapest has no room for that, so another does.
    #[test]
    fn what_fits_into_one_step_goes_where_there_is_room_for_all_of_it() {
        let car = Session {
            departure: 4,
            need_kwh: 2.0,
            efficiency: 1.0,
            min_kw: 4.14,
            max_kw: 11.0,
            phases: [true; 3],
            ..Session::default()
        };
        let (site, faults) = sift(&Problem {
            steps: 4,
            step_hours: 0.25,
            pv_kw: vec![0.0; 4],
            base_kw: vec![15.0, 1.0, 1.0, 1.0],
            import_price: vec![0.1, 0.3, 0.2, 0.3],
            export_price: vec![0.05; 4],
            import_limit_kw: vec![20.0; 4],
            export_limit_kw: vec![20.0; 4],
            base_share: [1.0 / 3.0; 3],
            sessions: vec![car],
            ..Problem::default()
        });
        assert_eq!(faults, []);
        let mut market = fluid::open(&site);
        assert_eq!(polish(&mut market, [0].into_iter(), &mut Bench::default()), 1);
        let kw = &market.powers()[0];
        assert!((kw[2] - 8.0).abs() < 1e-6 && kw.iter().sum::<f64>() < 8.0 + 1e-6, "{kw:?}");
    }
}
