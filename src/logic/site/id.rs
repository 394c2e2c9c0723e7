//! Names of devices, bays, zones and cameras. They are compared many thousand times a second, in every look into
//! a map, and cloned nearly as often: so they lie in place, and four numbers are compared instead of a text.
//!
//! What a stranger gets wrong: ids sort as their texts do. A shorter one is filled up with zeros, which no id
//! contains.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

/// Longest id, bytes.
const MOST: usize = 32;

/// Name of a device, bay, zone or camera: 1 to 32 of `a-z 0-9 _ -`. It is part of MQTT topics.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Id([u8; MOST]);

/// Why a text is not an [`Id`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a valid id: use 1 to 32 of a-z, 0-9, _ and -")]
pub struct InvalidId(pub String);

impl Id {
    /// The text of the id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let length = self.0.iter().position(|byte| *byte == 0).unwrap_or(MOST);
        // Plain ASCII since it was made.
        std::str::from_utf8(&self.0[..length]).unwrap_or_default()
    }

    /// Its text as four numbers that sort as it does.
    fn key(&self) -> [u64; MOST / 8] {
        let (parts, _) = self.0.as_chunks::<8>();
        std::array::from_fn(|i| parts.get(i).map_or(0, |part| u64::from_be_bytes(*part)))
    }
}

impl Ord for Id {
    fn cmp(&self, other: &Id) -> Ordering {
        self.key().cmp(&other.key())
    }
}

impl PartialOrd for Id {
    fn partial_cmp(&self, other: &Id) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl TryFrom<&str> for Id {
    type Error = InvalidId;
    fn try_from(text: &str) -> Result<Id, InvalidId> {
        let allowed =
            |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-';
        if !(1..=MOST).contains(&text.len()) || !text.bytes().all(allowed) {
            return Err(InvalidId(text.to_owned()));
        }
        let mut bytes = [0; MOST];
        bytes.iter_mut().zip(text.bytes()).for_each(|(place, byte)| *place = byte);
        Ok(Id(bytes))
    }
}

impl TryFrom<String> for Id {
    type Error = InvalidId;
    fn try_from(text: String) -> Result<Id, InvalidId> {
        Id::try_from(text.as_str())
    }
}

impl From<Id> for String {
    fn from(id: Id) -> String {
        id.as_str().to_owned()
    }
}

impl std::fmt::Display for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::fmt::Debug for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Id").field(&self.as_str()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_short_and_plain() {
        assert!(Id::try_from("bay-1_a").is_ok());
        for bad in ["", "Bay", "a/b", "a b", "桩", "a\0", &"x".repeat(33)] {
            assert!(Id::try_from(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ids_sort_and_read_as_their_texts() {
        let longest = "z".repeat(MOST);
        let texts =
            ["a", "a-", "a0", "pile1", "pile10", "pile2", "pile1_and_more_than_16", &longest];
        for one in texts {
            let id = Id::try_from(one).unwrap();
            assert_eq!(id.as_str(), one);
            assert_eq!(serde_json::to_string(&id).unwrap(), format!("\"{one}\""));
            for other in texts {
                assert_eq!(id.cmp(&Id::try_from(other).unwrap()), one.cmp(other), "{one} {other}");
            }
        }
    }
}
