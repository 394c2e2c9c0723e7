//! The steps of one order in virtual time: writes, read backs, rivals and the rests of registers in flash.

use super::*;

fn at(ms: u64) -> Moment {
    Moment { uptime: Duration::from_millis(ms), utc: chrono::DateTime::UNIX_EPOCH }
}

fn want(value: f64) -> Want {
    let stop = value == 0.0;
    Want { value, resolution: 0.05, expires_s: Some(60.0), stop, failsafe: false, spacing_s: 0.0 }
}

/// Runs an order for `ms` milliseconds of a perfect device, the want changing by `wish`; the writes.
fn run(order: &mut Order, ms: u64, mut wish: impl FnMut(u64) -> f64) -> Vec<(u64, f64)> {
    let mut writes = Vec::new();
    for now in 0..ms {
        let target = order.settle(want(wish(now)));
        let (when, _, step) = order.next(&target, at(now));
        if when.uptime > at(now).uptime {
            continue;
        }
        match step {
            Step::Write => {
                order.sent(target.value, at(now), Duration::from_millis(200));
                writes.push((now, target.value));
            }
            Step::ReadBack | Step::Look => {
                let held = order.pending();
                assert_eq!(order.read_back(held, 0.05, (at(now), 1)), Verdict::Obeyed);
            }
        }
    }
    writes
}

#[test]
fn fb15_a_storm_of_a_thousand_wishes_a_second_is_one_write_a_second() {
    let mut order = Order::default();
    let writes = run(&mut order, 20_000, |ms| 6.0 + (ms % 25) as f64);
    assert!((18..=20).contains(&writes.len()), "{} writes in 20 s", writes.len());
    let closest = writes.windows(2).map(|pair| pair[1].0 - pair[0].0).min();
    assert!(closest >= Some(1000), "two writes {closest:?} ms apart");
}

#[test]
fn fb15_a_stop_waits_for_no_other_write() {
    let mut order = Order::default();
    let writes = run(&mut order, 3000, |ms| if ms < 50 { 16.0 } else { 0.0 });
    assert_eq!(writes[..2], [(0, 16.0), (50, 0.0)]);
    assert_eq!(writes.len(), 2, "a stop that stands is not written again: {writes:?}");
}

#[test]
fn a_setpoint_that_stands_is_renewed_in_time() {
    let mut order = Order::default();
    let writes = run(&mut order, 21_000, |_| 10.0);
    // The first second of each five passes until the read back.
    let times: Vec<u64> = writes.iter().map(|write| write.0 / 100).collect();
    assert_eq!(times, [0, 52, 102, 152, 202]);
}

#[test]
fn fb14_a_rival_is_answered_three_times_a_minute_and_then_the_lower_value_stands() {
    let mut order = Order::default();
    let tell = |order: &mut Order, ms: u64, value: f64| {
        order.sent(value, at(ms), Duration::ZERO);
        assert_eq!(order.read_back(Some(value), 0.05, (at(ms), 1)), Verdict::Obeyed);
    };
    tell(&mut order, 0, 10.0);
    for round in 1..=3 {
        assert!(order.notice(16.0, 0.05, (at(round * 5000), 1)));
        assert_eq!(order.settle(want(10.0)).value, 10.0, "asserted again, round {round}");
        tell(&mut order, round * 5000, 10.0);
    }
    assert!(order.notice(8.0, 0.05, (at(20_000), 1)));
    assert_eq!(order.settle(want(10.0)).value, 8.0, "the rival's value is lower");
    assert_eq!(order.settle(want(6.0)).value, 6.0, "ours is lower");
    assert!(order.has_rival(at(79_000)));
    assert!(!order.has_rival(at(80_001)));
    assert_eq!(order.settle(want(10.0)).value, 10.0, "a minute without a rival");
}

#[test]
fn registers_in_flash_that_no_reading_shows_rest_before_a_battery_is_asked_for_more() {
    const HOUR: u64 = 3_600_000;
    let want = |watts: f64| Want { resolution: 1.0, spacing_s: 3600.0, ..want(watts) };
    let due = |order: &Order, watts: f64, now: u64| {
        order.next(&want(watts), at(now)).0.uptime <= at(now).uptime
    };
    let mut order = Order::default();
    order.rest_unshown(3600.0, at(0));
    assert!(!due(&order, -3000.0, HOUR - 1) && due(&order, -3000.0, HOUR), "as after a write");
    assert!(due(&order, 0.0, 5), "a stop waits for nothing");
    order.sent(-3000.0, at(HOUR), Duration::ZERO);
    order.wears(3600.0, at(HOUR));
    assert_eq!(order.read_back(Some(-3000.0), 1.0, (at(HOUR), 1)), Verdict::Obeyed);
    assert!(due(&order, -1000.0, HOUR + 1000), "less of the same");
    assert!(!due(&order, -3500.0, 2 * HOUR - 1) && due(&order, -3500.0, 2 * HOUR), "more");
    let turned = |order: &Order, now: u64| order.within_rest(&want(1000.0), at(now));
    let stop = Want { value: 0.0, stop: true, ..want(1000.0) };
    assert_eq!(
        turned(&order, 2 * HOUR - 1),
        stop,
        "no more of this direction, and none of the other yet"
    );
    assert_eq!(turned(&order, 2 * HOUR), want(1000.0));
    assert!(!due(&order, -3000.0, 9 * HOUR), "what it holds is never written again");
}

#[test]
fn what_was_read_before_we_wrote_is_no_rival() {
    let mut order = Order::default();
    order.sent(10.0, at(1000), Duration::ZERO);
    order.read_back(Some(10.0), 0.05, (at(1040), 1));
    assert!(!order.notice(16.9, 0.05, (at(990), 1)), "a round that began before the write");
    assert!(!order.has_rival(at(1100)));
    assert!(order.notice(16.9, 0.05, (at(1990), 1)));
}

#[test]
fn a_device_whose_line_was_cut_has_rebooted_and_has_no_rival() {
    let mut order = Order::default();
    order.sent(10.0, at(0), Duration::ZERO);
    order.read_back(Some(10.0), 0.05, (at(0), 1));
    assert!(!order.notice(32.0, 0.05, (at(1000), 2)));
    assert_eq!(order.next(&want(10.0), at(1500)).0.uptime, at(1000).uptime, "told again");
    assert!(!order.has_rival(at(1000)));
}

/// Runs an order on flash with 24 writes a day for `hours`, the want by second; the device holds what it
/// is told, or ignores it. The writes: second and value.
fn wear_out(hours: u64, deaf: bool, mut wish: impl FnMut(u64) -> f64) -> Vec<(u64, f64)> {
    const SPACING_S: f64 = 3600.0;
    let (mut order, mut held, mut writes) = (Order::default(), 10.0, Vec::new());
    for second in 0..hours * 3600 {
        let now = at(second * 1000);
        order.notice(held, 0.05, (now, 1));
        order.adopt(held, SPACING_S, (now, 1));
        let target = Want { spacing_s: SPACING_S, expires_s: None, ..want(wish(second)) };
        loop {
            let (when, _, step) = order.next(&target, now);
            if when.uptime > now.uptime {
                break;
            }
            if step == Step::Write {
                order.sent(target.value, now, Duration::ZERO);
                order.wears(SPACING_S, now);
                writes.push((second, target.value));
                held = if deaf { held } else { target.value };
            } else {
                order.read_back(Some(held), 0.05, (now, 1));
            }
        }
    }
    writes
}

#[test]
fn fb15_flash_takes_a_stop_and_less_at_once_and_more_within_its_budget() {
    // Up and down all day: as many writes as the budget has, and those that lower.
    let restless = wear_out(48, false, |second| 8.0 + (second / 60 % 12) as f64);
    let raises = restless.windows(2).filter(|pair| pair[1].1 > pair[0].1).count();
    assert!((10..=24).contains(&raises), "{raises} raises in two days, {} writes", restless.len());
    assert!(restless.len() <= 2 * 24 + 1, "{} writes in two days", restless.len());
    // The same value for ever, and the one that it holds already: nothing.
    assert_eq!(wear_out(48, false, |_| 10.0), []);
    let once = wear_out(48, false, |second| if second < 5 { 10.0 } else { 8.0 });
    assert_eq!(once, [(5, 8.0)]);
    // Used up: what lowers is written in the second it is wanted, a stop too; what raises waits.
    let falling = wear_out(30, false, |second| match second {
        0..100 => 10.0,
        100..104 => 10.0 - (second - 99) as f64,
        104..200 => 6.0,
        200..300 => 0.0,
        _ => 9.0,
    });
    let times: Vec<u64> = falling.iter().map(|(second, _)| *second).collect();
    assert_eq!(times[..5], [100, 101, 102, 103, 200]);
    assert_eq!(times[5..], [6 * 3600], "the start and five writes: six rests");
}

#[test]
fn fb10_flash_of_a_device_that_ignores_it_is_not_written_again_and_again() {
    let writes = wear_out(24, true, |_| 16.0);
    assert!((2..=25).contains(&writes.len()), "{} writes in a day", writes.len());
    let stops = wear_out(24, true, |_| 0.0);
    assert!((10..=400).contains(&stops.len()), "{} stops in a day", stops.len());
}

#[test]
fn a_device_that_does_not_hold_it_is_told_twice() {
    let mut order = Order::default();
    for (ms, verdict) in [(0, Verdict::Again), (1000, Verdict::Disobeyed)] {
        assert_eq!(order.next(&want(10.0), at(ms)).2, Step::Write);
        order.sent(10.0, at(ms), Duration::ZERO);
        assert_eq!(order.read_back(Some(32.0), 0.05, (at(ms), 1)), verdict);
    }
}
