//! One picture in memory, decoded under limits. Broken pictures are errors with words, whatever bytes
//! they are made of.

use std::io::Cursor;

use image::codecs::jpeg::JpegEncoder;
use image::{ExtendedColorType, ImageReader, Limits};

/// Longest side that is decoded.
const MOST_PIXELS: u32 = 8192;
/// Memory that decoding one picture may take.
const MOST_MEMORY: u64 = 256 << 20;

/// A picture, three bytes a pixel, row by row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Red, green, blue.
    pub rgb: Vec<u8>,
    /// Pixels a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
}

/// Why bytes are not a picture.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// Neither JPEG nor PNG, broken, or too large.
    #[error("not a usable JPEG or PNG picture: {0}")]
    Undecodable(String),
    /// The picture cannot be encoded again.
    #[error("cannot encode: {0}")]
    Unencodable(String),
}

impl Frame {
    /// Decodes a JPEG or PNG.
    ///
    /// # Errors
    /// When the bytes are no such picture, or one beyond the limits.
    pub fn decode(bytes: &[u8]) -> Result<Frame, FrameError> {
        let failed = |error: String| FrameError::Undecodable(error);
        let mut reader = ImageReader::new(Cursor::new(bytes))
            .with_guessed_format()
            .map_err(|error| failed(error.to_string()))?;
        let mut limits = Limits::default();
        limits.max_image_width = Some(MOST_PIXELS);
        limits.max_image_height = Some(MOST_PIXELS);
        limits.max_alloc = Some(MOST_MEMORY);
        reader.limits(limits);
        let picture = reader.decode().map_err(|error| failed(error.to_string()))?.into_rgb8();
        let (width, height) = (picture.width() as usize, picture.height() as usize);
        if width < 8 || height < 8 {
            return Err(failed(format!("{width} x {height} pixels are too few")));
        }
        Ok(Frame { rgb: picture.into_raw(), width, height })
    }

    /// The picture as a JPEG of the given quality (1 to 100).
    ///
    /// # Errors
    /// When the encoder fails.
    pub fn jpeg(&self, quality: u8) -> Result<Vec<u8>, FrameError> {
        let mut bytes = Vec::new();
        JpegEncoder::new_with_quality(&mut bytes, quality)
            .encode(&self.rgb, self.width as u32, self.height as u32, ExtendedColorType::Rgb8)
            .map_err(|error| FrameError::Unencodable(error.to_string()))?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jpeg_there_and_back() {
        let frame = Frame { rgb: vec![90; 64 * 32 * 3], width: 64, height: 32 };
        let back = Frame::decode(&frame.jpeg(90).unwrap()).unwrap();
        assert_eq!((back.width, back.height), (64, 32));
        assert!(back.rgb.iter().all(|v| v.abs_diff(90) < 4));
    }

    #[test]
    fn hostile_bytes_are_errors() {
        let good = Frame { rgb: vec![90; 64 * 32 * 3], width: 64, height: 32 }.jpeg(90).unwrap();
        assert!(Frame::decode(b"").is_err());
        assert!(Frame::decode(b"GIF89a............").is_err());
        let mut rng = fastrand::Rng::with_seed(4);
        for _ in 0..3000 {
            let mut bytes = good.clone();
            for _ in 0..rng.usize(1..6) {
                let at = rng.usize(0..bytes.len());
                bytes[at] = rng.u8(..);
            }
            bytes.truncate(rng.usize(1..=bytes.len()));
            let _ = Frame::decode(&bytes); // must return, whatever it returns
        }
    }
}
