//! The stand-alone program as an integrator uses it: `simulators --site FILE` in a process of its own, read,
//! written and broken by pymodbus over TCP and over one RTU line behind a bridge.
//!
//! What a stranger gets wrong: nothing of this repository stands between pymodbus and the wire; `integrator.py`
//! knows the maps from the makers' lists, not from here.

#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::{Map, Value, json};

/// The program, ended with the test.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const SITE: &str = "[site]\nid = 'yard'\n[grid]\nmeter = 'meter'\nlimit_a = 63\nbreaker_a = 63\n\
    [[device]]\nid = 'meter'\nprofile = 'eastron-sdm630'\naddress = 'tcp://10.0.0.1'\n\
    [[device]]\nid = 'left'\nprofile = 'alfen-ng9'\naddress = 'tcp://10.0.0.2'\nmax_a = 32\nfailsafe_a = 6\n\
    [[device]]\nid = 'right'\nprofile = 'alfen-ng9'\naddress = 'tcp://10.0.0.2'\nunit = 2\nmax_a = 16\nfailsafe_a = 6\n";

/// Starts it; where it says that each device is, and the switches.
fn start(more: &[&str]) -> (Program, Map<String, Value>, String) {
    let name = format!("integrator-{}-{}.toml", std::process::id(), more.len());
    let file = std::env::temp_dir().join(name);
    std::fs::write(&file, SITE).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_simulators"));
    command.arg("--site").arg(&file).args(["--port", "0"]).args(more).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (mut places, mut switches) = (Map::new(), String::new());
    for line in lines.map_while(Result::ok) {
        // "left        alfen-ng9              tcp://127.0.0.1:41234 unit 1"
        let words: Vec<&str> = line.split_whitespace().collect();
        if let [name, _, at, "unit", unit] = words[..] {
            let (host, port) = at.rsplit_once('/').unwrap().1.split_once(':').unwrap();
            let place = json!([host, port.parse::<u16>().unwrap(), unit.parse::<u8>().unwrap()]);
            places.insert(name.to_owned(), place);
        } else if let ["truth", url] = words[..] {
            switches = url.trim_start_matches("http://").trim_end_matches("/truth").to_owned();
        } else if words.first() == Some(&"curl") {
            // The last line; it would end if nobody read before it.
            break;
        }
    }
    std::fs::remove_file(&file).unwrap();
    assert_eq!(places.len(), 3, "it says where its devices are");
    (Program(child), places, switches)
}

/// All that the integrator has noted holds, and nothing was left out.
fn integrate(more: &[&str], framer: &str, expected: usize) {
    let (_program, places, switches) = start(more);
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let out = Command::new(format!("{root}/.venv/bin/python"))
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/integrator.py"))
        .args([switches, framer.to_owned(), Value::from(places).to_string()])
        .output()
        .expect(".venv of tests/run");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let noted: Vec<(String, bool, String)> = serde_json::from_slice(&out.stdout).unwrap();
    let wrong: Vec<_> = noted.iter().filter(|(_, held, _)| !held).collect();
    assert!(wrong.is_empty(), "{framer}: {wrong:#?}");
    assert_eq!(noted.len(), expected, "{framer}: {noted:#?}");
}

#[test]
fn pymodbus_reads_writes_and_breaks_the_devices_of_a_site_file() {
    integrate(&[], "socket", 55);
}

#[test]
fn pymodbus_reads_writes_and_breaks_them_on_one_rtu_line() {
    integrate(&["--bridge"], "rtu", 50);
}
