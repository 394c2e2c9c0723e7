//! The task of one link: decisions first, then polls that are due, one call at a time.
//!
//! ```text
//!   wait for: a decision | the next poll | shutdown
//!     └─▶ decision fresh and writing ─▶ every device obeys ─▶ polls that are due ─▶ wait
//!         decision older than 5 s    ─▶ every device gets the fallback
//!         never writing              ─▶ nothing is written
//! ```

use std::sync::Arc;
use std::sync::mpsc::TrySendError;
use std::time::Duration;

use tokio::sync::watch;

use super::Wiring;
use super::bus::Bus;
use super::device::Device;
use crate::config::{Address, DeviceConfig};
use crate::logic::decision::Decision;
use crate::logic::observation::Observation;
use crate::logic::safety::interlock::{self, Permitted};

/// A decision older than this is worth nothing: the fallback is written (design/house.md).
pub const DECISION_LIVES: Duration = Duration::from_secs(5);
/// How often every device is asked.
const PERIOD: Duration = Duration::from_secs(1);
/// Longest time for writing the fallback when the gateway stops.
const FAREWELL: Duration = Duration::from_secs(4);

/// Runs until shutdown.
pub async fn run(address: Address, devices: Vec<DeviceConfig>, mut wiring: Wiring) {
    let mut link = Link {
        bus: Bus::new(address),
        devices: devices.into_iter().map(Device::new).collect(),
        fallback: interlock::fallback(&wiring.site),
        has_written: false,
    };
    let mut next_poll = wiring.clock.now();
    loop {
        let now = wiring.clock.now();
        link.obey(&wiring).await;
        if now.uptime >= next_poll.uptime {
            link.poll(&mut wiring).await;
            let late = next_poll.age_at(wiring.clock.now());
            // Missed ticks are skipped, not queued.
            let periods = late.as_secs_f64() / PERIOD.as_secs_f64();
            next_poll = next_poll.after(PERIOD.mul_f64(periods.floor() + 1.0));
        }
        let wait = next_poll.uptime.saturating_sub(wiring.clock.now().uptime);
        let controller_gone = tokio::select! {
            () = wiring.clock.sleep(wait) => false,
            changed = wiring.decisions.changed() => changed.is_err(),
            () = stopped(&mut wiring.shutdown) => break,
        };
        if controller_gone {
            // The fallback follows once its last decision is too old.
            wiring.clock.sleep(wait.min(PERIOD)).await;
        }
    }
    link.say_farewell(&wiring).await;
}

async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, which is a stop as well.
    let _ = shutdown.wait_for(|stop| *stop).await;
}

struct Link {
    bus: Bus,
    devices: Vec<Device>,
    fallback: Permitted,
    /// Whether anything was ever written: only then is there something to fall back from.
    has_written: bool,
}

impl Link {
    /// The decision if it is fresh and may be written, the fallback if decisions have stopped.
    async fn obey(&mut self, wiring: &Wiring) {
        let decision: Option<Arc<Decision>> = wiring.decisions.borrow().clone();
        let Some(decision) = decision else {
            return;
        };
        let fresh = decision.at.age_at(wiring.clock.now()) < DECISION_LIVES;
        let permitted = match (fresh, decision.writing) {
            (true, true) => Some(&decision.permitted),
            (false, _) if self.has_written => None,
            _ => return,
        };
        self.has_written = true;
        for device in &mut self.devices {
            let done = match permitted {
                Some(permitted) => {
                    device.may_speak();
                    device.obey(&mut self.bus, &wiring.clock, permitted).await
                }
                None => device.fall_back(&mut self.bus, &wiring.clock, &self.fallback).await,
            };
            if let Some(observation) = done {
                send(wiring, observation);
            }
        }
    }

    async fn poll(&mut self, wiring: &mut Wiring) {
        for i in 0..self.devices.len() {
            if self.devices[i].keeps_silent(wiring.clock.now()) {
                continue;
            }
            let observation = self.devices[i].poll(&mut self.bus, &wiring.clock).await;
            send(wiring, observation);
            // A decision that came meanwhile goes before the next device's poll.
            if wiring.decisions.has_changed().unwrap_or(false) {
                wiring.decisions.mark_unchanged();
                self.obey(wiring).await;
            }
        }
    }

    /// Leaves every actuator at its fallback, if this gateway ever set it.
    async fn say_farewell(&mut self, wiring: &Wiring) {
        if !self.has_written {
            return;
        }
        let all = async {
            for device in &mut self.devices {
                device.obey(&mut self.bus, &wiring.clock, &self.fallback).await;
            }
        };
        if tokio::time::timeout(FAREWELL, all).await.is_err() {
            tracing::warn!("not every device took its fallback before the stop");
        }
    }
}

/// Hands an observation to the controller; when the controller is behind, it is dropped and said.
fn send(wiring: &Wiring, observation: Observation) {
    match wiring.observations.try_send(observation) {
        Ok(()) | Err(TrySendError::Disconnected(_)) => {}
        Err(TrySendError::Full(_)) => {
            tracing::warn!("the controller is behind: an observation was dropped");
        }
    }
}
