//! Records in memory while the disk cannot take them: bounded, the oldest of the cheapest class goes
//! first, every loss is counted.
//!
//! What a stranger gets wrong: the ring is not a cache of the outbox. A record is in one of the two,
//! and goes over to the disk in order as soon as the disk works again.

use std::collections::BTreeMap;

use super::index::{Entry, Index};
use super::record::{Class, Stored};

/// Most records held in memory.
pub(super) const RING_RECORDS: u64 = 20_000;
/// Most bytes held in memory.
pub(super) const RING_BYTES: u64 = 8 << 20;

#[derive(Debug, Default)]
pub(super) struct Ring {
    records: BTreeMap<u64, Stored>,
    index: Index,
    /// How many had to go.
    pub dropped: u64,
}

impl Ring {
    pub fn push(&mut self, stored: Stored) {
        self.index.push(stored.record.class, Entry::of(&stored));
        self.records.insert(stored.seq, stored);
        while self.index.len() > RING_RECORDS || self.index.bytes() > RING_BYTES {
            let Some(first) = self.index.first_to_go() else { break };
            self.remove(first.seq);
            self.dropped += 1;
        }
    }

    pub fn remove(&mut self, seq: u64) -> bool {
        self.index.remove(seq);
        self.records.remove(&seq).is_some()
    }

    pub fn peek_from(&self, class: Class, from: u64, most: usize) -> Vec<Stored> {
        let numbers = self.index.from(class, from).take(most);
        numbers.filter_map(|seq| self.records.get(&seq).cloned()).collect()
    }

    /// The oldest `most`, in order, still held.
    pub fn oldest(&self, most: usize) -> Vec<Stored> {
        self.records.values().take(most).cloned().collect()
    }

    pub fn index(&self) -> &Index {
        &self.index
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::sample;
    use super::*;

    #[test]
    fn the_ring_is_bounded_and_keeps_the_dear() {
        let mut ring = Ring::default();
        ring.push(sample(1, Class::A));
        for seq in 2..RING_RECORDS + 12 {
            ring.push(sample(seq, Class::C));
        }
        assert_eq!(ring.index().len(), RING_RECORDS);
        assert_eq!(ring.dropped, 11);
        assert_eq!(ring.oldest(1), [sample(1, Class::A)]);
        assert_eq!(ring.peek_from(Class::C, 0, 1)[0].seq, 13);
    }
}
