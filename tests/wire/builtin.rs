//! Built-in workloads as jobs of a running gateway: a review of kept pictures is held, paused and metered like any
//! other program, and a report says where the energy of it all went and what has happened.
//!
//! What a stranger gets wrong: while the eyes doubt anything, no job runs beside them. So this gateway has none, and
//! the pictures lie there already.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use simulators::physics::World;
use simulators::picture::{Scene, jpeg};
use simulators::scenario::Scenario;

use crate::browser::Browser;
use crate::gateway::{Demo, PATIENCE, get, get_json, until};
use crate::jobs::{Gateway, used};

const WATTS_PER_CORE: f64 = 4.0;
const PICTURES: usize = 12;
/// So many take a job long enough for the kernel to count: it counts hundredths of a second.
const MANY_PICTURES: usize = 240;

/// Files with this ending below the evidence of the camera.
fn kept(gateway: &Gateway, ending: &str) -> usize {
    let folder = gateway.state.join("evidence/yard");
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    files.filter(|file| file.path().extension().is_some_and(|e| e == ending)).count()
}

fn overview(gateway: &Gateway) -> Option<Value> {
    let document = get_json(&format!("{}/api/v1/overview", gateway.page))?;
    (!document["overview"].is_null()).then(|| document["overview"].clone())
}

/// Pictures of flames, as the eyes leave them when they doubt something.
fn lay_pictures(folder: &Path, count: usize) -> usize {
    let yard = folder.join("state/evidence/yard");
    std::fs::create_dir_all(&yard).unwrap();
    let mut scene = Scene::of(&World::new(Scenario::one_pile(), 1));
    (scene.slots[0].fire, scene.slots[0].smoke) = (1.0, 1.0);
    for picture in 0..count {
        scene.time_s += 1.0;
        let (second, ms) = (10 + picture % 50, picture / 50);
        let name = format!("20260504T1000{second}{ms:03}Z-doubtful.jpg");
        std::fs::write(yard.join(name), jpeg(&scene).unwrap()).unwrap();
    }
    count
}

/// A gateway that has lost its meter, and ends.
fn an_alarm(folder: &Path) {
    let gateway = Gateway::start(folder, "");
    until("an alarm", PATIENCE, || {
        let alarms = overview(&gateway)?["alarms"].as_array().cloned()?;
        alarms.iter().any(|alarm| alarm["code"] == "device_lost").then_some(())
    });
}

#[test]
fn pictures_are_reviewed_by_a_job_and_the_day_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let pictures = lay_pictures(folder.path(), PICTURES);
    an_alarm(folder.path());
    let more = format!(
        "[compute]\nwatts_per_core = {WATTS_PER_CORE}\npowercap = \"/nowhere\"\nbudget_wh_per_day = 5\n\
         [[workload]]\nid = \"second-look\"\nbuiltin = \"review\"\nenergy_wh = 0.1\nmax_w = 2\n\
         [[workload]]\nid = \"day\"\nbuiltin = \"report\"\nenergy_wh = 0.01\nmax_w = 4\n\
         [[workload.parameter]]\nname = \"days_ago\"\nmin = 0\nmax = 1\n"
    );
    let gateway = Gateway::start(folder.path(), &more);
    let job = gateway.submit("second-look", &json!({}));
    until("a review", Duration::from_secs(90), || (kept(&gateway, "json") > 0).then_some(()));
    assert_eq!(gateway.post(&format!("jobs/{job}/pause"), &gateway.code, "").0, 202);
    let word = gateway.state.display().to_string();
    let warden = Demo::processes(&[&word, " warden "]);
    let all = Demo::processes(&[&word, "built-in", "review"]);
    let pid = all.into_iter().find(|pid| !warden.contains(pid)).expect("it is at work");
    until("the stop", PATIENCE, || (used(pid).1 == "T").then_some(()));
    let (cpu, reviewed) = (used(pid).0, kept(&gateway, "json"));
    let told = until("all of it told", PATIENCE, || {
        gateway.job(&job).filter(|job| job["cpu_s"].as_f64().is_some_and(|s| s >= cpu - 0.02))
    });
    let (joules, meter) = (told["joules"].as_f64().unwrap(), cpu * WATTS_PER_CORE);
    println!("joules: {joules:.2}, meter of the test {meter:.2}; {reviewed} of {pictures}");
    assert!((joules / meter - 1.0).abs() <= 0.1, "{joules} J, the meter says {meter} J");
    assert!(["turns", "cgroup"].iter().any(|means| told["held_by"] == **means), "{told}");
    assert!(reviewed < pictures && kept(&gateway, "json") == reviewed, "it waits half way");
    assert!(gateway.cli(&["resume", &job]).0);
    // How much of the processor is left for it is not ours to promise.
    let long = Duration::from_secs(180);
    until("the rest", long, || (kept(&gateway, "json") == pictures).then_some(()));
    gateway.is(&job, "done");
    its_energy_is_told(&gateway, &job);
    the_days_are_reported(&gateway);
}

/// As jobs like any other: within what the site file allows, metered, their files in the state folder.
#[test]
fn a_set_is_curated_and_cuts_are_looked_for_by_jobs() {
    let folder = tempfile::tempdir().unwrap();
    let pictures = lay_pictures(folder.path(), MANY_PICTURES);
    let more = "[compute]\npowercap = \"/nowhere\"\n\
         [[workload]]\nid = \"set\"\nbuiltin = \"curate\"\nenergy_wh = 0.01\nmax_w = 4\n\
         [[workload.parameter]]\nname = \"most\"\nmin = 1\nmax = 3\n\
         [[workload]]\nid = \"cuts\"\nbuiltin = \"recalibrate\"\nenergy_wh = 0.01\nmax_w = 4\n\
         [[workload]]\nid = \"long\"\nbuiltin = \"curate\"\nenergy_wh = 8\nmax_w = 4\n\
         [[workload]]\nid = \"longer\"\nbuiltin = \"curate\"\nenergy_wh = 12\nmax_w = 4\n";
    let gateway = Gateway::start(folder.path(), more);
    let refused = json!({"parameters": {"most": 4}}).to_string();
    assert_eq!(gateway.post("workloads/set/submit", &gateway.code, &refused).0, 400);
    let job = gateway.submit("set", &json!({"parameters": {"most": 3}}));
    gateway.is(&job, "done");
    let sets = std::fs::read_dir(gateway.state.join("training")).unwrap().flatten();
    let sets: Vec<_> = sets.map(|entry| entry.path()).collect();
    assert_eq!(sets.len(), 1, "{sets:?}");
    let manifest = std::fs::read_to_string(sets[0].join("manifest.json")).unwrap();
    let manifest: Value = serde_json::from_str(&manifest).unwrap();
    assert_eq!(manifest["looked_at"], pictures, "{manifest}");
    let picked = manifest["pictures"].as_array().unwrap();
    assert!((1..=3).contains(&picked.len()), "{manifest}");
    for picture in picked {
        assert!(sets[0].join(picture["file"].as_str().unwrap()).exists(), "{picture}");
    }
    let told = gateway.job(&job).unwrap();
    assert!(told["joules"].as_f64().unwrap() > 0.0, "metered: {told}");
    let job = gateway.submit("cuts", &json!({}));
    gateway.is(&job, "done");
    let told = std::fs::read_to_string(gateway.state.join("reports/calibration.json")).unwrap();
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["cameras"], json!([]), "a site without cameras");
    // Two hours at full power, asked for within one: over HTTP and on the command line it is told at once.
    let words = json!({"within_h": 1}).to_string();
    let (status, answer) = gateway.post("workloads/long/submit", &gateway.code, &words);
    assert_eq!(status, 202, "{answer}");
    assert!((answer["late_h"].as_f64().unwrap() - 1.0).abs() < 0.01, "{answer}");
    assert!(answer["due"].is_string() && answer["takes_h"] == 2.0, "{answer}");
    let (taken, said) = gateway.cli(&["submit", "longer", "--within-h", "1"]);
    assert!(taken && said.contains("2.0 h more than it is given"), "{said}");
    let (_, listed) = gateway.cli(&["list"]);
    assert!(listed.contains("cannot be done by then"), "{listed}");
}

/// On the page, in /metrics, on the command line and in the budget it is the same.
fn its_energy_is_told(gateway: &Gateway, job: &str) {
    let told = gateway.job(job).unwrap();
    let joules = told["joules"].as_f64().unwrap();
    let overview = overview(gateway).unwrap();
    // A new day may have begun since: for all of them.
    let mut jobs = overview["jobs"].as_array().unwrap().iter();
    let today = jobs.find(|one| one["id"] == job).unwrap()["day_wh"].as_f64().unwrap();
    assert!(today * 3600.0 <= joules + 0.01, "{overview}");
    for wh in [
        &overview["ledger"]["workloads"]["second-look"]["day_wh"],
        &overview["job_budget"]["day_wh"],
    ] {
        assert!((wh.as_f64().unwrap() - today).abs() * 3600.0 < 0.01, "{overview}");
    }
    let all = overview["ledger"]["workloads"]["second-look"]["all_wh"].as_f64().unwrap();
    assert!((all * 3600.0 - joules).abs() < 0.01, "{all} Wh, {joules} J");
    let metrics = get(&format!("{}/metrics", gateway.page)).unwrap();
    let name = "wattgate_workload_energy_joules_total{workload=\"second-look\"} ";
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)).expect(&metrics);
    assert!((line.parse::<f64>().unwrap() - joules).abs() < 0.01, "{line}");
    let (listed, text) = gateway.cli(&["list"]);
    assert!(listed && text.contains("workload second-look: this hour"), "{text}");
    assert!(text.contains("power held by: "), "{text}");
    let browser = Browser::start();
    for (lang, word) in [("en", "done"), ("zh", "已完成")] {
        browser.open(&format!("{}/?lang={lang}", gateway.page));
        let row = format!("document.querySelector('[data-test=job-{job}]')");
        browser.wait_for(&format!("{row} && {row}.dataset.value === 'done'"));
        let words = browser.eval("return document.getElementById('jobs-card').innerText");
        let words = words.as_str().unwrap();
        assert!(words.contains(word) && words.contains("second-look"), "{lang}: {words}");
        assert!(!words.contains('⟦'), "{lang}: a text is missing: {words}");
    }
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

/// Today and yesterday together, as a day may have ended meanwhile.
fn the_days_are_reported(gateway: &Gateway) {
    let refused = json!({"parameters": {"days_ago": 2}}).to_string();
    assert_eq!(gateway.post("workloads/day/submit", &gateway.code, &refused).0, 400);
    for days_ago in [0, 1] {
        let job = gateway.submit("day", &json!({"parameters": {"days_ago": days_ago}}));
        gateway.is(&job, "done");
    }
    let files = std::fs::read_dir(gateway.state.join("reports")).unwrap().flatten();
    let texts: Vec<(String, String)> = files
        .map(|file| {
            let name = file.file_name().to_string_lossy().into_owned();
            (name, std::fs::read_to_string(file.path()).unwrap())
        })
        .collect();
    assert_eq!(texts.len(), 6, "two days, for machines and in two languages");
    let days: Vec<Value> = texts
        .iter()
        .filter(|(name, _)| name.ends_with(".json"))
        .map(|(_, text)| serde_json::from_str(text).unwrap())
        .collect();
    // What happened before the gateway was started again is known.
    let alarms = days.iter().flat_map(|day| day["alarms"].as_array().unwrap());
    assert!(alarms.into_iter().any(|alarm| alarm["code"] == "device_lost"), "{days:?}");
    let done = |day: &Value| {
        let jobs = day["jobs"].as_array().unwrap();
        jobs.iter().any(|job| job["workload"] == "second-look" && job["state"] == "done")
    };
    assert!(days.iter().any(done), "{days:?}");
}
