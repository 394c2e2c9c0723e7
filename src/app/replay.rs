//! `wattgate replay`: a trace through a fresh controller, every decision held against the one that was
//! made. A folder is played as the ring of a gateway: its newest run.
//!
//! What a stranger gets wrong: a trace whose beginning has left the ring starts with a controller that
//! knows less than the one that ran; its first decisions may differ and are counted apart.

use std::path::{Path, PathBuf};

use crate::io::store::{Head, Line, TraceError, TraceReader, digest, parts, site_hash};
use crate::logic::controller::Controller;
use crate::units::Moment;

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Replayed {
    /// Decisions made again.
    pub decisions: u64,
    /// Those that differ from what was decided.
    pub differ: u64,
    /// When the first of them was made.
    pub first: Option<Moment>,
    /// Facts taken in.
    pub heard: u64,
    /// Lines that were lost when the trace was written.
    pub lost: u64,
    /// The trace begins in the middle of a run.
    pub begins_late: bool,
    /// The last block is torn.
    pub torn: bool,
}

/// Why nothing could be played.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The trace cannot be read.
    #[error(transparent)]
    Trace(#[from] TraceError),
    /// There is nothing in it.
    #[error("{0}: there is no trace in it")]
    Empty(PathBuf),
    /// The site in it is not the one that its hash was made of.
    #[error("{0}: the site in the trace does not fit its hash")]
    Altered(PathBuf),
}

/// Plays a trace file, or the newest run of a folder.
///
/// # Errors
/// When it cannot be read or says of itself what is not so.
pub fn run(path: &Path) -> Result<Replayed, ReplayError> {
    let files = if path.is_dir() { newest_run(path)? } else { vec![path.to_owned()] };
    let mut replayed = Replayed::default();
    let mut controller = None;
    for file in &files {
        let mut trace = TraceReader::open(file)?;
        for line in &mut trace {
            play(line, &mut controller, &mut replayed, file)?;
        }
        replayed.torn |= trace.is_torn();
    }
    if controller.is_none() {
        return Err(ReplayError::Empty(path.to_owned()));
    }
    Ok(replayed)
}

fn newest_run(folder: &Path) -> Result<Vec<PathBuf>, ReplayError> {
    let cause = |cause| TraceError::Io { path: folder.to_owned(), cause };
    let files = parts(folder).map_err(cause)?;
    let run = |path: &PathBuf| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        name.and_then(|name| name.rsplit_once('-').map(|(run, _)| run.to_owned()))
    };
    let newest = files.last().and_then(run);
    Ok(files.into_iter().filter(|file| run(file) == newest).collect())
}

fn play(
    line: Line,
    controller: &mut Option<Controller>,
    replayed: &mut Replayed,
    file: &Path,
) -> Result<(), ReplayError> {
    match line {
        Line::Head(head) if controller.is_none() => {
            if site_hash(&head.site) != head.site_hash {
                return Err(ReplayError::Altered(file.to_owned()));
            }
            replayed.begins_late = head.part > 0;
            *controller = Some(fresh(&head));
        }
        Line::Head(_) => {}
        Line::Heard(observation) => {
            replayed.heard += 1;
            if let Some(controller) = controller {
                controller.observe(observation);
            }
        }
        Line::Ticked { at, digest: made } => {
            if let Some(controller) = controller {
                replayed.decisions += 1;
                if digest(&controller.decide(at)) != made {
                    replayed.differ += 1;
                    replayed.first.get_or_insert(at);
                }
            }
        }
        Line::Gap(lines) => replayed.lost += lines,
    }
    Ok(())
}

fn fresh(head: &Head) -> Controller {
    let mut controller = Controller::new(head.site.clone(), head.started);
    controller.stretch_vision(head.vision_pace);
    controller.remember(&head.latched, head.started);
    controller.remember_jobs(head.jobs.clone());
    controller
}
