//! What the daybook is told: the energy of every second from what the devices say, what cameras and jobs
//! have taken, and which alarms there are.
//!
//! What a stranger gets wrong: a gap is not filled. While a device is silent nobody knows what it drew, and
//! the daybook says less rather than something else.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Controller;
use crate::logic::decision::{EnergyView, LedgerView};
use crate::logic::site::{Daybook, Flow, Id, Reading, Tally};
use crate::logic::vision::Ledger;
use crate::units::{Moment, WattHours, Watts};

/// Decisions that are further apart have nothing between them that is known.
const GAP: Duration = Duration::from_secs(5);
/// The site's energy is written down this often: nobody wants a new figure of each flow every second.
const WRITTEN_EVERY: Duration = Duration::from_secs(10);
/// Joules of a watt-hour.
const JOULES: f64 = 3600.0;

/// Energy of the site that is not written down yet.
#[derive(Clone, Debug, Default)]
pub(super) struct Flowed {
    since: Option<Moment>,
    until: Option<Moment>,
    wh: BTreeMap<Flow, f64>,
}

impl Flowed {
    /// It counts for the time at which it ended.
    fn write_into(&self, book: &mut Daybook) {
        let Some(until) = self.until else { return };
        for (flow, wh) in &self.wh {
            book.flows.entry(*flow).or_default().add(WattHours(*wh), until.utc);
        }
    }
}

impl Controller {
    /// Takes up what was kept before the gateway started. To be called before the first decision.
    pub fn remember_days(&mut self, book: Daybook) {
        self.daybook = book;
    }

    /// The daybook as it is now, to be kept; what workloads took is in the book of jobs until then.
    #[must_use]
    pub fn days(&self) -> Daybook {
        let mut days = Daybook { workloads: self.jobs.tallies().clone(), ..self.daybook.clone() };
        self.flowed.write_into(&mut days);
        days
    }

    /// What looking has cost since the vision process told it last; it counts from zero when it is new.
    pub(super) fn book_looking(&mut self, ledger: &Ledger, at: Moment) {
        for camera in &self.site.cameras {
            let Some(now) = ledger.cameras.get(&camera.id) else { continue };
            let before = self.looking.as_ref().and_then(|l| l.cameras.get(&camera.id));
            let before = before.map_or(0.0, |before| before.joules);
            let more = if now.joules >= before { now.joules - before } else { now.joules };
            let tally = self.daybook.cameras.entry(camera.id.clone()).or_default();
            tally.add(WattHours(more / JOULES), at.utc);
        }
    }

    /// Books the time since the last decision.
    pub(super) fn keep_daybook(&mut self, now: Moment) {
        let alarms = self.alarms.list();
        let active = alarms.iter().filter(|alarm| alarm.active);
        let told = active.map(|alarm| (alarm.code.as_str(), alarm.about.as_str(), alarm.since));
        self.daybook.see_alarms(told, now.utc);
        let gap = self.flowed.until.replace(now).map(|before| before.age_at(now));
        if let Some(gap) = gap.filter(|gap| *gap < GAP) {
            for (flow, power) in self.flows(now) {
                let wh = self.flowed.wh.entry(flow).or_insert(0.0);
                *wh += power.get() * gap.as_secs_f64() / 3600.0;
            }
        }
        if self.flowed.since.is_none_or(|since| since.age_at(now) >= WRITTEN_EVERY) {
            self.flowed.write_into(&mut self.daybook);
            self.flowed = Flowed { since: Some(now), until: Some(now), ..Flowed::default() };
        }
    }

    /// Powers that are known now, none of them below zero.
    fn flows(&self, now: Moment) -> Vec<(Flow, Watts)> {
        let site = &self.site;
        let battery = |id: &Id| match self.snapshot.at(id, now).fresh()? {
            Reading::Battery(battery) | Reading::Hybrid { battery, .. } => Some(battery.power),
            _ => None,
        };
        let pv = |id: &Id| match self.snapshot.at(id, now).fresh()? {
            Reading::Pv(pv) | Reading::Hybrid { pv, .. } => Some(pv.power),
            _ => None,
        };
        let grid = self.meter(now).fresh().map(|meter| meter.power);
        let pv: Vec<Option<Watts>> = site.pvs.iter().map(pv).collect();
        let batteries: Vec<Option<Watts>> = site.batteries.iter().map(|b| battery(&b.id)).collect();
        let charger = |id: &Id| self.charger(id, now).fresh().map(|reading| reading.power);
        let chargers: Vec<Option<Watts>> = site.chargers.iter().map(|c| charger(&c.id)).collect();
        let node = |id: &Id| self.compute(id, now).fresh().map(|reading| reading.power);
        let nodes: Vec<Option<Watts>> = site.computes.iter().map(|n| node(&n.id)).collect();
        let mut flows = Vec::new();
        let mut both = |power: Watts, (taken, given): (Flow, Flow)| {
            flows.extend([(taken, power.max(Watts::ZERO)), (given, (-power).max(Watts::ZERO))]);
        };
        grid.into_iter().for_each(|power| both(power, (Flow::GridImport, Flow::GridExport)));
        let each = batteries.iter().flatten();
        each.for_each(|power| both(*power, (Flow::BatteryDischarge, Flow::BatteryCharge)));
        for (flow, powers) in
            [(Flow::Pv, &pv), (Flow::Chargers, &chargers), (Flow::Compute, &nodes)]
        {
            flows.extend(powers.iter().flatten().map(|power| (flow, power.max(Watts::ZERO))));
        }
        let sum = |powers: &[Option<Watts>]| powers.iter().copied().sum::<Option<Watts>>();
        let other =
            (|| Some(grid? + sum(&pv)? + sum(&batteries)? - sum(&chargers)? - sum(&nodes)?))();
        flows.extend(other.map(|power| (Flow::Other, power.max(Watts::ZERO))));
        flows
    }
}

/// The ledger for people and machines.
pub(super) fn ledger(c: &Controller, now: Moment) -> LedgerView {
    let view = |tally: &Tally| EnergyView {
        hour_wh: round_wh(tally.hour(now.utc).get()),
        day_wh: round_wh(tally.day(now.utc).get()),
        all_wh: round_wh(tally.all().get()),
    };
    let of = |tallies: &BTreeMap<Id, Tally>| {
        tallies.iter().map(|(id, tally)| (id.clone(), view(tally))).collect()
    };
    let flows = c.daybook.flows.iter();
    LedgerView {
        site: flows.map(|(flow, tally)| (flow.code().to_owned(), view(tally))).collect(),
        cameras: of(&c.daybook.cameras),
        workloads: of(c.jobs.tallies()),
    }
}

/// To a millionth of a watt-hour: a thousandth is more than a short job takes.
pub(super) fn round_wh(wh: f64) -> f64 {
    (wh * 1e6).round() / 1e6
}
