//! From a sensor to the stop on the wire while everything else is bad at once: all cores busy, the disk full,
//! the broker down. How many stops are made is said by `WATTGATE_STOPS` (a few unless said; `tests/bench` makes
//! more and tells the percentiles).
//!
//! What a stranger gets wrong: a stop latches, so every one of them needs a gateway of its own. And the time is
//! counted from the change in the simulated world to the register of the last pile, as `/truth` shows it: the second of the
//! module's poll is in it, and so is the asking.

#![allow(clippy::print_stdout)] // figures

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;

use crate::gateway::{Demo, PATIENCE, get_json, now, post, until};

/// Longest time from the sensor to the last pile's register (design/safety).
pub const MOST: Duration = Duration::from_secs(2);
/// What the small disk holds: the state of a gateway, and no more when it is filled up.
const DISK: &str = "size=24m";

/// As many as are asked for.
pub fn count(otherwise: usize) -> usize {
    std::env::var("WATTGATE_STOPS").ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// A disk of its own, unmounted at the end.
struct Disk(PathBuf);

impl Disk {
    fn mount(folder: &Path) -> Disk {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", DISK, "tmpfs"]).arg(folder);
        let done = mount.status().expect("mount");
        assert!(done.success(), "a small disk to fill needs root: mount said {done}");
        Disk(folder.to_owned())
    }

    /// Writes until there is no room for another byte.
    fn fill(&self) {
        let mut file = std::fs::File::create(self.0.join("filler")).expect("a file");
        for block in [1 << 16, 1] {
            let zeros = vec![0; block];
            while file.write_all(&zeros).is_ok() {}
        }
        let full = std::fs::write(self.0.join("more"), [0]).expect_err("no room");
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull, "{full}");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// Busy threads, two for each core, at the priority of everybody.
struct Load {
    ends: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Load {
    fn start() -> Load {
        let ends = Arc::new(AtomicBool::new(false));
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let burn = |_| {
            let ends = Arc::clone(&ends);
            std::thread::spawn(move || while !ends.load(Ordering::Relaxed) {})
        };
        let threads = (0..2 * cores).map(burn).collect();
        Load { ends, threads }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// The guarded store with a broker that is down from the second second on.
fn scenario(folder: &Path) -> PathBuf {
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/simulators/scenarios/guarded_store.toml");
    let text = std::fs::read_to_string(shipped).expect("the scenario");
    let file = folder.join("bad_day.toml");
    let down = "\n[[event]]\nat_s = 2\nkind = \"broker\"\nvalue = 0\n";
    std::fs::write(&file, text + down).expect("a scenario");
    file
}

fn limits(demo: &Demo) -> Vec<f64> {
    let truth = demo.truth();
    let chargers = truth["chargers"].as_array().expect("chargers");
    chargers.iter().map(|charger| charger["limit_a"].as_f64().expect("A")).collect()
}

/// One stop; how long it took.
fn stop(rng: &mut fastrand::Rng) -> Duration {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = Disk::mount(folder.path());
    let file = scenario(folder.path());
    let demo = Demo::within(&["--scenario", &file.display().to_string()], folder.path());
    until("a gateway that writes, and every pile allowed to charge", PATIENCE, || {
        let overview = demo.overview()?;
        let zone = &overview["overview"]["zones"][0];
        let ready = overview["overview"]["writing"] == true && zone["fault"] == false;
        (ready && limits(&demo).iter().all(|amps| *amps >= 6.0)).then_some(())
    });
    until("the broker down", PATIENCE, || {
        let health = get_json(&format!("{}/api/v1/health", demo.page))?;
        (health["broker"] == json!({"configured": true, "ok": false})).then_some(())
    });
    disk.fill();
    let load = Load::start();
    // Any moment between two polls of the module.
    std::thread::park_timeout(Duration::from_millis(rng.u64(1000..2000)));
    post(&format!("{}/set", demo.world), r#"{"module": {"ai1_ma": 8}}"#);
    let asked = now();
    until("the stop", PATIENCE, || limits(&demo).iter().all(|amps| *amps < 6.0).then_some(()));
    let took = asked.elapsed();
    drop(load);
    took
}

/// So many stops; how long each took, sorted.
pub fn stops(count: usize) -> Vec<Duration> {
    let seed = fastrand::u64(..);
    println!("{count} stops, seed {seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut all: Vec<Duration> = (0..count).map(|_| stop(&mut rng)).collect();
    all.sort_unstable();
    all
}

#[test]
fn a_sensor_stops_the_piles_with_all_cores_busy_the_disk_full_and_the_broker_down() {
    let all = stops(count(8));
    let most = all[all.len() - 1];
    println!(
        "from the sensor to the last pile: {:?} in the middle, {most:?} at most",
        all[all.len() / 2]
    );
    assert!(most <= MOST, "{all:?}");
}
