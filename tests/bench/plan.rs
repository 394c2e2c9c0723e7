//! The planner measured: sites of several sizes and the scenario files of a folder, each with its time, its
//! gap to the proven bound, the time of the plan after it when the last car has gone, the most memory it
//! holds beside the problem, the energy of a day of plans, and, where Python has SciPy, the time of HiGHS for
//! the fluid problem of the same file. `cargo bench --bench plan [-- FOLDER]`; `PYTHON` names the interpreter.
//!
//! What a stranger gets wrong: HiGHS solves the easier problem, without least powers, and is timed without
//! building its matrix; the planner's time is for a legal schedule with its proof. All times are CPU time.
//! Energy is a model: CPU seconds times the power of one busy core, for a plan every quarter of an hour.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use serde_json::{Value, json};
use wattgate::app::plan::{Scenario, gap_pct, legal_gap_pct};
use wattgate::logic::energy::plan::{Budget, Plan, solve, solve_after};

/// Each is planned for at least so long, s of CPU, and the mean counts: the clock of a thread ticks coarsely.
const AT_LEAST_S: f64 = 0.2;
/// Power of one busy core above idle, W, where nobody has calibrated it: what the ledger of jobs assumes.
const CORE_W: f64 = 4.0;
/// Plans a day: one every quarter of an hour.
const PLANS: f64 = 96.0;
const SITES: [(usize, usize); 5] = [(20, 96), (60, 96), (200, 96), (500, 96), (1000, 288)];

/// A site of one day, `cars` cars and `steps` steps, in the form of a scenario file.
fn scenario(cars: usize, steps: usize, peak: bool) -> Value {
    let mut r = fastrand::Rng::with_seed((cars * steps) as u64);
    let hours = 24.0 / steps as f64;
    let hour = |t: usize| t as f64 * hours;
    let sun = cars as f64 * 0.4;
    let day = |t: usize, rise: f64| ((hour(t) - rise) / 12.0 * std::f64::consts::PI).sin();
    let pv: Vec<f64> =
        (0..steps).map(|t| (day(t, 6.0) * sun * (0.8 + 0.2 * r.f64())).max(0.0)).collect();
    let base: Vec<f64> =
        (0..steps).map(|t| 0.5 + cars as f64 * 0.05 * (1.0 + 0.6 * day(t, 9.0))).collect();
    let price: Vec<f64> = (0..24).map(|_| 0.05 + 0.3 * r.f64()).collect();
    let mut asked = 0.0;
    let car = |i: usize| {
        let from = ((9.0 + 4.0 * (r.f64() + r.f64() - 1.0) * 2.0) / hours).max(0.0) as usize;
        let stay = (1.0 - 6.0 * (1.0 - r.f64()).ln()) / hours;
        let (three, kwh) = (r.f64() < 0.4, 0.5 - 11.0 * (1.0 - r.f64()).ln());
        asked += kwh;
        let phases = if three { vec![1, 2, 3] } else { vec![r.u32(1..4)] };
        json!({"id": format!("c{i}"), "arrival": from, "departure": from + stay as usize,
               "kwh": kwh, "max_kw": if three { 11.0 } else { 7.36 },
               "max_a": if three { 16 } else { 32 }, "phases": phases})
    };
    let evs: Vec<Value> = (0..cars).map(car).collect();
    let import = asked / 24.0 * 1.8 + cars as f64 * 0.05 + 8.0;
    let size = cars as f64;
    json!({
        "name": format!("{cars} x {steps}{}", if peak { ", demand charge" } else { "" }),
        "step_s": 86_400 / steps, "steps": steps, "pv_kw": pv, "base_load_kw": base,
        "import_price": (0..steps).map(|t| price[hour(t) as usize % 24]).collect::<Vec<_>>(),
        "export_price": 0.04, "demand_charge_per_kw": if peak { 0.4 } else { 0.0 },
        "grid": {"import_kw": import, "export_kw": 0.6 * import,
                 "phase_a": import * 1000.0 / 3.0 / 230.0 * 1.3},
        "battery": {"capacity_kwh": size, "soc0_kwh": 0.4 * size, "soc_min_kwh": 0.1 * size,
                    "soc_max_kwh": size, "soc_end_min_kwh": 0.4 * size, "charge_kw": 0.4 * size,
                    "discharge_kw": 0.4 * size, "eff_charge": 0.96, "eff_discharge": 0.96,
                    "wear_per_kwh": 0.01},
        "evs": evs,
    })
}

/// Heap of this process: held now, and the most since the last restart, bytes.
struct Memory {
    now: AtomicUsize,
    most: AtomicUsize,
}

#[global_allocator]
static MEMORY: Memory = Memory { now: AtomicUsize::new(0), most: AtomicUsize::new(0) };

impl Memory {
    /// Counts the most from here; what is held.
    fn restart(&self) -> usize {
        let now = self.now.load(Relaxed);
        self.most.store(now, Relaxed);
        now
    }

    fn most(&self) -> usize {
        self.most.load(Relaxed)
    }
}

// SAFETY: the system's allocator does all; the counts beside it touch no memory of its callers.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Memory {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = self.now.fetch_add(layout.size(), Relaxed) + layout.size();
        self.most.fetch_max(now, Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        self.now.fetch_sub(layout.size(), Relaxed);
        unsafe { System.dealloc(place, layout) }
    }
}

/// CPU time of this thread so far, s: what others do on the machine matters less.
fn cpu_s() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    stat.split(' ').next().unwrap().parse::<f64>().unwrap() * 1e-9
}

/// Seconds of CPU that HiGHS takes, where Python has it.
fn highs(file: &Path) -> Option<f64> {
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bench/highs.py");
    let done = Command::new(python).arg(script).arg(file).output().ok()?;
    String::from_utf8_lossy(&done.stdout).split_whitespace().next()?.parse().ok()
}

fn line(file: &Path) {
    let content: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let Ok(scenario) = Scenario::read(&content) else {
        println!("{:<28} cannot be read", file.display());
        return;
    };
    let held = MEMORY.restart();
    let plan = solve(&scenario.problem, Budget::default());
    let memory = MEMORY.most() - held;
    let cold = mean_s(|| solve(&scenario.problem, Budget::default()));
    let mut less = scenario.problem.clone();
    less.sessions.pop();
    let warm = mean_s(|| solve_after(&plan.standing, &less, Budget::default()));
    let highs = highs(file);
    let ratio = highs.map_or("no SciPy".to_owned(), |s| format!("{:.1}", s / cold));
    let highs = highs.map_or(String::new(), |s| format!("{:.1}", s * 1e3));
    println!(
        "{:<28} {:>10.3} {:>7.3} {:>7.3} {:>9.3} {:>9.3} {:>6.1} {:>7.2} {:>9} {:>6}",
        scenario.name,
        plan.score,
        gap_pct(&plan),
        legal_gap_pct(&plan),
        cold * 1e3,
        warm * 1e3,
        memory as f64 / 1e6,
        cold * PLANS * CORE_W,
        highs,
        ratio
    );
}

/// Mean CPU time of a plan.
fn mean_s(plan: impl Fn() -> Plan) -> f64 {
    let (start, mut times) = (cpu_s(), 0.0);
    loop {
        std::hint::black_box(plan());
        times += 1.0;
        let spent = cpu_s() - start;
        if spent >= AT_LEAST_S {
            return spent / times;
        }
    }
}

fn main() {
    let folder = tempfile::tempdir().unwrap();
    let mut files: Vec<PathBuf> = Vec::new();
    for (cars, steps) in SITES {
        for peak in [false, true] {
            let file = folder.path().join(format!("{cars}-{steps}-{peak}.json"));
            std::fs::write(&file, scenario(cars, steps, peak).to_string()).unwrap();
            files.push(file);
        }
    }
    // Cargo's own flags begin with a dash.
    for given in std::env::args().skip(1).filter(|argument| !argument.starts_with('-')) {
        let mut more: Vec<PathBuf> =
            std::fs::read_dir(given).unwrap().map(|entry| entry.unwrap().path()).collect();
        more.retain(|path| path.extension().is_some_and(|e| e == "json"));
        more.sort();
        files.extend(more);
    }
    println!(
        "{:<28} {:>10} {:>7} {:>7} {:>9} {:>9} {:>6} {:>7} {:>9} {:>6}",
        "site", "score", "gap %", "legal %", "ms", "warm ms", "MB", "J/day", "HiGHS ms", "ratio"
    );
    files.iter().for_each(|file| line(file));
}
