//! A camera that keeps sending JPEG pictures over one HTTP answer (MJPEG, `multipart/x-mixed-replace`).
//! A thread reads them; only the newest is kept.
//!
//! What a stranger gets wrong: a socket that has died without a word cannot be told from a camera that
//! says nothing. So a stream lives for a minute at most and is opened anew, and whoever asks for a
//! picture waits for a bounded time.

use std::io::{self, BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::CameraError;
use super::door::{Door, Login};

/// Longest wait for the next picture.
const ANSWER: Duration = Duration::from_secs(3);
const CONNECT: Duration = Duration::from_secs(2);
/// After this long the stream is opened anew.
const LIVES: Duration = Duration::from_secs(60);
/// A larger part is no picture.
const MOST_BYTES: usize = 8 << 20;
/// Longest line of a part's head, and most lines.
const MOST_LINE: u64 = 1024;
const MOST_LINES: usize = 64;

/// What the reading thread leaves behind.
#[derive(Default)]
enum Newest {
    #[default]
    Nothing,
    Picture(Vec<u8>),
    Ended(CameraError),
}

/// One place for the newest picture, and a bell.
type Slot = Arc<(Mutex<Newest>, Condvar)>;

/// An MJPEG source; opened with the first picture that is asked for.
pub struct Stream {
    url: String,
    login: Option<Login>,
    slot: Option<Slot>,
}

impl Stream {
    /// A source at an `http://` address; a camera that asks who we are is told by a digest.
    #[must_use]
    pub fn new(url: &str, login: Option<Login>) -> Stream {
        Stream { url: url.to_owned(), login, slot: None }
    }

    /// The newest picture that was not given out yet.
    ///
    /// # Errors
    /// When none comes in time, or the stream broke; the next call opens it anew.
    pub fn fetch(&mut self) -> Result<Vec<u8>, CameraError> {
        let slot = match &self.slot {
            Some(slot) => Arc::clone(slot),
            None => self.open()?,
        };
        let (newest, bell) = &*slot;
        let guard = newest.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = |newest: &mut Newest| matches!(newest, Newest::Nothing);
        let (mut guard, _) =
            bell.wait_timeout_while(guard, ANSWER, waiting).unwrap_or_else(PoisonError::into_inner);
        match std::mem::take(&mut *guard) {
            Newest::Picture(bytes) => Ok(bytes),
            Newest::Nothing => {
                self.slot = None;
                Err(CameraError::still(&self.url, ANSWER))
            }
            Newest::Ended(error) => {
                self.slot = None;
                Err(error)
            }
        }
    }

    fn open(&mut self) -> Result<Slot, CameraError> {
        let slot = Slot::default();
        let theirs = Arc::clone(&slot);
        let (url, login) = (self.url.clone(), self.login.clone());
        std::thread::Builder::new()
            .name("mjpeg".to_owned())
            .spawn(move || follow(&url, login, &theirs))
            .map_err(|error| CameraError::broken(&self.url, error))?;
        self.slot = Some(Arc::clone(&slot));
        Ok(slot)
    }
}

/// Keeps the stream open as long as somebody wants its pictures; a minute's end is no trouble.
fn follow(url: &str, login: Option<Login>, slot: &Slot) {
    let times = ureq::Agent::config_builder()
        .timeout_connect(Some(CONNECT))
        .timeout_recv_response(Some(ANSWER))
        .timeout_recv_body(Some(LIVES));
    let mut door = Door::new(times, login);
    loop {
        let mut pictures = 0;
        let ended = match door.get(url) {
            Ok(answer) => {
                let mut body = BufReader::new(answer.into_body().into_reader());
                loop {
                    match part(&mut body) {
                        Ok(picture) => {
                            pictures += 1 + usize::from(!put(slot, Newest::Picture(picture)))
                        }
                        Err(error) => break CameraError::broken(url, error),
                    }
                    if Arc::strong_count(slot) == 1 {
                        return;
                    }
                }
            }
            Err(error) => CameraError::at_door(url, &error),
        };
        if pictures == 0 {
            put(slot, Newest::Ended(ended));
            return;
        }
    }
}

/// False when the picture before it was never fetched.
fn put(slot: &Slot, news: Newest) -> bool {
    let mut place = slot.0.lock().unwrap_or_else(PoisonError::into_inner);
    let fetched = matches!(*place, Newest::Nothing);
    *place = news;
    slot.1.notify_all();
    fetched
}

/// The next part of a multipart body: head lines, an empty line, and the picture.
fn part(body: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let wrong = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why.to_owned());
    let (mut length, mut in_head) = (None, false);
    for _ in 0..MOST_LINES {
        let mut line = Vec::new();
        if body.by_ref().take(MOST_LINE).read_until(b'\n', &mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = String::from_utf8_lossy(&line);
        let line = line.trim();
        if line.is_empty() && in_head {
            let bytes = length.ok_or_else(|| wrong("a part without Content-Length"))?;
            if bytes > MOST_BYTES {
                return Err(wrong("a part larger than 8 MiB"));
            }
            let mut picture = vec![0; bytes];
            body.read_exact(&mut picture)?;
            return Ok(picture);
        }
        in_head |= line.starts_with("--");
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().ok();
        }
    }
    Err(wrong("no head of a part"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_cut_by_their_length() {
        let text = b"--b\r\nContent-Type: image/jpeg\r\ncontent-length: 4\r\n\r\n\xff\xd8--\r\n--b\r\nContent-Length: 1\r\n\r\nx\r\n--b--\r\n";
        let mut body = &text[..];
        assert_eq!(part(&mut body).unwrap(), b"\xff\xd8--");
        assert_eq!(part(&mut body).unwrap(), b"x");
        assert!(part(&mut body).is_err());
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            &b"--b\r\n\r\n"[..],
            b"--b\r\nContent-Length: 99999999999\r\n\r\n",
            b"",
            &[b'a'; 70_000],
        ] {
            assert!(part(&mut &*text).is_err());
        }
        let lines = "x\n".repeat(100);
        assert!(part(&mut lines.as_bytes()).is_err());
    }
}
