//! Introductions: who talks to whom, in which order things start and stop. `control` is the gateway's
//! own process, `vision` the child that looks at pictures, `child` the control process's grip on it,
//! `look` the same eyes on files, `desk` where a person on the device is heard, `latch` what survives a
//! restart, `plan` a scenario into a schedule, `demo` a supervisor with a simulated site.

mod annotate;
pub mod camera;
pub mod child;
pub mod control;
#[cfg(feature = "demo")]
pub mod demo;
pub mod desk;
mod latch;
pub mod look;
mod messages;
pub mod plan;
mod shutdown;
mod uplink;
pub mod vision;
