//! A gateway's inner half for tests: simulated devices, the field bus on their sockets, and a mind that is
//! either the controller or the test's own hand.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use simulators::faults::Faults;
use simulators::scenario::{Make, Scenario};
use simulators::site::{self, Addresses, Site};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use wattgate::config::{self, Config};
use wattgate::io::clock::Clock;
use wattgate::io::modbus::{self, Wiring};
use wattgate::logic::controller::Controller;
use wattgate::logic::decision::{Decision, Duty, Overview};
use wattgate::logic::observation::{Finding, Observation, Silence};
use wattgate::logic::safety::interlock;
use wattgate::logic::site::{ChargerSetpoint, Id, PhaseCount, Reading, Reason, Setpoints};
use wattgate::units::Amps;

use crate::gateway::{now, until};

/// The controller decides this often.
const PERIOD: Duration = Duration::from_secs(1);

/// Who decides.
enum Mind {
    Controller(Box<Controller>),
    Hand,
}

/// What the test's hand tells the chargers, A; nothing writes nothing.
type Told = Arc<Mutex<Option<Currents>>>;

/// Current of each charger, A, and the phases of those that may change them.
type Currents = (BTreeMap<Id, f64>, BTreeMap<Id, PhaseCount>);

type Seen = Arc<Mutex<Vec<(Instant, Observation)>>>;

pub struct Rig {
    runtime: Runtime,
    pub sim: Site,
    pub config: Config,
    seen: Seen,
    told: Told,
    decisions: watch::Sender<Option<Arc<Decision>>>,
    shutdown: watch::Sender<bool>,
    overview: Arc<Mutex<Option<Overview>>>,
    writes: watch::Receiver<BTreeMap<String, u64>>,
    tasks: Vec<JoinHandle<()>>,
    clock: Clock,
}

/// The simulated devices alone, and what they run on.
pub fn devices(scenario: &str) -> (Runtime, Site) {
    let runtime = Runtime::new().unwrap();
    let scenario = Scenario::find(scenario).unwrap();
    let options = site::Options { scenario, seed: 7, speed: 1.0, port: 0 };
    let sim = runtime.block_on(site::start(options)).unwrap();
    (runtime, sim)
}

/// Site file of the simulated devices.
pub fn site_file(at: &Addresses) -> String {
    let mut text = format!(
        "[site]\nid = \"rig\"\nmode = \"auto\"\n\
         [grid]\nmeter = \"grid\"\nlimit_a = 50\nbreaker_a = 63\nmax_base_load_a = 20\n\
         [[device]]\nid = \"grid\"\nprofile = \"eastron-sdm630\"\naddress = \"tcp://{}\"\n",
        at.meter
    );
    for pile in &at.piles {
        let profile = match pile.make {
            Make::Alfen => "alfen-ng9",
            Make::Keba => "keba-p40",
            Make::Abb => "abb-terra-ac",
        };
        let (id, address) = (&pile.id, pile.address);
        writeln!(
            text,
            "[[device]]\nid = \"{id}\"\nprofile = \"{profile}\"\naddress = \"tcp://{address}\"\n\
             max_a = 32\nfailsafe_a = 6"
        )
        .unwrap();
    }
    text
}

/// A checked site file.
pub fn checked(text: &str) -> Config {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("site.toml");
    std::fs::write(&file, text).unwrap();
    match config::load(&file) {
        Ok((config, _)) => config,
        Err(report) => panic!("{text}\n{report:?}"),
    }
}

impl Rig {
    /// All devices of a scenario, decided by the controller.
    pub fn thinking(scenario: &str) -> Rig {
        Rig::build(scenario, true, |_| {})
    }

    /// All devices of a scenario, told by hand, the configuration changed before.
    pub fn by_hand(scenario: &str, change: impl FnOnce(&mut Config)) -> Rig {
        Rig::build(scenario, false, change)
    }

    pub fn build(scenario: &str, thinks: bool, change: impl FnOnce(&mut Config)) -> Rig {
        let (runtime, sim) = devices(scenario);
        let mut config = checked(&site_file(sim.addresses()));
        change(&mut config);
        Rig::start((runtime, sim), config, thinks)
    }

    /// The bus on any devices of a configuration.
    pub fn start((runtime, sim): (Runtime, Site), config: Config, thinks: bool) -> Rig {
        let clock = Clock::real();
        let (observations, inbox) = sync_channel(256);
        let (decisions, newest) = watch::channel(None);
        let (shutdown, stopped) = watch::channel(false);
        let (counter, writes) = watch::channel(BTreeMap::new());
        let wiring = Wiring {
            fieldbus: config.fieldbus.clone(),
            site: Arc::new(config.site.clone()),
            clock,
            observations,
            decisions: newest,
            writes: counter,
            shutdown: stopped,
        };
        let tasks = runtime.block_on(async { modbus::start(&config.devices, &wiring) });
        drop(wiring);
        let mind = match thinks {
            true => Mind::Controller(Box::new(Controller::new(config.site.clone(), clock.now()))),
            false => Mind::Hand,
        };
        let rig = Rig {
            runtime,
            sim,
            config,
            seen: Arc::default(),
            told: Arc::default(),
            decisions,
            shutdown,
            overview: Arc::default(),
            writes,
            tasks,
            clock,
        };
        rig.think(mind, inbox);
        rig
    }

    /// The mind's thread: observations in, a decision a second out. Ends with the bus.
    fn think(&self, mut mind: Mind, inbox: Receiver<Observation>) {
        let (seen, told, decisions) =
            (Arc::clone(&self.seen), Arc::clone(&self.told), self.decisions.clone());
        let (overview, site, clock) =
            (Arc::clone(&self.overview), self.config.site.clone(), self.clock);
        std::thread::spawn(move || {
            let mut next = now();
            loop {
                let wait = next.saturating_duration_since(now());
                match inbox.recv_timeout(wait) {
                    Ok(observation) => {
                        seen.lock().unwrap().push((now(), observation.clone()));
                        if let Mind::Controller(controller) = &mut mind {
                            controller.observe(observation);
                        }
                        continue;
                    }
                    Err(RecvTimeoutError::Disconnected) => return,
                    Err(RecvTimeoutError::Timeout) => next += PERIOD,
                }
                let decision = match &mut mind {
                    Mind::Controller(controller) => {
                        let decision = controller.decide(clock.now());
                        *overview.lock().unwrap() = Some(controller.overview(&decision));
                        Some(decision)
                    }
                    Mind::Hand => {
                        let told = told.lock().unwrap().clone();
                        told.map(|told| by_hand(&site, &told, clock))
                    }
                };
                if let Some(decision) = decision {
                    decisions.send_replace(Some(Arc::new(decision)));
                }
            }
        });
    }

    /// Tells chargers their currents from now on, at once and every second again.
    pub fn tell(&self, amps: &[(&str, f64)]) {
        self.tell_phases(amps, &[]);
    }

    /// The same, and on how many phases they shall charge.
    pub fn tell_phases(&self, amps: &[(&str, f64)], phases: &[(&str, PhaseCount)]) {
        let amps = amps.iter().map(|(name, amps)| (id(name), *amps)).collect();
        let phases = phases.iter().map(|(name, count)| (id(name), *count)).collect();
        let told: Currents = (amps, phases);
        *self.told.lock().unwrap() = Some(told.clone());
        let decision = by_hand(&self.config.site, &told, self.clock);
        self.decisions.send_replace(Some(Arc::new(decision)));
    }

    /// Decides nothing any more.
    pub fn fall_silent(&self) {
        *self.told.lock().unwrap() = None;
    }

    pub fn faults(&self, device: &str, faults: Faults) {
        self.sim.shared().set_faults(device, faults).unwrap();
    }

    pub fn heal(&self, device: &str) {
        self.faults(device, Faults::default());
    }

    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// What came since `since`.
    pub fn since(&self, since: Instant) -> Vec<(Instant, Observation)> {
        let seen = self.seen.lock().unwrap();
        seen.iter().filter(|(at, _)| *at >= since).cloned().collect()
    }

    /// Readings of a device since `since`, and when they came.
    pub fn readings(&self, device: &str, since: Instant) -> Vec<(Instant, Reading)> {
        let of = |(at, observation): (Instant, Observation)| match observation {
            Observation::Answered { device: name, reading, .. } if name.as_str() == device => {
                Some((at, reading))
            }
            _ => None,
        };
        self.since(since).into_iter().filter_map(of).collect()
    }

    /// Why a device did not answer, since `since`.
    pub fn silences(&self, device: &str, since: Instant) -> Vec<(Instant, Silence)> {
        let of = |(at, observation): (Instant, Observation)| match observation {
            Observation::Silent { device: name, why, .. } if name.as_str() == device => {
                Some((at, why))
            }
            _ => None,
        };
        self.since(since).into_iter().filter_map(of).collect()
    }

    /// Waits until a device has answered.
    pub fn answered(&self, device: &str, since: Instant, patience: Duration) -> Reading {
        until(&format!("an answer of {device}"), patience, || {
            self.readings(device, since).pop().map(|(_, reading)| reading)
        })
    }

    /// Waits until something is found of a device, or is no longer so; how long that took.
    pub fn found(
        &self,
        device: &str,
        what: (Finding, bool),
        since: Instant,
        patience: Duration,
    ) -> Duration {
        until(&format!("{what:?} of {device}"), patience, || {
            self.since(since).into_iter().find_map(|(at, observation)| match observation {
                Observation::Found { device: name, finding, holds, .. }
                    if name.as_str() == device && (finding, holds) == what =>
                {
                    Some(at - since)
                }
                _ => None,
            })
        })
    }

    /// Writes to a device that the bus has counted, all registers together.
    pub fn counted(&self, device: &str) -> u64 {
        let of = |name: &str| name.split_once('/').is_some_and(|(id, _)| id == device);
        self.writes.borrow().iter().filter(|(name, _)| of(name)).map(|(_, count)| count).sum()
    }

    /// The setpoint that a pile holds in truth, A.
    pub fn held(&self, pile: usize) -> f64 {
        self.sim.shared().with(|world| world.piles[pile].setpoint_a)
    }

    /// The current that a pile allows in truth, A.
    pub fn limit(&self, pile: usize) -> f64 {
        self.sim.shared().with(|world| world.piles[pile].limit_a())
    }

    /// Writes to one register of a device that the bus has counted.
    pub fn counted_at(&self, device: &str, register: u16) -> u64 {
        self.writes.borrow().get(&format!("{device}/{register}")).copied().unwrap_or_default()
    }

    /// Ends the bus as a gateway that is told to stop does.
    pub fn stop(&mut self) {
        self.shutdown.send_replace(true);
        let tasks = std::mem::take(&mut self.tasks);
        self.runtime.block_on(async {
            for task in tasks {
                let _ = tokio::time::timeout(Duration::from_secs(6), task).await;
            }
        });
    }

    pub fn overview(&self) -> Option<Overview> {
        self.overview.lock().unwrap().clone()
    }

    /// Codes of the active alarms with what they are about.
    pub fn alarms(&self) -> Vec<String> {
        let overview = self.overview();
        let alarms = overview.into_iter().flat_map(|overview| overview.alarms);
        alarms.filter(|alarm| alarm.active).map(|alarm| alarm.id).collect()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.stop();
    }
}

pub fn id(text: &str) -> Id {
    Id::try_from(text).unwrap()
}

fn by_hand(site: &wattgate::logic::site::Site, told: &Currents, clock: Clock) -> Decision {
    let (amps, phases) = told;
    let mut wishes = Setpoints { phases: phases.clone(), ..Setpoints::default() };
    for (id, amps) in amps {
        let setpoint = match *amps {
            amps if amps > 0.0 => ChargerSetpoint::Current(Amps(amps)),
            _ => ChargerSetpoint::Pause,
        };
        wishes.chargers.insert(id.clone(), (setpoint, Reason::DeviceMaximum));
    }
    Decision {
        sequence: 1,
        at: clock.now(),
        writing: true,
        permitted: interlock::permit(site, wishes, &BTreeMap::new()),
        errands: Vec::new(),
        duty: Duty::default(),
    }
}
