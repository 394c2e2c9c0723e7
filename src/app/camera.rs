//! `wattgate camera`: what an installer asks of a camera before it goes into a site file.
//!
//! What a stranger gets wrong: a probe measures what this machine gets, not what the camera is set to;
//! over a bad link both differ, and the link is what counts.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use super::vision::{Eyes, Sight};
use crate::io::camera::{Camera, CameraError, Coded, FrameError, Login};
use crate::io::clock::{Clock, cpu_time};
use crate::io::inference::{Engine, ModelError};

/// Pictures that a probe waits for, and errors that end it.
const PICTURES: u32 = 5;
const MOST_ERRORS: u32 = 3;
/// Quality of a still that is kept.
const QUALITY: u8 = 92;
/// Looks of `watch` are this far apart.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Why a camera cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum UseError {
    /// It gives nothing.
    #[error(transparent)]
    Camera(#[from] CameraError),
    /// What it gives is no picture.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The nets.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A file or the output.
    #[error("cannot write: {0}")]
    Output(#[from] std::io::Error),
}

/// What a probe found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Probe {
    /// Pixels: width, height.
    pub size: (usize, usize),
    /// What it sends, in the words of ONVIF: `JPEG`, `H264`, `H265`.
    pub codec: &'static str,
    /// Bytes of a picture, mean.
    pub bytes: usize,
    /// Time between two new pictures, mean. For video: between two that can be decoded alone.
    pub interval: Duration,
    /// CPU time to decode one, mean.
    pub decode: Duration,
    /// Pictures that needed the frames before them.
    pub dependent: u32,
}

fn open(url: &str, login: Option<Login>) -> Camera {
    Camera::open_as(url, is_stream(url), login)
}

/// Whether an address looks like one of MJPEG; some makers have the word stream in that of their snapshot.
fn is_stream(url: &str) -> bool {
    let lower = url.to_ascii_lowercase();
    lower.contains("mjpeg") || lower.contains("stream") && !lower.contains("snap")
}

fn fetch(camera: &mut Camera) -> Result<Coded, CameraError> {
    let mut errors = 0;
    loop {
        match camera.fetch() {
            Ok(coded) => return Ok(coded),
            // Asked again with a wrong password, a camera locks the user out.
            Err(error) if error.is_refusal() || errors + 1 >= MOST_ERRORS => return Err(error),
            Err(_) => errors += 1,
        }
    }
}

/// Asks for a few pictures and measures.
///
/// # Errors
/// When the camera gives no pictures.
pub fn probe(url: &str, login: Option<Login>, clock: Clock) -> Result<Probe, UseError> {
    let mut camera = open(url, login);
    let first = fetch(&mut camera)?;
    let frame = first.decode()?;
    let began = clock.now().uptime;
    let (mut bytes, mut decode, mut dependent) = (0, Duration::ZERO, 0);
    for _ in 0..PICTURES {
        let coded = fetch(&mut camera)?;
        match &coded {
            Coded::Still(still) => bytes += still.len(),
            video => {
                bytes += video.frames().last().map_or(0, Vec::len);
                dependent += u32::from(video.frames().len() > 1);
            }
        }
        let before = cpu_time();
        coded.decode()?;
        decode += cpu_time().saturating_sub(before) + coded.spent_elsewhere();
    }
    Ok(Probe {
        size: (frame.width, frame.height),
        codec: first.codec(),
        bytes: bytes / PICTURES as usize,
        interval: clock.now().uptime.saturating_sub(began) / PICTURES,
        decode: decode / PICTURES,
        dependent,
    })
}

/// Keeps one picture as a JPEG; its size.
///
/// # Errors
/// When there is none, or it cannot be written.
pub fn still(url: &str, login: Option<Login>, out: &Path) -> Result<(usize, usize), UseError> {
    let frame = fetch(&mut open(url, login))?.decode()?;
    std::fs::write(out, frame.jpeg(QUALITY)?)?;
    Ok((frame.width, frame.height))
}

/// Looks once a second, as the gateway does, and tells each look; ends after `looks`, or never.
///
/// # Errors
/// When the nets cannot be used, the output ends or the camera refuses us. One that gives nothing is told and asked
/// again.
pub fn watch(
    (url, login): (&str, Option<Login>),
    (models, clock): (&Path, Clock),
    looks: Option<u64>,
    tell: &mut dyn FnMut(Result<&Sight, &CameraError>) -> std::io::Result<()>,
) -> Result<(), UseError> {
    let eyes = Eyes::open(models, Engine::Best)?;
    let mut memory = eyes.watch(Vec::new());
    let mut camera = open(url, login);
    let mut count = 0;
    while looks.is_none_or(|looks| count < looks) {
        let at = clock.now().uptime;
        count += 1;
        match camera.fetch() {
            Ok(coded) => {
                let frame = coded.decode()?;
                let sight = eyes.see(&mut memory, at, &frame)?;
                tell(Ok(&sight))?;
            }
            Err(error) if error.is_refusal() => return Err(error.into()),
            Err(error) => tell(Err(&error))?,
        }
        let spent = clock.now().uptime.saturating_sub(at);
        std::thread::park_timeout(LOOK_EVERY.saturating_sub(spent));
    }
    Ok(())
}

/// One line of a look.
///
/// # Errors
/// When the output ends.
pub fn line(out: &mut dyn Write, sight: &Sight) -> std::io::Result<()> {
    let fault = sight.fault.map_or_else(String::new, |fault| format!("  {fault:?}"));
    let (fire, smoke) = (sight.fire, sight.smoke);
    writeln!(out, "{:?}  fire {fire:.2} smoke {smoke:.2}{fault}", sight.verdict)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_that_of_a_stream_or_of_a_snapshot() {
        for (url, wanted) in [
            ("http://h/camera/cam2.mjpeg", true),
            ("http://h/videostream.cgi", true),
            ("http://h/images/snapshot.jpg", false),
            ("http://h/LAPI/V1.0/Channels/0/Media/Video/Streams/0/Snapshot", false),
            ("http://h/picture", false),
        ] {
            assert_eq!(is_stream(url), wanted, "{url}");
        }
    }
}
