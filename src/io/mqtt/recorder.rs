//! What goes to the journal: events (a bay's occupancy, a zone's hazard level) always, telemetry only
//! while nothing flows to the broker, as one block per topic and 10 s of site time.
//!
//! A block is the newest sample, flat, plus `series`: `ms_before` (how long before `ts` each sample
//! was) and one column for every value that changed within the block.
//!
//! What a stranger gets wrong: an event goes to the journal even while a session stands, and is
//! published from there; only the broker's acknowledgement takes it out.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};
use tokio::sync::watch;

use super::Uplink;
use super::topics::{self, State};
use crate::io::store::{Class, Record};
use crate::logic::decision::Overview;
use crate::logic::safety::alarms::Alarm;

/// Length of a block of telemetry.
const BLOCK: chrono::Duration = chrono::Duration::seconds(10);
/// Most samples in a block, should site time stand still.
const BLOCK_SAMPLES: usize = 64;
/// Events that wait for a journal that is behind.
const EVENTS_WAITING: usize = 256;

/// Records until `shutdown`.
pub(super) async fn run(
    options: Uplink,
    mut flows: watch::Receiver<bool>,
    mut shutdown: watch::Receiver<bool>,
) {
    let mut overviews = options.overview.clone();
    let mut recorder = Recorder::default();
    loop {
        tokio::select! {
            changed = overviews.changed() => if changed.is_err() { break },
            changed = flows.changed() => if changed.is_err() { break },
            () = super::stopped(&mut shutdown) => break,
        }
        let newest = overviews.borrow_and_update().clone();
        let flowing = *flows.borrow_and_update();
        recorder.take_in(newest, flowing);
        recorder.hand_over(&options);
    }
    recorder.close_blocks();
    recorder.hand_over(&options);
}

#[derive(Default)]
struct Recorder {
    last: Option<Arc<Overview>>,
    blocks: Blocks,
    events: Vec<Record>,
    telemetry: Vec<Record>,
}

impl Recorder {
    fn take_in(&mut self, newest: Option<Arc<Overview>>, flowing: bool) {
        let Some(newest) = newest else { return };
        let is_new = self.last.as_ref().is_none_or(|last| last.sequence != newest.sequence);
        if is_new {
            self.events.extend(events(self.last.as_deref(), &newest));
            if !flowing {
                let states = topics::states(&newest).into_iter();
                self.blocks.add(newest.ts, states.filter(is_telemetry));
            }
        }
        if flowing || self.blocks.is_full(newest.ts) {
            self.close_blocks();
        }
        self.last = Some(newest);
    }

    fn close_blocks(&mut self) {
        self.telemetry.extend(self.blocks.close());
    }

    /// Events that the journal does not take are kept for the next time; telemetry is not.
    fn hand_over(&mut self, options: &Uplink) {
        if !self.events.is_empty() && options.journal.append(self.events.clone()) {
            self.events.clear();
        }
        let surplus = self.events.len().saturating_sub(EVENTS_WAITING);
        self.events.drain(..surplus);
        let telemetry = std::mem::take(&mut self.telemetry);
        if !telemetry.is_empty() && !options.journal.append(telemetry) {
            tracing::warn!("the journal is behind: a block of telemetry was dropped");
        }
    }
}

/// Neither the counter of decisions nor the plan is worth keeping.
fn is_telemetry(state: &State) -> bool {
    !state.topic.starts_with("gateway/") && state.topic != topics::PLAN
}

/// What changed between two overviews. At the start only what is not normal is an event.
fn events(last: Option<&Overview>, newest: &Overview) -> Vec<Record> {
    let mut records = Vec::new();
    let mut record = |topic: &str, class, body: Value| {
        let Value::Object(body) = body else { return };
        let payload = topics::with_ts(newest.ts, body);
        records.push(Record { topic: topic.to_owned(), ts: newest.ts, class, payload });
    };
    for zone in &newest.zones {
        let before = last.and_then(|o| o.zones.iter().find(|z| z.id == zone.id));
        let (level, fault) = before.map_or((0, false), |z| (z.level, z.fault));
        if (level, fault) != (zone.level, zone.fault) {
            let body = json!({ "q": "good", "zone": zone.id, "from": level, "to": zone.level, "fault": zone.fault, "by": zone.reset_by });
            record("event/zone", Class::A, body);
        }
    }
    for device in &newest.devices {
        let mode = |o: &Overview| {
            o.devices.iter().find(|d| d.id == device.id)?.values.get("mode").cloned()
        };
        // At the start it is what the state says.
        if let (Some(from), Some(to)) = (last.and_then(mode), device.values.get("mode"))
            && from != *to
        {
            let body = json!({ "q": "good", "charger": device.id, "from": from, "to": to });
            record("event/mode", Class::B, body);
        }
    }
    let told = |o: &Overview| o.alarms.iter().map(|a| (a.id.clone(), a.clone())).collect();
    let before: BTreeMap<String, Alarm> = last.map(told).unwrap_or_default();
    let now: BTreeMap<String, Alarm> = told(newest);
    for alarm in now.values().filter(|alarm| before.get(&alarm.id) != Some(alarm)) {
        record("event/alarm", Class::A, json!({ "q": "good", "alarm": alarm }));
    }
    for alarm in before.values().filter(|alarm| !now.contains_key(&alarm.id)) {
        record("event/alarm", Class::A, json!({ "q": "good", "gone": alarm.id, "by": alarm.by }));
    }
    for bay in &newest.bays {
        let before = last.and_then(|o| o.bays.iter().find(|b| b.id == bay.id));
        if let Some(before) = before.filter(|before| before.state != bay.state) {
            let body = json!({ "q": "good", "bay": bay.id, "from": before.state, "to": bay.state, "charging": bay.charging });
            record("event/bay", Class::B, body);
        }
    }
    records
}

/// Telemetry of the last seconds, by topic.
#[derive(Default)]
struct Blocks {
    begun: Option<DateTime<Utc>>,
    samples: BTreeMap<String, Vec<State>>,
}

impl Blocks {
    fn add(&mut self, now: DateTime<Utc>, states: impl Iterator<Item = State>) {
        self.begun.get_or_insert(now);
        for state in states {
            let samples = self.samples.entry(state.topic.clone()).or_default();
            let same = samples.last().is_some_and(|last| *last == state);
            if !same && samples.len() < BLOCK_SAMPLES {
                samples.push(state);
            }
        }
    }

    fn is_full(&self, now: DateTime<Utc>) -> bool {
        // A clock that was set back ends the block too.
        self.begun.is_some_and(|begun| now - begun >= BLOCK || now < begun)
    }

    fn close(&mut self) -> Vec<Record> {
        self.begun = None;
        std::mem::take(&mut self.samples)
            .into_values()
            .filter_map(|samples| block(&samples))
            .collect()
    }
}

fn block(samples: &[State]) -> Option<Record> {
    let newest = samples.last()?;
    let mut body = newest.body.clone();
    if samples.len() > 1 {
        let mut series = Map::new();
        let before = |s: &State| json!((newest.ts - s.ts).num_milliseconds());
        series.insert("ms_before".to_owned(), samples.iter().map(before).collect());
        for key in newest.body.keys() {
            let column = || samples.iter().map(|s| s.body.get(key).cloned().unwrap_or(Value::Null));
            if column().any(|value| Some(&value) != newest.body.get(key)) {
                series.insert(key.clone(), column().collect());
            }
        }
        body.insert("series".to_owned(), Value::Object(series));
    }
    let payload = topics::with_ts(newest.ts, body);
    Some(Record { topic: newest.topic.clone(), ts: newest.ts, class: Class::C, payload })
}

#[cfg(test)]
mod tests {
    use super::super::topics::tests::overview;
    use super::*;
    use crate::logic::vision::BayState;

    fn json_of(record: &Record) -> Value {
        serde_json::from_slice(&record.payload).unwrap()
    }

    #[test]
    fn a_change_is_an_event_and_the_start_is_one_only_if_not_normal() {
        let first = overview();
        let at_start = events(None, &first);
        let topics: Vec<&str> = at_start.iter().map(|record| record.topic.as_str()).collect();
        assert_eq!(topics, ["event/zone", "event/alarm"], "the zone is on watch");
        assert!(at_start.iter().all(|record| record.class == Class::A));
        let mut second = first.clone();
        assert!(events(Some(&first), &second).is_empty());
        second.zones[0].level = 2;
        second.bays[0].state = BayState::Free;
        let found = events(Some(&first), &second);
        assert_eq!(json_of(&found[0])["to"], 2);
        assert_eq!(
            (json_of(&found[1])["from"].clone(), found[1].class),
            (json!("occupied"), Class::B)
        );
    }

    #[test]
    fn while_nothing_flows_ten_seconds_make_one_block_a_topic() {
        let mut recorder = Recorder::default();
        let first = overview();
        for second in 0..=10u8 {
            let mut next = first.clone();
            next.sequence += u64::from(second);
            next.ts += chrono::Duration::seconds(i64::from(second));
            next.devices[0].ts = Some(next.ts);
            next.devices[0].values.insert("power_w".to_owned(), json!(100 + i64::from(second)));
            recorder.take_in(Some(Arc::new(next)), false);
        }
        let blocks = &recorder.telemetry;
        assert_eq!(blocks.iter().filter(|r| r.topic == "meter/main/state").count(), 1);
        assert!(!blocks.iter().any(|r| r.topic.starts_with("gateway/")));
        let meter = json_of(blocks.iter().find(|r| r.topic == "meter/main/state").unwrap());
        assert_eq!(meter["power_w"], 110);
        assert_eq!(meter["series"]["power_w"].as_array().unwrap().len(), 11);
        assert_eq!(meter["series"]["ms_before"][0], 10_000);
        assert!(meter["series"].get("frequency_hz").is_none(), "it did not change");
        let pile = json_of(blocks.iter().find(|r| r.topic == "charger/pile1/state").unwrap());
        assert!(pile.get("series").is_none(), "nothing changed: one sample");
    }

    #[test]
    fn while_it_flows_no_telemetry_is_kept() {
        let mut recorder = Recorder::default();
        recorder.take_in(Some(Arc::new(overview())), true);
        assert!(recorder.telemetry.is_empty());
    }
}
