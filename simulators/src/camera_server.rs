//! The simulated camera and the switches over HTTP: a fresh JPEG for every request, the truth for
//! tests, and the way to change the world.
//!
//! ```text
//!   GET  /camera/cam1.jpg            the picture of this moment
//!   GET  /truth                      what is true now
//!   POST /set    {"building_w": 7000, "pv_w": null, "fire": {"bay": "bay1", "intensity": 0.8}}
//!   POST /fault  {"device": "grid", "silent": true}
//! ```

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use tokio::net::TcpListener;

use crate::faults::Faults;
use crate::picture::{self, Scene};
use crate::site::Shared;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Hazard {
    bay: String,
    intensity: f64,
}

// The rest of the keys are checked by `Faults`; serde cannot flatten and deny unknown keys at once.
#[derive(Deserialize)]
struct Switch {
    device: String,
    #[serde(flatten)]
    faults: serde_json::Map<String, serde_json::Value>,
}

/// Serves until the runtime ends.
///
/// # Errors
/// When the address cannot be listened on.
pub async fn serve(address: SocketAddr, shared: Arc<Shared>) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    let app = Router::new()
        .route("/camera/cam1.jpg", get(still))
        .route("/truth", get(truth))
        .route("/set", post(set))
        .route("/fault", post(fault))
        .with_state(shared);
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, app).await {
            tracing::error!(%error, "the simulated camera stopped");
        }
    });
    Ok(address)
}

async fn still(State(shared): State<Arc<Shared>>) -> Response {
    let scene = shared.with(|world| Scene::of(world));
    let drawn = tokio::task::spawn_blocking(move || picture::jpeg(&scene)).await;
    match drawn {
        Ok(Ok(jpeg)) => ([(header::CONTENT_TYPE, "image/jpeg")], jpeg).into_response(),
        Ok(Err(error)) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn truth(State(shared): State<Arc<Shared>>) -> Response {
    Json(shared.with(|world| world.truth())).into_response()
}

/// Applies every key or none.
async fn set(State(shared): State<Arc<Shared>>, body: Bytes) -> Response {
    let bad = |why: String| (StatusCode::BAD_REQUEST, why + "\n").into_response();
    let keys: serde_json::Map<String, serde_json::Value> = match serde_json::from_slice(&body) {
        Ok(keys) => keys,
        Err(error) => return bad(error.to_string()),
    };
    for (key, value) in keys {
        let watts = value.as_f64().filter(|watts| watts.is_finite() && watts.abs() < 1e6);
        let hazard = serde_json::from_value::<Hazard>(value.clone());
        let done = shared.with(|world| match key.as_str() {
            "building_w" | "pv_w" if watts.is_none() && !value.is_null() => false,
            "building_w" => {
                world.set_building(watts);
                true
            }
            "pv_w" => {
                world.set_pv(watts);
                true
            }
            "fire" | "smoke" => hazard.is_ok_and(|hazard| {
                let Some(bay) = world.bays.iter_mut().find(|bay| bay.id == hazard.bay) else {
                    return false;
                };
                let place = if key == "fire" { &mut bay.fire } else { &mut bay.smoke };
                *place = hazard.intensity.clamp(0.0, 1.0);
                true
            }),
            _ => false,
        });
        if !done {
            return bad(format!("`{key}` with {value} is not understood"));
        }
    }
    StatusCode::NO_CONTENT.into_response()
}

async fn fault(State(shared): State<Arc<Shared>>, body: Bytes) -> Response {
    let bad = |why: String| (StatusCode::BAD_REQUEST, why + "\n").into_response();
    let switch: Switch = match serde_json::from_slice(&body) {
        Ok(switch) => switch,
        Err(error) => return bad(error.to_string()),
    };
    match serde_json::from_value::<Faults>(serde_json::Value::Object(switch.faults)) {
        Ok(faults) => shared.set_faults(&switch.device, faults),
        Err(error) => return bad(error.to_string()),
    }
    StatusCode::NO_CONTENT.into_response()
}
