//! Random sites with random faults in virtual time: 1 to 50 chargers on trees of circuits, with and
//! without battery, PV and compute; devices that fall silent, freeze, lie, ignore and reboot; loads that
//! jump. Every rule is watched in every second.
//!
//! What a stranger gets wrong: one seed makes site, weather, cars and faults. `WATTGATE_SEED=n` plays one
//! world again; the failing one is named in the message.

use std::collections::BTreeMap;
use std::time::Duration;

use simulators::scenario::{Make, PileSpec, Scenario, Visit};
use wattgate::app::simulate::{Plant, What, Who};
use wattgate::logic::controller::Controller;
use wattgate::logic::decision::Decision;
use wattgate::logic::observation::Observation;
use wattgate::logic::site::{
    Battery, Charger, Circuit, Compute, GridLimits, Inverter, OnBlind, Right, Site, Switching, Zone,
};
use wattgate::logic::vision::Verdict;
use wattgate::units::{Amps, PerPhase, Phase, Soc, Volts, WattHours, Watts};

use crate::bench::{id, site};
use crate::chosen;
use crate::seeds::{on_all_cores, seeds};
use crate::watch::Watch;

/// Chance of `part` in `whole`.
fn chance(rng: &mut fastrand::Rng, part: u32, whole: u32) -> bool {
    rng.u32(0..whole) < part
}

fn between(rng: &mut fastrand::Rng, low: f64, high: f64) -> f64 {
    low + (high - low) * rng.f64()
}

/// A random site; its failsafe sums hold by construction.
pub fn random_site(rng: &mut fastrand::Rng) -> Site {
    let mut random = site();
    let count = (50f64.powf(rng.f64())).round() as usize;
    random.chargers = (1..=count).map(|i| random_charger(rng, i)).collect();
    random.batteries.clear();
    random.pvs.clear();
    if chance(rng, 6, 10) {
        let watts = Watts(between(rng, 3_000.0, 40_000.0));
        let min_soc = Soc::from_ratio(0.1).unwrap();
        let capacity = Some(WattHours(watts.get() * 2.0));
        random.batteries.push(Battery {
            max_charge: watts,
            max_discharge: watts,
            min_soc,
            capacity,
            ..site().batteries[0].clone()
        });
    }
    if chance(rng, 6, 10) {
        random.pvs.push(id("hybrid"));
    }
    if chance(rng, 3, 10) {
        let max = Watts(between(rng, 3_000.0, 20_000.0));
        let (min, failsafe, step) = (Watts(800.0), Watts(2000.0), Watts(1.0));
        let (phases, name) = (Phase::ALL.to_vec(), "node".to_owned());
        random.computes.push(Compute { id: id("node"), name, phases, min, max, failsafe, step });
    }
    random.cameras.truncate(usize::from(chance(rng, 1, 2)));
    random.bays.clear();
    random.zones = vec![Zone {
        bays: Vec::new(),
        chargers: random.chargers.iter().map(|c| c.id.clone()).collect(),
        cameras: random.cameras.iter().map(|c| c.id.clone()).collect(),
        battery: random.batteries.first().map(|b| b.id.clone()),
        on_blind: if rng.bool() { OnBlind::Derate } else { OnBlind::Hold },
        ..random.zones[0].clone()
    }];
    if random.cameras.is_empty() {
        random.zones.clear();
    }
    random.circuits = random_circuits(rng, &random.chargers);
    random.limits = random_limits(rng, &random);
    random.inverters.clear();
    if let Some(pv) = random.pvs.first()
        && chance(rng, 1, 2)
    {
        let most = random.limits.limit.on(Phase::L1).get() * 690.0;
        let battery = random.batteries.first().map_or(0.0, |battery| battery.max_discharge.get());
        let rated = Watts(most * 0.6 + battery);
        random.inverters = vec![Inverter { id: pv.clone(), rated }];
        random.limits.export = Some(Watts(if rng.bool() { 0.0 } else { most * 0.3 * rng.f64() }));
    }
    chosen::draw(rng, &mut random);
    random
}

fn random_charger(rng: &mut fastrand::Rng, number: usize) -> Charger {
    let turns = [[0, 1, 2], [1, 2, 0], [2, 0, 1]][rng.usize(0..3)];
    let wired = if chance(rng, 1, 4) { 1 } else { 3 };
    let priority = if chance(rng, 1, 4) { rng.u8(0..3) } else { 0 };
    let weight = if chance(rng, 1, 4) { between(rng, 0.5, 3.0) } else { 1.0 };
    Charger {
        id: id(&format!("pile{number}")),
        phases: turns[..wired].iter().map(|phase| Phase::ALL[*phase]).collect(),
        max: Amps([16.0, 32.0][rng.usize(0..2)]),
        failsafe: Amps(if chance(rng, 1, 5) { 0.0 } else { 6.0 }),
        step: Amps([0.1, 1.0][rng.usize(0..2)]),
        right: Right { priority, weight },
        switching: random_switching(rng, wired),
        ..site().chargers[0].clone()
    }
}

/// Half of those on three phases may go to one; what else is drawn stays as it was without.
fn random_switching(rng: &fastrand::Rng, wired: usize) -> Option<Switching> {
    let mut own = rng.clone();
    let (most, lockout) = (own.u32(1..5), Duration::from_secs(own.u64(60..900)));
    let settle = Duration::from_secs(own.u64(0..60));
    (wired == 3 && own.bool()).then_some(Switching { most, lockout, settle })
}

/// Sum of the failsafe currents of some chargers on the phase that has most of it.
fn failsafe_sum<'a>(chargers: impl Iterator<Item = &'a Charger> + Clone) -> f64 {
    let on = |phase: Phase| -> f64 {
        chargers.clone().filter(|c| c.phases.contains(&phase)).map(|c| c.failsafe.get()).sum()
    };
    Phase::ALL.into_iter().map(on).fold(0.0, f64::max)
}

fn random_circuits(rng: &mut fastrand::Rng, chargers: &[Charger]) -> Vec<Circuit> {
    let count = rng.usize(0..5).min(chargers.len());
    let mut circuits: Vec<Circuit> = (0..count)
        .map(|i| Circuit {
            id: id(&format!("row{i}")),
            name: format!("row{i}"),
            parent: (i > 0 && rng.bool()).then(|| id("row0")),
            limit: None,
            power: None,
            base_load: Amps(if rng.bool() { 0.0 } else { 3.0 }),
            members: Vec::new(),
        })
        .collect();
    if count == 0 {
        return circuits;
    }
    for charger in chargers {
        if chance(rng, 4, 5) {
            circuits[rng.usize(0..count)].members.push(charger.id.clone());
        }
    }
    for i in 0..count {
        let all = |c: &&Charger| {
            circuits[i].members.contains(&c.id)
                || (i == 0
                    && circuits
                        .iter()
                        .any(|below| below.parent.is_some() && below.members.contains(&c.id)))
        };
        let least = failsafe_sum(chargers.iter().filter(all)) + circuits[i].base_load.get();
        let amps = (least.max(10.0) * between(rng, 1.02, 3.0)).ceil();
        circuits[i].limit = Some(PerPhase::all(Amps(amps)));
        circuits[i].power = chance(rng, 1, 4).then(|| Watts(amps * 690.0 * between(rng, 0.9, 1.0)));
    }
    circuits.retain(|circuit| {
        circuit.power.is_none_or(|watts| {
            watts.get() / 690.0 > failsafe_sum(chargers.iter()) + circuit.base_load.get()
        })
    });
    let names: Vec<_> = circuits.iter().map(|circuit| circuit.id.clone()).collect();
    for circuit in &mut circuits {
        circuit.parent = circuit.parent.take().filter(|parent| names.contains(parent));
    }
    circuits
}

fn random_limits(rng: &mut fastrand::Rng, random: &Site) -> GridLimits {
    let nodes: f64 = random.computes.iter().map(|node| node.failsafe.get() / 690.0).sum();
    let base = between(rng, 8.0, 60.0);
    let least = failsafe_sum(random.chargers.iter()) + nodes + base;
    let breaker = (least * between(rng, 1.02, 2.0)).ceil();
    let limit = breaker * between(rng, 0.9, 1.0);
    GridLimits {
        limit: PerPhase::all(Amps(limit)),
        breaker: Amps(breaker),
        nominal_voltage: Volts(230.0),
        max_base_load: Amps(base),
        power: chance(rng, 1, 5).then(|| Watts(limit * 690.0 * between(rng, 0.85, 1.0))),
        unbalance: chance(rng, 1, 5).then_some(Amps(20.0)),
        ..random.limits.clone()
    }
}

/// Cars for a site: each charger has one most of the time.
pub fn random_scenario(rng: &mut fastrand::Rng, random: &Site, hours: f64) -> Scenario {
    let mut visits = Vec::new();
    for (i, charger) in random.chargers.iter().enumerate() {
        let mut at = between(rng, -3600.0, 2400.0);
        while at < hours * 3600.0 {
            let stays = between(rng, 1200.0, 14_400.0);
            visits.push(Visit {
                arrives_s: at,
                leaves_s: at + stays,
                soc: between(rng, 0.1, 0.98),
                phases: if chance(rng, 1, 5) { 1 } else { charger.phases.len() },
                max_a: [10.0, 16.0, 32.0][rng.usize(0..3)],
                look: rng.u64(0..6),
                ..Visit::guest(&format!("bay{}", i + 1))
            });
            at += stays + between(rng, 60.0, 3600.0);
        }
    }
    // A KEBA that restarts has forgotten its failsafe and allows its rated current until it is written again:
    // within seconds, but nobody is faster than its own start. It is not put where that alone is half beyond
    // the breaker.
    let base = random.limits.max_base_load.get();
    let forgets = |charger: &Charger| base + charger.max.get() <= 1.5 * random.limits.breaker.get();
    let pile = |charger: &Charger| {
        let mut rotation: Vec<usize> = charger.phases.iter().map(|p| *p as usize + 1).collect();
        rotation.extend((1..=3).filter(|p| !charger.phases.iter().any(|q| *q as usize + 1 == *p)));
        let make = match [Make::Alfen, Make::Keba, Make::Abb][rng.usize(0..3)] {
            Make::Keba if !forgets(charger) => Make::Alfen,
            make => make,
        };
        PileSpec { make, rotation: [rotation[0], rotation[1], rotation[2]] }
    };
    let piles: Vec<PileSpec> = random.chargers.iter().map(pile).collect();
    let peak = if random.pvs.is_empty() { 0.0 } else { random.limits.limit.on(Phase::L1).get() };
    Scenario {
        name: "world".into(),
        start_hour: between(rng, 0.0, 24.0),
        bays: piles.len(),
        piles,
        // The building's largest phase has 45 % of it, at most 1.18 times 1.8 of this.
        building_w: random.limits.max_base_load.get() * 230.0 / 0.45 / (1.18 * 1.8),
        pv_peak_w: peak * 690.0 * between(rng, 0.1, 0.6),
        node_w: random.computes.first().map(|node| node.max.get()),
        visits,
        events: Vec::new(),
        repeat_h: None,
        module: false,
    }
}

/// One closed loop.
pub struct Life {
    pub plant: Plant,
    pub controller: Controller,
    pub site: Site,
    pub watch: Watch,
    pub rng: fastrand::Rng,
    /// What people say next.
    said: Vec<Observation>,
    seed: u64,
    /// Seconds that are printed: `WATTGATE_TRACE=from-to`.
    traced: std::ops::Range<u64>,
    /// Every observation and moment of decision, where asked for.
    record: Option<Vec<(Vec<Observation>, wattgate::units::Moment, String)>>,
}

impl Life {
    pub fn of(random: Site, scenario: Scenario, seed: u64) -> Life {
        let start = chrono::DateTime::from_timestamp(1_780_000_000, 0).unwrap();
        let plant = Plant::new(&random, scenario, seed, start);
        Life {
            controller: Controller::new(random.clone(), plant.now()),
            watch: Watch::new(&random, seed),
            plant,
            site: random,
            rng: fastrand::Rng::with_seed(seed),
            said: Vec::new(),
            seed,
            traced: traced(),
            record: None,
        }
    }

    /// One second of it.
    pub fn second(&mut self) -> Decision {
        let Life { plant, controller, site, watch, record, said, .. } = self;
        let silenced = plant.troubles.has(Who::Meter, What::Silent);
        plant.pass(&mut |world, dt| watch.physics(site, world, dt));
        let mut heard = record.is_some().then(Vec::new);
        let mut hear = |observation: Observation| {
            if let Some(heard) = &mut heard {
                heard.push(observation.clone());
            }
            watch.choose(site, &observation);
            controller.observe(observation);
        };
        said.drain(..).for_each(&mut hear);
        plant.listen(site, &mut hear);
        let now = plant.now();
        let decision = controller.decide(now);
        watch.decision(site, &decision, silenced, &plant.troubles);
        plant.obey(site, &decision);
        if self.traced.contains(&watch.seconds()) {
            trace(plant, site, &decision);
        }
        if let (Some(record), Some(heard)) = (record, heard) {
            record.push((heard, now, format!("{:?}", decision.permitted)));
        }
        decision
    }

    /// Something happens, most of the time something bad.
    fn event(&mut self) {
        let Life { plant, site, rng, said, .. } = self;
        let now = plant.now();
        said.extend(chosen::choice(rng, site, now));
        let base = site.limits.max_base_load.get() * 230.0 / 0.45;
        let who = |rng: &mut fastrand::Rng| match rng.u8(0..8) {
            0 | 1 => Who::Meter,
            2 => Who::Battery,
            3 => Who::Compute,
            4 => Who::Eyes,
            _ => Who::Charger(rng.usize(0..site.chargers.len())),
        };
        match rng.u8(0..20) {
            0..=4 => plant.world.set_building(Some(base * rng.f64())),
            5 => plant.world.set_building(None),
            6 => plant.world.set_pv(Some(0.0)),
            7 => plant.world.set_pv(None),
            8..=11 => {
                let seconds = between(rng, 1.0, 90.0);
                plant.troubles.begin((who(rng), What::Silent), now, seconds);
            }
            12 => {
                let seconds = between(rng, 1.0, 90.0);
                plant.troubles.begin((who(rng), What::Frozen), now, seconds);
            }
            13 => plant.troubles.begin((who(rng), What::Late), now, between(rng, 5.0, 120.0)),
            14 | 15 => plant.troubles.begin((Who::Meter, What::Garbage), now, 1.0),
            // Later its feeder's relay would act (fault FB10).
            16 => {
                let deaf = Who::Charger(rng.usize(0..site.chargers.len()));
                plant.troubles.begin((deaf, What::Deaf), now, between(rng, 5.0, 25.0));
            }
            17 => {
                let i = rng.usize(0..plant.world.piles.len());
                plant.world.piles[i].reboot();
                plant.troubles.begin((Who::Charger(i), What::Silent), now, between(rng, 2.0, 5.0));
            }
            18 => {
                let hours = [-1, 1, -87_600, 87_600][rng.usize(0..4)];
                plant.shift_clock(chrono::Duration::hours(hours));
            }
            _ if chance(rng, 1, 6) => plant.verdict = Verdict::Alarm,
            _ => plant.verdict = Verdict::Clear,
        }
    }
}

fn traced() -> std::ops::Range<u64> {
    let text = std::env::var("WATTGATE_TRACE").unwrap_or_default();
    let (from, to) = text.split_once('-').unwrap_or(("0", "0"));
    from.parse().unwrap_or(0)..to.parse().unwrap_or(0)
}

/// One second for a person who looks for a cause.
#[allow(clippy::print_stdout)]
fn trace(plant: &Plant, site: &Site, decision: &Decision) {
    let volts = plant.world.volts;
    let watts = plant.world.grid_phases_w();
    let grid: [f64; 3] = std::array::from_fn(|i| (watts[i] / volts[i]).round());
    let building = plant.world.building_w.map(|watts| (watts / 230.0).round());
    println!(
        "{:.0} grid {grid:?} of {:.1}, building {building:?}, battery {:.0}, pv {:.0}, {:?}",
        plant.world.elapsed_s,
        site.limits.limit.on(Phase::L1).get(),
        plant.world.hybrid.battery_w,
        plant.world.hybrid.pv_w,
        plant.troubles
    );
    for (charger, pile) in site.chargers.iter().zip(&plant.world.piles) {
        let (setpoint, why) = decision.permitted.charger(&charger.id).unwrap();
        let (told, takes) = (setpoint.amps().get(), pile.current_a);
        println!("    {} told {told:.1} takes {takes:.1} {why:?} {:?}", charger.id, pile.state());
    }
}

/// What worlds went through: the largest breaker stress, and the longest time above a limit by what excused
/// it, s.
#[derive(Debug, Default)]
pub struct Lived {
    stress: f64,
    excused: BTreeMap<String, f64>,
}

impl Lived {
    fn and(mut self, other: &Lived) -> Lived {
        self.stress = self.stress.max(other.stress);
        for (why, longest) in &other.excused {
            let most = self.excused.entry(why.clone()).or_default();
            *most = most.max(*longest);
        }
        self
    }
}

/// Lives a world.
pub fn live(seed: u64, hours: f64) -> Lived {
    let mut rng = fastrand::Rng::with_seed(seed);
    let random = random_site(&mut rng);
    let scenario = random_scenario(&mut rng, &random, hours);
    let mut life = Life::of(random, scenario, seed);
    if seed.is_multiple_of(16) {
        life.record = Some(Vec::new());
    }
    let mut next = 60;
    for second in 0..(hours * 3600.0) as u32 {
        if second == next {
            life.event();
            next += rng.u32(5..600);
        }
        life.second();
    }
    if let Some(record) = life.record.take() {
        let start = chrono::DateTime::from_timestamp(1_780_000_000, 0).unwrap();
        let uptime = std::time::Duration::from_secs(1000);
        let mut again =
            Controller::new(life.site.clone(), wattgate::units::Moment { uptime, utc: start });
        for (heard, now, told) in record {
            heard.into_iter().for_each(|observation| _ = again.observe(observation));
            let decision = again.decide(now);
            assert_eq!(format!("{:?}", decision.permitted), told, "seed {seed}: replay differs");
        }
    }
    life.watch.finish(&life.plant.world);
    assert_eq!(life.seed, seed);
    Lived { stress: life.watch.stress(), excused: life.watch.excused().clone() }
}

/// Lives worlds on all cores.
fn live_all(seeds: std::ops::Range<u64>, hours: f64) -> Lived {
    if let Ok(seed) = std::env::var("WATTGATE_SEED") {
        return live(seed.parse().unwrap(), hours);
    }
    let ends = on_all_cores(seeds, |seed| live(seed, hours));
    ends.iter().fold(Lived::default(), Lived::and)
}

/// The figures of a run.
#[allow(clippy::print_stdout)]
fn say(what: &str, lived: &Lived) {
    println!("{what}: 0 rules broken, largest breaker stress {:.3}", lived.stress);
    for (why, longest) in &lived.excused {
        println!("    above a limit for {longest:.1} s: {why}");
    }
}

#[test]
fn two_thousand_worlds_keep_every_rule() {
    let seeds = seeds(0, 2_000);
    let what = format!("{} worlds of two hours", seeds.end - seeds.start);
    say(&what, &live_all(seeds, 2.0));
}

#[test]
#[ignore = "long: two thousand site-days"]
fn two_thousand_days_keep_every_rule() {
    let seeds = seeds(10_000, 2_000);
    let what = format!("{} days (seeds from {})", seeds.end - seeds.start, seeds.start);
    say(&what, &live_all(seeds, 24.0));
}
