//! The big net on another machine, against MLServer (from PyPI) as the Open Inference Protocol v2 has it.

#![allow(clippy::print_stdout)] // figures

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::json;
use wattgate::io::inference::{Remote, RemoteError, RemoteNet};

use crate::gateway::{PATIENCE, get, kill, now, until};

/// MLServer without workers of its own; it ends with this.
struct Server {
    process: Child,
    url: String,
    _folder: tempfile::TempDir,
}

impl Server {
    fn start() -> Server {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let folder = tempfile::tempdir().expect("a folder");
        let free = || std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let (http, grpc, metrics) = (free(), free(), free());
        let port = |l: &std::net::TcpListener| l.local_addr().expect("an address").port();
        let settings = json!({
            "host": "127.0.0.1", "http_port": port(&http), "grpc_port": port(&grpc),
            "metrics_port": port(&metrics), "parallel_workers": 0, "debug": false,
        });
        let url = format!("http://127.0.0.1:{}", port(&http));
        let model = json!({"name": "fire-far", "implementation": "mlserver_net.Fire"});
        std::fs::write(folder.path().join("settings.json"), settings.to_string()).expect("a file");
        std::fs::write(folder.path().join("model-settings.json"), model.to_string())
            .expect("a file");
        let net = root.join("tests/wire/mlserver_net.py");
        std::fs::copy(net, folder.path().join("mlserver_net.py")).expect("a file");
        drop((http, grpc, metrics));
        let process = Command::new(root.join(".venv/bin/mlserver"))
            .args(["start", "."])
            .current_dir(folder.path())
            .env("PYTHONPATH", folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("MLServer (tests/run installs it)");
        let server = Server { process, url, _folder: folder };
        let ready = format!("{}/v2/models/fire-far/ready", server.url);
        until("MLServer", PATIENCE * 3, || get(&ready));
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Stopped or not.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn mlserver_answers_as_the_protocol_says_and_its_death_costs_one_time_out() {
    let server = Server::start();
    let timeout = Duration::from_secs(5);
    let place =
        RemoteNet { url: server.url.clone(), model: "fire-far".to_owned(), timeout, joules: 20.0 };
    let mut remote = Remote::new(place.clone());
    let shape = [1, 3, 64, 64];
    let plane = |value: f32| vec![value; 64 * 64];
    let picture = [plane(1.5), plane(-1.0), plane(-1.5)].concat();
    let began = now();
    let logits = remote.ask(&shape, &picture).expect("an answer");
    println!("MLServer: {:?} for a picture of 64 x 64", began.elapsed());
    // 4 * 1.5 + 3 * 1 + 3 * 1.5 - 4, and 1.5 * (1.5 - 1 - 1.5) - 6.
    let wanted = [9.5, -7.5];
    assert!(
        logits.len() == 2 && logits.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-4),
        "{logits:?}"
    );
    let mut unknown = Remote::new(RemoteNet { model: "nobody".to_owned(), ..place });
    let told = unknown.ask(&shape, &picture).expect_err("no such model").to_string();
    assert!(told.contains("404"), "{told}");
    kill("-STOP", server.process.id());
    let began = now();
    let hung = remote.ask(&shape, &picture).expect_err("it hangs");
    assert!(matches!(hung, RemoteError::NoAnswer { .. }), "{hung}");
    assert!(began.elapsed() < timeout * 2, "{:?}", began.elapsed());
    let began = now();
    let resting = remote.ask(&shape, &picture).expect_err("it rests");
    assert!(matches!(resting, RemoteError::Resting(_)), "{resting}");
    assert!(began.elapsed() < Duration::from_millis(100), "{:?}", began.elapsed());
}
