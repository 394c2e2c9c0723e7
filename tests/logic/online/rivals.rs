//! What others do: everybody at once, equal shares, earliest deadline, least laxity, and a plain receding-horizon
//! linear programme. Owns their choices; the rules of a step are the world's.

use wattgate::logic::energy::plan::{Budget, Session, solve};

use super::ours::{Past, horizon};
use super::world::{Act, Present, Room, View, legal_kw};

/// By so much shares grow at a time, kW.
const BIT_KW: f64 = 0.1;

/// Everybody takes what it can, limits or not.
pub fn uncontrolled(view: &View<'_>) -> Act {
    let cars = view.present.iter().map(|present| present.told.max_kw).collect();
    Act { cars, store: None, heedless: true }
}

/// Shares grow together until a limit or a car's own maximum stops them; who falls below its least goes without.
pub fn equal(view: &View<'_>) -> Act {
    let hours = view.site.step_hours;
    let mut on: Vec<usize> = (0..view.present.len()).collect();
    loop {
        let mut kw = vec![0.0; view.present.len()];
        let (mut room, mut open) = (Room::beside(view), on.clone());
        while !open.is_empty() {
            open.retain(|place| {
                let present = &view.present[*place];
                let most = present.told.max_kw.min(present.rest_kw(hours));
                let more = BIT_KW.min(most - kw[*place]).min(room.of(present.told.phases));
                if more <= 1e-6 {
                    return false;
                }
                kw[*place] += more;
                room.take(present.told.phases, more);
                true
            });
        }
        let starved = |place: &&usize| {
            let least = view.present[**place].told.min_kw;
            kw[**place] < least.min(view.present[**place].told.max_kw) - 1e-6
        };
        // The last to come goes first.
        match on.iter().filter(starved).max().copied() {
            Some(place) => on.retain(|other| *other != place),
            None => return Act { cars: kw, store: None, heedless: false },
        }
    }
}

/// Whoever comes first by `urgency` takes what it can.
fn in_order(view: &View<'_>, urgency: impl Fn(&Present) -> f64) -> Act {
    let mut order: Vec<usize> = (0..view.present.len()).collect();
    order.sort_by(|a, b| urgency(&view.present[*a]).total_cmp(&urgency(&view.present[*b])));
    let (mut room, mut cars) = (Room::beside(view), vec![0.0; order.len()]);
    for place in order {
        let present = &view.present[place];
        let wish = present.told.max_kw.min(room.of(present.told.phases));
        cars[place] = legal_kw(present, wish, view.site.step_hours);
        room.take(present.told.phases, cars[place]);
    }
    Act { cars, store: None, heedless: false }
}

pub fn earliest_deadline(view: &View<'_>) -> Act {
    in_order(view, |present| present.told.departure as f64)
}

pub fn least_laxity(view: &View<'_>) -> Act {
    let hours = view.site.step_hours;
    in_order(view, |present| {
        let stay = (present.told.departure - view.step as i64) as f64 * hours;
        stay - present.left / (present.told.max_kw * present.told.efficiency)
    })
}

/// The cheapest powers for the cars that are there, without least powers; what falls below them is dropped.
pub fn receding_horizon(view: &View<'_>, past: &Past<'_>) -> Act {
    let mut problem = horizon(view, past);
    let sessions = problem.sessions.iter();
    problem.sessions = sessions.map(|session| Session { min_kw: 0.0, ..*session }).collect();
    let plan = solve(&problem, Budget::default());
    let cars = plan.session_kw.iter().map(|kw| kw[0]).collect();
    Act { cars, store: Some(plan.store_kw[0]), heedless: false }
}
