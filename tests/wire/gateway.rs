//! A running `wattgate demo` for tests: started from the binary, its lines read, ended by ctrl-C.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Longest time for anything that a test waits for, unless it says otherwise.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub struct Demo {
    process: Child,
    /// Address of the page, `http://127.0.0.1:port`.
    pub page: String,
    /// Address of the simulated world.
    pub world: String,
    /// `host:port` of the broker.
    pub broker: String,
    /// `host:port` of meter, pile and hybrid.
    pub meter: String,
    pub pile: String,
    /// `host:port` of every pile.
    pub piles: Vec<String>,
    /// When it was started.
    #[allow(clippy::disallowed_methods)]
    pub started: Instant,
    folder: PathBuf,
    code: Arc<Mutex<Option<String>>>,
}

#[allow(clippy::disallowed_methods)] // a test measures wall time
pub fn now() -> Instant {
    Instant::now()
}

/// Asks again and again until there is an answer; how long it took.
pub fn until<T>(what: &str, patience: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let started = now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(started.elapsed() < patience, "waited {patience:?} for {what}");
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

pub fn get(url: &str) -> Option<String> {
    ureq::get(url).call().ok()?.body_mut().read_to_string().ok()
}

pub fn get_json(url: &str) -> Option<Value> {
    serde_json::from_str(&get(url)?).ok()
}

pub fn post(url: &str, body: &str) {
    ureq::post(url).header("content-type", "application/json").send(body).expect(url);
}

impl Demo {
    pub fn start() -> Demo {
        Demo::with(&[])
    }

    /// With further arguments of `wattgate demo`.
    pub fn with(arguments: &[&str]) -> Demo {
        Demo::within(arguments, &std::env::temp_dir())
    }

    /// With its site file and state below a folder.
    pub fn within(arguments: &[&str], folder: &Path) -> Demo {
        let started = now();
        let mut process = Command::new(env!("CARGO_BIN_EXE_wattgate"))
            .args(["demo", "--port", "0", "--lang", "en"])
            .args(arguments)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .env("TMPDIR", folder)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the demo starts");
        let out = BufReader::new(process.stdout.take().expect("its output"));
        let errors = BufReader::new(process.stderr.take().expect("its log"));
        let code: Arc<Mutex<Option<String>>> = Arc::default();
        let newest_code = Arc::clone(&code);
        std::thread::spawn(move || {
            for line in errors.lines().map_while(Result::ok) {
                let _ = writeln!(std::io::stderr(), "{line}");
                if let Some((_, code)) = line.split_once("(new at every start): ") {
                    *newest_code.lock().unwrap() = Some(code.to_owned());
                }
            }
        });
        let (send, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                let _ = send.send(line);
            }
        });
        let mut told = Vec::new();
        while !told.iter().any(|line: &String| line.contains("page ")) {
            told.push(lines.recv_timeout(PATIENCE).expect("the demo tells where everything is"));
        }
        let find = |name: &str, start: &str| -> String {
            let line = told.iter().find(|line| line.trim_start().starts_with(name)).expect(name);
            let rest = &line[line.find(start).expect(start) + start.len()..];
            rest.split([' ', '/']).next().expect("a value").to_owned()
        };
        Demo {
            page: format!("http://{}", find("page", "http://")),
            world: format!("http://{}", find("cameras", "http://")),
            broker: find("broker", "MQTT 5").trim().to_owned() + &after(&told, "broker"),
            meter: find("grid meter", "tcp://"),
            pile: find("pile", "tcp://"),
            piles: (told.iter().filter(|line| line.trim_start().starts_with("pile")))
                .filter_map(|line| Some(line.split_once("tcp://")?.1.trim().to_owned()))
                .collect(),
            process,
            started,
            folder: folder.to_owned(),
            code,
        }
    }

    /// The state folder of its gateway.
    pub fn state(&self) -> PathBuf {
        self.folder.join(format!("wattgate-demo-{}/state", self.process.id()))
    }

    /// The page's code, as printed at the last start of the gateway.
    pub fn code(&self) -> Option<String> {
        self.code.lock().unwrap().clone()
    }

    pub fn overview(&self) -> Option<Value> {
        let document = get_json(&format!("{}/api/v1/overview", self.page))?;
        (!document["overview"].is_null()).then_some(document)
    }

    pub fn truth(&self) -> Value {
        get_json(&format!("{}/truth", self.world)).expect("the truth")
    }

    /// Ids of processes whose command line holds all words.
    pub fn processes(words: &[&str]) -> Vec<u32> {
        let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
        let pids = entries.filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok());
        pids.filter(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            words.iter().all(|word| line.contains(word))
        })
        .collect()
    }

    /// The children of the demo's gateway that run `command`.
    pub fn children(&self, command: &str) -> Vec<u32> {
        let folder = format!("wattgate-demo-{}/", self.process.id());
        Demo::processes(&[&format!(" {command} "), &folder])
    }

    /// Ctrl-C; how long the stop took and whether it was clean.
    pub fn interrupt(&mut self) -> (Duration, bool) {
        let asked = now();
        kill("-INT", self.process.id());
        let status = until("the demo to stop", PATIENCE, || self.process.try_wait().expect("wait"));
        (asked.elapsed(), status.success())
    }
}

fn after(lines: &[String], name: &str) -> String {
    let line = lines.iter().find(|line| line.trim_start().starts_with(name)).expect(name);
    line.split_whitespace().last().expect("an address").to_owned()
}

pub fn kill(signal: &str, pid: u32) {
    let done = Command::new("kill").args([signal, &pid.to_string()]).status().expect("kill");
    assert!(done.success(), "kill {signal} {pid}");
}

impl Drop for Demo {
    fn drop(&mut self) {
        if matches!(self.process.try_wait(), Ok(None)) {
            kill("-INT", self.process.id());
            let _ = self.process.wait();
        }
    }
}
