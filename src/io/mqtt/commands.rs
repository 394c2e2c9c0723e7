//! What may be asked over MQTT: wishes, each only where the site file enables it. A wish goes to the
//! controller, which keeps every limit whatever is asked; the answer says whether it was understood.
//!
//! What a stranger gets wrong: a retained wish is refused. The broker would repeat it after every
//! restart, long after whoever asked has driven away.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::json;

use super::topics;
use super::wire::{Message, Received};
use crate::config::Command;
use crate::logic::decision::Overview;
use crate::logic::site::{Id, JobWish, Target, TargetWords};

/// Hands a target to the controller; whether it was taken.
pub type Targets = Arc<dyn Fn(Id, Target) -> bool + Send + Sync>;

/// Understands a wish about jobs and hands it to the controller: the job that it is about, or why not.
pub type Orders = Arc<dyn Fn(JobWish) -> Result<Id, String> + Send + Sync>;

/// Shortest time between two wishes for one charger.
const AT_MOST_EVERY: Duration = Duration::from_secs(1);
/// Shortest time between two orders.
const ORDERS_EVERY: Duration = Duration::from_millis(200);
/// Longest payload.
const MOST_BYTES: usize = 1024;

/// Answers commands.
#[derive(Default)]
pub(super) struct Commands {
    last: BTreeMap<Id, Duration>,
    last_order: Option<Duration>,
}

/// Topics to subscribe to, below the site.
pub(super) fn topics(enabled: &[Command]) -> Vec<String> {
    let topic = |command: &Command| format!("{}/+/cmd/{}", command.kind(), command.name());
    enabled.iter().map(topic).collect()
}

/// What a command may be about, and the ways to the controller.
#[derive(Clone, Copy)]
pub(super) struct World<'w> {
    pub overview: Option<&'w Overview>,
    pub enabled: &'w [Command],
    pub targets: &'w Targets,
    pub orders: &'w Orders,
}

impl Commands {
    /// The answer to a message, if it is a command: `relative` is its topic below the site. `uptime` is wall
    /// time, `now` site time.
    pub fn answer(
        &mut self,
        received: &Received,
        relative: &str,
        (uptime, now): (Duration, DateTime<Utc>),
        world: World<'_>,
    ) -> Option<Message> {
        let (kind, rest) = relative.split_once('/')?;
        let (id, name) = rest.split_once("/cmd/")?;
        let mut enabled = world.enabled.iter().copied();
        let command = enabled.find(|known| known.kind() == kind && known.name() == name)?;
        let body = match command {
            Command::Target => match self.target(received, id, (uptime, now), world) {
                Ok(()) => json!({"ok": true}),
                Err(why) => json!({"ok": false, "error": why}),
            },
            about_jobs => match self.order(received, (about_jobs, id), uptime, world) {
                Ok(job) => json!({"ok": true, "job": job}),
                Err(why) => json!({"ok": false, "error": why}),
            },
        };
        // Nobody shall speak with our voice where others listen to it.
        let foreign = |topic: &String| {
            let reserved = ["wattgate/", "homeassistant/", "$"];
            !topic.is_empty()
                && !topic.contains(['+', '#', '\0'])
                && !reserved.iter().any(|ours| topic.starts_with(ours))
        };
        let topic = received.answer_to.clone().filter(foreign);
        Some(Message {
            topic: topic.unwrap_or_else(|| format!("{}/reply", received.topic)),
            payload: body.to_string().into_bytes(),
            correlation: received.correlation.clone(),
            ..Message::default()
        })
    }

    /// Something about jobs: `id` is a workload or a job. All together at most once in a fifth of a second.
    fn order(
        &mut self,
        received: &Received,
        (command, id): (Command, &str),
        uptime: Duration,
        world: World<'_>,
    ) -> Result<Id, String> {
        check(received)?;
        if self.last_order.is_some_and(|last| uptime.saturating_sub(last) < ORDERS_EVERY) {
            return Err("too often: at most five times a second".to_owned());
        }
        self.last_order = Some(uptime);
        let id = id.to_owned();
        let wish = match command {
            Command::Pause => JobWish::Pause(id),
            Command::Resume => JobWish::Resume(id),
            Command::Cancel => JobWish::Cancel(id),
            Command::Submit | Command::Target => {
                let empty = received.payload.is_empty();
                let payload: &[u8] = if empty { b"{}" } else { &received.payload };
                let words = serde_json::from_slice(payload).map_err(|error| error.to_string())?;
                JobWish::Submit { workload: id, words }
            }
        };
        (world.orders)(wish)
    }

    fn target(
        &mut self,
        received: &Received,
        id: &str,
        (uptime, now): (Duration, DateTime<Utc>),
        World { overview, targets: tell, .. }: World<'_>,
    ) -> Result<(), String> {
        check(received)?;
        let is_it = |o: &Overview| {
            o.devices.iter().any(|device| device.kind == "charger" && device.id.as_str() == id)
        };
        let Some(id) = Id::try_from(id).ok().filter(|_| overview.is_some_and(is_it)) else {
            return Err(format!("there is no charger `{id}`"));
        };
        let too_soon = |last: &Duration| uptime.saturating_sub(*last) < AT_MOST_EVERY;
        if self.last.get(&id).is_some_and(too_soon) {
            return Err("too often: at most once a second".to_owned());
        }
        let words: TargetWords =
            serde_json::from_slice(&received.payload).map_err(|error| error.to_string())?;
        let target = words.target(now)?;
        self.last.insert(id.clone(), uptime);
        if tell(id, target) {
            Ok(())
        } else {
            Err("the controller is behind: try again".to_owned())
        }
    }
}

/// What is refused whatever it says.
fn check(received: &Received) -> Result<(), String> {
    if received.retained {
        return Err("a retained command is refused: publish it without retain".to_owned());
    }
    if received.payload.len() > MOST_BYTES {
        return Err(format!("longer than {MOST_BYTES} bytes"));
    }
    Ok(())
}

/// The topic below the site, if it is one.
pub(super) fn relative<'t>(site: &Id, topic: &'t str) -> Option<&'t str> {
    topic.strip_prefix(&topics::absolute(site, ""))
}
