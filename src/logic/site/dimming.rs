//! How a grid operator bounds what is controlled for a while: by a contact, or in words over MQTT or HTTP.
//!
//! What a stranger gets wrong: the operator asks for a limit of all controllable loads together. How far it
//! may go down is the rule's affair (`controller::curbs`), whatever is asked.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Id;
use crate::units::Watts;

/// A contact by which the grid operator dims what is controlled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DimContact {
    /// The device that delivers it.
    pub device: Id,
    /// Its value there.
    pub point: String,
    /// It dims while it is open: 0 means dimmed.
    pub active_low: bool,
    /// What all that is controlled may take then; never less than the rule leaves it.
    pub limit: Watts,
}

impl DimContact {
    /// Whether this value of the contact dims.
    #[must_use]
    pub fn dims(&self, value: f64) -> bool {
        (value != 0.0) != self.active_low
    }
}

/// A limit as MQTT and HTTP carry it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DimmingWords {
    /// What all that is controlled may take together, W, 0 to 1e9.
    pub limit_w: f64,
    /// For how long, minutes, 0 (ends it) to 1440.
    pub minutes: f64,
}

impl DimmingWords {
    /// What is meant.
    ///
    /// # Errors
    /// What is wrong and what is expected.
    pub fn limit(self) -> Result<(Watts, Duration), &'static str> {
        if !(0.0..=1e9).contains(&self.limit_w) {
            return Err("`limit_w` is 0 to 1e9");
        }
        if !(0.0..=1440.0).contains(&self.minutes) {
            return Err("`minutes` is 0 to 1440");
        }
        Ok((Watts(self.limit_w), Duration::from_secs_f64(self.minutes * 60.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_understood_or_refused() {
        let limit = |text: &str| {
            let words: DimmingWords = serde_json::from_str(text).map_err(|_| "not understood")?;
            words.limit()
        };
        let told = limit(r#"{"limit_w": 20000, "minutes": 1.5}"#);
        assert_eq!(told, Ok((Watts(20_000.0), Duration::from_secs(90))));
        for wrong in [
            r#"{"limit_w": -1, "minutes": 30}"#,
            r#"{"limit_w": 1e300, "minutes": 30}"#,
            r#"{"limit_w": 0, "minutes": 1441}"#,
            r#"{"limit_w": 0}"#,
            r#"{"limit_w": 0, "minutes": 30, "until": 5}"#,
        ] {
            assert!(limit(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_contact_dims_closed_or_open() {
        let contact = |active_low| DimContact {
            device: Id::try_from("io").unwrap(),
            point: "di4".into(),
            active_low,
            limit: Watts(0.0),
        };
        assert!(contact(false).dims(1.0) && !contact(false).dims(0.0));
        assert!(contact(true).dims(0.0) && !contact(true).dims(1.0));
    }
}
