//! Cameras over RTSP, against GStreamer's server.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use wattgate::io::camera::{Camera, Coded, Haste, Login};

use super::gateway::{PATIENCE, now, until};

/// GStreamer's server as a process; killed at the end.
pub struct Server {
    process: Child,
    pub port: u16,
}

impl Server {
    /// A keyframe every `keyint` frames of 25 a second.
    pub fn start(keyint: u32) -> Server {
        Server::with(&[&keyint.to_string()])
    }

    /// With these arguments of the script.
    pub fn with(arguments: &[&str]) -> Server {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/wire/rtsp_server.py");
        // Debian's own Python: the bindings of GStreamer are a Debian package.
        let mut command = Command::new("/usr/bin/python3");
        command.arg(script).args(arguments).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = command.spawn().expect("python3");
        let mut line = String::new();
        let out = process.stdout.take().expect("its output");
        BufReader::new(out).read_line(&mut line).expect("a line");
        let port = line.trim().parse().expect("GStreamer's RTSP server (tests/run installs it)");
        Server { process, port }
    }

    pub fn url(&self) -> String {
        format!("rtsp://127.0.0.1:{}/ball", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn video(coded: Coded) -> Vec<Vec<u8>> {
    assert_eq!(coded.codec(), "H264");
    coded.frames().to_vec()
}

#[test]
fn rtsp_gives_keyframes_alone_and_every_picture_once() {
    let server = Server::start(25);
    let mut camera = Camera::open(&server.url(), true);
    let first = until("a picture", PATIENCE, || camera.fetch().ok());
    let frame = first.decode().expect("a picture");
    assert_eq!((frame.width, frame.height), (640, 360));
    let mut last = video(first);
    for _ in 0..3 {
        let began = now();
        let next = video(camera.fetch().expect("the next keyframe"));
        assert_eq!(next.len(), 1, "a keyframe alone");
        assert_ne!(next, last, "a picture that was given out before");
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
        last = next;
    }
}

#[test]
fn rtsp_without_new_keyframes_still_moves_on() {
    let server = Server::start(250);
    let mut camera = Camera::open(&server.url(), true);
    let first = until("a picture", PATIENCE, || camera.fetch().ok());
    let first = first.decode().expect("a picture");
    let later = camera.fetch().expect("frames after the keyframe");
    let frame = later.decode().expect("a picture");
    let frames = video(later);
    assert!(frames.len() > 10, "{} frames", frames.len());
    assert_ne!(frame, first, "the ball has moved");
}

#[test]
fn rtsp_in_haste_gives_the_frames_between_keyframes_too() {
    let server = Server::start(25);
    let mut camera = Camera::open(&server.url(), true);
    until("a picture", PATIENCE, || camera.fetch().ok());
    let (mut between, mut last) = (0, Vec::new());
    for _ in 0..10 {
        let coded = camera.fetch_as(Haste::Any).expect("the next frame");
        coded.decode().expect("a picture");
        let frames = video(coded);
        between += u32::from(frames.len() > 1);
        assert_ne!(frames.last(), Some(&last), "a picture that was given out before");
        last = frames.last().cloned().expect("a frame");
    }
    assert!(between >= 5, "{between} of 10");
    assert_eq!(video(camera.fetch().expect("a keyframe")).len(), 1, "haste is over");
}

#[test]
fn cam1_a_stream_that_ends_is_told_within_five_seconds_and_comes_back() {
    let server = Server::start(25);
    let url = server.url();
    let mut camera = Camera::open(&url, true);
    until("a picture", PATIENCE, || camera.fetch().ok());
    let port = server.port;
    drop(server);
    let began = now();
    until("an error", PATIENCE, || camera.fetch().err());
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert!(camera.fetch().is_err(), "nobody listens on {port}");
    let server = Server::start(25);
    let mut camera = Camera::open(&server.url(), true);
    until("a picture again", PATIENCE, || camera.fetch().ok());
}

#[test]
fn rtsp_with_a_password_is_seen_with_it_and_refused_without() {
    let server = Server::with(&["25", "--password", "a word with spaces"]);
    let login = |password: &str| {
        let (username, password) = ("camera".to_owned(), password.to_owned());
        Camera::open_as(&server.url(), true, Some(Login { username, password }))
    };
    let mut camera = login("a word with spaces");
    let picture = until("a picture", PATIENCE, || camera.fetch().ok());
    assert_eq!(picture.decode().expect("a picture").width, 640);
    for mut stranger in [login("another word"), Camera::open(&server.url(), true)] {
        let error = stranger.fetch().expect_err("refused");
        assert!(error.is_refusal(), "{error}");
        let told = error.to_string();
        assert!(told.contains("401"), "{told}");
        assert!(!told.contains("word"), "{told}");
    }
}
