//! How a frame is seen: the fire net on the whole frame, on a tile in turn, on the one nearest to a doubt and
//! on what the big net has confirmed, the bay net on bays that changed or have not been looked at for a while, and the temporal logic of
//! `logic::vision` behind.
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
    Answer, BayCuts, BayLook, BayState, CameraFault, FireCuts, Health, Measures, Occupancy,
    PartLook, Stages, Stir, Tier, Triage, Usual, Verdict, stands_in,
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
/// A tile that comes this near to a doubt (1) is looked at again and again. A film of a burning house passes the cut
/// of doubt every few looks only, and at one tile in turn that is met by chance. Our own figure.
const CURIOUS: f64 = 0.6;
/// For so long after it came near, or after the big net confirmed it: as long as a doubt counts in `triage`.
const LINGERS: Duration = Duration::from_secs(5);

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
    stir: Stir,
    bays: Vec<BayMemory>,
    /// The abstain band of its bays, where it has one of its own.
    cuts: Option<BayCuts>,
    /// Whether the bays could not be read in the last look.
    bays_fail: bool,
    /// Whether whoever reads the bays can be trusted.
    bays_trusted: bool,
    before: Option<Glance>,
    tile: usize,
    /// Tiles that are owed, and when that was reckoned.
    owed: (f64, Option<Duration>),
    /// All tiles are looked at within this time; zero: one with every look.
    tiles_over: Duration,
    /// The tile that came nearest to a doubt in the last seconds.
    hot: Option<usize>,
    /// Of each part: when it came how near to a doubt, the nearest of the last seconds.
    near: [Option<(Duration, f64)>; PARTS.len()],
    /// Of each part: the last look in which the big net confirmed it.
    confirmed: [Option<Duration>; PARTS.len()],
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

    /// Whether the fire net still tells pictures apart.
    ///
    /// # Errors
    /// When it does not.
    pub fn test_fire(&self) -> Result<(), ModelError> {
        self.fire.self_test()
    }

    /// The same of the bay net, where it is the one that reads the bays.
    ///
    /// # Errors
    /// When it does not.
    pub fn test_bays(&self) -> Result<(), ModelError> {
        if self.own.is_some() { Ok(()) } else { self.bay.self_test() }
    }

    /// Cut-offs of the fire net.
    #[must_use]
    pub fn fire_cuts(&self) -> FireCuts {
        self.fire.cuts
    }

    /// Hash of the net that reads the bays; nothing where a detector of the site's own does.
    #[must_use]
    pub fn bay_net(&self) -> Option<&str> {
        self.own.is_none().then_some(self.bay.hash.as_str())
    }

    /// Starts to watch a camera or film.
    #[must_use]
    pub fn watch(&self, bays: Vec<BayPlace>) -> Watch {
        Watch::new(self.fire.cuts, bays)
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
        watch.stir.look(at, glance.cells(), watch.pattern.as_ref().map(Glance::cells));
        let gate_ms = lap.ms();
        let mut which = vec![0];
        which.extend(watch.next_tiles(at));
        // What only a tile shows would be seen in every fourth look, and never be confirmed.
        let again =
            (1..PARTS.len()).filter(|tile| watch.hot == Some(*tile) || watch.lingers(*tile, at));
        let again: Vec<usize> = again.filter(|tile| !which.contains(tile)).collect();
        which.extend(again);
        let mut parts = self.parts(frame, which)?;
        for look in &mut parts {
            look.stirs = watch.stir.within(PARTS[look.part]);
            look.confirmed = watch.lingers(look.part, at);
        }
        watch.hot = watch.nearest(at, &parts, self.fire.cuts);
        let verdict = watch.triage.judge(at, &parts);
        let fire_ms = lap.ms();
        let read = self.read_bays(watch, frame, &glance, at);
        watch.take(read);
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
            Ok(PartLook { part, flame, smoke, stirs: None, confirmed: false })
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
            Effort::Full if watch.bays_trusted => HEARTBEAT,
            Effort::Eco if watch.bays_trusted => HEARTBEAT * 2,
            _ => {
                // Nobody looks: what was seen before is no longer known.
                watch.bays.iter_mut().for_each(BayMemory::forget);
                return Ok(());
            }
        };
        let due: Vec<&mut BayMemory> =
            watch.bays.iter_mut().filter_map(|bay| bay.is_due(glance, at, heartbeat)).collect();
        let vehicles = self.vehicles(frame, !due.is_empty())?;
        let own = watch.cuts.filter(|_| vehicles.is_none());
        for bay in due {
            bay.reads_due -= 1;
            let (score, cuts) = self.score_bay(&bay.place, frame, vehicles.as_deref())?;
            if let Some(score) = score {
                bay.score = score;
                bay.state = bay.occupancy.read(score, own.unwrap_or(cuts));
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
    fn new(cuts: FireCuts, bays: Vec<BayPlace>) -> Watch {
        let areas: Vec<[f64; 4]> = bays.iter().map(|bay| bounds(&bay.polygon)).collect();
        Watch {
            triage: Triage::new(cuts),
            stir: Stir::new(gate::ACROSS),
            bays: bays.into_iter().map(BayMemory::new).collect(),
            cuts: None,
            bays_fail: false,
            bays_trusted: true,
            before: None,
            tile: 0,
            owed: (0.0, None),
            tiles_over: Duration::ZERO,
            hot: None,
            near: [None; PARTS.len()],
            confirmed: [None; PARTS.len()],
            health: Health::default(),
            pattern: None,
            background: gate::background(&areas),
            pace: 1.0,
            effort: Effort::Full,
        }
    }

    /// For simulated sites whose time runs faster than cameras: see `io::clock`. At least 1.
    #[must_use]
    pub fn at_pace(self, pace: f64) -> Watch {
        Watch { pace: pace.max(1.0), ..self }
    }

    /// Within which time all tiles are looked at, from now on; zero: one with every look.
    pub fn tiles_over(&mut self, time: Duration) {
        self.tiles_over = time;
    }

    /// Whether whoever reads the bays can be trusted; until then they are unknown.
    pub fn trust_bays(&mut self, trusted: bool) {
        self.bays_trusted = trusted;
    }

    /// The tiles whose turn it is.
    fn next_tiles(&mut self, at: Duration) -> impl Iterator<Item = usize> + use<> {
        let passed = at.saturating_sub(self.owed.1.replace(at).unwrap_or_default());
        let each = self.tiles_over.as_secs_f64() / TILES as f64;
        let owed = if each > 0.0 { self.owed.0 + passed.as_secs_f64() / each } else { 1.0 };
        // Pictures come a little before or after their time.
        let many = ((owed + 0.1).floor() as usize).min(TILES);
        self.owed.0 = (owed - many as f64).clamp(-0.1, 1.0);
        let first = self.tile;
        self.tile += many;
        (first..first + many).map(|tile| 1 + tile % TILES)
    }

    /// How much may be spent from now on.
    pub fn spend(&mut self, effort: Effort) {
        self.effort = effort;
    }

    /// What the camera usually shows: numbers, and the pattern as bytes. Nothing before that is known.
    #[must_use]
    pub fn usual(&self) -> Option<(Usual, Vec<u8>)> {
        Some((self.health.usual()?, self.pattern.as_ref()?.to_bytes()))
    }

    /// Takes up what the camera usually showed before a restart, which may have been `lately`.
    pub fn recall(&mut self, (usual, pattern): (Usual, &[u8]), lately: bool) {
        if let Some(pattern) = Glance::from_bytes(pattern) {
            self.health.recall(usual, lately);
            self.pattern = Some(pattern);
        }
    }

    /// The abstain band of this camera's bays, from now on; nothing: that of the net.
    pub fn calibrate(&mut self, cuts: Option<BayCuts>) {
        self.cuts = cuts;
    }

    /// Learns anew what the camera usually shows.
    pub fn unlearn(&mut self) {
        self.health = Health::default();
        self.pattern = None;
    }

    /// Of the tiles that came near to a doubt lately one that stirs, of these the nearest: a stain scores high at every
    /// look.
    fn nearest(&mut self, at: Duration, parts: &[PartLook], cuts: FireCuts) -> Option<usize> {
        for look in parts {
            let reach = cuts.reach(look.flame, look.smoke);
            let nearer = self.near[look.part]
                .filter(|(then, nearest)| *nearest > reach && at.saturating_sub(*then) < LINGERS);
            self.near[look.part] = nearer.or(Some((at, reach)));
        }
        let near = |tile: usize| {
            let (then, reach) = self.near[tile]?;
            let lately = at.saturating_sub(then) < LINGERS && reach >= CURIOUS;
            lately.then(|| (self.stir.within(PARTS[tile]).is_some(), reach, tile))
        };
        let tiles = (1..PARTS.len()).filter_map(near);
        tiles.max_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1))).map(|(_, _, tile)| tile)
    }

    /// Whether the big net has confirmed this part a moment ago.
    fn lingers(&self, part: usize, at: Duration) -> bool {
        self.confirmed[part].is_some_and(|then| at.saturating_sub(then) < LINGERS)
    }

    /// What the big net says of one part of the look at `at` (as in [`Sight`]); the verdict now.
    pub fn answer(&mut self, at: Duration, part: usize, answer: Answer) -> Verdict {
        if matches!(answer, Answer::Confirmed { .. }) {
            self.confirmed[part] = self.confirmed[part].max(Some(at));
        }
        self.triage.answer(at, part, answer)
    }

    /// Bays that cannot be read are unknown; what the fire net has seen in the same look is seen.
    fn take(&mut self, read: Result<(), ModelError>) {
        let failed_before = std::mem::replace(&mut self.bays_fail, read.is_err());
        let Err(error) = read else { return };
        if !failed_before {
            tracing::error!(%error, "bays cannot be read and are unknown; fire is still looked for");
        }
        self.bays.iter_mut().for_each(BayMemory::forget);
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
mod tests;
