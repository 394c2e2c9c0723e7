//! Which values are believed. A value outside its plausible range makes the whole answer unusable; the
//! snapshot holds the last good one for a moment.
//!
//! What a stranger gets wrong: a temperature that is too high to be true may be a fire. It is thrown away
//! once and twice; the third time in a row it is believed (FB8), whatever the profile says.

use std::collections::BTreeMap;
use std::time::Duration;

use super::codec::Raw;
use super::readings::Unusable;
use crate::config::Point;
use crate::units::Moment;

/// So many high temperatures in a row, each at most this long after the one before, are believed (FB8).
const BELIEVED_AFTER: u32 = 3;
const IN_ROW_WITHIN: Duration = Duration::from_secs(3);

/// High temperatures that nobody believes yet.
#[derive(Clone, Debug, Default)]
pub struct Doubts(BTreeMap<String, (u32, Moment)>);

impl Doubts {
    /// The value if it is believed; nothing where the device has none.
    ///
    /// # Errors
    /// [`Unusable::Implausible`] outside its range.
    pub fn judge(
        &mut self,
        point: &Point,
        raw: Option<Raw>,
        now: Moment,
    ) -> Result<Option<Raw>, Unusable> {
        let value = match &raw {
            Some(Raw::Number(value)) => *value,
            _ => return Ok(raw),
        };
        let hot = point.quantity.ends_with("_c") && point.max.is_some_and(|max| value > max);
        if !hot {
            self.0.remove(&point.quantity);
            return in_range(point, raw);
        }
        let (count, last) = self.0.get(&point.quantity).copied().unwrap_or((0, now));
        let count = if last.age_at(now) <= IN_ROW_WITHIN { count + 1 } else { 1 };
        self.0.insert(point.quantity.clone(), (count.min(BELIEVED_AFTER), now));
        if count >= BELIEVED_AFTER { Ok(raw) } else { in_range(point, raw) }
    }
}

/// The value if it lies in its plausible range.
///
/// # Errors
/// [`Unusable::Implausible`] if it does not.
pub fn in_range(point: &Point, raw: Option<Raw>) -> Result<Option<Raw>, Unusable> {
    let Some(Raw::Number(value)) = raw else {
        return Ok(raw);
    };
    let (min, max) = (point.min.unwrap_or(f64::MIN), point.max.unwrap_or(f64::MAX));
    if (min..=max).contains(&value) {
        return Ok(raw);
    }
    Err(Unusable::Implausible { quantity: point.quantity.clone(), value, min, max })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Order, Table, ValueType};

    fn point(quantity: &str) -> Point {
        Point {
            quantity: quantity.into(),
            table: Table::Holding,
            address: 0,
            value_type: ValueType::F32,
            order: Order::Abcd,
            shift: 0,
            mask: None,
            scale: 1.0,
            scale_at: None,
            none: Vec::new(),
            min: Some(-40.0),
            max: Some(120.0),
            rate: None,
            period_s: 1.0,
        }
    }

    fn judge(doubts: &mut Doubts, quantity: &str, second: u64, value: f64) -> bool {
        let uptime = Duration::from_secs(second);
        let now = Moment { uptime, utc: chrono::DateTime::UNIX_EPOCH };
        doubts.judge(&point(quantity), Some(Raw::Number(value)), now).is_ok()
    }

    #[test]
    fn fb8_a_high_temperature_is_believed_the_third_time_in_a_row() {
        let mut doubts = Doubts::default();
        let seen = [(1, 1894.0), (2, 1894.0), (3, 1700.0), (4, 1894.0)];
        let believed = seen.map(|(second, value)| judge(&mut doubts, "cell_c", second, value));
        assert_eq!(believed, [false, false, true, true]);
    }

    #[test]
    fn fb8_single_highs_and_any_low_are_never_believed() {
        let mut doubts = Doubts::default();
        for second in 0..60 {
            assert!(!judge(&mut doubts, "cell_c", second * 2, -300.0), "an absurd low");
            assert!(!judge(&mut doubts, "cell_c", second * 2 + 1, 1894.0), "a single high");
        }
        for second in 0..10 {
            assert!(!judge(&mut doubts, "power_w", second, 22.8e6), "not a temperature");
            assert!(!judge(&mut doubts, "cell_c", 200 + second * 4, 1894.0), "not in a row");
        }
    }
}
