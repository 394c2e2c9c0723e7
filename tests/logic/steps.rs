//! Load steps: the building jumps at random moments to anything that its site was armed for, a whole day
//! long, with cars that are never full. What the breaker goes through is judged by the trip curve of
//! `app::simulate`.
//!
//! What a stranger gets wrong: the site file says how large a base load may be, and a site that would not hold
//! it beside every charger's failsafe is not armed. A step beyond that is not a load step but a wrong site file.

#![allow(clippy::print_stdout)] // figures

use wattgate::logic::site::Site;
use wattgate::units::{Amps, Phase};

use crate::field::{car, life, row, run};
use crate::seeds::{on_all_cores, seeds};
use crate::worlds::Life;

/// A day of steps: how many, the largest one up (A), what the breaker went through, and for how long after a
/// step a phase was above the limit (s).
struct Day {
    steps: u32,
    largest: f64,
    stress: f64,
    over_s: u32,
}

/// Piles with cars that never have enough, half of them slow. The base load may be all that the failsafes leave
/// of the breaker.
fn depot(count: usize, breaker: f64, failsafe: f64) -> Site {
    let wired: Vec<&[Phase]> = (0..count).map(|_| &Phase::ALL[..]).collect();
    let mut site = row(&wired, breaker);
    site.chargers.iter_mut().for_each(|charger| charger.failsafe = Amps(failsafe));
    site.limits.max_base_load = Amps(breaker - failsafe * count as f64);
    site
}

fn day(site: Site, seed: u64) -> Day {
    let base = site.limits.max_base_load.get();
    let cars: Vec<_> = (0..site.chargers.len()).map(|i| car(3, 32.0, [2.0, 6.0][i % 2])).collect();
    let mut life = life(site, &cars, seed);
    for pile in &mut life.plant.world.piles {
        pile.car.as_mut().unwrap().capacity_wh = 5e6;
    }
    run(&mut life, 60);
    assert!(life.second().writing, "seed {seed}: the site was not armed");
    let limit = site_limit(&life);
    let (mut steps, mut next, mut before, mut largest) = (0, 61, 0.0f64, 0.0f64);
    let (mut over, mut over_s) = (0, 0);
    for second in 61..86_400 {
        if second == next {
            over = 0;
            let amps = base * life.rng.f64();
            // Its first phase has 45 % of a building.
            life.plant.world.set_building(Some(amps * 230.0 / 0.45));
            largest = largest.max(amps - before);
            (before, steps) = (amps, steps + 1);
            next += life.rng.u32(5..600);
        }
        life.second();
        let drawn: f64 = life.plant.world.piles.iter().map(|pile| pile.current_a).sum();
        // Nobody can do anything about the base load itself.
        over = if most_amps(&life) > limit && drawn > 0.1 { over + 1 } else { 0 };
        over_s = over_s.max(over);
    }
    Day { steps, largest, stress: life.watch.stress(), over_s }
}

fn site_limit(life: &Life) -> f64 {
    life.site.limits.limit.on(Phase::L1).get()
}

/// Current of the phase that carries most.
fn most_amps(life: &Life) -> f64 {
    let world = &life.plant.world;
    let amps =
        world.grid_phases_w().into_iter().zip(world.volts).map(|(watts, volts)| watts / volts);
    amps.fold(0.0, f64::max)
}

/// A day of a site of its own; prints what it went through.
fn a_day_of_steps(seed: u64) -> Day {
    let mut rng = fastrand::Rng::with_seed(seed);
    let failsafe = [0.0, 6.0][rng.usize(0..2)];
    let (piles, breaker) = (rng.usize(5..25), [160.0, 320.0, 400.0][rng.usize(0..3)]);
    let site = depot(piles, breaker, failsafe);
    let base = site.limits.max_base_load;
    let day = day(site, seed);
    println!(
        "seed {seed}: {piles} piles, base up to {base} of {breaker} A, {} steps, the largest {:.0} A: breaker stress {:.3}, above the limit for {} s at most",
        day.steps, day.largest, day.stress, day.over_s
    );
    assert!(
        day.stress > 0.0 && day.largest > base.get() * 0.5,
        "seed {seed}: the story needs overloads"
    );
    // A stress of 1 is a trip.
    assert!(day.stress < 0.2, "seed {seed}: breaker stress {}", day.stress);
    assert!(day.over_s <= 12, "seed {seed}: above the limit for {} s", day.over_s);
    day
}

/// Days of many sites; prints what the worst of them went through.
fn days(seeds: std::ops::Range<u64>) {
    let days = on_all_cores(seeds, a_day_of_steps);
    let stress = days.iter().map(|day| day.stress).fold(0.0, f64::max);
    let over_s = days.iter().map(|day| day.over_s).max().unwrap();
    println!(
        "{} days of random load steps: no trip, breaker stress {stress:.3} at most, above the limit for {over_s} s at most",
        days.len()
    );
}

#[test]
fn en6_a_day_of_random_load_steps_trips_no_breaker() {
    days(20..23);
}

#[test]
#[ignore = "long: a hundred days of load steps"]
fn en6_a_hundred_days_of_random_load_steps_trip_no_breaker() {
    days(seeds(1_000, 100));
}
