//! (being written)
use crate::io::clock::Clock;
use crate::logic::{decision::*, site::Id};
use crate::units::Moment;
use std::sync::Arc;
use tokio::sync::watch;
#[derive(Clone)]
pub struct WebState {
    pub overview: watch::Receiver<Option<Arc<Overview>>>,
    pub link: watch::Receiver<LinkView>,
    pub outbox: watch::Receiver<OutboxView>,
    pub stills: Arc<dyn Fn(&Id) -> Option<(Arc<[u8]>, Moment)> + Send + Sync>,
    pub clock: Clock,
    pub speed: f64,
    pub simulated: bool,
}
#[derive(Debug, thiserror::Error)]
#[error("web")]
pub struct WebError;
pub async fn serve(
    _l: tokio::net::TcpListener,
    _s: WebState,
    mut shutdown: watch::Receiver<bool>,
) -> Result<(), WebError> {
    let _ = shutdown.wait_for(|s| *s).await;
    Ok(())
}
