//! The task of one link: of everything that its devices need now, the most urgent goes next, one request
//! at a time.
//!
//! ```text
//!   due now?  setpoints > their read backs > renewals > looks > reads > slow reads > probes ─▶ one request ─┐
//!      ▲  nothing due: wait for a decision, the next due moment, or the stop                              │
//!      └───────────────────────────────────────────────────────────────────────────────────────────────────┘
//!   decision fresh and writing: devices obey it; older than 5 s: they get the fallback; never writing:
//!   nothing is written
//! ```
//! What a stranger gets wrong: the newest decision is looked at before every single request, so that a
//! setpoint waits for one answer at most, however many reads are due. An absent unit is probed only where
//! the others leave a pause, or after it has waited for fifteen seconds. Units of one line are read one after the
//! other with a little time between, so that a unit which dies costs its neighbour almost nothing; they leave
//! half of the period for probes.

use std::sync::Arc;
use std::sync::mpsc::TrySendError;
use std::time::Duration;

use tokio::sync::watch;

use super::Wiring;
use super::bus::Bus;
use super::device::{Device, Rank};
use crate::io::clock::Clock;
use crate::logic::decision::Decision;
use crate::logic::observation::Observation;
use crate::logic::safety::interlock::{self, Permitted};
use crate::units::Moment;

/// A decision older than this is worth nothing: the fallback is written (design/house.md).
pub const DECISION_LIVES: Duration = Duration::from_secs(5);
/// Longest wait for anything; a controller that is gone is looked for this often.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// Longest time for writing the fallback when the gateway stops.
const FAREWELL: Duration = Duration::from_secs(4);
/// An absent unit that found no pause among the others for this long is probed all the same.
const PROBE_AT_LAST: Duration = Duration::from_secs(15);
/// A probe takes so much longer than it waits: the silence after it, and what is sent.
const PROBE_MORE: Duration = Duration::from_millis(60);
/// So long a stop waits for a pause that goes to an absent unit: those that forget soonest do after 6 s. And so long
/// waits what is asked of a unit again that did not answer in haste. Our own figure.
const ASKED_AT_LAST: Duration = Duration::from_secs(2);

/// So far apart units of one line are read, wall time: what a unit that does not answer costs the next one, the
/// silence after it (FB5) and a little more. Our own figure.
const APART: Duration = Duration::from_millis(60);

/// Runs until shutdown.
pub async fn run(bus: Bus, devices: Vec<Device>, mut wiring: Wiring) {
    let fallback = interlock::fallback(&wiring.site);
    let mut link = Link { bus, devices, fallback, has_written: false };
    link.line_up(&wiring.clock);
    loop {
        let wait = link.work(&wiring).await;
        if wait.is_zero() {
            if *wiring.shutdown.borrow() {
                break;
            }
            continue;
        }
        let controller_gone = tokio::select! {
            () = wiring.clock.sleep(wait) => false,
            changed = wiring.decisions.changed() => changed.is_err(),
            () = stopped(&mut wiring.shutdown) => break,
        };
        if controller_gone {
            // The fallback follows once its last decision is too old.
            wiring.clock.sleep(wait).await;
        }
    }
    link.say_farewell(&wiring).await;
}

async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, which is a stop as well.
    let _ = shutdown.wait_for(|stop| *stop).await;
}

/// What the devices are told now.
enum Orders {
    /// Nothing.
    Nothing,
    /// A fresh decision.
    Decided(Arc<Decision>),
    /// Decisions have stopped.
    Fallback,
}

/// Something that a device needs.
#[derive(Clone, Copy)]
struct Need {
    rank: Rank,
    at: Moment,
    device: usize,
    writes: bool,
}

struct Link {
    bus: Bus,
    devices: Vec<Device>,
    fallback: Permitted,
    /// Whether anything was ever written: only then is there something to fall back from.
    has_written: bool,
}

impl Link {
    /// Gives each unit its own moment of the period, where several share the line.
    fn line_up(&mut self, clock: &Clock) {
        let Some(period) = self.devices.iter().map(Device::period).min() else {
            return;
        };
        let (now, units) = (clock.now(), self.devices.len() as u32);
        let apart = APART.mul_f64(clock.speed()).min(period / 2 / units);
        for (place, device) in (0..units).zip(&mut self.devices) {
            device.start_at(now.after(apart * place));
        }
    }

    /// Makes the most urgent request that is due. How long nothing is due after it, site time; zero when
    /// something was done.
    async fn work(&mut self, wiring: &Wiring) -> Duration {
        let orders = self.orders(wiring);
        let now = wiring.clock.now();
        let needs = self.needs(&orders, wiring, now);
        let due = |need: &&Need| need.at.uptime <= now.uptime;
        let possible = needs
            .iter()
            .filter(due)
            .filter(|need| need.rank != Rank::Probe || self.finds_pause(need, &needs, wiring));
        // Who is there goes before who is not: a stop does not wait for the time-outs of the dead.
        let first =
            |need: &&Need| (need.rank, self.devices[need.device].is_absent(), need.at.uptime);
        if let Some(need) = possible.min_by_key(first).copied() {
            let pause = pause_beside(&need, &needs, wiring, now);
            self.serve(need, pause, &orders, wiring).await;
            return Duration::ZERO;
        }
        let later = needs.iter().filter(|need| need.at.uptime > now.uptime);
        let wait = later.map(|need| need.at.uptime.saturating_sub(now.uptime)).min();
        wait.unwrap_or(LONGEST_WAIT).clamp(Duration::from_millis(1), LONGEST_WAIT)
    }

    /// The decision if it is fresh and may be written, the fallback if decisions have stopped.
    fn orders(&mut self, wiring: &Wiring) -> Orders {
        let Some(decision) = wiring.decisions.borrow().clone() else {
            return Orders::Nothing;
        };
        let fresh = decision.at.age_at(wiring.clock.now()) < DECISION_LIVES;
        match (fresh, decision.writing) {
            (true, true) => {
                self.has_written = true;
                self.devices.iter_mut().for_each(|device| device.hear(&decision.permitted));
                Orders::Decided(decision)
            }
            (false, _) if self.has_written => {
                self.fallback = interlock::fall_from(&wiring.site, &decision.permitted);
                Orders::Fallback
            }
            _ => Orders::Nothing,
        }
    }

    fn permitted<'a>(&'a self, orders: &'a Orders) -> Option<&'a Permitted> {
        match orders {
            Orders::Nothing => None,
            Orders::Decided(decision) => Some(&decision.permitted),
            Orders::Fallback => Some(&self.fallback),
        }
    }

    fn needs(&self, orders: &Orders, wiring: &Wiring, now: Moment) -> Vec<Need> {
        let permitted = self.permitted(orders);
        let mut needs = Vec::with_capacity(self.devices.len() * 2);
        for (i, device) in self.devices.iter().enumerate() {
            let line = (&self.bus, &wiring.clock);
            let write = permitted.and_then(|permitted| device.next_told(permitted, line, now));
            needs.extend(write.map(|(at, rank)| Need { rank, at, device: i, writes: true }));
            let (at, rank) = device.next_read(&self.bus, &wiring.clock, now);
            needs.push(Need { rank, at, device: i, writes: false });
        }
        needs
    }

    /// Whether a probe is over before anybody else needs the line.
    fn finds_pause(&self, probe: &Need, needs: &[Need], wiring: &Wiring) -> bool {
        let now = wiring.clock.now();
        let device = &self.devices[probe.device];
        let soon = probe.writes || device.is_doubted();
        let at_last = if soon { ASKED_AT_LAST } else { PROBE_AT_LAST };
        if probe.at.age_at(now) >= at_last {
            return true;
        }
        let wait = device.patience(Rank::Probe, self.bus.habits());
        pause_beside(probe, needs, wiring, now) >= wait
    }

    async fn serve(&mut self, need: Need, pause: Duration, orders: &Orders, wiring: &Wiring) {
        let mut told = Vec::new();
        let device = &mut self.devices[need.device];
        let (bus, clock) = (&mut self.bus, &wiring.clock);
        bus.wait_at_most(Some(device.waits(need.rank, bus.habits(), pause)));
        match (need.writes, orders) {
            (true, Orders::Decided(decision)) => {
                device.obey(bus, clock, &decision.permitted, &mut told).await;
            }
            (true, Orders::Fallback) => {
                device.fall_back(bus, clock, &self.fallback, &mut told).await;
            }
            _ => device.read(bus, clock, &mut told).await,
        }
        bus.wait_at_most(None);
        for observation in told {
            if let Err(lost) = send(wiring, observation) {
                device.was_not_heard(&lost);
            }
        }
    }

    /// Leaves every actuator at its fallback, if this gateway ever set it.
    async fn say_farewell(&mut self, wiring: &Wiring) {
        if !self.has_written {
            return;
        }
        if let Some(decision) = wiring.decisions.borrow().as_ref() {
            self.fallback = interlock::fall_from(&wiring.site, &decision.permitted);
        }
        let all = async {
            self.devices.iter_mut().for_each(Device::forget_read_back);
            let mut left: Vec<&mut Device> = self.devices.iter_mut().collect();
            // A step of each in turn: all are told before the first has settled.
            while !left.is_empty() {
                let mut unfinished = Vec::with_capacity(left.len());
                for device in left {
                    if device.leave_at(&mut self.bus, &wiring.clock, &self.fallback).await {
                        unfinished.push(device);
                    }
                }
                left = unfinished;
            }
        };
        if tokio::time::timeout(FAREWELL, all).await.is_err() {
            tracing::warn!("not every device took its fallback before the stop");
        }
    }
}

/// How long, wall time, an answer can be waited for before any other unit needs the line; for ever where none does.
fn pause_beside(one: &Need, needs: &[Need], wiring: &Wiring, now: Moment) -> Duration {
    let others = needs.iter().filter(|need| need.rank != Rank::Probe && need.device != one.device);
    let next = others.map(|need| need.at.uptime.saturating_sub(now.uptime)).min();
    next.map_or(Duration::MAX, |next| wiring.clock.wall_time(next).saturating_sub(PROBE_MORE))
}

/// Hands an observation to the controller.
///
/// # Errors
/// The observation, when the controller is behind: it is dropped and said.
fn send(wiring: &Wiring, observation: Observation) -> Result<(), Box<Observation>> {
    match wiring.observations.try_send(observation) {
        Ok(()) | Err(TrySendError::Disconnected(_)) => Ok(()),
        Err(TrySendError::Full(lost)) => {
            tracing::warn!("the controller is behind: an observation was dropped");
            Err(Box::new(lost))
        }
    }
}

#[cfg(test)]
mod tests;
