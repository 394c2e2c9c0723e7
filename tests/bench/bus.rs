//! Measured, not tested: the field bus against the bare wire and against libmodbus, a hundred devices at
//! once, and how long a setpoint waits behind a thousand reads. `cargo bench --bench bus`; a minute.
//!
//! What a stranger gets wrong: all clients talk to the same server in the same run, in turn and in short bursts,
//! and medians are compared: what else runs on the machine hits all of them alike. The bare wire is measured
//! twice: with blocking calls, which is the least that a request can cost, and on the same runtime as the bus.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::panic)]
#![allow(clippy::disallowed_methods)] // wall time is what is measured

mod pingpong;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel, sync_channel};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use simulators::modbus_server::{self, Device, Line};
use simulators::registers::Map;
use simulators::scenario::Scenario;
use simulators::site;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use wattgate::config::{
    Address, DeviceConfig, FieldBus, Point, Profile, ValueType, builtin_profiles,
};
use wattgate::io::clock::Clock;
use wattgate::io::modbus::{self, Wiring};
use wattgate::logic::controller::Controller;
use wattgate::logic::decision::{Decision, Duty};
use wattgate::logic::observation::Observation;
use wattgate::logic::safety::interlock;
use wattgate::logic::site::{
    Charger, ChargerSetpoint, GridLimits, Id, Mode, Reason, Setpoints, Site,
};
use wattgate::units::{Amps, PerPhase, Phase, Volts};

use pingpong::{Apart, IS_DEVICE, pass, server, throughput};

/// Ten times as often as in the gateway: more decisions in the same time.
const DECIDES_EVERY: Duration = Duration::from_millis(100);

fn thread_cpu() -> f64 {
    let t = clock_gettime(ClockId::ThreadCPUTime);
    t.tv_sec as f64 + t.tv_nsec as f64 / 1e9
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn bar(met: bool) -> &'static str {
    if met { "met" } else { "NOT MET" }
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

/// Meters on connections of their own, read every second; the site knows the first of them as its own.
fn meters(
    count: usize,
    up: &watch::Receiver<Line>,
    (sim, runtime): (&site::Site, &Runtime),
) -> Vec<DeviceConfig> {
    let profile = builtin_profiles()["eastron-sdm630"].clone();
    let serve = |i: usize| {
        let shared = Arc::clone(sim.shared());
        let device = Device { name: "grid".into(), map: Map::Sdm630, unit: 1, shared };
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let serving = modbus_server::serve(any, device, up.clone());
        let (address, _) = runtime.block_on(serving).unwrap();
        let name = if i == 0 { "grid".to_owned() } else { format!("m{i}") };
        config(&name, profile.clone(), address)
    };
    (0..count).map(serve).collect()
}

/// What a span of thinking beside the bus has shown.
#[derive(Default)]
struct Beside {
    /// How far each reading came from a second after the one before, ms.
    jitter: Vec<f64>,
    /// How late each decision began, and how long it took with all that had come before it, ms.
    late: Vec<f64>,
    thought: Vec<f64>,
    /// CPU of the bus thread, share of a core in percent.
    cpu: f64,
}

/// The controller as the gateway's own thread runs it, beside a bus with these devices.
fn think_beside(devices: Vec<DeviceConfig>, span: Duration) -> Beside {
    let field = field(devices);
    let clock = Clock::real();
    let mut controller = Controller::new(bench_site(), clock.now());
    let mut seen = Beside::default();
    let mut last: BTreeMap<Id, Duration> = BTreeMap::new();
    let ms = |span: Duration| span.as_secs_f64() * 1000.0;
    let (began, mut next) = (Instant::now(), Instant::now() + DECIDES_EVERY);
    let mut heard = Duration::ZERO;
    while began.elapsed() < span {
        let wait = next.saturating_duration_since(Instant::now());
        if let Ok(observation) = field.observations.recv_timeout(wait) {
            let started = Instant::now();
            if let Observation::Answered { device, at, .. } = &observation
                && let Some(before) = last.insert(device.clone(), at.uptime)
            {
                seen.jitter.push((ms(at.uptime - before) - 1000.0).abs());
            }
            controller.observe(observation);
            heard += started.elapsed();
            if Instant::now() < next {
                continue;
            }
        }
        let started = Instant::now();
        seen.late.push(ms(started.saturating_duration_since(next)));
        next += DECIDES_EVERY;
        let decision = controller.decide(clock.now());
        field.decisions.send_replace(Some(Arc::new(decision)));
        seen.thought.push(ms(started.elapsed() + std::mem::take(&mut heard)));
    }
    field.stop.send_replace(true);
    let cpu = field.cpu.join().unwrap();
    seen.cpu = cpu / began.elapsed().as_secs_f64() * 100.0;
    for values in [&mut seen.jitter, &mut seen.late, &mut seen.thought] {
        values.sort_by(f64::total_cmp);
    }
    seen
}

fn at(sorted: &[f64], share: f64) -> f64 {
    sorted.get(((sorted.len().max(1) - 1) as f64 * share) as usize).copied().unwrap_or(0.0)
}

/// A hundred meters on a hundred connections, a second each; and what the controller notices of them.
fn hundred_devices() {
    const DEVICES: usize = 100;
    const SPAN: Duration = Duration::from_secs(20);
    let runtime = Runtime::new().unwrap();
    let options = site::Options { scenario: Scenario::one_pile(), seed: 1, speed: 1.0, port: 0 };
    let sim = runtime.block_on(site::start(options)).unwrap();
    let (_line, up) = watch::channel(Line::default());
    let devices = meters(DEVICES, &up, (&sim, &runtime));
    let mut all: [Vec<Beside>; 2] = Default::default();
    for _ in 0..2 {
        all[0].push(think_beside(Vec::new(), SPAN));
        all[1].push(think_beside(devices.clone(), SPAN));
    }
    let [alone, beside] = all.map(|runs| {
        let mut sum = Beside::default();
        for run in runs {
            sum.jitter.extend(run.jitter);
            sum.late.extend(run.late);
            sum.thought.extend(run.thought);
            sum.cpu += run.cpu / 2.0;
        }
        for values in [&mut sum.jitter, &mut sum.late, &mut sum.thought] {
            values.sort_by(f64::total_cmp);
        }
        sum
    });
    let periods = DEVICES * SPAN.as_secs() as usize;
    assert!(beside.jitter.len() > periods, "only {} readings", beside.jitter.len());
    println!(
        "{DEVICES} devices on {DEVICES} connections: {} periods, jitter p50 {:.2} ms, p99 {:.2} ms (bar 50: {}), \
         most {:.2} ms; {:.1} % of one core (bar 15: {})",
        beside.jitter.len(),
        at(&beside.jitter, 0.5),
        at(&beside.jitter, 0.99),
        bar(at(&beside.jitter, 0.99) <= 50.0),
        at(&beside.jitter, 1.0),
        beside.cpu,
        bar(beside.cpu <= 15.0),
    );
    let every = DECIDES_EVERY.as_secs_f64() * 1000.0;
    for (what, run) in [("no device", &alone), ("a hundred devices", &beside)] {
        println!(
            "control cycle beside {what}: {} decisions, period {every:.0} ms + p50 {:.3} ms, p99 {:.3} ms, most {:.3} ms; \
             thinking p50 {:.3} ms, p99 {:.3} ms",
            run.late.len(),
            at(&run.late, 0.5),
            at(&run.late, 0.99),
            at(&run.late, 1.0),
            at(&run.thought, 0.5),
            at(&run.thought, 0.99),
        );
    }
    // The gateway decides once a second: a hundredth of that is unchanged.
    let more = at(&beside.late, 0.99) - at(&alone.late, 0.99);
    println!(
        "    p99 of the period changed by {more:.3} ms of 1000 (bar 10: {})",
        bar(more.abs() <= 10.0)
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
    if std::env::var_os(IS_DEVICE).is_some() {
        return Apart::serve();
    }
    let named: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let parts: [(&str, fn()); 3] = [
        ("throughput", throughput),
        ("devices", hundred_devices),
        ("setpoint", setpoint_behind_reads),
    ];
    for (name, part) in parts {
        if named.is_empty() || named.iter().any(|wanted| wanted == name) {
            part();
        }
    }
}
