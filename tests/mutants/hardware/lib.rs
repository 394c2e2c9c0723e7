//! The physics of the simulators and nothing else, for `tests/run mutants`.

pub mod physics;
pub mod scenario;
