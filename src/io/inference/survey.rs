//! What nets a folder holds, who runs each of them here, and what a look costs on this machine.
//!
//! What a stranger gets wrong: times are CPU time of this process, the least and the middle of many
//! rounds; on a busy machine only the least says something about the net.

use std::path::Path;

use super::manifest::{Entry, manifest};
use super::model::{Engine, ModelError, Net, golden_input};
use crate::io::clock::cpu_time;

/// Rounds of a measurement, and runs in a round.
const ROUNDS: usize = 25;
const RUNS: u32 = 4;

/// A net of the folder.
#[derive(Clone, Debug, PartialEq)]
pub struct Listed {
    /// Its id in the manifest.
    pub id: String,
    /// What it is for: bay, fire.
    pub task: String,
    /// small, big.
    pub tier: String,
    /// Pixels of its input: width, height, channels.
    pub size: [usize; 3],
    /// Parameters, where the manifest says so.
    pub params: Option<u64>,
    /// Who runs it here.
    pub engine: &'static str,
    /// Largest difference from the golden output, logits.
    pub apart: f32,
}

/// What a net costs with one engine.
#[derive(Clone, Debug, PartialEq)]
pub struct Cost {
    /// Its id in the manifest.
    pub id: String,
    /// Who ran it.
    pub engine: &'static str,
    /// CPU time to load it, ms.
    pub load_ms: f64,
    /// CPU time of a run, ms: the least of all rounds.
    pub least_ms: f64,
    /// CPU time of a run, ms: the middle of all rounds.
    pub median_ms: f64,
}

/// Loads every net of a folder and says who runs it.
///
/// # Errors
/// When the manifest or a net cannot be used.
pub fn list(folder: &Path) -> Result<Vec<Listed>, ModelError> {
    let listed = |entry: &Entry| {
        let net = Net::load(folder, entry, Engine::Best)?;
        let found = net.run(golden_input(entry.inputs()))?;
        let apart = found.iter().zip(&entry.golden).map(|(a, b)| (a - b).abs());
        Ok(Listed {
            id: entry.id.clone(),
            task: entry.task.clone(),
            tier: entry.tier.clone(),
            size: [entry.width, entry.height, entry.channels],
            params: entry.params,
            engine: net.engine(),
            apart: apart.fold(0.0, f32::max),
        })
    };
    manifest(folder)?.iter().filter(is_net).map(listed).collect()
}

/// Remote nets have no file, detectors an account of their own.
fn is_net(entry: &&Entry) -> bool {
    entry.tier != "remote" && entry.task != "detect"
}

/// Measures every net of a folder, with the engine it gets and with the general one.
///
/// # Errors
/// When the manifest or a net cannot be used.
pub fn measure(folder: &Path) -> Result<Vec<Cost>, ModelError> {
    let mut costs = Vec::new();
    for entry in manifest(folder)?.iter().filter(is_net) {
        for engine in [Engine::Best, Engine::General] {
            let cost = cost(folder, entry, engine)?;
            if engine == Engine::Best
                || costs.last().is_some_and(|c: &Cost| c.engine != cost.engine)
            {
                costs.push(cost);
            }
        }
    }
    Ok(costs)
}

fn cost(folder: &Path, entry: &Entry, engine: Engine) -> Result<Cost, ModelError> {
    let before = cpu_time();
    let trial = Trial::of(folder, entry, engine)?;
    let load_ms = ms_since(before);
    let times: Result<Vec<f64>, ModelError> = (0..ROUNDS).map(|_| trial.round()).collect();
    let mut times = times?;
    times.sort_by(f64::total_cmp);
    let (least_ms, median_ms) = (times[0], times[ROUNDS / 2]);
    Ok(Cost { id: entry.id.clone(), engine: trial.net.engine(), load_ms, least_ms, median_ms })
}

fn ms_since(before: std::time::Duration) -> f64 {
    cpu_time().saturating_sub(before).as_secs_f64() * 1000.0
}

/// A net that is measured round by round, so that a bench can let several take turns.
pub struct Trial {
    net: Net,
    input: Vec<f32>,
}

impl Trial {
    /// Loads the net that the manifest calls `id`.
    ///
    /// # Errors
    /// When there is none, or it cannot be used.
    pub fn load(folder: &Path, id: &str, engine: Engine) -> Result<Trial, ModelError> {
        let entries = manifest(folder)?;
        let entry = entries.iter().find(|entry| entry.id == id);
        Trial::of(folder, entry.ok_or(ModelError::NoModel("bench"))?, engine)
    }

    fn of(folder: &Path, entry: &Entry, engine: Engine) -> Result<Trial, ModelError> {
        let net = Net::load(folder, entry, engine)?;
        Ok(Trial { net, input: golden_input(entry.inputs()) })
    }

    /// CPU time of a run in this round, ms.
    ///
    /// # Errors
    /// When the net fails.
    pub fn round(&self) -> Result<f64, ModelError> {
        let before = cpu_time();
        for _ in 0..RUNS {
            self.net.run(self.input.clone())?;
        }
        Ok(ms_since(before) / f64::from(RUNS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_nets_are_listed_and_measured() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
        let listed = list(&folder).unwrap();
        assert!(listed.iter().any(|net| net.id == "bay-small" && net.size == [64, 64, 4]));
        assert!(listed.iter().all(|net| net.apart < 0.05), "{listed:?}");
        let costs = measure(&folder).unwrap();
        assert!(costs.iter().all(|cost| cost.least_ms > 0.0 && cost.median_ms >= cost.least_ms));
        assert!(costs.iter().any(|cost| cost.engine == "tract"));
        assert!(list(Path::new("/nonexistent")).is_err());
    }
}
