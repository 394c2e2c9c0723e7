//! Too little memory, too little processor: who must give way, and what goes on.
//!
//! What a stranger gets wrong: who dies when memory is short is the kernel's choice, and left alone it takes the
//! largest. A leak in many small programs would end the gateway before any of them.

#![allow(clippy::print_stdout)] // figures

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use crate::gateway::{Demo, PATIENCE, get_json, now, post, until};
use crate::jobs::Gateway;
use crate::urgent::Load;

/// What the gateway and all its children may take beyond what they had.
const MEMORY: usize = 400 << 20;
/// Programs that leak at the same time: each is smaller than the gateway when memory is short.
const LEAKS: usize = 32;
/// Busy threads for each core (fault INF3: load 4x).
const BUSY: usize = 4;
/// How long looks are counted.
const LOOKED_FOR: Duration = Duration::from_secs(20);
/// From a hard sign to the last pile's register, and between two decisions: hard maxima on a shared machine.
const STOPS_IN: Duration = Duration::from_millis(4500);
const DECIDES_WITHIN: chrono::Duration = chrono::Duration::milliseconds(2000);

/// Processes whose memory is bounded together, by the first or the second version of control groups.
struct Bounded {
    folder: PathBuf,
    second: bool,
}

impl Bounded {
    fn new() -> Bounded {
        let first = Path::new("/sys/fs/cgroup/memory");
        let second = !first.join("memory.limit_in_bytes").exists();
        let root = if second { Path::new("/sys/fs/cgroup") } else { first };
        let folder = root.join(format!("wattgate-test-{}", std::process::id()));
        std::fs::create_dir(&folder).expect("a control group for memory, which needs root");
        Bounded { folder, second }
    }

    fn write(&self, file: &str, value: impl ToString) {
        std::fs::write(self.folder.join(file), value.to_string()).expect(file);
    }

    /// What the processes in it take from now on, and all that they start, counts.
    fn take(&self, pid: u32) {
        self.write("cgroup.procs", pid);
    }

    fn limit(&self, bytes: usize) {
        self.write(if self.second { "memory.max" } else { "memory.limit_in_bytes" }, bytes);
    }

    /// How many the kernel has killed in it.
    fn killed(&self) -> u64 {
        let file = if self.second { "memory.events" } else { "memory.oom_control" };
        let text = std::fs::read_to_string(self.folder.join(file)).expect(file);
        let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        line.and_then(|count| count.trim().parse().ok()).expect("a count")
    }
}

impl Drop for Bounded {
    fn drop(&mut self) {
        let gone = || std::fs::remove_dir(&self.folder).ok();
        until("an empty control group", PATIENCE, gone);
    }
}

/// How soon the kernel would take a process, by its own reckoning.
fn dispensable(pid: u32) -> i64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/oom_score")).expect("its score");
    text.trim().parse().expect("a number")
}

#[test]
fn pr3_when_memory_runs_out_a_leaking_program_dies_and_the_gateway_and_its_eyes_do_not() {
    let group = Bounded::new();
    let folder = tempfile::tempdir().expect("a folder");
    let word = format!("leak{:016x}", fastrand::u64(..));
    let script = format!("for i in $(seq {LEAKS}); do tail /dev/zero & done; wait; : {word}");
    let models = concat!(env!("CARGO_MANIFEST_DIR"), "/models");
    let more = format!(
        "models = {models:?}\n\
         [[camera]]\nid = \"cam\"\nsnapshot = \"http://127.0.0.1:1/a.jpg\"\n\
         [[workload]]\nid = \"leak\"\nenergy_wh = 10\nmax_w = 8\n\
         command = [\"/bin/sh\", \"-c\", \"{script}\"]\n"
    );
    let gateway = Gateway::start(folder.path(), &more);
    let own = gateway.process.id();
    let site = folder.path().join("site.toml").display().to_string();
    let eyes = || Demo::processes(&[" vision ", &site]).first().copied();
    let eyes_before = until("eyes", PATIENCE, eyes);
    for pid in [own, eyes_before] {
        group.take(pid);
    }
    group.limit(MEMORY);
    let (ours, theirs) = (dispensable(own), dispensable(eyes_before));
    assert!(theirs >= ours + 300, "the eyes ({theirs}) must go before the control ({ours})");
    let overview = || get_json(&format!("{}/api/v1/overview", gateway.page));
    let sequence =
        || overview().and_then(|d| d["overview"]["sequence"].as_u64()).expect("an overview");
    let (began, first) = (now(), sequence());
    let job = gateway.submit("leak", &json!({}));
    until("somebody killed", PATIENCE, || (group.killed() > 0).then_some(()));
    until("the job's end", PATIENCE * 2, || {
        let job = gateway.job(&job)?;
        (job["state"] != "running" && job["state"] != "waiting").then_some(())
    });
    let (passed, decided) = (began.elapsed().as_secs_f64(), sequence() - first);
    println!("PR3: {} killed in {passed:.1} s, {decided} decisions meanwhile", group.killed());
    assert!(decided as f64 >= passed * 0.9 - 2.0, "{decided} decisions in {passed} s");
    assert_eq!(eyes(), Some(eyes_before), "the same eyes");
}

/// What the overview said, decision by decision, while looks were counted.
#[derive(Default)]
struct Looked {
    looks: Vec<BTreeSet<String>>,
    decisions: BTreeSet<DateTime<Utc>>,
}

impl Looked {
    fn see(&mut self, document: &Value) {
        let overview = &document["overview"];
        let ts = overview["ts"].as_str().and_then(|ts| ts.parse().ok()).expect("RFC 3339");
        self.decisions.insert(ts);
        let cameras = overview["cameras"].as_array().expect("cameras");
        self.looks.resize_with(cameras.len(), BTreeSet::new);
        for (looks, camera) in self.looks.iter_mut().zip(cameras) {
            looks.extend(camera["ts"].as_str().map(str::to_owned));
        }
    }

    fn longest_period(&self) -> chrono::Duration {
        let after = self.decisions.iter().skip(1);
        let periods = self.decisions.iter().zip(after).map(|(before, after)| *after - *before);
        periods.max().expect("decisions")
    }
}

#[test]
fn inf3_with_four_busy_threads_on_each_core_fire_is_looked_for_every_second_and_a_stop_is_not_late()
{
    let demo = Demo::with(&["--scenario", "guarded_store"]);
    let zone = |d: &Value| d["overview"]["zones"][0].clone();
    let armed = |d: &Value| d["overview"]["writing"] == true && zone(d)["fault"] == false;
    until("an armed store without faults", PATIENCE, || demo.overview().filter(armed));
    let set = |values: &str| {
        post(&format!("{}/set", demo.world), &format!(r#"{{"module": {{{values}}}}}"#));
    };
    // More than a quarter of stage 1: a Watch, and every camera is looked at each second.
    set(r#""ai1_ma": 5.2"#);
    until("the watch", PATIENCE, || demo.overview().filter(|d| zone(d)["level"] == 1));
    let _load = Load::start(BUSY);
    let (began, mut looked) = (now(), Looked::default());
    while began.elapsed() < LOOKED_FOR {
        std::thread::park_timeout(Duration::from_millis(40));
        demo.overview().iter().for_each(|document| looked.see(document));
    }
    let seconds = began.elapsed().as_secs_f64();
    let counts: Vec<usize> = looked.looks.iter().map(BTreeSet::len).collect();
    let longest = looked.longest_period();
    let limits = || -> Vec<f64> {
        let truth = demo.truth();
        let chargers = truth["chargers"].as_array().expect("chargers");
        chargers.iter().map(|charger| charger["limit_a"].as_f64().expect("A")).collect()
    };
    assert!(limits().iter().all(|amps| *amps >= 6.0), "a watch ends no session");
    set(r#""di1": 1, "di2": 1"#);
    let asked = now();
    until("the stop", PATIENCE, || limits().iter().all(|amps| *amps < 6.0).then_some(()));
    let took = asked.elapsed();
    println!(
        "INF3: {counts:?} looks in {seconds:.1} s, {longest} between two decisions at most, the stop after {took:?}"
    );
    // The looks at the two ends are cut off.
    assert!(counts.len() == 2 && counts.iter().all(|n| *n as f64 >= seconds - 2.0), "{counts:?}");
    assert!(longest <= DECIDES_WITHIN, "{longest}");
    assert!(took <= STOPS_IN, "{took:?}");
    until("the trip", PATIENCE, || demo.overview().filter(|d| zone(d)["level"] == 3));
}
