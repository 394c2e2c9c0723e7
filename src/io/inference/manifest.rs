//! `manifest.toml`: which nets a folder holds, what goes into each, what comes out of it and what that
//! means. Read whole and checked before any file is opened.
//!
//! What a stranger gets wrong: a net of one's own is an entry here and nothing else. Whatever it does
//! not say has the value that the shipped nets have.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::model::ModelError;

#[derive(Debug, Deserialize)]
struct Manifest {
    model: Vec<Entry>,
}

/// One net.
#[derive(Clone, Debug, Deserialize)]
pub struct Entry {
    /// Its name.
    pub id: String,
    /// `bay`, `fire`, `classify` or `detect`.
    pub task: String,
    /// `small`, `big`, `own` or `remote`.
    pub tier: String,
    /// The ONNX file; none for a remote net.
    #[serde(default)]
    pub file: String,
    /// Its SHA-256, hexadecimal.
    #[serde(default)]
    pub sha256: String,
    /// Public key (minisign) that must have signed the file; the signature lies beside it as
    /// `FILE.minisig`.
    pub signed_by: Option<String>,
    /// Pixels of the input.
    pub width: usize,
    /// Pixels of the input.
    pub height: usize,
    /// Planes of the input.
    pub channels: usize,
    /// `rgb` or `bgr`.
    #[serde(default)]
    pub colour: Colour,
    /// What is taken from each value of 0..255 divided by `scale`, one for each plane.
    pub mean: Option<[f32; 3]>,
    /// What the rest is divided by.
    pub std: Option<[f32; 3]>,
    /// What 0..255 is divided by first: 255, or 1 for nets that take plain bytes.
    pub scale: Option<f32>,
    /// Names of the classes, in the order of the outputs.
    #[serde(default)]
    pub labels: Vec<String>,
    /// How outputs become scores or boxes.
    #[serde(default)]
    pub decoder: Decoder,
    /// Labels that count as a vehicle, for bays.
    #[serde(default)]
    pub vehicles: Vec<String>,
    /// Parameters.
    pub params: Option<u64>,
    /// What logits are divided by.
    #[serde(default = "one")]
    pub temperature: f64,
    /// Cut-offs by name.
    #[serde(default)]
    pub thresholds: BTreeMap<String, f64>,
    /// Outputs for the golden input; a net of one's own may have none.
    #[serde(default)]
    pub golden: Vec<f32>,
}

fn one() -> f64 {
    1.0
}

/// Order of the colour planes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Colour {
    /// Red first.
    #[default]
    Rgb,
    /// Blue first.
    Bgr,
}

/// How outputs become scores or boxes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decoder {
    /// One logit for each label.
    #[default]
    Logits,
    /// `[1, 4 + labels, boxes]`: centre, size in pixels, one score for each label.
    Yolov8,
    /// `[1, boxes, 5 + labels]`: offsets in cells of 8, 16, 32 pixels, objectness, scores.
    Yolox,
    /// `[1, boxes, labels + 4 * bins]`: scores, then a distribution for each side.
    Nanodet,
    /// `[1, 5 + labels, rows, columns]` of cells of 16 pixels: objectness, offsets, sizes, scores.
    Fastestdet,
}

impl Entry {
    /// Numbers that the net takes.
    #[must_use]
    pub fn inputs(&self) -> usize {
        self.channels * self.height * self.width
    }

    /// A cut-off.
    #[must_use]
    pub fn cut(&self, name: &str) -> Option<f64> {
        self.thresholds.get(name).copied()
    }

    /// How a byte becomes a number, for each plane: times the first, plus the second.
    #[must_use]
    pub fn values(&self) -> [(f32, f32); 3] {
        // What is not said is as for the shipped nets; a net that says `scale` alone wants no more.
        let (mean, std) = match (self.mean, self.std, self.scale) {
            (None, None, None) => ([0.5; 3], [0.25; 3]),
            (mean, std, _) => (mean.unwrap_or_default(), std.unwrap_or([1.0; 3])),
        };
        let scale = self.scale.unwrap_or(255.0);
        std::array::from_fn(|i| (1.0 / (scale * std[i]), -mean[i] / std[i]))
    }

    /// Where its ONNX file is.
    #[must_use]
    pub fn path(&self, folder: &Path) -> PathBuf {
        folder.join(&self.file)
    }
}

/// The entries of a folder's manifest.
///
/// # Errors
/// When it cannot be read, or an entry contradicts itself.
pub fn manifest(folder: &Path) -> Result<Vec<Entry>, ModelError> {
    let path = folder.join("manifest.toml");
    let failed = |cause: String| ModelError::Manifest { path: path.clone(), cause };
    let text = fs::read_to_string(&path).map_err(|error| failed(error.to_string()))?;
    let manifest: Manifest =
        toml_edit::de::from_str(&text).map_err(|error| failed(error.to_string()))?;
    for entry in &manifest.model {
        if let Some(why) = contradiction(entry) {
            let cause = format!("[[model]] {}: {why}", entry.id);
            return Err(ModelError::Entry { path, cause });
        }
    }
    Ok(manifest.model)
}

/// Sides of an input.
const SIDES: std::ops::RangeInclusive<usize> = 16..=2048;

fn contradiction(entry: &Entry) -> Option<String> {
    let is_remote = entry.tier == "remote";
    let is_detect = entry.task == "detect";
    if !["bay", "fire", "classify", "detect"].contains(&entry.task.as_str()) {
        return Some(format!("task `{}` is none of bay, fire, classify, detect", entry.task));
    }
    if !["small", "big", "own", "remote"].contains(&entry.tier.as_str()) {
        return Some(format!("tier `{}` is none of small, big, own, remote", entry.tier));
    }
    if !SIDES.contains(&entry.width) || !SIDES.contains(&entry.height) {
        let (width, height) = (entry.width, entry.height);
        return Some(format!("{width} x {height} pixels: sides from 16 to 2048 are possible"));
    }
    if !(1..=4).contains(&entry.channels) {
        return Some(format!("{} planes: 1 to 4 are possible", entry.channels));
    }
    if !is_remote && (entry.file.is_empty() || entry.file.contains(['/', '\\'])) {
        return Some("`file` must name a file beside the manifest".to_owned());
    }
    if !is_remote && entry.sha256.len() != 64 {
        return Some("`sha256` must be the 64 hexadecimal digits that sha256sum gives".to_owned());
    }
    if is_detect == (entry.decoder == Decoder::Logits) {
        return Some(
            "`decoder` must be yolov8, yolox, nanodet or fastestdet for detect, logits else"
                .to_owned(),
        );
    }
    if (is_detect || entry.task == "classify") && entry.labels.is_empty() {
        return Some("`labels` must name the classes in the order of the outputs".to_owned());
    }
    if is_detect && entry.channels != 3 {
        return Some("a detector takes 3 planes".to_owned());
    }
    let positive = entry.temperature > 0.0 && entry.scale.is_none_or(|scale| scale > 0.0);
    if !positive || entry.std.is_some_and(|std| std.iter().any(|value| *value <= 0.0)) {
        return Some("`temperature`, `scale` and `std` must be above 0".to_owned());
    }
    let beyond = entry.thresholds.iter().find(|(_, cut)| !(0.0..=1.0).contains(*cut));
    if let Some((name, cut)) = beyond {
        return Some(format!("threshold `{name}` is {cut}; scores go from 0 to 1"));
    }
    let unknown = entry.vehicles.iter().find(|name| !entry.labels.contains(name));
    unknown.map(|name| format!("`vehicles` names `{name}`, which `labels` does not"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cut_offs_are_scores() {
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/manifest.toml");
        let text = fs::read_to_string(shipped).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let with = |cut: &str| {
            let text = text.replace("free_below = 0.15", &format!("free_below = {cut}"));
            fs::write(folder.path().join("manifest.toml"), text).unwrap();
            manifest(folder.path()).map_err(|error| error.to_string())
        };
        assert!(with("0.2").is_ok());
        for cut in ["15.0", "-0.1", "nan", "inf"] {
            let error = with(cut).unwrap_err();
            assert!(
                error.contains("bay-small") && error.contains("`free_below`"),
                "{cut}: {error}"
            );
        }
    }
}
