//! The stream of the page: the whole document once a second as a server-sent event. The browser
//! reconnects by itself; a bounded number of streams is open at a time.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use tokio::sync::watch;

use super::WebState;
use super::api::{document, problem};

const PERIOD: Duration = Duration::from_secs(1);
/// Open streams at a time.
const MOST_STREAMS: usize = 64;
static STREAMS: AtomicUsize = AtomicUsize::new(0);

/// One open stream; counts itself.
struct Place;

impl Place {
    fn take() -> Option<Place> {
        let taken = STREAMS.fetch_add(1, Ordering::Relaxed);
        let place = Place;
        (taken < MOST_STREAMS).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        STREAMS.fetch_sub(1, Ordering::Relaxed);
    }
}

pub async fn stream(State(state): State<WebState>, stop: watch::Receiver<bool>) -> Response {
    let Some(place) = Place::take() else {
        return problem(StatusCode::SERVICE_UNAVAILABLE, "too many open pages");
    };
    let next = |(state, mut stop, place, first): (WebState, watch::Receiver<bool>, Place, bool)| async move {
        if !first {
            tokio::select! {
                () = tokio::time::sleep(PERIOD) => {}
                _ = async { stop.wait_for(|stop| *stop).await.map(|_| ()) } => return None,
            }
        }
        let event = Event::default().event("overview").data(document(&state).to_string());
        Some((Ok::<_, Infallible>(event), (state, stop, place, false)))
    };
    Sse::new(stream::unfold((state, stop, place, true), next)).into_response()
}
