//! Thinking about pictures after the pixels: scores in, states out. Which scores make a verdict
//! (`triage`), which measures a camera's fault (`health`), which reads make a bay occupied (`occupancy`), and what one judged frame looks like to
//! the rest of the house (`scene`). Pixels never come here.

mod health;
mod occupancy;
mod scene;
mod triage;

pub use health::{Health, Measures};
pub use occupancy::{BayCuts, BayState, Occupancy};
pub use scene::{BayLook, CameraFault, Scene, Tier, Verdict};
pub use triage::{FireCuts, Triage};
