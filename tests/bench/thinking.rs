//! How long thinking takes: sharing among 100 chargers on three levels, a whole decision for 50 with everything
//! that a site can have, and days of 20. `cargo bench --bench thinking [-- sharing|deciding|day]`; takes a minute.
//!
//! What a stranger gets wrong: the figures are CPU time of the thread, so that a busy machine says the
//! same as a quiet one; what preemption adds is not in them.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::time::Duration;

use simulators::scenario::{Make, PileSpec, Scenario, Visit};
use wattgate::app::simulate::Plant;
use wattgate::logic::controller::Controller;
use wattgate::logic::energy::{Claim, Room, allocate};
use wattgate::logic::site::{
    Band, Battery, Charger, ChargingMode, Circuit, Compute, GridLimits, Id, Inverter, LEAST_EACH,
    Mode, Right, Site, Switching, Tariff,
};
use wattgate::units::{Amps, PerPhase, Phase, Soc, Volts, WattHours, Watts};

/// CPU time of this thread so far.
fn spent() -> Duration {
    let at = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(at.tv_sec as u64, at.tv_nsec as u32)
}

fn id(text: &str) -> Id {
    Id::try_from(text).unwrap()
}

/// A site of `count` chargers on a tree: the grid connection, circuits of 20, circuits of 5 below them.
fn site(count: usize) -> Site {
    let charger = |i: usize| Charger {
        id: id(&format!("pile{i}")),
        name: String::new(),
        phases: [&Phase::ALL[..], &[Phase::L1], &[Phase::L2, Phase::L3, Phase::L1]][i % 3].to_vec(),
        min: Amps(6.0),
        max: Amps(32.0),
        failsafe: Amps(6.0),
        step: Amps(0.1),
        stay: None,
        right: Right { priority: 0, weight: 1.0 + (i % 4) as f64 * 0.5 },
        switching: None,
        mode: wattgate::logic::site::ChargingMode::default(),
        falls_back_within: wattgate::logic::site::FALLS_BACK_WITHIN,
    };
    let circuit = |name: String, parent: Option<Id>, limit: f64, members: Vec<Id>| Circuit {
        id: id(&name),
        name,
        parent,
        limit: Some(PerPhase::all(Amps(limit))),
        power: Some(Watts(limit * 650.0)),
        base_load: Amps(0.0),
        members,
    };
    let mut circuits: Vec<Circuit> = (0..count.div_ceil(20))
        .map(|i| circuit(format!("hall{i}"), None, 230.0 + 10.0 * i as f64, Vec::new()))
        .collect();
    for i in 0..count.div_ceil(5) {
        let members = (5 * i..(5 * i + 5).min(count)).map(|c| id(&format!("pile{c}"))).collect();
        let hall = Some(id(&format!("hall{}", i / 4)));
        circuits.push(circuit(format!("row{i}"), hall, 55.0 + i as f64, members));
    }
    Site {
        id: id("bench"),
        name: String::new(),
        mode: Mode::Auto,
        limits: GridLimits {
            limit: PerPhase::all(Amps(count as f64 * 10.0)),
            breaker: Amps(count as f64 * 10.0),
            nominal_voltage: Volts(230.0),
            max_base_load: Amps(30.0),
            power: None,
            unbalance: Some(Amps(60.0)),
            demand: None,
            dimmed_least: LEAST_EACH,
            export: None,
        },
        meter: id("grid"),
        chargers: (0..count).map(charger).collect(),
        batteries: Vec::new(),
        computes: Vec::new(),
        pvs: Vec::new(),
        inverters: Vec::new(),
        bays: Vec::new(),
        zones: Vec::new(),
        cameras: Vec::new(),
        tariff: None,
        guard: Default::default(),
        work: Default::default(),
        circuits,
    }
}

/// The same site with all that costs thought: a battery, sun that is curtailed, a compute node, chargers that
/// may change phases, in every mode.
fn furnished(count: usize) -> Site {
    let mut site = site(count);
    let (most, lockout) = (Switching::MOST, Duration::from_secs(300));
    let switching = Some(Switching { most, lockout, settle: Duration::from_secs(30) });
    for charger in site.chargers.iter_mut().filter(|charger| charger.phases.len() == 3) {
        charger.switching = switching;
    }
    let modes = ChargingMode::ALL.into_iter().cycle();
    for (charger, mode) in site.chargers.iter_mut().zip(modes) {
        charger.mode = mode;
    }
    let (hybrid, watts) = (id("hybrid"), Watts(1_500.0 * count as f64));
    site.batteries = vec![Battery {
        id: hybrid.clone(),
        name: String::new(),
        max_charge: watts,
        max_discharge: watts,
        min_soc: Soc::from_ratio(0.1).unwrap(),
        capacity: Some(WattHours(watts.get() * 2.0)),
        strategy: Default::default(),
    }];
    site.pvs = vec![hybrid.clone()];
    site.inverters = vec![Inverter { id: hybrid, rated: watts * 3.0 }];
    site.limits.export = Some(watts);
    // The building itself is not balanced, and who is on one phase need not make up for it.
    site.limits.unbalance = None;
    site.computes = vec![Compute {
        id: id("node"),
        name: String::new(),
        phases: Phase::ALL.to_vec(),
        min: Watts(800.0),
        max: Watts(20_000.0),
        failsafe: Watts(2_000.0),
        step: Watts(1.0),
    }];
    site
}

/// A tariff with a cheap night: a plan is made every quarter hour, and when a car comes or goes.
fn tariff() -> Tariff {
    Tariff {
        currency: "EUR".into(),
        zone: chrono_tz::Europe::Berlin,
        import: 0.4,
        export: 0.1,
        bands: vec![Band { from: 22 * 60, to: 6 * 60, import: 0.2 }],
    }
}

fn print(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e6;
    println!("{what}: p50 {:.1} us, p99 {:.1} us, most {:.1} us", at(0.5), at(0.99), at(1.0));
}

fn sharing() {
    let site = site(100);
    let feeders = wattgate::logic::site::Feeders::of(&site);
    let mut rooms = vec![Room::of_phases(site.limits.limit)];
    rooms[0].unbalanced = PerPhase::all(Amps(200.0));
    rooms.extend(site.circuits.iter().map(|circuit| Room {
        power: circuit.power.unwrap(),
        ..Room::of_phases(circuit.limit.unwrap())
    }));
    rooms.push(Room::UNBOUND);
    let claim = |(i, charger): (usize, &'_ Charger)| (6.0 + (i * 7 % 27) as f64, charger.min);
    let wishes: Vec<(f64, Amps)> = site.chargers.iter().enumerate().map(claim).collect();
    let claims: Vec<Claim<'_>> = site
        .chargers
        .iter()
        .zip(&wishes)
        .map(|(charger, (most, _))| Claim {
            charger,
            phases: &charger.phases,
            rooms: feeders.chain(&charger.id),
            most: Amps(*most),
            promised: Amps(if *most > 20.0 { 12.0 } else { 0.0 }),
            reserved: Amps::ZERO,
        })
        .collect();
    let mut bound = 0;
    let mut times = Vec::new();
    for _ in 0..20_000 {
        let start = spent();
        let shares = allocate(&rooms, Volts(230.0), &claims);
        times.push(spent() - start);
        bound += shares.iter().filter(|share| share.bound.is_some()).count();
    }
    print(&format!("sharing among 100 chargers, three levels, {} bound", bound / 20_000), times);
}

/// The loop closed with physics, all plugs taken.
fn plant(site: &Site) -> Plant {
    let visit = |i: usize| Visit {
        arrives_s: 10.0 + 20.0 * i as f64,
        leaves_s: 1e6,
        capacity_kwh: 500.0,
        phases: if site.chargers[i].phases.len() == 1 { 1 } else { 3 },
        ..Visit::guest(&format!("bay{}", i + 1))
    };
    let rotation = |charger: &Charger| {
        let first = charger.phases[0] as usize + 1;
        [first, first % 3 + 1, (first + 1) % 3 + 1]
    };
    let scenario = Scenario {
        bays: site.chargers.len(),
        piles: site
            .chargers
            .iter()
            .map(|c| PileSpec { make: Make::Alfen, rotation: rotation(c) })
            .collect(),
        visits: (0..site.chargers.len()).map(visit).collect(),
        node_w: site.computes.first().map(|node| node.max.get()),
        pv_peak_w: site.inverters.first().map_or(0.0, |inverter| inverter.rated.get()),
        ..Scenario::one_pile()
    };
    let start = chrono::DateTime::from_timestamp(1_780_000_000, 0).unwrap();
    Plant::new(site, scenario, 1, start)
}

fn deciding() {
    for (what, tariff) in [("", None), (", plans among them", Some(tariff()))] {
        let site = Site { tariff, ..furnished(50) };
        let mut plant = plant(&site);
        plant.drivers_tell = site.tariff.is_some();
        let mut controller = Controller::new(site.clone(), plant.now());
        let mut times = Vec::new();
        let (mut wrote, mut on_one) = (0, 0);
        for second in 0..7200 {
            if second % 60 == 0 {
                // Half of the time L1 is nearly full, and who can do without it changes to one phase.
                let amps = if second / 900 % 2 == 1 { 488.0 } else { 10.0 };
                let watts = amps * 230.0 / 0.45 + f64::from(second % 420) * 30.0;
                plant.world.set_building(Some(watts));
            }
            if second % 600 == 0 {
                let watts = site.inverters[0].rated.get() * f64::from(second / 600 % 3) / 3.0;
                plant.world.set_pv(Some(watts));
            }
            plant.pass(&mut |_, _| {});
            plant.listen(&site, &mut |observation| _ = controller.observe(observation));
            let began = spent();
            let decision = controller.decide(plant.now());
            times.push(spent() - began);
            wrote += u32::from(decision.writing);
            plant.obey(&site, &decision);
            let piles = plant.world.piles.iter().zip(&site.chargers);
            on_one = on_one
                .max(piles.filter(|(p, c)| p.connected == 1 && c.switching.is_some()).count());
        }
        assert!(wrote > 7_000 && on_one > 0, "not armed, or nobody changed phases: {on_one}");
        print(
            &format!("a decision for 50 chargers{what}, up to {on_one} switched to one phase"),
            times,
        );
    }
}

fn a_day() {
    let days = [("", site(20)), (", furnished", furnished(20))];
    let planned = Site { tariff: Some(tariff()), ..furnished(20) };
    for (what, site) in days.into_iter().chain([(", furnished and planned", planned)]) {
        let mut plant = plant(&site);
        plant.drivers_tell = site.tariff.is_some();
        let mut controller = Controller::new(site.clone(), plant.now());
        let began = spent();
        let (mut outside, mut heard) = (Duration::ZERO, Duration::ZERO);
        for second in 0..86_400 {
            if second % 600 == 0 {
                plant.world.set_building(Some(3_000.0 + f64::from(second % 4200) * 3.0));
            }
            let start = spent();
            plant.pass(&mut |_, _| {});
            let passed = spent();
            plant.listen(&site, &mut |observation| _ = controller.observe(observation));
            let listened = spent();
            let decision = controller.decide(plant.now());
            plant.obey(&site, &decision);
            outside += passed - start;
            heard += listened - passed;
        }
        let all = spent() - began;
        println!(
            "a day of 20 chargers{what}: {all:.2?}; physics {outside:.2?}, observations {heard:.2?}"
        );
    }
}

fn main() {
    // Cargo's own flags begin with a dash.
    let asked: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let parts: [(&str, fn()); 3] = [("sharing", sharing), ("deciding", deciding), ("day", a_day)];
    for (name, part) in parts {
        if asked.is_empty() || asked.iter().any(|asked| asked == name) {
            part();
        }
    }
}
