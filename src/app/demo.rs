//! `wattgate demo`: a small supervisor. It hosts the simulated hardware, its camera and a broker, writes
//! a site file and a state folder, and runs the gateway on them as a child, as a service manager would.
//!
//! What a stranger gets wrong: the gateway in here is the same program on the same code as on a real
//! site. Only what it talks to is simulated.

use std::io::{self, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use simulators::scenario::{Scenario, ScenarioError};
use simulators::site::{self, Addresses};
use simulators::{broker, picture};
use tokio::process::{Child, Command};

use super::shutdown;
use crate::texts::{Lang, fill};

/// Longest time for the gateway to stop before it is killed.
const STOPS_IN: Duration = Duration::from_secs(8);
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
    /// A scenario file instead of the sunny day.
    pub scenario: Option<PathBuf>,
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
    let scenario = match &options.scenario {
        Some(path) => Scenario::load(path)?,
        None => Scenario::sunny_day(),
    };
    let speed = options.speed.clamp(0.1, 5.0);
    let start = site::Options { scenario, seed: options.seed, speed, port: 0 };
    let site = site::start(start).await.map_err(failed("simulated devices"))?;
    let broker = broker::start(0).map_err(failed("embedded broker"))?;
    let page = free_port(options.port).map_err(failed(format!("page port {}", options.port)))?;
    let folder = Folder::new().map_err(failed("temporary folder"))?;
    let file = folder.0.join("site.toml");
    let polygons = site.shared().with(|world| {
        let scene = picture::Scene::of(world);
        (0..scene.slots.len()).map(|i| scene.polygon(i)).collect::<Vec<_>>()
    });
    let text = site_file(site.addresses(), &polygons, (broker, page));
    std::fs::write(&file, text).map_err(failed("site file"))?;
    tell(options.lang, out, site.addresses(), (&file, broker, page)).map_err(failed("output"))?;
    supervise(&file, speed).await
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
    for (id, address) in &addresses.piles {
        line("cli.demo.pile", format!("{address} ({id})"))?;
    }
    line("cli.demo.hybrid", addresses.hybrid.to_string())?;
    line("cli.demo.camera", format!("http://{}/camera/cam1.jpg", addresses.http))?;
    line("cli.demo.truth", format!("http://{}", addresses.http))?;
    line("cli.demo.broker", format!("127.0.0.1:{broker}"))?;
    line("cli.demo.file", file.display().to_string())?;
    line("cli.demo.page", format!("http://127.0.0.1:{page}/"))?;
    out.flush()
}

/// Keeps the gateway running until ctrl-C, then stops it in order.
async fn supervise(file: &Path, speed: f64) -> Result<(), DemoError> {
    let mut stop = Box::pin(shutdown::requested(false));
    loop {
        let mut gateway = start_gateway(file, speed).map_err(failed("gateway"))?;
        // Waiting for a child closes its standard input, which would stop it: keep it here.
        let stdin = gateway.stdin.take();
        let ended = tokio::select! {
            _ = &mut stop => None,
            status = gateway.wait() => Some(status),
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

fn start_gateway(file: &Path, speed: f64) -> io::Result<Child> {
    Command::new(std::env::current_exe()?)
        .args(["run", "--stop-with-stdin", "--simulated", "--speed", &speed.to_string()])
        .arg("--config")
        .arg(file)
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

fn site_file(at: &Addresses, polygons: &[[[f64; 2]; 4]], (broker, page): (u16, u16)) -> String {
    let mut text = format!(
        r#"# Written by `wattgate demo`: everything here is simulated.
[site]
id = "demo"
name = "Demo site"
mode = "auto"

[grid]
meter = "grid"
limit_a = 35
breaker_a = 40
max_base_load_a = 25

[[device]]
id = "grid"
profile = "eastron-sdm630"
address = "tcp://{meter}"

[[device]]
id = "hybrid"
name = "Battery and PV"
profile = "sunspec-hybrid"
address = "tcp://{hybrid}"
max_charge_w = 10000
max_discharge_w = 10000
min_soc_pct = 10
capacity_wh = 20000

[tariff]
currency = "CNY"
timezone = "Asia/Shanghai"
import_per_kwh = 0.72
export_per_kwh = 0.35

[[tariff.band]]
from = "22:00"
to = "08:00"
import_per_kwh = 0.31

[[tariff.band]]
from = "16:00"
to = "21:00"
import_per_kwh = 1.18

[[camera]]
id = "cam1"
name = "Bays"
snapshot = "http://{http}/camera/cam1.jpg"

[mqtt]
host = "127.0.0.1"
port = {broker}
allow_plaintext = true

[web]
listen = "127.0.0.1:{page}"

[paths]
state = "state"
"#,
        meter = at.meter,
        hybrid = at.hybrid,
        http = at.http,
    );
    for (id, address) in &at.piles {
        text += &format!(
            "\n[[device]]\nid = \"{id}\"\nprofile = \"alfen-ng9\"\naddress = \"tcp://{address}\"\nmax_a = 32\nfailsafe_a = 6\nneed_kwh = 40\nstay_h = 4\n"
        );
    }
    for (i, polygon) in polygons.iter().enumerate() {
        let number = i + 1;
        let charger =
            at.piles.get(i).map_or(String::new(), |(id, _)| format!("charger = \"{id}\"\n"));
        text += &format!(
            "\n[[bay]]\nid = \"bay{number}\"\nname = \"Bay {number}\"\n{charger}camera = \"cam1\"\npolygon = {polygon:?}\n"
        );
    }
    text
}
