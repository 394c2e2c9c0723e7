//! One connection to the broker, from CONNECT to its end: a fresh client, a clean session, a window of
//! our own. Three lanes share the window: what opens the session (status, meta, discovery), the live
//! states, and the journal, in this order.
//!
//! What a stranger gets wrong: the client library would go on for ever with a broker that answers
//! pings and acknowledges nothing. The silence is measured here, and the connection built anew.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::pin::Pin;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::{Map, json};
use tokio::sync::watch;

use super::bridge::{self, Bridge};
use super::commands::{self, Commands, World};
use super::history::{self, History};
use super::live::Live;
use super::topics::{self, State};
use super::window::Window;
use super::wire::{self, Client, Event, Message, Received, Version, Wire};
use super::{Limits, MqttError, Uplink, discovery};
use crate::io::clock::Clock;
use crate::logic::decision::Overview;

/// With something open and nothing heard for this long the connection is half open.
const SILENCE: Duration = Duration::from_secs(14);
/// Behind by this much, telemetry goes to the journal as well.
const FLOWS_WITHIN: Duration = Duration::from_secs(3);
/// Longest goodbye.
const GOODBYE: Duration = Duration::from_millis(1500);
/// The loop turns at least this often; when the history waits for its rate, this often.
const TURN: Duration = Duration::from_millis(100);
const TURN_HELD_BACK: Duration = Duration::from_millis(2);
/// Messages that open a session: meta and discovery of a full site, and their renewals.
const OPENING: usize = 4096;
/// Answers to commands that may wait: whoever asks faster goes without.
const MOST_ANSWERS: usize = 64;

type Poll = Pin<Box<dyn Future<Output = (Wire, Result<Event, MqttError>)> + Send>>;

/// What a place in the window is for.
enum Token {
    Opening,
    Live(State),
    Record(u64),
}

/// How a session ended.
pub(super) struct Ended {
    /// Nothing if it was asked to.
    pub error: Option<MqttError>,
    /// Whether the broker had let us in.
    pub connected: bool,
    /// Live states that were never acknowledged.
    pub missed: Vec<State>,
}

struct Session<'a> {
    options: &'a Uplink,
    limits: Limits,
    flowing: &'a watch::Sender<bool>,
    wall: Clock,
    client: Client,
    window: Window<Token>,
    opening: VecDeque<Message>,
    /// Answers to commands: they go first.
    answers: VecDeque<Message>,
    /// What meta and discovery were told, by topic.
    told: BTreeMap<String, Vec<u8>>,
    live: Live,
    commands: Commands,
    /// Topics of the alarms and jobs told last; nothing before the first overview.
    passing: Option<BTreeSet<String>>,
    history: History,
    connected: Option<DateTime<Utc>>,
    max_packet: usize,
    heard: Duration,
    pinged: bool,
    acknowledged: u64,
    shown: Duration,
    _bridge: Bridge,
}

/// Connects and stays until it ends.
pub(super) async fn run(
    options: &Uplink,
    limits: Limits,
    version: Version,
    flowing: &watch::Sender<bool>,
    shutdown: &mut watch::Receiver<bool>,
) -> Ended {
    let refused = |error| Ended { error: Some(error), connected: false, missed: Vec::new() };
    let bridge = match bridge::open(&options.config).await {
        Ok(bridge) => bridge,
        Err(error) => return refused(error),
    };
    let will = status(options, false);
    let (client, wire) = match wire::connect(version, &options.config, &bridge.name, &will) {
        Ok(both) => both,
        Err(error) => return refused(error),
    };
    let wall = Clock::real();
    let now = wall.now().uptime;
    let mut session = Session {
        options,
        limits,
        flowing,
        wall,
        client,
        window: Window::new(),
        opening: VecDeque::new(),
        answers: VecDeque::new(),
        told: BTreeMap::new(),
        live: Live::default(),
        commands: Commands::default(),
        passing: None,
        history: History::new(options.journal.clone(), limits.history_per_s, now),
        connected: None,
        max_packet: usize::MAX,
        heard: now,
        pinged: false,
        acknowledged: 0,
        shown: now,
        _bridge: bridge,
    };
    let error = session.stay(wire, shutdown).await.err();
    session.end(error)
}

/// `status`, retained; also the last will.
pub(super) fn status(options: &Uplink, online: bool) -> Message {
    let mut body = Map::new();
    body.insert("online".to_owned(), json!(online));
    body.insert("version".to_owned(), json!(env!("CARGO_PKG_VERSION")));
    Message {
        topic: topics::absolute(&options.site, "status"),
        payload: topics::with_ts(options.clock.now().utc, body),
        retain: true,
        ..Message::default()
    }
}

/// Takes a retained message back.
fn cleared(topic: String) -> Message {
    Message { topic, retain: true, ..Message::default() }
}

impl Session<'_> {
    async fn stay(
        &mut self,
        wire: Wire,
        shutdown: &mut watch::Receiver<bool>,
    ) -> Result<(), MqttError> {
        let mut overviews = self.options.overview.clone();
        overviews.mark_changed();
        let mut outbox = self.options.journal.view();
        let mut poll: Poll = Box::pin(wire.next());
        loop {
            let turn = if self.history.is_held_back() { TURN_HELD_BACK } else { TURN };
            tokio::select! {
                (wire, event) = &mut poll => {
                    poll = Box::pin(wire.next());
                    self.happened(event?);
                }
                Ok(()) = overviews.changed() => {
                    let newest = overviews.borrow_and_update().clone();
                    if let Some(newest) = newest {
                        self.offer(&newest);
                    }
                }
                Ok(()) = outbox.changed() => {
                    outbox.mark_unchanged();
                    self.history.look_again();
                }
                records = self.history.answer() => self.history.take_in(records),
                () = super::stopped(shutdown) => return self.say_goodbye(poll).await,
                () = tokio::time::sleep(turn) => {}
            }
            let now = self.wall.now().uptime;
            self.fill(now);
            self.watch_silence(now)?;
            if now.saturating_sub(self.shown) >= TURN {
                self.show(now);
            }
        }
    }

    fn happened(&mut self, event: Event) {
        if !matches!(event, Event::Sent(_) | Event::Pinged | Event::Other) {
            self.heard = self.wall.now().uptime;
            self.pinged = false;
        }
        match event {
            Event::Connected { receive_max, max_packet } => self.opened(receive_max, max_packet),
            Event::Sent(pkid) => self.window.sent(pkid),
            Event::Answered { pkid, refused } => self.answered(pkid, refused),
            Event::Pinged => self.pinged = true,
            Event::Message(received) => {
                if received.topic == discovery::BIRTH && received.payload == b"online" {
                    self.told.retain(|topic, _| !topic.starts_with("homeassistant/"));
                    self.live = Live::default();
                    let newest = self.options.overview.borrow().clone();
                    if let Some(newest) = newest {
                        self.offer(&newest);
                    }
                } else if !self.command(&received) {
                    self.forget_passed(&received.topic, &received.payload);
                }
            }
            Event::Heard | Event::Other => {}
        }
    }

    fn opened(&mut self, receive_max: u16, max_packet: usize) {
        let now = self.options.clock.now().utc;
        self.connected = Some(now);
        self.max_packet = max_packet;
        self.window.open_to(receive_max);
        self.client.subscribe(discovery::BIRTH);
        for kind in topics::PASSING {
            let all = format!("{kind}+/state");
            self.client.subscribe(&topics::absolute(&self.options.site, &all));
        }
        for command in commands::topics(&self.options.config.commands) {
            self.client.subscribe_commands(&topics::absolute(&self.options.site, &command));
        }
        self.opening.push_front(status(self.options, true));
        self.flowing.send_replace(true);
        self.options.link.send_modify(|link| {
            link.connected = true;
            link.since = Some(now);
        });
        tracing::info!(broker = %self.options.config.host, "MQTT session stands");
    }

    /// Whether a message was a command; it is answered.
    fn command(&mut self, received: &Received) -> bool {
        let Some(relative) = commands::relative(&self.options.site, &received.topic) else {
            return false;
        };
        let times = (self.wall.now().uptime, self.options.clock.now().utc);
        let overview = self.options.overview.borrow().clone();
        let world = World {
            overview: overview.as_deref(),
            enabled: &self.options.config.commands,
            targets: &self.options.targets,
            modes: &self.options.modes,
            dim: &self.options.dim,
            orders: &self.options.orders,
        };
        let Some(answer) = self.commands.answer(received, relative, times, &world) else {
            return false;
        };
        if self.answers.len() < MOST_ANSWERS {
            self.answers.push_back(answer);
        }
        true
    }

    /// A retained alarm or job that is not ours any more (it was cleared while we were away) is taken back.
    fn forget_passed(&mut self, topic: &str, payload: &[u8]) {
        let root = topics::absolute(&self.options.site, "");
        let relative = topic.strip_prefix(&root).filter(|rest| topics::is_passing(rest));
        let known = |relative| self.passing.as_ref().is_none_or(|told| told.contains(relative));
        if let Some(relative) = relative
            && !payload.is_empty()
            && !known(relative)
            && self.opening.len() < OPENING
        {
            self.opening.push_back(cleared(topic.to_owned()));
        }
    }

    fn answered(&mut self, pkid: u16, refused: Option<String>) {
        let Some(token) = self.window.acknowledged(pkid) else { return };
        if let Some(why) = refused {
            tracing::warn!(%why, "the broker did not take a message");
            let words = format!("the broker did not take a message: {why}");
            self.options.link.send_modify(|link| link.last_refusal = Some(words));
            return;
        }
        self.acknowledged += 1;
        if let Token::Record(seq) = token {
            self.history.acknowledge(seq);
        }
    }

    /// Takes in an overview: states to the live lane, meta and discovery where they changed.
    fn offer(&mut self, overview: &Overview) {
        let mut states = topics::states(overview);
        topics::add_writes(overview, &self.options.written.borrow(), &mut states);
        let metas = topics::metas(overview, &states).into_iter().map(|(topic, meta)| Message {
            topic: topics::absolute(&self.options.site, &topic),
            payload: meta.to_string().into_bytes(),
            retain: true,
            ..Message::default()
        });
        for message in
            metas.chain(discovery::configurations(overview, &self.options.config.commands))
        {
            if self.told.get(&message.topic) != Some(&message.payload)
                && self.opening.len() < OPENING
            {
                self.told.insert(message.topic.clone(), message.payload.clone());
                self.opening.push_back(message);
            }
        }
        let passing: BTreeSet<String> = states
            .iter()
            .map(|s| &s.topic)
            .filter(|topic| topics::is_passing(topic))
            .cloned()
            .collect();
        for gone in self.passing.iter().flatten().filter(|topic| !passing.contains(*topic)) {
            self.opening.push_back(cleared(topics::absolute(&self.options.site, gone)));
        }
        self.passing = Some(passing);
        self.live.offer(states);
    }

    /// Fills the window.
    fn fill(&mut self, now: Duration) {
        let Some(since) = self.connected else { return };
        while self.window.has_room() {
            let first = self.answers.pop_front().or_else(|| self.opening.pop_front());
            let (token, message) = if let Some(message) = first {
                (Token::Opening, message)
            } else if let Some(state) = self.live.next(now) {
                let topic = topics::absolute(&self.options.site, &state.topic);
                let payload = state.payload();
                (Token::Live(state), Message { topic, payload, retain: true, ..Message::default() })
            } else if let Some(stored) = self.history.next(now) {
                (Token::Record(stored.seq), history::message(&self.options.site, &stored, since))
            } else {
                return;
            };
            self.hand_over(token, message, now);
        }
    }

    fn hand_over(&mut self, token: Token, message: Message, now: Duration) {
        // Longer than the broker takes: it would end the connection, and the next one, and so on.
        if message.topic.len() + message.payload.len() + 16 > self.max_packet {
            tracing::warn!(topic = %message.topic, "longer than the broker takes: dropped");
            if let Token::Record(seq) = token {
                self.history.acknowledge(seq);
            }
            return;
        }
        let topic = message.topic.clone();
        if self.client.publish(message) {
            self.window.hand_over(token, now);
        } else {
            tracing::warn!(%topic, "the client did not take a message");
        }
    }

    fn watch_silence(&mut self, now: Duration) -> Result<(), MqttError> {
        if self.connected.is_none() {
            return Ok(());
        }
        let wait = self.window.longest_wait(now);
        if wait.is_some_and(|wait| wait >= self.limits.no_ack) {
            return Err(MqttError::Silent("the broker does not acknowledge: connecting anew"));
        }
        let open = wait.is_some() || self.pinged;
        if open && now.saturating_sub(self.heard) >= SILENCE {
            return Err(MqttError::Silent("nothing heard from the broker: connecting anew"));
        }
        let flows = wait.is_none_or(|wait| wait < FLOWS_WITHIN);
        self.flowing.send_if_modified(|flowing| std::mem::replace(flowing, flows) != flows);
        Ok(())
    }

    fn show(&mut self, now: Duration) {
        self.shown = now;
        self.history.release();
        let count = std::mem::take(&mut self.acknowledged);
        if count > 0 {
            self.options.link.send_modify(|link| link.acknowledged += count);
        }
    }

    /// Offline on purpose: the broker keeps the last will for itself after a DISCONNECT.
    async fn say_goodbye(&mut self, mut poll: Poll) -> Result<(), MqttError> {
        if self.connected.is_none() || !self.client.publish(status(self.options, false)) {
            return Ok(());
        }
        self.window.hand_over(Token::Opening, self.wall.now().uptime);
        self.client.disconnect();
        let leaving = async {
            loop {
                let (wire, event) = poll.await;
                let Ok(event) = event else { return };
                self.happened(event);
                poll = Box::pin(wire.next());
            }
        };
        let _ = tokio::time::timeout(GOODBYE, leaving).await;
        Ok(())
    }

    fn end(mut self, error: Option<MqttError>) -> Ended {
        self.flowing.send_replace(false);
        let now = self.wall.now().uptime;
        self.show(now);
        let open = self.window.into_open().into_iter();
        let missed = open.filter_map(|token| match token {
            Token::Live(state) => Some(state),
            Token::Opening | Token::Record(_) => None,
        });
        Ended { error, connected: self.connected.is_some(), missed: missed.collect() }
    }
}
