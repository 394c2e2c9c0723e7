//! Compute nodes in the same limits as everything else: what chargers leave of each phase, throttled
//! before any charger has to stop.

use super::{Controller, FRESH_SAMPLES};
use crate::logic::compute::{self, CapRamp};
use crate::logic::site::{Compute, ComputeReading, Id, Known, Reading, Reason, Setpoints};
use crate::units::{Amps, Moment, PerPhase, Watts};

impl Controller {
    /// Caps for all nodes; `left` is what the chargers leave, nothing where no meter can be trusted.
    pub(super) fn wish_computes(
        &mut self,
        now: Moment,
        left: Option<PerPhase<Amps>>,
        wishes: &mut Setpoints,
    ) {
        let meter = self.meter(now);
        let meter_fresh =
            meter.fresh().is_some() && self.snapshot.in_row(&self.site.meter) >= FRESH_SAMPLES;
        let starting = matches!(meter, Known::Never);
        let mut left = left;
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
                    let (allowed, phase) = compute::allowed(left, &node, nominal);
                    let (cap, ramping) = ramp.step(now, &node, allowed, may_raise);
                    let bound = phase.map(|phase| Reason::GridLimit { phase });
                    let why = if !self.armed {
                        Reason::Starting
                    } else if !meter_fresh {
                        Reason::MeterStale
                    } else {
                        ramping.or(bound).unwrap_or(Reason::DeviceMaximum)
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

    pub(super) fn compute(&self, id: &Id, now: Moment) -> Known<&ComputeReading> {
        self.snapshot.at(id, now).and_then(|reading| match reading {
            Reading::Compute(compute) => Some(compute),
            _ => None,
        })
    }

    /// What could be shed of each phase: what nodes draw beyond their idle power, as far as they obey.
    pub(super) fn sheddable(&self, now: Moment) -> PerPhase<Watts> {
        let taken = |node: &Compute| {
            let power = self.compute(&node.id, now).usable().map_or(Watts::ZERO, |r| r.power);
            let obeyed = self.caps.get(&node.id).map_or(Watts::ZERO, |ramp| ramp.obeyed(now));
            (power.min(obeyed) - node.min).max(Watts::ZERO)
        };
        spread(&self.site.computes, taken)
    }

    /// What nodes that do not answer may come to draw: nobody else may have it.
    pub(super) fn reserved_for_nodes(&self, now: Moment) -> PerPhase<Watts> {
        let reserved = |node: &Compute| {
            let last = self.caps.get(&node.id).and_then(CapRamp::last).unwrap_or(Watts::ZERO);
            let lost = self.compute(&node.id, now).usable().is_none();
            if lost { node.failsafe.max(last) } else { Watts::ZERO }
        };
        spread(&self.site.computes, reserved)
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
