//! How a frame is seen: the fire net on the whole frame and on a tile in turn, the bay net on bays that
//! changed or have not been looked at for a while, and the temporal logic of `logic::vision` behind.
//!
//! What a stranger gets wrong: fire is looked for in every frame, whether anything moved or not; only
//! the bays wait for a change.

use std::time::Duration;

use crate::io::camera::Frame;
use crate::io::camera::gate::{self, Glance};
use crate::io::inference::{self, BayNet, Engine, FireNet, ModelError};
use crate::logic::site::Id;
use crate::logic::vision::{
    BayLook, BayState, CameraFault, Health, Measures, Occupancy, Triage, Verdict,
};

/// The whole frame.
const WHOLE: [f64; 4] = [0.0, 0.0, 1.0, 1.0];
/// Overlapping tiles (left, top, width, height), one of them with each look.
const TILES: [[f64; 4]; 4] =
    [[0.0, 0.0, 0.6, 0.6], [0.4, 0.0, 0.6, 0.6], [0.0, 0.4, 0.6, 0.6], [0.4, 0.4, 0.6, 0.6]];
/// A bay is read again after this long even if nothing changed.
const HEARTBEAT: Duration = Duration::from_secs(30);
/// A bay is read again when this share of its cells changed by this much brightness.
const CHANGED_SHARE: f64 = 0.12;
const CHANGED_BY: f32 = 9.0;
/// Reads after a change, so that two of three can agree.
const READS_AFTER_CHANGE: u8 = 3;
/// How fast the usual pattern of a camera follows what it shows: a share of each look. At a look a second
/// it takes a quarter of an hour, so that parked cars become part of it and a turned camera does not.
const PATTERN_FOLLOWS: f32 = 0.001;

/// A bay in a camera's frame.
#[derive(Clone, Debug)]
pub struct BayPlace {
    /// The bay.
    pub id: Id,
    /// Corners, shares of the frame.
    pub polygon: Vec<[f64; 2]>,
}

/// The nets.
pub struct Eyes {
    bay: BayNet,
    fire: FireNet,
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
}

struct BayMemory {
    place: BayPlace,
    occupancy: Occupancy,
    seen: Option<(Glance, Duration)>,
    reads_due: u8,
    score: f64,
    state: BayState,
}

impl Eyes {
    /// Loads the nets of a folder.
    ///
    /// # Errors
    /// When they cannot be used.
    pub fn open(models: &std::path::Path, engine: Engine) -> Result<Eyes, ModelError> {
        let (bay, fire) = inference::load(models, engine)?;
        Ok(Eyes { bay, fire })
    }

    /// Starts to watch a camera or film.
    #[must_use]
    pub fn watch(&self, bays: Vec<BayPlace>) -> Watch {
        let areas: Vec<[f64; 4]> = bays.iter().map(|bay| bounds(&bay.polygon)).collect();
        let background = gate::background(&areas);
        let memory = |place| BayMemory {
            place,
            occupancy: Occupancy::default(),
            seen: None,
            reads_due: 1,
            score: 0.5,
            state: BayState::Unknown,
        };
        Watch {
            triage: Triage::new(self.fire.cuts),
            bays: bays.into_iter().map(memory).collect(),
            before: None,
            tile: 0,
            health: Health::default(),
            pattern: None,
            background,
            pace: 1.0,
        }
    }

    /// Sees the next frame of a camera or film; `at` is a steady clock of the source.
    ///
    /// # Errors
    /// When a net fails.
    pub fn see(&self, watch: &mut Watch, at: Duration, frame: &Frame) -> Result<Sight, ModelError> {
        let at = at.div_f64(watch.pace);
        let glance = Glance::of(frame);
        let fault = watch.fault(frame, &glance, at);
        let whole = self.fire.score(frame, WHOLE)?;
        let tile = self.fire.score(frame, TILES[watch.tile % TILES.len()])?;
        watch.tile += 1;
        let (fire, smoke) = (whole.0.max(tile.0), whole.1.max(tile.1));
        let verdict = watch.triage.judge(at, fire, smoke);
        for bay in &mut watch.bays {
            self.read_bay(bay, frame, &glance, at)?;
        }
        watch.before = Some(glance);
        let look = |bay: &BayMemory| BayLook {
            id: bay.place.id.clone(),
            occupied: bay.score,
            state: bay.state,
        };
        let bays = watch.bays.iter().map(look).collect();
        let sight = Sight { fire, smoke, verdict, bays, fault: None };
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
        let (mut fire, mut smoke) = self.fire.score(frame, WHOLE)?;
        for tile in TILES {
            let (flame, haze) = self.fire.score(frame, tile)?;
            (fire, smoke) = (fire.max(flame), smoke.max(haze));
        }
        let verdict = Triage::still(self.fire.cuts, fire, smoke);
        let look = |place: &BayPlace| -> Result<BayLook, ModelError> {
            let score = self.bay.score(frame, &place.polygon)?;
            let state = score.map_or(BayState::Unknown, |s| Occupancy::single(s, self.bay.cuts));
            Ok(BayLook { id: place.id.clone(), occupied: score.unwrap_or(0.5), state })
        };
        let bays = bays.iter().map(look).collect::<Result<_, _>>()?;
        Ok(Sight { fire, smoke, verdict, bays, fault: None })
    }

    fn read_bay(
        &self,
        bay: &mut BayMemory,
        frame: &Frame,
        glance: &Glance,
        at: Duration,
    ) -> Result<(), ModelError> {
        let area = bounds(&bay.place.polygon);
        let changed = bay.seen.as_ref().is_none_or(|(before, seen)| {
            glance.change(before, area, CHANGED_BY) > CHANGED_SHARE
                || at.saturating_sub(*seen) >= HEARTBEAT
        });
        if changed {
            bay.reads_due = READS_AFTER_CHANGE;
        }
        if bay.reads_due == 0 {
            return Ok(());
        }
        bay.reads_due -= 1;
        if let Some(score) = self.bay.score(frame, &bay.place.polygon)? {
            bay.score = score;
            bay.state = bay.occupancy.read(score, self.bay.cuts);
        }
        bay.seen = Some((glance.clone(), at));
        Ok(())
    }
}

impl Watch {
    /// For simulated sites whose time runs faster than cameras: see `io::clock`. At least 1.
    #[must_use]
    pub fn at_pace(self, pace: f64) -> Watch {
        Watch { pace: pace.max(1.0), ..self }
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

/// Left, top, right, bottom of a polygon.
fn bounds(polygon: &[[f64; 2]]) -> [f64; 4] {
    let low = |k: usize| polygon.iter().map(|p| p[k]).fold(1.0, f64::min);
    let high = |k: usize| polygon.iter().map(|p| p[k]).fold(0.0, f64::max);
    [low(0), low(1), high(0), high(1)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::vision::FireCuts;
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
