//! What one device asks of its line: how long it is waited for, and what it has found and says again until it
//! was heard. What it reads and is told stands in tests/wire.

use super::*;
use crate::config::{Address, builtin_profiles};
use crate::logic::site::Id;

fn device(shared: bool) -> Device {
    let config = DeviceConfig {
        id: Id::try_from("pile").unwrap(),
        profile: builtin_profiles()["alfen-ng9"].clone(),
        address: Address::Tcp { host: "127.0.0.1".into(), port: 1 },
        unit: 1,
        failsafe_a: None,
        serve_as: None,
        relays: Vec::new(),
    };
    Device::new(config, shared, None)
}

fn now() -> Moment {
    Moment { uptime: Duration::from_secs(1), utc: chrono::DateTime::UNIX_EPOCH }
}

#[test]
fn fb12_only_reads_are_waited_for_in_haste_and_only_while_somebody_waits() {
    let ms = Duration::from_millis;
    let mut habits = Habits::default();
    (0..100).for_each(|_| habits.heard(1, ms(5)));
    let mut device = device(true);
    let mut waits = |rank, pause| {
        let wait = device.waits(rank, &habits, ms(pause));
        (wait.as_millis(), device.in_haste)
    };
    for rank in [Rank::Fast, Rank::Slow, Rank::Look] {
        assert_eq!(waits(rank, 0), (40, true), "{rank:?}");
        assert_eq!(waits(rank, 200), (200, true), "{rank:?}: nobody waits yet");
        assert_eq!(waits(rank, 5000), (500, false), "{rank:?}");
    }
    assert_eq!(waits(Rank::Setpoint, 0), (1000, false), "it may be a stop");
    assert_eq!(waits(Rank::ReadBack, 0), (500, false));
    assert_eq!(waits(Rank::Renewal, 0), (500, false));
    let probes = [0, 450, 5000].map(|pause| waits(Rank::Probe, pause).0);
    assert_eq!(probes, [400, 450, 600], "a probe has the whole of a pause");
    device.health.doubt();
    device.begin(now());
    let wait = device.waits(Rank::Fast, &habits, ms(0));
    assert_eq!(
        (wait, device.in_haste),
        (ms(500), false),
        "the next block of a round with patience"
    );
    device.round = None;
    device.health.cleared();
    device.begin(now());
    assert_eq!(device.waits(Rank::Fast, &habits, ms(0)), ms(40));
    let mut alone = super::tests::device(false);
    assert_eq!(alone.waits(Rank::Fast, &habits, ms(0)), ms(1000));
    assert!(!alone.in_haste);
}

#[test]
fn a_finding_that_was_not_heard_is_told_again() {
    let mut device = device(false);
    let now = now();
    let found = |device: &mut Device| {
        let mut told = Vec::new();
        device.find(now, &mut told);
        told
    };
    for begins in [true, false] {
        device.refuses_writes = begins;
        let lost = found(&mut device);
        assert!(
            matches!(lost[..], [Observation::Found { holds, .. }] if holds == begins),
            "{lost:?}"
        );
        device.was_not_heard(&lost[0]);
        assert_eq!(found(&mut device), lost, "told again");
        assert_eq!(found(&mut device), [], "and heard");
    }
}
