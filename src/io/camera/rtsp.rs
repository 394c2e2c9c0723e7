//! A camera that streams H.264 over RTSP, interleaved in one TCP connection. A thread receives; nothing
//! is decoded here, and only the frames since the last keyframe are kept.
//!
//! What a stranger gets wrong: a keyframe can be decoded alone, the frames between only one after the
//! other. So a quiet camera costs one keyframe for each look; the frames in between are handed out only
//! when no keyframe has come in time, or when several looks a second are wanted. Over UDP it would be just the
//! keyframes that get lost.

use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use retina::client::{
    Credentials, Demuxed, PlayOptions, Session, SessionOptions, SetupOptions, Transport,
};
use retina::codec::{CodecItem, FrameFormat, VideoFrame};
use tokio::time::timeout;

use super::CameraError;
use super::door::Login;

/// Longest wait for a keyframe; frames that are not one serve after that.
const ANSWER: Duration = Duration::from_secs(3);
/// Longest wait for an answer while the session is opened.
const CONNECT: Duration = Duration::from_secs(4);
/// A session that sends nothing for this long is dead.
const SILENCE: Duration = Duration::from_secs(5);
/// More than this since the last keyframe is not kept: the rest waits for the next one.
const MOST_BYTES: usize = 8 << 20;
const MOST_FRAMES: usize = 300;
/// In haste, more frames than this since the keyframe (two seconds of a usual stream) are not decoded anew with
/// every look: then the next keyframe is waited for.
const MOST_IN_HASTE: usize = 50;

/// What the receiving thread leaves behind.
#[derive(Default)]
struct Newest {
    /// Frames since the last keyframe, which is the first.
    frames: Vec<Vec<u8>>,
    bytes: usize,
    /// How many of them were handed out.
    given: usize,
    ended: Option<CameraError>,
}

impl Newest {
    fn put(&mut self, frame: VideoFrame) {
        if frame.is_random_access_point() {
            *self = Newest::default();
        }
        let fits = self.bytes + frame.data().len() <= MOST_BYTES && self.frames.len() < MOST_FRAMES;
        if fits && (frame.is_random_access_point() || !self.frames.is_empty()) {
            self.bytes += frame.data().len();
            self.frames.push(frame.into_data());
        }
    }

    /// Whether there is something for somebody in this haste.
    fn has_news(&self, haste: Haste) -> bool {
        self.given == 0 && !self.frames.is_empty() || self.serves(haste)
    }

    /// Whether all frames since the keyframe are worth decoding, for the newest of them.
    fn serves(&self, haste: Haste) -> bool {
        let in_haste = haste == Haste::Any && self.frames.len() <= MOST_IN_HASTE;
        in_haste && self.frames.len() > self.given
    }
}

/// Which frames are waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Haste {
    /// Keyframes, which are cheap; others only where none comes.
    Keyframes,
    /// Any that is new: several a second.
    Any,
}

/// One place for the newest frames, and a bell.
type Slot = Arc<(Mutex<Newest>, Condvar)>;

/// An RTSP source; opened with the first picture that is asked for.
pub struct Rtsp {
    url: String,
    login: Option<Login>,
    slot: Option<Slot>,
}

impl Rtsp {
    /// A source at an `rtsp://` address.
    #[must_use]
    pub fn new(url: &str, login: Option<Login>) -> Rtsp {
        Rtsp { url: url.to_owned(), login, slot: None }
    }

    /// Coded frames, the first a keyframe, that were not all handed out yet; the last is the newest. A
    /// keyframe alone where there is a new one and nobody is in haste.
    ///
    /// # Errors
    /// When none comes in time, or the session broke; the next call opens it anew.
    pub fn fetch(&mut self, haste: Haste) -> Result<Vec<Vec<u8>>, CameraError> {
        let slot = match &self.slot {
            Some(slot) => Arc::clone(slot),
            None => self.open()?,
        };
        let (newest, bell) = &*slot;
        let guard = newest.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = |newest: &mut Newest| newest.ended.is_none() && !newest.has_news(haste);
        let (mut newest, _) =
            bell.wait_timeout_while(guard, ANSWER, waiting).unwrap_or_else(PoisonError::into_inner);
        if newest.serves(haste) {
            newest.given = newest.frames.len();
            return Ok(newest.frames.clone());
        }
        if newest.given == 0 && !newest.frames.is_empty() {
            newest.given = 1;
            return Ok(newest.frames[..1].to_vec());
        }
        if let Some(error) = newest.ended.take() {
            self.slot = None;
            return Err(error);
        }
        if newest.frames.len() > newest.given {
            newest.given = newest.frames.len();
            return Ok(newest.frames.clone());
        }
        self.slot = None;
        Err(CameraError::still(&self.url, ANSWER))
    }

    fn open(&mut self) -> Result<Slot, CameraError> {
        let slot = Slot::default();
        let theirs = Arc::clone(&slot);
        let (url, login) = (self.url.clone(), self.login.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let broken = |error| CameraError::broken(&self.url, error);
        let runtime = runtime.map_err(broken)?;
        let receive = move || {
            let ended = match runtime.block_on(follow(&url, login, &theirs)) {
                Ok(()) => CameraError::broken(&url, "the camera ended the stream"),
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    CameraError::refused(&url, error)
                }
                Err(error) => CameraError::broken(&url, error),
            };
            theirs.0.lock().unwrap_or_else(PoisonError::into_inner).ended = Some(ended);
            theirs.1.notify_all();
        };
        std::thread::Builder::new().name("rtsp".to_owned()).spawn(receive).map_err(broken)?;
        self.slot = Some(Arc::clone(&slot));
        Ok(slot)
    }
}

fn failed(cause: impl ToString) -> io::Error {
    io::Error::other(cause.to_string())
}

/// What the camera answered; a refusal is a kind of its own.
fn answered(error: retina::Error) -> io::Error {
    match error.status_code() {
        Some(401 | 403) => io::Error::new(io::ErrorKind::PermissionDenied, error.to_string()),
        _ => failed(error),
    }
}

/// The session's H.264 track, playing.
async fn play(url: &str, login: Option<Login>) -> io::Result<Demuxed> {
    let url = url::Url::parse(url).map_err(failed)?;
    let login = login.map(|login| {
        let Login { username, password } = login;
        Credentials { username, password }
    });
    let options = SessionOptions::default().user_agent("wattgate".to_owned()).creds(login);
    let mut session = Session::describe(url, options).await.map_err(answered)?;
    let streams = session.streams();
    let wanted = streams.iter().position(|s| s.media() == "video" && s.encoding_name() == "h264");
    let Some(wanted) = wanted else {
        let found: Vec<&str> = streams.iter().map(|stream| stream.encoding_name()).collect();
        let found = found.join(", ");
        return Err(failed(format!(
            "no H.264 video (found: {found}): set the camera's sub-stream to H.264"
        )));
    };
    let setup = SetupOptions::default().transport(Transport::Tcp(Default::default()));
    session.setup(wanted, setup.frame_format(FrameFormat::SIMPLE)).await.map_err(answered)?;
    session.play(PlayOptions::default()).await.map_err(answered)?.demuxed().map_err(failed)
}

/// Receives as long as somebody wants the frames.
async fn follow(url: &str, login: Option<Login>, slot: &Slot) -> io::Result<()> {
    let mut session =
        timeout(CONNECT, play(url, login)).await.map_err(|_| failed("no answer in time"))??;
    loop {
        let item = timeout(SILENCE, session.next()).await.map_err(|_| failed("it fell silent"))?;
        let Some(item) = item else { return Ok(()) };
        if let CodecItem::VideoFrame(frame) = item.map_err(failed)? {
            slot.0.lock().unwrap_or_else(PoisonError::into_inner).put(frame);
            slot.1.notify_all();
        }
        if Arc::strong_count(slot) == 1 {
            return Ok(());
        }
    }
}
