//! The control process's grip on the vision child: starts it, hears it, ends it when it hangs, starts
//! it again.
//!
//! ```text
//!   start ─▶ connected ─▶ hears scenes, beats, stills ──┐
//!     ▲                        │ socket ends, or no beat for 1.5 s
//!     └── pause 0.2 s … 2 s  ◀─┴── killed and reaped; "vision lost" ─▶ controller
//! ```

use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child as Process, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::watch;

use super::messages::{self, FromChild, ToChild};
use crate::io::camera::{Still, StillBoard};
use crate::io::clock::Clock;
use crate::logic::decision::Duty;
use crate::logic::observation::Observation;

/// Three missed beats of 0.5 s: dead.
const SILENCE: Duration = Duration::from_millis(1500);
/// Time from start to connection; loading the nets comes after it.
const CONNECTS_IN: Duration = Duration::from_secs(5);
/// Time for loading the nets, before the first beat.
const FIRST_BEAT_IN: Duration = Duration::from_secs(10);
/// Pauses before a restart: the eyes are to be back within 2 s (decisions).
const PAUSE_FIRST: Duration = Duration::from_millis(200);
const PAUSE_MOST: Duration = Duration::from_secs(2);
/// Pause where the child says that a file is wrong (exit code 78): a person must come first.
const PAUSE_FOR_A_PERSON: Duration = Duration::from_secs(30);
const NEEDS_A_PERSON: i32 = 78;
/// How long an ended child may take to leave its exit code.
const LEAVES_IN: Duration = Duration::from_millis(500);
/// A child that lived this long has earned a quick restart.
const GOOD_LIFE: Duration = Duration::from_secs(60);
/// How often waiting looks whether it should stop.
const LOOK_UP: Duration = Duration::from_millis(50);

/// Where things are.
#[derive(Clone, Debug)]
pub struct Place {
    /// The site file.
    pub config: PathBuf,
    /// The state folder.
    pub state: PathBuf,
}

/// The supervised child.
pub struct Child {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

type Tell = Box<dyn Fn(Observation) + Send>;

/// Starts the child and its supervisor.
#[must_use]
pub fn spawn(
    place: Place,
    clock: Clock,
    send: Tell,
    duty: watch::Receiver<Duty>,
    stills: StillBoard,
) -> Child {
    let stop = Arc::new(AtomicBool::new(false));
    let supervisor = Supervisor { place, clock, send, duty, stills, stop: Arc::clone(&stop) };
    let thread = std::thread::Builder::new().name("eyes".to_owned()).spawn(|| supervisor.run());
    if let Err(error) = &thread {
        tracing::error!(%error, "the vision child cannot be supervised: every bay stays unknown");
    }
    Child { stop, thread: thread.ok() }
}

impl Child {
    /// Ends the child and waits for it.
    pub fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread
            && thread.join().is_err()
        {
            tracing::error!("the supervisor of the vision child had panicked");
        }
    }
}

struct Supervisor {
    place: Place,
    clock: Clock,
    send: Tell,
    duty: watch::Receiver<Duty>,
    stills: StillBoard,
    stop: Arc<AtomicBool>,
}

impl Supervisor {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn run(mut self) {
        let mut pause = PAUSE_FIRST;
        while !self.stopped() {
            let born = self.clock.now();
            let code = self.one_life().unwrap_or_else(|error| {
                tracing::warn!(%error, "vision child ended");
                None
            });
            (self.send)(Observation::VisionLost { at: self.clock.now() });
            if code == Some(NEEDS_A_PERSON) {
                tracing::error!("the eyes cannot start (see above): every bay stays unknown");
                self.wait(PAUSE_FOR_A_PERSON);
                continue;
            }
            let lived = self.clock.wall_time(born.age_at(self.clock.now()));
            pause = if lived >= GOOD_LIFE { PAUSE_FIRST } else { pause };
            self.wait(pause);
            pause = (pause * 2).min(PAUSE_MOST);
        }
    }

    fn wait(&self, pause: Duration) {
        let mut left = pause;
        while !left.is_zero() && !self.stopped() {
            let step = left.min(LOOK_UP);
            std::thread::park_timeout(step);
            left = left.saturating_sub(step);
        }
    }

    /// From start to death of one child; its exit code where it ended by itself.
    fn one_life(&mut self) -> io::Result<Option<i32>> {
        let path = socket_path(&self.place.state);
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path)?;
        listener.set_nonblocking(true)?;
        let mut process = Reaped(self.start(&path)?);
        if let Some(socket) = self.accept(&listener, &mut process)? {
            socket.set_nonblocking(false)?;
            socket.set_read_timeout(Some(FIRST_BEAT_IN))?;
            socket.set_write_timeout(Some(SILENCE))?;
            match self.listen(socket) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
                done => return done.map(|()| None),
            }
        }
        let status = self.await_end(&mut process)?;
        if !self.stopped() {
            let status = status.map_or("still there".to_owned(), |status| status.to_string());
            tracing::warn!(%status, "vision child ended");
        }
        Ok(status.and_then(|status| status.code()))
    }

    /// The exit status of a child that has closed its socket, if it comes soon.
    fn await_end(&self, process: &mut Reaped) -> io::Result<Option<ExitStatus>> {
        let mut left = LEAVES_IN;
        loop {
            let status = process.0.try_wait()?;
            if status.is_some() || left.is_zero() {
                return Ok(status);
            }
            std::thread::park_timeout(LOOK_UP);
            left = left.saturating_sub(LOOK_UP);
        }
    }

    fn start(&self, socket: &Path) -> io::Result<Process> {
        let speed = self.clock.speed().to_string();
        let own_time = self.clock.has_own_time();
        let site_time = own_time.then(|| self.clock.now().utc.to_rfc3339());
        Command::new(std::env::current_exe()?)
            .arg("vision")
            .arg("--config")
            .arg(&self.place.config)
            .arg("--state")
            .arg(&self.place.state)
            .arg("--socket")
            .arg(socket)
            .args(["--speed", &speed])
            .args(site_time.iter().flat_map(|time| ["--site-time", time]))
            .stdin(Stdio::null())
            .spawn()
    }

    /// The child's connection; nothing where it ended before.
    fn accept(
        &self,
        listener: &UnixListener,
        process: &mut Reaped,
    ) -> io::Result<Option<UnixStream>> {
        let mut left = CONNECTS_IN;
        loop {
            match listener.accept() {
                Ok((socket, _)) => return Ok(Some(socket)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            if process.0.try_wait()?.is_some() {
                return Ok(None);
            }
            if left.is_zero() || self.stopped() {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "did not connect"));
            }
            std::thread::park_timeout(LOOK_UP);
            left = left.saturating_sub(LOOK_UP);
        }
    }

    /// Hears the child until it dies, hangs, or the gateway stops.
    fn listen(&mut self, mut socket: UnixStream) -> io::Result<()> {
        self.duty.mark_changed();
        while !self.stopped() {
            match messages::hear::<FromChild>(&mut socket)? {
                FromChild::Beat => socket.set_read_timeout(Some(SILENCE))?,
                FromChild::Scene(scene) => (self.send)(Observation::Scene(scene)),
                FromChild::Still { camera, at, bytes } => {
                    let jpeg = messages::take(&mut socket, bytes.min(messages::MOST_STILL))?;
                    self.stills.put(&camera, Still { jpeg: jpeg.into(), at });
                }
            }
            if self.duty.has_changed().unwrap_or(false) {
                let duty = self.duty.borrow_and_update().clone();
                messages::say(&mut socket, &ToChild::Duty(duty))?;
            }
        }
        Ok(())
    }
}

/// A child process that is killed and reaped whatever happens.
struct Reaped(Process);

impl Drop for Reaped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        if let Err(error) = self.0.wait() {
            tracing::warn!(%error, "the vision child could not be reaped");
        }
    }
}

/// Beside the state, unless the path would be too long for a socket (108 bytes).
fn socket_path(state: &Path) -> PathBuf {
    let beside = state.join("vision.sock");
    if beside.as_os_str().len() < 100 {
        return beside;
    }
    std::env::temp_dir().join(format!("wattgate-vision-{}.sock", std::process::id()))
}
