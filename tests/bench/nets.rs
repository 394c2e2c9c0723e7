//! The nets against onnxruntime (from PyPI), one thread each, taking turns in one run.
//!
//! What a stranger gets wrong: on a machine that others use too, only turns taken in the same minute can
//! be compared. All times are CPU time of the process that computes.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use wattgate::io::inference::{Engine, Trial, list_models};

const ROUNDS: usize = 60;

/// onnxruntime in a Python of its own: a line in, the CPU time of a round out.
struct Onnxruntime {
    process: Child,
    ask: ChildStdin,
    answer: BufReader<ChildStdout>,
}

impl Onnxruntime {
    /// `WATTGATE_ORT_PYTHON` names the Python; else `.venv/bin/python` of the repository.
    fn start(file: &Path) -> Option<Onnxruntime> {
        let python = std::env::var_os("WATTGATE_ORT_PYTHON").map(PathBuf::from);
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let python = python.unwrap_or_else(|| root.join(".venv/bin/python"));
        let mut command = Command::new(python);
        command.arg(root.join("tests/bench/onnxruntime_side.py")).arg(file);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().ok()?;
        let (ask, answer) = (process.stdin.take()?, BufReader::new(process.stdout.take()?));
        let mut side = Onnxruntime { process, ask, answer };
        side.line().filter(|line| line.trim() == "ready")?;
        Some(side)
    }

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        (self.answer.read_line(&mut line).ok()? > 0).then_some(line)
    }

    fn round(&mut self) -> Option<f64> {
        writeln!(self.ask, "round").ok()?;
        self.line()?.trim().parse().ok()
    }
}

impl Drop for Onnxruntime {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn middle(times: &mut [f64]) -> (f64, f64) {
    times.sort_by(f64::total_cmp);
    (times[0], times[times.len() / 2])
}

pub fn run() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    for net in list_models(&folder).expect("the shipped nets") {
        let kernel = Trial::load(&folder, &net.id, Engine::Best).expect("the kernel");
        let tract = Trial::load(&folder, &net.id, Engine::General).expect("tract");
        let mut ort = Onnxruntime::start(&folder.join(format!("{}.onnx", net.id)));
        let (mut own, mut general, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            own.push(kernel.round().expect("a round"));
            general.push(tract.round().expect("a round"));
            theirs.extend(ort.as_mut().and_then(Onnxruntime::round));
        }
        let (own, general) = (middle(&mut own), middle(&mut general));
        println!(
            "{}: {} {:.3} / {:.3} ms, tract {:.3} / {:.3} ms (median / least)",
            net.id, net.engine, own.1, own.0, general.1, general.0
        );
        if theirs.len() < ROUNDS {
            println!("  onnxruntime NOT MEASURED: set WATTGATE_ORT_PYTHON to a Python that has it");
            continue;
        }
        let theirs = middle(&mut theirs);
        println!(
            "  onnxruntime {:.3} / {:.3} ms; kernel {:.2} / {:.2} of it (bar 0.40), tract {:.2} / {:.2} (bar 1.3)",
            theirs.1,
            theirs.0,
            own.1 / theirs.1,
            own.0 / theirs.0,
            general.1 / theirs.1,
            general.0 / theirs.0
        );
    }
}
