//! One record as bytes: version, CRC32, life, class, time, topic, payload. The checksum covers the
//! sequence number too, so that a value that turns up under another key does not pass.
//!
//! What a stranger gets wrong: the id of a record (`<life>-<seq>`) is made when it is appended and
//! stored with it, so that a record sent twice carries the same id even across a restart.

use chrono::{DateTime, TimeZone, Utc};

/// Version of the byte form.
const VERSION: u8 = 1;
/// Version, checksum, life, class, time, length of the topic.
const HEAD: usize = 1 + 4 + 4 + 1 + 8 + 2;

/// How dear a record is; at the cap the oldest of the cheapest class goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Alarms and trips: synced before anything else happens.
    A,
    /// Sessions, occupancy, energy counters: synced within a second.
    B,
    /// Telemetry: synced within five seconds, first to go.
    C,
}

impl Class {
    /// From the dearest to the cheapest.
    pub const ALL: [Class; 3] = [Class::A, Class::B, Class::C];

    pub(super) fn index(self) -> usize {
        match self {
            Class::A => 0,
            Class::B => 1,
            Class::C => 2,
        }
    }
}

/// Something to be told to the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Relative topic, e.g. `charger/pile1/state`; at most 65 535 bytes.
    pub topic: String,
    /// When it happened; kept to the millisecond.
    pub ts: DateTime<Utc>,
    /// How dear it is.
    pub class: Class,
    /// What is told, usually a JSON object.
    pub payload: Vec<u8>,
}

impl Record {
    /// What it counts against the cap.
    #[must_use]
    pub fn size(&self) -> u64 {
        (self.topic.len() + self.payload.len() + HEAD) as u64
    }
}

/// A record with its place in the outbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its number; never used twice in one store.
    pub seq: u64,
    /// The life of the gateway in which it was appended.
    pub life: u32,
    /// The record.
    pub record: Record,
}

impl Stored {
    /// The stable id by which a consumer recognises a record that came twice.
    #[must_use]
    pub fn id(&self) -> String {
        format!("{:08x}-{}", self.life, self.seq)
    }
}

/// How far somebody has read, for each class on its own: an alarm does not wait behind telemetry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    next: [u64; 3],
}

impl Cursor {
    /// The first sequence number of this class that was not read yet.
    #[must_use]
    pub fn next(&self, class: Class) -> u64 {
        self.next[class.index()]
    }

    /// Moves past a record.
    pub fn pass(&mut self, stored: &Stored) {
        let next = &mut self.next[stored.record.class.index()];
        *next = (*next).max(stored.seq + 1);
    }
}

/// Why bytes are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// Fewer bytes than the head, or a topic longer than the value.
    #[error("too short")]
    Short,
    /// Written by another version.
    #[error("unknown version {0}")]
    Version(u8),
    /// The bytes changed.
    #[error("wrong checksum")]
    Checksum,
    /// A class, time or topic that cannot be.
    #[error("impossible content")]
    Content,
}

/// Bytes of a record.
#[must_use]
pub(super) fn encode(stored: &Stored) -> Vec<u8> {
    let record = &stored.record;
    let topic = &record.topic.as_bytes()[..record.topic.len().min(usize::from(u16::MAX))];
    let mut bytes = Vec::with_capacity(HEAD + topic.len() + record.payload.len());
    bytes.push(VERSION);
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&stored.life.to_be_bytes());
    bytes.push(record.class.index() as u8);
    bytes.extend_from_slice(&record.ts.timestamp_millis().to_be_bytes());
    bytes.extend_from_slice(&(topic.len() as u16).to_be_bytes());
    bytes.extend_from_slice(topic);
    bytes.extend_from_slice(&record.payload);
    let sum = checksum(stored.seq, &bytes[5..]);
    bytes[1..5].copy_from_slice(&sum.to_be_bytes());
    bytes
}

/// The record of these bytes, if nothing happened to them.
pub(super) fn decode(seq: u64, bytes: &[u8]) -> Result<Stored, Damage> {
    let (version, rest) = bytes.split_first().ok_or(Damage::Short)?;
    if *version != VERSION {
        return Err(Damage::Version(*version));
    }
    let (sum, rest) = rest.split_first_chunk::<4>().ok_or(Damage::Short)?;
    if checksum(seq, rest) != u32::from_be_bytes(*sum) {
        return Err(Damage::Checksum);
    }
    let (life, rest) = rest.split_first_chunk::<4>().ok_or(Damage::Short)?;
    let (class, rest) = rest.split_first().ok_or(Damage::Short)?;
    let (ms, rest) = rest.split_first_chunk::<8>().ok_or(Damage::Short)?;
    let (length, rest) = rest.split_first_chunk::<2>().ok_or(Damage::Short)?;
    let (topic, payload) =
        rest.split_at_checked(usize::from(u16::from_be_bytes(*length))).ok_or(Damage::Short)?;
    let ts = Utc.timestamp_millis_opt(i64::from_be_bytes(*ms)).single().ok_or(Damage::Content)?;
    let record = Record {
        topic: String::from_utf8(topic.to_vec()).map_err(|_| Damage::Content)?,
        ts,
        class: *Class::ALL.get(usize::from(*class)).ok_or(Damage::Content)?,
        payload: payload.to_vec(),
    };
    Ok(Stored { seq, life: u32::from_be_bytes(*life), record })
}

fn checksum(seq: u64, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&seq.to_be_bytes());
    hasher.update(bytes);
    hasher.finalize()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::io::store) fn sample(seq: u64, class: Class) -> Stored {
        let ts = Utc.timestamp_millis_opt(1_780_000_000_123 + seq as i64).single().unwrap();
        let record = Record {
            topic: "charger/pile1/state".to_owned(),
            ts,
            class,
            payload: format!("{{\"power_w\":{seq}}}").into_bytes(),
        };
        Stored { seq, life: 0xBEEF, record }
    }

    #[test]
    fn what_was_written_is_read() {
        for class in Class::ALL {
            let stored = sample(7, class);
            assert_eq!(decode(7, &encode(&stored)), Ok(stored));
        }
    }

    #[test]
    fn no_single_flipped_bit_passes() {
        let bytes = encode(&sample(7, Class::B));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(7, &flipped).is_err(), "bit {bit} passed");
        }
    }

    #[test]
    fn another_key_or_a_cut_does_not_pass() {
        let bytes = encode(&sample(7, Class::A));
        assert_eq!(decode(8, &bytes), Err(Damage::Checksum));
        for length in 0..bytes.len() {
            assert!(decode(7, &bytes[..length]).is_err(), "{length} bytes passed");
        }
        assert_eq!(sample(7, Class::A).id(), "0000beef-7");
    }

    #[test]
    fn the_cursor_keeps_the_classes_apart() {
        let mut cursor = Cursor::default();
        cursor.pass(&sample(7, Class::C));
        assert_eq!((cursor.next(Class::A), cursor.next(Class::C)), (0, 8));
        cursor.pass(&sample(3, Class::C));
        assert_eq!(cursor.next(Class::C), 8);
    }
}
