//! A detector of one's own: an ONNX file and a manifest entry. Run by tract on the whole frame; what its
//! outputs mean is for `logic::vision` to say.
//!
//! What a stranger gets wrong: a detector is told how its pictures were made. The frame is fitted into
//! the input as that family does it (YOLOX: at the top left; YOLOv8: in the middle; NanoDet: stretched),
//! and boxes are led back through the same fit.

use std::path::Path;

use tract_onnx::prelude::*;

use super::file;
use super::manifest::{Colour, Decoder, Entry, manifest};
use super::model::{ModelError, plan};
use super::tensors::{self, Fit};
use crate::io::camera::Frame;
use crate::logic::vision::{Writing, boxes};

/// Boxes below this score are none, unless the entry says otherwise (`thresholds.score`).
const LEAST: f64 = 0.4;

/// A thing in a frame.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// Its label.
    pub label: String,
    /// 0 to 1.
    pub score: f64,
    /// Left, top, right, bottom, as shares of the frame.
    pub corners: [f64; 4],
    /// Whether the label counts as a vehicle.
    pub is_vehicle: bool,
}

/// A detector, ready.
pub struct Detector {
    plan: std::sync::Arc<TypedRunnableModel>,
    entry: Entry,
    path: std::path::PathBuf,
}

impl Detector {
    /// The first detector of a folder's manifest; nothing where it has none.
    ///
    /// # Errors
    /// When the file is not what the entry says: hash, signature, operators, shape of the input or
    /// number of the outputs.
    pub fn open(folder: &Path) -> Result<Option<Detector>, ModelError> {
        let entries = manifest(folder)?;
        let entry = entries.into_iter().find(|entry| entry.task == "detect");
        entry.map(|entry| Detector::load(folder, entry)).transpose()
    }

    fn load(folder: &Path, entry: Entry) -> Result<Detector, ModelError> {
        let path = entry.path(folder);
        let bytes = file::read(folder, &entry)?;
        let shape = [1, entry.channels, entry.height, entry.width];
        let plan = plan(&bytes, shape).map_err(|error| ModelError::Shape {
            path: path.clone(),
            cause: format!(
                "cannot be run with an input of {shape:?} (width, height, channels of the entry): {error:#}"
            ),
        })?;
        let detector = Detector { plan, entry, path };
        // A first run on nothing: whether the outputs are as many as the entry's decoder wants.
        let (width, height) = (detector.entry.width, detector.entry.height);
        detector.detect(&Frame { rgb: vec![0; width * height * 3], width, height })?;
        Ok(detector)
    }

    /// Score at which a box counts.
    #[must_use]
    pub fn least(&self) -> f64 {
        self.entry.cut("score").unwrap_or(LEAST)
    }

    /// What is to be seen in a frame, the best first.
    ///
    /// # Errors
    /// When the net fails, or its outputs are not what the entry says.
    pub fn detect(&self, frame: &Frame) -> Result<Vec<Found>, ModelError> {
        let entry = &self.entry;
        let failed = |error: TractError| ModelError::Runtime {
            path: self.path.clone(),
            cause: format!("{error:#}"),
        };
        let (writing, fit) = match entry.decoder {
            Decoder::Yolox => (Writing::Yolox, Fit::TopLeft),
            Decoder::Nanodet => (Writing::Nanodet, Fit::Stretched),
            Decoder::Fastestdet => (Writing::Fastestdet, Fit::Stretched),
            Decoder::Yolov8 | Decoder::Logits => (Writing::Yolov8, Fit::Middle),
        };
        let size = (entry.width, entry.height);
        let empty = || failed(TractError::msg("a frame of no size"));
        let (pixels, place) = tensors::fitted(frame, size, fit).ok_or_else(empty)?;
        let input = tensors::planes_of(&pixels, entry.values(), entry.colour == Colour::Bgr);
        let shape = [1, entry.channels, entry.height, entry.width];
        let input = Tensor::from_shape(&shape, &input).map_err(failed)?;
        let output = self.plan.run(tvec!(input.into())).map_err(failed)?;
        let first = output.first().ok_or_else(|| failed(TractError::msg("no output")))?;
        let values = first.try_as_plain_ram().and_then(|view| Ok(view.as_slice::<f32>()?.to_vec()));
        let least = (entry.labels.len(), self.least() as f32);
        let values = values.map_err(failed)?;
        // No box is a free bay: a net that gives no numbers must not look like one that sees nothing.
        if values.iter().any(|value| value.is_nan()) {
            return Err(ModelError::NotANumber { path: self.path.clone() });
        }
        let found = boxes(&values, writing, least, size)
            .map_err(|cause| ModelError::Shape { path: self.path.clone(), cause })?;
        let found = found.into_iter().map(|found| {
            let label = entry.labels.get(found.label).cloned().unwrap_or_default();
            let corners = place.back(found.corners);
            let is_vehicle = entry.vehicles.contains(&label);
            Found { score: f64::from(found.score), corners, is_vehicle, label }
        });
        Ok(found.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::inference::folders;

    #[test]
    fn inf1_a_detector_that_gives_no_number_is_an_error_and_no_empty_picture() {
        let folder = folders::with("glare");
        let detector = Detector::open(folder.path()).unwrap().unwrap();
        let picture = |value| Frame { rgb: vec![value; 96 * 64 * 3], width: 96, height: 64 };
        assert_eq!(detector.detect(&picture(20)).unwrap(), []);
        let seen = detector.detect(&picture(255));
        assert!(matches!(seen, Err(ModelError::NotANumber { .. })), "{seen:?}");
    }
}
