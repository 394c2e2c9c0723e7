//! Pictures of what the eyes doubted, in the state folder (`evidence/CAMERA/TIME-VERDICT.jpg`), for whoever looks
//! later: a person, or the big net when energy is cheap.
//!
//! What a stranger gets wrong: an event has so many pictures and no more, the whole folder so many bytes and days.
//! The oldest go first, whatever they show.

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
/// Time in a file's name.
const TIME: &str = "%Y%m%dT%H%M%S%3fZ";
const PICTURE: &str = "jpg";
/// What a review leaves beside a picture.
const REVIEW: &str = "json";

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
}

/// Keeps pictures.
#[derive(Debug)]
pub struct Evidence {
    folder: PathBuf,
    /// The running event of each camera: when the last doubt was, and pictures so far.
    events: BTreeMap<Id, (DateTime<Utc>, u32)>,
    most_bytes: u64,
}

impl Evidence {
    /// Keeps them in this state folder.
    #[must_use]
    pub fn open(state: &Path) -> Evidence {
        Evidence { folder: state.join(FOLDER), events: BTreeMap::new(), most_bytes: MOST_BYTES }
    }

    /// Keeps a picture that was doubted, unless its event has enough. Whether it was kept.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn keep(
        &mut self,
        (camera, at): (&Id, DateTime<Utc>),
        verdict: &str,
        jpeg: &[u8],
    ) -> io::Result<bool> {
        let event = self.events.entry(camera.clone()).or_insert((at, 0));
        if (at - event.0).num_seconds() > NEW_EVENT_S {
            event.1 = 0;
        }
        event.0 = at;
        if event.1 >= MOST_AN_EVENT {
            return Ok(false);
        }
        event.1 += 1;
        let folder = self.folder.join(camera.as_str());
        fs::create_dir_all(&folder)?;
        replace(&folder, &format!("{}-{verdict}.{PICTURE}", at.format(TIME)), jpeg)?;
        self.forget_old(at)?;
        Ok(true)
    }

    /// Makes room: what is too old, and the oldest of what is too much.
    fn forget_old(&self, now: DateTime<Utc>) -> io::Result<()> {
        let pictures = pictures_in(&self.folder)?;
        let size = |path: &Path| fs::metadata(path).map_or(0, |found| found.len());
        let sizes: Vec<u64> = pictures.iter().map(|p| size(&p.path) + size(&p.review())).collect();
        let mut bytes: u64 = sizes.iter().sum();
        for (picture, size) in pictures.iter().zip(sizes) {
            let old = (now - picture.at).num_days() >= MOST_DAYS;
            if old || bytes > self.most_bytes {
                bytes -= size;
                fs::remove_file(&picture.path)?;
                let _ = fs::remove_file(picture.review());
            }
        }
        Ok(())
    }
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
            evidence.keep((camera, at(second)), "doubtful", &[7; 1000]).unwrap()
        };
        let kept = (0..100).filter(|second| keep(&north, *second)).count();
        assert_eq!(kept, 30);
        assert!(keep(&south, 100), "another camera is another event");
        assert!(!keep(&north, 159), "the same one goes on");
        assert!(keep(&north, 220), "a minute of quiet ends it");
        let all = pictures(folder.path()).unwrap();
        assert_eq!((all.len(), all[0].at, all[0].verdict.as_str()), (32, at(0), "doubtful"));
        fs::write(all[0].review(), "{}").unwrap();
        fs::write(folder.path().join("evidence/north/note.txt"), "a person's").unwrap();
        evidence.most_bytes = 30_500;
        let week = 7 * 86_400;
        assert!(evidence.keep((&south, at(221)), "alarm", &[7; 1000]).unwrap());
        let left = pictures(folder.path()).unwrap();
        assert_eq!((left.len(), left[0].at), (30, at(3)), "the oldest three gave way");
        assert!(!all[0].review().exists());
        assert!(evidence.keep((&south, at(week + 220)), "alarm", &[7; 1000]).unwrap());
        let left: Vec<_> = pictures(folder.path()).unwrap().into_iter().map(|p| p.at).collect();
        assert_eq!(left, [at(221), at(week + 220)], "a week is over");
        assert!(folder.path().join("evidence/north/note.txt").exists());
    }
}
