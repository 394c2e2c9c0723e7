//! Where the shared rows of the site's programme (`model`) stand. Owns their order, and with it how far the factor's
//! envelope reaches: all rows of a step stand together, one step after the other.
//!
//! What a stranger gets wrong: phases and circuits have a row only where somebody asked for one or a crowd could pass
//! the limit; everywhere else there is `NONE`.

use super::answer::crowded;
use super::program::NONE;
use super::sieve::Sound;

/// Which shared rows are where: step by step, so that the factor's envelope reaches no further than a load stays.
pub struct Rows {
    /// Of the battery's charge; none without a battery.
    pub store: Vec<usize>,
    /// Phase after phase, then circuit after circuit; `NONE` where there is no row.
    pub phase: Vec<usize>,
    pub group: Vec<usize>,
    pub balance: Vec<usize>,
    /// That a step's peak is that of the last step before it that has one; `NONE` where no step has.
    pub link: Vec<usize>,
    pub count: usize,
}

impl Rows {
    /// `peaked` says which steps have a peak.
    pub fn new(site: &Sound, phases: &[bool], peaked: &[bool]) -> Rows {
        let (steps, crowded) = (site.steps, crowded(site));
        let mut rows = Rows {
            store: Vec::new(),
            phase: vec![NONE; phases.len()],
            group: vec![NONE; crowded.len()],
            balance: Vec::with_capacity(steps),
            link: vec![NONE; steps],
            count: 0,
        };
        let mut next = || {
            rows.count += 1;
            rows.count - 1
        };
        let mut before = false;
        for (t, peaked) in peaked.iter().enumerate() {
            if site.store.is_some() {
                rows.store.push(next());
            }
            if *peaked && before {
                rows.link[t] = next();
            }
            before |= peaked;
            for (wanted, row) in [(phases, &mut rows.phase), (&crowded, &mut rows.group)] {
                for k in (t..row.len()).step_by(steps).filter(|k| wanted[*k]) {
                    row[k] = next();
                }
            }
            rows.balance.push(next());
        }
        rows
    }

    /// All of them, in one order.
    pub fn all(&self) -> impl Iterator<Item = &usize> {
        let rows = self.store.iter().chain(&self.phase).chain(&self.group);
        rows.chain(&self.balance).chain(&self.link)
    }
}
