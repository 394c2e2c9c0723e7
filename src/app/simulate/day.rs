//! `wattgate simulate`: days of a site in virtual time, and what came of them. Weather, building and cars
//! come from the seed; the controller is the real one.
//!
//! What a stranger gets wrong: the site is simulated as if it were allowed to write (`mode = "auto"`),
//! with a building whose largest phase comes near `max_base_load_a`.

use std::path::{Path, PathBuf};

use chrono::{DateTime, NaiveDate, Utc};
use simulators::scenario::{Make, PileSpec, Scenario, Visit};

use super::plant::Plant;
use super::stress::Stress;
use crate::config::{self, Report};
use crate::io::clock::Clock;
use crate::io::store::{Head, Line, TraceWriter, digest, site_hash};
use crate::logic::controller::Controller;
use crate::logic::decision::{Decision, Latched};
use crate::logic::site::{Charger, ChargerSetpoint, Reason, Site};
use crate::units::Phase;

/// What is simulated.
#[derive(Clone, Debug)]
pub struct SimulateOptions {
    /// The site file.
    pub site: PathBuf,
    /// Days.
    pub days: u32,
    /// The same seed gives the same days.
    pub seed: u64,
    /// Where a trace is written.
    pub trace: Option<PathBuf>,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Chargers of the site.
    pub chargers: usize,
    /// Days simulated.
    pub days: u32,
    /// Energy into cars, kWh.
    pub cars_kwh: f64,
    /// Cars that came.
    pub cars: usize,
    /// Imported energy, kWh.
    pub import_kwh: f64,
    /// Exported energy, kWh.
    pub export_kwh: f64,
    /// What the grid's energy cost less what was earned, and in which currency; with a tariff only.
    pub cost: Option<(f64, String)>,
    /// Largest breaker stress; 1 is a trip.
    pub stress: f64,
    /// Longest time above the limit of a phase, s.
    pub over_s: f64,
    /// Times that a charger had to give way to a limit.
    pub throttled: u64,
    /// Times that one was paused for it.
    pub paused: u64,
    /// Different alarms that came up.
    pub alarms: usize,
    /// What this took, s of wall time.
    pub took_s: f64,
}

/// Why nothing was simulated.
#[derive(Debug, thiserror::Error)]
pub enum SimulateError {
    /// The site file cannot be used.
    #[error("the configuration cannot be used")]
    Config(Report),
    /// The trace cannot be written.
    #[error("{path}: {cause}")]
    Trace {
        /// Where.
        path: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
}

/// Seconds of a day.
const DAY_S: u32 = 86_400;

/// Simulates and sums up.
///
/// # Errors
/// When the site file is broken or the trace cannot be written.
pub fn run(options: &SimulateOptions) -> Result<Summary, SimulateError> {
    let (config, _) = config::load(&options.site).map_err(SimulateError::Config)?;
    let site = Site { mode: crate::logic::site::Mode::Auto, ..config.site };
    let clock = Clock::real();
    let began = clock.now();
    let mut trace = Trace::of(options.trace.as_deref());
    let mut summary = days(&site, (options.days, options.seed), &mut trace);
    if let Some((path, cause)) = trace.failed {
        return Err(SimulateError::Trace { path, cause });
    }
    summary.took_s = began.age_at(clock.now()).as_secs_f64();
    Ok(summary)
}

/// Days of a site.
fn days(site: &Site, (days, seed): (u32, u64), trace: &mut Trace) -> Summary {
    let start = midnight(site);
    let scenario = scenario(site, days, seed);
    let mut summary = Summary {
        chargers: site.chargers.len(),
        days,
        cars: scenario.visits.len(),
        ..Summary::default()
    };
    let mut plant = Plant::new(site, scenario, seed, start);
    plant.drivers_tell = site.tariff.is_some();
    let mut controller = Controller::new(site.clone(), plant.now());
    trace.begin(site, &plant);
    let mut book = Book::new(site, &plant);
    let mut last = None;
    for _ in 0..days.saturating_mul(DAY_S) {
        let limits = &site.limits;
        plant.pass(&mut |world, dt| {
            let watts = world.grid_phases_w();
            let amps: [f64; 3] = std::array::from_fn(|i| watts[i] / world.volts[i]);
            book.stress.carry(amps, limits.breaker.get(), dt);
            let over = Phase::ALL.iter().any(|p| amps[*p as usize] > limits.limit.on(*p).get());
            book.over_s = if over { book.over_s + dt } else { 0.0 };
            summary.over_s = summary.over_s.max(book.over_s);
        });
        plant.listen(site, &mut |observation| {
            trace.heard(&observation);
            controller.observe(observation);
        });
        let decision = controller.decide(plant.now());
        trace.ticked(&plant, &decision);
        book.decided(site, &decision, &mut summary);
        book.paid(site, &plant);
        plant.obey(site, &decision);
        last = Some(decision);
    }
    trace.end();
    book.close(site, &plant, &mut summary);
    // Nobody acknowledges: whatever came up is still in the book.
    summary.alarms = last.map_or(0, |decision| controller.overview(&decision).alarms.len());
    summary
}

/// Where a day of the site's own clock begins.
fn midnight(site: &Site) -> DateTime<Utc> {
    let zone = site.tariff.as_ref().map_or(chrono_tz::Tz::UTC, |tariff| tariff.zone);
    let day = NaiveDate::from_ymd_opt(2026, 5, 28).and_then(|day| day.and_hms_opt(0, 0, 0));
    let local = day.and_then(|day| day.and_local_timezone(zone).earliest());
    local.map_or(DateTime::UNIX_EPOCH, |local| local.to_utc())
}

/// Who comes and what the building takes. Each charger has about two cars a day, most of them by day.
fn scenario(site: &Site, days: u32, seed: u64) -> Scenario {
    let mut rng = fastrand::Rng::with_seed(seed);
    let end_s = f64::from(days) * f64::from(DAY_S);
    let mut visits = Vec::new();
    for (i, charger) in site.chargers.iter().enumerate() {
        let mut at = 3600.0 * (5.0 + 5.0 * rng.f64());
        while at < end_s {
            let stays = 3600.0 * (1.5 + 6.0 * rng.f64());
            visits.push(Visit {
                arrives_s: at,
                leaves_s: at + stays,
                soc: 0.15 + 0.6 * rng.f64(),
                capacity_kwh: 40.0 + 40.0 * rng.f64(),
                phases: if rng.u8(0..4) == 0 { 1 } else { charger.phases.len() },
                max_a: [16.0, 16.0, 32.0][rng.usize(0..3)],
                look: rng.u64(0..6),
                ..Visit::guest(&format!("bay{}", i + 1))
            });
            at += stays + 3600.0 * (0.5 + 8.0 * rng.f64());
        }
    }
    let limit = site.limits.limit.on(Phase::L1).get() * site.limits.nominal_voltage.get() * 3.0;
    // The building's largest phase has 45 % of it, at most 1.18 times 1.8 of the late morning's.
    let base_w = site.limits.max_base_load.get() * site.limits.nominal_voltage.get();
    Scenario {
        name: "simulate".to_owned(),
        start_hour: 0.0,
        bays: site.chargers.len(),
        piles: site.chargers.iter().map(pile).collect(),
        building_w: base_w / 0.45 / (1.18 * 1.8),
        pv_peak_w: if site.pvs.is_empty() { 0.0 } else { 0.3 * limit },
        node_w: site.computes.first().map(|node| node.max.get()),
        visits,
        events: Vec::new(),
        repeat_h: None,
        module: false,
    }
}

fn pile(charger: &Charger) -> PileSpec {
    let number = |phase: &Phase| *phase as usize + 1;
    let mut phases: Vec<usize> = charger.phases.iter().map(number).collect();
    let rest: Vec<usize> = (1..=3).filter(|phase| !phases.contains(phase)).collect();
    phases.extend(rest);
    let at = |i: usize| phases.get(i).copied().unwrap_or(i + 1);
    PileSpec { make: Make::Alfen, rotation: [at(0), at(1), at(2)] }
}

/// What is counted on the way.
struct Book {
    stress: Stress,
    over_s: f64,
    cars_wh: f64,
    grid_wh: (f64, f64),
    paid: f64,
    paid_to: (f64, f64),
    last: Vec<f64>,
}

impl Book {
    fn new(site: &Site, plant: &Plant) -> Book {
        let grid_wh = (plant.world.import_wh, plant.world.export_wh);
        Book {
            stress: Stress::default(),
            over_s: 0.0,
            cars_wh: plant.world.piles.iter().map(|pile| pile.energy_wh).sum(),
            grid_wh,
            paid: 0.0,
            paid_to: grid_wh,
            last: vec![0.0; site.chargers.len()],
        }
    }

    fn decided(&mut self, site: &Site, decision: &Decision, summary: &mut Summary) {
        for (charger, last) in site.chargers.iter().zip(&mut self.last) {
            let Some((setpoint, reason)) = decision.permitted.charger(&charger.id) else {
                continue;
            };
            let limited = matches!(
                reason,
                Reason::GridLimit { .. }
                    | Reason::CircuitLimit { .. }
                    | Reason::PowerLimit
                    | Reason::DemandLimit
                    | Reason::Dimmed
                    | Reason::UnbalanceLimit { .. }
                    | Reason::BelowMinimum { .. }
            );
            let now = setpoint.amps().get();
            if limited && now < *last {
                match setpoint {
                    ChargerSetpoint::Pause => summary.paused += 1,
                    ChargerSetpoint::Current(_) => summary.throttled += 1,
                }
            }
            *last = now;
        }
    }

    fn paid(&mut self, site: &Site, plant: &Plant) {
        if let Some(tariff) = &site.tariff {
            let (import, export) = (plant.world.import_wh, plant.world.export_wh);
            let price = tariff.import_at(plant.now().utc);
            self.paid += (import - self.paid_to.0) / 1000.0 * price;
            self.paid -= (export - self.paid_to.1) / 1000.0 * tariff.export;
            self.paid_to = (import, export);
        }
    }

    fn close(self, site: &Site, plant: &Plant, summary: &mut Summary) {
        let world = &plant.world;
        let cars: f64 = world.piles.iter().map(|pile| pile.energy_wh).sum();
        summary.cars_kwh = (cars - self.cars_wh) / 1000.0;
        summary.import_kwh = (world.import_wh - self.grid_wh.0) / 1000.0;
        summary.export_kwh = (world.export_wh - self.grid_wh.1) / 1000.0;
        summary.cost = site.tariff.as_ref().map(|tariff| (self.paid, tariff.currency.clone()));
        summary.stress = self.stress.most();
    }
}

/// The trace, where one is wanted; its first failure ends it.
struct Trace {
    path: Option<PathBuf>,
    writer: Option<TraceWriter>,
    failed: Option<(PathBuf, std::io::Error)>,
}

impl Trace {
    fn of(path: Option<&Path>) -> Trace {
        Trace { path: path.map(Path::to_owned), writer: None, failed: None }
    }

    fn begin(&mut self, site: &Site, plant: &Plant) {
        let Some(path) = &self.path else { return };
        let head = Head {
            site_hash: site_hash(site),
            site: site.clone(),
            latched: Latched::default(),
            jobs: Default::default(),
            started: plant.now(),
            vision_pace: 1.0,
            part: 0,
        };
        let created = TraceWriter::create(path, head);
        match created {
            Ok(writer) => self.writer = Some(writer),
            Err(cause) => self.failed = Some((path.clone(), cause)),
        }
    }

    fn write(&mut self, act: impl FnOnce(&mut TraceWriter) -> std::io::Result<()>) {
        if let Some(writer) = &mut self.writer
            && let Err(cause) = act(writer)
        {
            self.failed = self.path.clone().map(|path| (path, cause));
            self.writer = None;
        }
    }

    fn heard(&mut self, observation: &crate::logic::observation::Observation) {
        if self.writer.is_some() {
            let line = Line::Heard(observation.clone());
            self.write(|writer| writer.append(&line));
        }
    }

    fn ticked(&mut self, plant: &Plant, decision: &Decision) {
        if self.writer.is_some() {
            let line = Line::Ticked { at: plant.now(), digest: digest(decision) };
            self.write(|writer| writer.append(&line));
        }
    }

    fn end(&mut self) {
        self.write(TraceWriter::flush);
    }
}
