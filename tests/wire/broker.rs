//! The uplink against a real mosquitto (and against brokers that misbehave): states, last will, outage
//! and drain, TLS, passwords, silence. Each test has its own broker on a free loopback port, ended by
//! its own handle.
//!
//! What a stranger gets wrong: between gateway and broker stands a relay of the test, so that a
//! watcher can subscribe to a restarted broker before the gateway is let through.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use rumqttc::{AsyncClient, Event, Incoming, MqttOptions, QoS};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use wattgate::config::MqttConfig;
use wattgate::io::clock::Clock;
use wattgate::io::mqtt::{self, Limits, Uplink};
use wattgate::io::store::{Class, Journal, Record};
use wattgate::logic::decision::{LinkView, Overview};
use wattgate::logic::site::Id;

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(30);

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: not within {PATIENCE:?}"),
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A mosquitto of our own.
struct Broker(Child);

impl Broker {
    fn start(folder: &Path, port: u16, more: &str) -> Broker {
        let file = folder.join(format!("mosquitto-{port}.conf"));
        let text = format!(
            "listener {port} 127.0.0.1\nuser root\npersistence false\nmax_queued_messages 0\n\
             log_dest stderr\nlog_type information\nlog_type error\n{more}\n"
        );
        std::fs::write(&file, text).unwrap();
        let mut child = Command::new("/usr/sbin/mosquitto")
            .arg("-c")
            .arg(&file)
            .stderr(Stdio::piped())
            .spawn()
            .expect("mosquitto is installed");
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut seen = Vec::new();
        while !seen.last().is_some_and(|line: &String| line.contains("running")) {
            seen.push(log.next().unwrap_or_else(|| panic!("mosquitto ended: {seen:?}")).unwrap());
        }
        std::thread::spawn(move || log.for_each(drop));
        Broker(child)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Lets the gateway through to the broker while it lives.
struct Relay(JoinHandle<()>);

impl Relay {
    async fn open(from: u16, to: u16) -> Relay {
        let listener = TcpListener::bind(("127.0.0.1", from)).await.unwrap();
        Relay(tokio::spawn(async move {
            let mut ways = JoinSet::new();
            while let Ok((mut near, _)) = listener.accept().await {
                ways.spawn(async move {
                    let Ok(mut far) = TcpStream::connect(("127.0.0.1", to)).await else { return };
                    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                });
            }
        }))
    }

    async fn close(self) {
        self.0.abort();
        let _ = self.0.await;
    }
}

struct Told {
    topic: String,
    payload: Vec<u8>,
    retain: bool,
}

impl Told {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.payload).unwrap()
    }
}

/// Somebody who listens.
struct Watcher {
    told: mpsc::UnboundedReceiver<Told>,
    /// What came while something else was waited for.
    passed: Vec<Told>,
    task: JoinHandle<()>,
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Watcher {
    /// Subscribed when this returns.
    async fn of(port: u16, filter: &str, login: Option<(&str, &str)>) -> Watcher {
        let mut options =
            MqttOptions::new(format!("watcher-{}", fastrand::u32(..)), "127.0.0.1", port);
        options.set_max_packet_size(1 << 20, 1 << 20).set_keep_alive(Duration::from_secs(30));
        if let Some((name, password)) = login {
            options.set_credentials(name, password);
        }
        let (client, mut events) = AsyncClient::new(options, 10);
        client.subscribe(filter, QoS::AtLeastOnce).await.unwrap();
        within("subscription", async {
            while !matches!(events.poll().await.unwrap(), Event::Incoming(Incoming::SubAck(_))) {}
        })
        .await;
        let (sender, told) = mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            let _client = client;
            while let Ok(event) = events.poll().await {
                if let Event::Incoming(Incoming::Publish(p)) = event {
                    let told =
                        Told { topic: p.topic, payload: p.payload.to_vec(), retain: p.retain };
                    let _ = sender.send(told);
                }
            }
        });
        Watcher { told, passed: Vec::new(), task }
    }

    async fn next(&mut self) -> Told {
        within("a message", self.told.recv()).await.expect("the watcher lives")
    }

    async fn until(&mut self, topic: &str, mut wanted: impl FnMut(&Told) -> bool) -> Told {
        let mut fits = |told: &Told| told.topic == topic && wanted(told);
        if let Some(at) = self.passed.iter().position(&mut fits) {
            return self.passed.remove(at);
        }
        loop {
            let told = within(topic, self.told.recv()).await.expect("the watcher lives");
            if fits(&told) {
                return told;
            }
            self.passed.push(told);
        }
    }
}

/// A gateway's uplink with a state folder of its own.
struct Gateway {
    folder: tempfile::TempDir,
    journal: Journal,
    overview: watch::Sender<Option<Arc<Overview>>>,
    link: watch::Receiver<LinkView>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Gateway {
    fn start(config: MqttConfig, limits: Limits) -> Gateway {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::start(folder.path(), 64 << 20, Clock::real()).unwrap();
        let (overview, newest) = watch::channel(None);
        let (link_sender, link) = watch::channel(LinkView::default());
        let (stop, stopped) = watch::channel(false);
        let uplink = Uplink {
            config,
            site: Id::try_from("depot").unwrap(),
            journal: journal.clone(),
            overview: newest,
            link: link_sender,
            clock: Clock::real(),
        };
        let task = tokio::spawn(mqtt::run_with(uplink, limits, stopped));
        Gateway { folder, journal, overview, link, stop, task }
    }

    async fn linked(&mut self, what: &str, wanted: impl FnMut(&LinkView) -> bool) -> LinkView {
        within(what, self.link.wait_for(wanted)).await.unwrap().clone()
    }

    async fn outbox(&self, records: u64) {
        let mut view = self.journal.view();
        within("the outbox", view.wait_for(|view| view.records == records)).await.unwrap();
    }

    async fn end(self) {
        self.stop.send_replace(true);
        within("the goodbye", self.task).await.unwrap();
        self.journal.stop();
        drop(self.folder);
    }
}

fn config(port: u16) -> MqttConfig {
    MqttConfig {
        host: "127.0.0.1".to_owned(),
        port,
        client_id: "depot".to_owned(),
        username: None,
        password_file: None,
        allow_plaintext: true,
        ca_file: None,
        outbox_cap_mib: 64,
    }
}

fn quick() -> Limits {
    let back_off = (Duration::from_millis(50), Duration::from_millis(200));
    Limits { back_off, refused_back_off: Duration::from_millis(500), ..Limits::default() }
}

fn overview() -> Overview {
    serde_json::from_str(include_str!("../golden/mqtt/overview.json")).unwrap()
}

fn record(n: u64, size: usize) -> Record {
    let ts: DateTime<Utc> = "2026-05-04T10:00:00Z".parse().unwrap();
    let payload = format!("{{\"n\":{n},\"fill\":\"{}\"}}", "x".repeat(size)).into_bytes();
    Record {
        topic: "charger/pile1/state".to_owned(),
        ts: ts + chrono::Duration::milliseconds(n as i64),
        class: Class::C,
        payload,
    }
}

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

/// A CA and a certificate for 127.0.0.1, made on the spot.
fn certificates(folder: &Path) -> (PathBuf, String) {
    let openssl = |arguments: &[&str]| {
        let done = Command::new("openssl").args(arguments).current_dir(folder).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    std::fs::write(folder.join("san"), "subjectAltName=IP:127.0.0.1,DNS:localhost").unwrap();
    let curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    let mut ca = vec![
        "req",
        "-x509",
        "-days",
        "2",
        "-subj",
        "/CN=Site CA",
        "-keyout",
        "ca.key",
        "-out",
        "ca.pem",
    ];
    ca.extend(curve);
    openssl(&ca);
    let mut request =
        vec!["req", "-subj", "/CN=broker", "-keyout", "broker.key", "-out", "broker.csr"];
    request.extend(curve);
    openssl(&request);
    openssl(&[
        "x509",
        "-req",
        "-in",
        "broker.csr",
        "-CA",
        "ca.pem",
        "-CAkey",
        "ca.key",
        "-CAcreateserial",
        "-days",
        "2",
        "-extfile",
        "san",
        "-out",
        "broker.pem",
    ]);
    let at = |name: &str| folder.join(name).display().to_string();
    let lines = format!(
        "allow_anonymous true\ncertfile {}\nkeyfile {}",
        at("broker.pem"),
        at("broker.key")
    );
    (folder.join("ca.pem"), lines)
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
    let more = format!("allow_anonymous true\nacl_file {}", rules.display());
    let _broker = Broker::start(home.path(), port, &more);
    let mut gateway = Gateway::start(config(port), quick());
    gateway.linked("the link", |link| link.connected).await;
    assert!(gateway.journal.append(vec![record(1, 10)]));
    let refused =
        |link: &LinkView| link.last_error.as_ref().is_some_and(|e| e.contains("not take"));
    let link = gateway.linked("the refusal", refused).await;
    assert!(link.connected);
    gateway.outbox(1).await;
    gateway.end().await;
}

/// A broker that lets everybody in and then says nothing but, if asked to, the answer given.
async fn fake_broker(connack: &'static [u8]) -> (u16, mpsc::UnboundedReceiver<u8>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (versions, seen) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let versions = versions.clone();
            tokio::spawn(async move {
                let mut bytes = [0u8; 4096];
                let Ok(count) = stream.read(&mut bytes).await else { return };
                // Fixed header, its length (one or two bytes), "MQTT", then the version.
                let name = bytes[..count].windows(4).position(|four| four == b"MQTT");
                let version = name.map_or(0, |at| bytes[at + 4]);
                let _ = versions.send(version);
                let answer: &[u8] = if version == 4 { &[0x20, 2, 0, 0] } else { connack };
                let _ = stream.write_all(answer).await;
                while stream.read(&mut bytes).await.is_ok_and(|count| count > 0) {}
            });
        }
    });
    (port, seen)
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
