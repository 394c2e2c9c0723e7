//! A camera, whichever way it delivers.

use super::snapshot::{Snapshot, SnapshotError};
use super::stream::{Stream, StreamError};

/// A camera behind a URL.
pub enum Camera {
    /// One JPEG for each request.
    Snapshot(Snapshot),
    /// One answer that never ends (MJPEG).
    Stream(Stream),
}

/// Why a camera gave no picture.
#[derive(Debug, thiserror::Error)]
pub enum CameraError {
    /// A snapshot.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// A stream.
    #[error(transparent)]
    Stream(#[from] StreamError),
}

impl Camera {
    /// Nothing is asked yet.
    #[must_use]
    pub fn open(url: &str, is_stream: bool) -> Camera {
        if is_stream {
            Camera::Stream(Stream::new(url))
        } else {
            Camera::Snapshot(Snapshot::new(url))
        }
    }

    /// One encoded picture that was not given out before.
    ///
    /// # Errors
    /// When there is none in time; asking again tries again.
    pub fn fetch(&mut self) -> Result<Vec<u8>, CameraError> {
        Ok(match self {
            Camera::Snapshot(snapshot) => snapshot.fetch()?,
            Camera::Stream(stream) => stream.fetch()?,
        })
    }
}
