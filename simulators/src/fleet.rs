//! Devices made from profile files, all in one world: those of a gateway's site file, or one alone. So another
//! gateway can be tested against a site before the site is there.
//!
//! What a stranger gets wrong: the devices share their physics. A meter sees what the chargers draw, a battery
//! what the roof gives. Each charger has a pile of its own, with a car at its plug.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use tokio::task::JoinHandle;

use crate::camera_server;
use crate::frames::Framing;
use crate::modbus_server;
use crate::physics::World;
use crate::profile::{Profile, ProfileError};
use crate::registers::{Map, Profiled};
use crate::scenario::{Make, PileSpec, Scenario};
use crate::site::{self, Shared};

/// One device.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its name in the fault switches.
    pub name: String,
    /// What it is made of.
    pub profile: Profile,
    /// Unit id; the profile's unless given.
    pub unit: Option<u8>,
}

/// Why the devices of a site file cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// Not readable.
    #[error("{0}: {1}")]
    Unreadable(String, io::Error),
    /// Not valid, or without devices.
    #[error("{0}: {1}")]
    Invalid(String, String),
    /// A device's profile.
    #[error("device `{0}`: {1}")]
    Profile(String, ProfileError),
}

/// What of a site file matters here.
#[derive(Deserialize)]
struct SiteFile {
    #[serde(default)]
    device: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    id: String,
    profile: String,
    unit: Option<u8>,
}

/// The devices of a gateway's site file; profiles of its own lie in `profiles.d` beside it.
///
/// # Errors
/// When the file or a profile cannot be read or is not valid, or there is no device.
pub fn members(file: &Path) -> Result<Vec<Member>, FleetError> {
    let name = file.display().to_string();
    let text = std::fs::read_to_string(file)
        .map_err(|cause| FleetError::Unreadable(name.clone(), cause))?;
    let invalid = |why: String| FleetError::Invalid(name.clone(), why);
    let site: SiteFile = toml::from_str(&text).map_err(|error| invalid(error.to_string()))?;
    if site.device.is_empty() {
        return Err(invalid("it has no [[device]] that could be made".to_owned()));
    }
    let member = |Entry { id, profile, unit }: Entry| {
        let own = file.with_file_name("profiles.d").join(format!("{profile}.toml"));
        let named = if own.exists() { own.display().to_string() } else { profile };
        match Profile::find(&named) {
            Ok(profile) => Ok(Member { name: id, profile, unit }),
            Err(why) => Err(FleetError::Profile(id, why)),
        }
    };
    site.device.into_iter().map(member).collect()
}

/// One device on the wire.
#[derive(Clone, Debug)]
pub struct Place {
    /// Its name in the fault switches.
    pub name: String,
    /// The profile that it is made of.
    pub profile: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// Its unit id.
    pub unit: u8,
}

/// How they are started.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The same seed gives the same world.
    pub seed: u64,
    /// How fast site time runs.
    pub speed: f64,
    /// First port; the devices follow each other, the switches come last. 0 takes any free ones.
    pub port: u16,
    /// One line for all of them, RTU behind a TCP bridge, as units 1, 2, 3 ...
    pub bridge: bool,
}

/// Running devices; they stop when dropped.
pub struct Fleet {
    /// Where each of them is.
    pub places: Vec<Place>,
    /// The switches over HTTP.
    pub http: SocketAddr,
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

impl Fleet {
    /// The world and the switches.
    #[must_use]
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// A world with a pile for each charger, and everything else that a device may want to show.
fn world_for(members: &[Member], seed: u64) -> World {
    let chargers = members.iter().filter(|member| member.profile.kind == "charger").count();
    let pile = PileSpec { make: Make::Alfen, rotation: [1, 2, 3] };
    let module = members.iter().any(|member| member.profile.kind == "inputs");
    let scenario = Scenario {
        bays: chargers,
        piles: vec![pile; chargers],
        visits: Vec::new(),
        module,
        ..Scenario::sunny_day()
    };
    let mut world = World::new(scenario, seed);
    for bay in 1..=chargers {
        world.set_plugged(&format!("bay{bay}"), Some(true));
    }
    world
}

/// The registers of each, in the order of the members.
fn maps(members: &[Member], world: &mut World) -> Vec<(String, Map)> {
    let mut piles = 0..;
    let mut map = |member: &Member| match member.profile.kind.as_str() {
        "sunspec_hybrid" => Map::Hybrid,
        "sunspec_meter" => Map::SunspecMeter,
        "inputs" => Map::Module,
        kind => {
            let pile = if kind == "charger" { piles.next() } else { None };
            let device = Profiled::new(member.profile.clone()).at(pile.unwrap_or(0));
            device.settle_in(world);
            Map::Profiled(Arc::new(device))
        }
    };
    members.iter().map(|member| (member.name.clone(), map(member))).collect()
}

/// Starts them all.
///
/// # Errors
/// When a port is taken, or two devices have one name.
pub async fn start(members: Vec<Member>, options: Options) -> io::Result<Fleet> {
    let mut world = world_for(&members, options.seed);
    let maps = maps(&members, &mut world);
    let unit = |(i, member): (usize, &Member)| match options.bridge {
        true => u8::try_from(i + 1).unwrap_or(u8::MAX),
        false => member.unit.unwrap_or_else(|| maps[i].1.unit()),
    };
    let units: Vec<u8> = members.iter().enumerate().map(unit).collect();
    let (shared, mut tasks) = (Shared::new(world, maps.clone(), options.seed), Vec::new());
    let mut next = options.port;
    let mut place = || {
        let port = next;
        next = if next == 0 { 0 } else { next.saturating_add(1) };
        SocketAddr::from(([127, 0, 0, 1], port))
    };
    let mut places = Vec::new();
    let mut line = Vec::new();
    for ((member, (_, map)), unit) in members.iter().zip(&maps).zip(units) {
        let name = member.name.clone();
        let address = if options.bridge {
            line.push(site::device(&name, map, unit, &shared));
            SocketAddr::from(([127, 0, 0, 1], options.port))
        } else {
            site::plug_in(place(), (&name, unit), &shared, &mut tasks).await?
        };
        places.push(Place { name, profile: member.profile.id.clone(), address, unit });
    }
    if options.bridge {
        let (address, serving) = modbus_server::serve_bridge(place(), Framing::Rtu, line).await?;
        places.iter_mut().for_each(|place| place.address = address);
        tasks.push(serving);
    }
    let (http, serving) = camera_server::serve_switches(place(), Arc::clone(&shared)).await?;
    tasks.push(serving);
    tasks.push(tokio::spawn(site::step(Arc::clone(&shared), options.speed)));
    Ok(Fleet { places, http, shared, tasks })
}
