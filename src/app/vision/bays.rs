//! What is remembered of a bay in front of a camera, and when it is to be read again.

use std::time::Duration;

use crate::io::camera::gate::Glance;
use crate::logic::site::{Bay, Id};
use crate::logic::vision::{BayState, Occupancy};

/// A bay is read again after this long even if nothing changed.
pub const HEARTBEAT: Duration = Duration::from_secs(30);
/// A bay is read again when this share of its cells changed by this much brightness.
const CHANGED_SHARE: f64 = 0.12;
const CHANGED_BY: f32 = 9.0;
/// Reads after a change, so that two of three can agree.
const READS_AFTER_CHANGE: u8 = 3;
/// Score of a bay that nobody has read.
const UNREAD: f64 = 0.5;

/// A bay in a camera's frame.
#[derive(Clone, Debug)]
pub struct BayPlace {
    /// The bay.
    pub id: Id,
    /// Corners, shares of the frame.
    pub polygon: Vec<[f64; 2]>,
}

impl BayPlace {
    /// Of a bay of the site.
    #[must_use]
    pub fn of(bay: &Bay) -> BayPlace {
        BayPlace { id: bay.id.clone(), polygon: bay.polygon.clone() }
    }
}

/// One bay.
pub struct BayMemory {
    pub place: BayPlace,
    pub occupancy: Occupancy,
    /// What was seen when it was last read, and when.
    pub seen: Option<(Glance, Duration)>,
    pub reads_due: u8,
    pub score: f64,
    pub state: BayState,
}

impl BayMemory {
    /// Not read yet.
    pub fn new(place: BayPlace) -> BayMemory {
        BayMemory {
            place,
            occupancy: Occupancy::default(),
            seen: None,
            reads_due: 1,
            score: UNREAD,
            state: BayState::Unknown,
        }
    }

    /// Nothing is known of it any more.
    pub fn forget(&mut self) {
        self.state = BayState::Unknown;
        self.score = UNREAD;
        self.seen = None;
    }

    /// Itself, where it is to be read in this look.
    pub fn is_due(
        &mut self,
        glance: &Glance,
        at: Duration,
        heartbeat: Duration,
    ) -> Option<&mut BayMemory> {
        let area = bounds(&self.place.polygon);
        let changed = self.seen.as_ref().is_none_or(|(before, seen)| {
            glance.change(before, area, CHANGED_BY) > CHANGED_SHARE
                || at.saturating_sub(*seen) >= heartbeat
        });
        if changed {
            self.reads_due = READS_AFTER_CHANGE;
        }
        (self.reads_due > 0).then_some(self)
    }
}

/// Left, top, right, bottom of a polygon.
pub fn bounds(polygon: &[[f64; 2]]) -> [f64; 4] {
    let low = |k: usize| polygon.iter().map(|p| p[k]).fold(1.0, f64::min);
    let high = |k: usize| polygon.iter().map(|p| p[k]).fold(0.0, f64::max);
    [low(0), low(1), high(0), high(1)]
}
