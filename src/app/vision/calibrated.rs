//! The cuts of one camera's bays as `recalibrate` has found them, in the state folder (`eyes/CAMERA.cuts.json`), and for
//! what they hold: one net, one address, one set of places.
//!
//! What a stranger gets wrong: the eyes read them, a minute after they were written at the latest, and never write them.
//! A net that was replaced, a camera or a bay that was moved in the site file, and `wattgate camera relearn` end them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::bays::BayPlace;
use crate::io::store::write_whole;
use crate::logic::site::Id;
use crate::logic::vision::Calibration;

/// Folder in the state folder.
const FOLDER: &str = "eyes";
/// Anything above is not ours.
const MOST_BYTES: u64 = 64 << 10;

/// A file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibrated {
    /// Hash of the net whose scores the cuts are of.
    pub net: String,
    /// Sum of address and places: see [`place`].
    pub of: u32,
    /// When it was found.
    pub at: DateTime<Utc>,
    /// What was found.
    pub calibration: Calibration,
}

/// Sum of what a camera shows: its address, and its bays.
#[must_use]
pub fn place(url: Option<&str>, places: &[BayPlace]) -> u32 {
    let polygons = places.iter().map(|place| format!("{} {:?}", place.id, place.polygon));
    let url = url.map(str::to_owned).into_iter();
    crc32fast::hash(url.chain(polygons).collect::<Vec<_>>().join("\n").as_bytes())
}

/// Sum of what scores are of: the net, what the camera shows, and since when that is learned.
#[must_use]
pub fn scored_by(net: &str, of: u32, since: DateTime<Utc>) -> u32 {
    crc32fast::hash(format!("{net}\n{of}\n{}", since.timestamp_micros()).as_bytes())
}

/// No name of a camera has a point in it, so that no other file is called so.
fn name(camera: &Id) -> String {
    format!("{camera}.cuts.json")
}

/// The file of a camera.
#[must_use]
pub fn file(state: &Path, camera: &Id) -> PathBuf {
    state.join(FOLDER).join(name(camera))
}

impl Calibrated {
    /// What is there, where it can be believed.
    #[must_use]
    pub fn read(state: &Path, camera: &Id) -> Option<Calibrated> {
        let path = file(state, camera);
        let length = fs::metadata(&path).ok()?.len();
        let bytes = (length <= MOST_BYTES).then(|| fs::read(&path).ok()).flatten()?;
        let kept: Calibrated = serde_json::from_slice(&bytes).ok()?;
        let cuts = kept.calibration.cuts;
        let sound = 0.0 < cuts.free_below && cuts.free_below < 0.5;
        (sound && 0.5 < cuts.occupied_above && cuts.occupied_above < 1.0).then_some(kept)
    }

    /// Whether it is of this net and this place.
    #[must_use]
    pub fn holds(&self, net: &str, of: u32) -> bool {
        self.net == net && self.of == of
    }

    /// Leaves it for the eyes.
    ///
    /// # Errors
    /// When the disk refuses; what was there before holds then.
    pub fn write(&self, state: &Path, camera: &Id) -> io::Result<()> {
        let folder = state.join(FOLDER);
        fs::create_dir_all(&folder)?;
        let text = serde_json::to_string_pretty(self).map_err(io::Error::other)?;
        write_whole(&folder, &name(camera), format!("{text}\n").as_bytes())
    }
}
