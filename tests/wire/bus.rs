//! The field bus against simulated devices with their faults switched on, and against independent peers.
//! `rig` is a gateway's inner half: the bus and the controller, without broker, page and eyes.
//!
//! What a stranger gets wrong: the bounds are those of the fault matrix, counted from the moment of the
//! fault; the simulated world tells what is true.

#![allow(clippy::print_stdout)] // figures of a run

mod absent;
mod curb;
mod faults;
mod fewest;
mod lines;
mod peers;
mod renewed;
pub mod rig;
mod serial;
mod served;
mod sharing;
mod watchdogs;
