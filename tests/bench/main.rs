//! Measured, not tested: how regular the control period is, quiet and under stress, and what the
//! processes cost (`cargo bench --bench figures -- periods`), the nets against onnxruntime (`-- nets`), and
//! what a camera costs (`-- cameras`), what the cascade costs against the big net on everything
//! (`-- cascade`), and how soon a sensor or a picture stops the piles when all is bad
//! (`-- stops`, as root). All of it without an argument; takes about ten minutes.
//!
//! What a stranger gets wrong: every figure is a ratio to the quiet run of the same call, so that a slow
//! machine says the same as a fast one.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::panic)]

#[path = "../wire/gateway.rs"]
#[allow(dead_code)] // the wire tests use more of it
mod gateway;
#[path = "../wire/quiet.rs"]
#[allow(dead_code)] // its tests are the wire tests'
mod quiet;
#[path = "../wire/rtsp.rs"]
#[allow(dead_code, unused_imports)] // only its server
mod rtsp;
#[path = "../wire/urgent.rs"]
#[allow(dead_code)] // its test is the wire tests'
mod urgent;
#[path = "../wire/yard.rs"]
mod yard;

mod cameras;
mod cascade;
mod nets;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use gateway::{Demo, PATIENCE, kill, now, until};

/// Length of each run.
const RUN: Duration = Duration::from_secs(50);

/// Times between two decisions, s, sorted.
fn periods(demo: &Demo, mut each: impl FnMut(u64)) -> Vec<f64> {
    let began = now();
    let (mut periods, mut last): (Vec<f64>, Option<(u64, DateTime<Utc>)>) = (Vec::new(), None);
    while began.elapsed() < RUN {
        std::thread::park_timeout(Duration::from_millis(40));
        let Some(document) = demo.overview() else { continue };
        let overview = &document["overview"];
        let sequence = overview["sequence"].as_u64().expect("sequence");
        let ts: DateTime<Utc> = overview["ts"].as_str().expect("ts").parse().expect("RFC 3339");
        match last {
            Some((before, _)) if before == sequence => continue,
            Some((before, at)) if before + 1 == sequence => {
                periods.push((ts - at).as_seconds_f64());
            }
            _ => {}
        }
        last = Some((sequence, ts));
        each(sequence);
    }
    periods.sort_by(f64::total_cmp);
    periods
}

fn percentile(sorted: &[f64], part: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * part).round() as usize]
}

/// CPU time of a process so far, s (`/proc/PID/stat`, in hundredths).
fn cpu_s(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks = |i: usize| fields.get(i).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}

/// Largest resident memory so far, MB.
fn peak_mb(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|l| l.split_whitespace().next()?.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}

fn main() {
    let named: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let parts: [(&str, fn()); 5] = [
        ("nets", nets::run),
        ("cameras", cameras::run),
        ("cascade", cascade::run),
        ("periods", control_periods),
        ("stops", stops),
    ];
    for (name, part) in parts {
        if named.is_empty() || named.iter().any(|wanted| wanted == name) {
            part();
        }
    }
}

/// From a sensor, and from a picture, to the last pile's register, with all cores busy, the disk full and the
/// broker down. The bar is that of 1,000 stops (`WATTGATE_STOPS`), which take about twenty minutes.
fn stops() {
    let all = urgent::stops(urgent::count(20));
    println!("to the stop on the wire, all cores busy, disk full, broker down:");
    for (kind, took) in all.kinds() {
        let seconds: Vec<f64> = took.iter().map(Duration::as_secs_f64).collect();
        println!(
            "    {kind}: p50 {:.3} s, p99 {:.3} s, most {:.3} s, {} stops",
            percentile(&seconds, 0.5),
            percentile(&seconds, 0.99),
            percentile(&seconds, 1.0),
            seconds.len()
        );
    }
}

fn control_periods() {
    let demo = Demo::start();
    until("writing", PATIENCE, || demo.overview().filter(|d| d["overview"]["writing"] == true));
    let (run, eyes) = (demo.children("run")[0], demo.children("vision")[0]);
    let before = (cpu_s(run), cpu_s(eyes));
    let quiet = periods(&demo, |_| {});
    let share = |now: f64, before: f64| 100.0 * (now - before) / RUN.as_secs_f64();
    println!(
        "run: {:.1} % of one core, {:.0} MB; vision child, two cameras: {:.1} %, {:.0} MB",
        share(cpu_s(run), before.0),
        peak_mb(run),
        share(cpu_s(eyes), before.1),
        peak_mb(eyes)
    );
    let killed = periods(&demo, |sequence| {
        if sequence % 5 == 0 {
            demo.children("vision").into_iter().for_each(|pid| kill("-KILL", pid));
        }
    });
    let stop = Arc::new(AtomicBool::new(false));
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let burners: Vec<_> = (0..cores * 2)
        .map(|_| {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || while !stop.load(Ordering::Relaxed) {})
        })
        .collect();
    let starved = periods(&demo, |_| {});
    stop.store(true, Ordering::Relaxed);
    burners.into_iter().for_each(|burner| burner.join().expect("a burner"));
    let base = percentile(&quiet, 0.99);
    for (name, all) in [
        ("quiet", &quiet),
        ("eyes killed every 5 s", &killed),
        ("twice as many busy threads as cores", &starved),
    ] {
        let p99 = percentile(all, 0.99);
        println!(
            "control period, {name}: p50 {:.4} s, p99 {p99:.4} s, {:.3} of quiet, most {:.4} s, {} periods",
            percentile(all, 0.5),
            p99 / base,
            percentile(all, 1.0),
            all.len()
        );
    }
}
