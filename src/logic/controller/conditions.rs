//! Everything that people must be told, as it holds now. A loss that has one cause is one condition: a
//! dead field bus is not ten lost devices, a dead vision process not four blind cameras.

use std::time::Duration;

use super::sharing::PAUSED_AFTER;
use super::{Controller, guarding};
use crate::logic::observation::{Finding, Silence, Trouble};
use crate::logic::safety::alarms::{Condition, Severity};
use crate::logic::safety::fire::Level;
use crate::logic::safety::linkage::Isolation;
use crate::logic::safety::sensing::FIRST_ANSWER;
use crate::logic::site::{Camera, Id, Known};
use crate::logic::vision::CameraFault;
use crate::units::Moment;

/// A camera is blind after 5 s without a frame; the alarm waits this much longer. Our own figure.
const BLIND_HOLDS: Duration = Duration::from_secs(5);
/// A broker that is restarted is no alarm. Our own figure.
const BROKER_HOLDS: Duration = Duration::from_secs(10);
/// A battery that takes in what is exported has done so within this. Our own figure.
const EXPORT_HOLDS: Duration = Duration::from_secs(60);
/// Writes in a row that were not obeyed. At one renewal in 5 s this is fault FB10's 15 s.
const DISOBEYED: u32 = 3;

impl Controller {
    /// Keeps what the field bus has noticed of a device. Never urgent.
    pub(super) fn find(&mut self, device: Id, finding: Finding, holds: bool) -> bool {
        let found = (device, finding);
        if holds {
            self.findings.insert(found);
        } else {
            self.findings.remove(&found);
        }
        false
    }

    /// A device gave no usable answer. Not urgent: silence grows old by itself, doubt counts (FB8).
    pub(super) fn miss(&mut self, device: Id, at: Moment, why: Silence) -> bool {
        if why == Silence::Implausible {
            self.snapshot.doubt(&device, at);
        }
        self.silences.insert(device, why);
        false
    }
}

/// What holds now; `overdue` are zone and id of whatever should have been proven.
pub(super) fn conditions(c: &Controller, overdue: Vec<(Id, Id)>, now: Moment) -> Vec<Condition> {
    let mut all = zones(c);
    all.extend(plant_of_zones(c, overdue));
    all.extend(sensors(c, now));
    all.extend(cameras(c, now));
    all.extend(devices(c, now));
    for (id, count) in &c.disobeyed {
        if *count >= DISOBEYED {
            all.push(condition("charger_disobeys", id.as_str(), Severity::Alarm));
        }
    }
    all.extend(c.findings.iter().map(|(id, finding)| {
        let severity = match finding {
            Finding::ForeignWriter | Finding::DeviceFault => Severity::Alarm,
            Finding::Misconfigured | Finding::OtherMaster => Severity::Warning,
        };
        condition(finding.code(), id.as_str(), severity)
    }));
    for (id, ramp) in &c.ramps {
        let counted = c.disobeyed.get(id).is_some_and(|count| *count >= DISOBEYED);
        if !counted && c.disobeyed_for(ramp, now) >= PAUSED_AFTER {
            all.push(condition("charger_disobeys", id.as_str(), Severity::Alarm));
        }
    }
    for (id, switch) in &c.switches {
        if switch.is_ignored() {
            all.push(condition("phase_switch_ignored", id.as_str(), Severity::Warning));
        }
    }
    for (id, watch) in &c.batteries {
        if watch.disobeys(now) && c.snapshot.at(id, now).usable().is_some() {
            all.push(condition("battery_disobeys", id.as_str(), Severity::Alarm));
        }
    }
    if c.exports_too_much(now) {
        let exported = condition("export_too_much", "", Severity::Warning);
        all.push(Condition { holds_for: EXPORT_HOLDS, ..exported });
    }
    if c.looking.as_ref().and_then(|looking| looking.big.as_ref()?.trouble).is_some() {
        all.push(condition("big_net_lost", "", Severity::Warning));
    }
    if c.looking.as_ref().is_some_and(|looking| looking.altered) {
        all.push(condition("model_altered", "", Severity::Alarm));
    }
    let clock = guarding::clock_trouble(c, now);
    all.extend(clock.map(|code| condition(code, "", Severity::Warning)));
    all.extend(c.troubles.iter().map(|trouble| plant(*trouble)));
    all
}

fn condition(code: &'static str, about: &str, severity: Severity) -> Condition {
    Condition { code, about: about.to_owned(), severity, holds_for: Duration::ZERO }
}

fn zones(c: &Controller) -> Vec<Condition> {
    let zone = |(id, hazard): (&Id, &super::Hazard)| match hazard.level {
        Level::Normal => None,
        // What it follows from is an alarm of its own.
        Level::Watch if hazard.told_otherwise => None,
        Level::Watch => Some(condition("fire_watch", id.as_str(), Severity::Warning)),
        Level::Alarm => Some(condition("fire_alarm", id.as_str(), Severity::Alarm)),
        Level::Trip => Some(condition("zone_tripped", id.as_str(), Severity::Trip)),
    };
    c.hazards.iter().filter_map(zone).collect()
}

/// Relays that did not do what they were told, feeders that had to be opened, proofs that are overdue.
fn plant_of_zones(c: &Controller, overdue: Vec<(Id, Id)>) -> Vec<Condition> {
    let mut all = Vec::new();
    for zone in &c.site.zones {
        let about = zone.id.as_str();
        if c.guarding.linkage.isolation(&zone.id) == Isolation::Welded {
            all.push(condition("contactor_welded", about, Severity::Trip));
        }
        if c.guarding.linkage.is_feeder_open(&zone.id) {
            all.push(condition("feeder_opened", about, Severity::Alarm));
        }
    }
    let mut late: Vec<Id> = overdue.into_iter().map(|(_, id)| id).collect();
    late.sort();
    late.dedup();
    let told = |id: &Id| condition("proof_overdue", id.as_str(), Severity::Warning);
    all.extend(late.iter().map(told));
    all
}

/// Sensors at fault whose device answers; where it does not, that is the one alarm.
fn sensors(c: &Controller, now: Moment) -> Vec<Condition> {
    let answers = |device: &Id| c.snapshot.at(device, now).usable().is_some();
    let faults = c.fire.sensor_faults(now).filter(|sensor| answers(&sensor.device));
    faults.map(|sensor| condition("sensor_fault", sensor.id.as_str(), Severity::Warning)).collect()
}

fn cameras(c: &Controller, now: Moment) -> Vec<Condition> {
    let blind = |what: Condition| Condition { holds_for: BLIND_HOLDS, ..what };
    if c.eyes_gone {
        return vec![blind(condition("vision_lost", "", Severity::Warning))];
    }
    let is_stranger =
        |id: &Id| c.scenes.get(id).is_some_and(|s| s.fault == Some(CameraFault::Stranger));
    let lost = c.site.cameras.iter().filter(|camera| !c.fire.sees(&camera.id, now));
    let told = |camera: &Camera| match is_stranger(&camera.id) {
        true => condition("camera_stranger", camera.id.as_str(), Severity::Alarm),
        false => blind(condition("camera_fault", camera.id.as_str(), Severity::Warning)),
    };
    lost.map(told).collect()
}

fn devices(c: &Controller, now: Moment) -> Vec<Condition> {
    let site = &c.site;
    let mut ids: Vec<&Id> = vec![&site.meter];
    ids.extend(site.chargers.iter().map(|charger| &charger.id));
    ids.extend(site.batteries.iter().map(|battery| &battery.id));
    ids.extend(site.computes.iter().map(|node| &node.id));
    let guards = site.guard.devices();
    ids.extend(guards.iter());
    ids.extend(site.pvs.iter().filter(|pv| !site.batteries.iter().any(|b| b.id == **pv)));
    let is_lost = |id: &&Id| match c.snapshot.at(id, now) {
        Known::Fresh(_) | Known::Stale { .. } => false,
        Known::Lost { .. } => true,
        Known::Never => c.started.age_at(now) >= FIRST_ANSWER,
    };
    let mut lost: Vec<&Id> = ids.iter().copied().filter(|id| is_lost(id)).collect();
    if lost.len() > 1 && lost.len() == ids.len() {
        return vec![condition("field_bus_lost", "", Severity::Alarm)];
    }
    let mut all = Vec::new();
    for line in &site.guard.lines {
        if !line.iter().all(|id| lost.contains(&id)) {
            continue;
        }
        lost.retain(|id| !line.contains(id));
        let worst = if line.contains(&site.meter) { Severity::Alarm } else { Severity::Warning };
        all.extend(line.first().map(|first| condition("line_lost", first.as_str(), worst)));
    }
    let severity = |id: &Id| if *id == site.meter { Severity::Alarm } else { Severity::Warning };
    all.extend(lost.iter().map(|id| condition("device_lost", id.as_str(), severity(id))));
    all
}

fn plant(trouble: Trouble) -> Condition {
    match trouble {
        Trouble::BrokerDown => {
            Condition { holds_for: BROKER_HOLDS, ..condition("broker_down", "", Severity::Warning) }
        }
        Trouble::StoreFault => condition("store_fault", "", Severity::Warning),
        Trouble::ConfigFallback => condition("config_fallback", "", Severity::Warning),
        Trouble::SafeMode => condition("safe_mode", "", Severity::Alarm),
        Trouble::LatchFault => condition("latch_fault", "", Severity::Alarm),
        Trouble::LatchUnreadable => condition("latch_unreadable", "", Severity::Trip),
        Trouble::UpdateUndone => condition("update_undone", "", Severity::Warning),
    }
}
