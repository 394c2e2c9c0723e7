//! The main job on real wires: ready in time, the same value everywhere, stopped in order, and what
//! happens when the eyes die.

use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::browser::Browser;
use crate::gateway::{Demo, PATIENCE, get, kill, now, post, until};

/// Bars of the demo.
const READY_IN: Duration = Duration::from_secs(5);
const STOPS_IN: Duration = Duration::from_secs(10);

pub fn pymodbus(address: &str, script: &str) -> Value {
    let (host, port) = address.rsplit_once(':').expect("host:port");
    let python = format!("{}/.venv/bin/python", env!("CARGO_MANIFEST_DIR"));
    let start = format!(
        "import json, struct\nfrom pymodbus.client import ModbusTcpClient\n\
         c = ModbusTcpClient('{host}', port={port}); assert c.connect()\n\
         f = lambda r: struct.unpack('>f', struct.pack('>HH', *r))[0]\n{script}"
    );
    let out = Command::new(python).args(["-c", &start]).output().expect(".venv of tests/run");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).expect("JSON of the script")
}

fn mqtt_state(broker: &str, topic: &str) -> Option<Value> {
    let (host, port) = broker.rsplit_once(':').expect("host:port");
    let out = Command::new("mosquitto_sub")
        .args(["-V", "5", "-h", host, "-p", port, "-t", topic, "-C", "1", "-W", "5"])
        .output()
        .expect("mosquitto_sub");
    serde_json::from_slice(&out.stdout).ok()
}

#[test]
fn ready_in_five_seconds_and_stopped_within_ten() {
    let mut demo = Demo::start();
    let first = until("the first decision that is written", PATIENCE, || {
        demo.overview().filter(|d| d["overview"]["writing"] == true)
    });
    let told = until("a setpoint that the pile holds", PATIENCE, || {
        let held = demo.truth()["chargers"][0]["limit_a"].as_f64()?;
        (held >= 6.0).then_some(held)
    });
    let message = until("the first message", PATIENCE, || {
        mqtt_state(&demo.broker, "wattgate/v1/demo/grid/main/state")
    });
    let ready = demo.started.elapsed();
    println!("ready after {ready:?}: pile at {told} A, grid {}", message["power_w"]);
    assert!(ready <= READY_IN, "ready only after {ready:?}");
    assert!(first["overview"]["grid_w"].is_number());
    let (stopped, clean) = demo.interrupt();
    println!("stopped after {stopped:?}");
    assert!(clean && stopped <= STOPS_IN, "stopped after {stopped:?}, clean: {clean}");
    assert!(demo.children("run").is_empty() && demo.children("vision").is_empty());
}

#[test]
fn a_value_is_the_same_on_the_wire_in_mqtt_in_the_api_and_on_the_page() {
    let demo = Demo::start();
    let browser = Browser::start();
    browser.open(&format!("{}/?lang=en", demo.page));
    // PV and battery out of the way: with the car gone only the building is left.
    post(&format!("{}/set", demo.world), r#"{"building_w": 17340, "pv_w": 0}"#);
    let grid = |document: &Value| document["overview"]["grid_w"].as_f64();
    let near = |a: f64, b: f64| (a - b).abs() <= 150.0;
    until("one grid power everywhere", PATIENCE, || {
        let truth = demo.truth()["grid_w"].as_f64()?;
        let wire = pymodbus(
            &demo.meter,
            "print(json.dumps(f(c.read_input_registers(0x34, count=2, device_id=1).registers)))",
        );
        let api = grid(&demo.overview()?)?;
        let mqtt =
            mqtt_state(&demo.broker, "wattgate/v1/demo/grid/main/state")?["power_w"].as_f64()?;
        let shown = "Number(document.querySelector('[data-test=grid-power]').dataset.value)";
        let page = browser.eval(&format!("return {shown}")).as_f64()?;
        let all = [wire.as_f64()?, api, mqtt, page];
        println!("truth {truth:.0} W: wire, API, MQTT, page {all:.0?}");
        all.iter().all(|value| near(*value, truth)).then_some(())
    });
    let told =
        demo.overview().expect("overview")["overview"]["devices"][1]["setpoint"]["current_a"]
            .clone();
    let held = pymodbus(
        &demo.pile,
        "print(json.dumps(f(c.read_holding_registers(1210, count=2, device_id=1).registers)))",
    );
    assert!(
        (told.as_f64().unwrap() - held.as_f64().unwrap()).abs() <= 6.1,
        "{told} told, {held} held"
    );
}

#[test]
fn killed_eyes_leave_the_control_period_unchanged_and_make_bays_unknown() {
    let demo = Demo::start();
    let bays = |d: &Value| -> Vec<String> {
        let bays = d["overview"]["bays"].as_array().expect("bays");
        bays.iter().map(|bay| bay["state"].as_str().expect("state").to_owned()).collect()
    };
    let truth: Vec<&str> = vec!["occupied", "free", "occupied", "free"];
    until("the bays as they are", PATIENCE, || demo.overview().filter(|d| bays(d) == truth));
    let before = demo.overview().expect("overview");
    let asked = now();
    let child = demo.children("vision")[0];
    kill("-KILL", child);
    let unknown = until("unknown bays", Duration::from_secs(2), || {
        demo.overview().filter(|d| bays(d).iter().all(|state| state == "unknown"))
    });
    assert!(unknown["overview"]["zones"][0]["fault"].as_bool().expect("fault"));
    until("the eyes to see again", Duration::from_secs(10), || {
        demo.overview().filter(|d| bays(d) == truth)
    });
    let after = demo.overview().expect("overview");
    let sequence = |d: &Value| d["overview"]["sequence"].as_u64().expect("sequence");
    let (passed, decided) = (asked.elapsed().as_secs_f64(), sequence(&after) - sequence(&before));
    println!("{decided} decisions in {passed:.1} s, eyes back");
    assert!(decided as f64 >= passed - 2.0, "{decided} decisions in {passed} s");
    assert_ne!(demo.children("vision"), [child]);
}

#[test]
fn a_killed_gateway_is_back_with_a_safe_write_in_five_seconds() {
    let demo = Demo::start();
    until("writing", PATIENCE, || demo.overview().filter(|d| d["overview"]["writing"] == true));
    let gateway = demo.children("run")[0];
    kill("-KILL", gateway);
    let asked = now();
    until("writing again", PATIENCE, || {
        let fresh = demo.children("run").into_iter().any(|pid| pid != gateway);
        demo.overview().filter(|d| fresh && d["overview"]["writing"] == true)
    });
    let back = asked.elapsed();
    println!("writing again after {back:?}");
    assert!(back <= Duration::from_secs(5), "{back:?}");
    until("no orphaned eyes", PATIENCE, || (demo.children("vision").len() == 1).then_some(()));
}

#[test]
fn metrics_and_health_answer() {
    let demo = Demo::start();
    until("ready", PATIENCE, || get(&format!("{}/readyz", demo.page)));
    let metrics = until("grid power", PATIENCE, || {
        get(&format!("{}/metrics", demo.page)).filter(|m| m.contains("wattgate_grid_power_watts "))
    });
    assert!(metrics.contains("wattgate_charger_setpoint_amperes{charger=\"pile1\"}"), "{metrics}");
    until("counted writes", PATIENCE, || {
        let metrics = get(&format!("{}/metrics", demo.page))?;
        metrics.contains("wattgate_register_writes_total{register=\"pile1/").then_some(())
    });
    assert_eq!(get(&format!("{}/healthz", demo.page)).as_deref(), Some("ok\n"));
}
