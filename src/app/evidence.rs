//! Keeps the pictures of what the eyes doubt, on a thread of its own: the disk may take its time.
//!
//! What a stranger gets wrong: it only looks, five times a second, at what page and MQTT are shown. A picture that
//! comes and goes between two looks is not kept.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::watch;

use super::control::{RunError, named};
use crate::config::Config;
use crate::io::camera::StillBoard;
use crate::io::store::Evidence;
use crate::logic::decision::Overview;
use crate::logic::site::Id;
use crate::logic::vision::Verdict;
use crate::units::Moment;

const LOOKS_EVERY: Duration = Duration::from_millis(200);

/// Starts the thread where the site file wants it; it ends when it is told to stop.
///
/// # Errors
/// When it cannot be started.
pub(super) fn start(
    config: &Config,
    (stills, overview): (&StillBoard, &watch::Receiver<Option<Arc<Overview>>>),
    stop: &Arc<AtomicBool>,
) -> Result<Option<JoinHandle<()>>, RunError> {
    if !config.vision.evidence {
        return Ok(None);
    }
    let (mut evidence, stop) = (Evidence::open(&config.state), Arc::clone(stop));
    let (stills, overview) = (stills.clone(), overview.clone());
    let thread = named("evidence", move || {
        let (mut seen, mut well) = (BTreeMap::new(), true);
        while !stop.load(Ordering::Relaxed) {
            std::thread::park_timeout(LOOKS_EVERY);
            let newest = overview.borrow().clone();
            let Some(newest) = newest else { continue };
            let kept = look(&mut evidence, &mut seen, &newest, &stills);
            if let (Err(error), true) = (&kept, well) {
                tracing::warn!(%error, "pictures of what is doubted are not kept");
            }
            well = kept.is_ok();
        }
    });
    thread.map(Some)
}

/// Keeps the newest still of each camera that is in doubt, once.
fn look(
    evidence: &mut Evidence,
    seen: &mut BTreeMap<Id, Moment>,
    overview: &Overview,
    stills: &StillBoard,
) -> std::io::Result<()> {
    for camera in overview.cameras.iter().filter(|camera| camera.fault.is_none()) {
        let verdict = match camera.verdict {
            Some(Verdict::Doubtful) => "doubtful",
            Some(Verdict::Alarm) => "alarm",
            Some(Verdict::Clear) | None => continue,
        };
        let Some(still) = stills.get(&camera.id) else { continue };
        if seen.insert(camera.id.clone(), still.at) != Some(still.at) {
            evidence.keep((&camera.id, still.at.utc), verdict, &still.jpeg)?;
        }
    }
    Ok(())
}
