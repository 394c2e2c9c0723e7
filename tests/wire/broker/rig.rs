//! What the broker tests stand on: a mosquitto of their own, a relay, a watcher, a gateway's uplink with
//! its journal, certificates made on the spot, and a broker that is none.
//!
//! What a stranger gets wrong: everything here ends with its handle; nothing is found or ended by name.

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
use wattgate::io::store::{Class, Journal, Record, Writes};
use wattgate::logic::decision::{LinkView, Overview};
use wattgate::logic::site::Id;

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: not within {PATIENCE:?}"),
    }
}

pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A mosquitto of our own.
pub(crate) struct Broker(Child);

impl Broker {
    pub(crate) fn start(folder: &Path, port: u16, more: &str) -> Broker {
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
pub(super) struct Relay(JoinHandle<()>);

impl Relay {
    pub(super) async fn open(from: u16, to: u16) -> Relay {
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

    pub(super) async fn close(self) {
        self.0.abort();
        let _ = self.0.await;
    }
}

pub(super) struct Told {
    pub(super) topic: String,
    pub(super) payload: Vec<u8>,
    pub(super) retain: bool,
}

impl Told {
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.payload).unwrap()
    }
}

/// Somebody who listens.
pub(super) struct Watcher {
    pub(super) told: mpsc::UnboundedReceiver<Told>,
    /// What came while something else was waited for.
    passed: Vec<Told>,
    pub(super) task: JoinHandle<()>,
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Watcher {
    /// Subscribed when this returns.
    pub(super) async fn of(port: u16, filter: &str, login: Option<(&str, &str)>) -> Watcher {
        Watcher::with(port, filter, login, QoS::AtLeastOnce).await
    }

    /// Says nothing after its subscription: a broker that is killed with bytes unread resets the
    /// connection, and what was on the way to the watcher would be thrown away with it.
    pub(super) async fn silent(port: u16, filter: &str) -> Watcher {
        Watcher::with(port, filter, None, QoS::AtMostOnce).await
    }

    async fn with(port: u16, filter: &str, login: Option<(&str, &str)>, qos: QoS) -> Watcher {
        let mut options =
            MqttOptions::new(format!("watcher-{}", fastrand::u32(..)), "127.0.0.1", port);
        options.set_max_packet_size(1 << 20, 1 << 20).set_keep_alive(Duration::from_secs(30));
        if let Some((name, password)) = login {
            options.set_credentials(name, password);
        }
        let (client, mut events) = AsyncClient::new(options, 10);
        client.subscribe(filter, qos).await.unwrap();
        within("subscription", async {
            while !matches!(events.poll().await.unwrap(), Event::Incoming(Incoming::SubAck(_))) {}
        })
        .await;
        let (sender, told) = mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            let _client = client;
            let tell = |event| {
                if let Event::Incoming(Incoming::Publish(p)) = event {
                    let told =
                        Told { topic: p.topic, payload: p.payload.to_vec(), retain: p.retain };
                    let _ = sender.send(told);
                }
            };
            while let Ok(event) = events.poll().await {
                tell(event);
            }
            // What was read together with the end of the connection.
            events.state.events.drain(..).for_each(tell);
        });
        Watcher { told, passed: Vec::new(), task }
    }

    pub(super) async fn next(&mut self) -> Told {
        within("a message", self.told.recv()).await.expect("the watcher lives")
    }

    pub(super) async fn until(
        &mut self,
        topic: &str,
        mut wanted: impl FnMut(&Told) -> bool,
    ) -> Told {
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
pub(super) struct Gateway {
    folder: tempfile::TempDir,
    pub(super) journal: Journal,
    pub(super) overview: watch::Sender<Option<Arc<Overview>>>,
    pub(super) link: watch::Receiver<LinkView>,
    stop: watch::Sender<bool>,
    pub(super) task: JoinHandle<()>,
}

impl Gateway {
    pub(super) fn start(config: MqttConfig, limits: Limits) -> Gateway {
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
            written: watch::Sender::new(Writes::from([("pile1/1210".to_owned(), 57)])).subscribe(),
            link: link_sender,
            clock: Clock::real(),
            targets: Arc::new(|_, _| true),
            modes: Arc::new(|_, _| true),
            orders: Arc::new(|_| Err("no jobs here".to_owned())),
            dim: Arc::new(|_, _| true),
        };
        let task = tokio::spawn(mqtt::run_with(uplink, limits, stopped));
        Gateway { folder, journal, overview, link, stop, task }
    }

    pub(super) async fn linked(
        &mut self,
        what: &str,
        wanted: impl FnMut(&LinkView) -> bool,
    ) -> LinkView {
        let newest = self.link.clone();
        match tokio::time::timeout(PATIENCE, self.link.wait_for(wanted)).await {
            Ok(link) => link.unwrap().clone(),
            Err(_) => panic!("{what}: not within {PATIENCE:?}, {:?}", newest.borrow()),
        }
    }

    pub(super) async fn outbox(&self, records: u64) {
        let mut view = self.journal.view();
        within("the outbox", view.wait_for(|view| view.records == records)).await.unwrap();
    }

    pub(super) async fn end(self) {
        self.stop.send_replace(true);
        within("the goodbye", self.task).await.unwrap();
        self.journal.stop();
        drop(self.folder);
    }
}

pub(super) fn config(port: u16) -> MqttConfig {
    MqttConfig {
        host: "127.0.0.1".to_owned(),
        port,
        client_id: "depot".to_owned(),
        username: None,
        password_file: None,
        allow_plaintext: true,
        ca_file: None,
        outbox_cap_mib: 64,
        commands: Vec::new(),
    }
}

pub(super) fn quick() -> Limits {
    let back_off = (Duration::from_millis(50), Duration::from_millis(200));
    Limits { back_off, refused_back_off: Duration::from_millis(500), ..Limits::default() }
}

pub(super) fn overview() -> Overview {
    serde_json::from_str(include_str!("../../golden/mqtt/overview.json")).unwrap()
}

pub(super) fn record(n: u64, size: usize) -> Record {
    let ts: DateTime<Utc> = "2026-05-04T10:00:00Z".parse().unwrap();
    let payload = format!("{{\"n\":{n},\"fill\":\"{}\"}}", "x".repeat(size)).into_bytes();
    Record {
        topic: "charger/pile1/state".to_owned(),
        ts: ts + chrono::Duration::milliseconds(n as i64),
        class: Class::C,
        payload,
    }
}

/// A CA and a certificate for 127.0.0.1, made on the spot.
pub(super) fn certificates(folder: &Path) -> (PathBuf, String) {
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

/// A broker that lets everybody in and then says nothing but, if asked to, the answer given.
pub(super) async fn fake_broker(connack: &'static [u8]) -> (u16, mpsc::UnboundedReceiver<u8>) {
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
