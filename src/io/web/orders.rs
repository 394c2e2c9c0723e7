//! Jobs over HTTP: `GET /api/v1/jobs`, `POST /api/v1/workloads/<id>/submit`, and
//! `POST /api/v1/jobs/<id>/pause|resume|cancel`. Whoever changes anything needs the code of the page.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::WebState;
use super::api::{problem, unlock};
use crate::logic::site::{JobWish, SubmissionWords};

/// All jobs and what they have spent.
pub async fn list(State(state): State<WebState>) -> Response {
    let overview = state.overview.borrow().clone();
    let jobs = overview.as_ref().map(|o| json!({"jobs": o.jobs, "budget": o.job_budget}));
    Json(jobs.unwrap_or_else(|| json!({"jobs": []}))).into_response()
}

/// A new job: 202 with its id and, where it cannot be done in time, by how much; or what is wrong. The body may be empty.
pub async fn submit(
    State(state): State<WebState>,
    Path(workload): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if let Err(refused) = unlock(&state, &headers) {
        return *refused;
    }
    let words = if body.is_empty() {
        Ok(SubmissionWords::default())
    } else {
        serde_json::from_slice(&body)
    };
    match words {
        Ok(words) => answer(&state, JobWish::Submit { workload, words }),
        Err(error) => problem(StatusCode::BAD_REQUEST, &error.to_string()),
    }
}

/// A job waits, goes on or ends.
pub async fn change(
    State(state): State<WebState>,
    Path((job, what)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    if let Err(refused) = unlock(&state, &headers) {
        return *refused;
    }
    match what.as_str() {
        "pause" => answer(&state, JobWish::Pause(job)),
        "resume" => answer(&state, JobWish::Resume(job)),
        "cancel" => answer(&state, JobWish::Cancel(job)),
        _ => problem(StatusCode::NOT_FOUND, "a job can be paused, resumed or cancelled"),
    }
}

fn answer(state: &WebState, wish: JobWish) -> Response {
    match (state.orders)(wish) {
        Ok(taken) => (StatusCode::ACCEPTED, Json(taken)).into_response(),
        Err(why) => problem(StatusCode::BAD_REQUEST, &why),
    }
}
