//! How a frame is seen: the fire net on the whole frame and on a tile in turn, the bay net on bays that
//! changed or have not been looked at for a while, and the temporal logic of `logic::vision` behind.
//!
//! What a stranger gets wrong: fire is looked for in every frame, whether anything moved or not; only
//! the bays wait for a change.

use std::time::Duration;

use super::bays::{BayMemory, BayPlace, HEARTBEAT, bounds};
use crate::io::camera::Frame;
use crate::io::camera::gate::{self, Glance};
use crate::io::clock::thread_time;
use crate::io::inference::{self, BayNet, Detector, Engine, FireNet, Found, ModelError};
use crate::logic::decision::Effort;
use crate::logic::vision::{
    Answer, BayCuts, BayLook, BayState, CameraFault, FireCuts, Health, Measures, Occupancy, Stages,
    Tier, Triage, Verdict, stands_in,
};

/// Parts of a frame (left, top, width, height): the whole, and overlapping tiles, one of them with each
/// look.
pub const PARTS: [[f64; 4]; 5] = [
    [0.0, 0.0, 1.0, 1.0],
    [0.0, 0.0, 0.6, 0.6],
    [0.4, 0.0, 0.6, 0.6],
    [0.0, 0.4, 0.6, 0.6],
    [0.4, 0.4, 0.6, 0.6],
];
const TILES: usize = PARTS.len() - 1;
/// How fast the usual pattern of a camera follows what it shows: a share of each look. At a look a second
/// it takes a quarter of an hour, so that parked cars become part of it and a turned camera does not.
const PATTERN_FOLLOWS: f32 = 0.001;

/// The nets.
pub struct Eyes {
    bay: BayNet,
    fire: FireNet,
    /// A detector of the site's own that says where vehicles stand, instead of the bay net.
    own: Option<Detector>,
}

/// What was seen in one frame.
#[derive(Clone, Debug)]
pub struct Sight {
    /// Flame, 0 to 1: the highest of the parts looked at.
    pub fire: f64,
    /// Smoke, 0 to 1.
    pub smoke: f64,
    /// What the looks so far add up to.
    pub verdict: Verdict,
    /// The bays.
    pub bays: Vec<BayLook>,
    /// What is wrong with the picture.
    pub fault: Option<CameraFault>,
    /// Which net had the last word.
    pub tier: Tier,
    /// When, on the clock of the temporal logic.
    pub at: Duration,
    /// Scores of the parts that were looked at.
    pub parts: Vec<PartLook>,
    /// CPU time by stage.
    pub stages: Stages,
}

/// Flame and smoke in one part of a frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PartLook {
    /// Which of [`PARTS`].
    pub part: usize,
    /// Flame, 0 to 1.
    pub flame: f64,
    /// Smoke, 0 to 1.
    pub smoke: f64,
}

impl Sight {
    /// The same look by a camera that cannot be trusted: never clear, its bays unknown.
    #[must_use]
    pub fn with_fault(mut self, fault: CameraFault) -> Sight {
        self.verdict = self.verdict.max(Verdict::Doubtful);
        self.bays.iter_mut().for_each(|bay| bay.state = BayState::Unknown);
        self.fault = Some(fault);
        self
    }
}

/// Memory of one camera or film.
pub struct Watch {
    triage: Triage,
    bays: Vec<BayMemory>,
    before: Option<Glance>,
    tile: usize,
    health: Health,
    /// What the camera usually shows, and where nothing comes and goes.
    pattern: Option<Glance>,
    background: Vec<bool>,
    /// Time of the source runs this much faster than its pictures come.
    pace: f64,
    effort: Effort,
}

impl Eyes {
    /// Loads the nets of a folder.
    ///
    /// # Errors
    /// When they cannot be used.
    pub fn open(models: &std::path::Path, engine: Engine) -> Result<Eyes, ModelError> {
        let (bay, fire) = inference::load(models, engine)?;
        Ok(Eyes { bay, fire, own: Detector::open(models)? })
    }

    /// Whether the nets still tell pictures apart.
    ///
    /// # Errors
    /// When one does not.
    pub fn self_test(&self) -> Result<(), ModelError> {
        self.fire.self_test().and_then(|()| self.bay.self_test())
    }

    /// Cut-offs of the fire net.
    #[must_use]
    pub fn fire_cuts(&self) -> FireCuts {
        self.fire.cuts
    }

    /// Starts to watch a camera or film.
    #[must_use]
    pub fn watch(&self, bays: Vec<BayPlace>) -> Watch {
        let areas: Vec<[f64; 4]> = bays.iter().map(|bay| bounds(&bay.polygon)).collect();
        let background = gate::background(&areas);
        Watch {
            triage: Triage::new(self.fire.cuts),
            bays: bays.into_iter().map(BayMemory::new).collect(),
            before: None,
            tile: 0,
            health: Health::default(),
            pattern: None,
            background,
            pace: 1.0,
            effort: Effort::Full,
        }
    }

    /// Sees the next frame of a camera or film; `at` is a steady clock of the source.
    ///
    /// # Errors
    /// When a net fails.
    pub fn see(&self, watch: &mut Watch, at: Duration, frame: &Frame) -> Result<Sight, ModelError> {
        let at = at.div_f64(watch.pace);
        let mut lap = Lap::begin();
        let glance = Glance::of(frame);
        let fault = watch.fault(frame, &glance, at);
        let gate_ms = lap.ms();
        let tile = 1 + watch.tile % TILES;
        watch.tile += 1;
        let parts = self.parts(frame, [0, tile])?;
        let verdict = watch.judge(at, &parts);
        let fire_ms = lap.ms();
        self.read_bays(watch, frame, &glance, at)?;
        watch.before = Some(glance);
        let (decode_ms, big_ms) = (0.0, 0.0);
        let stages = Stages { decode_ms, gate_ms, fire_ms, bays_ms: lap.ms(), big_ms };
        let look = |bay: &BayMemory| BayLook {
            id: bay.place.id.clone(),
            occupied: bay.score,
            state: bay.state,
        };
        let bays = watch.bays.iter().map(look).collect();
        let (fire, smoke) = highest(&parts);
        let sight =
            Sight { fire, smoke, verdict, bays, fault: None, tier: Tier::Small, at, parts, stages };
        Ok(match fault {
            Some(fault) => sight.with_fault(fault),
            None => sight,
        })
    }

    /// Sees a picture that stands alone: all tiles, every bay once.
    ///
    /// # Errors
    /// When a net fails.
    pub fn see_still(&self, bays: &[BayPlace], frame: &Frame) -> Result<Sight, ModelError> {
        let mut lap = Lap::begin();
        let parts = self.parts(frame, 0..PARTS.len())?;
        let (fire, smoke) = highest(&parts);
        let verdict = self.fire.cuts.single(fire, smoke);
        let fire_ms = lap.ms();
        let vehicles = self.vehicles(frame, !bays.is_empty())?;
        let look = |place: &BayPlace| -> Result<BayLook, ModelError> {
            let (score, cuts) = self.score_bay(place, frame, vehicles.as_deref())?;
            let state = score.map_or(BayState::Unknown, |s| Occupancy::single(s, cuts));
            Ok(BayLook { id: place.id.clone(), occupied: score.unwrap_or(0.5), state })
        };
        let bays = bays.iter().map(look).collect::<Result<_, _>>()?;
        let stages = Stages { fire_ms, bays_ms: lap.ms(), ..Stages::default() };
        let (at, tier) = (Duration::ZERO, Tier::Small);
        Ok(Sight { fire, smoke, verdict, bays, fault: None, tier, at, parts, stages })
    }

    fn parts(
        &self,
        frame: &Frame,
        which: impl IntoIterator<Item = usize>,
    ) -> Result<Vec<PartLook>, ModelError> {
        let score = |part: usize| {
            let (flame, smoke) = self.fire.score(frame, PARTS[part])?;
            Ok(PartLook { part, flame, smoke })
        };
        which.into_iter().map(score).collect()
    }

    /// Reads the bays that changed or are due.
    fn read_bays(
        &self,
        watch: &mut Watch,
        frame: &Frame,
        glance: &Glance,
        at: Duration,
    ) -> Result<(), ModelError> {
        let heartbeat = match watch.effort {
            Effort::Full => HEARTBEAT,
            Effort::Eco => HEARTBEAT * 2,
            Effort::Survival => {
                // Nobody looks: what was seen before is no longer known.
                watch.bays.iter_mut().for_each(BayMemory::forget);
                return Ok(());
            }
        };
        let due: Vec<&mut BayMemory> =
            watch.bays.iter_mut().filter_map(|bay| bay.is_due(glance, at, heartbeat)).collect();
        let vehicles = self.vehicles(frame, !due.is_empty())?;
        for bay in due {
            bay.reads_due -= 1;
            let (score, cuts) = self.score_bay(&bay.place, frame, vehicles.as_deref())?;
            if let Some(score) = score {
                bay.score = score;
                bay.state = bay.occupancy.read(score, cuts);
            }
            bay.seen = Some((glance.clone(), at));
        }
        Ok(())
    }

    /// What the site's own detector finds, where it has one and somebody asks.
    fn vehicles(&self, frame: &Frame, asked: bool) -> Result<Option<Vec<Found>>, ModelError> {
        let Some(own) = self.own.as_ref().filter(|_| asked) else { return Ok(None) };
        let mut found = own.detect(frame)?;
        found.retain(|found| found.is_vehicle);
        Ok(Some(found))
    }

    /// Score of a bay, and the cuts that it is held against.
    fn score_bay(
        &self,
        place: &BayPlace,
        frame: &Frame,
        vehicles: Option<&[Found]>,
    ) -> Result<(Option<f64>, BayCuts), ModelError> {
        let (Some(vehicles), Some(own)) = (vehicles, &self.own) else {
            return Ok((self.bay.score(frame, &place.polygon)?, self.bay.cuts));
        };
        // A detector shows nothing below its least score: no box is a free bay, one at it is doubt.
        let least = own.least();
        let cuts = BayCuts { free_below: least / 2.0, occupied_above: (1.0 + least) / 2.0 };
        let mine = vehicles.iter().filter(|found| stands_in(found.corners, &place.polygon));
        Ok((Some(mine.map(|found| found.score).fold(0.0, f64::max)), cuts))
    }
}

impl Watch {
    /// For simulated sites whose time runs faster than cameras: see `io::clock`. At least 1.
    #[must_use]
    pub fn at_pace(self, pace: f64) -> Watch {
        Watch { pace: pace.max(1.0), ..self }
    }

    /// How much may be spent from now on.
    pub fn spend(&mut self, effort: Effort) {
        self.effort = effort;
    }

    /// What the big net says of one part of the look at `at` (as in [`Sight`]); the verdict now.
    pub fn answer(&mut self, at: Duration, answer: Answer) -> Verdict {
        self.triage.answer(at, answer)
    }

    fn judge(&mut self, at: Duration, parts: &[PartLook]) -> Verdict {
        let scores: Vec<(f64, f64)> = parts.iter().map(|look| (look.flame, look.smoke)).collect();
        self.triage.judge(at, &scores)
    }

    fn fault(&mut self, frame: &Frame, glance: &Glance, at: Duration) -> Option<CameraFault> {
        let pattern = self.pattern.get_or_insert_with(|| glance.clone());
        let measures = Measures {
            brightness: glance.brightness(),
            contrast: glance.contrast(),
            detail: gate::detail(frame),
            alike: glance.kept(pattern, &self.background),
            same: self.before.as_ref() == Some(glance),
            size: (frame.width, frame.height),
        };
        let fault = self.health.judge(at, &measures);
        if fault.is_none() && self.health.is_usual() {
            pattern.follow(glance, PATTERN_FOLLOWS);
        }
        fault
    }
}

/// CPU time of this thread since the last lap.
struct Lap(Duration);

impl Lap {
    fn begin() -> Lap {
        Lap(thread_time())
    }

    fn ms(&mut self) -> f64 {
        let before = std::mem::replace(&mut self.0, thread_time());
        self.0.saturating_sub(before).as_secs_f64() * 1000.0
    }
}

/// The highest flame and smoke of all parts.
fn highest(parts: &[PartLook]) -> (f64, f64) {
    let of = |score: fn(&PartLook) -> f64| parts.iter().map(score).fold(0.0, f64::max);
    (of(|look| look.flame), of(|look| look.smoke))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::inference::folders;
    use crate::logic::site::Id;
    use simulators::physics::World;
    use simulators::picture::{Scene, jpeg};
    use simulators::scenario::Scenario;

    fn watch() -> Watch {
        let background = gate::background(&[]);
        let cuts = FireCuts {
            flame_doubtful: 0.5,
            flame_alarm: 0.8,
            smoke_doubtful: 0.5,
            smoke_alarm: 0.8,
        };
        Watch {
            triage: Triage::new(cuts),
            bays: Vec::new(),
            before: None,
            tile: 0,
            health: Health::default(),
            pattern: None,
            background,
            pace: 1.0,
            effort: Effort::Full,
        }
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
            let sight = eyes.see(&mut watch, Duration::from_secs(second), &frame).unwrap();
            assert_eq!(sight.parts.len(), 2, "whole frame and a tile in every look");
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
            let scene =
                |world: &World| if second { Scene::of_second(world) } else { Scene::of(world) };
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
}
