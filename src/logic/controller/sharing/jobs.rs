//! What of the rooms is kept for jobs on compute nodes: what they wish by the plan, or because their
//! deadline is near, comes after what the plan has promised to cars and before what cars may take beyond.
//!
//! What a stranger gets wrong: nothing here lets a node draw. Chargers only leave it what is kept; the node's
//! own cap is made of what they left, and a node is still throttled before any charger has to stop.

use std::borrow::Cow;

use super::super::computes::tightest;
use super::Controller;
use crate::logic::compute;
use crate::logic::energy::{self, Claim, Room};
use crate::logic::site::Compute;
use crate::units::{Amps, Moment, PerPhase, Volts, Watts};

impl Controller {
    /// The rooms for chargers: all of them, less what is kept for jobs.
    pub(super) fn beside_jobs<'r>(
        &self,
        rooms: &'r [Room],
        nominal: Volts,
        (claims, now): (&[Claim<'_>], Moment),
    ) -> Cow<'r, [Room]> {
        let wished = |node: &Compute| {
            // On one that does not answer nothing can run.
            self.compute(&node.id, now).usable()?;
            Some((node.clone(), self.jobs.wished_of(&self.site.work, &node.id)?))
        };
        let nodes: Vec<(Compute, Watts)> = self.site.computes.iter().filter_map(wished).collect();
        if nodes.iter().all(|(_, wished)| *wished <= Watts::ZERO) {
            return Cow::Borrowed(rooms);
        }
        let mut rest = rooms.to_vec();
        let promised: Vec<Claim<'_>> = claims.iter().map(promised).collect();
        let mut left = rooms.to_vec();
        for (claim, share) in promised.iter().zip(energy::allocate(rooms, nominal, &promised)) {
            let amps = claim.on_grid(share.setpoint.amps().max(claim.reserved));
            for &at in claim.rooms {
                left[at].take(amps, nominal, claim.is_unbalanced());
            }
        }
        for (node, wished) in nodes {
            let chain = self.feeders.chain(&node.id);
            let before = tightest(&left, chain, (&node, nominal));
            let mut after = before;
            let asked = Compute { max: (node.min + wished).min(node.max), ..node.clone() };
            compute::allowed(&mut after, &asked, nominal);
            let kept = PerPhase::from_fn(|p| (before.on(p) - after.on(p)).max(Amps::ZERO));
            for &at in chain {
                left[at].take(kept, nominal, node.phases.len() < 3);
                rest[at].take(kept, nominal, node.phases.len() < 3);
            }
        }
        Cow::Owned(rest)
    }
}

/// A claim without what nobody promised it beyond its minimum.
fn promised<'a>(claim: &Claim<'a>) -> Claim<'a> {
    Claim { most: claim.most.min(claim.promised.max(claim.charger.min)), ..*claim }
}
