//! Jobs on a remote node: what its service is asked, and what becomes of a job that fails there.
//!
//! What a stranger gets wrong: the service of the tests keeps to its side, too. What has ended there it does not begin anew.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use simulators::site::Site;

use crate::bus::rig::devices;
use crate::gateway::{PATIENCE, until};
use crate::jobs::Gateway;

/// The service of a remote node, which begins nothing anew that has ended there.
#[derive(Clone)]
struct Node {
    /// First line and body of what was answered.
    asked: Arc<Mutex<Vec<(String, String)>>>,
    /// How each job is.
    state: Arc<Mutex<&'static str>>,
    /// A start or power that holds this is taken and not answered, so often.
    losing: Arc<Mutex<(&'static str, u32)>>,
}

fn serve(listener: TcpListener) -> Node {
    let state = Arc::new(Mutex::new("running"));
    let node = Node { asked: Arc::default(), state, losing: Arc::default() };
    let Node { asked: log, state: answer, losing: loses } = node.clone();
    std::thread::spawn(move || {
        let mut ended = BTreeSet::new();
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let (mut first, mut length) = (String::new(), 0);
            let _ = reader.read_line(&mut first);
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line).unwrap_or(0) <= 2 {
                    break;
                }
                let lower = line.to_ascii_lowercase();
                if let Some(bytes) = lower.strip_prefix("content-length:") {
                    length = bytes.trim().parse().unwrap();
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            let body = String::from_utf8(body).unwrap();
            let mut loses = loses.lock().unwrap();
            if loses.1 > 0 && first.starts_with("PUT") && body.contains(loses.0) {
                loses.1 -= 1;
                continue;
            }
            let state = *answer.lock().unwrap();
            let name = first.split_whitespace().nth(1).unwrap_or_default().to_owned();
            let refused = first.starts_with("PUT") && ended.contains(&name);
            if first.starts_with("DELETE") || (first.starts_with("GET") && state != "running") {
                ended.insert(name);
            }
            log.lock().unwrap().push((first, body));
            let text = json!({"state": state}).to_string();
            let head = format!(
                "HTTP/1.1 {}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                if refused { "409 Conflict" } else { "200 OK" },
                text.len()
            );
            let _ = stream.write_all((head + &text).as_bytes());
        }
    });
    node
}

impl Node {
    /// Whether this was asked of the first try of a job, with this word.
    fn said(&self, verb: &str, job: &str, word: &str) -> Option<()> {
        self.asked(verb, &format!("{job}-1"), word).map(|_| ())
    }

    /// The place of it among all that was asked.
    fn asked(&self, verb: &str, job: &str, word: &str) -> Option<usize> {
        let start = format!("{verb} /run/{job} ");
        let all = self.asked.lock().unwrap();
        all.iter().position(|(first, body)| first.starts_with(&start) && body.contains(word))
    }
}

/// A gateway with a node, and what its workload needs beside.
fn with_node(folder: &Path, sim: &Site, more: &str) -> (Gateway, Node) {
    let meter = sim.addresses().meter.to_string();
    let device = sim.addresses().node.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/run", listener.local_addr().unwrap());
    let node = serve(listener);
    let more = format!(
        "[[device]]\nid = \"node\"\nprofile = \"capped-node\"\naddress = \"tcp://{device}\"\n\
         min_w = 800\nmax_w = 6000\nfailsafe_w = 2000\n\
         [[workload]]\nid = \"train\"\nenergy_wh = 5000\nmax_w = 900\nurl = \"{url}\"\nnode = \"node\"\n{more}\
         [[workload.parameter]]\nname = \"epochs\"\nmin = 1\nmax = 50\n"
    );
    (Gateway::of(folder, ("auto", &meter), &more), node)
}

#[test]
fn a_job_on_a_remote_node_is_started_there_and_ended() {
    let folder = tempfile::tempdir().unwrap();
    let (_runtime, sim) = devices("sunny_day");
    let (gateway, node) = with_node(folder.path(), &sim, "retries = 0\n");
    let said = |verb: &str, job: &str, word: &str| node.said(verb, job, word);
    let body = json!({"parameters": {"epochs": 7}});
    let first = gateway.submit("train", &body);
    gateway.is(&first, "running");
    said("PUT", &first, r#""epochs":"7""#).expect("its parameters");
    until("its power", PATIENCE, || said("PUT", &first, r#""power_w":900.0"#));
    // That it waits is said again when it was lost.
    *node.losing.lock().unwrap() = (r#""power_w":0.0"#, 1);
    gateway.post(&format!("jobs/{first}/pause"), &gateway.code, "");
    until("the pause", PATIENCE, || said("PUT", &first, r#""power_w":0.0"#));
    gateway.post(&format!("jobs/{first}/resume"), &gateway.code, "");
    *node.state.lock().unwrap() = "done";
    gateway.is(&first, "done");
    *node.state.lock().unwrap() = "running";
    let second = gateway.submit("train", &body);
    gateway.is(&second, "running");
    gateway.post(&format!("jobs/{second}/cancel"), &gateway.code, "");
    until("the end", PATIENCE, || said("DELETE", &second, ""));
    // Nobody knows whether a node that did not answer has begun: it is told to end.
    *node.losing.lock().unwrap() = ("epochs", 1);
    let third = gateway.submit("train", &body);
    until("the end of what may run", PATIENCE, || said("DELETE", &third, ""));
    gateway.is(&third, "failed");
}

/// A node does not begin what has ended there: the next try is another thing to it, and the one before is over.
#[test]
fn a_job_that_failed_on_a_node_is_tried_there_under_another_name() {
    let folder = tempfile::tempdir().unwrap();
    let (_runtime, sim) = devices("sunny_day");
    let (gateway, node) = with_node(folder.path(), &sim, "retries = 1\n");
    let job = gateway.submit("train", &json!({"parameters": {"epochs": 7}}));
    gateway.is(&job, "running");
    *node.state.lock().unwrap() = "failed";
    gateway.is(&job, "waiting");
    *node.state.lock().unwrap() = "running";
    let minute = Duration::from_secs(60) + PATIENCE;
    until("another try", minute, || gateway.job(&job).filter(|job| job["state"] == "running"));
    let next = node.asked("PUT", &format!("{job}-2"), r#""epochs":"7""#).expect("its parameters");
    let before = node.asked("DELETE", &format!("{job}-1"), "").expect("the end of the one before");
    assert!(before < next, "{before} {next}");
    *node.state.lock().unwrap() = "done";
    gateway.is(&job, "done");
}
