//! A day of the demo's site: four piles, one and three phases, a limit that does not reach for all at
//! once. Whoever can be full when leaving is.

use simulators::scenario::{PileSpec, Scenario, Visit};
use wattgate::logic::site::{Band, Charger, ChargerSetpoint, Reason, Site, Tariff};
use wattgate::units::{Amps, PerPhase, Phase, WattHours, Watts};

use crate::bench::{Bench, id, site};
use crate::hazard::site::node;

/// State of charge that counts as full.
const FULL: f64 = 0.98;

/// The demo's site, as its file has it.
pub fn four_piles(scenario: &Scenario) -> Site {
    let mut four = site();
    four.limits.limit = PerPhase::all(Amps(50.0));
    four.limits.breaker = Amps(63.0);
    let charger = |(i, spec): (usize, &PileSpec)| Charger {
        id: id(&format!("pile{}", i + 1)),
        phases: spec.rotation.map(|phase| Phase::ALL[phase - 1]).to_vec(),
        ..four.chargers[0].clone()
    };
    four.chargers = scenario.piles.iter().enumerate().map(charger).collect();
    four.zones[0].chargers = four.chargers.iter().map(|c| c.id.clone()).collect();
    four.batteries[0].capacity = Some(WattHours(20_000.0));
    four.computes = vec![node()];
    four.tariff = Some(Tariff {
        currency: "CNY".into(),
        zone: chrono_tz::Asia::Shanghai,
        import: 0.72,
        export: 0.35,
        bands: vec![
            Band { from: 22 * 60, to: 8 * 60, import: 0.31 },
            Band { from: 16 * 60, to: 21 * 60, import: 1.18 },
        ],
    });
    four
}

/// Whether a car could be full alone in four fifths of its stay.
fn feasible(visit: &Visit) -> bool {
    visit.hours_alone(FULL) <= 0.8 * (visit.leaves_s - visit.arrives_s) / 3600.0
}

#[test]
fn whoever_can_be_full_when_leaving_is() {
    for seed in 0..3 {
        let scenario = Scenario::sunny_day();
        let mut bench = Bench::of(four_piles(&scenario), scenario.clone(), seed);
        bench.drivers_tell = true;
        let mut short = Vec::new();
        for second in 1..=80_000_u32 {
            for visit in &scenario.visits {
                if (visit.leaves_s - f64::from(second)).abs() < 0.5 {
                    let pile = visit.bay.replace("bay", "pile");
                    let pile = bench.world.piles.iter().find(|p| p.id == pile).unwrap();
                    let soc = pile.car.as_ref().unwrap().soc();
                    let line = format!("{} {:.0}: {soc:.3}", visit.bay, visit.arrives_s);
                    println!("seed {seed}: {line}, feasible {}", feasible(visit));
                    if feasible(visit) && soc < FULL {
                        short.push(line);
                    }
                }
            }
            bench.second();
            if std::env::var("WATTGATE_TRACE").is_ok() && second % 300 == 0 {
                bench.trace();
            }
        }
        println!("seed {seed}: longest over the limit {} s", bench.longest_over_s());
        assert_eq!(short, Vec::<String>::new(), "seed {seed}");
    }
}

#[test]
fn compute_gives_way_before_a_charger_stops_and_works_when_there_is_room() {
    for seed in 0..4 {
        let scenario = Scenario::sunny_day();
        let mut bench = Bench::of(four_piles(&scenario), scenario, seed);
        let node = id("node");
        // The building takes nearly all that there is: the cap falls to the idle power.
        bench.run(900);
        bench.world.set_pv(Some(0.0));
        bench.world.set_building(Some(20_000.0));
        bench.run(120);
        let (mut throttled, mut stopped) = (0, 0);
        for _ in 0..600 {
            let decision = bench.second();
            let (cap, reason) = decision.permitted.compute(&node).unwrap();
            throttled += usize::from(*cap <= Watts(900.0));
            let paused = |(setpoint, why): &(ChargerSetpoint, Reason)| {
                *setpoint == ChargerSetpoint::Pause && matches!(why, Reason::BelowMinimum { .. })
            };
            let chargers = &decision.permitted.setpoints().chargers;
            let short = chargers.values().filter(|told| paused(told)).count();
            // What the node has is less than a charger needs to start.
            stopped += usize::from(short > 0 && *cap >= Watts(800.0 + 3.0 * 6.0 * 230.0));
            assert!(*cap < Watts(6000.0), "seed {seed}: {reason:?}");
        }
        assert!(throttled > 500, "seed {seed}: throttled for {throttled} s");
        assert_eq!(stopped, 0, "seed {seed}: a charger stopped for the node");
        // Nobody charges and the building is quiet: the node gets all it can take.
        for bay in ["bay1", "bay2", "bay3", "bay4"] {
            assert!(bench.world.set_plugged(bay, Some(false)));
        }
        bench.world.set_building(Some(3_000.0));
        bench.run(300);
        let cap = bench.second().permitted.compute(&node).unwrap().0;
        assert_eq!(cap, Watts(6000.0), "seed {seed}");
    }
}

#[test]
fn a_node_that_ignores_its_cap_costs_the_chargers_and_not_the_limit() {
    let scenario = Scenario::sunny_day();
    let mut bench = Bench::of(four_piles(&scenario), scenario, 5);
    bench.run(300);
    bench.world.node.as_mut().unwrap().ignores_setpoint = true;
    bench.world.set_pv(Some(0.0));
    bench.world.set_building(Some(18_000.0));
    // The checker ends the test when the limit is passed for too long.
    bench.run(1800);
    let drawn = bench.world.node.as_ref().unwrap().power_w;
    let cap = bench.second().permitted.compute(&id("node")).unwrap().0;
    assert!(drawn > cap.get() + 1000.0, "the story needs a deaf node: {drawn} W of {cap}");
}
