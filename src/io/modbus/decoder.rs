//! What the registers of one device mean: decoded, scaled, checked against what is plausible, and added
//! where several make one quantity. It remembers what a single answer cannot tell: counters that ran
//! over, and the last value for the plausible rate of change.
//!
//! What a stranger gets wrong: a value that its device marks as "not available" is not an error and not
//! a zero; it is simply not there, and the reading says what it misses. A jump that is faster than
//! plausible is refused once; if the next answer confirms it, it is believed.

use super::blocks::Block;
use super::codec::{self, Raw};
use super::doubts::{self, Doubts};
use super::readings::{Unusable, Values};
use crate::config::{Point, Profile, ValueType};
use crate::units::Moment;

/// A power of ten beyond this is no scale (SunSpec).
const MOST_POWER: i32 = 10;
/// 2^32: where a counter of 32 bits begins again.
const COUNTER_END: f64 = 4_294_967_296.0;

/// The memory of one point.
#[derive(Clone, Copy, Debug, Default)]
struct Memory {
    /// Raw number of a counter, and how often it ran over.
    counter: Option<f64>,
    turns: f64,
    /// Value and moment that the rate counts from.
    last: Option<(f64, Moment)>,
    /// A value that jumped and was refused.
    jumped: Option<f64>,
}

/// The decoder of one device.
#[derive(Clone, Debug, Default)]
pub struct Decoder {
    memory: Vec<Memory>,
    doubts: Doubts,
}

impl Decoder {
    /// Nothing remembered yet.
    #[must_use]
    pub fn new(profile: &Profile) -> Decoder {
        let memory = vec![Memory::default(); profile.points.len()];
        Decoder { memory, doubts: Doubts::default() }
    }

    /// Decodes the answer to one block into `values`.
    ///
    /// # Errors
    /// The first value that is not plausible.
    pub fn take(
        &mut self,
        profile: &Profile,
        (block, words): (&Block, &[u16]),
        at: Moment,
        values: &mut Values,
    ) -> Result<(), Unusable> {
        for &i in &block.points {
            let (Some(point), Some(memory)) = (profile.points.get(i), self.memory.get_mut(i))
            else {
                continue;
            };
            let raw = match find(point, block.first, words) {
                Some(Found::Number { raw, factor }) => {
                    let turned = memory.turned(point, raw);
                    Some(Raw::Number((raw + turned) * factor + 0.0))
                }
                Some(Found::Text(text)) => Some(Raw::Text(text)),
                None => None,
            };
            let Some(value) = self.doubts.judge(point, raw, at)? else {
                continue;
            };
            if let Raw::Number(number) = value {
                memory.keep_pace(point, number, at)?;
            }
            add(values, &point.quantity, value);
        }
        Ok(())
    }
}

/// What the registers of a point hold.
enum Found {
    Text(String),
    /// The raw number, and what one of it is worth in the house's unit.
    Number {
        raw: f64,
        factor: f64,
    },
}

/// The bits of a raw number that a point means.
fn select(raw: f64, point: &Point) -> f64 {
    if point.shift == 0 && point.mask.is_none() {
        return raw;
    }
    let bits = (raw.max(0.0) as u64) >> point.shift.min(63);
    (bits & point.mask.map_or(u64::MAX, u64::from)) as f64
}

/// The registers of `address` in an answer that begins at `first`.
fn at(words: &[u16], first: u16, address: u16) -> Option<&[u16]> {
    words.get(usize::from(address.checked_sub(first)?)..)
}

fn find(point: &Point, first: u16, words: &[u16]) -> Option<Found> {
    let raw = match codec::decode(at(words, first, point.address)?, point.value_type, point.order)?
    {
        Raw::Text(text) => return Some(Found::Text(text)),
        Raw::Number(number) => number,
    };
    if point.none.contains(&raw) {
        return None;
    }
    let mut factor = point.scale;
    if let Some(address) = point.scale_at {
        let power = i32::from(*at(words, first, address)?.first()? as i16);
        // Division by a power of ten is exact where a product with 0.01 is not.
        let tens = 10f64.powi(power.abs());
        if power.abs() > MOST_POWER {
            return None;
        }
        factor = if power < 0 { factor / tens } else { factor * tens };
    }
    Some(Found::Number { raw: select(raw, point), factor })
}

/// One value of an answer that begins at `first`, without memory; nothing where it is not there.
///
/// # Errors
/// When it lies outside what is plausible.
pub fn value(point: &Point, first: u16, words: &[u16]) -> Result<Option<Raw>, Unusable> {
    let raw = find(point, first, words).map(|found| match found {
        Found::Number { raw, factor } => Raw::Number(raw * factor + 0.0),
        Found::Text(text) => Raw::Text(text),
    });
    doubts::in_range(point, raw)
}

/// Several numbers of one quantity are added.
pub(super) fn add(values: &mut Values, quantity: &str, value: Raw) {
    match (values.get_mut(quantity), value) {
        (Some(Raw::Number(sum)), Raw::Number(more)) => *sum += more,
        (_, value) => _ = values.insert(quantity.to_owned(), value),
    }
}

impl Memory {
    /// A value that changes faster than it can is refused, until the next answer confirms it.
    fn keep_pace(&mut self, point: &Point, value: f64, at: Moment) -> Result<(), Unusable> {
        let (Some(rate), Some((last, since))) = (point.rate, self.last) else {
            self.last = Some((value, at));
            return Ok(());
        };
        // A second of grace: answers of one and the same second may differ as well.
        let most = rate * (since.age_at(at).as_secs_f64() + 1.0);
        let confirmed = self.jumped.is_some_and(|jumped| (value - jumped).abs() <= most);
        if (value - last).abs() > most && !confirmed {
            self.jumped = Some(value);
            return Err(Unusable::Jumped { quantity: point.quantity.clone(), last, value });
        }
        self.jumped = None;
        self.last = Some((value, at));
        Ok(())
    }

    /// What a counter that ran over has lost. From the last quarter to the first quarter it ran over;
    /// any other way down is a new counter.
    fn turned(&mut self, point: &Point, raw: f64) -> f64 {
        if point.value_type != ValueType::Acc32 {
            return 0.0;
        }
        let quarter = COUNTER_END / 4.0;
        match self.counter {
            Some(before) if before >= 3.0 * quarter && raw < quarter => self.turns += COUNTER_END,
            Some(before) if raw < before => self.turns = 0.0,
            _ => {}
        }
        self.counter = Some(raw);
        self.turns
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::read_profile;
    use crate::io::modbus::blocks;

    fn profile(points: &str) -> Profile {
        let head = "id='p'\nkind='meter'\nname='p'\nsource='test'\nconfidence='documented'\n\
            phases=1\ntable='holding'\ntype='u16'\nmax_gap=10\n";
        let needed = "{quantity='voltage_l1_v',address=900},{quantity='current_l1_a',address=901},\
            {quantity='power_l1_w',address=902}";
        let mut faults = Vec::new();
        let text = format!("{head}points=[{points},{needed}]");
        read_profile(&text, &mut faults).unwrap_or_else(|| panic!("{faults:?}"))
    }

    fn moment(seconds: u64) -> Moment {
        Moment { uptime: Duration::from_secs(seconds), utc: chrono::DateTime::UNIX_EPOCH }
    }

    /// The block of the first value read again and again, one second apart.
    fn run(profile: &Profile, answers: &[&[u16]]) -> Vec<Result<Values, Unusable>> {
        let mut blocks = blocks::compile(profile).into_iter();
        let block = blocks.find(|block| block.points.contains(&0)).unwrap();
        let mut decoder = Decoder::new(profile);
        let answer = |(second, words): (usize, &&[u16])| {
            let mut values = Values::new();
            let at = moment(second as u64);
            decoder.take(profile, (&block, words), at, &mut values).map(|()| values)
        };
        answers.iter().enumerate().map(answer).collect()
    }

    fn number(result: &Result<Values, Unusable>, quantity: &str) -> f64 {
        match result.as_ref().unwrap().get(quantity) {
            Some(Raw::Number(number)) => *number,
            other => panic!("{quantity}: {other:?}"),
        }
    }

    #[test]
    fn units_signs_and_scale_registers() {
        let profile = profile(
            "{quantity='power_w',address=1,type='i16',unit='kW',scale=0.1,invert=true},
             {quantity='import_wh',address=2,type='u32',order='CDAB',scale_at=0},
             {quantity='frequency_hz',address=4,scale=0.01,none=[0xFFFF]}",
        );
        let answers = run(&profile, &[&[0xFFFE, -25i16 as u16, 0x0001, 0x0002, 5001]]);
        assert_eq!(number(&answers[0], "power_w"), 2500.0);
        assert_eq!(number(&answers[0], "import_wh"), 131_073.0 / 100.0);
        assert_eq!(number(&answers[0], "frequency_hz"), 50.01);
        let mad = run(&profile, &[&[11, 0, 0, 1, 0xFFFF]]);
        let values = mad[0].as_ref().unwrap();
        assert!(!values.contains_key("import_wh") && !values.contains_key("frequency_hz"));
        assert!(values.contains_key("power_w"));
    }

    #[test]
    fn several_points_of_one_quantity_are_added_and_bits_are_picked() {
        let profile = profile(
            "{quantity='power_w',address=0},{quantity='power_w',address=1,invert=true},
             {quantity='plugged',address=2,shift=2,mask=1}",
        );
        let answers = run(&profile, &[&[300, 1000, 0b0110]]);
        assert_eq!(number(&answers[0], "power_w"), -700.0);
        assert_eq!(number(&answers[0], "plugged"), 1.0);
    }

    #[test]
    fn a_counter_that_runs_over_goes_on_and_a_new_counter_starts_anew() {
        let profile = profile("{quantity='energy_wh',address=0,type='acc32'}");
        let near = [0xFFFF, 0xFFF0];
        let answers = run(&profile, &[&near, &[0, 5], &[0, 9], &[0, 1]]);
        let read: Vec<f64> = answers.iter().map(|a| number(a, "energy_wh")).collect();
        assert_eq!(read, [4_294_967_280.0, 4_294_967_301.0, 4_294_967_305.0, 1.0]);
    }

    #[test]
    fn a_jump_is_refused_once_and_believed_when_confirmed() {
        let profile = profile("{quantity='soc_pct',address=0,rate=1}");
        let answers = run(&profile, &[&[50], &[0], &[51], &[10], &[10], &[11]]);
        assert!(matches!(answers[1], Err(Unusable::Jumped { .. })));
        assert_eq!(number(&answers[2], "soc_pct"), 51.0);
        assert!(matches!(answers[3], Err(Unusable::Jumped { .. })));
        assert_eq!(number(&answers[4], "soc_pct"), 10.0);
        assert_eq!(number(&answers[5], "soc_pct"), 11.0);
    }

    #[test]
    fn what_cannot_be_is_named() {
        let profile = profile("{quantity='soc_pct',address=0}");
        let refused = run(&profile, &[&[2500]]).remove(0).unwrap_err();
        assert!(refused.to_string().contains("`soc_pct` is 2500, outside 0 to 100"), "{refused}");
    }
}
