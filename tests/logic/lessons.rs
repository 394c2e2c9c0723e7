//! More of what went wrong in the field elsewhere (`field` has the rest): sharing, starting, windows, restarts.
//! Each story passes, and its twin fails without the rule that it is for.
//!
//! What a stranger gets wrong: names say where it happened, not who is to blame; most of it was mended there.

use wattgate::logic::controller::{Controller, Rule};
use wattgate::logic::site::{ChargingMode, Circuit, DemandLimit, Reason};
use wattgate::units::{Amps, PerPhase, Phase, Watts};

use crate::bench::id;
use crate::field::{car, life, made, row, run, told, with_and_without};
use crate::worlds::Life;

/// evcc #20113 and #30340: the first charger took what there was, the others starved.
#[test]
fn evcc_20113_what_there_is_is_shared_alike() {
    with_and_without(Rule::FairShare, |off| {
        let wired = [&Phase::ALL[..]; 3];
        let mut life = made(life(row(&wired, 40.0), &vec![car(3, 32.0, 2.0); 3], 41), off);
        run(&mut life, 240);
        let drawn: Vec<f64> = life.plant.world.piles.iter().map(|pile| pile.current_a).collect();
        let least = drawn.iter().copied().fold(f64::MAX, f64::min);
        let most = drawn.iter().copied().fold(0.0, f64::max);
        least > 10.0 && most - least < 1.0
    });
}

/// evcc #13750: a circuit that was full stopped its cars, though all of them fitted with less.
#[test]
fn evcc_13750_cars_on_a_full_circuit_are_throttled_and_none_is_stopped() {
    with_and_without(Rule::ThrottleFirst, |off| {
        let mut site = row(&[&Phase::ALL, &Phase::ALL], 63.0);
        site.circuits = vec![Circuit {
            id: id("garage"),
            name: "garage".into(),
            parent: None,
            limit: Some(PerPhase::all(Amps(20.0))),
            power: None,
            base_load: Amps(0.0),
            members: vec![id("pile1"), id("pile2")],
        }];
        let mut life = made(life(site, &[car(3, 32.0, 2.0)], 42), off);
        run(&mut life, 120);
        life.plant.world.set_plugged("bay2", Some(true));
        life.plant.world.piles[1].car = Some(car(3, 32.0, 2.0));
        let mut least: f64 = 99.0;
        for _ in 0..90 {
            least = least.min(told(&mut life, 0).0);
        }
        least >= 6.0 && told(&mut life, 1).0 >= 6.0
    });
}

/// evcc PR #13207: with room for seven cars the eighth took turns with the others, on and off.
#[test]
fn evcc_13207_the_eighth_car_waits_and_stops_nobody() {
    with_and_without(Rule::WhoCharges, |off| {
        let wired = [&Phase::ALL[..]; 8];
        let mut site = row(&wired, 46.0);
        site.chargers.iter_mut().for_each(|charger| charger.failsafe = Amps(0.0));
        let mut life = made(life(site, &vec![car(3, 16.0, 2.0); 8], 43), off);
        run(&mut life, 120);
        let mut turns = 0;
        let mut before: Vec<bool> = vec![true; 8];
        for second in 0..1_800 {
            let decision = life.second();
            let on = |i: usize| {
                let pile = id(&format!("pile{}", i + 1));
                decision.permitted.charger(&pile).unwrap().0.amps() > Amps(0.0)
            };
            let now: Vec<bool> = (0..8).map(on).collect();
            turns += if second > 0 { (0..8).filter(|&i| now[i] != before[i]).count() } else { 0 };
            before = now;
        }
        turns == 0 && before.iter().filter(|on| **on).count() == 7
    });
}

/// evcc #3745: after a restart charging began with all the power there is.
#[test]
fn evcc_3745_a_restart_raises_nothing() {
    with_and_without(Rule::StartsLow, |off| {
        let mut life = made(life(row(&[&Phase::ALL], 35.0), &[car(3, 32.0, 2.0)], 44), off);
        run(&mut life, 120);
        assert!(told(&mut life, 0).0 > 30.0, "the story needs a car that had it all");
        let fresh = Controller::new(life.site.clone(), life.plant.now());
        life.controller = match off {
            Some(rule) => fresh.without(rule),
            None => fresh,
        };
        let most = (0..9).map(|_| told(&mut life, 0).0).fold(0.0, f64::max);
        // The failsafe, and one step.
        (6.0..=12.0).contains(&most)
    });
}

/// evcc #8018: after a power cut the wallbox charged with 11 kW, though nobody had asked for it.
#[test]
fn evcc_8018_a_charger_that_is_off_is_off_again_after_its_own_restart() {
    with_and_without(Rule::Modes, |off| {
        let mut site = row(&[&Phase::ALL], 35.0);
        site.chargers[0].mode = ChargingMode::Off;
        let mut life = made(life(site, &[car(3, 16.0, 2.0)], 45), off);
        run(&mut life, 60);
        let before = life.plant.world.piles[0].energy_wh;
        life.plant.world.piles[0].reboot();
        run(&mut life, 300);
        let after = life.plant.world.piles[0].energy_wh;
        after - before < 20.0 && told(&mut life, 0) == (0.0, Reason::ModeOff)
    });
}

/// sem-community #864 and SmartEVSE #35: the quarter hour's mean was passed, and it is what is paid for.
#[test]
fn sem_864_the_mean_of_a_quarter_of_an_hour_holds() {
    with_and_without(Rule::Demand, |off| {
        let mut site = row(&[&Phase::ALL, &Phase::ALL], 63.0);
        site.limits.demand = Some(DemandLimit { power: Watts(15_000.0), minutes: 15 });
        let mut life: Life = made(life(site, &vec![car(3, 32.0, 2.0); 2], 46), off);
        let (mut window, mut from, mut worst) = (None, 0.0, 0.0f64);
        for _ in 0..3_600 {
            life.second();
            let now = life.plant.now().utc.timestamp().div_euclid(900);
            if window != Some(now) {
                if window.is_some() {
                    worst = worst.max((life.plant.world.import_wh - from) * 4.0);
                }
                (window, from) = (Some(now), life.plant.world.import_wh);
            }
        }
        worst > 10_000.0 && worst <= 15_050.0
    });
}
