//! The local page and its API: read-only, on loopback unless configured otherwise, and never in the way
//! of the control loop. It shows the newest overview; it holds no state of its own.
//!
//! What a stranger gets wrong: there is no request that changes anything. Whoever wants to change
//! something edits the site file; commands come with their own checks later.

mod api;
mod guard;
mod live;
mod metrics;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::io::clock::Clock;
use crate::logic::decision::{LinkView, OutboxView, Overview};
use crate::logic::site::Id;
use crate::units::Moment;

/// Open streams have this long to end when the gateway stops.
const CLOSES_IN: Duration = Duration::from_secs(2);

/// Gives the newest still of a camera.
pub type Stills = Arc<dyn Fn(&Id) -> Option<(Arc<[u8]>, Moment)> + Send + Sync>;

/// What the page shows.
#[derive(Clone)]
pub struct WebState {
    /// The newest overview.
    pub overview: watch::Receiver<Option<Arc<Overview>>>,
    /// The link to the broker.
    pub link: watch::Receiver<LinkView>,
    /// The outbox.
    pub outbox: watch::Receiver<OutboxView>,
    /// The newest still of every camera.
    pub stills: Stills,
    /// Site time.
    pub clock: Clock,
    /// How fast site time runs.
    pub speed: f64,
    /// Whether the site is simulated.
    pub simulated: bool,
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
        .route("/api/v1/health", get(api::health))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(api::ready))
        .route("/metrics", get(metrics::metrics))
        .fallback(api::not_found)
        .method_not_allowed_fallback(api::read_only)
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
