//! `wattgate vision`: the child process. One thread for each camera fetches its newest frame, one
//! thread judges them one after another and tells the control process.
//!
//! What a stranger gets wrong: the beat comes from the judging thread, so that a model that hangs is
//! seen as a hang. The process ends when the socket ends, and only then: ctrl-C at the terminal is the
//! parent's business.

use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::eyes::{BayPlace, Eyes, Sight, Watch};
use crate::app::messages::{self, FromChild, ToChild};
use crate::config::{self, CameraSource};
use crate::io::camera::{Camera, Coded};
use crate::io::clock::{Clock, cpu_time};
use crate::io::inference::{Engine, ModelError};
use crate::logic::decision::Duty;
use crate::logic::site::{Id, Site};
use crate::logic::vision::{CameraFault, Scene, Tier, Verdict};
use crate::units::Moment;

/// The beat of the judging loop; three missed ones are a hang.
const BEAT: Duration = Duration::from_millis(500);
/// Rates of looking (decisions): one look in 2 s when quiet, one a second when eager.
const QUIET: Duration = Duration::from_secs(2);
const EAGER: Duration = Duration::from_secs(1);
/// A frame judged later than this after it came is too old to say that all is well.
const LATE: Duration = Duration::from_secs(3);
/// Quality and width of the stills for the page.
const STILL_QUALITY: u8 = 75;

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
enum Delivery {
    Picture(Coded, Moment),
    Nothing(Moment),
}

/// Newest frame wins: one place for each camera, and a bell.
struct Inbox {
    newest: Mutex<BTreeMap<Id, Delivery>>,
    bell: Condvar,
    duty: Mutex<Duty>,
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
    let eyes = Eyes::open(&config.models, Engine::Best)?;
    let inbox =
        Arc::new(Inbox { newest: Mutex::default(), bell: Condvar::new(), duty: Mutex::default() });
    for source in config.cameras {
        let inbox = Arc::clone(&inbox);
        std::thread::Builder::new()
            .name(format!("camera {}", source.id))
            .spawn(move || fetch(&source, &inbox, clock))
            .map_err(VisionError::Thread)?;
    }
    let from_parent = socket.try_clone().map_err(failed)?;
    let duties = Arc::clone(&inbox);
    std::thread::Builder::new()
        .name("duty".to_owned())
        .spawn(move || hear_duties(from_parent, &duties))
        .map_err(VisionError::Thread)?;
    judge(&eyes, (&config.site, clock), &inbox, socket).map_err(failed)
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
        *lock(&inbox.duty) = duty;
        inbox.bell.notify_all();
    }
    std::process::exit(0);
}

/// Fetches frame after frame at the rate of the duty.
fn fetch(source: &CameraSource, inbox: &Inbox, clock: Clock) {
    let mut camera = Camera::open(&source.url, source.is_stream);
    let mut trouble = None;
    loop {
        let asked = clock.now();
        let delivery = match camera.fetch() {
            Ok(coded) => {
                if trouble.take().is_some() {
                    tracing::info!(camera = %source.id, "camera delivers again");
                }
                Delivery::Picture(coded, clock.now())
            }
            Err(error) => {
                let why = error.to_string();
                if trouble.as_ref() != Some(&why) {
                    tracing::warn!(camera = %source.id, %why, "camera gives no picture");
                    trouble = Some(why);
                }
                Delivery::Nothing(clock.now())
            }
        };
        lock(&inbox.newest).insert(source.id.clone(), delivery);
        inbox.bell.notify_all();
        let eager = lock(&inbox.duty).eager.contains(&source.id);
        let period =
            clock.wall_time(if eager { EAGER } else { QUIET }.mul_f64(clock.vision_pace()));
        let spent = clock.wall_time(clock.now().uptime.saturating_sub(asked.uptime));
        std::thread::park_timeout(period.saturating_sub(spent).max(Duration::from_millis(50)));
    }
}

/// Judges deliveries one after another and beats in between; ends when the socket does.
fn judge(
    eyes: &Eyes,
    (site, clock): (&Site, Clock),
    inbox: &Inbox,
    mut socket: UnixStream,
) -> std::io::Result<()> {
    let mut watches: BTreeMap<Id, Watch> = BTreeMap::new();
    for camera in &site.cameras {
        let mine = site.bays.iter().filter(|bay| bay.camera.as_ref() == Some(&camera.id));
        let place = |bay: &crate::logic::site::Bay| BayPlace {
            id: bay.id.clone(),
            polygon: bay.polygon.clone(),
        };
        let watch = eyes.watch(mine.map(place).collect()).at_pace(clock.vision_pace());
        watches.insert(camera.id.clone(), watch);
    }
    let mut frame = 0;
    loop {
        messages::say(&mut socket, &FromChild::Beat)?;
        let mut newest = lock(&inbox.newest);
        if newest.is_empty() {
            newest =
                inbox.bell.wait_timeout(newest, BEAT).unwrap_or_else(PoisonError::into_inner).0;
        }
        let deliveries = std::mem::take(&mut *newest);
        drop(newest);
        for (camera, delivery) in deliveries {
            let Some(watch) = watches.get_mut(&camera) else {
                continue;
            };
            frame += 1;
            see((eyes, clock), watch, (camera, frame), delivery, &mut socket)?;
        }
    }
}

/// Judges one delivery and tells the parent: the scene, and the still for the page.
fn see(
    (eyes, clock): (&Eyes, Clock),
    watch: &mut Watch,
    (camera, number): (Id, u64),
    delivery: Delivery,
    socket: &mut UnixStream,
) -> std::io::Result<()> {
    let before = cpu_time();
    let (coded, at) = match delivery {
        Delivery::Picture(coded, at) => (coded, at),
        Delivery::Nothing(at) => {
            let scene = blind((camera, number), at, CameraFault::Lost);
            return messages::say(socket, &FromChild::Scene(scene));
        }
    };
    let frame = match coded.decode() {
        Ok(frame) => frame,
        Err(error) => {
            tracing::warn!(%camera, %error, "frame thrown away");
            let scene = blind((camera, number), at, CameraFault::Undecodable);
            return messages::say(socket, &FromChild::Scene(scene));
        }
    };
    let scene = match eyes.see(watch, at.uptime, &frame) {
        Ok(mut sight) => {
            let age = clock.wall_time(clock.now().uptime.saturating_sub(at.uptime));
            if age > LATE && sight.fault.is_none() {
                sight = sight.with_fault(CameraFault::Late);
            }
            let cpu_ms = cpu_time().saturating_sub(before).as_secs_f64() * 1000.0;
            scene((camera.clone(), number), at, sight, cpu_ms)
        }
        Err(error) => {
            tracing::error!(%camera, %error, "model failed");
            blind((camera.clone(), number), at, CameraFault::Model)
        }
    };
    messages::say(socket, &FromChild::Scene(scene))?;
    if let Ok(jpeg) = frame.jpeg(STILL_QUALITY)
        && jpeg.len() <= messages::MOST_STILL
    {
        messages::say(socket, &FromChild::Still { camera, at, bytes: jpeg.len() })?;
        messages::frame(socket, &jpeg)?;
    }
    Ok(())
}

fn scene((camera, frame): (Id, u64), at: Moment, sight: Sight, cpu_ms: f64) -> Scene {
    Scene {
        camera,
        frame,
        at,
        fire: sight.fire,
        smoke: sight.smoke,
        verdict: sight.verdict,
        tier: Tier::Small,
        bays: sight.bays,
        cpu_ms,
        fault: sight.fault,
    }
}

/// News of a camera without sight: doubtful at best, its bays unknown.
fn blind((camera, frame): (Id, u64), at: Moment, fault: CameraFault) -> Scene {
    Scene {
        camera,
        frame,
        at,
        fire: 0.0,
        smoke: 0.0,
        verdict: Verdict::Doubtful,
        tier: Tier::Small,
        bays: Vec::new(),
        cpu_ms: 0.0,
        fault: Some(fault),
    }
}
