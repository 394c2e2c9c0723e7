//! wattgate: one gateway for an EV-charging site.
//!
//! The map of the house, from the ground up; a module uses only floors below its own
//! (`tests/tidy.rs` guards it, ARCHITECTURE.md tells why):
//!
//! * `units`, `texts` — quantities and moments; the words shown to people in English and Chinese.
//! * `logic` — what the gateway thinks: `site` (what there is), `energy`, `safety`, `vision` (kinds of
//!   thinking that do not know each other), `observation` in, `decision` out, and `controller`, the
//!   only place where they meet. Pure: no I/O, no clock.
//! * `config` — files into valid domain values, every fault reported with its place.
//! * `io` — `clock`, then `modbus`, `camera`, `store`, then `inference`, `mqtt`, `web`. It does, and
//!   decides nothing.
//! * `app` — introduces them: the control loop, the vision child's loop, start and stop order, demo.
//! * `cli` — the command line: arguments into one call.

pub mod app;
pub mod cli;
pub mod config;
pub mod io;
pub mod logic;
pub mod texts;
pub mod units;
