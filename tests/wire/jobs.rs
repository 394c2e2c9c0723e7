//! Jobs on a real machine: programs are started, held to their share, paused and ended; their joules are
//! held against a meter of the test; what is not allowed is refused; nothing outlives the gateway.
//!
//! What a stranger gets wrong: the tests share two cores with everything else. How much a program gets
//! is not ours to promise, only that it is never more than its share.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use serde_json::{Value, json};

use crate::broker::rig::{Broker, free_port};
use crate::gateway::{Demo, PATIENCE, get_json, kill, now, until};

const WATTS_PER_CORE: f64 = 4.0;

/// A gateway of its own with nothing but workloads.
pub struct Gateway {
    pub process: Child,
    pub page: String,
    pub state: PathBuf,
    pub code: String,
}

impl Gateway {
    pub fn start(folder: &Path, more: &str) -> Gateway {
        Gateway::of(folder, ("observe", "127.0.0.1:1"), more)
    }

    pub fn of(folder: &Path, (mode, meter): (&str, &str), more: &str) -> Gateway {
        let page = format!("127.0.0.1:{}", free_port());
        let site = folder.join("site.toml");
        let text = format!(
            "[site]\nid = \"crew\"\nmode = \"{mode}\"\n\
             [grid]\nmeter = \"grid\"\nlimit_a = 300\nbreaker_a = 400\nmax_base_load_a = 200\n\
             [[device]]\nid = \"grid\"\nprofile = \"eastron-sdm630\"\naddress = \"tcp://{meter}\"\n\
             [web]\nlisten = \"{page}\"\n[paths]\nstate = \"state\"\n{more}"
        );
        std::fs::write(&site, text).unwrap();
        let mut process = Command::new(env!("CARGO_BIN_EXE_wattgate"))
            .args(["run", "--lang", "en", &format!("--config={}", site.display())])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .env("HTTP_PROXY", "http://127.0.0.1:1")
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (send, codes) = mpsc::channel();
        let log = BufReader::new(process.stderr.take().unwrap());
        std::thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                let _ = writeln!(std::io::stderr(), "{line}");
                if let Some((_, code)) = line.split_once("(new at every start): ") {
                    let _ = send.send(code.to_owned());
                }
            }
        });
        let code = codes.recv_timeout(PATIENCE).expect("the code of the page");
        let gateway =
            Gateway { process, page: format!("http://{page}"), state: folder.join("state"), code };
        until("a decision", PATIENCE, || gateway.jobs());
        gateway
    }

    fn jobs(&self) -> Option<Vec<Value>> {
        get_json(&format!("{}/api/v1/overview", self.page))?["overview"]["jobs"].as_array().cloned()
    }

    pub fn job(&self, id: &str) -> Option<Value> {
        self.jobs()?.into_iter().find(|job| job["id"] == id)
    }

    pub fn is(&self, id: &str, state: &str) -> Value {
        let what = format!("job {id} to be {state}");
        until(&what, PATIENCE, || self.job(id).filter(|job| job["state"] == state))
    }

    pub fn post(&self, path: &str, code: &str, body: &str) -> (u16, Value) {
        let request = ureq::post(format!("{}/api/v1/{path}", self.page));
        let request = request.config().http_status_as_error(false).build();
        let mut answer = request.header("x-wattgate-code", code).send(body).expect("an answer");
        let text = answer.body_mut().read_to_string().expect("a body");
        (answer.status().as_u16(), serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    pub fn submit(&self, workload: &str, body: &Value) -> String {
        let path = format!("workloads/{workload}/submit");
        let (status, answer) = self.post(&path, &self.code, &body.to_string());
        assert_eq!(status, 202, "{answer}");
        answer["job"].as_str().expect("an id").to_owned()
    }

    pub fn cli(&self, words: &[&str]) -> (bool, String) {
        let out = Command::new(env!("CARGO_BIN_EXE_wattgate"))
            .args(["--lang", "en", "job"])
            .args(words)
            .arg("--state")
            .arg(&self.state)
            .output()
            .unwrap();
        let text =
            [out.stdout, out.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        (out.status.success(), text.concat())
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if matches!(self.process.try_wait(), Ok(None)) {
            kill("-TERM", self.process.id());
            let _ = self.process.wait();
        }
    }
}

/// A program that burns a core, with a word by which the test finds it.
fn burner(word: &str, more: &str) -> String {
    format!(
        "[[workload]]\nid = \"burn\"\nenergy_wh = 10\nmin_w = 0.2\nmax_w = 2\n{more}\n\
         command = [\"/bin/sh\", \"-c\", \"while :; do :; done\", \"{word}\", \"{{level}}\"]\n\
         [[workload.parameter]]\nname = \"level\"\nvalues = [\"low\", \"high\"]\n"
    )
}

fn word() -> String {
    format!("word{:016x}", fastrand::u64(..))
}

/// The program itself and not its warden, which names it too.
fn program(word: &str) -> Option<u32> {
    let all = Demo::processes(&[word]);
    let warden = Demo::processes(&[word, " warden "]);
    all.into_iter().find(|pid| !warden.contains(pid))
}

/// CPU seconds and state of a process, read by the test.
pub fn used(pid: u32) -> (f64, String) {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> =
        text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let tick = |i: usize| fields.get(i).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
    ((tick(11) + tick(12)) / 100.0, fields.first().copied().unwrap_or_default().to_owned())
}

/// Waits for CPU time, which is an event and not a span.
fn burnt(pid: u32, from: f64, seconds: f64) {
    let long = Duration::from_secs(180);
    until("the program to work", long, || (used(pid).0 - from >= seconds).then_some(()));
}

/// The largest share of a core over any eight seconds of sixteen.
fn largest_share(pid: u32) -> f64 {
    let mut seen = Vec::new();
    let began = now();
    while began.elapsed() < Duration::from_secs(16) {
        seen.push((began.elapsed().as_secs_f64(), used(pid).0));
        std::thread::park_timeout(Duration::from_millis(100));
    }
    let later = |(at, cpu): &(f64, f64)| {
        let end = seen.iter().find(|(t, _)| *t >= at + 8.0)?;
        Some((end.1 - cpu) / (end.0 - at))
    };
    seen.iter().filter_map(later).fold(0.0, f64::max)
}

#[test]
fn a_real_program_is_started_capped_paused_and_cancelled_and_its_joules_are_right() {
    let folder = tempfile::tempdir().unwrap();
    let (word, port) = (word(), free_port());
    let _broker = Broker::start(folder.path(), port, "allow_anonymous true");
    let more = format!(
        "[mqtt]\nhost = \"127.0.0.1\"\nport = {port}\nallow_plaintext = true\n\
         commands = [\"submit\", \"pause\", \"resume\", \"cancel\"]\n\
         [compute]\nwatts_per_core = {WATTS_PER_CORE}\npowercap = \"/nowhere\"\n{}",
        burner(&word, "").replace("max_w = 2", "max_w = 0.4")
    );
    let gateway = Gateway::start(folder.path(), &more);
    let mqtt = |about: &str, command: &str, payload: &str| -> Value {
        let topic = format!("wattgate/v1/crew/job/{about}/cmd/{command}");
        let out = Command::new("mosquitto_rr")
            .args(["-V", "5", "-h", "127.0.0.1", "-p", &port.to_string(), "-W", "10", "-q", "1"])
            .args(["-t", &topic, "-e", "test/answers", "-m", payload])
            .output()
            .expect("mosquitto_rr");
        serde_json::from_slice(&out.stdout).unwrap_or_else(|_| panic!("{topic}: {out:?}"))
    };
    let told = mqtt("burn", "submit", r#"{"parameters": {"level": "high"}, "within_h": 1}"#);
    let job = told["job"].as_str().unwrap_or_else(|| panic!("{told}")).to_owned();
    gateway.is(&job, "running");
    let pid = until("the program", PATIENCE, || program(&word));
    // 0.4 W at 4 W a core are a tenth of a core, in turns of a tenth of a second: nine in eight seconds.
    let share = largest_share(pid);
    println!("share of a core: {share:.3} of 0.1");
    assert!(share <= 0.125, "capped: {share}");
    burnt(pid, 0.0, 1.5);

    assert_eq!(mqtt(&job, "pause", "")["ok"], true);
    gateway.is(&job, "paused");
    until("the stop", PATIENCE, || (used(pid).1 == "T").then_some(()));
    let stopped = used(pid).0;
    let told = until("all of it told", PATIENCE, || {
        gateway.job(&job).filter(|job| job["cpu_s"].as_f64().is_some_and(|s| s >= stopped - 0.02))
    });
    assert_eq!(used(pid).0, stopped, "it does nothing while it waits");
    let (joules, meter) = (told["joules"].as_f64().unwrap(), stopped * WATTS_PER_CORE);
    println!("joules: {joules:.2}, meter of the test {meter:.2}");
    assert!((joules / meter - 1.0).abs() <= 0.1, "{joules} J, the meter says {meter} J");
    assert_eq!(told["method"], "cpu_time");
    assert!(["turns", "cgroup"].iter().any(|means| told["held_by"] == **means), "{told}");
    assert!(gateway.cli(&["resume", &job]).0);
    burnt(pid, stopped, 0.3);
    let (listed, text) = gateway.cli(&["list"]);
    assert!(listed && text.contains(&job) && text.contains("cpu_time"), "{text}");
    assert!(gateway.cli(&["cancel", &job]).0);
    until("the end of the program", PATIENCE, || program(&word).is_none().then_some(()));
    let over = gateway.is(&job, "cancelled");
    assert_eq!(over["why"], "over");
    assert!(!gateway.cli(&["pause", &job]).0, "it is over");
}

#[test]
fn a_counter_of_the_processor_is_shared_and_said() {
    let folder = tempfile::tempdir().unwrap();
    let word = word();
    let package = folder.path().join("powercap/intel-rapl:0");
    std::fs::create_dir_all(&package).unwrap();
    // 3 W idle and 10 J for each second that any core works: what a real package would count here.
    let began = now();
    let busy = || {
        let text = std::fs::read_to_string("/proc/stat").unwrap();
        let ticks: Vec<f64> = text
            .lines()
            .next()
            .unwrap()
            .split_whitespace()
            .skip(1)
            .map(|field| field.parse().unwrap())
            .collect();
        (ticks[0] + ticks[1] + ticks[2] + ticks[5] + ticks[6]) / 100.0
    };
    let at_start = busy();
    let count = {
        let package = package.clone();
        move || {
            let joules = 3.0 * began.elapsed().as_secs_f64() + 10.0 * (busy() - at_start);
            std::fs::write(package.join("new"), format!("{}\n", (joules * 1e6) as u64)).unwrap();
            std::fs::rename(package.join("new"), package.join("energy_uj")).unwrap();
        }
    };
    count();
    std::fs::write(package.join("max_energy_range_uj"), "262143328850\n").unwrap();
    let ends = Arc::new(AtomicBool::new(false));
    let counting = {
        let ends = Arc::clone(&ends);
        std::thread::spawn(move || {
            while !ends.load(Ordering::Relaxed) {
                count();
                std::thread::park_timeout(Duration::from_millis(20));
            }
        })
    };
    let more = format!(
        "[compute]\nidle_w = 3\npowercap = \"{}\"\n{}",
        folder.path().join("powercap").display(),
        burner(&word, "")
    );
    let gateway = Gateway::start(folder.path(), &more);
    let job = gateway.submit("burn", &json!({"parameters": {"level": "low"}}));
    gateway.is(&job, "running");
    let pid = until("the program", PATIENCE, || program(&word));
    burnt(pid, 0.0, 3.0);
    assert_eq!(gateway.post(&format!("jobs/{job}/pause"), &gateway.code, "").0, 202);
    until("the stop", PATIENCE, || (used(pid).1 == "T").then_some(()));
    let cpu = used(pid).0;
    let told = until("all of it told", PATIENCE, || {
        gateway.job(&job).filter(|job| job["cpu_s"].as_f64().is_some_and(|s| s >= cpu - 0.05))
    });
    let (joules, meter) = (told["joules"].as_f64().unwrap(), cpu * 10.0);
    println!("joules: {joules:.2}, meter of the test {meter:.2}");
    ends.store(true, Ordering::Relaxed);
    counting.join().unwrap();
    assert_eq!(told["method"], "counter");
    assert!((joules / meter - 1.0).abs() <= 0.1, "{joules} J, the meter says {meter} J");
}

#[test]
fn hostile_submissions_are_refused_and_nothing_is_run() {
    let folder = tempfile::tempdir().unwrap();
    let word = word();
    let gateway = Gateway::start(folder.path(), &burner(&word, ""));
    let mark = folder.path().join("owned");
    let evil = format!("low; touch {}", mark.display());
    let good = json!({"parameters": {"level": "low"}}).to_string();
    assert_eq!(gateway.post("workloads/burn/submit", "wrong", &good).0, 403);
    let bodies = [
        json!({"parameters": {"level": evil}}),
        json!({"parameters": {"level": "$(id)"}}),
        json!({"parameters": {"level": "--help"}}),
        json!({"parameters": {"level": ["low"]}}),
        json!({"parameters": {"level": "low", "command": "/bin/sh"}}),
        json!({"parameters": {}}),
        json!({"command": ["/bin/sh"]}),
        json!({"parameters": {"level": "low"}, "within_h": 1e9}),
        json!({"parameters": {"level": "x".repeat(4000)}}),
        json!([1, 2]),
    ];
    for body in bodies {
        let (status, answer) =
            gateway.post("workloads/burn/submit", &gateway.code, &body.to_string());
        assert_eq!(status, 400, "{body}: {answer}");
    }
    for workload in ["bash", "..%2f..%2fbin%2fsh", "burn%00"] {
        let path = format!("workloads/{workload}/submit");
        assert_eq!(gateway.post(&path, &gateway.code, "{}").0, 400, "{workload}");
    }
    let (ok, text) = gateway.cli(&["submit", "burn", &format!("level={evil}")]);
    assert!(!ok && text.contains("not among those"), "{text}");
    assert!(!gateway.cli(&["submit", "bash"]).0);
    assert_eq!(gateway.jobs().unwrap(), Vec::<Value>::new());
    assert!(!mark.exists() && Demo::processes(&[&word]).is_empty());
}

#[test]
fn a_killed_gateway_leaves_no_orphan_and_knows_its_jobs_again() {
    let folder = tempfile::tempdir().unwrap();
    let word = word();
    // A child in a session of its own, one in the background, and the program itself.
    let script = format!(
        "setsid sh -c 'while :; do read x < /dev/zero; done' {word} & \
         sh -c 'while :; do :; done' {word} & while :; do :; done"
    );
    let more = format!(
        "[[workload]]\nid = \"brood\"\nenergy_wh = 10\nmax_w = 4\n\
         command = [\"/bin/sh\", \"-c\", \"{script}\", \"{word}\"]\n"
    );
    let mut gateway = Gateway::start(folder.path(), &more);
    let job = gateway.submit("brood", &json!({}));
    gateway.is(&job, "running");
    until("all of them", PATIENCE, || (Demo::processes(&[&word]).len() >= 4).then_some(()));
    let before = until("some joules", Duration::from_secs(60), || {
        gateway.job(&job)?["joules"].as_f64().filter(|joules| *joules > 1.0)
    });
    kill("-KILL", gateway.process.id());
    let asked = now();
    gateway.process.wait().unwrap();
    until("nobody left", PATIENCE, || Demo::processes(&[&word]).is_empty().then_some(()));
    println!("nobody left after {:?}; {before:.1} J were told", asked.elapsed());
    let again = Gateway::start(folder.path(), &more);
    let known = until("the job", PATIENCE, || again.job(&job));
    assert!(known["submitted"].is_string(), "{known}");
    // It may have been what ended the gateway: it waits for a minute.
    assert_eq!((&known["state"], &known["why"]), (&json!("waiting"), &json!("retry_waits")));
    let minute = Duration::from_secs(60) + PATIENCE;
    until("another try", minute, || again.job(&job).filter(|job| job["state"] == "running"));
    let joules = |again: &Gateway| again.job(&job)?["joules"].as_f64();
    let at_first = joules(&again).unwrap();
    let told = until("more joules", Duration::from_secs(60), || {
        joules(&again).filter(|joules| *joules > at_first + 3.0)
    });
    // A gateway that is asked to stop ends its jobs, too, and forgets nothing that was told.
    drop(again);
    until("nobody left", PATIENCE, || Demo::processes(&[&word]).is_empty().then_some(()));
    let text = std::fs::read_to_string(folder.path().join("state/jobs")).unwrap();
    let book: Value = serde_json::from_str(text.split_once('\n').unwrap().1).unwrap();
    let wh = |key: &str| book["jobs"][0][key].as_f64().unwrap();
    let kept = (wh("spent") + wh("lost")) * 3600.0;
    assert!(kept >= told - 0.01, "{kept} J are kept, {told} J were told");
}

/// The gateway is gone before the warden can say that the program runs: nobody may be left.
#[test]
fn a_warden_that_nobody_hears_leaves_nobody_behind() {
    let word = word();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut warden = Command::new(env!("CARGO_BIN_EXE_wattgate"))
        .args(["warden", "--cores", "1", "--", "/bin/sh", "-c", "sleep 600; true", &word])
        .stdin(Stdio::piped())
        .stdout(writer)
        .spawn()
        .unwrap();
    // Its input stays open: only the missing listener says that the gateway is gone.
    let input = warden.stdin.take();
    until("the end of the warden", PATIENCE, || warden.try_wait().unwrap());
    assert_eq!(Demo::processes(&[&word]), Vec::<u32>::new());
    drop(input);
}

#[test]
fn a_program_goes_first_when_memory_is_short() {
    let folder = tempfile::tempdir().unwrap();
    let word = word();
    let gateway = Gateway::start(folder.path(), &burner(&word, ""));
    let job = gateway.submit("burn", &json!({"parameters": {"level": "low"}}));
    gateway.is(&job, "running");
    let pid = until("the program", PATIENCE, || program(&word));
    let score = std::fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap();
    assert_eq!(score.trim(), "1000");
    let own = std::fs::read_to_string(format!("/proc/{}/oom_score_adj", gateway.process.id()));
    assert_ne!(own.unwrap().trim(), "1000");
}
