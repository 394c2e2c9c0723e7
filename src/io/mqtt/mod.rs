//! The uplink to the broker: the site's state live and retained, events and whatever could not be
//! told in time from the journal, Home Assistant discovery beside it.
//!
//! ```text
//!  overview ──▶ recorder ──▶ journal (events; telemetry while nothing flows)
//!      │                        │ peek, release on PUBACK
//!      └──▶ live lane ──▶ session ◀── history lane
//!                            │ window ≤ 50, one fresh client a connection
//!                            └── wire (MQTT 5, or 3.1.1) ── bridge (TCP, TLS) ── broker
//! ```
//! What a stranger gets wrong: nothing here is allowed to matter for control. It reads the overview
//! and tells it; what comes in (`commands`) are wishes, to which the controller owes nothing.

mod bridge;
mod commands;
mod discovery;
mod history;
mod link;
mod live;
mod recorder;
mod session;
mod tls;
mod topics;
mod window;
mod wire;

pub use commands::{Dim, Modes, Orders, Targets};

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::config::MqttConfig;
use crate::io::clock::Clock;
use crate::io::store::{Journal, Writes};
use crate::logic::decision::{LinkView, Overview};
use crate::logic::site::Id;

/// What the uplink needs.
#[derive(Clone)]
pub struct Uplink {
    /// The broker.
    pub config: MqttConfig,
    /// The site's id: part of every topic.
    pub site: Id,
    /// Where events and missed telemetry wait.
    pub journal: Journal,
    /// The newest overview.
    pub overview: watch::Receiver<Option<Arc<Overview>>>,
    /// How often each register was written, since ever.
    pub written: watch::Receiver<Writes>,
    /// What the page shows of the link.
    pub link: watch::Sender<LinkView>,
    /// Site time.
    pub clock: Clock,
    /// The way of a target to the controller.
    pub targets: Targets,
    /// The way of a charger's mode to the controller.
    pub modes: Modes,
    /// The way of orders about jobs.
    pub orders: Orders,
    /// The way of a grid operator's limit to the controller.
    pub dim: Dim,
}

/// Bounds that tests shorten. All in wall time.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// A connection whose oldest message is not acknowledged for this long is built anew.
    pub no_ack: Duration,
    /// First and longest pause between connections.
    pub back_off: (Duration, Duration),
    /// Longest pause after the broker refused name or password.
    pub refused_back_off: Duration,
    /// Most history records a second.
    pub history_per_s: u32,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            no_ack: Duration::from_secs(20),
            back_off: (Duration::from_millis(500), Duration::from_secs(30)),
            refused_back_off: Duration::from_secs(300),
            history_per_s: 8000,
        }
    }
}

/// Why a connection could not be made or broke.
#[derive(Debug, thiserror::Error)]
pub enum MqttError {
    /// The broker cannot be reached.
    #[error("cannot reach {0}: {1}")]
    Unreachable(String, String),
    /// No TLS with this broker.
    #[error("TLS: {0}")]
    Tls(String),
    /// A file of ours cannot be used.
    #[error("{0}")]
    OwnFile(String),
    /// Plain text would leave the site.
    #[error("{0} is a public address: plain text is refused, use TLS")]
    PublicPlaintext(std::net::IpAddr),
    /// The broker does not let us in.
    #[error("the broker refused the connection: {0}")]
    Refused(String),
    /// The broker speaks another version.
    #[error("the broker does not speak this version of MQTT: {0}")]
    Version(String),
    /// The connection broke.
    #[error("connection lost: {0}")]
    Lost(String),
    /// Nothing is heard, or nothing acknowledged.
    #[error("{0}")]
    Silent(&'static str),
}

/// Tells the site to the broker until `shutdown` becomes true.
pub async fn run(options: Uplink, shutdown: watch::Receiver<bool>) {
    run_with(options, Limits::default(), shutdown).await;
}

/// As [`run`], with other bounds.
pub async fn run_with(options: Uplink, limits: Limits, shutdown: watch::Receiver<bool>) {
    let (flowing, flows) = watch::channel(false);
    let recorder = recorder::run(options.clone(), flows, shutdown.clone());
    let sessions = link::run(&options, limits, flowing, shutdown);
    tokio::join!(recorder, sessions);
}

/// Waits for the stop of the gateway, or for the end of whoever could ask for it.
async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    let _ = shutdown.wait_for(|stop| *stop).await;
}
