//! The vision process as its parent sees it: what it tells over its socket, how soon, how large it grows,
//! and what a net that hangs or was altered does to the gateway.
//!
//! What a stranger gets wrong: models beside the site file go before all others, so a test lays its own
//! there and lets the eyes be started again.

#![allow(clippy::print_stdout)] // figures

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use serde_json::Value;
use simulators::physics::World;
use simulators::picture::{Scene, jpeg};
use simulators::scenario::Scenario;

use crate::gateway::{Demo, PATIENCE, kill, now, until};

const CAMERAS: usize = 16;
/// Pictures of a camera server, one after the other.
const PICTURES: usize = 41;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A camera server: another picture for every request, so that nothing looks frozen. `hazard`: how much flame
/// and smoke is in them, 0 to 1.
fn camera_server(hazard: f64) -> u16 {
    let mut scene = Scene::of(&World::new(Scenario::one_pile(), 1));
    (scene.slots[0].fire, scene.slots[0].smoke) = (hazard, hazard);
    let mut pictures = Vec::new();
    // A prime: no camera of sixteen gets the same one again and again, and none sees a flame repeat itself for the
    // time that it must last.
    for i in 0..PICTURES {
        scene.slots[0].car = [None, Some(1), Some(2), Some(3), Some(4)][i % 5];
        scene.time_s += 0.2;
        pictures.push(jpeg(&scene).expect("a picture"));
    }
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("its address").port();
    std::thread::spawn(move || {
        for (count, stream) in listener.incoming().flatten().enumerate() {
            let picture = pictures[count % pictures.len()].clone();
            std::thread::spawn(move || answer(stream, &picture));
        }
    });
    port
}

fn answer(mut stream: std::net::TcpStream, picture: &[u8]) -> std::io::Result<()> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        picture.len()
    );
    let mut request = [0; 2048];
    let _ = stream.read(&mut request)?;
    stream.write_all(head.as_bytes())?;
    stream.write_all(picture)
}

/// A site with so many cameras and a bay before each.
fn site(folder: &Path, port: u16, cameras: usize) -> PathBuf {
    let mut text = String::from(
        "[site]\nid = \"eyes\"\n[grid]\nmeter = \"grid\"\nlimit_a = 50\nbreaker_a = 63\n\
         [[device]]\nid = \"grid\"\nprofile = \"eastron-sdm630\"\naddress = \"tcp://127.0.0.1:1\"\n",
    );
    text += &format!("[paths]\nmodels = {:?}\n", root().join("models").display().to_string());
    for i in 0..cameras {
        text += &format!(
            "[[camera]]\nid = \"cam{i}\"\nsnapshot = \"http://127.0.0.1:{port}/{i}.jpg\"\n\
             [[bay]]\nid = \"bay{i}\"\ncamera = \"cam{i}\"\n\
             polygon = [[0.1, 0.4], [0.3, 0.4], [0.3, 0.8], [0.1, 0.8]]\n"
        );
    }
    let file = folder.join("site.toml");
    std::fs::write(&file, text).expect("the site file");
    file
}

pub struct Reaped(Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The next message that is JSON; stills are passed over.
pub fn hear(socket: &mut UnixStream) -> Value {
    let mut take = || {
        let mut length = [0; 4];
        socket.read_exact(&mut length).expect("the child talks");
        let mut bytes = vec![0; u32::from_be_bytes(length) as usize];
        socket.read_exact(&mut bytes).expect("the child talks");
        bytes
    };
    let message: Value = serde_json::from_slice(&take()).expect("JSON");
    if message.get("still").is_some() {
        take();
    }
    message
}

/// The eyes on a site file, without a gateway.
pub fn eyes_on(folder: &Path, file: &Path, more: &[&str]) -> (Reaped, UnixStream) {
    let path = folder.join("eyes.sock");
    let listener = UnixListener::bind(&path).expect("a socket");
    let child = Command::new(env!("CARGO_BIN_EXE_wattgate"))
        .args(["vision", "--speed", "1", "--config"])
        .arg(file)
        .arg("--state")
        .arg(folder.join("state"))
        .arg("--socket")
        .arg(&path)
        .args(more)
        .spawn()
        .expect("the eyes start");
    let child = Reaped(child);
    let (socket, _) = listener.accept().expect("it connects");
    socket.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    (child, socket)
}

/// CAM4: who has crashed the eyes is left out for a while, says so, and comes back; the others go on.
#[test]
fn cam4_a_camera_that_is_left_out_is_blind_for_so_long_and_the_other_is_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = site(folder.path(), camera_server(0.0), 2);
    let (_child, mut socket) = eyes_on(folder.path(), &file, &["--left-out", "cam0=4000"]);
    let (mut blind, mut back, mut other) = (None, None, None);
    while back.is_none() || other.is_none() {
        let message = hear(&mut socket);
        let Some(scene) = message.get("scene") else { continue };
        let (sees, heard) = (scene["fault"].is_null(), now());
        match (scene["camera"].as_str(), sees) {
            (Some("cam0"), false) => {
                assert_eq!(scene["fault"], "undecodable", "{scene}");
                assert_eq!(scene["bays"].as_array().map(Vec::len), Some(0), "{scene}");
                blind.get_or_insert(heard);
            }
            (Some("cam0"), true) => back = back.or(Some(heard)),
            (Some("cam1"), true) => other = other.or(Some(heard)),
            _ => {}
        }
    }
    let (blind, back, other) =
        (blind.expect("told blind"), back.expect("back"), other.expect("seen"));
    // Of the four seconds, less what the first word took on a busy machine.
    let out = back.duration_since(blind);
    assert!(out > Duration::from_secs(3), "left out for {out:?}");
    assert!(other < back, "the other one waited for it");
}

#[test]
fn sixteen_cameras_are_seen_soon_in_little_memory_and_the_account_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = site(folder.path(), camera_server(0.0), CAMERAS);
    let began = now();
    let (child, mut socket) = eyes_on(folder.path(), &file, &[]);
    let (mut first, mut looks, mut ledger) = (None, [0u32; CAMERAS], Value::Null);
    while looks.iter().any(|count| *count < 4) || ledger["cameras"]["cam0"]["looks"].is_null() {
        let message = hear(&mut socket);
        if let Some(scene) = message.get("scene").filter(|scene| scene["fault"].is_null()) {
            first.get_or_insert(began.elapsed());
            let camera = scene["camera"].as_str().and_then(|id| id.strip_prefix("cam"));
            looks[camera.expect("a camera").parse::<usize>().expect("its number")] += 1;
            assert_eq!(scene["tier"], "small");
        }
        if let Some(told) = message.get("ledger") {
            ledger = told["ledger"].clone();
        }
        assert!(began.elapsed() < PATIENCE * 4, "{looks:?} {ledger}");
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.0.id())).expect("status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    let kilobytes: f64 = line.trim().trim_end_matches(" kB").trim().parse().expect("kB");
    let first = first.expect("a verdict");
    println!("{CAMERAS} cameras: first verdict after {first:?}, peak {:.0} MB", kilobytes / 1024.0);
    assert!(kilobytes < 200.0 * 1024.0, "{kilobytes} kB");
    // Three times the bar of 2 s: a hard maximum on a shared machine.
    assert!(first < Duration::from_secs(6), "{first:?}");
    let camera = &ledger["cameras"]["cam0"];
    assert!(camera["joules"].as_f64().expect("J") > 0.0, "{ledger}");
    assert!(camera["cpu"]["fire_ms"].as_f64() > camera["cpu"]["gate_ms"].as_f64(), "{ledger}");
    assert!(["nominal", "counter"].contains(&ledger["metering"].as_str().expect("metering")));
}

/// Lays a folder of models beside the demo's site file, with a net of the tests in the fire net's place.
fn lay_models(demo: &Demo, net: Option<&str>) -> PathBuf {
    let folder = demo.state().with_file_name("models");
    std::fs::create_dir_all(&folder).expect("a folder");
    let shipped = root().join("models");
    for file in std::fs::read_dir(&shipped).expect("models").flatten() {
        if file.path().is_file() {
            std::fs::copy(file.path(), folder.join(file.file_name())).expect("a copy");
        }
    }
    if let Some(net) = net {
        let from = root().join("tests/nets").join(net);
        std::fs::copy(from.join("fire-small.onnx"), folder.join("fire-small.onnx")).expect("a net");
        let manifest = std::fs::read_to_string(shipped.join("manifest.toml")).expect("a manifest");
        let bay = manifest.split("[[model]]").find(|part| part.contains("id = \"bay-small\""));
        let entry = std::fs::read_to_string(from.join("entry.toml")).expect("an entry");
        let text = format!("[[model]]{}\n{entry}", bay.expect("the bay net"));
        std::fs::write(folder.join("manifest.toml"), text).expect("a manifest");
    }
    folder
}

pub fn alarm(demo: &Demo, code: &str) -> Option<Value> {
    let document = demo.overview()?;
    let alarms = document["overview"]["alarms"].as_array()?.clone();
    alarms.into_iter().find(|alarm| alarm["code"] == code && alarm["active"] == true)
}

pub fn known(document: &Value) -> bool {
    let bays = document["overview"]["bays"].as_array().expect("bays");
    bays.iter().all(|bay| bay["state"] != "unknown")
}

pub fn restart_eyes(demo: &Demo) {
    let child = until("eyes", PATIENCE, || demo.children("vision").first().copied());
    kill("-KILL", child);
}

#[test]
fn inf1_a_net_that_loops_is_killed_switched_off_and_never_stalls_control() {
    let demo = Demo::start();
    until("known bays", PATIENCE, || demo.overview().filter(known));
    lay_models(&demo, Some("slow"));
    let sequence = |d: &Value| d["overview"]["sequence"].as_u64().expect("sequence");
    let (began, first) = (now(), sequence(&demo.overview().expect("an overview")));
    restart_eyes(&demo);
    until("the alarm", PATIENCE * 4, || alarm(&demo, "vision_lost"));
    // Three lives of a few seconds each, then none.
    let mut gone = now();
    until("the eyes off", PATIENCE * 4, || {
        if !demo.children("vision").is_empty() {
            gone = now();
        }
        (gone.elapsed() > Duration::from_secs(8)).then_some(())
    });
    let (passed, last) = (began.elapsed(), demo.overview().expect("an overview"));
    let decided = sequence(&last) - first;
    println!("INF1: off after {passed:?}, {decided} decisions meanwhile");
    assert!(decided as f64 >= passed.as_secs_f64() * 0.9 - 2.0, "{decided} in {passed:?}");
    assert!(!known(&last) && last["overview"]["zones"][0]["fault"] == true, "never clear");
}

#[test]
fn inf2_an_altered_net_is_told_at_once_and_the_last_good_copy_goes_on() {
    let demo = Demo::start();
    until("known bays", PATIENCE, || demo.overview().filter(known));
    let folder = lay_models(&demo, None);
    restart_eyes(&demo);
    until("unknown bays", PATIENCE, || demo.overview().filter(|d| !known(d)));
    until("known bays again", PATIENCE, || demo.overview().filter(known));
    let file = folder.join("fire-small.onnx");
    let mut bytes = std::fs::read(&file).expect("the net");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).expect("the net");
    let began = now();
    until("the alarm", PATIENCE, || alarm(&demo, "model_altered"));
    let told = began.elapsed();
    println!("INF2: told after {told:?}");
    // Three times 1 s: a hard maximum on a shared machine.
    assert!(told < Duration::from_secs(3), "{told:?}");
    assert!(known(&demo.overview().expect("an overview")), "what runs goes on");
    restart_eyes(&demo);
    until("unknown bays", PATIENCE, || demo.overview().filter(|d| !known(d)));
    until("known bays from the copy", PATIENCE, || demo.overview().filter(known));
    until("still told", PATIENCE, || alarm(&demo, "model_altered"));
}
