//! What a camera costs: H.264 sub-streams from GStreamer's server on loopback, one look a second each,
//! four bays, all in this process; and the same nets behind a decoder of every frame.
//!
//! What a stranger gets wrong: the last figure is a sum of parts measured in the same run (receive,
//! decode every frame, five looks a second), not a second pipeline; and the server is another process,
//! whose cost is not counted.

use std::sync::mpsc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use wattgate::app::vision::{BayPlace, Eyes};
use wattgate::io::camera::{Camera, Coded};
use wattgate::io::clock::cpu_time;
use wattgate::io::inference::Engine;
use wattgate::logic::site::Id;

use super::gateway::now;
use super::rtsp::Server;

const CAMERAS: usize = 4;
const LOOKS: u32 = 20;

fn thread_ms() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e3 + time.tv_nsec as f64 / 1e6
}

fn places() -> Vec<BayPlace> {
    let place = |i: usize| {
        let left = 0.05 + 0.24 * i as f64;
        let polygon = vec![[left, 0.5], [left + 0.2, 0.5], [left + 0.2, 0.9], [left, 0.9]];
        BayPlace { id: Id::try_from(format!("bay{i}")).expect("an id"), polygon }
    };
    (0..4).map(place).collect()
}

/// CPU ms of decoding and of judging, over all looks of one camera.
fn watch(url: &str, engine: Engine) -> (f64, f64) {
    let models = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    let eyes = Eyes::open(&models, engine).expect("the nets");
    let mut watch = eyes.watch(places());
    let mut camera = Camera::open(url, true);
    let (mut decoding, mut judging) = (0.0, 0.0);
    for second in 0..LOOKS {
        let coded = camera.fetch().expect("a keyframe");
        let before = thread_ms();
        let frame = coded.decode().expect("a picture");
        let decoded = thread_ms();
        eyes.see(&mut watch, Duration::from_secs(second.into()), &frame).expect("a look");
        decoding += decoded - before;
        judging += thread_ms() - decoded;
    }
    (decoding, judging)
}

pub fn run() {
    let server = Server::start(25);
    let mut per_look = (0.0, 0.0, 0.0);
    for engine in [Engine::General, Engine::Best] {
        let (begun, before) = (now(), cpu_time());
        let (tell, hear) = mpsc::channel();
        for i in 0..CAMERAS {
            let (tell, url) = (tell.clone(), format!("rtsp://127.0.0.1:{}/{i}", server.port));
            std::thread::spawn(move || tell.send(watch(&url, engine)).expect("the bench listens"));
        }
        drop(tell);
        let (decoding, judging) = hear.iter().fold((0.0, 0.0), |a, b| (a.0 + b.0, a.1 + b.1));
        let seconds = begun.elapsed().as_secs_f64() * CAMERAS as f64;
        let all = (cpu_time() - before).as_secs_f64() * 1e3 / seconds;
        let looks = f64::from(LOOKS) * CAMERAS as f64;
        let (decoding, judging) = (decoding / looks, judging / looks);
        let receiving = all - (decoding + judging) * looks / seconds;
        println!(
            "{engine:?}: {all:.1} CPU-ms a camera-second (receive {receiving:.1}, and for each look decode {decoding:.1}, judge {judging:.1}; {:.2} looks a second): {:.0} cameras a core",
            looks / seconds,
            1000.0 / all
        );
        per_look = (all, receiving, judging);
    }
    let dense = Server::start(250);
    let mut camera = Camera::open(&format!("rtsp://127.0.0.1:{}/ball", dense.port), true);
    camera.fetch().expect("a keyframe");
    let coded = camera.fetch().expect("the frames after it");
    let Coded::Video(frames) = &coded else { panic!("a still over RTSP") };
    let before = thread_ms();
    coded.decode().expect("a picture");
    let decoding = (thread_ms() - before) / frames.len() as f64 * 25.0;
    let (own, receiving, judging) = per_look;
    let every = receiving + decoding + 5.0 * judging;
    println!(
        "every frame decoded ({decoding:.1} CPU-ms a second), five looks a second: {every:.1} CPU-ms a camera-second, {:.1} times ours",
        every / own
    );
}
