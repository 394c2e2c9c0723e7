//! A running simulated site: the world stepped in real time, every device on its own socket, and one
//! HTTP server for the camera, the truth and the fault switches.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::camera_server;
use crate::faults::Faults;
use crate::modbus_server::{self, Device};
use crate::physics::{Truth, World};
use crate::registers::Map;
use crate::scenario::Scenario;

/// How often the world moves, of wall time.
const TICK: Duration = Duration::from_millis(100);

/// How a site is started.
#[derive(Clone, Debug)]
pub struct Options {
    /// What happens.
    pub scenario: Scenario,
    /// The same seed gives the same world.
    pub seed: u64,
    /// How fast site time runs.
    pub speed: f64,
    /// First port: meter, piles, hybrid and HTTP follow each other. 0 takes any free ones.
    pub port: u16,
}

/// Where everything is.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// The grid meter, SDM630, unit 1.
    pub meter: SocketAddr,
    /// The piles, Alfen NG9xx, unit 1, by id.
    pub piles: Vec<(String, SocketAddr)>,
    /// The hybrid inverter, SunSpec, unit 1.
    pub hybrid: SocketAddr,
    /// Camera, truth and switches over HTTP.
    pub http: SocketAddr,
}

type Image = Vec<(u16, Vec<u16>)>;

/// The world and its switches, shared by the servers. Locks are held for a moment only.
pub struct Shared {
    world: Mutex<World>,
    faults: Mutex<BTreeMap<String, Faults>>,
    frozen: Mutex<BTreeMap<String, Image>>,
    noise: Mutex<fastrand::Rng>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Looks at or changes the world.
    pub fn with<T>(&self, f: impl FnOnce(&mut World) -> T) -> T {
        f(&mut lock(&self.world))
    }

    /// The fault switches of a device.
    #[must_use]
    pub fn faults(&self, device: &str) -> Faults {
        lock(&self.faults).get(device).copied().unwrap_or_default()
    }

    /// Sets the fault switches of a device.
    pub fn set_faults(&self, device: &str, faults: Faults) {
        lock(&self.frozen).remove(device);
        lock(&self.faults).insert(device.to_owned(), faults);
    }

    /// What a device would answer: live, or the same for ever while it is frozen.
    pub fn image(&self, name: &str, map: &Map, input: bool) -> Image {
        let live = || {
            let mut rng = lock(&self.noise);
            let mut noise = || rng.f64() * 2.0 - 1.0;
            map.image(&lock(&self.world), input, &mut noise)
        };
        if self.faults(name).frozen {
            return lock(&self.frozen).entry(name.to_owned()).or_insert_with(live).clone();
        }
        live()
    }
}

/// A running site; stops when dropped.
pub struct Site {
    addresses: Addresses,
    shared: Arc<Shared>,
    stepping: JoinHandle<()>,
}

impl Site {
    /// Where everything is.
    #[must_use]
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// The world and its switches.
    #[must_use]
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// What is true now.
    #[must_use]
    pub fn truth(&self) -> Truth {
        self.shared.with(|world| world.truth())
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.stepping.abort();
    }
}

/// Starts everything.
///
/// # Errors
/// When a port is taken.
pub async fn start(options: Options) -> io::Result<Site> {
    let shared = Arc::new(Shared {
        world: Mutex::new(World::new(options.scenario, options.seed)),
        faults: Mutex::default(),
        frozen: Mutex::default(),
        noise: Mutex::new(fastrand::Rng::with_seed(options.seed ^ 0x5eed)),
    });
    let mut next = options.port;
    let mut place = || {
        let port = next;
        next = if next == 0 { 0 } else { next + 1 };
        SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
    };
    let device = |name: &str, map: Map| Device {
        name: name.to_owned(),
        map,
        unit: 1,
        shared: Arc::clone(&shared),
    };
    let meter = modbus_server::serve(place(), device("grid", Map::Sdm630)).await?;
    let ids: Vec<String> = shared.with(|w| w.piles.iter().map(|p| p.id.clone()).collect());
    let mut piles = Vec::new();
    for (i, id) in ids.into_iter().enumerate() {
        let address = modbus_server::serve(place(), device(&id, Map::Alfen(i))).await?;
        piles.push((id, address));
    }
    let hybrid = modbus_server::serve(place(), device("hybrid", Map::Hybrid)).await?;
    let http = camera_server::serve(place(), Arc::clone(&shared)).await?;
    let stepping = tokio::spawn(step(Arc::clone(&shared), options.speed));
    Ok(Site { addresses: Addresses { meter, piles, hybrid, http }, shared, stepping })
}

/// Moves the world along with the wall clock; after a long pause it does not race to catch up.
#[allow(clippy::disallowed_methods)] // the simulators have no gateway clock
async fn step(shared: Arc<Shared>, speed: f64) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut last = tokio::time::Instant::now();
    loop {
        ticks.tick().await;
        let now = tokio::time::Instant::now();
        let passed = (now - last).min(Duration::from_secs(2));
        last = now;
        shared.with(|world| world.step(passed.as_secs_f64() * speed));
    }
}
