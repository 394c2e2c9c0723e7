//! A camera that an installer has just screwed on: found, asked over ONVIF, looked through at the address that it
//! gave, put into a site file. The camera is the simulators', with an XML, a clock and a host of its own.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::Value;
use simulators::onvif::{Face, announce, serve};
use simulators::physics::World;
use simulators::picture::{Scene, jpeg};
use simulators::scenario::Scenario;

use super::gateway::now;
use super::profiles::runtime;
use super::rtsp::Server;

const MODELS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models");
const PASSWORD: &str = "a word with <spaces> & more";

fn anywhere() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

/// A camera whose clock is a day behind, that takes another host for its own, with a stream by GStreamer.
fn camera(rtsp: u16, has_snapshot: bool) -> SocketAddr {
    with_face(Face { has_snapshot, ..face(rtsp) })
}

fn face(rtsp: u16) -> Face {
    Face {
        user: Some(("camera".to_owned(), PASSWORD.to_owned())),
        ahead_s: -86_400,
        believes: "10.20.30.40:8080".to_owned(),
        rtsp: (rtsp, "/ball".to_owned()),
        has_snapshot: true,
        serial: "0042".to_owned(),
        ..Face::default()
    }
}

fn with_face(face: Face) -> SocketAddr {
    let draw = Arc::new(|| {
        let scene = Scene::of(&World::new(Scenario::one_pile(), 1));
        jpeg(&scene).map_err(|error| error.to_string())
    });
    runtime().block_on(serve(anywhere(), face, draw)).expect("a camera").0
}

fn wattgate(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wattgate"));
    // Nobody is there: a camera of this site is asked without a proxy, whatever the environment says.
    command.env("LANG", "C").env("HTTP_PROXY", "http://127.0.0.1:1").args(arguments);
    command.output().expect("the binary runs")
}

fn words(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn password_file(folder: &Path, password: &str) -> String {
    let file = folder.join("camera password");
    std::fs::write(&file, format!("{password}\n")).expect("a file");
    file.display().to_string()
}

fn asked(place: &str, file: &str, more: &[&str]) -> Output {
    let first = ["camera", "probe", place, "--user", "camera", "--password-file", file];
    wattgate(&[&first[..], more].concat())
}

#[test]
fn a_camera_is_asked_over_onvif_and_seen_at_the_addresses_it_gave() {
    let stream = Server::with(&["25", "--password", PASSWORD]);
    let place = camera(stream.port, true).to_string();
    let folder = tempfile::tempdir().expect("a folder");
    let file = password_file(folder.path(), PASSWORD);
    let output = asked(&place, &file, &["--format", "json", "--id", "gate"]);
    assert!(output.status.success(), "{}", words(&output.stderr));
    let told: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&told["maker"], &told["model"]), (&"Simulated".into(), &"Dome & Co".into()));
    let profiles = told["profiles"].as_array().expect("profiles");
    let codecs: Vec<&Value> = profiles.iter().map(|profile| &profile["codec"]).collect();
    assert_eq!(codecs, ["H265", "H264", "H264"]);
    assert_eq!((&profiles[1]["width"], &profiles[1]["fps"]), (&640.into(), &25.0.into()));
    assert_eq!(profiles[1]["keyframes_s"], 4.0);
    // The host that was asked, not the one that the camera believes in; no user in the stream's address.
    let (snapshot, rtsp) = (&told["use"]["snapshot"], &told["use"]["stream"]);
    assert_eq!(*snapshot, format!("http://{place}/images/snapshot.jpg?a=1&b=2"));
    assert_eq!(*rtsp, format!("rtsp://127.0.0.1:{}/ball", stream.port));
    let remarks = told["remarks"].to_string();
    for wanted in ["10.20.30.40:8080", "0.0.0.0:", " s behind"] {
        assert!(remarks.contains(wanted), "{wanted}: {remarks}");
    }
    assert!(!words(&output.stdout).contains("a word"), "the password is told nowhere");

    // Through both addresses pictures come, with the digest that each asks for, and none without.
    for (url, codec) in [(snapshot, "JPEG"), (rtsp, "H264")] {
        let url = url.as_str().expect("an address");
        let output = asked(url, &file, &["--format", "json"]);
        assert!(output.status.success(), "{}", words(&output.stderr));
        let seen: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!((&seen["codec"], &seen["width"]), (&codec.into(), &640.into()), "{seen}");
        let still = folder.path().join("still.jpg");
        let out = still.display().to_string();
        let nobody = wattgate(&["camera", "still", url, "--out", &out]);
        assert!(!nobody.status.success() && words(&nobody.stderr).contains("401"));
        let known =
            ["camera", "still", url, "--out", &out, "--user", "camera", "--password-file", &file];
        assert!(wattgate(&known).status.success());
        assert!(std::fs::metadata(&still).expect("a picture").len() > 1000);
    }

    // The block is one that a site file takes.
    let site = folder.path().join("site.toml");
    let before = "[site]\nid = \"new\"\n[grid]\nmeter = \"grid\"\nlimit_a = 50\nbreaker_a = 63\n\
        [[device]]\nid = \"grid\"\nprofile = \"eastron-sdm630\"\naddress = \"tcp://127.0.0.1:1\"\n";
    let block = told["block"].as_str().expect("a block");
    std::fs::write(&site, format!("{before}{block}")).expect("a site file");
    let checked = wattgate(&["check", &site.display().to_string(), "--deny-warnings"]);
    assert!(checked.status.success(), "{block}\n{}", words(&checked.stdout));
}

#[test]
fn without_a_snapshot_the_stream_is_to_be_used_and_the_table_says_so_in_two_languages() {
    let place = camera(8554, false).to_string();
    let folder = tempfile::tempdir().expect("a folder");
    let file = password_file(folder.path(), PASSWORD);
    for (lang, wanted) in [
        ("en", ["Use its stream (*)", "a keyframe every 4.0 s", "no address from GetSnapshotUri"]),
        ("zh", ["请使用其流", "每 4.0 秒一个关键帧", "GetSnapshotUri 未给出可用地址"]),
    ] {
        let service = format!("http://{place}/onvif/device_service");
        let output = asked(&service, &file, &["--lang", lang]);
        let told = words(&output.stdout);
        assert!(output.status.success(), "{told}{}", words(&output.stderr));
        for text in wanted {
            assert!(told.contains(text), "{text}: {told}");
        }
        assert!(told.contains("stream = \"rtsp://127.0.0.1:8554/ball\""), "{told}");
        assert!(told.contains("* sub 二"), "{told}");
    }
}

#[test]
fn a_camera_that_refuses_us_says_what_to_do() {
    let place = camera(1, true).to_string();
    let folder = tempfile::tempdir().expect("a folder");
    let file = password_file(folder.path(), "another word");
    let wrong = asked(&place, &file, &[]);
    assert_eq!(wrong.status.code(), Some(77), "{}", words(&wrong.stderr));
    assert!(words(&wrong.stderr).contains("refuses this user or password"));
    assert!(!words(&wrong.stderr).contains("another word"));
    let nobody = wattgate(&["camera", "probe", &place, "--lang", "zh"]);
    assert_eq!(nobody.status.code(), Some(77));
    assert!(words(&nobody.stderr).contains("--user"), "{}", words(&nobody.stderr));
    let odd = wattgate(&["camera", "probe", "viewer:secret@10.0.0.9"]);
    assert_eq!(odd.status.code(), Some(2));
    assert!(!words(&odd.stderr).contains("secret"), "{}", words(&odd.stderr));
}

/// A real camera locks a user out after a few wrong logins: whatever is asked, it is told one, and the clock is asked
/// as nobody.
#[test]
fn a_wrong_password_is_told_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("still.jpg").display().to_string();
    for by_digest in [false, true] {
        let wrong = Arc::new(AtomicU32::new(0));
        let place = with_face(Face { by_digest, wrong: Arc::clone(&wrong), ..face(1) }).to_string();
        let count = |arguments: &[&str], password: &str| {
            let file = password_file(folder.path(), password);
            let who = ["--user", "camera", "--password-file", &file];
            let output = wattgate(&[arguments, &who].concat());
            (output.status.success(), wrong.swap(0, Ordering::SeqCst), words(&output.stderr))
        };
        let snapshot = format!("http://{place}/images/snapshot.jpg");
        for arguments in [
            &["camera", "probe", &place][..],
            &["camera", "probe", &snapshot],
            &["camera", "still", &snapshot, "--out", &out],
            &["camera", "watch", &snapshot, "--looks", "3", "--models", MODELS],
        ] {
            let (done, logins, said) = count(arguments, "another word");
            assert_eq!((done, logins), (false, 1), "{by_digest} {arguments:?}: {said}");
            let (done, logins, said) = count(arguments, PASSWORD);
            assert_eq!((done, logins), (true, 0), "{by_digest} {arguments:?}: {said}");
        }
        assert!(!wattgate(&["camera", "probe", &place]).status.success());
        assert_eq!(wrong.load(Ordering::SeqCst), 0, "nobody said who he is");
    }
}

#[test]
fn a_camera_that_fails_at_one_question_is_asked_the_others() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = password_file(folder.path(), PASSWORD);
    for (floods, lang, wanted) in [
        (&["GetDeviceInformation"], "en", "does not say who it is (> 512 kB)"),
        (&["GetDeviceInformation"], "zh", "摄像头不报告自己的型号（> 512 kB）"),
        (&["GetStreamUri"], "en", "no address from GetStreamUri that can be used (> 512 kB)"),
    ] {
        let place = with_face(Face { floods, ..face(8554) }).to_string();
        let output = asked(&place, &file, &["--lang", lang]);
        let told = words(&output.stdout);
        assert!(output.status.success(), "{told}{}", words(&output.stderr));
        assert!(told.contains(wanted) && told.contains("snapshot = \"http://"), "{told}");
    }
}

/// A server that answers every request with these bytes, again and again where `endless`.
fn hostile(answer: Vec<u8>, endless: bool) -> String {
    let listener = TcpListener::bind(anywhere()).expect("a port");
    let place = listener.local_addr().expect("its address").to_string();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let answer = answer.clone();
            std::thread::spawn(move || {
                let _ = stream.read(&mut [0; 4096]);
                while stream.write_all(&answer).is_ok() && endless {}
            });
        }
    });
    place
}

#[test]
fn hostile_answers_end_in_words_within_seconds() {
    let ok = |body: &str| {
        let head = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length:";
        format!("{head} {}\r\n\r\n{body}", body.len()).into_bytes()
    };
    let deep = "<a>".repeat(40_000);
    let gone = "HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    let endless =
        b"HTTP/1.1 200 OK\r\n\r\n".iter().copied().chain(std::iter::repeat_n(b'a', 60_000));
    let slow = b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n<a".to_vec();
    for (what, answer, is_endless, code, wanted) in [
        ("deep", ok(&deep), false, 1, "does not speak ONVIF"),
        (
            "a page",
            ok("<!DOCTYPE html><html><body><br></body></html>"),
            false,
            1,
            "does not speak ONVIF",
        ),
        ("not found", gone.as_bytes().to_vec(), false, 1, "404"),
        ("endless", endless.collect(), true, 1, "longer than 512 kB"),
        ("cut off", slow, false, 69, "switched on"),
        ("no HTTP", b"\x00\x01\x02".to_vec(), false, 69, "switched on"),
    ] {
        let place = hostile(answer, is_endless);
        let began = now();
        let output = wattgate(&["camera", "probe", &place]);
        let told = words(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{what}: {told}");
        assert!(told.contains(wanted) && !told.contains("panic"), "{what}: {told}");
        assert!(began.elapsed() < Duration::from_secs(15), "{what}: {:?}", began.elapsed());
    }
}

#[test]
fn cameras_answer_to_the_question_who_is_one() {
    let services =
        "http://[fe80::1]/onvif/device_service http://127.0.0.1:8000/onvif/device_service";
    let (at, _) = runtime().block_on(announce(anywhere(), services.to_owned())).expect("a camera");
    let to = at.to_string();
    let scan = |more: &[&str]| {
        wattgate(&[&["scan", "onvif", "--to", &to, "--wait-s", "1"][..], more].concat())
    };
    let output = scan(&["--format", "json"]);
    assert!(output.status.success(), "{}", words(&output.stderr));
    let found: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(found.as_array().map(Vec::len), Some(1), "asked twice, told once: {found}");
    assert_eq!(found[0]["address"], "http://127.0.0.1:8000/onvif/device_service");
    assert_eq!((&found[0]["name"], &found[0]["hardware"]), (&"Dome one".into(), &"SIM-D1".into()));
    let table = words(&scan(&[]).stdout);
    assert!(
        table.contains("http://127.0.0.1:8000/onvif/device_service") && table.contains("Dome one")
    );
    let csv = words(&scan(&["--format", "csv"]).stdout);
    assert_eq!(csv.lines().count(), 2, "{csv}");
    // Nobody there: said, and no error.
    let silent = std::net::UdpSocket::bind(anywhere()).expect("a port");
    let place = silent.local_addr().expect("its address").to_string();
    let output = wattgate(&["scan", "onvif", "--to", &place, "--wait-s", "1"]);
    assert!(output.status.success() && words(&output.stdout).contains("No camera answered"));
    let mut asked = [0; 4096];
    silent.set_read_timeout(Some(Duration::from_secs(5))).expect("a time-out");
    let length = silent.recv(&mut asked).expect("the question");
    assert!(words(&asked[..length]).contains("NetworkVideoTransmitter"));
}
