//! Thinking about pictures after the pixels: scores in, states out. Which scores make a verdict
//! (`triage`), which reads make a bay occupied (`occupancy`), and what one judged frame looks like to
//! the rest of the house (`scene`). Pixels never come here.

mod occupancy;
mod scene;
mod triage;

pub use occupancy::{BayCuts, BayState, Occupancy};
pub use scene::{BayLook, CameraFault, Scene, Tier, Verdict};
pub use triage::{FireCuts, Triage};
