//! Jobs on a remote node that has a service for them, over HTTP:
//!
//! ```text
//!   PUT    <url>/<job>-<try>   {"workload": ..., "parameters": {...}, "power_w": N, "lease_s": N}
//!                              start it, or its power from now on; 0: wait. Said again every two seconds while it runs
//!   GET    <url>/<job>-<try>   {"state": "running" | "done" | "failed", "error": ...}
//!   DELETE <url>/<job>-<try>   end it, whether it is known or not
//! ```
//! A node should end a job that it hears nothing of for `lease_s`, and must not begin one anew that has ended. So each try has
//! a name of its own, from 1 on, and the one before is ended first.
//!
//! What a stranger gets wrong: the node's energy is not asked for here. Its meter is on the field bus,
//! where a job cannot touch it.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};

use super::Report;
use crate::logic::site::Id;

/// Longest time for a request.
const ANSWER: Duration = Duration::from_secs(3);
/// How often the service is asked how the job is.
const ASKS_EVERY: Duration = Duration::from_secs(2);
/// So many requests in a row without an answer, and the job counts as lost.
const MOST_SILENT: u32 = 5;
/// A node that hears nothing for so long may end the job by itself, s: the gateway is gone.
const LEASE_S: u32 = 10;
/// How long the last request may take before it is waited for no longer.
const LEAVES_IN: Duration = Duration::from_secs(3);
/// How often that is looked at.
const LOOKS_EVERY: Duration = Duration::from_millis(10);
/// A longer answer is none.
const MOST_BYTES: u64 = 16 << 10;

/// One job on a remote node. Dropping it ends the job.
#[derive(Debug)]
pub struct Endpoint {
    /// Its end is the end of the job.
    power: Option<Sender<f64>>,
    talk: JoinHandle<()>,
    reports: Receiver<Report>,
    told_w: f64,
}

impl Endpoint {
    /// Starts a job, or a further try of it, with this power.
    ///
    /// # Errors
    /// When its thread cannot be started.
    pub fn start(
        url: &str,
        (job, attempt, workload): (&Id, u8, &Id),
        parameters: &BTreeMap<String, String>,
        power_w: f64,
    ) -> std::io::Result<Endpoint> {
        let (power, told) = channel();
        let (send, reports) = channel();
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(ANSWER))
            // A machine of this site: no proxy of the environment's stands before it.
            .proxy(None)
            .max_redirects(0)
            .http_status_as_error(true)
            .build();
        let talk = Talk {
            agent: config.new_agent(),
            url: format!("{url}/{job}-{attempt}"),
            before: (attempt > 1).then(|| format!("{url}/{job}-{}", attempt - 1)),
            body: json!({"workload": workload, "parameters": parameters, "lease_s": LEASE_S}),
            told,
            send,
        };
        let thread = std::thread::Builder::new().name("endpoint".to_owned());
        let talk = thread.spawn(move || talk.run(power_w))?;
        Ok(Endpoint { power: Some(power), talk, reports, told_w: power_w })
    }

    /// From now on the job may draw this much; 0: it waits.
    pub fn allow(&mut self, power_w: f64) {
        // A watt more or less is not worth a request.
        if (power_w - self.told_w).abs() >= 1.0 || (power_w == 0.0) != (self.told_w == 0.0) {
            self.told_w = power_w;
            let _ = self.power.as_ref().map(|power| power.send(power_w));
        }
    }

    /// Asks the node to end the job; there are no more reports when it was asked.
    pub fn stop(&mut self) {
        self.power = None;
    }

    /// The next report.
    ///
    /// # Errors
    /// When there will be none any more.
    pub fn report(&mut self) -> std::io::Result<Option<Report>> {
        match self.reports.try_recv() {
            Ok(report) => Ok(Some(report)),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(std::io::ErrorKind::BrokenPipe.into()),
        }
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.stop();
        let mut left = LEAVES_IN;
        while !self.talk.is_finished() && !left.is_zero() {
            std::thread::park_timeout(LOOKS_EVERY);
            left = left.saturating_sub(LOOKS_EVERY);
        }
    }
}

struct Talk {
    agent: ureq::Agent,
    url: String,
    /// Where the try before was.
    before: Option<String>,
    body: Value,
    told: Receiver<f64>,
    send: Sender<Report>,
}

impl Talk {
    fn run(mut self, power_w: f64) {
        self.before.iter().for_each(|before| self.end(before));
        if !self.follow(power_w) {
            self.end(&self.url);
        }
    }

    fn end(&self, url: &str) {
        match self.agent.delete(url).call() {
            // Nobody knows of it any more.
            Ok(_) | Err(ureq::Error::StatusCode(404 | 410)) => {}
            Err(error) => tracing::warn!(%error, url, "a job could not be ended"),
        }
    }

    /// Until the job has ended or nobody wants it any more. Whether its node said that it has ended; in any
    /// other case it may still run there, even where no answer ever came.
    fn follow(&mut self, mut power_w: f64) -> bool {
        if let Err(why) = self.put(power_w) {
            let _ = self.send.send(Report::NotStarted(why));
            return false;
        }
        let _ = self.send.send(Report::Began(0));
        let mut silent = 0;
        loop {
            let answer = match self.told.recv_timeout(ASKS_EVERY) {
                Ok(newest) => {
                    power_w = self.told.try_iter().last().unwrap_or(newest);
                    self.put(power_w).map(|()| None)
                }
                Err(RecvTimeoutError::Timeout) => self.asked(power_w),
                Err(RecvTimeoutError::Disconnected) => return false,
            };
            match answer {
                Ok(Some(ended)) => {
                    let _ = self.send.send(ended);
                    return true;
                }
                Ok(None) => silent = 0,
                Err(_) => silent += 1,
            }
            if silent >= MOST_SILENT {
                let output = "its node does not answer".to_owned();
                let _ = self.send.send(Report::Ended { code: None, cpu_s: 0.0, output });
                return false;
            }
        }
    }

    /// How the job is; while it runs its power is said again, as the request that said it may have been lost.
    fn asked(&mut self, power_w: f64) -> Result<Option<Report>, String> {
        match self.state()? {
            None => self.put(power_w).map(|()| None),
            ended => Ok(ended),
        }
    }

    fn put(&mut self, power_w: f64) -> Result<(), String> {
        self.body["power_w"] = json!(power_w);
        let request = self.agent.put(&self.url).header("content-type", "application/json");
        request.send(self.body.to_string()).map(|_| ()).map_err(|error| error.to_string())
    }

    /// Nothing while the job runs.
    fn state(&self) -> Result<Option<Report>, String> {
        let said = |error: ureq::Error| error.to_string();
        let mut answer = self.agent.get(&self.url).call().map_err(said)?;
        let body = answer.body_mut().with_config().limit(MOST_BYTES).read_to_string();
        let body: Value =
            serde_json::from_str(&body.map_err(said)?).map_err(|error| error.to_string())?;
        let error = body["error"].as_str().unwrap_or_default().to_owned();
        let ended = |code| Report::Ended { code, cpu_s: 0.0, output: error.clone() };
        match body["state"].as_str() {
            Some("running") => Ok(None),
            Some("done") => Ok(Some(ended(Some(0)))),
            Some("failed") => Ok(Some(ended(Some(1)))),
            _ => Err("no state".to_owned()),
        }
    }
}
