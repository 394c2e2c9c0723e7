//! What each camera usually shows, kept in the state folder (`eyes/CAMERA.json`), so that a camera that was turned,
//! covered or put out of focus is not learned as usual by eyes that were started again.
//!
//! What a stranger gets wrong: somebody who turns a camera on purpose wants it to be learned anew. It is when its
//! address or its bays have changed in the site file, and when its file is taken away (`wattgate camera
//! relearn`), at once and without a restart. The thread that writes is one of its own: no disk keeps the eyes
//! from looking.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::bays::BayPlace;
use super::calibrated::{self, Calibrated};
use super::eyes::Watch;
use crate::config::CameraSource;
use crate::logic::site::Id;
use crate::logic::vision::Usual;
use crate::units::Moment;

/// Folder in the state folder.
const FOLDER: &str = "eyes";
/// A kept pattern is some ten kilobytes; anything above is not ours.
const MOST_BYTES: u64 = 1 << 20;
/// Files that may wait for the disk.
const MOST_WAITING: usize = 64;
/// Light changes contrast and detail within this time (our own figure).
const LATELY: Duration = Duration::from_secs(15 * 60);
/// How often a camera's own cuts are looked for: a job may have found new ones.
const CUTS_EVERY: Duration = Duration::from_secs(60);
/// How often what is usual is written down.
const KEPT_EVERY: Duration = Duration::from_secs(300);

/// A file.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    /// Sum of what the pattern is of: address and bays.
    of: u32,
    /// Since when this is learned.
    since: DateTime<Utc>,
    /// When the camera was last looked at, healthy or not.
    at: DateTime<Utc>,
    usual: Usual,
    /// Cells of the glance.
    pattern: Vec<u8>,
}

/// What is learned of which camera, of a file.
#[derive(Debug, Deserialize)]
struct Learned {
    of: u32,
    since: DateTime<Utc>,
}

/// The memory of all cameras.
pub struct Memory {
    folder: PathBuf,
    urls: BTreeMap<Id, String>,
    writer: SyncSender<(PathBuf, Vec<u8>)>,
    /// Cameras whose file has been seen.
    seen: BTreeSet<Id>,
    /// When each camera was last written down.
    written: BTreeMap<Id, Moment>,
    /// When each camera's own cuts were last asked for.
    asked: BTreeMap<Id, Moment>,
    /// Since when each camera's pattern is learned.
    since: BTreeMap<Id, DateTime<Utc>>,
    /// The net whose scores the cuts are of; nothing where no net of ours reads the bays.
    net: Option<String>,
}

/// The file of a camera in a state folder.
#[must_use]
pub fn file(state: &Path, camera: &Id) -> PathBuf {
    state.join(FOLDER).join(format!("{camera}.json"))
}

/// What the scores of a camera's bays are of now, as [`Memory::scored_by`] says; nothing where nothing is known of it.
#[must_use]
pub fn scored_by(state: &Path, camera: &Id, (net, of): (&str, u32)) -> Option<u32> {
    let learned: Learned = read(&file(state, camera))?;
    (learned.of == of).then(|| calibrated::scored_by(net, of, learned.since))
}

impl Memory {
    /// Starts the thread that writes.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn open(state: &Path, cameras: &[CameraSource], net: Option<&str>) -> io::Result<Memory> {
        let (memory, files) = Memory::new(state, cameras, net);
        std::thread::Builder::new().name("memory of cameras".to_owned()).spawn(|| write(files))?;
        Ok(memory)
    }

    fn new(
        state: &Path,
        cameras: &[CameraSource],
        net: Option<&str>,
    ) -> (Memory, Receiver<(PathBuf, Vec<u8>)>) {
        let (writer, files) = sync_channel(MOST_WAITING);
        let urls = cameras.iter().map(|camera| (camera.id.clone(), camera.url.clone())).collect();
        let (seen, written) = (BTreeSet::new(), BTreeMap::new());
        let (asked, since) = (BTreeMap::new(), BTreeMap::new());
        let (folder, net) = (state.to_owned(), net.map(str::to_owned));
        (Memory { folder, urls, writer, seen, written, asked, since, net }, files)
    }

    /// Tells a watch what its camera usually showed, where that is known and still of the same place.
    pub fn recall(&mut self, camera: &Id, places: &[BayPlace], watch: &mut Watch, now: Moment) {
        self.calibrate(camera, places, watch);
        let of = self.of(camera, places);
        let kept: Option<Kept> = read(&file(&self.folder, camera));
        let kept = kept.filter(|kept| kept.of == of);
        let since = kept.as_ref().map_or(now.utc, |kept| kept.since);
        self.since.insert(camera.clone(), since);
        let Some(kept) = kept else { return };
        let passed = (now.utc - kept.at).to_std();
        watch.recall((kept.usual, &kept.pattern), passed.is_ok_and(|passed| passed < LATELY));
    }

    /// Writes down what a camera usually shows, now and then. Where its file was taken away, it is learned anew.
    pub fn tend(&mut self, camera: &Id, places: &[BayPlace], watch: &mut Watch, now: Moment) {
        if self.asked.get(camera).is_none_or(|asked| asked.age_at(now) >= CUTS_EVERY) {
            self.asked.insert(camera.clone(), now);
            self.calibrate(camera, places, watch);
        }
        let path = file(&self.folder, camera);
        if path.exists() {
            self.seen.insert(camera.clone());
        } else if self.seen.remove(camera) {
            tracing::info!(%camera, "what it usually shows is learned anew");
            self.written.remove(camera);
            self.asked.remove(camera);
            self.since.insert(camera.clone(), now.utc);
            watch.unlearn();
        }
        let written = self.written.get(camera);
        if written.is_some_and(|written| written.age_at(now) < KEPT_EVERY) {
            return;
        }
        let Some((usual, pattern)) = watch.usual() else { return };
        let since = self.since.get(camera).copied().unwrap_or(now.utc);
        let kept = Kept { of: self.of(camera, places), since, at: now.utc, usual, pattern };
        let bytes = serde_json::to_vec(&kept).unwrap_or_default();
        // A queue that is full means a disk that hangs: it is tried again at the next time.
        let _ = self.writer.try_send((path, bytes));
        self.written.insert(camera.clone(), now);
    }

    /// The cuts that are kept for this camera, while they are of this net and these places.
    fn calibrate(&self, camera: &Id, places: &[BayPlace], watch: &mut Watch) {
        let of = self.of(camera, places);
        let holds = |kept: &Calibrated| self.net.as_ref().is_some_and(|net| kept.holds(net, of));
        let kept = Calibrated::read(&self.folder, camera).filter(holds);
        watch.calibrate(kept.map(|kept| kept.calibration.cuts));
    }

    /// What the scores of a camera's bays are of: this net, and what this camera shows since it was learned.
    #[must_use]
    pub fn scored_by(&self, camera: &Id, places: &[BayPlace]) -> Option<u32> {
        let (net, since) = (self.net.as_deref()?, self.since.get(camera)?);
        Some(calibrated::scored_by(net, self.of(camera, places), *since))
    }

    fn of(&self, camera: &Id, places: &[BayPlace]) -> u32 {
        calibrated::place(self.urls.get(camera).map(String::as_str), places)
    }
}

/// Writes whatever comes, until nobody sends any more.
fn write(files: Receiver<(PathBuf, Vec<u8>)>) {
    for (path, bytes) in files {
        if let Err(error) = put(&path, &bytes) {
            tracing::warn!(file = %path.display(), %error, "what a camera usually shows is not kept");
        }
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    let length = fs::metadata(path).ok()?.len();
    let bytes = (length <= MOST_BYTES).then(|| fs::read(path).ok()).flatten()?;
    let kept = serde_json::from_slice(&bytes);
    if kept.is_err() {
        tracing::warn!(file = %path.display(), "not usable: what the camera usually shows is learned anew");
    }
    kept.ok()
}

/// A new file in the place of the old, so that there is always a whole one. Losing the last one in a power cut
/// is no harm: then the one before is there, or none.
fn put(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let fresh = path.with_extension("new");
    fs::write(&fresh, bytes)?;
    fs::rename(&fresh, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::vision::Eyes;
    use crate::io::camera::Frame;
    use crate::io::clock::Clock;
    use crate::io::inference::{Engine, folders};
    use crate::logic::site::Labels;
    use crate::logic::vision::{BayCuts, BayState, Calibration, CameraFault, Occupancy, calibrate};

    /// Blocks of grey, moved by `shift` pixels, with a sensor's noise.
    fn place(rng: &mut fastrand::Rng, shift: usize) -> Frame {
        let pixel = |i: usize| {
            let (x, y) = (i % 320 + shift, i / 320);
            [(20 + (x / 20 * 37 + y / 30 * 91) % 7 * 30) as u8 + rng.u8(0..6); 3]
        };
        Frame { rgb: (0..320 * 180).flat_map(pixel).collect(), width: 320, height: 180 }
    }

    struct Rig {
        eyes: Eyes,
        state: tempfile::TempDir,
        rng: fastrand::Rng,
        camera: Id,
        now: Moment,
    }

    impl Rig {
        /// A life of the eyes: looks once a second for so long; the fault at the end.
        fn life(
            &mut self,
            (url, bays): (&str, &[BayPlace]),
            shift: usize,
            seconds: u64,
        ) -> Option<CameraFault> {
            let (id, url) = (self.camera.clone(), url.to_owned());
            let source = CameraSource {
                id,
                url,
                is_stream: false,
                login: None,
                passport: None,
                masks: Vec::new(),
            };
            let (mut memory, files) = Memory::new(self.state.path(), &[source], Some("net"));
            let mut watch = self.eyes.watch(bays.to_vec());
            memory.recall(&self.camera, bays, &mut watch, self.now);
            let mut fault = None;
            for _ in 0..seconds {
                self.now = self.now.after(Duration::from_secs(1));
                let frame = place(&mut self.rng, shift);
                fault = self.eyes.see(&mut watch, self.now.uptime, &frame).unwrap().fault;
                memory.tend(&self.camera, bays, &mut watch, self.now);
            }
            drop(memory);
            write(files);
            fault
        }
    }

    #[test]
    fn cam3_a_camera_turned_while_the_eyes_were_down_is_told_until_somebody_has_it_learned_anew() {
        let folder = folders::with("big");
        let mut rig = Rig {
            eyes: Eyes::open(folder.path(), Engine::Best).unwrap(),
            state: tempfile::tempdir().unwrap(),
            rng: fastrand::Rng::with_seed(11),
            camera: Id::try_from("cam").unwrap(),
            now: Clock::real().now(),
        };
        let yard = ("http://cam/", &[][..]);
        assert_eq!(rig.life(yard, 0, 8), None, "a new camera is learned");
        assert_eq!(rig.life(yard, 90, 18), Some(CameraFault::Moved));
        rig.now = rig.now.after(Duration::from_secs(86_400));
        assert_eq!(rig.life(yard, 90, 18), Some(CameraFault::Moved), "a day later, too");
        assert_eq!(rig.life(yard, 0, 18), None, "turned back");
        assert_eq!(
            rig.life(("http://other/", &[]), 90, 18),
            None,
            "another address, another place"
        );
        assert_eq!(rig.life(("http://other/", &[]), 0, 18), Some(CameraFault::Moved));
        fs::remove_file(file(rig.state.path(), &rig.camera)).unwrap();
        assert_eq!(rig.life(("http://other/", &[]), 0, 18), None, "learned anew");
        fs::write(file(rig.state.path(), &rig.camera), b"not what was written").unwrap();
        assert_eq!(rig.life(("http://other/", &[]), 90, 8), None, "a damaged file is none");
    }

    /// Labels end with it: see `site::labels`.
    #[test]
    fn what_scores_are_of_outlives_a_restart_and_ends_when_the_camera_is_learned_anew() {
        let folder = folders::with("big");
        let eyes = Eyes::open(folder.path(), Engine::Best).unwrap();
        let (state, camera) = (tempfile::tempdir().unwrap(), Id::try_from("cam").unwrap());
        let (url, is_stream, login) = ("http://cam/".to_owned(), false, None);
        let source = CameraSource {
            id: camera.clone(),
            url,
            is_stream,
            login,
            passport: None,
            masks: Vec::new(),
        };
        let mut rng = fastrand::Rng::with_seed(5);
        let mut now = Clock::real().now();
        // A life of the eyes with this net, in which the file may be taken away: what its scores are of in the end, and
        // as whoever reads the file finds it.
        let mut life = |net: Option<&str>, taken_away: bool| {
            let (mut memory, files) = Memory::new(state.path(), std::slice::from_ref(&source), net);
            let mut watch = eyes.watch(Vec::new());
            memory.recall(&camera, &[], &mut watch, now);
            for second in 0..30 {
                now = now.after(Duration::from_secs(1));
                eyes.see(&mut watch, now.uptime, &place(&mut rng, 0)).unwrap();
                memory.tend(&camera, &[], &mut watch, now);
                files.try_iter().for_each(|(path, bytes)| put(&path, &bytes).unwrap());
                if second == 10 && taken_away {
                    fs::remove_file(file(state.path(), &camera)).unwrap();
                }
            }
            let of = calibrated::place(Some("http://cam/"), &[]);
            let found = scored_by(state.path(), &camera, (net.unwrap_or("none"), of));
            (memory.scored_by(&camera, &[]), found)
        };
        let (first, found) = life(Some("net"), false);
        assert!(first.is_some() && found == first, "{first:?} {found:?}");
        assert_eq!(life(Some("net"), false), (first, first), "after a restart");
        assert_ne!(life(Some("other"), false).0, first, "another net");
        assert_eq!(life(None, false).0, None, "no net of ours");
        let (anew, found) = life(Some("net"), true);
        assert!(anew.is_some() && anew != first && found == anew, "{anew:?} {found:?}");
    }

    #[test]
    fn cuts_that_a_job_has_found_hold_for_their_net_and_place_and_no_other() {
        let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
        let eyes = Eyes::open(&models, Engine::General).unwrap();
        let (state, camera) = (tempfile::tempdir().unwrap(), Id::try_from("cam").unwrap());
        let polygon = vec![[0.1, 0.4], [0.4, 0.4], [0.4, 0.8], [0.1, 0.8]];
        let places = [BayPlace { id: Id::try_from("bay").unwrap(), polygon }];
        let mut rng = fastrand::Rng::with_seed(7);
        let url = "http://cam/".to_owned();
        let source = CameraSource {
            id: camera.clone(),
            url,
            is_stream: false,
            login: None,
            passport: None,
            masks: Vec::new(),
        };
        let (mut memory, _files) = Memory::new(state.path(), &[source], eyes.bay_net());
        let mut watch = eyes.watch(places.to_vec());
        let mut now = Clock::real().now();
        let mut look = |kept: Option<Calibrated>, recalls: bool| {
            let _ = fs::remove_file(calibrated::file(state.path(), &camera));
            kept.iter().for_each(|kept| kept.write(state.path(), &camera).unwrap());
            now = now.after(Duration::from_secs(61));
            if recalls {
                watch = eyes.watch(places.to_vec());
                memory.recall(&camera, &places, &mut watch, now);
            } else {
                memory.tend(&camera, &places, &mut watch, now);
            }
            let mut seen = eyes.see(&mut watch, now.uptime, &place(&mut rng, 0)).unwrap();
            for _ in 0..2 {
                now = now.after(Duration::from_secs(1));
                seen = eyes.see(&mut watch, now.uptime, &place(&mut rng, 0)).unwrap();
            }
            assert_eq!(seen.fault, None);
            (seen.bays[0].state, seen.bays[0].occupied)
        };
        let other = Id::try_from("cam-cuts").unwrap();
        assert_ne!(calibrated::file(state.path(), &camera), file(state.path(), &other));
        let (state, score) = look(None, false);
        // Cuts by which this very score says something else than by the net's own.
        let cuts = if state == BayState::Unknown {
            BayCuts { free_below: 0.499, occupied_above: 0.501 }
        } else {
            BayCuts { free_below: 0.001, occupied_above: 0.999 }
        };
        let wanted = Occupancy::single(score, cuts);
        assert_ne!(wanted, state, "{score}");
        let of = calibrated::place(Some("http://cam/"), &places);
        let calibration = Calibration { cuts, ..calibrate(cuts, &Labels::default()) };
        let found =
            Calibrated { net: eyes.bay_net().unwrap().to_owned(), of, at: now_utc(), calibration };
        assert_eq!(look(Some(found.clone()), false).0, wanted);
        assert_eq!(look(None, false).0, state, "taken away");
        assert_eq!(look(Some(found.clone()), true).0, wanted, "at a start");
        let other = Calibrated { net: "another".to_owned(), ..found.clone() };
        assert_eq!(look(Some(other), false).0, state, "of another net");
        assert_eq!(
            look(Some(Calibrated { of: of ^ 1, ..found }), true).0,
            state,
            "of another place"
        );
    }

    fn now_utc() -> DateTime<Utc> {
        Clock::real().now().utc
    }
}
