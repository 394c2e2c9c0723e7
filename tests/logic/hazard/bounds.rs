//! The edges of what a sensor can say: values that it may have and values that cannot be, steps that are just
//! believed and just not, and who counts when several speak.
//!
//! What a stranger gets wrong: a value that cannot be is a fault for a minute after the last one, so a test must
//! wait for longer than that before it says that a sensor is sound.

use std::collections::BTreeMap;

use wattgate::logic::observation::Observation;
use wattgate::logic::safety::fire::Level;
use wattgate::logic::safety::interlock;
use wattgate::logic::safety::signs::Sign;
use wattgate::logic::site::{
    ChargerSetpoint, InputsReading, Reading, Reason, RelaySetpoint, Sensor, Setpoints,
};

use super::site::sensor;
use super::{Rig, id, loop_ma, site};

#[test]
fn what_a_sensor_may_say_is_no_fault_and_what_cannot_be_is_one() {
    for (name, possible, impossible) in [
        ("board", [-39.9, 44.0], [-40.1, 1000.1]),
        ("t3", [-39.9, 34.9], [-40.1, 1000.1]),
        ("v3", [0.1, 5.9], [-0.1, 6.1]),
        ("current", [-4000.0, 4000.0], [-1.1e5, 1.1e5]),
        ("level", [0.0, 1.0], [-1.0, 101.0]),
    ] {
        for value in possible {
            let mut rig = Rig::new();
            rig.set(name, value);
            rig.run(100);
            assert!(!rig.zone().fault, "{name} at {value}");
        }
        for value in impossible {
            let mut rig = Rig::new();
            rig.set(name, value);
            rig.run(10);
            assert!(rig.zone().fault, "{name} at {value}");
        }
    }
}

#[test]
fn a_temperature_is_held_back_when_it_jumps_further_than_ten_degrees() {
    for (to, seen_after) in [(35.0, 1), (35.01, 3)] {
        let mut rig = Rig::new();
        // Nine degrees are what a spread may be; ten are seen at once, unless they are not believed.
        rig.set("t3", to);
        let seen = rig.until(5, |rig| rig.zone().causes.iter().any(|c| c.sign == Sign::CellSpread));
        assert_eq!(seen, Some(seen_after), "25 to {to}");
    }
}

/// Five cells, so that each has four neighbours.
fn five_cells() -> Rig {
    let mut store = site::guarded();
    let points = ["v1", "v2", "v3", "v4", "v5"];
    let is_volts = |sensor: &&mut Sensor| sensor.id == id("volts");
    let volts = store.guard.sensors.iter_mut().find(is_volts).unwrap();
    *volts = sensor("volts", volts.kind, ("bms", &points));
    Rig::of(store)
}

#[test]
fn of_four_neighbours_the_middle_of_the_two_in_the_middle_counts() {
    let mut rig = five_cells();
    // Off the higher one of them by 57 mV, off their middle by 38.5.
    for (cell, volts) in [("v1", 3.3), ("v2", 3.3), ("v3", 3.32), ("v4", 3.357), ("v5", 3.357)] {
        rig.set(cell, volts);
    }
    rig.set("current", 0.2);
    rig.run(700);
    assert_eq!(rig.level(), Level::Normal, "{:?}", rig.zone().causes);
    rig.set("v1", 3.27);
    assert!(rig.until(700, |rig| rig.level() == Level::Watch).is_some(), "68.5 mV");
}

#[test]
fn what_is_usual_of_a_voltage_follows_a_discharge() {
    let mut rig = Rig::new();
    let all =
        |rig: &mut Rig, volts: f64| (1..=6).for_each(|cell| rig.set(&format!("v{cell}"), volts));
    for second in 0..3600 {
        all(&mut rig, 3.3 - 0.7 * f64::from(second) / 3600.0);
        rig.second();
    }
    // 27 % below what it was an hour ago, 8 % below the others now.
    rig.set("v1", 2.4);
    rig.set("t1", 33.5);
    rig.run(20);
    assert_eq!(rig.level(), Level::Watch, "{:?}", rig.zone().causes);
    rig.set("v1", 1.9);
    assert_eq!(rig.until(3, |rig| rig.level() == Level::Trip), Some(2));
}

#[test]
fn what_rises_to_an_alarm_is_urgent_and_what_stands_there_is_not() {
    let mut rig = Rig::new();
    let say = |rig: &mut Rig, percent: f64| -> bool {
        rig.set("gas1", loop_ma(percent));
        rig.now = rig.now.after(std::time::Duration::from_secs(1));
        let reading = Reading::Inputs(InputsReading { values: rig.io.clone() });
        rig.controller.observe(Observation::Answered { device: id("io"), at: rig.now, reading })
    };
    assert!(!say(&mut rig, 0.0), "all is well");
    assert!(say(&mut rig, 25.0), "the first sample at stage 1");
    assert!(say(&mut rig, 25.0), "the second confirms it");
    assert!(!say(&mut rig, 25.0), "it stands there");
    assert!(say(&mut rig, 45.0), "stage 2");
    assert!(!say(&mut rig, 0.0), "it falls");
}

#[test]
fn two_voices_that_ask_for_no_trip_open_no_contactor() {
    let mut rig = Rig::new();
    rig.set("gas1", loop_ma(25.0));
    rig.set("level", 2.0);
    rig.run(30);
    assert_eq!(rig.level(), Level::Alarm, "{:?}", rig.zone().causes);
    assert_eq!(rig.relay("contactor"), RelaySetpoint::Rest);
    // Nor does what several signs of the battery say together, below a trip.
    rig.set("t1", 45.5);
    rig.run(30);
    assert!(rig.zone().causes.iter().any(|cause| cause.sign == Sign::TwoWatchSigns));
    assert_eq!(rig.relay("contactor"), RelaySetpoint::Rest);
}

#[test]
fn the_loss_of_the_controller_raises_nobody() {
    let site = site::guarded();
    let charger = &site.chargers[0];
    let failsafe = interlock::at_failsafe(charger);
    for told in [ChargerSetpoint::Pause, failsafe, ChargerSetpoint::Current(charger.max)] {
        let mut wishes = Setpoints::default();
        wishes.chargers.insert(charger.id.clone(), (told, Reason::DeviceMaximum));
        let last = interlock::permit(&site, wishes, &BTreeMap::new());
        let (fallen, _) = *interlock::fall_from(&site, &last).charger(&charger.id).unwrap();
        let least = if told.amps() < failsafe.amps() { told } else { failsafe };
        assert_eq!(fallen, least, "told {told:?}");
    }
    assert!(failsafe.amps() < charger.max, "the story needs a charger that falls back");
}
