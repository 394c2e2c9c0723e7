//! Compute as a load: what a node may draw beside everything else. Nodes come last and throttle before
//! anything has to stop; their idle power is never in question.

mod cap;

pub use cap::{CapRamp, allowed};
