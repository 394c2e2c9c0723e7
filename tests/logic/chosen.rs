//! What people choose in random worlds: modes of chargers, strategies of batteries.
//!
//! What a stranger gets wrong: it is drawn from copies of the world's numbers, so that everything else in a world
//! is what it was before anybody could choose.

use wattgate::logic::observation::Observation;
use wattgate::logic::site::{Aim, ChargingMode, Site, Strategy};
use wattgate::units::{Moment, Phase, Soc};

/// A copy that does not repeat what the world draws next.
fn own(rng: &fastrand::Rng) -> fastrand::Rng {
    let mut copy = rng.clone();
    fastrand::Rng::with_seed(copy.u64(..) ^ 0xc405_e11e)
}

fn mode(rng: &mut fastrand::Rng) -> ChargingMode {
    ChargingMode::ALL[rng.usize(0..ChargingMode::ALL.len())]
}

/// In every other world chargers have modes, and batteries strategies.
pub fn draw(rng: &fastrand::Rng, site: &mut Site) {
    let mut own = own(rng);
    if own.bool() {
        for charger in &mut site.chargers {
            charger.mode = mode(&mut own);
        }
    }
    let all_w = site.limits.limit.on(Phase::L1).get() * 690.0;
    for battery in &mut site.batteries {
        if own.bool() {
            continue;
        }
        let soc = |ratio: f64| Soc::from_ratio(ratio).unwrap();
        battery.strategy = Strategy {
            aim: match own.u8(0..3) {
                0 => Aim::Arbitrage,
                1 => Aim::SelfConsumption,
                _ => Aim::PeakShaving(wattgate::units::Watts(all_w * own.f64())),
            },
            reserve: soc(if own.bool() { 0.0 } else { own.f64() * 0.7 }),
            no_grid_charging: own.bool(),
            before_cars: soc(if own.bool() { 0.0 } else { own.f64() }),
        };
    }
}

/// Now and then somebody chooses another mode.
pub fn choice(rng: &fastrand::Rng, site: &Site, at: Moment) -> Option<Observation> {
    let mut own = own(rng);
    let charger = site.chargers[own.usize(0..site.chargers.len())].id.clone();
    let mode = mode(&mut own);
    (own.u8(0..8) == 0).then_some(Observation::ModeChosen { charger, mode, at })
}
