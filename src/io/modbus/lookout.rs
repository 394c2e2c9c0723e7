//! Who else writes to a device (FB14): the setpoint that its periodic read shows is compared, and what that read
//! does not show is looked at, the registers of a battery's recipe and the switches that pause a charger.
//!
//! What a stranger gets wrong: of what is only looked at nobody knows what the other wants, so nothing yields to
//! it. It is told again, and the finding raises the alarm. Each look is one register and one request. Who writes
//! just before a renewal is overwritten unseen.

use std::time::Duration;

use super::bus::{Bus, BusError};
use super::codec::Raw;
use super::device::{Device, Rank};
use super::order::{Step, Want};
use super::readings::Values;
use super::storage::Write;
use crate::config::{Fixed, ProfileKind, SetpointRecipe, Table};
use crate::io::clock::Clock;
use crate::units::Moment;

/// All registers are looked at once in this time: FB14 leaves two seconds until they are written again.
const ROUND: Duration = Duration::from_millis(1500);

/// Which register is looked at next, and when the last one was.
#[derive(Debug, Default)]
pub struct Lookout {
    next: usize,
    looked: Option<Moment>,
}

/// The switches that show a pause. A token is in both lists, and few devices show it again.
pub fn switches(recipe: &SetpointRecipe) -> impl Iterator<Item = &Fixed> {
    recipe.pause.iter().filter(|fixed| !recipe.before.contains(fixed))
}

impl Device {
    /// What stands in registers that only a look shows.
    fn looked_after(&self) -> Vec<Write> {
        match (self.config.profile.kind, &self.config.profile.setpoint) {
            (ProfileKind::Battery, _) if self.order.is_held() => self.script.told().to_vec(),
            (_, Some(recipe)) if self.order.is_paused() => {
                switches(recipe).map(|fixed| (fixed.address, vec![fixed.value])).collect()
            }
            _ => Vec::new(),
        }
    }

    /// The next step of the order, or a look before it. Who is absent is only probed.
    pub(super) fn next_step(&self, want: &Want, now: Moment) -> (Moment, Rank, Step) {
        let next = self.order.next(want, now);
        let (at, rank, _) = next;
        if rank != Rank::Renewal || self.health.is_absent() || self.health.is_doubted() {
            return next;
        }
        let registers = self.looked_after().len();
        let Ok(parts @ 1..) = u32::try_from(registers) else {
            return next;
        };
        let look = self.lookout.looked.map_or(now, |looked| looked.after(ROUND / parts));
        if look.uptime < at.uptime { (look, Rank::Look, Step::Look) } else { next }
    }

    /// Looks at the next register; notices when it holds something else than it was told.
    pub(super) async fn look(&mut self, bus: &mut Bus, clock: &Clock) {
        let asked = clock.now();
        self.lookout.looked = Some(asked);
        let registers = self.looked_after();
        let Some((address, words)) = registers.get(self.lookout.next % registers.len().max(1))
        else {
            return;
        };
        self.lookout.next = (self.lookout.next + 1) % registers.len();
        let span = (*address, words.len() as u16);
        match bus.read(self.config.unit, Table::Holding, span, self.pace).await {
            Ok(held) if held == *words => {}
            Ok(held) => {
                self.notice_other(&format!("{address} holds {held:?}"), (asked, bus.made()))
            }
            Err(BusError::Timeout(_)) if self.in_haste => self.health.doubt(),
            Err(error) => self.health.not_told(&error, clock.now()),
        }
    }

    /// Something else than what was told stands in the device; what the other wants is not known.
    pub(super) fn notice_other(&mut self, held: &str, at: (Moment, u64)) {
        if self.order.notice(f64::NAN, 0.0, at) {
            let device = self.config.id.as_str();
            tracing::warn!(device, held, "somebody else writes to the device");
        }
    }

    /// The device holds another setpoint than the last one written: it is written again (FB11, FB14).
    pub(super) fn notice_foreign_value(&mut self, values: &Values, made: u64) {
        let shown = self.setpoint_quantity();
        let (Some(recipe), Some(Raw::Number(held)), Some(asked)) =
            (&self.config.profile.setpoint, values.get(shown), self.asked(shown))
        else {
            return;
        };
        if self.order.is_paused() && !recipe.pause.is_empty() {
            // A switch that pauses leaves the setpoint as it was.
            return;
        }
        if self.order.notice(*held, recipe.step_a / 2.0, (asked, made)) {
            let device = self.config.id.as_str();
            tracing::warn!(device, held, "somebody else has changed the setpoint");
        }
        self.order.adopt(*held, recipe.spacing_s(), (asked, made));
    }
}
