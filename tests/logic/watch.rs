//! What must hold in every random world: limits of the site and of every circuit, the breaker's stress,
//! ramps, pauses, stale data, fire, energy. `checkers` judges one decision; this judges a life.

use std::collections::{BTreeMap, VecDeque};

use simulators::physics::{Pile, World};
use wattgate::app::simulate::{Stress, Troubles, What, Who};
use wattgate::logic::decision::Decision;
use wattgate::logic::observation::Observation;
use wattgate::logic::site::{
    ChargerSetpoint, ChargingMode, ChosenModes, Feeders, Id, Reason, Site,
};
use wattgate::units::Phase;

use crate::checkers::{Checkers, OVER_AT_MOST_S};

/// Longest time above a limit behind a meter that answers with the same for ever, s: no other fault hides a load
/// that grows. Its bound is that of fault FB2; all others keep [`OVER_AT_MOST_S`].
const EXCUSED_AT_MOST_S: f64 = 60.0;
/// A fault excuses what it causes for so long after its end, s.
const EXCUSED_AFTER_S: f64 = 40.0;
/// Breaker stress that is never passed (design/decisions).
const STRESS: f64 = 0.2;
/// Longest time that more is exported than may be: three seconds in which a battery may take it, and a second each
/// for meter, decision and inverter, s.
const EXPORTED_AT_MOST_S: f64 = 6.0;
/// Metering noise that is no export, W.
const EXPORT_NOISE_W: f64 = 200.0;
/// Longest time that a car on sun only draws while the site imports: three minutes of cloud, and what meter, ramp
/// and a slow car take, s.
const SUN_AT_MOST_S: f64 = 240.0;
/// A slow car has let go within this after it was switched off, s.
const OFF_WITHIN_S: f64 = 20.0;
/// Import that is metering noise and what a car on sun does not lack yet, W.
const SUN_NOISE_W: f64 = 500.0;
/// Rounding and metering noise that is no overload, A.
const NOISE_A: f64 = 0.01;

/// Watches one life.
pub struct Watch {
    /// Measures only: for stories that judge for themselves.
    pub lenient: bool,
    seed: u64,
    checkers: Checkers,
    stress: Stress,
    feeders: Feeders,
    /// Seconds above each limit: node by phase, and its power.
    over_s: Vec<[f64; 4]>,
    longest_over_s: f64,
    excused_s: f64,
    /// The longest time above a limit by what excused it.
    excused: BTreeMap<String, f64>,
    meter_silent_s: f64,
    /// For how long too much has been exported, and for how long that is excused, s.
    exported_s: f64,
    export_excused_s: f64,
    longest_export_s: f64,
    /// What people have chosen; for how long each car on sun only has drawn while the site imported, and for how
    /// long that is excused, s.
    modes: ChosenModes,
    sun_s: BTreeMap<Id, f64>,
    sun_excused_s: BTreeMap<Id, f64>,
    /// Setpoints of the last ten seconds of each charger.
    told: BTreeMap<Id, VecDeque<f64>>,
    pauses: BTreeMap<Id, VecDeque<f64>>,
    elapsed_s: f64,
    started: Option<[f64; 5]>,
    used_wh: f64,
}

/// Import, export, PV, charged, discharged.
fn counters(world: &World) -> [f64; 5] {
    let hybrid = &world.hybrid;
    let (pv, charged, given) = (hybrid.pv_energy_wh, hybrid.charged_wh, hybrid.discharged_wh);
    [world.import_wh, world.export_wh, pv, charged, given]
}

impl Watch {
    pub fn new(site: &Site, seed: u64) -> Watch {
        Watch {
            lenient: false,
            seed,
            checkers: Checkers::default(),
            stress: Stress::default(),
            feeders: Feeders::of(site),
            over_s: vec![[0.0; 4]; site.circuits.len() + 1],
            longest_over_s: 0.0,
            excused_s: 0.0,
            excused: BTreeMap::new(),
            meter_silent_s: 0.0,
            exported_s: 0.0,
            export_excused_s: EXCUSED_AFTER_S,
            longest_export_s: 0.0,
            modes: ChosenModes::default(),
            sun_s: BTreeMap::new(),
            sun_excused_s: BTreeMap::new(),
            told: BTreeMap::new(),
            pauses: BTreeMap::new(),
            elapsed_s: 0.0,
            started: None,
            used_wh: 0.0,
        }
    }

    pub fn stress(&self) -> f64 {
        self.stress.most()
    }

    pub fn longest_over_s(&self) -> f64 {
        self.longest_over_s
    }

    /// The longest time above a limit by what excused it, s.
    pub fn excused(&self) -> &BTreeMap<String, f64> {
        &self.excused
    }

    pub fn seconds(&self) -> u64 {
        self.elapsed_s as u64
    }

    /// What the world truly does for `dt` seconds.
    pub fn physics(&mut self, site: &Site, world: &World, dt: f64) {
        let volts = world.volts;
        let watts = world.grid_phases_w();
        let amps: [f64; 3] = std::array::from_fn(|i| watts[i] / volts[i]);
        self.stress.carry(amps, site.limits.breaker.get(), dt);
        let seed = self.seed;
        let (most, at) = (self.stress.most(), self.elapsed_s);
        assert!(self.lenient || most < STRESS, "seed {seed}: breaker stress {most} at {at} s");
        // What could be given up: nobody can do anything about the rest.
        let mut ours = vec![[0.0; 3]; site.circuits.len() + 2];
        for (charger, pile) in site.chargers.iter().zip(&world.piles) {
            let own = pile.grid_currents();
            for &node in self.feeders.chain(&charger.id) {
                (0..3).for_each(|phase| ours[node][phase] += own[phase]);
            }
        }
        ours.pop();
        let hot: u32 = world.piles.iter().map(|pile| pile.hot_switches).sum();
        let at = self.elapsed_s;
        assert!(self.lenient || hot == 0, "seed {seed}: phases switched under current at {at} s");
        let mut nodes = ours.clone();
        nodes[0] = amps;
        if let Some(node) = &world.node {
            let beyond = (node.power_w - site.computes[0].min.get()).max(0.0) / 690.0;
            (0..3).for_each(|phase| ours[0][phase] += beyond);
        }
        for (node, amps) in nodes.iter().enumerate() {
            let circuit = node.checked_sub(1).map(|i| &site.circuits[i]);
            let base = circuit.map_or(0.0, |circuit| circuit.base_load.get());
            let limit = circuit.map_or(Some(site.limits.limit), |circuit| circuit.limit);
            let power = circuit.map_or(site.limits.power, |circuit| circuit.power);
            let mut over = [false; 4];
            if let Some(limit) = limit {
                for phase in Phase::ALL {
                    let i = phase as usize;
                    let over_limit = amps[i] + base > limit.on(phase).get() + NOISE_A;
                    over[i] = over_limit && ours[node][i] > NOISE_A;
                }
            }
            let carried: f64 = (0..3).map(|i| (amps[i] + base) * volts[i]).sum();
            let more = power.is_some_and(|power| carried > power.get() + NOISE_A * 690.0);
            over[3] = more && ours[node].iter().any(|amps| *amps > NOISE_A);
            for (line, over) in over.into_iter().enumerate() {
                self.above(node, line, (over, dt));
            }
        }
        self.export(site, watts.iter().sum(), dt);
        // What a battery takes in from the grid is no car's.
        let charged = (-world.hybrid.battery_w).max(0.0);
        self.sun(site, world, watts.iter().sum::<f64>() - charged, dt);
        self.energy(world, dt);
    }

    /// No more is exported than may be, where an inverter can be limited.
    fn export(&mut self, site: &Site, watts: f64, dt: f64) {
        let Some(most) = site.limits.export.filter(|_| !site.inverters.is_empty()) else { return };
        let over = -watts > most.get() + EXPORT_NOISE_W && self.export_excused_s <= 0.0;
        self.exported_s = if over { self.exported_s + dt } else { 0.0 };
        self.longest_export_s = self.longest_export_s.max(self.exported_s);
        let (seed, at) = (self.seed, self.elapsed_s);
        assert!(
            self.lenient || self.exported_s <= EXPORTED_AT_MOST_S,
            "seed {seed}: {} W exported of {most} at {at} s",
            -watts
        );
    }

    /// Somebody chooses a mode.
    pub fn choose(&mut self, site: &Site, observation: &Observation) {
        if let Observation::ModeChosen { charger, mode, .. } = observation
            && let Some(charger) = site.chargers.iter().find(|known| known.id == *charger)
        {
            self.modes.choose(charger, *mode);
            self.sun_s.remove(&charger.id);
        }
    }

    /// A car on sun only does not draw for longer than a cloud lasts while the site imports, and one that is off
    /// does not draw.
    fn sun(&mut self, site: &Site, world: &World, watts: f64, dt: f64) {
        for (charger, pile) in site.chargers.iter().zip(&world.piles) {
            let mode = self.modes.of(charger);
            let excused = self.sun_excused_s.get(&charger.id).is_none_or(|s| *s > 0.0);
            let dirty = match mode {
                ChargingMode::Off => true,
                ChargingMode::PvOnly => watts > SUN_NOISE_W,
                _ => false,
            };
            let lasts = self.sun_s.entry(charger.id.clone()).or_default();
            let wrong = dirty && !excused && pile.current_a > 1.0;
            *lasts = if wrong { *lasts + dt } else { 0.0 };
            let most = if mode == ChargingMode::Off { OFF_WITHIN_S } else { SUN_AT_MOST_S };
            let (seed, at, id) = (self.seed, self.elapsed_s, &charger.id);
            assert!(
                self.lenient || *lasts <= most,
                "seed {seed}: {id} is {mode:?} and draws with {watts} W imported for {lasts} s at {at} s"
            );
        }
    }

    /// The longest time that too much was exported, s.
    pub fn longest_export_s(&self) -> f64 {
        self.longest_export_s
    }

    fn above(&mut self, node: usize, line: usize, (over, dt): (bool, f64)) {
        let timer = &mut self.over_s[node][line];
        *timer = if over { *timer + dt } else { 0.0 };
        let most = if self.excused_s > 0.0 { EXCUSED_AT_MOST_S } else { OVER_AT_MOST_S };
        let (seed, at) = (self.seed, self.elapsed_s);
        assert!(
            self.lenient || *timer <= most,
            "seed {seed}: node {node}, line {line} above its limit for {timer} s at {at} s"
        );
        self.longest_over_s = self.longest_over_s.max(*timer);
        if self.excused_s > 0.0 && *timer > OVER_AT_MOST_S {
            let most = self.excused.entry("frozen meter".to_owned()).or_default();
            *most = most.max(*timer);
        }
    }

    fn energy(&mut self, world: &World, dt: f64) {
        self.started.get_or_insert_with(|| counters(world));
        let of = |pile: &Pile| -> f64 {
            let own = pile.currents().into_iter().zip(pile.own_volts(world.volts));
            own.map(|(amps, volts)| amps * volts).sum()
        };
        let cars: f64 = world.piles.iter().map(of).sum();
        let node = world.node.as_ref().map_or(0.0, |node| node.power_w);
        self.used_wh += (world.building_w.iter().sum::<f64>() + cars + node) * dt / 3600.0;
    }

    /// At the end: what came in is what was used.
    pub fn finish(&self, world: &World) {
        let Some(start) = self.started else { return };
        let now = counters(world);
        let moved: [f64; 5] = std::array::from_fn(|i| now[i] - start[i]);
        let [import, export, pv, charged, given] = moved;
        let came = import - export + pv + given - charged;
        let gap = (came - self.used_wh).abs();
        let seed = self.seed;
        assert!(
            gap < 20.0 + self.used_wh * 2e-3,
            "seed {seed}: {came} Wh in, {} used",
            self.used_wh
        );
    }

    /// A decision, and what was wrong when it was made.
    pub fn decision(
        &mut self,
        site: &Site,
        decision: &Decision,
        meter_silent: bool,
        troubles: &Troubles,
    ) {
        self.elapsed_s += 1.0;
        self.meter_silent_s = if meter_silent { self.meter_silent_s + 1.0 } else { 0.0 };
        let blind = [What::Silent, What::Frozen, What::Deaf, What::Garbage, What::Late];
        let frozen = troubles.has(Who::Meter, What::Frozen);
        self.excused_s = if frozen { EXCUSED_AFTER_S } else { (self.excused_s - 1.0).max(0.0) };
        let who = [Who::Meter, Who::Battery];
        let unseen =
            who.into_iter().any(|who| blind.into_iter().any(|what| troubles.has(who, what)));
        self.export_excused_s =
            if unseen { EXCUSED_AFTER_S } else { (self.export_excused_s - 1.0).max(0.0) };
        for (i, charger) in site.chargers.iter().enumerate() {
            let who = [Who::Meter, Who::Battery, Who::Charger(i)];
            let all = [What::Runaway, blind[0], blind[1], blind[2], blind[3], blind[4]];
            let unseen =
                who.into_iter().any(|who| all.into_iter().any(|what| troubles.has(who, what)));
            // Nothing is written before the devices have proven themselves.
            let unseen = unseen || !decision.writing;
            let left = self.sun_excused_s.entry(charger.id.clone()).or_insert(EXCUSED_AFTER_S);
            *left = if unseen { EXCUSED_AFTER_S } else { (*left - 1.0).max(0.0) };
        }
        if self.lenient {
            return;
        }
        self.checkers.decision(site, decision, self.meter_silent_s < 5.0, self.seed);
        let seed = self.seed;
        for charger in &site.chargers {
            let (setpoint, reason) = decision.permitted.charger(&charger.id).unwrap();
            if self.meter_silent_s > 11.0 {
                let safe = setpoint.amps() <= charger.failsafe.max(charger.min);
                assert!(safe, "seed {seed}: {setpoint:?} without a meter at {} s", self.elapsed_s);
            }
            self.moves(&charger.id, (*setpoint, reason), (charger.min.get(), charger.max.get()));
        }
    }

    fn moves(
        &mut self,
        charger: &Id,
        (setpoint, reason): (ChargerSetpoint, &Reason),
        (min, max): (f64, f64),
    ) {
        let (seed, at) = (self.seed, self.elapsed_s);
        let now = setpoint.amps().get();
        let past = self.told.entry(charger.clone()).or_default();
        let before = past.back().copied();
        if past.len() >= 10 {
            past.pop_front();
        }
        past.push_back(now);
        let least = past.iter().copied().fold(f64::MAX, f64::min).max(min);
        let rise = 6.0f64.min(max * 0.25);
        assert!(
            now <= least + rise + 1e-6,
            "seed {seed}: {charger} rose to {now} in 10 s at {at} s"
        );
        let control = matches!(
            reason,
            Reason::BelowMinimum { .. }
                | Reason::Disobeys
                | Reason::AwaitsOthers
                | Reason::SwitchesPhases
        );
        if before.is_some_and(|before| before > 0.0) && now == 0.0 && control {
            let pauses = self.pauses.entry(charger.clone()).or_default();
            pauses.push_back(at);
            pauses.retain(|paused| at - paused < 3600.0);
            assert!(pauses.len() <= 6, "seed {seed}: {charger} paused {} times", pauses.len());
        }
        if matches!(reason, Reason::FireAlarm { .. }) {
            assert_eq!(now, 0.0, "seed {seed}: {charger} charges into a fire");
        }
    }
}
