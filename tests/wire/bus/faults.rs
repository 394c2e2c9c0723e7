//! The field bus rows of the fault matrix on real sockets: FB1 to FB16 but for those that virtual time or an
//! in-process pipe proves better (FB5 and FB12 in `lines`, FB7 in `io::modbus::damage`, FB10 in tests/logic, and its last
//! step in `watchdogs`).

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use simulators::faults::Faults;
use wattgate::config::Order;
use wattgate::logic::decision::Quality;
use wattgate::logic::observation::{Finding, Silence};
use wattgate::logic::site::{PhaseCount, Reading};

use super::rig::Rig;
use crate::gateway::{PATIENCE, now, until};

/// Scheduling on busy cores, on top of a bound.
const BUSY: Duration = Duration::from_millis(700);

pub(super) fn wait(span: Duration) {
    let end = now() + span;
    while now() < end {
        std::thread::park_timeout(end.saturating_duration_since(now()));
    }
}

fn seconds(s: f64) -> Duration {
    Duration::from_secs_f64(s)
}

/// A car charges at more than its failsafe.
fn charging() -> Rig {
    let rig = Rig::thinking("one_pile");
    until("a raised setpoint", seconds(60.0), || (rig.limit(0) > 6.5).then_some(()));
    rig
}

/// Waits until the pile is at its failsafe; it may not rise meanwhile.
fn falls_to_the_safe_share(rig: &Rig, bound: Duration) -> Duration {
    let (began, before) = (now(), rig.limit(0));
    let mut stale_max = f64::MIN;
    until("the safe share", bound + BUSY, || {
        let limit = rig.limit(0);
        if began.elapsed() > seconds(6.0) {
            stale_max = stale_max.max(limit);
        }
        (limit <= 6.05).then_some(())
    });
    assert!(stale_max <= before + 12.1, "raised to {stale_max} A from {before} A on old values");
    began.elapsed()
}

#[test]
fn fb1_a_meter_that_is_gone_leads_to_the_safe_share() {
    let rig = charging();
    rig.faults("grid", Faults { unreachable: true, ..Faults::default() });
    let took = falls_to_the_safe_share(&rig, seconds(11.5));
    println!("safe share after {took:?}");
    until("the alarm", PATIENCE, || {
        rig.alarms().contains(&"device_lost-grid".into()).then_some(())
    });
}

#[test]
fn fb2_a_frozen_meter_is_noticed_and_leads_to_the_safe_share() {
    let rig = charging();
    rig.faults("grid", Faults { frozen: true, ..Faults::default() });
    let took = falls_to_the_safe_share(&rig, seconds(60.0));
    println!("safe share after {took:?}");
}

#[test]
fn fb3_a_half_open_connection_is_given_up_and_nobody_else_waits() {
    let rig = Rig::by_hand("sunny_day", |_| {});
    rig.answered("pile1", now(), PATIENCE);
    let began = now();
    rig.faults("pile1", Faults { silent: true, ..Faults::default() });
    let first = until("a time-out", PATIENCE, || rig.silences("pile1", began).first().copied());
    assert_eq!(first.1, Silence::Timeout);
    // At most one period until it is asked, and one second until it is given up.
    assert!(first.0 - began <= seconds(2.0) + BUSY, "{:?}", first.0 - began);
    wait(seconds(3.0));
    for other in ["grid", "pile2"] {
        let worst = worst_gap(&rig, other, began);
        assert!(worst <= seconds(1.3) + BUSY, "{other} waited {worst:?}");
    }
    rig.heal("pile1");
    let healed = now();
    rig.answered("pile1", healed, seconds(3.0));
    println!("given up after {:?}, back after {:?}", first.0 - began, healed.elapsed());
}

fn worst_gap(rig: &Rig, device: &str, since: Instant) -> Duration {
    let times: Vec<Instant> = rig.readings(device, since).into_iter().map(|(at, _)| at).collect();
    assert!(times.len() > 2, "{device} answered {} times", times.len());
    times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap()
}

#[test]
fn fb4_a_late_answer_is_never_taken_for_another() {
    let rig = Rig::by_hand("one_pile", |_| {});
    rig.sim.shared().with(|world| world.set_pv(Some(0.0)));
    rig.answered("grid", now(), PATIENCE);
    for (round, load) in [3_000.0, 18_000.0, 6_000.0].into_iter().enumerate() {
        let began = now();
        rig.faults("grid", Faults { late_ms: 1500, ..Faults::default() });
        until("a time-out", PATIENCE, || rig.silences("grid", began).pop());
        rig.sim.shared().with(|world| world.set_building(Some(load)));
        wait(seconds(0.3));
        rig.heal("grid");
        let healed = now();
        rig.answered("grid", healed, seconds(3.0));
        wait(seconds(2.2));
        for (at, reading) in rig.readings("grid", healed) {
            let Reading::Meter(meter) = reading else { panic!("{reading:?}") };
            let truth = rig.sim.truth().grid_w;
            let off = (meter.power.get() - truth).abs();
            assert!(off < 1_000.0, "round {round}, {:?}: {off} W off {truth}", at - healed);
        }
    }
}

#[test]
fn fb6_exceptions_are_handled_by_their_kind() {
    let rig = Rig::by_hand("sunny_day", |_| {});
    let devices = ["grid", "pile1", "pile2", "pile3", "pile4"];
    for device in devices {
        rig.answered(device, now(), PATIENCE);
    }
    let began = now();
    // Illegal function, illegal address, busy, device failure, no answer behind a bridge.
    for (device, code) in devices.into_iter().zip([1, 2, 6, 4, 11]) {
        rig.faults(device, Faults { exception: Some(code), ..Faults::default() });
    }
    for device in ["grid", "pile1"] {
        let took = rig.found(device, (Finding::Misconfigured, true), began, PATIENCE);
        assert!(took <= seconds(4.0), "{device} after {took:?}");
    }
    let took = rig.found("pile3", (Finding::DeviceFault, true), began, PATIENCE);
    assert!((seconds(1.5)..=seconds(4.5)).contains(&took), "three in a row after {took:?}");
    wait(seconds(2.0));
    let requests = || devices.map(|device| rig.sim.shared().heard(device).requests);
    let before = requests();
    wait(seconds(6.0));
    let after = requests();
    let asked: Vec<u64> = after.iter().zip(before).map(|(after, before)| after - before).collect();
    println!("requests in 6 s: {asked:?}");
    assert_eq!(asked[..2], [0, 0], "refused blocks are not asked again");
    assert!((1..=2).contains(&asked[2]), "a busy device is left alone: {} requests", asked[2]);
    assert!(
        (5..=14).contains(&asked[3]) && (5..=14).contains(&asked[4]),
        "no busy loop: {asked:?}"
    );
    for device in devices {
        rig.heal(device);
    }
    let healed = now();
    rig.answered("pile3", healed, seconds(3.0));
    rig.found("pile3", (Finding::DeviceFault, false), healed, PATIENCE);
    rig.answered("pile4", healed, seconds(3.0));
}

#[test]
fn fb8_garbage_in_valid_frames_is_held_for_a_moment_and_then_lost() {
    let rig = Rig::thinking("one_pile");
    until("a good meter", PATIENCE, || grid_quality(&rig).filter(|q| *q == Quality::Good));
    for word in [0xFFFF, 0x8000, 0x7FC0, 0x4BAD] {
        let began = now();
        rig.faults("grid", Faults { garbage: Some(word), ..Faults::default() });
        until("a refusal", PATIENCE, || rig.silences("grid", began).pop());
        assert_eq!(rig.silences("grid", began)[0].1, Silence::Implausible, "{word:#06X}");
        assert_eq!(rig.readings("grid", began).len(), 0, "{word:#06X} was believed");
        assert_eq!(grid_quality(&rig), Some(Quality::Good), "one bad sample is held over");
        rig.heal("grid");
        rig.answered("grid", now(), seconds(3.0));
        wait(seconds(1.1));
    }
    let began = now();
    rig.faults("grid", Faults { garbage: Some(0x4BAD), ..Faults::default() });
    until("the loss", PATIENCE, || grid_quality(&rig).filter(|q| *q == Quality::Bad));
    let took = began.elapsed();
    assert!(took <= seconds(5.0) + BUSY, "lost after {took:?}");
}

fn grid_quality(rig: &Rig) -> Option<Quality> {
    let devices = rig.overview()?.devices;
    devices.iter().find(|device| device.id.as_str() == "grid").map(|device| device.q)
}

#[test]
fn fb11_a_rebooted_device_is_told_again_and_gets_its_failsafe_back() {
    let rig = Rig::by_hand("sunny_day", |_| {});
    for device in ["pile1", "pile2"] {
        rig.answered(device, now(), PATIENCE);
    }
    rig.tell(&[("pile1", 12.0), ("pile2", 10.0)]);
    let held = || (rig.held(0) - 12.0).abs() < 0.06 && (rig.held(1) - 10.0).abs() < 0.06;
    let safe = || rig.sim.shared().with(|world| world.piles[1].safe_a);
    until("both told", PATIENCE, || (held() && safe() == 6.0).then_some(()));
    for device in ["pile1", "pile2"] {
        rig.faults(device, Faults { reboot: true, ..Faults::default() });
    }
    let began = now();
    assert!(!held(), "a reboot forgets");
    until("both told again, and the failsafe", seconds(5.0) + BUSY, || {
        (held() && safe() == 6.0).then_some(())
    });
    println!("initialised again after {:?}", began.elapsed());
    let rivals = rig
        .since(began)
        .into_iter()
        .filter(|(_, observation)| format!("{observation:?}").contains("ForeignWriter"));
    assert_eq!(rivals.count(), 0, "a reboot is not another master");
}

#[test]
fn fb13_another_master_on_a_one_client_device_is_told() {
    let (runtime, sim) = super::rig::devices("one_pile");
    let config = super::rig::checked(&super::rig::site_file(sim.addresses()));
    let address = sim.addresses().piles[0].address;
    let mut rival = TcpStream::connect(address).unwrap();
    write_f32(&mut rival, 1210, 9.0);
    sim.shared().set_faults("pile1", Faults { one_client: true, ..Faults::default() }).unwrap();
    let began = now();
    let rig = Rig::start((runtime, sim), config, false);
    let took = rig.found("pile1", (Finding::OtherMaster, true), began, PATIENCE);
    assert!(took <= seconds(30.0), "told after {took:?}");
    assert_eq!(rig.readings("pile1", began).len(), 0);
    write_f32(&mut rival, 1210, 8.0);
    drop(rival);
    let left = now();
    rig.answered("pile1", left, seconds(8.0));
    rig.found("pile1", (Finding::OtherMaster, false), left, PATIENCE);
    println!("told after {took:?}, taken over after {:?}", left.elapsed());
}

/// Writes a float with function 16 as another master would; the echo is checked.
fn write_f32(stream: &mut TcpStream, address: u16, value: f32) {
    let (at, value) = (address.to_be_bytes(), value.to_be_bytes());
    let mut frame = vec![0, 9, 0, 0, 0, 11, 1, 16, at[0], at[1], 0, 2, 4];
    frame.extend(value);
    stream.write_all(&frame).unwrap();
    let mut echo = [0; 12];
    stream.read_exact(&mut echo).unwrap();
    assert_eq!(echo[7], 16, "the rival's write was refused: {echo:?}");
}

#[test]
fn fb14_a_foreign_writer_is_answered_and_after_three_times_the_lower_value_stands() {
    let rig = Rig::by_hand("one_pile", |_| {});
    rig.answered("pile1", now(), PATIENCE);
    rig.tell(&[("pile1", 10.0)]);
    let holds = |amps: f64| (rig.held(0) - amps).abs() < 0.06;
    until("the setpoint", PATIENCE, || holds(10.0).then_some(()));
    wait(seconds(1.5));
    let address: SocketAddr = rig.sim.addresses().piles[0].address;
    let mut rival = TcpStream::connect(address).unwrap();
    let began = now();
    for round in 1..=3 {
        let wrote = now();
        write_f32(&mut rival, 1210, 20.0);
        until("our value again", seconds(2.0) + BUSY, || holds(10.0).then_some(()));
        println!("round {round}: asserted again after {:?}", wrote.elapsed());
        wait(seconds(1.5));
    }
    rig.found("pile1", (Finding::ForeignWriter, true), began, seconds(2.0));
    write_f32(&mut rival, 1210, 8.0);
    wait(seconds(4.0));
    assert!(holds(8.0), "the lower value stands, not {}", rig.held(0));
    rig.tell(&[("pile1", 6.0)]);
    until("our lower value", seconds(2.0) + BUSY, || holds(6.0).then_some(()));
}

#[test]
fn fb15_a_storm_of_decisions_is_one_write_a_second_and_a_stop_goes_first() {
    let rig = Rig::by_hand("one_pile", |_| {});
    rig.answered("pile1", now(), PATIENCE);
    rig.tell(&[("pile1", 10.0)]);
    until("the setpoint", PATIENCE, || ((rig.held(0) - 10.0).abs() < 0.06).then_some(()));
    let began = now();
    let before = rig.sim.shared().heard("pile1").writes;
    let mut round = 0;
    while began.elapsed() < seconds(5.0) {
        rig.tell(&[("pile1", 7.0 + f64::from(round % 20))]);
        round += 1;
        wait(Duration::from_millis(1));
    }
    let writes = rig.sim.shared().heard("pile1").writes - before;
    println!("{round} decisions, {writes} writes in 5 s");
    assert!((3..=6).contains(&writes), "{writes} writes in 5 s");
    rig.tell(&[("pile1", 0.0)]);
    let told = now();
    until("the stop", seconds(0.5), || (rig.held(0) == 0.0).then_some(()));
    println!("stopped after {:?}", told.elapsed());
    // Every write that the device has heard is counted, and no other.
    until("the counts", PATIENCE, || {
        let heard = rig.sim.shared().heard("pile1").writes;
        (heard > 0 && rig.counted("pile1") == heard).then_some(())
    });
    assert_eq!(rig.counted("grid"), 0);
}

#[test]
fn fb16_a_wrong_word_order_never_arms() {
    let rig = Rig::build("one_pile", true, |config| {
        let meter = &mut config.devices[0].profile;
        for point in &mut meter.points {
            point.order = Order::Cdab;
            (point.min, point.max) = (None, None);
        }
    });
    let began = now();
    rig.answered("grid", began, PATIENCE);
    wait(seconds(6.0));
    let overview = rig.overview().unwrap();
    assert!(!overview.writing);
    let why = overview.not_writing.unwrap();
    assert!(["implausible_meter", "waiting_for_meter"].contains(&why.as_str()), "{why}");
    assert_eq!(rig.sim.shared().heard("pile1").writes, 0);
}

#[test]
fn decisions_that_stop_leave_the_fallback_behind() {
    let rig = Rig::by_hand("one_pile", |_| {});
    rig.answered("pile1", now(), PATIENCE);
    rig.tell(&[("pile1", 16.0)]);
    until("the setpoint", PATIENCE, || ((rig.held(0) - 16.0).abs() < 0.06).then_some(()));
    rig.fall_silent();
    let began = now();
    until("the failsafe current", seconds(7.0) + BUSY, || {
        ((rig.held(0) - 6.0).abs() < 0.06).then_some(())
    });
    assert!(began.elapsed() >= seconds(3.5), "a decision lives for five seconds");
}

#[test]
fn decisions_that_stop_raise_nobody_and_neither_does_a_gateway_that_stops() {
    let mut rig = Rig::by_hand("one_pile", |_| {});
    rig.answered("pile1", now(), PATIENCE);
    rig.tell(&[("pile1", 10.0)]);
    until("the setpoint", PATIENCE, || ((rig.held(0) - 10.0).abs() < 0.06).then_some(()));
    rig.tell(&[("pile1", 0.0)]);
    until("the pause", PATIENCE, || (rig.held(0) == 0.0).then_some(()));
    rig.fall_silent();
    let (began, before) = (now(), rig.counted("pile1"));
    while began.elapsed() < seconds(11.0) {
        assert_eq!(rig.held(0), 0.0, "raised after {:?}", began.elapsed());
        wait(Duration::from_millis(50));
    }
    assert!(rig.counted("pile1") > before, "the fallback is renewed");
    rig.stop();
    assert_eq!(rig.held(0), 0.0, "raised at the stop");
}

#[test]
fn a_stop_right_after_a_setpoint_leaves_the_fallback_and_not_the_setpoint() {
    let mut rig = Rig::by_hand("one_pile", |config| {
        let setpoint = config.devices[1].profile.setpoint.as_mut().unwrap();
        setpoint.settle_ms = 1000;
    });
    rig.answered("pile1", now(), PATIENCE);
    rig.tell(&[("pile1", 16.0)]);
    until("the setpoint", PATIENCE, || ((rig.held(0) - 16.0).abs() < 0.06).then_some(()));
    rig.stop();
    assert!((rig.held(0) - 6.0).abs() < 0.06, "left at {} A", rig.held(0));
}

#[test]
fn fb6_a_block_refused_last_of_all_is_asked_again_after_a_reboot() {
    let rig = Rig::by_hand("one_pile", |_| {});
    rig.answered("pile1", now(), PATIENCE);
    let began = now();
    // In the last block of the round.
    rig.faults("pile1", Faults { unknown_register: Some(1212), ..Faults::default() });
    rig.found("pile1", (Finding::Misconfigured, true), began, PATIENCE);
    rig.heal("pile1");
    wait(seconds(2.5));
    rig.faults("pile1", Faults { reboot: true, ..Faults::default() });
    let rebooted = now();
    rig.heal("pile1");
    rig.found("pile1", (Finding::Misconfigured, false), rebooted, PATIENCE);
    rig.answered("pile1", rebooted, PATIENCE);
}

#[test]
fn fb6_a_device_that_is_too_busy_for_a_write_is_read_all_the_same() {
    let rig = Rig::by_hand("one_pile", |_| {});
    rig.answered("pile1", now(), PATIENCE);
    rig.faults("pile1", Faults { write_exception: Some(6), ..Faults::default() });
    rig.tell(&[("pile1", 10.0)]);
    let began = now();
    wait(seconds(8.0));
    let readings = rig.readings("pile1", began).len();
    println!("{readings} readings in 8 s");
    assert!(readings >= 6, "{readings} readings in 8 s");
    rig.heal("pile1");
    until("the setpoint", seconds(2.0) + BUSY, || {
        ((rig.held(0) - 10.0).abs() < 0.06).then_some(())
    });
}

/// Where `pile1` is told its phases.
const PHASES: u16 = 1215;
/// The failsafe current and time-out of `pile2`.
const FAILSAFE: [u16; 2] = [5016, 5018];

#[test]
fn fb15_a_failsafe_that_does_not_stick_is_written_three_times_and_told() {
    let rig = Rig::by_hand("sunny_day", |config| {
        // What the device shows is never what was meant.
        let pile = config.devices.iter_mut().find(|device| device.id.as_str() == "pile2").unwrap();
        pile.profile.failsafe.as_mut().unwrap().current.scale *= 2.0;
    });
    rig.answered("pile2", now(), PATIENCE);
    let began = now();
    rig.tell(&[("pile2", 10.0)]);
    rig.found("pile2", (Finding::Misconfigured, true), began, PATIENCE);
    wait(seconds(5.0));
    let writes = FAILSAFE.map(|register| rig.counted_at("pile2", register));
    assert_eq!(writes, [3, 3], "these registers wear out");
    assert!((rig.held(1) - 10.0).abs() < 0.06, "the setpoint is {}", rig.held(1));
}

#[test]
fn a_failsafe_that_is_refused_does_not_hold_up_the_setpoint() {
    let rig = Rig::by_hand("sunny_day", |config| {
        let pile = config.devices.iter_mut().find(|device| device.id.as_str() == "pile2").unwrap();
        pile.profile.failsafe.as_mut().unwrap().current.address = 5999;
        pile.failsafe_a = Some(8.0);
    });
    rig.answered("pile2", now(), PATIENCE);
    let began = now();
    rig.tell(&[("pile2", 10.0)]);
    until("the setpoint", seconds(3.0) + BUSY, || {
        ((rig.held(1) - 10.0).abs() < 0.06).then_some(())
    });
    rig.found("pile2", (Finding::Misconfigured, true), began, PATIENCE);
    rig.tell(&[("pile2", 7.0)]);
    until("a lower one", seconds(3.0) + BUSY, || ((rig.held(1) - 7.0).abs() < 0.06).then_some(()));
}

#[test]
fn phases_change_only_with_the_charger_paused_and_nothing_flowing_and_stay_without_a_decision() {
    let (runtime, sim) = super::rig::devices("one_pile");
    let text = super::rig::site_file(sim.addresses());
    let allowed = "failsafe_a = 6\nphase_switching = true";
    let config = super::rig::checked(&text.replace("failsafe_a = 6", allowed));
    let rig = Rig::start((runtime, sim), config, false);
    let shown = |since: Instant| match rig.answered("pile1", since, PATIENCE) {
        Reading::Charger(reading) => (reading.phases, reading.current.0.map(|amps| amps.get())),
        other => panic!("{other:?}"),
    };
    assert_eq!(shown(now()).0, Some(PhaseCount::Three));
    let pile = || rig.sim.shared().with(|w| (w.piles[0].connected, w.piles[0].hot_switches));
    let (one, three) = ([("pile1", PhaseCount::One)], [("pile1", PhaseCount::Three)]);
    rig.tell_phases(&[("pile1", 10.0)], &one);
    until("the car draws", seconds(20.0), || (shown(now()).1[2] > 9.0).then_some(()));
    assert_eq!(pile(), (3, 0), "not while it charges");
    let began = now();
    rig.tell_phases(&[("pile1", 0.0)], &one);
    until("one phase", seconds(10.0) + BUSY, || (pile() == (1, 0)).then_some(()));
    println!("on one phase {:?} after the pause", began.elapsed());
    until("it says so", PATIENCE, || (shown(now()).0 == Some(PhaseCount::One)).then_some(()));
    rig.tell_phases(&[("pile1", 8.0)], &one);
    until("it charges", seconds(20.0), || (shown(now()).1[0] > 7.0).then_some(()));
    assert_eq!(shown(now()).1[1..], [0.0, 0.0]);
    rig.tell_phases(&[("pile1", 8.0)], &three);
    rig.fall_silent();
    until("the failsafe current", seconds(10.0), || {
        ((rig.held(0) - 6.0).abs() < 0.06).then_some(())
    });
    assert_eq!(pile(), (1, 0), "phases stay as they are without a decision");
    let rival = |(_, told): &(Instant, _)| format!("{told:?}").contains("ForeignWriter");
    assert_eq!(rig.since(began).iter().filter(|told| rival(told)).count(), 0);
}

/// A pile that did not follow twice is asked again once it was told that it may stay as it is.
#[test]
fn phases_that_a_charger_did_not_change_are_asked_for_again_by_the_next_car() {
    let (runtime, sim) = super::rig::devices("one_pile");
    let text = super::rig::site_file(sim.addresses());
    let allowed = "failsafe_a = 6\nphase_switching = true";
    let config = super::rig::checked(&text.replace("failsafe_a = 6", allowed));
    let rig = Rig::start((runtime, sim), config, false);
    rig.answered("pile1", now(), PATIENCE);
    rig.faults("pile1", Faults { ignores_phases: true, ..Faults::default() });
    let before = rig.counted_at("pile1", PHASES);
    rig.tell_phases(&[("pile1", 0.0)], &[("pile1", PhaseCount::One)]);
    let asked = || rig.counted_at("pile1", PHASES) - before;
    until("asked twice", seconds(25.0), || (asked() == 2).then_some(()));
    rig.heal("pile1");
    rig.tell_phases(&[("pile1", 0.0)], &[("pile1", PhaseCount::Three)]);
    let told = now();
    rig.answered("pile1", told, PATIENCE);
    rig.tell_phases(&[("pile1", 0.0)], &[("pile1", PhaseCount::One)]);
    let connected = || rig.sim.shared().with(|world| world.piles[0].connected);
    until("one phase", seconds(10.0) + BUSY, || (connected() == 1).then_some(()));
}
