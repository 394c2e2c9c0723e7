//! The big fire net: what the small one doubts, seen again at a higher resolution, here or on another
//! machine. Which doubts it sees, and when, is for `logic::vision::escalation` to say.
//!
//! What a stranger gets wrong: its cut-offs are its own. A score of the small net and one of the big
//! net are not compared; each is held against the cuts of its manifest entry.

use std::path::Path;

use super::manifest::{Entry, manifest};
use super::model::{Engine, ModelError, Net, fire_cuts, scores_of};
use super::remote::{Remote, RemoteNet};
use super::tensors;
use crate::io::camera::Frame;
use crate::io::clock::thread_time;
use crate::logic::vision::{Answer, FireCuts, Verdict};

/// A part of a frame in the size that the big net takes, three bytes a pixel.
#[derive(Clone, Debug, PartialEq)]
pub struct Crop {
    whole: Vec<u8>,
    /// The same with what nobody else may see painted over, where there is such.
    painted: Option<Vec<u8>>,
}

impl Crop {
    /// A part of a frame (shares: left, top, width, height) as a square; nothing where it is empty.
    #[must_use]
    pub fn of(frame: &Frame, part: [f64; 4], side: usize) -> Option<Crop> {
        let whole = tensors::resized(frame, part, side)?;
        Some(Crop { whole, painted: None })
    }

    /// The same part of a frame with its masks painted: that is what another machine is shown. It may confirm what
    /// it sees there; that it sees nothing releases nothing, as the fire may lie behind a mask.
    #[must_use]
    pub fn shown_as(self, painted: Crop) -> Crop {
        Crop { whole: self.whole, painted: Some(painted.whole) }
    }
}

/// What the big net says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Opinion {
    /// Flame, 0 to 1.
    pub flame: f64,
    /// Smoke, 0 to 1.
    pub smoke: f64,
    /// By its cut-offs; `Released` where it sees nothing.
    pub answer: Answer,
    /// Whether the net here has seen it.
    pub is_local: bool,
    /// Whether another machine has seen it.
    pub is_remote: bool,
    /// CPU time here, ms.
    pub cpu_ms: f64,
    /// What a remote look is taken to cost, J; 0 where none was taken.
    pub joules: f64,
}

/// The big net: a local one, a remote one, or both.
pub struct BigNet {
    local: Option<(Net, FireCuts)>,
    remote: Option<(Remote, Entry, FireCuts)>,
    side: usize,
    lost: Option<String>,
}

impl BigNet {
    /// The big fire net of a folder; nothing where it has none and no remote one is wanted.
    ///
    /// # Errors
    /// When its files cannot be used, or the manifest does not describe the remote net.
    pub fn open(
        folder: &Path,
        engine: Engine,
        remote: Option<RemoteNet>,
    ) -> Result<Option<BigNet>, ModelError> {
        let entries = manifest(folder)?;
        let fire = |tier: &str| entries.iter().find(|e| e.task == "fire" && e.tier == tier);
        let local = match fire("big") {
            Some(entry) => {
                Some((Net::load(folder, entry, engine)?, fire_cuts(folder, entry)?, entry.width))
            }
            None => None,
        };
        let remote = match remote {
            Some(place) => {
                let described = entries.iter().find(|e| e.task == "fire" && e.id == place.model);
                let entry = described.ok_or_else(|| ModelError::NotDescribed {
                    path: folder.join("manifest.toml"),
                    model: place.model.clone(),
                })?;
                let cuts = fire_cuts(folder, entry)?;
                Some((Remote::new(place), entry.clone(), cuts))
            }
            None => None,
        };
        let sides = [local.as_ref().map(|l| l.2), remote.as_ref().map(|r| r.1.width)];
        let Some(side) = sides.into_iter().flatten().max() else { return Ok(None) };
        let local = local.map(|(net, cuts, _)| (net, cuts));
        Ok(Some(BigNet { local, remote, side, lost: None }))
    }

    /// Who runs it here; nothing where only another machine does.
    #[must_use]
    pub fn engine(&self) -> Option<&'static str> {
        self.local.as_ref().map(|(net, _)| net.engine())
    }

    /// Pixels of a side of the crops that it takes.
    #[must_use]
    pub fn side(&self) -> usize {
        self.side
    }

    /// Why the remote net did not answer the last time it was asked; nothing while it does.
    #[must_use]
    pub fn remote_trouble(&self) -> Option<&str> {
        self.lost.as_deref()
    }

    /// Whether pictures go to another machine.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        self.remote.is_some()
    }

    /// What it says about a part: the remote net where it answers in time, else the local one. A fire that another
    /// machine does not see where masks are painted may lie behind them: then the local one, which sees all, is asked too.
    ///
    /// # Errors
    /// When neither answers.
    pub fn ask(&mut self, crop: &Crop) -> Result<Opinion, ModelError> {
        let before = thread_time();
        let mut opinion = match self.ask_remote(crop) {
            Some(shown) if self.local.is_some() && sees_no_more(&shown, crop) => {
                Opinion { is_remote: true, joules: shown.joules, ..self.ask_local(crop)? }
            }
            Some(opinion) => opinion,
            None => self.ask_local(crop)?,
        };
        opinion.cpu_ms = thread_time().saturating_sub(before).as_secs_f64() * 1000.0;
        Ok(opinion)
    }

    fn ask_remote(&mut self, crop: &Crop) -> Option<Opinion> {
        let side = self.side;
        let (remote, entry, cuts) = self.remote.as_mut()?;
        let shown = crop.painted.as_ref().unwrap_or(&crop.whole);
        let input = sized(shown, side, entry.width)?;
        let shape = [1, entry.channels, entry.height, entry.width];
        let told = remote.ask(&shape, &input).map_err(|error| error.to_string());
        let url = &remote.place().url;
        let told = told.and_then(|logits| match scores_of(&logits, entry.temperature).as_slice() {
            [flame, smoke] if flame.is_finite() && smoke.is_finite() => Ok((*flame, *smoke)),
            other => {
                Err(format!("{url}: {} outputs, of which two scores were wanted", other.len()))
            }
        });
        match told {
            Ok(scores) => {
                self.lost = None;
                let joules = remote.place().joules;
                let mut opinion = opinion(scores, *cuts, (true, joules));
                if crop.painted.is_some() && opinion.answer == Answer::Released {
                    opinion.answer = Answer::Doubtful;
                }
                Some(opinion)
            }
            Err(why) => {
                if self.lost.is_none() {
                    tracing::warn!(%why, "the remote big net does not answer");
                }
                self.lost.get_or_insert(why);
                None
            }
        }
    }

    fn ask_local(&self, crop: &Crop) -> Result<Opinion, ModelError> {
        let nobody = || ModelError::Runtime {
            path: "big net".into(),
            cause: self.lost.clone().unwrap_or_else(|| "there is none".to_owned()),
        };
        let (net, cuts) = self.local.as_ref().ok_or_else(nobody)?;
        let input = sized(&crop.whole, self.side, net.side()).ok_or_else(nobody)?;
        Ok(opinion(net.two_scores(input)?, *cuts, (false, 0.0)))
    }
}

/// Whether it was shown a painted crop and confirms nothing there.
fn sees_no_more(shown: &Opinion, crop: &Crop) -> bool {
    crop.painted.is_some() && !matches!(shown.answer, Answer::Confirmed { .. })
}

/// The crop as a net of `side` pixels wants it.
fn sized(crop: &[u8], from: usize, side: usize) -> Option<Vec<f32>> {
    if from == side {
        return Some(tensors::normalised(crop));
    }
    let frame = Frame { rgb: crop.to_vec(), width: from, height: from };
    tensors::square(&frame, [0.0, 0.0, 1.0, 1.0], side)
}

fn opinion(
    (flame, smoke): (f64, f64),
    cuts: FireCuts,
    (is_remote, joules): (bool, f64),
) -> Opinion {
    let answer = match cuts.single(flame, smoke) {
        Verdict::Clear => Answer::Released,
        Verdict::Doubtful => Answer::Doubtful,
        Verdict::Alarm => {
            Answer::Confirmed { flame: flame >= cuts.flame_alarm, smoke: smoke >= cuts.smoke_alarm }
        }
    };
    Opinion { flame, smoke, answer, is_local: !is_remote, is_remote, cpu_ms: 0.0, joules }
}
