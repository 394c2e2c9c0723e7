//! Joules of jobs: the processor's energy counter shared by CPU time where Linux shows one (RAPL), else
//! CPU time times the watts of one busy core. Says which.
//!
//! What a stranger gets wrong: the counter wraps, and it counts everything on the package. What idles
//! away is taken off, and a job gets the share of its CPU time in all CPU time.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::tree;
use crate::logic::compute::Method;

/// The meter of one machine.
#[derive(Debug)]
pub struct Meter {
    packages: Vec<Package>,
    watts_per_core: f64,
    idle_w: f64,
    busy_s: f64,
    /// What the span before now is worth: joules for each CPU second of a job.
    per_cpu_s: Option<f64>,
    /// A counter could not be read when it was read last.
    blind: bool,
}

#[derive(Debug)]
struct Package {
    folder: PathBuf,
    last_uj: u64,
    wraps_uj: u64,
}

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

impl Meter {
    /// Looks for counters below `powercap`; without any that can be read, the model.
    #[must_use]
    pub fn find(powercap: &Path, watts_per_core: f64, idle_w: f64) -> Meter {
        let folders = fs::read_dir(powercap).into_iter().flatten().flatten();
        let packages = folders.filter_map(|folder| {
            let name = folder.file_name().into_string().ok()?;
            // `intel-rapl:0` is a package; `intel-rapl:0:1` a part of it.
            let is_package = name.contains("rapl:") && name.matches(':').count() == 1;
            let folder = folder.path();
            is_package.then_some(())?;
            Some(Package {
                last_uj: number(&folder.join("energy_uj"))?,
                wraps_uj: number(&folder.join("max_energy_range_uj")).unwrap_or(u64::MAX),
                folder,
            })
        });
        // A share of a counter needs the CPU time of all, which a sandbox may hide.
        let busy_s = tree::busy_s();
        let packages = if busy_s > 0.0 { packages.collect() } else { Vec::new() };
        Meter { packages, watts_per_core, idle_w, busy_s, per_cpu_s: None, blind: false }
    }

    /// How this meter knows.
    #[must_use]
    pub fn method(&self) -> Method {
        if self.packages.is_empty() || self.blind { Method::CpuTime } else { Method::Counter }
    }

    /// Watts that one busy core is taken for.
    #[must_use]
    pub fn watts_per_core(&self) -> f64 {
        self.watts_per_core
    }

    /// Reads the counters; to be called once for each span in which jobs are metered. `jobs_cpu_s` is what
    /// all jobs together have used in it.
    pub fn read(&mut self, span: Duration, jobs_cpu_s: f64) {
        if self.packages.is_empty() {
            return;
        }
        let (mut joules, mut silent) = (0.0, 0);
        for package in &mut self.packages {
            let Some(now) = number(&package.folder.join("energy_uj")) else {
                silent += 1;
                continue;
            };
            let moved = if now >= package.last_uj {
                now - package.last_uj
            } else {
                package.wraps_uj.saturating_sub(package.last_uj).saturating_add(now)
            };
            package.last_uj = now;
            joules += moved as f64 / 1e6;
        }
        let busy_now = tree::busy_s();
        let busy = (busy_now - self.busy_s).max(jobs_cpu_s);
        self.busy_s = busy_now;
        let was_blind = std::mem::replace(&mut self.blind, silent > 0);
        if self.blind || was_blind {
            // What a counter shows after a gap was told by the model already.
            self.per_cpu_s = None;
            return;
        }
        let active = (joules - self.idle_w * span.as_secs_f64()).max(0.0);
        self.per_cpu_s = (busy > 0.0).then_some(active / busy);
    }

    /// Joules of a job that has used this much CPU time in the span that was read last.
    #[must_use]
    pub fn joules(&self, cpu_s: f64) -> f64 {
        let worth = if self.packages.is_empty() { None } else { self.per_cpu_s };
        cpu_s * worth.unwrap_or(self.watts_per_core)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_counter_the_model_counts_and_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let mut meter = Meter::find(folder.path(), 6.0, 2.0);
        meter.read(Duration::from_secs(1), 0.5);
        assert_eq!((meter.method(), meter.joules(0.5)), (Method::CpuTime, 3.0));
    }

    #[test]
    fn a_counter_is_shared_by_cpu_time_without_what_idles_away_and_may_wrap() {
        let folder = tempfile::tempdir().unwrap();
        let package = folder.path().join("intel-rapl:0");
        let part = folder.path().join("intel-rapl:0:0");
        for place in [&package, &part] {
            fs::create_dir(place).unwrap();
            fs::write(place.join("energy_uj"), "900000000\n").unwrap();
            fs::write(place.join("max_energy_range_uj"), "1000000000\n").unwrap();
        }
        let mut meter = Meter::find(folder.path(), 6.0, 10.0);
        assert_eq!(meter.method(), Method::Counter);
        // 150 J in one second, over the end of the counter's range; 10 J of them idle.
        fs::write(package.join("energy_uj"), "50000000\n").unwrap();
        // The job has used far more than this machine: all of the rest is its.
        meter.read(Duration::from_secs(1), 1e6);
        assert!((meter.joules(1e6) - 140.0).abs() < 1e-6, "{}", meter.joules(1e6));
        assert!((meter.joules(0.5e6) - 70.0).abs() < 1e-6, "half of it");
        // A counter that is gone counts nothing for nothing: the model counts until it is back for a span.
        fs::remove_file(package.join("energy_uj")).unwrap();
        meter.read(Duration::from_secs(1), 0.5);
        assert_eq!((meter.method(), meter.joules(0.5)), (Method::CpuTime, 3.0));
        fs::write(package.join("energy_uj"), "900000000\n").unwrap();
        meter.read(Duration::from_secs(1), 0.5);
        assert_eq!(meter.joules(0.5), 3.0, "what came in the gap was told");
        fs::write(package.join("energy_uj"), "950000000\n").unwrap();
        meter.read(Duration::from_secs(1), 1e6);
        assert_eq!(meter.method(), Method::Counter);
        assert!((meter.joules(1e6) - 40.0).abs() < 1e-6, "{}", meter.joules(1e6));
    }
}
