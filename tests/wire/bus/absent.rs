//! Shared lines on which units are gone or the gateway leaves: the others go on, and each is told.
//!
//! What a stranger gets wrong: a charger without a car is told to stop all the time, so a unit that dies has
//! most often a stop to its name that it does not take.

use std::time::Duration;

use simulators::faults::Faults;
use simulators::frames::Framing;

use super::faults::wait;
use super::lines::{UNITS, line_with, periods};
use super::rig::Rig;
use crate::gateway::{PATIENCE, now, until};

fn seconds(s: f64) -> Duration {
    Duration::from_secs_f64(s)
}

/// Currents for all units, the last `faulty` of which have another.
fn tell_all(rig: &Rig, amps: f64, faulty: u8, theirs: f64) {
    let names: Vec<String> = (1..=UNITS).map(|unit| format!("u{unit}")).collect();
    let living = usize::from(UNITS - faulty);
    let told = names.iter().enumerate().map(|(i, name)| {
        let amps = if i < living { amps } else { theirs };
        (name.as_str(), amps)
    });
    rig.tell(&told.collect::<Vec<_>>());
}

#[test]
fn fb12_two_dead_units_that_are_told_to_stop_slow_nobody() {
    const DEAD: u8 = 2;
    let rig = line_with(Framing::Rtu, DEAD, |_| {});
    for unit in 1..=UNITS {
        rig.answered(&format!("u{unit}"), now(), PATIENCE);
    }
    tell_all(&rig, 10.0, DEAD, 10.0);
    until("all told", PATIENCE, || {
        let told = [0, 3].map(|pile| (rig.held(pile) - 10.0).abs() < 0.06);
        (told == [true; 2]).then_some(())
    });
    let (before, _) = periods(&rig, seconds(8.0), DEAD);
    let killed = now();
    rig.faults("pile1", Faults { silent: true, ..Faults::default() });
    tell_all(&rig, 10.0, DEAD, 0.0);
    wait(seconds(3.0));
    let written = |unit: u8| rig.counted(&format!("u{unit}"));
    let counted: Vec<u64> = (1..=UNITS).map(written).collect();
    let (after, p99) = periods(&rig, seconds(16.0), DEAD);
    let renewed: Vec<u64> = (1..=UNITS).map(|u| written(u) - counted[usize::from(u) - 1]).collect();
    println!(
        "two dead units told to stop: mean period {before:.3} s, then {after:.3} s, p99 {p99:.3} s; \
         writes in 16 s {renewed:?}, {:?} after the death",
        killed.elapsed()
    );
    assert!((after / before - 1.0).abs() < 0.2, "the others' period changed by more than 20 %");
    let living = &renewed[..usize::from(UNITS - DEAD)];
    assert!(living.iter().all(|writes| *writes >= 3), "renewed every five seconds: {living:?}");
    rig.heal("pile1");
    // The probes find them, and then they are told.
    until("the stop", seconds(40.0), || (rig.held(0) == 0.0).then_some(()));
    println!("stopped {:?} after the death", killed.elapsed());
}

/// Most chargers have no car and a stop that they hold. When one dies that has always answered at once, a tenth of a
/// time-out is what it costs the others: whatever else it is told or asked goes into their pauses.
#[test]
fn fb12_a_unit_that_dies_with_a_stop_that_it_holds_costs_the_others_next_to_nothing() {
    let rig = line_with(Framing::Rtu, 1, |_| {});
    for unit in 1..=UNITS {
        rig.answered(&format!("u{unit}"), now(), PATIENCE);
    }
    tell_all(&rig, 10.0, 1, 0.0);
    until("all told", PATIENCE, || {
        let told = (rig.held(3) - 10.0).abs() < 0.06 && rig.held(0) == 0.0;
        told.then_some(())
    });
    let (before, _) = periods(&rig, seconds(8.0), 1);
    let killed = now();
    rig.faults("pile1", Faults { silent: true, ..Faults::default() });
    wait(seconds(12.0));
    let mut gaps: Vec<f64> = Vec::new();
    for unit in 1..UNITS {
        // With the gap in which it died.
        let seen = rig.readings(&format!("u{unit}"), killed - seconds(1.5));
        gaps.extend(seen.windows(2).map(|pair| (pair[1].0 - pair[0].0).as_secs_f64()));
    }
    gaps.sort_by(f64::total_cmp);
    let (after, p99) = (gaps.iter().sum::<f64>() / gaps.len() as f64, gaps[gaps.len() * 99 / 100]);
    let late: f64 = gaps.iter().map(|gap| (gap - 1.1).max(0.0)).sum();
    println!(
        "a unit with a standing stop dies: mean period {before:.3} s, then {after:.3} s, p99 {p99:.3} s; \
         late by {late:.1} s in all"
    );
    assert!((after / before - 1.0).abs() < 0.05, "the others' period changed by more than 5 %");
    // Nine others, a few times its usual answer each, and the processor is shared; a whole time-out each is 9 s.
    assert!(late <= 4.0, "late by {late} s in all");
}

#[test]
fn a_farewell_reaches_every_unit_of_a_line() {
    let mut rig = line_with(Framing::Rtu, 1, |config| {
        for device in &mut config.devices {
            device.profile.setpoint.iter_mut().for_each(|setpoint| setpoint.settle_ms = 800);
        }
    });
    for unit in 1..=UNITS {
        rig.answered(&format!("u{unit}"), now(), PATIENCE);
    }
    tell_all(&rig, 10.0, 1, 10.0);
    let written = |rig: &Rig| -> Vec<u64> {
        (1..=UNITS).map(|unit| rig.counted(&format!("u{unit}"))).collect()
    };
    until("all told", PATIENCE, || written(&rig).iter().all(|count| *count > 0).then_some(()));
    wait(seconds(2.0));
    let before = written(&rig);
    rig.stop();
    let told: Vec<u64> = written(&rig).iter().zip(before).map(|(now, then)| now - then).collect();
    assert!(told.iter().all(|count| *count > 0), "the fallback reached {told:?}");
}
