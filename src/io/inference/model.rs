//! Nets out of ONNX files, run in the thread that asks: by the int8 kernel where the net is of its
//! family, else by tract (one plan, static shapes).
//!
//! What a stranger gets wrong: a hash alone is not enough. Runtimes compute some graphs wrongly
//! (tract 0.23.9 and quantised attention), and the kernel reads only what it knows; so every load
//! reproduces a stored golden output, and a kernel that does not is not used.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tract_onnx::prelude::*;

use super::kernel::{Kernel, Level};
use super::manifest::{Entry, manifest};
use super::{file, tensors};
use crate::io::camera::Frame;
use crate::logic::vision::{BayCuts, FireCuts};

/// Golden outputs must be met this closely by tract.
const GOLDEN_WITHIN: f32 = 1e-3;
/// And this closely by the int8 kernel: four times what the shipped nets are off on this noise (0.004 and
/// 0.013 in their logits, see `wattgate model list`).
const KERNEL_WITHIN: f32 = 0.05;
/// Outputs for two different inputs that are nearer than this are the same.
const SAME_WITHIN: f32 = 1e-6;

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
    /// An entry of the manifest contradicts itself.
    #[error("{path}: {cause}")]
    Entry {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        cause: String,
    },
    /// The remote net has no entry.
    #[error(
        "{path}: no [[model]] with task = \"fire\" and id = \"{model}\": what the remote net takes and which scores count must stand there (tier = \"remote\", no file)"
    )]
    NotDescribed {
        /// Which.
        path: PathBuf,
        /// The remote net.
        model: String,
    },
    /// The signature of the file is missing or wrong.
    #[error("{path}: {cause}: the manifest says that the file is signed; do not use it unsigned")]
    Signature {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        cause: String,
    },
    /// The net's inputs or outputs are not what the manifest says.
    #[error("{path}: {cause}")]
    Shape {
        /// Which.
        path: PathBuf,
        /// What is wrong.
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
    /// It says the same of everything.
    #[error("{path}: the same output for different pictures: the net is blind, restore the file")]
    Blind {
        /// Which.
        path: PathBuf,
    },
    /// The score is not a number.
    #[error("{path}: the net gave a value that is not a number")]
    NotANumber {
        /// Which.
        path: PathBuf,
    },
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
        let path = entry.path(folder);
        let bytes = file::read(folder, entry)?;
        let shape = [1, entry.channels, entry.height, entry.width];
        let kernel = match engine {
            Engine::Best => fitting_kernel(&bytes, entry),
            Engine::General => None,
        };
        if let Some(kernel) = kernel {
            let runner = Runner::Kernel(Box::new(kernel));
            let net = Net { runner, shape, temperature: entry.temperature, path };
            return net.self_test().map(|()| net);
        }
        let plan = plan(&bytes, shape).map_err(|error| ModelError::Runtime {
            path: path.clone(),
            cause: format!("{error:#}"),
        })?;
        let net = Net { runner: Runner::Tract(plan), shape, temperature: entry.temperature, path };
        let found = net.run(golden_input(entry.inputs()))?;
        if near(&found, &entry.golden, GOLDEN_WITHIN) {
            return net.self_test().map(|()| net);
        }
        Err(ModelError::Golden { path: net.path, found, wanted: entry.golden.clone() })
    }

    /// Whether it tells different pictures apart, and gives numbers (fault INF4).
    pub fn self_test(&self) -> Result<(), ModelError> {
        let one = golden_input(self.shape.iter().product());
        let other = one.iter().rev().map(|value| -value).collect();
        let (one, other) = (self.run(one)?, self.run(other)?);
        if one.iter().chain(&other).any(|value| !value.is_finite()) {
            return Err(ModelError::NotANumber { path: self.path.clone() });
        }
        if near(&one, &other, SAME_WITHIN) {
            return Err(ModelError::Blind { path: self.path.clone() });
        }
        Ok(())
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

    /// Pixels of a side of the input.
    pub fn side(&self) -> usize {
        self.shape[2]
    }

    /// Flame and smoke.
    pub fn two_scores(&self, input: Vec<f32>) -> Result<(f64, f64), ModelError> {
        match self.scores(input)?.as_slice() {
            [flame, smoke] => Ok((*flame, *smoke)),
            other => Err(ModelError::Runtime {
                path: self.path.clone(),
                cause: format!("{} outputs instead of 2", other.len()),
            }),
        }
    }

    fn scores(&self, input: Vec<f32>) -> Result<Vec<f64>, ModelError> {
        let scores = scores_of(&self.run(input)?, self.temperature);
        if scores.iter().any(|score| score.is_nan()) {
            return Err(ModelError::NotANumber { path: self.path.clone() });
        }
        Ok(scores)
    }
}

/// Logits as scores, 0 to 1.
pub(super) fn scores_of(logits: &[f32], temperature: f64) -> Vec<f64> {
    let score = |logit: &f32| 1.0 / (1.0 + (-f64::from(*logit) / temperature).exp());
    logits.iter().map(score).collect()
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
    /// Hash of its file: scores of another net are other scores.
    pub hash: String,
    /// The abstain band.
    pub cuts: BayCuts,
}

impl BayNet {
    /// Who runs it: an instruction set of the int8 kernel, or tract.
    #[must_use]
    pub fn engine(&self) -> &'static str {
        self.net.engine()
    }

    /// Whether it still tells pictures apart.
    ///
    /// # Errors
    /// When it does not.
    pub fn self_test(&self) -> Result<(), ModelError> {
        self.net.self_test()
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

    /// Whether it still tells pictures apart.
    ///
    /// # Errors
    /// When it does not.
    pub fn self_test(&self) -> Result<(), ModelError> {
        self.net.self_test()
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
        self.net.two_scores(input)
    }
}

fn cut(folder: &Path, entry: &Entry, name: &str) -> Result<f64, ModelError> {
    entry.cut(name).ok_or_else(|| ModelError::Entry {
        path: folder.join("manifest.toml"),
        cause: format!("[[model]] {}: no threshold `{name}`", entry.id),
    })
}

/// The cut-offs of a fire net.
pub(super) fn fire_cuts(folder: &Path, entry: &Entry) -> Result<FireCuts, ModelError> {
    Ok(FireCuts {
        flame_doubtful: cut(folder, entry, "flame_doubtful")?,
        flame_alarm: cut(folder, entry, "flame_alarm")?,
        smoke_doubtful: cut(folder, entry, "smoke_doubtful")?,
        smoke_alarm: cut(folder, entry, "smoke_alarm")?,
    })
}

fn bay_cuts(folder: &Path, entry: &Entry) -> Result<BayCuts, ModelError> {
    Ok(BayCuts {
        free_below: cut(folder, entry, "free_below")?,
        occupied_above: cut(folder, entry, "occupied_above")?,
    })
}

fn small<'m>(manifest: &'m [Entry], task: &'static str) -> Result<&'m Entry, ModelError> {
    let mut fitting = manifest.iter().filter(|e| e.task == task && e.tier == "small");
    fitting.next().ok_or(ModelError::NoModel(task))
}

/// Hash and abstain band of the bay net of a folder, without loading it.
///
/// # Errors
/// When the manifest cannot be used.
pub fn shipped_cuts(folder: &Path) -> Result<(String, BayCuts), ModelError> {
    let manifest = manifest(folder)?;
    let bay = small(&manifest, "bay")?;
    Ok((bay.sha256.to_lowercase(), bay_cuts(folder, bay)?))
}

/// Loads the small nets of a folder.
///
/// # Errors
/// When the manifest or a net cannot be used; says which file and what to do.
pub fn load(folder: &Path, engine: Engine) -> Result<(BayNet, FireNet), ModelError> {
    let manifest = manifest(folder)?;
    let (bay, fire) = (small(&manifest, "bay")?, small(&manifest, "fire")?);
    let bay_cuts = bay_cuts(folder, bay)?;
    let fire_cuts = fire_cuts(folder, fire)?;
    let (hash, net) = (bay.sha256.to_lowercase(), Net::load(folder, bay, engine)?);
    let bay = BayNet { net, hash, cuts: bay_cuts };
    let fire = FireNet { net: Net::load(folder, fire, engine)?, cuts: fire_cuts };
    Ok((bay, fire))
}

/// A net as tract runs it, for inputs of one shape.
pub(super) fn plan(bytes: &[u8], shape: [usize; 4]) -> TractResult<Arc<TypedRunnableModel>> {
    let fact = InferenceFact::dt_shape(f32::datum_type(), shape);
    let model = tract_onnx::onnx().model_for_read(&mut &*bytes)?.with_input_fact(0, fact)?;
    model.into_optimized()?.into_runnable()
}

#[cfg(test)]
mod tests {
    use std::fs;

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
