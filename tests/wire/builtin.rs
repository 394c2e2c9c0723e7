//! Built-in workloads as jobs of a running gateway: what its eyes doubt is kept, a review of it is held, paused and
//! metered like any other program, and a report says where the energy of it all went.
//!
//! What a stranger gets wrong: while the eyes doubt anything, no job runs beside them. So one gateway sees the
//! flames, and the next one, which has no camera, does the work.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::browser::Browser;
use crate::eyes::camera_server;
use crate::gateway::{Demo, PATIENCE, get, get_json, until};
use crate::jobs::{Gateway, used};

const WATTS_PER_CORE: f64 = 4.0;

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

/// A gateway whose camera sees flames, until it has kept pictures of them and told what looking has cost.
fn pictures_of_flames(folder: &Path) -> usize {
    let more = format!(
        "[vision]\nevidence = true\n[[camera]]\nid = \"yard\"\n\
         snapshot = \"http://127.0.0.1:{}/0.jpg\"\n",
        camera_server(1.0)
    );
    let gateway = Gateway::start(folder, &more);
    let long = Duration::from_secs(90);
    until("kept pictures", long, || (kept(&gateway, "jpg") >= 12).then_some(()));
    until("the cost of looking", long, || {
        let told = overview(&gateway)?["ledger"]["cameras"]["yard"]["all_wh"].as_f64();
        told.filter(|wh| *wh > 0.0)
    });
    kept(&gateway, "jpg")
}

#[test]
fn what_the_eyes_doubt_is_kept_reviewed_by_a_job_and_reported() {
    let folder = tempfile::tempdir().unwrap();
    let pictures = pictures_of_flames(folder.path());
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
    gateway.is(&job, "done");
    assert_eq!(kept(&gateway, "json"), pictures);
    its_energy_is_told(&gateway, &job);
    the_days_are_reported(&gateway);
}

/// On the page, in /metrics, on the command line and in the budget it is the same.
fn its_energy_is_told(gateway: &Gateway, job: &str) {
    let told = gateway.job(job).unwrap();
    let joules = told["joules"].as_f64().unwrap();
    let overview = overview(gateway).unwrap();
    for wh in [
        &overview["ledger"]["workloads"]["second-look"]["all_wh"],
        &overview["job_budget"]["day_wh"],
    ] {
        // The budget's day may have begun anew since.
        assert!(wh.as_f64().unwrap() * 3600.0 <= joules + 0.01, "{overview}");
    }
    let all = overview["ledger"]["workloads"]["second-look"]["all_wh"].as_f64().unwrap();
    assert!((all * 3600.0 - joules).abs() < 0.01, "{all} Wh, {joules} J");
    let metrics = get(&format!("{}/metrics", gateway.page)).unwrap();
    let name = "wattgate_workload_energy_joules_total{workload=\"second-look\"} ";
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)).expect(&metrics);
    assert!((line.parse::<f64>().unwrap() - joules).abs() < 0.01, "{line}");
    let (listed, text) = gateway.cli(&["list"]);
    assert!(listed && text.contains("workload second-look: this hour"), "{text}");
    assert!(text.contains("power held by: ") && text.contains("camera yard: "), "{text}");
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
    // What the first gateway has seen and spent is known to the second one's report.
    let looking = days.iter().filter_map(|day| day["cameras_wh"]["yard"].as_f64()).sum::<f64>();
    assert!(looking > 0.0, "{days:?}");
    let alarms = days.iter().flat_map(|day| day["alarms"].as_array().unwrap());
    assert!(alarms.into_iter().any(|alarm| alarm["code"] == "device_lost"), "{days:?}");
    let done = |day: &Value| {
        let jobs = day["jobs"].as_array().unwrap();
        jobs.iter().any(|job| job["workload"] == "second-look" && job["state"] == "done")
    };
    assert!(days.iter().any(done), "{days:?}");
}
