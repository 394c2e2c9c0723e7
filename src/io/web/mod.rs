//! The local page and its API, on loopback unless configured otherwise, and never in the way of the
//! control loop. It shows the newest overview; it holds no state of its own.
//!
//! What a stranger gets wrong: one request changes something, and it changes only what people know: an
//! alarm is acknowledged, with a name, by whoever has the code that was printed at start. Nothing here
//! reaches a setpoint or a latch.

mod api;
mod guard;
mod live;
mod lock;
mod metrics;
mod modes;
mod orders;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{get, post};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::io::clock::Clock;
use crate::io::store::Writes;
use crate::logic::compute::Taken;
use crate::logic::decision::{LinkView, OutboxView, Overview};
use crate::logic::safety::alarms::Signature;
use crate::logic::site::{ChargingMode, Id, JobWish, Target};
use crate::units::{Moment, Watts};

pub use lock::Lock;

/// Open streams have this long to end when the gateway stops.
const CLOSES_IN: Duration = Duration::from_secs(2);

/// Longest body of a request, bytes.
const MOST_BODY: usize = 16 << 10;

/// Gives the newest still of a camera.
pub type Stills = Arc<dyn Fn(&Id) -> Option<(Arc<[u8]>, Moment)> + Send + Sync>;

/// Hands an acknowledgement (alarm's id, who) to the controller; whether it was taken.
pub type Acknowledge = Arc<dyn Fn(String, Signature) -> bool + Send + Sync>;

/// Hands a target for a charger's car to the controller; whether it was taken.
pub type Targets = Arc<dyn Fn(Id, Target) -> bool + Send + Sync>;

/// Hands a charger's mode to the controller; whether it was taken.
pub type Modes = Arc<dyn Fn(Id, ChargingMode) -> bool + Send + Sync>;

/// Hands the grid operator's limit and how long it holds to the controller; whether it was taken.
pub type Dim = Arc<dyn Fn(Watts, Duration) -> bool + Send + Sync>;

/// Understands a wish about jobs and hands it to the controller: the job that it is about, or why not.
pub type Orders = Arc<dyn Fn(JobWish) -> Result<Taken, String> + Send + Sync>;

/// What the page shows.
#[derive(Clone)]
pub struct WebState {
    /// The newest overview.
    pub overview: watch::Receiver<Option<Arc<Overview>>>,
    /// The link to the broker.
    pub link: watch::Receiver<LinkView>,
    /// The outbox.
    pub outbox: watch::Receiver<OutboxView>,
    /// How often each register was written, since ever.
    pub written: watch::Receiver<Writes>,
    /// The newest still of every camera.
    pub stills: Stills,
    /// Site time.
    pub clock: Clock,
    /// How fast site time runs.
    pub speed: f64,
    /// Whether the site is simulated.
    pub simulated: bool,
    /// The way of an acknowledgement to the controller.
    pub acknowledge: Acknowledge,
    /// The way of a target to the controller.
    pub targets: Targets,
    /// The way of a charger's mode to the controller.
    pub modes: Modes,
    /// The way of a grid operator's limit to the controller.
    pub dim: Dim,
    /// The way of orders about jobs.
    pub orders: Orders,
    /// Who may acknowledge.
    pub lock: Arc<Lock>,
}

/// Why the page ended.
#[derive(Debug, thiserror::Error)]
pub enum WebError {
    /// The listener failed.
    #[error("page: {0}")]
    Listener(#[from] std::io::Error),
}

/// Serves until `shutdown`; open streams end with it.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    state: WebState,
    shutdown: watch::Receiver<bool>,
) -> Result<(), WebError> {
    let stop = shutdown.clone();
    let app = Router::new()
        .route("/", get(api::page))
        .route("/assets/{*path}", get(api::asset))
        .route("/api/v1/overview", get(api::overview))
        .route("/api/v1/stream", get(move |state| live::stream(state, stop)))
        .route("/api/v1/cameras/{id}/still.jpg", get(api::still))
        .route("/api/v1/alarms/{id}/acknowledge", post(api::acknowledge))
        .route("/api/v1/chargers/{id}/target", post(api::target))
        .route("/api/v1/chargers/{id}/mode", post(modes::choose))
        .route("/api/v1/dim", post(api::dim))
        .route("/api/v1/jobs", get(orders::list))
        .route("/api/v1/workloads/{id}/submit", post(orders::submit))
        .route("/api/v1/jobs/{id}/{what}", post(orders::change))
        .route("/api/v1/health", get(api::health))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(api::ready))
        .route("/metrics", get(metrics::metrics))
        .fallback(api::not_found)
        .method_not_allowed_fallback(api::read_only)
        .layer(DefaultBodyLimit::max(MOST_BODY))
        .layer(from_fn(guard::headers))
        .layer(from_fn_with_state(listener.local_addr()?, guard::own_host))
        .with_state(state);
    let mut stopped = shutdown.clone();
    let mut overdue = shutdown;
    let serving = axum::serve(listener, app).with_graceful_shutdown(async move {
        let _ = stopped.wait_for(|stop| *stop).await;
    });
    let too_late = async move {
        let _ = overdue.wait_for(|stop| *stop).await;
        tokio::time::sleep(CLOSES_IN).await;
    };
    tokio::select! {
        done = serving => Ok(done?),
        () = too_late => Ok(()),
    }
}
