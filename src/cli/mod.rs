//! The command line: arguments into one call, and the call's outcome into words and an exit code.
//!
//! ```text
//!   0 done   1 failed   2 usage   69 device or broker out of reach   77 not permitted   78 configuration
//! ```
//! What a stranger gets wrong: this is the only place that prints. Everything below writes to what it
//! is given, or logs.

mod alarm;
mod arguments;
mod camera;
mod charger;
mod check;
mod device;
mod drill;
mod job;
mod model;
mod newcomer;
mod plan;
mod profile;
mod scan;
mod simulate;
mod update;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::FromArgMatches;

use crate::app::{self, control};
use crate::config;
use crate::io::inference::Engine;
use crate::texts::{Lang, fill, text};
use arguments::{Arguments, Command, Format};

const FAILED: u8 = 1;
const USAGE: u8 = 2;
const OUT_OF_REACH: u8 = 69;
const NOT_PERMITTED: u8 = 77;
const CONFIGURATION: u8 = 78;

/// Runs the command that the arguments name.
pub fn run(args: impl Iterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.collect();
    let lang = arguments::language(&args);
    let command = arguments::command(lang);
    let parsed = command
        .try_get_matches_from(&args)
        .and_then(|matches| Arguments::from_arg_matches(&matches));
    let arguments = match parsed {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are "errors" of clap that belong on standard output.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(FAILED));
        }
    };
    let lang = arguments.lang.map_or(lang, Lang::from);
    start_log(&arguments.log);
    ExitCode::from(perform(arguments.command, lang))
}

/// One line for each event on standard error: time, level, target, message, keys.
fn start_log(level: &str) {
    // The demo's broker logs every client that goes away as an error.
    let quiet = format!("{level},rumqttd=off");
    let filter = std::env::var("RUST_LOG").unwrap_or(quiet);
    let filter = tracing_subscriber::EnvFilter::try_new(filter)
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let started = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(io::stderr)
        .try_init();
    if started.is_err() {
        complain("log: another subscriber is set already");
    }
}

fn complain(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

fn perform(command: Command, lang: Lang) -> u8 {
    match command {
        Command::Run(run) => gateway(run, lang),
        Command::Check { file, deny_warnings, format } => {
            check::run(&file, (deny_warnings, format == Format::Json), lang)
        }
        #[cfg(feature = "demo")]
        Command::Demo(demo) => {
            let options = app::demo::DemoOptions {
                port: demo.port,
                speed: demo.speed,
                seed: demo.seed,
                scenario: demo.scenario,
                lang,
            };
            let done = app::demo::run(&options, &mut io::stdout());
            outcome(done.map_err(|error| error.to_string()))
        }
        Command::Look { paths, bays, format, models, general, no_big, annotate } => {
            let models = models.unwrap_or_else(config::models_beside);
            let json = format == Format::Json;
            let engine = if general { Engine::General } else { Engine::Best };
            let cascade = !no_big;
            let options =
                app::look::LookOptions { paths, bays, json, models, engine, cascade, annotate };
            look(&options)
        }
        Command::Plan { scenario, out, view } => plan::run((scenario, out), view, lang),
        #[cfg(feature = "demo")]
        Command::Simulate { site, days, seed, trace } => {
            simulate::run(&app::simulate::SimulateOptions { site, days, seed, trace }, lang)
        }
        Command::Replay { trace } => simulate::replay(&trace, lang),
        Command::Vision { config, state, socket, speed, site_time, left_out } => {
            let options =
                app::vision::ChildOptions { config, state, socket, speed, site_time, left_out };
            match app::vision::run(&options) {
                Err(error) if error.needs_a_person() => {
                    complain(&format!("wattgate: {error}"));
                    CONFIGURATION
                }
                done => outcome(done.map_err(|error| error.to_string())),
            }
        }
        Command::Alarm { action } => alarm::run(action, lang),
        Command::Camera { action } => camera::run(action, lang),
        Command::Charger { action } => charger::run(action, lang),
        Command::Model { action } => models(action, lang),
        Command::Job { action } => job::run(action, lang),
        Command::Warden { cores, groups, program } => job::warden((cores, groups), program),
        Command::BuiltIn { name, config, state, models, at, days_ago, camera, most } => {
            let options =
                app::builtin::Options { name, config, state, models, at, days_ago, camera, most };
            job::built_in(&options)
        }
        Command::Drill { name, out, place } => drill::run(name, &place, out, lang),
        Command::Profile { action } => profile::run(action, lang),
        Command::Config { action: arguments::Configs::Schema } => {
            say(&format!("{:#}", config::site_schema()))
        }
        Command::Device { action } => device::run(action, lang),
        Command::Scan { action } => scan::run(action, lang),
        Command::Update { action } => update::run(action, lang),
        Command::Version { format } => version(format == Format::Json),
    }
}

fn models(action: arguments::Models, lang: Lang) -> u8 {
    let folder = |models: Option<PathBuf>| models.unwrap_or_else(config::models_beside);
    match action {
        arguments::Models::Nets { models, format } => {
            model::list(&folder(models), format == Format::Json, lang)
        }
        arguments::Models::Bench { models, format } => {
            model::bench(&folder(models), format == Format::Json, lang)
        }
    }
}

fn outcome(done: Result<(), String>) -> u8 {
    match done {
        Ok(()) => 0,
        Err(why) => {
            complain(&format!("wattgate: {why}"));
            FAILED
        }
    }
}

fn gateway(run: arguments::Run, lang: Lang) -> u8 {
    let state = run.state.clone().unwrap_or_else(|| config::state_folder(&run.config));
    app::releases::step_aside(&state, &run.config);
    let code = match control::page_code() {
        Ok(code) => code,
        Err(error) => return outcome(Err(format!("no random numbers: {error}"))),
    };
    complain(&fill(lang, "cli.page_code", &[("code", code.clone())]));
    let options = control::RunOptions {
        config: run.config,
        speed: run.speed,
        site_time: run.site_time,
        state: run.state,
        stop_with_stdin: run.stop_with_stdin,
        simulated: run.simulated,
        code,
    };
    match control::run(&options) {
        Ok(()) => 0,
        Err(control::RunError::Config(report)) => {
            complain(report.render(lang).trim_end());
            complain(&fill(
                lang,
                "cli.not_started",
                &[("file", report.file.display().to_string())],
            ));
            CONFIGURATION
        }
        Err(control::RunError::SecondInstance(state)) => {
            let values = [("state", state.display().to_string())];
            complain(&fill(lang, "cli.second_instance", &values));
            NOT_PERMITTED
        }
        Err(error) => outcome(Err(error.to_string())),
    }
}

fn look(options: &app::look::LookOptions) -> u8 {
    let mut out = io::BufWriter::new(io::stdout().lock());
    match app::look::run(options, &mut out, &mut io::stderr()) {
        Ok(seen) if seen.failed == 0 => 0,
        Ok(_) => FAILED,
        Err(app::look::LookError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => 0,
        Err(error) => outcome(Err(error.to_string())),
    }
}

fn say(line: &str) -> u8 {
    match writeln!(io::stdout().lock(), "{line}") {
        Ok(()) => 0,
        Err(_) => FAILED,
    }
}

fn version(json: bool) -> u8 {
    let version = env!("CARGO_PKG_VERSION");
    if json {
        say(&serde_json::json!({"name": "wattgate", "version": version}).to_string())
    } else {
        say(&format!("wattgate {version}"))
    }
}

/// A tick or a cross before a line.
fn tick(good: bool, lang: Lang, key: &str, values: &[(&str, String)]) -> String {
    let mark = if good { "✓" } else { "✗" };
    let words =
        if values.is_empty() { text(lang, key).to_owned() } else { fill(lang, key, values) };
    format!("{mark} {words}")
}
