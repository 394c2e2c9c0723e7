//! Which registers are read together. Neighbouring values of one table join into one read as long as
//! the gap between them and the length of the read stay within what the device allows; a value is
//! never split over two reads.

use crate::config::{Profile, Table};

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

/// Compiles the reads of a profile. A value and its scale register count as one piece.
#[must_use]
pub fn compile(profile: &Profile) -> Vec<Block> {
    let mut order: Vec<usize> = (0..profile.points.len()).collect();
    order.sort_by_key(|&i| (profile.points[i].table, profile.points[i].span()));
    let mut blocks: Vec<Block> = Vec::new();
    for i in order {
        let point = &profile.points[i];
        let (first, count) = point.span();
        if let Some(block) = blocks.last_mut() {
            let block_end = u32::from(block.first) + u32::from(block.count);
            let end = (u32::from(first) + u32::from(count)).max(block_end);
            let length = end - u32::from(block.first);
            let near = u32::from(first) <= block_end + u32::from(profile.max_gap);
            if block.table == point.table && near && length <= u32::from(profile.max_registers) {
                block.count = u16::try_from(length).unwrap_or(u16::MAX);
                block.points.push(i);
                continue;
            }
        }
        blocks.push(Block { table: point.table, first, count, points: vec![i] });
    }
    blocks
}

/// The gapless parts of a block that the device refused: unused registers in between may be illegal.
#[must_use]
pub fn parts(profile: &Profile, block: &Block) -> Vec<Block> {
    let points = |i: &usize| profile.points[*i].clone();
    let inside = Profile {
        points: block.points.iter().map(points).collect(),
        max_gap: 0,
        ..profile.clone()
    };
    let outside = |part: Block| Block {
        points: part.points.iter().map(|&i| block.points[i]).collect(),
        ..part
    };
    compile(&inside).into_iter().map(outside).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::read_profile;

    fn profile(points: &[(&str, u16, &str)], max_gap: u16, max_registers: u16) -> Profile {
        let point = |(table, address, more): &(&str, u16, &str)| {
            format!("{{quantity='error_code', table='{table}', address={address}, {more}}}")
        };
        let head = "id='p'\nkind='sunspec_meter'\nname='p'\nsource='test'\nconfidence='documented'";
        let points: Vec<String> = points.iter().map(point).collect();
        let text = format!(
            "{head}\nmax_gap={max_gap}\nmax_registers={max_registers}\npoints=[{}]",
            points.join(",")
        );
        let mut faults = Vec::new();
        read_profile(&text, &mut faults).unwrap_or_else(|| panic!("{faults:?}"))
    }

    #[test]
    fn values_join_within_gap_length_and_table() {
        let (f32, f64) = ("type='f32'", "type='f64'");
        let points = [
            ("holding", 10, f32),
            ("holding", 0, f32),
            ("input", 2, "type='u16'"),
            ("holding", 4, f64),
        ];
        let spans = |gap, most| -> Vec<(u16, u16)> {
            compile(&profile(&points, gap, most)).iter().map(|b| (b.first, b.count)).collect()
        };
        assert_eq!(spans(2, 100), [(0, 12), (2, 1)]);
        assert_eq!(spans(0, 100), [(0, 2), (4, 4), (10, 2), (2, 1)]);
        assert_eq!(spans(2, 8), [(0, 8), (10, 2), (2, 1)]);
    }

    #[test]
    fn a_value_and_its_scale_are_never_parted() {
        let points = [
            ("holding", 0, "type='u16'"),
            ("holding", 1, "type='i16', scale_at=9"),
            ("holding", 20, "type='i16', scale_at=11"),
        ];
        let blocks = compile(&profile(&points, 0, 10));
        let spans: Vec<(u16, u16)> = blocks.iter().map(|b| (b.first, b.count)).collect();
        assert_eq!(spans, [(0, 10), (11, 10)]);
        assert_eq!(blocks[0].points, [0, 1]);
    }

    #[test]
    fn a_refused_block_falls_apart_where_it_bridges_a_gap() {
        let (f32, u16) = ("type='f32'", "type='u16'");
        let places = [(0, f32), (2, u16), (8, u16), (20, u16)];
        let points = places.map(|(address, form)| ("holding", address, form));
        let profile = profile(&points, 20, 100);
        let whole = compile(&profile);
        assert_eq!(whole.len(), 1);
        let parts: Vec<_> = (parts(&profile, &whole[0]).into_iter())
            .map(|part| (part.first, part.count, part.points))
            .collect();
        assert_eq!(parts, [(0, 3, vec![0, 1]), (8, 1, vec![2]), (20, 1, vec![3])]);
    }

    #[test]
    fn every_point_is_in_exactly_one_block() {
        let points: Vec<_> = (0..50).map(|i| ("holding", i * 7, "type='f32'")).collect();
        let blocks = compile(&profile(&points, 5, 30));
        let mut seen: Vec<usize> = blocks.iter().flat_map(|b| b.points.clone()).collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..50).collect::<Vec<_>>());
        assert!(blocks.iter().all(|b| b.count <= 30));
    }
}
