//! Frames, from wherever they come: snapshots and MJPEG over HTTP, H.264 over RTSP, pictures and films
//! on disk. It measures (`gate`) and judges nothing.

mod film;
mod frame;
pub mod gate;
mod likeness;
mod rtsp;
mod snapshot;
mod source;
mod still;
mod stream;
mod video;

pub use film::{Film, FilmError};
pub use frame::{Frame, FrameError};
pub use likeness::likeness;
pub use rtsp::{Haste, Login};
pub use source::{Camera, CameraError, Coded};
pub use still::{Still, StillBoard};
