//! A site without its hardware: the controller against the physics in virtual time, from one seed.
//! `plant` closes the loop, `trouble` breaks devices, `stress` judges the breaker.

mod plant;
mod stress;
mod trouble;

pub use plant::Plant;
pub use stress::Stress;
pub use trouble::{Heard, Troubles, What, Who};
