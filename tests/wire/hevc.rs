//! Cameras that send H.265, against GStreamer's server and the real ffmpeg.

use std::process::Command;
use std::time::Duration;

use wattgate::io::camera::{Camera, Coded, Frame, Haste};

use super::gateway::{PATIENCE, now, until};
use super::rtsp::Server;

/// As cameras send it; and with the other kind of keyframes, and pictures in another order than they are shown in.
/// Neither waits for many frames before it gives the first.
const ORDERS: [&str; 2] = [
    "bframes=0:open-gop=0:rc-lookahead=0:frame-threads=1:repeat-headers=1",
    "bframes=3:b-adapt=0:rc-lookahead=4:frame-threads=1:repeat-headers=1",
];

/// Few frames a second: coding them takes longer than decoding them.
fn server(keyint: &str, order: &str) -> Server {
    Server::with(&[keyint, "640", "360", "10", "--h265", order])
}

fn frame(coded: &Coded) -> Frame {
    assert_eq!(coded.codec(), "H265");
    let frame = coded.decode().expect("a picture");
    assert_eq!((frame.width, frame.height), (640, 360));
    frame
}

/// The middle of the ball, which is white on blue.
fn ball(frame: &Frame) -> (f64, f64) {
    let white = |(_, pixel): &(usize, &[u8])| pixel.iter().all(|part| *part > 180);
    let (mut x, mut y, mut count) = (0.0, 0.0, 0.0);
    for (at, _) in frame.rgb.chunks(3).enumerate().filter(white) {
        x += (at % frame.width) as f64;
        y += (at / frame.width) as f64;
        count += 1.0;
    }
    assert!(count > 100.0, "no ball");
    (x / count, y / count)
}

/// The picture that a decoder of its own makes of the frames: the last in the order of display.
fn truth(coded: &Coded) -> Frame {
    let folder = tempfile::tempdir().expect("a folder");
    let (from, to) = (folder.path().join("in.hevc"), folder.path().join("out.rgb"));
    std::fs::write(&from, coded.frames().concat()).expect("a file");
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-nostdin", "-f", "hevc", "-i"]).arg(&from);
    command.args(["-f", "rawvideo", "-pix_fmt", "rgb24", "-fps_mode", "passthrough"]).arg(&to);
    assert!(command.status().expect("ffmpeg (tests/run installs it)").success());
    let all = std::fs::read(&to).expect("pictures");
    let size = 640 * 360 * 3;
    Frame { rgb: all[all.len() - size..].to_vec(), width: 640, height: 360 }
}

#[test]
fn h265_gives_keyframes_alone_and_the_picture_that_came_last() {
    for order in ORDERS {
        let server = server("10", order);
        let mut camera = Camera::open(&server.url(), true);
        let mut last = until("a picture", PATIENCE, || camera.fetch().ok());
        for _ in 0..3 {
            let next = camera.fetch().expect("the next keyframe");
            assert_eq!(next.frames().len(), 1, "a keyframe alone");
            assert_ne!(next.frames(), last.frames(), "a picture that was given out before");
            assert!(frame(&next) == truth(&next), "not its own picture ({order})");
            assert_ne!(ball(&frame(&next)), ball(&frame(&last)), "the ball has moved");
            last = next;
        }
    }
}

#[test]
fn h265_in_haste_gives_the_newest_of_the_frames_between_keyframes() {
    for order in ORDERS {
        let server = server("40", order);
        let mut camera = Camera::open(&server.url(), true);
        until("a picture", PATIENCE, || camera.fetch().ok());
        let mut between = 0;
        for _ in 0..6 {
            let coded = camera.fetch_as(Haste::Any).expect("the next frames");
            between += u32::from(coded.frames().len() > 1);
            assert!(frame(&coded) == truth(&coded), "not the newest picture ({order})");
        }
        assert!(between >= 3, "{between} of 6");
        let coded = until("a keyframe alone", PATIENCE, || {
            camera.fetch().ok().filter(|coded| coded.frames().len() == 1)
        });
        assert!(frame(&coded) == truth(&coded), "haste is over ({order})");
    }
}

/// Whoever comes later hears a stream that began long ago, and that may never begin again.
#[test]
fn h265_is_seen_by_a_second_viewer_who_joins_later() {
    for order in ORDERS {
        let server = server("10", order);
        let mut first = Camera::open(&server.url(), true);
        until("a picture", PATIENCE, || first.fetch().ok());
        let mut second = Camera::open(&server.url(), true);
        for _ in 0..2 {
            let coded = until("a picture of the second", PATIENCE, || second.fetch().ok());
            assert!(frame(&coded) == truth(&coded), "{order}");
            assert!(coded.age() < Duration::from_secs(2), "{:?}", coded.age());
            first.fetch().expect("the first goes on");
        }
    }
}

/// The ffmpeg processes of this test process; wire tests run one after another.
fn decoders() -> Vec<u32> {
    let ours = std::process::id().to_string();
    let listed = Command::new("pgrep").args(["-P", &ours, "-x", "ffmpeg"]).output().expect("pgrep");
    String::from_utf8_lossy(&listed.stdout).lines().filter_map(|pid| pid.parse().ok()).collect()
}

fn signal(name: &str, process: u32) {
    let sent = Command::new("kill").args([name, &process.to_string()]).status().expect("kill");
    assert!(sent.success());
}

#[test]
fn cam4_an_ffmpeg_that_dies_or_hangs_is_an_error_in_time_and_replaced() {
    let server = server("10", ORDERS[0]);
    let before = decoders();
    let mut camera = Camera::open(&server.url(), true);
    for name in ["-KILL", "-STOP"] {
        until("a picture", PATIENCE, || camera.fetch().ok());
        let own: Vec<u32> = decoders().into_iter().filter(|pid| !before.contains(pid)).collect();
        assert_eq!(own.len(), 1, "one for each camera");
        signal(name, own[0]);
        let began = now();
        let error = until("an error", PATIENCE, || camera.fetch().err()).to_string();
        assert!(began.elapsed() < Duration::from_secs(8), "{name}: {:?}", began.elapsed());
        assert!(error.contains("H.265") || error.contains("ffmpeg"), "{name}: {error}");
        let again = until("a picture again", PATIENCE, || camera.fetch().ok());
        assert!(frame(&again) == truth(&again), "{name}");
    }
    drop(camera);
    until("no ffmpeg is left", PATIENCE, || {
        decoders().iter().all(|pid| before.contains(pid)).then_some(())
    });
}

#[test]
fn h265_without_ffmpeg_is_told_with_what_to_do() {
    let server = server("10", ORDERS[0]);
    let mut command = Command::new(env!("CARGO_BIN_EXE_wattgate"));
    command.args(["camera", "probe", &server.url(), "--lang", "en"]);
    let told = command.env("PATH", "/nowhere").output().expect("wattgate");
    let error = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(!told.status.success());
    assert!(error.contains("H.265") && error.contains("apt install ffmpeg"), "{error}");
    let mut command = Command::new(env!("CARGO_BIN_EXE_wattgate"));
    command.args(["camera", "probe", &server.url(), "--lang", "en"]);
    let told = command.output().expect("wattgate");
    let said = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(told.status.success() && said.contains("H.265"), "{said}{told:?}");
}
