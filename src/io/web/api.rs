//! The answers: page and assets, the overview as JSON, stills, health. Errors are problem details
//! (RFC 9457).

use std::time::Duration;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use rust_embed::Embed;
use serde_json::{Value, json};

use super::WebState;
use super::lock::Entry;
use crate::logic::decision::Quality;
use crate::logic::safety::alarms::Signature;
use crate::logic::site::{DimmingWords, Id, TargetWords};
use crate::texts::{Lang, table};

/// Ready means that a decision is younger than this.
const READY: Duration = Duration::from_secs(3);

#[derive(Embed)]
#[folder = "src/io/web/page"]
struct Assets;

/// An error as problem details.
pub fn problem(status: StatusCode, detail: &str) -> Response {
    let title = status.canonical_reason().unwrap_or("error");
    let body =
        json!({"type": "about:blank", "title": title, "status": status.as_u16(), "detail": detail});
    let kind = [(header::CONTENT_TYPE, "application/problem+json")];
    (status, kind, body.to_string()).into_response()
}

pub async fn not_found() -> Response {
    problem(StatusCode::NOT_FOUND, "there is nothing here; the page is at /")
}

pub async fn read_only() -> Response {
    problem(StatusCode::METHOD_NOT_ALLOWED, "this can only be read")
}

/// Longest name or note, bytes.
const MOST_TEXT: usize = 200;
/// Carries the code that was printed at start. No foreign page can send it: it does not know it.
const CODE: &str = "x-wattgate-code";

/// Who acknowledges.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Acknowledging {
    name: String,
    note: Option<String>,
}

/// Whether whoever asks knows the code; else the answer.
pub fn unlock(state: &WebState, headers: &HeaderMap) -> Result<(), Box<Response>> {
    let code = headers.get(CODE).and_then(|code| code.to_str().ok()).unwrap_or_default();
    match state.lock.try_open(code, state.clock.now().uptime) {
        Entry::Open => Ok(()),
        Entry::Wrong => {
            let why = "the code printed at start is needed";
            Err(Box::new(problem(StatusCode::FORBIDDEN, why)))
        }
        Entry::Waiting(left) => {
            let detail = format!("too many wrong codes: try again in {} s", left.as_secs() + 1);
            Err(Box::new(problem(StatusCode::TOO_MANY_REQUESTS, &detail)))
        }
    }
}

/// Somebody says what a charger's car needs and when it leaves: 204, or what is wrong.
pub async fn target(
    State(state): State<WebState>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Result<Json<TargetWords>, JsonRejection>,
) -> Response {
    if let Err(refused) = unlock(&state, &headers) {
        return *refused;
    }
    let words = match body {
        Ok(Json(words)) => words,
        Err(error) => return problem(StatusCode::BAD_REQUEST, &error.body_text()),
    };
    let target = match words.target(state.clock.now().utc) {
        Ok(target) => target,
        Err(why) => return problem(StatusCode::BAD_REQUEST, why),
    };
    let known = state.overview.borrow().as_ref().is_some_and(|o| o.charger(&id).is_some());
    let Some(charger) = Id::try_from(id).ok().filter(|_| known) else {
        return problem(StatusCode::NOT_FOUND, "there is no such charger");
    };
    if (state.targets)(charger, target) {
        StatusCode::NO_CONTENT.into_response()
    } else {
        problem(StatusCode::SERVICE_UNAVAILABLE, "the controller is behind: try again")
    }
}

/// All that is controlled takes no more for a while: 204, or what is wrong.
pub async fn dim(
    State(state): State<WebState>,
    headers: HeaderMap,
    body: Result<Json<DimmingWords>, JsonRejection>,
) -> Response {
    if let Err(refused) = unlock(&state, &headers) {
        return *refused;
    }
    let words = match body {
        Ok(Json(words)) => words,
        Err(error) => return problem(StatusCode::BAD_REQUEST, &error.body_text()),
    };
    let (limit, lasts) = match words.limit() {
        Ok(limit) => limit,
        Err(why) => return problem(StatusCode::BAD_REQUEST, why),
    };
    if (state.dim)(limit, lasts) {
        StatusCode::NO_CONTENT.into_response()
    } else {
        problem(StatusCode::SERVICE_UNAVAILABLE, "the controller is behind: try again")
    }
}

/// A person knows of an alarm: 204, or what is wrong.
pub async fn acknowledge(
    State(state): State<WebState>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Result<Json<Acknowledging>, JsonRejection>,
) -> Response {
    if let Err(refused) = unlock(&state, &headers) {
        return *refused;
    }
    let Json(Acknowledging { name, note }) = match body {
        Ok(body) => body,
        Err(error) => return problem(StatusCode::BAD_REQUEST, &error.body_text()),
    };
    let fits = |text: &str| text.len() <= MOST_TEXT;
    if name.trim().is_empty() || !fits(&name) || !note.as_deref().is_none_or(fits) {
        return problem(StatusCode::BAD_REQUEST, "a name is needed; name and note: 200 bytes");
    }
    let known =
        state.overview.borrow().as_ref().is_some_and(|o| o.alarms.iter().any(|a| a.id == id));
    if !known {
        return problem(StatusCode::NOT_FOUND, "there is no such alarm");
    }
    let note = note.filter(|note| !note.trim().is_empty());
    if (state.acknowledge)(id, Signature { by: name, note }) {
        StatusCode::NO_CONTENT.into_response()
    } else {
        problem(StatusCode::SERVICE_UNAVAILABLE, "the controller is behind: try again")
    }
}

pub async fn page() -> Response {
    file("index.html")
}

pub async fn asset(Path(path): Path<String>) -> Response {
    let lang = path.strip_prefix("texts/").and_then(|name| name.strip_suffix(".json"));
    match lang {
        Some("en") => Json(table(Lang::En)).into_response(),
        Some("zh") => Json(table(Lang::Zh)).into_response(),
        _ => file(&path),
    }
}

fn file(path: &str) -> Response {
    let Some(asset) = Assets::get(path) else {
        return problem(StatusCode::NOT_FOUND, "no such asset");
    };
    let kind = match path.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    };
    ([(header::CONTENT_TYPE, kind)], asset.data.into_owned()).into_response()
}

/// The whole document that the page shows.
pub fn document(state: &WebState) -> Value {
    json!({
        "overview": state.overview.borrow().as_deref(),
        "link": &*state.link.borrow(),
        "outbox": &*state.outbox.borrow(),
        "now": state.clock.now().utc,
        "speed": state.speed,
        "simulated": state.simulated,
    })
}

pub async fn overview(State(state): State<WebState>) -> Response {
    Json(document(&state)).into_response()
}

pub async fn still(State(state): State<WebState>, Path(id): Path<String>) -> Response {
    let still = Id::try_from(id).ok().and_then(|id| (state.stills)(&id));
    let Some((jpeg, at)) = still else {
        return problem(StatusCode::NOT_FOUND, "no picture of such a camera");
    };
    let age = at.age_at(state.clock.now()).as_secs_f64();
    let headers = [
        (header::CONTENT_TYPE, "image/jpeg".to_owned()),
        (header::AGE, format!("{}", age.round())),
        (header::LAST_MODIFIED, at.utc.format("%a, %d %b %Y %H:%M:%S GMT").to_string()),
    ];
    (headers, jpeg.to_vec()).into_response()
}

fn decides(state: &WebState) -> bool {
    let overview = state.overview.borrow();
    overview.as_ref().is_some_and(|overview| {
        let age = state.clock.now().utc.signed_duration_since(overview.ts);
        age.to_std().is_ok_and(|age| age < READY) || age < chrono::Duration::zero()
    })
}

/// Whether the control loop runs.
pub async fn ready(State(state): State<WebState>) -> Response {
    if decides(&state) {
        "ready\n".into_response()
    } else {
        problem(StatusCode::SERVICE_UNAVAILABLE, "no decision in the last 3 s")
    }
}

/// Each device, camera and the broker in one word.
pub async fn health(State(state): State<WebState>) -> Response {
    let overview = state.overview.borrow().clone();
    let devices: Vec<Value> = overview
        .iter()
        .flat_map(|o| &o.devices)
        .map(|d| json!({"id": d.id, "kind": d.kind, "ok": d.q == Quality::Good, "age_s": d.age_s}))
        .collect();
    let cameras: Vec<Value> = overview
        .iter()
        .flat_map(|o| &o.cameras)
        .map(|c| json!({"id": c.id, "ok": c.fault.is_none(), "fault": c.fault}))
        .collect();
    let link = state.link.borrow().clone();
    Json(json!({
        "control": decides(&state),
        "devices": devices,
        "cameras": cameras,
        "broker": {"configured": link.broker.is_some(), "ok": link.connected},
    }))
    .into_response()
}
