//! Rows EN and TM of the fault matrix, and FB10, each by its name and with its bound, in virtual time.

use std::time::Duration;

use wattgate::app::simulate::{What, Who};
use wattgate::logic::decision::Decision;
use wattgate::logic::site::{Band, Battery, ChargerSetpoint, Circuit, Reason, Site, Tariff};
use wattgate::units::{Amps, PerPhase, Phase, WattHours, Watts};

use crate::bench::{id, site};
use crate::field::{car, life, row, run, told};
use crate::worlds::Life;

fn twenty(limit: f64) -> Site {
    let wired: Vec<&[Phase]> = (0..20).map(|_| &Phase::ALL[..]).collect();
    row(&wired, limit)
}

#[test]
fn en6_twenty_slow_cars_are_below_the_limit_in_time_after_a_step_to_one_and_a_half() {
    for seed in 0..5 {
        let mut life = life(twenty(320.0), &vec![car(3, 32.0, 6.0); 20], seed);
        run(&mut life, 200);
        let on_l1 = |life: &Life| life.plant.world.grid_phases_w()[0] / life.plant.world.volts[0];
        assert!(on_l1(&life) > 300.0, "seed {seed}: the story needs a full connection");
        life.plant.world.set_building(Some(160.0 * 230.0 / 0.45));
        let decision = life.second();
        let sum: f64 =
            decision.permitted.setpoints().chargers.values().map(|s| s.0.amps().get()).sum();
        assert!(sum <= 160.0, "seed {seed}: {sum} A are told in the first second");
        run(&mut life, 60);
        let over = life.watch.longest_over_s();
        assert!(over <= 12.5, "seed {seed}: {over} s");
        assert!(life.watch.stress() < 0.2, "seed {seed}: stress {}", life.watch.stress());
    }
}

#[test]
fn en7_without_a_grid_all_stop_and_come_back_one_after_another() {
    let mut life = life(twenty(330.0), &vec![car(3, 32.0, 2.0); 20], 1);
    run(&mut life, 120);
    life.plant.grid_down = true;
    life.second();
    let stopped = |decision: &Decision| {
        let all = decision.permitted.setpoints().chargers.values().cloned().collect::<Vec<_>>();
        all.iter().all(|told| *told == (ChargerSetpoint::Pause, Reason::GridLost))
    };
    assert!(stopped(&life.second()), "two seconds");
    run(&mut life, 120);
    life.plant.grid_down = false;
    let mut starts = vec![None; 20];
    for second in 0..90 {
        let decision = life.second();
        for (i, start) in starts.iter_mut().enumerate() {
            let (setpoint, _) = decision.permitted.charger(&life.site.chargers[i].id).unwrap();
            if *setpoint != ChargerSetpoint::Pause {
                start.get_or_insert(second);
            }
        }
    }
    let mut starts: Vec<u32> = starts.into_iter().map(Option::unwrap).collect();
    starts.sort_unstable();
    let together = starts.chunk_by(|a, b| a == b).map(<[u32]>::len).max().unwrap();
    assert!(starts[19] <= 65 && together <= 4, "{starts:?}");
    assert!(starts[19] - starts[0] >= 20, "{starts:?}");
}

/// A battery beside one pile.
fn with_battery(limit: f64) -> Site {
    let mut site = row(&[&Phase::ALL], limit);
    let kw = Watts(10_000.0);
    let battery = crate::bench::site().batteries[0].clone();
    site.batteries = vec![Battery {
        max_charge: kw,
        max_discharge: kw,
        capacity: Some(WattHours(20e3)),
        ..battery
    }];
    site.pvs = vec![id("hybrid")];
    site
}

#[test]
fn en8_a_cloud_that_takes_four_fifths_of_the_sun_is_followed_without_swinging() {
    let mut life = life(with_battery(35.0), &[car(3, 32.0, 2.0)], 2);
    life.plant.world.set_building(Some(6_000.0));
    life.plant.world.set_pv(Some(20_000.0));
    run(&mut life, 400);
    life.plant.world.set_pv(Some(4_000.0));
    let (mut swings, mut rising, mut before) = (0, None, life.plant.world.hybrid.battery_w);
    for second in 1..=120 {
        let told = life.second();
        let now = life.plant.world.hybrid.battery_w;
        if (now - before).abs() > 300.0 {
            let up = now > before;
            swings += u32::from(rising.is_some_and(|was| was != up));
            rising = Some(up);
        }
        before = now;
        if second == 5 {
            let (power, _) = told.permitted.battery(&id("hybrid")).unwrap();
            assert!(power.get() > 0.0, "{power} after 5 s");
        }
    }
    assert!(swings <= 2, "{swings} swings");
    assert!(life.watch.longest_over_s() <= 12.5);
}

#[test]
fn en9_a_battery_that_will_not_leave_its_mode_is_told_of_and_its_timer_ends_it() {
    let mut life = life(with_battery(35.0), &[], 3);
    life.plant.world.set_building(Some(1_000.0));
    life.plant.world.set_pv(Some(8_000.0));
    run(&mut life, 60);
    assert!(life.plant.world.hybrid.battery_w < -3_000.0, "the story needs a charging battery");
    let now = life.plant.now();
    life.plant.troubles.begin((Who::Battery, What::Deaf), now, 600.0);
    life.plant.world.set_pv(Some(0.0));
    run(&mut life, 32);
    assert!(life.plant.world.hybrid.battery_w.abs() < 50.0, "its own timer ends it");
    // One whose timer does not work goes on, and people are told within a minute.
    life.plant.world.hybrid.control.revert_s = 0;
    life.plant.world.hybrid.control.mode = 3;
    life.plant.world.hybrid.control.charge_rate = 5000;
    life.plant.world.hybrid.control.discharge_rate = -5000;
    let mut after = None;
    for second in 0..75 {
        let decision = life.second();
        let alarms = life.controller.overview(&decision).alarms;
        if alarms.iter().any(|alarm| alarm.code == "battery_disobeys") {
            after.get_or_insert(second);
        }
    }
    assert!(after.is_some_and(|s| s <= 60), "{after:?}");
}

#[test]
fn fb10_a_deaf_charger_is_paused_after_fifteen_seconds_and_told_of() {
    let mut life = life(row(&[&Phase::ALL, &Phase::ALL], 60.0), &vec![car(3, 32.0, 2.0); 2], 4);
    run(&mut life, 200);
    let now = life.plant.now();
    life.plant.troubles.begin((Who::Charger(0), What::Deaf), now, 300.0);
    life.plant.world.set_building(Some(25.0 * 230.0 / 0.45));
    // It is told in the first second, and draws more in the samples after it.
    let paused = (1..=30).find(|_| told(&mut life, 0) == (0.0, Reason::Disobeys));
    assert!(paused.is_some_and(|second| second <= 16), "paused after {paused:?} s");
    let decision = life.second();
    let alarms = life.controller.overview(&decision).alarms;
    assert!(alarms.iter().any(|alarm| alarm.code == "charger_disobeys"), "{alarms:?}");
    assert!(life.watch.longest_over_s() <= 14.0, "{}", life.watch.longest_over_s());
}

#[test]
fn tm1_a_clock_that_jumps_changes_nothing() {
    let lived = |jumps: bool| {
        let mut life = life(
            row(&[&Phase::ALL, &[Phase::L2]], 35.0),
            &[car(3, 32.0, 2.0), car(1, 16.0, 2.0)],
            5,
        );
        let mut all = Vec::new();
        for second in 0..1200 {
            if jumps && second % 100 == 50 {
                let hours = [1, -1, 87_600, -87_600][(second / 100) % 4];
                life.plant.shift_clock(chrono::Duration::hours(hours));
            }
            if second % 240 == 0 {
                life.plant.world.set_building(Some(f64::from(second as u32) * 7.0));
            }
            all.push(format!("{:?}", life.second().permitted));
        }
        all
    };
    assert_eq!(lived(false), lived(true));
    // But people are told, for an hour, and of nothing else.
    let mut life = life(row(&[&Phase::ALL], 35.0), &[car(3, 32.0, 2.0)], 5);
    run(&mut life, 60);
    assert_eq!(alarms(&mut life), [""; 0]);
    life.plant.shift_clock(chrono::Duration::hours(-1));
    assert_eq!(alarms(&mut life), ["clock_set"]);
    run(&mut life, 3_500);
    assert_eq!(alarms(&mut life), ["clock_set"]);
    run(&mut life, 120);
    assert_eq!(alarms(&mut life), [""; 0]);
}

/// Codes of the alarms that hold now.
fn alarms(life: &mut Life) -> Vec<String> {
    let decision = life.second();
    let alarms = life.controller.overview(&decision).alarms.into_iter();
    alarms.filter(|alarm| alarm.active).map(|alarm| alarm.code).collect()
}

/// A tariff of Berlin, cheap from 22 to 6 o'clock.
fn berlin() -> Tariff {
    Tariff {
        currency: "EUR".into(),
        zone: chrono_tz::Europe::Berlin,
        import: 0.4,
        export: 0.1,
        bands: vec![Band { from: 22 * 60, to: 6 * 60, import: 0.2 }],
    }
}

#[test]
fn tm2_the_days_of_25_and_23_hours_are_planned_in_their_own_hours() {
    // Cheap slots of the 24 h from noon: the night is an hour longer in October, shorter in March.
    for (noon, cheap) in [
        ("2026-10-24T10:00:00Z", 9 * 4),
        ("2026-03-28T11:00:00Z", 7 * 4),
        ("2026-07-01T10:00:00Z", 8 * 4),
    ] {
        let mut site = with_battery(35.0);
        site.tariff = Some(berlin());
        let mut life = life(site, &[], 6);
        let noon: chrono::DateTime<chrono::Utc> = noon.parse().unwrap();
        life.plant.shift_clock(noon - life.plant.now().utc);
        run(&mut life, 30);
        let decision = life.second();
        let plan = life.controller.overview(&decision).plan.unwrap();
        let found = plan.slots.iter().filter(|slot| slot.price < 0.3).count();
        assert_eq!(found, cheap, "{noon}");
        let evenly = plan.slots.windows(2).all(|two| (two[1].ts - two[0].ts).num_minutes() == 15);
        assert!(evenly && plan.slots[0].ts <= decision.at.utc, "{noon}");
    }
}

#[test]
fn tm3_without_a_time_at_boot_cars_charge() {
    let mut site = row(&[&Phase::ALL], 35.0);
    site.tariff = Some(berlin());
    let mut life = life(site, &[car(3, 32.0, 2.0)], 7);
    let epoch = chrono::DateTime::UNIX_EPOCH;
    life.plant.shift_clock(epoch - life.plant.now().utc);
    run(&mut life, 300);
    assert!(told(&mut life, 0).0 > 20.0);
    assert_eq!(alarms(&mut life), ["clock_unknown"], "what is recorded is marked");
    assert!(life.watch.longest_over_s() <= 12.5);
}

#[test]
fn tm4_after_ten_minutes_asleep_nothing_rests_on_what_was_known_before() {
    let mut life = life(row(&[&Phase::ALL], 35.0), &[car(3, 32.0, 2.0)], 8);
    run(&mut life, 200);
    assert!(told(&mut life, 0).0 > 20.0);
    life.plant.suspend(600);
    let decision = life.controller.decide(life.plant.now());
    let (setpoint, reason) = decision.permitted.charger(&id("pile1")).unwrap();
    assert!(
        setpoint.amps() <= Amps(6.0) && *reason == Reason::MeterLost,
        "{setpoint:?} {reason:?}"
    );
    let first = told(&mut life, 0).0;
    assert!(first <= 6.0, "{first} A on the first sample after the sleep");
    run(&mut life, 120);
    assert!(told(&mut life, 0).0 > 20.0, "and it goes on");
    assert_eq!(site().limits.limit, PerPhase::all(Amps(35.0)));
}

#[test]
fn a_battery_takes_in_what_all_others_leave_of_each_phase() {
    let mut site = with_battery(35.0);
    site.tariff = Some(berlin());
    let mut life = life(site, &[], 11);
    let evening: chrono::DateTime<chrono::Utc> = "2026-07-01T19:30:00Z".parse().unwrap();
    life.plant.shift_clock(evening - life.plant.now().utc);
    life.plant.world.set_pv(Some(0.0));
    // 31 A on L1, far less on the others.
    life.plant.world.set_building(Some(31.0 * 230.0 / 0.45));
    life.plant.world.hybrid.energy_wh = 4_000.0;
    // From 22 o'clock on the plan fills it for the day, with what L1 had left when it was made.
    let battery = |life: &Life| life.plant.world.hybrid.battery_w;
    let mut bound = false;
    for second in 0..3_600 {
        if second == 2_760 {
            // A minute after the plan: what is left to 34.5 A is three times 300 W.
            life.plant.world.set_building(Some(33.2 * 230.0 / 0.45));
        }
        let told = life.second().permitted.battery(&id("hybrid")).unwrap().clone();
        let by_phase = told.1 == Reason::GridLimit { phase: Phase::L1 };
        bound |= by_phase && battery(&life) < -600.0;
    }
    assert!(bound, "the phase never bound it");
    let on_l1 = |life: &Life| life.plant.world.grid_phases_w()[0] / life.plant.world.volts[0];
    let told = life.second().permitted.battery(&id("hybrid")).unwrap().clone();
    assert!((-1_100.0..=-600.0).contains(&told.0.get()), "{told:?}");
    assert!(on_l1(&life) < 35.0 && life.watch.longest_over_s() <= 2.0, "{} A", on_l1(&life));
    // A car comes: it is served first.
    life.plant.world.set_plugged("bay1", Some(true));
    life.plant.world.piles[0].car = Some(car(3, 32.0, 2.0));
    life.plant.world.set_building(Some(20.0 * 230.0 / 0.45));
    run(&mut life, 120);
    assert!(told_amps(&mut life) >= 13.0, "{}", told_amps(&mut life));
    assert!(battery(&life) > -1_000.0, "{}", battery(&life));
}

fn told_amps(life: &mut Life) -> f64 {
    told(life, 0).0
}

#[test]
fn nothing_is_exported_where_a_battery_can_take_it_and_people_are_told_where_it_cannot() {
    let mut site = with_battery(35.0);
    site.limits.export = Some(Watts(0.0));
    let mut life = life(site, &[], 12);
    life.plant.world.set_building(Some(1_000.0));
    life.plant.world.hybrid.energy_wh = 10_000.0;
    life.plant.world.set_pv(Some(0.0));
    run(&mut life, 60);
    let exported = |life: &Life| -life.plant.world.grid_phases_w().iter().sum::<f64>();
    let tells = |life: &mut Life| {
        let decision = life.second();
        let alarms = life.controller.overview(&decision).alarms;
        alarms.iter().any(|alarm| alarm.active && alarm.code == "export_too_much")
    };
    life.plant.world.set_pv(Some(8_000.0));
    run(&mut life, 8);
    for _ in 0..90 {
        assert!(!tells(&mut life));
        assert!(exported(&life) < 200.0, "{} W", exported(&life));
    }
    // The load goes while the battery gives: it must not push that into the grid.
    life.plant.world.set_pv(Some(0.0));
    life.plant.world.set_building(Some(7_000.0));
    run(&mut life, 60);
    assert!(life.plant.world.hybrid.battery_w > 5_000.0, "the story needs a battery that gives");
    life.plant.world.set_building(Some(500.0));
    run(&mut life, 8);
    assert!(exported(&life) < 200.0, "{} W", exported(&life));
    // More sun than it can take.
    life.plant.world.set_pv(Some(18_000.0));
    run(&mut life, 50);
    assert!(!tells(&mut life), "not before a minute");
    run(&mut life, 30);
    assert!(tells(&mut life) && exported(&life) > 5_000.0);
}

/// Two chargers on a circuit of 40 A that has no meter, below a connection that leaves them all.
fn two_on_a_circuit() -> Site {
    let mut site = row(&[&Phase::ALL, &Phase::ALL], 100.0);
    site.circuits = vec![Circuit {
        id: id("row"),
        name: "row".into(),
        parent: None,
        limit: Some(PerPhase::all(Amps(40.0))),
        power: None,
        base_load: Amps(0.0),
        members: vec![id("pile1"), id("pile2")],
    }];
    site
}

#[test]
fn a_circuit_keeps_room_for_a_charger_that_is_lost_while_it_may_hold_what_it_had() {
    let site = two_on_a_circuit();
    let mut life = life(site, &vec![car(3, 32.0, 2.0); 2], 14);
    run(&mut life, 200);
    assert!(told(&mut life, 0).0 > 18.0 && told(&mut life, 1).0 > 18.0);
    let now = life.plant.now();
    life.plant.troubles.begin((Who::Charger(0), What::Silent), now, 300.0);
    run(&mut life, 55);
    // Nobody hears it, and no meter shows it, but it goes on.
    assert!(life.plant.world.piles[0].current_a > 18.0);
    assert!(told(&mut life, 1).0 < 21.0, "{:?}", told(&mut life, 1));
    run(&mut life, 120);
    assert!(life.watch.longest_over_s() <= 1.0, "{} s", life.watch.longest_over_s());
    assert!(life.plant.world.piles[0].current_a < 6.5, "it has fallen back by itself");
    assert!(told(&mut life, 1).0 > 28.0, "{:?}", told(&mut life, 1));
}

#[test]
fn a_charger_with_a_long_time_out_keeps_its_room_for_as_long() {
    let longest = |falls_back_within: u64| {
        let mut site = two_on_a_circuit();
        site.chargers[0].falls_back_within = Duration::from_secs(falls_back_within);
        let mut life = life(site, &vec![car(3, 32.0, 2.0); 2], 15);
        life.plant.lease_s = 180.0;
        run(&mut life, 200);
        let now = life.plant.now();
        life.plant.troubles.begin((Who::Charger(0), What::Silent), now, 400.0);
        run(&mut life, 300);
        life.watch.longest_over_s()
    };
    assert!(longest(195) <= 1.0, "{} s", longest(195));
    assert!(longest(75) > 12.5, "the story holds with the usual time-out: {} s", longest(75));
}

#[test]
fn a_charger_that_ignored_its_setpoint_and_falls_silent_keeps_the_room_of_what_it_drew() {
    let mut life = life(two_on_a_circuit(), &vec![car(3, 32.0, 2.0); 2], 16);
    life.plant.lease_s = 3_600.0;
    life.plant.world.set_building(Some(2_000.0));
    run(&mut life, 200);
    let now = life.plant.now();
    life.plant.troubles.begin((Who::Charger(0), What::Deaf), now, 2_000.0);
    life.plant.world.set_building(Some(54_000.0));
    run(&mut life, 14);
    assert!(told(&mut life, 0).0 < 12.0, "{:?}", told(&mut life, 0));
    // Before it is known to be deaf it is gone, and then there is room again.
    let now = life.plant.now();
    life.plant.troubles.begin((Who::Charger(0), What::Silent), now, 1_000.0);
    life.plant.world.set_building(Some(2_000.0));
    run(&mut life, 600);
    assert!(life.plant.world.piles[0].current_a > 18.0, "the story needs one that goes on");
    assert!(told(&mut life, 1).0 < 21.0, "{:?}", told(&mut life, 1));
}
