//! The judging loop of the vision child: deliveries one after another, beats in between, the big net's
//! answers as they come, and the account of what it all costs.
//!
//! What a stranger gets wrong: a scene that the big net has spoken on is told again with the frame's own
//! number. It changes the verdict on that frame and is no second look.

use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::bays::BayPlace;
use super::cascade::{Answered, Cascade};
use super::eyes::{Eyes, Sight, Watch};
use super::memory::Memory;
use super::process::{BEAT, Delivery, Inbox};
use crate::app::messages::{self, FromChild};
use crate::io::camera::{Coded, Frame, FrameError, Masks};
use crate::io::clock::{Clock, thread_time};
use crate::io::inference::{FileGuard, ModelError};
use crate::io::meter::Meter;
use crate::logic::decision::Duty;
use crate::logic::site::{Id, Site};
use crate::logic::vision::{CameraFault, Ledger, Scene, Tier, Verdict};
use crate::units::Moment;

/// A frame judged later than this after it came is too old to say that all is well.
const LATE: Duration = Duration::from_secs(3);
/// Quality of the stills for the page.
const STILL_QUALITY: u8 = 75;
/// How often the nets are tested (fault INF4).
const TESTED_EVERY: Duration = Duration::from_secs(24 * 3600);
/// All tiles are looked at within this time (decisions): when calm, and when there is a reason to look.
const CALM: Duration = Duration::from_secs(8);
const WARM: Duration = Duration::from_secs(2);
/// A doubt is looked into as often as can be for so long: smoke is confirmed within 10 s, and a net that takes a
/// wall for smoke shall not cost the site five looks a second all day. Our own figure.
const SUSPECTED: Duration = Duration::from_secs(30);
/// How often the account is told, site time.
const TOLD_EVERY: Duration = Duration::from_secs(5);

/// Judges for all cameras.
pub struct Judge<'a> {
    eyes: &'a Eyes,
    clock: Clock,
    socket: UnixStream,
    /// The big net's, once it is loaded.
    cascade: Arc<OnceLock<Cascade>>,
    cameras: BTreeMap<Id, Seen>,
    meter: Meter,
    guard: Option<FileGuard>,
    memory: Memory,
    ledger: Ledger,
    /// When the nets were last tested, and whether the fire net passed.
    tested: (Moment, bool),
    told: Option<Moment>,
    frames: u64,
    duty: Duty,
}

/// What looking needs besides the eyes.
pub struct Tools {
    /// The big net's, once it is loaded.
    pub cascade: Arc<OnceLock<Cascade>>,
    /// What CPU time costs.
    pub meter: Meter,
    /// Whether the files of the nets are still as they were.
    pub guard: Option<FileGuard>,
    /// What the cameras usually show.
    pub memory: Memory,
    /// What nobody else may see of their pictures.
    pub masks: BTreeMap<Id, Masks>,
}

/// What is remembered of a camera.
struct Seen {
    watch: Watch,
    places: Vec<BayPlace>,
    masks: Masks,
    /// The last scene that was told.
    scene: Option<Scene>,
    /// When the doubt began that lasts; nothing while there is none.
    doubted_since: Option<Moment>,
}

impl Seen {
    /// Whether to look as often as can be: a doubt that is young. One that stays what it is, is looked at like
    /// any other reason to look.
    fn is_suspect(&mut self, sight: &Sight, at: Moment, clock: Clock) -> bool {
        if sight.fault.is_some() || sight.verdict == Verdict::Clear {
            self.doubted_since = None;
            return false;
        }
        let since = *self.doubted_since.get_or_insert(at);
        since.age_at(at) < SUSPECTED.mul_f64(clock.vision_pace())
    }
}

impl<'a> Judge<'a> {
    /// Nothing seen yet.
    pub fn new(
        eyes: &'a Eyes,
        (site, clock): (&Site, Clock),
        Tools { cascade, meter, guard, mut memory, mut masks }: Tools,
        socket: UnixStream,
    ) -> Judge<'a> {
        let now = clock.now();
        let mut seen = |camera: &Id| {
            let places: Vec<BayPlace> = site.bays_of(camera).map(BayPlace::of).collect();
            let mut watch = eyes.watch(places.clone()).at_pace(clock.vision_pace());
            memory.recall(camera, &places, &mut watch, now);
            let masks = masks.remove(camera).unwrap_or_default();
            (camera.clone(), Seen { watch, places, masks, scene: None, doubted_since: None })
        };
        Judge {
            eyes,
            clock,
            socket,
            cascade,
            cameras: site.cameras.iter().map(|camera| seen(&camera.id)).collect(),
            meter,
            guard,
            memory,
            ledger: Ledger::default(),
            // Loading has tested them.
            tested: (now, true),
            told: None,
            frames: 0,
            duty: Duty::default(),
        }
    }

    /// Judges until the socket ends.
    pub fn run(mut self, inbox: &Inbox) -> std::io::Result<()> {
        loop {
            messages::say(&mut self.socket, &FromChild::Beat)?;
            let (deliveries, duty) = inbox.take(BEAT);
            self.obey(duty);
            self.test_nets(self.clock.now());
            for (camera, delivery) in deliveries {
                self.amend()?;
                self.deliver(inbox, camera, delivery)?;
            }
            self.amend()?;
            self.account()?;
        }
    }

    fn obey(&mut self, duty: Duty) {
        if duty.effort != self.duty.effort {
            tracing::info!(effort = ?duty.effort, "what may be spent on looking");
            self.cameras.values_mut().for_each(|seen| seen.watch.spend(duty.effort));
        }
        self.duty = duty;
    }

    /// Once a day; a net that fails sees nothing any more. Each for itself: fire is looked for without the bays.
    fn test_nets(&mut self, now: Moment) {
        if self.tested.0.age_at(now) >= TESTED_EVERY {
            self.trust(now, self.eyes.test_fire(), self.eyes.test_bays());
        }
    }

    /// Takes in what the tests of the fire net and of the bay net have said.
    fn trust(&mut self, now: Moment, fire: Result<(), ModelError>, bays: Result<(), ModelError>) {
        let passed = |test: Result<(), ModelError>| {
            test.inspect_err(|error| tracing::error!(%error, "a net fails its daily test")).is_ok()
        };
        self.tested = (now, passed(fire));
        let bays = passed(bays);
        self.cameras.values_mut().for_each(|seen| seen.watch.trust_bays(bays));
    }

    /// Judges one delivery and tells the parent: the scene, and the still for the page.
    fn deliver(&mut self, inbox: &Inbox, camera: Id, delivery: Delivery) -> std::io::Result<()> {
        if !self.cameras.contains_key(&camera) {
            return Ok(());
        }
        self.frames += 1;
        let before = thread_time();
        let (coded, at) = match delivery {
            Delivery::Picture(coded, at) => (coded, at),
            Delivery::Nothing(at) => return self.tell_blind(inbox, camera, at, CameraFault::Lost),
            Delivery::Stranger(at) => {
                return self.tell_blind(inbox, camera, at, CameraFault::Stranger);
            }
            Delivery::LeftOut(at) => {
                return self.tell_blind(inbox, camera, at, CameraFault::Undecodable);
            }
        };
        let mut frame = match self.open(&camera, &coded)? {
            Ok(frame) => frame,
            Err(error) => {
                tracing::warn!(%camera, %error, "frame thrown away");
                return self.tell_blind(inbox, camera, at, CameraFault::Undecodable);
            }
        };
        let decoding = thread_time().saturating_sub(before) + coded.spent_elsewhere();
        let decode_ms = decoding.as_secs_f64() * 1000.0;
        self.see(inbox, (&camera, at), &frame, decode_ms)?;
        // The nets have seen all of it; from here on it leaves this process.
        if let Some(seen) = self.cameras.get_mut(&camera) {
            seen.masks.paint(&mut frame);
        }
        if let Ok(jpeg) = frame.jpeg(STILL_QUALITY)
            && jpeg.len() <= messages::MOST_STILL
        {
            let still = FromChild::Still { camera, at, bytes: jpeg.len() };
            messages::say(&mut self.socket, &still)?;
            messages::frame(&mut self.socket, &jpeg)?;
        }
        Ok(())
    }

    /// Decodes a picture, with beats meanwhile; the parent knows whose it is.
    fn open(&mut self, camera: &Id, coded: &Coded) -> std::io::Result<Result<Frame, FrameError>> {
        messages::say(&mut self.socket, &FromChild::Opens(camera.clone()))?;
        let (mut said, mut told) = (self.clock.wall_uptime(), Ok(()));
        let frame = coded.decode_alive(&mut || {
            let now = self.clock.wall_uptime();
            if now.saturating_sub(said) >= BEAT && told.is_ok() {
                said = now;
                told = messages::say(&mut self.socket, &FromChild::Beat);
            }
        });
        told?;
        messages::say(&mut self.socket, &FromChild::Opened)?;
        Ok(frame)
    }

    fn see(
        &mut self,
        inbox: &Inbox,
        (camera, at): (&Id, Moment),
        frame: &Frame,
        decode_ms: f64,
    ) -> std::io::Result<()> {
        if !self.tested.1 {
            return self.tell_blind(inbox, camera.clone(), at, CameraFault::Model);
        }
        let Some(seen) = self.cameras.get_mut(camera) else { return Ok(()) };
        let eager = self.duty.eager.contains(camera);
        seen.watch.tiles_over(if eager || seen.doubted_since.is_some() { WARM } else { CALM });
        let mut sight = match self.eyes.see(&mut seen.watch, at.uptime, frame) {
            Ok(sight) => sight,
            Err(error) => {
                tracing::error!(%camera, %error, "model failed");
                return self.tell_blind(inbox, camera.clone(), at, CameraFault::Model);
            }
        };
        sight.stages.decode_ms = decode_ms;
        self.ledger.book(camera, &sight.stages);
        let age = self.clock.wall_time(self.clock.now().uptime.saturating_sub(at.uptime));
        if age > LATE && sight.fault.is_none() {
            sight = sight.with_fault(CameraFault::Late);
        }
        if let Some(cascade) = self.cascade.get().filter(|_| sight.fault.is_none()) {
            cascade.ask(camera, &sight, (frame, &mut seen.masks), eager);
        }
        inbox.suspect(camera, seen.is_suspect(&sight, at, self.clock));
        let scored_by = self.memory.scored_by(camera, &seen.places);
        let scene = Scene { scored_by, ..scene((camera.clone(), self.frames), at, sight) };
        seen.scene = Some(scene.clone());
        messages::say(&mut self.socket, &FromChild::Scene(scene))
    }

    fn tell_blind(
        &mut self,
        inbox: &Inbox,
        camera: Id,
        at: Moment,
        fault: CameraFault,
    ) -> std::io::Result<()> {
        if let Some(seen) = self.cameras.get_mut(&camera) {
            // What the big net says of an earlier frame must not make this one a sight.
            seen.scene = None;
            seen.doubted_since = None;
        }
        inbox.suspect(&camera, false);
        let scene = blind((camera, self.frames), at, fault);
        messages::say(&mut self.socket, &FromChild::Scene(scene))
    }

    /// Takes in what the big net has answered.
    fn amend(&mut self) -> std::io::Result<()> {
        let answers = self.cascade.get().map(Cascade::answers).unwrap_or_default();
        for Answered { doubt, answer, cpu_ms, joules } in answers {
            self.ledger.book_big(&doubt.camera, cpu_ms, joules);
            let Some(seen) = self.cameras.get_mut(&doubt.camera) else { continue };
            let verdict = seen.watch.answer(doubt.at, doubt.part, answer);
            let Some(scene) = seen.scene.as_mut().filter(|scene| scene.fault.is_none()) else {
                continue;
            };
            scene.verdict = verdict;
            scene.tier = Tier::Big;
            messages::say(&mut self.socket, &FromChild::Scene(scene.clone()))?;
        }
        Ok(())
    }

    /// Tells what it has cost so far, now and then.
    fn account(&mut self) -> std::io::Result<()> {
        let at = self.clock.now();
        let due = self.told.is_none_or(|told| {
            self.clock.wall_time(told.age_at(at)) >= self.clock.wall_time(TOLD_EVERY)
        });
        let altered = self.guard.as_mut().is_none_or(|guard| match guard.altered() {
            Some(file) if !self.ledger.altered => {
                tracing::error!(file = %file.display(), "a model file was altered");
                true
            }
            other => other.is_some(),
        });
        if !due && altered == self.ledger.altered {
            return Ok(());
        }
        for (camera, Seen { watch, places, .. }) in &mut self.cameras {
            self.memory.tend(camera, places, watch, at);
        }
        self.ledger.altered = altered;
        self.told = Some(at);
        (self.ledger.joules_per_cpu_s, self.ledger.metering) = self.meter.read();
        if let Some(cascade) = self.cascade.get() {
            cascade.tell(self.ledger.joules_per_cpu_s, self.duty.effort);
            self.ledger.big = Some(cascade.account());
        }
        messages::say(&mut self.socket, &FromChild::Ledger { ledger: self.ledger.clone(), at })
    }
}

fn scene((camera, frame): (Id, u64), at: Moment, sight: Sight) -> Scene {
    Scene {
        camera,
        frame,
        at,
        fire: sight.fire,
        smoke: sight.smoke,
        verdict: sight.verdict,
        tier: sight.tier,
        bays: sight.bays,
        scored_by: None,
        cpu_ms: sight.stages.sum(),
        fault: sight.fault,
    }
}

/// News of a camera without sight: doubtful at best, its bays unknown.
fn blind((camera, frame): (Id, u64), at: Moment, fault: CameraFault) -> Scene {
    Scene {
        camera,
        frame,
        at,
        fire: 0.0,
        smoke: 0.0,
        verdict: Verdict::Doubtful,
        tier: Tier::Small,
        bays: Vec::new(),
        scored_by: None,
        cpu_ms: 0.0,
        fault: Some(fault),
    }
}

#[cfg(test)]
mod tests;
