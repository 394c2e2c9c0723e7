//! `wattgate run`: the control process. It wires the controller's thread, the field bus, the journal,
//! the uplink and the vision child together, and takes them apart in order.
//!
//! ```text
//!  control (thread)  ◀── observations (bounded) ── fieldbus (own runtime), vision child's reader
//!        └── decision, overview (watch) ──▶ fieldbus ; uplink (own runtime: MQTT, page) ; journal
//! ```
//! What a stranger gets wrong: the controller waits for nobody. It takes what has come, decides once a
//! second, and leaves the newest decision where whoever needs it can look.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::watch;

use super::aside::{self, Begins};
use super::breakage::{Breakage, Part};
use super::child;
use super::desk::{self, Desk};
use super::evidence;
use super::jobs::{self, Books, Crew, Orders};
use super::latch;
use super::life::{Life, millis};
use super::mind::{Mind, OBSERVATIONS};
use super::releases;
use super::service::Service;
use super::shutdown;
use super::storm::Start;
use super::uplink::{self, Uplink};
use super::wear;
use crate::config::{self, Config};
use crate::io::camera::StillBoard;
use crate::io::clock::Clock;
use crate::io::modbus;
use crate::io::random;
use crate::io::store::{Head, Journal, Latch, TraceRing, read_book, read_days, site_hash};
use crate::logic::controller::Controller;
use crate::logic::decision::{Decision, Duty, Overview};
use crate::logic::observation::{Observation, Trouble};
use crate::logic::site::{Mode, Work};
use crate::units::WattHours;

/// The field bus says this often that it moves.
const BUS_BEATS: Duration = Duration::from_millis(100);
/// Longest wait for the field bus to leave its devices at the fallback.
const BUS_STOPS_IN: Duration = Duration::from_secs(5);

/// What `wattgate run` is told.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// The site file.
    pub config: PathBuf,
    /// How fast site time runs; 1 but for simulated sites.
    pub speed: f64,
    /// Site time at the start, where a simulated site has its own.
    pub site_time: Option<DateTime<Utc>>,
    /// State folder instead of the configured one.
    pub state: Option<PathBuf>,
    /// Stop when standard input ends (the demo's child).
    pub stop_with_stdin: bool,
    /// The site is simulated: the page says so.
    pub simulated: bool,
    /// What whoever acknowledges on the page must know; printed at start.
    pub code: String,
}

/// Why the gateway did not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The site file is broken and there is no good copy; the report names every fault.
    #[error("the configuration cannot be used")]
    Config(config::Report),
    /// Another gateway holds the state folder.
    #[error("another wattgate already runs on {0}: stop it first, or give this one its own folder")]
    SecondInstance(PathBuf),
    /// The state folder cannot be used.
    #[error("state folder {path}: {cause}")]
    State {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// The page's address cannot be listened on.
    #[error("cannot listen on {address}: {cause}")]
    Listen {
        /// Which.
        address: std::net::SocketAddr,
        /// Why.
        cause: std::io::Error,
    },
    /// A release on trial did not prove itself: the service manager starts the last one again.
    #[error("this release did not prove itself: the last one runs from the next start on")]
    Unproven,
    /// The journal cannot be started.
    #[error("journal: {0}")]
    Journal(String),
    /// A thread or runtime cannot be started.
    #[error("cannot start {what}: {cause}")]
    Start {
        /// Which.
        what: &'static str,
        /// Why.
        cause: std::io::Error,
    },
}

/// A fresh code of 128 random bits for the page: 32 hexadecimal digits in groups of eight.
///
/// # Errors
/// When the system gives no random numbers.
pub fn page_code() -> std::io::Result<String> {
    let mut bytes = [0; 16];
    random::fill(&mut bytes)?;
    let group = |four: &[u8]| four.iter().map(|b| format!("{b:02x}")).collect::<String>();
    Ok(bytes.chunks(4).map(group).collect::<Vec<_>>().join("-"))
}

/// Runs the gateway until it is asked to stop.
///
/// # Errors
/// When it cannot start; see [`RunError`].
pub fn run(options: &RunOptions) -> Result<(), RunError> {
    let known = Arc::new(OnceLock::new());
    shutdown::end_process_on_vital_panic(Arc::clone(&known));
    let loaded = config::load_or_last_good(&options.config, options.state.as_deref())
        .map_err(RunError::Config)?;
    if let Some(report) = &loaded.fell_back {
        tracing::error!(
            faults = report.faults.len(),
            "site file is broken: running on the last good copy"
        );
    }
    let mut config = loaded.config;
    if let Some(state) = &options.state {
        config.state.clone_from(state);
    }
    let _lock = lock(&config.state)?;
    let began = Clock::real().now().uptime;
    let _ = known.set((config.state.clone(), began));
    let (start, storm) = Start::begin(&config.state, began);
    if storm {
        make_safe(&mut config);
    }
    let watched = Arc::new(AtomicBool::new(false));
    releases::end_unless_watched(&config.state, &watched);
    // The version before one on trial may not understand what this one does: it keeps its own copy.
    if releases::on_trial(&config.state).is_none() {
        config::keep_last_good(&config, &loaded.text).unwrap_or_else(|cause| {
            tracing::warn!(%cause, "the last good copy of the site file could not be kept");
        });
    }
    let clock = Clock::simulated(options.speed, options.site_time);
    let begun = Begun { options, fell_back: loaded.fell_back.is_some(), storm, start };
    // A port that is taken is no crash.
    let forget = |_: &RunError| begun.start.forget(Clock::real().now().uptime);
    let state = config.state.clone();
    let gateway = Gateway::start(config, clock, &begun).inspect_err(forget)?;
    let trial = releases::trial(state, (gateway.overview.clone(), watched));
    let reason = shutdown::wait(options.stop_with_stdin, trial)
        .map_err(|cause| RunError::Start { what: "signals", cause })?;
    tracing::info!(reason = reason.unwrap_or("this release did not prove itself"), "stopping");
    Service::from_environment().stopping();
    gateway.stop();
    begun.start.forget(Clock::real().now().uptime);
    reason.map(|_| ()).ok_or(RunError::Unproven)
}

/// Page and reading only: nothing is written. Nothing can be asked for over MQTT; what is asked for by HTTP is
/// kept for the next start.
fn make_safe(config: &mut Config) {
    tracing::error!("five crashes in a minute: safe mode, nothing is written until the next start");
    config.site.mode = Mode::Observe;
    // Jobs are known and wait; the book keeps them.
    config.site.work.per_hour = Some(WattHours(0.0));
    if let Some(mqtt) = &mut config.mqtt {
        mqtt.commands.clear();
    }
}

/// How the gateway was started, and how the starts before it went.
struct Begun<'o> {
    options: &'o RunOptions,
    fell_back: bool,
    storm: bool,
    start: Start,
}

/// File of the state folder that its gateway holds.
pub(super) const LOCK: &str = "lock";

/// One gateway for one state folder: held as long as the file lives.
pub(super) fn lock(state: &Path) -> Result<File, RunError> {
    let failed = |cause| RunError::State { path: state.to_owned(), cause };
    std::fs::create_dir_all(state).map_err(failed)?;
    let file = File::create(state.join(LOCK)).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(RunError::SecondInstance(state.to_owned())),
        Err(TryLockError::Error(cause)) => Err(failed(cause)),
    }
}

/// Everything that runs.
struct Gateway {
    stop: watch::Sender<bool>,
    stops: Arc<AtomicBool>,
    controller: JoinHandle<()>,
    crew: jobs::Threads,
    bus: JoinHandle<()>,
    /// Threads that write what must not be lost.
    kept: [(&'static str, Option<JoinHandle<()>>); 3],
    uplink: JoinHandle<()>,
    eyes: child::Child,
    journal: Journal,
    overview: watch::Receiver<Option<Arc<Overview>>>,
}

impl Gateway {
    fn start(config: Config, clock: Clock, begun: &Begun<'_>) -> Result<Gateway, RunError> {
        let options = begun.options;
        let breakage = Breakage::default();
        let (stop, stopped) = watch::channel(false);
        let (observations, inbox) = sync_channel(OBSERVATIONS);
        let (decisions, newest_decision) = watch::channel(None);
        let (overviews, overview) = watch::channel(None);
        let (duties, duty) = watch::channel(Duty::default());
        let outbox_cap = config.mqtt.as_ref().map_or(64, |mqtt| mqtt.outbox_cap_mib) << 20;
        let journal = Journal::start(&config.state, outbox_cap, clock)
            .map_err(|error| RunError::Journal(error.to_string()))?;
        let stills = StillBoard::new(config.cameras.iter().map(|camera| camera.id.clone()));
        let (wear, writes, written) = wear::keep(config.state.clone())?;
        let news = (observations.clone(), newest_decision);
        let wiring = wiring(&config, clock, news, (writes, stopped.clone()));
        let bus_moves = Arc::new(AtomicU64::new(millis(Clock::real().now())));
        let bus = start_bus(config.devices.clone(), wiring, (&bus_moves, &breakage))?;
        let stops = Arc::new(AtomicBool::new(false));
        let (to_latch, from_controller) = sync_channel(1);
        let (latch, controller) = remembering(&config, clock, begun);
        let trace = open_trace(&config, &controller, clock);
        let to = (observations.clone(), breakage.clone());
        let latch = latch::keep(latch, from_controller, to, clock)?;
        let (aside, looks) = aside::nothing();
        let life = Life::new(bus_moves, begun.start.clone(), breakage.clone());
        let (books, kept_books) = sync_channel(1);
        let needs = (decisions.subscribe(), kept_books, observations.clone());
        let crew = crew((&config, &options.config), clock, needs);
        let crew = jobs::start(crew, stops.clone())?;
        let mind = Mind {
            books,
            kept: None,
            days_kept: clock.now(),
            controller,
            clock,
            inbox,
            decisions,
            overviews,
            duties,
            to_latch,
            handed: None,
            trace,
            life,
            looks: looks.clone(),
            told: None,
        };
        let ends = Arc::clone(&stops);
        let controller = named("control", move || mind.think(&ends))?;
        let toys = (options.simulated.then_some(breakage), aside);
        let orders = take_orders(&config, begun, &overview, (observations.clone(), clock));
        open_desk(&config, &observations, (&overview, &orders), (clock, toys));
        let evidence = evidence::start(&config, (&stills, &overview), &stops)?;
        let uplink = Uplink {
            journal: journal.clone(),
            overview: overview.clone(),
            written,
            stills: stills.clone(),
            observations: observations.clone(),
            code: options.code.clone(),
            clock,
            simulated: options.simulated,
            looks,
            stopped,
            orders,
        };
        let uplink = uplink::start(&config, uplink)?;
        let eyes = open_eyes(&config, options, (clock, observations, duty, stills));
        let kept = [("latch", Some(latch)), ("wear", Some(wear)), ("evidence", evidence)];
        Ok(Gateway { stop, stops, controller, crew, bus, uplink, eyes, kept, journal, overview })
    }

    /// Actuators first, then the eyes, then the messengers, then the memory.
    fn stop(self) {
        self.stop.send_replace(true);
        join("field bus", self.bus);
        self.stops.store(true, Ordering::Relaxed);
        join("controller", self.controller);
        join("jobs", self.crew.hands);
        join("book of jobs", self.crew.book);
        for (name, keeper) in self.kept {
            keeper.into_iter().for_each(|keeper| join(name, keeper));
        }
        self.eyes.stop();
        join("uplink", self.uplink);
        self.journal.stop();
        tracing::info!("stopped");
    }
}

/// A controller that knows what was latched when the gateway stopped, however it stopped.
fn remembering(config: &Config, clock: Clock, begun: &Begun<'_>) -> (Latch, Controller) {
    let now = clock.now();
    let (latch, remembered) = Latch::open(&config.state);
    let (latched, unreadable) = latch::at_start(remembered, &config.site, now);
    let mut controller = Controller::new(config.site.clone(), now);
    controller.stretch_vision(clock.vision_pace());
    controller.remember(&latched, now);
    match read_book(&config.state) {
        Ok(book) => controller.remember_jobs(book),
        Err(error) => tracing::error!(%error, "jobs have to be asked for again"),
    }
    match read_days(&config.state) {
        Ok(days) => controller.remember_days(days),
        Err(error) => tracing::error!(%error, "energy is counted from zero"),
    }
    for zone in latched.zones.keys() {
        tracing::warn!(
            zone = zone.as_str(),
            "this zone is latched: it stays stopped until a person resets it"
        );
    }
    let mut trouble = |trouble, holds| {
        controller.observe(Observation::Trouble { trouble, holds, at: now });
    };
    trouble(Trouble::ConfigFallback, begun.fell_back);
    trouble(Trouble::SafeMode, begun.storm);
    trouble(Trouble::LatchUnreadable, unreadable);
    trouble(Trouble::UpdateUndone, releases::undone(&config.state));
    (latch, controller)
}

/// Without a trace the gateway controls all the same; nobody can play it again then.
fn open_trace(config: &Config, controller: &Controller, clock: Clock) -> Option<TraceRing> {
    let head = Head {
        site_hash: site_hash(&config.site),
        site: config.site.clone(),
        latched: controller.latched(),
        jobs: controller.jobs().clone(),
        started: controller.started(),
        vision_pace: clock.vision_pace(),
        part: 0,
    };
    let started = TraceRing::start(&config.state.join("trace"), head);
    started.map_err(|cause| tracing::warn!(%cause, "no trace is kept")).ok()
}

/// Without a desk the gateway still protects; alarms can then only be acknowledged on the page.
fn open_desk(
    config: &Config,
    observations: &SyncSender<Observation>,
    (overview, orders): (&watch::Receiver<Option<Arc<Overview>>>, &Orders),
    (clock, (breakage, aside)): (Clock, (Option<Breakage>, Begins)),
) {
    let desk = Desk {
        observations: observations.clone(),
        overview: overview.clone(),
        clock,
        breakage,
        aside,
        has_broker: config.mqtt.is_some(),
        site: config.site.clone(),
        orders: Arc::clone(orders),
    };
    if let Err(error) = desk::open(&config.state, desk) {
        tracing::warn!(%error, socket = %desk::socket(&config.state).display(), "no control socket: `wattgate alarm` will not work");
    }
}

/// In safe mode nothing new can be asked for.
fn take_orders(
    config: &Config,
    begun: &Begun<'_>,
    overview: &watch::Receiver<Option<Arc<Overview>>>,
    way: (SyncSender<Observation>, Clock),
) -> Orders {
    let work = if begun.storm { Work::default() } else { config.site.work.clone() };
    jobs::orders(work, overview.clone(), way)
}

type News = (SyncSender<Observation>, watch::Receiver<Option<Arc<Decision>>>);

/// What the field bus is wired to.
fn wiring(
    config: &Config,
    clock: Clock,
    (observations, decisions): News,
    (writes, shutdown): (watch::Sender<BTreeMap<String, u64>>, watch::Receiver<bool>),
) -> modbus::Wiring {
    modbus::Wiring {
        fieldbus: config.fieldbus.clone(),
        site: Arc::new(config.site.clone()),
        clock,
        observations,
        decisions,
        writes,
        shutdown,
    }
}

type CrewNeeds = (watch::Receiver<Option<Arc<Decision>>>, Receiver<Books>, SyncSender<Observation>);

fn crew(
    (config, file): (&Config, &Path),
    clock: Clock,
    (decisions, books, observations): CrewNeeds,
) -> Crew {
    Crew {
        computing: config.computing.clone(),
        work: config.site.work.clone(),
        decisions,
        books,
        observations,
        clock,
        file: file.to_owned(),
        models: config.models.clone(),
        state: config.state.clone(),
    }
}

type EyesNeed = (Clock, SyncSender<Observation>, watch::Receiver<Duty>, StillBoard);

fn open_eyes(config: &Config, options: &RunOptions, needs: EyesNeed) -> child::Child {
    let (clock, observations, duty, stills) = needs;
    let send = move |observation| {
        if let Err(TrySendError::Full(_)) = observations.try_send(observation) {
            tracing::warn!("the controller is behind: a scene was dropped");
        }
    };
    let (file, state) = (options.config.clone(), config.state.clone());
    let program = super::service::own_program().unwrap_or_else(|error| {
        tracing::error!(%error, "cannot tell where this program is: looking for it by its name");
        "wattgate".into()
    });
    let place = child::Place { config: file, state, program };
    child::spawn(place, clock, Box::new(send), duty, stills)
}

fn join(what: &str, thread: JoinHandle<()>) {
    if thread.join().is_err() {
        tracing::error!(what, "ended by a panic");
    }
}

/// Starts a named thread.
pub(super) fn named(
    name: &'static str,
    body: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, RunError> {
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(body);
    thread.map_err(|cause| RunError::Start { what: name, cause })
}

/// The field bus on its own thread and runtime, so that nothing else can hold it up.
fn start_bus(
    devices: Vec<config::DeviceConfig>,
    wiring: modbus::Wiring,
    (moves, breakage): (&Arc<AtomicU64>, &Breakage),
) -> Result<JoinHandle<()>, RunError> {
    let failed = |cause| RunError::Start { what: "field bus", cause };
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let (moves, breakage) = (Arc::clone(moves), breakage.clone());
    named("fieldbus", move || {
        let mut shutdown = wiring.shutdown.clone();
        runtime.block_on(async move {
            let tasks = modbus::start(&devices, &wiring);
            // Errors of the watch mean that whoever could stop this is gone: a stop as well.
            while tokio::time::timeout(BUS_BEATS, shutdown.wait_for(|stop| *stop)).await.is_err() {
                moves.store(millis(Clock::real().now()), Ordering::Relaxed);
                breakage.strike(Part::Fieldbus);
            }
            let all = async {
                for task in tasks {
                    let _ = task.await;
                }
            };
            if tokio::time::timeout(BUS_STOPS_IN, all).await.is_err() {
                tracing::warn!("a device did not take its fallback: its own time-out will");
            }
        });
    })
}
