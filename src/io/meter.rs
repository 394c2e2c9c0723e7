//! What a second of CPU time draws on this machine, in joules: from the processor's energy counter
//! (RAPL, read through the kernel's powercap tree) where it can be read, else a figure of the site
//! file, else an assumed one.
//!
//! What a stranger gets wrong: the counter knows the package, not a process. Its energy is shared out
//! by CPU time, idle power and all, so on an idle machine a busy second looks dearer than it is; a
//! budget kept with it is kept on the safe side.

use std::fs;
use std::path::{Path, PathBuf};

use crate::logic::vision::Metering;

/// Assumed draw of one busy core, W: between a small board's 1.5 and a server's 8.
const NOMINAL: f64 = 4.0;
/// The counter is read over at least this much busy time of the whole machine, CPU seconds.
const LEAST_BUSY: f64 = 0.5;
/// What a busy core can draw at all, W; a counter that says otherwise has wrapped or is wrong.
const BELIEVED: std::ops::RangeInclusive<f64> = 0.1..=100.0;
/// Ticks of `/proc/stat` a second.
const TICKS: f64 = 100.0;

/// Knows what CPU time costs.
pub struct Meter {
    method: Metering,
    per_cpu_s: f64,
    counter: Option<Counter>,
}

struct Counter {
    /// Energy counters of the packages, µJ.
    packages: Vec<PathBuf>,
    stat: PathBuf,
    before: (f64, f64),
}

impl Meter {
    /// The best that this machine has; `watt_per_core` is the site file's figure.
    #[must_use]
    pub fn open(watt_per_core: Option<f64>) -> Meter {
        Meter::at(Path::new("/"), watt_per_core)
    }

    fn at(root: &Path, watt_per_core: Option<f64>) -> Meter {
        // A figure that somebody measured on purpose goes before a counter that includes idling.
        if let Some(watts) = watt_per_core {
            return Meter { method: Metering::Calibrated, per_cpu_s: watts, counter: None };
        }
        let counter = Counter::open(root);
        Meter { method: Metering::Nominal, per_cpu_s: NOMINAL, counter }
    }

    /// Joules of a second of CPU time, and how that is known; looks at the counter where there is one.
    pub fn read(&mut self) -> (f64, Metering) {
        if let Some(counter) = &mut self.counter
            && let Some(joules) = counter.joules_per_busy_second()
        {
            self.per_cpu_s = joules;
            self.method = Metering::Counter;
        }
        (self.per_cpu_s, self.method)
    }
}

impl Counter {
    fn open(root: &Path) -> Option<Counter> {
        let tree = fs::read_dir(root.join("sys/class/powercap")).ok()?;
        // `intel-rapl:0`, `intel-rapl:1`: packages; `intel-rapl:0:0` is a part of the first. AMD's have
        // the same names.
        let is_package = |path: &PathBuf| {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
            name.is_some_and(|name| {
                name.starts_with("intel-rapl:") && name.matches(':').count() == 1
            })
        };
        let folders = tree.flatten().map(|entry| entry.path()).filter(is_package);
        let mut packages: Vec<PathBuf> = folders.map(|path| path.join("energy_uj")).collect();
        packages.sort();
        let mut counter = Counter { packages, stat: root.join("proc/stat"), before: (0.0, 0.0) };
        counter.before = counter.look()?;
        Some(counter)
    }

    /// Energy of all packages, J, and busy time of all cores, s.
    fn look(&self) -> Option<(f64, f64)> {
        let mut joules = 0.0;
        for package in &self.packages {
            joules += fs::read_to_string(package).ok()?.trim().parse::<f64>().ok()? / 1e6;
        }
        let stat = fs::read_to_string(&self.stat).ok()?;
        let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
        let ticks: Vec<f64> = line.split_whitespace().map_while(|text| text.parse().ok()).collect();
        // user nice system idle iowait irq softirq steal: all but idle, iowait and what others stole.
        let busy = [0, 1, 2, 5, 6].into_iter().filter_map(|i| ticks.get(i)).sum::<f64>();
        (!self.packages.is_empty()).then_some((joules, busy / TICKS))
    }

    fn joules_per_busy_second(&mut self) -> Option<f64> {
        let (joules, busy) = self.look()?;
        let (more, longer) = (joules - self.before.0, busy - self.before.1);
        if longer < LEAST_BUSY && more >= 0.0 {
            return None;
        }
        self.before = (joules, busy);
        let each = more / longer;
        BELIEVED.contains(&each).then_some(each)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(joules: f64, busy_ticks: u64) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for folder in
            ["sys/class/powercap/intel-rapl:0", "sys/class/powercap/intel-rapl:0:0", "proc"]
        {
            fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        fs::write(root.path().join("sys/class/powercap/intel-rapl:0:0/energy_uj"), "77").unwrap();
        set(root.path(), joules, busy_ticks);
        root
    }

    fn set(root: &Path, joules: f64, busy_ticks: u64) {
        let micro = format!("{:.0}\n", joules * 1e6);
        fs::write(root.join("sys/class/powercap/intel-rapl:0/energy_uj"), micro).unwrap();
        let idle = 999_999 + 7 * busy_ticks;
        let stat = format!("cpu  {busy_ticks} 0 0 {idle} 5 0 0 {idle} 0 0\ncpu0 1 0 0 1\n");
        fs::write(root.join("proc/stat"), stat).unwrap();
    }

    #[test]
    fn the_counter_is_shared_out_by_cpu_time() {
        let root = machine(1000.0, 500);
        let mut meter = Meter::at(root.path(), None);
        assert_eq!(meter.read(), (NOMINAL, Metering::Nominal), "nothing measured yet");
        set(root.path(), 1060.0, 1500);
        let (each, method) = meter.read();
        assert_eq!(method, Metering::Counter);
        assert!((each - 6.0).abs() < 1e-9, "{each}");
        set(root.path(), 3.0, 2500);
        assert_eq!(meter.read().0, each, "a counter that wrapped says nothing");
        set(root.path(), 11.0, 2700);
        assert!((meter.read().0 - 4.0).abs() < 1e-9);
    }

    #[test]
    fn without_a_counter_it_says_what_it_is() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(Meter::at(root.path(), None).read(), (NOMINAL, Metering::Nominal));
        let with = machine(5.0, 5);
        assert_eq!(Meter::at(with.path(), Some(2.5)).read(), (2.5, Metering::Calibrated));
    }
}
