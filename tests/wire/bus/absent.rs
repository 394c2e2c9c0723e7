//! Shared lines on which units are gone or the gateway leaves: the others go on, and each is told.
//!
//! What a stranger gets wrong: a charger without a car is told to stop all the time, so a unit that dies has
//! most often a stop to its name that it does not take.

use std::time::Duration;

use simulators::faults::Faults;
use simulators::frames::Framing;
use wattgate::config::{Address, Table};
use wattgate::io::modbus::{Bus, BusError, Pace};

use super::faults::wait;
use super::lines::{UNITS, is_faulty, line_with, periods};
use super::rig::Rig;
use crate::gateway::{PATIENCE, now, until};

fn seconds(s: f64) -> Duration {
    Duration::from_secs_f64(s)
}

/// Currents for all units, `faulty` of which have another.
fn tell_all(rig: &Rig, amps: f64, faulty: u8, theirs: f64) {
    let names: Vec<String> = (1..=UNITS).map(|unit| format!("u{unit}")).collect();
    let told = names.iter().zip(1..).map(|(name, unit)| {
        let amps = if is_faulty(unit, faulty) { theirs } else { amps };
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
    let before = periods(&rig, seconds(8.0), DEAD);
    let killed = now();
    rig.faults("pile1", Faults { silent: true, ..Faults::default() });
    tell_all(&rig, 10.0, DEAD, 0.0);
    wait(seconds(3.0));
    let written = |unit: u8| rig.counted(&format!("u{unit}"));
    let counted: Vec<u64> = (1..=UNITS).map(written).collect();
    let after = periods(&rig, seconds(16.0), DEAD);
    let renewed: Vec<u64> = (1..=UNITS).map(|u| written(u) - counted[usize::from(u) - 1]).collect();
    println!(
        "two dead units told to stop: {before:.3?}, then {after:.3?}; \
         writes in 16 s {renewed:?}, {:?} after the death",
        killed.elapsed()
    );
    let change = after.mean / before.mean - 1.0;
    assert!(change.abs() < 0.2, "the others' period changed by {change}");
    let mut living = (1..=UNITS).zip(&renewed).filter(|(unit, _)| !is_faulty(*unit, DEAD));
    assert!(living.all(|(_, writes)| *writes >= 3), "renewed every five seconds: {renewed:?}");
    rig.heal("pile1");
    // The probes find them, and then they are told.
    until("the stop", seconds(40.0), || (rig.held(0) == 0.0).then_some(()));
    println!("stopped {:?} after the death", killed.elapsed());
}

/// Most chargers have no car and a stop that they hold. When one dies that has always answered at once, its
/// neighbour waits for it for a moment: whatever else it is told or asked goes into the pauses of the others.
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
    let before = periods(&rig, seconds(8.0), 1).mean;
    let killed = now();
    rig.faults("pile1", Faults { silent: true, ..Faults::default() });
    wait(seconds(12.0));
    let mut gaps: Vec<f64> = Vec::new();
    for unit in (1..=UNITS).filter(|unit| !is_faulty(*unit, 1)) {
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
    // Nine others, and the processor is shared; half a second each is 4 s.
    assert!(late <= 1.0, "late by {late} s in all");
}

/// Who has only become slower is given up in haste, asked again in a pause, and then waited for: it is never told
/// to be silent.
#[test]
fn fb12_a_unit_that_becomes_slower_is_asked_again_and_not_lost() {
    let rig = line_with(Framing::Rtu, 1, |_| {});
    for unit in 1..=UNITS {
        rig.answered(&format!("u{unit}"), now(), PATIENCE);
    }
    // Until it is known for answering at once.
    wait(seconds(8.0));
    let slower = now();
    rig.faults("pile1", Faults { late_ms: 150, ..Faults::default() });
    wait(seconds(8.0));
    let steady = now();
    wait(seconds(6.0));
    let silences = rig.silences("u4", slower);
    assert!(silences.is_empty(), "{silences:?}");
    let readings = |since| rig.readings("u4", since).into_iter().map(|(at, _)| at);
    let gaps: Vec<f64> = readings(slower - seconds(1.5))
        .zip(readings(slower - seconds(1.5)).skip(1))
        .map(|(a, b)| (b - a).as_secs_f64())
        .collect();
    println!("a unit that becomes 150 ms slower: its periods {gaps:.2?}");
    assert!(gaps.iter().any(|gap| *gap > 1.5), "it was never given up in haste: {gaps:?}");
    assert!(gaps.iter().all(|gap| *gap < 4.5), "its values grew old: {gaps:?}");
    let count = readings(steady).count();
    assert!(count >= 4, "{count} readings in six seconds");
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

/// A device that is switched off behind a router: nobody refuses, the first packet is lost. Here the queue of a
/// listener that accepts nobody is full.
#[test]
fn fb1_a_host_that_drops_the_first_packet_costs_the_time_to_connect_once() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
        let listener = socket.listen(1).unwrap();
        let at = listener.local_addr().unwrap();
        let mut queue = Vec::new();
        while let Ok(Ok(waiting)) =
            tokio::time::timeout(seconds(0.3), tokio::net::TcpStream::connect(at)).await
        {
            queue.push(waiting);
            assert!(queue.len() < 100, "the queue is never full");
        }
        let connect = seconds(0.4);
        let pace = Pace { connect, call: seconds(5.0), gap: Duration::ZERO };
        let mut bus = Bus::new(Address::Tcp { host: at.ip().to_string(), port: at.port() });
        let mut tried = Vec::new();
        for _ in 0..2 {
            let began = now();
            let read = bus.read(1, Table::Holding, (0, 2), pace).await;
            assert!(matches!(read, Err(BusError::Unreachable { .. })), "{read:?}");
            tried.push(began.elapsed());
        }
        assert!(connect <= tried[0] && tried[0] < seconds(2.0), "{tried:?}");
        assert!(tried[1] < connect / 2, "while it is backed off nobody waits: {tried:?}");
    });
}
