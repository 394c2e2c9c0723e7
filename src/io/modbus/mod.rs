//! The field bus: one task owns each link (one TCP or TLS connection, one serial port) and all devices
//! behind it. It reads every device each second, writes what the decision permits before it reads on,
//! renews what would expire, and writes the fallback when decisions stop coming. Others may read from its
//! cache.
//!
//! What a stranger gets wrong: device tasks do not wait for the controller. They hold the newest
//! decision they have seen and judge its age themselves, so a hung controller cannot keep a setpoint
//! alive.

mod blocks;
mod bus;
pub mod codec;
mod copies;
mod curtailing;
#[cfg(test)]
mod damage;
mod decoder;
mod device;
mod doubts;
mod fit;
mod habits;
mod health;
mod identity;
#[cfg(test)]
mod images;
mod inspect;
mod line;
mod lookout;
mod order;
mod outputs;
mod patience;
mod phases;
mod prompt;
mod readings;
mod rota;
pub mod scan;
mod server;
mod storage;
mod sunspec;
mod task;
mod telling;
mod walking;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use bus::{Bus, BusError, Pace};
pub use codec::Raw;
pub use fit::{Hypothesis, Verdict};
pub use identity::client as tls_identity;
pub use inspect::{Inspector, Seen, Told, tell};
pub use line::Wire;
pub use task::DECISION_LIVES;
pub use telling::Counter;

use crate::config::{Address, DeviceConfig, FieldBus};
use crate::io::clock::Clock;
use crate::logic::decision::Decision;
use crate::logic::observation::Observation;
use crate::logic::site::Site;
use device::Device;
use server::{Library, Shelf};

/// What the field bus needs from the rest of the house.
#[derive(Clone)]
pub struct Wiring {
    /// Its own tables of the site file.
    pub fieldbus: FieldBus,
    /// The site, for the fallback.
    pub site: Arc<Site>,
    /// Site time.
    pub clock: Clock,
    /// Where observations go; bounded, never waited for.
    pub observations: SyncSender<Observation>,
    /// The newest decision.
    pub decisions: watch::Receiver<Option<Arc<Decision>>>,
    /// How often each register was written since ever: `device/address`, zero-based.
    pub writes: Counter,
    /// Becomes true when the gateway stops.
    pub shutdown: watch::Receiver<bool>,
}

/// Requests that one read of a whole device takes.
#[must_use]
pub fn requests(profile: &crate::config::Profile) -> usize {
    blocks::compile(profile).len()
}

/// Starts one task for each link, and the caching server where it is wanted. The tasks end after
/// `shutdown`, having written the fallback.
#[must_use]
pub fn start(devices: &[DeviceConfig], wiring: &Wiring) -> Vec<JoinHandle<()>> {
    let mut links: BTreeMap<Address, Vec<DeviceConfig>> = BTreeMap::new();
    for device in devices {
        links.entry(device.address.clone()).or_default().push(device.clone());
    }
    let identity = wiring.fieldbus.identity.as_ref().map(identity::client);
    if let Some(Err(cause)) = &identity {
        tracing::error!(%cause, "no device can be reached over TLS");
    }
    let mut views = BTreeMap::new();
    let mut tasks = Vec::new();
    for (address, configs) in links {
        let shared = configs.len() > 1;
        let device = |config: DeviceConfig| {
            let shelf = config.serve_as.map(|unit| {
                let (shelf, view) = Shelf::new();
                views.insert(unit, view);
                shelf
            });
            Device::new(config, shared, shelf).counting(wiring.writes.clone())
        };
        let devices = configs.into_iter().map(device).collect();
        let bus = Bus::with_tls(address, identity.clone());
        tasks.push(tokio::spawn(task::run(bus, devices, wiring.clone())));
    }
    if let Some(server) = &wiring.fieldbus.server {
        let (views, clock) = (Arc::new(views), wiring.clock);
        let allow = server.allow.as_slice().into();
        let library = Library { views, max_age: server.max_age, allow, clock };
        let serving = server::serve(server.listen, library, wiring.shutdown.clone());
        tasks.push(tokio::spawn(serving));
    }
    tasks
}
