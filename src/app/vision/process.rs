//! `wattgate vision`: the child process. One thread for each camera fetches its newest frame (`fetch`), one
//! thread judges them one after another and tells the control process (`judge`), one more asks the big net
//! about what is doubtful (`cascade`).
//!
//! What a stranger gets wrong: the beat comes from the judging thread, so that a model that hangs is
//! seen as a hang. The process ends when the socket ends, and only then: ctrl-C at the terminal is the
//! parent's business.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::cascade::Cascade;
use super::eyes::Eyes;
use super::fetch::fetch;
use super::judge::{Judge, Tools};
use super::memory::Memory;
use crate::app::messages::{self, ToChild};
use crate::config::{self, CameraSource, Config, VisionConfig};
use crate::io::camera::{Coded, Haste, Masks};
use crate::io::clock::Clock;
use crate::io::inference::{BigNet, Engine, FileGuard, ModelError, RemoteNet, keep_copy};
use crate::io::meter::Meter;
use crate::logic::decision::Duty;
use crate::logic::site::Id;
use crate::units::Moment;

/// The beat of the judging loop; three missed ones are a hang.
pub(super) const BEAT: Duration = Duration::from_millis(500);
/// Folder of the last good copy of the models, in the state folder.
const LAST_GOOD: &str = "models";
/// Rates of looking (decisions): one look in 2 s when quiet, one a second when eager, five on a suspicion.
const QUIET: Duration = Duration::from_secs(2);
pub(super) const EAGER: Duration = Duration::from_secs(1);
const SUSPICION: Duration = Duration::from_millis(200);

/// How the child is started.
#[derive(Clone, Debug)]
pub struct ChildOptions {
    /// The site file.
    pub config: PathBuf,
    /// The state folder, where the last good copy of the site file is.
    pub state: Option<PathBuf>,
    /// The parent's socket.
    pub socket: PathBuf,
    /// How fast site time runs.
    pub speed: f64,
    /// Site time at the start, where a simulated site has its own.
    pub site_time: Option<DateTime<Utc>>,
    /// Cameras that are not looked at for so long: their pictures have crashed the eyes.
    pub left_out: Vec<(Id, Duration)>,
}

/// Why the child cannot see.
#[derive(Debug, thiserror::Error)]
pub enum VisionError {
    /// The site file.
    #[error("the configuration cannot be used")]
    Config(config::Report),
    /// The parent's socket.
    #[error("socket {path}: {cause}")]
    Socket {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// A net.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A thread.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
}

impl VisionError {
    /// Whether another try is in vain before somebody has changed a file.
    #[must_use]
    pub fn needs_a_person(&self) -> bool {
        matches!(self, VisionError::Config(_) | VisionError::Model(_))
    }
}

/// What a camera delivered last.
pub(super) enum Delivery {
    Picture(Coded, Moment),
    Nothing(Moment),
    /// It was not asked: its pictures have crashed the eyes.
    LeftOut(Moment),
    /// Another camera answers at its address.
    Stranger(Moment),
}

/// Newest frame wins: one place for each camera, and a bell.
pub(super) struct Inbox {
    newest: Mutex<BTreeMap<Id, Delivery>>,
    bell: Condvar,
    wanted: Mutex<Wanted>,
    /// Rung when somebody wants to look more often.
    sooner: Condvar,
}

/// How often cameras are wanted.
#[derive(Default)]
struct Wanted {
    duty: Duty,
    /// Cameras in whose last look there was a doubt.
    suspects: BTreeSet<Id>,
}

impl Wanted {
    fn period(&self, camera: &Id) -> Duration {
        match camera {
            camera if self.suspects.contains(camera) => SUSPICION,
            camera if self.duty.eager.contains(camera) => EAGER,
            _ => QUIET,
        }
    }
}

impl Inbox {
    pub fn new() -> Inbox {
        Inbox {
            newest: Mutex::default(),
            bell: Condvar::new(),
            wanted: Mutex::default(),
            sooner: Condvar::new(),
        }
    }

    pub fn put(&self, camera: &Id, delivery: Delivery) {
        lock(&self.newest).insert(camera.clone(), delivery);
        self.bell.notify_all();
    }

    /// Whether a camera is to be looked at as often as it can be, until it is said otherwise.
    pub fn suspect(&self, camera: &Id, suspected: bool) {
        let mut wanted = lock(&self.wanted);
        let changed = match suspected {
            true => wanted.suspects.insert(camera.clone()),
            false => wanted.suspects.remove(camera),
        };
        if changed {
            self.sooner.notify_all();
        }
    }

    fn oblige(&self, duty: Duty) {
        lock(&self.wanted).duty = duty;
        self.sooner.notify_all();
        self.bell.notify_all();
    }

    pub fn haste(&self, camera: &Id) -> Haste {
        let suspected = lock(&self.wanted).suspects.contains(camera);
        if suspected { Haste::Any } else { Haste::Keyframes }
    }

    /// Waits until the next picture of a camera is due, that was last asked for at `asked`.
    pub fn await_turn(&self, camera: &Id, asked: Moment, clock: Clock) {
        let mut wanted = lock(&self.wanted);
        loop {
            let period = clock.wall_time(wanted.period(camera).mul_f64(clock.vision_pace()));
            let spent = clock.wall_time(clock.now().uptime.saturating_sub(asked.uptime));
            let left = period.saturating_sub(spent);
            if left.is_zero() {
                return;
            }
            wanted =
                self.sooner.wait_timeout(wanted, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// What came, waiting for `most` at the longest, and the newest duty.
    pub fn take(&self, most: Duration) -> (BTreeMap<Id, Delivery>, Duty) {
        let mut newest = lock(&self.newest);
        if newest.is_empty() {
            newest = self.bell.wait_timeout(newest, most).unwrap_or_else(PoisonError::into_inner).0;
        }
        (std::mem::take(&mut *newest), lock(&self.wanted).duty.clone())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs until the parent's socket ends.
///
/// # Errors
/// When it cannot start.
pub fn run(options: &ChildOptions) -> Result<(), VisionError> {
    ignore_interrupts().map_err(VisionError::Thread)?;
    let loaded = config::load_or_last_good(&options.config, options.state.as_deref())
        .map_err(VisionError::Config)?;
    let config = loaded.config;
    let failed = |cause| VisionError::Socket { path: options.socket.clone(), cause };
    let socket = UnixStream::connect(&options.socket).map_err(failed)?;
    let clock = Clock::simulated(options.speed, options.site_time);
    let state = options.state.as_ref().unwrap_or(&config.state);
    let (eyes, models) = open_eyes(&config, state)?;
    let inbox = Arc::new(Inbox::new());
    let cascade = cascade((&config.vision, models), &eyes, clock, &inbox)?;
    for source in config.cameras.clone() {
        let inbox = Arc::clone(&inbox);
        let left_out =
            options.left_out.iter().find(|(id, _)| *id == source.id).map(|(_, time)| *time);
        std::thread::Builder::new()
            .name(format!("camera {}", source.id))
            .spawn(move || fetch(&source, &inbox, clock, left_out))
            .map_err(VisionError::Thread)?;
    }
    let from_parent = socket.try_clone().map_err(failed)?;
    let duties = Arc::clone(&inbox);
    std::thread::Builder::new()
        .name("duty".to_owned())
        .spawn(move || hear_duties(from_parent, &duties))
        .map_err(VisionError::Thread)?;
    let meter = Meter::open(config.vision.watt_per_core);
    // It guards the files of the site's own folder, even where the copy is in use.
    let guard = FileGuard::of(&config.models).ok();
    let memory =
        Memory::open(state, &config.cameras, eyes.bay_net()).map_err(VisionError::Thread)?;
    let masks = masks(&config.cameras);
    let tools = Tools { cascade, meter, guard, memory, masks };
    let judge = Judge::new(&eyes, (&config.site, clock), tools, socket);
    match judge.run(&inbox) {
        // The gateway is gone, and with it whoever could read an error.
        Err(cause) if messages::is_end(&cause) => Ok(()),
        ended => ended.map_err(failed),
    }
}

/// What nobody else may see of each camera's pictures.
pub(super) fn masks(cameras: &[CameraSource]) -> BTreeMap<Id, Masks> {
    let of = |source: &CameraSource| (source.id.clone(), Masks::new(source.masks.clone()));
    cameras.iter().map(of).collect()
}

/// The small nets, and the folder that they came from: the site's own, or the last good copy in the state
/// folder where that was altered.
fn open_eyes(config: &Config, state: &Path) -> Result<(Eyes, PathBuf), VisionError> {
    let copy = state.join(LAST_GOOD);
    match Eyes::open(&config.models, Engine::Best) {
        Ok(eyes) => {
            keep_aside(config.models.clone(), copy)?;
            Ok((eyes, config.models.clone()))
        }
        Err(error) => {
            tracing::error!(%error, "the models cannot be used");
            let eyes = Eyes::open(&copy, Engine::Best).map_err(|_| error)?;
            tracing::error!(folder = %copy.display(), "the last good copy of the models is in use");
            Ok((eyes, copy))
        }
    }
}

/// Makes the last good copy while the eyes look already: a large net takes longer to read and write than the
/// parent waits for a beat.
fn keep_aside(models: PathBuf, copy: PathBuf) -> Result<(), VisionError> {
    let keep = move || {
        if let Err(error) = keep_copy(&models, &copy) {
            tracing::warn!(%error, "no last good copy of the models");
        }
    };
    let thread = std::thread::Builder::new().name("good copy".to_owned()).spawn(keep);
    thread.map(drop).map_err(VisionError::Thread)
}

/// The big net's thread, where there is a big net. One that cannot be used, or takes longer to load than the
/// parent waits for a beat, does not keep the small ones from looking.
fn cascade(
    (vision, models): (&VisionConfig, PathBuf),
    eyes: &Eyes,
    clock: Clock,
    inbox: &Arc<Inbox>,
) -> Result<Arc<OnceLock<Cascade>>, VisionError> {
    let remote = vision.remote.clone().map(|remote| RemoteNet {
        url: remote.url,
        model: remote.model,
        timeout: remote.timeout,
        joules: remote.joules,
    });
    let (cuts, budget, pace) = (eyes.fire_cuts(), vision.budget_wh, clock.vision_pace());
    let (bell, place) = (Arc::clone(inbox), Arc::new(OnceLock::new()));
    let theirs = Arc::clone(&place);
    let open = move || {
        let none = |error: &dyn std::fmt::Display| {
            tracing::error!(%error, "no big net: doubts stay doubts");
        };
        let net = match BigNet::open(&models, Engine::Best, remote) {
            Ok(Some(net)) => net,
            Ok(None) => return,
            Err(error) => return none(&error),
        };
        let ring = move || bell.bell.notify_all();
        match Cascade::start(net, cuts, budget, (clock, pace), ring) {
            Ok(cascade) => drop(theirs.set(cascade)),
            Err(error) => none(&error),
        }
    };
    let thread = std::thread::Builder::new().name("big net file".to_owned()).spawn(open);
    thread.map(|_| place).map_err(VisionError::Thread)
}

/// A terminal's ctrl-C reaches the whole group; the parent decides when this process ends.
fn ignore_interrupts() -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        runtime.block_on(async { while tokio::signal::ctrl_c().await.is_ok() {} });
    })?;
    Ok(())
}

/// Keeps the newest duty; ends the process when the parent is gone.
fn hear_duties(mut socket: UnixStream, inbox: &Inbox) {
    while let Ok(ToChild::Duty(duty)) = messages::hear(&mut socket) {
        inbox.oblige(duty);
    }
    std::process::exit(0);
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::sync::mpsc;

    use super::*;
    use crate::io::inference::folders;

    #[test]
    fn a_doubt_brings_the_next_look_forward_and_its_end_puts_it_back() {
        // A fifth of the speed: what waits for its old turn waits ten seconds, on a busy machine too.
        let (inbox, clock) = (Arc::new(Inbox::new()), Clock::simulated(0.2, None));
        let [one, other] = ["one", "other"].map(|id| Id::try_from(id).unwrap());
        let period = |camera: &Id| lock(&inbox.wanted).period(camera);
        assert_eq!((period(&one), inbox.haste(&one)), (QUIET, Haste::Keyframes));
        let asked = clock.now();
        let (waits, tell) = (Arc::clone(&inbox), mpsc::channel());
        let camera = one.clone();
        let waiting = std::thread::spawn(move || {
            tell.0.send(()).unwrap();
            waits.await_turn(&camera, asked, clock);
            asked.age_at(clock.now())
        });
        tell.1.recv().unwrap();
        inbox.suspect(&one, true);
        assert_eq!((period(&one), inbox.haste(&one)), (SUSPICION, Haste::Any));
        let waited = waiting.join().unwrap();
        assert!((SUSPICION..QUIET).contains(&waited), "{waited:?}");
        inbox.oblige(Duty { eager: vec![one.clone()], ..Duty::default() });
        assert_eq!((period(&one), period(&other)), (SUSPICION, QUIET));
        inbox.suspect(&one, false);
        assert_eq!(period(&one), EAGER);
    }

    /// The big net's file is a pipe: reading it ends when this test has written it.
    #[test]
    fn a_big_net_that_takes_long_to_load_keeps_nobody_waiting() {
        let folder = folders::with("big");
        let file = folder.path().join("fire-big.onnx");
        let bytes = std::fs::read(&file).unwrap();
        std::fs::remove_file(&file).unwrap();
        assert!(Command::new("mkfifo").arg(&file).status().unwrap().success());
        let eyes = Eyes::open(folder.path(), Engine::Best).unwrap();
        let inbox = Arc::new(Inbox::new());
        let (goes_on, waits) = mpsc::channel();
        let disk = std::thread::spawn(move || {
            // Whoever waits for the file gets it at last, so that this test fails and does not hang.
            let in_time = waits.recv_timeout(Duration::from_secs(20)).is_ok();
            std::fs::write(file, bytes).unwrap();
            in_time
        });
        let vision =
            VisionConfig { budget_wh: 1.0, watt_per_core: None, remote: None, evidence: false };
        let models = folder.path().to_owned();
        let place = cascade((&vision, models), &eyes, Clock::simulated(1.0, None), &inbox).unwrap();
        let at_once = place.get().is_none();
        goes_on.send(()).ok();
        assert!(disk.join().unwrap() && at_once, "the eyes waited for the big net");
        assert_eq!(place.wait().account().budget_wh, 1.0);
    }
}
