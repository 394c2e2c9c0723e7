//! `/metrics` in the Prometheus text format: base units, few labels.

use std::fmt::Write;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::WebState;
use crate::logic::decision::{EnergyView, LinkView, OutboxView, Overview};
use crate::logic::site::Id;
use crate::logic::vision::{BayState, CameraLedger, Ledger, Metering};

/// Lines of one metric.
struct Sheet(String);

impl Sheet {
    fn name(&mut self, name: &str, help: &str) {
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} gauge\n");
    }

    fn value(&mut self, name: &str, label: Option<(&str, &str)>, value: f64) {
        let _ = match label {
            Some((key, text)) => writeln!(self.0, "{name}{{{key}=\"{text}\"}} {value}"),
            None => writeln!(self.0, "{name} {value}"),
        };
    }

    fn plain(&mut self, name: &str, help: &str, value: Option<f64>) {
        if let Some(value) = value {
            self.name(name, help);
            self.value(name, None, value);
        }
    }

    fn each<'a>(
        &mut self,
        (name, help, label): (&str, &str, &str),
        values: impl Iterator<Item = (&'a str, Option<f64>)>,
    ) {
        self.name(name, help);
        for (id, value) in values {
            if let Some(value) = value {
                self.value(name, Some((label, id)), value);
            }
        }
    }
}

pub async fn metrics(State(state): State<WebState>) -> Response {
    let mut sheet = Sheet(String::new());
    if let Some(overview) = state.overview.borrow().as_deref() {
        site(&mut sheet, overview);
        places(&mut sheet, overview);
        ledger(&mut sheet, overview);
        if let Some(looking) = &overview.looking {
            cost_of_looking(&mut sheet, looking);
        }
    }
    uplink(&mut sheet, &state.link.borrow(), &state.outbox.borrow());
    sheet.each(
        ("wattgate_register_writes_total", "Writes since ever", "register"),
        state.written.borrow().iter().map(|(name, count)| (name.as_str(), Some(*count as f64))),
    );
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], sheet.0).into_response()
}

fn site(sheet: &mut Sheet, o: &Overview) {
    sheet.plain("wattgate_grid_power_watts", "Grid power, import positive", o.grid_w);
    sheet.plain("wattgate_grid_headroom_amperes", "Left on the fullest phase", o.headroom_a);
    sheet.plain("wattgate_pv_power_watts", "PV power", o.pv_w);
    sheet.plain("wattgate_battery_power_watts", "Battery power, discharge positive", o.battery_w);
    let soc = o.soc_pct.map(|pct| pct / 100.0);
    sheet.plain("wattgate_battery_soc_ratio", "State of charge", soc);
    sheet.plain("wattgate_writing", "1 while setpoints are written", Some(f64::from(o.writing)));
    let chargers = || o.devices.iter().filter(|d| d.kind == "charger");
    sheet.each(
        ("wattgate_charger_power_watts", "Charging power", "charger"),
        chargers().map(|d| (d.id.as_str(), d.values.get("power_w").and_then(|v| v.as_f64()))),
    );
    sheet.each(
        ("wattgate_charger_setpoint_amperes", "Current setpoint, 0 = paused", "charger"),
        chargers().map(|d| (d.id.as_str(), d.setpoint.as_ref().and_then(|s| s.current_a))),
    );
    sheet.each(
        ("wattgate_device_age_seconds", "Age of the last answer", "device"),
        o.devices.iter().filter(|d| d.kind != "pv").map(|d| (d.id.as_str(), d.age_s)),
    );
}

fn places(sheet: &mut Sheet, o: &Overview) {
    // An unknown bay has no value: it is neither free nor occupied.
    let occupied = |state: BayState| match state {
        BayState::Free => Some(0.0),
        BayState::Occupied => Some(1.0),
        BayState::Unknown => None,
    };
    sheet.each(
        ("wattgate_bay_occupied", "1 occupied, 0 free, absent while unknown", "bay"),
        o.bays.iter().map(|bay| (bay.id.as_str(), occupied(bay.state))),
    );
    let risk = |c: &crate::logic::decision::CameraView| Some(c.fire?.max(c.smoke?));
    sheet.each(
        (
            "wattgate_fire_risk_ratio",
            "Higher of flame and smoke score, absent while blind",
            "camera",
        ),
        o.cameras.iter().map(|c| (c.id.as_str(), risk(c).filter(|_| c.fault.is_none()))),
    );
    sheet.each(
        ("wattgate_zone_level", "0 normal, 1 watch, 2 alarm, 3 trip", "zone"),
        o.zones.iter().map(|zone| (zone.id.as_str(), Some(f64::from(zone.level)))),
    );
}

/// Where energy went, in joules: each of the site's flows, workloads, cameras and jobs, in the running hour and
/// day of UTC and since it is counted.
fn ledger(sheet: &mut Sheet, o: &Overview) {
    type Of = fn(&EnergyView) -> f64;
    let windows: [(&str, Of); 3] =
        [("hour", |e| e.hour_wh), ("day", |e| e.day_wh), ("total", |e| e.all_wh)];
    let joules = |wh: f64| Some(wh * 3600.0);
    for (window, of) in windows {
        let name = format!("wattgate_site_energy_joules_{window}");
        let flows = o.ledger.site.iter().map(|(flow, e)| (flow.as_str(), joules(of(e))));
        sheet.each((&name, "Energy of the site", "flow"), flows);
        let name = format!("wattgate_workload_energy_joules_{window}");
        let workloads = o.ledger.workloads.iter().map(|(id, e)| (id.as_str(), joules(of(e))));
        sheet.each((&name, "Energy of jobs", "workload"), workloads);
        let name = format!("wattgate_camera_energy_joules_{window}");
        let cameras = o.ledger.cameras.iter().map(|(id, e)| (id.as_str(), joules(of(e))));
        sheet.each((&name, "Energy of looking", "camera"), cameras);
    }
    let jobs = o.jobs.iter().map(|job| (job.id.as_str(), Some(job.joules)));
    sheet.each(("wattgate_job_energy_joules", "Energy of a job, all its tries", "job"), jobs);
    let jobs = o.jobs.iter().map(|job| (job.id.as_str(), Some(job.power_w)));
    sheet.each(("wattgate_job_granted_watts", "What a job may draw", "job"), jobs);
    if let Some(budget) = &o.job_budget {
        let bounds = [
            ("wattgate_jobs_hour_joules", "Spent in this hour of UTC", Some(budget.hour_wh)),
            ("wattgate_jobs_day_joules", "Spent in this day of UTC", Some(budget.day_wh)),
            ("wattgate_jobs_budget_hour_joules", "Most in an hour", budget.per_hour_wh),
            ("wattgate_jobs_budget_day_joules", "Most in a day", budget.per_day_wh),
        ];
        for (name, help, wh) in bounds {
            sheet.plain(name, help, wh.and_then(joules));
        }
    }
}

/// Name, help, and the value of a camera's account.
type Column = (&'static str, &'static str, fn(&CameraLedger) -> f64);

fn cost_of_looking(sheet: &mut Sheet, looking: &Ledger) {
    let each = |of: fn(&CameraLedger) -> f64| {
        let value = move |(id, camera): (&'_ Id, &'_ CameraLedger)| (id.to_string(), of(camera));
        looking.cameras.iter().map(value).collect::<Vec<_>>()
    };
    let tables: [Column; 8] = [
        ("wattgate_looks_total", "Looks", |c| c.looks as f64),
        ("wattgate_looks_escalated_total", "Parts that the big net saw", |c| c.escalated as f64),
        ("wattgate_look_energy_joules_total", "Energy of looking, see metering", |c| c.joules),
        ("wattgate_look_decode_seconds_total", "CPU time: decoding", |c| c.cpu.decode_ms / 1e3),
        ("wattgate_look_gate_seconds_total", "CPU time: change, health", |c| c.cpu.gate_ms / 1e3),
        ("wattgate_look_fire_seconds_total", "CPU time: small fire net", |c| c.cpu.fire_ms / 1e3),
        ("wattgate_look_bays_seconds_total", "CPU time: bay net", |c| c.cpu.bays_ms / 1e3),
        ("wattgate_look_big_seconds_total", "CPU time: big net", |c| c.cpu.big_ms / 1e3),
    ];
    for (name, help, of) in tables {
        let values = each(of);
        let values = values.iter().map(|(id, value)| (id.as_str(), Some(*value)));
        sheet.each((name, help, "camera"), values);
    }
    let method = match looking.metering {
        Metering::Counter => "counter",
        Metering::Calibrated => "calibrated",
        Metering::Nominal => "nominal",
    };
    let each_second = [(method, Some(looking.joules_per_cpu_s))].into_iter();
    let name = "wattgate_cpu_second_joules";
    sheet.each(
        (name, "What a second of CPU time draws, and how that is known", "metering"),
        each_second,
    );
    if let Some(big) = &looking.big {
        sheet.plain(
            "wattgate_big_budget_wh",
            "Budget of the big net in any hour",
            Some(big.budget_wh),
        );
        sheet.plain("wattgate_big_spent_wh", "Spent in the last hour", Some(big.spent_wh));
        let lost = Some(f64::from(big.trouble.is_some()));
        sheet.plain("wattgate_big_trouble", "1 while the big net does not answer", lost);
    }
}

fn uplink(sheet: &mut Sheet, link: &LinkView, outbox: &OutboxView) {
    let connected = link.broker.as_ref().map(|_| f64::from(link.connected));
    sheet.plain("wattgate_mqtt_connected", "1 while a session stands", connected);
    let (records, bytes) = (outbox.records as f64, outbox.bytes as f64);
    sheet.plain("wattgate_mqtt_spool_messages", "Records waiting", Some(records));
    sheet.plain("wattgate_mqtt_spool_bytes", "Bytes waiting", Some(bytes));
    sheet.plain("wattgate_mqtt_spool_oldest_seconds", "Age of the oldest", outbox.oldest_s);
    let dropped = Some(outbox.dropped as f64);
    sheet.plain("wattgate_mqtt_spool_dropped_total", "Dropped at the cap", dropped);
}
