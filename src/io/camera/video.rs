//! H.264 into frames: what films and live streams share.

use std::time::Duration;

use openh264::OpenH264API;
use openh264::decoder::{DecodedYUV, Decoder, DecoderConfig, Flush};
use openh264::formats::YUVSource;

use super::{Frame, FrameError};
use crate::io::clock::thread_time;

/// Longest side and smallest side of a picture, as for stills.
pub(super) const SIDES: std::ops::RangeInclusive<usize> = 8..=8192;

/// Most CPU time for what follows a keyframe: whoever judges does so for all cameras. Time that others take on a
/// busy machine is not the stream's doing.
const MOST_TIME: Duration = Duration::from_millis(700);

/// A decoder at the beginning of a stream.
///
/// # Errors
/// When the library gives none.
pub fn decoder() -> Result<Decoder, FrameError> {
    let config = DecoderConfig::new().flush_after_decode(Flush::NoFlush);
    Decoder::with_api_config(OpenH264API::from_source(), config)
        .map_err(|error| FrameError::Undecodable(error.to_string()))
}

/// A decoded picture as a frame.
#[must_use]
pub fn frame(picture: &DecodedYUV<'_>) -> Frame {
    let (width, height) = picture.dimensions();
    let mut rgb = vec![0; width * height * 3];
    picture.write_rgb8(&mut rgb);
    Frame { rgb, width, height }
}

/// The last picture of coded frames (Annex B), of which the first is a keyframe. `alive` is called before each
/// of them: with many frames on a busy machine it takes a while.
///
/// # Errors
/// When nothing can be decoded. Damaged frames in between are passed over.
pub fn newest(frames: &[Vec<u8>], alive: &mut dyn FnMut()) -> Result<Frame, FrameError> {
    newest_within(frames, MOST_TIME, alive)
}

fn newest_within(
    frames: &[Vec<u8>],
    most: Duration,
    alive: &mut dyn FnMut(),
) -> Result<Frame, FrameError> {
    let mut decoder = decoder()?;
    let mut last = None;
    let mut trouble = "no picture in it".to_owned();
    let begun = thread_time();
    for (i, coded) in frames.iter().enumerate() {
        alive();
        if thread_time().saturating_sub(begun) > most {
            let many = frames.len();
            return Err(FrameError::Undecodable(format!(
                "{many} frames since the keyframe are too many to decode: set the key-frame interval to 1 s"
            )));
        }
        match decoder.decode(coded) {
            Ok(Some(picture)) if i + 1 == frames.len() => last = Some(sized(&picture)?),
            Ok(_) => {}
            Err(error) => trouble = error.to_string(),
        }
    }
    if last.is_none() {
        let rest = decoder.flush_remaining();
        let rest = rest.map_err(|error| FrameError::Undecodable(error.to_string()))?;
        last = rest.last().map(sized).transpose()?;
    }
    last.ok_or(FrameError::Undecodable(trouble))
}

fn sized(picture: &DecodedYUV<'_>) -> Result<Frame, FrameError> {
    let (width, height) = picture.dimensions();
    if SIDES.contains(&width) && SIDES.contains(&height) {
        return Ok(frame(picture));
    }
    Err(FrameError::Undecodable(format!("{width} x {height} pixels")))
}

#[cfg(test)]
mod tests {
    use openh264::encoder::Encoder;
    use openh264::formats::{RgbSliceU8, YUVBuffer};

    use super::*;

    /// Coded frames of a grey picture that gets brighter.
    fn coded(count: u8) -> Vec<Vec<u8>> {
        let mut encoder = Encoder::new().unwrap();
        let picture = |i: u8| vec![60 + 20 * i; 64 * 48 * 3];
        let yuv = |i| YUVBuffer::from_rgb8_source(RgbSliceU8::new(&picture(i), (64, 48)));
        (0..count).map(|i| encoder.encode(&yuv(i)).unwrap().to_vec()).collect()
    }

    #[test]
    fn the_newest_frame_is_the_last() {
        for count in [1, 4] {
            let frame = newest(&coded(count), &mut || {}).unwrap();
            assert_eq!((frame.width, frame.height), (64, 48));
            let wanted = 60 + 20 * (count - 1);
            assert!(frame.rgb.iter().all(|v| v.abs_diff(wanted) < 6), "{:?}", &frame.rgb[..3]);
        }
    }

    #[test]
    fn a_stream_that_takes_too_long_to_decode_is_told_what_to_do() {
        let frames = coded(4);
        assert!(newest_within(&frames, Duration::MAX, &mut || {}).is_ok());
        let late = newest_within(&frames, Duration::ZERO, &mut || {}).map(|frame| frame.width);
        let error = late.unwrap_err().to_string();
        assert!(error.contains("4 frames") && error.contains("key-frame interval"), "{error}");
    }

    /// INF3: between two frames others have the core for longer than decoding may take.
    #[test]
    fn time_that_others_take_is_not_the_streams_doing() {
        let frames = coded(4);
        let mut alive = 0;
        let mut others = || {
            alive += 1;
            let busy = || while thread_time() < MOST_TIME / 2 {};
            std::thread::spawn(busy).join().unwrap();
        };
        assert_eq!(newest(&frames, &mut others).unwrap().width, 64);
        assert_eq!(alive, 4, "somebody hears of every frame");
    }

    #[test]
    fn cam4_hostile_streams_are_errors_and_do_not_end_the_process() {
        let good = coded(3);
        let mut rng = fastrand::Rng::with_seed(9);
        let mut refused = 0;
        for _ in 0..400 {
            let mut bad = good.clone();
            for _ in 0..rng.usize(1..20) {
                let frame = rng.usize(0..bad.len());
                let at = rng.usize(0..bad[frame].len());
                bad[frame][at] = rng.u8(..);
            }
            refused += usize::from(newest(&bad, &mut || {}).is_err());
        }
        assert!(refused > 0, "damage was never noticed");
        assert!(newest(&[], &mut || {}).is_err());
        assert!(newest(&[b"not video at all".to_vec()], &mut || {}).is_err());
    }
}
