//! The uplink against a real mosquitto (and against brokers that misbehave): states, last will, outage
//! and drain, TLS, passwords, silence. Each test has its own broker on a free loopback port, ended by
//! its own handle.
//!
//! What a stranger gets wrong: between gateway and broker stands a relay of the test, so that a
//! watcher can subscribe to a restarted broker before the gateway is let through.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

pub mod rig;

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use rig::{
    Broker, Gateway, Relay, Watcher, certificates, config, fake_broker, free_port, overview, quick,
    record, within,
};
use wattgate::config::{Command as MqttCommand, MqttConfig};
use wattgate::io::clock::Clock;
use wattgate::io::mqtt::Limits;
use wattgate::io::store::Record;
use wattgate::logic::decision::LinkView;

#[tokio::test]
async fn states_are_retained_and_the_last_will_tells_of_a_kill() {
    let home = tempfile::tempdir().unwrap();
    let port = free_port();
    let _broker = Broker::start(home.path(), port, "allow_anonymous true");
    let mut live = Watcher::of(port, "#", None).await;
    let mut gateway = Gateway::start(config(port), quick());
    gateway.overview.send_replace(Some(Arc::new(overview())));
    let link = gateway.linked("the link", |link| link.connected).await;
    assert!(link.plaintext);
    assert_eq!(live.until("wattgate/v1/depot/status", |_| true).await.json()["online"], true);
    let told = live.until("wattgate/v1/depot/charger/pile1/state", |_| true).await.json();
    assert_eq!((told["setpoint_a"].as_f64(), told["q"].as_str()), (Some(16.0), Some("stale")));
    assert_eq!(told["writes_1210"], 57, "writes of a register, since ever");
    let event = live.until("wattgate/v1/depot/history/event/zone", |_| true).await.json();
    assert!(event["id"].as_str().is_some(), "{event}");
    gateway.outbox(0).await;

    let mut late = Watcher::of(port, "wattgate/v1/depot/#", None).await;
    let kept = late.until("wattgate/v1/depot/battery/bat/state", |_| true).await;
    assert!(kept.retain);
    let kept = late.until("wattgate/v1/depot/status", |_| true).await;
    assert!(kept.retain && kept.json()["online"] == true);

    let mut second = overview();
    second.sequence += 1;
    second.ts = Clock::real().now().utc + chrono::Duration::seconds(1);
    second.zones[0].level = 3;
    gateway.overview.send_replace(Some(Arc::new(second)));
    let event = live.until("wattgate/v1/depot/event/zone", |_| true).await;
    assert!(!event.retain && event.json()["to"] == 3);

    gateway.task.abort();
    live.until("wattgate/v1/depot/status", |told| told.json()["online"] == false).await;
    gateway.journal.stop();
}

#[tokio::test]
async fn a_command_that_the_broker_keeps_is_refused_and_a_fresh_one_taken() {
    let home = tempfile::tempdir().unwrap();
    let port = free_port();
    let _broker = Broker::start(home.path(), port, "allow_anonymous true");
    let topic = "wattgate/v1/depot/charger/pile1/cmd/target";
    let publish = |more: &[&str]| {
        let done = Command::new("mosquitto_pub")
            .args(["-V", "5", "-h", "127.0.0.1", "-p", &port.to_string(), "-q", "1", "-t", topic])
            .args(["-m", r#"{"energy_kwh": 12, "stay_h": 3}"#])
            .args(more)
            .status();
        assert!(done.expect("mosquitto_pub").success());
    };
    publish(&["-r"]);
    let mut replies = Watcher::of(port, "wattgate/v1/depot/charger/+/cmd/target/reply", None).await;
    let config = MqttConfig { commands: vec![MqttCommand::Target], ..config(port) };
    let mut gateway = Gateway::start(config, quick());
    gateway.overview.send_replace(Some(Arc::new(overview())));
    gateway.linked("the link", |link| link.connected).await;
    let refused =
        |told: &rig::Told| told.json()["error"].as_str().is_some_and(|e| e.contains("retain"));
    let stored = replies.next().await;
    assert!(refused(&stored) && !stored.retain, "{}", stored.json());
    publish(&["-r"]);
    let kept = replies.next().await;
    assert!(refused(&kept), "{}", kept.json());
    publish(&["--repeat", "2"]);
    let fresh = replies.next().await.json();
    assert_eq!(fresh["ok"], true, "{fresh}");
    let soon = replies.next().await.json();
    assert!(soon["error"].as_str().is_some_and(|error| error.contains("once a second")), "{soon}");
    gateway.end().await;
}

#[tokio::test]
async fn what_was_recorded_while_the_broker_was_away_arrives_in_order_and_once() {
    let home = tempfile::tempdir().unwrap();
    let (port, door) = (free_port(), free_port());
    let broker = Broker::start(home.path(), port, "allow_anonymous true");
    let relay = Relay::open(door, port).await;
    let mut gateway = Gateway::start(config(door), quick());
    gateway.linked("the first link", |link| link.connected).await;
    relay.close().await;
    drop(broker);
    gateway.linked("the loss", |link| !link.connected && link.last_error.is_some()).await;
    for n in 0..100 {
        assert!(gateway.journal.append(vec![record(n, 10)]));
    }
    gateway.outbox(100).await;

    let _broker = Broker::start(home.path(), port, "allow_anonymous true");
    let mut watcher = Watcher::of(port, "wattgate/v1/depot/history/#", None).await;
    let _relay = Relay::open(door, port).await;
    let mut ids = std::collections::BTreeSet::new();
    for n in 0..100u64 {
        let told = watcher.next().await;
        assert_eq!(told.topic, "wattgate/v1/depot/history/charger/pile1/state");
        assert!(!told.retain);
        assert_eq!(told.json()["n"], n);
        assert!(ids.insert(told.json()["id"].to_string()));
    }
    gateway.outbox(0).await;
    gateway.end().await;
    assert!(watcher.told.try_recv().is_err(), "nothing came twice");
}

/// The broker hands a message on before it acknowledges it, so whatever it acknowledged was seen by who
/// listened without a window; what was in flight comes again.
#[tokio::test]
async fn brk5_a_broker_killed_again_and_again_loses_nothing() {
    const ROUND: u64 = 300;
    let (seed, mut rng) = crate::kills::seeded();
    let rounds = crate::kills::count() as u64;
    let home = tempfile::tempdir().unwrap();
    let (port, door) = (free_port(), free_port());
    let lines = "allow_anonymous true\nmax_inflight_messages 0";
    let mut gateway = Gateway::start(config(door), quick());
    let mut seen = std::collections::BTreeMap::new();
    for round in 0..=rounds {
        let broker = Broker::start(home.path(), port, lines);
        let mut watcher = Watcher::silent(port, "wattgate/v1/depot/history/#").await;
        let relay = Relay::open(door, port).await;
        let last = round == rounds;
        if !last {
            gateway.linked("the link", |link| link.connected).await;
            let more = (round * ROUND..(round + 1) * ROUND).map(|n| record(n, 200)).collect();
            assert!(gateway.journal.append(more));
            // Killed after so many of them were seen.
            for _ in 0..rng.u64(0..ROUND) {
                let told = watcher.next().await;
                *seen.entry(told.json()["n"].as_u64().unwrap()).or_insert(0) += 1;
            }
        } else {
            // Order is kept: when the last one is there, nothing is on the way any more.
            assert!(gateway.journal.append(vec![record(rounds * ROUND, 10)]));
            let mut newest = 0;
            while newest < rounds * ROUND {
                newest = watcher.next().await.json()["n"].as_u64().unwrap();
                *seen.entry(newest).or_insert(0) += 1;
            }
        }
        drop(broker);
        // The socket's rest, up to its end.
        within("the watcher's end", &mut watcher.task).await.unwrap();
        while let Ok(told) = watcher.told.try_recv() {
            *seen.entry(told.json()["n"].as_u64().unwrap()).or_insert(0) += 1;
        }
        if !last {
            gateway.linked("the loss", |link| !link.connected).await;
        }
        relay.close().await;
    }
    let lost: Vec<u64> = (0..rounds * ROUND).filter(|n| !seen.contains_key(n)).collect();
    let twice = seen.values().filter(|times| **times > 1).count();
    println!(
        "{rounds} kills (seed {seed}): {} records, {} lost, {twice} twice",
        rounds * ROUND,
        lost.len()
    );
    assert_eq!(lost, Vec::<u64>::new(), "seed {seed}");
    gateway.end().await;
}

#[tokio::test]
async fn telemetry_goes_to_history_while_nothing_stands_and_goodbye_says_offline() {
    let home = tempfile::tempdir().unwrap();
    let port = free_port();
    let gateway = Gateway::start(config(port), quick());
    for second in 0..=10i32 {
        let mut next = overview();
        next.sequence += second as u64;
        next.ts += chrono::Duration::seconds(i64::from(second));
        gateway.overview.send_replace(Some(Arc::new(next)));
        // Every overview is seen before the next one comes.
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
    }
    let mut view = gateway.journal.view();
    within("a block", view.wait_for(|view| view.records >= 8)).await.unwrap();
    let broker_home = home.path().to_owned();
    let _broker = Broker::start(&broker_home, port, "allow_anonymous true");
    let mut watcher = Watcher::of(port, "wattgate/v1/depot/#", None).await;
    gateway.outbox(0).await;
    gateway.end().await;
    let status = "wattgate/v1/depot/status";
    let bye = watcher.until(status, |told| told.json()["online"] == false).await;
    assert!(!bye.retain, "told live, on the way out");
}

#[tokio::test]
async fn tls_with_the_sites_own_authority_and_words_when_it_is_another() {
    let home = tempfile::tempdir().unwrap();
    let (ca, lines) = certificates(home.path());
    let port = free_port();
    let _broker = Broker::start(home.path(), port, &lines);
    let tls = MqttConfig { allow_plaintext: false, ca_file: Some(ca), ..config(port) };
    let mut gateway = Gateway::start(tls.clone(), quick());
    gateway.overview.send_replace(Some(Arc::new(overview())));
    let link = gateway.linked("acknowledged over TLS", |link| link.acknowledged > 10).await;
    assert!(link.connected && !link.plaintext);
    gateway.end().await;

    let elsewhere = tempfile::tempdir().unwrap();
    let (other, _) = certificates(elsewhere.path());
    let mut gateway = Gateway::start(MqttConfig { ca_file: Some(other), ..tls }, quick());
    let link = gateway.linked("the refusal", |link| link.last_error.is_some()).await;
    let words = link.last_error.unwrap();
    assert!(words.starts_with("TLS: ") && words.contains("certificate"), "{words}");
    gateway.end().await;
}

#[tokio::test]
async fn a_wrong_password_is_seen_on_the_link() {
    let home = tempfile::tempdir().unwrap();
    let passwords = home.path().join("passwords");
    let made = Command::new("mosquitto_passwd")
        .args(["-b", "-c", &passwords.display().to_string(), "gateway", "right"])
        .output()
        .unwrap();
    assert!(made.status.success());
    let port = free_port();
    let more = format!("allow_anonymous false\npassword_file {}", passwords.display());
    let _broker = Broker::start(home.path(), port, &more);
    let file = home.path().join("password");
    std::fs::write(&file, "wrong\n").unwrap();
    let login = MqttConfig {
        username: Some("gateway".to_owned()),
        password_file: Some(file.clone()),
        ..config(port)
    };
    let mut gateway = Gateway::start(login, quick());
    let link = gateway.linked("the refusal", |link| link.last_error.is_some()).await;
    assert!(!link.connected);
    let words = link.last_error.unwrap();
    assert!(words.contains("password"), "{words}");
    std::fs::write(&file, "right\n").unwrap();
    gateway.linked("the right password", |link| link.connected).await;
    gateway.end().await;
}

#[tokio::test]
async fn a_message_that_the_broker_does_not_take_stays_and_is_told() {
    let home = tempfile::tempdir().unwrap();
    let rules = home.path().join("acl");
    std::fs::write(&rules, "topic readwrite wattgate/v1/depot/status\ntopic read #\n").unwrap();
    let port = free_port();
    // With no queue at all mosquitto 2.0.11 takes its own answer to a message that is not allowed for a queue that
    // runs over, and hangs up right behind it.
    let queue = "max_queued_messages 1000";
    let more = format!("allow_anonymous true\nacl_file {}\n{queue}", rules.display());
    let _broker = Broker::start(home.path(), port, &more);
    let mut gateway = Gateway::start(config(port), quick());
    gateway.linked("the link", |link| link.connected).await;
    assert!(gateway.journal.append(vec![record(1, 10)]));
    let refused =
        |link: &LinkView| link.last_refusal.as_ref().is_some_and(|e| e.contains("not take"));
    let link = gateway.linked("the refusal", refused).await;
    assert!(link.connected);
    gateway.outbox(1).await;
    gateway.end().await;
}

#[tokio::test]
async fn a_broker_that_never_acknowledges_is_left() {
    let (port, mut connects) = fake_broker(&[0x20, 3, 0, 0, 0]).await;
    let limits = Limits { no_ack: Duration::from_secs(1), ..quick() };
    let mut gateway = Gateway::start(config(port), limits);
    gateway.overview.send_replace(Some(Arc::new(overview())));
    for _ in 0..3 {
        assert_eq!(within("a connection", connects.recv()).await, Some(5));
    }
    let link = gateway.linked("words", |link| link.last_error.is_some()).await;
    assert!(link.last_error.unwrap().contains("acknowledge"));
    let mut view = gateway.journal.view();
    within("the unacknowledged", view.wait_for(|view| view.records > 0)).await.unwrap();
    gateway.end().await;
}

#[tokio::test]
async fn a_broker_of_the_old_version_is_spoken_to_in_its_own() {
    let (port, mut connects) = fake_broker(&[0x20, 2, 0, 1]).await;
    let mut gateway = Gateway::start(config(port), quick());
    assert_eq!(within("version 5", connects.recv()).await, Some(5));
    assert_eq!(within("version 3.1.1", connects.recv()).await, Some(4));
    gateway.linked("the link", |link| link.connected).await;
    gateway.end().await;
}

/// Not a bar: prints what this machine does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn drain_rate() {
    const RECORDS: u64 = 40_000;
    let home = tempfile::tempdir().unwrap();
    let port = free_port();
    let limits = Limits { history_per_s: 1_000_000, ..quick() };
    let gateway = Gateway::start(config(port), limits);
    let clock = Clock::real();
    let start = clock.now();
    for block in 0..RECORDS / 1000 {
        let batch: Vec<Record> =
            (block * 1000..(block + 1) * 1000).map(|n| record(n, 160)).collect();
        while !gateway.journal.append(batch.clone()) {
            tokio::task::yield_now().await;
        }
    }
    gateway.outbox(RECORDS).await;
    let appended = clock.now();
    let _broker = Broker::start(home.path(), port, "allow_anonymous true");
    let mut link = gateway.link.clone();
    within("the link", link.wait_for(|link| link.connected)).await.unwrap();
    let connected = clock.now();
    gateway.outbox(0).await;
    let drained = clock.now();
    let rate = |a: wattgate::units::Moment, b: wattgate::units::Moment| {
        RECORDS as f64 / b.uptime.saturating_sub(a.uptime).as_secs_f64()
    };
    println!(
        "append {:.0} records/s, drain {:.0} records/s",
        rate(start, appended),
        rate(connected, drained)
    );
    gateway.end().await;
}
