//! The power cap of a compute node: what the chargers leave of each phase, down at once, up slowly.
//!
//! What a stranger gets wrong: a cap is not a power. A node that idles under a high cap may use all of it
//! in the next second, so what was granted is gone for the others.

use std::time::Duration;

use crate::logic::site::{Compute, Reason};
use crate::units::{Amps, Moment, PerPhase, Phase, Volts, Watts};

/// Largest raise in [`RAISE_EVERY`], as a share of what can be capped (as for chargers).
const RAISE_SHARE: f64 = 0.25;
const RAISE_EVERY: Duration = Duration::from_secs(10);
/// A node that obeys has come down to a lower cap within this.
const COMES_DOWN_IN: Duration = Duration::from_secs(5);

/// What a node may draw when `left` is what all others leave of each phase beyond its idle power; and the
/// phase that bounds it, where one does. What it gets is taken from `left`.
pub fn allowed(
    left: &mut PerPhase<Amps>,
    node: &Compute,
    nominal: Volts,
) -> (Watts, Option<Phase>) {
    let phases = node.phases.len().max(1) as f64;
    let bound =
        node.phases.iter().copied().min_by(|a, b| left.on(*a).get().total_cmp(&left.on(*b).get()));
    let least = bound.map_or(Amps::ZERO, |phase| left.on(phase)).max(Amps::ZERO);
    let wished = (node.max - node.min).max(Watts::ZERO);
    let more = (least * nominal * phases).min(wished);
    let taken = Amps(more.get() / nominal.get().max(1.0) / phases);
    for &phase in &node.phases {
        left.set(phase, left.on(phase) - taken);
    }
    (node.min + more, bound.filter(|_| more < wished))
}

/// Memory of one node's cap.
#[derive(Clone, Debug, Default)]
pub struct CapRamp {
    last: Option<Watts>,
    raised: Option<Duration>,
    allowed_before: Watts,
    /// The cap before it was lowered, and when that was.
    higher: Option<(Watts, Duration)>,
}

impl CapRamp {
    /// The last cap; nothing before the first decision.
    #[must_use]
    pub fn last(&self) -> Option<Watts> {
        self.last
    }

    /// The most that a node which obeys may draw now: its cap, or the one before while it may still be
    /// coming down. What it draws beyond cannot be shed.
    #[must_use]
    pub fn obeyed(&self, now: Moment) -> Watts {
        let last = self.last.unwrap_or(Watts::ZERO);
        let coming_down = |since: &Duration| now.uptime.saturating_sub(*since) < COMES_DOWN_IN;
        let before = self.higher.filter(|(_, since)| coming_down(since));
        before.map_or(last, |(higher, _)| higher.max(last))
    }

    /// The cap was set by something else than the share.
    pub fn force(&mut self, cap: Watts) {
        self.last = Some(cap);
        self.allowed_before = Watts::ZERO;
    }

    /// From what is allowed now to the cap, with the reason if the ramp binds. A raise needs two samples
    /// that allow it; `may_raise` is false while meter or node is stale.
    pub fn step(
        &mut self,
        now: Moment,
        node: &Compute,
        allowed: Watts,
        may_raise: bool,
    ) -> (Watts, Option<Reason>) {
        let last = self.last.unwrap_or(node.min);
        let both = allowed.min(self.allowed_before);
        self.allowed_before = if may_raise { allowed } else { Watts::ZERO };
        let waited = self.raised.is_none_or(|at| now.uptime.saturating_sub(at) >= RAISE_EVERY);
        let next = if allowed <= last {
            allowed
        } else if may_raise && waited && both > last {
            self.raised = Some(now.uptime);
            both.min(last + (node.max - node.min) * RAISE_SHARE)
        } else {
            last
        };
        if next < last {
            let before = self.obeyed(now);
            self.higher = Some((before, now.uptime));
        }
        self.last = Some(next);
        (next, (next < allowed).then_some(Reason::RampUp))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::site::Id;

    fn node() -> Compute {
        Compute {
            id: Id::try_from("node").unwrap(),
            name: "node".into(),
            phases: Phase::ALL.to_vec(),
            min: Watts(800.0),
            max: Watts(6000.0),
            failsafe: Watts(2000.0),
            step: Watts(10.0),
        }
    }

    fn second(s: u64) -> Moment {
        let utc = chrono::DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        Moment { uptime: Duration::from_secs(1000 + s), utc }
    }

    #[test]
    fn the_fullest_phase_bounds_and_what_is_granted_is_taken() {
        let mut left = PerPhase([Amps(2.0), Amps(5.0), Amps(9.0)]);
        let (watts, phase) = allowed(&mut left, &node(), Volts(230.0));
        assert_eq!((watts, phase), (Watts(800.0 + 2.0 * 690.0), Some(Phase::L1)));
        assert_eq!(left, PerPhase([Amps(0.0), Amps(3.0), Amps(7.0)]));
        let mut none = PerPhase::all(Amps(-3.0));
        assert_eq!(allowed(&mut none, &node(), Volts(230.0)).0, Watts(800.0));
        let mut plenty = PerPhase::all(Amps(50.0));
        assert_eq!(allowed(&mut plenty, &node(), Volts(230.0)), (Watts(6000.0), None));
    }

    #[test]
    fn down_at_once_up_slowly_and_not_on_stale_data() {
        let mut ramp = CapRamp::default();
        let told: Vec<f64> =
            (0..60).map(|s| ramp.step(second(s), &node(), Watts(6000.0), true).0.get()).collect();
        assert_eq!((told[0], told[1]), (800.0, 2100.0));
        for window in told.windows(10) {
            assert!(window[9] - window[0] <= 1300.0, "{told:?}");
        }
        assert_eq!(told[59], 6000.0);
        assert_eq!(ramp.step(second(60), &node(), Watts(900.0), true).0, Watts(900.0));
        assert_eq!(ramp.obeyed(second(62)), Watts(6000.0), "it may still be coming down");
        assert_eq!(ramp.obeyed(second(66)), Watts(900.0));
        for s in 61..100 {
            assert_eq!(ramp.step(second(s), &node(), Watts(6000.0), false).0, Watts(900.0));
        }
    }
}
