//! Thinking about pictures after the pixels: scores in, states out. Which scores make a verdict
//! (`triage`), what stirs where they are high (`stir`), which doubts the big net sees (`escalation`), which measures make a camera's fault (`health`),
//! which reads make a bay occupied (`occupancy`, and of one camera `calibration`), which pictures are worth training with (`curation`), what a detector's outputs
//! mean (`boxes`), what all of it costs (`ledger`), and what one judged
//! frame looks like to the rest of the house (`scene`). Pixels never come here.

mod boxes;
mod calibration;
mod curation;
mod escalation;
mod health;
mod ledger;
mod occupancy;
mod scene;
mod stir;
mod triage;

pub use boxes::{Boxed, Writing, boxes, stands_in};
pub use calibration::{Calibration, LEAST_STAYS, calibrate};
pub use curation::{Candidate, Likeness, SIGNS, Worth, pick};
pub use escalation::{Budget, Doubt, Escalation};
pub use health::{Health, Measures, Usual};
pub use ledger::{BigLedger, BigTrouble, CameraLedger, Ledger, Metering, Stages};
pub use occupancy::{BayCuts, BayState, Occupancy};
pub use scene::{BayLook, CameraFault, Scene, Tier, Verdict};
pub use stir::Stir;
pub use triage::{Answer, FireCuts, PartLook, Triage};
