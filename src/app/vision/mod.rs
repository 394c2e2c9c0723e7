//! The gateway's eyes: one way of seeing (`eyes`, `bays`), used by the child process that watches cameras
//! (`process`, `fetch`, `passport`, `judge`, `cascade`) and by `look` (`second`).

mod bays;
mod calibrated;
mod cascade;
mod eyes;
mod fetch;
mod judge;
mod memory;
mod passport;
mod process;
mod second;

pub use bays::BayPlace;
pub use calibrated::{Calibrated, file as cuts_file, place};
pub use cascade::{Answered, Cascade};
pub use eyes::{Eyes, PARTS, Sight, Watch};
pub use memory::{file as memory_file, scored_by};
pub use process::{ChildOptions, VisionError, run};
pub use second::Second;
