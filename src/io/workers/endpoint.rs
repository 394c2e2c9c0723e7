//! Jobs on a remote node that has a service for them, over HTTP:
//!
//! ```text
//!   PUT    <url>/<job>   {"workload": ..., "parameters": {...}, "power_w": N}   start it, or its new power; 0: wait
//!   GET    <url>/<job>   {"state": "running" | "done" | "failed", "error": ...}
//!   DELETE <url>/<job>   end it
//! ```
//! What a stranger gets wrong: the node's energy is not asked for here. Its meter is on the field bus,
//! where a job cannot touch it.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
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
/// A longer answer is none.
const MOST_BYTES: u64 = 16 << 10;

/// One job on a remote node. Dropping it ends the job.
#[derive(Debug)]
pub struct Endpoint {
    power: Sender<f64>,
    reports: Receiver<Report>,
    told_w: f64,
}

impl Endpoint {
    /// Starts a job with this power.
    ///
    /// # Errors
    /// When its thread cannot be started.
    pub fn start(
        url: &str,
        (job, workload): (&Id, &Id),
        parameters: &BTreeMap<String, String>,
        power_w: f64,
    ) -> std::io::Result<Endpoint> {
        let (power, told) = channel();
        let (send, reports) = channel();
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(ANSWER))
            .max_redirects(0)
            .http_status_as_error(true)
            .build();
        let talk = Talk {
            agent: config.new_agent(),
            url: format!("{url}/{job}"),
            body: json!({"workload": workload, "parameters": parameters}),
            told,
            send,
        };
        std::thread::Builder::new().name("endpoint".to_owned()).spawn(move || talk.run(power_w))?;
        Ok(Endpoint { power, reports, told_w: power_w })
    }

    /// From now on the job may draw this much; 0: it waits.
    pub fn allow(&mut self, power_w: f64) {
        // A watt more or less is not worth a request.
        if (power_w - self.told_w).abs() >= 1.0 || (power_w == 0.0) != (self.told_w == 0.0) {
            self.told_w = power_w;
            let _ = self.power.send(power_w);
        }
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

struct Talk {
    agent: ureq::Agent,
    url: String,
    body: Value,
    told: Receiver<f64>,
    send: Sender<Report>,
}

impl Talk {
    fn run(mut self, mut power_w: f64) {
        if let Err(why) = self.put(power_w) {
            let _ = self.send.send(Report::NotStarted(why));
            return;
        }
        let _ = self.send.send(Report::Began(0));
        let mut silent = 0;
        loop {
            match self.told.recv_timeout(ASKS_EVERY) {
                Ok(newest) => {
                    power_w = self.told.try_iter().last().unwrap_or(newest);
                    silent = if self.put(power_w).is_ok() { 0 } else { silent + 1 };
                }
                Err(RecvTimeoutError::Timeout) => match self.state() {
                    Ok(Some(ended)) => {
                        let _ = self.send.send(ended);
                        return;
                    }
                    Ok(None) => silent = 0,
                    Err(_) => silent += 1,
                },
                Err(RecvTimeoutError::Disconnected) => {
                    if let Err(error) = self.agent.delete(&self.url).call() {
                        tracing::warn!(%error, url = %self.url, "a job could not be ended");
                    }
                    return;
                }
            }
            if silent >= MOST_SILENT {
                let output = "its node does not answer".to_owned();
                let ended = Report::Ended { code: None, cpu_s: 0.0, output, printed: 0 };
                let _ = self.send.send(ended);
                return;
            }
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
        let ended = |code| Report::Ended { code, cpu_s: 0.0, output: error.clone(), printed: 0 };
        match body["state"].as_str() {
            Some("running") => Ok(None),
            Some("done") => Ok(Some(ended(Some(0)))),
            Some("failed") => Ok(Some(ended(Some(1)))),
            _ => Err("no state".to_owned()),
        }
    }
}
