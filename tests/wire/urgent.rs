//! From a sensor, or a picture, to the stop on the wire while everything else is bad at once: all cores busy,
//! the disk full, the broker down. How many stops are made is said by `WATTGATE_STOPS` (one yard full of zones
//! unless said; `tests/bench` makes more and tells the percentiles).
//!
//! What a stranger gets wrong: one flaming picture is doubt and no stop. The time from a picture counts from the
//! first one that can prove the fire, with what comes after it: fetching, judging, deciding, writing. How
//! long a camera is not looked at and how long it must burn is in the time from the fire, told beside it.

#![allow(clippy::print_stdout)] // figures

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::yard::{Burnt, Watched, Yard, Zone, zones};

/// Longest time from a sensor, or from the picture that proves a fire, to the last pile's register
/// (design/safety).
pub const MOST: Duration = Duration::from_secs(2);
/// Longest time from a fire in front of a camera to the last pile's register: a look in two seconds when quiet,
/// that pause again before anybody is eager, a second to the third look, and [`MOST`] from there.
pub const MOST_FROM_FIRE: Duration = Duration::from_secs(7);
/// A flame must be seen over this span, in so many looks (design/decisions). A little less: what the gateway
/// takes as its moment is the picture's end, and what is taken here is its beginning.
const SPAN: Duration = Duration::from_millis(1450);
const LOOKS: usize = 3;
/// What the small disk holds: the state of a gateway, and no more when it is filled up.
const DISK: &str = "size=64m";
/// So many fires are laid side by side: two in front of sensors, two in front of cameras.
const LANES: usize = 2;

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

/// Busy threads at the priority of everybody.
pub struct Load {
    ends: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Load {
    /// So many for each core.
    pub fn start(each: usize) -> Load {
        let ends = Arc::new(AtomicBool::new(false));
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let burn = |_| {
            let ends = Arc::clone(&ends);
            std::thread::spawn(move || while !ends.load(Ordering::Relaxed) {})
        };
        let threads = (0..each * cores).map(burn).collect();
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

/// How long stops took, each kind sorted.
#[derive(Default)]
pub struct Stops {
    /// From the sensor's contact or loop.
    pub sensor: Vec<Duration>,
    /// From the picture that proves the fire.
    pub picture: Vec<Duration>,
    /// From the fire in front of the camera.
    pub fire: Vec<Duration>,
}

impl Stops {
    fn count(&self) -> usize {
        self.sensor.len() + self.picture.len()
    }

    fn add(&mut self, zone: Zone, burnt: &Burnt) {
        let whole = burnt.stopped - burnt.laid;
        if !matches!(zone.watched, Watched::Camera(_)) {
            self.sensor.push(whole);
            return;
        }
        let first = burnt.given.first().expect("a burning picture");
        let proves =
            |(i, at): &(usize, &std::time::Instant)| i + 1 >= LOOKS && **at - *first >= SPAN;
        let proof = burnt.given.iter().enumerate().find(proves);
        let (_, proof) = proof.unwrap_or_else(|| panic!("stopped before it was proven: {burnt:?}"));
        self.picture.push(burnt.stopped - *proof);
        self.fire.push(whole);
    }

    fn join(&mut self, other: Stops) {
        self.sensor.extend(other.sensor);
        self.picture.extend(other.picture);
        self.fire.extend(other.fire);
    }

    /// What it took, by kind.
    pub fn kinds(&self) -> [(&'static str, &[Duration]); 3] {
        [
            ("from the sensor", &self.sensor),
            ("from the picture that proves the fire", &self.picture),
            ("from the fire in front of the camera", &self.fire),
        ]
    }
}

/// One fire after the other at random moments.
fn lane(yard: &Yard, zones: &[Zone], seed: u64) -> Stops {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut stops = Stops::default();
    for zone in zones {
        // Any moment between two polls of the module, or two looks of a camera.
        let pause = match zone.watched {
            Watched::Camera(_) => 2000,
            _ => 1000,
        };
        std::thread::park_timeout(Duration::from_millis(rng.u64(0..pause)));
        stops.add(*zone, &yard.burn(*zone));
    }
    stops
}

/// One yard, all of its zones but for those beyond `most`.
fn round(rng: &mut fastrand::Rng, most: usize) -> Stops {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = Disk::mount(folder.path());
    let yard = Yard::start(folder.path());
    disk.fill();
    let load = Load::start(2);
    let mut left = zones();
    rng.shuffle(&mut left);
    left.truncate(most);
    let seen = |zone: &Zone| matches!(zone.watched, Watched::Camera(_));
    let (cameras, sensors): (Vec<Zone>, Vec<Zone>) = left.into_iter().partition(seen);
    let lanes = [sensors, cameras].into_iter().flat_map(|zones| {
        let each = zones.len().div_ceil(LANES).max(1);
        zones.chunks(each).map(<[Zone]>::to_vec).collect::<Vec<_>>()
    });
    let lanes: Vec<(Vec<Zone>, u64)> = lanes.map(|zones| (zones, rng.u64(..))).collect();
    let mut stops = Stops::default();
    std::thread::scope(|scope| {
        let running: Vec<_> =
            lanes.iter().map(|(zones, seed)| scope.spawn(|| lane(&yard, zones, *seed))).collect();
        running.into_iter().for_each(|lane| stops.join(lane.join().expect("a lane")));
    });
    drop(load);
    stops
}

/// So many stops.
pub fn stops(count: usize) -> Stops {
    let seed = fastrand::u64(..);
    println!("{count} stops, seed {seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut all = Stops::default();
    while all.count() < count {
        let most = count - all.count();
        all.join(round(&mut rng, most));
    }
    all.sensor.sort_unstable();
    all.picture.sort_unstable();
    all.fire.sort_unstable();
    all
}

#[test]
fn a_sensor_or_a_picture_stops_the_piles_with_all_cores_busy_the_disk_full_and_the_broker_down() {
    let all = stops(count(zones().len()));
    for (kind, took) in all.kinds() {
        let (middle, most) = (took[took.len() / 2], took[took.len() - 1]);
        println!("{kind} to the last pile: {middle:?} in the middle, {most:?} at most");
    }
    let most = |took: &[Duration]| took.last().copied().expect("stops");
    assert!(most(&all.sensor) <= MOST, "{:?}", all.sensor);
    assert!(most(&all.picture) <= MOST, "{:?}", all.picture);
    assert!(most(&all.fire) <= MOST_FROM_FIRE, "{:?}", all.fire);
}
