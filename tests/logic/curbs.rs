//! Limits of power that come from outside the wiring: what a grid operator says, by words or by a contact, and the
//! mean import of each window.

use std::time::Duration;

use simulators::scenario::Scenario;
use wattgate::logic::observation::Observation;
use wattgate::logic::site::{
    Battery, Circuit, Compute, DemandLimit, DimContact, InputsReading, Line, Reading, Reason,
};
use wattgate::units::{Amps, Phase, Watts};

use crate::bench::id;
use crate::field::{car, life, row, run, told};
use crate::worlds::Life;

#[test]
fn a_grid_operator_dims_what_is_controlled_down_to_what_the_rule_leaves_and_for_so_long() {
    let mut life =
        life(row(&[&Phase::ALL, &Phase::ALL, &Phase::ALL], 120.0), &vec![car(3, 32.0, 2.0); 3], 9);
    run(&mut life, 200);
    let drawn = |life: &Life| -> f64 {
        life.plant.world.piles.iter().map(|pile| pile.current_a * 690.0).sum()
    };
    assert!(drawn(&life) > 60_000.0);
    let now = life.plant.now();
    let until = now.after(Duration::from_secs(600));
    let dim = |limit, at| Observation::Dimmed { limit, until, at };
    life.controller.observe(dim(Watts(20_000.0), now));
    let (amps, reason) = told(&mut life, 0);
    assert!(amps < 10.0 && reason == Reason::Dimmed, "{amps} {reason:?}");
    run(&mut life, 20);
    assert!(drawn(&life) <= 20_500.0, "{}", drawn(&life));
    // Three loads keep 4.2 kW times 1 + 2 x 0.75, whatever is asked: enough for two at their minimum.
    life.controller.observe(dim(Watts(0.0), now));
    run(&mut life, 20);
    assert!((8_000.0..=10_600.0).contains(&drawn(&life)), "{}", drawn(&life));
    // Its time ends it, also when the wall clock is set meanwhile.
    life.plant.shift_clock(chrono::Duration::hours(-5));
    run(&mut life, 800);
    assert!(drawn(&life) > 60_000.0, "{}", drawn(&life));
}

#[test]
fn the_mean_import_of_every_window_stays_below_what_was_agreed() {
    for (seed, minutes) in [(1, 15), (2, 30), (3, 60)] {
        let mut site = row(&[&Phase::ALL, &Phase::ALL, &Phase::ALL], 120.0);
        site.limits.demand = Some(DemandLimit { power: Watts(30_000.0), minutes });
        let mut life = life(site, &vec![car(3, 32.0, 2.0); 3], seed);
        let window = u64::from(minutes) * 60;
        let (mut before, mut served) = (None, false);
        for second in 0..4 * window {
            if second % 200 == 0 {
                life.plant.world.set_building(Some(24_000.0 * life.rng.f64()));
            }
            let decision = life.second();
            served |= life.plant.world.piles[0].current_a > 6.0;
            let passed = decision.at.utc.timestamp() as u64;
            if passed.is_multiple_of(window) {
                let import = life.plant.world.import_wh;
                if let Some(before) = before.replace(import) {
                    let mean: f64 = (import - before) * 3600.0 / window as f64;
                    assert!(mean <= 30_150.0, "seed {seed}: {mean:.0} W over {minutes} min");
                }
            }
        }
        assert!(served, "seed {seed}: nobody charged");
    }
}

#[test]
fn the_lower_of_power_limit_and_window_bounds_and_is_named() {
    let window = |power| Some(DemandLimit { power: Watts(power), minutes: 15 });
    for (power, demand, wanted) in [
        (Some(Watts(12_000.0)), window(30_000.0), Reason::PowerLimit),
        (Some(Watts(30_000.0)), window(12_000.0), Reason::DemandLimit),
        (None, window(12_000.0), Reason::DemandLimit),
        (Some(Watts(12_000.0)), None, Reason::PowerLimit),
    ] {
        let mut site = row(&[&Phase::ALL], 120.0);
        (site.limits.power, site.limits.demand) = (power, demand);
        let mut life = life(site, &[car(3, 32.0, 2.0)], 5);
        run(&mut life, 60);
        let (amps, reason) = told(&mut life, 0);
        assert!((10.0..20.0).contains(&amps) && reason == wanted, "{amps} A: {reason:?}");
    }
    // Where a circuit's power binds, neither is named.
    let mut site = row(&[&Phase::ALL], 120.0);
    site.limits.demand = window(30_000.0);
    let members = vec![site.chargers[0].id.clone()];
    let (name, base_load, power) = ("hall".to_owned(), Amps(0.0), Some(Watts(12_000.0)));
    let hall =
        Circuit { id: id("hall"), name, parent: None, limit: None, power, base_load, members };
    site.circuits = vec![hall];
    let mut life = life(site, &[car(3, 32.0, 2.0)], 5);
    run(&mut life, 60);
    let (amps, reason) = told(&mut life, 0);
    let circuit = Reason::CircuitLimit { circuit: id("hall"), line: Line::Power };
    assert!((10.0..20.0).contains(&amps) && reason == circuit, "{amps} A: {reason:?}");
}

#[test]
fn nodes_and_batteries_count_as_loads_that_a_grid_operator_leaves_something() {
    // 4.2 kW times 1, 1 + 0.8 and 1 + 2 x 0.75, less what a node holds (design: BK6-22-300).
    for (node, battery, wanted) in [(false, false, 6.1), (true, false, 9.8), (true, true, 14.0)] {
        let mut site = row(&[&Phase::ALL], 120.0);
        if battery {
            site.batteries = vec![Battery {
                max_charge: Watts(0.0),
                ..crate::bench::site().batteries[0].clone()
            }];
            site.pvs = vec![id("hybrid")];
        }
        if node {
            let (phases, name) = (Phase::ALL.to_vec(), String::new());
            let (min, max, failsafe, step) = (Watts(800.0), Watts(800.0), Watts(800.0), Watts(1.0));
            site.computes =
                vec![Compute { id: id("node"), name, phases, min, max, failsafe, step }];
        }
        let node_w = node.then_some(800.0);
        let (bays, visits, pv_peak_w) = (1, Vec::new(), 0.0);
        let scenario = Scenario { bays, visits, pv_peak_w, node_w, ..Scenario::one_pile() };
        let mut life = Life::of(site, scenario, 3);
        life.watch.lenient = true;
        life.plant.world.set_building(Some(0.0));
        life.plant.world.set_pv(Some(0.0));
        life.plant.world.set_plugged("bay1", Some(true));
        life.plant.world.piles[0].car = Some(car(3, 32.0, 2.0));
        run(&mut life, 100);
        let now = life.plant.now();
        let until = now.after(Duration::from_secs(600));
        life.controller.observe(Observation::Dimmed { limit: Watts(0.0), until, at: now });
        run(&mut life, 5);
        let (amps, reason) = told(&mut life, 0);
        assert!((amps - wanted).abs() < 0.8 && reason == Reason::Dimmed, "{amps} A: {reason:?}");
    }
}

#[test]
fn the_grid_operators_contact_dims_while_it_says_so_and_outlasts_its_device_for_a_while() {
    let mut site = row(&[&Phase::ALL], 60.0);
    let (device, point) = (id("io"), "di4".to_owned());
    let limit = Watts(0.0);
    site.guard.dimming = Some(DimContact { device, point, active_low: false, limit });
    let mut life = life(site, &[car(3, 32.0, 2.0)], 13);
    let say = |life: &mut Life, closed: Option<f64>| {
        let values = closed.map(|value| ("di4".to_owned(), value)).into_iter().collect();
        let reading = Reading::Inputs(InputsReading { values });
        let at = life.plant.now();
        life.controller.observe(Observation::Answered { device: id("io"), at, reading });
    };
    say(&mut life, Some(0.0));
    run(&mut life, 120);
    assert!(told(&mut life, 0).0 > 30.0);
    say(&mut life, Some(1.0));
    let (amps, reason) = told(&mut life, 0);
    // One load keeps 4.2 kW.
    assert!(amps <= 6.1 && reason == Reason::Dimmed, "{amps} {reason:?}");
    // The module falls silent, or leaves the value out: the operator has not said that it is over.
    say(&mut life, None);
    run(&mut life, 800);
    assert!(told(&mut life, 0).0 <= 6.1);
    run(&mut life, 200);
    assert!(told(&mut life, 0).0 > 10.0, "a quarter of an hour later");
    say(&mut life, Some(1.0));
    assert!(told(&mut life, 0).0 <= 6.1);
    say(&mut life, Some(0.0));
    run(&mut life, 30);
    assert!(told(&mut life, 0).0 > 10.0, "it is over when the contact says so");
}
