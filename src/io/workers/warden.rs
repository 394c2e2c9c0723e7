//! The warden: the process between the gateway and a job's program (`wattgate warden`). It starts the
//! program, holds it and all it starts to a share of the processor, tells what they use, and leaves
//! nobody behind.
//!
//! What a stranger gets wrong: a share is kept by a control group where one may be made, and by stopping and
//! continuing else, a tenth of a second at a time; that holds for any number of threads and processes, and needs
//! no rights. It also holds what has got out of its group.

use std::collections::VecDeque;
use std::io::{self, BufRead, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitOptions, kill_process};
use serde::{Deserialize, Serialize};

use super::group::Group;
use super::tree;
use crate::io::clock::Clock;
use crate::logic::compute::HeldBy;

/// How often the share is kept.
const TICK: Duration = Duration::from_millis(100);
/// How often the gateway is told.
const TELLS_EVERY: Duration = Duration::from_millis(500);
/// How long a program that is asked to end may take.
const ENDS_IN: Duration = Duration::from_secs(2);
/// So many seconds of its share a program may have saved up.
const SAVED_S: f64 = 0.2;
/// What a control group holds may be overdrawn by so many seconds of its share before the warden stops it, too:
/// the kernel lets a group save up a little as well.
const OVERDRAWN_S: f64 = 1.0;
/// Of what the program prints, the end is kept.
const MOST_OUTPUT: usize = 4096;
/// Jobs come after everything else on the machine.
const NICE: i32 = 19;
/// The most that `oom_score_adj` of `proc(5)` takes.
const FIRST_TO_GO: &str = "1000";

/// What the warden tells, one line of JSON each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Report {
    /// The program runs as this process.
    Began(i32),
    /// By what it is held to its share.
    HeldBy(HeldBy),
    /// CPU time of the program and all it started, s.
    CpuS(f64),
    /// It has ended and so has all it started.
    Ended {
        /// Its exit code; nothing where a signal ended it.
        code: Option<i32>,
        /// CPU time of all, s.
        cpu_s: f64,
        /// The end of what it printed.
        output: String,
    },
    /// It could not be started.
    NotStarted(String),
}

/// How a program is to be held.
#[derive(Clone, Copy, Debug)]
pub struct Hold<'a> {
    /// Its share at first: 1 is one core.
    pub cores: f64,
    /// Folder below which control groups may be made.
    pub groups: Option<&'a Path>,
}

/// What the warden is told, one line each: `cores <number>` (0: wait) or `stop`.
enum Told {
    Cores(f64),
    Stop,
}

/// Guards one program until it has ended, the gateway says `stop`, or `input` ends.
///
/// # Errors
/// When nobody listens to the last report.
pub fn guard(
    program: &Path,
    arguments: &[String],
    hold: Hold<'_>,
    (input, mut report): (impl Read + Send + 'static, impl Write),
) -> io::Result<()> {
    let mut tell = |what: &Report| -> io::Result<()> {
        serde_json::to_writer(&mut report, what)?;
        report.write_all(b"\n")?;
        report.flush()
    };
    let own = rustix::process::getpid();
    // What a program leaves behind becomes a child of the warden and not of the system.
    let ready = rustix::process::set_child_subreaper(Some(own))
        .and_then(|()| rustix::process::setpriority_process(None, NICE));
    let own = own.as_raw_nonzero().get();
    let mut group = hold.groups.and_then(|parent| Group::make(parent, own, hold.cores).ok());
    group = group.filter(|group| group.enter().is_ok());
    let started = ready.map_err(io::Error::from).and_then(|()| start(program, arguments));
    // A warden that stays inside is held with its program, and no worse comes of it.
    let _ = group.as_ref().map(Group::leave);
    let (pid, output) = match started {
        Ok(started) => started,
        Err(error) => return tell(&Report::NotStarted(error.to_string())),
    };
    // From here on there is no way out but past `end_all`.
    let mut watch = Watch { own, cores: hold.cores, saved_s: SAVED_S, group, ..Watch::new() };
    let (send, told) = channel();
    let ears =
        std::thread::Builder::new().name("told".to_owned()).spawn(move || hear(input, &send));
    // Who cannot be told any more is as gone as who says nothing any more.
    let heard = tell(&Report::Began(pid.as_raw_nonzero().get())).is_ok()
        && tell(&Report::HeldBy(watch.held_by())).is_ok()
        && ears.is_ok()
        && watch.keep(pid, &told, &mut tell).unwrap_or(false);
    watch.end_all(heard);
    if !heard {
        return Ok(());
    }
    let kept = output.lock().unwrap_or_else(PoisonError::into_inner);
    let bytes: Vec<u8> = kept.iter().copied().collect();
    tell(&Report::Ended {
        code: watch.code,
        cpu_s: watch.cpu_s,
        output: String::from_utf8_lossy(&bytes).into_owned(),
    })
}

/// The program, in a group of its own, with nothing of the gateway's surroundings.
fn start(program: &Path, arguments: &[String]) -> io::Result<(Pid, Arc<Mutex<VecDeque<u8>>>)> {
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("LANG", "C.UTF-8")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()?;
    // When memory is short, the program goes before anything of the gateway.
    let _ = std::fs::write(format!("/proc/{}/oom_score_adj", child.id()), FIRST_TO_GO);
    let output = Arc::<Mutex<VecDeque<u8>>>::default();
    let pipes: [Option<Box<dyn Read + Send>>; 2] = [
        child.stdout.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>),
        child.stderr.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>),
    ];
    let reads = |pipe| {
        let kept = Arc::clone(&output);
        let thread = std::thread::Builder::new().name("output".to_owned());
        thread.spawn(move || keep(pipe, &kept)).map(|_| ())
    };
    let read = pipes.into_iter().flatten().try_for_each(reads);
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    match read.and(pid.ok_or_else(|| io::Error::other("no process id"))) {
        Ok(pid) => Ok((pid, output)),
        Err(error) => {
            // What cannot be guarded does not run.
            let _ = child.kill().and_then(|()| child.wait());
            Err(error)
        }
    }
}

/// Reads all that is printed and keeps the end of it.
fn keep(mut pipe: Box<dyn Read + Send>, kept: &Mutex<VecDeque<u8>>) {
    let mut buffer = [0; 4096];
    while let Ok(bytes) = pipe.read(&mut buffer) {
        if bytes == 0 {
            return;
        }
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend(&buffer[..bytes]);
        let over = kept.len().saturating_sub(MOST_OUTPUT);
        kept.drain(..over);
    }
}

/// Passes on what the gateway says; the sender's end is the end of the gateway.
fn hear(input: impl Read, send: &Sender<Told>) {
    for line in io::BufReader::new(input).lines().map_while(Result::ok) {
        let told = match line.split_once(' ') {
            Some(("cores", number)) => number.parse().ok().map(Told::Cores),
            None if line == "stop" => Some(Told::Stop),
            _ => None,
        };
        if told.is_some_and(|told| send.send(told).is_err()) {
            return;
        }
    }
}

/// How the guarded are.
struct Watch {
    own: i32,
    cores: f64,
    saved_s: f64,
    stopped: bool,
    cpu_s: f64,
    code: Option<i32>,
    group: Option<Group>,
    clock: Clock,
}

impl Watch {
    fn new() -> Watch {
        let clock = Clock::real();
        let (stopped, code, group) = (false, None, None);
        Watch { own: 0, cores: 0.0, saved_s: 0.0, stopped, cpu_s: 0.0, code, group, clock }
    }

    fn held_by(&self) -> HeldBy {
        if self.group.is_some() { HeldBy::Cgroup } else { HeldBy::Turns }
    }

    /// A group that does not take a new share is none any more.
    fn take_share(&mut self, cores: f64) {
        self.cores = cores.max(0.0);
        self.group = self.group.take().filter(|group| group.cap(self.cores).is_ok());
    }

    /// Until the program has ended or must. Whether there is still a gateway.
    fn keep(
        &mut self,
        program: Pid,
        told: &Receiver<Told>,
        tell: &mut impl FnMut(&Report) -> io::Result<()>,
    ) -> io::Result<bool> {
        let (mut before, mut told_at) = (self.clock.now(), self.clock.now());
        loop {
            // Who stands still needs no close look.
            let waits = self.stopped && self.cores <= 0.0;
            match told.recv_timeout(if waits { TELLS_EVERY } else { TICK }) {
                Ok(Told::Cores(cores)) => {
                    let before = self.held_by();
                    self.take_share(cores);
                    if self.held_by() != before {
                        tell(&Report::HeldBy(self.held_by()))?;
                    }
                }
                Ok(Told::Stop) => return Ok(true),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(false),
            }
            if self.reap(program) {
                self.measure();
                return Ok(true);
            }
            let now = self.clock.now();
            self.hold(before.age_at(now).as_secs_f64());
            before = now;
            if told_at.age_at(now) >= TELLS_EVERY {
                told_at = now;
                tell(&Report::CpuS(self.cpu_s))?;
            }
        }
    }

    /// Takes leave of all that has ended. Whether the program was among them.
    fn reap(&mut self, program: Pid) -> bool {
        let mut ended = false;
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            if pid == program {
                ended = true;
                self.code = status.exit_status();
            }
        }
        ended
    }

    fn measure(&mut self) -> (Vec<i32>, f64) {
        let tree = tree::below(self.own);
        let used = (tree.cpu_s - self.cpu_s).max(0.0);
        self.cpu_s = tree.cpu_s.max(self.cpu_s);
        (tree.living, used)
    }

    /// Stops everybody whose share is used up, and lets them go on when there is some again.
    fn hold(&mut self, span_s: f64) {
        let (living, used) = self.measure();
        self.saved_s += self.cores * span_s - used;
        self.saved_s = self.saved_s.min(SAVED_S * self.cores);
        let overdrawn_s = if self.group.is_some() { OVERDRAWN_S * self.cores } else { 0.0 };
        let stop = self.saved_s < -overdrawn_s || self.cores <= 0.0;
        // Also while nothing changes: somebody may have been born meanwhile.
        if stop || self.stopped {
            signal(&living, if stop { Signal::STOP } else { Signal::CONT });
        }
        self.stopped = stop;
    }

    /// Ends what is left: asks first where there is time, and then does not ask. It does not return before
    /// nobody is left.
    fn end_all(&mut self, may_ask: bool) {
        let began = self.clock.now();
        let (living, _) = self.measure();
        if may_ask && !living.is_empty() {
            signal(&living, Signal::TERM);
            signal(&living, Signal::CONT);
        }
        // Nothing is ever sent: a wait that ends after its time.
        let (_quiet, pause) = channel::<()>();
        loop {
            let asked = began.age_at(self.clock.now());
            while let Ok(Some(_)) = rustix::process::wait(WaitOptions::NOHANG) {}
            let (living, _) = self.measure();
            if living.is_empty() {
                return;
            }
            if !may_ask || asked > ENDS_IN {
                signal(&living, Signal::KILL);
            }
            let _ = pause.recv_timeout(TICK / 5);
        }
    }
}

fn signal(pids: &[i32], signal: Signal) {
    for pid in pids.iter().filter_map(|pid| Pid::from_raw(*pid)) {
        // One that has just ended needs no signal.
        let _ = kill_process(pid, signal);
    }
}
