//! How much each step still bears: on the grid's side, on each phase, on each circuit. Owns no choice;
//! the schedule's makers ask before they add.

use super::sieve::{Load, Sound};

/// Room left in every step, kW.
#[derive(Clone, Debug)]
pub struct Rooms {
    steps: usize,
    site: Vec<f64>,
    phase: Option<Vec<f64>>,
    group: Vec<f64>,
}

impl Rooms {
    /// Room beside base load, sun and battery; `slack` is subtracted everywhere, kW.
    pub fn new(site: &Sound, store: &[f64], curtail: &[f64], slack: f64) -> Rooms {
        let steps = site.steps;
        let beside = |t: usize| site.pv[t] - curtail[t] - store[t];
        let of_phase = |limit: f64| {
            let one = |k: usize| {
                let (phase, t) = (k / steps, k % steps);
                limit - site.share[phase] * site.base[t] + beside(t) / 3.0 - slack
            };
            (0..3 * steps).map(one).collect()
        };
        Rooms {
            steps,
            site: (0..steps).map(|t| site.import[t] - site.base[t] + beside(t) - slack).collect(),
            phase: site.phase.map(of_phase),
            group: (0..steps * site.groups.len()).map(|k| site.groups[k / steps] - slack).collect(),
        }
    }

    /// What `load` may take more in step `t`, kW; may be negative.
    pub fn of(&self, load: &Load, t: usize) -> f64 {
        let mut room = self.site[t];
        if let Some(phases) = &self.phase {
            for phase in (0..3).filter(|p| load.phases[*p]) {
                room = room.min(phases[phase * self.steps + t] / load.share);
            }
        }
        load.groups.iter().fold(room, |room, group| room.min(self.group[group * self.steps + t]))
    }

    /// `load` takes so much more in each step of its window, kW.
    pub fn take_all(&mut self, load: &Load, kw: &[f64]) {
        kw.iter().enumerate().for_each(|(k, kw)| self.take(load, load.from + k, *kw));
    }

    /// `load` takes `kw` more (or less) in step `t`.
    pub fn take(&mut self, load: &Load, t: usize, kw: f64) {
        self.site[t] -= kw;
        if let Some(phases) = &mut self.phase {
            for phase in (0..3).filter(|p| load.phases[*p]) {
                phases[phase * self.steps + t] -= kw * load.share;
            }
        }
        load.groups.iter().for_each(|group| self.group[group * self.steps + t] -= kw);
    }
}
