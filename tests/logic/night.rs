//! The plan in the closed loop: cheap hours are used, departures are kept.

use simulators::scenario::{Scenario, Visit};
use wattgate::logic::site::{Band, Leaves, Stay, Tariff};
use wattgate::units::WattHours;

use crate::bench::{Bench, site};

/// A car for the night, 30 kWh, from 20:27 UTC on; cheap from 23:00 to 05:00.
fn night(seed: u64, planned: bool) -> Bench {
    let mut site = site();
    site.tariff = planned.then(|| Tariff {
        currency: "EUR".into(),
        zone: chrono_tz::UTC,
        import: 0.40,
        export: 0.08,
        bands: vec![Band { from: 23 * 60, to: 5 * 60, import: 0.15 }],
    });
    site.chargers[0].stay = Some(Stay { need: WattHours(30e3), leaves: Leaves::After(10.0) });
    site.batteries[0].capacity = Some(WattHours(20e3));
    let visit = Visit { soc: 0.5, ..Visit::guest("bay1") };
    let scenario = Scenario {
        name: "night".into(),
        start_hour: 20.44,
        building_w: 1500.0,
        visits: vec![visit],
        ..Scenario::one_pile()
    };
    Bench::of(site, scenario, seed)
}

/// Energy to the car before the cheap hours, in them, and up to the departure after ten hours, Wh.
fn through_the_night(bench: &mut Bench) -> [f64; 3] {
    let mut marks = [0.0; 3];
    for (mark, until_s) in marks.iter_mut().zip([9_200, 30_700, 36_000]) {
        while bench.seconds() < until_s {
            bench.second();
        }
        *mark = bench.energy_to_cars_wh();
    }
    [marks[0], marks[1] - marks[0], marks[2]]
}

#[test]
fn a_car_for_the_night_charges_when_it_is_cheap_and_leaves_full() {
    for seed in 0..3 {
        let [early, cheap, all] = through_the_night(&mut night(seed, true));
        assert!(all >= 29_000.0, "seed {seed}: left with {all:.0} Wh of 30 kWh");
        assert!(cheap >= 0.9 * all, "seed {seed}: {early:.0} Wh early, {cheap:.0} Wh cheap");
        let [early, ..] = through_the_night(&mut night(seed, false));
        assert!(
            early >= 20_000.0,
            "seed {seed}: without a tariff a car charges at once: {early:.0}"
        );
    }
}
