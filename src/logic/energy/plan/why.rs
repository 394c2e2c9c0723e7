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
    /// The steps between which that is so: the first, and the one after the last.
    pub steps: (usize, usize),
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
    let lacks = |(load, short): (&'_ Load, &f64)| (load.member, short + load.beyond);
    let lacking = site.loads.iter().zip(site.loads.iter().zip(short).map(lacks));
    lacking
        .filter(|(_, (_, short))| *short > WORTH_KWH)
        .map(|(load, (member, short_kwh))| {
            let (limit, steps) = limit(site, fluid, load);
            Bottleneck { member, short_kwh, limit, steps }
        })
        .collect()
}

fn limit(site: &Sound, fluid: &Answer, load: &Load) -> (Limit, (usize, usize)) {
    let stay = (load.from, load.to);
    if !load.servable {
        return (if load.max_kw > 0.0 { Limit::LeastPower } else { Limit::Stay }, stay);
    }
    if load.beyond > WORTH_KWH {
        return (Limit::Stay, stay);
    }
    let steps = site.steps;
    let tight_in = |tight: &dyn Fn(usize) -> bool| {
        let all: Vec<usize> = (load.from..load.to).filter(|t| tight(*t)).collect();
        let span = all.first().zip(all.last()).map_or(stay, |(first, last)| (*first, last + 1));
        (all.len(), span)
    };
    let priced = |prices: &[f64], k: usize| prices.get(k).is_some_and(|price| price.abs() > 1e-6);
    let (mut worst, mut span) = tight_in(&|t| fluid.tight_import(site, t));
    let mut limit = if worst > 0 { Limit::Import { steps: worst } } else { Limit::LeastPower };
    for phase in (0..3).filter(|p| load.phases[*p]) {
        let (found, at) = tight_in(&|t| priced(&fluid.phase_price, phase * steps + t));
        if found > worst {
            (worst, span, limit) = (found, at, Limit::Phase { phase, steps: found });
        }
    }
    for group in &load.groups {
        let (found, at) = tight_in(&|t| priced(&fluid.group_price, group * steps + t));
        if found > worst {
            (worst, span, limit) = (found, at, Limit::Group { group: *group, steps: found });
        }
    }
    (limit, span)
}
