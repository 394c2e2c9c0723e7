//! How frames are seen: made pictures, the shipped nets and small ones that fail in a known way.

use super::*;
use crate::io::inference::folders;
use crate::logic::site::Id;
use simulators::physics::World;
use simulators::picture::{Scene, jpeg};
use simulators::scenario::Scenario;

const CUTS: FireCuts =
    FireCuts { flame_doubtful: 0.5, flame_alarm: 0.8, smoke_doubtful: 0.5, smoke_alarm: 0.8 };

fn watch() -> Watch {
    Watch::new(CUTS, Vec::new())
}

/// A patterned place with noise, as a camera sees it.
fn place(rng: &mut fastrand::Rng, shift: usize) -> Frame {
    let pixel = |i: usize| {
        let (x, y) = (i % 320 + shift, i / 320);
        [(20 + (x / 20 * 37 + y / 30 * 91) % 7 * 30) as u8 + rng.u8(0..6); 3]
    };
    Frame { rgb: (0..320 * 180).flat_map(pixel).collect(), width: 320, height: 180 }
}

#[test]
fn inf1_a_net_that_gives_no_number_is_an_error_and_no_clear_sight() {
    let folder = folders::with("nan");
    let eyes = Eyes::open(folder.path(), Engine::Best).unwrap();
    let mut watch = eyes.watch(Vec::new());
    let at = Duration::from_secs(1);
    let grey = Frame { rgb: vec![120; 160 * 90 * 3], width: 160, height: 90 };
    assert!(eyes.see(&mut watch, at, &grey).is_ok());
    let black = Frame { rgb: vec![0; 160 * 90 * 3], ..grey };
    let seen = eyes.see(&mut watch, at * 2, &black);
    assert!(matches!(seen, Err(ModelError::NotANumber { .. })), "{seen:?}");
}

/// Nets of a folder in which the shipped net of `task` is replaced by one of `tests/nets`.
fn eyes_with(net: &str, task: &str, more: &str) -> Eyes {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = folders::with(net);
    let shipped = std::fs::read_to_string(root.join("models/manifest.toml")).unwrap();
    let of = |task: &str| {
        let mine = |part: &&str| part.contains(task) && part.contains("tier = \"small\"");
        format!("[[model]]{}", shipped.split("[[model]]").skip(1).find(mine).unwrap())
    };
    let entry =
        std::fs::read_to_string(root.join("tests/nets").join(net).join("entry.toml")).unwrap();
    let file = entry.lines().find_map(|l| l.strip_prefix("file = ")).unwrap().trim_matches('"');
    std::fs::copy(root.join("tests/nets").join(net).join(file), folder.path().join("other.onnx"))
        .unwrap();
    std::fs::copy(root.join("models/fire-small.onnx"), folder.path().join("fire-small.onnx"))
        .unwrap();
    let entry = entry
        .replace(file, "other.onnx")
        .replace("tier = \"big\"", "tier = \"small\"")
        .replace("task = \"fire\"", task)
        .replace("thresholds = { ", &format!("thresholds = {{ {more}"));
    let other = if task.contains("bay") { of("task = \"fire\"") } else { of("task = \"bay\"") };
    std::fs::write(folder.path().join("manifest.toml"), format!("{other}\n{entry}")).unwrap();
    Eyes::open(folder.path(), Engine::Best).unwrap()
}

#[test]
fn a_bay_net_that_fails_leaves_the_fire_of_the_same_look() {
    let more = "free_below = 0.2, occupied_above = 0.8, ";
    let eyes = eyes_with("nan", "task = \"bay\"", more);
    let polygon = vec![[0.3, 0.3], [0.7, 0.3], [0.7, 0.8], [0.3, 0.8]];
    let bay = BayPlace { id: Id::try_from("bay").unwrap(), polygon };
    let mut watch = eyes.watch(vec![bay]);
    // Cuts that take everything for fire: whether the shipped net sees some is not the question here.
    watch.triage = Triage::new(FireCuts { flame_doubtful: 0.0, flame_alarm: 0.0, ..CUTS });
    let mut rng = fastrand::Rng::with_seed(3);
    for second in 1..=6 {
        // What is still is no fire.
        let frame = place(&mut rng, 13 * second as usize);
        let sight = eyes.see(&mut watch, Duration::from_secs(second), &frame).unwrap();
        assert!(watch.bays_fail, "the story needs a bay net that fails");
        assert_eq!(sight.bays[0].state, BayState::Unknown);
        assert_eq!(sight.fault, None);
        // The first look has nothing to be held against.
        let wanted = if second < 4 { Verdict::Doubtful } else { Verdict::Alarm };
        assert_eq!(sight.verdict, wanted, "look {second}");
    }
}

/// INF4: the daily test of each net is its own; a bay net that fails it leaves the fire watch whole.
#[test]
fn bays_that_are_not_trusted_are_unknown_and_fire_is_looked_for() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let eyes = Eyes::open(&root.join("models"), Engine::Best).unwrap();
    let polygon = vec![[0.3, 0.3], [0.7, 0.3], [0.7, 0.8], [0.3, 0.8]];
    let bay = BayPlace { id: Id::try_from("bay").unwrap(), polygon };
    let mut watch = eyes.watch(vec![bay]);
    let mut rng = fastrand::Rng::with_seed(4);
    for (second, trusted) in [(1, true), (2, false), (3, false), (4, true)] {
        watch.trust_bays(trusted);
        let sight = eyes.see(&mut watch, Duration::from_secs(second), &place(&mut rng, 0)).unwrap();
        assert_eq!(sight.fault, None);
        assert!(sight.parts.len() >= 2, "{:?}", sight.parts);
        assert_eq!(watch.bays[0].seen.is_some(), trusted, "second {second}");
        assert!(trusted || sight.bays[0].state == BayState::Unknown);
    }
}

/// decisions.md: all of the frame at least every 8 s when calm, every 2 s when warm, at whatever rate of looks.
#[test]
fn tiles_have_their_turn_at_the_rate_that_is_wanted() {
    for (over, look_ms, wanted) in [
        (8.0, 2000, 1.0),
        (8.0, 1000, 0.5),
        (8.0, 200, 0.1),
        (2.0, 1000, 2.0),
        (2.0, 200, 0.4),
        (0.0, 40, 1.0),
    ] {
        let mut watch = watch();
        watch.tiles_over(Duration::from_secs_f64(over));
        let mut rng = fastrand::Rng::with_seed(look_ms);
        let (mut looked, mut last) = (0, [0.0; TILES]);
        for look in 1..=200u64 {
            // Pictures never come quite in time.
            let at = Duration::from_millis(look * look_ms + rng.u64(0..look_ms / 20));
            for tile in watch.next_tiles(at) {
                looked += 1;
                let since =
                    at.as_secs_f64() - std::mem::replace(&mut last[tile - 1], at.as_secs_f64());
                let most = over.max(4.0 * look_ms as f64 / 1000.0) + 2.2 * look_ms as f64 / 1000.0;
                assert!(since <= most, "tile {tile} after {since} s, looks every {look_ms} ms");
            }
        }
        let rate = f64::from(looked) / 200.0;
        assert!((rate - wanted).abs() < 0.03, "{rate} tiles a look instead of {wanted}");
    }
}

/// A grey place, red in the right bottom corner: a seventh of the whole, nearly half of the last tile. It flickers.
fn corner(red: bool, look: u64) -> Frame {
    // Never what it was in any look before.
    let green = [0, 30, 12, 45, 20, 38, 6, 26, 50, 16][look as usize % 10];
    let pixel = |i: usize| {
        let (x, y) = (i % 320, i / 320);
        if red && x >= 195 && y >= 110 { [255, green, 0] } else { [128; 3] }
    };
    Frame { rgb: (0..320 * 180).flat_map(pixel).collect(), width: 320, height: 180 }
}

#[test]
fn fire_that_only_a_tile_shows_is_confirmed_too() {
    let eyes = eyes_with("big", "task = \"fire\"", "");
    let mut watch = eyes.watch(Vec::new());
    let mut confirmed = None;
    for look in 1..=9 {
        let sight = eyes.see(&mut watch, Duration::from_secs(look), &corner(true, look)).unwrap();
        let whole = sight.parts.iter().find(|look| look.part == 0).unwrap();
        assert!(
            whole.flame < CUTS.flame_doubtful,
            "the story needs a whole that is clear: {whole:?}"
        );
        if sight.verdict == Verdict::Alarm {
            confirmed = confirmed.or(Some(look));
        }
    }
    // Seen at last in the fourth look, and for as long as a flame must last in the two after it.
    assert!(confirmed.is_some_and(|look| look <= 6), "confirmed in look {confirmed:?}");
    let looked = |watch: &mut Watch, look| {
        eyes.see(watch, Duration::from_secs(look), &corner(false, look)).unwrap().parts.len()
    };
    assert!(looked(&mut watch, 10) <= 3);
    assert!(looked(&mut watch, 15) <= 3);
    assert_eq!(looked(&mut watch, 16), 2, "nothing near a doubt, nothing more to look at");
}

/// A tile that passes the cut of doubt now and then is not left to its turn.
#[test]
fn a_tile_that_comes_near_to_a_doubt_is_looked_at_for_five_seconds() {
    let mut watch = watch();
    let look = |part, flame| PartLook { part, flame, smoke: 0.0, stirs: None, confirmed: false };
    let mut nearest =
        |second, parts: &[PartLook]| watch.nearest(Duration::from_secs(second), parts, CUTS);
    assert_eq!(nearest(1, &[look(0, 0.9), look(1, 0.29)]), None, "the whole is no tile");
    assert_eq!(nearest(2, &[look(0, 0.1), look(2, 0.31)]), Some(2));
    assert_eq!(nearest(3, &[look(0, 0.1), look(2, 0.0), look(3, 0.3)]), Some(2), "the nearest");
    assert_eq!(nearest(6, &[look(0, 0.1), look(2, 0.0), look(4, 0.0)]), Some(2));
    assert_eq!(nearest(7, &[look(0, 0.1), look(2, 0.0), look(1, 0.0)]), Some(3), "then that one");
    assert_eq!(nearest(8, &[look(0, 0.1), look(2, 0.0)]), None);
}

/// What the big net has confirmed it is shown again, though the small one looks away for a while: smoke that only the
/// big net sees well must be confirmed over five seconds.
#[test]
fn what_the_big_net_has_confirmed_is_looked_at_and_shown_to_it_again() {
    let eyes = eyes_with("big", "task = \"fire\"", "");
    let mut watch = eyes.watch(Vec::new());
    let seen = |watch: &mut Watch, tenths| {
        let (at, frame) = (Duration::from_millis(tenths * 100), corner(false, tenths));
        let sight = eyes.see(watch, at, &frame).unwrap();
        let shown = sight.parts.iter().filter(|look| look.confirmed);
        shown.map(|look| look.part).collect::<Vec<_>>()
    };
    watch.tiles_over(Duration::from_secs(100));
    assert_eq!(seen(&mut watch, 10), [] as [usize; 0]);
    watch.answer(Duration::from_secs(1), 3, Answer::Confirmed { flame: false, smoke: true });
    watch.answer(Duration::from_secs(1), 4, Answer::Released);
    assert_eq!(seen(&mut watch, 20), [3]);
    watch.answer(Duration::from_secs(2), 2, Answer::Confirmed { flame: true, smoke: false });
    assert_eq!(seen(&mut watch, 59), [2, 3]);
    assert_eq!(seen(&mut watch, 61), [2], "five seconds");
    watch.answer(Duration::from_millis(6100), 2, Answer::Doubtful);
    assert_eq!(seen(&mut watch, 71), [] as [usize; 0]);
}

#[test]
fn inf4_a_net_that_says_the_same_of_everything_is_refused() {
    let folder = folders::with("blind");
    let opened = Eyes::open(folder.path(), Engine::Best).map(|_| ());
    assert!(matches!(opened, Err(ModelError::Blind { .. })), "{opened:?}");
}

#[test]
fn inf6_with_little_energy_bays_are_shed_and_fire_is_not() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let eyes = Eyes::open(&root.join("models"), Engine::Best).unwrap();
    let polygon = vec![[0.3, 0.3], [0.7, 0.3], [0.7, 0.8], [0.3, 0.8]];
    let bay = BayPlace { id: Id::try_from("bay").unwrap(), polygon };
    let mut watch = eyes.watch(vec![bay]);
    let mut rng = fastrand::Rng::with_seed(2);
    for (second, effort) in
        [(1, Effort::Full), (2, Effort::Survival), (3, Effort::Survival), (4, Effort::Eco)]
    {
        watch.spend(effort);
        let frame = place(&mut rng, 0);
        let tile = 1 + watch.tile % TILES;
        let again = watch.hot.filter(|hot| *hot != tile);
        let sight = eyes.see(&mut watch, Duration::from_secs(second), &frame).unwrap();
        let parts: Vec<usize> = sight.parts.iter().map(|look| look.part).collect();
        let wanted: Vec<usize> = [0, tile].into_iter().chain(again).collect();
        assert_eq!(parts, wanted, "whole frame, a tile in turn and the one in doubt in every look");
        assert!(sight.stages.fire_ms > 0.0);
        if effort == Effort::Survival {
            assert_eq!(sight.bays[0].state, BayState::Unknown);
            assert!(sight.stages.bays_ms < sight.stages.fire_ms / 100.0, "{:?}", sight.stages);
        }
    }
}

#[test]
fn cam2_and_cam3_are_seen_in_pixels() {
    let mut rng = fastrand::Rng::with_seed(21);
    let usual = place(&mut rng, 0);
    let dull = |frame: &Frame, to: u8| {
        let rgb = frame.rgb.iter().map(|v| to + v / 32).collect();
        Frame { rgb, ..frame.clone() }
    };
    let cases = [
        (dull(&usual, 90), CameraFault::Covered),
        (Frame { rgb: vec![2; 320 * 180 * 3], ..usual.clone() }, CameraFault::Dark),
        (place(&mut rng, 90), CameraFault::Moved),
        (
            Frame { rgb: usual.rgb[..320 * 120 * 3].to_vec(), width: 320, height: 120 },
            CameraFault::Shape,
        ),
    ];
    for (then, wanted) in cases {
        let mut watch = watch();
        let mut told = None;
        for second in 0..60u64 {
            let mut frame = if second < 20 { place(&mut rng, 0) } else { then.clone() };
            // A sensor's noise: without it any picture is a frozen one.
            frame.rgb.iter_mut().for_each(|v| *v = v.saturating_add(rng.u8(0..3)));
            let at = Duration::from_secs(second);
            let glance = Glance::of(&frame);
            let fault = watch.fault(&frame, &glance, at);
            watch.before = Some(glance);
            assert!(second >= 20 || fault.is_none(), "{fault:?} on a usual picture");
            told = told.or(fault.map(|fault| (second - 20, fault)));
        }
        let (after, fault) = told.unwrap();
        assert_eq!(fault, wanted);
        assert!(after <= 30, "{wanted:?} after {after} s");
    }
}

/// A day of both cameras of the drawn site in 160 looks: light comes and goes, every bay fills and empties.
#[test]
fn a_day_with_cars_is_no_moved_camera_and_a_turned_one_is() {
    let mut world = World::new(Scenario::sunny_day(), 5);
    for second in [false, true] {
        let scene = |world: &World| if second { Scene::of_second(world) } else { Scene::of(world) };
        let mut watch = watch();
        let first = scene(&world);
        let areas: Vec<[f64; 4]> = (0..2).map(|i| bounds(&first.polygon(i))).collect();
        watch.background = gate::background(&areas);
        let look = |watch: &mut Watch, scene: &Scene, at: u64| {
            let frame = Frame::decode(&jpeg(scene).unwrap()).unwrap();
            let glance = Glance::of(&frame);
            let fault = watch.fault(&frame, &glance, Duration::from_secs(at));
            watch.before = Some(glance);
            fault
        };
        for k in 0..160u64 {
            for (i, bay) in world.bays.iter_mut().enumerate() {
                bay.occupied = k / 10 % 8 > i as u64;
            }
            let mut scene = scene(&world);
            scene.light = (k as f64 / 160.0 * std::f64::consts::PI).sin().max(0.2);
            scene.time_s = k as f64;
            assert_eq!(look(&mut watch, &scene, k), None, "look {k}, second {second}");
        }
        let mut turned = scene(&world);
        turned.view.aside_m += 1.8;
        turned.view.pitch += 0.12;
        let told = (160..200).find_map(|at| {
            turned.time_s = at as f64;
            Some((at, look(&mut watch, &turned, at)?))
        });
        let (at, fault) = told.unwrap();
        assert_eq!(fault, CameraFault::Moved);
        assert!(at <= 190, "after {} s", at - 160);
    }
}
