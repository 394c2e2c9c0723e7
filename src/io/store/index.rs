//! What the outbox holds, in memory: number, size and time of every record, one queue a class. It
//! answers "how much", "how old" and "who goes first" without touching the disk.
//!
//! What a stranger gets wrong: the queues are sorted because numbers only grow; removal is a binary
//! search, and nearly always at the front.

use std::collections::VecDeque;

use super::record::{Class, Stored};

/// One record without its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub seq: u64,
    pub size: u64,
    pub ts_ms: i64,
}

impl Entry {
    pub fn of(stored: &Stored) -> Entry {
        let record = &stored.record;
        Entry { seq: stored.seq, size: record.size(), ts_ms: record.ts.timestamp_millis() }
    }
}

#[derive(Debug, Default)]
pub(super) struct Index {
    classes: [VecDeque<Entry>; 3],
    bytes: u64,
}

impl Index {
    /// Adds a record, nearly always at the end; one that is here already stays as it is.
    pub fn push(&mut self, class: Class, entry: Entry) {
        let queue = &mut self.classes[class.index()];
        let after_all = queue.back().is_none_or(|last| last.seq < entry.seq);
        let place = if after_all {
            Err(queue.len())
        } else {
            queue.binary_search_by_key(&entry.seq, |e| e.seq)
        };
        if let Err(place) = place {
            queue.insert(place, entry);
            self.bytes += entry.size;
        }
    }

    pub fn remove(&mut self, seq: u64) -> Option<Entry> {
        let mut queues = self.classes.iter_mut();
        let entry = queues.find_map(|queue| {
            let at = queue.binary_search_by_key(&seq, |entry| entry.seq).ok()?;
            queue.remove(at)
        })?;
        self.bytes = self.bytes.saturating_sub(entry.size);
        Some(entry)
    }

    /// The oldest record of the cheapest class there is.
    pub fn first_to_go(&self) -> Option<Entry> {
        self.classes.iter().rev().find_map(|queue| queue.front().copied())
    }

    /// Numbers of a class from `from` on.
    pub fn from(&self, class: Class, from: u64) -> impl Iterator<Item = u64> + '_ {
        let queue = &self.classes[class.index()];
        let start = queue.partition_point(|entry| entry.seq < from);
        queue.range(start..).map(|entry| entry.seq)
    }

    pub fn len(&self) -> u64 {
        self.classes.iter().map(|queue| queue.len() as u64).sum()
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Time of the oldest record, ms since 1970.
    pub fn oldest_ms(&self) -> Option<i64> {
        self.classes.iter().filter_map(|queue| queue.front()).map(|entry| entry.ts_ms).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn telemetry_goes_before_sessions_and_sessions_before_alarms() {
        let mut index = Index::default();
        let entry = |seq| Entry { seq, size: 10, ts_ms: 100 + seq as i64 };
        index.push(Class::A, entry(1));
        index.push(Class::C, entry(2));
        index.push(Class::B, entry(3));
        index.push(Class::C, entry(4));
        assert_eq!(index.oldest_ms(), Some(101));
        let mut order = Vec::new();
        while let Some(first) = index.first_to_go() {
            order.push(first.seq);
            assert_eq!(index.remove(first.seq), Some(first));
        }
        assert_eq!(order, [2, 4, 3, 1]);
        assert_eq!((index.len(), index.bytes(), index.remove(2)), (0, 0, None));
    }
}
