//! The gateway's side of one running program: starts its warden, tells it the share, hears what it uses.
//!
//! What a stranger gets wrong: dropping a worker ends the program and all it has started; there is no
//! way to let one run on.

use std::io::{self, BufRead, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

use super::warden::{Hold, Report};

/// Reports that may wait to be read; a warden whose reports nobody reads waits too.
const REPORTS: usize = 64;
/// How long a warden may take to end what it guards.
const LEAVES_IN: Duration = Duration::from_secs(8);
const LOOKS_EVERY: Duration = Duration::from_millis(10);

/// One running program.
#[derive(Debug)]
pub struct Worker {
    warden: Child,
    input: Option<ChildStdin>,
    reports: Receiver<Report>,
    group: Option<i32>,
    cores: f64,
}

impl Worker {
    /// Starts a program below a warden; `gateway` is the executable that has the command `warden`.
    ///
    /// # Errors
    /// When the warden cannot be started. That the program could not be is a report.
    pub fn start(
        gateway: &Path,
        program: &Path,
        arguments: &[String],
        hold: Hold<'_>,
    ) -> io::Result<Worker> {
        let cores = hold.cores;
        let groups =
            hold.groups.into_iter().flat_map(|path| ["--groups".as_ref(), path.as_os_str()]);
        let mut warden = Command::new(gateway)
            .args(["warden", "--cores", &cores.to_string()])
            .args(groups)
            .arg("--")
            .arg(program)
            .args(arguments)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (send, reports) = sync_channel(REPORTS);
        let output = warden.stdout.take().ok_or_else(|| io::Error::other("no output"))?;
        std::thread::Builder::new().name("job".to_owned()).spawn(move || {
            for line in io::BufReader::new(output).lines().map_while(Result::ok) {
                let Ok(report) = serde_json::from_str(&line) else { continue };
                if send.send(report).is_err() {
                    return;
                }
            }
        })?;
        let input = warden.stdin.take();
        Ok(Worker { warden, input, reports, group: None, cores })
    }

    /// From now on the program may use this much of the processor: 1 is one core, 0 none at all.
    pub fn allow(&mut self, cores: f64) {
        if (cores - self.cores).abs() < 1e-3 {
            return;
        }
        self.cores = cores;
        self.say(&format!("cores {cores}\n"));
    }

    fn say(&mut self, line: &str) {
        // A warden that is gone has ended its reports, too.
        if let Some(input) = &mut self.input {
            let _ = input.write_all(line.as_bytes()).and_then(|()| input.flush());
        }
    }

    /// The next report. An error means that there will be none any more, though none said that it ended.
    ///
    /// # Errors
    /// When the warden is gone.
    pub fn report(&mut self) -> io::Result<Option<Report>> {
        match self.reports.try_recv() {
            Ok(report) => {
                if let Report::Began(pid) = report {
                    self.group = Some(pid);
                }
                Ok(Some(report))
            }
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    /// Asks the program to end; its last report comes when it has.
    pub fn stop(&mut self) {
        self.say("stop\n");
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Its end is what the warden obeys.
        self.input = None;
        let mut left = LEAVES_IN;
        while matches!(self.warden.try_wait(), Ok(None)) && !left.is_zero() {
            while self.reports.try_recv().is_ok() {}
            std::thread::park_timeout(LOOKS_EVERY);
            left = left.saturating_sub(LOOKS_EVERY);
        }
        let ended = matches!(self.warden.try_wait(), Ok(Some(status)) if status.success());
        if !ended {
            let _ = self.warden.kill();
            let _ = self.warden.wait();
            // A warden that was killed could not end the program.
            if let Some(group) = self.group.and_then(Pid::from_raw) {
                let _ = kill_process_group(group, Signal::KILL);
            }
        }
    }
}
