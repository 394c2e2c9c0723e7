//! Compute nodes in the same limits as everything else: what chargers leave of each phase, throttled
//! before any charger has to stop.

use super::Controller;
use super::batteries::Left;
use crate::logic::compute::{self, CapRamp};
use crate::logic::energy::Room;
use crate::logic::site::{Compute, ComputeReading, Id, Known, Reading, Reason, Setpoints};
use crate::units::{Amps, Moment, PerPhase, Phase, Volts, Watts};

impl Controller {
    /// Caps for all nodes; `left` is what the chargers leave of each room, nothing where no meter can be
    /// trusted.
    pub(super) fn wish_computes(
        &mut self,
        now: Moment,
        left: Option<&mut Left>,
        wishes: &mut Setpoints,
    ) {
        let meter = self.meter(now);
        let meter_fresh = meter.fresh().is_some() && self.meter_is_sure();
        let starting = matches!(meter, Known::Never);
        let mut left = left.map(|left| &mut left.rooms);
        for node in self.site.computes.clone() {
            let known = self.compute(&node.id, now);
            let lost = known.usable().is_none();
            let fresh = known.fresh().is_some();
            let ramp = self.caps.entry(node.id.clone()).or_default();
            let (cap, reason) = match &mut left {
                None => {
                    let safe = ramp.last().map_or(node.failsafe, |last| last.min(node.failsafe));
                    (safe, if starting { Reason::Starting } else { Reason::MeterLost })
                }
                Some(_) if lost => {
                    let safe = ramp.last().map_or(node.failsafe, |last| last.min(node.failsafe));
                    (safe, Reason::DeviceLost)
                }
                Some(left) => {
                    let may_raise = meter_fresh && fresh && self.armed;
                    let nominal = self.site.limits.nominal_voltage;
                    let chain = self.feeders.chain(&node.id);
                    let before = tightest(left, chain, (&node, nominal));
                    let mut after = before;
                    // A node that jobs run on gets what they wish, not all that is left.
                    let wished = self.jobs.wished_of(&self.site.work, &node.id);
                    let most = wished.map_or(node.max, |jobs| (node.min + jobs).min(node.max));
                    let asked = Compute { max: most, ..node.clone() };
                    let (allowed, phase) = compute::allowed(&mut after, &asked, nominal);
                    let taken = PerPhase::from_fn(|p| before.on(p) - after.on(p));
                    for &at in chain {
                        left[at].take(taken, nominal, node.phases.len() < 3);
                    }
                    let (cap, ramping) = ramp.step(now, &node, allowed, may_raise);
                    let bound = phase.map(|phase| Reason::GridLimit { phase });
                    let why = if !self.armed {
                        Reason::Starting
                    } else if !meter_fresh {
                        Reason::MeterStale
                    } else {
                        ramping.or(bound).unwrap_or(match wished {
                            Some(_) => Reason::Jobs,
                            None => Reason::DeviceMaximum,
                        })
                    };
                    (cap, why)
                }
            };
            if ramp.last() != Some(cap) {
                ramp.force(cap);
            }
            wishes.computes.insert(node.id, (cap, reason));
        }
    }

    /// What each node takes of the circuits that feed it beside its cap's share: its idle power, what it
    /// draws beyond what it would obey to, all it may come to draw where it does not answer.
    pub(super) fn nodes_take(&self, now: Moment) -> Vec<(&Compute, PerPhase<Amps>)> {
        let nominal = self.site.limits.nominal_voltage;
        let take = |node| {
            let nodes = std::slice::from_ref(node);
            let (shed, reserved) = (self.shed_by(nodes, now), self.reserved_by(nodes, now));
            let power = self.compute(&node.id, now).usable().map(|reading| reading.power);
            let drawn = spread(nodes, |node| power.unwrap_or(Watts::ZERO).max(node.min));
            let taken = |p| (drawn.on(p) - shed.on(p)).max(reserved.on(p)) / nominal;
            (node, PerPhase::from_fn(taken))
        };
        self.site.computes.iter().map(take).collect()
    }

    pub(super) fn compute(&self, id: &Id, now: Moment) -> Known<&ComputeReading> {
        self.snapshot.at(id, now).and_then(|reading| match reading {
            Reading::Compute(compute) => Some(compute),
            _ => None,
        })
    }

    /// What could be shed of each phase: what nodes draw beyond their idle power, as far as they obey.
    pub(super) fn sheddable(&self, now: Moment) -> PerPhase<Watts> {
        self.shed_by(&self.site.computes, now)
    }

    fn shed_by(&self, nodes: &[Compute], now: Moment) -> PerPhase<Watts> {
        let taken = |node: &Compute| {
            let power = self.compute(&node.id, now).usable().map_or(Watts::ZERO, |r| r.power);
            let obeyed = self.caps.get(&node.id).map_or(Watts::ZERO, |ramp| ramp.obeyed(now));
            (power.min(obeyed) - node.min).max(Watts::ZERO)
        };
        spread(nodes, taken)
    }

    /// What nodes that do not answer may come to draw: nobody else may have it.
    pub(super) fn reserved_for_nodes(&self, now: Moment) -> PerPhase<Watts> {
        self.reserved_by(&self.site.computes, now)
    }

    fn reserved_by(&self, nodes: &[Compute], now: Moment) -> PerPhase<Watts> {
        let reserved = |node: &Compute| {
            let last = self.caps.get(&node.id).and_then(CapRamp::last).unwrap_or(Watts::ZERO);
            let lost = self.compute(&node.id, now).usable().is_none();
            if lost { node.failsafe.max(last) } else { Watts::ZERO }
        };
        spread(nodes, reserved)
    }

    /// Whether what the nodes draw is known well enough to raise anything on it.
    pub(super) fn nodes_known(&self, now: Moment) -> bool {
        let known = |node: &Compute| {
            let reading = self.compute(&node.id, now);
            reading.fresh().is_some() || reading.usable().is_none()
        };
        self.site.computes.iter().all(known)
    }
}

/// What is left of each phase in the tightest of the rooms that feed a node; it loads its phases alike.
pub(super) fn tightest(
    rooms: &[Room],
    chain: &[usize],
    (node, nominal): (&Compute, Volts),
) -> PerPhase<Amps> {
    let mut least = Room::UNBOUND.amps;
    for room in chain.iter().filter_map(|at| rooms.get(*at)) {
        let by_power = room.power / nominal * (1.0 / node.phases.len().max(1) as f64);
        let alike = node.phases.len() >= Phase::ALL.len();
        let of =
            |p| if alike { room.amps.on(p) } else { room.amps.on(p).min(room.unbalanced.on(p)) };
        least = PerPhase::from_fn(|p| least.on(p).min(of(p)).min(by_power));
    }
    least
}

/// Power of each phase.
fn spread(nodes: &[Compute], power: impl Fn(&Compute) -> Watts) -> PerPhase<Watts> {
    let mut sum = PerPhase::default();
    for node in nodes {
        let share = power(node) * (1.0 / node.phases.len().max(1) as f64);
        for &phase in &node.phases {
            sum.set(phase, sum.on(phase) + share);
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::site::Id;

    #[test]
    fn a_node_on_one_phase_keeps_the_unbalanced_limit_and_one_on_three_does_not_feel_it() {
        let node = |phases: &[Phase]| Compute {
            id: Id::try_from("node").unwrap(),
            name: "node".into(),
            phases: phases.to_vec(),
            min: Watts(100.0),
            max: Watts(9000.0),
            failsafe: Watts(500.0),
            step: Watts(1.0),
        };
        let room = Room {
            amps: PerPhase::all(Amps(30.0)),
            power: Watts(6900.0),
            unbalanced: PerPhase([Amps(5.0), Amps(12.0), Amps(50.0)]),
        };
        let of = |node: &Compute| tightest(&[room], &[0], (node, Volts(230.0)));
        assert_eq!(of(&node(&[Phase::L1])), PerPhase([Amps(5.0), Amps(12.0), Amps(30.0)]));
        assert_eq!(of(&node(&Phase::ALL)), PerPhase::all(Amps(10.0)));
    }
}
