//! The physics of a charging site: cars, piles, battery, PV and building on three phases. Pure and
//! seeded: the same scenario, seed and steps give the same world.
//!
//! What a stranger gets wrong: nothing here is measured. Meters and devices add their own noise when
//! they are read; the balance of the world itself is exact.

mod charger;
mod habits;
mod hybrid;
mod module;
mod node;
mod truth;
mod world;

pub use charger::{Car, Pile, PlugState};
pub use hybrid::{Hybrid, OutputLimit, StorageControl};
pub use module::Module;
pub use node::{IDLE_W, Node};
pub use truth::{BayTruth, PileTruth, Truth};
pub use world::{Bay, World};
