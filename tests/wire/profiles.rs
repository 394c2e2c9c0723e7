//! Every shipped profile on a real socket: served by a simulator made of the same file (with an encoder of
//! its own), read and written by the gateway's field bus, held against the physics.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use simulators::physics::World;
use simulators::site::{Lone, start_lone};
use tokio::sync::watch;
use wattgate::config::{self, Config, Profile, ProfileKind, builtin_profiles};
use wattgate::io::clock::Clock;
use wattgate::io::modbus::{self, Inspector, scan};
use wattgate::logic::decision::{Decision, Duty};
use wattgate::logic::observation::Observation;
use wattgate::logic::safety::interlock;
use wattgate::logic::site::{ChargerSetpoint, Reading, Reason, Setpoints, Vehicle};
use wattgate::units::{Amps, Watts};

use super::gateway::{PATIENCE, now, until};

pub fn runtime() -> &'static tokio::runtime::Runtime {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| tokio::runtime::Runtime::new().unwrap())
}

/// One device made of profile text.
pub fn serve(text: &str) -> Lone {
    let profile = simulators::profile::Profile::parse("test", text).unwrap();
    let anywhere = ([127, 0, 0, 1], 0).into();
    runtime().block_on(start_lone(profile, anywhere, (1, 1.0))).unwrap()
}

pub fn shipped(id: &str) -> String {
    config::shipped()[&format!("{id}.toml")].clone()
}

pub fn address(lone: &Lone) -> config::Address {
    config::address_of(&format!("tcp://{}", lone.address)).unwrap()
}

/// A site with one device of every profile.
pub struct Fleet {
    pub devices: BTreeMap<String, Lone>,
    pub config: Config,
    _folder: tempfile::TempDir,
}

impl Fleet {
    pub fn start() -> Fleet {
        let profiles = builtin_profiles();
        let devices: BTreeMap<String, Lone> =
            profiles.keys().map(|id| (id.clone(), serve(&shipped(id)))).collect();
        let mut text = String::from(
            "[site]\nid = 'fleet'\n[grid]\nmeter = 'eastron-sdm630'\nlimit_a = 2000\nbreaker_a = 2000\n",
        );
        for (id, profile) in &profiles {
            let at = devices[id].address;
            text += &format!("[[device]]\nid = '{id}'\nprofile = '{id}'\naddress = 'tcp://{at}'\n");
            text += match profile.kind {
                ProfileKind::Charger => "max_a = 32\nfailsafe_a = 6\n",
                ProfileKind::Compute => "max_w = 3000\nfailsafe_w = 600\n",
                _ if profile.battery.is_some() => "max_charge_w = 5000\nmax_discharge_w = 5000\n",
                ProfileKind::SunspecHybrid => "max_charge_w = 5000\nmax_discharge_w = 5000\n",
                _ => "",
            };
        }
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("site.toml");
        std::fs::write(&file, text).unwrap();
        let loaded = config::load(&file);
        let (config, _) =
            loaded.unwrap_or_else(|report| panic!("{}", report.render(wattgate::texts::Lang::En)));
        Fleet { devices, config, _folder: folder }
    }

    fn world<T>(&self, id: &str, look: impl FnOnce(&World) -> T) -> T {
        self.devices[id].shared().with(|world| look(world))
    }
}

/// The field bus on a fleet, with decisions given by the test.
pub struct Link {
    clock: Clock,
    pub observations: Receiver<Observation>,
    decisions: watch::Sender<Option<Arc<Decision>>>,
    stop: watch::Sender<bool>,
}

impl Link {
    pub fn start(config: &Config) -> Link {
        let clock = Clock::real();
        let (send, observations) = sync_channel(4096);
        let (decisions, newest) = watch::channel(None);
        let (stop, stopped) = watch::channel(false);
        let wiring = modbus::Wiring {
            fieldbus: config.fieldbus.clone(),
            site: Arc::new(config.site.clone()),
            clock,
            observations: send,
            decisions: newest,
            writes: watch::Sender::default(),
            shutdown: stopped,
        };
        let _entered = runtime().enter();
        let _tasks = modbus::start(&config.devices, &wiring);
        Link { clock, observations, decisions, stop }
    }

    pub fn decide(&self, config: &Config, setpoints: Setpoints) {
        let permitted = interlock::permit(&config.site, setpoints, &BTreeMap::new());
        let at = self.clock.now();
        let decision = Decision {
            sequence: 1,
            at,
            writing: true,
            permitted,
            duty: Duty::default(),
            errands: Vec::new(),
        };
        self.decisions.send_replace(Some(Arc::new(decision)));
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

fn near(what: &str, read: f64, truth: f64, tolerance: f64) {
    assert!((read - truth).abs() <= tolerance, "{what}: read {read}, true {truth}");
}

/// A reading against the physics. The world goes on between the read and the look.
fn compare(id: &str, profile: &Profile, reading: &Reading, world: &World) {
    match reading {
        Reading::Meter(meter) => {
            let count = usize::from(profile.phases);
            for (i, watts) in world.grid_phases_w().into_iter().enumerate().take(count) {
                near(&format!("{id} V{i}"), meter.voltage.0[i].get(), world.volts[i], 2.0);
                near(&format!("{id} W{i}"), meter.phase_power.0[i].get(), watts, 600.0);
                let amps = watts / world.volts[i];
                near(&format!("{id} A{i}"), meter.current.0[i].get(), amps, 3.0);
            }
            if let Some(import) = meter.import {
                near(&format!("{id} import"), import.get(), world.import_wh, 1500.0);
            }
            if let Some(export) = meter.export {
                near(&format!("{id} export"), export.get(), world.export_wh, 1500.0);
            }
        }
        Reading::Charger(charger) => {
            let pile = &world.piles[0];
            assert_ne!(charger.vehicle, Vehicle::Absent, "{id}");
            assert_ne!(charger.vehicle, Vehicle::Fault, "{id}");
            let power: f64 =
                pile.currents().iter().zip(pile.own_volts(world.volts)).map(|(a, v)| a * v).sum();
            near(&format!("{id} W"), charger.power.get(), power, 1200.0);
            for (i, amps) in pile.currents().into_iter().enumerate() {
                near(&format!("{id} A{i}"), charger.current.0[i].get(), amps, 2.5);
            }
        }
        // What hangs on its inputs is not of this world: `safety` reads one with a store behind it.
        Reading::Inputs(_) => {}
        Reading::Compute(node) => {
            near(&format!("{id} W"), node.power.get(), world.node.as_ref().unwrap().power_w, 800.0);
        }
        Reading::Battery(battery) | Reading::Hybrid { battery, .. } => {
            near(&format!("{id} W"), battery.power.get(), world.hybrid.battery_w, 600.0);
            near(&format!("{id} soc"), battery.soc.ratio(), world.hybrid.soc(), 0.011);
        }
        Reading::Pv(_) => panic!("{id}: no profile is PV alone"),
    }
    if let Reading::Hybrid { pv, .. } = reading {
        near(&format!("{id} pv"), pv.power.get(), world.hybrid.pv_w, 600.0);
    }
}

#[test]
fn every_profile_is_read_from_a_device_made_of_it() {
    let fleet = Fleet::start();
    let link = Link::start(&fleet.config);
    let profiles = builtin_profiles();
    let mut read = BTreeMap::new();
    let mut silences: BTreeMap<String, String> = BTreeMap::new();
    let started = now();
    while read.len() < profiles.len() {
        assert!(started.elapsed() < PATIENCE * 2, "not read: {silences:?}");
        let Ok(observation) = link.observations.recv_timeout(Duration::from_secs(1)) else {
            continue;
        };
        match observation {
            Observation::Answered { device, reading, .. } => {
                let id = device.as_str();
                fleet.world(id, |world| compare(id, &profiles[id], &reading, world));
                silences.remove(id);
                read.insert(id.to_owned(), reading);
            }
            Observation::Silent { device, why, .. } => {
                silences.insert(device.to_string(), format!("{why:?}"));
            }
            _ => {}
        }
    }
    assert_eq!(read.len(), profiles.len());
}

/// What every actuator is told, and whether its world follows.
fn tell_all(fleet: &Fleet, link: &Link, amps: f64, watts: f64, node_w: f64) {
    let site = &fleet.config.site;
    let setpoint = match amps {
        0.0 => ChargerSetpoint::Pause,
        amps => ChargerSetpoint::Current(Amps(amps)),
    };
    let mut setpoints = Setpoints::default();
    for charger in &site.chargers {
        setpoints.chargers.insert(charger.id.clone(), (setpoint, Reason::DeviceMaximum));
    }
    for battery in &site.batteries {
        setpoints.batteries.insert(battery.id.clone(), (Watts(watts), Reason::SelfConsumption));
    }
    for node in &site.computes {
        setpoints.computes.insert(node.id.clone(), (Watts(node_w), Reason::DeviceMaximum));
    }
    let told: Vec<&str> = (fleet.config.devices.iter())
        .filter(|device| !device.profile.capabilities().is_empty())
        .map(|device| device.id.as_str())
        .collect();
    assert!(told.len() >= 20, "only {} actuators", told.len());
    let follows = |id: &str| {
        let kind = fleet.config.devices.iter().find(|d| d.id.as_str() == id).unwrap().profile.kind;
        fleet.world(id, |world| match kind {
            ProfileKind::Charger => (world.piles[0].limit_a() - amps).abs() <= 0.1,
            ProfileKind::Compute => (world.node.as_ref().unwrap().setpoint_w - node_w).abs() < 1.0,
            _ => (world.hybrid.battery_w - watts).abs() < 20.0,
        })
    };
    let started = now();
    loop {
        link.decide(&fleet.config, setpoints.clone());
        while link.observations.try_recv().is_ok() {}
        let stubborn: Vec<&&str> = told.iter().filter(|id| !follows(id)).collect();
        if stubborn.is_empty() {
            return;
        }
        assert!(
            started.elapsed() < PATIENCE * 2,
            "{amps} A, {watts} W: not followed by {stubborn:?}"
        );
        std::thread::park_timeout(Duration::from_millis(300));
    }
}

#[test]
fn every_actuator_is_told_holds_and_pauses() {
    let fleet = Fleet::start();
    let link = Link::start(&fleet.config);
    tell_all(&fleet, &link, 10.0, -3000.0, 1500.0);
    // Held for longer than any of them lives without a sign of life of its own kind.
    let started = now();
    while started.elapsed() < Duration::from_secs(35) {
        tell_all(&fleet, &link, 10.0, -3000.0, 1500.0);
        std::thread::park_timeout(Duration::from_millis(500));
    }
    tell_all(&fleet, &link, 0.0, 2000.0, 1200.0);
    tell_all(&fleet, &link, 8.0, 0.0, 1000.0);
}

#[test]
fn the_documented_profile_reads_a_device_made_of_it() {
    let text = include_str!("../../config/example-profile.toml");
    assert!(verdict(text, text).fits());
}

fn verdict(device: &str, profile: &str) -> modbus::Verdict {
    let lone = serve(device);
    let mut faults = Vec::new();
    let profile = config::read_profile(profile, &mut faults).unwrap();
    let unit = profile.unit;
    let mut inspector = Inspector::new(address(&lone), profile, unit);
    runtime().block_on(inspector.try_on()).unwrap()
}

#[test]
fn a_wrong_byte_order_or_address_base_is_found_on_the_live_device() {
    let right = shipped("eastron-sdm630");
    assert!(verdict(&right, &right).fits());
    for order in ["CDAB", "BADC", "DCBA"] {
        let device =
            right.replace("type = \"f32\"", &format!("type = \"f32\"\norder = \"{order}\""));
        let verdict = verdict(&device, &right);
        assert!(!verdict.fits(), "{order}");
        let better = verdict.better.expect(order);
        assert_eq!(
            (better.order.name(), better.shift, better.wrong),
            (order, 0, vec![]),
            "{order}"
        );
    }
    // The maker counts from 1, the profile was written as if from 0.
    let right = shipped("janitza-umg604");
    let shifted = right.replace("id = ", "address_base = 1\nid = ");
    let verdict = verdict(&shifted, &right);
    assert!(!verdict.fits());
    let better = verdict.better.unwrap();
    assert_eq!((better.shift, better.wrong), (-1, vec![]));
}

/// Rows of a scan of these devices.
fn found(lones: &[&Lone]) -> Vec<scan::Row> {
    let wanted = scan::Wanted {
        places: lones.iter().map(|lone| address(lone)).collect(),
        units: vec![1, 2, 255],
        profiles: builtin_profiles().into_values().collect(),
        call: Duration::from_secs(2),
    };
    let (send, mut news) = tokio::sync::mpsc::channel(64);
    runtime().block_on(async {
        tokio::spawn(scan::scan(wanted, send));
        let (mut rows, mut progress) = (Vec::new(), 0);
        while let Some(news) = news.recv().await {
            match news {
                scan::News::Found(row) => rows.push(row),
                scan::News::Progress { done, total, .. } => {
                    assert!(done > progress && done <= total);
                    progress = done;
                }
            }
        }
        rows
    })
}

#[test]
fn a_scan_finds_devices_and_their_profiles() {
    let ids = ["eastron-sdm630", "alfen-ng9", "keba-p40", "sunspec-hybrid", "sunspec-meter"];
    let lones: Vec<Lone> = ids.iter().map(|id| serve(&shipped(id))).collect();
    let mut closed = serve(&shipped("capped-node"));
    closed.address.set_port(1);
    // The state of an idle KEBA is 0, which says nothing of whose register it is.
    until("a charging car", PATIENCE, || {
        lones[2].shared().with(|world| (world.piles[0].current_a > 0.0).then_some(()))
    });
    let places: Vec<&Lone> = lones.iter().chain([&closed]).collect();
    let rows = found(&places);
    assert_eq!(rows.len(), ids.len(), "{rows:?}");
    for (id, lone) in ids.iter().zip(&lones) {
        let row = rows.iter().find(|row| row.address.ends_with(&lone.address.to_string()));
        let row = row.unwrap_or_else(|| panic!("{id} was not found"));
        assert_eq!(row.units, [lone.unit], "{id}");
        assert_eq!(row.identity[0], "wattgate simulators", "{id}");
        // The two KEBAs look alike on the wire.
        let own = row.fits.iter().find(|fit| fit.profile == *id || fit.profile == "keba-p30");
        assert!(own.is_some_and(|fit| fit.confidence > 0.9), "{id}: {:?}", row.fits);
        assert_eq!(own, row.fits.first(), "{id}");
    }
    let hybrid = rows.iter().find(|row| row.address.ends_with(&lones[3].address.to_string()));
    assert_eq!(hybrid.unwrap().sunspec, [1, 103, 120, 123, 124, 160, 802, 803]);
}

/// The gateway's own binary; what it printed, and its exit code.
pub fn wattgate(arguments: &[&str], typed: &str) -> (String, i32) {
    use std::io::Write;
    use std::process::{Command, Stdio};
    let mut process = Command::new(env!("CARGO_BIN_EXE_wattgate"))
        .args(arguments)
        .args(["--lang", "en"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    process.stdin.take().unwrap().write_all(typed.as_bytes()).unwrap();
    let output = process.wait_with_output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (String::from_utf8(text).unwrap(), output.status.code().unwrap())
}

#[test]
fn a_device_of_the_site_file_shows_how_often_its_registers_were_written() {
    let (lone, folder) = (serve(&shipped("eastron-sdm630")), tempfile::tempdir().unwrap());
    let (file, dir) = (folder.path().join("site.toml"), folder.path().display());
    let text = format!(
        "[paths]\nstate = '{dir}'\n[site]\nid = 's'\n[grid]\nmeter = 'grid'\nlimit_a = 50\nbreaker_a = 63\n\
         [[device]]\nid = 'grid'\nprofile = 'eastron-sdm630'\naddress = 'tcp://{}'\n",
        lone.address
    );
    std::fs::write(&file, text).unwrap();
    std::fs::write(folder.path().join("register-writes.json"), r#"{"grid/64512":57,"x/1":2}"#)
        .unwrap();
    let path = file.display().to_string();
    let (text, code) = wattgate(&["device", "read", "grid", "--config", &path], "");
    assert!(code == 0 && text.contains("register 64512: written 57 times"), "{text}");
    assert_eq!(text.matches("written").count(), 1, "{text}");
}

#[test]
fn a_device_of_a_running_gateway_gets_no_second_connection_unasked() {
    let (lone, folder) = (serve(&shipped("eastron-sdm630")), tempfile::tempdir().unwrap());
    let (file, dir) = (folder.path().join("site.toml"), folder.path().display());
    let text = format!(
        "[paths]\nstate = '{dir}'\n[site]\nid = 's'\n[grid]\nmeter = 'grid'\nlimit_a = 50\nbreaker_a = 63\n\
         [[device]]\nid = 'grid'\nprofile = 'eastron-sdm630'\naddress = 'tcp://{}'\n\
         [[device]]\nid = 'line'\nprofile = 'eastron-sdm630'\naddress = 'rtu:///dev/none?baud=9600&frame=8N1'\n",
        lone.address
    );
    std::fs::write(&file, text).unwrap();
    let path = file.display().to_string();
    let read = |device: &str, more: &[&str]| {
        wattgate(&[&["device", "read", device, "--config", &path], more].concat(), "")
    };
    // As a gateway holds it, which is the kernel's lock and not the file.
    let held = std::fs::File::create(folder.path().join("lock")).unwrap();
    assert_eq!(read("grid", &[]).1, 0, "no gateway runs");
    held.lock().unwrap();
    let (text, code) = read("grid", &[]);
    assert!(code == 77 && text.contains("--beside-gateway"), "{code} {text}");
    let (text, code) = read("grid", &["--beside-gateway"]);
    assert!(code == 0 && text.contains("voltage_l1_v"), "{code} {text}");
    let (text, code) = read("line", &["--beside-gateway"]);
    assert!(code == 77 && text.contains("serial line"), "{code} {text}");
    drop(held);
    assert_eq!(read("grid", &[]).1, 0, "it has ended");
}

#[test]
fn a_device_is_read_by_hand_with_its_raw_words() {
    let lone = serve(&shipped("eastron-sdm630"));
    let at = format!("tcp://{}", lone.address);
    let which = ["device", "read", "--profile", "eastron-sdm630", "--address", &at];
    let (text, code) = wattgate(&[&which[..], &["--format", "json"]].concat(), "");
    assert_eq!(code, 0, "{text}");
    let line = text.lines().find(|line| line.starts_with('[')).unwrap();
    let rows: Vec<serde_json::Value> = serde_json::from_str(line).unwrap();
    let row = rows.iter().find(|row| row["quantity"] == "voltage_l1_v").unwrap();
    let raw = u32::from_str_radix(&row["raw"].as_str().unwrap().replace(' ', ""), 16).unwrap();
    let decoded = row["value"].as_f64().unwrap();
    assert!((f64::from(f32::from_bits(raw)) - decoded).abs() < 1e-3);
    assert!(decoded > 220.0 && row["latency_ms"].as_f64().unwrap() > 0.0);
    let (text, code) = wattgate(&which, "");
    assert!(code == 0 && text.contains("voltage_l1_v") && text.contains("input 0"), "{text}");
    let nobody =
        ["device", "read", "--profile", "eastron-sdm630", "--address", "tcp://127.0.0.1:1"];
    assert_eq!(wattgate(&nobody, "").1, 69);
}

#[test]
fn a_scan_prints_rows_json_and_csv() {
    let lone = serve(&shipped("eastron-sdm630"));
    let port = lone.address.port().to_string();
    let base = ["scan", "tcp", "127.0.0.1", "--ports", &port, "--units", "1,2"];
    let (text, code) = wattgate(&base, "");
    assert!(code == 0 && text.contains("eastron-sdm630") && text.contains("100 %"), "{text}");
    let (text, _) = wattgate(&[&base[..], &["--format", "json"]].concat(), "");
    let rows: serde_json::Value =
        serde_json::from_str(text.lines().find(|line| line.starts_with('[')).unwrap()).unwrap();
    assert_eq!(rows[0]["fits"][0]["profile"], "eastron-sdm630");
    let (text, _) = wattgate(&[&base[..], &["--format", "csv"]].concat(), "");
    assert!(text.contains("address,units") && text.contains(",\"eastron-sdm630\",1.00"), "{text}");
    assert_eq!(wattgate(&["scan", "tcp", "10.0.0.0/8"], "").1, 2);
}

#[test]
fn a_profile_is_tried_on_a_live_device_by_hand() {
    let right = shipped("eastron-sdm630");
    let lone = serve(&right.replace("type = \"f32\"", "type = \"f32\"\norder = \"CDAB\""));
    let at = format!("tcp://{}", lone.address);
    let (text, code) = wattgate(&["profile", "test", "eastron-sdm630", &at], "");
    assert!(code == 1 && text.contains("order = \"CDAB\""), "{text}");
}
