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
use serde::{Deserialize, Serialize};

use super::bays::BayPlace;
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
/// How often what is usual is written down.
const KEPT_EVERY: Duration = Duration::from_secs(300);

/// A file.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    /// Sum of what the pattern is of: address and bays.
    of: u32,
    /// When the camera was last looked at, healthy or not.
    at: DateTime<Utc>,
    usual: Usual,
    /// Cells of the glance.
    pattern: Vec<u8>,
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
}

/// The file of a camera in a state folder.
#[must_use]
pub fn file(state: &Path, camera: &Id) -> PathBuf {
    state.join(FOLDER).join(format!("{camera}.json"))
}

impl Memory {
    /// Starts the thread that writes.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn open(state: &Path, cameras: &[CameraSource]) -> io::Result<Memory> {
        let (memory, files) = Memory::new(state, cameras);
        std::thread::Builder::new().name("memory of cameras".to_owned()).spawn(|| write(files))?;
        Ok(memory)
    }

    fn new(state: &Path, cameras: &[CameraSource]) -> (Memory, Receiver<(PathBuf, Vec<u8>)>) {
        let (writer, files) = sync_channel(MOST_WAITING);
        let urls = cameras.iter().map(|camera| (camera.id.clone(), camera.url.clone())).collect();
        let (seen, written) = (BTreeSet::new(), BTreeMap::new());
        (Memory { folder: state.to_owned(), urls, writer, seen, written }, files)
    }

    /// Tells a watch what its camera usually showed, where that is known and still of the same place.
    pub fn recall(&self, camera: &Id, places: &[BayPlace], watch: &mut Watch, now: Moment) {
        let kept = read(&file(&self.folder, camera));
        let Some(kept) = kept.filter(|kept| kept.of == self.of(camera, places)) else { return };
        let passed = (now.utc - kept.at).to_std();
        watch.recall((kept.usual, &kept.pattern), passed.is_ok_and(|passed| passed < LATELY));
    }

    /// Writes down what a camera usually shows, now and then. Where its file was taken away, it is learned anew.
    pub fn tend(&mut self, camera: &Id, places: &[BayPlace], watch: &mut Watch, now: Moment) {
        let path = file(&self.folder, camera);
        if path.exists() {
            self.seen.insert(camera.clone());
        } else if self.seen.remove(camera) {
            tracing::info!(%camera, "what it usually shows is learned anew");
            self.written.remove(camera);
            watch.unlearn();
        }
        let written = self.written.get(camera);
        if written.is_some_and(|written| written.age_at(now) < KEPT_EVERY) {
            return;
        }
        let Some((usual, pattern)) = watch.usual() else { return };
        let kept = Kept { of: self.of(camera, places), at: now.utc, usual, pattern };
        let bytes = serde_json::to_vec(&kept).unwrap_or_default();
        // A queue that is full means a disk that hangs: it is tried again at the next time.
        let _ = self.writer.try_send((path, bytes));
        self.written.insert(camera.clone(), now);
    }

    fn of(&self, camera: &Id, places: &[BayPlace]) -> u32 {
        let polygons = places.iter().map(|place| format!("{} {:?}", place.id, place.polygon));
        let url = self.urls.get(camera).cloned().into_iter();
        crc32fast::hash(url.chain(polygons).collect::<Vec<_>>().join("\n").as_bytes())
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

fn read(path: &Path) -> Option<Kept> {
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
    use crate::logic::vision::CameraFault;

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
            let source = CameraSource { id, url, is_stream: false, login: None, masks: Vec::new() };
            let (mut memory, files) = Memory::new(self.state.path(), &[source]);
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
}
