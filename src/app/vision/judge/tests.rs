//! What the judging loop tells, and what of a picture leaves it.

use super::super::process::masks;
use super::*;
use crate::config;
use crate::io::inference::{Engine, folders};
use crate::io::store::{Evidence, pictures};
use crate::logic::vision::{BayState, Stages};

#[test]
fn a_doubt_is_suspect_for_half_a_minute_and_a_new_one_again() {
    let folder = folders::with("big");
    let eyes = Eyes::open(folder.path(), Engine::Best).unwrap();
    let mut seen = Seen {
        watch: eyes.watch(Vec::new()),
        places: Vec::new(),
        masks: Masks::default(),
        scene: None,
        doubted_since: None,
    };
    let clock = Clock::real();
    let begun = clock.now();
    let sight = |verdict, fault| Sight {
        fire: 0.0,
        smoke: 0.0,
        verdict,
        bays: Vec::new(),
        fault,
        tier: Tier::Small,
        at: Duration::ZERO,
        parts: Vec::new(),
        stages: Stages::default(),
    };
    let mut looks = |second, verdict, fault| {
        seen.is_suspect(&sight(verdict, fault), begun.after(Duration::from_secs(second)), clock)
    };
    assert!(!looks(0, Verdict::Clear, None));
    for (second, wanted) in [(1, true), (30, true), (31, false), (3600, false)] {
        assert_eq!(looks(second, Verdict::Doubtful, None), wanted, "{second}");
    }
    assert!(!looks(3601, Verdict::Clear, None));
    assert!(looks(3602, Verdict::Alarm, None), "another one");
    assert!(!looks(3603, Verdict::Doubtful, Some(CameraFault::Lost)), "nobody looks");
    assert!(looks(3700, Verdict::Doubtful, None));
}

/// The judge of a site with one camera, of which the site file says `more`, and the parent's end of its socket.
fn judge_of<'a>(eyes: &'a Eyes, folder: &std::path::Path, more: &str) -> (Judge<'a>, UnixStream) {
    let file = folder.join("site.toml");
    let text = format!(
        "[site]\nid = \"s\"\n[grid]\nmeter = \"grid\"\nlimit_a = 50\nbreaker_a = 63\n\
         [[device]]\nid = \"grid\"\nprofile = \"eastron-sdm630\"\naddress = \"tcp://127.0.0.1:1\"\n\
         [[camera]]\nid = \"cam\"\nsnapshot = \"http://127.0.0.1:1/a.jpg\"\n{more}\
         [[bay]]\nid = \"bay\"\ncamera = \"cam\"\n\
         polygon = [[0.1, 0.4], [0.4, 0.4], [0.4, 0.8], [0.1, 0.8]]\n"
    );
    std::fs::write(&file, text).unwrap();
    let (config, _) = config::load(&file).unwrap();
    let (socket, parent) = UnixStream::pair().unwrap();
    let tools = Tools {
        cascade: Arc::default(),
        meter: Meter::open(None),
        guard: None,
        memory: Memory::open(folder, &config.cameras, eyes.bay_net()).unwrap(),
        masks: masks(&config.cameras),
    };
    (Judge::new(eyes, (&config.site, Clock::real()), tools, socket), parent)
}

/// INF4: what the daily test of each net does to what is told of a camera.
#[test]
fn inf4_the_daily_test_blinds_the_net_that_fails_it_and_no_other() {
    let models = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    let eyes = Eyes::open(&models, Engine::Best).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (clock, inbox) = (Clock::real(), Inbox::new());
    let (mut judge, mut parent) = judge_of(&eyes, folder.path(), "");
    let world = simulators::physics::World::new(simulators::scenario::Scenario::one_pile(), 1);
    let mut scene = simulators::picture::Scene::of(&world);
    let mut told = |judge: &mut Judge<'_>| {
        scene.time_s += 1.0;
        let picture = Coded::Still(simulators::picture::jpeg(&scene).unwrap());
        let camera = Id::try_from("cam").unwrap();
        judge.deliver(&inbox, camera, Delivery::Picture(picture, clock.now())).unwrap();
        loop {
            match messages::hear(&mut parent).unwrap() {
                FromChild::Scene(scene) => {
                    assert_eq!(scene.scored_by.is_some(), scene.fault.is_none(), "{scene:?}");
                    return (scene.fault, scene.bays);
                }
                FromChild::Still { bytes, .. } => {
                    messages::take(&mut parent, bytes).unwrap();
                }
                _ => {}
            }
        }
    };
    let begun = clock.now();
    for _ in 0..2 {
        let (fault, bays) = told(&mut judge);
        assert!(fault.is_none() && bays[0].occupied != 0.5, "{fault:?} {bays:?}");
    }
    let blind = || Err(ModelError::Blind { path: models.join("a.onnx") });
    judge.trust(begun, Ok(()), blind());
    let (fault, bays) = told(&mut judge);
    assert!(fault.is_none() && bays[0].state == BayState::Unknown, "{fault:?} {bays:?}");
    judge.trust(begun, blind(), Ok(()));
    let (fault, bays) = told(&mut judge);
    assert!(fault == Some(CameraFault::Model) && bays.is_empty(), "{fault:?} {bays:?}");
    // A minute before the day is over nothing is tested; after it both pass, and everything is seen.
    judge.test_nets(begun.after(TESTED_EVERY.saturating_sub(Duration::from_secs(60))));
    assert_eq!(told(&mut judge).0, Some(CameraFault::Model));
    judge.test_nets(begun.after(TESTED_EVERY));
    let (fault, bays) = told(&mut judge);
    assert!(fault.is_none() && bays[0].occupied != 0.5, "{fault:?} {bays:?}");
}

/// A fire behind a mask: it is in no picture that leaves the eyes or is kept, and they see it as if there were none.
#[test]
fn what_is_masked_is_seen_by_the_nets_and_by_nobody_else() {
    let models = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    let eyes = Eyes::open(&models, Engine::Best).unwrap();
    let world = simulators::physics::World::new(simulators::scenario::Scenario::one_pile(), 1);
    let mut scene = simulators::picture::Scene::of(&world);
    scene.slots[0].fire = 1.0;
    let picture = simulators::picture::jpeg(&scene).unwrap();
    let camera = Id::try_from("cam").unwrap();
    let told = |more: &str| {
        let folder = tempfile::tempdir().unwrap();
        let (mut judge, mut parent) = judge_of(&eyes, folder.path(), more);
        let delivery = Delivery::Picture(Coded::Still(picture.clone()), Clock::real().now());
        // More than a socket holds: somebody has to listen meanwhile.
        let listening = std::thread::spawn(move || {
            let mut fire = 0.0;
            loop {
                match messages::hear(&mut parent).unwrap() {
                    FromChild::Scene(scene) => fire = scene.fire,
                    FromChild::Still { bytes, .. } => {
                        return (fire, messages::take(&mut parent, bytes).unwrap());
                    }
                    _ => {}
                }
            }
        });
        judge.deliver(&Inbox::new(), camera.clone(), delivery).unwrap();
        listening.join().unwrap()
    };
    let (fire, open) = told("");
    let (fire_behind, masked) = told("masks = [[[0, 0], [0.5, 0], [0.5, 1], [0, 1]]]\n");
    assert!(fire > 0.3, "a fire that is seen: {fire}");
    assert_eq!(fire, fire_behind, "the nets see the whole picture");
    let state = tempfile::tempdir().unwrap();
    let now = Clock::real().now().utc;
    let kept = Evidence::open(state.path()).keep((&camera, now), "alarm", (&masked, b"{}"));
    assert!(kept.unwrap());
    let kept = std::fs::read(&pictures(state.path()).unwrap()[0].path).unwrap();
    let (open, kept) = (Frame::decode(&open).unwrap(), Frame::decode(&kept).unwrap());
    assert_eq!((open.width, open.height), (kept.width, kept.height));
    // The encoder mixes neighbours of a block of 16 pixels.
    let (half, block) = (kept.width / 2, 16);
    for y in 0..kept.height {
        for x in 0..kept.width {
            let at = (y * kept.width + x) * 3;
            for (seen, whole) in kept.rgb[at..at + 3].iter().zip(&open.rgb[at..at + 3]) {
                if x + block < half {
                    assert!(seen.abs_diff(40) < 6, "{x} {y}: {seen} shows through");
                } else if x > half + block {
                    assert_eq!(seen, whole, "{x} {y} is another");
                }
            }
        }
    }
}
