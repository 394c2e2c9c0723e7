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
use crate::logic::compute::Taken;
use crate::logic::decision::Overview;
use crate::logic::site::{ChargingMode, DimmingWords, Id, JobWish, Target, TargetWords};
use crate::units::Watts;

/// Hands a target to the controller; whether it was taken.
pub type Targets = Arc<dyn Fn(Id, Target) -> bool + Send + Sync>;

/// Hands a charger's mode to the controller; whether it was taken.
pub type Modes = Arc<dyn Fn(Id, ChargingMode) -> bool + Send + Sync>;

/// Hands the grid operator's limit and how long it holds to the controller; whether it was taken.
pub type Dim = Arc<dyn Fn(Watts, Duration) -> bool + Send + Sync>;

/// Understands a wish about jobs and hands it to the controller: the job that it is about, or why not.
pub type Orders = Arc<dyn Fn(JobWish) -> Result<Taken, String> + Send + Sync>;

/// Shortest time between two commands on one topic.
const AT_MOST_EVERY: Duration = Duration::from_secs(1);
/// Shortest time between two orders about jobs.
const ORDERS_EVERY: Duration = Duration::from_millis(200);
/// Longest payload.
const MOST_BYTES: usize = 1024;

/// What a command is answered from, and the ways to the controller.
pub(super) struct World<'w> {
    pub overview: Option<&'w Overview>,
    pub enabled: &'w [Command],
    pub targets: &'w Targets,
    pub modes: &'w Modes,
    pub dim: &'w Dim,
    pub orders: &'w Orders,
}

/// What the grid operator's limit is about: there is one grid.
const GRID: &str = "main";

/// Answers commands.
#[derive(Default)]
pub(super) struct Commands {
    /// When each topic was last obeyed.
    last: BTreeMap<String, Duration>,
    last_order: Option<Duration>,
}

/// Topics to subscribe to, below the site.
pub(super) fn topics(enabled: &[Command]) -> Vec<String> {
    let topic = |command: &Command| {
        let about = if *command == Command::Dim { GRID } else { "+" };
        format!("{}/{about}/cmd/{}", command.kind(), command.name())
    };
    enabled.iter().map(topic).collect()
}

impl Commands {
    /// The answer to a command, if it is one; `uptime` and `now` are the gateway's.
    pub fn answer(
        &mut self,
        received: &Received,
        relative: &str,
        (uptime, now): (Duration, DateTime<Utc>),
        world: &World<'_>,
    ) -> Option<Message> {
        let (kind, rest) = relative.split_once('/')?;
        let (id, name) = rest.split_once("/cmd/")?;
        let mut enabled = world.enabled.iter().copied();
        let command = enabled.find(|known| known.kind() == kind && known.name() == name)?;
        let done = match command {
            Command::Target | Command::Mode | Command::Dim => {
                self.is_in_time(received, (relative, uptime)).and_then(|()| {
                    match command {
                        Command::Dim => dim(received, id, world),
                        Command::Mode => mode(received, id, world),
                        _ => target(received, id, now, world),
                    }?;
                    self.last.insert(relative.to_owned(), uptime);
                    Ok(json!({"ok": true}))
                })
            }
            about_jobs => self.order(received, (about_jobs, id), uptime, world).map(|taken| {
                let mut answer = json!(taken);
                answer["ok"] = true.into();
                answer
            }),
        };
        let body = done.unwrap_or_else(|why| json!({"ok": false, "error": why}));
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

    /// Whether a command may be looked at at all, so soon after the last one on its topic.
    fn is_in_time(
        &self,
        received: &Received,
        (relative, uptime): (&str, Duration),
    ) -> Result<(), String> {
        check(received)?;
        let too_soon = |last: &Duration| uptime.saturating_sub(*last) < AT_MOST_EVERY;
        if self.last.get(relative).is_some_and(too_soon) {
            return Err("too often: at most once a second".to_owned());
        }
        Ok(())
    }

    /// Something about jobs: `id` is a workload or a job. All together at most once in a fifth of a second.
    fn order(
        &mut self,
        received: &Received,
        (command, id): (Command, &str),
        uptime: Duration,
        world: &World<'_>,
    ) -> Result<Taken, String> {
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
            Command::Submit | Command::Target | Command::Mode | Command::Dim => {
                let empty = received.payload.is_empty();
                let payload: &[u8] = if empty { b"{}" } else { &received.payload };
                let words = serde_json::from_slice(payload).map_err(|error| error.to_string())?;
                JobWish::Submit { workload: id, words }
            }
        };
        (world.orders)(wish)
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

fn target(
    received: &Received,
    id: &str,
    now: DateTime<Utc>,
    world: &World<'_>,
) -> Result<(), String> {
    let id = charger(id, world)?;
    let words: TargetWords =
        serde_json::from_slice(&received.payload).map_err(|error| error.to_string())?;
    handed((world.targets)(id, words.target(now)?))
}

/// The plain name of a mode, as Home Assistant sends it.
fn mode(received: &Received, id: &str, world: &World<'_>) -> Result<(), String> {
    let id = charger(id, world)?;
    let name = std::str::from_utf8(&received.payload).map_err(|error| error.to_string())?;
    let mode = ChargingMode::asked(name.trim())?;
    handed((world.modes)(id, mode))
}

fn charger(id: &str, world: &World<'_>) -> Result<Id, String> {
    let known = world.overview.and_then(|overview| overview.charger(id));
    let known = known.map(|charger| charger.id.clone());
    known.ok_or_else(|| format!("there is no charger `{id}`"))
}

fn dim(received: &Received, id: &str, world: &World<'_>) -> Result<(), String> {
    if id != GRID {
        return Err(format!("there is no grid `{id}`"));
    }
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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::super::topics::tests::overview;
    use super::*;

    fn said(payload: &str, retained: bool) -> Received {
        Received {
            topic: "wattgate/v1/depot/charger/pile1/cmd/mode".into(),
            payload: payload.into(),
            retained,
            ..Received::default()
        }
    }

    #[test]
    fn a_mode_is_taken_by_its_name_and_refused_with_what_would_be_right() {
        let taken = Arc::new(Mutex::new(Vec::new()));
        let book = Arc::clone(&taken);
        let modes: Modes = Arc::new(move |id, mode| {
            book.lock().unwrap().push((id.to_string(), mode));
            true
        });
        let (targets, dim): (Targets, Dim) = (Arc::new(|_, _| false), Arc::new(|_, _| false));
        let orders: Orders = Arc::new(|_| Err("no".to_owned()));
        let overview = overview();
        let charger = overview.devices.iter().find(|d| d.kind == "charger").unwrap().id.clone();
        let topic = format!("charger/{charger}/cmd/mode");
        let world = World {
            overview: Some(&overview),
            enabled: &[Command::Mode],
            targets: &targets,
            modes: &modes,
            dim: &dim,
            orders: &orders,
        };
        let mut commands = Commands::default();
        let mut ask = |topic: &str, second: u64, received: &Received| {
            let times = (Duration::from_secs(second), DateTime::UNIX_EPOCH);
            let answer = commands.answer(received, topic, times, &world).unwrap();
            serde_json::from_slice::<serde_json::Value>(&answer.payload).unwrap()
        };
        assert_eq!(ask(&topic, 10, &said("pv_only\n", false)), json!({"ok": true}));
        assert_eq!(ask(&topic, 10, &said("off", false))["ok"], false, "too often");
        let wrong = ask(&topic, 12, &said("solar", false))["error"].to_string();
        assert!(wrong.contains("off, pv_only, min_pv, fast, departure"), "{wrong}");
        assert_eq!(ask(&topic, 14, &said("off", true))["ok"], false, "retained");
        assert_eq!(ask("charger/nobody/cmd/mode", 16, &said("off", false))["ok"], false);
        assert_eq!(*taken.lock().unwrap(), [(charger.to_string(), ChargingMode::PvOnly)]);
    }
}
