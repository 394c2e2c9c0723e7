//! The lane of the journal: records out in order, no faster than allowed, each with its stable id, and
//! released once acknowledged.
//!
//! What a stranger gets wrong: an event that happened during this session goes to its own topic; one
//! that happened before goes below `history/`, as all telemetry from the journal does. A retained topic
//! is never touched from here.

use std::collections::VecDeque;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::oneshot;

use super::topics;
use super::wire::Message;
use crate::io::store::{Cursor, Journal, Stored};
use crate::logic::site::Id;

/// Records asked for at once.
const BATCH: usize = 256;
/// Acknowledged records released at once.
const RELEASE_AT: usize = 256;
/// Most acknowledged records kept back while the journal is behind; then they are sent again some day.
const RELEASE_MOST: usize = 65_536;
/// Records that may go at once after a pause.
const BURST: f64 = 64.0;

pub(super) struct History {
    journal: Journal,
    cursor: Cursor,
    queue: VecDeque<Stored>,
    asked: Option<oneshot::Receiver<Vec<Stored>>>,
    /// There may be more than what was read.
    more: bool,
    acknowledged: Vec<u64>,
    per_s: f64,
    allowance: f64,
    counted: Duration,
}

impl History {
    pub fn new(journal: Journal, per_s: u32, now: Duration) -> History {
        History {
            journal,
            cursor: Cursor::default(),
            queue: VecDeque::new(),
            asked: None,
            more: true,
            acknowledged: Vec::new(),
            per_s: f64::from(per_s.max(1)),
            allowance: BURST,
            counted: now,
        }
    }

    /// Something may have been appended.
    pub fn look_again(&mut self) {
        self.more = true;
    }

    /// The next record, if one is here and allowed now.
    pub fn next(&mut self, now: Duration) -> Option<Stored> {
        let passed = now.saturating_sub(self.counted).as_secs_f64();
        self.counted = now;
        self.allowance = (self.allowance + passed * self.per_s).min(BURST);
        if self.queue.is_empty() && self.asked.is_none() && self.more {
            self.asked = self.journal.ask(self.cursor, BATCH);
            self.more = self.asked.is_none();
        }
        if self.allowance < 1.0 {
            return None;
        }
        let next = self.queue.pop_front()?;
        self.allowance -= 1.0;
        Some(next)
    }

    /// Whether a record waits only for the rate.
    pub fn is_held_back(&self) -> bool {
        !self.queue.is_empty() && self.allowance < 1.0
    }

    /// Waits for the journal's answer; for ever if nothing was asked.
    pub async fn answer(&mut self) -> Vec<Stored> {
        match &mut self.asked {
            Some(answer) => answer.await.unwrap_or_default(),
            None => std::future::pending().await,
        }
    }

    pub fn take_in(&mut self, records: Vec<Stored>) {
        self.asked = None;
        self.more |= records.len() >= BATCH;
        for record in &records {
            self.cursor.pass(record);
        }
        self.queue.extend(records);
    }

    pub fn acknowledge(&mut self, seq: u64) {
        self.acknowledged.push(seq);
        if self.acknowledged.len() >= RELEASE_AT {
            self.release();
        }
    }

    /// Hands acknowledged numbers to the journal.
    pub fn release(&mut self) {
        if self.acknowledged.is_empty() {
            return;
        }
        if let Err(mut kept) = self.journal.release(std::mem::take(&mut self.acknowledged)) {
            kept.truncate(RELEASE_MOST);
            self.acknowledged = kept;
        }
    }
}

/// A record as it goes out; `since` is when this session began.
pub(super) fn message(site: &Id, stored: &Stored, since: DateTime<Utc>) -> Message {
    let record = &stored.record;
    let live = record.topic.starts_with("event/") && record.ts >= since;
    let relative = if live { record.topic.clone() } else { format!("history/{}", record.topic) };
    Message {
        topic: topics::absolute(site, &relative),
        payload: with_id(&stored.id(), &record.payload),
        retain: false,
        ..Message::default()
    }
}

/// Puts the id in front of a JSON object; anything else stays as it is.
fn with_id(id: &str, payload: &[u8]) -> Vec<u8> {
    let Some(rest) = payload.trim_ascii().strip_prefix(b"{") else { return payload.to_vec() };
    let comma = if rest.trim_ascii_start().starts_with(b"}") { "" } else { "," };
    let mut whole = format!("{{\"id\":\"{id}\"{comma}").into_bytes();
    whole.extend_from_slice(rest);
    whole
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::store::{Class, Record};

    #[test]
    fn the_id_goes_into_objects_only() {
        let table: [(&[u8], &[u8]); 4] = [
            (b"{\"a\":1}", b"{\"id\":\"x-1\",\"a\":1}"),
            (b" { } ", b"{\"id\":\"x-1\" }"),
            (b"[1]", b"[1]"),
            (b"", b""),
        ];
        for (payload, expected) in table {
            assert_eq!(with_id("x-1", payload), expected);
        }
    }

    #[test]
    fn only_an_event_of_this_session_is_live_and_nothing_is_retained() {
        let since: DateTime<Utc> = "2026-05-04T10:00:00Z".parse().unwrap();
        let site = Id::try_from("depot").unwrap();
        let table = [
            ("event/zone", 1, "wattgate/v1/depot/event/zone"),
            ("event/zone", -1, "wattgate/v1/depot/history/event/zone"),
            ("meter/main/state", 1, "wattgate/v1/depot/history/meter/main/state"),
        ];
        for (topic, seconds, expected) in table {
            let ts = since + chrono::Duration::seconds(seconds);
            let record = Record { topic: topic.to_owned(), ts, class: Class::A, payload: vec![] };
            let message = message(&site, &Stored { seq: 1, life: 2, record }, since);
            assert_eq!((message.topic.as_str(), message.retain), (expected, false));
        }
    }
}
