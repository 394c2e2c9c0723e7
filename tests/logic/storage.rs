//! What batteries are for and what they must not do, in control; and several of them at one meter.
//!
//! What a stranger gets wrong: the plant has one battery. Several stand here on a line of their own, each as late
//! as inverters are.

use std::time::Duration;

use wattgate::logic::controller::{Controller, Rule};
use wattgate::logic::observation::Observation;
use wattgate::logic::site::{
    Aim, Battery, BatteryReading, MeterReading, Reading, Reason, Site, Strategy, Target, Tariff,
};
use wattgate::units::{Amps, Moment, PerPhase, Phase, Soc, Volts, WattHours, Watts};

use crate::bench::id;
use crate::field::{car, life, row, run};
use crate::worlds::Life;

fn battery() -> Battery {
    Battery {
        max_charge: Watts(5_000.0),
        max_discharge: Watts(5_000.0),
        capacity: Some(WattHours(10e3)),
        ..crate::bench::site().batteries[0].clone()
    }
}

fn stored(strategy: Strategy) -> Site {
    let mut site = row(&[&Phase::ALL], 63.0);
    site.pvs = vec![id("hybrid")];
    site.batteries = vec![Battery { strategy, ..battery() }];
    site
}

fn without(mut life: Life, off: Option<Rule>) -> Life {
    if let Some(rule) = off {
        life.controller = life.controller.without(rule);
    }
    life
}

fn soc(ratio: f64) -> Soc {
    Soc::from_ratio(ratio).unwrap()
}

fn import(life: &Life) -> f64 {
    life.plant.world.grid_phases_w().iter().sum()
}

fn why(life: &mut Life) -> Reason {
    life.second().permitted.battery(&id("hybrid")).unwrap().1.clone()
}

#[test]
fn what_is_kept_for_an_outage_is_not_given_while_there_is_a_grid() {
    let story = |off: Option<Rule>| {
        let strategy = Strategy { reserve: soc(0.5), ..Strategy::default() };
        let mut life = without(life(stored(strategy), &[], 1), off);
        life.plant.world.set_building(Some(4_000.0));
        run(&mut life, 1_800);
        let kept = life.plant.world.hybrid.soc();
        kept >= 0.495 && why(&mut life) == Reason::Reserve
    };
    assert!(story(None));
    assert!(!story(Some(Rule::Strategy)), "the story holds without strategies");
}

#[test]
fn a_battery_for_the_sun_is_not_charged_by_the_grid() {
    let story = |off: Option<Rule>| {
        // Peaks are far above: it would be filled at once.
        let aim = Aim::PeakShaving(Watts(30_000.0));
        let strategy = Strategy { aim, no_grid_charging: true, ..Strategy::default() };
        let mut site = stored(strategy);
        if off == Some(Rule::Strategy) {
            site.batteries[0].strategy.no_grid_charging = false;
        }
        let mut life = life(site, &[], 2);
        life.plant.world.set_building(Some(3_000.0));
        run(&mut life, 900);
        let night = life.plant.world.hybrid.soc();
        life.plant.world.set_pv(Some(6_000.0));
        run(&mut life, 900);
        let noon = life.plant.world.hybrid.soc();
        night <= 0.551 && noon > night + 0.05 && import(&life).abs() < 300.0
    };
    assert!(story(None));
    assert!(!story(Some(Rule::Strategy)), "the story holds with a battery that the grid charges");
}

#[test]
fn peaks_are_shaved_and_the_battery_is_full_again_for_the_next_one() {
    let story = |off: Option<Rule>| {
        let aim = Aim::PeakShaving(Watts(8_000.0));
        let mut life = without(life(stored(Strategy { aim, ..Strategy::default() }), &[], 3), off);
        life.plant.world.set_building(Some(2_000.0));
        run(&mut life, 3_600);
        let filled = life.plant.world.hybrid.soc();
        life.plant.world.set_building(Some(12_000.0));
        run(&mut life, 20);
        let mut most = f64::MIN;
        for _ in 0..1_200 {
            life.second();
            most = most.max(import(&life));
        }
        filled > 0.95 && most <= 8_000.0
    };
    assert!(story(None));
    assert!(!story(Some(Rule::Strategy)), "the story holds without strategies");
}

/// Two cars that have all night at one price charge below the peak, each in its time; the battery is not for them.
#[test]
fn cars_that_have_time_keep_below_the_peak_on_the_wire() {
    let most_w = |aim: Aim| {
        let mut site = stored(Strategy { aim, ..Strategy::default() });
        site.chargers = row(&[&Phase::ALL, &Phase::ALL], 63.0).chargers;
        site.tariff = Some(Tariff {
            currency: "EUR".into(),
            zone: chrono_tz::Tz::UTC,
            import: 0.3,
            export: 0.05,
            bands: Vec::new(),
        });
        let mut life = life(site, &[car(3, 16.0, 2.0), car(3, 16.0, 2.0)], 6);
        run(&mut life, 10);
        let leaves = life.plant.now().utc + chrono::Duration::hours(10);
        for charger in [id("pile1"), id("pile2")] {
            let target = Target { need: WattHours(15e3), leaves };
            let at = life.plant.now();
            life.controller.observe(Observation::Asked { charger, target, at });
        }
        run(&mut life, 120);
        let begun: f64 = life.plant.world.piles.iter().map(|pile| pile.energy_wh).sum();
        let mut most = 0.0_f64;
        for _ in 0..3_600 {
            life.second();
            let amps = life.plant.world.piles.iter().flat_map(|pile| pile.currents());
            most = most.max(amps.sum::<f64>() * 230.0);
        }
        let charged: f64 = life.plant.world.piles.iter().map(|pile| pile.energy_wh).sum();
        assert!(charged - begun > 5_000.0, "{} Wh in an hour", charged - begun);
        most
    };
    let kept = most_w(Aim::PeakShaving(Watts(8_000.0)));
    assert!(kept <= 8_400.0, "{kept} W");
    let free = most_w(Aim::Arbitrage);
    assert!(free > 15_000.0, "the story needs cars that would pass the peak: {free} W");
}

/// Batteries at one meter, each two seconds behind what it is told. The import of the last minute.
fn line_of(batteries: usize, strategy: Strategy, off: Option<Rule>) -> Vec<f64> {
    let mut site = row(&[&Phase::ALL], 100.0);
    site.chargers.clear();
    site.batteries = (0..batteries)
        .map(|i| Battery { id: id(&format!("b{i}")), capacity: None, strategy, ..battery() })
        .collect();
    let utc = chrono::DateTime::from_timestamp(1_780_000_000, 0).unwrap();
    let mut now = Moment { uptime: Duration::from_secs(1000), utc };
    let mut controller = Controller::new(site.clone(), now);
    if let Some(rule) = off {
        controller = controller.without(rule);
    }
    let (mut power, mut coming) = (vec![0.0; batteries], vec![vec![0.0; batteries]; 2]);
    let mut imports = Vec::new();
    for second in 0..300 {
        now = now.after(Duration::from_secs(1));
        let import = 4_000.0 - power.iter().sum::<f64>();
        imports.push(import);
        // No meter says the same twice.
        let noise = f64::from(second % 7) * 0.01;
        let meter = MeterReading {
            power: Watts(import),
            phase_power: PerPhase::all(Watts(import / 3.0)),
            current: PerPhase::all(Amps(import / 690.0 + noise)),
            voltage: PerPhase::all(Volts(230.0)),
            frequency: None,
            import: None,
            export: None,
        };
        let mut hear = |device, reading| {
            controller.observe(Observation::Answered { device, at: now, reading });
        };
        hear(id("grid"), Reading::Meter(meter));
        for (battery, watts) in site.batteries.iter().zip(&power) {
            let reading = BatteryReading { power: Watts(*watts), soc: soc(0.5) };
            hear(battery.id.clone(), Reading::Battery(reading));
        }
        let decision = controller.decide(now);
        let told = |b: &Battery| decision.permitted.battery(&b.id).unwrap().0.get();
        coming.push(site.batteries.iter().map(told).collect());
        power = coming.remove(0);
    }
    imports.split_off(240)
}

#[test]
fn several_batteries_share_one_error_and_do_not_swing() {
    for batteries in 1..=5 {
        let line = |off| line_of(batteries, Strategy::default(), off);
        let worst = |off| line(off).into_iter().fold(0.0, |a: f64, b| a.max(b.abs()));
        let kept = worst(None);
        assert!(kept <= 150.0, "{batteries}: {kept} W at the meter after four minutes");
        if batteries > 3 {
            let swung = worst(Some(Rule::EachItsPart));
            assert!(swung > 1_000.0, "{batteries}: {swung} W without: it shows nothing");
        }
    }
}

#[test]
fn batteries_that_shave_peaks_count_what_the_others_buy() {
    let aim = Aim::PeakShaving(Watts(10_000.0));
    for batteries in 1..=3 {
        let imports = line_of(batteries, Strategy { aim, ..Strategy::default() }, None);
        let most = imports.into_iter().fold(0.0, f64::max);
        assert!(most <= 10_000.0, "{batteries}: {most} W of 10 kW");
        assert!(
            batteries < 2 || most > 6_000.0,
            "{batteries}: the story needs batteries that buy: {most} W"
        );
    }
}

#[test]
fn a_battery_that_goes_on_charging_counts_when_the_grid_operator_dims() {
    let story = |off: Option<Rule>| {
        let mut life = without(life(stored(Strategy::default()), &[car(3, 32.0, 2.0)], 5), off);
        let stuck = |life: &mut Life| {
            life.second();
            let largest = life.plant.world.hybrid.max_w;
            life.plant.world.hybrid.control =
                simulators::physics::StorageControl::pinned(-4_000.0, largest, 30);
        };
        (0..120).for_each(|_| stuck(&mut life));
        let (limit, at) = (Watts(0.0), life.plant.now());
        let until = at.after(Duration::from_secs(900));
        life.controller.observe(Observation::Dimmed { limit, until, at });
        (0..60).for_each(|_| stuck(&mut life));
        let pile: f64 = life.plant.world.piles[0].currents().iter().sum::<f64>() * 230.0;
        // Two loads: the rule leaves them 7560 W.
        pile + 4_000.0 <= 7_600.0
    };
    assert!(story(None));
    assert!(!story(Some(Rule::DeafBattery)), "the story holds without the rule");
}
