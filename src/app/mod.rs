//! Introductions: who talks to whom, in which order things start and stop. `control` is the gateway's
//! own process, `vision` the child that looks at pictures, `child` the control process's grip on it,
//! `look` the same eyes on files, `desk` where a person on the device is heard, `latch` what survives a
//! restart, `service` what the service manager is told, `storm` what too many crashes mean, `drill` a fault made visible, `breakage` the
//! wish to see one, `plan` a scenario into a schedule, `demo` a supervisor with a simulated site.

mod breakage;
pub mod child;
pub mod control;
#[cfg(feature = "demo")]
pub mod demo;
pub mod desk;
pub mod drill;
mod latch;
pub mod look;
mod messages;
pub mod plan;
mod service;
mod shutdown;
mod storm;
mod uplink;
pub mod vision;
