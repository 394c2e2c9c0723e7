//! The same device over every transport, each read by an independent peer where there is one: TCP, RTU on a serial
//! line (a pty pair), RTU over TCP, and TLS through stunnel. And `scan rtu` on such a line.
//!
//! What a stranger gets wrong: two reads are equal only while nothing moves, so the devices are frozen here.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;

use serde_json::Value;
use simulators::faults::Faults;
use simulators::frames::Framing;
use simulators::modbus_server::{self, Device};
use simulators::registers::{Map, Profiled};
use simulators::site::{Site, start_lone};
use tokio::runtime::Runtime;
use wattgate::config::{self, BusIdentity, Table};
use wattgate::io::modbus::{self, Bus, Pace, scan};
use wattgate::logic::site::Reading;
use wattgate::units::Phase;

use super::lines::{certificates, pty_pair, stunnel};
use super::rig::{self, Rig};
use crate::gateway::{PATIENCE, now};

const PACE: Pace = Pace {
    connect: std::time::Duration::from_secs(2),
    call: std::time::Duration::from_secs(3),
    gap: std::time::Duration::ZERO,
};

pub(super) fn frozen(sim: &Site, devices: &[&str]) {
    for device in devices {
        let faults = Faults { frozen: true, ..Faults::default() };
        sim.shared().set_faults(device, faults).unwrap();
    }
}

pub(super) fn meter(sim: &Site, unit: u8) -> Device {
    let shared = Arc::clone(sim.shared());
    Device { name: "grid".into(), map: Map::Sdm630, unit, shared }
}

/// A device on the far end of a serial line.
pub(super) fn serve(runtime: &Runtime, end: &str, device: Device) {
    let _inside = runtime.enter();
    let port = serial2_tokio::SerialPort::open(end, 19_200).unwrap();
    runtime.spawn(modbus_server::serve_serial(port, vec![device]));
}

#[test]
fn a_device_reads_the_same_over_every_transport_and_by_every_peer() {
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    let (runtime, sim) = rig::devices("one_pile");
    frozen(&sim, &["grid"]);
    let (_socat, ends) = pty_pair(folder.path());
    serve(&runtime, &ends[1], meter(&sim, 1));
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let bridge = modbus_server::serve_bridge(any, Framing::Rtu, vec![meter(&sim, 1)]);
    let (bridge, _serving) = runtime.block_on(bridge).unwrap();
    let (_stunnel, port) = stunnel(folder.path(), sim.addresses().meter);
    let serial = format!("rtu://{}?baud=19200&frame=8N1", ends[0]);
    let file = |name: &str| folder.path().join(name);
    let identity = BusIdentity {
        ca_file: file("authority.pem"),
        certificate_file: file("gateway.pem"),
        key_file: file("gateway.key"),
    };
    let lines = [
        format!("tcp://{}", sim.addresses().meter),
        serial,
        format!("rtu+tcp://{bridge}"),
        format!("tls://localhost:{port}"),
    ];
    let spans = [(0, 76), (70, 2), (30, 1), (0, 1)];
    let read = |line: &str| {
        let address = config::address_of(line).unwrap_or_else(|| panic!("{line}"));
        let mut bus = Bus::with_tls(address, Some(modbus::tls_identity(&identity)));
        let all = spans.map(|span| runtime.block_on(bus.read(1, Table::Input, span, PACE)));
        all.map(|words| words.unwrap_or_else(|error| panic!("{line}: {error}")))
    };
    let first = read(&lines[0]);
    assert!(first[0].iter().any(|word| *word != 0));
    for line in &lines[1..] {
        assert_eq!(read(line), first, "{line}");
    }
    // The serial line once more, by a client that is not ours.
    let script = format!(
        "import json\nfrom pymodbus.client import ModbusSerialClient\n\
         c = ModbusSerialClient('{}', baudrate=19200, timeout=3); assert c.connect()\n\
         print(json.dumps(c.read_input_registers(0, count=76, device_id=1).registers))",
        ends[0]
    );
    assert_eq!(python(&script), Value::from(first[0].clone()));
}

pub(super) fn python(script: &str) -> Value {
    let python = format!("{}/.venv/bin/python", env!("CARGO_MANIFEST_DIR"));
    let out = Command::new(python).args(["-c", script]).output().expect(".venv of tests/run");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).expect("JSON of the script")
}

#[test]
fn a_scan_of_a_serial_line_finds_the_unit_and_its_profile() {
    let folder = tempfile::tempdir().unwrap();
    let (_socat, ends) = pty_pair(folder.path());
    let (runtime, sim) = rig::devices("one_pile");
    let profile = simulators::profile::Profile::find("eastron-sdm630").unwrap();
    let map = Map::Profiled(Arc::new(Profiled::new(profile)));
    let shared = Arc::clone(sim.shared());
    serve(&runtime, &ends[1], Device { name: "grid".into(), map, unit: 3, shared });
    let arguments = ["scan", "rtu", &ends[0], "--baud", "19200", "--frame", "8N1"];
    let more = ["--units", "2,3,4", "--format", "json", "--lang", "en"];
    let mut command = Command::new(env!("CARGO_BIN_EXE_wattgate"));
    let out = command.args(arguments).args(more).output().unwrap();
    let text = String::from_utf8([out.stdout, out.stderr].concat()).unwrap();
    assert_eq!(out.status.code(), Some(0), "{text}");
    let rows = text.lines().find(|line| line.starts_with('[')).unwrap_or_else(|| panic!("{text}"));
    let rows: Value = serde_json::from_str(rows).unwrap();
    assert_eq!(rows.as_array().unwrap().len(), 1, "{rows}");
    assert_eq!(rows[0]["units"], serde_json::json!([3]));
    assert_eq!(rows[0]["fits"][0]["profile"], "eastron-sdm630", "{rows}");
    let address = rows[0]["address"].as_str().unwrap();
    assert!(address.starts_with("rtu://") && address.contains("19200"), "{address}");
}

/// A line is scanned for a minute and more: what is found on it is told at once, and how far it is after each unit.
#[test]
fn a_scan_of_a_serial_line_tells_each_unit_as_it_comes() {
    let folder = tempfile::tempdir().unwrap();
    let (_socat, ends) = pty_pair(folder.path());
    let (runtime, sim) = rig::devices("one_pile");
    let _inside = runtime.enter();
    let port = serial2_tokio::SerialPort::open(&ends[1], 19_200).unwrap();
    let devices = vec![meter(&sim, 2), meter(&sim, 3)];
    runtime.spawn(modbus_server::serve_serial(port, devices));
    let wanted = scan::Wanted {
        places: vec![config::address_of(&format!("rtu://{}?baud=19200", ends[0])).unwrap()],
        units: vec![2, 3, 4, 5],
        profiles: vec![config::builtin_profiles()["eastron-sdm630"].clone()],
        call: std::time::Duration::from_millis(500),
    };
    let (send, mut news) = tokio::sync::mpsc::channel(64);
    runtime.spawn(scan::scan(wanted, send));
    let mut told = Vec::new();
    while let Some(news) = runtime.block_on(news.recv()) {
        told.push(match news {
            scan::News::Found(row) => format!("{:?} {}", row.units, row.fits[0].profile),
            scan::News::Progress { done, total, .. } => format!("{done} of {total}"),
        });
    }
    let expected = [
        "[2] eastron-sdm630",
        "1 of 5",
        "[3] eastron-sdm630",
        "2 of 5",
        "3 of 5",
        "4 of 5",
        "5 of 5",
    ];
    assert_eq!(told, expected, "two meters of one kind are two devices");
}

/// What pysunspec2 makes of a device: model ids, and the scaled values of some points.
fn pysunspec2(address: SocketAddr, unit: u8) -> Value {
    let script = format!(
        "import json\nimport sunspec2.modbus.client as client\n\
         d = client.SunSpecModbusClientDeviceTCP(slave_id={unit}, ipaddr='{}', ipport={}, timeout=5)\n\
         d.scan()\n\
         ids = sorted(k for k in d.models if isinstance(k, int))\n\
         get = lambda m, p: getattr(d.models[m][0], p).cvalue if m in d.models else None\n\
         points = [(103, 'W'), (103, 'Hz'), (103, 'PhVphA'), (103, 'WH'), (124, 'WChaMax'),\n\
         \x20 (124, 'ChaState'), (802, 'SoC'), (203, 'W'), (203, 'WphA'), (203, 'AphB'),\n\
         \x20 (203, 'PhVphC'), (203, 'Hz'), (203, 'TotWhImp')]\n\
         mppt = [m.DCW.cvalue for m in d.models[160][0].module] if 160 in d.models else []\n\
         values = {{f'{{m}}.{{p}}': get(m, p) for m, p in points if m in d.models}}\n\
         print(json.dumps({{'ids': ids, 'values': values, 'mppt': mppt}}))",
        address.ip(),
        address.port()
    );
    python(&script)
}

#[test]
fn pysunspec2_and_we_make_the_same_of_a_meter_and_a_hybrid() {
    let (runtime, sim) = rig::devices("sunny_day");
    let profile = simulators::profile::Profile::find("sunspec-meter").unwrap();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let lone = runtime.block_on(start_lone(profile, any, (5, 1.0))).unwrap();
    lone.shared().set_faults("device", Faults { frozen: true, ..Faults::default() }).unwrap();
    frozen(&sim, &["hybrid"]);
    let (meter_at, hybrid_at) = (lone.address, sim.addresses().hybrid);
    let text = rig::site_file(sim.addresses())
        .replace("eastron-sdm630", "sunspec-meter")
        .replace(&format!("tcp://{}", sim.addresses().meter), &format!("tcp://{meter_at}"));
    let hybrid = format!(
        "[[device]]\nid = \"hybrid\"\nprofile = \"sunspec-hybrid\"\naddress = \"tcp://{hybrid_at}\"\n\
         max_charge_w = 10000\nmax_discharge_w = 10000\n"
    );
    let rig = Rig::start((runtime, sim), rig::checked(&(text + &hybrid)), false);
    let near = |told: &Value, ours: f64| {
        let told = told.as_f64().unwrap_or_else(|| panic!("{told} beside {ours}"));
        assert!((told - ours).abs() <= 1e-9 * ours.abs().max(1.0), "{told} is not {ours}");
    };

    let told = pysunspec2(meter_at, lone.unit);
    let value = |point: &str| &told["values"][point];
    let Reading::Meter(meter) = rig.answered("grid", now(), PATIENCE) else { panic!("{told}") };
    near(value("203.W"), meter.power.get());
    near(value("203.WphA"), meter.phase_power.on(Phase::L1).get());
    near(value("203.AphB"), meter.current.on(Phase::L2).get());
    near(value("203.PhVphC"), meter.voltage.on(Phase::L3).get());
    near(value("203.Hz"), meter.frequency.unwrap().get());
    near(value("203.TotWhImp"), meter.import.unwrap().get());

    let told = pysunspec2(hybrid_at, 1);
    assert_eq!(told["ids"], serde_json::json!([1, 103, 120, 123, 124, 160, 802, 803]));
    let reading = rig.answered("hybrid", now(), PATIENCE);
    let Reading::Hybrid { battery, pv } = reading else { panic!("{reading:?}") };
    let watts = |value: &Value| value.as_f64().unwrap();
    let pv_told = watts(&told["mppt"][0]) + watts(&told["mppt"][1]);
    near(&Value::from(pv_told), pv.power.get());
    near(&Value::from(watts(&told["values"]["103.W"]) - pv_told), battery.power.get());
    near(&told["values"]["802.SoC"], battery.soc.percent());
}
