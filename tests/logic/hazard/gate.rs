//! The last gate alone: whatever is wished, what passes is bounded, complete and stopped where it burns. And
//! what of the sensing no whole story shows: limits stretched for a faster site, and a battery's own device that
//! says whether it is at rest.
//!
//! What a stranger gets wrong: wishes here are nonsense on purpose. The gate trusts nobody.

use std::collections::BTreeMap;
use std::time::Duration;

use wattgate::logic::decision::Decision;
use wattgate::logic::safety::alarms::AlarmBook;
use wattgate::logic::safety::fire::{FireWatch, Hazard, Level};
use wattgate::logic::safety::interlock::{
    Permitted, at_failsafe, blind_output, burning_zone, fallback, permit,
};
use wattgate::logic::safety::linkage::Isolation;
use wattgate::logic::site::{
    BatteryReading, ChargerSetpoint, Id, Inverter, PvReading, Reading, Reason, RelaySetpoint,
    SensorKind, Setpoints, Site,
};
use wattgate::logic::vision::{Scene, Tier, Verdict};
use wattgate::units::{Amps, Moment, Soc, Watts};

use super::{Rig, id, site};

fn with_node() -> Site {
    let mut with_node = site::guarded();
    with_node.computes.push(site::node());
    with_node
}

fn moment(s: u64) -> Moment {
    let utc = chrono::DateTime::from_timestamp(1_780_000_000, 0).unwrap();
    Moment { uptime: Duration::from_secs(1000), utc }.after(Duration::from_secs(s))
}

fn hazard(level: Level) -> Hazard {
    Hazard {
        level,
        stops: level >= Level::Alarm,
        fault: false,
        since: moment(0),
        causes: Vec::new(),
        battery_rests: false,
        told_otherwise: false,
        isolate: false,
    }
}

fn in_store(hazard: Hazard) -> BTreeMap<Id, Hazard> {
    [(id("store"), hazard)].into()
}

/// Every actuator of the site wished the same.
fn wishes(amps: f64, watts: f64) -> Setpoints {
    let why = || Reason::DeviceMaximum;
    let piles = ["pile1", "pile2"];
    let charge = |pile: &str| (id(pile), (ChargerSetpoint::Current(Amps(amps)), why()));
    Setpoints {
        chargers: piles.into_iter().map(charge).collect(),
        batteries: [(id("pack"), (Watts(watts), why()))].into(),
        computes: [(id("node"), (Watts(watts), why()))].into(),
        relays: [(id("siren"), (RelaySetpoint::Act, Reason::NoDanger))].into(),
        ..Setpoints::default()
    }
}

fn pile(permitted: &Permitted, name: &str) -> f64 {
    permitted.charger(&id(name)).unwrap().0.amps().get()
}

#[test]
fn whatever_is_wished_only_what_each_actuator_can_take_passes() {
    let site = with_node();
    let calm = in_store(hazard(Level::Normal));
    for (amps, passes) in [
        (5.999, 0.0),
        (-3.0, 0.0),
        (6.0, 6.0),
        (20.0, 20.0),
        (32.0, 32.0),
        (1e308, 32.0),
        (f64::INFINITY, 32.0),
        (f64::NAN, 6.0),
    ] {
        let permitted = permit(&site, wishes(amps, 0.0), &calm);
        assert_eq!(pile(&permitted, "pile1"), passes, "{amps} A");
        assert_eq!(permitted.charger(&id("pile2")).unwrap().1, Reason::DeviceMaximum, "{amps} A");
    }
    for (watts, battery, node) in [
        (3000.0, 3000.0, 3000.0),
        (1e6, 10_000.0, 6000.0),
        (-1e6, -10_000.0, 800.0),
        // What is no number at all is not wished: the fallback stands.
        (f64::NAN, 0.0, 2000.0),
        (f64::INFINITY, 0.0, 2000.0),
    ] {
        let permitted = permit(&site, wishes(6.0, watts), &calm);
        assert_eq!(permitted.battery(&id("pack")).unwrap().0.get(), battery, "{watts} W");
        assert_eq!(permitted.compute(&id("node")).unwrap().0.get(), node, "{watts} W");
    }
    let permitted = permit(&site, wishes(6.0, 0.0), &calm);
    assert_eq!(permitted.relay(&id("siren")).unwrap().0, RelaySetpoint::Act);
    assert_eq!(permitted.relay(&id("fan")), None, "nobody said anything: it stays as it is");
}

#[test]
fn whoever_is_not_wished_anything_gets_the_fallback_and_nobody_is_left_out() {
    let mut site = with_node();
    site.chargers[1].failsafe = Amps(0.0);
    let all = permit(&site, Setpoints::default(), &BTreeMap::new());
    assert_eq!(all, fallback(&site));
    assert_eq!((pile(&all, "pile1"), pile(&all, "pile2")), (6.0, 0.0));
    assert_eq!(all.charger(&id("pile1")).unwrap().1, Reason::NoDecision);
    assert_eq!(all.battery(&id("pack")), Some(&(Watts::ZERO, Reason::NoDecision)));
    assert_eq!(all.compute(&id("node")), Some(&(Watts(2000.0), Reason::NoDecision)));
    assert!(all.setpoints().relays.is_empty(), "relays stay as they are");
    site.chargers[0].failsafe = Amps(40.0);
    assert_eq!(at_failsafe(&site.chargers[0]), ChargerSetpoint::Current(Amps(32.0)));
    site.chargers[0].failsafe = Amps(5.9);
    assert_eq!(at_failsafe(&site.chargers[0]), ChargerSetpoint::Pause);
}

#[test]
fn a_zone_in_danger_and_its_neighbours_on_either_side_are_stopped() {
    let neighbours = |site: &mut Site, of: &str, other: &str| {
        let zone = site.zones.iter_mut().find(|zone| zone.id == id(of)).unwrap();
        zone.neighbours.push(id(other));
    };
    let mut named = with_node();
    neighbours(&mut named, "store", "far");
    let mut names = with_node();
    neighbours(&mut names, "far", "store");
    for (what, site, far) in
        [("alone", with_node(), 20.0), ("named", named, 0.0), ("names", names, 0.0)]
    {
        for (level, stopped) in [(Level::Watch, false), (Level::Alarm, true), (Level::Trip, true)] {
            let hazards = in_store(hazard(level));
            let permitted = permit(&site, wishes(20.0, 3000.0), &hazards);
            let battery = permitted.battery(&id("pack")).unwrap().clone();
            if !stopped {
                assert_eq!((pile(&permitted, "pile1"), battery.0.get()), (20.0, 3000.0), "{what}");
                assert_eq!(burning_zone(&site, &id("store"), &hazards), None, "{what}");
                continue;
            }
            assert_eq!((pile(&permitted, "pile1"), battery.0.get()), (0.0, 0.0), "{what}");
            assert_eq!(pile(&permitted, "pile2"), far, "{what}, {level:?}");
            let zone = id("store");
            let why = match level {
                Level::Trip => Reason::Tripped { zone },
                _ => Reason::FireAlarm { zone },
            };
            assert_eq!((&battery.1, &permitted.charger(&id("pile1")).unwrap().1), (&why, &why));
            assert_eq!(permitted.compute(&id("node")).unwrap().0.get(), 3000.0, "{what}");
            assert_eq!(permitted.relay(&id("contactor")), None, "{what}: not by the level alone");
        }
    }
}

#[test]
fn the_vote_opens_the_contactor_and_silence_rests_the_battery_alone() {
    let site = with_node();
    let isolated = Hazard { isolate: true, ..hazard(Level::Trip) };
    let mut wished = wishes(20.0, 3000.0);
    let rest = (RelaySetpoint::Rest, Reason::NoDanger);
    wished.relays.insert(id("contactor"), rest.clone());
    wished.relays.insert(id("feeder"), rest);
    let permitted = permit(&site, wished, &in_store(isolated));
    let open = (RelaySetpoint::Act, Reason::Tripped { zone: id("store") });
    assert_eq!(permitted.relay(&id("contactor")), Some(&open), "whatever was wished");
    assert_eq!(permitted.relay(&id("feeder")).unwrap().0, RelaySetpoint::Rest);
    let silent = Hazard { battery_rests: true, ..hazard(Level::Watch) };
    let permitted = permit(&site, wishes(20.0, 3000.0), &in_store(silent));
    let rest = (Watts::ZERO, Reason::BmsSilent { zone: id("store") });
    assert_eq!(permitted.battery(&id("pack")), Some(&rest));
    assert_eq!(pile(&permitted, "pile1"), 20.0);
}

fn scene(s: u64) -> Scene {
    Scene {
        camera: id("cam"),
        frame: s,
        at: moment(s),
        fire: 0.0,
        smoke: 0.0,
        verdict: Verdict::Clear,
        tier: Tier::Small,
        bays: Vec::new(),
        scored_by: None,
        cpu_ms: 1.0,
        fault: None,
    }
}

fn pack(watts: f64) -> Reading {
    let battery = BatteryReading { power: Watts(watts), soc: Soc::from_ratio(0.5).unwrap() };
    Reading::Hybrid { battery, pv: PvReading { power: Watts(0.0) } }
}

#[test]
fn a_site_whose_time_runs_faster_waits_as_much_longer_for_cameras_and_batteries() {
    for (pace, waits) in [(None, 5), (Some(1.0), 5), (Some(10.0), 50), (Some(0.1), 5)] {
        let mut plain = site::guarded();
        // The pack's own device is all that speaks of the battery.
        plain.guard.sensors.clear();
        let mut watch = FireWatch::new(&plain, moment(0));
        if let Some(pace) = pace {
            watch.stretch(pace);
        }
        watch.see(&scene(100));
        watch.sense(&id("pack"), moment(100), &pack(100.0));
        let silent = |watch: &mut FireWatch, s: u64| {
            let hazard = watch.assess(&[], moment(s)).remove(&id("store")).unwrap();
            (hazard.battery_rests, watch.sees(&id("cam"), moment(s)))
        };
        assert_eq!(silent(&mut watch, 100 + waits - 1), (false, true), "{pace:?}");
        assert_eq!(silent(&mut watch, 100 + waits), (true, false), "{pace:?}");
    }
}

#[test]
fn without_a_current_sensor_the_batterys_own_power_says_whether_it_is_at_rest() {
    let mut bare = site::guarded();
    bare.guard.sensors.retain(|sensor| sensor.kind != SensorKind::BatteryCurrent);
    // Two hundredths of 10 kW.
    for (watts, isolated) in
        [(-4000.0, false), (201.0, false), (-201.0, false), (200.0, true), (-199.0, true)]
    {
        let mut rig = Rig::of(bare.clone());
        // The contact opens and the power stays what it is.
        rig.welded = true;
        rig.battery_w = watts;
        rig.run(2);
        rig.set("stop_closed", 0.0);
        rig.set("contactor_closed", 0.0);
        rig.run(2);
        let wanted = if isolated { Isolation::Isolated } else { Isolation::Open };
        assert_eq!(rig.zone().isolation, wanted, "{watts} W");
        rig.silent.insert("pack");
        rig.run(6);
        assert_eq!(rig.zone().isolation, Isolation::Open, "{watts} W: it fell silent");
    }
}

#[test]
fn a_relay_is_proven_by_what_it_does_and_where_it_has_a_contact_by_that() {
    let overdue = |rig: &Rig, relay: &str| rig.alarms().contains(&format!("proof_overdue-{relay}"));
    let mut proven = site::guarded();
    let day = Duration::from_secs(86_400);
    proven.guard.relays.iter_mut().for_each(|relay| relay.proof_every = Some(day));
    let mut rig = Rig::cold(proven);
    rig.welded = true;
    rig.run(20);
    for relay in ["contactor", "siren", "fan", "feeder"] {
        rig.prove(relay);
    }
    rig.run(2);
    assert!(["contactor", "siren", "fan", "feeder"].iter().all(|relay| overdue(&rig, relay)));
    rig.set("stop_closed", 0.0);
    rig.run(2);
    ["contactor", "siren", "feeder"].iter().for_each(|relay| rig.prove(relay));
    rig.run(10);
    assert!(!overdue(&rig, "siren"), "it sounds");
    assert!(overdue(&rig, "contactor"), "its contact does not say that it opened");
    assert!(overdue(&rig, "feeder"), "it was not told to");
    rig.set("contactor_closed", 0.0);
    rig.run(2);
    rig.prove("contactor");
    rig.run(10);
    assert!(!overdue(&rig, "contactor"));
    assert!(overdue(&rig, "fan"), "it ran, but nobody has said that they saw it");
}

#[test]
fn alarms_are_remembered_across_a_restart() {
    let mut rig = Rig::new();
    rig.set("smoke", 1.0);
    rig.run(3);
    let known = rig.controller.latched().alarms;
    assert!(known.iter().any(|alarm| alarm.code == "fire_alarm"), "{known:?}");
    let mut book = AlarmBook::default();
    book.restore(&known);
    let mut restored = book.list();
    restored.sort_by(|a, b| a.id.cmp(&b.id));
    assert_eq!(restored, known);
}

#[test]
fn every_decision_names_every_actuator() {
    let complete = |decision: &Decision, site: &Site| {
        let told = decision.permitted.setpoints();
        site.chargers.iter().all(|charger| told.chargers.contains_key(&charger.id))
            && site.batteries.iter().all(|battery| told.batteries.contains_key(&battery.id))
            && site.guard.relays.iter().all(|relay| told.relays.contains_key(&relay.id))
    };
    let mut rig = Rig::new();
    let site = site::guarded();
    for name in ["smoke", "heat", "panel"] {
        rig.second();
        assert!(complete(rig.decision(), &site), "before {name}");
        rig.set(name, 1.0);
    }
    rig.silent.extend(["io", "bms", "pack", "grid", "pile1", "pile2", "cam"]);
    for second in 0..30 {
        rig.second();
        assert!(complete(rig.decision(), &site), "{second} s after everything fell silent");
    }
}

#[test]
fn inverters_that_nobody_decides_about_share_what_may_be_exported_by_their_size() {
    let mut site = site::guarded();
    let inverter = |name: &str, watts: f64| Inverter { id: id(name), rated: Watts(watts) };
    site.inverters = vec![inverter("east", 10_000.0), inverter("west", 30_000.0)];
    for (export, east, west) in
        [(Some(8_000.0), 2_000.0, 6_000.0), (None, 10_000.0, 30_000.0), (Some(0.0), 0.0, 0.0)]
    {
        site.limits.export = export.map(Watts);
        let of = |i: usize| blind_output(&site, &site.inverters[i]).get();
        assert!((of(0) - east).abs() < 1e-6 && (of(1) - west).abs() < 1e-6, "{export:?}");
    }
}
