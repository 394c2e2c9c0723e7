//! Makes a legal plan better, one load at a time: given all others, it is on in the steps that are cheapest
//! for it, at no less than its least power, or stays as it is. Owns that choice; never passes a limit.

use super::market::{Draw, Market, Offer, Spot, level};

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
    loads.filter(|i| improve(market, *i, bench)).count()
}

fn improve(market: &mut Market<'_>, i: usize, bench: &mut Bench) -> bool {
    let load = &market.site.loads[i];
    if !load.servable || load.taper.is_some() {
        return false;
    }
    let (draw, base) = (Draw::of(load), market.start[i]);
    bench.offers.clear();
    bench.places.clear();
    let mut now = 0.0;
    let (mut given, unserved) = (0.0, market.unserved * load.gain);
    for t in load.from..load.to {
        let (at, kw) = (t - load.from, market.kw[base + t - load.from]);
        let most = load.max_kw.min(kw + market.room(draw, t)).max(kw);
        if most < load.min_kw - 1e-9 || most <= 1e-6 {
            continue;
        }
        let from = bench.offers.len();
        market.offer(draw, Spot { t, place: at, now: kw }, (0.0, most), &mut bench.offers);
        let offers = &bench.offers[from..];
        if kw > 0.0 {
            now += cost(offers, kw);
            given += kw;
        }
        let least = load.min_kw.max(1e-3);
        let price = cost(offers, least) / least;
        bench.places.push(Place { at, offers: (from, bench.offers.len()), most, price });
    }
    market.work += 30 * bench.offers.len() as u64;
    let want = load.kwh / load.gain;
    bench.places.sort_unstable_by(|a, b| a.price.total_cmp(&b.price).then(a.at.cmp(&b.at)));
    bench.best.clear();
    let mut least = now - unserved * given - 1e-7;
    let mut room = 0.0;
    for count in 1..=bench.places.len() {
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
    if bench.best.is_empty() {
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
