//! The modes of chargers, by the names that people know, on sunny days and cloudy ones, and where nothing may
//! be exported. Each story has its twin without the rule that it is for.
//!
//! What a stranger gets wrong: a car on sun only may import for as long as a cloud lasts that it waits for. What
//! is bounded is how long, and how often it starts.

use std::time::Duration;

use wattgate::app::simulate::{What, Who};
use wattgate::logic::controller::Rule;
use wattgate::logic::observation::Observation;
use wattgate::logic::site::{ChargerSetpoint, ChargingMode, Inverter, Reason, Site, Switching};
use wattgate::units::{Amps, PerPhase, Phase, WattHours, Watts};

use crate::bench::id;
use crate::export::with_battery;
use crate::field::{car, life, row, run, told};
use crate::worlds::Life;

/// One charger of this mode on three phases, and an inverter that reports what it gives.
fn sunny(mode: ChargingMode) -> Site {
    let mut site = row(&[&Phase::ALL], 63.0);
    site.chargers[0].mode = mode;
    site.pvs = vec![id("hybrid")];
    site
}

/// The same where nothing may be exported and the inverter is limited for it.
fn unseen(mode: ChargingMode) -> Site {
    let mut site = sunny(mode);
    site.inverters = vec![Inverter { id: id("hybrid"), rated: Watts(20_000.0) }];
    site.limits.export = Some(Watts(0.0));
    site
}

fn without(mut life: Life, off: Option<Rule>) -> Life {
    if let Some(rule) = off {
        life.controller = life.controller.without(rule);
    }
    life
}

/// What a stretch of time brought.
#[derive(Debug, Default)]
struct Lived {
    charged_wh: f64,
    imported_wh: f64,
    /// What was imported while the car drew.
    dirty_wh: f64,
    starts: u32,
    pauses: u32,
    longest_import_s: u32,
    least_a: f64,
}

/// Lives so many seconds under a sky, W by second.
fn under(life: &mut Life, seconds: u32, sky: impl Fn(u32) -> f64) -> Lived {
    let mut lived = Lived { least_a: f64::MAX, ..Lived::default() };
    let (charged, imported) = (life.plant.world.piles[0].energy_wh, life.plant.world.import_wh);
    let (mut on, mut importing) = (false, 0);
    for second in 0..seconds {
        life.plant.world.set_pv(Some(sky(second)));
        let before = life.plant.world.import_wh;
        let decision = life.second();
        let told = decision.permitted.charger(&id("pile1")).unwrap().0;
        let now = told != ChargerSetpoint::Pause;
        lived.starts += u32::from(now && !on);
        lived.pauses += u32::from(on && !now);
        on = now;
        lived.least_a = lived.least_a.min(told.amps().get());
        let draws = life.plant.world.piles[0].current_a > 1.0;
        let import: f64 = life.plant.world.grid_phases_w().iter().sum();
        if draws {
            lived.dirty_wh += life.plant.world.import_wh - before;
        }
        importing = if draws && import > 500.0 { importing + 1 } else { 0 };
        lived.longest_import_s = lived.longest_import_s.max(importing);
    }
    lived.charged_wh = life.plant.world.piles[0].energy_wh - charged;
    lived.imported_wh = life.plant.world.import_wh - imported;
    lived
}

fn day(site: Site, seed: u64) -> Life {
    let mut life = life(site, &[car(3, 16.0, 2.0)], seed);
    life.plant.world.set_building(Some(500.0));
    life
}

fn hours(hours: f64) -> u32 {
    (hours * 3600.0) as u32
}

/// Ten hours of a clear sky, 9 kW at noon.
fn clear(second: u32) -> f64 {
    9_000.0 * (std::f64::consts::PI * f64::from(second) / 36_000.0).sin()
}

/// Clouds that take all but a tenth for two minutes of four.
fn broken(second: u32) -> f64 {
    clear(second) * if (second / 120).is_multiple_of(2) { 1.0 } else { 0.1 }
}

#[test]
fn off_never_charges_and_says_so_and_a_word_is_enough_to_change_it() {
    let story = |off: Option<Rule>| {
        let mut life = without(day(sunny(ChargingMode::Off), 1), off);
        let lived = under(&mut life, 1_800, clear);
        lived.starts == 0 && told(&mut life, 0) == (0.0, Reason::ModeOff)
    };
    assert!(story(None), "off is off");
    assert!(!story(Some(Rule::Modes)), "the story holds without modes");
    let mut life = day(sunny(ChargingMode::Departure), 1);
    run(&mut life, 200);
    assert!(told(&mut life, 0).0 > 10.0);
    let (charger, at) = (id("pile1"), life.plant.now());
    life.controller.observe(Observation::ModeChosen { charger, mode: ChargingMode::Off, at });
    assert_eq!(told(&mut life, 0), (0.0, Reason::ModeOff), "at once");
    // It is kept over a restart, and read back.
    let latched = life.controller.latched();
    let mut again = wattgate::logic::controller::Controller::new(life.site.clone(), at);
    again.remember(&latched, at);
    life.controller = again;
    run(&mut life, 200);
    let decision = life.second();
    assert_eq!(told(&mut life, 0), (0.0, Reason::ModeOff), "after a restart");
    let overview = life.controller.overview(&decision);
    let device = overview.devices.iter().find(|d| d.id == id("pile1")).unwrap();
    assert_eq!(device.values["mode"], "off");
}

#[test]
fn fast_does_not_wait_for_what_the_plan_waits_for() {
    let lived = |mode: ChargingMode| {
        let mut site = sunny(mode);
        // It is 20:26: energy is dear for half an hour.
        site.tariff = crate::day::four_piles(&simulators::scenario::Scenario::sunny_day()).tariff;
        site.tariff.as_mut().unwrap().zone = chrono_tz::Tz::UTC;
        let mut life = day(site, 2);
        // 20 kWh until the morning: the cheap hours of the night are enough.
        let leaves = life.plant.now().utc + chrono::Duration::hours(20);
        let target = wattgate::logic::site::Target { need: WattHours(20e3), leaves };
        let (charger, at) = (id("pile1"), life.plant.now());
        life.controller.observe(Observation::Asked { charger, target, at });
        under(&mut life, 1_800, |_| 0.0).charged_wh
    };
    let (fast, planned) = (lived(ChargingMode::Fast), lived(ChargingMode::Departure));
    assert!(fast > 4_500.0, "{fast} Wh");
    assert!(planned < fast * 0.5, "the story needs a plan that waits: {planned} Wh");
}

#[test]
fn min_pv_always_has_the_minimum_and_more_with_the_sun() {
    let story = |off: Option<Rule>| {
        let mut life = without(day(sunny(ChargingMode::MinPv), 3), off);
        run(&mut life, 60);
        let night = under(&mut life, 1_800, |_| 0.0);
        let noon = under(&mut life, 3_600, |_| 9_000.0);
        let clouds = under(&mut life, 3_600, |second| broken(second + 14_000));
        let least = [&night, &noon, &clouds].iter().all(|lived| lived.least_a >= 6.0);
        let most = night.charged_wh < 2_200.0 && noon.charged_wh > 7_400.0;
        least && most && noon.dirty_wh < 100.0
    };
    assert!(story(None));
    assert!(!story(Some(Rule::Modes)), "the story holds without modes");
}

#[test]
fn pv_only_charges_with_the_sun_of_a_clear_day_and_with_nothing_else() {
    for battery in [false, true] {
        let site = sunny(ChargingMode::PvOnly);
        let mut life = day(if battery { with_battery(site) } else { site }, 4);
        let lived = under(&mut life, hours(10.0), clear);
        println!("battery {battery}: {lived:?}");
        // What the sky gave beyond the building and above 6 A on three phases is 35 kWh.
        assert!(lived.charged_wh > 30_000.0, "{lived:?}");
        assert!(lived.dirty_wh < lived.charged_wh * 0.01, "{lived:?}");
        assert!(lived.starts <= 2 && lived.longest_import_s <= 240, "{lived:?}");
    }
    let mut life = without(day(sunny(ChargingMode::PvOnly), 4), Some(Rule::Modes));
    let lived = under(&mut life, hours(2.0), |_| 0.0);
    assert!(lived.dirty_wh > 10_000.0, "without modes it charges from the grid: {lived:?}");
    let mut life = day(sunny(ChargingMode::PvOnly), 4);
    let night = under(&mut life, hours(2.0), |_| 0.0);
    assert_eq!((night.starts, told(&mut life, 0)), (0, (0.0, Reason::SunWaits)), "{night:?}");
}

#[test]
fn clouds_do_not_make_a_car_on_sun_start_and_stop() {
    let lived = |off: Option<Rule>| {
        let mut life = without(day(sunny(ChargingMode::PvOnly), 5), off);
        under(&mut life, hours(10.0), broken)
    };
    let (kept, without) = (lived(None), lived(Some(Rule::SunPatience)));
    println!("{kept:?} {without:?}");
    assert!(kept.pauses <= 4 && kept.longest_import_s <= 240, "{kept:?}");
    assert!(without.pauses > 20, "without patience: {without:?}");
}

/// A car with minimum and sun falls silent two minutes into a cloud: what it draws is at rest no more, and the shortage of
/// the car on sun alone goes on.
#[test]
fn a_car_that_falls_silent_does_not_end_the_shortage_of_another() {
    let mut site = row(&[&Phase::ALL, &Phase::ALL], 63.0);
    site.pvs = vec![id("hybrid")];
    let modes = [ChargingMode::PvOnly, ChargingMode::MinPv];
    site.chargers.iter_mut().zip(modes).for_each(|(charger, mode)| charger.mode = mode);
    let mut life = life(site, &vec![car(3, 16.0, 2.0); 2], 13);
    life.plant.world.set_building(Some(500.0));
    let bright = under(&mut life, 900, |_| 12_000.0);
    assert!(bright.starts == 1 && told(&mut life, 0).0 >= 6.0, "{bright:?}");
    let cloud = under(&mut life, 120, |_| 5_500.0);
    assert!(cloud.pauses == 0 && cloud.longest_import_s > 60, "{cloud:?}");
    let now = life.plant.now();
    life.plant.troubles.begin((Who::Charger(1), What::Silent), now, 60.0);
    let silent = under(&mut life, 180, |_| 5_500.0);
    assert!(silent.pauses == 1 && silent.longest_import_s <= 120, "{silent:?}");
}

/// A charger in full sun that is not heard for half a minute is the same car in the same sun afterwards.
#[test]
fn a_silence_in_full_sun_is_no_pause() {
    for battery in [false, true] {
        let site = sunny(ChargingMode::PvOnly);
        let mut life = day(if battery { with_battery(site) } else { site }, 14);
        let noon = under(&mut life, 900, |_| 9_000.0);
        assert!(noon.starts == 1 && told(&mut life, 0).0 >= 6.0, "{noon:?}");
        let now = life.plant.now();
        life.plant.troubles.begin((Who::Charger(0), What::Silent), now, 30.0);
        let silent = under(&mut life, 300, |_| 9_000.0);
        assert!(silent.least_a >= 6.0 && told(&mut life, 0).0 > 10.0, "{silent:?}");
        // Another car begins anew.
        life.plant.world.set_plugged("bay1", Some(false));
        let gone = under(&mut life, 60, |_| 9_000.0);
        assert_eq!((gone.least_a, told(&mut life, 0).0), (0.0, 0.0), "{gone:?}");
        life.plant.world.set_plugged("bay1", Some(true));
        life.plant.world.piles[0].car = Some(car(3, 16.0, 2.0));
        let next = under(&mut life, 55, |_| 9_000.0);
        assert_eq!((next.starts, told(&mut life, 0)), (0, (0.0, Reason::SunWaits)), "{next:?}");
    }
}

#[test]
fn where_nothing_may_be_exported_the_sun_is_found_by_taking_it() {
    let noon = |off: Option<Rule>, sun: f64| {
        let mut life = without(day(unseen(ChargingMode::PvOnly), 6), off);
        under(&mut life, hours(3.0), |_| sun)
    };
    let found = noon(None, 9_000.0);
    println!("{found:?}");
    assert!(found.charged_wh > 20_000.0 && found.starts == 1, "{found:?}");
    assert!(found.dirty_wh < found.charged_wh * 0.03, "{found:?}");
    let without = noon(Some(Rule::SunTried), 9_000.0);
    assert_eq!(without.starts, 0, "without trying nothing shows: {without:?}");
    // There is a little more than the building takes, and not enough for a car.
    let dim = noon(None, 1_500.0);
    println!("{dim:?}");
    assert!((1..=6).contains(&dim.starts) && dim.longest_import_s <= 60, "{dim:?}");
    // A cloudy day with nothing exported.
    let mut life = day(unseen(ChargingMode::PvOnly), 7);
    let clouds = under(&mut life, hours(10.0), broken);
    println!("{clouds:?}");
    assert!(clouds.pauses <= 20 && clouds.longest_import_s <= 240, "{clouds:?}");
    // Half of the trials meet a cloud.
    assert!(clouds.charged_wh > 5_000.0, "{clouds:?}");
}

#[test]
fn little_sun_charges_on_one_phase_where_phases_can_be_switched() {
    let story = |off: Option<Rule>| {
        let mut site = sunny(ChargingMode::PvOnly);
        let settle = Duration::from_secs(30);
        let (most, lockout) = (Switching::MOST, Switching::LOCKOUT);
        site.chargers[0].switching = Some(Switching { most, lockout, settle });
        let mut life = without(day(site, 8), off);
        let little = under(&mut life, 3_600, |_| 3_500.0);
        let one = life.plant.world.piles[0].connected == 1;
        // Then the sky clears: three phases take it all.
        let more = under(&mut life, 3_600, |_| 9_000.0);
        println!("{little:?} {more:?}");
        let three = life.plant.world.piles[0].connected == 3;
        let clean = little.dirty_wh < 60.0 && more.dirty_wh < 100.0;
        one && three && clean && little.charged_wh > 2_000.0 && more.charged_wh > 5_000.0
    };
    assert!(story(None));
    assert!(!story(Some(Rule::OnePhase)), "the story holds without one phase");
}

#[test]
fn cars_on_sun_share_it_by_right_and_the_limit_stands_above_all_modes() {
    let mut site = row(&[&Phase::ALL, &Phase::ALL, &Phase::ALL], 25.0);
    site.pvs = vec![id("hybrid")];
    let modes = [ChargingMode::PvOnly, ChargingMode::MinPv, ChargingMode::Fast];
    site.chargers.iter_mut().zip(modes).for_each(|(charger, mode)| charger.mode = mode);
    site.limits.limit = PerPhase::all(Amps(25.0));
    let mut life = life(site, &vec![car(3, 32.0, 2.0); 3], 9);
    life.plant.world.set_building(Some(500.0));
    life.plant.world.set_pv(Some(12_000.0));
    run(&mut life, 600);
    let fast = told(&mut life, 2).0;
    assert!(fast > 14.0, "fast has its share: {fast}");
    assert!(told(&mut life, 1).0 >= 6.0, "and the minimum stays");
    assert!(life.watch.longest_over_s() <= 12.5);
    life.plant.world.set_plugged("bay3", Some(false));
    run(&mut life, 900);
    let (sun_only, both) = (told(&mut life, 0).0, told(&mut life, 1).0);
    assert!(sun_only >= 6.0 && both >= 6.0 && sun_only + both < 17.0, "{sun_only} {both}");
    let import: f64 = life.plant.world.grid_phases_w().iter().sum();
    assert!(import < 100.0, "{import} W imported");
}

#[test]
fn a_battery_that_comes_first_is_filled_before_cars_on_sun_have_any() {
    let story = |before_cars: f64| {
        let mut site = with_battery(sunny(ChargingMode::PvOnly));
        site.batteries[0].strategy.before_cars =
            wattgate::units::Soc::from_ratio(before_cars).unwrap();
        let mut life = day(site, 10);
        let lived = under(&mut life, 1_800, |_| 5_200.0);
        (lived.charged_wh, life.plant.world.hybrid.soc())
    };
    let (cars_first, battery_first) = (story(0.0), story(0.9));
    assert!(cars_first.0 > 1_500.0, "{cars_first:?}");
    assert!(battery_first.0 < 100.0 && battery_first.1 > cars_first.1 + 0.1, "{battery_first:?}");
}

#[test]
fn the_plan_has_no_grid_energy_for_sun_only_nothing_for_off_and_all_at_once_for_fast() {
    // By slot: what the lane has, W, and what the sun leaves over by the forecast.
    let planned = |mode: ChargingMode| -> Option<Vec<(f64, f64)>> {
        let mut site = sunny(mode);
        site.tariff = crate::day::four_piles(&simulators::scenario::Scenario::sunny_day()).tariff;
        let mut life = day(site, 11);
        life.plant.world.set_pv(Some(9_000.0));
        let leaves = life.plant.now().utc + chrono::Duration::hours(10);
        let target = wattgate::logic::site::Target { need: WattHours(40e3), leaves };
        let (charger, at) = (id("pile1"), life.plant.now());
        life.controller.observe(Observation::Asked { charger, target, at });
        run(&mut life, 300);
        let decision = life.second();
        let plan = life.controller.overview(&decision).plan.unwrap();
        let lane = plan.lanes.iter().find(|lane| lane.id == id("pile1"))?;
        let spare = plan.slots.iter().map(|slot| slot.pv_w - slot.other_w);
        Some(lane.power_w.iter().copied().zip(spare).collect())
    };
    let bought = |mode: ChargingMode| -> f64 {
        let slots = planned(mode).unwrap();
        slots.iter().map(|(watts, spare)| (watts - spare.max(0.0)).max(0.0)).sum()
    };
    assert!(bought(ChargingMode::PvOnly) < 50.0);
    assert!(bought(ChargingMode::Departure) > 10_000.0, "the story needs too little sun");
    assert_eq!(planned(ChargingMode::Off), None);
    let fast = planned(ChargingMode::Fast).unwrap();
    let served: Vec<f64> = fast.iter().map(|(watts, _)| *watts).collect();
    let ends = served.iter().position(|watts| *watts < 1.0).unwrap();
    assert!(ends > 4 && served[ends..].iter().all(|watts| *watts < 1.0), "{served:?}");
}
