//! How a charger charges, over HTTP: `POST /api/v1/chargers/<id>/mode` with `{"mode": "pv_only"}` and the code of the
//! page.
//!
//! What a stranger gets wrong: the answer is what the controller has taken, read back from what it shows, and
//! not what was asked for.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::WebState;
use super::api::{problem, unlock};
use crate::logic::decision::Overview;
use crate::logic::site::{ChargingMode, Id, ModeWords};

/// The controller shows a mode within a second; longest wait for it.
const SHOWN_WITHIN: Duration = Duration::from_secs(3);

/// A charger charges otherwise from now on: 200 with the mode that the controller shows, or what is wrong.
pub async fn choose(
    State(state): State<WebState>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Result<Json<ModeWords>, JsonRejection>,
) -> Response {
    if let Err(refused) = unlock(&state, &headers) {
        return *refused;
    }
    let name = match body {
        Ok(Json(words)) => words.mode,
        Err(error) => return problem(StatusCode::BAD_REQUEST, &error.body_text()),
    };
    let mode = match ChargingMode::asked(&name) {
        Ok(mode) => mode,
        Err(why) => return problem(StatusCode::BAD_REQUEST, &why),
    };
    let known = state.overview.borrow().as_ref().is_some_and(|o| shown(o, &id).is_some());
    let Some(charger) = Id::try_from(id.clone()).ok().filter(|_| known) else {
        return problem(StatusCode::NOT_FOUND, "there is no such charger");
    };
    if !(state.modes)(charger, mode) {
        return problem(StatusCode::SERVICE_UNAVAILABLE, "the controller is behind: try again");
    }
    let mut overview = state.overview.clone();
    let taken = |o: &Option<Arc<Overview>>| {
        o.as_deref().is_some_and(|o| shown(o, &id) == Some(mode.name()))
    };
    match tokio::time::timeout(SHOWN_WITHIN, overview.wait_for(taken)).await {
        Ok(Ok(_)) => Json(json!({"mode": mode})).into_response(),
        _ => {
            problem(StatusCode::SERVICE_UNAVAILABLE, "the controller has not taken it: look again")
        }
    }
}

/// What the controller shows as a charger's mode.
fn shown<'o>(overview: &'o Overview, id: &str) -> Option<&'o str> {
    overview.charger(id)?.mode()
}
