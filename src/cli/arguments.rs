//! What can be typed. The help is in English here and translated from the text tables.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

mod alarms;
mod cameras;
mod chargers;
mod installer;
mod jobs;
mod updates;

pub use alarms::Alarms;
pub use cameras::{Cameras, Who};
pub use chargers::Chargers;
pub use jobs::Jobs;
pub use updates::Updates;

pub use installer::{Configs, Devices, Profiles, Scans, Which};

use crate::config::BuiltIn;
use crate::logic::site::Id;
use crate::texts::{Lang, table};

/// Gateway for EV-charging sites: field bus, cameras, energy plan and MQTT in one binary.
#[derive(Debug, Parser)]
#[command(name = "wattgate", version, subcommand_required = true)]
pub struct Arguments {
    /// Language of messages; LANG unless said.
    #[arg(long, global = true)]
    pub lang: Option<LangChoice>,
    /// Log level: error, warn, info, debug, or a filter; RUST_LOG wins.
    #[arg(long, global = true, default_value = "info")]
    pub log: String,
    #[command(subcommand)]
    pub command: Command,
}

/// A language on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LangChoice {
    En,
    Zh,
}

impl From<LangChoice> for Lang {
    fn from(choice: LangChoice) -> Lang {
        match choice {
            LangChoice::En => Lang::En,
            LangChoice::Zh => Lang::Zh,
        }
    }
}

/// How a result is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Table,
    Json,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Runs the gateway.
    Run(Run),
    /// Checks a site file: exit code 0 or 78.
    Check {
        /// The site file.
        file: PathBuf,
        /// Warnings count as errors.
        #[arg(long)]
        deny_warnings: bool,
        #[arg(long, value_enum, default_value = "table")]
        format: Format,
    },
    /// Runs a simulated site with real Modbus TCP, a camera, a broker, and the gateway on it.
    #[cfg(feature = "demo")]
    Demo(Demo),
    /// Judges pictures, folders and films: one line for each frame.
    Look {
        /// Pictures (JPEG, PNG), folders, films (MP4 with H.264).
        #[arg(required = true)]
        paths: Vec<PathBuf>,
        /// JSON file with the polygons of bays.
        #[arg(long)]
        bays: Option<PathBuf>,
        #[arg(long, value_enum, default_value = "table")]
        format: Format,
        /// Folder of the models.
        #[arg(long)]
        models: Option<PathBuf>,
        /// The general runtime (32-bit floating point) instead of the int8 kernel.
        #[arg(long)]
        general: bool,
        /// Never asks the big net.
        #[arg(long)]
        no_big: bool,
        /// Folder for the pictures with what was seen drawn over them.
        #[arg(long)]
        annotate: Option<PathBuf>,
    },
    /// Plans a scenario: the cheapest legal schedule, with a proof of how good it is.
    #[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
    Plan {
        /// A scenario file.
        #[arg(required = true)]
        scenario: Option<PathBuf>,
        /// Where the schedule is written.
        #[arg(long, required = true)]
        out: Option<PathBuf>,
        #[command(subcommand)]
        view: Option<PlanView>,
    },
    /// Simulates days of a site in virtual time and sums up.
    #[cfg(feature = "demo")]
    Simulate {
        /// The site file.
        site: PathBuf,
        /// How many days, 1 to 400.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=400))]
        days: u32,
        /// The same seed gives the same days.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Where a trace is written.
        #[arg(long)]
        trace: Option<PathBuf>,
    },
    /// Plays a trace again: every decision must be the same, byte for byte.
    Replay {
        /// A trace file, or the folder of a gateway's traces.
        trace: PathBuf,
    },
    /// The vision child; started by `run`.
    #[command(hide = true)]
    Vision {
        #[arg(long)]
        config: PathBuf,
        #[arg(long)]
        state: Option<PathBuf>,
        #[arg(long)]
        socket: PathBuf,
        #[arg(long, default_value_t = 1.0)]
        speed: f64,
        #[arg(long)]
        site_time: Option<DateTime<Utc>>,
        /// CAMERA=MILLISECONDS: it is not looked at for so long.
        #[arg(long, value_parser = left_out)]
        left_out: Vec<(Id, Duration)>,
    },
    /// Alarms of the gateway that runs on this machine.
    Alarm {
        #[command(subcommand)]
        action: Alarms,
    },
    /// Computing jobs of the gateway that runs on this machine.
    Job {
        #[command(subcommand)]
        action: Jobs,
    },
    /// Guards one program of a job; started by `run`.
    #[command(hide = true)]
    Warden {
        #[arg(long)]
        cores: f64,
        /// Folder below which control groups may be made.
        #[arg(long)]
        groups: Option<PathBuf>,
        #[arg(last = true, required = true)]
        program: Vec<String>,
    },
    /// Does a built-in workload; started by `run`, below a warden.
    #[command(hide = true)]
    BuiltIn {
        #[arg(value_parser = built_in)]
        name: BuiltIn,
        #[arg(long)]
        config: PathBuf,
        #[arg(long)]
        state: PathBuf,
        #[arg(long)]
        models: PathBuf,
        /// Site time.
        #[arg(long)]
        at: DateTime<Utc>,
        /// 0 is today, 1 yesterday.
        #[arg(long, default_value_t = 1.0)]
        days_ago: f64,
        /// Only this camera.
        #[arg(long)]
        camera: Option<String>,
        /// Pictures of a set.
        #[arg(long, default_value_t = 200.0)]
        most: f64,
    },
    /// Makes a fault visible on the running gateway and reports what it did against the bounds.
    Drill {
        #[arg(value_enum)]
        name: DrillName,
        /// Where the report is written; to the screen unless said.
        #[arg(long)]
        out: Option<PathBuf>,
        #[command(flatten)]
        place: Place,
    },
    /// How chargers charge, at the gateway that runs on this machine.
    Charger {
        #[command(subcommand)]
        action: Chargers,
    },
    /// What a camera gives: before it goes into a site file.
    Camera {
        #[command(subcommand)]
        action: Cameras,
    },
    /// The nets: which there are, who runs them here, what a look costs.
    Model {
        #[command(subcommand)]
        action: Models,
    },
    /// Device profiles (register maps).
    Profile {
        #[command(subcommand)]
        action: Profiles,
    },
    /// The site file.
    Config {
        #[command(subcommand)]
        action: Configs,
    },
    /// Looks at one device: values beside raw registers; tests a write.
    Device {
        #[command(subcommand)]
        action: Devices,
    },
    /// Finds devices; only reads.
    Scan {
        #[command(subcommand)]
        action: Scans,
    },
    /// Another version of the program: put on trial, and undone by itself where it does not prove itself.
    Update {
        #[command(subcommand)]
        action: Updates,
    },
    /// Prints the version.
    Version {
        #[arg(long, value_enum, default_value = "table")]
        format: Format,
    },
}

/// A drill.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DrillName {
    /// The grid meter falls silent for 25 s.
    MeterLoss,
    /// The broker is away for 25 s.
    BrokerLoss,
    /// A charger seems to draw more than it was told for 30 s.
    ChargerDisobeys,
    /// A camera confirms a flame: the zone is latched until a person resets it.
    Fire,
}

/// How a scan looks and prints.
#[derive(Debug, Args)]
pub struct Looking {
    /// Longest time for an answer, ms.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(20..=10_000))]
    pub wait_ms: u64,
    /// Folder of a site file, whose profiles.d may fit too.
    #[arg(long)]
    pub config: Option<PathBuf>,
    #[arg(long, value_enum, default_value = "table")]
    pub format: Listing,
}

/// How a list is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Listing {
    Table,
    Json,
    Csv,
}

#[derive(Debug, Subcommand)]
pub enum PlanView {
    /// Plans a scenario and prints the schedule as a table with a picture.
    Show {
        /// A scenario file.
        scenario: PathBuf,
    },
    /// Plans a scenario and says who is short, when, and what is in the way.
    Explain {
        /// A scenario file.
        scenario: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub enum Models {
    /// Lists the nets and who runs each of them on this machine.
    #[command(name = "list")]
    Nets {
        /// Folder of the models.
        #[arg(long)]
        models: Option<PathBuf>,
        #[arg(long, value_enum, default_value = "table")]
        format: Format,
    },
    /// Measures what a run of each net costs on this machine.
    Bench {
        /// Folder of the models.
        #[arg(long)]
        models: Option<PathBuf>,
        #[arg(long, value_enum, default_value = "table")]
        format: Format,
    },
}

/// Which gateway.
#[derive(Debug, Args)]
pub struct Place {
    /// The site file.
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// State folder instead of the configured one.
    #[arg(long, conflicts_with = "config")]
    pub state: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Run {
    /// The site file.
    #[arg(long)]
    pub config: PathBuf,
    /// State folder instead of the configured one.
    #[arg(long)]
    pub state: Option<PathBuf>,
    /// How fast site time runs; only for simulated sites.
    #[arg(long, default_value_t = 1.0, hide = true)]
    pub speed: f64,
    /// Site time at the start; only for simulated sites.
    #[arg(long, hide = true)]
    pub site_time: Option<DateTime<Utc>>,
    /// Stops when standard input ends.
    #[arg(long, hide = true)]
    pub stop_with_stdin: bool,
    /// The page says that the site is simulated.
    #[arg(long, hide = true)]
    pub simulated: bool,
}

#[cfg(feature = "demo")]
#[derive(Debug, Args)]
pub struct Demo {
    /// Port of the page; 0 takes any free one.
    #[arg(long, default_value_t = 8080)]
    pub port: u16,
    /// How fast site time runs, 0.1 to 60; above 5 the eyes keep to wall time.
    #[arg(long, default_value_t = 1.0, value_parser = pace)]
    pub speed: f64,
    /// The same seed gives the same site.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// sunny_day, evening_peak, broker_outage, cable_fire, or a scenario file.
    #[arg(long, default_value = "sunny_day")]
    pub scenario: String,
}

/// A speed of the demo.
fn id(text: &str) -> Result<Id, String> {
    Id::try_from(text).map_err(|error| error.to_string())
}

/// A built-in workload by its name.
fn built_in(name: &str) -> Result<BuiltIn, String> {
    let all = || BuiltIn::ALL.map(BuiltIn::name).join(", ");
    BuiltIn::named(name).ok_or_else(|| format!("the built-in workloads are {}", all()))
}

fn left_out(text: &str) -> Result<(Id, Duration), String> {
    let (camera, time) = text.split_once('=').ok_or("CAMERA=MILLISECONDS")?;
    let camera = id(camera)?;
    let time = time.parse().map_err(|error| format!("{time}: {error}"))?;
    Ok((camera, Duration::from_millis(time)))
}

fn pace(text: &str) -> Result<f64, String> {
    let speed = text.parse::<f64>().ok().filter(|speed| (0.1..=60.0).contains(speed));
    speed.ok_or_else(|| "0.1 to 60".to_owned())
}

/// The language before the arguments are parsed: `--lang`, else LC_ALL, LC_MESSAGES or LANG.
pub fn language(args: &[OsString]) -> Lang {
    let texts: Vec<&str> = args.iter().filter_map(|arg| arg.to_str()).collect();
    let after = texts.windows(2).find(|pair| pair[0] == "--lang").map(|pair| pair[1].to_owned());
    let joined = texts.iter().find_map(|arg| arg.strip_prefix("--lang=")).map(str::to_owned);
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let code = after.or(joined).or_else(|| variable("LC_ALL"));
    let code = code.or_else(|| variable("LC_MESSAGES")).or_else(|| variable("LANG"));
    code.map_or(Lang::En, |code| Lang::from_code(&code))
}

/// The parser, its help in `lang`: keys `cli.about.<command>` and `cli.help.<argument>`.
pub fn command(lang: Lang) -> clap::Command {
    let command = Arguments::command();
    if lang == Lang::En { command } else { translate(command, lang) }
}

fn translate(command: clap::Command, lang: Lang) -> clap::Command {
    let found = |key: String| table(lang).get(&key).cloned();
    let about = found(format!("cli.about.{}", command.get_name()));
    let names: Vec<String> = command.get_subcommands().map(|c| c.get_name().to_owned()).collect();
    let command = match about {
        Some(about) => command.about(about),
        None => command,
    };
    let command = command.mut_args(|arg| match found(format!("cli.help.{}", arg.get_id())) {
        Some(help) => arg.help(help),
        None => arg,
    });
    names.iter().fold(command, |command, name| command.mut_subcommand(name, |c| translate(c, lang)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parser_is_sound_in_both_languages() {
        command(Lang::En).debug_assert();
        command(Lang::Zh).debug_assert();
        let help = command(Lang::Zh).render_help().to_string();
        assert!(help.contains("充电"), "{help}");
    }

    #[test]
    fn the_language_is_found_before_parsing() {
        let args = |text: &str| text.split(' ').map(OsString::from).collect::<Vec<_>>();
        assert_eq!(language(&args("wattgate --lang zh check x")), Lang::Zh);
        assert_eq!(language(&args("wattgate check x --lang=en")), Lang::En);
    }
}
