//! The front desk: a Unix socket in the state folder (`control.sock`, for its owner only) at which a
//! person on the device itself acknowledges alarms, resets latched zones and says how chargers charge. One
//! question, one answer.
//!
//! What a stranger gets wrong: the desk changes nothing. It hands the controller an observation and
//! then looks in the overview whether the controller has agreed.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::aside::{self, Begins, Put};
use super::breakage::{Breakage, How, Part};
use super::charging::{self, Charging, ChargingWish};
use super::drill::{self, Drill};
use super::jobs::Orders;
use super::messages;
use crate::io::clock::Clock;
use crate::logic::compute::Taken;
use crate::logic::decision::{DeviceView, Overview, ZoneView};
use crate::logic::observation::Observation;
use crate::logic::safety::alarms::{Alarm, Signature, may_shelve};
use crate::logic::safety::fire::ResetObstacle;
use crate::logic::site::{Id, JobWish, Site};
use crate::logic::vision::{Scene, Tier, Verdict};

/// Name of the socket in the state folder.
const SOCKET: &str = "control.sock";
/// Longest wait for a question, and for the controller's answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// Longest name or note.
const MOST_TEXT: usize = 200;
/// A charger below this is not the one for a drill, A.
const DRAWS_A: f64 = 5.0;

/// What a person asks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Which alarms are there, and how are the zones?
    Alarms,
    /// I know of this alarm.
    Acknowledge {
        /// The alarm's id.
        alarm: String,
        /// Who.
        signature: Signature,
    },
    /// Put this alarm out of sight for a time.
    Shelve {
        /// The alarm's id.
        alarm: String,
        /// Who.
        signature: Signature,
        /// For how long, minutes.
        minutes: u32,
    },
    /// Release this latched zone: first I say that I go and look, then that I have.
    Reset {
        /// The zone.
        zone: String,
        /// Who.
        by: String,
        /// Whether this is the second step.
        inspected: bool,
    },
    /// How is everything?
    Overview,
    /// Make this drill.
    Drill {
        /// Which.
        drill: Drill,
    },
    /// Let this vital thread break; simulated sites only.
    Break {
        /// The thread.
        part: Part,
        /// How.
        how: How,
    },
    /// Something about jobs.
    Job(JobWish),
    /// Charge like this from now on.
    Charge(ChargingWish),
    /// This sensor or relay was tested.
    Prove {
        /// Its id.
        id: String,
        /// Who.
        by: String,
    },
}

/// What the gateway answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// All alarms and zones.
    Alarms {
        /// Alarms.
        alarms: Vec<Alarm>,
        /// Zones.
        zones: Vec<ZoneView>,
    },
    /// How everything is.
    Overview(Box<Overview>),
    /// It was done.
    Done,
    /// It will be done: the job that it is about.
    Ordered(Taken),
    /// How a charger charges now.
    Charging(Box<Charging>),
    /// It is not allowed, and why.
    NotAllowed(String),
    /// It was not.
    Refused(Refusal),
}

/// Why something was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// There is no such alarm.
    NoSuchAlarm,
    /// There is no such zone.
    NoSuchZone,
    /// There is no such charger.
    NoSuchCharger,
    /// A name is needed, of at most 200 characters.
    NoName,
    /// A trip cannot be shelved, an alarm for eight hours at most, a warning for a week.
    NotShelved,
    /// A fire drill needs a camera.
    NoCamera,
    /// A fire drill shows nothing where a zone is stopped already.
    ZoneLatched,
    /// There is no broker to lose.
    NoBroker,
    /// No charger draws enough to seem to draw too much.
    NobodyCharges,
    /// Only on a simulated site.
    NotSimulated,
    /// There is no such sensor or relay.
    NoSuchSensor,
    /// The sensor or relay was not seen to react lately: nothing was proven.
    NotSeenToReact,
    /// This person's role does not allow it.
    NotYourRole,
    /// The first step was not taken, or by somebody else.
    NotBegun,
    /// The zone is not released.
    Reset(ResetObstacle),
    /// The controller did not answer.
    NoAnswer,
}

impl Refusal {
    /// Stable code: the key of the text in `texts/*/cli.json` (`cli.refused.<code>`).
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Refusal::NoSuchAlarm => "no_such_alarm",
            Refusal::NoSuchZone => "no_such_zone",
            Refusal::NoSuchCharger => "no_such_charger",
            Refusal::NoName => "no_name",
            Refusal::Reset(ResetObstacle::NotLatched) => "not_latched",
            Refusal::Reset(ResetObstacle::StillSeen) => "still_seen",
            Refusal::Reset(ResetObstacle::Blind) => "blind",
            Refusal::Reset(ResetObstacle::SensorFault) => "sensor_fault",
            Refusal::NotShelved => "not_shelved",
            Refusal::NoCamera => "no_camera",
            Refusal::ZoneLatched => "zone_latched",
            Refusal::NoBroker => "no_broker",
            Refusal::NobodyCharges => "nobody_charges",
            Refusal::NotSimulated => "not_simulated",
            Refusal::NoSuchSensor => "no_such_sensor",
            Refusal::NotSeenToReact => "not_seen_to_react",
            Refusal::NotYourRole => "not_your_role",
            Refusal::NotBegun => "not_begun",
            Refusal::Reset(ResetObstacle::NotClearLongEnough) => "not_clear_long_enough",
            Refusal::NoAnswer => "no_answer",
        }
    }
}

/// What the desk needs.
pub struct Desk {
    /// The way to the controller.
    pub observations: SyncSender<Observation>,
    /// What the controller shows.
    pub overview: watch::Receiver<Option<Arc<Overview>>>,
    /// Site time.
    pub clock: Clock,
    /// The site.
    pub site: Site,
    /// Puts things aside, for a drill.
    pub aside: Begins,
    /// Whether the site has a broker.
    pub has_broker: bool,
    /// The way of orders about jobs.
    pub orders: Orders,
    /// What may be broken on purpose; nothing on a real site.
    pub breakage: Option<Breakage>,
}

/// Opens the desk. It stays open until the process ends.
///
/// # Errors
/// When the socket or the thread cannot be made.
pub fn open(state: &Path, desk: Desk) -> io::Result<()> {
    let path = state.join(SOCKET);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let serve = move || {
        for visitor in listener.incoming() {
            let answered = visitor.and_then(|stream| desk.attend(stream, &runtime));
            if let Err(error) = answered {
                tracing::debug!(%error, "a visitor of the control socket went away");
            }
        }
    };
    std::thread::Builder::new().name("desk".to_owned()).spawn(serve).map(|_| ())
}

/// Asks a running gateway.
///
/// # Errors
/// When there is none on this state folder, or it does not answer.
pub fn ask(state: &Path, request: &Request) -> io::Result<Answer> {
    let mut stream = UnixStream::connect(socket(state))?;
    stream.set_read_timeout(Some(PATIENCE * 2))?;
    messages::say(&mut stream, request)?;
    messages::hear(&mut stream)
}

/// Where the desk of a state folder is.
#[must_use]
pub fn socket(state: &Path) -> PathBuf {
    state.join(SOCKET)
}

impl Desk {
    fn attend(&self, mut stream: UnixStream, runtime: &tokio::runtime::Runtime) -> io::Result<()> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let request = messages::hear(&mut stream)?;
        let answer = runtime.block_on(self.answer(request));
        messages::say(&mut stream, &answer)
    }

    async fn answer(&self, request: Request) -> Answer {
        let Some(overview) = self.overview.borrow().clone() else {
            return Answer::Refused(Refusal::NoAnswer);
        };
        match request {
            Request::Alarms => {
                Answer::Alarms { alarms: overview.alarms.clone(), zones: overview.zones.clone() }
            }
            Request::Acknowledge { alarm, signature } => {
                self.acknowledge(&overview, alarm, signature).await
            }
            Request::Shelve { alarm, signature, minutes } => {
                let span = Duration::from_secs(u64::from(minutes) * 60);
                self.shelve(&overview, alarm, (signature, span)).await
            }
            Request::Reset { zone, by, inspected } => {
                self.reset(&overview, zone, (by, inspected)).await
            }
            Request::Overview => Answer::Overview(Box::new(Overview::clone(&overview))),
            Request::Drill { drill } => self.drill(drill, &overview).await,
            Request::Break { part, how } => match &self.breakage {
                Some(breakage) => {
                    breakage.ask(part, how);
                    Answer::Done
                }
                None => Answer::Refused(Refusal::NotSimulated),
            },
            Request::Job(wish) => match (self.orders)(wish) {
                Ok(taken) => Answer::Ordered(taken),
                Err(why) => Answer::NotAllowed(why),
            },
            Request::Prove { id, by } => self.prove(&overview, id, by).await,
            Request::Charge(wish) => charging::charge(self, wish).await,
        }
    }

    async fn acknowledge(&self, before: &Overview, alarm: String, signature: Signature) -> Answer {
        if !is_name(&signature.by) || signature.note.as_ref().is_some_and(|n| n.len() > MOST_TEXT) {
            return Answer::Refused(Refusal::NoName);
        }
        if !before.alarms.iter().any(|known| known.id == alarm) {
            return Answer::Refused(Refusal::NoSuchAlarm);
        }
        let done = {
            let (alarm, by) = (alarm.clone(), Some(signature.by.clone()));
            move |o: &Overview| {
                let mine = o.alarms.iter().find(|known| known.id == alarm);
                mine.is_none_or(|known| known.acknowledged && known.by == by)
            }
        };
        let at = self.clock.now();
        self.tell(Observation::Acknowledged { alarm, signature, at }, done).await
    }

    async fn shelve(
        &self,
        before: &Overview,
        alarm: String,
        (signature, span): (Signature, Duration),
    ) -> Answer {
        let note = signature.note.as_ref();
        if !is_name(&signature.by) || note.is_some_and(|note| note.len() > MOST_TEXT) {
            return Answer::Refused(Refusal::NoName);
        }
        let Some(known) = before.alarms.iter().find(|known| known.id == alarm) else {
            return Answer::Refused(Refusal::NoSuchAlarm);
        };
        if !may_shelve(known.severity, span) {
            return Answer::Refused(Refusal::NotShelved);
        }
        let (id, earlier) = (alarm.clone(), known.shelved_until);
        let at = self.clock.now();
        let ask = Observation::Shelved { alarm, signature, span, at };
        let taken = move |o: &Overview| {
            let mine = o.alarms.iter().find(|known| known.id == id);
            mine.is_none_or(|a| a.shelved_until.is_some() && a.shelved_until != earlier)
        };
        self.tell(ask, taken).await
    }

    async fn reset(
        &self,
        before: &Overview,
        zone: String,
        (by, inspected): (String, bool),
    ) -> Answer {
        let known = before.zones.iter().find(|known| known.id.as_str() == zone);
        let (Some(known), Ok(zone)) = (known, Id::try_from(zone.clone())) else {
            return Answer::Refused(Refusal::NoSuchZone);
        };
        if let Some(refusal) = self.reset_refused(known, &by, inspected) {
            return Answer::Refused(refusal);
        }
        tracing::warn!(zone = zone.as_str(), %by, inspected, "a person resets a latched zone");
        let at = self.clock.now();
        let ask = Observation::ResetAsked { zone: zone.clone(), by: by.clone(), inspected, at };
        let released = move |o: &Overview| {
            let mut mine = o.zones.iter().filter(|z| z.id == zone);
            match inspected {
                true => mine.any(|z| !is_latched(z)),
                false => mine.any(|z| z.reset_begun_by.as_deref() == Some(by.as_str())),
            }
        };
        self.tell(ask, released).await
    }

    /// Why a step of a reset is not even asked of the controller.
    fn reset_refused(&self, zone: &ZoneView, by: &str, inspected: bool) -> Option<Refusal> {
        if !is_name(by) {
            return Some(Refusal::NoName);
        }
        if !is_latched(zone) {
            return Some(Refusal::Reset(ResetObstacle::NotLatched));
        }
        if !self.site.guard.roles.may_release(by, zone.level > 2) {
            return Some(Refusal::NotYourRole);
        }
        if !inspected {
            return None;
        }
        if zone.reset_begun_by.as_deref() != Some(by) {
            return Some(Refusal::NotBegun);
        }
        zone.reset_obstacle.map(Refusal::Reset)
    }

    async fn drill(&self, drill: Drill, before: &Overview) -> Answer {
        let (put, lasts) = match drill {
            Drill::MeterLoss => (Put::Meter, drill::PUT_ASIDE),
            Drill::BrokerLoss if !self.has_broker => return Answer::Refused(Refusal::NoBroker),
            Drill::BrokerLoss => (Put::Broker, drill::PUT_ASIDE),
            Drill::ChargerDisobeys => match busiest(before) {
                Some(charger) => (Put::Charger(charger), drill::DISOBEYS_FOR),
                None => return Answer::Refused(Refusal::NobodyCharges),
            },
            Drill::Fire => return self.fire_drill(before).await,
        };
        tracing::warn!(?drill, "a drill begins");
        aside::begin(&self.aside, put, (lasts, self.clock));
        Answer::Done
    }

    /// One confirmed flame of the first camera that a zone has.
    async fn fire_drill(&self, before: &Overview) -> Answer {
        if before.zones.iter().any(|zone| zone.level >= 2) {
            return Answer::Refused(Refusal::ZoneLatched);
        }
        let mut cameras = self.site.zones.iter().flat_map(|zone| &zone.cameras);
        let Some(camera) = cameras.next().cloned() else {
            return Answer::Refused(Refusal::NoCamera);
        };
        tracing::warn!("a fire drill begins");
        let flame = Observation::Scene(Scene {
            camera,
            frame: u64::MAX,
            at: self.clock.now(),
            fire: 1.0,
            smoke: 0.0,
            verdict: Verdict::Alarm,
            tier: Tier::Small,
            bays: Vec::new(),
            scored_by: None,
            cpu_ms: 0.0,
            fault: None,
        });
        self.tell(flame, |o| o.zones.iter().any(|zone| zone.level >= 2)).await
    }

    async fn prove(&self, before: &Overview, id: String, by: String) -> Answer {
        let sensors = before.sensors.iter().map(|s| (&s.id, s.reacted, s.proven));
        let relays = before.relays.iter().map(|r| (&r.id, r.reacted, r.proven));
        let known = sensors.chain(relays).find(|(known, ..)| known.as_str() == id);
        let Some((id, reacted, earlier)) = known.map(|(id, r, p)| (id.clone(), r, p)) else {
            return Answer::Refused(Refusal::NoSuchSensor);
        };
        if !is_name(&by) {
            return Answer::Refused(Refusal::NoName);
        }
        if !reacted {
            return Answer::Refused(Refusal::NotSeenToReact);
        }
        tracing::warn!(id = id.as_str(), %by, "a person records a proof test");
        let ask = Observation::Proven { id: id.clone(), by, at: self.clock.now() };
        let taken = move |o: &Overview| {
            let sensors = o.sensors.iter().map(|s| (&s.id, s.proven));
            let mut all = sensors.chain(o.relays.iter().map(|r| (&r.id, r.proven)));
            all.any(|(known, proven)| *known == id && proven != earlier)
        };
        self.tell(ask, taken).await
    }

    /// Hands the observation over and waits until the overview shows that it was taken.
    pub(super) async fn tell(
        &self,
        observation: Observation,
        shows: impl Fn(&Overview) -> bool,
    ) -> Answer {
        let mut overview = self.overview.clone();
        if self.observations.try_send(observation).is_err() {
            return Answer::Refused(Refusal::NoAnswer);
        }
        let taken = overview.wait_for(|o| o.as_deref().is_some_and(&shows));
        match tokio::time::timeout(PATIENCE, taken).await {
            Ok(Ok(_)) => Answer::Done,
            _ => Answer::Refused(Refusal::NoAnswer),
        }
    }
}

/// The charger that draws most, where it draws enough to be told less.
fn busiest(overview: &Overview) -> Option<Id> {
    let draws = |device: &DeviceView| {
        let amps = device.values.get("current_l1_a").and_then(serde_json::Value::as_f64);
        amps.filter(|amps| device.kind == "charger" && *amps >= DRAWS_A)
            .map(|amps| (amps, device.id.clone()))
    };
    let most = overview.devices.iter().filter_map(draws).max_by(|a, b| a.0.total_cmp(&b.0));
    most.map(|(_, id)| id)
}

/// Whether something in a zone stays stopped until a person resets it: the zone, or only its chargers' feeder.
#[must_use]
pub fn is_latched(zone: &ZoneView) -> bool {
    zone.level >= 2 || zone.feeder_open
}

/// Whether a text can stand as a person's name.
#[must_use]
pub fn is_name(text: &str) -> bool {
    !text.trim().is_empty() && text.len() <= MOST_TEXT
}
