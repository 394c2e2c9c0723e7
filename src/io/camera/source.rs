//! A camera, whichever way it delivers.

use std::time::Duration;

use super::door::Login;
use super::rtsp::{Haste, Rtsp};
use super::snapshot::Snapshot;
use super::stream::Stream;
use super::{CameraError, Frame, FrameError, video};

/// A camera behind a URL.
pub enum Camera {
    /// One JPEG for each request.
    Snapshot(Snapshot),
    /// One answer that never ends (MJPEG).
    Stream(Stream),
    /// H.264 or H.265 over RTSP.
    Rtsp(Rtsp),
}

/// A picture as the camera sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Coded {
    /// JPEG or PNG.
    Still(Vec<u8>),
    /// H.264: a keyframe and what followed it; the last frame is the picture.
    Video(Vec<Vec<u8>>),
    /// H.265, which ffmpeg has decoded already.
    Hevc {
        /// As it came: a keyframe and what followed it.
        coded: Vec<Vec<u8>>,
        /// The last of them.
        frame: Frame,
        /// CPU time of ffmpeg.
        cpu: Duration,
        /// How long ago it came.
        age: Duration,
    },
}

impl Coded {
    /// The picture.
    ///
    /// # Errors
    /// When the bytes are none.
    pub fn decode(&self) -> Result<Frame, FrameError> {
        self.decode_alive(&mut || {})
    }

    /// The same; `alive` is called now and then meanwhile.
    ///
    /// # Errors
    /// When the bytes are none.
    pub fn decode_alive(&self, alive: &mut dyn FnMut()) -> Result<Frame, FrameError> {
        match self {
            Coded::Still(bytes) => Frame::decode(bytes),
            Coded::Video(frames) => video::newest(frames, alive),
            Coded::Hevc { frame, .. } => Ok(frame.clone()),
        }
    }

    /// CPU time that another process has spent on it.
    #[must_use]
    pub fn spent_elsewhere(&self) -> Duration {
        if let Coded::Hevc { cpu, .. } = self { *cpu } else { Duration::ZERO }
    }

    /// How long ago it came, where that was not just now.
    #[must_use]
    pub fn age(&self) -> Duration {
        if let Coded::Hevc { age, .. } = self { *age } else { Duration::ZERO }
    }

    /// What it is, in the words of ONVIF.
    #[must_use]
    pub fn codec(&self) -> &'static str {
        match self {
            Coded::Still(_) => "JPEG",
            Coded::Video(_) => "H264",
            Coded::Hevc { .. } => "H265",
        }
    }

    /// Frames of a video: a keyframe and what followed it; nothing of a still.
    #[must_use]
    pub fn frames(&self) -> &[Vec<u8>] {
        match self {
            Coded::Still(_) => &[],
            Coded::Video(coded) | Coded::Hevc { coded, .. } => coded,
        }
    }
}

impl Camera {
    /// Nothing is asked yet. An `rtsp://` address is a stream of its own kind.
    #[must_use]
    pub fn open(url: &str, is_stream: bool) -> Camera {
        Camera::open_as(url, is_stream, None)
    }

    /// The same; a camera that asks who we are is told.
    #[must_use]
    pub fn open_as(url: &str, is_stream: bool, login: Option<Login>) -> Camera {
        if url.starts_with("rtsp://") {
            Camera::Rtsp(Rtsp::new(url, login))
        } else if is_stream {
            Camera::Stream(Stream::new(url, login))
        } else {
            Camera::Snapshot(Snapshot::new(url, login))
        }
    }

    /// One coded picture that was not given out before.
    ///
    /// # Errors
    /// When there is none in time; asking again tries again.
    pub fn fetch(&mut self) -> Result<Coded, CameraError> {
        self.fetch_as(Haste::Keyframes)
    }

    /// The same, for whoever looks at more than keyframes.
    ///
    /// # Errors
    /// When there is none in time; asking again tries again.
    pub fn fetch_as(&mut self, haste: Haste) -> Result<Coded, CameraError> {
        Ok(match self {
            Camera::Snapshot(snapshot) => Coded::Still(snapshot.fetch()?),
            Camera::Stream(stream) => Coded::Still(stream.fetch()?),
            Camera::Rtsp(rtsp) => rtsp.fetch(haste)?,
        })
    }
}
