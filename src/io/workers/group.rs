//! A control group (cgroup v2) of one program: the kernel itself keeps the program and all it starts to a
//! share of the processor. It needs a folder that was handed to the gateway (systemd: `Delegate=cpu`).
//!
//! What a stranger gets wrong: a program is not moved into its group, it is born there. Its warden goes in,
//! starts it and goes out again, so that nothing it starts can be missed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Length of the kernel's accounting period, µs: its own default.
const PERIOD_US: f64 = 100_000.0;
/// Weight against the gateway's own group, which has the kernel's 100: a low priority counts only within a group.
const WEIGHT: &str = "1";
/// The kernel takes no smaller share.
const LEAST_US: f64 = 1_000.0;
/// The group in which the packaged unit runs the gateway itself, beside those of jobs.
const GATEWAYS: &str = "gateway";
/// How groups of jobs begin.
const NAME: &str = "job-";

/// The group of one program; it is removed when it is dropped.
#[derive(Debug)]
pub struct Group {
    folder: PathBuf,
    home: PathBuf,
}

impl Group {
    /// A new group below `parent` for what the process `own` starts.
    ///
    /// # Errors
    /// When there is no such folder, its processors cannot be shared out, or nothing may be written there.
    pub fn make(parent: &Path, own: i32, cores: f64) -> io::Result<Group> {
        let home = own_folder().ok_or_else(|| io::Error::other("not in a cgroup v2"))?;
        Group::below(parent, home, own, cores)
    }

    fn below(parent: &Path, home: PathBuf, own: i32, cores: f64) -> io::Result<Group> {
        let shares = |file: &str| -> io::Result<bool> {
            let text = fs::read_to_string(parent.join(file))?;
            Ok(text.split_whitespace().any(|controller| controller == "cpu"))
        };
        if !shares("cgroup.controllers")? {
            return Err(io::Error::other("the processor is not shared out here"));
        }
        if !shares("cgroup.subtree_control")? {
            fs::write(parent.join("cgroup.subtree_control"), "+cpu")?;
        }
        let group = Group { folder: parent.join(format!("{NAME}{own}")), home };
        fs::create_dir(&group.folder)?;
        // Better none than one that is as heavy as control and fire watch.
        fs::write(group.folder.join("cpu.weight"), WEIGHT)?;
        group.cap(cores)?;
        Ok(group)
    }

    /// From now on the program may use this much of the processor: 1 is one core. The kernel takes no less than
    /// a hundredth of a core.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn cap(&self, cores: f64) -> io::Result<()> {
        let quota = (cores * PERIOD_US).round().max(LEAST_US);
        fs::write(self.folder.join("cpu.max"), format!("{quota} {PERIOD_US}"))
    }

    /// What this process starts from now on is born in the group.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn enter(&self) -> io::Result<()> {
        fs::write(self.folder.join("cgroup.procs"), "0")
    }

    /// And from now on no more.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn leave(&self) -> io::Result<()> {
        fs::write(self.home.join("cgroup.procs"), "0")
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // One that is not empty stays, and is swept away at the next start.
        let _ = fs::remove_dir(&self.folder);
    }
}

/// Where groups of jobs may be made without being told: beside the gateway's own one, where that has the name
/// that only the packaged unit gives it.
#[must_use]
pub fn delegated() -> Option<PathBuf> {
    let own = own_folder()?;
    (own.file_name()? == GATEWAYS).then(|| own.parent().map(Path::to_owned))?
}

/// Removes empty groups that wardens which were killed have left behind.
pub fn sweep(parent: &Path) {
    let folders = fs::read_dir(parent).into_iter().flatten().flatten();
    for folder in folders.filter(|f| f.file_name().to_string_lossy().starts_with(NAME)) {
        let _ = fs::remove_dir(folder.path());
    }
}

/// The folder of the group in which this process is.
fn own_folder() -> Option<PathBuf> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    folder_of(&own, &mounts)
}

/// Formats of `cgroups(7)` and `proc(5)`.
fn folder_of(own: &str, mounts: &str) -> Option<PathBuf> {
    let path = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    let mount = mounts.lines().find_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        kind.starts_with("cgroup2 ").then(|| place.split(' ').nth(4))?
    })?;
    Some(Path::new(mount).join(path.trim_start_matches('/')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: PathBuf) -> String {
        fs::read_to_string(path).unwrap()
    }

    /// Files stand for the kernel here: what is written where is what it would obey to.
    #[test]
    fn a_program_is_born_in_a_group_that_has_its_share() {
        let folder = tempfile::tempdir().unwrap();
        let (parent, home) = (folder.path().to_owned(), folder.path().join("gateway"));
        fs::create_dir(&home).unwrap();
        let make = |own| Group::below(&parent, home.clone(), own, 0.25);
        assert!(make(7).is_err(), "no cgroup at all");
        fs::write(parent.join("cgroup.controllers"), "cpuset io memory pids").unwrap();
        fs::write(parent.join("cgroup.subtree_control"), "").unwrap();
        assert!(make(7).is_err(), "no `cpu`, though `cpuset`");
        assert!(!parent.join("job-7").exists());
        fs::write(parent.join("cgroup.controllers"), "cpuset cpu io").unwrap();
        let group = make(7).unwrap();
        assert_eq!(read(parent.join("cgroup.subtree_control")), "+cpu");
        assert_eq!(read(parent.join("job-7/cpu.max")), "25000 100000");
        assert_eq!(read(parent.join("job-7/cpu.weight")), "1", "the gateway comes first");
        group.enter().unwrap();
        assert_eq!(read(parent.join("job-7/cgroup.procs")), "0");
        group.leave().unwrap();
        assert_eq!(read(home.join("cgroup.procs")), "0");
        group.cap(0.001).unwrap();
        assert_eq!(read(parent.join("job-7/cpu.max")), "1000 100000", "no less than it takes");
        group.cap(2.0).unwrap();
        assert_eq!(read(parent.join("job-7/cpu.max")), "200000 100000");
        assert!(make(7).is_err(), "two programs never share one");
        // Empty ones are swept away, others are not.
        fs::create_dir(parent.join("job-8")).unwrap();
        sweep(&parent);
        assert!(!parent.join("job-8").exists() && parent.join("job-7").exists() && home.exists());
    }

    #[test]
    fn the_own_group_is_found_beside_old_ones() {
        let own = "4:memory:/old\n0::/system.slice/wattgate.service/gateway\n";
        let mounts = "30 24 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                      31 24 0:27 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw\n";
        let found = folder_of(own, mounts).unwrap();
        let expected = "/sys/fs/cgroup/system.slice/wattgate.service/gateway";
        assert_eq!(found, Path::new(expected));
        assert_eq!(folder_of("4:memory:/old\n", mounts), None);
        assert_eq!(folder_of(own, "30 24 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw\n"), None);
    }
}
