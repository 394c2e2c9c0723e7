//! Where the shared rows of the site's programme (`model`) stand. Owns their order, and with it how far the factor's
//! envelope reaches: all rows of a step stand together, one step after the other, or before all of them those that only
//! lead from step to step (the battery's charge, the peak), whichever takes less work.
//!
//! What a stranger gets wrong: a load that stays all day joins all steps whatever their order, but a row that leads to
//! the next step joins only two, and standing first it costs next to nothing. Phases and circuits have a row only where
//! somebody asked for one or a crowd could pass the limit; everywhere else there is `NONE`.

use super::answer::crowded;
use super::program::NONE;
use super::sieve::Sound;

/// Which shared rows are where.
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
    /// `peaked` says which steps have a peak, `free` whether loads may be on in all steps of their stay: those that are
    /// switched reach less far.
    pub fn new(site: &Sound, phases: &[bool], peaked: &[bool], free: bool) -> Rows {
        let (steps, crowded) = (site.steps, crowded(site));
        let mut rows = Rows {
            store: Vec::new(),
            phase: vec![NONE; phases.len()],
            group: vec![NONE; crowded.len()],
            balance: Vec::with_capacity(steps),
            link: vec![NONE; steps],
            count: 0,
        };
        let first = peaked.iter().position(|peaked| *peaked).unwrap_or(steps);
        let linked = |t: usize| peaked[t] && t > first;
        let chains = |t: usize| usize::from(site.store.is_some()) + usize::from(linked(t));
        let wanted = |rows: &[bool], t: usize| {
            rows.iter().skip(t).step_by(steps).filter(|wanted| **wanted).count()
        };
        let own: Vec<usize> =
            (0..steps).map(|t| 1 + wanted(phases, t) + wanted(&crowded, t)).collect();
        let ahead =
            free && chains_ahead(site, &own, &(0..steps).map(chains).collect::<Vec<usize>>());
        if ahead {
            (0..steps).for_each(|t| rows.chain(site, t, linked(t)));
        }
        for t in 0..steps {
            if !ahead {
                rows.chain(site, t, linked(t));
            }
            for k in (t..phases.len()).step_by(steps).filter(|k| phases[*k]) {
                rows.phase[k] = rows.next();
            }
            for k in (t..crowded.len()).step_by(steps).filter(|k| crowded[*k]) {
                rows.group[k] = rows.next();
            }
            let balance = rows.next();
            rows.balance.push(balance);
        }
        rows
    }

    fn next(&mut self) -> usize {
        self.count += 1;
        self.count - 1
    }

    /// The rows that lead from step `t` to the next.
    fn chain(&mut self, site: &Sound, t: usize, linked: bool) {
        if site.store.is_some() {
            let row = self.next();
            self.store.push(row);
        }
        if linked {
            self.link[t] = self.next();
        }
    }

    /// All of them, in one order.
    pub fn all(&self) -> impl Iterator<Item = &usize> {
        let rows = self.store.iter().chain(&self.phase).chain(&self.group);
        rows.chain(&self.balance).chain(&self.link)
    }
}

/// Whether the rows that lead from step to step had better stand before all others: `own` is how many others each
/// step has, `chains` how many of these. Counts the multiplications of a factor either way, about.
fn chains_ahead(site: &Sound, own: &[usize], chains: &[usize]) -> bool {
    // The first step that a load joins with this one or a later one.
    let mut reach: Vec<usize> = (0..site.steps).collect();
    for load in site.loads.iter().filter(|load| load.servable) {
        reach[load.to - 1] = reach[load.to - 1].min(load.from);
    }
    for t in (1..site.steps).rev() {
        reach[t - 1] = reach[t - 1].min(reach[t]);
    }
    let (mut before, mut places) = (0, vec![0]);
    for (own, chain) in own.iter().zip(chains) {
        before += own + chain;
        places.push(before);
    }
    let mut left: usize = chains.iter().sum();
    let (mut among, mut ahead, mut others) = (0, 0, 0);
    for t in 0..site.steps {
        let width = places[t + 1] - places[reach[t]];
        among += (own[t] + chains[t]) * width * width / 2;
        ahead += own[t] * others * (left + others / 2);
        left -= chains[t];
        others += own[t];
    }
    ahead < among
}
