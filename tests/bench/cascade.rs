//! What the cascade costs against the big net on every look: the same drawn cameras, a look a second, both
//! in one run. With `WATTGATE_PICTURES=DIR`, also what it finds against the big net alone: pictures with flame or smoke in
//! `DIR/fire`, others in `DIR/clear`.
//!
//! What a stranger gets wrong: joules are CPU time times one figure for the machine, so their ratio is the ratio of CPU
//! times. "On every look" is the big net on the parts that the small one looks at, no more; decoding, which
//! both have to do, is told apart. Quiet is a yard in which nobody moves; in the busy one a car comes or goes every five
//! seconds, and in the last tenth of the time it burns and smokes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use wattgate::app::vision::PARTS;
use wattgate::io::camera::Frame;
use wattgate::io::clock::thread_time;
use wattgate::io::inference::{BigNet, Crop, Engine};
use wattgate::logic::vision::{Answer, Stages, Tier, Verdict};

use super::quiet::{Cascade, LIGHTS, Yard};

/// Looks at each yard, a second apart, in loops of so many pictures.
const LOOKS: u32 = 300;
const LOOP: usize = 60;
const EVERY: Duration = Duration::from_secs(1);
/// The big net on everything is measured in each look of so many.
const SAMPLED: u32 = 20;

/// The sum over looks.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    looks: u32,
    parts: u32,
    decode: f64,
    gate: f64,
    small: f64,
    /// The big net where it was asked, ms, and how often it was.
    asked: f64,
    times: f64,
    /// The big net on sampled looks, ms, and their parts.
    sampled: (f64, u32),
    doubts: u32,
    alarms: u32,
}

fn big() -> BigNet {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    BigNet::open(&models, Engine::Best, None).expect("the big net").expect("one")
}

fn ask(big: &mut BigNet, frame: &Frame, part: usize) -> (Answer, f64) {
    let before = thread_time();
    let crop = Crop::of(frame, PARTS[part], big.side()).expect("a crop");
    let answer = big.ask(&crop).expect("an answer").answer;
    (answer, (thread_time() - before).as_secs_f64() * 1e3)
}

fn watch(nets: &mut Cascade, every: &mut BigNet, (yard, burns): (Yard, bool), sum: &mut Sum) {
    let calm: Vec<Frame> = yard.pictures(EVERY).take(LOOP).collect();
    let fire = Yard { hazard: (1.0, 1.0), ..yard }.pictures(EVERY).take(LOOP);
    let fire: Vec<Frame> = if burns { fire.collect() } else { Vec::new() };
    let mut watch = nets.eyes.watch(yard.bays());
    nets.second.forget();
    watch.tiles_over(Duration::from_secs(8));
    let each = big_ms_of_a_part(every, &calm[0]);
    for look in 0..LOOKS {
        let burning = burns && look >= LOOKS / 10 * 9;
        let frame = &if burning { &fire } else { &calm }[look as usize % LOOP];
        let jpeg = frame.jpeg(85).expect("a JPEG");
        let before = thread_time();
        let frame = Frame::decode(&jpeg).expect("a picture");
        sum.decode += (thread_time() - before).as_secs_f64() * 1e3;
        let sight = nets.look(&mut watch, EVERY * look, &frame);
        let Stages { gate_ms, fire_ms, big_ms, .. } = sight.stages;
        sum.looks += 1;
        sum.parts += sight.parts.len() as u32;
        sum.gate += gate_ms;
        sum.small += fire_ms;
        sum.asked += big_ms;
        sum.times += big_ms / each;
        sum.doubts += u32::from(sight.verdict == Verdict::Doubtful);
        sum.alarms += u32::from(sight.verdict == Verdict::Alarm);
        if look % SAMPLED == 0 {
            for part in &sight.parts {
                sum.sampled.0 += ask(every, &frame, part.part).1;
                sum.sampled.1 += 1;
            }
        }
    }
}

/// To tell from its time how often it was asked.
fn big_ms_of_a_part(big: &mut BigNet, frame: &Frame) -> f64 {
    let mut times: Vec<f64> = (0..5).map(|_| ask(big, frame, 0).1).collect();
    times.sort_by(f64::total_cmp);
    times[2]
}

fn tell(name: &str, sum: Sum, bar: f64) {
    let looks = f64::from(sum.looks);
    let per = |value: f64| value / looks;
    let everything = sum.sampled.0 / f64::from(sum.sampled.1) * f64::from(sum.parts);
    let (decode, gate) = (per(sum.decode), per(sum.gate));
    let (own, all) = (per(sum.small + sum.asked), per(everything));
    println!(
        "{name}: {} looks, {} doubtful, {} in alarm; big net asked {:.2} times in a hundred looks; nets {own:.2} ms a look (small {:.2}, big {:.2}) against {all:.1} of the big net on everything: {:.1} % (bar {bar:.0} %); with decoding ({decode:.1}) and gate ({gate:.2}): {:.1} %",
        sum.looks,
        sum.doubts,
        sum.alarms,
        100.0 * sum.times / looks,
        per(sum.small),
        per(sum.asked),
        100.0 * own / all,
        100.0 * (own + decode + gate) / (all + decode + gate),
    );
}

pub fn run() {
    let (mut nets, mut every) = (Cascade::open(), big());
    let (mut quiet, mut busy) = (Sum::default(), Sum::default());
    for (_, light) in LIGHTS {
        for second in [false, true] {
            let yard = |traffic| Yard { light, second, traffic, hazard: (0.0, 0.0) };
            watch(&mut nets, &mut every, (yard(None), false), &mut quiet);
            watch(&mut nets, &mut every, (yard(Some(5)), true), &mut busy);
        }
    }
    tell("cascade, quiet", quiet, 5.0);
    tell("cascade, busy", busy, 25.0);
    match std::env::var_os("WATTGATE_PICTURES") {
        Some(folder) => pictures(&mut nets, &mut every, Path::new(&folder)),
        None => println!("what it finds: NOT MEASURED, set WATTGATE_PICTURES to a folder"),
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder of pictures").flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    files.sort();
    files
}

/// Alarms of the small net, the cascade and the big one alone, on pictures that stand alone.
fn pictures(nets: &mut Cascade, every: &mut BigNet, folder: &Path) {
    for kind in ["fire", "clear"] {
        let (mut small, mut cascade, mut alone, mut escalated) = (0, 0, 0, 0);
        let (mut own_ms, mut big_ms) = (0.0, 0.0);
        let all = files(&folder.join(kind));
        for file in &all {
            let frame = Frame::decode(&std::fs::read(file).expect("a file")).expect("a picture");
            let mut sight = nets.eyes.see_still(&[], &frame).expect("a look");
            small += u32::from(sight.verdict == Verdict::Alarm);
            nets.second.still(&mut sight, &frame).expect("a second look");
            cascade += u32::from(sight.verdict == Verdict::Alarm);
            escalated += u32::from(sight.tier == Tier::Big);
            own_ms += sight.stages.sum();
            let mut alarms = false;
            for part in 0..PARTS.len() {
                let (answer, ms) = ask(every, &frame, part);
                alarms |= matches!(answer, Answer::Confirmed { .. });
                big_ms += ms;
            }
            alone += u32::from(alarms);
        }
        let count = all.len() as f64;
        let share = |alarms: u32| 100.0 * f64::from(alarms) / count;
        println!(
            "{kind}, {count} pictures: alarms small {:.1} %, cascade {:.1} %, big on everything {:.1} %; {:.1} % went to the big net; {:.1} ms a picture against {:.1}: {:.1} %",
            share(small),
            share(cascade),
            share(alone),
            share(escalated),
            own_ms / count,
            big_ms / count,
            100.0 * own_ms / big_ms
        );
    }
}
