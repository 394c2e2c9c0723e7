//! Which registers are read together. Neighbouring values of one table join into one read as long as
//! the gap between them and the length of the read stay within what the device allows; a value is
//! never split over two reads.
//!
//! What a stranger gets wrong: values of different periods are planned apart, the fastest first, so that slow
//! ones never make the fast reads more or longer than needed for a request less. A slow value that fits into
//! a faster read goes with it: it costs no request.

use std::time::Duration;

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
    /// How often it is read: the shortest period of its values.
    pub period: Duration,
}

impl Block {
    /// Takes a value in, if the read stays within what the device allows.
    fn takes(&mut self, i: usize, profile: &Profile) -> bool {
        let point = &profile.points[i];
        let (first, count) = point.span();
        let (own, other) = (u32::from(self.first), u32::from(first));
        let (own_end, other_end) = (own + u32::from(self.count), other + u32::from(count));
        let gap = u32::from(profile.max_gap);
        let near = other <= own_end + gap && own <= other_end + gap;
        let length = own_end.max(other_end) - own.min(other);
        if self.table != point.table || !near || length > u32::from(profile.max_registers) {
            return false;
        }
        self.first = self.first.min(first);
        self.count = u16::try_from(length).unwrap_or(u16::MAX);
        self.points.push(i);
        true
    }
}

/// Compiles the reads of a profile, those of the shortest period first. A value and its scale register count
/// as one piece.
#[must_use]
pub fn compile(profile: &Profile) -> Vec<Block> {
    let mut order: Vec<usize> = (0..profile.points.len()).collect();
    order.sort_by_key(|&i| {
        let point = &profile.points[i];
        (point.period(), point.table, point.span())
    });
    let mut blocks: Vec<Block> = Vec::new();
    for group in order.chunk_by(|&a, &b| profile.points[a].period() == profile.points[b].period()) {
        let faster = blocks.len();
        for &i in group {
            // Of its own group only the last read can still grow: the values come in order.
            let last = blocks.len().saturating_sub(1).max(faster);
            let mut open = (0..faster).chain(last..blocks.len());
            if open.any(|at| blocks[at].takes(i, profile)) {
                continue;
            }
            let point = &profile.points[i];
            let (first, count) = point.span();
            let (table, points, period) = (point.table, vec![i], point.period());
            blocks.push(Block { table, first, count, points, period });
        }
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
    fn slow_values_go_with_faster_reads_where_that_costs_no_request() {
        let (fast, slow) = ("type='u16', period_s=1", "type='u16', period_s=30");
        let points = [
            ("holding", 0, slow),
            ("holding", 50, fast),
            ("holding", 120, fast),
            ("holding", 130, slow),
            ("holding", 300, slow),
            ("holding", 310, "type='u16', period_s=5"),
            ("input", 50, slow),
        ];
        let blocks = compile(&profile(&points, 100, 100));
        let told: Vec<_> = blocks
            .iter()
            .map(|b| (b.first, b.count, b.points.clone(), b.period.as_secs()))
            .collect();
        // All together would have been 0..99 and 120..: two fast reads instead of one.
        let expected = [
            (50, 81, vec![1, 2, 3], 1),
            (300, 11, vec![5, 4], 5),
            (0, 1, vec![0], 30),
            (50, 1, vec![6], 30),
        ];
        assert_eq!(told, expected);
    }

    /// The fewest reads that hold all values, by trying for every value where its read may begin.
    fn fewest(profile: &Profile) -> usize {
        let mut spans: Vec<(u32, u32)> =
            profile.points.iter().map(|p| p.span()).map(|(f, c)| (f.into(), c.into())).collect();
        spans.sort_unstable();
        let mut best = vec![0; spans.len() + 1];
        for begin in (0..spans.len()).rev() {
            let (first, count) = spans[begin];
            let (mut end, mut least) = (first + count, 1 + best[begin + 1]);
            for next in begin + 1..spans.len() {
                let (other, count) = spans[next];
                if other > end + u32::from(profile.max_gap) {
                    break;
                }
                end = end.max(other + count);
                if end - first > u32::from(profile.max_registers) {
                    break;
                }
                least = least.min(1 + best[next + 1]);
            }
            best[begin] = least;
        }
        best[0]
    }

    #[test]
    fn two_hundred_values_take_the_fewest_reads_that_the_limits_allow() {
        let mut rng = fastrand::Rng::with_seed(4);
        let forms = ["type='u16'", "type='f32'", "type='u64'"];
        let (mut all, mut least) = (0, 0);
        for round in 0..200 {
            let mut address = 0;
            let points: Vec<(&str, u16, &str)> = (0..200)
                .map(|_| {
                    let form = rng.usize(0..forms.len());
                    let here = address;
                    address += [1, 2, 4][form] + rng.u16(0..4) * rng.u16(0..6);
                    ("holding", here, forms[form])
                })
                .collect();
            let profile = profile(&points, rng.u16(0..20), rng.u16(8..=125));
            let (planned, fewest) = (compile(&profile).len(), fewest(&profile));
            assert_eq!(planned, fewest, "seed 4, round {round}");
            (all, least) = (all + planned, least + fewest);
        }
        println!("200 devices of 200 values: {all} reads planned, {least} are possible");
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
