//! The caching server and the simulators' frames, fed with anything. The server runs as in the gateway, on a
//! socket; a panic in one of its tasks ends the fuzzer, since the fuzzer's hook hears every panic.
#![no_main]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use house::config::{Address, DeviceConfig, FieldBus, ModbusServer, builtin_profiles};
use house::frames::{self, Framing};
use house::io::clock::Clock;
use house::io::modbus::{self, Wiring};
use house::logic::site::Id;
use libfuzzer_sys::fuzz_target;
use tokio::sync::watch;

/// A meter whose every register reads as its address, so that the server has something to serve.
fn meter() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut request = [0; 12];
                while stream.read_exact(&mut request).is_ok() {
                    let count = request[11];
                    let length = (3 + u16::from(count) * 2).to_be_bytes();
                    let mut answer = request[..4].to_vec();
                    answer.extend([length[0], length[1], request[6], request[7], count * 2]);
                    let first = u16::from_be_bytes([request[8], request[9]]);
                    answer.extend((0..u16::from(count)).flat_map(|i| (first + i).to_be_bytes()));
                    if stream.write_all(&answer).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

/// The caching server, started once.
fn server() -> SocketAddr {
    static SERVER: OnceLock<SocketAddr> = OnceLock::new();
    *SERVER.get_or_init(|| {
        // Free a moment ago, and nobody else asks for it so soon.
        let listen = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let meter = meter();
        std::thread::spawn(move || gateway(listen, meter));
        while TcpStream::connect(listen).is_err() {
            std::thread::yield_now();
        }
        listen
    })
}

/// Only a field bus with one meter.
fn gateway(listen: SocketAddr, meter: SocketAddr) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let server = Some(ModbusServer { listen, max_age: Duration::from_secs(60), allow: Vec::new() });
    let (host, port) = (meter.ip().to_string(), meter.port());
    let device = DeviceConfig {
        id: Id::try_from("grid").unwrap(),
        profile: builtin_profiles()["eastron-sdm630"].clone(),
        address: Address::Tcp { host, port },
        unit: 1,
        failsafe_a: None,
        serve_as: Some(7),
        relays: Vec::new(),
    };
    let site = include_str!("../../../config/depot.toml");
    let folder = std::env::temp_dir().join(format!("wattgate-fuzz-{}.toml", std::process::id()));
    std::fs::write(&folder, site).unwrap();
    let (config, _) = house::config::load(&folder).unwrap();
    std::fs::remove_file(&folder).unwrap();
    let (observations, inbox) = sync_channel(1024);
    let (_decisions, newest) = watch::channel(None);
    let (_stop, shutdown) = watch::channel(false);
    let wiring = Wiring {
        fieldbus: FieldBus { identity: None, server },
        site: Arc::new(config.site),
        clock: Clock::real(),
        observations,
        decisions: newest,
        writes: watch::Sender::default(),
        shutdown,
    };
    std::thread::spawn(move || inbox.into_iter().for_each(drop));
    runtime.block_on(async {
        for task in modbus::start(&[device], &wiring) {
            let _ = task.await;
        }
    });
}

/// Everything that the server says must be whole frames.
fn ask_server(bytes: &[u8]) {
    let mut stream = TcpStream::connect(server()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut said = Vec::new();
    match stream.read_to_end(&mut said) {
        // Who hangs up on noise that it has not read to the end resets the line.
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return,
        Err(error) => panic!("{error}"),
        Ok(_) => {}
    }
    let mut rest = said.as_slice();
    while !rest.is_empty() {
        assert!(rest.len() >= 8, "half a frame: {rest:?}");
        let length = usize::from(u16::from_be_bytes([rest[4], rest[5]]));
        assert!((2..=254).contains(&length) && rest.len() >= 6 + length, "{rest:?}");
        rest = &rest[6 + length..];
    }
}

fn simulators(framing: Framing, bytes: &[u8]) {
    let mut received = bytes.to_vec();
    loop {
        let before = received.len();
        match frames::take(framing, &mut received) {
            Ok(Some(request)) => {
                assert!(received.len() < before && request.pdu.len() <= 264);
                let _ = frames::answer(framing, &request, &request.pdu);
            }
            Ok(None) | Err(frames::Noise) => return,
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let [kind, bytes @ ..] = input else { return };
    match kind % 4 {
        0 => simulators(Framing::Tcp, bytes),
        1 => simulators(Framing::Rtu, bytes),
        _ => ask_server(bytes),
    }
});
