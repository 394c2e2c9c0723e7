//! Which registers are read together. Neighbouring values of one table join into one read as long as
//! the gap between them and the length of the read stay within what the device allows; a value is
//! never split over two reads.

use crate::config::{Point, Profile, Table};

/// One read.
#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    /// Which table.
    pub table: Table,
    /// First register.
    pub first: u16,
    /// Number of registers.
    pub count: u16,
    /// The values inside, as indices into the profile's points.
    pub points: Vec<usize>,
}

/// Compiles the reads of a profile.
#[must_use]
pub fn compile(profile: &Profile) -> Vec<Block> {
    let end = |point: &Point| u32::from(point.address) + u32::from(point.value_type.words());
    let mut order: Vec<usize> = (0..profile.points.len()).collect();
    order.sort_by_key(|&i| (profile.points[i].table, profile.points[i].address));
    let mut blocks: Vec<Block> = Vec::new();
    for i in order {
        let point = &profile.points[i];
        if let Some(block) = blocks.last_mut() {
            let block_end = u32::from(block.first) + u32::from(block.count);
            let length = end(point).max(block_end) - u32::from(block.first);
            let near = u32::from(point.address) <= block_end + u32::from(profile.max_gap);
            if block.table == point.table && near && length <= u32::from(profile.max_registers) {
                block.count = u16::try_from(length).unwrap_or(u16::MAX);
                block.points.push(i);
                continue;
            }
        }
        blocks.push(Block {
            table: point.table,
            first: point.address,
            count: point.value_type.words(),
            points: vec![i],
        });
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ProfileKind, ValueType, WordOrder};

    fn profile(points: &[(Table, u16, ValueType)], max_gap: u16, max_registers: u16) -> Profile {
        let point = |&(table, address, value_type): &(Table, u16, ValueType)| Point {
            quantity: "power_w".into(),
            table,
            address,
            value_type,
            shift: 0,
            mask: None,
            scale: 1.0,
            min: None,
            max: None,
        };
        Profile {
            id: "p".into(),
            kind: ProfileKind::Meter,
            name: "p".into(),
            source: "test".into(),
            confidence: "documented".into(),
            unit: 1,
            word_order: WordOrder::Big,
            max_registers,
            max_gap,
            pace_ms: 0,
            connect_ms: 100,
            call_ms: 100,
            outputs: Vec::new(),
            points: points.iter().map(point).collect(),
            states: std::collections::BTreeMap::new(),
            setpoint: None,
            failsafe: None,
        }
    }

    #[test]
    fn values_join_within_gap_length_and_table() {
        use Table::{Holding, Input};
        use ValueType::{F32, F64, U16};
        let points = [(Holding, 10, F32), (Holding, 0, F32), (Input, 2, U16), (Holding, 4, F64)];
        let spans = |gap, most| -> Vec<(u16, u16)> {
            compile(&profile(&points, gap, most)).iter().map(|b| (b.first, b.count)).collect()
        };
        assert_eq!(spans(2, 100), [(0, 12), (2, 1)]);
        assert_eq!(spans(0, 100), [(0, 2), (4, 4), (10, 2), (2, 1)]);
        assert_eq!(spans(2, 8), [(0, 8), (10, 2), (2, 1)]);
    }

    #[test]
    fn every_point_is_in_exactly_one_block() {
        let points: Vec<_> = (0..50).map(|i| (Table::Holding, i * 7, ValueType::F32)).collect();
        let blocks = compile(&profile(&points, 5, 30));
        let mut seen: Vec<usize> = blocks.iter().flat_map(|b| b.points.clone()).collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..50).collect::<Vec<_>>());
        assert!(blocks.iter().all(|b| b.count <= 30));
    }
}
