//! Frames, from wherever they come: snapshots and MJPEG over HTTP, H.264 and H.265 over RTSP, pictures and films
//! on disk. It measures (`gate`) and judges nothing. `onvif` asks a camera what it offers, `door` is HTTP with a user.

mod door;
mod error;
mod film;
mod frame;
pub mod gate;
mod hevc;
mod likeness;
mod masks;
pub mod onvif;
mod rtsp;
mod snapshot;
mod source;
mod still;
mod stream;
mod video;

pub use door::Login;
pub use error::CameraError;
pub use film::{Film, FilmError};
pub use frame::{Frame, FrameError};
pub use likeness::likeness;
pub use masks::Masks;
pub use rtsp::Haste;
pub use source::{Camera, Coded};
pub use still::{Still, StillBoard};
