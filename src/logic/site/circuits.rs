//! Circuits below the grid connection: a tree of limits, and where in it each device hangs.
//!
//! What a stranger gets wrong: a circuit has no meter. Its limit bounds what its members are granted
//! together, with its largest base load always set aside; the grid connection alone is measured.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Id, Site};
use crate::units::{Amps, PerPhase, Phase, Watts};

/// A part of the wiring with a limit of its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Circuit {
    /// Its id.
    pub id: Id,
    /// What people call it.
    pub name: String,
    /// The circuit that feeds it; nothing: the grid connection does.
    pub parent: Option<Id>,
    /// Largest current of each phase, if it has such a limit.
    pub limit: Option<PerPhase<Amps>>,
    /// Largest power of all phases together, if it has such a limit.
    pub power: Option<Watts>,
    /// Largest current of each phase that uncontrolled loads on it take.
    pub base_load: Amps,
    /// Chargers and compute nodes that hang on it directly.
    pub members: Vec<Id>,
}

/// Who comes first, and who gets how much of what is shared.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Right {
    /// 0 to 9; a higher one gets its minimum current first and is paused last.
    pub priority: u8,
    /// 0.1 to 10; current above the minimum is shared in proportion to it.
    pub weight: f64,
}

impl Default for Right {
    fn default() -> Right {
        Right { priority: 0, weight: 1.0 }
    }
}

/// Which line of a limit is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// The current of a phase.
    Phase(Phase),
    /// The power of all phases.
    Power,
    /// A phase may not carry more beyond the others (unbalanced load).
    Unbalance(Phase),
}

impl std::fmt::Display for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Line::Phase(phase) | Line::Unbalance(phase) => phase.fmt(f),
            Line::Power => f.write_str("W"),
        }
    }
}

/// Which nodes of the tree feed each device. Node 0 is the grid connection, node n + 1 the circuit n.
#[derive(Clone, Debug, Default)]
pub struct Feeders {
    chains: BTreeMap<Id, Vec<usize>>,
}

/// Everything hangs on the grid connection.
const GRID: [usize; 1] = [0];

impl Feeders {
    /// The chains of a site whose circuits name existing parents and do not go round in circles.
    #[must_use]
    pub fn of(site: &Site) -> Feeders {
        let place = |id: &Id| site.circuits.iter().position(|circuit| circuit.id == *id);
        let mut chains = BTreeMap::new();
        for (i, circuit) in site.circuits.iter().enumerate() {
            let mut chain = vec![i + 1];
            let mut parent = circuit.parent.as_ref().and_then(place);
            while let Some(above) = parent.filter(|above| !chain.contains(&(above + 1))) {
                chain.push(above + 1);
                parent = site.circuits[above].parent.as_ref().and_then(place);
            }
            chain.push(0);
            chains.extend(circuit.members.iter().map(|member| (member.clone(), chain.clone())));
        }
        Feeders { chains }
    }

    /// The nodes that feed a device, from its own circuit up to the grid connection.
    #[must_use]
    pub fn chain(&self, device: &Id) -> &[usize] {
        self.chains.get(device).map_or(&GRID, Vec::as_slice)
    }
}
