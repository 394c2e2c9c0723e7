//! Granted jobs as real processes and endpoints: started, held to a share of the processor, paused,
//! metered, ended and reaped. It decides nothing.
//!
//! ```text
//!   gateway ── worker ──stdin──▶ warden (`wattgate warden`) ──▶ the program and all it starts
//!                 ◀──stdout── began, CPU seconds, ended
//! ```
//! What a stranger gets wrong: the warden is there so that nothing outlives the gateway. When its
//! standard input ends, for whatever reason, it kills everything that the program has started, even what
//! has left the program's process group.

mod endpoint;
mod group;
mod meter;
mod tree;
mod warden;
mod worker;

pub use endpoint::Endpoint;
pub use group::{delegated, sweep};
pub use meter::Meter;
pub use warden::{Hold, Report, guard};
pub use worker::Worker;
