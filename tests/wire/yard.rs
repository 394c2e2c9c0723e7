//! A yard of many small zones behind one gateway: each has two piles and one thing that watches it, a contact
//! or a loop of the input/output module, or a camera of its own. Hardware, cameras and a broker that goes down
//! live in this process; the gateway is the program itself.
//!
//! What a stranger gets wrong: a stop latches, so a zone can be stopped once and another one is next. And what
//! the piles hold is looked up in the world itself, without asking anybody over HTTP.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use simulators::physics::World;
use simulators::picture::{Scene, jpeg};
use simulators::scenario::{Event, EventKind, Make, PileSpec, Scenario, Visit};
use simulators::{broker, gate, site as hardware};

use crate::gateway::{PATIENCE, get_json, now, until};

/// What a zone is watched by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Watched {
    /// A contact of the module, and its value when there is smoke.
    Contact(&'static str, f64),
    /// A loop of the module with a gas sensor.
    Loop(&'static str),
    /// The camera of this number.
    Camera(usize),
}

/// All that one module can watch: the other two contacts say what its relays did.
const BY_MODULE: [Watched; 14] = [
    Watched::Contact("di1", 1.0),
    Watched::Loop("ai1_ma"),
    Watched::Contact("di2", 1.0),
    Watched::Loop("ai2_ma"),
    Watched::Contact("di3", 0.0),
    Watched::Loop("ai3_ma"),
    Watched::Contact("di4", 1.0),
    Watched::Loop("ai4_ma"),
    Watched::Contact("di5", 1.0),
    Watched::Loop("ai5_ma"),
    Watched::Contact("di6", 1.0),
    Watched::Loop("ai6_ma"),
    Watched::Loop("ai7_ma"),
    Watched::Loop("ai8_ma"),
];
/// As many zones are watched by a camera each.
pub const CAMERAS: usize = 6;
/// Piles of each zone.
const PILES: usize = 2;
/// A loop that says gas stage 1 and no more, mA.
const GAS_MA: f64 = 8.0;
/// Pictures of each kind; the same one is not shown twice in a row.
const PICTURES: usize = 12;

/// One zone, and what watches it.
#[derive(Clone, Copy, Debug)]
pub struct Zone {
    /// From 0.
    pub number: usize,
    /// Its sensor or camera.
    pub watched: Watched,
}

/// All zones: those with sensors, then those with cameras.
pub fn zones() -> Vec<Zone> {
    let cameras = (0..CAMERAS).map(Watched::Camera);
    let all = BY_MODULE.into_iter().chain(cameras).enumerate();
    all.map(|(number, watched)| Zone { number, watched }).collect()
}

/// A camera: what it shows, and when it gave a burning picture.
#[derive(Default)]
struct Film {
    burns: bool,
    burning_given: Vec<Instant>,
}

/// The cameras over HTTP.
struct Cameras {
    port: u16,
    films: Arc<[Mutex<Film>; CAMERAS]>,
    /// Corners of the first bay in their pictures.
    polygon: [[f64; 2]; 4],
}

impl Cameras {
    fn start() -> Cameras {
        let mut scene = Scene::of(&World::new(Scenario::sunny_day(), 1));
        scene.slots.iter_mut().enumerate().for_each(|(i, slot)| slot.car = Some(i as u64));
        let polygon = scene.polygon(0);
        let mut film = |fire: f64| -> Vec<Vec<u8>> {
            scene.slots[0].fire = fire;
            let mut at = |i: usize| {
                scene.time_s = 100.0 + 0.37 * i as f64;
                jpeg(&scene).expect("a picture")
            };
            (0..PICTURES).map(&mut at).collect()
        };
        let pictures = Arc::new([film(0.0), film(1.0)]);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let films: Arc<[Mutex<Film>; CAMERAS]> = Arc::default();
        let theirs = Arc::clone(&films);
        std::thread::spawn(move || {
            for (count, stream) in listener.incoming().flatten().enumerate() {
                let (films, pictures) = (Arc::clone(&theirs), Arc::clone(&pictures));
                std::thread::spawn(move || show(stream, (&films, &pictures), count));
            }
        });
        Cameras { port, films, polygon }
    }
}

/// Answers one request for `/N.jpg`.
fn show(
    mut stream: TcpStream,
    (films, pictures): (&[Mutex<Film>; CAMERAS], &[Vec<Vec<u8>>; 2]),
    count: usize,
) -> std::io::Result<()> {
    let mut request = [0; 2048];
    let read = stream.read(&mut request)?;
    let asked = String::from_utf8_lossy(&request[..read]).into_owned();
    let number = asked.split(['/', '.']).nth(1).and_then(|n| n.parse::<usize>().ok());
    let number = number.filter(|n| *n < CAMERAS).ok_or(std::io::ErrorKind::InvalidInput)?;
    let burns = {
        let mut film = films[number].lock().unwrap();
        if film.burns {
            film.burning_given.push(now());
        }
        film.burns
    };
    let picture = &pictures[usize::from(burns)][count % PICTURES];
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        picture.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(picture)
}

/// A running yard.
pub struct Yard {
    gateway: Child,
    page: String,
    cameras: Cameras,
    site: hardware::Site,
    // The last to go: everything above lives on it.
    _runtime: tokio::runtime::Runtime,
}

impl Yard {
    /// Starts everything with its state below `folder`, and waits until every pile may charge, nothing is
    /// faulty, and the broker is down.
    pub fn start(folder: &Path) -> Yard {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let (site, broker) = runtime.block_on(async {
            let options = hardware::Options { scenario: scenario(), seed: 1, speed: 1.0, port: 0 };
            let site = hardware::start(options).await.expect("the devices");
            let inner = broker::start(0).expect("a broker");
            let gate = gate::open(inner, Arc::clone(site.shared())).await;
            (site, gate.expect("its gate").0)
        });
        let cameras = Cameras::start();
        let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
        let page = format!("127.0.0.1:{}", port.expect("a free port").port());
        let file = folder.join("site.toml");
        let text = site_file(site.addresses(), &cameras, (broker, &page));
        std::fs::write(&file, text).expect("the site file");
        let gateway = Command::new(env!("CARGO_BIN_EXE_wattgate"))
            .args(["run", "--stop-with-stdin", "--simulated", "--config"])
            .arg(&file)
            .stdin(Stdio::piped())
            .spawn()
            .expect("the gateway");
        let page = format!("http://{page}");
        let yard = Yard { gateway, page, cameras, site, _runtime: runtime };
        yard.is_ready();
        yard
    }

    fn is_ready(&self) {
        until("every pile allowed to charge, and no fault", PATIENCE, || {
            let document = get_json(&format!("{}/api/v1/overview", self.page))?;
            let zones = document["overview"]["zones"].as_array()?;
            let calm = |zone: &Value| zone["fault"] == false && zone["level"] == 0;
            let calm = document["overview"]["writing"] == true && zones.iter().all(calm);
            (calm && zones_of(zones) && self.all_allowed()).then_some(())
        });
        until("the broker down", PATIENCE, || {
            let health = get_json(&format!("{}/api/v1/health", self.page))?;
            (health["broker"] == json!({"configured": true, "ok": false})).then_some(())
        });
    }

    fn all_allowed(&self) -> bool {
        zones().into_iter().all(|zone| self.limits(zone).iter().all(|amps| *amps >= 6.0))
    }

    /// What the piles of a zone hold, A.
    fn limits(&self, zone: Zone) -> [f64; PILES] {
        let first = zone.number * PILES;
        let shared = self.site.shared();
        shared.with(|world| std::array::from_fn(|i| world.piles[first + i].limit_a()))
    }

    /// Something burns in a zone, or stops burning.
    fn set(&self, zone: Zone, burns: bool) {
        match zone.watched {
            Watched::Camera(number) => {
                let mut film = self.cameras.films[number].lock().unwrap();
                film.burns = burns;
                film.burning_given.clear();
            }
            // What a sensor has said stays as it is: the zone is stopped for good.
            Watched::Contact(name, value) if burns => self.module(name, value),
            Watched::Loop(name) if burns => self.module(name, GAS_MA),
            _ => {}
        }
    }

    fn module(&self, name: &str, value: f64) {
        let values = [(name.to_owned(), value)].into();
        let wrong = self.site.shared().with(|world| world.module.as_mut().map(|m| m.set(&values)));
        assert_eq!(wrong, Some(None), "{name}");
    }

    /// Lays a fire into a zone. When its last pile held the stop, and when its camera gave burning pictures.
    pub fn burn(&self, zone: Zone) -> Burnt {
        let before = self.limits(zone);
        assert!(before.iter().all(|amps| *amps >= 6.0), "{zone:?} is stopped already: {before:?}");
        let laid = now();
        self.set(zone, true);
        while !self.limits(zone).iter().all(|amps| *amps < 6.0) {
            assert!(laid.elapsed() < PATIENCE, "waited {PATIENCE:?} for {zone:?} to stop");
            std::thread::park_timeout(Duration::from_millis(2));
        }
        let stopped = now();
        let given = match zone.watched {
            Watched::Camera(number) => {
                self.cameras.films[number].lock().unwrap().burning_given.clone()
            }
            _ => Vec::new(),
        };
        self.set(zone, false);
        Burnt { laid, given, stopped }
    }
}

fn zones_of(seen: &[Value]) -> bool {
    seen.len() == BY_MODULE.len() + CAMERAS
}

impl Drop for Yard {
    fn drop(&mut self) {
        // Its eyes end with it.
        let _ = self.gateway.kill();
        let _ = self.gateway.wait();
    }
}

/// How a fire went.
#[derive(Clone, Debug)]
pub struct Burnt {
    /// When it was laid.
    pub laid: Instant,
    /// When its camera was asked for a picture and gave a burning one.
    pub given: Vec<Instant>,
    /// When the last pile of the zone held the stop.
    pub stopped: Instant,
}

/// Two piles in each zone, of all makes in turn, a car at each, and a broker that goes down after two seconds.
fn scenario() -> Scenario {
    let count = (BY_MODULE.len() + CAMERAS) * PILES;
    let pile = |i: usize| PileSpec {
        make: [Make::Alfen, Make::Keba, Make::Abb][i % 3],
        rotation: [[1, 2, 3], [2, 3, 1], [3, 1, 2]][i % 3],
    };
    let visit = |i: usize| Visit { capacity_kwh: 400.0, ..Visit::guest(&format!("bay{}", i + 1)) };
    Scenario {
        name: "yard".into(),
        bays: count,
        piles: (0..count).map(pile).collect(),
        visits: (0..count).map(visit).collect(),
        building_w: 5_000.0,
        pv_peak_w: 3_000.0,
        module: true,
        events: vec![Event { at_s: 2.0, kind: EventKind::Broker, bay: String::new(), value: 0.0 }],
        ..Scenario::one_pile()
    }
}

/// The site as its installer would write it.
fn site_file(at: &hardware::Addresses, cameras: &Cameras, (broker, page): (u16, &str)) -> String {
    let models = concat!(env!("CARGO_MANIFEST_DIR"), "/models");
    let (meter, hybrid) = (at.meter, at.hybrid);
    let module = at.module.expect("a module");
    let mut text = format!(
        "[site]\nid = \"yard\"\nmode = \"auto\"\n\
         [grid]\nmeter = \"grid\"\nlimit_a = 600\nbreaker_a = 630\nmax_base_load_a = 36\n\
         [mqtt]\nhost = \"127.0.0.1\"\nport = {broker}\nallow_plaintext = true\n\
         [web]\nlisten = \"{page}\"\n[paths]\nstate = \"state\"\nmodels = {models:?}\n\
         [[device]]\nid = \"grid\"\nprofile = \"eastron-sdm630\"\naddress = \"tcp://{meter}\"\n\
         [[device]]\nid = \"hybrid\"\nprofile = \"sunspec-hybrid\"\naddress = \"tcp://{hybrid}\"\n\
         max_charge_w = 10000\nmax_discharge_w = 10000\nmin_soc_pct = 10\ncapacity_wh = 20000\n\
         [[device]]\nid = \"module\"\nprofile = \"io-module\"\naddress = \"tcp://{module}\"\n"
    );
    for pile in &at.piles {
        let profile = match pile.make {
            Make::Alfen => "alfen-ng9",
            Make::Keba => "keba-p40",
            Make::Abb => "abb-terra-ac",
        };
        let (id, address, unit) = (&pile.id, pile.address, pile.unit);
        let phases = pile.rotation.map(|phase| format!("L{phase}"));
        let _ = write!(
            text,
            "[[device]]\nid = \"{id}\"\nprofile = \"{profile}\"\naddress = \"tcp://{address}\"\n\
             unit = {unit}\nmax_a = 32\nfailsafe_a = 6\nphases = {phases:?}\n"
        );
    }
    for zone in zones() {
        text += &zone_file(zone, cameras);
    }
    text
}

fn zone_file(Zone { number, watched }: Zone, cameras: &Cameras) -> String {
    let chargers: Vec<String> =
        (1..=PILES).map(|i| format!("pile{}", number * PILES + i)).collect();
    let zone = format!("[[zone]]\nid = \"zone{number}\"\nchargers = {chargers:?}\n");
    let sensor = |kind: &str, point: &str, more: &str| {
        format!(
            "{zone}[zone.limits]\ngas_stage1 = 20\ngas_stage2 = 40\n\
             [[sensor]]\nid = \"sensor{number}\"\nkind = \"{kind}\"\nzones = [\"zone{number}\"]\n\
             device = \"module\"\npoints = [\"{point}\"]\n{more}\n"
        )
    };
    match watched {
        Watched::Contact(point, value) => {
            sensor("smoke", point, if value == 0.0 { "active = \"low\"" } else { "" })
        }
        Watched::Loop(point) => sensor("gas", point, "loop_full = 100"),
        Watched::Camera(camera) => {
            let (port, polygon) = (cameras.port, cameras.polygon);
            format!(
                "{zone}cameras = [\"cam{camera}\"]\nbays = [\"bay{camera}\"]\n\
                 [[camera]]\nid = \"cam{camera}\"\n\
                 snapshot = \"http://127.0.0.1:{port}/{camera}.jpg\"\n\
                 [[bay]]\nid = \"bay{camera}\"\ncamera = \"cam{camera}\"\n\
                 charger = \"{}\"\npolygon = {polygon:?}\n",
                chargers[0]
            )
        }
    }
}
