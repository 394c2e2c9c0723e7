//! Introductions: who talks to whom, in which order things start and stop. `control` is the gateway's
//! own process, `vision` the child that looks at pictures, `child` the control process's grip on it,
//! `look` the same eyes on files, `mind` the controller's thread, `jobs` the crew that runs what it grants, `builtin` what it can do itself, `evidence` the pictures of what is doubted, `desk` where a person on the device is heard
//! (`charging`: how a charger charges), `latch` what survives a
//! restart, `life` and `service` what the service manager is told, `storm` what too many crashes mean,
//! `breakage` the wish to see one, `drill` a fault made visible and `aside`
//! what is put aside for it, `plan` a scenario into a schedule,
//! `update` another version of the program and `releases` which one runs,
//! `installer`, `newcomer` and `write_test` the tools of whoever puts the devices in, `demo` a supervisor with a
//! simulated site, `simulate` days of a site in virtual time, `replay` a trace through a fresh controller.

mod annotate;
mod aside;
mod breakage;
pub mod builtin;
pub mod camera;
pub mod charging;
pub mod child;
pub mod control;
#[cfg(feature = "demo")]
pub mod demo;
pub mod desk;
pub mod drill;
mod evidence;
pub mod installer;
mod jobs;
mod latch;
mod life;
pub mod look;
mod messages;
mod mind;
pub mod newcomer;
pub mod plan;
mod quarantine;
pub mod releases;
pub mod replay;
mod service;
mod shutdown;
#[cfg(feature = "demo")]
pub mod simulate;
mod storm;
pub mod update;
mod uplink;
pub mod vision;
mod wear;
pub mod write_test;
