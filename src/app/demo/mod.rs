//! `wattgate demo`: a small supervisor. It hosts the simulated hardware, its camera and a broker, writes
//! a site file and a state folder, and runs the gateway on them as a child, as a service manager would: a
//! child that ends is started again, and one that does not tell of its life is killed first.
//!
//! What a stranger gets wrong: the gateway in here is the same program on the same code as on a real
//! site. Only what it talks to is simulated.

mod drivers;
mod site;

use std::io::{self, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use simulators::scenario::{Scenario, ScenarioError};
use simulators::site::{self as hardware, Addresses, PileAt, Shared};
use simulators::{broker, gate, picture};
use tokio::net::UnixDatagram;
use tokio::process::{Child, Command};

use self::site::{Outline, maker};
use super::shutdown;
use crate::io::clock::Clock;
use crate::texts::{Lang, fill};

/// Name of the socket at which the gateway tells of its life.
const LIFE: &str = "life";
/// Longest time for the gateway to stop before it is killed.
const STOPS_IN: Duration = Duration::from_secs(8);
/// A gateway that has not told of its life for this long is killed (fault PR2; as in the packaged unit).
const LIFE_EVERY: Duration = Duration::from_secs(10);
/// Pause before a gateway that ended is started again.
const RESTART_AFTER: Duration = Duration::from_millis(500);

/// What `wattgate demo` is told.
#[derive(Clone, Debug)]
pub struct DemoOptions {
    /// Port of the page; 0 takes any free one.
    pub port: u16,
    /// How fast site time runs.
    pub speed: f64,
    /// The same seed gives the same site.
    pub seed: u64,
    /// A built-in scenario or a file.
    pub scenario: String,
    /// Language of the lines.
    pub lang: Lang,
}

/// Why the demo did not run.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The scenario.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    /// Something could not be started or written.
    #[error("{what}: {cause}")]
    Start {
        /// What.
        what: String,
        /// Why.
        cause: io::Error,
    },
}

fn failed(what: impl Into<String>) -> impl FnOnce(io::Error) -> DemoError {
    let what = what.into();
    move |cause| DemoError::Start { what, cause }
}

/// Runs until ctrl-C.
///
/// # Errors
/// When the demo cannot start.
pub fn run(options: &DemoOptions, out: &mut dyn Write) -> Result<(), DemoError> {
    let runtime = tokio::runtime::Runtime::new().map_err(failed("runtime"))?;
    let done = runtime.block_on(host(options, out));
    runtime.shutdown_background();
    done
}

async fn host(options: &DemoOptions, out: &mut dyn Write) -> Result<(), DemoError> {
    let scenario = Scenario::find(&options.scenario)?;
    let midnight = midnight();
    let speed = options.speed;
    let start = hardware::Options { scenario, seed: options.seed, speed, port: 0 };
    let site = hardware::start(start).await.map_err(failed("simulated devices"))?;
    let broker = broker::start(0).map_err(failed("embedded broker"))?;
    let gate = gate::open(broker, Arc::clone(site.shared())).await;
    let (broker, _gate) = gate.map_err(failed("embedded broker"))?;
    let page = free_port(options.port).map_err(failed(format!("page port {}", options.port)))?;
    let folder = Folder::new().map_err(failed("temporary folder"))?;
    let file = folder.0.join("site.toml");
    let outlines = site.shared().with(|world| {
        let scenes = [picture::Scene::of(world), picture::Scene::of_second(world)];
        // The left half of the row belongs to the first camera, the right half to the second.
        let count = world.bays.len();
        let outline = |i: usize| {
            let camera = usize::from(i >= count.div_ceil(2));
            (camera + 1, scenes[camera].polygon(i))
        };
        (0..count).map(outline).collect::<Vec<Outline>>()
    });
    let text = site::file(site.addresses(), &outlines, (broker, page));
    std::fs::write(&file, text).map_err(failed("site file"))?;
    tell(options.lang, out, site.addresses(), (&file, broker, page)).map_err(failed("output"))?;
    let drivers = tokio::spawn(drivers::talk(Arc::clone(site.shared()), broker));
    let world = Arc::clone(site.shared());
    let site_time = move || midnight + site_hours(&world);
    let life = UnixDatagram::bind(folder.0.join(LIFE)).map_err(failed("life socket"))?;
    let done = supervise(&file, speed, (site_time, &life)).await;
    drivers.abort();
    done
}

/// How far the simulated day has come since its midnight.
fn site_hours(world: &Shared) -> chrono::Duration {
    let ms = world.with(|world| (world.start_hour() * 3600.0 + world.elapsed_s) * 1000.0);
    chrono::Duration::milliseconds(ms as i64)
}

/// Midnight of today where the simulated site is.
fn midnight() -> DateTime<Utc> {
    const UTC_OFFSET_S: i64 = 8 * 3600; // Asia/Shanghai, as in site.toml
    let now = Clock::real().now().utc.timestamp();
    let day = (now + UTC_OFFSET_S).div_euclid(86_400) * 86_400;
    DateTime::from_timestamp(day - UTC_OFFSET_S, 0).unwrap_or_default()
}

/// Ten lines that say what runs where.
fn tell(
    lang: Lang,
    out: &mut dyn Write,
    addresses: &Addresses,
    (file, broker, page): (&Path, u16, u16),
) -> io::Result<()> {
    let mut line =
        |key: &str, value: String| writeln!(out, "{}", fill(lang, key, &[("at", value)]));
    line("cli.demo.simulated", String::new())?;
    line("cli.demo.meter", addresses.meter.to_string())?;
    let mut pile = |at: &PileAt| {
        let values = [("make", maker(at.make).1.to_owned()), ("at", at.address.to_string())];
        writeln!(out, "{}", fill(lang, "cli.demo.pile", &values))
    };
    addresses.piles.iter().try_for_each(&mut pile)?;
    let mut line =
        |key: &str, value: String| writeln!(out, "{}", fill(lang, key, &[("at", value)]));
    let node = addresses.node.map(|node| fill(lang, "cli.demo.node", &[("at", node.to_string())]));
    line("cli.demo.hybrid", addresses.hybrid.to_string() + &node.unwrap_or_default())?;
    line("cli.demo.truth", format!("http://{}", addresses.http))?;
    line("cli.demo.broker", format!("127.0.0.1:{broker}"))?;
    writeln!(
        out,
        "{}",
        fill(
            lang,
            "cli.demo.page",
            &[("at", format!("http://127.0.0.1:{page}/")), ("file", file.display().to_string())]
        )
    )?;
    out.flush()
}

/// Keeps the gateway running until ctrl-C, then stops it in order.
async fn supervise(
    file: &Path,
    speed: f64,
    (site_time, life): (impl Fn() -> DateTime<Utc>, &UnixDatagram),
) -> Result<(), DemoError> {
    let mut stop = Box::pin(shutdown::requested(false));
    loop {
        let mut gateway = start_gateway(file, speed, site_time()).map_err(failed("gateway"))?;
        // Waiting for a child closes its standard input, which would stop it: keep it here.
        let stdin = gateway.stdin.take();
        let ended = tokio::select! {
            _ = &mut stop => None,
            status = gateway.wait() => Some(status),
            () = falls_silent(life) => {
                tracing::error!("the gateway does not tell of its life: it is killed");
                Some(gateway.kill().await.and(gateway.wait().await))
            }
        };
        match ended {
            None => {
                drop(stdin);
                return stop_gateway(gateway).await;
            }
            Some(Ok(status)) if status.code() == Some(78) || status.code() == Some(77) => {
                let cause = io::Error::other(format!("ended with {status}"));
                return Err(failed("gateway")(cause));
            }
            Some(status) => {
                tracing::warn!(?status, "the gateway ended; it is started again");
                tokio::select! {
                    _ = &mut stop => return Ok(()),
                    () = tokio::time::sleep(RESTART_AFTER) => {}
                }
            }
        }
    }
}

/// Waits until the gateway has not told of its life for too long.
async fn falls_silent(life: &UnixDatagram) {
    let mut bytes = [0; 64];
    while tokio::time::timeout(LIFE_EVERY, life.recv(&mut bytes)).await.is_ok() {}
}

fn start_gateway(file: &Path, speed: f64, site_time: DateTime<Utc>) -> io::Result<Child> {
    Command::new(std::env::current_exe()?)
        .args(["run", "--stop-with-stdin", "--simulated", "--speed", &speed.to_string()])
        .args(["--site-time", &site_time.to_rfc3339()])
        .arg("--config")
        .arg(file)
        .env("NOTIFY_SOCKET", file.with_file_name(LIFE))
        .stdin(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
}

/// The end of its standard input asks the gateway to stop; what does not stop in time is killed.
async fn stop_gateway(mut gateway: Child) -> Result<(), DemoError> {
    match tokio::time::timeout(STOPS_IN, gateway.wait()).await {
        Ok(status) => status.map(|_| ()).map_err(failed("gateway")),
        Err(_) => {
            tracing::error!("the gateway did not stop in time and is killed");
            gateway.kill().await.map_err(failed("gateway"))
        }
    }
}

fn free_port(wanted: u16) -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, wanted))?.local_addr()?.port())
}

/// A folder that goes when the demo goes.
struct Folder(PathBuf);

impl Folder {
    fn new() -> io::Result<Folder> {
        let path = std::env::temp_dir().join(format!("wattgate-demo-{}", std::process::id()));
        std::fs::create_dir_all(path.join("state"))?;
        Ok(Folder(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(folder = %self.0.display(), %error, "temporary folder left behind");
        }
    }
}
