//! What the control thread tells of its life: to the service manager after each completed cycle, and to
//! the memory of starts once this one has lasted.
//!
//! What a stranger gets wrong: the manager hears nothing while the field bus stands still, so that a bus
//! that hangs ends in a restart as well.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::breakage::{Breakage, Part};
use super::service::Service;
use super::storm::{self, Start};
use crate::io::clock::Clock;
use crate::units::Moment;

/// The field bus counts as stuck when it has not moved for so long.
const BUS_STUCK: Duration = Duration::from_secs(5);

/// Time since boot as a plain number, ms.
pub(super) fn millis(now: Moment) -> u64 {
    u64::try_from(now.uptime.as_millis()).unwrap_or(u64::MAX)
}

/// What the control thread tells of its life, and to whom.
pub(super) struct Life {
    service: Service,
    /// When the field bus moved last, ms since boot.
    bus_moves: Arc<AtomicU64>,
    start: Option<Start>,
    began: Moment,
    breakage: Breakage,
}

impl Life {
    pub(super) fn new(bus_moves: Arc<AtomicU64>, start: Start, breakage: Breakage) -> Life {
        let (service, began) = (Service::from_environment(), Clock::real().now());
        Life { service, bus_moves, start: Some(start), began, breakage }
    }

    /// A cycle was completed; `writing`: what it decided may be written.
    pub(super) fn completed_cycle(&mut self, writing: bool) {
        let now = Clock::real().now();
        let still = millis(now).saturating_sub(self.bus_moves.load(Ordering::Relaxed));
        if Duration::from_millis(still) < BUS_STUCK {
            self.service.completed_cycle();
        }
        if writing || self.began.age_at(now) >= storm::LASTED {
            // Not here: the control thread waits for no disk.
            let forget = |start: Start| std::thread::spawn(move || start.forget(now.uptime));
            self.start.take().map(forget);
        }
        self.breakage.strike(Part::Control);
    }
}
