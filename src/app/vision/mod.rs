//! The gateway's eyes: one way of seeing (`eyes`), used by the child process that watches cameras
//! (`process`) and by `look`.

mod eyes;
mod process;

pub use eyes::{BayPlace, Eyes, Sight, Watch};
pub use process::{ChildOptions, VisionError, run};
