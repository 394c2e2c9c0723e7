//! An alarm survives what happens to the gateway, and only a person ends it: latch, control socket,
//! acknowledgement over HTTP, and the retained topic.

use std::process::{Command, Output};

use serde_json::Value;

use crate::gateway::{Demo, PATIENCE, kill, post, until};

fn alarm(demo: &Demo, arguments: &[&str]) -> Output {
    let state = demo.state();
    Command::new(env!("CARGO_BIN_EXE_wattgate"))
        .args(["--lang", "en", "alarm"])
        .args(arguments)
        .arg("--state")
        .arg(state)
        .output()
        .expect("wattgate alarm")
}

fn acknowledge(demo: &Demo, id: &str, code: &str, body: &str) -> u16 {
    let url = format!("{}/api/v1/alarms/{id}/acknowledge", demo.page);
    let sent = ureq::post(&url)
        .config()
        .http_status_as_error(false)
        .build()
        .header("content-type", "application/json")
        .header("x-wattgate-code", code)
        .send(body);
    sent.expect("an answer").status().as_u16()
}

fn find(demo: &Demo, id: &str) -> Option<Value> {
    let document = demo.overview()?;
    let alarms = document["overview"]["alarms"].as_array()?.clone();
    alarms.into_iter().find(|alarm| alarm["id"] == id)
}

fn retained(demo: &Demo, id: &str) -> Option<Value> {
    let (host, port) = demo.broker.rsplit_once(':')?;
    let out = Command::new("mosquitto_sub")
        .args(["-V", "5", "-h", host, "-p", port, "-C", "1", "-W", "1", "-t"])
        .arg(format!("wattgate/v1/demo/alarm/{id}/state"))
        .output()
        .expect("mosquitto_sub");
    serde_json::from_slice(&out.stdout).ok()
}

#[test]
fn an_alarm_is_latched_through_kills_and_ends_only_by_a_person() {
    let demo = Demo::start();
    until("writing", PATIENCE, || demo.overview().filter(|d| d["overview"]["writing"] == true));
    post(&format!("{}/set", demo.world), r#"{"fire": {"bay": "bay1", "intensity": 1}}"#);
    let raised = until("the fire alarm", PATIENCE, || {
        let document = demo.overview()?;
        let alarms = document["overview"]["alarms"].as_array()?.clone();
        alarms.into_iter().find(|alarm| alarm["code"] == "fire_alarm")
    });
    let id = raised["id"].as_str().expect("id").to_owned();
    let zone = raised["about"].as_str().expect("zone").to_owned();
    let paused = |d: &Value| {
        let devices = d["overview"]["devices"].as_array().expect("devices");
        let chargers = devices.iter().filter(|device| device["kind"] == "charger");
        chargers.clone().count() > 0
            && chargers.clone().any(|c| c["setpoint"]["reason"] == "fire_alarm")
    };
    until("a paused charger", PATIENCE, || demo.overview().filter(paused));
    until("the retained alarm", PATIENCE, || retained(&demo, &id));
    // Whoever pulls the plug before the disk has both copies finds nothing latched.
    let kept = |copy: &str| std::fs::read_to_string(demo.state().join(copy)).ok();
    until("the latch on the disk", PATIENCE, || {
        let both =
            ["latch.a", "latch.b"].iter().all(|c| kept(c).is_some_and(|l| l.contains(&zone)));
        both.then_some(())
    });

    post(&format!("{}/set", demo.world), r#"{"fire": {"bay": "bay1", "intensity": 0}}"#);
    for _ in 0..3 {
        let gateway = demo.children("run")[0];
        kill("-KILL", gateway);
        until("a latched zone after the kill", PATIENCE, || {
            let back = demo.children("run").into_iter().any(|pid| pid != gateway);
            let latched = |d: &Value| {
                let zones = d["overview"]["zones"].as_array().expect("zones");
                zones.iter().any(|z| z["id"] == zone.as_str() && z["level"] == 2)
            };
            demo.overview().filter(|d| back && latched(d) && paused(d))
        });
    }

    until("the control socket", PATIENCE, || {
        let listed = alarm(&demo, &["list"]);
        String::from_utf8_lossy(&listed.stdout).contains(&id).then_some(())
    });
    let unseen = alarm(&demo, &["reset", &zone, "--by", "Li"]);
    assert_eq!(unseen.status.code(), Some(77), "the first step only says what the second needs");
    let early = alarm(&demo, &["reset", &zone, "--by", "Li", "--inspected"]);
    assert_eq!(early.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&early.stderr).contains("Not reset"), "{early:?}");
    assert_eq!(alarm(&demo, &["ack", "no_such", "--by", "Li"]).status.code(), Some(1));

    let code = until("the code printed at start", PATIENCE, || demo.code());
    assert_eq!(acknowledge(&demo, &id, "wrong", r#"{"name":"Li"}"#), 403);
    assert_eq!(acknowledge(&demo, &id, &code, r#"{"name":" "}"#), 400);
    assert_eq!(acknowledge(&demo, &id, &code, "not JSON"), 400);
    assert_eq!(acknowledge(&demo, "no_such", &code, r#"{"name":"Li"}"#), 404);
    assert_eq!(find(&demo, &id).expect("alarm")["acknowledged"], false);
    assert_eq!(acknowledge(&demo, &id, &code, r#"{"name":"Li","note":"on my way"}"#), 204);
    let known = until("an acknowledged alarm", PATIENCE, || {
        find(&demo, &id).filter(|alarm| alarm["acknowledged"] == true)
    });
    assert_eq!((&known["by"], &known["note"]), (&"Li".into(), &"on my way".into()));
    assert_eq!(known["active"], true, "acknowledging changes nothing that acts");
    until("the acknowledgement in MQTT", PATIENCE, || {
        retained(&demo, &id).filter(|alarm| alarm["by"] == "Li")
    });
}

#[test]
fn a_warning_that_is_gone_and_acknowledged_leaves_no_retained_topic() {
    let demo = Demo::start();
    until("writing", PATIENCE, || demo.overview().filter(|d| d["overview"]["writing"] == true));
    post(&format!("{}/fault", demo.world), r#"{"device": "hybrid", "silent": true}"#);
    let id = "device_lost-hybrid";
    until("the alarm of a silent device", PATIENCE, || find(&demo, id));
    until("the retained alarm", PATIENCE, || retained(&demo, id));
    assert_eq!(alarm(&demo, &["ack", id, "--by", "Wang"]).status.code(), Some(0));
    assert_eq!(find(&demo, id).expect("still there")["by"], "Wang");
    post(&format!("{}/fault", demo.world), r#"{"device": "hybrid"}"#);
    until("no alarm any more", PATIENCE, || find(&demo, id).is_none().then_some(()));
    until("no retained topic", PATIENCE, || retained(&demo, id).is_none().then_some(()));
}
