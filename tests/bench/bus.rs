//! Measured, not tested: the field bus against the bare wire and against libmodbus, a hundred devices at
//! once, and how long a setpoint waits behind a thousand reads. `cargo bench --bench bus`; a minute.
//!
//! What a stranger gets wrong: all clients talk to the same server in the same run, in turn and in short bursts,
//! and medians are compared: what else runs on the machine hits all of them alike. The bare wire is measured
//! twice: with blocking calls, which is the least that a request can cost, and on the same runtime as the bus.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::panic)]
#![allow(clippy::disallowed_methods)] // wall time is what is measured

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use simulators::modbus_server::{self, Device, Line};
use simulators::registers::Map;
use simulators::scenario::Scenario;
use simulators::site;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use wattgate::config::{
    Address, DeviceConfig, FieldBus, Point, Profile, Table, ValueType, builtin_profiles,
};
use wattgate::io::clock::Clock;
use wattgate::io::modbus::{self, Bus, Pace, Wiring};
use wattgate::logic::decision::{Decision, Duty};
use wattgate::logic::observation::Observation;
use wattgate::logic::safety::interlock;
use wattgate::logic::site::{
    Charger, ChargerSetpoint, GridLimits, Id, Mode, Reason, Setpoints, Site,
};
use wattgate::units::{Amps, PerPhase, Phase, Volts};

/// Registers of a read.
const REGISTERS: u16 = 100;
/// Reads of each client in one burst, and bursts.
const READS: u32 = 1_000;
const BURSTS: usize = 61;
const PACE: Pace =
    Pace { connect: Duration::from_secs(2), call: Duration::from_secs(2), gap: Duration::ZERO };

fn thread_cpu() -> f64 {
    let t = clock_gettime(ClockId::ThreadCPUTime);
    t.tv_sec as f64 + t.tv_nsec as f64 / 1e9
}

/// Answers reads with what was written, else zeros, after `delay`; tells when writes came. A thread a client.
fn server(delay: Duration, writes: Option<Sender<Instant>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let writes = writes.clone();
            std::thread::spawn(move || answer(stream, delay, writes.as_ref()));
        }
    });
    address
}

/// Time that a device, or the site, takes.
fn pass(span: Duration) {
    let end = Instant::now() + span;
    while Instant::now() < end {
        std::thread::park_timeout(end.saturating_duration_since(Instant::now()));
    }
}

fn answer(mut stream: TcpStream, delay: Duration, writes: Option<&Sender<Instant>>) {
    stream.set_nodelay(true).unwrap();
    let mut request = [0; 300];
    let mut frame = [0; 300];
    let mut held = vec![0_u8; 2 * 65_536];
    while let Ok(got @ 12..) = stream.read(&mut request) {
        frame[..8].copy_from_slice(&request[..8]);
        let first = usize::from(u16::from_be_bytes([request[8], request[9]])) * 2;
        let length = if request[7] == 16 {
            if let Some(writes) = writes {
                let _ = writes.send(Instant::now());
            }
            frame[8..12].copy_from_slice(&request[8..12]);
            let bytes = usize::from(request[12]);
            held[first..first + bytes].copy_from_slice(&request[13..13 + bytes]);
            12
        } else {
            let bytes = usize::from(request[11]) * 2;
            frame[8] = bytes as u8;
            frame[9..9 + bytes].copy_from_slice(&held[first..first + bytes]);
            9 + bytes
        };
        assert!(got <= 300);
        frame[4..6].copy_from_slice(&((length - 6) as u16).to_be_bytes());
        pass(delay);
        if stream.write_all(&frame[..length]).is_err() {
            return;
        }
    }
}

const ASK: [u8; 12] = [0, 1, 0, 0, 0, 6, 1, 3, 0, 0, 0, REGISTERS as u8];
const ANSWER: usize = 9 + REGISTERS as usize * 2;

/// Reads a second, and CPU of the client for a thousand, ms.
type Speed = (f64, f64);

fn speed(began: Instant, cpu: f64) -> Speed {
    let reads = f64::from(READS);
    (reads / began.elapsed().as_secs_f64(), (thread_cpu() - cpu) * 1e6 / reads)
}

fn raw_blocking(stream: &mut TcpStream) -> Speed {
    let (began, cpu, mut frame) = (Instant::now(), thread_cpu(), [0; ANSWER]);
    for _ in 0..READS {
        stream.write_all(&ASK).unwrap();
        stream.read_exact(&mut frame).unwrap();
    }
    speed(began, cpu)
}

async fn raw_async(stream: &mut tokio::net::TcpStream) -> Speed {
    let (began, cpu, mut frame) = (Instant::now(), thread_cpu(), [0; ANSWER]);
    for _ in 0..READS {
        stream.write_all(&ASK).await.unwrap();
        stream.read_exact(&mut frame).await.unwrap();
    }
    speed(began, cpu)
}

async fn ours(bus: &mut Bus) -> Speed {
    let (began, cpu) = (Instant::now(), thread_cpu());
    for _ in 0..READS {
        let words = bus.read(1, Table::Holding, (0, REGISTERS), PACE).await.unwrap();
        assert_eq!(words.len(), usize::from(REGISTERS));
    }
    speed(began, cpu)
}

/// A C program on libmodbus that does the same, a burst for each line that it is sent.
struct Libmodbus {
    child: Child,
    said: BufReader<ChildStdout>,
    _folder: tempfile::TempDir,
}

impl Libmodbus {
    /// Nothing where it cannot be built.
    fn start(address: SocketAddr) -> Option<Libmodbus> {
        let source = format!(
            r#"
#include <modbus.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
static double now(clockid_t c) {{ struct timespec t; clock_gettime(c, &t); return t.tv_sec + t.tv_nsec / 1e9; }}
int main(int n, char **v) {{
    uint16_t words[125];
    modbus_t *c = modbus_new_tcp(v[1], atoi(v[2]));
    modbus_set_slave(c, 1);
    if (n != 3 || modbus_connect(c)) return 1;
    while (getchar() != EOF) {{
        double began = now(CLOCK_MONOTONIC), used = now(CLOCK_PROCESS_CPUTIME_ID);
        for (int i = 0; i < {READS}; i++)
            if (modbus_read_registers(c, 0, {REGISTERS}, words) != {REGISTERS}) return 2;
        printf("%f %f\n", {READS} / (now(CLOCK_MONOTONIC) - began),
               (now(CLOCK_PROCESS_CPUTIME_ID) - used) * 1e6 / {READS});
        fflush(stdout);
    }}
    return 0;
}}
"#
        );
        let folder = tempfile::tempdir().unwrap();
        let (file, program) = (folder.path().join("peer.c"), folder.path().join("peer"));
        std::fs::write(&file, source).unwrap();
        let mut compiler = Command::new("cc");
        compiler.args(["-O2", "-I/usr/include/modbus", "-o"]).arg(&program).arg(&file);
        if !compiler.arg("-lmodbus").status().is_ok_and(|status| status.success()) {
            println!("libmodbus-dev is missing: not compared");
            return None;
        }
        let mut command = Command::new(program);
        command.args([address.ip().to_string(), address.port().to_string()]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let said = BufReader::new(child.stdout.take().unwrap());
        Some(Libmodbus { child, said, _folder: folder })
    }

    fn burst(&mut self) -> Speed {
        self.child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        let numbers: Vec<f64> = line.split_whitespace().map(|n| n.parse().unwrap()).collect();
        (numbers[0], numbers[1])
    }
}

impl Drop for Libmodbus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn bar(met: bool) -> &'static str {
    if met { "met" } else { "NOT MET" }
}

fn throughput() {
    let address = server(Duration::ZERO, None);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let names = ["blocking", "runtime", "bus", "libmodbus"];
    let mut blocking = TcpStream::connect(address).unwrap();
    blocking.set_nodelay(true).unwrap();
    let mut raw = runtime.block_on(tokio::net::TcpStream::connect(address)).unwrap();
    raw.set_nodelay(true).unwrap();
    let (host, port) = (address.ip().to_string(), address.port());
    let mut bus = Bus::new(Address::Tcp { host, port });
    let mut peer = Libmodbus::start(address);
    let mut bursts: [Vec<Speed>; 4] = Default::default();
    for _ in 0..BURSTS {
        bursts[0].push(raw_blocking(&mut blocking));
        bursts[1].push(runtime.block_on(raw_async(&mut raw)));
        bursts[2].push(runtime.block_on(ours(&mut bus)));
        bursts[3].push(peer.as_mut().map_or((0.0, 0.0), Libmodbus::burst));
    }
    for (name, bursts) in names.iter().zip(&bursts) {
        let (reads, cpu) = bursts.iter().copied().unzip();
        let (reads, cpu) = (median(reads), median(cpu));
        println!(
            "{name:10} {reads:8.0} reads/s of {REGISTERS} registers, {cpu:5.1} ms CPU for 1000"
        );
    }
    // Of neighbours in time, burst by burst.
    let against = |other: usize| {
        let pairs = bursts[2].iter().zip(&bursts[other]);
        median(pairs.map(|((ours, _), (theirs, _))| ours / theirs).collect())
    };
    println!(
        "bus / bare wire on the runtime {:.2} (bar 0.85: {}), / blocking {:.2}, / libmodbus {:.2} (bar 1.2: {})",
        against(1),
        bar(against(1) >= 0.85),
        against(0),
        against(3),
        bar(against(3) >= 1.2),
    );
}

fn id(text: &str) -> Id {
    Id::try_from(text).unwrap()
}

fn bench_site() -> Site {
    let charger = Charger {
        id: id("pile"),
        name: "pile".into(),
        phases: Phase::ALL.to_vec(),
        min: Amps(6.0),
        max: Amps(32.0),
        failsafe: Amps(6.0),
        step: Amps(0.1),
        stay: None,
        right: Default::default(),
        switching: None,
        mode: wattgate::logic::site::ChargingMode::default(),
        falls_back_within: wattgate::logic::site::FALLS_BACK_WITHIN,
    };
    Site {
        id: id("bench"),
        name: "bench".into(),
        mode: Mode::Auto,
        limits: GridLimits {
            limit: PerPhase::all(Amps(63.0)),
            breaker: Amps(63.0),
            nominal_voltage: Volts(230.0),
            max_base_load: Amps(25.0),
            power: None,
            unbalance: None,
            demand: None,
            dimmed_least: wattgate::units::Watts::ZERO,
            export: None,
        },
        meter: id("grid"),
        chargers: vec![charger],
        batteries: Vec::new(),
        pvs: Vec::new(),
        inverters: Vec::new(),
        bays: Vec::new(),
        zones: Vec::new(),
        cameras: Vec::new(),
        computes: Vec::new(),
        tariff: None,
        circuits: Vec::new(),
        guard: Default::default(),
        work: Default::default(),
    }
}

struct Field {
    decisions: watch::Sender<Option<Arc<Decision>>>,
    stop: watch::Sender<bool>,
    observations: Receiver<Observation>,
    /// CPU of the bus thread, s, once it has stopped.
    cpu: std::thread::JoinHandle<f64>,
}

/// The bus on its own thread, as in the gateway.
fn field(devices: Vec<DeviceConfig>) -> Field {
    let (observations, inbox) = sync_channel(4096);
    let (decisions, newest) = watch::channel(None);
    let (stop, stopped) = watch::channel(false);
    let wiring = Wiring {
        fieldbus: FieldBus::default(),
        site: Arc::new(bench_site()),
        clock: Clock::real(),
        observations,
        decisions: newest,
        writes: watch::Sender::default(),
        shutdown: stopped.clone(),
    };
    let cpu = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let mut stopped = stopped;
            let tasks = modbus::start(&devices, &wiring);
            let _ = stopped.wait_for(|stop| *stop).await;
            for task in tasks {
                let _ = task.await;
            }
        });
        thread_cpu()
    });
    Field { decisions, stop, observations: inbox, cpu }
}

fn config(name: &str, profile: Profile, address: SocketAddr) -> DeviceConfig {
    let (host, port) = (address.ip().to_string(), address.port());
    let address = Address::Tcp { host, port };
    DeviceConfig {
        id: id(name),
        profile,
        address,
        unit: 1,
        failsafe_a: None,
        serve_as: None,
        relays: Default::default(),
    }
}

/// A hundred meters on a hundred connections, a second each.
fn hundred_devices() {
    const DEVICES: usize = 100;
    const SPAN: Duration = Duration::from_secs(20);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let options = site::Options { scenario: Scenario::one_pile(), seed: 1, speed: 1.0, port: 0 };
    let sim = runtime.block_on(site::start(options)).unwrap();
    let profile = builtin_profiles()["eastron-sdm630"].clone();
    let (_line, up) = watch::channel(Line::default());
    let mut devices = Vec::new();
    for i in 0..DEVICES {
        let shared = Arc::clone(sim.shared());
        let device = Device { name: "grid".into(), map: Map::Sdm630, unit: 1, shared };
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let serving = modbus_server::serve(any, device, up.clone());
        let (address, _) = runtime.block_on(serving).unwrap();
        devices.push(config(&format!("m{i}"), profile.clone(), address));
    }
    let field = field(devices);
    let began = Instant::now();
    let (mut last, mut jitter): (BTreeMap<Id, Duration>, Vec<f64>) = (BTreeMap::new(), Vec::new());
    while began.elapsed() < SPAN {
        let Ok(observation) = field.observations.recv_timeout(Duration::from_millis(100)) else {
            continue;
        };
        if let Observation::Answered { device, at, .. } = observation
            && let Some(before) = last.insert(device, at.uptime)
        {
            jitter.push(((at.uptime - before).as_secs_f64() - 1.0).abs() * 1000.0);
        }
    }
    field.stop.send_replace(true);
    let cpu = field.cpu.join().unwrap() / began.elapsed().as_secs_f64() * 100.0;
    jitter.sort_by(f64::total_cmp);
    let at = |share: f64| jitter[((jitter.len() - 1) as f64 * share) as usize];
    println!(
        "{DEVICES} devices on {DEVICES} connections: {} periods, jitter p50 {:.2} ms, p99 {:.2} ms (bar 50: {}), \
         most {:.2} ms; {cpu:.1} % of one core (bar 15: {})",
        jitter.len(),
        at(0.5),
        at(0.99),
        bar(at(0.99) <= 50.0),
        at(1.0),
        bar(cpu <= 15.0),
    );
}

/// A pile of a thousand reads a round on a line whose answers take 20 ms; a setpoint comes in between.
fn setpoint_behind_reads() {
    const REPLY: Duration = Duration::from_millis(20);
    let (sender, writes) = channel();
    let address = server(REPLY, Some(sender));
    let mut profile = builtin_profiles()["alfen-ng9"].clone();
    profile.pace_ms = 0;
    let point = |i: u16| Point {
        quantity: format!("x{i}"),
        address: 2000 + i * 10,
        value_type: ValueType::U16,
        min: None,
        max: None,
        ..profile.points[0].clone()
    };
    let setpoint = profile.point("setpoint_a").cloned();
    profile.points = (0..1000).map(point).chain(setpoint).collect();
    profile.max_gap = 0;
    let field = field(vec![config("pile", profile, address)]);
    let site = bench_site();
    let mut waited = Vec::new();
    let mut rng = fastrand::Rng::with_seed(1);
    for round in 0..20 {
        pass(Duration::from_millis(2500 + rng.u64(0..40)));
        while writes.try_recv().is_ok() {}
        let mut wishes = Setpoints::default();
        let amps = Amps(8.0 + f64::from(round));
        let wish = (ChargerSetpoint::Current(amps), Reason::DeviceMaximum);
        wishes.chargers.insert(id("pile"), wish);
        let permitted = interlock::permit(&site, wishes, &BTreeMap::new());
        let at = Clock::real().now();
        let duty = Duty::default();
        let decision =
            Decision { sequence: 1, at, writing: true, permitted, duty, errands: Vec::new() };
        let told = Instant::now();
        field.decisions.send_replace(Some(Arc::new(decision)));
        let came = writes.recv_timeout(Duration::from_secs(2)).expect("a write");
        waited.push((came - told).as_secs_f64() * 1000.0);
    }
    field.stop.send_replace(true);
    waited.sort_by(f64::total_cmp);
    let most = waited[waited.len() - 1];
    println!(
        "setpoint behind a thousand reads of 20 ms: p50 {:.1} ms, most {most:.1} ms (bar: one answer, 20 ms: {})",
        waited[waited.len() / 2],
        bar(most <= 21.5),
    );
}

fn main() {
    throughput();
    hundred_devices();
    setpoint_behind_reads();
}
