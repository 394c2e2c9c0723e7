//! One connection, one request after the other: the bus beside the bare wire and beside libmodbus.
//!
//! What a stranger gets wrong: the device is a process of its own, as far from one client as from the other. Left to
//! the system it is a matter of luck which client has it on its own core, and that luck is worth a factor of three. So
//! it is measured twice, each process on a core that is said: the device on another core than all clients, as it is a
//! machine of its own at a site, and all of them on one core, where only the work of each counts.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use wattgate::config::{Address, Table};
use wattgate::io::modbus::{Bus, Pace};

use super::{bar, median, thread_cpu};

/// Registers of a read.
const REGISTERS: u16 = 100;
/// Reads of each client in one burst, and bursts.
const READS: u32 = 1_000;
const BURSTS: usize = 61;
const PACE: Pace =
    Pace { connect: Duration::from_secs(2), call: Duration::from_secs(2), gap: Duration::ZERO };

/// Answers reads with what was written, else zeros, after `delay`; tells when writes came. A thread a client.
pub fn server(delay: Duration, writes: Option<Sender<Instant>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let writes = writes.clone();
            std::thread::spawn(move || answer(stream, delay, writes.as_ref()));
        }
    });
    address
}

/// Time that a device, or the site, takes.
pub fn pass(span: Duration) {
    let end = Instant::now() + span;
    while Instant::now() < end {
        std::thread::park_timeout(end.saturating_duration_since(Instant::now()));
    }
}

fn answer(mut stream: TcpStream, delay: Duration, writes: Option<&Sender<Instant>>) {
    stream.set_nodelay(true).unwrap();
    let mut request = [0; 300];
    let mut frame = [0; 300];
    let mut held = vec![0_u8; 2 * 65_536];
    while let Ok(got @ 12..) = stream.read(&mut request) {
        frame[..8].copy_from_slice(&request[..8]);
        let first = usize::from(u16::from_be_bytes([request[8], request[9]])) * 2;
        let length = if request[7] == 16 {
            if let Some(writes) = writes {
                let _ = writes.send(Instant::now());
            }
            frame[8..12].copy_from_slice(&request[8..12]);
            let bytes = usize::from(request[12]);
            held[first..first + bytes].copy_from_slice(&request[13..13 + bytes]);
            12
        } else {
            let bytes = usize::from(request[11]) * 2;
            frame[8] = bytes as u8;
            frame[9..9 + bytes].copy_from_slice(&held[first..first + bytes]);
            9 + bytes
        };
        assert!(got <= 300);
        frame[4..6].copy_from_slice(&((length - 6) as u16).to_be_bytes());
        pass(delay);
        if stream.write_all(&frame[..length]).is_err() {
            return;
        }
    }
}

const ASK: [u8; 12] = [0, 1, 0, 0, 0, 6, 1, 3, 0, 0, 0, REGISTERS as u8];
const ANSWER: usize = 9 + REGISTERS as usize * 2;

/// Reads a second, and CPU of the client for a thousand, ms.
type Speed = (f64, f64);

fn speed(began: Instant, cpu: f64) -> Speed {
    let reads = f64::from(READS);
    (reads / began.elapsed().as_secs_f64(), (thread_cpu() - cpu) * 1e6 / reads)
}

fn raw_blocking(stream: &mut TcpStream) -> Speed {
    let (began, cpu, mut frame) = (Instant::now(), thread_cpu(), [0; ANSWER]);
    for _ in 0..READS {
        stream.write_all(&ASK).unwrap();
        stream.read_exact(&mut frame).unwrap();
    }
    speed(began, cpu)
}

async fn raw_async(stream: &mut tokio::net::TcpStream) -> Speed {
    let (began, cpu, mut frame) = (Instant::now(), thread_cpu(), [0; ANSWER]);
    for _ in 0..READS {
        stream.write_all(&ASK).await.unwrap();
        stream.read_exact(&mut frame).await.unwrap();
    }
    speed(began, cpu)
}

async fn ours(bus: &mut Bus) -> Speed {
    let (began, cpu) = (Instant::now(), thread_cpu());
    for _ in 0..READS {
        let words = bus.read(1, Table::Holding, (0, REGISTERS), PACE).await.unwrap();
        assert_eq!(words.len(), usize::from(REGISTERS));
    }
    speed(began, cpu)
}

/// Set in the process that is the device.
pub const IS_DEVICE: &str = "WATTGATE_BENCH_IS_DEVICE";

/// The device in a process of its own, as far from one client as from the other.
pub struct Apart(Child);

impl Apart {
    /// On a core, or where this process is.
    fn start(core: Option<&str>) -> (Apart, SocketAddr) {
        let program = std::env::current_exe().unwrap();
        let mut command = match core {
            Some(core) => on_core(core, &program),
            None => Command::new(program),
        };
        command.env(IS_DEVICE, "1").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        (Apart(child), line.trim().parse().unwrap())
    }

    /// Serves until whoever started it is gone.
    pub fn serve() {
        println!("{}", server(Duration::ZERO, None));
        let _ = std::io::stdin().read(&mut [0]);
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A C program on libmodbus that does the same, a burst for each line that it is sent.
struct Libmodbus {
    child: Child,
    said: BufReader<ChildStdout>,
    _folder: tempfile::TempDir,
}

impl Libmodbus {
    /// Nothing where it cannot be built.
    fn start(address: SocketAddr) -> Option<Libmodbus> {
        let source = format!(
            r#"
#include <modbus.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
static double now(clockid_t c) {{ struct timespec t; clock_gettime(c, &t); return t.tv_sec + t.tv_nsec / 1e9; }}
int main(int n, char **v) {{
    uint16_t words[125];
    modbus_t *c = modbus_new_tcp(v[1], atoi(v[2]));
    modbus_set_slave(c, 1);
    if (n != 3 || modbus_connect(c)) return 1;
    while (getchar() != EOF) {{
        double began = now(CLOCK_MONOTONIC), used = now(CLOCK_PROCESS_CPUTIME_ID);
        for (int i = 0; i < {READS}; i++)
            if (modbus_read_registers(c, 0, {REGISTERS}, words) != {REGISTERS}) return 2;
        printf("%f %f\n", {READS} / (now(CLOCK_MONOTONIC) - began),
               (now(CLOCK_PROCESS_CPUTIME_ID) - used) * 1e6 / {READS});
        fflush(stdout);
    }}
    return 0;
}}
"#
        );
        let folder = tempfile::tempdir().unwrap();
        let (file, program) = (folder.path().join("peer.c"), folder.path().join("peer"));
        std::fs::write(&file, source).unwrap();
        let mut compiler = Command::new("cc");
        compiler.args(["-O2", "-I/usr/include/modbus", "-o"]).arg(&program).arg(&file);
        if !compiler.arg("-lmodbus").status().is_ok_and(|status| status.success()) {
            println!("libmodbus-dev is missing: not compared");
            return None;
        }
        let mut command = Command::new(program);
        command.args([address.ip().to_string(), address.port().to_string()]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let said = BufReader::new(child.stdout.take().unwrap());
        Some(Libmodbus { child, said, _folder: folder })
    }

    fn burst(&mut self) -> Speed {
        self.child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        let numbers: Vec<f64> = line.split_whitespace().map(|n| n.parse().unwrap()).collect();
        (numbers[0], numbers[1])
    }
}

impl Drop for Libmodbus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Set in the process whose clients are on core 0: the core of the device.
const DEVICE_ON: &str = "WATTGATE_BENCH_DEVICE_ON";

fn on_core(core: &str, program: &Path) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", core]).arg(program);
    command
}

/// The comparison, with the device on a core of its own and on the clients' core.
pub fn throughput() {
    if let Ok(core) = std::env::var(DEVICE_ON) {
        return compare(Some(&core));
    }
    let program = std::env::current_exe().unwrap();
    for (core, title) in [("1", "the device on another core"), ("0", "all on one core")] {
        println!("{title}:");
        let mut again = on_core("0", &program);
        let done = again.arg("throughput").env(DEVICE_ON, core).status();
        if !done.is_ok_and(|status| status.success()) {
            println!(
                "cannot choose cores (taskset is missing, or core {core} is not ours): luck decides"
            );
            return compare(None);
        }
    }
}

fn compare(core: Option<&str>) {
    let (_device, address) = Apart::start(core);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let names = ["blocking", "runtime", "bus", "libmodbus"];
    let mut blocking = TcpStream::connect(address).unwrap();
    blocking.set_nodelay(true).unwrap();
    let mut raw = runtime.block_on(tokio::net::TcpStream::connect(address)).unwrap();
    raw.set_nodelay(true).unwrap();
    let (host, port) = (address.ip().to_string(), address.port());
    let mut bus = Bus::new(Address::Tcp { host, port });
    let mut peer = Libmodbus::start(address);
    let mut bursts: [Vec<Speed>; 4] = Default::default();
    for _ in 0..BURSTS {
        bursts[0].push(raw_blocking(&mut blocking));
        bursts[1].push(runtime.block_on(raw_async(&mut raw)));
        bursts[2].push(runtime.block_on(ours(&mut bus)));
        bursts[3].push(peer.as_mut().map_or((0.0, 0.0), Libmodbus::burst));
    }
    for (name, bursts) in names.iter().zip(&bursts) {
        let (reads, cpu) = bursts.iter().copied().unzip();
        let (reads, cpu) = (median(reads), median(cpu));
        println!(
            "{name:10} {reads:8.0} reads/s of {REGISTERS} registers, {cpu:5.1} ms CPU for 1000"
        );
    }
    // Of neighbours in time, burst by burst.
    let against = |other: usize| {
        let pairs = bursts[2].iter().zip(&bursts[other]);
        median(pairs.map(|((ours, _), (theirs, _))| ours / theirs).collect())
    };
    println!(
        "bus / bare wire on the runtime {:.2} (bar 0.85: {}), / blocking {:.2}, / libmodbus {:.2} (bar 1.2: {})",
        against(1),
        bar(against(1) >= 0.85),
        against(0),
        against(3),
        bar(against(3) >= 1.2),
    );
}
