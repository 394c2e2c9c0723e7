//! Frames, from wherever they come: snapshots over HTTP, pictures and films on disk. It measures
//! (`gate`) and judges nothing.

mod film;
mod frame;
pub mod gate;
mod snapshot;
mod source;
mod still;
mod stream;

pub use film::{Film, FilmError};
pub use frame::{Frame, FrameError};
pub use source::{Camera, CameraError};
pub use still::{Still, StillBoard};
