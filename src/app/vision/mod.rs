//! The gateway's eyes: one way of seeing (`eyes`), used by the child process that watches cameras
//! (`process`, `judge`, `cascade`) and by `look` (`second`).

mod cascade;
mod eyes;
mod judge;
mod process;
mod second;

pub use cascade::{Answered, Cascade};
pub use eyes::{BayPlace, Eyes, PARTS, PartLook, Sight, Watch};
pub use process::{ChildOptions, VisionError, run};
pub use second::Second;
