//! `wattgate look`: the gateway's eyes on pictures, folders and films, one line for each frame.
//!
//! What a stranger gets wrong: pictures of a folder stand alone: their verdict is what one picture says by itself, and
//! a stain may look like smoke in it. A film is seen as a camera would see it, with time, at up to five looks a
//! second of film time, as fast as it can be read; there what does not stir is no more than doubtful.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use super::annotate;
use super::vision::{BayPlace, Eyes, Second, Sight};
use crate::io::camera::{Film, Frame};
use crate::io::clock::cpu_time;
use crate::io::inference::{BigNet, Engine, ModelError};
use crate::logic::site::Id;
use crate::logic::vision::Verdict;

/// Looks at a film are at least this far apart.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Quality of annotated pictures.
const ANNOTATED_QUALITY: u8 = 85;

/// What `wattgate look` is told.
#[derive(Clone, Debug)]
pub struct LookOptions {
    /// Pictures, folders, films.
    pub paths: Vec<PathBuf>,
    /// Polygons of bays.
    pub bays: Option<PathBuf>,
    /// JSON lines instead of readable ones.
    pub json: bool,
    /// Folder of the models.
    pub models: PathBuf,
    /// Who runs them.
    pub engine: Engine,
    /// Whether the big net sees what the small one doubts, where the folder has one.
    pub cascade: bool,
    /// Folder for pictures with what was seen drawn over them.
    pub annotate: Option<PathBuf>,
}

/// What was judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Frames judged.
    pub frames: u64,
    /// Files that could not be.
    pub failed: u64,
}

/// Why nothing can be judged.
#[derive(Debug, thiserror::Error)]
pub enum LookError {
    /// The polygons.
    #[error(
        "{path}: {cause}: write a list of {{\"id\", \"poly\": [[x, y], ...]}} with x and y in 0..1, or an object of such lists by file name"
    )]
    Bays {
        /// Which file.
        path: PathBuf,
        /// Why.
        cause: String,
    },
    /// The nets.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The output.
    #[error("cannot write: {0}")]
    Output(#[from] std::io::Error),
}

#[derive(Deserialize)]
struct BayShape {
    id: Id,
    poly: Vec<[f64; 2]>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum BaysFile {
    Same(Vec<BayShape>),
    ByFile(BTreeMap<String, Vec<BayShape>>),
}

struct Looking<'a> {
    eyes: Eyes,
    second: Option<Second>,
    bays: Option<BaysFile>,
    json: bool,
    annotate: Option<&'a Path>,
    out: &'a mut dyn Write,
    err: &'a mut dyn Write,
    seen: Seen,
}

/// Judges everything that `options` names. Files that cannot be judged are told on `err` and counted.
///
/// # Errors
/// When nothing can be judged at all, or the output ends.
pub fn run(
    options: &LookOptions,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<Seen, LookError> {
    let bays = options.bays.as_deref().map(read_bays).transpose()?;
    let eyes = Eyes::open(&options.models, options.engine)?;
    let second = match BigNet::open(&options.models, options.engine, None)? {
        Some(net) if options.cascade => {
            let film = Id::try_from("film").map_err(std::io::Error::other)?;
            Some(Second::new(net, eyes.fire_cuts(), film))
        }
        _ => None,
    };
    let annotate = options.annotate.as_deref();
    if let Some(folder) = annotate {
        std::fs::create_dir_all(folder)?;
    }
    let (json, seen) = (options.json, Seen::default());
    let mut looking = Looking { eyes, second, bays, json, annotate, out, err, seen };
    for path in &options.paths {
        looking.path(path)?;
    }
    looking.out.flush()?;
    Ok(looking.seen)
}

fn read_bays(path: &Path) -> Result<BaysFile, LookError> {
    let failed = |cause: String| LookError::Bays { path: path.to_owned(), cause };
    let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    let file: BaysFile = serde_json::from_str(&text).map_err(|error| failed(error.to_string()))?;
    let lists: Vec<&Vec<BayShape>> = match &file {
        BaysFile::Same(list) => vec![list],
        BaysFile::ByFile(lists) => lists.values().collect(),
    };
    let inside = |shape: &BayShape| {
        shape.poly.len() >= 3 && shape.poly.iter().flatten().all(|v| (0.0..=1.0).contains(v))
    };
    match lists.into_iter().flatten().find(|shape| !inside(shape)) {
        Some(shape) => {
            Err(failed(format!("bay `{}` needs three or more points in 0..1", shape.id)))
        }
        None => Ok(file),
    }
}

impl Looking<'_> {
    fn path(&mut self, path: &Path) -> Result<(), LookError> {
        if !path.is_dir() {
            return self.file(path);
        }
        let entries = match std::fs::read_dir(path) {
            Ok(entries) => entries,
            Err(error) => return self.fail(path, &error.to_string()),
        };
        let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        let wanted = ["jpg", "jpeg", "png", "mp4", "m4v", "mov"];
        files.retain(|file| file.is_file() && wanted.contains(&extension(file).as_str()));
        files.sort();
        files.iter().try_for_each(|file| self.file(file))
    }

    fn file(&mut self, path: &Path) -> Result<(), LookError> {
        match extension(path).as_str() {
            "mp4" | "m4v" | "mov" => self.film(path),
            _ => self.picture(path),
        }
    }

    fn fail(&mut self, path: &Path, why: &str) -> Result<(), LookError> {
        self.seen.failed += 1;
        writeln!(self.err, "{}: {why}", path.display())?;
        Ok(())
    }

    fn places(&self, path: &Path) -> Vec<BayPlace> {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        let full = path.to_string_lossy();
        let list = match &self.bays {
            None => None,
            Some(BaysFile::Same(list)) => Some(list),
            Some(BaysFile::ByFile(lists)) => {
                lists.get(full.as_ref()).or_else(|| lists.get(&name.unwrap_or_default()))
            }
        };
        let place =
            |shape: &BayShape| BayPlace { id: shape.id.clone(), polygon: shape.poly.clone() };
        list.map(|list| list.iter().map(place).collect()).unwrap_or_default()
    }

    fn picture(&mut self, path: &Path) -> Result<(), LookError> {
        let before = cpu_time();
        let decoded = std::fs::read(path)
            .map_err(|error| error.to_string())
            .and_then(|bytes| Frame::decode(&bytes).map_err(|error| error.to_string()));
        match decoded {
            Ok(frame) => {
                let places = self.places(path);
                let mut sight = self.eyes.see_still(&places, &frame)?;
                if let Some(second) = &mut self.second {
                    second.still(&mut sight, &frame)?;
                }
                self.tell(path, None, &sight, before)?;
                self.draw(path, None, (frame, &places), &sight)
            }
            Err(why) => self.fail(path, &why),
        }
    }

    fn film(&mut self, path: &Path) -> Result<(), LookError> {
        let mut film = match Film::open(path) {
            Ok(film) => film,
            Err(error) => return self.fail(path, &error.to_string()),
        };
        let places = self.places(path);
        let mut watch = self.eyes.watch(places.clone());
        self.second.iter_mut().for_each(Second::forget);
        let (mut number, mut next) = (0u64, Duration::ZERO);
        let mut before = cpu_time();
        loop {
            let (at, frame) = match film.next_frame() {
                Ok(Some(next)) => next,
                Ok(None) => break,
                Err(error) => return self.fail(path, &error.to_string()),
            };
            number += 1;
            if at < next && number > 1 {
                continue;
            }
            next = at + LOOK_EVERY;
            let mut sight = self.eyes.see(&mut watch, at, &frame)?;
            if let Some(second) = &mut self.second {
                second.look(&mut watch, &mut sight, &frame)?;
            }
            self.tell(path, Some((number - 1, at)), &sight, before)?;
            self.draw(path, Some(number - 1), (frame, &places), &sight)?;
            before = cpu_time();
        }
        if film.broken() > 0 {
            let why = format!("{} coded frames were damaged and skipped", film.broken());
            return self.fail(path, &why);
        }
        Ok(())
    }

    /// The picture with what was seen, as `<name>.jpg`, of a film `<name>-<frame>.jpg`.
    fn draw(
        &mut self,
        path: &Path,
        frame: Option<u64>,
        (mut picture, places): (Frame, &[BayPlace]),
        sight: &Sight,
    ) -> Result<(), LookError> {
        let Some(folder) = self.annotate else { return Ok(()) };
        annotate::draw(&mut picture, places, sight);
        let stem = path.file_stem().map(|stem| stem.to_string_lossy()).unwrap_or_default();
        let number = frame.map_or_else(String::new, |frame| format!("-{frame:06}"));
        match picture.jpeg(ANNOTATED_QUALITY) {
            Ok(jpeg) => Ok(std::fs::write(folder.join(format!("{stem}{number}.jpg")), jpeg)?),
            Err(error) => self.fail(path, &error.to_string()),
        }
    }

    fn tell(
        &mut self,
        path: &Path,
        time: Option<(u64, Duration)>,
        sight: &Sight,
        before: Duration,
    ) -> Result<(), LookError> {
        let ((frame, at), is_alone) = (time.unwrap_or_default(), time.is_none());
        self.seen.frames += 1;
        let cpu_ms = cpu_time().saturating_sub(before).as_secs_f64() * 1000.0;
        let stirs = sight.parts.iter().filter_map(|look| look.stirs).max();
        let round = |value: f64| (value * 10_000.0).round() / 10_000.0;
        if self.json {
            let bay = |look: &crate::logic::vision::BayLook| json!({"id": look.id, "occupied": round(look.occupied), "state": look.state});
            let line = json!({
                "source": path.display().to_string(),
                "frame": frame,
                "at_s": round(at.as_secs_f64()),
                "fire": round(sight.fire),
                "smoke": round(sight.smoke),
                "verdict": sight.verdict,
                "tier": sight.tier,
                "alone": is_alone,
                "stirs_s": stirs.map(|stirs| round(stirs.as_secs_f64())),
                "bays": sight.bays.iter().map(bay).collect::<Vec<_>>(),
                "cpu_ms": round(cpu_ms),
            });
            writeln!(self.out, "{line}")?;
            return Ok(());
        }
        let verdict = match sight.verdict {
            Verdict::Clear => "clear",
            Verdict::Doubtful => "doubtful",
            Verdict::Alarm => "ALARM",
        };
        let seen = match stirs {
            _ if is_alone => "one picture".to_owned(),
            None => "still".to_owned(),
            Some(stirs) => format!("stirs {:.1} s", stirs.as_secs_f64()),
        };
        let bays: Vec<String> =
            sight.bays.iter().map(|look| format!("{}={:?}", look.id, look.state)).collect();
        writeln!(
            self.out,
            "{} @{:.2}s  {verdict:8} fire {:.2} smoke {:.2}  {seen}  {} {:.1} ms",
            path.display(),
            at.as_secs_f64(),
            sight.fire,
            sight.smoke,
            bays.join(" "),
            cpu_ms,
        )?;
        Ok(())
    }
}

fn extension(path: &Path) -> String {
    path.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default()
}
