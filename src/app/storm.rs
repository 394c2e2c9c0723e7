//! Restart storms: a gateway that crashes again and again at its start must not go on switching things.
//! Five crashes within a minute, and the next start is in safe mode: page and reading only.
//!
//! What a stranger gets wrong: being killed is not a crash. A start that came as far as a decision that may
//! be written is forgotten; a panic is counted whenever it comes.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Crashes, and the time in which they make a storm (fault PR7).
const CRASHES: usize = 5;
const WITHIN: Duration = Duration::from_secs(60);
/// A start that lasted this long was one, even if nothing could be written. Our own figure.
pub const LASTED: Duration = Duration::from_secs(20);
const FILE: &str = "starts";

/// This start, in the state folder's list of starts that have not proven themselves. A line is when, and which
/// start it belongs to: by the time of that start, since numbers of processes come again, in containers always.
#[derive(Clone, Debug)]
pub struct Start {
    file: PathBuf,
    mine: String,
}

/// Lines of `file` that are not older than a minute at `uptime` (time since boot; a list of an earlier boot
/// lies in the future and does not count).
fn recent(file: &Path, uptime: Duration) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let counts = |line: &&str| {
        let at = line.split(' ').next().and_then(|ms| ms.parse::<u64>().ok());
        let age = at.and_then(|ms| uptime.checked_sub(Duration::from_millis(ms)));
        age.is_some_and(|age| age < WITHIN)
    };
    text.lines().filter(counts).map(str::to_owned).collect()
}

fn write(file: &Path, lines: &[String]) -> io::Result<()> {
    let fresh = file.with_extension("new");
    fs::write(&fresh, lines.iter().map(|line| format!("{line}\n")).collect::<String>())?;
    fs::rename(&fresh, file)
}

impl Start {
    /// Notes a start. Whether it is one of a storm, and must be in safe mode.
    pub fn begin(state: &Path, uptime: Duration) -> (Start, bool) {
        let file = state.join(FILE);
        let mut lines = recent(&file, uptime);
        // A start that also panicked has two lines and is one crash.
        let starts: BTreeSet<&str> = lines.iter().filter_map(|l| l.split(' ').nth(1)).collect();
        let storm = starts.len() >= CRASHES;
        let mine = line(uptime, uptime);
        lines.push(mine.clone());
        if let Err(error) = write(&file, &lines) {
            tracing::warn!(%error, "starts cannot be counted");
        }
        (Start { file, mine }, storm)
    }

    /// This start has proven itself, or was ended on purpose.
    pub fn forget(&self, uptime: Duration) {
        let mut lines = recent(&self.file, uptime);
        lines.retain(|line| *line != self.mine);
        if let Err(error) = write(&self.file, &lines) {
            tracing::warn!(%error, "starts cannot be counted");
        }
    }
}

fn line(at: Duration, began: Duration) -> String {
    format!("{} {}", at.as_millis(), began.as_millis())
}

/// Notes a panic of a thread that must not be missing, in a process that `began` then; called from the panic
/// itself.
pub fn note_panic(state: &Path, uptime: Duration, began: Duration) {
    let file = fs::OpenOptions::new().append(true).create(true).open(state.join(FILE));
    let noted = file.and_then(|mut file| writeln!(file, "{}", line(uptime, began)));
    if let Err(error) = noted {
        tracing::warn!(%error, "a panic cannot be counted");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(1000 + seconds)
    }

    #[test]
    fn five_crashes_in_a_minute_are_a_storm_and_a_minute_later_it_is_over() {
        let folder = tempfile::tempdir().unwrap();
        for second in 0..5 {
            let began = at(second * 10);
            let (_, storm) = Start::begin(folder.path(), began);
            // The same start also panics: still one crash.
            note_panic(folder.path(), began + Duration::from_millis(300), began);
            assert!(!storm, "{second}");
        }
        assert!(Start::begin(folder.path(), at(50)).1);
        assert!(!Start::begin(folder.path(), at(200)).1);
    }

    #[test]
    fn starts_that_prove_themselves_are_forgotten_and_panics_are_not() {
        let folder = tempfile::tempdir().unwrap();
        for second in 0..20 {
            let (start, storm) = Start::begin(folder.path(), at(second));
            assert!(!storm, "{second}");
            start.forget(at(second));
        }
        for second in 20..25 {
            let (start, storm) = Start::begin(folder.path(), at(second));
            assert!(!storm, "{second}");
            start.forget(at(second));
            note_panic(folder.path(), at(second), at(second));
        }
        assert!(Start::begin(folder.path(), at(26)).1);
    }

    #[test]
    fn a_list_of_an_earlier_boot_or_of_nonsense_does_not_count() {
        let folder = tempfile::tempdir().unwrap();
        let future: String = (0..9).map(|n| format!("{} {n}\n", 90_000_000 + n)).collect();
        fs::write(folder.path().join(FILE), future + "x y\n\n7\n").unwrap();
        assert!(!Start::begin(folder.path(), at(0)).1);
    }
}
