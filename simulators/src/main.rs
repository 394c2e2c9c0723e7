//! `simulators`: the hardware of a charging site on real wires, stand-alone, and pictures for training.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};
use simulators::profile::Profile;
use simulators::scenario::Scenario;
use simulators::{broker, gate, picture, site};

/// The hardware of a charging site, simulated on real wires.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the devices, the camera and a broker until ctrl-C.
    Run {
        /// A built-in scenario (sunny_day, evening_peak, broker_outage, cable_fire) or a file.
        #[arg(long, default_value = "sunny_day")]
        scenario: String,
        /// The same seed gives the same world.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// How fast site time runs.
        #[arg(long, default_value_t = 1.0)]
        speed: f64,
        /// First port of the devices.
        #[arg(long, default_value_t = 5020)]
        port: u16,
        /// One device alone instead of a site: a profile file, or the id of one of the gateway's own.
        #[arg(long, conflicts_with = "scenario")]
        profile: Option<String>,
    },
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
    let done = match Arguments::parse().command {
        Command::Run { profile: Some(profile), seed, speed, port, .. } => {
            alone(&profile, seed, (speed, port))
        }
        Command::Run { scenario, seed, speed, port, .. } => run(&scenario, seed, (speed, port)),
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

fn run(scenario: &str, seed: u64, (speed, port): (f64, u16)) -> Done {
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
        say(&format!("cameras     http://{}/camera/cam1.jpg and cam2.mjpeg", places.http));
        say(&format!("truth       http://{}/truth", places.http));
        say(&format!("switches    http://{}/set and /fault", places.http));
        say(&format!("broker      mqtt://127.0.0.1:{broker} (MQTT 5)"));
        tokio::signal::ctrl_c().await?;
        Ok(())
    })
}

/// One device alone, until ctrl-C.
fn alone(profile: &str, seed: u64, (speed, port): (f64, u16)) -> Done {
    let profile = Profile::find(profile)?;
    let id = profile.id.clone();
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let place = std::net::SocketAddr::from(([127, 0, 0, 1], port));
        let lone = site::start_lone(profile, place, (seed, speed)).await?;
        say(&format!("{id}  tcp://{} unit {}", lone.address, lone.unit));
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
