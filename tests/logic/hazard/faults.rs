//! Rows EN1 to EN5 of the fault matrix, and FB10's last step, on the control side: decisions in virtual time, a sample a second.
//! The wire's share of the bounds is in `tests/wire/safety`.

use std::time::Duration;

use wattgate::logic::controller::{Controller, Rule};
use wattgate::logic::decision::Effort;
use wattgate::logic::observation::Observation;
use wattgate::logic::safety::fire::Level;
use wattgate::logic::safety::linkage::Isolation;
use wattgate::logic::safety::sensing::Vote;
use wattgate::logic::site::{ChargerSetpoint, Reason, RelaySetpoint};
use wattgate::logic::vision::Verdict;
use wattgate::units::{Amps, Watts};

use super::{Rig, id, loop_ma, site};

#[test]
fn en1_gas_stage_1_on_one_sensor_stops_charging_with_the_next_sample() {
    let mut rig = Rig::new();
    rig.run(60);
    assert_ne!(rig.told("pile1"), ChargerSetpoint::Pause);
    rig.set("gas2", loop_ma(21.0));
    rig.second();
    assert_eq!(rig.told("pile1"), ChargerSetpoint::Pause);
    let (_, why) = rig.decision().permitted.charger(&id("pile1")).unwrap().clone();
    assert!(matches!(why, Reason::FireAlarm { .. }), "{why:?}");
    assert_eq!(rig.battery_told(), 0.0);
    // People are told of it, and it is latched, when the next sample says the same.
    rig.second();
    assert_eq!(rig.told("pile1"), ChargerSetpoint::Pause);
    assert_eq!(rig.relay("siren"), RelaySetpoint::Act);
    assert_eq!(rig.relay("fan"), RelaySetpoint::Act);
    assert_eq!(rig.relay("contactor"), RelaySetpoint::Rest, "one voice isolates nothing");
    assert_ne!(rig.told("pile2"), ChargerSetpoint::Pause, "the other zone goes on");
    rig.set("gas2", 4.0);
    rig.run(3600);
    assert_eq!(rig.told("pile1"), ChargerSetpoint::Pause, "the alarm let go by itself");
}

#[test]
fn en2_smoke_and_heat_open_the_contactor_without_waiting_for_the_current() {
    let mut rig = Rig::new();
    rig.set("smoke", 1.0);
    rig.set("heat", 1.0);
    let asked = rig.until(5, |rig| rig.relay("contactor") == RelaySetpoint::Act);
    assert!(asked.is_some_and(|s| s <= 2), "asked after {asked:?} samples");
    assert_eq!(rig.battery_told(), 0.0, "zero power goes out with it");
    let proven = rig.until(5, |rig| rig.zone().isolation == Isolation::Isolated);
    assert!(proven.is_some_and(|s| s <= 2), "feedback after {proven:?}");
    assert_eq!(rig.relay("breaker"), RelaySetpoint::Rest);
}

#[test]
fn en2_gas_stage_2_isolates_where_the_detector_is_certified_or_a_second_voice_agrees() {
    let mut certified = site::guarded();
    for sensor in certified.guard.sensors.iter_mut().filter(|s| s.id == id("gas1")) {
        sensor.certified = true;
    }
    let mut rig = Rig::of(certified);
    rig.set("gas1", loop_ma(41.0));
    let asked = rig.until(5, |rig| rig.relay("contactor") == RelaySetpoint::Act);
    assert_eq!(asked, Some(2));
    let mut rig = Rig::new();
    rig.set("gas1", loop_ma(41.0));
    rig.run(30);
    assert_eq!(rig.level(), Level::Trip);
    assert_eq!(rig.relay("contactor"), RelaySetpoint::Rest, "one of three");
    rig.set("level", 2.0);
    rig.second();
    assert_eq!(rig.relay("contactor"), RelaySetpoint::Rest, "one sample is no second voice yet");
    rig.second();
    assert_eq!(rig.relay("contactor"), RelaySetpoint::Act, "two voices");
}

#[test]
fn a_failed_member_votes_for_isolation_and_vision_does_not() {
    let mut rig = Rig::new();
    rig.verdict = Verdict::Alarm;
    rig.set("gas1", loop_ma(41.0));
    rig.run(30);
    assert_eq!(rig.level(), Level::Trip);
    assert_eq!(rig.relay("contactor"), RelaySetpoint::Rest, "a camera is no second voice");
    rig.set("gas3", 0.0);
    let asked = rig.until(8, |rig| rig.relay("contactor") == RelaySetpoint::Act);
    assert!(asked.is_some_and(|s| (4..=6).contains(&s)), "one of the two that are left: {asked:?}");
}

#[test]
fn the_vote_is_two_of_three_or_one_hard_input() {
    let vote = |voices, failed, hard, soft| Vote { voices, failed, hard, soft };
    for (what, vote, confirmed, isolates) in [
        ("nobody", vote(0, 0, false, false), true, false),
        ("one voice", vote(1, 0, false, true), true, false),
        ("two voices", vote(2, 0, false, true), true, true),
        ("two voices, none at trip", vote(2, 0, false, false), true, false),
        ("two voices, limits not confirmed", vote(2, 0, false, true), false, false),
        ("one voice, one failed", vote(1, 1, false, true), true, true),
        ("one voice, one failed, not confirmed", vote(1, 1, false, true), false, false),
        ("only failed ones", vote(0, 3, false, false), true, false),
        ("a hard input", vote(1, 0, true, false), false, true),
    ] {
        assert_eq!(vote.isolates(confirmed), isolates, "{what}");
    }
}

#[test]
fn limits_that_nobody_confirmed_isolate_nothing_but_an_emergency_stop_does() {
    let mut unconfirmed = site::guarded();
    unconfirmed.guard.limits.clear();
    let mut rig = Rig::of(unconfirmed.clone());
    rig.set("smoke", 1.0);
    rig.set("heat", 1.0);
    rig.run(30);
    assert_eq!(rig.level(), Level::Trip);
    assert_eq!(rig.relay("contactor"), RelaySetpoint::Rest);
    let mut rig = Rig::of(unconfirmed);
    rig.set("stop_closed", 0.0);
    rig.second();
    assert_eq!(rig.relay("contactor"), RelaySetpoint::Act);
}

#[test]
fn en3_a_welded_contactor_escalates_in_two_seconds_and_is_never_called_isolated() {
    let mut rig = Rig::new();
    rig.welded = true;
    rig.set("stop_closed", 0.0);
    let asked = rig.until(3, |rig| rig.relay("contactor") == RelaySetpoint::Act);
    assert_eq!(asked, Some(1));
    let tripped = rig.until(5, |rig| rig.relay("breaker") == RelaySetpoint::Act);
    assert_eq!(tripped, Some(2));
    assert_eq!(rig.relay("siren"), RelaySetpoint::Act);
    assert!(rig.alarms().contains(&"contactor_welded-store".to_owned()), "{:?}", rig.alarms());
    for _ in 0..60 {
        rig.second();
        assert_eq!(rig.zone().isolation, Isolation::Welded);
        assert_eq!(rig.relay("breaker"), RelaySetpoint::Act);
    }
    // The breaker above has opened: current gone, but this contactor still does not say so.
    rig.set("current", 0.0);
    rig.second();
    assert_eq!(rig.zone().isolation, Isolation::Welded);
}

#[test]
fn open_is_not_isolated_while_a_current_flows_or_is_not_known() {
    let mut rig = Rig::new();
    rig.welded = true;
    rig.set("stop_closed", 0.0);
    rig.second();
    rig.set("contactor_closed", 0.0);
    rig.second();
    assert_eq!(rig.zone().isolation, Isolation::Open, "20 A still flow");
    rig.set("current", 0.5);
    rig.second();
    assert_eq!(rig.zone().isolation, Isolation::Isolated);
    rig.silent.insert("bms");
    rig.silent.insert("pack");
    rig.run(6);
    assert_eq!(rig.zone().isolation, Isolation::Open, "nobody knows the current");
    rig.silent.insert("io");
    rig.run(12);
    assert_ne!(rig.zone().isolation, Isolation::Isolated, "nobody knows the contact");
}

#[test]
fn en4_a_silent_management_rests_the_battery_in_five_seconds() {
    for silent in ["bms", "pack"] {
        let mut rig = Rig::new();
        rig.run(30);
        rig.silent.insert(silent);
        let rests = rig.until(10, |rig| rig.battery_told() == 0.0);
        assert!(rests.is_some_and(|s| s <= 5), "{silent}: {rests:?}");
        assert!(rig.zone().fault && rig.level() == Level::Watch, "{silent}: {:?}", rig.zone());
        rig.run(60);
        assert_eq!(
            rig.relay("contactor"),
            RelaySetpoint::Rest,
            "{silent}: only where the maker says"
        );
        assert!(rig.level() == Level::Watch, "{silent}");
        assert_ne!(rig.told("pile1"), ChargerSetpoint::Pause, "{silent}: no session ends");
    }
    let mut wanted = site::guarded();
    for limits in wanted.guard.limits.values_mut() {
        limits.isolate_on_bms_loss = true;
    }
    let mut rig = Rig::of(wanted);
    rig.silent.insert("bms");
    let asked = rig.until(10, |rig| rig.relay("contactor") == RelaySetpoint::Act);
    assert_eq!(asked, Some(5));
    assert_eq!(rig.level(), Level::Trip, "an isolated battery stays so until a person comes");
}

#[test]
fn en5_a_broken_gas_loop_is_a_fault_and_never_zero() {
    for (what, ma) in
        [("wire break", 0.0), ("just broken", 3.59), ("short", 21.1), ("garbage", f64::NAN)]
    {
        let mut rig = Rig::new();
        rig.set("gas1", ma);
        let fault = rig.until(6, |rig| rig.zone().fault);
        assert!(fault.is_some_and(|s| s <= 5), "{what}: {fault:?}");
        assert!(
            rig.alarms().contains(&"sensor_fault-gas1".to_owned()),
            "{what}: {:?}",
            rig.alarms()
        );
        rig.run(20);
        assert_eq!(rig.level(), Level::Watch, "{what}: a lost sensor is on watch");
        rig.set("gas1", 4.0);
        rig.run(59);
        assert!(rig.zone().fault, "{what}: not yet proven good");
        rig.run(3);
        assert!(!rig.zone().fault, "{what}: good for a minute");
    }
    let mut rig = Rig::new();
    rig.set("gas1", 3.61);
    rig.run(60);
    assert!(!rig.zone().fault, "3.61 mA is a sound loop");
}

#[test]
fn en5_a_stuck_gas_sensor_is_a_fault_in_five_seconds_where_it_is_known_to_move() {
    let mut moving = site::guarded();
    moving.guard.sensors.retain(|sensor| sensor.id != id("gas3"));
    for sensor in moving.guard.sensors.iter_mut().filter(|s| s.id == id("gas1")) {
        sensor.stuck_after = Some(std::time::Duration::from_secs(4));
    }
    let mut rig = Rig::cold(moving);
    for second in 0..60 {
        rig.set("gas1", 4.0 + 0.01 * f64::from(second % 3));
        rig.second();
    }
    assert!(!rig.zone().fault, "{:?}", rig.zone());
    let fault = rig.until(8, |rig| rig.zone().fault);
    assert!(fault.is_some_and(|s| s <= 5), "{fault:?}");
}

#[test]
fn an_alarm_that_is_not_obeyed_opens_the_feeder_after_15_s_and_never_the_contactor() {
    let mut rig = Rig::new();
    rig.run(60);
    rig.deaf = true;
    rig.set("smoke", 1.0);
    rig.run(2);
    assert_eq!(rig.level(), Level::Alarm);
    let opened = rig.until(30, |rig| rig.relay("feeder") == RelaySetpoint::Act);
    assert_eq!(opened, Some(14), "fifteen seconds after the first sample, which stopped it");
    assert_eq!(rig.relay("contactor"), RelaySetpoint::Rest);
    rig.set("smoke", 0.0);
    rig.run(60);
    assert_eq!(rig.relay("feeder"), RelaySetpoint::Act, "it stays open until the zone is reset");
    let mut obedient = Rig::new();
    obedient.run(60);
    obedient.set("smoke", 1.0);
    obedient.run(60);
    assert_eq!(obedient.relay("feeder"), RelaySetpoint::Rest);
    let mut silent = Rig::new();
    silent.run(60);
    silent.set("smoke", 1.0);
    silent.silent.insert("pile1");
    silent.run(40);
    assert_eq!(silent.relay("feeder"), RelaySetpoint::Act, "a silent pile may draw current");
}

/// The piles are told 6 A for ten minutes.
fn dim(rig: &mut Rig) {
    let until = rig.now.after(Duration::from_secs(600));
    let limit = Watts(8_500.0);
    rig.controller.observe(Observation::Dimmed { limit, until, at: rig.now });
}

#[test]
fn fb10_a_charger_that_ignores_its_setpoint_loses_its_feeder_after_20_s_until_a_person_was_there() {
    let mut rig = Rig::new();
    rig.run(60);
    rig.deaf = true;
    dim(&mut rig);
    let opened = rig.until(40, |rig| rig.relay("feeder") == RelaySetpoint::Act);
    assert_eq!(opened, Some(21), "twenty seconds after it was told and drew more");
    assert!(["contactor", "siren", "fan"].iter().all(|r| rig.relay(r) == RelaySetpoint::Rest));
    assert_eq!(rig.level(), Level::Normal, "it is no fire");
    rig.second();
    let alarms = rig.alarms();
    assert!(alarms.iter().any(|alarm| alarm.starts_with("feeder_opened")), "{alarms:?}");
    rig.power_cut();
    rig.run(900);
    assert_eq!(rig.relay("feeder"), RelaySetpoint::Act, "it stays open");
    assert_eq!(rig.told("pile1"), ChargerSetpoint::Pause);
    assert!(rig.told("pile2").amps() > Amps(6.0), "the other zone charges");
    rig.ask("Li", true);
    rig.ask("Li", false);
    rig.ask("Wang", true);
    assert_eq!(rig.relay("feeder"), RelaySetpoint::Act, "it takes both steps of one person");
    rig.deaf = false;
    rig.ask("Li", true);
    assert_eq!(rig.relay("feeder"), RelaySetpoint::Rest);
    rig.set("feeder_closed", 1.0);
    rig.run(120);
    assert_eq!(rig.relay("feeder"), RelaySetpoint::Rest);
    assert!(rig.told("pile1").amps() > Amps(6.0), "it charges again");
}

#[test]
fn fb10_nobody_loses_a_feeder_who_obeys_cannot_hear_or_has_none_and_nobody_without_the_rule() {
    let fate = |mut rig: Rig, tell: &dyn Fn(&mut Rig)| {
        rig.run(60);
        tell(&mut rig);
        dim(&mut rig);
        rig.until(120, |rig| rig.relay("feeder") == RelaySetpoint::Act)
    };
    assert_eq!(fate(Rig::new(), &|_| ()), None, "it obeys");
    let silent = |rig: &mut Rig| {
        rig.deaf = true;
        rig.silent.insert("pile1");
    };
    assert_eq!(fate(Rig::new(), &silent), None, "who hears nothing disobeys nobody");
    let deaf = |rig: &mut Rig| rig.deaf = true;
    assert!(fate(Rig::new(), &deaf).is_some());
    let mut off = Rig::cold(site::guarded());
    off.controller = Controller::new(site::guarded(), off.now).without(Rule::FeederOpens);
    assert_eq!(fate(off, &deaf), None, "the story needs the rule");
    let mut elsewhere = site::guarded();
    elsewhere.guard.relays.iter_mut().for_each(|relay| relay.zones = vec![id("far")]);
    let mut rig = Rig::of(elsewhere);
    rig.run(60);
    rig.deaf = true;
    dim(&mut rig);
    rig.run(60);
    assert!(!rig.zone().feeder_open, "a zone without a feeder's relay has nothing to hold open");
}

#[test]
fn inf5_a_burst_of_false_flames_is_one_alarm_and_isolates_nothing() {
    let mut rig = Rig::new();
    for second in 0..600 {
        rig.verdict = if second % 4 < 2 { Verdict::Alarm } else { Verdict::Clear };
        rig.second();
        assert_eq!(rig.relay("contactor"), RelaySetpoint::Rest);
    }
    let alarms = rig.alarms();
    assert_eq!(alarms.iter().filter(|alarm| alarm.starts_with("fire_")).count(), 1, "{alarms:?}");
}

#[test]
fn inf6_a_battery_below_its_floor_sheds_the_big_net_then_the_bays_and_never_fire() {
    let mut rig = Rig::new();
    rig.run(10);
    let floor = site::FLOOR;
    let cases = [
        (0.5, Effort::Full),
        (floor, Effort::Full),
        (floor - 0.015, Effort::Eco),
        (floor - 0.04, Effort::Survival),
        (floor + 0.02, Effort::Full),
    ];
    for (soc, wanted) in cases {
        rig.soc = soc;
        rig.verdict = Verdict::Doubtful;
        rig.run(3);
        let duty = &rig.decision().duty;
        assert_eq!(duty.effort, wanted, "{soc}");
        assert_eq!(duty.eager.len(), 1, "a doubt is looked at every second whatever it costs");
    }
}

#[test]
fn a_cell_that_was_silent_is_believed_when_it_comes_back_hot() {
    let mut rig = Rig::new();
    rig.silent.extend(["bms"]);
    rig.run(10);
    rig.silent.clear();
    rig.set("t3", 70.0);
    let tripped = rig.until(10, |rig| rig.level() == Level::Trip);
    assert!(tripped.is_some_and(|s| s <= 4), "tripped after {tripped:?} samples");
}

#[test]
fn one_lost_bus_is_one_alarm() {
    let mut rig = Rig::new();
    rig.silent.extend(["io", "bms", "pack", "grid", "pile1", "pile2"]);
    rig.run(30);
    assert_eq!(rig.level(), Level::Watch);
    assert_eq!(rig.alarms(), ["field_bus_lost"]);
}

#[test]
fn danger_is_answered_before_anything_is_armed() {
    let mut rig = Rig::cold(site::guarded());
    rig.silent.insert("grid");
    rig.run(30);
    assert!(!rig.decision().writing, "no meter, not armed");
    rig.set("stop_closed", 0.0);
    rig.second();
    assert!(rig.decision().writing);
    assert_eq!(rig.relay("contactor"), RelaySetpoint::Act);
    assert_eq!(rig.told("pile1"), ChargerSetpoint::Pause);
    assert!(rig.told("pile2").amps().get() <= 6.0, "nothing is raised by it");
}
