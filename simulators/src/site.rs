//! A running simulated site: the world stepped in real time, every device on its own socket, and one
//! HTTP server for the camera, the truth and the fault switches.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::camera_server;
use crate::faults::Faults;
use crate::modbus_server::{self, Device, Line};
use crate::physics::{Truth, World};
use crate::profile::Profile;
use crate::registers::{Map, Profiled};
use crate::scenario::{Make, PileSpec, Scenario};

/// How often the world moves, of its own time; but not more often than [`LEAST_TICK`] of wall time.
const TICK: Duration = Duration::from_millis(100);
const LEAST_TICK: Duration = Duration::from_millis(5);

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
    /// The piles.
    pub piles: Vec<PileAt>,
    /// The hybrid inverter, SunSpec, unit 1.
    pub hybrid: SocketAddr,
    /// Compute node, if there is one.
    pub node: Option<SocketAddr>,
    /// Input/output module, if there is one.
    pub module: Option<SocketAddr>,
    /// Cameras, truth and switches over HTTP.
    pub http: SocketAddr,
}

/// One pile on the wire.
#[derive(Clone, Debug)]
pub struct PileAt {
    /// Its id.
    pub id: String,
    /// Whose register map it has.
    pub make: Make,
    /// Where it listens.
    pub address: SocketAddr,
    /// Unit id.
    pub unit: u8,
    /// Grid phase (1 to 3) behind each of its own phases.
    pub rotation: [usize; 3],
}

type Image = Vec<(u16, Vec<u16>)>;

/// Why a fault switch was not set.
#[derive(Debug, thiserror::Error)]
pub enum FaultError {
    /// No such device.
    #[error("there is no device `{0}`; there are {1}")]
    Unknown(String, String),
    /// The set makes no sense.
    #[error("{0}")]
    Nonsense(String),
}

/// A device as the switches know it.
struct Wire {
    map: Map,
    line: watch::Sender<Line>,
    /// The line as its server has made it; behind a bridge nobody does.
    made: watch::Sender<Line>,
}

/// The world and its switches, shared by the servers. Locks are held for a moment only.
pub struct Shared {
    world: Mutex<World>,
    wires: BTreeMap<String, Wire>,
    faults: Mutex<BTreeMap<String, Faults>>,
    frozen: Mutex<BTreeMap<(String, bool), Image>>,
    noise: Mutex<fastrand::Rng>,
    heard: Mutex<BTreeMap<String, Heard>>,
}

/// What a device has been asked since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// Requests of any kind.
    pub requests: u64,
    /// Writes among them.
    pub writes: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// A world and its devices by their names, nothing wrong with any of them.
    pub(crate) fn new(world: World, maps: Vec<(String, Map)>, seed: u64) -> Arc<Shared> {
        let line = || watch::Sender::new(Line::default());
        let wire = |(name, map)| (name, Wire { map, line: line(), made: line() });
        Arc::new(Shared {
            world: Mutex::new(world),
            wires: maps.into_iter().map(wire).collect(),
            faults: Mutex::default(),
            frozen: Mutex::default(),
            noise: Mutex::new(fastrand::Rng::with_seed(seed ^ 0x5eed)),
            heard: Mutex::default(),
        })
    }

    /// Looks at or changes the world.
    pub fn with<T>(&self, f: impl FnOnce(&mut World) -> T) -> T {
        f(&mut lock(&self.world))
    }

    /// The fault switches of a device.
    #[must_use]
    pub fn faults(&self, device: &str) -> Faults {
        lock(&self.faults).get(device).copied().unwrap_or_default()
    }

    /// Names of the devices: `grid`, `hybrid` and the piles' ids.
    pub fn devices(&self) -> impl Iterator<Item = &str> {
        self.wires.keys().map(String::as_str)
    }

    /// Sets the fault switches of a device; the set that was there is replaced.
    ///
    /// # Errors
    /// When there is no such device, or the set makes no sense; then nothing changes.
    pub fn set_faults(&self, device: &str, faults: Faults) -> Result<(), FaultError> {
        let Some(wire) = self.wires.get(device) else {
            let known: Vec<&str> = self.devices().collect();
            return Err(FaultError::Unknown(device.to_owned(), known.join(", ")));
        };
        if let Some(complaint) = faults.complaint() {
            return Err(FaultError::Nonsense(complaint));
        }
        if faults.foreign_a.is_some() && !wire.map.is_charger() {
            return Err(FaultError::Nonsense("`foreign_a` is for chargers".to_owned()));
        }
        lock(&self.frozen).retain(|(name, _), _| name != device);
        lock(&self.faults)
            .insert(device.to_owned(), Faults { reboot: false, foreign_a: None, ..faults });
        self.with(|world| {
            wire.map.set_deaf(world, faults.ignores_setpoint);
            wire.map.set_stuck(world, faults.ignores_phases);
            if faults.reboot {
                wire.map.reboot(world);
            }
            if let Some(amps) = faults.foreign_a {
                wire.map.tell(world, f64::from(amps));
            }
        });
        wire.line.send_modify(|line| {
            line.reachable = !faults.unreachable;
            line.cuts += u64::from(faults.reboot);
        });
        Ok(())
    }

    /// Waits until the device's sockets are as its switches say: who asks after this is refused, or answered again.
    pub async fn settled(&self, device: &str) {
        let Some(wire) = self.wires.get(device).filter(|wire| wire.line.receiver_count() > 0)
        else {
            return;
        };
        let mut made = wire.made.subscribe();
        let _ = made.wait_for(|made| *made == *wire.line.borrow()).await;
    }

    /// The server of the device's line has made this of it.
    pub(crate) fn made(&self, device: &str, line: Line) {
        if let Some(wire) = self.wires.get(device) {
            wire.made.send_replace(line);
        }
    }

    fn line(&self, device: &str) -> Option<watch::Receiver<Line>> {
        self.wires.get(device).map(|wire| wire.line.subscribe())
    }

    /// What a device has been asked since the start.
    #[must_use]
    pub fn heard(&self, device: &str) -> Heard {
        lock(&self.heard).get(device).copied().unwrap_or_default()
    }

    /// Counts a request.
    pub(crate) fn hear(&self, device: &str, write: bool) {
        let mut heard = lock(&self.heard);
        let heard = heard.entry(device.to_owned()).or_default();
        heard.requests += 1;
        heard.writes += u64::from(write);
    }

    /// Draws from the noise of the wires.
    pub fn noise<T>(&self, draw: impl FnOnce(&mut fastrand::Rng) -> T) -> T {
        draw(&mut lock(&self.noise))
    }

    /// What a device would answer: live, or the same for ever while it is frozen.
    pub fn image(&self, name: &str, map: &Map, input: bool) -> Image {
        let live = || {
            let mut rng = lock(&self.noise);
            let mut noise = || rng.f64() * 2.0 - 1.0;
            map.image(&lock(&self.world), input, &mut noise)
        };
        if let Some(word) = self.faults(name).garbage {
            let all = |(first, words): (u16, Vec<u16>)| (first, vec![word; words.len()]);
            return live().into_iter().map(all).collect();
        }
        if self.faults(name).frozen {
            let key = (name.to_owned(), input);
            return lock(&self.frozen).entry(key).or_insert_with(live).clone();
        }
        live()
    }
}

/// A running site; stops when dropped.
pub struct Site {
    addresses: Addresses,
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
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

    /// Stops the world, closes the sockets. Dropping does the same.
    pub fn stop(self) {}
}

impl Drop for Site {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Starts everything.
///
/// # Errors
/// When a port is taken.
pub async fn start(options: Options) -> io::Result<Site> {
    let specs = options.scenario.piles.clone();
    let world = World::new(options.scenario, options.seed);
    let ids: Vec<String> = world.piles.iter().map(|pile| pile.id.clone()).collect();
    let piles: Vec<(String, PileSpec)> = ids.into_iter().zip(specs).collect();
    let mut maps = vec![("grid".to_owned(), Map::Sdm630), ("hybrid".to_owned(), Map::Hybrid)];
    let map = |(i, (id, spec)): (usize, &(String, PileSpec))| (id.clone(), Map::Pile(i, spec.make));
    if world.node.is_some() {
        maps.push(("node".to_owned(), Map::Node));
    }
    if world.module.is_some() {
        maps.push(("module".to_owned(), Map::Module));
    }
    let (has_node, has_module) = (world.node.is_some(), world.module.is_some());
    maps.extend(piles.iter().enumerate().map(map));
    let shared = Shared::new(world, maps, options.seed);
    let mut next = options.port;
    let mut place = || {
        let port = next;
        next = if next == 0 { 0 } else { next.saturating_add(1) };
        SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
    };
    let mut tasks = Vec::new();
    let meter = plug_in(place(), ("grid", 1), &shared, &mut tasks).await?;
    let mut plugged = Vec::new();
    for (i, (id, PileSpec { make, rotation })) in piles.into_iter().enumerate() {
        let unit = Map::Pile(i, make).unit();
        let address = plug_in(place(), (&id, unit), &shared, &mut tasks).await?;
        plugged.push(PileAt { id, make, address, unit, rotation });
    }
    let hybrid = plug_in(place(), ("hybrid", 1), &shared, &mut tasks).await?;
    let node = match has_node {
        true => Some(plug_in(place(), ("node", 1), &shared, &mut tasks).await?),
        false => None,
    };
    let module = match has_module {
        true => Some(plug_in(place(), ("module", 1), &shared, &mut tasks).await?),
        false => None,
    };
    let (http, serving) = camera_server::serve(place(), Arc::clone(&shared)).await?;
    tasks.push(serving);
    tasks.push(tokio::spawn(step(Arc::clone(&shared), options.speed)));
    let addresses = Addresses { meter, piles: plugged, hybrid, node, module, http };
    Ok(Site { addresses, shared, tasks })
}

/// One device alone on a wire, with a world of its own behind it.
pub struct Lone {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its unit id.
    pub unit: u8,
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

impl Lone {
    /// The world and the switches; the device is called `device`.
    #[must_use]
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

impl Drop for Lone {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Starts one device made from a profile on `address`, with a car at its plug.
///
/// # Errors
/// When the port is taken.
pub async fn start_lone(
    profile: Profile,
    address: SocketAddr,
    (seed, speed): (u64, f64),
) -> io::Result<Lone> {
    let mut world = World::new(Scenario::sunny_day(), seed);
    world.set_plugged("bay1", Some(true));
    let map = match profile.kind.as_str() {
        "sunspec_hybrid" => Map::Hybrid,
        "sunspec_meter" => Map::SunspecMeter,
        _ => {
            let device = Profiled::new(profile);
            device.settle_in(&mut world);
            Map::Profiled(Arc::new(device))
        }
    };
    let unit = map.unit();
    let name = "device";
    let shared = Shared::new(world, vec![(name.to_owned(), map)], seed);
    let mut tasks = Vec::new();
    let address = plug_in(address, (name, unit), &shared, &mut tasks).await?;
    tasks.push(tokio::spawn(step(Arc::clone(&shared), speed)));
    Ok(Lone { address, unit, shared, tasks })
}

/// A device of the world under a unit id.
pub(crate) fn device(name: &str, map: &Map, unit: u8, shared: &Arc<Shared>) -> Device {
    Device { name: name.to_owned(), map: map.clone(), unit, shared: Arc::clone(shared) }
}

/// Puts a device on the wire.
pub(crate) async fn plug_in(
    address: SocketAddr,
    (name, unit): (&str, u8),
    shared: &Arc<Shared>,
    tasks: &mut Vec<JoinHandle<()>>,
) -> io::Result<SocketAddr> {
    let unknown = || io::Error::new(io::ErrorKind::NotFound, name.to_owned());
    let wire = shared.wires.get(name).ok_or_else(unknown)?;
    let device = device(name, &wire.map, unit, shared);
    let line = shared.line(name).ok_or_else(unknown)?;
    let (address, serving) = modbus_server::serve(address, device, line).await?;
    tasks.push(serving);
    Ok(address)
}

/// Moves the world along with the wall clock; after a long pause it does not race to catch up.
#[allow(clippy::disallowed_methods)] // the simulators have no gateway clock
pub(crate) async fn step(shared: Arc<Shared>, speed: f64) {
    let every = TICK.div_f64(speed.max(1.0)).max(LEAST_TICK);
    let mut ticks = tokio::time::interval(every);
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
