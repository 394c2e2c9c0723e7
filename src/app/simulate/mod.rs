//! A site without its hardware: the controller against the physics in virtual time, from one seed.
//! `day` is what `wattgate simulate` does, `plant` closes the loop, `trouble` breaks devices, `stress` judges the breaker.

mod day;
mod plant;
mod stress;
mod trouble;

pub use day::{SimulateError, SimulateOptions, Summary, run};
pub use plant::Plant;
pub use stress::Stress;
pub use trouble::{Heard, Troubles, What, Who};
