//! Nets out of ONNX files, run in the thread that asks: by the int8 kernel where the net is of its
//! family, else by tract (one plan, static shapes).
//!
//! What a stranger gets wrong: a hash alone is not enough. Runtimes compute some graphs wrongly
//! (tract 0.23.9 and quantised attention), and the kernel reads only what it knows; so every load
//! reproduces a stored golden output, and a kernel that does not is not used.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use sha2::{Digest, Sha256};
use tract_onnx::prelude::*;

use super::kernel::{Kernel, Level};
use super::tensors;
use crate::io::camera::Frame;
use crate::logic::vision::{BayCuts, FireCuts};

/// A model file larger than this is refused.
const MOST_BYTES: u64 = 256 << 20;
/// Golden outputs must be met this closely by tract.
const GOLDEN_WITHIN: f32 = 1e-3;
/// And this closely by the int8 kernel: four times what the shipped nets are off on this noise (0.004 and
/// 0.013 in their logits, see `wattgate model list`).
const KERNEL_WITHIN: f32 = 0.05;

/// Why a net cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The manifest cannot be used.
    #[error(
        "{path}: {cause}: copy the folder `models` beside the site file or the executable, or name it with --models"
    )]
    Manifest {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: String,
    },
    /// The manifest has no net for this task.
    #[error("the manifest has no small model for the task `{0}`")]
    NoModel(&'static str),
    /// The file is not the one of the manifest.
    #[error(
        "{path}: SHA-256 is {found}, the manifest says {wanted}: the file was altered, restore it"
    )]
    Altered {
        /// Which.
        path: PathBuf,
        /// What it is.
        found: String,
        /// What it should be.
        wanted: String,
    },
    /// The net computes something else than it should.
    #[error(
        "{path}: golden output {found:?} instead of {wanted:?}: this runtime computes the net wrongly"
    )]
    Golden {
        /// Which.
        path: PathBuf,
        /// What came out.
        found: Vec<f32>,
        /// What should have.
        wanted: Vec<f32>,
    },
    /// It does not load or run.
    #[error("{path}: {cause}")]
    Runtime {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: String,
    },
    /// The score is not a number.
    #[error("{path}: the net gave a value that is not a number")]
    NotANumber {
        /// Which.
        path: PathBuf,
    },
}

#[derive(Debug, Deserialize)]
struct Manifest {
    model: Vec<Entry>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Entry {
    pub id: String,
    pub task: String,
    pub tier: String,
    file: String,
    sha256: String,
    pub width: usize,
    pub height: usize,
    pub channels: usize,
    pub params: Option<u64>,
    temperature: f64,
    thresholds: BTreeMap<String, f64>,
    pub golden: Vec<f32>,
}

impl Entry {
    /// Numbers that the net takes.
    pub fn inputs(&self) -> usize {
        self.channels * self.height * self.width
    }

    fn cut(&self, name: &str) -> Option<f64> {
        self.thresholds.get(name).copied()
    }
}

/// Who runs a net.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Engine {
    /// The int8 kernel where it fits the net, else tract.
    #[default]
    Best,
    /// tract, in 32-bit floating point.
    General,
}

enum Runner {
    Kernel(Box<Kernel>),
    Tract(Arc<TypedRunnableModel>),
}

/// One net, checked and ready.
pub(super) struct Net {
    runner: Runner,
    shape: [usize; 4],
    temperature: f64,
    path: PathBuf,
}

impl Net {
    pub fn load(folder: &Path, entry: &Entry, engine: Engine) -> Result<Net, ModelError> {
        let path = folder.join(&entry.file);
        let bytes = read(&path, &entry.sha256)?;
        let shape = [1, entry.channels, entry.height, entry.width];
        let kernel = match engine {
            Engine::Best => fitting_kernel(&bytes, entry),
            Engine::General => None,
        };
        if let Some(kernel) = kernel {
            let runner = Runner::Kernel(Box::new(kernel));
            return Ok(Net { runner, shape, temperature: entry.temperature, path });
        }
        let fact = InferenceFact::dt_shape(f32::datum_type(), shape);
        let plan = tract_onnx::onnx()
            .model_for_read(&mut bytes.as_slice())
            .and_then(|model| model.with_input_fact(0, fact))
            .and_then(|model| model.into_optimized())
            .and_then(|model| model.into_runnable());
        let plan = plan.map_err(|error| ModelError::Runtime {
            path: path.clone(),
            cause: format!("{error:#}"),
        })?;
        let net = Net { runner: Runner::Tract(plan), shape, temperature: entry.temperature, path };
        let found = net.run(golden_input(entry.inputs()))?;
        if near(&found, &entry.golden, GOLDEN_WITHIN) {
            return Ok(net);
        }
        Err(ModelError::Golden { path: net.path, found, wanted: entry.golden.clone() })
    }

    pub fn engine(&self) -> &'static str {
        match &self.runner {
            Runner::Kernel(kernel) => kernel.level().name(),
            Runner::Tract(_) => "tract",
        }
    }

    pub fn run(&self, input: Vec<f32>) -> Result<Vec<f32>, ModelError> {
        let failed = |error: TractError| ModelError::Runtime {
            path: self.path.clone(),
            cause: format!("{error:#}"),
        };
        let plan = match &self.runner {
            Runner::Kernel(kernel) => {
                let outputs = kernel.run(&input);
                return outputs.ok_or_else(|| failed(TractError::msg("an input of another size")));
            }
            Runner::Tract(plan) => plan,
        };
        let input = Tensor::from_shape(&self.shape, &input).map_err(failed)?;
        let output = plan.run(tvec!(input.into())).map_err(failed)?;
        let first = output.first().ok_or_else(|| failed(TractError::msg("no output")))?;
        let values = first.try_as_plain_ram().and_then(|view| Ok(view.as_slice::<f32>()?.to_vec()));
        values.map_err(failed)
    }

    fn scores(&self, input: Vec<f32>) -> Result<Vec<f64>, ModelError> {
        let logits = self.run(input)?;
        let score = |logit: f32| 1.0 / (1.0 + (-f64::from(logit) / self.temperature).exp());
        let scores: Vec<f64> = logits.into_iter().map(score).collect();
        if scores.iter().any(|score| score.is_nan()) {
            return Err(ModelError::NotANumber { path: self.path.clone() });
        }
        Ok(scores)
    }
}

/// The bytes of a file that is what the manifest says.
fn read(path: &Path, sha256: &str) -> Result<Vec<u8>, ModelError> {
    let failed = |cause: String| ModelError::Runtime { path: path.to_owned(), cause };
    let length = fs::metadata(path).map_err(|error| failed(error.to_string()))?.len();
    if length > MOST_BYTES {
        return Err(failed(format!("{length} bytes are more than {MOST_BYTES}")));
    }
    let bytes = fs::read(path).map_err(|error| failed(error.to_string()))?;
    let found: String = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
    if found == sha256 {
        return Ok(bytes);
    }
    Err(ModelError::Altered { path: path.to_owned(), found, wanted: sha256.to_owned() })
}

/// The kernel, if it takes the net and meets the golden output; says why where it does not.
fn fitting_kernel(bytes: &[u8], entry: &Entry) -> Option<Kernel> {
    let level = Level::all().first().copied()?;
    let kernel = match Kernel::read(bytes, (entry.channels, entry.height, entry.width), level) {
        Ok(kernel) => kernel,
        Err(why) => {
            tracing::info!(net = %entry.file, %why, "run by tract");
            return None;
        }
    };
    let input = golden_input(entry.inputs());
    let found = kernel.run(&input)?;
    if near(&found, &entry.golden, KERNEL_WITHIN) {
        return Some(kernel);
    }
    tracing::warn!(net = %entry.file, ?found, wanted = ?entry.golden, "int8 kernel too far off: run by tract");
    None
}

/// Whether outputs are as wanted, each within `within`.
fn near(found: &[f32], wanted: &[f32], within: f32) -> bool {
    let close = |(a, b): (&f32, &f32)| (a - b).abs() <= within;
    found.len() == wanted.len() && found.iter().zip(wanted).all(close)
}

/// A picture-less input that every runtime can make: a hash of the index, -1 to 1.
pub(super) fn golden_input(count: usize) -> Vec<f32> {
    let hash = |i: usize| (i as u32).wrapping_mul(2_654_435_761) >> 8;
    (0..count).map(|i| (f64::from(hash(i)) / 16_777_216.0 * 2.0 - 1.0) as f32).collect()
}

/// Tells whether a bay is occupied.
pub struct BayNet {
    net: Net,
    /// The abstain band.
    pub cuts: BayCuts,
}

impl BayNet {
    /// Who runs it: an instruction set of the int8 kernel, or tract.
    #[must_use]
    pub fn engine(&self) -> &'static str {
        self.net.engine()
    }

    /// 0 (free) to 1 (occupied); nothing where the polygon has no area.
    ///
    /// # Errors
    /// When the net fails.
    pub fn score(&self, frame: &Frame, polygon: &[[f64; 2]]) -> Result<Option<f64>, ModelError> {
        let Some(crop) = tensors::bay_crop(frame, polygon, self.net.shape[2]) else {
            return Ok(None);
        };
        Ok(self.net.scores(crop)?.first().copied())
    }
}

/// Tells whether flame or smoke is to be seen.
pub struct FireNet {
    net: Net,
    /// Cut-offs of doubt and alarm.
    pub cuts: FireCuts,
}

impl FireNet {
    /// Who runs it: an instruction set of the int8 kernel, or tract.
    #[must_use]
    pub fn engine(&self) -> &'static str {
        self.net.engine()
    }

    /// Flame and smoke, 0 to 1, in a part of the frame (shares: left, top, width, height).
    ///
    /// # Errors
    /// When the net fails.
    pub fn score(&self, frame: &Frame, part: [f64; 4]) -> Result<(f64, f64), ModelError> {
        let empty = || ModelError::Runtime {
            path: self.net.path.clone(),
            cause: "an empty part of the frame".to_owned(),
        };
        let input = tensors::square(frame, part, self.net.shape[2]).ok_or_else(empty)?;
        match self.net.scores(input)?.as_slice() {
            [flame, smoke] => Ok((*flame, *smoke)),
            other => Err(ModelError::Runtime {
                path: self.net.path.clone(),
                cause: format!("{} outputs instead of 2", other.len()),
            }),
        }
    }
}

/// The entries of a folder's manifest.
pub(super) fn manifest(folder: &Path) -> Result<Vec<Entry>, ModelError> {
    let path = folder.join("manifest.toml");
    let failed = |cause: String| ModelError::Manifest { path: path.clone(), cause };
    let text = fs::read_to_string(&path).map_err(|error| failed(error.to_string()))?;
    let manifest: Manifest =
        toml_edit::de::from_str(&text).map_err(|error| failed(error.to_string()))?;
    Ok(manifest.model)
}

/// Loads the small nets of a folder.
///
/// # Errors
/// When the manifest or a net cannot be used; says which file and what to do.
pub fn load(folder: &Path, engine: Engine) -> Result<(BayNet, FireNet), ModelError> {
    let path = folder.join("manifest.toml");
    let failed = |cause: String| ModelError::Manifest { path: path.clone(), cause };
    let manifest = manifest(folder)?;
    let entry = |task: &'static str| {
        let mut fitting = manifest.iter().filter(|e| e.task == task && e.tier == "small");
        fitting.next().ok_or(ModelError::NoModel(task))
    };
    let cut = |entry: &Entry, name: &str| {
        entry.cut(name).ok_or_else(|| failed(format!("{}: no threshold `{name}`", entry.file)))
    };
    let (bay, fire) = (entry("bay")?, entry("fire")?);
    let bay_cuts = BayCuts {
        free_below: cut(bay, "free_below")?,
        occupied_above: cut(bay, "occupied_above")?,
    };
    let fire_cuts = FireCuts {
        flame_doubtful: cut(fire, "flame_doubtful")?,
        flame_alarm: cut(fire, "flame_alarm")?,
        smoke_doubtful: cut(fire, "smoke_doubtful")?,
        smoke_alarm: cut(fire, "smoke_alarm")?,
    };
    let bay = BayNet { net: Net::load(folder, bay, engine)?, cuts: bay_cuts };
    let fire = FireNet { net: Net::load(folder, fire, engine)?, cuts: fire_cuts };
    Ok((bay, fire))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shipped() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("models")
    }

    fn copy() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in ["manifest.toml", "bay-small.onnx", "fire-small.onnx"] {
            fs::copy(shipped().join(name), folder.path().join(name)).unwrap();
        }
        folder
    }

    #[test]
    fn shipped_models_load_and_meet_their_golden_output() {
        for engine in [Engine::Best, Engine::General] {
            let (bay, fire) = load(&shipped(), engine).unwrap();
            let general = engine == Engine::General;
            assert_eq!(bay.engine() == "tract", general);
            assert_eq!(fire.engine() == "tract", general);
        }
    }

    #[test]
    fn the_kernel_sees_what_tract_sees() {
        let nets = [Engine::Best, Engine::General].map(|engine| load(&shipped(), engine).unwrap());
        let mut rng = fastrand::Rng::with_seed(11);
        for round in 0..20 {
            let (width, height) = (320, 180);
            // Patches of colour: nearer to a picture than noise is.
            let colours: Vec<[u8; 3]> =
                (0..40).map(|_| [rng.u8(..), rng.u8(..), rng.u8(..)]).collect();
            let pixel = |i: usize| colours[(i % width / 40) + (i / width / 40) * 8];
            let frame = Frame { rgb: (0..width * height).flat_map(pixel).collect(), width, height };
            let polygon = [[0.2, 0.3], [0.7, 0.25], [0.8, 0.9], [0.1, 0.8]];
            let bay = nets.each_ref().map(|(bay, _)| bay.score(&frame, &polygon).unwrap().unwrap());
            let fire =
                nets.each_ref().map(|(_, net)| net.score(&frame, [0.0, 0.0, 1.0, 1.0]).unwrap());
            let apart = [bay[0] - bay[1], fire[0].0 - fire[1].0, fire[0].1 - fire[1].1];
            assert!(apart.iter().all(|d| d.abs() < 0.05), "round {round}: {bay:?} {fire:?}");
        }
    }

    #[test]
    fn inf2_an_altered_file_is_refused() {
        let folder = copy();
        let path = folder.path().join("fire-small.onnx");
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, bytes).unwrap();
        assert!(matches!(load(folder.path(), Engine::Best), Err(ModelError::Altered { .. })));
    }

    #[test]
    fn a_wrong_golden_output_is_refused() {
        let folder = copy();
        let path = folder.path().join("manifest.toml");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replacen("golden = [", "golden = [1", 1)).unwrap();
        assert!(matches!(
            load(folder.path(), Engine::Best),
            Err(ModelError::Golden { .. } | ModelError::Manifest { .. })
        ));
    }

    #[test]
    fn a_missing_folder_says_what_to_do() {
        let Err(error) = load(Path::new("/nonexistent"), Engine::Best) else {
            panic!("loaded nothing")
        };
        assert!(error.to_string().contains("--models"), "{error}");
    }
}
