//! How well registers fit a profile: a score for the profile as it is and for each other byte order and
//! start of the addresses. Pure.
//!
//! What a stranger gets wrong: a range alone does not find a wrong order. A float read the wrong way is
//! often not huge but tiny (10^-38), which every range holds; so values are also held against each other:
//! voltages against the grid, phases against their total, power against volts times amperes.

use std::collections::BTreeMap;

use super::blocks::Block;
use super::codec::Raw;
use super::decoder;
use crate::config::{Order, Point, Profile, ValueType};

/// A float that is not 0 and smaller than this was read the wrong way.
const LEAST_FLOAT: f64 = 1e-9;

/// One way to read the device.
#[derive(Clone, Debug, PartialEq)]
pub struct Hypothesis {
    /// Byte order of all values.
    pub order: Order,
    /// What is added to every address.
    pub shift: i32,
    /// Checks that held.
    pub held: u32,
    /// All checks.
    pub checks: u32,
    /// Quantities that make no sense.
    pub wrong: Vec<String>,
}

impl Hypothesis {
    /// Share of the checks that held, 0 to 1.
    #[must_use]
    pub fn share(&self) -> f64 {
        f64::from(self.held) / f64::from(self.checks.max(1))
    }
}

/// What came of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// The profile as it is.
    pub as_written: Hypothesis,
    /// A way that fits better, where there is one.
    pub better: Option<Hypothesis>,
}

impl Verdict {
    /// Whether the profile fits as it is.
    #[must_use]
    pub fn fits(&self) -> bool {
        self.as_written.wrong.is_empty() && self.as_written.checks > 0
    }
}

/// Holds the answers against the profile, read in another order. Answers are of blocks as they stand in
/// the profile, whatever address they came from; nothing where the device refused.
#[must_use]
pub fn score(
    profile: &Profile,
    answers: &[(Block, Option<Vec<u16>>)],
    (order, shift): (Order, i32),
) -> Hypothesis {
    let mut hypothesis = Hypothesis { order, shift, held: 0, checks: 0, wrong: Vec::new() };
    let mut values: BTreeMap<&str, f64> = BTreeMap::new();
    for (block, words) in answers {
        for &i in &block.points {
            let Some(point) = profile.points.get(i) else {
                continue;
            };
            let words = words.as_deref();
            match words.map(|words| read(profile, point, (block.first, words), order)) {
                Some(Ok(Some(value))) => {
                    hypothesis.check(true, &point.quantity);
                    *values.entry(&point.quantity).or_insert(0.0) += value;
                }
                // "Not available" speaks neither for nor against.
                Some(Ok(None)) => {}
                Some(Err(())) | None => hypothesis.check(false, &point.quantity),
            }
        }
    }
    against_each_other(&values, &mut hypothesis);
    hypothesis.wrong.dedup();
    hypothesis
}

impl Hypothesis {
    fn check(&mut self, holds: bool, quantity: &str) {
        self.checks += 1;
        self.held += u32::from(holds);
        if !holds {
            self.wrong.push(quantity.to_owned());
        }
    }
}

/// One value in another order; an error where it makes no sense by itself.
fn read(
    profile: &Profile,
    point: &Point,
    (first, words): (u16, &[u16]),
    order: Order,
) -> Result<Option<f64>, ()> {
    // What a point says of itself stays relative to the profile: only the profile's order is in doubt.
    let order = if point.order == profile.order { order } else { point.order };
    let other = Point { order, ..point.clone() };
    match decoder::value(&other, first, words) {
        Ok(Some(Raw::Text(text))) if profile.states.contains_key(&text) => Ok(None),
        Ok(Some(Raw::Text(_))) | Err(_) => Err(()),
        Ok(None) => Ok(None),
        Ok(Some(Raw::Number(value))) => {
            let float = matches!(point.value_type, ValueType::F32 | ValueType::F64);
            let tiny = float && value != 0.0 && value.abs() < LEAST_FLOAT;
            let state = point.quantity == "state";
            let unknown = state && !profile.states.contains_key(&format!("{value}"));
            if tiny || unknown { Err(()) } else { Ok(Some(value)) }
        }
    }
}

/// Voltages and frequency of a grid, phases that make up their total, power that volts and amperes carry.
fn against_each_other(values: &BTreeMap<&str, f64>, hypothesis: &mut Hypothesis) {
    let get = |name: &str| values.get(name).copied();
    for phase in ["l1", "l2", "l3"] {
        let voltage = get(&format!("voltage_{phase}_v"));
        if let Some(volts) = voltage {
            // 0: the phase is not connected.
            let plausible = volts == 0.0 || (80.0..=300.0).contains(&volts);
            hypothesis.check(plausible, &format!("voltage_{phase}_v"));
        }
        let power = get(&format!("power_{phase}_w"));
        if let (Some(volts), Some(amps), Some(watts)) =
            (voltage, get(&format!("current_{phase}_a")), power)
        {
            let most = volts.abs() * amps.abs() * 1.1 + 50.0;
            hypothesis.check(watts.abs() <= most, &format!("power_{phase}_w"));
        }
    }
    if let Some(hertz) = get("frequency_hz") {
        hypothesis.check((45.0..=65.0).contains(&hertz), "frequency_hz");
    }
    let phases = ["power_l1_w", "power_l2_w", "power_l3_w"].map(get);
    if let ([Some(l1), Some(l2), Some(l3)], Some(total)) = (phases, get("power_w")) {
        let scale = [l1, l2, l3].into_iter().fold(total.abs(), |most, each| most.max(each.abs()));
        hypothesis.check((l1 + l2 + l3 - total).abs() <= 0.05 * scale + 100.0, "power_w");
    }
}

/// The profile as it is, and the best other way if it fits better. What differs in one thing only comes
/// before what differs in two.
#[must_use]
pub fn judge(profile: &Profile, tried: Vec<Hypothesis>) -> Verdict {
    let own = |h: &&Hypothesis| h.order == profile.order && h.shift == 0;
    let nothing =
        Hypothesis { order: profile.order, shift: 0, held: 0, checks: 0, wrong: Vec::new() };
    let as_written = tried.iter().find(own).cloned().unwrap_or(nothing);
    let changes = |h: &Hypothesis| u8::from(h.order != profile.order) + u8::from(h.shift != 0);
    let better = tried
        .into_iter()
        .filter(|h| h.share() > as_written.share())
        .max_by(|a, b| a.share().total_cmp(&b.share()).then(changes(b).cmp(&changes(a))));
    Verdict { as_written, better }
}

#[cfg(test)]
mod tests {
    use super::super::{blocks, codec};
    use super::*;
    use crate::config::builtin_profiles;

    /// Answers of a meter whose real order is `real` and whose registers lie `shift` further on.
    fn answers(profile: &Profile, real: Order) -> Vec<(Block, Option<Vec<u16>>)> {
        let value = |quantity: &str| match quantity {
            name if name.starts_with("voltage") => 230.5,
            name if name.starts_with("current") => 10.25,
            name if name.starts_with("power_l") => 2_300.75,
            "power_w" => 6_902.25,
            "frequency_hz" => 50.02,
            _ => 1_234_567.0,
        };
        let answer = |block: Block| {
            let mut words = vec![0; usize::from(block.count)];
            for &i in &block.points {
                let point = &profile.points[i];
                let raw = value(&point.quantity) / point.scale;
                let at = usize::from(point.address - block.first);
                let own = codec::encode(raw, point.value_type, real);
                words[at..at + own.len()].copy_from_slice(&own);
            }
            (block, Some(words))
        };
        blocks::compile(profile).into_iter().map(answer).collect()
    }

    fn tried(profile: &Profile, real: Order) -> Verdict {
        let answers = answers(profile, real);
        let score = |(_, order)| score(profile, &answers, (order, 0));
        judge(profile, Order::ALL.into_iter().map(score).collect())
    }

    #[test]
    fn the_right_order_is_found_whatever_the_profile_says() {
        let profiles = builtin_profiles();
        for id in ["eastron-sdm630", "carlo-gavazzi-em24", "abb-b23", "solaredge-se-mtr"] {
            let profile = &profiles[id];
            assert!(tried(profile, profile.order).fits(), "{id}");
            for (name, real) in Order::ALL {
                let verdict = tried(profile, real);
                if real == profile.order {
                    assert_eq!(verdict.better, None, "{id}");
                } else {
                    assert!(!verdict.fits(), "{id} {name}");
                    assert_eq!(verdict.better.map(|h| h.order), Some(real), "{id} {name}");
                }
            }
        }
    }

    #[test]
    fn a_refused_block_counts_against_it() {
        let profiles = builtin_profiles();
        let profile = &profiles["eastron-sdm630"];
        let mut answers = answers(profile, profile.order);
        answers[0].1 = None;
        let verdict = judge(profile, vec![score(profile, &answers, (profile.order, 0))]);
        assert!(!verdict.fits());
        assert!(verdict.as_written.wrong.contains(&"voltage_l1_v".to_owned()));
    }
}
