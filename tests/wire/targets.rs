//! What a car needs and when it leaves, and how its charger charges, told over MQTT and HTTP, and what becomes of it.

use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::gateway::{Demo, PATIENCE, until};

fn ask(demo: &Demo, charger: &str, payload: &str) -> Value {
    ask_at(demo, &format!("charger/{charger}/cmd/target"), payload)
}

/// Asks over MQTT 5 with a response topic; the answer.
fn ask_at(demo: &Demo, topic: &str, payload: &str) -> Value {
    let (host, port) = demo.broker.rsplit_once(':').expect("host:port");
    let topic = format!("wattgate/v1/demo/{topic}");
    let out = Command::new("mosquitto_rr")
        .args(["-V", "5", "-h", host, "-p", port, "-W", "10", "-q", "1", "-t", &topic])
        .args(["-e", "test/answers", "-m", payload])
        .output()
        .expect("mosquitto_rr");
    serde_json::from_slice(&out.stdout)
        .unwrap_or_else(|_| panic!("no answer to {payload}: {out:?}"))
}

fn post(demo: &Demo, charger: &str, code: &str, body: &str) -> u16 {
    post_at(demo, &format!("{charger}/target"), code, body)
}

fn post_at(demo: &Demo, place: &str, code: &str, body: &str) -> u16 {
    let url = format!("{}/api/v1/chargers/{place}", demo.page);
    let sent = ureq::post(&url)
        .config()
        .http_status_as_error(false)
        .build()
        .header("content-type", "application/json")
        .header("x-wattgate-code", code)
        .send(body);
    sent.expect("an answer").status().as_u16()
}

/// Energy that the plan has for pile1's car, kWh.
fn planned(demo: &Demo) -> Option<f64> {
    let document = demo.overview()?;
    let lanes = document["overview"]["plan"]["lanes"].as_array()?.clone();
    let lane = lanes.into_iter().find(|lane| lane["id"] == "pile1")?;
    Some(lane["target"]["energy_wh"].as_f64()? / 1000.0)
}

#[test]
fn a_target_is_planned_and_nonsense_is_answered() {
    let demo = Demo::with(&["--speed", "5"]);
    until("writing", PATIENCE, || demo.overview().filter(|d| d["overview"]["writing"] == true));
    let about = |kwh: f64| move |planned: &f64| (kwh - 3.0..=kwh).contains(planned);
    until("the driver's own wish", Duration::from_secs(60), || planned(&demo).filter(about(38.5)));
    let told = ask(&demo, "pile1", r#"{"energy_kwh": 12, "stay_h": 3}"#);
    assert_eq!(told["ok"], true, "{told}");
    until("twelve in the plan", PATIENCE, || planned(&demo).filter(about(12.0)));

    for (charger, payload, word) in [
        ("pile9", r#"{"energy_kwh": 12, "stay_h": 3}"#, "no charger"),
        ("pile2", "12", "invalid type"),
        ("pile2", r#"{"energy_kwh": 12}"#, "stay_h"),
        ("pile2", r#"{"energy_kwh": 1e300, "stay_h": 3}"#, "energy_kwh"),
    ] {
        let told = ask(&demo, charger, payload);
        let why = told["error"].as_str().unwrap_or_default();
        assert!(told["ok"] == false && why.contains(word), "{payload}: {told}");
    }
    let body = r#"{"energy_kwh": 8, "stay_h": 2}"#;
    let code = demo.code().expect("the code");
    assert_eq!(post(&demo, "pile1", "wrong", body), 403);
    assert_eq!(post(&demo, "pile9", &code, body), 404);
    assert_eq!(post(&demo, "pile1", &code, r#"{"energy_kwh": 8}"#), 400);
    assert_eq!(post(&demo, "pile1", &code, body), 204);
    until("eight in the plan", PATIENCE, || planned(&demo).filter(about(8.0)));

    // The grid operator dims: what is controlled keeps what the rule leaves it.
    let dim = |code: &str, body: &str| {
        let url = format!("{}/api/v1/dim", demo.page);
        let request = ureq::post(&url).config().http_status_as_error(false).build();
        let request = request.header("content-type", "application/json");
        request.header("x-wattgate-code", code).send(body).expect("an answer").status().as_u16()
    };
    assert_eq!(dim("wrong", r#"{"limit_w": 0, "minutes": 30}"#), 403);
    assert_eq!(dim(&code, r#"{"limit_w": -1, "minutes": 30}"#), 400);
    assert_eq!(dim(&code, r#"{"limit_w": 0, "minutes": 30}"#), 204);
    // Piles, nodes and batteries of the demo.
    let loads = demo.overview().map_or(0, |d| {
        let devices = d["overview"]["devices"].as_array().cloned().unwrap_or_default();
        devices.iter().filter(|device| !device["setpoint"].is_null()).count()
    });
    let shares = [0.0, 0.8, 0.75, 0.7, 0.65, 0.6, 0.55, 0.5];
    let least = 4200.0 * (1.0 + (loads as f64 - 1.0) * shares[loads - 1]);
    until("the chargers dimmed", PATIENCE, || {
        let watts = demo.overview()?["overview"]["chargers_w"].as_f64()?;
        (watts <= least + 500.0).then_some(())
    });
    // It is over at once when the operator says so, and MQTT says it as well.
    assert_eq!(dim(&code, r#"{"limit_w": 0, "minutes": 0}"#), 204);
    let told = |payload: &str| ask_at(&demo, "grid/main/cmd/dim", payload);
    let is_dimmed = |wanted: bool| {
        until("what the operator says", Duration::from_secs(60), || {
            let document = demo.overview()?;
            let devices = document["overview"]["devices"].as_array()?.clone();
            let dimmed = devices.iter().any(|d| d["setpoint"]["reason"] == "dimmed");
            (dimmed == wanted).then_some(())
        });
    };
    is_dimmed(false);
    for (payload, word) in [("7", "invalid type"), (r#"{"limit_w": -5, "minutes": 3}"#, "limit_w")]
    {
        let told = told(payload);
        let why = told["error"].as_str().unwrap_or_default();
        assert!(told["ok"] == false && why.contains(word), "{payload}: {told}");
    }
    assert_eq!(told(r#"{"limit_w": 0, "minutes": 30}"#)["ok"], true);
    is_dimmed(true);
}

/// What the page shows of pile1: its mode and the reason of its setpoint.
fn shown(demo: &Demo) -> Option<(String, String)> {
    let document = demo.overview()?;
    let devices = document["overview"]["devices"].as_array()?.clone();
    let pile = devices.into_iter().find(|d| d["id"] == "pile1")?;
    let word = |value: &Value| value.as_str().map(str::to_owned);
    Some((word(&pile["values"]["mode"])?, word(&pile["setpoint"]["reason"])?))
}

#[test]
fn a_charger_is_switched_off_and_on_by_words_and_that_is_read_back() {
    let demo = Demo::with(&["--speed", "5"]);
    until("writing", PATIENCE, || demo.overview().filter(|d| d["overview"]["writing"] == true));
    assert_eq!(shown(&demo).map(|(mode, _)| mode).as_deref(), Some("departure"));
    // Later the driver would tell it over what is told here.
    let own = |kwh: &f64| (35.5..=38.5).contains(kwh);
    until("the driver's own wish", Duration::from_secs(60), || planned(&demo).filter(own));
    let told = ask_at(&demo, "charger/pile1/cmd/mode", "off");
    assert_eq!(told["ok"], true, "{told}");
    let off = ("off".to_owned(), "mode_off".to_owned());
    until("switched off", PATIENCE, || shown(&demo).filter(|shown| *shown == off));
    let told = ask_at(&demo, "charger/pile9/cmd/mode", "off");
    assert!(told["error"].as_str().is_some_and(|why| why.contains("no charger")), "{told}");
    let code = demo.code().expect("the code");
    let put = |charger: &str, code: &str, body: &str| {
        post_at(&demo, &format!("{charger}/mode"), code, body)
    };
    assert_eq!(put("pile1", "wrong", r#"{"mode": "fast"}"#), 403);
    assert_eq!(put("pile9", &code, r#"{"mode": "fast"}"#), 404);
    assert_eq!(put("pile1", &code, r#"{"mode": "solar"}"#), 400);
    assert_eq!(shown(&demo), Some(off));
    assert_eq!(put("pile1", &code, r#"{"mode": "fast"}"#), 200);
    assert_eq!(shown(&demo).map(|(mode, _)| mode).as_deref(), Some("fast"), "read back");
    the_command_line_says_what_has_become_of_it(&demo);
}

/// `wattgate charger` with these words: exit code, what it prints, what it complains about.
fn charger(demo: &Demo, words: &[&str]) -> (Option<i32>, String, String) {
    let out = Command::new(env!("CARGO_BIN_EXE_wattgate"))
        .args(["--lang", "en", "charger"])
        .args(words)
        .arg("--state")
        .arg(demo.state())
        .output()
        .expect("wattgate charger");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (out.status.code(), text(&out.stdout), text(&out.stderr))
}

fn the_command_line_says_what_has_become_of_it(demo: &Demo) {
    let (code, said, _) = charger(demo, &["mode", "pile1", "off"]);
    assert_eq!((code, shown(demo).map(|s| s.0).as_deref()), (Some(0), Some("off")), "{said}");
    assert!(
        said.contains("off") && said.contains("0.0 A") && said.contains("switched off"),
        "{said}"
    );
    let (code, listed, _) = charger(demo, &["list"]);
    let line = |id: &str| listed.lines().find(|line| line.starts_with(id)).map(str::to_owned);
    assert_eq!(code, Some(0));
    assert!(line("pile1").is_some_and(|l| l.contains("switched off")), "{listed}");
    assert!(line("pile2").is_some_and(|l| l.contains("departure")), "{listed}");
    // Nonsense: no such charger, no such mode, a target without its time, one beyond its bounds.
    for (words, exit, why) in [
        (&["mode", "pile9", "fast"][..], 1, "no such charger"),
        (&["mode", "pile1", "solar"], 2, "pv_only"),
        (&["mode", "pile1", "departure", "--energy-kwh", "5"], 1, "stay_h"),
        (
            &["mode", "pile1", "departure", "--energy-kwh", "1e300", "--stay-h", "2"],
            1,
            "energy_kwh",
        ),
        (&["mode", "pile1", "departure", "--stay-h", "2"], 2, "energy-kwh"),
    ] {
        let (code, said, complained) = charger(demo, words);
        assert_eq!(code, Some(exit), "{words:?}: {said}{complained}");
        assert!(complained.contains(why), "{words:?}: {complained}");
    }
    assert_eq!(shown(demo).map(|(mode, _)| mode).as_deref(), Some("off"), "nothing was taken");
    let words = ["mode", "pile1", "departure", "--energy-kwh", "9", "--stay-h", "3"];
    let (code, said, _) = charger(demo, &words);
    assert_eq!(code, Some(0));
    assert!(said.contains("ready at departure") && said.contains("next plan"), "{said}");
    let about_nine = |kwh: &f64| (6.0..=9.0).contains(kwh);
    // Its first two minutes at the plug are for watching it.
    until("nine in the plan", Duration::from_secs(60), || planned(demo).filter(about_nine));
    let (_, json, _) = charger(demo, &["mode", "pile1", "fast", "--format", "json"]);
    let json: Value = serde_json::from_str(&json).expect(&json);
    assert_eq!(json["charger"]["values"]["mode"], "fast", "{json}");
    assert_eq!(json["outlook"], Value::Null, "{json}");
}
