//! The newest still of every camera, for the page and for evidence: re-encoded by the vision process,
//! so that no bytes of a camera reach a browser.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;

use crate::logic::site::Id;
use crate::units::Moment;

/// A still.
#[derive(Clone, Debug)]
pub struct Still {
    /// The JPEG.
    pub jpeg: Arc<[u8]>,
    /// When its frame was received.
    pub at: Moment,
}

/// One place for each camera; clones share them.
#[derive(Clone, Debug)]
pub struct StillBoard(Arc<BTreeMap<Id, watch::Sender<Option<Still>>>>);

impl StillBoard {
    /// An empty place for each camera.
    pub fn new(cameras: impl Iterator<Item = Id>) -> StillBoard {
        StillBoard(Arc::new(cameras.map(|id| (id, watch::Sender::new(None))).collect()))
    }

    /// Replaces the still of a camera; one that is not on the board is ignored.
    pub fn put(&self, camera: &Id, still: Still) {
        if let Some(place) = self.0.get(camera) {
            place.send_replace(Some(still));
        }
    }

    /// The newest still of a camera.
    #[must_use]
    pub fn get(&self, camera: &Id) -> Option<Still> {
        self.0.get(camera)?.borrow().clone()
    }
}
