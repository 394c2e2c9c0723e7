//! One judged frame of one camera, as it travels from the vision process to the controller.
//!
//! What a stranger gets wrong: a scene with a fault carries no verdict worth having; it never means
//! "clear" and its bays are unknown.

use serde::{Deserialize, Serialize};

use super::BayState;
use crate::logic::site::Id;
use crate::units::Moment;

/// What the looks at a camera add up to, temporal logic included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Nothing seen.
    Clear,
    /// May be fire or smoke: derate and look again.
    Doubtful,
    /// Flame or smoke confirmed over time.
    Alarm,
}

/// Which model had the last word on a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// The small one that sees every look.
    Small,
    /// The big one that sees what the small one doubts.
    Big,
}

/// What is wrong with a camera.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CameraFault {
    /// No new frame for 5 s.
    Lost,
    /// The same frame again and again.
    Frozen,
    /// The picture cannot be decoded.
    Undecodable,
    /// Too dark: nothing to see.
    Dark,
    /// Covered, blinded or out of focus.
    Covered,
    /// Shows another place than it did.
    Moved,
    /// Another shape of picture than before: the bays are elsewhere in it.
    Shape,
    /// Its frames are judged too late to act on.
    Late,
    /// The model failed on it.
    Model,
    /// Another camera answers at its address.
    Stranger,
}

/// One bay in one frame.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BayLook {
    /// The bay.
    pub id: Id,
    /// Score of the bay net, 0 (free) to 1 (occupied).
    pub occupied: f64,
    /// State after two of three reads and the abstain band.
    pub state: BayState,
}

/// One judged frame, or the news that a camera is blind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scene {
    /// The camera.
    pub camera: Id,
    /// Number of the frame since the vision process started; counts once.
    pub frame: u64,
    /// When the frame was received.
    pub at: Moment,
    /// Flame score of the look, 0 to 1.
    pub fire: f64,
    /// Smoke score of the look, 0 to 1.
    pub smoke: f64,
    /// What the looks so far add up to.
    pub verdict: Verdict,
    /// Which model had the last word.
    pub tier: Tier,
    /// The bays this camera sees.
    pub bays: Vec<BayLook>,
    /// Sum of what their scores are of: the net, the camera and where its bays are. Scores of another sum are no measure
    /// for these. Nothing where another detector than the net that came along reads them.
    #[serde(default)]
    pub scored_by: Option<u32>,
    /// CPU time that this frame took in the vision process, milliseconds.
    pub cpu_ms: f64,
    /// What is wrong with the camera, if anything.
    pub fault: Option<CameraFault>,
}
