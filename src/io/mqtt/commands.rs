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
use crate::logic::site::{Id, Target, TargetWords};

/// Hands a target to the controller; whether it was taken.
pub type Targets = Arc<dyn Fn(Id, Target) -> bool + Send + Sync>;

/// Shortest time between two wishes for one charger.
const AT_MOST_EVERY: Duration = Duration::from_secs(1);
/// Longest payload.
const MOST_BYTES: usize = 1024;

/// Answers commands.
#[derive(Default)]
pub(super) struct Commands {
    last: BTreeMap<Id, Duration>,
}

/// Topics to subscribe to, below the site.
pub(super) fn topics(enabled: &[Command]) -> Vec<String> {
    enabled.iter().map(|command| format!("charger/+/cmd/{}", command.name())).collect()
}

impl Commands {
    /// The answer to a message, if it is a command: `relative` is its topic below the site. `uptime` is wall
    /// time, `now` site time.
    pub fn answer(
        &mut self,
        received: &Received,
        relative: &str,
        (uptime, now): (Duration, DateTime<Utc>),
        (overview, tell): (Option<&Overview>, &Targets),
    ) -> Option<Message> {
        let (id, name) = relative.strip_prefix("charger/")?.split_once("/cmd/")?;
        if name != Command::Target.name() {
            return None;
        }
        let done = self.target(received, id, (uptime, now), (overview, tell));
        let body = match done {
            Ok(()) => json!({"ok": true}),
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

    fn target(
        &mut self,
        received: &Received,
        id: &str,
        (uptime, now): (Duration, DateTime<Utc>),
        (overview, tell): (Option<&Overview>, &Targets),
    ) -> Result<(), String> {
        if received.retained {
            return Err("a retained command is refused: publish it without retain".to_owned());
        }
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
        if received.payload.len() > MOST_BYTES {
            return Err(format!("longer than {MOST_BYTES} bytes"));
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

/// The topic below the site, if it is one.
pub(super) fn relative<'t>(site: &Id, topic: &'t str) -> Option<&'t str> {
    topic.strip_prefix(&topics::absolute(site, ""))
}
