//! Pictures of what the eyes doubted, in the state folder (`evidence/CAMERA/TIME-VERDICT.jpg`), for whoever looks
//! later: a person, or the big net when energy is cheap. Beside each stands what was known of it (`.seen.json`), and
//! what a review has said (`.json`); both go with it.
//!
//! What a stranger gets wrong: an event has so many pictures and no more, the whole folder so many bytes and days,
//! and all of them give way where the disk has little left. The oldest go first, whatever they show.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use chrono::{DateTime, NaiveDateTime, Utc};

use super::whole::replace;
use crate::logic::site::Id;

/// Folder of them, in the state folder.
const FOLDER: &str = "evidence";
/// Pictures of one event.
const MOST_AN_EVENT: u32 = 30;
/// So long without a doubt, and the next is another event.
const NEW_EVENT_S: i64 = 60;
/// How long they are kept.
const MOST_DAYS: i64 = 7;
/// What they may take, bytes.
const MOST_BYTES: u64 = 500 << 20;
/// What they leave free of the disk, bytes: latch, books and outbox need it more.
pub(super) const LEAST_FREE: u64 = 64 << 20;
/// Looking through all of them takes a while: for old ones it is done this often, s.
const CLEARS_EVERY_S: i64 = 600;
/// Most that go for their age at a time: a clock may be wrong.
const MOST_AT_ONCE: usize = 60;
/// What a write that was cut off leaves behind.
const HALF: &str = "new";
/// Time in a file's name.
const TIME: &str = "%Y%m%dT%H%M%S%3fZ";
const PICTURE: &str = "jpg";
/// What a review leaves beside a picture.
const REVIEW: &str = "json";
/// What was known of it when it was taken.
const SEEN: &str = "seen.json";
/// Verdict of a picture in which fire was confirmed.
pub const ALARM: &str = "alarm";
/// Verdict of a picture that is kept because a charger knew better: no matter of fire.
pub const DISAGREED: &str = "disagreed";

/// One kept picture.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Picture {
    /// When it was taken.
    pub at: DateTime<Utc>,
    /// Of which camera.
    pub camera: String,
    /// What was thought of it then.
    pub verdict: String,
    /// Where it is.
    pub path: PathBuf,
}

impl Picture {
    /// Where a review of it is left.
    #[must_use]
    pub fn review(&self) -> PathBuf {
        self.path.with_extension(REVIEW)
    }

    /// Where it stands what was known of it when it was taken.
    #[must_use]
    pub fn seen(&self) -> PathBuf {
        self.path.with_extension(SEEN)
    }

    /// The picture and what stands beside it, bytes.
    fn size(&self) -> u64 {
        let files = [self.path.clone(), self.review(), self.seen()];
        files.iter().filter_map(|file| fs::metadata(file).ok()).map(|found| found.len()).sum()
    }
}

/// Keeps pictures.
#[derive(Debug)]
pub struct Evidence {
    folder: PathBuf,
    /// The running event of each camera, and beside it that of its alarms: a doubt that lasts all day must not have taken
    /// what a fire in the evening needs. When the last one was, and pictures so far.
    events: BTreeMap<(Id, bool), (DateTime<Utc>, u32)>,
    /// When all were looked through, and what they have taken since, bytes.
    cleared: Option<(DateTime<Utc>, u64)>,
    most_bytes: u64,
    least_free: u64,
}

impl Evidence {
    /// Keeps them in this state folder, and removes what a power cut has left half written there.
    #[must_use]
    pub fn open(state: &Path) -> Evidence {
        let folder = state.join(FOLDER);
        let cameras = fs::read_dir(&folder).into_iter().flatten().flatten();
        let files = cameras.flat_map(|camera| fs::read_dir(camera.path()).into_iter().flatten());
        for path in files.flatten().map(|entry| entry.path()) {
            if path.extension().is_some_and(|extension| extension == HALF) || is_orphan(&path) {
                let _ = fs::remove_file(path);
            }
        }
        Evidence {
            folder,
            events: BTreeMap::new(),
            cleared: None,
            most_bytes: MOST_BYTES,
            least_free: LEAST_FREE,
        }
    }

    /// Keeps a picture that was doubted, and beside it what was known of it (nothing where that is empty), unless its
    /// event has enough. Whether it was kept.
    ///
    /// # Errors
    /// When the disk refuses, or has too little left for anything but what the gateway needs.
    pub fn keep(
        &mut self,
        (camera, at): (&Id, DateTime<Utc>),
        verdict: &str,
        (jpeg, seen): (&[u8], &[u8]),
    ) -> io::Result<bool> {
        let event = self.events.entry((camera.clone(), verdict == ALARM)).or_insert((at, 0));
        if (at - event.0).num_seconds() > NEW_EVENT_S {
            event.1 = 0;
        }
        event.0 = at;
        if event.1 >= MOST_AN_EVENT {
            return Ok(false);
        }
        event.1 += 1;
        let size = (jpeg.len() + seen.len()) as u64;
        let folder = self.folder.join(camera.as_str());
        fs::create_dir_all(&self.folder)?;
        // First of all: after a write that fails there would never be room again.
        self.make_room(at, size)?;
        fs::create_dir_all(&folder)?;
        let name = format!("{}-{verdict}", at.format(TIME));
        replace(&folder, &format!("{name}.{PICTURE}"), jpeg)?;
        if !seen.is_empty() {
            replace(&folder, &format!("{name}.{SEEN}"), seen)?;
        }
        self.cleared = self.cleared.map(|(when, bytes)| (when, bytes + size));
        Ok(true)
    }

    /// Room for `more` bytes, looking through all pictures only where that is due.
    fn make_room(&mut self, now: DateTime<Utc>, more: u64) -> io::Result<()> {
        let needed = self.least_free.saturating_add(more);
        let known = self.cleared.is_some_and(|(when, bytes)| {
            (now - when).num_seconds().abs() < CLEARS_EVERY_S && bytes + more <= self.most_bytes
        });
        if known && self.free()? >= needed {
            return Ok(());
        }
        self.cleared = None;
        self.cleared = Some((now, self.forget_old(now, more)?));
        if self.free()? < needed {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    /// What the disk has left, bytes.
    fn free(&self) -> io::Result<u64> {
        free(&self.folder)
    }

    /// Removes what is too old, and the oldest of what is too much for `more` bytes to come; what is left, bytes.
    fn forget_old(&self, now: DateTime<Utc>, more: u64) -> io::Result<u64> {
        let pictures = pictures_in(&self.folder)?;
        let sizes: Vec<u64> = pictures.iter().map(Picture::size).collect();
        let mut bytes: u64 = sizes.iter().sum();
        let theirs = bytes.saturating_add(self.free()?).saturating_sub(self.least_free);
        let mut most = self.most_bytes.min(theirs);
        if bytes + more > most {
            // A little more, so that the next ones find room without all this.
            most -= most / 16;
        }
        let mut aged = 0;
        for (picture, size) in pictures.iter().zip(sizes) {
            let old = aged < MOST_AT_ONCE && (now - picture.at).num_days() >= MOST_DAYS;
            aged += usize::from(old);
            if old || bytes + more > most {
                bytes -= size;
                fs::remove_file(&picture.path)?;
                let _ = fs::remove_file(picture.review());
                let _ = fs::remove_file(picture.seen());
            }
        }
        Ok(bytes)
    }
}

/// What the disk of a folder has left, bytes.
pub(super) fn free(folder: &Path) -> io::Result<u64> {
    let disk = rustix::fs::statvfs(folder)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// Whether a file is about a picture that is gone: a power cut came between.
fn is_orphan(path: &Path) -> bool {
    let stem =
        path.file_name().and_then(|name| name.to_str()).and_then(|name| name.split_once('.'));
    let Some((stem, extension)) = stem else { return false };
    let jpeg = path.with_file_name(format!("{stem}.{PICTURE}"));
    [REVIEW, SEEN].contains(&extension) && !jpeg.exists() && picture("", jpeg).is_some()
}

/// All that are kept in a state folder, the oldest first.
///
/// # Errors
/// When the folder is there and cannot be read.
pub fn pictures(state: &Path) -> io::Result<Vec<Picture>> {
    pictures_in(&state.join(FOLDER))
}

fn pictures_in(folder: &Path) -> io::Result<Vec<Picture>> {
    let mut found = Vec::new();
    let cameras = match fs::read_dir(folder) {
        Ok(cameras) => cameras,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        Err(error) => return Err(error),
    };
    for camera in cameras.flatten().filter(|entry| entry.path().is_dir()) {
        let name = camera.file_name().to_string_lossy().into_owned();
        let files = fs::read_dir(camera.path())?.flatten().map(|entry| entry.path());
        found.extend(files.filter_map(|path| picture(&name, path)));
    }
    found.sort();
    Ok(found)
}

/// Nothing where the file is not ours.
fn picture(camera: &str, path: PathBuf) -> Option<Picture> {
    let stem = path.file_stem()?.to_str()?;
    let (time, verdict) = stem.split_once('-')?;
    let at = NaiveDateTime::parse_from_str(time, TIME).ok()?.and_utc();
    let ours = path.extension()? == PICTURE;
    let (camera, verdict) = (camera.to_owned(), verdict.to_owned());
    ours.then_some(Picture { at, camera, verdict, path })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_777_888_800 + second, 250_000_000).unwrap()
    }

    #[test]
    fn an_event_has_so_many_pictures_and_the_folder_so_many_bytes_and_days() {
        let folder = tempfile::tempdir().unwrap();
        let mut evidence = Evidence::open(folder.path());
        let (north, south) = (Id::try_from("north").unwrap(), Id::try_from("south").unwrap());
        assert_eq!(pictures(folder.path()).unwrap(), []);
        let mut keep = |camera: &Id, second| {
            evidence.keep((camera, at(second)), "doubtful", (&[7; 1000], b"")).unwrap()
        };
        let kept = (0..100).filter(|second| keep(&north, *second)).count();
        assert_eq!(kept, 30);
        assert!(keep(&south, 100), "another camera is another event");
        assert!(!keep(&north, 159), "the same one goes on");
        assert!(keep(&north, 220), "a minute of quiet ends it");
        let all = pictures(folder.path()).unwrap();
        assert_eq!((all.len(), all[0].at, all[0].verdict.as_str()), (32, at(0), "doubtful"));
        fs::write(all[0].review(), "{}").unwrap();
        fs::write(all[0].seen(), "{}").unwrap();
        fs::write(folder.path().join("evidence/north/note.txt"), "a person's").unwrap();
        evidence.most_bytes = 30_500;
        let week = 7 * 86_400;
        assert!(evidence.keep((&south, at(221)), "alarm", (&[7; 1000], b"")).unwrap());
        let left = pictures(folder.path()).unwrap();
        assert_eq!((left.len(), left[0].at), (28, at(5)), "the oldest gave way, a few at once");
        assert!(!all[0].review().exists() && !all[0].seen().exists());
        assert!(evidence.keep((&south, at(week + 220)), "alarm", (&[7; 1000], b"")).unwrap());
        let left: Vec<_> = pictures(folder.path()).unwrap().into_iter().map(|p| p.at).collect();
        assert_eq!(left, [at(221), at(week + 220)], "a week is over");
        assert!(folder.path().join("evidence/north/note.txt").exists());
    }

    /// A picture of long ago, whose name is all that says so.
    fn put(state: &Path, second: i64) -> PathBuf {
        let folder = state.join("evidence/north");
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join(format!("{}-alarm.jpg", at(second).format(TIME)));
        fs::write(&path, [7; 1000]).unwrap();
        path
    }

    #[test]
    fn a_doubt_that_lasts_takes_nothing_from_a_fire_that_follows() {
        let folder = tempfile::tempdir().unwrap();
        let mut evidence = Evidence::open(folder.path());
        let north = Id::try_from("north").unwrap();
        let mut keep = |second, verdict| {
            evidence.keep((&north, at(second)), verdict, (&[7; 1000], b"")).unwrap()
        };
        let doubts = (0..100).filter(|second| keep(*second, "doubtful")).count();
        let alarms = (100..200).filter(|second| keep(*second, ALARM)).count();
        assert_eq!((doubts, alarms), (30, 30));
    }

    #[test]
    fn a_disk_that_is_full_gets_its_room_back_before_anything_is_written() {
        let folder = tempfile::tempdir().unwrap();
        put(folder.path(), 0);
        let half = put(folder.path(), 1).with_extension("jpg.new");
        fs::write(&half, "cut off").unwrap();
        let mut evidence = Evidence::open(folder.path());
        assert!(!half.exists(), "what a power cut has left");
        let north = Id::try_from("north").unwrap();
        assert!(evidence.keep((&north, at(2)), "alarm", (&[7; 1000], b"")).unwrap());
        assert_eq!(pictures(folder.path()).unwrap().len(), 3);
        evidence.least_free = u64::MAX;
        let refused = evidence.keep((&north, at(3)), "alarm", (&[7; 1000], b"")).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::StorageFull);
        assert_eq!(pictures(folder.path()).unwrap(), [], "they give way");
        evidence.least_free = 0;
        assert!(evidence.keep((&north, at(4)), "alarm", (&[7; 1000], b"")).unwrap());
    }

    #[test]
    fn a_clock_that_is_ahead_takes_a_few_and_not_all() {
        let folder = tempfile::tempdir().unwrap();
        (0..200).for_each(|second| drop(put(folder.path(), second)));
        let mut evidence = Evidence::open(folder.path());
        let (north, year) = (Id::try_from("north").unwrap(), 365 * 86_400);
        assert!(evidence.keep((&north, at(70 * year)), "alarm", (&[7; 1000], b"")).unwrap());
        let left = pictures(folder.path()).unwrap();
        assert_eq!((left.len(), left[0].at), (141, at(60)));
    }

    #[test]
    fn all_pictures_are_looked_through_seldom() {
        let folder = tempfile::tempdir().unwrap();
        let mut evidence = Evidence::open(folder.path());
        let north = Id::try_from("north").unwrap();
        let mut keep =
            |second| evidence.keep((&north, at(second)), "alarm", (&[7; 1000], b"")).unwrap();
        assert!(keep(0));
        let old = put(folder.path(), -8 * 86_400);
        assert!(keep(1) && keep(599) && old.exists());
        assert!(keep(600) && !old.exists());
    }

    #[test]
    fn what_is_known_of_a_picture_is_kept_counted_and_goes_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut evidence = Evidence::open(folder.path());
        let north = Id::try_from("north").unwrap();
        let mut keep = |second, seen: &[u8]| {
            evidence.keep((&north, at(second)), "alarm", (&[7; 1000], seen)).unwrap()
        };
        assert!(keep(0, &[b' '; 500]) && keep(1, b""));
        let all = pictures(folder.path()).unwrap();
        assert_eq!(all.iter().map(Picture::size).collect::<Vec<_>>(), [1500, 1000]);
        assert_eq!(fs::read(all[0].seen()).unwrap().len(), 500);
        assert!(!all[1].seen().exists(), "nothing was known");
        // What a power cut has left of a picture that is gone goes at the next start, and nothing else.
        fs::write(all[1].review(), "{}").unwrap();
        fs::remove_file(&all[0].path).unwrap();
        let note = folder.path().join("evidence/north/note.json");
        fs::write(&note, "a person's").unwrap();
        drop(Evidence::open(folder.path()));
        assert!(!all[0].seen().exists() && all[1].review().exists() && note.exists());
    }
}
