//! What a camera costs: H.264 sub-streams from GStreamer's server on loopback, one look a second each, four
//! bays, all in this process; and the same nets behind a decoder of every frame, which looks five times a
//! second.
//!
//! What a stranger gets wrong: "every frame decoded" is a sum of parts measured in the same run (receive,
//! decode every frame, five looks a second), not a second pipeline. It has no gate, so it reads every bay in every
//! look; what it would cost with fire alone is said beside it. and the cameras are another process,
//! whose cost is not counted. Quiet is a still picture with noise in a corner: the whole frame each second, the
//! tiles over 8 s, bays on their heartbeat. Busy is a moving ball, tiles over 2 s, and every bay changed
//! and read in every look.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::mpsc;
use std::time::Duration;

use wattgate::app::vision::{BayPlace, Eyes};
use wattgate::io::camera::{Camera, Frame};
use wattgate::io::clock::{cpu_time, thread_time};
use wattgate::io::inference::Engine;
use wattgate::logic::site::Id;
use wattgate::logic::vision::Stages;

use super::gateway::now;
use super::rtsp::Server;

const CAMERAS: usize = 4;
const LOOKS: u32 = 20;
/// Looks a second of the pipeline that decodes every frame, and its frames a second.
const DENSE_LOOKS: f64 = 5.0;
const FRAMES: f64 = 25.0;

/// What is looked at.
#[derive(Clone, Copy, PartialEq)]
enum Scene {
    Quiet,
    Busy,
}

fn thread_ms() -> f64 {
    thread_time().as_secs_f64() * 1e3
}

fn places() -> Vec<BayPlace> {
    let place = |i: usize| {
        let left = 0.05 + 0.24 * i as f64;
        let polygon = vec![[left, 0.5], [left + 0.2, 0.5], [left + 0.2, 0.9], [left, 0.9]];
        BayPlace { id: Id::try_from(format!("bay{i}")).expect("an id"), polygon }
    };
    (0..4).map(place).collect()
}

fn eyes(engine: Engine) -> Eyes {
    let models = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    Eyes::open(&models, engine).expect("the nets")
}

/// Another light in the lower half, where the bays are.
fn brighten(frame: &mut Frame) {
    let half = frame.rgb.len() / 2;
    frame.rgb[half..].iter_mut().for_each(|value| *value = value.saturating_add(40));
}

/// CPU time of all looks at one camera, by stage.
fn watch(url: &str, eyes: &Eyes, scene: Scene) -> Stages {
    let mut watch = eyes.watch(places());
    watch.tiles_over(Duration::from_secs(if scene == Scene::Quiet { 8 } else { 2 }));
    let mut camera = Camera::open(url, true);
    let mut sum = Stages::default();
    for second in 0..LOOKS {
        let coded = camera.fetch().expect("a keyframe");
        let before = thread_ms();
        let mut frame = coded.decode().expect("a picture");
        sum.decode_ms += thread_ms() - before;
        if scene == Scene::Busy && second % 2 == 1 {
            brighten(&mut frame);
        }
        let at = Duration::from_secs(second.into());
        let stages = eyes.see(&mut watch, at, &frame).expect("a look").stages;
        sum.gate_ms += stages.gate_ms;
        sum.fire_ms += stages.fire_ms;
        sum.bays_ms += stages.bays_ms;
    }
    sum
}

/// CPU-ms of a camera-second: all of it, and what receiving takes of it.
fn looked(server: &Server, (engine, scene): (Engine, Scene), name: &str, bar: f64) -> (f64, f64) {
    let eyes = eyes(engine);
    let (begun, before) = (now(), cpu_time());
    let (tell, hear) = mpsc::channel();
    std::thread::scope(|threads| {
        for i in 0..CAMERAS {
            let stream = if scene == Scene::Quiet { "still" } else { "" };
            let url = format!("rtsp://127.0.0.1:{}/{stream}{i}", server.port);
            let (tell, eyes) = (tell.clone(), &eyes);
            threads.spawn(move || tell.send(watch(&url, eyes, scene)).expect("the bench listens"));
        }
    });
    drop(tell);
    let seconds = begun.elapsed().as_secs_f64() * CAMERAS as f64;
    let all = (cpu_time() - before).as_secs_f64() * 1e3 / seconds;
    let looks = f64::from(LOOKS) * CAMERAS as f64;
    let of = |stage: fn(&Stages) -> f64, all: &[Stages]| all.iter().map(stage).sum::<f64>() / looks;
    let each: Vec<Stages> = hear.iter().collect();
    let sum = of(Stages::sum, &each);
    // What is not in a look is receiving, at the rate of the looks.
    let receiving = (all - sum * looks / seconds).max(0.0);
    let per_second = receiving + sum;
    println!(
        "{name}: {per_second:.1} CPU-ms a camera-second at a look a second (receive {receiving:.1}, decode {:.1}, gate {:.2}, fire {:.1}, bays {:.1}): {:.0} cameras a core (bar {bar:.0})",
        of(|s| s.decode_ms, &each),
        of(|s| s.gate_ms, &each),
        of(|s| s.fire_ms, &each),
        of(|s| s.bays_ms, &each),
        1000.0 / per_second
    );
    (per_second, receiving)
}

/// CPU-ms of a second of frames that are all decoded.
fn decode_all(server: &Server) -> f64 {
    let mut camera = Camera::open(&format!("rtsp://127.0.0.1:{}/ball", server.port), true);
    camera.fetch().expect("a keyframe");
    let coded = camera.fetch().expect("the frames after it");
    let frames = coded.frames();
    let before = thread_ms();
    coded.decode().expect("a picture");
    (thread_ms() - before) / frames.len() as f64 * FRAMES
}

/// CPU-ms of one of five looks a second at a frame: the whole of it and one tile; and of the bays, all read.
struct Look {
    fire: f64,
    bays: f64,
}

impl Look {
    fn at(eyes: &Eyes, frame: &Frame) -> Look {
        let mut watch = eyes.watch(places());
        let mut bright = frame.clone();
        brighten(&mut bright);
        let mut look = |at: u32, frame: &Frame| {
            eyes.see(&mut watch, Duration::from_secs(1) / 5 * at, frame).expect("a look").stages
        };
        // The bays of a picture that stands are read in the first three.
        for at in 1..=3 {
            look(at, frame);
        }
        let fire = (4..=13).map(|at| look(at, frame).sum()).sum::<f64>() / 10.0;
        // Each bay has another light in each second look: read in each.
        let bays = |at: u32| look(at, if at.is_multiple_of(2) { &bright } else { frame }).bays_ms;
        Look { fire, bays: (14..=33).map(bays).sum::<f64>() / 20.0 }
    }

    /// CPU-ms of a second of looks, with and without the bays, beside what comes before them.
    fn every(&self, before: f64) -> (f64, f64) {
        let of = |look: f64| before + DENSE_LOOKS * look;
        (of(self.fire + self.bays), of(self.fire))
    }
}

/// A camera with snapshots: the same picture for every request.
fn snapshots(jpeg: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/still.jpg", listener.local_addr().expect("its address"));
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                jpeg.len()
            );
            let _ = stream.read(&mut [0; 2048]);
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&jpeg));
        }
    });
    url
}

/// A 1080p camera: a snapshot a second, against its main stream decoded.
fn full_size(receiving_small: f64) {
    let server = Server::with(&["250", "1920", "1080", "25"]);
    let decoding = decode_all(&server);
    let eyes = eyes(Engine::Best);
    let mut camera = Camera::open(&format!("rtsp://127.0.0.1:{}/ball", server.port), true);
    let frame = camera.fetch().expect("a keyframe").decode().expect("a picture");
    let look = Look::at(&eyes, &frame);
    let mut camera = Camera::open(&snapshots(frame.jpeg(85).expect("a JPEG")), false);
    let mut watch = eyes.watch(places());
    watch.tiles_over(Duration::from_secs(8));
    let (mut fetching, mut decoding_still, mut judging) = (0.0, 0.0, 0.0);
    for second in 0..LOOKS {
        let begun = thread_ms();
        let coded = camera.fetch().expect("a snapshot");
        let fetched = thread_ms();
        let frame = coded.decode().expect("a picture");
        let decoded = thread_ms();
        eyes.see(&mut watch, Duration::from_secs(second.into()), &frame).expect("a look");
        fetching += fetched - begun;
        decoding_still += decoded - fetched;
        judging += thread_ms() - decoded;
    }
    let [fetching, still, judging] =
        [fetching, decoding_still, judging].map(|sum| sum / f64::from(LOOKS));
    let own = fetching + still + judging;
    let (every, fire_alone) = look.every(receiving_small + decoding);
    println!(
        "1080p by snapshots: {own:.1} CPU-ms a camera-second (fetch {fetching:.1}, decode {still:.1}, judge {judging:.1}); every frame decoded: {every:.1} (decode {decoding:.1}, five looks of {:.1} and bays {:.1}, receive as 640x360), {:.1} times ours (bar 8), {:.1} with fire alone",
        look.fire,
        look.bays,
        every / own,
        fire_alone / own
    );
}

pub fn run() {
    let server = Server::start(25);
    looked(&server, (Engine::General, Scene::Quiet), "quiet, tract", 20.0);
    looked(&server, (Engine::Best, Scene::Busy), "busy, int8 kernel", 12.0);
    let (own, receiving) =
        looked(&server, (Engine::Best, Scene::Quiet), "quiet, int8 kernel", 40.0);
    let mut camera = Camera::open(&format!("rtsp://127.0.0.1:{}/still0", server.port), true);
    let frame = camera.fetch().expect("a keyframe").decode().expect("a picture");
    let look = Look::at(&eyes(Engine::Best), &frame);
    let decoding = decode_all(&Server::start(250));
    let (every, fire_alone) = look.every(receiving + decoding);
    println!(
        "every frame decoded, five looks a second: {every:.1} CPU-ms a camera-second (decode {decoding:.1}, five looks of {:.1} and bays {:.1}), {:.1} times ours on key frames (bar 4), {:.1} with fire alone",
        look.fire,
        look.bays,
        every / own,
        fire_alone / own
    );
    full_size(receiving);
}
