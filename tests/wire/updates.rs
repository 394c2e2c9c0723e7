//! Fault PR6: an update that is interrupted, and a new version that crashes, hangs or runs without its devices.
//! The service manager is played by the test: what ends as failed is started again after half a second, what
//! hangs is killed. Programs are signed by minisign itself.
//!
//! What a stranger gets wrong: the "new version" is a script around the program that is tested, since only the
//! signature says which version a file is.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use wattgate::app::releases::{Book, Failing};

use crate::broker::rig::free_port;
use crate::bus::rig::devices;
use crate::gateway::{PATIENCE, get_json, kill, now, until};
use crate::kills::{count, seeded};

/// Bound of the fault matrix.
const BACK_IN: Duration = Duration::from_secs(60);
const UNIT: &str = include_str!("../../packaging/wattgate.service");
const PROGRAM: &str = env!("CARGO_BIN_EXE_wattgate");

/// A folder with keys, a site file and its state.
struct Place {
    folder: tempfile::TempDir,
    page: String,
}

fn minisign(words: &[&str]) {
    let done = Command::new("minisign").args(words).output().expect("minisign runs");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

fn machine() -> String {
    format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH)
}

impl Place {
    fn new(meter: &str) -> Place {
        let place = Place {
            folder: tempfile::tempdir().expect("a folder"),
            page: format!("127.0.0.1:{}", free_port()),
        };
        for name in ["ours", "theirs"] {
            let (public, secret) = (place.text(&format!("{name}.pub")), place.text(name));
            minisign(&["-G", "-W", "-p", &public, "-s", &secret]);
        }
        let public = std::fs::read_to_string(place.at("ours.pub")).expect("a key");
        let key = public.lines().nth(1).expect("its second line");
        let text = format!(
            "[site]\nid = \"yard\"\n\
             [grid]\nmeter = \"grid\"\nlimit_a = 300\nbreaker_a = 400\nmax_base_load_a = 200\n\
             [[device]]\nid = \"grid\"\nprofile = \"eastron-sdm630\"\naddress = \"tcp://{meter}\"\n\
             [web]\nlisten = \"{}\"\n[paths]\nstate = \"state\"\n[updates]\nsigned_by = \"{key}\"\n",
            place.page
        );
        std::fs::write(place.at("site.toml"), text).expect("a site file");
        place
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.at(name).display().to_string()
    }

    fn book(&self) -> Book {
        Book::open(&self.at("state")).expect("a book")
    }

    /// A program that says `version` and does `when_run`, signed with a key and a comment.
    fn program(&self, version: &str, when_run: &str, (key, comment): (&str, &str)) -> PathBuf {
        let file = self.at(&format!("wattgate-{version}"));
        let text = format!(
            "#!/bin/sh\ncase \"$1\" in\nversion) echo 'wattgate {version}' ;;\nrun) {when_run} ;;\n\
             *) exec '{PROGRAM}' \"$@\" ;;\nesac\n"
        );
        std::fs::write(&file, text).expect("a program");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).expect("its mode");
        minisign(&["-S", "-W", "-s", &self.text(key), "-t", comment, "-m", &self.text_of(&file)]);
        file
    }

    fn text_of(&self, file: &Path) -> String {
        file.display().to_string()
    }

    fn good(&self, version: &str, when_run: &str) -> PathBuf {
        self.program(version, when_run, ("ours", &format!("wattgate {version} {}", machine())))
    }

    fn update(&self, file: &Path) -> Command {
        let mut command = Command::new(PROGRAM);
        command.args(["--lang", "en", "update", "install"]).arg(file);
        command.arg("--config").arg(self.at("site.toml"));
        command
    }

    fn install(&self, file: &Path) -> Output {
        self.update(file).output().expect("wattgate runs")
    }

    fn answers(&self) -> Option<u64> {
        get_json(&format!("http://{}/api/v1/overview", self.page))?["overview"]["sequence"].as_u64()
    }

    fn show(&self) -> String {
        let words = ["--lang", "en", "update", "show", "--state", &self.text("state")];
        let out = Command::new(PROGRAM).args(words).output().expect("wattgate runs");
        String::from_utf8_lossy(&out.stdout).into_owned()
    }
}

/// The installed version under a service manager.
struct Service<'p> {
    place: &'p Place,
    process: Child,
    starts: u32,
    log: Arc<Mutex<String>>,
}

impl<'p> Service<'p> {
    fn start(place: &'p Place) -> Service<'p> {
        let log = Arc::default();
        Service { place, process: spawn(place, &log), starts: 1, log }
    }

    /// Starts again what ended as failed.
    fn tend(&mut self) {
        if let Some(status) = self.process.try_wait().expect("its end") {
            // As the unit says: whatever it ended with.
            assert!(UNIT.contains("\nRestart=always\n"), "{status}");
            std::thread::park_timeout(Duration::from_millis(500));
            self.starts += 1;
            self.process = spawn(self.place, &self.log);
        }
    }

    fn until(&mut self, what: &str, patience: Duration, holds: impl Fn(&Place) -> bool) {
        let place = self.place;
        until(what, patience, || {
            self.tend();
            holds(place).then_some(())
        });
    }

    fn until_started_again(&mut self) {
        let starts = self.starts;
        until("another start", PATIENCE, || {
            self.tend();
            (self.starts > starts).then_some(())
        });
    }

    fn restart(&mut self) {
        kill("-TERM", self.process.id());
        let ended = self.process.wait().expect("its end");
        assert!(ended.success(), "{ended}");
        self.starts = 1;
        self.process = spawn(self.place, &self.log);
    }
}

impl Drop for Service<'_> {
    fn drop(&mut self) {
        if matches!(self.process.try_wait(), Ok(None)) {
            kill("-TERM", self.process.id());
            let _ = self.process.wait();
        }
    }
}

fn spawn(place: &Place, log: &Arc<Mutex<String>>) -> Child {
    let mut process = Command::new(PROGRAM)
        .args(["run", "--lang", "en", "--config"])
        .arg(place.at("site.toml"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("wattgate runs");
    let lines = BufReader::new(process.stderr.take().expect("its log"));
    let log = Arc::clone(log);
    std::thread::spawn(move || {
        for line in lines.lines().map_while(Result::ok) {
            let _ = writeln!(std::io::stderr(), "{line}");
            log.lock().expect("the log").extend([line.as_str(), "\n"]);
        }
    });
    process
}

fn seconds_of_unit(key: &str) -> Duration {
    let value = UNIT.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    let seconds = value.and_then(|value| value.parse().ok());
    Duration::from_secs(seconds.unwrap_or_else(|| panic!("{key} in seconds in the unit")))
}

#[test]
fn pr6_a_new_version_that_crashes_at_its_start_is_undone_and_one_that_works_is_kept() {
    let place = Place::new("127.0.0.1:1");
    let mut service = Service::start(&place);
    service.until("a decision", PATIENCE, |place| place.answers().is_some());
    // It brings a key that the installed version does not know, ends as if the site file were bad, then well.
    let crashes = place.good("0.2.0", "[ -e \"$0.once\" ] && exit 0; touch \"$0.once\"; exit 78");
    let done = place.install(&crashes);
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.success() && said.contains("0.2.0 is on trial"), "{said}");
    assert!(place.show().contains("on trial: 0.2.0, started 0 times"), "{}", place.show());
    // The site file gets a table for it, which the installed version does not know.
    let site = std::fs::read_to_string(place.at("site.toml")).expect("the site file");
    std::fs::write(place.at("site.toml"), format!("{site}[later]\nkey = 1\n")).expect("a table");
    service.restart();
    let asked = now();
    service.until("the installed version again", BACK_IN, |place| place.answers().is_some());
    println!("PR6: back after {:?}, start {}", asked.elapsed(), service.starts);
    assert_eq!(service.starts, 3, "two crashes, then the installed version");
    assert_eq!(place.book().undone.map(|(_, why)| why), Some(Failing::Ended));
    let alarmed = |place: &Place| {
        get_json(&format!("http://{}/api/v1/overview", place.page))
            .is_some_and(|all| all["overview"]["alarms"].to_string().contains("update_undone"))
    };
    service.until("its alarm", PATIENCE, alarmed);

    std::fs::write(place.at("site.toml"), site).expect("the site file");
    let works = place.good("0.2.1", &format!("exec '{PROGRAM}' \"$@\""));
    assert!(place.install(&works).status.success());
    service.restart();
    service.until("the proof", BACK_IN, |place| place.book().kept.is_some());
    assert_eq!(service.starts, 1);
    assert!(place.show().contains("kept: 0.2.1"), "{}", place.show());
    // What is kept runs from then on; its file, damaged, does not.
    service.restart();
    service.until("a decision of what is kept", PATIENCE, |place| place.answers().is_some());
    assert_eq!(service.log.lock().expect("the log").matches("version=0.2.1").count(), 3);
    let older = place.install(&crashes);
    let why = String::from_utf8_lossy(&older.stderr).into_owned();
    assert!(older.status.code() == Some(77) && why.contains("is not newer than 0.2.1"), "{why}");
    let file = place.at("state/releases/0.2.1/wattgate");
    std::fs::write(&file, "#!/bin/sh\nexit 1\n").expect("damage");
    service.restart();
    service.until("the installed version", PATIENCE, |place| place.answers().is_some());
    assert_eq!((service.starts, place.book().kept), (1, None));
    let older = place.install(&crashes);
    assert_eq!(older.status.code(), Some(77), "damage opens no way for an older one");
}

#[test]
fn pr6_a_version_that_hangs_or_misses_devices_is_undone_within_a_minute() {
    let hangs_for = seconds_of_unit("TimeoutStartSec").max(seconds_of_unit("WatchdogSec"));
    assert!(
        hangs_for * 2 + Duration::from_secs(10) <= BACK_IN,
        "two hanging starts: {hangs_for:?}"
    );
    let (meters, simulated) = devices("sunny_day");
    let place = Place::new(&simulated.addresses().meter.to_string());
    let mut service = Service::start(&place);
    let hears = |place: &Place| {
        get_json(&format!("http://{}/api/v1/overview", place.page))
            .is_some_and(|all| all["overview"]["devices"][0]["q"] == "good")
    };
    service.until("the meter", PATIENCE, hears);
    let works = place.good("0.2.0", &format!("exec '{PROGRAM}' \"$@\""));
    assert!(place.install(&works).status.success());
    assert_eq!(place.book().trial.map(|trial| trial.heard), Some(1));
    drop(simulated);
    meters.shutdown_background();
    service.restart();
    let asked = now();
    service.until("the trial", PATIENCE, |place| place.answers().is_some());
    service.until("the end of the trial", BACK_IN, |place| place.book().undone.is_some());
    assert_eq!(place.book().undone.map(|(_, why)| why), Some(Failing::Unproven));
    service.until_started_again();
    service.until("the installed version", BACK_IN, |place| place.answers().is_some());
    println!("PR6: undone and back after {:?}", asked.elapsed());
    assert!(asked.elapsed() <= BACK_IN, "{:?}", asked.elapsed());

    let hangs = place.good("0.3.0", "exec sleep 1000");
    assert!(place.install(&hangs).status.success());
    service.restart();
    for start in 1..=2 {
        let started = |place: &Place| place.book().trial.is_some_and(|t| t.starts == start);
        service.until("a hanging start", PATIENCE, started);
        // Without a word within its time the service manager kills it.
        kill("-KILL", service.process.id());
    }
    service.until("the installed version after it", BACK_IN, |place| place.answers().is_some());
    assert_eq!(place.book().undone.map(|(_, why)| why), Some(Failing::Ended));
}

#[test]
fn sec5_what_is_not_signed_by_the_site_is_for_another_machine_or_lies_changes_nothing() {
    let place = Place::new("127.0.0.1:1");
    let ours = format!("wattgate 0.2.0 {}", machine());
    let run = format!("exec '{PROGRAM}' \"$@\"");
    let refused = |file: &Path, why: &str| {
        let done = place.install(file);
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.code() == Some(77) && said.contains(why), "{why}: {said}");
        assert_eq!(place.book(), Book::default(), "{why}");
    };
    refused(&place.program("0.2.0", &run, ("theirs", &ours)), "not signed by the key");
    refused(&place.program("0.2.0", &run, ("ours", "0.2.0")), "trusted comment");
    refused(&place.program("0.2.0", &run, ("ours", "wattgate 0.2.0 linux-vax")), "linux-vax");
    refused(&place.program("0.0.9", &run, ("ours", &ours.replace("0.2.0", "0.0.9"))), "newer");
    refused(&place.program("0.3.0", &run, ("ours", &ours)), "did not pass");
    let altered = place.program("0.2.0", &run, ("ours", &ours));
    let mut bytes = std::fs::read(&altered).expect("the program");
    bytes.push(b'\n');
    std::fs::write(&altered, bytes).expect("altered");
    refused(&altered, "not signed by the key");
    let unsigned = place.at("unsigned");
    std::fs::copy(PROGRAM, &unsigned).expect("a copy");
    let done = place.install(&unsigned);
    assert_eq!(done.status.code(), Some(1), "no signature beside it");
    assert_eq!(place.book(), Book::default());
}

#[test]
fn pr6_an_update_interrupted_at_any_moment_leaves_a_gateway_that_runs() {
    let (seed, mut rng) = seeded();
    let place = Place::new("127.0.0.1:1");
    let mut interrupted = 0;
    for round in 0..count() {
        let file = place.good(&format!("0.2.{round}"), &format!("exec '{PROGRAM}' \"$@\""));
        let begun = now();
        let mut update = place.update(&file).stdout(Stdio::null()).spawn().expect("wattgate runs");
        // A random moment is what is asked for, not an event.
        std::thread::park_timeout(Duration::from_millis(rng.u64(0..150)));
        interrupted += u32::from(update.try_wait().expect("its end").is_none());
        let _ = update.kill();
        let _ = update.wait();
        let after = begun.elapsed();
        // Whatever it left: a whole book, and a gateway that decides.
        let book = place.book();
        let mut service = Service::start(&place);
        service.until("a decision", PATIENCE, |place| place.answers().is_some());
        assert_eq!(service.starts, 1, "seed {seed}, round {round}, {after:?}: {book:?}");
    }
    println!("{interrupted} of {} updates were interrupted (seed {seed})", count());
    assert!(interrupted > 0, "seed {seed}: none was interrupted");
}
