//! Circuits below the grid connection: a tree of limits, and where in it each device hangs.
//!
//! What a stranger gets wrong: a circuit has no meter. Its limit bounds what its members are granted
//! together, with its largest base load always set aside; the grid connection alone is measured.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Charger, Compute, GridLimits, Id, Site};
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

/// Which nodes of the tree feed each device. Node 0 is the grid connection, node n + 1 the circuit n, and the
/// last one, after all circuits, holds everything that is controlled: a grid operator may bound that.
#[derive(Clone, Debug, Default)]
pub struct Feeders {
    chains: BTreeMap<Id, Vec<usize>>,
    /// Of a device that hangs on no circuit.
    grid: Vec<usize>,
}

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
            chain.extend([0, site.circuits.len() + 1]);
            chains.extend(circuit.members.iter().map(|member| (member.clone(), chain.clone())));
        }
        Feeders { chains, grid: vec![0, site.circuits.len() + 1] }
    }

    /// The nodes that feed a device, from its own circuit up to the grid connection and the whole.
    #[must_use]
    pub fn chain(&self, device: &Id) -> &[usize] {
        self.chains.get(device).unwrap_or(&self.grid)
    }
}

/// A limit that would not hold with every device at its failsafe and the largest base load.
#[derive(Clone, Debug, PartialEq)]
pub struct Overload {
    /// The circuit; nothing: the grid connection.
    pub circuit: Option<Id>,
    /// Its phase.
    pub phase: Phase,
    /// What chargers and compute nodes draw at their failsafe.
    pub devices: Amps,
    /// The largest base load.
    pub base: Amps,
    /// What the breaker, or the circuit's limit, holds.
    pub most: Amps,
}

/// Every phase of the grid connection and of each circuit on which the failsafe sum is too much. The
/// battery's failsafe is rest.
#[must_use]
pub fn overloads(
    limits: &GridLimits,
    circuits: &[Circuit],
    (chargers, computes): (&[Charger], &[Compute]),
) -> Vec<Overload> {
    let mut found = Vec::new();
    let mut check = |circuit: Option<&Circuit>, most: PerPhase<Amps>, base: Amps| {
        let below = |id: &Id| circuit.is_none_or(|top| is_below(id, top, circuits));
        for phase in Phase::ALL {
            let on = |phases: &[Phase], id: &Id| phases.contains(&phase) && below(id);
            let piles = chargers.iter().filter(|c| on(&c.phases, &c.id));
            let piles: Amps = piles.map(Charger::unheard).sum();
            let nodes = computes.iter().filter(|node| on(&node.phases, &node.id));
            let each = |node: &Compute| node.failsafe * (1.0 / node.phases.len().max(1) as f64);
            let nodes: Watts = nodes.map(each).sum();
            let devices = piles + nodes / limits.nominal_voltage;
            if devices + base > most.on(phase) {
                let circuit = circuit.map(|circuit| circuit.id.clone());
                found.push(Overload { circuit, phase, devices, base, most: most.on(phase) });
            }
        }
    };
    check(None, PerPhase::all(limits.breaker), limits.max_base_load);
    for circuit in circuits {
        let by_power = circuit.power.map(|watts| watts / limits.nominal_voltage * (1.0 / 3.0));
        let limit = circuit.limit.unwrap_or(PerPhase::all(Amps(f64::INFINITY)));
        let most = limit.0.map(|amps| amps.min(by_power.unwrap_or(Amps(f64::INFINITY))));
        check(Some(circuit), PerPhase(most), circuit.base_load);
    }
    found
}

/// Whether a device hangs on a circuit or on one that it feeds.
fn is_below(device: &Id, top: &Circuit, circuits: &[Circuit]) -> bool {
    let mut at = circuits.iter().find(|circuit| circuit.members.contains(device));
    // No chain is longer than there are circuits.
    for _ in 0..circuits.len() {
        let Some(circuit) = at else { return false };
        if circuit.id == top.id {
            return true;
        }
        at = circuits.iter().find(|above| Some(&above.id) == circuit.parent.as_ref());
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> Id {
        Id::try_from(text).unwrap()
    }

    fn circuit(name: &str, parent: Option<&str>, amps: f64, members: &[&str]) -> Circuit {
        Circuit {
            id: id(name),
            name: name.into(),
            parent: parent.map(id),
            limit: Some(PerPhase::all(Amps(amps))),
            power: None,
            base_load: Amps(2.0),
            members: members.iter().map(|member| id(member)).collect(),
        }
    }

    fn charger(name: &str, phases: &[Phase]) -> Charger {
        Charger {
            id: id(name),
            name: name.into(),
            phases: phases.to_vec(),
            min: Amps(6.0),
            max: Amps(32.0),
            failsafe: Amps(6.0),
            step: Amps(0.1),
            stay: None,
            right: Right::default(),
            switching: None,
            mode: crate::logic::site::ChargingMode::default(),
            falls_back_within: crate::logic::site::FALLS_BACK_WITHIN,
        }
    }

    #[test]
    fn a_device_is_below_its_own_circuit_and_all_that_feed_it() {
        let circuits = [
            circuit("hall", None, 63.0, &["a"]),
            circuit("row", Some("hall"), 32.0, &["b"]),
            circuit("end", Some("row"), 16.0, &["c"]),
            circuit("yard", None, 32.0, &["d"]),
        ];
        let below = |top: usize| -> String {
            let is = |name: &&str| is_below(&id(name), &circuits[top], &circuits);
            ["a", "b", "c", "d", "e"].iter().filter(|name| is(name)).copied().collect()
        };
        assert_eq!([0, 1, 2, 3].map(below), ["abc", "bc", "c", "d"]);
    }

    #[test]
    fn the_failsafe_sum_holds_on_every_circuit_and_phase() {
        let limits = GridLimits { max_base_load: Amps(22.0), ..plain().limits };
        let all = Phase::ALL;
        let chargers = [charger("a", &all), charger("b", &all), charger("c", &[Phase::L2])];
        let row = circuit("row", None, 20.0, &["a"]);
        let end = circuit("end", Some("row"), 14.0, &["b", "c"]);
        let of = |circuits: &[Circuit], chargers: &[Charger]| -> Vec<(Option<String>, Phase)> {
            let found = overloads(&limits, circuits, (chargers, &[]));
            found.into_iter().map(|o| (o.circuit.map(|id| id.to_string()), o.phase)).collect()
        };
        let circuits = [row, end];
        assert_eq!(of(&circuits, &chargers), [], "20 A on L2 of the row, just held");
        let wider = [circuits[0].clone(), Circuit { base_load: Amps(2.1), ..circuits[1].clone() }];
        assert_eq!(of(&wider, &chargers), [(Some("end".into()), Phase::L2)]);
        let four = [&chargers[..], &[charger("d", &[Phase::L2])]].concat();
        assert_eq!(of(&circuits, &four), [(None, Phase::L2)], "46 A, on no circuit");
    }
    #[test]
    fn a_device_is_fed_by_its_circuit_and_all_above_it() {
        let tree = |circuits: Vec<Circuit>| {
            let mut site = crate::logic::site::Site { circuits, ..plain() };
            site.chargers = vec![charger("a", &Phase::ALL), charger("z", &Phase::ALL)];
            Feeders::of(&site)
        };
        let hall = circuit("hall", None, 60.0, &[]);
        let row = circuit("row", Some("hall"), 40.0, &["b"]);
        let end = circuit("end", Some("row"), 20.0, &["a"]);
        let feeders = tree(vec![hall, row.clone(), end.clone()]);
        assert_eq!(feeders.chain(&id("a")), [3, 2, 1, 0, 4]);
        assert_eq!(feeders.chain(&id("b")), [2, 1, 0, 4]);
        assert_eq!(feeders.chain(&id("z")), [0, 4], "on no circuit");
        // A file that goes round in circles is refused; what is made of it ends all the same.
        let round = circuit("hall", Some("end"), 60.0, &[]);
        assert_eq!(tree(vec![round, row, end]).chain(&id("a")), [3, 2, 1, 0, 4]);
    }

    #[test]
    fn compute_nodes_and_limits_of_power_count_in_the_failsafe_sum() {
        let limits = GridLimits { breaker: Amps(20.0), ..plain().limits };
        let node = |watts: f64| Compute {
            id: id("node"),
            name: "node".into(),
            phases: Phase::ALL.to_vec(),
            min: Watts(500.0),
            max: Watts(9_000.0),
            failsafe: Watts(watts),
            step: Watts(1.0),
        };
        let chargers = [charger("a", &Phase::ALL)];
        let found = |circuits: &[Circuit], watts: f64| {
            overloads(&limits, circuits, (&chargers, &[node(watts)])).len()
        };
        // 6 A of the charger and 14 A of the node.
        assert_eq!((found(&[], 9_660.0), found(&[], 9_700.0)), (0, 3));
        let row = Circuit {
            limit: None,
            power: Some(Watts(6_900.0)),
            ..circuit("row", None, 0.0, &["a", "node"])
        };
        // 2 A of base load and 6 A leave 2 A of the 10 A for the node.
        let row = [row];
        assert_eq!((found(&row, 1_370.0), found(&row, 1_390.0)), (0, 3));
    }

    /// A site with nothing on it.
    fn plain() -> crate::logic::site::Site {
        crate::logic::site::Site {
            id: id("site"),
            name: String::new(),
            mode: crate::logic::site::Mode::Auto,
            limits: GridLimits {
                limit: PerPhase::all(Amps(40.0)),
                breaker: Amps(40.0),
                nominal_voltage: crate::units::Volts(230.0),
                max_base_load: Amps(0.0),
                power: None,
                unbalance: None,
                demand: None,
                dimmed_least: Watts(4200.0),
                export: None,
            },
            meter: id("grid"),
            chargers: Vec::new(),
            batteries: Vec::new(),
            computes: Vec::new(),
            pvs: Vec::new(),
            inverters: Vec::new(),
            bays: Vec::new(),
            zones: Vec::new(),
            cameras: Vec::new(),
            tariff: None,
            circuits: Vec::new(),
            guard: crate::logic::site::Guard::default(),
            work: crate::logic::site::Work::default(),
        }
    }
}
