//! The control process's grip on the vision child: starts it, hears it, ends it when it hangs, starts
//! it again.
//!
//! ```text
//!   start ─▶ connected ─▶ hears scenes, beats, stills ──┐
//!     ▲                        │ socket ends, or no beat for 1.5 s
//!     ├── pause 0.2 s … 2 s  ◀─┼── killed and reaped; "vision lost" ─▶ controller
//!     └── off for 10 min     ◀─┘   third hang or crash in 10 min
//! ```
//! What a stranger gets wrong: only a hang, a panic or a crash counts towards being switched off. A child
//! that somebody else killed, or that lost its socket, comes back as often as it takes; so does one that died
//! over a picture, and it is that picture's camera that is left out (`quarantine`).

use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child as Process, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::watch;

use super::messages::{self, FromChild, ToChild};
use super::quarantine::Quarantine;
use crate::io::camera::{Still, StillBoard};
use crate::io::clock::Clock;
use crate::logic::decision::Duty;
use crate::logic::observation::Observation;
use crate::logic::site::Id;

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
/// So many hangs or crashes within this time switch the eyes off for as long (fault INF1).
const MOST_FAILURES: usize = 3;
const FAILURES_WITHIN: Duration = Duration::from_secs(600);
/// How long an ended child may take to leave its exit code.
const LEAVES_IN: Duration = Duration::from_millis(500);
/// A child that lived this long has earned a quick restart.
const GOOD_LIFE: Duration = Duration::from_secs(60);
/// The child's `oom_score_adj` of `proc(5)`, between that of jobs (1000) and that of the control process.
const GOES_BEFORE_CONTROL: &str = "500";
/// How often waiting looks whether it should stop.
const LOOK_UP: Duration = Duration::from_millis(50);

/// Where things are.
#[derive(Clone, Debug)]
pub struct Place {
    /// The site file.
    pub config: PathBuf,
    /// The state folder.
    pub state: PathBuf,
    /// The program whose `vision` is the child: this one.
    pub program: PathBuf,
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
    let (open, quarantine) = (None, Quarantine::default());
    let theirs = Arc::clone(&stop);
    let supervisor =
        Supervisor { place, clock, send, duty, stills, stop: theirs, open, quarantine };
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
    /// The camera whose picture the child is decoding.
    open: Option<Id>,
    quarantine: Quarantine,
}

impl Supervisor {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn run(mut self) {
        let mut pause = PAUSE_FIRST;
        let mut failures = Failures::default();
        while !self.stopped() {
            let born = self.clock.now();
            let end = self.one_life().unwrap_or_else(|error| {
                tracing::warn!(%error, "vision child ended");
                if is_silence(&error) { End::Failed } else { End::Other }
            });
            (self.send)(Observation::VisionLost { at: self.clock.now() });
            if end == End::NeedsAPerson {
                tracing::error!("the eyes cannot start (see above): every bay stays unknown");
                self.wait(PAUSE_FOR_A_PERSON);
                continue;
            }
            let died = matches!(end, End::Failed | End::Killed);
            let failed = !(died && self.blames_a_camera()) && end == End::Failed;
            if failed && failures.too_many(self.clock.wall_uptime()) {
                tracing::error!(
                    "the eyes hung or crashed {MOST_FAILURES} times in {FAILURES_WITHIN:?}: they are off for as long"
                );
                self.wait(FAILURES_WITHIN);
            }
            let lived = self.clock.wall_time(born.age_at(self.clock.now()));
            pause = if lived >= GOOD_LIFE { PAUSE_FIRST } else { pause };
            self.wait(pause);
            pause = (pause * 2).min(PAUSE_MOST);
        }
    }

    /// Whether the life that failed was decoding a picture: then its camera answers for it.
    fn blames_a_camera(&mut self) -> bool {
        let Some(camera) = self.open.take() else { return false };
        let pause = self.quarantine.blame(&camera, self.clock.wall_uptime());
        tracing::error!(%camera, ?pause, "the eyes died over a picture of this camera: it is left out for so long");
        true
    }

    fn wait(&self, pause: Duration) {
        let mut left = pause;
        while !left.is_zero() && !self.stopped() {
            let step = left.min(LOOK_UP);
            std::thread::park_timeout(step);
            left = left.saturating_sub(step);
        }
    }

    /// From start to death of one child.
    fn one_life(&mut self) -> io::Result<End> {
        self.open = None;
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
                Err(error) if is_silence(&error) => {
                    tracing::warn!("vision child hangs: it is killed");
                    return Ok(End::Failed);
                }
                // How it ended, its status says.
                Err(error) if messages::is_end(&error) => {}
                done => return done.map(|()| End::Other),
            }
        }
        let status = self.await_end(&mut process)?;
        if !self.stopped() {
            let status = status.map_or("still there".to_owned(), |status| status.to_string());
            tracing::warn!(%status, "vision child ended");
        }
        Ok(status.map_or(End::Other, End::of))
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
        let left_out = self.quarantine.left_out(self.clock.wall_uptime());
        let left_out =
            left_out.iter().map(|(camera, time)| format!("{camera}={}", time.as_millis()));
        let child = Command::new(&self.place.program)
            .arg("vision")
            .arg("--config")
            .arg(&self.place.config)
            .arg("--state")
            .arg(&self.place.state)
            .arg("--socket")
            .arg(socket)
            .args(["--speed", &speed])
            .args(site_time.iter().flat_map(|time| ["--site-time", time]))
            .args(left_out.flat_map(|camera| ["--left-out".to_owned(), camera]))
            .stdin(Stdio::null())
            .spawn()?;
        // When memory is short, the eyes go after all jobs and before the control process.
        let _ = std::fs::write(format!("/proc/{}/oom_score_adj", child.id()), GOES_BEFORE_CONTROL);
        Ok(child)
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
                FromChild::Opens(camera) => self.open = Some(camera),
                FromChild::Opened => self.open = None,
                FromChild::Scene(scene) => (self.send)(Observation::Scene(scene)),
                FromChild::Ledger { ledger, at } => {
                    (self.send)(Observation::Looked { ledger, at });
                }
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

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// It says that a file is wrong.
    NeedsAPerson,
    /// It hung, panicked or crashed.
    Failed,
    /// Killed by somebody, or by the system for want of memory, which looks alike.
    Killed,
    /// Anything else: stopped, lost its socket.
    Other,
}

impl End {
    fn of(status: ExitStatus) -> End {
        /// What Rust's own panics end a process with.
        const PANIC: i32 = 101;
        /// Signals that a process gives itself: illegal instruction, abort, bus error, wrong arithmetic,
        /// no such memory.
        const CRASHES: [i32; 5] = [4, 6, 7, 8, 11];
        match (status.code(), status.signal()) {
            (Some(NEEDS_A_PERSON), _) => End::NeedsAPerson,
            (Some(PANIC), _) => End::Failed,
            (_, Some(signal)) if CRASHES.contains(&signal) => End::Failed,
            (_, Some(9)) => End::Killed, // SIGKILL
            _ => End::Other,
        }
    }
}

/// Whether a socket gave nothing for too long.
fn is_silence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// Hangs and crashes of the last ten minutes.
#[derive(Debug, Default)]
struct Failures(Vec<Duration>);

impl Failures {
    /// One more, on a clock that never jumps; whether that is too many. Then they are forgotten: after
    /// the time off there are as many tries as before.
    fn too_many(&mut self, now: Duration) -> bool {
        self.0.retain(|at| now.saturating_sub(*at) < FAILURES_WITHIN);
        self.0.push(now);
        if self.0.len() < MOST_FAILURES {
            return false;
        }
        self.0.clear();
        true
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::sync::mpsc::{self, Receiver, RecvTimeoutError};

    use super::*;

    /// A child that connects, beats twice and then does `after`; each life leaves its process id.
    fn script(folder: &Path, after: &str) -> PathBuf {
        let text = format!(
            "#!/usr/bin/python3\n\
             import os, signal, socket, sys, time\n\
             open({lives:?}, 'a').write(f'{{os.getpid()}}\\n')\n\
             s = socket.socket(socket.AF_UNIX)\n\
             s.connect(sys.argv[sys.argv.index('--socket') + 1])\n\
             for _ in range(2): s.sendall(b'\\x00\\x00\\x00\\x06\"beat\"')\n\
             {after}\n",
            lives = folder.join("lives").display().to_string(),
        );
        let path = folder.join("child");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    fn supervise(folder: &Path, program: PathBuf) -> (Child, Receiver<Observation>) {
        let (send, hear) = mpsc::channel();
        let (_, duty) = watch::channel(Duty::default());
        let place = Place { config: folder.join("site.toml"), state: folder.into(), program };
        let tell = Box::new(move |observation| send.send(observation).unwrap_or(()));
        let stills = StillBoard::new(std::iter::empty());
        (spawn(place, Clock::real(), tell, duty, stills), hear)
    }

    fn lives(folder: &Path) -> Vec<u32> {
        let text = std::fs::read_to_string(folder.join("lives")).unwrap_or_default();
        text.lines().map(|line| line.parse().unwrap()).collect()
    }

    const PATIENCE: Duration = Duration::from_secs(30);

    #[test]
    fn inf1_a_child_that_hangs_is_killed_and_after_three_times_the_eyes_are_off() {
        let folder = tempfile::tempdir().unwrap();
        let (child, hear) = supervise(folder.path(), script(folder.path(), "time.sleep(60)"));
        let mut before = Clock::real().wall_uptime();
        for life in 1..=MOST_FAILURES {
            let lost = hear.recv_timeout(PATIENCE).unwrap();
            assert!(matches!(lost, Observation::VisionLost { .. }));
            let now = Clock::real().wall_uptime();
            // From one loss to the next: pause, start, two beats, 1.5 s of silence.
            let took = now.saturating_sub(before);
            assert!(took <= Duration::from_secs(7), "life {life}: {took:?}");
            before = now;
            let last = *lives(folder.path()).last().unwrap();
            assert!(!Path::new(&format!("/proc/{last}")).exists(), "killed and reaped");
        }
        // Longer than the longest pause and the start of a child.
        let more = hear.recv_timeout(PAUSE_MOST + Duration::from_secs(3));
        assert_eq!(more.err(), Some(RecvTimeoutError::Timeout));
        assert_eq!(lives(folder.path()).len(), MOST_FAILURES);
        child.stop();
    }

    #[test]
    fn inf1_a_child_that_panics_counts_and_one_that_somebody_kills_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let (child, hear) = supervise(folder.path(), script(folder.path(), "os._exit(101)"));
        for _ in 0..MOST_FAILURES {
            hear.recv_timeout(PATIENCE).unwrap();
        }
        let more = hear.recv_timeout(PAUSE_MOST + Duration::from_secs(3));
        assert_eq!(more.err(), Some(RecvTimeoutError::Timeout));
        child.stop();
        let folder = tempfile::tempdir().unwrap();
        let killed = "os.kill(os.getpid(), signal.SIGKILL)";
        let (child, hear) = supervise(folder.path(), script(folder.path(), killed));
        for _ in 0..MOST_FAILURES + 2 {
            hear.recv_timeout(PATIENCE).unwrap();
        }
        assert!(lives(folder.path()).len() >= MOST_FAILURES + 2);
        child.stop();
    }

    /// What a child says when it begins to decode, and when it has.
    const OPENS: &str = r#"
def say(text): s.sendall(len(text).to_bytes(4, 'big') + text)
open(os.path.dirname(sys.argv[0]) + '/words', 'a').write(' '.join(sys.argv[10:]) + '\n')
say(b'{"opens":"bad"}')
"#;

    #[test]
    fn cam4_a_camera_whose_pictures_crash_the_eyes_is_left_out_and_the_eyes_stay_on() {
        let folder = tempfile::tempdir().unwrap();
        let crash = format!("{OPENS}os.abort()");
        let (child, hear) = supervise(folder.path(), script(folder.path(), &crash));
        for _ in 0..MOST_FAILURES + 2 {
            let lost = hear.recv_timeout(PATIENCE).unwrap();
            assert!(matches!(lost, Observation::VisionLost { .. }));
        }
        child.stop();
        let words = std::fs::read_to_string(folder.path().join("words")).unwrap();
        let words: Vec<&str> = words.lines().collect();
        assert_eq!(words[..2], ["", ""], "once is no pattern");
        let out = |line: &str| -> u64 {
            line.strip_prefix("--left-out bad=")
                .unwrap_or_else(|| panic!("{line}"))
                .parse()
                .unwrap()
        };
        // What is left of 1 s, then of 2 s, after the pause before the restart; none where that took long.
        let out: Vec<u64> =
            words[2..].iter().filter(|line| !line.is_empty()).map(|l| out(l)).collect();
        assert!(!out.is_empty() && out.iter().all(|ms| (1..=4000).contains(ms)), "{words:?}");
        // A crash after the picture was decoded is nobody's but the program's.
        let folder = tempfile::tempdir().unwrap();
        let crash = format!("{OPENS}say(b'\"opened\"')\nos.abort()");
        let (child, hear) = supervise(folder.path(), script(folder.path(), &crash));
        for _ in 0..MOST_FAILURES {
            hear.recv_timeout(PATIENCE).unwrap();
        }
        let more = hear.recv_timeout(PAUSE_MOST + Duration::from_secs(3));
        assert_eq!(more.err(), Some(RecvTimeoutError::Timeout));
        child.stop();
    }

    #[test]
    fn failures_are_counted_within_ten_minutes() {
        let minute = |m: u64| Duration::from_secs(60 * m);
        let mut failures = Failures::default();
        assert!([0, 4, 11, 15, 22].into_iter().all(|m| !failures.too_many(minute(m))));
        assert!(failures.too_many(minute(23)), "15, 22, 23");
        assert!(!failures.too_many(minute(24)), "forgotten after the time off");
    }
}
