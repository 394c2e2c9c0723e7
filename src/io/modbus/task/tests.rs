//! What a unit of which nobody knows whether it is there costs the others of its line. What else a line does stands
//! in tests/wire.

use std::collections::BTreeMap;
use std::sync::mpsc::sync_channel;

use tokio::io::duplex;
use tokio::runtime::{Builder, Runtime};

use super::*;
use crate::config::{self, Address, Config, Table};
use crate::io::modbus::bus::BusError;
use crate::io::modbus::order::{Order, Verdict};

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().build().unwrap()
}

/// A meter and a charger that is left at 0 A.
fn site() -> Config {
    let text = "[site]\nid = \"line\"\nmode = \"auto\"\n\
         [grid]\nmeter = \"grid\"\nlimit_a = 50\nbreaker_a = 63\nmax_base_load_a = 20\n\
         [[device]]\nid = \"grid\"\nprofile = \"eastron-sdm630\"\naddress = \"rtu+tcp://127.0.0.1:1\"\n\
         [[device]]\nid = \"pile\"\nprofile = \"alfen-ng9\"\naddress = \"rtu+tcp://127.0.0.1:1\"\nunit = 4\n\
         max_a = 32\nfailsafe_a = 0\n";
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("site.toml");
    std::fs::write(&file, text).unwrap();
    config::load(&file).map(|(config, _)| config).unwrap_or_else(|report| panic!("{report:?}"))
}

/// The charger on an RTU line that it shares, told 0 A just now and seen to hold it.
fn line(config: &Config) -> (Link, Wiring) {
    let (observations, _) = sync_channel(16);
    let wiring = Wiring {
        fieldbus: config.fieldbus.clone(),
        site: Arc::new(config.site.clone()),
        clock: Clock::real(),
        observations,
        decisions: watch::channel(None).1,
        writes: watch::channel(BTreeMap::new()).0,
        shutdown: watch::channel(false).1,
    };
    let pile = config.devices.iter().find(|device| device.id.as_str() == "pile").unwrap();
    let mut device = Device::new(pile.clone(), true, None);
    let now = wiring.clock.now();
    device.order.sent(0.0, now, Duration::ZERO);
    assert_eq!(device.order.read_back(Some(0.0), 0.05, (now, 0)), Verdict::Obeyed);
    let bus = Bus::new(Address::RtuOverTcp { host: "pipe".into(), port: 1 });
    let fallback = interlock::fallback(&config.site);
    (Link { bus, devices: vec![device], fallback, has_written: true }, wiring)
}

#[test]
fn a_farewell_does_not_wait_for_a_doubted_unit_that_holds_what_it_was_told() {
    let config = site();
    for (doubted, rank) in [(false, Rank::Renewal), (true, Rank::Probe)] {
        let (mut link, wiring) = line(&config);
        if doubted {
            link.devices[0].health.doubt();
        }
        let now = wiring.clock.now();
        let (at, is) = link.devices[0].next_write(&link.fallback, now).unwrap();
        assert!(at.uptime > now.uptime && is == rank, "{is:?} at {at:?}");
        let farewell =
            async { tokio::time::timeout(FAREWELL / 4, link.say_farewell(&wiring)).await };
        assert_eq!(runtime().block_on(farewell), Ok(()), "doubted: {doubted}");
    }
}

#[test]
fn a_read_back_does_not_hold_the_line_until_a_late_answer_must_have_come() {
    let config = site();
    let (mut link, wiring) = line(&config);
    let (ours, _theirs) = duplex(512);
    link.bus.attach(Box::new(ours));
    link.bus.wait_at_most(Some(Duration::from_millis(1)));
    let pace = link.devices[0].pace;
    let read = runtime().block_on(link.bus.read(4, Table::Holding, (0, 2), pace));
    assert!(matches!(read, Err(BusError::Timeout(_))), "{read:?}");
    let now = wiring.clock.now();
    let due = |link: &Link| {
        let needs = link.needs(&Orders::Fallback, &wiring, now);
        let write = needs.into_iter().find(|need| need.writes).unwrap();
        (write.rank, write.at.uptime.saturating_sub(now.uptime))
    };
    link.devices[0].order.sent(0.0, now, Duration::ZERO);
    let (rank, wait) = due(&link);
    assert_eq!(rank, Rank::ReadBack);
    assert!(
        wait > pace.call / 2,
        "read back in {wait:?}, and its answer is due for {:?}",
        pace.call
    );
    link.devices[0].order = Order::default();
    assert_eq!(due(&link), (Rank::Setpoint, Duration::ZERO), "a stop waits for nothing");
}
