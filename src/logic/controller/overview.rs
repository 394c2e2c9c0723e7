//! The controller's state as MQTT and the page show it: flat values with units in their keys, each with
//! its quality and age. Nothing that acts reads this.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Controller, arming, daybook, errands, guarding};
use crate::logic::decision::{
    BayView, CameraView, Decision, DeviceView, Overview, Quality, RelayView, SensorView,
    SetpointView, ZoneView,
};
use crate::logic::safety::fire::ResetObstacle;
use crate::logic::site::{Bay, Id, Known, PhaseCount, Reading, Reason, Vehicle};
use crate::logic::vision::BayState;
use crate::units::{Moment, Phase};

pub(super) fn overview(c: &Controller, decision: &Decision) -> Overview {
    let now = decision.at;
    let meter = c.meter(now);
    let limit = &c.site.limits.limit;
    let headroom = meter.fresh().map(|meter| {
        let left = |p: Phase| limit.on(p).get() - meter.current.on(p).get();
        Phase::ALL.map(left).into_iter().fold(f64::MAX, f64::min)
    });
    let mut overview = Overview {
        site: c.site.id.clone(),
        name: c.site.name.clone(),
        sequence: decision.sequence,
        ts: now.utc,
        timezone: c.site.tariff.as_ref().map(|tariff| tariff.zone.name().to_owned()),
        mode: c.site.mode,
        writing: decision.writing,
        not_writing: (!decision.writing)
            .then(|| arming::obstacle(&c.site, &c.snapshot, now))
            .flatten()
            .map(|obstacle| obstacle.code().to_owned()),
        limit_a: limit.0.map(|amps| amps.get()),
        headroom_a: headroom.map(round),
        grid_w: meter.usable().map(|meter| round(meter.power.get())),
        pv_w: None,
        battery_w: None,
        soc_pct: None,
        chargers_w: None,
        compute_w: None,
        other_w: None,
        devices: devices(c, decision),
        bays: c.site.bays.iter().map(|bay| bay_view(c, bay, now)).collect(),
        zones: zones(c, now),
        cameras: cameras(c, now),
        looking: c.looking.clone(),
        sensors: sensors(c, now),
        relays: relays(c, decision),
        alarms: c.alarms.list(),
        plan: c.planning.view().cloned(),
        jobs: errands::views(c, now),
        job_budget: errands::budget(c),
        ledger: daybook::ledger(c, now),
    };
    sum_up(&mut overview);
    overview
}

/// The site's balance from the device views: a total is given only when every part of it is known.
fn sum_up(overview: &mut Overview) {
    let total = |kind: &str, key: &str| -> Option<f64> {
        let of_kind = || overview.devices.iter().filter(|d| d.kind == kind);
        of_kind().next()?;
        let known = of_kind().map(|d| match d.q {
            Quality::Bad => None,
            _ => d.values.get(key).and_then(Value::as_f64),
        });
        known.sum()
    };
    let (pv, battery) = (total("pv", "power_w"), total("battery", "power_w"));
    let (soc, chargers) = (total("battery", "soc_pct"), total("charger", "power_w"));
    let compute = total("compute", "power_w");
    let batteries = overview.devices.iter().filter(|d| d.kind == "battery").count().max(1);
    let of = |kind: &str| overview.devices.iter().any(|d| d.kind == kind);
    let part = |kind: &str, value: Option<f64>| if of(kind) { value } else { Some(0.0) };
    overview.other_w = (|| {
        let sources = overview.grid_w? + part("pv", pv)? + part("battery", battery)?;
        Some(round(sources - part("charger", chargers)? - part("compute", compute)?))
    })();
    overview.pv_w = pv.map(round);
    overview.battery_w = battery.map(round);
    overview.soc_pct = soc.map(|sum| round(sum / batteries as f64));
    overview.chargers_w = chargers.map(round);
    overview.compute_w = compute.map(round);
}

fn devices(c: &Controller, decision: &Decision) -> Vec<DeviceView> {
    let site = &c.site;
    let mut views = vec![device(c, decision, &site.meter, "meter", &site.meter.to_string())];
    for charger in &site.chargers {
        views.push(device(c, decision, &charger.id, "charger", &charger.name));
    }
    for battery in &site.batteries {
        views.push(device(c, decision, &battery.id, "battery", &battery.name));
    }
    for node in &site.computes {
        views.push(device(c, decision, &node.id, "compute", &node.name));
    }
    for pv in &site.pvs {
        let name = site.batteries.iter().find(|b| b.id == *pv).map(|b| b.name.as_str());
        views.push(device(c, decision, pv, "pv", name.unwrap_or(pv.as_str())));
    }
    views
}

fn device(c: &Controller, decision: &Decision, id: &Id, kind: &str, name: &str) -> DeviceView {
    let last = c.snapshot.last(id);
    let age = last.map(|(at, _)| at.age_at(decision.at));
    let mut values = last.map(|(_, reading)| values(kind, reading)).unwrap_or_default();
    if let Some(why) = c.silences.get(id) {
        values.insert("silence".to_owned(), json!(why));
    }
    if let Some(charger) = c.site.chargers.iter().find(|charger| charger.id == *id) {
        values.insert("mode".to_owned(), json!(c.mode(charger)));
    }
    DeviceView {
        id: id.clone(),
        kind: kind.to_owned(),
        name: name.to_owned(),
        q: quality(&c.snapshot.at(id, decision.at)),
        ts: last.map(|(at, _)| at.utc),
        age_s: age.map(|age| round(age.as_secs_f64())),
        values,
        setpoint: setpoint(decision, id, kind),
    }
}

fn quality<T>(known: &Known<T>) -> Quality {
    match known {
        Known::Fresh(_) => Quality::Good,
        Known::Stale { .. } => Quality::Stale,
        Known::Lost { .. } | Known::Never => Quality::Bad,
    }
}

fn values(kind: &str, reading: &Reading) -> BTreeMap<String, Value> {
    let mut values = BTreeMap::new();
    let mut put = |key: &str, value: f64| {
        values.insert(key.to_owned(), json!(round(value)));
    };
    match reading {
        Reading::Meter(m) => {
            put("power_w", m.power.get());
            if let Some(frequency) = m.frequency {
                put("frequency_hz", frequency.get());
            }
            for (i, phase) in ["l1", "l2", "l3"].iter().enumerate() {
                put(&format!("power_{phase}_w"), m.phase_power.0[i].get());
                put(&format!("current_{phase}_a"), m.current.0[i].get());
                put(&format!("voltage_{phase}_v"), m.voltage.0[i].get());
            }
            if let (Some(import), Some(export)) = (m.import, m.export) {
                put("import_kwh", import.get() / 1000.0);
                put("export_kwh", export.get() / 1000.0);
            }
        }
        Reading::Charger(r) => {
            put("power_w", r.power.get());
            put("limit_a", r.limit.get());
            for (i, phase) in ["l1", "l2", "l3"].iter().enumerate() {
                put(&format!("current_{phase}_a"), r.current.0[i].get());
            }
            if let Some(energy) = r.energy {
                put("energy_kwh", energy.get() / 1000.0);
            }
            if let Some(phases) = r.phases {
                put("phases", f64::from(phases.number()));
            }
            if let Some(lease) = r.lease {
                put("lease_s", lease.as_secs_f64());
            }
            values.insert("vehicle".to_owned(), json!(r.vehicle));
        }
        Reading::Compute(r) => {
            put("power_w", r.power.get());
            put("cap_w", r.cap.get());
            if let Some(energy) = r.energy {
                put("energy_kwh", energy.get() / 1000.0);
            }
        }
        Reading::Battery(battery) | Reading::Hybrid { battery, .. } if kind == "battery" => {
            put("power_w", battery.power.get());
            put("soc_pct", battery.soc.percent());
        }
        Reading::Pv(pv) | Reading::Hybrid { pv, .. } => put("power_w", pv.power.get()),
        Reading::Battery(_) | Reading::Inputs(_) => {}
    }
    values
}

fn setpoint(decision: &Decision, id: &Id, kind: &str) -> Option<SetpointView> {
    let (current_a, power_w, reason) = match kind {
        "charger" => {
            let (setpoint, reason) = decision.permitted.charger(id)?;
            (Some(round(setpoint.amps().get())), None, reason)
        }
        "battery" => {
            let (power, reason) = decision.permitted.battery(id)?;
            (None, Some(round(power.get())), reason)
        }
        "compute" => {
            let (cap, reason) = decision.permitted.compute(id)?;
            (None, Some(round(cap.get())), reason)
        }
        "pv" => {
            let (most, reason) = decision.permitted.inverter(id)?;
            (None, Some(round(most.get())), reason)
        }
        _ => return None,
    };
    let about = match reason {
        Reason::GridLimit { phase } | Reason::UnbalanceLimit { phase } => Some(phase.to_string()),
        Reason::BelowMinimum { circuit: None, line } | Reason::OnePhase { circuit: None, line } => {
            Some(line.to_string())
        }
        Reason::CircuitLimit { circuit, line }
        | Reason::BelowMinimum { circuit: Some(circuit), line }
        | Reason::OnePhase { circuit: Some(circuit), line } => Some(format!("{circuit} {line}")),
        Reason::FireWatch { zone }
        | Reason::ZoneBlind { zone }
        | Reason::FireAlarm { zone }
        | Reason::Tripped { zone }
        | Reason::BmsSilent { zone } => Some(zone.to_string()),
        _ => None,
    };
    let phases = decision.permitted.phases(id).map(PhaseCount::number);
    Some(SetpointView { current_a, power_w, phases, reason: reason.code().to_owned(), about })
}

/// Camera and plug together: the plug is a nearly certain sign of a vehicle; a camera that is blind
/// makes its bays unknown whatever the plug says.
fn bay_view(c: &Controller, bay: &Bay, now: Moment) -> BayView {
    let plug = bay.charger.as_ref().and_then(|id| c.charger(id, now).usable().map(|r| r.vehicle));
    let plugged = matches!(plug, Some(Vehicle::Connected | Vehicle::Charging));
    let seeing = bay.camera.as_ref().filter(|camera| c.fire.sees(camera, now));
    let look = seeing
        .and_then(|camera| c.scenes.get(camera))
        .and_then(|scene| scene.bays.iter().find(|look| look.id == bay.id));
    let state = match (bay.camera.is_some(), look) {
        (true, None) => BayState::Unknown,
        (_, _) if plugged => BayState::Occupied,
        (true, Some(look)) => look.state,
        (false, _) => BayState::Unknown,
    };
    BayView {
        id: bay.id.clone(),
        name: bay.name.clone(),
        state,
        eyes: look.map(|look| look.state),
        plugged: plug.filter(|plug| *plug != Vehicle::Fault).map(|_| plugged),
        charging: plug == Some(Vehicle::Charging),
        charger: bay.charger.clone(),
        camera: bay.camera.clone(),
        polygon: bay.polygon.clone(),
        score: look.map(|look| round(look.occupied)),
    }
}

fn zones(c: &Controller, now: Moment) -> Vec<ZoneView> {
    let zone = |id: &Id| {
        let hazard = c.hazards.get(id)?;
        Some(ZoneView {
            id: id.clone(),
            level: hazard.level.number(),
            fault: hazard.fault,
            since: Some(hazard.since.utc),
            reset_obstacle: c
                .fire
                .reset_obstacle(id, now)
                .filter(|obstacle| *obstacle != ResetObstacle::NotLatched),
            reset_by: c.reset_by.get(id).cloned(),
            reset_begun_by: c.fire.reset_begun(id, now).map(str::to_owned),
            causes: hazard.causes.clone(),
            isolation: c.guarding.linkage.isolation(id),
            feeder_open: c.guarding.linkage.is_feeder_open(id),
        })
    };
    c.site.zones.iter().filter_map(|z| zone(&z.id)).collect()
}

fn sensors(c: &Controller, now: Moment) -> Vec<SensorView> {
    let faults: Vec<&Id> = c.fire.sensor_faults(now).map(|sensor| &sensor.id).collect();
    let view = |sensor: &crate::logic::site::Sensor| SensorView {
        id: sensor.id.clone(),
        name: sensor.name.clone(),
        kind: sensor.kind,
        fault: faults.contains(&&sensor.id),
        proven: guarding::proven(c, &sensor.id),
        reacted: guarding::has_reacted(c, &sensor.id, now),
    };
    c.site.guard.sensors.iter().map(view).collect()
}

fn relays(c: &Controller, decision: &Decision) -> Vec<RelayView> {
    let view = |relay: &crate::logic::site::Relay| {
        let (told, reason) = decision.permitted.relay(&relay.id)?;
        Some(RelayView {
            id: relay.id.clone(),
            name: relay.name.clone(),
            kind: relay.kind,
            told: *told,
            reason: reason.code().to_owned(),
            proven: guarding::proven(c, &relay.id),
            reacted: guarding::has_reacted(c, &relay.id, decision.at),
        })
    };
    c.site.guard.relays.iter().filter_map(view).collect()
}

fn cameras(c: &Controller, now: Moment) -> Vec<CameraView> {
    let account = |id: &Id| c.looking.as_ref().and_then(|looking| looking.cameras.get(id));
    let view = |camera: &crate::logic::site::Camera| {
        let scene = c.scenes.get(&camera.id);
        let sees = c.fire.sees(&camera.id, now);
        let fault = match scene {
            Some(scene) => scene.fault.map(|fault| json!(fault)),
            None => Some(json!("lost")),
        };
        let fault = fault.or_else(|| (!sees).then(|| json!("lost")));
        CameraView {
            id: camera.id.clone(),
            name: camera.name.clone(),
            ts: scene.map(|scene| scene.at.utc),
            age_s: scene.map(|scene| round(scene.at.age_at(now).as_secs_f64())),
            fire: scene.map(|scene| round(scene.fire)),
            smoke: scene.map(|scene| round(scene.smoke)),
            verdict: scene.filter(|_| sees).map(|scene| scene.verdict),
            tier: scene.map(|scene| scene.tier),
            cpu_ms: scene.map(|scene| round(scene.cpu_ms)),
            look_j: account(&camera.id).map(|account| round(account.joules_per_look())),
            fault: fault.and_then(|fault| fault.as_str().map(str::to_owned)),
        }
    };
    c.site.cameras.iter().map(view).collect()
}

/// Three decimals are enough for people and keep payloads short.
/// To a thousandth, as people and messages see it.
pub(super) fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}
