//! The field bus: one task owns each link (one TCP connection) and all devices behind it. It reads
//! every device each second, writes what the decision permits before it reads on, renews what would
//! expire, and writes the fallback when decisions stop coming.
//!
//! What a stranger gets wrong: device tasks do not wait for the controller. They hold the newest
//! decision they have seen and judge its age themselves, so a hung controller cannot keep a setpoint
//! alive.

mod blocks;
mod bus;
mod codec;
mod device;
mod outputs;
mod readings;
mod sunspec;
mod task;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use bus::BusError;
pub use task::DECISION_LIVES;

use crate::config::{Address, DeviceConfig};
use crate::io::clock::Clock;
use crate::logic::decision::Decision;
use crate::logic::observation::Observation;
use crate::logic::site::Site;

/// What the field bus needs from the rest of the house.
#[derive(Clone)]
pub struct Wiring {
    /// The site, for the fallback.
    pub site: Arc<Site>,
    /// Site time.
    pub clock: Clock,
    /// Where observations go; bounded, never waited for.
    pub observations: SyncSender<Observation>,
    /// The newest decision.
    pub decisions: watch::Receiver<Option<Arc<Decision>>>,
    /// Becomes true when the gateway stops.
    pub shutdown: watch::Receiver<bool>,
}

/// Starts one task for each link. The tasks end after `shutdown`, having written the fallback.
#[must_use]
pub fn start(devices: &[DeviceConfig], wiring: &Wiring) -> Vec<JoinHandle<()>> {
    let mut links: BTreeMap<Address, Vec<DeviceConfig>> = BTreeMap::new();
    for device in devices {
        links.entry(device.address.clone()).or_default().push(device.clone());
    }
    let start = |(address, devices)| tokio::spawn(task::run(address, devices, wiring.clone()));
    links.into_iter().map(start).collect()
}
