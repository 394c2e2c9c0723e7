//! Registers into numbers and back. Pure; every type and every order round-trips in the tests.
//!
//! What a stranger gets wrong: Modbus asks for the high byte of a register first and says nothing about
//! the registers of one value; makers differ in both, and libraries name the orders in opposite ways.
//! Here an order is the bytes as they come over the wire, A being the highest.

use crate::config::{Order, ValueType};

/// A decoded value, not yet scaled.
#[derive(Clone, Debug, PartialEq)]
pub enum Raw {
    /// A number.
    Number(f64),
    /// A text, cut at the first NUL and trimmed.
    Text(String),
}

/// The registers of a value with the high register first and the high byte of each first.
fn straight(words: &[u16], order: Order) -> Vec<u16> {
    let turn = |word: &u16| if order.low_byte_first() { word.swap_bytes() } else { *word };
    let mut words: Vec<u16> = words.iter().map(turn).collect();
    if order.low_word_first() {
        words.reverse();
    }
    words
}

/// Decodes the registers of one value. Nothing if there are too few, or if the value is one of the
/// "not implemented" marks: not-a-number, all bits set in an unsigned value of 32 bits or more, or an
/// empty text. A text is never turned by registers, only by bytes.
#[must_use]
pub fn decode(words: &[u16], value_type: ValueType, order: Order) -> Option<Raw> {
    let words = words.get(..usize::from(value_type.words()))?;
    if matches!(value_type, ValueType::Text(_)) {
        return text(words, order);
    }
    let straight = straight(words, order);
    let bits = straight.iter().fold(0, |acc: u64, word| (acc << 16) | u64::from(*word));
    let low32 = (bits & 0xFFFF_FFFF) as u32;
    let number = match value_type {
        ValueType::U16 => f64::from(bits as u16),
        ValueType::I16 => f64::from(bits as u16 as i16),
        ValueType::U32 | ValueType::Acc32 if low32 == u32::MAX => return None,
        ValueType::U32 | ValueType::Acc32 => f64::from(low32),
        ValueType::I32 => f64::from(low32 as i32),
        ValueType::U64 if bits == u64::MAX => return None,
        ValueType::U64 => bits as f64,
        ValueType::I64 => bits as i64 as f64,
        ValueType::F32 => f64::from(f32::from_bits(low32)),
        ValueType::F64 => f64::from_bits(bits),
        ValueType::Text(_) => return None,
    };
    number.is_finite().then_some(Raw::Number(number))
}

fn text(words: &[u16], order: Order) -> Option<Raw> {
    let bytes = words.iter().flat_map(|word| {
        if order.low_byte_first() { word.to_le_bytes() } else { word.to_be_bytes() }
    });
    let bytes: Vec<u8> = bytes.take_while(|byte| *byte != 0).collect();
    let text = std::str::from_utf8(&bytes).ok()?.trim();
    (!text.is_empty()).then(|| Raw::Text(text.to_owned()))
}

/// Encodes a number. Whole-number types are rounded and bounded to their range.
#[must_use]
pub fn encode(value: f64, value_type: ValueType, order: Order) -> Vec<u16> {
    let whole = value.round();
    let bits = match value_type {
        ValueType::U16 => u64::from(whole as u16),
        ValueType::I16 => u64::from(whole as i16 as u16),
        ValueType::U32 | ValueType::Acc32 => u64::from(whole as u32),
        ValueType::I32 => u64::from(whole as i32 as u32),
        ValueType::U64 => whole as u64,
        ValueType::I64 => whole as i64 as u64,
        ValueType::F32 => u64::from((value as f32).to_bits()),
        ValueType::F64 => value.to_bits(),
        ValueType::Text(_) => 0,
    };
    let count = usize::from(value_type.words());
    let words: Vec<u16> = (0..count).rev().map(|i| (bits >> (16 * i.min(3))) as u16).collect();
    straight(&words, order)
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
            (ValueType::Acc32, 4_000_000_001.0),
            (ValueType::I32, -2_000_000_000.0),
            (ValueType::U64, 9_007_199_254_740_991.0),
            (ValueType::I64, -9_007_199_254_740_991.0),
            (ValueType::F32, -16.5),
            (ValueType::F64, 123_456.789),
        ];
        for (value_type, value) in table {
            for (name, order) in Order::ALL {
                let words = encode(value, value_type, order);
                let back = decode(&words, value_type, order);
                assert_eq!(back, Some(Raw::Number(value)), "{value_type:?} {name}");
            }
        }
    }

    #[test]
    fn known_bytes() {
        // 230.5 as IEEE 754 is 0x43668000.
        let bytes = [
            (Order::Abcd, [0x4366, 0x8000]),
            (Order::Cdab, [0x8000, 0x4366]),
            (Order::Badc, [0x6643, 0x0080]),
            (Order::Dcba, [0x0080, 0x6643]),
        ];
        for (order, words) in bytes {
            assert_eq!(
                decode(&words, ValueType::F32, order),
                Some(Raw::Number(230.5)),
                "{order:?}"
            );
        }
        let text = decode(&[0x4332, 0, 0, 0, 0], ValueType::Text(5), Order::Cdab);
        assert_eq!(text, Some(Raw::Text("C2".into())));
        let text = decode(&[0x3243, 0x2020], ValueType::Text(2), Order::Badc);
        assert_eq!(text, Some(Raw::Text("C2".into())));
    }

    #[test]
    fn marks_of_missing_values_give_nothing() {
        assert_eq!(decode(&[0x7FC0, 0], ValueType::F32, Order::Abcd), None);
        assert_eq!(decode(&[0xFFFF; 2], ValueType::U32, Order::Abcd), None);
        assert_eq!(decode(&[0xFFFF; 4], ValueType::U64, Order::Abcd), None);
        assert_eq!(decode(&[1], ValueType::U32, Order::Abcd), None);
        assert_eq!(decode(&[0xC3FF; 5], ValueType::Text(5), Order::Abcd), None);
        assert_eq!(decode(&[0; 5], ValueType::Text(5), Order::Abcd), None);
    }
}
