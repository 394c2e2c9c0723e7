//! Registers into numbers and back. Pure; every type and both word orders round-trip in the tests.
//!
//! What a stranger gets wrong: a register is always big-endian inside; only the order of the registers
//! of one value differs between makers, and libraries name the two orders in opposite ways.

use crate::config::{ValueType, WordOrder};

/// A decoded value, not yet scaled.
#[derive(Clone, Debug, PartialEq)]
pub enum Raw {
    /// A number.
    Number(f64),
    /// A text, cut at the first NUL and trimmed.
    Text(String),
}

/// Decodes the registers of one value. Nothing if there are too few, or if the value is one of the
/// "not implemented" marks: not-a-number, or all bits set in an unsigned value of 32 bits or more.
#[must_use]
pub fn decode(words: &[u16], value_type: ValueType, order: WordOrder) -> Option<Raw> {
    let words = words.get(..usize::from(value_type.words()))?;
    if value_type == ValueType::Text10 {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
        let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
        let text = std::str::from_utf8(&bytes[..end]).ok()?;
        return Some(Raw::Text(text.trim().to_owned()));
    }
    let join = |acc: u64, word: &u16| (acc << 16) | u64::from(*word);
    let bits = match order {
        WordOrder::Big => words.iter().fold(0, join),
        WordOrder::Little => words.iter().rev().fold(0, join),
    };
    let low32 = (bits & 0xFFFF_FFFF) as u32;
    let number = match value_type {
        ValueType::U16 => f64::from(bits as u16),
        ValueType::I16 => f64::from(bits as u16 as i16),
        ValueType::U32 if low32 == u32::MAX => return None,
        ValueType::U32 => f64::from(low32),
        ValueType::I32 => f64::from(low32 as i32),
        ValueType::U64 if bits == u64::MAX => return None,
        ValueType::U64 => bits as f64,
        ValueType::F32 => f64::from(f32::from_bits(low32)),
        ValueType::F64 => f64::from_bits(bits),
        ValueType::Text10 => return None,
    };
    number.is_finite().then_some(Raw::Number(number))
}

/// Encodes a number. Whole-number types are rounded and bounded to their range.
#[must_use]
pub fn encode(value: f64, value_type: ValueType, order: WordOrder) -> Vec<u16> {
    let whole = value.round();
    let bits = match value_type {
        ValueType::U16 => u64::from(whole as u16),
        ValueType::I16 => u64::from(whole as i16 as u16),
        ValueType::U32 => u64::from(whole as u32),
        ValueType::I32 => u64::from(whole as i32 as u32),
        ValueType::U64 => whole as u64,
        ValueType::F32 => u64::from((value as f32).to_bits()),
        ValueType::F64 => value.to_bits(),
        ValueType::Text10 => 0,
    };
    let count = usize::from(value_type.words());
    let mut words: Vec<u16> = (0..count).rev().map(|i| (bits >> (16 * i.min(3))) as u16).collect();
    if order == WordOrder::Little {
        words.reverse();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_and_order_round_trips() {
        let table = [
            (ValueType::U16, 65_535.0),
            (ValueType::I16, -1234.0),
            (ValueType::U32, 4_000_000_000.0),
            (ValueType::I32, -2_000_000_000.0),
            (ValueType::U64, 9_007_199_254_740_991.0),
            (ValueType::F32, -16.5),
            (ValueType::F64, 123_456.789),
        ];
        for (value_type, value) in table {
            for order in [WordOrder::Big, WordOrder::Little] {
                let words = encode(value, value_type, order);
                let back = decode(&words, value_type, order);
                assert_eq!(back, Some(Raw::Number(value)), "{value_type:?} {order:?}");
            }
        }
    }

    #[test]
    fn known_bytes() {
        // 230.5 as IEEE 754 is 0x43668000.
        let big = decode(&[0x4366, 0x8000], ValueType::F32, WordOrder::Big);
        assert_eq!(big, Some(Raw::Number(230.5)));
        let little = decode(&[0x8000, 0x4366], ValueType::F32, WordOrder::Little);
        assert_eq!(little, Some(Raw::Number(230.5)));
        let text = decode(&[0x4332, 0, 0, 0, 0], ValueType::Text10, WordOrder::Big);
        assert_eq!(text, Some(Raw::Text("C2".into())));
    }

    #[test]
    fn marks_of_missing_values_give_nothing() {
        assert_eq!(decode(&[0x7FC0, 0], ValueType::F32, WordOrder::Big), None);
        assert_eq!(decode(&[0xFFFF; 2], ValueType::U32, WordOrder::Big), None);
        assert_eq!(decode(&[0xFFFF; 4], ValueType::U64, WordOrder::Big), None);
        assert_eq!(decode(&[1], ValueType::U32, WordOrder::Big), None);
        assert_eq!(decode(&[0xC3FF; 5], ValueType::Text10, WordOrder::Big), None);
    }
}
