//! Limits of power that come from outside the wiring: the grid operator dims the controllable loads for a
//! while, and the mean import of each window must stay below what was agreed.
//!
//! What a stranger gets wrong: dimming bounds what is controlled (chargers, compute nodes, what batteries take
//! in), the window bounds everything that is imported. Neither replaces a limit in amperes; the lowest of all holds.

use std::time::Duration;

use super::{Controller, Rule};
use crate::logic::energy::Room;
use crate::logic::site::{ChargerSetpoint, DemandLimit, Line, MeterReading, Reason};
use crate::units::{Moment, WattHours, Watts};

/// Shares of the minimum for every controllable load beyond the first (BNetzA BK6-22-300, table of
/// simultaneity factors): two, three, ... eight, nine and more loads.
const SIMULTANEITY: [f64; 8] = [0.8, 0.75, 0.7, 0.65, 0.6, 0.55, 0.5, 0.45];
/// The last part of a window is not divided further: one reading of the meter must not decide. Our own
/// figure.
const LEAST_LEFT: Duration = Duration::from_secs(30);
/// A gap in the meter's values longer than this is not bridged with the last one. Our own figure.
const LONGEST_GAP: Duration = Duration::from_secs(15);

/// A contact that dimmed when its device fell silent goes on dimming for so long. Our own figure.
const CONTACT_HOLDS: Duration = Duration::from_secs(900);

/// What a grid operator may not go below with so many controllable loads.
pub(super) fn least_when_dimmed(loads: usize, each: Watts) -> Watts {
    let Some(beyond) = loads.checked_sub(1) else { return Watts::ZERO };
    let factor = match beyond {
        0 => 0.0,
        _ => SIMULTANEITY[(beyond - 1).min(SIMULTANEITY.len() - 1)],
    };
    each * (1.0 + beyond as f64 * factor)
}

impl Controller {
    /// What chargers and nodes may take of all that is controlled: without bound unless the grid operator dims.
    pub(super) fn controlled_room(&self, now: Moment) -> Room {
        let site = &self.site;
        let loads = site.chargers.len() + site.computes.len() + site.batteries.len();
        let least = (loads, self.site.limits.dimmed_least);
        let power = self.curbs.dimmed_to(now, least).unwrap_or(Room::UNBOUND.power);
        let mut room = Room { power, ..Room::UNBOUND };
        if !self.holds(Rule::DeafBattery) {
            return room;
        }
        room.take(self.kept_by_batteries(now), self.site.limits.nominal_voltage, false);
        room
    }

    /// Largest import of all phases together, and whether it comes from the window's mean.
    pub(super) fn import_limit(&self, now: Moment) -> (Option<Watts>, bool) {
        let limits = &self.site.limits;
        let Some(demand) = limits.demand.filter(|_| self.holds(Rule::Demand)) else {
            return (limits.power, false);
        };
        let left = self.curbs.import_left(now, demand);
        match limits.power {
            Some(power) if power <= left => (Some(power), false),
            _ => (Some(left), true),
        }
    }

    /// Which curb or limit bounds a share.
    pub(super) fn bound_why(
        &self,
        share: ChargerSetpoint,
        (room, line): (usize, Line),
        now: Moment,
    ) -> Reason {
        if room > self.site.circuits.len() {
            return Reason::Dimmed;
        }
        if (room, line) == (0, Line::Power) && self.import_limit(now).1 {
            return Reason::DemandLimit;
        }
        let circuit = room.checked_sub(1).and_then(|i| self.site.circuits.get(i));
        let circuit = circuit.map(|circuit| circuit.id.clone());
        match (share, circuit, line) {
            (ChargerSetpoint::Pause, circuit, line) => Reason::BelowMinimum { circuit, line },
            (_, Some(circuit), line) => Reason::CircuitLimit { circuit, line },
            (_, None, Line::Phase(phase)) => Reason::GridLimit { phase },
            (_, None, Line::Power) => Reason::PowerLimit,
            (_, None, Line::Unbalance(phase)) => Reason::UnbalanceLimit { phase },
        }
    }
}

/// What was said and what was imported.
#[derive(Clone, Debug, Default)]
pub(super) struct Curbs {
    /// By words: the limit and until when.
    dimmed: Option<(Watts, Duration)>,
    /// By a contact: the limit and until when, unless it is seen again.
    contact: Option<(Watts, Duration)>,
    window: Option<Window>,
}

#[derive(Clone, Copy, Debug)]
struct Window {
    /// Number of the window since the epoch.
    number: i64,
    imported: WattHours,
    last: (Moment, Watts),
}

impl Curbs {
    /// The operator's limit, until a moment.
    pub fn dim(&mut self, limit: Watts, until: Moment) {
        self.dimmed = Some((limit, until.uptime));
    }

    /// The operator's contact was seen; `limit` where it dims. What is not seen any more holds for a while.
    pub fn see_contact(&mut self, limit: Option<Watts>, at: Moment) {
        self.contact = limit.map(|limit| (limit, at.after(CONTACT_HOLDS).uptime));
    }

    /// What all controllable loads together may take, where that is limited now: the lower one of what was
    /// said and what the contact asks for.
    pub fn dimmed_to(&self, now: Moment, (loads, each): (usize, Watts)) -> Option<Watts> {
        let holds = |(_, until): &(Watts, Duration)| now.uptime < *until;
        let both = [self.dimmed, self.contact];
        let limits = both.into_iter().flatten().filter(holds).map(|(limit, _)| limit);
        limits.reduce(Watts::min).map(|limit| limit.max(least_when_dimmed(loads, each)))
    }

    /// Takes in what the meter says.
    pub fn see(&mut self, meter: &MeterReading, at: Moment, demand: DemandLimit) {
        let number = window_of(at, demand);
        let power = meter.power.max(Watts::ZERO);
        let Some(window) = self.window.as_mut().filter(|window| window.number == number) else {
            let imported = so_far(at, demand);
            self.window = Some(Window { number, imported, last: (at, power) });
            return;
        };
        let (before, last) = window.last;
        let passed = before.age_at(at);
        let (gap, unseen) = (passed.min(LONGEST_GAP), passed.saturating_sub(LONGEST_GAP));
        // The larger of the two: what was imported is rather taken for more. Of what nobody saw it is the mean
        // at least, as before anybody looked.
        let most = last.max(power);
        let watt_s =
            most.get() * gap.as_secs_f64() + most.max(demand.power).get() * unseen.as_secs_f64();
        window.imported += WattHours(watt_s / 3600.0);
        window.last = (at, power);
    }

    /// What may be imported from now to the end of the window.
    pub fn import_left(&self, now: Moment, demand: DemandLimit) -> Watts {
        let length = f64::from(demand.minutes) * 60.0;
        let into = into_window_s(now, demand);
        let current = self.window.filter(|window| window.number == window_of(now, demand));
        let imported = current.map_or(so_far(now, demand), |window| window.imported).get();
        let left = (length - into).max(LEAST_LEFT.as_secs_f64());
        Watts((demand.power.get() * length / 3600.0 - imported) * 3600.0 / left)
    }
}

/// Seconds since the window began.
fn into_window_s(at: Moment, demand: DemandLimit) -> f64 {
    at.utc.timestamp().rem_euclid(i64::from(demand.minutes.max(1)) * 60) as f64
}

/// What is taken to have been imported before anybody looked: the mean.
fn so_far(at: Moment, demand: DemandLimit) -> WattHours {
    WattHours(demand.power.get() * into_window_s(at, demand) / 3600.0)
}

fn window_of(at: Moment, demand: DemandLimit) -> i64 {
    at.utc.timestamp().div_euclid(i64::from(demand.minutes.max(1)) * 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_grows_with_the_number_of_loads() {
        let each = Watts(4200.0);
        for (loads, least) in [(0, 0.0), (1, 4200.0), (2, 7560.0), (3, 10_500.0), (12, 24_990.0)] {
            assert!((least_when_dimmed(loads, each).get() - least).abs() < 1e-6, "{loads}");
        }
    }

    /// A moment of the first quarter of an hour, and what a meter says that imports `watts`.
    fn seen(second: u64, watts: f64) -> (Moment, MeterReading) {
        let utc = chrono::DateTime::from_timestamp(1_700_006_400, 0).unwrap();
        let begin = Moment { uptime: Duration::from_secs(100), utc };
        let meter = MeterReading {
            power: Watts(watts),
            phase_power: Default::default(),
            current: Default::default(),
            voltage: Default::default(),
            frequency: None,
            import: None,
            export: None,
        };
        (begin.after(Duration::from_secs(second)), meter)
    }

    #[test]
    fn what_nobody_saw_of_a_window_counts_as_the_mean_at_least() {
        let demand = DemandLimit { power: Watts(30_000.0), minutes: 15 };
        // What is imported while the meter is lost, and what the mean is then if all that is left is used.
        for drawn in [29_000.0, 45_000.0] {
            let mut curbs = Curbs::default();
            for second in (0..=10).chain(600..=602) {
                let (at, meter) = seen(second, drawn);
                curbs.see(&meter, at, demand);
            }
            let left = curbs.import_left(seen(602, 0.0).0, demand).get();
            let mean = (drawn * 602.0 + left.max(0.0) * 298.0) / 900.0;
            let most = (drawn * 602.0 / 900.0).max(demand.power.get() + 1.0);
            assert!(mean <= most, "{drawn} W unseen: {left} W left, a mean of {mean} W");
        }
        // A meter that is there counts what it says and no more.
        let mut curbs = Curbs::default();
        for second in 0..=600 {
            let (at, meter) = seen(second, 12_000.0);
            curbs.see(&meter, at, demand);
        }
        let left = curbs.import_left(seen(600, 0.0).0, demand).get();
        assert!((left - (27_000.0 - 7_200.0) * 1000.0 / 300.0).abs() < 1.0, "{left}");
    }

    #[test]
    fn before_anybody_looked_the_mean_was_imported() {
        let demand = DemandLimit { power: Watts(30_000.0), minutes: 15 };
        for second in [0, 1, 450, 840] {
            let left = Curbs::default().import_left(seen(second, 0.0).0, demand).get();
            assert!((left - 30_000.0).abs() < 1e-6, "{left} W after {second} s");
        }
    }

    #[test]
    fn every_window_begins_anew() {
        let demand = DemandLimit { power: Watts(30_000.0), minutes: 15 };
        let mut curbs = Curbs::default();
        let left =
            |curbs: &Curbs, second: u64| curbs.import_left(seen(second, 0.0).0, demand).get();
        for second in 0..=910 {
            let (at, meter) = seen(second, 28_000.0);
            curbs.see(&meter, at, demand);
            if second == 890 {
                // 2 kW were left for 890 s, and the last half minute counts whole.
                let most = (30_000.0 * 900.0 - 28_000.0 * 890.0) / 30.0;
                assert!((left(&curbs, 890) - most).abs() < 100.0, "{}", left(&curbs, 890));
            }
        }
        // Ten seconds of the next one are used at 28 kW.
        let most = (30_000.0 * 900.0 - 28_000.0 * 10.0) / 890.0;
        assert!((left(&curbs, 910) - most).abs() < 100.0, "{}", left(&curbs, 910));
    }

    #[test]
    fn the_lower_of_what_was_said_and_what_the_contact_asks_holds_until_its_time_is_over() {
        let mut curbs = Curbs::default();
        let at = |second: u64| seen(second, 0.0).0;
        let none = (0, Watts::ZERO);
        assert_eq!(curbs.dimmed_to(at(0), none), None);
        curbs.dim(Watts(9_000.0), at(100));
        curbs.see_contact(Some(Watts(5_000.0)), at(0));
        assert_eq!(curbs.dimmed_to(at(99), none), Some(Watts(5_000.0)));
        curbs.see_contact(None, at(50));
        assert_eq!(curbs.dimmed_to(at(99), none), Some(Watts(9_000.0)));
        assert_eq!(curbs.dimmed_to(at(100), none), None, "its time is over");
        // What is not seen any more holds for a quarter of an hour.
        curbs.see_contact(Some(Watts(5_000.0)), at(100));
        assert_eq!(curbs.dimmed_to(at(999), none), Some(Watts(5_000.0)));
        assert_eq!(curbs.dimmed_to(at(1_000), none), None);
        // One load keeps what the rule leaves it.
        curbs.see_contact(Some(Watts::ZERO), at(0));
        assert_eq!(curbs.dimmed_to(at(1), (1, Watts(4_200.0))), Some(Watts(4_200.0)));
    }
}
