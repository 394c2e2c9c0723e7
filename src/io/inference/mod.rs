//! The models: found, checked, run. A net is used only when its file has the hash of the manifest and
//! reproduces the golden output stored there; what a score means is for `logic::vision` to judge.

mod kernel;
mod model;
mod survey;
pub mod tensors;

pub use model::{BayNet, Engine, FireNet, ModelError, load};
pub use survey::{Cost, Listed, Trial, list as list_models, measure as measure_models};
