//! The circuits below the grid connection, as the plan knows them: what the cars on each may draw together.
//!
//! What a stranger gets wrong: a circuit of the plan is one power, and it is the same in every step. Its currents
//! are kept all the same: three phases together as power, and cars on one phase once more by that phase alone. What
//! cars draw there that the plan does not move, it does not see; allocation does, each second.

use crate::logic::energy::plan::{Group, Member, Session};
use crate::logic::site::{Circuit, Feeders, Site};
use crate::units::{Amps, Phase};

use super::{Car, MARGIN};

/// The circuits that may bind, with the cars of these chargers on them.
pub(super) fn groups(
    (site, circuits): (&Site, &[Circuit]),
    cars: &[Car<'_>],
    sessions: &[Session],
) -> Vec<Group> {
    if circuits.is_empty() {
        return Vec::new();
    }
    let feeders = Feeders::of(site);
    let volts = site.limits.nominal_voltage;
    let kw = |amps: Amps| (amps.max(Amps::ZERO) * volts).get() / 1000.0;
    let mut groups = Vec::new();
    for (place, circuit) in circuits.iter().enumerate() {
        let below = |i: &usize| feeders.chain(&cars[*i].charger.id).contains(&(place + 1));
        let members: Vec<usize> = (0..cars.len().min(sessions.len())).filter(below).collect();
        let free = |amps: Amps| amps - MARGIN - circuit.base_load;
        let by_power = circuit.power.map(|most| most / volts * (1.0 / 3.0));
        let on = |phase: Phase| circuit.limit.map(|limit| limit.on(phase));
        let least = |phase| [on(phase), by_power].into_iter().flatten().reduce(Amps::min);
        let all: Option<f64> =
            Phase::ALL.map(|phase| least(phase).map(|a| kw(free(a)))).into_iter().sum();
        groups.extend(all.and_then(|limit_kw| binding(limit_kw, members.clone(), sessions)));
        for phase in Phase::ALL {
            let mut alone = [false; 3];
            alone[phase as usize] = true;
            let mine = members.iter().copied().filter(|&i| sessions[i].phases == alone).collect();
            let limit_kw = on(phase).map(|amps| kw(free(amps)));
            groups.extend(limit_kw.and_then(|limit_kw| binding(limit_kw, mine, sessions)));
        }
    }
    groups
}

/// A circuit that these cars could overload.
fn binding(limit_kw: f64, cars: Vec<usize>, sessions: &[Session]) -> Option<Group> {
    let most: f64 = cars.iter().map(|&i| sessions[i].max_kw).sum();
    let members = || cars.iter().map(|&i| Member::Session(i)).collect();
    (most > limit_kw).then(|| Group { limit_kw, members: members() })
}
