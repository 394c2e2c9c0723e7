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
use crate::logic::site::{DimmingWords, Id, Target, TargetWords};
use crate::units::Watts;

/// Hands a target to the controller; whether it was taken.
pub type Targets = Arc<dyn Fn(Id, Target) -> bool + Send + Sync>;

/// Hands the grid operator's limit and how long it holds to the controller; whether it was taken.
pub type Dim = Arc<dyn Fn(Watts, Duration) -> bool + Send + Sync>;

/// Shortest time between two commands on one topic.
const AT_MOST_EVERY: Duration = Duration::from_secs(1);
/// Longest payload.
const MOST_BYTES: usize = 1024;

/// What a command is answered from, and the ways to the controller.
pub(super) struct World<'w> {
    pub overview: Option<&'w Overview>,
    pub targets: &'w Targets,
    pub dim: &'w Dim,
}

/// Where the grid operator's limit is told, below the site.
const DIM: &str = "grid/main/cmd/dim";

/// Answers commands.
#[derive(Default)]
pub(super) struct Commands {
    /// When each topic was last obeyed.
    last: BTreeMap<String, Duration>,
}

/// Topics to subscribe to, below the site.
pub(super) fn topics(enabled: &[Command]) -> Vec<String> {
    let topic = |command: &Command| match command {
        Command::Target => format!("charger/+/cmd/{}", command.name()),
        Command::Dim => DIM.to_owned(),
    };
    enabled.iter().map(topic).collect()
}

impl Commands {
    /// The answer to a message, if it is a command: `relative` is its topic below the site. `uptime` is wall
    /// time, `now` site time.
    pub fn answer(
        &mut self,
        received: &Received,
        relative: &str,
        (uptime, now): (Duration, DateTime<Utc>),
        world: &World<'_>,
    ) -> Option<Message> {
        let charger = match relative.strip_prefix("charger/").and_then(|r| r.split_once("/cmd/")) {
            Some((id, name)) if name == Command::Target.name() => Some(id),
            None if relative == DIM => None,
            _ => return None,
        };
        let done = self.is_in_order(received, (relative, uptime)).and_then(|()| match charger {
            Some(id) => target(received, id, now, world),
            None => dim(received, world),
        });
        let body = match done {
            Ok(()) => {
                self.last.insert(relative.to_owned(), uptime);
                json!({"ok": true})
            }
            Err(why) => json!({"ok": false, "error": why}),
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

    /// Whether a command may be looked at at all.
    fn is_in_order(
        &self,
        received: &Received,
        (relative, uptime): (&str, Duration),
    ) -> Result<(), String> {
        if received.retained {
            return Err("a retained command is refused: publish it without retain".to_owned());
        }
        let too_soon = |last: &Duration| uptime.saturating_sub(*last) < AT_MOST_EVERY;
        if self.last.get(relative).is_some_and(too_soon) {
            return Err("too often: at most once a second".to_owned());
        }
        if received.payload.len() > MOST_BYTES {
            return Err(format!("longer than {MOST_BYTES} bytes"));
        }
        Ok(())
    }
}

fn target(
    received: &Received,
    id: &str,
    now: DateTime<Utc>,
    world: &World<'_>,
) -> Result<(), String> {
    let is_it = |o: &Overview| {
        o.devices.iter().any(|device| device.kind == "charger" && device.id.as_str() == id)
    };
    let Some(id) = Id::try_from(id).ok().filter(|_| world.overview.is_some_and(is_it)) else {
        return Err(format!("there is no charger `{id}`"));
    };
    let words: TargetWords =
        serde_json::from_slice(&received.payload).map_err(|error| error.to_string())?;
    handed((world.targets)(id, words.target(now)?))
}

fn dim(received: &Received, world: &World<'_>) -> Result<(), String> {
    let words: DimmingWords =
        serde_json::from_slice(&received.payload).map_err(|error| error.to_string())?;
    let (limit, lasts) = words.limit()?;
    handed((world.dim)(limit, lasts))
}

fn handed(taken: bool) -> Result<(), String> {
    if taken { Ok(()) } else { Err("the controller is behind: try again".to_owned()) }
}

/// The topic below the site, if it is one.
pub(super) fn relative<'t>(site: &Id, topic: &'t str) -> Option<&'t str> {
    topic.strip_prefix(&topics::absolute(site, ""))
}
