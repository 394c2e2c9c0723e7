//! A camera that streams H.264 or H.265 over RTSP, interleaved in one TCP connection. A thread receives, and only the
//! frames since the last keyframe are kept. H.264 is handed out as it came; H.265 goes through ffmpeg (`hevc`) first.
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
    Credentials, Demuxed, PlayOptions, Session, SessionOptions, SetupOptions, Stream, Transport,
};
use retina::codec::{CodecItem, FrameFormat, ParametersRef, VideoFrame};
use tokio::time::timeout;

use super::door::Login;
use super::hevc::{self, Hevc};
use super::{CameraError, Coded, Frame};
use crate::io::clock::instant;

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
    /// Whether they are H.265, and the parameter sets that hold now.
    is_hevc: bool,
    parameters: Vec<u8>,
    ended: Option<CameraError>,
}

impl Newest {
    fn put(&mut self, frame: VideoFrame, parameters: Option<ParametersRef<'_>>) {
        if let Some(ParametersRef::Video(video)) = parameters.filter(|_| self.is_hevc) {
            self.parameters = video.extra_data().to_vec();
        }
        let is_keyframe = frame.is_random_access_point();
        self.take(frame.into_data(), is_keyframe);
    }

    fn take(&mut self, mut coded: Vec<u8>, mut is_keyframe: bool) {
        if self.is_hevc && !is_keyframe && hevc::stands_alone(&coded) {
            // Retina knows one of the two kinds of keyframes, and takes the parameter sets from before the other.
            is_keyframe = true;
            coded.splice(..0, self.parameters.iter().copied());
        }
        if is_keyframe {
            let parameters = std::mem::take(&mut self.parameters);
            *self = Newest { is_hevc: self.is_hevc, parameters, ..Newest::default() };
        }
        let fits = self.bytes + coded.len() <= MOST_BYTES && self.frames.len() < MOST_FRAMES;
        if fits && (is_keyframe || !self.frames.is_empty()) {
            self.bytes += coded.len();
            self.frames.push(coded);
        }
    }

    /// Hands out the first frames, and whether they are H.265.
    fn give(&mut self, count: usize) -> (Vec<Vec<u8>>, bool) {
        self.given = count;
        (self.frames[..count].to_vec(), self.is_hevc)
    }

    fn give_all(&mut self) -> (Vec<Vec<u8>>, bool) {
        self.give(self.frames.len())
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
    /// Where its video is H.265.
    decoder: Option<Hevc>,
}

impl Rtsp {
    /// A source at an `rtsp://` address.
    #[must_use]
    pub fn new(url: &str, login: Option<Login>) -> Rtsp {
        Rtsp { url: url.to_owned(), login, slot: None, decoder: None }
    }

    /// The newest picture: a keyframe alone where there is a new one and nobody is in haste, else all frames since
    /// the last one.
    ///
    /// # Errors
    /// When none comes in time, or the session broke, or ffmpeg is needed and fails; the next call tries anew.
    pub fn fetch(&mut self, haste: Haste) -> Result<Coded, CameraError> {
        let (coded, is_hevc) = self.receive(haste)?;
        if !is_hevc {
            return Ok(Coded::Video(coded));
        }
        let began = instant();
        match self.decode(&coded) {
            Ok((frame, cpu)) => {
                let age = began.elapsed();
                Ok(Coded::Hevc { coded, frame, cpu, age })
            }
            Err(error) => {
                self.decoder = None;
                Err(CameraError::broken(&self.url, error))
            }
        }
    }

    fn decode(&mut self, coded: &[Vec<u8>]) -> io::Result<(Frame, Duration)> {
        let keyframe = coded.first().map_or(&[][..], Vec::as_slice);
        let decoder = match self.decoder.take().filter(|decoder| decoder.suits(keyframe)) {
            Some(decoder) => decoder,
            None => Hevc::start()?,
        };
        self.decoder.insert(decoder).newest(coded)
    }

    /// Coded frames, the first a keyframe, that were not all handed out yet, and whether they are H.265; the last is
    /// the newest.
    fn receive(&mut self, haste: Haste) -> Result<(Vec<Vec<u8>>, bool), CameraError> {
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
            return Ok(newest.give_all());
        }
        if newest.given == 0 && !newest.frames.is_empty() {
            return Ok(newest.give(1));
        }
        if let Some(error) = newest.ended.take() {
            self.slot = None;
            return Err(error);
        }
        if newest.frames.len() > newest.given {
            return Ok(newest.give_all());
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

/// The session's H.264 track, else that of H.265, playing; which one it is, and whether it is that.
async fn play(url: &str, login: Option<Login>) -> io::Result<(Demuxed, usize, bool)> {
    let url = url::Url::parse(url).map_err(failed)?;
    let login = login.map(|login| {
        let Login { username, password } = login;
        Credentials { username, password }
    });
    let options = SessionOptions::default().user_agent("wattgate".to_owned()).creds(login);
    let mut session = Session::describe(url, options).await.map_err(answered)?;
    let streams = session.streams();
    let track = |codec: &str| {
        let fits = |s: &Stream| s.media() == "video" && s.encoding_name() == codec;
        streams.iter().position(fits)
    };
    let (h264, hevc) = (track("h264"), track("h265"));
    let Some(wanted) = h264.or(hevc) else {
        let found: Vec<&str> = streams.iter().map(|stream| stream.encoding_name()).collect();
        let found = found.join(", ");
        return Err(failed(format!(
            "neither H.264 nor H.265 video (found: {found}): set the camera's sub-stream to H.264"
        )));
    };
    let setup = SetupOptions::default().transport(Transport::Tcp(Default::default()));
    session.setup(wanted, setup.frame_format(FrameFormat::SIMPLE)).await.map_err(answered)?;
    let playing = session.play(PlayOptions::default()).await.map_err(answered)?;
    Ok((playing.demuxed().map_err(failed)?, wanted, h264.is_none()))
}

/// Receives as long as somebody wants the frames.
async fn follow(url: &str, login: Option<Login>, slot: &Slot) -> io::Result<()> {
    let (mut session, track, is_hevc) =
        timeout(CONNECT, play(url, login)).await.map_err(|_| failed("no answer in time"))??;
    slot.0.lock().unwrap_or_else(PoisonError::into_inner).is_hevc = is_hevc;
    loop {
        let item = timeout(SILENCE, session.next()).await.map_err(|_| failed("it fell silent"))?;
        let Some(item) = item else { return Ok(()) };
        if let CodecItem::VideoFrame(frame) = item.map_err(failed)? {
            let parameters = session.streams().get(track).and_then(Stream::parameters);
            slot.0.lock().unwrap_or_else(PoisonError::into_inner).put(frame, parameters);
            slot.1.notify_all();
        }
        if Arc::strong_count(slot) == 1 {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_keyframe_of_h265_begins_anew_and_has_its_parameter_sets() {
        let unit = |kind: u8| [0, 0, 0, 1, kind << 1, 1, 7];
        let mut newest = Newest { is_hevc: true, ..Newest::default() };
        newest.take(unit(1).to_vec(), false);
        assert!(newest.frames.is_empty(), "nothing to decode it with");
        let first = [unit(33), unit(39), unit(19)].concat();
        newest.take(first.clone(), true);
        newest.take(unit(1).to_vec(), false);
        assert_eq!(newest.frames, [first, unit(1).to_vec()]);
        newest.give_all();
        newest.parameters = unit(33).to_vec();
        // A clean random access picture (unit type 21).
        newest.take(unit(21).to_vec(), false);
        assert_eq!(newest.frames, [[unit(33), unit(21)].concat()]);
        assert!(newest.has_news(Haste::Keyframes));
        newest.take(unit(1).to_vec(), false);
        newest.take(unit(21).to_vec(), false);
        assert_eq!(newest.frames, [[unit(33), unit(21)].concat()], "again");
        let mut h264 = Newest::default();
        h264.take(unit(21).to_vec(), false);
        assert!(h264.frames.is_empty(), "another codec has other types");
    }
}
