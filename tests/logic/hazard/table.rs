//! The risk table of the design, line by line: what enters a level, how soon, and what just does not.

use wattgate::logic::safety::fire::{Level, ResetObstacle};
use wattgate::logic::safety::signs::Sign;
use wattgate::logic::site::{ChargerSetpoint, Reason, RelaySetpoint};
use wattgate::logic::vision::Verdict;

use super::{Rig, id, loop_ma};

/// Changes values once.
type Change = fn(&mut Rig);

fn set(changes: &[(&str, f64)]) -> Rig {
    let mut rig = Rig::new();
    changes.iter().for_each(|(name, value)| rig.set(name, *value));
    rig
}

/// Name, values, level, seconds until it stands.
type Row = (&'static str, &'static [(&'static str, f64)], Level, u64);

/// A level that one change of values asks for: name, values, level, seconds until it stands.
const AT_ONCE: &[Row] = &[
    ("a warm cell", &[("t1", 33.0), ("t2", 33.0), ("t3", 33.0)], Level::Normal, 60),
    ("spread", &[("t1", 33.1)], Level::Watch, 1),
    ("spread not reached", &[("t1", 32.9)], Level::Normal, 60),
    ("a trace of gas", &[("gas1", 4.81)], Level::Watch, 1),
    ("less than a trace", &[("gas1", 4.79)], Level::Normal, 60),
    ("the management warns", &[("level", 1.0)], Level::Watch, 1),
    ("insulation", &[("insulation", 1.0)], Level::Watch, 1),
    ("a warm board", &[("board", 85.0)], Level::Watch, 1),
    ("a board not warm yet", &[("board", 84.9)], Level::Normal, 60),
    ("gas stage 1", &[("gas2", 7.21)], Level::Alarm, 2),
    ("just no gas stage 1", &[("gas2", 7.19)], Level::Watch, 60),
    ("smoke", &[("smoke", 1.0)], Level::Alarm, 2),
    ("heat", &[("heat", 1.0)], Level::Alarm, 2),
    ("the management's alarm", &[("level", 2.0)], Level::Alarm, 2),
    ("a hot board", &[("board", 100.0)], Level::Alarm, 2),
    ("two watch signs", &[("gas1", 4.81), ("insulation", 1.0)], Level::Alarm, 1),
    ("the same watch sign twice", &[("gas1", 4.81), ("gas2", 4.81)], Level::Watch, 60),
    ("a board is no second sign", &[("gas1", 4.81), ("board", 86.0)], Level::Watch, 60),
    ("gas stage 2", &[("gas3", 10.41)], Level::Trip, 2),
    ("just no gas stage 2", &[("gas3", 10.39)], Level::Alarm, 60),
    ("gas stage 1 at two", &[("gas1", 7.21), ("gas3", 7.21)], Level::Trip, 2),
    ("smoke and heat", &[("smoke", 1.0), ("heat", 1.0)], Level::Trip, 2),
    ("smoke and gas", &[("smoke", 1.0), ("gas1", 7.21)], Level::Alarm, 60),
    ("the emergency stop", &[("stop_closed", 0.0)], Level::Trip, 1),
    ("the fire panel", &[("panel", 1.0)], Level::Trip, 1),
    ("a lost voltage without heat", &[("v1", 2.4)], Level::Normal, 5),
];

#[test]
fn what_enters_a_level_at_once() {
    for (name, changes, level, within) in AT_ONCE {
        let mut rig = set(changes);
        if *level == Level::Normal || *within > 2 {
            // A line that is not reached: the level stands from the first sample to the last.
            rig.run(2);
            for second in 2..=*within {
                assert_eq!(rig.level(), *level, "{name} after {second} s: {:?}", rig.zone().causes);
                rig.second();
            }
        } else {
            let reached = rig.until(10, |rig| rig.level() >= *level);
            assert_eq!(reached, Some(*within), "{name}: {:?}", rig.zone().causes);
            assert_eq!(rig.level(), *level, "{name}: {:?}", rig.zone().causes);
        }
    }
}

/// Every input that is not a hard one, at its alarm stage and quiet.
const SOFT: [(&str, f64, f64); 5] = [
    ("gas2", 7.21, 4.0),
    ("smoke", 1.0, 0.0),
    ("heat", 1.0, 0.0),
    ("level", 2.0, 0.0),
    ("board", 100.0, 40.0),
];

fn is_stopped(rig: &Rig) -> bool {
    let told = rig.decision().permitted.charger(&id("pile1")).unwrap();
    let stopped = matches!(told, (ChargerSetpoint::Pause, Reason::FireAlarm { .. }));
    assert_eq!(stopped, rig.battery_told() == 0.0, "pile and battery stop together");
    stopped
}

#[test]
fn one_sample_stops_the_zone_at_once_for_ten_seconds_and_latches_nothing() {
    for (name, danger, quiet) in SOFT {
        let mut rig = Rig::new();
        rig.run(60);
        assert!(!is_stopped(&rig), "{name}: the story needs a zone at work");
        rig.set(name, danger);
        rig.second();
        assert!(is_stopped(&rig), "{name}: the stop waited");
        assert_eq!(rig.level(), Level::Watch, "{name}: {:?}", rig.zone().causes);
        assert_eq!(rig.relay("siren"), RelaySetpoint::Rest, "{name}");
        rig.set(name, quiet);
        rig.run(9);
        assert!(is_stopped(&rig), "{name}: taken back too soon");
        rig.second();
        assert!(!is_stopped(&rig), "{name}: not taken back");
        assert_eq!(rig.level(), Level::Watch, "{name}");
        assert!(rig.controller.latched().zones.is_empty(), "{name}: latched");
        rig.run(600);
        assert_eq!(rig.level(), Level::Normal, "{name}: ten clear minutes");
    }
}

#[test]
fn what_comes_again_within_ten_seconds_is_confirmed_and_later_is_not() {
    for (name, danger, quiet) in SOFT {
        for (rest, level) in [(1, Level::Alarm), (8, Level::Alarm), (9, Level::Watch)] {
            let mut rig = Rig::new();
            rig.set(name, danger);
            rig.second();
            rig.set(name, quiet);
            rig.run(rest);
            rig.set(name, danger);
            rig.second();
            assert_eq!(rig.level(), level, "{name} again after {rest} quiet samples");
        }
    }
}

#[test]
fn a_sensor_that_fails_after_one_alarming_sample_confirms_it() {
    let ends: [(&str, Change); 3] = [
        ("its wire breaks", |rig| rig.set("gas2", 0.0)),
        ("it says nothing that can be", |rig| rig.set("gas2", f64::NAN)),
        ("its module falls silent", |rig| _ = rig.silent.insert("io")),
    ];
    for (what, end) in ends {
        let mut rig = Rig::new();
        rig.set("gas2", 7.21);
        rig.second();
        end(&mut rig);
        let alarm = rig.until(8, |rig| rig.level() == Level::Alarm);
        assert!(alarm.is_some_and(|s| s <= 5), "{what}: {alarm:?}");
        assert!(is_stopped(&rig), "{what}");
        // And while it waited for that, the zone stood still.
    }
    let mut rig = Rig::new();
    rig.set("gas2", 0.0);
    rig.run(30);
    assert_eq!(rig.level(), Level::Watch, "a broken wire alone is no alarm");
}

/// Neither a value of the sensor that failed long before, nor a way back that is a jump and so not believed,
/// is a second voice.
#[test]
fn one_sample_of_a_cell_is_confirmed_by_no_other_cell_and_by_no_jump() {
    let mut rig = Rig::new();
    rig.set("t5", f64::NAN);
    rig.run(30);
    assert!(rig.zone().fault, "the story needs a dead thermistor");
    rig.set("t3", 56.0);
    rig.second();
    rig.set("t3", 25.0);
    rig.run(700);
    assert!(rig.controller.latched().zones.is_empty(), "{:?}", rig.zone().causes);
    let mut rig = Rig::new();
    warm_all(&mut rig, 46.0);
    rig.set("t3", 56.0);
    rig.second();
    assert!(is_stopped(&rig), "the story needs a sample that alarms: {:?}", rig.zone().causes);
    rig.set("t3", 45.0);
    rig.run(2);
    assert!(rig.controller.latched().zones.is_empty(), "{:?}", rig.zone().causes);
}

#[test]
fn a_contact_that_chatters_keeps_a_latched_zone_from_being_reset() {
    let mut rig = Rig::new();
    rig.set("smoke", 1.0);
    rig.run(2);
    assert_eq!(rig.level(), Level::Alarm);
    for _ in 0..60 {
        rig.set("smoke", 0.0);
        rig.run(12);
        rig.set("smoke", 1.0);
        rig.second();
        assert_eq!(rig.zone().reset_obstacle, Some(ResetObstacle::StillSeen));
    }
    rig.set("smoke", 0.0);
    rig.run(599);
    assert_eq!(rig.zone().reset_obstacle, Some(ResetObstacle::NotClearLongEnough));
}

/// Lets every cell rise to `to`, slower than any rule minds.
fn warm_all(rig: &mut Rig, to: f64) {
    let from = rig.bms["t1"];
    let steps = ((to - from) / 0.05).ceil() as u32;
    for step in 1..=steps {
        let value = (from + 0.05 * f64::from(step)).min(to);
        (1..=6).for_each(|cell| rig.set(&format!("t{cell}"), value));
        rig.second();
    }
}

#[test]
fn cells_by_their_temperature() {
    let mut rig = Rig::new();
    warm_all(&mut rig, 45.0);
    assert_eq!(rig.level(), Level::Normal, "{:?}", rig.zone().causes);
    rig.set("t4", 45.1);
    rig.second();
    assert_eq!(rig.level(), Level::Watch);
    assert_eq!(rig.zone().causes[0].sign, Sign::CellWarm);
    warm_all(&mut rig, 54.9);
    assert_eq!(rig.level(), Level::Watch, "{:?}", rig.zone().causes);
    rig.set("t4", 55.0);
    assert_eq!(rig.until(3, |rig| rig.level() == Level::Alarm), Some(2));
    warm_all(&mut rig, 59.9);
    assert_eq!(rig.level(), Level::Alarm);
    rig.set("t2", 60.0);
    assert_eq!(rig.until(3, |rig| rig.level() == Level::Trip), Some(2));
}

#[test]
fn fb8_a_high_temperature_that_repeats_three_times_is_believed_and_once_is_not() {
    let mut rig = Rig::new();
    rig.set("t3", 1894.0);
    rig.run(60);
    assert_eq!(rig.level(), Level::Watch, "an impossible value is a lost sensor, no heat");
    let mut rig = Rig::new();
    for _ in 0..20 {
        rig.set("t3", 300.0);
        rig.second();
        rig.set("t3", 25.0);
        rig.second();
        assert_eq!(rig.level(), Level::Normal, "one high sample is not believed");
    }
    rig.set("t3", 70.0);
    assert_eq!(rig.until(4, |rig| rig.level() == Level::Trip), Some(3));
    let mut rig = Rig::new();
    warm_all(&mut rig, 50.0);
    rig.set("t3", -20.0);
    rig.second();
    assert!(rig.level() >= Level::Watch, "one low sample ends nothing");
}

/// One cell rises by `rate` K/s for `seconds`, rounded to `step`.
fn rise(rig: &mut Rig, (rate, step): (f64, f64), seconds: u64) -> Option<u64> {
    let from = rig.bms["t1"];
    let before = rig.level();
    (1..=seconds).find(|second| {
        let value = from + rate * *second as f64;
        rig.set("t1", (value / step).round() * step);
        rig.second();
        rig.level() > before
    })
}

#[test]
fn cells_by_their_rise() {
    for step in [0.1, 1.0] {
        let mut rig = Rig::new();
        let after = rise(&mut rig, (0.12, step), 40);
        assert!(after.is_some_and(|s| (9..=25).contains(&s)), "0.12 K/s by {step}: {after:?}");
        assert_eq!(rig.level(), Level::Alarm, "{:?}", rig.zone().causes);
        let mut rig = Rig::new();
        assert_eq!(rise(&mut rig, (0.06, step), 60), None, "0.06 K/s by {step}");
        let mut rig = Rig::new();
        let after = rise(&mut rig, (1.1, step), 8);
        assert!(after.is_some_and(|s| s <= 5), "1.1 K/s by {step}: {after:?}");
        let trip = rig.level() == Level::Trip || {
            rise(&mut rig, (1.1, step), 3).is_some_and(|_| rig.level() == Level::Trip)
        };
        assert!(trip, "{:?}", rig.zone().causes);
    }
}

#[test]
fn a_cell_that_drifts_from_its_neighbours_is_on_watch_and_a_warm_day_is_not() {
    let mut rig = Rig::new();
    for second in 1..=300 {
        let value = 25.0 + 1.2 / 60.0 * f64::from(second);
        (1..=6).for_each(|cell| rig.set(&format!("t{cell}"), value));
        rig.second();
        assert_eq!(rig.level(), Level::Normal, "all rise together, {second} s");
    }
    let from = rig.bms["t1"];
    let drifts = (1..=200).find(|second| {
        rig.set("t1", from + 1.2 / 60.0 * f64::from(*second));
        rig.second();
        rig.level() == Level::Watch
    });
    // 1.2 K/min for 90 s is what rounding may hide of 1 K/min for two minutes.
    assert!(drifts.is_some_and(|s| (88..=130).contains(&s)), "{drifts:?}");
    assert_eq!(rig.zone().causes[0].sign, Sign::CellDrifts);
}

#[test]
fn a_cell_voltage_off_its_neighbours_counts_at_rest_only() {
    let mut rig = Rig::new();
    rig.set("v5", 3.36);
    rig.run(700);
    assert_eq!(rig.level(), Level::Normal, "the battery carries 20 A");
    rig.set("current", 0.2);
    let off = rig.until(700, |rig| rig.level() == Level::Watch);
    assert!(off.is_some_and(|s| (600..=602).contains(&s)), "{off:?}");
    let mut rig = Rig::new();
    rig.set("v5", 3.34);
    rig.set("current", 0.2);
    rig.run(700);
    assert_eq!(rig.level(), Level::Normal, "40 mV");
}

#[test]
fn a_lost_voltage_trips_together_with_a_temperature() {
    let mut rig = Rig::new();
    rig.set("v1", 2.4);
    rig.run(120);
    assert_eq!(rig.level(), Level::Normal, "alone it is a loose wire");
    rig.set("t1", 33.5);
    assert_eq!(rig.until(3, |rig| rig.level() == Level::Trip), Some(1));
    let mut rig = Rig::new();
    rig.set("t1", 33.5);
    rig.second();
    rig.set("v1", 2.5);
    rig.run(20);
    assert_eq!(rig.level(), Level::Watch, "24 % is not a quarter");
    rig.set("v1", 2.4);
    assert_eq!(rig.until(3, |rig| rig.level() == Level::Trip), Some(2));
}

#[test]
fn cameras_reach_alarm_and_never_the_contactor() {
    let mut rig = Rig::new();
    rig.verdict = Verdict::Doubtful;
    rig.run(2);
    assert_eq!(rig.level(), Level::Watch);
    rig.verdict = Verdict::Alarm;
    rig.second();
    assert_eq!(rig.level(), Level::Alarm);
    rig.run(600);
    assert_eq!(rig.level(), Level::Alarm);
    assert_eq!(rig.relay("contactor"), RelaySetpoint::Rest);
}

#[test]
fn what_a_camera_doubts_and_a_trace_of_gas_are_two_signs_of_a_battery() {
    let mut rig = Rig::new();
    rig.verdict = Verdict::Doubtful;
    rig.run(60);
    assert_eq!(rig.level(), Level::Watch, "{:?}", rig.zone().causes);
    rig.set("gas1", 4.81);
    rig.run(2);
    assert_eq!(rig.level(), Level::Alarm, "{:?}", rig.zone().causes);
    assert_eq!(rig.relay("contactor"), RelaySetpoint::Rest);
}

#[test]
fn watch_halves_the_power_and_ends_no_session() {
    let mut rig = Rig::new();
    rig.run(120);
    let full = rig.told("pile1").amps().get();
    assert!(full > 20.0, "the story needs a charging car: {full}");
    rig.set("insulation", 1.0);
    rig.run(3);
    let half = rig.told("pile1").amps().get();
    assert!((6.0..=16.0).contains(&half), "{half}");
    assert!(rig.battery_told().abs() <= 5000.0);
    assert!(rig.told("pile2").amps().get() > 20.0, "the other zone goes on");
}

#[test]
fn watch_ends_by_itself_after_ten_clear_minutes_and_never_at_fault() {
    let mut rig = Rig::new();
    rig.set("gas1", 5.0);
    rig.second();
    rig.set("gas1", 4.0);
    rig.run(599);
    assert_eq!(rig.level(), Level::Watch);
    rig.run(3);
    assert_eq!(rig.level(), Level::Normal);
    rig.set("gas1", 5.0);
    rig.second();
    rig.set("gas1", 0.0);
    rig.run(1200);
    assert_eq!(rig.level(), Level::Watch, "a broken loop is never clear");
}

#[test]
fn flapping_never_lowers_a_level_faster_than_once_in_ten_seconds_nor_delays_a_rise() {
    for name in ["smoke", "gas1", "level", "insulation"] {
        let mut rig = Rig::new();
        let high = match name {
            "gas1" => loop_ma(6.0),
            _ => 1.0,
        };
        let mut last_change = 0;
        let mut level = rig.level();
        for second in 1..=400 {
            let quiet = if name == "gas1" { 4.0 } else { 0.0 };
            rig.set(name, if second % 2 == 1 { high } else { quiet });
            rig.second();
            if second == 1 {
                assert!(rig.level() > Level::Normal, "{name}: the rise was delayed");
            }
            if rig.level() < level {
                assert!(second - last_change >= 10, "{name}: lowered after {last_change}");
            }
            if rig.level() != level {
                (last_change, level) = (second, rig.level());
            }
        }
    }
}

#[test]
fn a_proof_that_is_overdue_is_on_watch_until_it_was_seen() {
    let mut site = super::site::guarded();
    let day = std::time::Duration::from_secs(86_400);
    for sensor in site.guard.sensors.iter_mut().filter(|s| s.id == id("smoke")) {
        sensor.proof_every = Some(day);
    }
    let mut rig = Rig::cold(site);
    rig.run(20);
    assert_eq!(rig.level(), Level::Watch, "never proven");
    assert!(rig.alarms().contains(&"proof_overdue-smoke".to_owned()), "{:?}", rig.alarms());
    rig.prove("smoke");
    // An alarm is over five seconds after its cause.
    rig.run(10);
    assert!(rig.alarms().contains(&"proof_overdue-smoke".to_owned()), "it was not seen to react");
    rig.set("smoke", 1.0);
    rig.second();
    rig.set("smoke", 0.0);
    rig.second();
    rig.prove("smoke");
    rig.run(10);
    assert!(!rig.alarms().contains(&"proof_overdue-smoke".to_owned()), "{:?}", rig.alarms());
    let remembered = rig.controller.latched();
    assert!(remembered.proofs.contains_key(&id("smoke")), "it is kept for the life of the site");
    // Somebody sets the clock (fault TM1): a proof does not grow old by that, ahead or back.
    let late = |rig: &Rig| rig.alarms().contains(&"proof_overdue-smoke".to_owned());
    for hours in [87_600, -175_200, 87_600] {
        rig.now.utc += chrono::Duration::hours(hours);
        rig.run(30);
        assert!(!late(&rig), "the clock was set by {hours} h");
    }
    // But by its own age it does.
    rig.now = rig.now.after(day * 2);
    rig.run(1);
    assert!(late(&rig), "two days later");
}

/// Every sensor kind that can be lost: the device behind it falls silent.
#[test]
fn a_lost_sensor_is_a_fault_in_five_seconds_and_a_watch_in_ten() {
    let silence: [Change; 2] = [
        |rig| {
            rig.silent.insert("io");
        },
        |rig| {
            rig.silent.insert("bms");
        },
    ];
    for (i, silence) in silence.into_iter().enumerate() {
        let mut rig = Rig::new();
        silence(&mut rig);
        let fault = rig.until(8, |rig| rig.zone().fault);
        assert!(fault.is_some_and(|s| s <= 5), "{i}: {fault:?}");
        let watch = rig.until(8, |rig| rig.level() == Level::Watch);
        assert!(rig.level() == Level::Watch, "{i}: {watch:?}");
        rig.silent.clear();
        rig.run(61);
        assert!(!rig.zone().fault, "{i}: proven good for a minute: {:?}", rig.zone());
    }
}
