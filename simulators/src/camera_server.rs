//! The simulated camera and the switches over HTTP: a fresh JPEG for every request, the truth for
//! tests, and the way to change the world.
//!
//! ```text
//!   GET  /camera/cam1.jpg, cam2.jpg   the picture of this moment
//!   GET  /camera/cam2.mjpeg            five pictures a second, as long as somebody reads
//!   POST /onvif/device_service         what the first camera offers (ONVIF), and to nobody's surprise with a wrong host
//!   GET  /bays.json         outlines of the bays, in shares of the frame
//!   GET  /truth             what is true now
//!   POST /set    {"building_w": 7000, "pv_w": null, "plug": {"bay": "bay1", "plugged": false},
//!                 "fire": {"bay": "bay1", "intensity": 0.8}, "smoke": {"bay": "bay1", "intensity": 1}}
//!   POST /fault  {"device": "grid", "silent": true}
//! ```
//!
//! What a stranger gets wrong: in `/set`, a key that is left out changes nothing and null gives the
//! value back to the model. `/fault` replaces the device's whole set of switches.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Deserializer};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::onvif::{self, Face};
use crate::physics::World;
use crate::picture::{self, Scene};
use crate::site::Shared;

/// Between two pictures of the stream.
const STREAM_EVERY: Duration = Duration::from_millis(200);
const BOUNDARY: &str = "frame";
/// Largest power that may be set, W.
const MOST_W: f64 = 1e6;

/// What `/set` takes. The outer option: given or not; the inner one: a value or null.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    #[serde(default, deserialize_with = "given")]
    building_w: Option<Option<f64>>,
    #[serde(default, deserialize_with = "given")]
    pv_w: Option<Option<f64>>,
    plug: Option<Plug>,
    fire: Option<Hazard>,
    smoke: Option<Hazard>,
    /// Contacts and loops of the input/output module by their names.
    module: Option<std::collections::BTreeMap<String, f64>>,
}

fn given<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Option<f64>>, D::Error> {
    Option::deserialize(value).map(Some)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Plug {
    bay: String,
    plugged: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Hazard {
    bay: String,
    intensity: Option<f64>,
}

impl Change {
    /// What cannot be done, found before anything is done.
    fn complaint(&self, world: &World) -> Option<String> {
        for (key, value) in [("building_w", self.building_w), ("pv_w", self.pv_w)] {
            if value.flatten().is_some_and(|watts| !(0.0..=MOST_W).contains(&watts)) {
                return Some(format!("`{key}` is 0 to {MOST_W} watts, or null"));
            }
        }
        for (key, hazard) in [("fire", &self.fire), ("smoke", &self.smoke)] {
            let intensity = hazard.as_ref().and_then(|hazard| hazard.intensity);
            if intensity.is_some_and(|part| !(0.0..=1.0).contains(&part)) {
                return Some(format!("`{key}.intensity` is 0 to 1, or null"));
            }
        }
        if let Some(values) = &self.module {
            let mut tried = world.module.clone();
            let wrong = tried.as_mut().map_or(Some("module".to_owned()), |m| m.set(values));
            if let Some(name) = wrong {
                return Some(format!("there is no `{name}` that could be set"));
            }
        }
        let places = [
            self.plug.as_ref().map(|plug| &plug.bay),
            self.fire.as_ref().map(|hazard| &hazard.bay),
            self.smoke.as_ref().map(|hazard| &hazard.bay),
        ];
        let known = |id: &String| world.bays.iter().any(|bay| &bay.id == id);
        let unknown = places.into_iter().flatten().find(|id| !known(id))?;
        let bays: Vec<&str> = world.bays.iter().map(|bay| bay.id.as_str()).collect();
        Some(format!("there is no bay `{unknown}`; there are {}", bays.join(", ")))
    }

    fn apply(self, world: &mut World) {
        if let Some(watts) = self.building_w {
            world.set_building(watts);
        }
        if let Some(watts) = self.pv_w {
            world.set_pv(watts);
        }
        if let (Some(values), Some(module)) = (&self.module, &mut world.module) {
            module.set(values);
        }
        if let Some(plug) = self.plug {
            world.set_plugged(&plug.bay, plug.plugged);
        }
        if let Some(fire) = self.fire {
            world.set_fire(&fire.bay, fire.intensity.unwrap_or(0.0));
        }
        if let Some(smoke) = self.smoke {
            world.set_smoke(&smoke.bay, smoke.intensity.unwrap_or(0.0));
        }
    }
}

/// The switches are checked by [`crate::faults::Faults`]; serde cannot refuse unknown keys beside
/// flattened ones.
#[derive(Deserialize)]
struct Switch {
    device: String,
    #[serde(flatten)]
    faults: serde_json::Map<String, serde_json::Value>,
}

/// What the handlers share.
#[derive(Clone)]
struct Desk {
    shared: Arc<Shared>,
    /// Pictures drawn so far.
    drawn: Arc<AtomicU64>,
}

/// The truth and the switches.
fn switches() -> Router<Desk> {
    Router::new().route("/truth", get(truth)).route("/set", post(set)).route("/fault", post(fault))
}

/// Serves cameras, truth and switches until the task is aborted.
///
/// # Errors
/// When the address cannot be listened on.
pub async fn serve(
    address: SocketAddr,
    shared: Arc<Shared>,
) -> io::Result<(SocketAddr, JoinHandle<()>)> {
    let cameras = Router::new()
        .route("/camera/cam1.jpg", get(|desk| still(desk, Scene::of)))
        .route("/camera/cam2.jpg", get(|desk| still(desk, Scene::of_second)))
        .route("/camera/cam2.mjpeg", get(stream))
        .route("/bays.json", get(bays));
    let (seen, drawn) = (Arc::clone(&shared), AtomicU64::new(0));
    let draw = Arc::new(move || {
        let scene = seen.with(|world| Scene::of(world));
        picture::jpeg(&noisy(scene, &drawn)).map_err(|error| error.to_string())
    });
    let face = Face { has_snapshot: true, believes: "0.0.0.0".to_owned(), ..Face::default() };
    let cameras = cameras.merge(onvif::routes(face, draw));
    listen(address, cameras.merge(switches()), shared).await
}

/// Serves truth and switches alone until the task is aborted.
///
/// # Errors
/// When the address cannot be listened on.
pub async fn serve_switches(
    address: SocketAddr,
    shared: Arc<Shared>,
) -> io::Result<(SocketAddr, JoinHandle<()>)> {
    listen(address, switches(), shared).await
}

async fn listen(
    address: SocketAddr,
    app: Router<Desk>,
    shared: Arc<Shared>,
) -> io::Result<(SocketAddr, JoinHandle<()>)> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    let app = app.with_state(Desk { shared, drawn: Arc::default() });
    let serving = tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, app).await {
            tracing::error!(%error, "the simulated camera stopped");
        }
    });
    Ok((address, serving))
}

/// Which camera looks.
type Seen = fn(&World) -> Scene;

/// The world moves in steps; two pictures of one step still differ by the sensor's noise.
fn noisy(mut scene: Scene, drawn: &AtomicU64) -> Scene {
    scene.time_s += 0.001 * (drawn.fetch_add(1, Ordering::Relaxed) % 97) as f64;
    scene
}

async fn picture(desk: &Desk, seen: Seen) -> Result<Vec<u8>, String> {
    let scene = noisy(desk.shared.with(|world| seen(world)), &desk.drawn);
    let drawn = tokio::task::spawn_blocking(move || picture::jpeg(&scene)).await;
    drawn.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
}

async fn still(State(desk): State<Desk>, seen: Seen) -> Response {
    let headers = [(header::CONTENT_TYPE, "image/jpeg"), (header::CACHE_CONTROL, "no-store")];
    match picture(&desk, seen).await {
        Ok(jpeg) => (headers, jpeg).into_response(),
        Err(why) => (StatusCode::INTERNAL_SERVER_ERROR, why).into_response(),
    }
}

/// Parts of a picture each, for as long as the client reads.
async fn stream(State(desk): State<Desk>) -> Response {
    let mut ticks = tokio::time::interval(STREAM_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let parts = futures_util::stream::unfold((desk, ticks), async |(desk, mut ticks)| {
        ticks.tick().await;
        let jpeg = picture(&desk, Scene::of_second).await.ok()?;
        let mut part = format!(
            "--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n",
            jpeg.len()
        )
        .into_bytes();
        part.extend_from_slice(&jpeg);
        part.extend_from_slice(b"\r\n");
        Some((Ok::<_, std::convert::Infallible>(part), (desk, ticks)))
    });
    let kind = format!("multipart/x-mixed-replace; boundary={BOUNDARY}");
    ([(header::CONTENT_TYPE, kind)], axum::body::Body::from_stream(parts)).into_response()
}

async fn bays(State(desk): State<Desk>) -> Response {
    let scenes =
        desk.shared.with(|world| [("cam1", Scene::of(world)), ("cam2", Scene::of_second(world))]);
    let mut all = Vec::new();
    for (camera, scene) in &scenes {
        for (i, slot) in scene.slots.iter().enumerate() {
            let poly = scene.polygon(i);
            all.push(serde_json::json!({"id": slot.id, "camera": camera, "poly": poly}));
        }
    }
    Json(all).into_response()
}

async fn truth(State(desk): State<Desk>) -> Response {
    Json(desk.shared.with(|world| world.truth())).into_response()
}

fn bad(why: impl std::fmt::Display) -> Response {
    (StatusCode::BAD_REQUEST, format!("{why}\n")).into_response()
}

/// Applies every key or none.
async fn set(State(desk): State<Desk>, body: Bytes) -> Response {
    let change: Change = match serde_json::from_slice(&body) {
        Ok(change) => change,
        Err(error) => return bad(error),
    };
    let complaint = desk.shared.with(|world| match change.complaint(world) {
        None => {
            change.apply(world);
            None
        }
        complaint => complaint,
    });
    complaint.map_or_else(|| StatusCode::NO_CONTENT.into_response(), bad)
}

async fn fault(State(desk): State<Desk>, body: Bytes) -> Response {
    let switch: Switch = match serde_json::from_slice(&body) {
        Ok(switch) => switch,
        Err(error) => return bad(error),
    };
    let faults = match serde_json::from_value(serde_json::Value::Object(switch.faults)) {
        Ok(faults) => faults,
        Err(error) => return bad(error),
    };
    match desk.shared.set_faults(&switch.device, faults) {
        Ok(()) => {
            desk.shared.settled(&switch.device).await;
            StatusCode::NO_CONTENT.into_response()
        }
        Err(error) => bad(error),
    }
}
