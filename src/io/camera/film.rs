//! Films: MP4 with H.264, read by a pure-Rust demuxer and decoded by openh264, one frame at a time.
//!
//! What a stranger gets wrong: pictures come out of the decoder later than they went in, and in the
//! order of display; so the n-th picture out belongs to the n-th smallest composition time.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::time::Duration;

use openh264::decoder::Decoder;
use re_mp4::{Mp4, Sample, StsdBoxContent, TrackKind};

use super::Frame;
use super::video::{self, frame};

/// A coded frame larger than this is no frame.
const MOST_SAMPLE: u64 = 32 << 20;
const START: [u8; 4] = [0, 0, 0, 1];

/// Why a film cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum FilmError {
    /// Not an MP4, or not readable.
    #[error("not a readable MP4: {0}")]
    Unreadable(String),
    /// No H.264 video in it.
    #[error("no H.264 video in it (found: {0}): convert it, for example with ffmpeg -c:v libx264")]
    NotH264(String),
    /// The decoder gave up.
    #[error("H.264 decoder: {0}")]
    Decoder(String),
}

/// An open film.
pub struct Film {
    file: BufReader<File>,
    samples: VecDeque<Sample>,
    times: VecDeque<i64>,
    timescale: u64,
    length_size: usize,
    headers: Vec<u8>,
    decoder: Decoder,
    waiting: VecDeque<Frame>,
    flushed: bool,
    broken: u32,
}

impl Film {
    /// Opens a film.
    ///
    /// # Errors
    /// When it is no MP4 with H.264.
    pub fn open(path: &Path) -> Result<Film, FilmError> {
        let unreadable = |error: String| FilmError::Unreadable(error);
        let file = File::open(path).map_err(|error| unreadable(error.to_string()))?;
        let size = file.metadata().map_err(|error| unreadable(error.to_string()))?.len();
        let mut file = BufReader::new(file);
        let mp4 = Mp4::read(&mut file, size).map_err(|error| unreadable(error.to_string()))?;
        let mut videos = mp4.tracks().values().filter(|t| t.kind == Some(TrackKind::Video));
        let track = videos.next().ok_or_else(|| FilmError::NotH264("no video".to_owned()))?;
        let StsdBoxContent::Avc1(avc) = &track.trak(&mp4).mdia.minf.stbl.stsd.contents else {
            let codec = track.codec_string(&mp4).unwrap_or_else(|| "another codec".to_owned());
            return Err(FilmError::NotH264(codec));
        };
        let mut headers = Vec::new();
        for set in avc.avcc.sequence_parameter_sets.iter().chain(&avc.avcc.picture_parameter_sets) {
            headers.extend_from_slice(&START);
            headers.extend_from_slice(&set.bytes);
        }
        let mut times: Vec<i64> = track.samples.iter().map(|s| s.composition_timestamp).collect();
        times.sort_unstable();
        let decoder = video::decoder().map_err(|error| FilmError::Decoder(error.to_string()))?;
        Ok(Film {
            samples: track.samples.iter().cloned().collect(),
            times: times.into(),
            timescale: track.timescale.max(1),
            length_size: usize::from(avc.avcc.length_size_minus_one & 3) + 1,
            headers,
            file,
            decoder,
            waiting: VecDeque::new(),
            flushed: false,
            broken: 0,
        })
    }

    /// Coded frames that could not be decoded so far.
    #[must_use]
    pub fn broken(&self) -> u32 {
        self.broken
    }

    /// The next picture and its time in the film; nothing at the end.
    ///
    /// # Errors
    /// When the file cannot be read on.
    pub fn next_frame(&mut self) -> Result<Option<(Duration, Frame)>, FilmError> {
        while self.waiting.is_empty() {
            match self.samples.pop_front() {
                Some(sample) => self.decode(&sample)?,
                None if !self.flushed => {
                    self.flushed = true;
                    let rest = self.decoder.flush_remaining();
                    let rest = rest.map_err(|error| FilmError::Decoder(error.to_string()))?;
                    self.waiting.extend(rest.iter().map(frame));
                }
                None => return Ok(None),
            }
        }
        let time = self.times.pop_front().unwrap_or(0).max(0) as u64;
        let at = Duration::from_secs_f64(time as f64 / self.timescale as f64);
        Ok(self.waiting.pop_front().map(|frame| (at, frame)))
    }

    fn decode(&mut self, sample: &Sample) -> Result<(), FilmError> {
        let unreadable = |error: std::io::Error| FilmError::Unreadable(error.to_string());
        if sample.size > MOST_SAMPLE {
            return Err(FilmError::Unreadable(format!("a coded frame of {} bytes", sample.size)));
        }
        self.file.seek(SeekFrom::Start(sample.offset)).map_err(unreadable)?;
        let mut coded = vec![0; sample.size as usize];
        self.file.read_exact(&mut coded).map_err(unreadable)?;
        let mut packet = if sample.is_sync { self.headers.clone() } else { Vec::new() };
        annex_b(&coded, self.length_size, &mut packet);
        match self.decoder.decode(&packet) {
            Ok(Some(picture)) => self.waiting.push_back(frame(&picture)),
            Ok(None) => {}
            Err(error) => {
                // One damaged frame does not end the film; its time is given up with it.
                tracing::debug!(%error, "coded frame skipped");
                self.broken += 1;
                self.times.pop_front();
            }
        }
        Ok(())
    }
}

/// Length-prefixed units to start-code units; a length that leads outside ends the frame.
fn annex_b(coded: &[u8], length_size: usize, out: &mut Vec<u8>) {
    let mut rest = coded;
    while rest.len() > length_size {
        let (prefix, tail) = rest.split_at(length_size);
        let length = prefix.iter().fold(0usize, |acc, byte| (acc << 8) | usize::from(*byte));
        let Some(unit) = tail.get(..length) else {
            return;
        };
        out.extend_from_slice(&START);
        out.extend_from_slice(unit);
        rest = &tail[length..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_get_start_codes() {
        let mut out = Vec::new();
        annex_b(&[0, 0, 0, 2, 7, 8, 0, 0, 0, 1, 9], 4, &mut out);
        assert_eq!(out, [0, 0, 0, 1, 7, 8, 0, 0, 0, 1, 9]);
        out.clear();
        annex_b(&[0, 9, 7, 8], 2, &mut out);
        assert!(out.is_empty(), "a length beyond the end is not followed");
    }

    #[test]
    fn a_text_is_not_a_film() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"hello, this is not a film at all").unwrap();
        assert!(matches!(
            Film::open(file.path()),
            Err(FilmError::Unreadable(_) | FilmError::NotH264(_))
        ));
    }
}
