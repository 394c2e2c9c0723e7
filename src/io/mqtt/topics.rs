//! The overview as topics and flat JSON: `<kind>/<id>/state` and `<kind>/<id>/meta` below
//! `wattgate/v1/<site>`. Keys carry their unit; every state has `ts` (UTC, ms) and `q`.
//!
//! What a stranger gets wrong: the `ts` of a device is the time its values came off the wire, so an
//! old value is never told with a new time; a device that was never seen has the overview's time and
//! `q` "bad".

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Map, Value, json};

use crate::io::store::Writes;
use crate::logic::decision::{
    BayView, CameraView, DeviceView, EnergyView, JobView, Overview, PlanView, Quality, ZoneView,
};
use crate::logic::safety::alarms::Alarm;
use crate::logic::site::Id;
use crate::logic::vision::{BayState, Ledger};

/// Version of the topic tree.
const ROOT: &str = "wattgate/v1";

/// Units by the ending of a key.
const UNITS: [(&str, &str); 10] = [
    ("_wh", "Wh"),
    ("_j", "J"),
    ("_w", "W"),
    ("_a", "A"),
    ("_v", "V"),
    ("_hz", "Hz"),
    ("_kwh", "kWh"),
    ("_pct", "%"),
    ("_ms", "ms"),
    ("_s", "s"),
];

/// The newest of one topic.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct State {
    /// Below the site, e.g. `charger/pile1/state`.
    pub topic: String,
    pub ts: DateTime<Utc>,
    /// Everything but `ts`.
    pub body: Map<String, Value>,
}

impl State {
    pub fn payload(&self) -> Vec<u8> {
        with_ts(self.ts, self.body.clone())
    }
}

/// The topic below the site's root.
pub(super) fn absolute(site: &Id, relative: &str) -> String {
    format!("{ROOT}/{site}/{relative}")
}

/// RFC 3339, UTC, milliseconds.
pub(super) fn stamp(ts: DateTime<Utc>) -> String {
    ts.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// A JSON object with `ts`.
pub(super) fn with_ts(ts: DateTime<Utc>, mut body: Map<String, Value>) -> Vec<u8> {
    body.insert("ts".to_owned(), json!(stamp(ts)));
    Value::Object(body).to_string().into_bytes()
}

/// Every state of the site.
pub(super) fn states(overview: &Overview) -> Vec<State> {
    let mut states = vec![grid(overview), gateway(overview)];
    states.extend(overview.devices.iter().map(|device| device_state(overview, device)));
    states.extend(overview.bays.iter().map(|bay| bay_state(overview, bay)));
    states.extend(overview.zones.iter().map(|zone| zone_state(overview, zone)));
    states.extend(overview.cameras.iter().map(|camera| camera_state(overview, camera)));
    states.extend(overview.alarms.iter().map(|alarm| alarm_state(overview, alarm)));
    states.extend(overview.jobs.iter().map(|job| job_state(overview, job)));
    states.extend(overview.looking.as_ref().map(|looking| looking_state(overview, looking)));
    states.extend(ledger_states(overview));
    states.extend(overview.plan.as_ref().map(plan));
    states
}

/// Adds to each device how often its registers were written, since ever: `writes_ADDRESS`, zero-based.
pub(super) fn add_writes(overview: &Overview, writes: &Writes, states: &mut [State]) {
    for (name, count) in writes {
        let Some((id, address)) = name.split_once('/') else { continue };
        let Some(device) = overview.devices.iter().find(|d| d.id.as_str() == id) else { continue };
        let topic = format!("{}/{id}/state", device.kind);
        if let Some(state) = states.iter_mut().find(|state| state.topic == topic) {
            state.body.insert(format!("writes_{address}"), json!(count));
        }
    }
}

/// Where alarms are told: one topic each, cleared when it is normal and acknowledged.
const ALARMS: &str = "alarm/";
/// Where jobs are told: one topic each, cleared when a job is over and has left the book.
const JOBS: &str = "job/";
/// What comes and goes.
pub(super) const PASSING: [&str; 2] = [ALARMS, JOBS];

/// Whether a topic below the site is of something that comes and goes.
pub(super) fn is_passing(topic: &str) -> bool {
    PASSING.iter().any(|kind| topic.starts_with(kind))
}

/// Where the plan is told.
pub(super) const PLAN: &str = "plan";

/// The plan of the next 24 h; told when it is made anew.
fn plan(plan: &PlanView) -> State {
    let mut body = object(json!(plan));
    body.insert("q".to_owned(), json!(Quality::Good));
    State { topic: PLAN.to_owned(), ts: plan.made, body }
}

fn job_state(o: &Overview, job: &JobView) -> State {
    let mut body = object(json!(job));
    body.insert("q".to_owned(), json!(Quality::Good));
    State { topic: format!("{JOBS}{}/state", job.id), ts: o.ts, body }
}

fn alarm_state(o: &Overview, alarm: &Alarm) -> State {
    let body = json!({
        "q": Quality::Good,
        "code": alarm.code,
        "about": alarm.about,
        "severity": alarm.severity,
        "active": alarm.active,
        "acknowledged": alarm.acknowledged,
        "since": stamp(alarm.since),
        "cleared": alarm.cleared.map(stamp),
        "by": alarm.by,
        "note": alarm.note,
    });
    State { topic: format!("{ALARMS}{}/state", alarm.id), ts: o.ts, body: object(body) }
}

/// Name and units of every topic: relative topic and content.
pub(super) fn metas(overview: &Overview, states: &[State]) -> Vec<(String, Value)> {
    let names = overview.devices.iter().map(|d| (d.kind.as_str(), &d.id, d.name.as_str()));
    let names = names.chain(overview.bays.iter().map(|b| ("bay", &b.id, b.name.as_str())));
    let names = names.chain(overview.cameras.iter().map(|c| ("camera", &c.id, c.name.as_str())));
    let names: std::collections::BTreeMap<String, &str> =
        names.map(|(kind, id, name)| (format!("{kind}/{id}"), name)).collect();
    let meta = |state: &State| {
        let place = state.topic.trim_end_matches("/state");
        let name = names.get(place).copied().unwrap_or(match place {
            "grid/main" | "gateway/main" => overview.name.as_str(),
            other => other.rsplit('/').next().unwrap_or(other),
        });
        let units: Map<String, Value> = state
            .body
            .keys()
            .filter_map(|key| unit(key).map(|unit| (key.clone(), json!(unit))))
            .collect();
        (format!("{place}/meta"), json!({ "name": name, "units": units }))
    };
    // Alarms and jobs come and go, and have no values with units; the plan is no device.
    let lasting = |state: &&State| !is_passing(&state.topic) && state.topic != PLAN;
    states.iter().filter(lasting).map(meta).collect()
}

fn unit(key: &str) -> Option<&'static str> {
    UNITS.iter().find(|(ending, _)| key.ends_with(ending)).map(|(_, unit)| *unit)
}

fn object(pairs: Value) -> Map<String, Value> {
    match pairs {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

fn grid(o: &Overview) -> State {
    let meter = o.devices.iter().find(|device| device.kind == "meter");
    let body = json!({
        "q": meter.map_or(Quality::Bad, |meter| meter.q),
        "power_w": o.grid_w,
        "headroom_a": o.headroom_a,
        "limit_l1_a": o.limit_a[0],
        "limit_l2_a": o.limit_a[1],
        "limit_l3_a": o.limit_a[2],
        "pv_w": o.pv_w,
        "battery_w": o.battery_w,
        "soc_pct": o.soc_pct,
        "chargers_w": o.chargers_w,
        "other_w": o.other_w,
    });
    let mut body = object(body);
    body.extend(o.compute_w.map(|watts| ("compute_w".to_owned(), json!(watts))));
    let ts = meter.and_then(|meter| meter.ts).unwrap_or(o.ts);
    State { topic: "grid/main/state".to_owned(), ts, body }
}

fn gateway(o: &Overview) -> State {
    let body = json!({
        "q": Quality::Good,
        "mode": o.mode,
        "writing": o.writing,
        "not_writing": o.not_writing,
        "sequence": o.sequence,
    });
    State { topic: "gateway/main/state".to_owned(), ts: o.ts, body: object(body) }
}

fn device_state(o: &Overview, device: &DeviceView) -> State {
    let mut body: Map<String, Value> = device.values.clone().into_iter().collect();
    body.insert("q".to_owned(), json!(device.q));
    if let Some(setpoint) = &device.setpoint {
        if let Some(phases) = setpoint.phases {
            body.insert("setpoint_phases".to_owned(), json!(phases));
        }
        if let Some(amps) = setpoint.current_a {
            body.insert("setpoint_a".to_owned(), json!(amps));
        }
        if let Some(watts) = setpoint.power_w {
            body.insert("setpoint_w".to_owned(), json!(watts));
        }
        body.insert("reason".to_owned(), json!(setpoint.reason));
        if let Some(about) = &setpoint.about {
            body.insert("reason_about".to_owned(), json!(about));
        }
    }
    let topic = format!("{}/{}/state", device.kind, device.id);
    State { topic, ts: device.ts.unwrap_or(o.ts), body }
}

fn bay_state(o: &Overview, bay: &BayView) -> State {
    let seen = if bay.state == BayState::Unknown { Quality::Bad } else { Quality::Good };
    let body = json!({
        "q": seen,
        "occupancy": bay.state,
        "charging": bay.charging,
        "charger": bay.charger,
        "camera": bay.camera,
        "score": bay.score,
    });
    State { topic: format!("bay/{}/state", bay.id), ts: o.ts, body: object(body) }
}

fn zone_state(o: &Overview, zone: &ZoneView) -> State {
    let body = json!({
        "q": if zone.fault { Quality::Bad } else { Quality::Good },
        "level": zone.level,
        "fault": zone.fault,
        "since": zone.since.map(stamp),
    });
    State { topic: format!("zone/{}/state", zone.id), ts: o.ts, body: object(body) }
}

fn camera_state(o: &Overview, camera: &CameraView) -> State {
    let blind = camera.fault.is_some() || camera.ts.is_none();
    let body = json!({
        "q": if blind { Quality::Bad } else { Quality::Good },
        "fire": camera.fire,
        "smoke": camera.smoke,
        "verdict": camera.verdict,
        "tier": camera.tier,
        "cpu_ms": camera.cpu_ms,
        "look_j": camera.look_j,
        "fault": camera.fault,
    });
    let mut body = object(body);
    if let Some(energy) = o.ledger.cameras.get(&camera.id) {
        put_energy(&mut body, "", energy);
    }
    let topic = format!("camera/{}/state", camera.id);
    State { topic, ts: camera.ts.unwrap_or(o.ts), body }
}

/// Energy of the running hour and day of UTC and since it is counted: `<prefix>hour_wh` and so on.
fn put_energy(body: &mut Map<String, Value>, prefix: &str, energy: &EnergyView) {
    for (window, wh) in [("hour", energy.hour_wh), ("day", energy.day_wh), ("all", energy.all_wh)] {
        body.insert(format!("{prefix}{window}_wh"), json!(wh));
    }
}

/// Where the site's energy went, and what jobs have spent and may: `gateway/energy` and `gateway/jobs`.
fn ledger_states(o: &Overview) -> Vec<State> {
    let state = |about: &str, mut body: Map<String, Value>| {
        body.insert("q".to_owned(), json!(Quality::Good));
        State { topic: format!("gateway/{about}/state"), ts: o.ts, body }
    };
    let mut states = Vec::new();
    if !o.ledger.site.is_empty() {
        let mut body = Map::new();
        for (flow, energy) in &o.ledger.site {
            put_energy(&mut body, &format!("{flow}_"), energy);
        }
        states.push(state("energy", body));
    }
    if let Some(budget) = &o.job_budget {
        let mut body = object(json!({
            "hour_wh": budget.hour_wh,
            "day_wh": budget.day_wh,
            "budget_hour_wh": budget.per_hour_wh,
            "budget_day_wh": budget.per_day_wh,
        }));
        for (workload, energy) in &o.ledger.workloads {
            put_energy(&mut body, &format!("workload_{workload}_"), energy);
        }
        states.push(state("jobs", body));
    }
    states
}

/// What looking costs, and the big net's account.
fn looking_state(o: &Overview, looking: &Ledger) -> State {
    let joules: f64 = looking.cameras.values().map(|camera| camera.joules).sum();
    let looks: u64 = looking.cameras.values().map(|camera| camera.looks).sum();
    let mut body = object(json!({
        "q": Quality::Good,
        "metering": looking.metering,
        "cpu_second_j": looking.joules_per_cpu_s,
        "looks": looks,
        "energy_j": (joules * 1000.0).round() / 1000.0,
        "escalation_rate": looking.escalation_rate(),
    }));
    if let Some(big) = &looking.big {
        body.extend(object(json!({
            "big_budget_wh": big.budget_wh,
            "big_spent_wh": big.spent_wh,
            "big_local": big.local,
            "big_remote": big.remote,
            "big_released": big.released,
            "big_confirmed": big.confirmed,
            "big_dropped": big.dropped,
            "big_trouble": big.trouble,
        })));
    }
    State { topic: "gateway/vision/state".to_owned(), ts: o.ts, body }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A small site, fixed: one of each.
    pub(in crate::io::mqtt) fn overview() -> Overview {
        let text = include_str!("../../../tests/golden/mqtt/overview.json");
        serde_json::from_str(text).expect("golden overview")
    }

    #[test]
    fn the_tree_is_as_stored() {
        let overview = overview();
        let states = states(&overview);
        let mut told: Vec<(String, Value)> = states
            .iter()
            .map(|state| (state.topic.clone(), serde_json::from_slice(&state.payload()).unwrap()))
            .collect();
        told.extend(metas(&overview, &states));
        let told: Vec<(String, Value)> = told
            .into_iter()
            .map(|(topic, body)| (absolute(&overview.site, &topic), body))
            .collect();
        let stored = include_str!("../../../tests/golden/mqtt/topics.txt");
        let stored: Vec<(String, Value)> = stored
            .lines()
            .filter_map(|line| line.split_once(' '))
            .map(|(topic, body)| (topic.to_owned(), serde_json::from_str(body).unwrap()))
            .collect();
        let lines: Vec<String> =
            told.iter().map(|(topic, body)| format!("{topic} {body}")).collect();
        assert_eq!(told, stored, "\n{}\n", lines.join("\n"));
    }

    #[test]
    fn units_come_from_the_ending() {
        let table = [("power_w", Some("W")), ("import_kwh", Some("kWh")), ("cpu_ms", Some("ms"))];
        for (key, expected) in table.into_iter().chain([("lease_s", Some("s")), ("vehicle", None)])
        {
            assert_eq!(unit(key), expected, "{key}");
        }
    }
}
