//! The latch's thread: writes what must survive a restart, as soon as it changes. The controller never
//! waits for it; it has acted already.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::thread::JoinHandle;
use std::time::Duration;

use super::breakage::{Breakage, Part};
use super::control::{RunError, named};
use crate::io::clock::Clock;
use crate::io::store::{Latch, Remembered};
use crate::logic::decision::Latched;
use crate::logic::observation::{Observation, Trouble};
use crate::logic::safety::fire::{LatchedZone, Level};
use crate::logic::site::{Id, Relay, RelayKind, Site};
use crate::units::Moment;

/// Pause before a write that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// What the controller is told at start: nothing latched, what was latched, or, when that cannot be
/// known, every zone tripped.
#[must_use]
pub fn at_start(remembered: Remembered, site: &Site, now: Moment) -> (Latched, bool) {
    match remembered {
        Remembered::Nothing => (Latched::default(), false),
        Remembered::Latched(latched) => (latched, false),
        Remembered::Unreadable => {
            let has_feeder = |zone: &Id| {
                let feeds = |r: &Relay| r.kind == RelayKind::Feeder && r.zones.contains(zone);
                site.guard.relays.iter().any(feeds)
            };
            // Whether a contactor was open nobody can say: it must not close again by itself.
            let tripped = |zone: &Id| LatchedZone {
                level: Level::Trip,
                since: now.utc,
                isolate: true,
                feeder: has_feeder(zone),
            };
            let zones = site.zones.iter().map(|z| (z.id.clone(), tripped(&z.id))).collect();
            (Latched { zones, ..Latched::default() }, true)
        }
    }
}

/// Starts the thread; it ends when the controller's side of `inbox` is gone.
///
/// # Errors
/// When the thread cannot start.
pub fn keep(
    latch: Latch,
    inbox: Receiver<Latched>,
    (observations, breakage): (SyncSender<Observation>, Breakage),
    clock: Clock,
) -> Result<JoinHandle<()>, RunError> {
    let mut keeper = Keeper { latch, observations, clock, failing: false };
    named("latch", move || {
        while let Ok(newest) = inbox.recv() {
            breakage.strike(Part::Latch);
            keeper.write(newest, &inbox);
        }
    })
}

struct Keeper {
    latch: Latch,
    observations: SyncSender<Observation>,
    clock: Clock,
    failing: bool,
}

impl Keeper {
    /// Tries until it is written, always with the newest.
    fn write(&mut self, mut newest: Latched, inbox: &Receiver<Latched>) {
        loop {
            match self.latch.write(&newest) {
                Ok(()) => {
                    self.tell(false);
                    return;
                }
                Err(error) => {
                    if !self.failing {
                        tracing::error!(%error, "the latch cannot be written: an alarm would not survive a restart");
                    }
                    self.tell(true);
                }
            }
            match inbox.recv_timeout(RETRY) {
                Ok(newer) => newest = newer,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn tell(&mut self, failing: bool) {
        if failing != self.failing {
            let at = self.clock.now();
            let trouble = Observation::Trouble { trouble: Trouble::LatchFault, holds: failing, at };
            // Told again at the next try if the controller is behind.
            if self.observations.try_send(trouble).is_ok() {
                self.failing = failing;
            }
        }
    }
}
