//! Who is short, and the limit in the way: the words for the driver and the owner of the site. Owns no
//! numbers of the plan; it reads the prices of the fluid plan, where a limit without price never binds.

use super::answer::Answer;
use super::problem::Member;
use super::sieve::{Load, Sound};

/// A load that gets less than it asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Bottleneck {
    /// Who.
    pub member: Member,
    /// kWh missing.
    pub short_kwh: f64,
    /// What is in the way most of the time.
    pub limit: Limit,
}

/// What keeps a load from its energy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Its own power and stay.
    Stay,
    /// Its own least power, against so small a need or so little room.
    LeastPower,
    /// The site's import limit, in so many steps of its stay.
    Import {
        /// Steps at the limit.
        steps: usize,
    },
    /// A phase (0 to 2), in so many steps of its stay.
    Phase {
        /// Which.
        phase: usize,
        /// Steps at the limit.
        steps: usize,
    },
    /// A circuit, by its place among the sound circuits, in so many steps of its stay.
    Group {
        /// Which.
        group: usize,
        /// Steps at the limit.
        steps: usize,
    },
}

/// Shortfalls below this are not worth a word, kWh.
const WORTH_KWH: f64 = 0.05;

pub fn bottlenecks(site: &Sound, fluid: &Answer, short: &[f64]) -> Vec<Bottleneck> {
    let lacking = site.loads.iter().zip(short).filter(|(_, short)| **short > WORTH_KWH);
    lacking
        .map(|(load, short)| Bottleneck {
            member: load.member,
            short_kwh: *short,
            limit: limit(site, fluid, load),
        })
        .collect()
}

fn limit(site: &Sound, fluid: &Answer, load: &Load) -> Limit {
    if !load.servable {
        return if load.max_kw > 0.0 { Limit::LeastPower } else { Limit::Stay };
    }
    let most = load.gain * load.max_kw * (load.to - load.from) as f64;
    if load.kwh > most + WORTH_KWH {
        return Limit::Stay;
    }
    let steps = site.steps;
    let count = |tight: &[bool], base: usize| {
        (load.from..load.to).filter(|t| tight.get(base + t).copied().unwrap_or(false)).count()
    };
    let mut worst = (count(&fluid.tight_import, 0), Limit::LeastPower);
    worst.1 = if worst.0 > 0 { Limit::Import { steps: worst.0 } } else { Limit::LeastPower };
    for phase in (0..3).filter(|p| load.phases[*p]) {
        let found = count(&fluid.tight_phase, phase * steps);
        if found > worst.0 {
            worst = (found, Limit::Phase { phase, steps: found });
        }
    }
    for group in &load.groups {
        let found = count(&fluid.tight_group, group * steps);
        if found > worst.0 {
            worst = (found, Limit::Group { group: *group, steps: found });
        }
    }
    worst.1
}
