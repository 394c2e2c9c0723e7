//! Frames, from wherever they come: snapshots over HTTP, pictures and films on disk. It measures
//! (`gate`) and judges nothing.

mod film;
mod frame;
pub mod gate;
mod snapshot;
mod still;

pub use film::{Film, FilmError};
pub use frame::{Frame, FrameError};
pub use snapshot::{Snapshot, SnapshotError};
pub use still::{Still, StillBoard};
