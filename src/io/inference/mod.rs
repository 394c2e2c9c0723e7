//! The models: found, checked, run. A net is used only when its file has the hash of the manifest and
//! reproduces the golden output stored there. `model` runs the small nets, `big` the one for doubts, `remote`
//! one on another machine; what a score means is for `logic::vision` to judge.

mod big;
mod detector;
mod file;
mod kernel;
mod manifest;
mod model;
mod remote;
mod survey;
pub mod tensors;

pub use big::{BigNet, Crop, Opinion};
pub use detector::{Detector, Found};
pub use file::{FileGuard, keep_copy};
pub use model::{BayNet, Engine, FireNet, ModelError, load, shipped_cuts};
pub use remote::{Remote, RemoteError, RemoteNet};
pub use survey::{Cost, Listed, Trial, list as list_models, measure as measure_models};

#[cfg(test)]
pub(crate) mod folders {
    //! Folders of models for tests: the shipped nets, with one of `tests/nets` in or beside them.

    use std::fs;
    use std::path::Path;

    /// The shipped bay and fire nets; a test's net called `small...` takes the fire net's place.
    pub(crate) fn with(net: &str) -> tempfile::TempDir {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let folder = tempfile::tempdir().unwrap();
        super::keep_copy(&root.join("models"), folder.path()).unwrap();
        let from = root.join("tests/nets").join(net);
        let entry = fs::read_to_string(from.join("entry.toml")).unwrap();
        let replaces = entry.contains("tier = \"small\"");
        for file in fs::read_dir(&from).unwrap().flatten() {
            fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
        }
        let path = folder.path().join("manifest.toml");
        let manifest = fs::read_to_string(&path).unwrap();
        let tier = if replaces { "tier = \"small\"" } else { "tier = \"big\"" };
        let keep = |part: &&str| !(part.contains("task = \"fire\"") && part.contains(tier));
        let parts: Vec<&str> = manifest.split("[[model]]").skip(1).filter(keep).collect();
        let parts: Vec<String> = parts.iter().map(|part| format!("[[model]]{part}")).collect();
        fs::write(path, parts.join("\n") + "\n" + &entry).unwrap();
        folder
    }
}
