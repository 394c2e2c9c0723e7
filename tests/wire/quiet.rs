//! Cameras without a fire before them, for hours: cars come and go, day turns to night, the sensor makes
//! noise, and nothing may be called an alarm. Faster than real time, in loops of drawn pictures.
//!
//! What a stranger gets wrong: no alarm is easy for eyes that see nothing. So the same loop with smoke and
//! flame in it must alarm.

#![allow(clippy::print_stdout)] // figures

use std::path::Path;
use std::time::Duration;

use simulators::physics::World;
use simulators::picture::{Scene, jpeg};
use simulators::scenario::Scenario;
use wattgate::app::vision::{BayPlace, Eyes};
use wattgate::io::camera::Frame;
use wattgate::io::inference::Engine;
use wattgate::logic::site::Id;
use wattgate::logic::vision::Verdict;

/// Pictures of a loop; one is looked at every two seconds, as at a quiet camera.
const LOOP: usize = 90;
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Light of the day: noon, dusk, night under a lamp.
const LIGHTS: [(&str, f64); 3] = [("day", 1.0), ("dusk", 0.4), ("night", 0.12)];

fn pictures(light: f64, second: bool, hazard: f64) -> (Vec<Frame>, Vec<BayPlace>) {
    let world = World::new(Scenario::one_pile(), 1);
    let mut scene = if second { Scene::of_second(&world) } else { Scene::of(&world) };
    scene.light = light;
    let bays = (0..scene.slots.len()).map(|i| BayPlace {
        id: Id::try_from(format!("bay{i}")).expect("an id"),
        polygon: scene.polygon(i).to_vec(),
    });
    let bays = bays.collect();
    let mut frames = Vec::new();
    for i in 0..LOOP {
        scene.time_s = i as f64 * LOOK_EVERY.as_secs_f64();
        let slots = scene.slots.len();
        // Somebody comes or goes every half a minute.
        if i % 15 == 0 {
            let slot = &mut scene.slots[i / 15 % slots];
            slot.car = if slot.car.is_some() { None } else { Some(i as u64 + 3) };
        }
        scene.slots[0].fire = hazard;
        scene.slots[0].smoke = hazard;
        frames.push(Frame::decode(&jpeg(&scene).expect("a picture")).expect("a picture"));
    }
    (frames, bays)
}

/// Looks for so long; how many were doubtful, and how many alarms.
fn watch(
    eyes: &Eyes,
    length: Duration,
    (light, second): (f64, bool),
    hazard: f64,
) -> (u64, u64, u64) {
    let (frames, bays) = pictures(light, second, hazard);
    let mut rng = fastrand::Rng::with_seed(5);
    let mut watch = eyes.watch(bays);
    let (mut looks, mut doubts, mut alarms) = (0, 0, 0);
    let mut at = Duration::ZERO;
    while at < length {
        let mut frame = frames[looks as usize % LOOP].clone();
        // A handful of pixels differ from the loop before: sensors always have noise.
        for _ in 0..400 {
            let pixel = rng.usize(0..frame.rgb.len());
            frame.rgb[pixel] = frame.rgb[pixel].saturating_add(rng.u8(0..4));
        }
        let sight = eyes.see(&mut watch, at, &frame).expect("a look");
        looks += 1;
        doubts += u64::from(sight.verdict == Verdict::Doubtful);
        alarms += u64::from(sight.verdict == Verdict::Alarm);
        at += LOOK_EVERY;
    }
    (looks, doubts, alarms)
}

fn camera_time(each: Duration) {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    let eyes = Eyes::open(&models, Engine::Best).expect("the nets");
    for (i, (name, light)) in LIGHTS.into_iter().enumerate() {
        let (looks, doubts, alarms) = watch(&eyes, each, (light, i % 2 == 1), 0.0);
        println!(
            "{name}: {each:?} of a camera, {looks} looks, {doubts} doubtful, {alarms} in alarm"
        );
        assert_eq!(alarms, 0, "{name}");
    }
}

#[test]
fn ten_quiet_minutes_by_day_dusk_and_night_are_no_alarm() {
    camera_time(Duration::from_secs(600));
}

#[test]
fn the_same_place_with_smoke_and_flame_is_an_alarm() {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    let eyes = Eyes::open(&models, Engine::Best).expect("the nets");
    let (_, _, alarms) = watch(&eyes, Duration::from_secs(60), (1.0, false), 1.0);
    assert!(alarms > 0);
}

#[test]
#[ignore = "three camera-days: minutes"]
fn three_quiet_camera_days_are_no_alarm() {
    camera_time(Duration::from_secs(24 * 3600));
}
