//! `simulators`: the hardware of a charging site on real wires, stand-alone, and pictures for training.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Parser, Subcommand};
use simulators::fleet::{self, Member};
use simulators::profile::Profile;
use simulators::scenario::Scenario;
use simulators::{broker, gate, picture, site};

/// The hardware of a charging site, simulated on real wires.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    devices: Running,
}

/// Which devices run, and how.
#[derive(Args)]
struct Running {
    /// A built-in scenario (sunny_day, evening_peak, broker_outage, cable_fire, guarded_store) or a file.
    #[arg(long, default_value = "sunny_day")]
    scenario: String,
    /// The devices of a gateway's site file instead, each made of its profile.
    #[arg(long, conflicts_with = "scenario")]
    site: Option<PathBuf>,
    /// One device alone: a profile file, or the id of one of the gateway's own.
    #[arg(long, conflicts_with_all = ["scenario", "site"])]
    profile: Option<String>,
    /// The devices of --site or --profile on one line, RTU behind a TCP bridge, as units 1, 2, 3 ...
    #[arg(long, conflicts_with = "scenario")]
    bridge: bool,
    /// The same seed gives the same world.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How fast site time runs.
    #[arg(long, default_value_t = 1.0)]
    speed: f64,
    /// First port of the devices.
    #[arg(long, default_value_t = 5020)]
    port: u16,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the devices until ctrl-C; of a scenario, cameras and a broker too. The same as no command.
    Run(Running),
    /// Draws random scenes with labels for training.
    Render {
        /// Where to.
        #[arg(long)]
        out: PathBuf,
        /// How many.
        #[arg(long, default_value_t = 100)]
        count: usize,
        /// The same seed gives the same pictures.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Pixels a row.
        #[arg(long, default_value_t = 640, value_parser = clap::value_parser!(u32).range(64..=3840))]
        width: u32,
        /// Rows.
        #[arg(long, default_value_t = 360, value_parser = clap::value_parser!(u32).range(64..=2160))]
        height: u32,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match arguments.command.unwrap_or(Command::Run(arguments.devices)) {
        Command::Run(devices) => run(devices),
        Command::Render { out, count, seed, width, height } => {
            render(&out, (count, seed), (width as usize, height as usize))
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("simulators: {error}"));
            ExitCode::FAILURE
        }
    }
}

#[allow(clippy::print_stdout)] // a command line tool
fn say(line: &str) {
    println!("{line}");
}

type Done = Result<(), Box<dyn std::error::Error>>;

fn run(running: Running) -> Done {
    let Running { seed, speed, port, bridge, .. } = running;
    let options = fleet::Options { seed, speed, port, bridge };
    match (running.site, running.profile) {
        (Some(file), _) => made(fleet::members(&file)?, options),
        (None, Some(name)) => {
            let (name, profile) = ("device".to_owned(), Profile::find(&name)?);
            made(vec![Member { name, profile, unit: None }], options)
        }
        (None, None) => scenario(&running.scenario, seed, (speed, port)),
    }
}

fn scenario(scenario: &str, seed: u64, (speed, port): (f64, u16)) -> Done {
    let scenario = Scenario::find(scenario)?;
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let site = site::start(site::Options { scenario, seed, speed, port }).await?;
        let (broker, _gate) = gate::open(broker::start(0)?, Arc::clone(site.shared())).await?;
        let places = site.addresses();
        say(&format!("grid meter  SDM630   tcp://{} unit 1", places.meter));
        for pile in &places.piles {
            let (id, make) = (&pile.id, format!("{:?}", pile.make));
            say(&format!("{id:<11} {make:<8} tcp://{} unit {}", pile.address, pile.unit));
        }
        say(&format!("hybrid      SunSpec  tcp://{} unit 1", places.hybrid));
        for (what, address) in [("node", places.node), ("module", places.module)] {
            if let Some(address) = address {
                say(&format!("{what:<11}          tcp://{address} unit 1"));
            }
        }
        say(&format!("cameras     http://{}/camera/cam1.jpg and cam2.mjpeg", places.http));
        tell_switches(places.http, "pile1");
        say(&format!("broker      mqtt://127.0.0.1:{broker} (MQTT 5)"));
        tokio::signal::ctrl_c().await?;
        Ok(())
    })
}

/// Where the truth is read, and how a fault is switched on.
fn tell_switches(http: SocketAddr, device: &str) {
    say(&format!("truth       http://{http}/truth"));
    say(&format!("switches    http://{http}/set and /fault, such as"));
    say(&format!(
        "            curl -d '{{\"device\": \"{device}\", \"silent\": true}}' http://{http}/fault"
    ));
}

/// Devices made of profiles, until ctrl-C.
fn made(members: Vec<Member>, options: fleet::Options) -> Done {
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let fleet = fleet::start(members, options).await?;
        let scheme = if options.bridge { "rtu+tcp" } else { "tcp" };
        for place in &fleet.places {
            let fleet::Place { name, profile, address, unit } = place;
            say(&format!("{name:<11} {profile:<22} {scheme}://{address} unit {unit}"));
        }
        let first = fleet.places.first().map_or("", |place| place.name.as_str());
        tell_switches(fleet.http, first);
        tokio::signal::ctrl_c().await?;
        Ok(())
    })
}

fn render(
    out: &std::path::Path,
    (count, seed): (usize, u64),
    (width, height): (usize, usize),
) -> Done {
    std::fs::create_dir_all(out)?;
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut labels = Vec::new();
    for n in 0..count {
        let mut scene = picture::random_scene(&mut rng);
        (scene.view.width, scene.view.height) = (width, height);
        let file = format!("{n:05}.jpg");
        std::fs::write(out.join(&file), picture::jpeg(&scene)?)?;
        let bay = |i: usize| {
            let slot = &scene.slots[i];
            serde_json::json!({"id": slot.id, "poly": scene.polygon(i), "occupied": slot.car.is_some()})
        };
        labels.push(serde_json::json!({
            "file": file,
            "bays": (0..scene.slots.len()).map(bay).collect::<Vec<_>>(),
            "fire": scene.slots.iter().any(|slot| slot.fire > 0.0),
            "smoke": scene.slots.iter().any(|slot| slot.smoke > 0.0),
            "boxes": scene.hazards(),
            "light": scene.light,
        }));
        if (n + 1) % 100 == 0 {
            say(&format!("{} of {count}", n + 1));
        }
    }
    std::fs::write(out.join("labels.json"), serde_json::to_string(&labels)?)?;
    Ok(())
}
