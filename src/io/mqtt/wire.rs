//! The client library behind one face: MQTT 5 and 3.1.1 as one enum, their events as one type. Only
//! this file knows rumqttc.
//!
//! What a stranger gets wrong: `next` takes the wire and gives it back, so that nobody can drop a poll
//! half way: the library would forget a message between its own books and the socket.

use std::time::Duration;

use rumqttc::v5;
use rumqttc::v5::mqttbytes::v5 as packets5;
use rumqttc::{Incoming, Outgoing, QoS};

use super::MqttError;
use super::window::WINDOW;
use crate::config::MqttConfig;

/// Ping when this long nothing was sent for; with [`ANSWER`] a dead link shows within 15 s.
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Longest packet taken in.
const MAX_IN: u32 = 64 << 10;
/// Longest packet sent by 3.1.1, where the broker does not tell its own bound.
const MAX_OUT: usize = 256 << 10;
/// Messages that may wait inside the client: the window and what opens a session.
const REQUESTS: usize = WINDOW as usize + 8;

/// Which MQTT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    V5,
    V311,
}

/// What to publish.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Message {
    pub topic: String,
    pub payload: Vec<u8>,
    pub retain: bool,
    /// Correlation data of the question that this answers (MQTT 5).
    pub correlation: Option<Vec<u8>>,
}

/// What came in.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Received {
    pub topic: String,
    pub payload: Vec<u8>,
    /// It was kept by the broker, for nobody knows how long.
    pub retained: bool,
    /// Where the answer is wanted, and the mark it shall bear (MQTT 5).
    pub answer_to: Option<String>,
    pub correlation: Option<Vec<u8>>,
}

/// Sends; cheap to use at any time.
pub(super) enum Client {
    V5(v5::AsyncClient),
    V311(rumqttc::AsyncClient),
}

/// Must be polled for anything to happen.
pub(super) enum Wire {
    V5(Box<v5::EventLoop>),
    V311(Box<rumqttc::EventLoop>),
}

/// What happened.
#[derive(Debug)]
pub(super) enum Event {
    /// The broker let us in; it takes this many open messages and packets this long.
    Connected { receive_max: u16, max_packet: usize },
    /// The oldest message handed over has this packet id now.
    Sent(u16),
    /// The broker answered for this id; `refused` tells why it did not take it.
    Answered { pkid: u16, refused: Option<String> },
    /// A ping went out.
    Pinged,
    /// A message came in.
    Message(Received),
    /// Something else came in.
    Heard,
    /// Something else went out.
    Other,
}

/// A client for one connection, with a clean session.
pub(super) fn connect(
    version: Version,
    config: &MqttConfig,
    inner_socket: &str,
    will: &Message,
) -> Result<(Client, Wire), MqttError> {
    let login = login(config)?;
    Ok(match version {
        Version::V5 => {
            let mut options = v5::MqttOptions::new(config.client_id.clone(), inner_socket, 0);
            let mut properties = packets5::ConnectProperties::new();
            properties.max_packet_size = Some(MAX_IN);
            options
                .set_transport(rumqttc::Transport::Unix)
                .set_connect_properties(properties)
                .set_keep_alive(KEEP_ALIVE)
                .set_clean_start(true)
                .set_connection_timeout(5)
                .set_last_will(packets5::LastWill::new(
                    will.topic.clone(),
                    will.payload.clone(),
                    v5::mqttbytes::QoS::AtLeastOnce,
                    will.retain,
                    None,
                ));
            options.set_outgoing_inflight_upper_limit(WINDOW);
            if let Some((name, password)) = login {
                options.set_credentials(name, password);
            }
            let (client, events) = v5::AsyncClient::new(options, REQUESTS);
            (Client::V5(client), Wire::V5(Box::new(events)))
        }
        Version::V311 => {
            let mut options = rumqttc::MqttOptions::new(config.client_id.clone(), inner_socket, 0);
            options
                .set_transport(rumqttc::Transport::Unix)
                .set_max_packet_size(MAX_IN as usize, MAX_OUT)
                .set_keep_alive(KEEP_ALIVE)
                .set_clean_session(true)
                .set_inflight(WINDOW)
                .set_last_will(rumqttc::LastWill::new(
                    will.topic.clone(),
                    will.payload.clone(),
                    QoS::AtLeastOnce,
                    will.retain,
                ));
            if let Some((name, password)) = login {
                options.set_credentials(name, password);
            }
            let (client, events) = rumqttc::AsyncClient::new(options, REQUESTS);
            (Client::V311(client), Wire::V311(Box::new(events)))
        }
    })
}

fn login(config: &MqttConfig) -> Result<Option<(String, String)>, MqttError> {
    let Some(name) = &config.username else { return Ok(None) };
    let Some(file) = &config.password_file else { return Ok(Some((name.clone(), String::new()))) };
    let text = std::fs::read_to_string(file).map_err(|error| {
        MqttError::OwnFile(format!("password_file {}: {error}", file.display()))
    })?;
    Ok(Some((name.clone(), text.lines().next().unwrap_or_default().to_owned())))
}

impl Client {
    /// Hands a message over; `false` if the client has no room or is gone.
    pub fn publish(&self, message: Message) -> bool {
        let Message { topic, payload, retain, correlation } = message;
        match self {
            Client::V5(client) => {
                let qos = v5::mqttbytes::QoS::AtLeastOnce;
                match correlation {
                    None => client.try_publish(topic, qos, retain, payload).is_ok(),
                    Some(data) => {
                        let properties = packets5::PublishProperties {
                            correlation_data: Some(data.into()),
                            ..packets5::PublishProperties::default()
                        };
                        client
                            .try_publish_with_properties(topic, qos, retain, payload, properties)
                            .is_ok()
                    }
                }
            }
            Client::V311(client) => {
                client.try_publish(topic, QoS::AtLeastOnce, retain, payload).is_ok()
            }
        }
    }

    pub fn subscribe(&self, topic: &str) -> bool {
        match self {
            Client::V5(client) => {
                client.try_subscribe(topic, v5::mqttbytes::QoS::AtMostOnce).is_ok()
            }
            Client::V311(client) => client.try_subscribe(topic, QoS::AtMostOnce).is_ok(),
        }
    }

    /// As [`Client::subscribe`]; what was published to be retained says so (MQTT 5; 3.1.1 says it only of
    /// what was there before).
    pub fn subscribe_commands(&self, topic: &str) -> bool {
        match self {
            Client::V5(client) => {
                let mut filter =
                    packets5::Filter::new(topic.to_owned(), v5::mqttbytes::QoS::AtLeastOnce);
                filter.preserve_retain = true;
                client.try_subscribe_many([filter]).is_ok()
            }
            Client::V311(client) => client.try_subscribe(topic, QoS::AtLeastOnce).is_ok(),
        }
    }

    pub fn disconnect(&self) {
        let _ = match self {
            Client::V5(client) => client.try_disconnect().is_ok(),
            Client::V311(client) => client.try_disconnect().is_ok(),
        };
    }
}

impl Wire {
    /// The next event, and the wire back.
    pub async fn next(self) -> (Wire, Result<Event, MqttError>) {
        match self {
            Wire::V5(mut events) => {
                let event = events.poll().await.map(event5).map_err(error5);
                (Wire::V5(events), event)
            }
            Wire::V311(mut events) => {
                let event = events.poll().await.map(event311).map_err(error311);
                (Wire::V311(events), event)
            }
        }
    }
}

fn event5(event: v5::Event) -> Event {
    use packets5::{Packet, PubAckReason};
    match event {
        v5::Event::Outgoing(outgoing) => outgone(&outgoing),
        v5::Event::Incoming(Packet::ConnAck(ack)) => {
            let properties = ack.properties.as_ref();
            let receive_max = properties.and_then(|p| p.receive_max).unwrap_or(u16::MAX);
            let max_packet = properties.and_then(|p| p.max_packet_size).unwrap_or(u32::MAX);
            Event::Connected { receive_max, max_packet: max_packet as usize }
        }
        v5::Event::Incoming(Packet::PubAck(ack)) => {
            let taken =
                matches!(ack.reason, PubAckReason::Success | PubAckReason::NoMatchingSubscribers);
            Event::Answered {
                pkid: ack.pkid,
                refused: (!taken).then(|| format!("{:?}", ack.reason)),
            }
        }
        v5::Event::Incoming(Packet::Publish(message)) => {
            let properties = message.properties.unwrap_or_default();
            Event::Message(Received {
                topic: String::from_utf8_lossy(&message.topic).into_owned(),
                payload: message.payload.to_vec(),
                retained: message.retain,
                answer_to: properties.response_topic,
                correlation: properties.correlation_data.map(|data| data.to_vec()),
            })
        }
        v5::Event::Incoming(_) => Event::Heard,
    }
}

fn event311(event: rumqttc::Event) -> Event {
    match event {
        rumqttc::Event::Outgoing(outgoing) => outgone(&outgoing),
        rumqttc::Event::Incoming(Incoming::ConnAck(_)) => {
            Event::Connected { receive_max: u16::MAX, max_packet: MAX_OUT }
        }
        rumqttc::Event::Incoming(Incoming::PubAck(ack)) => {
            Event::Answered { pkid: ack.pkid, refused: None }
        }
        rumqttc::Event::Incoming(Incoming::Publish(message)) => Event::Message(Received {
            topic: message.topic,
            payload: message.payload.to_vec(),
            retained: message.retain,
            ..Received::default()
        }),
        rumqttc::Event::Incoming(_) => Event::Heard,
    }
}

fn outgone(outgoing: &Outgoing) -> Event {
    match outgoing {
        Outgoing::Publish(pkid) => Event::Sent(*pkid),
        Outgoing::PingReq => Event::Pinged,
        _ => Event::Other,
    }
}

fn error5(error: v5::ConnectionError) -> MqttError {
    use packets5::ConnectReturnCode as Code;
    match error {
        v5::ConnectionError::ConnectionRefused(code) => match code {
            Code::RefusedProtocolVersion | Code::UnsupportedProtocolVersion => {
                MqttError::Version(format!("{code:?}"))
            }
            Code::BadUserNamePassword | Code::NotAuthorized => {
                MqttError::Refused(wrong_login(&code))
            }
            other => MqttError::Refused(format!("{other:?}")),
        },
        v5::ConnectionError::NotConnAck(_) => MqttError::Version("no answer to CONNECT".to_owned()),
        v5::ConnectionError::MqttState(v5::StateError::Deserialization(why)) => {
            MqttError::Version(why.to_string())
        }
        other => MqttError::Lost(other.to_string()),
    }
}

fn error311(error: rumqttc::ConnectionError) -> MqttError {
    use rumqttc::ConnectReturnCode as Code;
    match error {
        rumqttc::ConnectionError::ConnectionRefused(code) => match code {
            Code::RefusedProtocolVersion => MqttError::Version(format!("{code:?}")),
            Code::BadUserNamePassword | Code::NotAuthorized => {
                MqttError::Refused(wrong_login(&code))
            }
            other => MqttError::Refused(format!("{other:?}")),
        },
        other => MqttError::Lost(other.to_string()),
    }
}

fn wrong_login(code: &impl std::fmt::Debug) -> String {
    format!("user name or password is wrong, or not allowed ({code:?})")
}
