//! The limit of export: what neither cars nor batteries take is curtailed at the inverter.
//!
//! What a stranger gets wrong: the simulated inverter forgets its limit half a minute after the last write,
//! as real ones do; a gateway that is gone limits nothing.

use wattgate::app::simulate::{What, Who};
use wattgate::logic::controller::Rule;
use wattgate::logic::site::{Battery, Inverter, Reason, Site};
use wattgate::units::{WattHours, Watts};

use crate::bench::id;
use crate::field::{car, life, row, run};
use crate::worlds::Life;

/// An inverter of 20 kW whose export is limited, with or without a battery of 5 kW.
fn limited(most: f64, battery: bool) -> Site {
    let mut site = row(&[&wattgate::units::Phase::ALL], 63.0);
    site.pvs = vec![id("hybrid")];
    site.inverters = vec![Inverter { id: id("hybrid"), rated: Watts(20_000.0) }];
    site.limits.export = Some(Watts(most));
    if battery { with_battery(site) } else { site }
}

/// A battery of 5 kW and 10 kWh beside it.
pub fn with_battery(mut site: Site) -> Site {
    site.batteries = vec![Battery {
        max_charge: Watts(5_000.0),
        max_discharge: Watts(5_000.0),
        capacity: Some(WattHours(10e3)),
        ..crate::bench::site().batteries[0].clone()
    }];
    site
}

fn exported(life: &Life) -> f64 {
    -life.plant.world.grid_phases_w().iter().sum::<f64>()
}

fn limit(life: &mut Life) -> (f64, Reason) {
    let told = life.second().permitted.inverter(&id("hybrid")).unwrap().clone();
    (told.0.get(), told.1)
}

/// Sun of 18 kW over a building of 1 kW.
fn noon(site: Site, cars: usize, seed: u64) -> Life {
    let mut life = life(site, &vec![car(3, 32.0, 2.0); cars], seed);
    life.plant.world.set_building(Some(1_000.0));
    life.plant.world.set_pv(Some(18_000.0));
    life
}

#[test]
fn nothing_more_is_exported_than_may_be_and_the_reason_is_told() {
    for (most, battery) in [(0.0, false), (0.0, true), (3_000.0, false), (3_000.0, true)] {
        let story = |off: Option<Rule>| {
            let mut life = noon(limited(most, battery), 0, 1);
            if let Some(rule) = off {
                life.controller = life.controller.without(rule);
            }
            run(&mut life, 1_800);
            // Loads that come and go are followed, and the sun is not thrown away where it is of use.
            for building in [6_000.0, 2_000.0, 9_000.0, 500.0] {
                life.plant.world.set_building(Some(building));
                run(&mut life, 60);
                let used = life.plant.world.hybrid.ac_w();
                let wanted = building + most;
                assert!(off.is_some() || (used - wanted).abs() < 400.0, "{used} W of {wanted}");
            }
            life.watch.longest_export_s()
        };
        let longest = story(None);
        assert!(longest <= 6.0, "{most} W, battery {battery}: too much for {longest} s");
        let without = story(Some(Rule::ExportLimit));
        assert!(without > 60.0, "{most} W: {without} s without the rule: it shows nothing");
        let mut life = noon(limited(most, battery), 0, 2);
        life.plant.world.hybrid.energy_wh = life.plant.world.hybrid.capacity_wh;
        run(&mut life, 60);
        let (told, why) = limit(&mut life);
        assert!(why == Reason::ExportLimit && (told - most - 1_000.0).abs() < 400.0, "{told}");
    }
}

#[test]
fn a_battery_and_a_car_come_before_curtailing() {
    let mut life = noon(limited(0.0, true), 0, 3);
    life.plant.world.hybrid.energy_wh = 1_000.0;
    life.plant.world.set_pv(Some(4_000.0));
    run(&mut life, 60);
    assert!(life.plant.world.hybrid.battery_w < -2_700.0, "the battery takes it");
    assert_eq!(limit(&mut life), (20_000.0, Reason::DeviceMaximum));
    assert!(life.plant.world.hybrid.pv_w > 3_990.0, "and nothing is curtailed");
    // A car takes what would be curtailed.
    let mut life = noon(limited(0.0, false), 1, 4);
    run(&mut life, 200);
    assert!(life.plant.world.hybrid.pv_w > 17_900.0, "{}", life.plant.world.hybrid.pv_w);
}

/// A battery that takes no more than 500 W, whatever it is told: warm, or balancing its cells.
#[test]
fn what_a_battery_does_not_take_is_curtailed_and_it_is_asked_again_once_a_minute() {
    let mut life = noon(limited(0.0, true), 0, 7);
    life.plant.world.hybrid.energy_wh = 5_000.0;
    run(&mut life, 5);
    let (mut over, mut free) = (0, 0);
    for _ in 0..600 {
        life.second();
        // After the gateway has written: the battery's own management takes it back.
        let largest = life.plant.world.hybrid.max_w;
        life.plant.world.hybrid.control =
            simulators::physics::StorageControl::pinned(-500.0, largest, 30);
        over += u32::from(exported(&life) > 200.0);
        free += u32::from(
            !life.plant.world.hybrid.limit.enabled || life.plant.world.hybrid.limit.share == 10_000,
        );
    }
    assert!(life.watch.longest_export_s() <= 6.0, "{} s", life.watch.longest_export_s());
    assert!(
        (9..=70).contains(&free) && over <= 60,
        "free for {free} s, too much for {over} s of 600"
    );
}

#[test]
fn without_a_meter_no_more_is_given_than_may_be_exported_and_nothing_is_raised_on_old_values() {
    let mut life = noon(limited(3_000.0, false), 0, 5);
    run(&mut life, 60);
    let before = limit(&mut life).0;
    let now = life.plant.now();
    life.plant.troubles.begin((Who::Meter, What::Silent), now, 300.0);
    life.plant.world.set_building(Some(9_000.0));
    for _ in 0..60 {
        assert!(limit(&mut life).0 <= before);
    }
    assert_eq!(limit(&mut life), (3_000.0, Reason::MeterLost));
    life.plant.world.set_building(Some(0.0));
    run(&mut life, 10);
    assert!(exported(&life) <= 3_050.0, "{}", exported(&life));
}

#[test]
fn an_inverter_that_comes_back_is_limited_again() {
    let mut life = noon(limited(0.0, false), 0, 6);
    run(&mut life, 60);
    let now = life.plant.now();
    life.plant.troubles.begin((Who::Battery, What::Silent), now, 60.0);
    run(&mut life, 55);
    assert!(exported(&life) > 15_000.0, "its own timer has ended the limit");
    run(&mut life, 12);
    assert!(exported(&life) < 200.0, "{}", exported(&life));
}

#[test]
fn without_a_limit_of_export_an_inverter_is_told_nothing() {
    let mut site = limited(0.0, false);
    site.limits.export = None;
    let mut life = noon(site.clone(), 0, 8);
    run(&mut life, 60);
    assert!(life.second().permitted.inverter(&id("hybrid")).is_none());
    let fallback = wattgate::logic::safety::interlock::fallback(&site);
    assert!(fallback.inverter(&id("hybrid")).is_none());
    assert!(exported(&life) > 15_000.0);
}

/// A danger is answered before all is proven; what is written then must not free an inverter.
#[test]
fn before_arming_an_inverter_is_told_no_more_than_may_be_exported() {
    let mut life = noon(limited(3_000.0, false), 0, 9);
    let told: Vec<_> = (0..40).map(|_| limit(&mut life)).collect();
    let starting: Vec<_> = told.iter().filter(|(_, why)| *why == Reason::Starting).collect();
    assert!(!starting.is_empty(), "the story needs seconds before arming: {told:?}");
    assert!(starting.iter().all(|(watts, _)| *watts <= 3_000.0), "{starting:?}");
    assert!(told.iter().any(|(watts, _)| *watts > 3_500.0), "armed, the site's own load is added");
}
