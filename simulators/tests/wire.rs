//! Promises about the simulators' sockets, tested with plain bytes: no Modbus or HTTP library stands
//! between, so that the simulators cannot agree with themselves about a mistake.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use simulators::faults::Faults;
use simulators::fleet::{self, Fleet};
use simulators::scenario::Scenario;
use simulators::site::{self, Site};
use tokio::runtime::Runtime;

const READ_HOLDING: u8 = 3;
const READ_INPUT: u8 = 4;
const PATIENCE: Duration = Duration::from_millis(3000);

fn running() -> (Runtime, Site) {
    let runtime = Runtime::new().unwrap();
    let options = site::Options { scenario: Scenario::one_pile(), seed: 7, speed: 1.0, port: 0 };
    let site = runtime.block_on(site::start(options)).unwrap();
    (runtime, site)
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Sends a request and returns the answer's function code and what follows it.
fn ask(stream: &mut TcpStream, unit: u8, pdu: &[u8]) -> std::io::Result<(u8, Vec<u8>)> {
    let mut frame = vec![0x12, 0x34, 0, 0, 0, pdu.len() as u8 + 1, unit];
    frame.extend_from_slice(pdu);
    stream.write_all(&frame)?;
    let mut head = [0; 8];
    stream.read_exact(&mut head)?;
    assert_eq!(head[..4], [0x12, 0x34, 0, 0]);
    let mut body = vec![0; usize::from(u16::from_be_bytes([head[4], head[5]])) - 2];
    stream.read_exact(&mut body)?;
    Ok((head[7], body))
}

fn read(stream: &mut TcpStream, function: u8, first: u16, count: u16) -> (u8, Vec<u8>) {
    let [a, b] = first.to_be_bytes();
    let [c, d] = count.to_be_bytes();
    ask(stream, 1, &[function, a, b, c, d]).unwrap()
}

fn float(answer: &(u8, Vec<u8>)) -> f32 {
    f32::from_be_bytes(answer.1[1..5].try_into().unwrap())
}

fn set_current(stream: &mut TcpStream, amps: f32) -> (u8, Vec<u8>) {
    let [a, b, c, d] = amps.to_be_bytes();
    ask(stream, 1, &[16, 0x04, 0xBA, 0, 2, 4, a, b, c, d]).unwrap()
}

fn silent() -> Faults {
    Faults { silent: true, ..Faults::default() }
}

#[test]
fn devices_answer_as_their_maps_say() {
    let (_runtime, site) = running();
    let at = site.addresses();
    let mut meter = connect(at.meter);
    let volts = float(&read(&mut meter, READ_INPUT, 0, 2));
    assert!((220.0..240.0).contains(&volts), "{volts}");
    assert_eq!(read(&mut meter, READ_INPUT, 0x50, 2), (0x84, vec![2]));
    assert_eq!(read(&mut meter, READ_HOLDING, 0, 2), (0x83, vec![2]));
    assert_eq!(ask(&mut meter, 2, &[4, 0, 0, 0, 2]).unwrap(), (0x84, vec![0x0B]));
    let mut pile = connect(at.piles[0].address);
    assert_eq!(set_current(&mut pile, 13.5), (16, vec![0x04, 0xBA, 0, 2]));
    assert_eq!(float(&read(&mut pile, READ_HOLDING, 1210, 2)), 13.5);
    assert_eq!(ask(&mut pile, 1, &[6, 0x04, 0xBA, 0, 10]).unwrap(), (0x86, vec![1]));
    let mut hybrid = connect(at.hybrid);
    assert_eq!(read(&mut hybrid, READ_HOLDING, 40_000, 2).1[1..], *b"SunS");
}

#[test]
fn an_unreachable_device_refuses_and_comes_back_on_its_port() {
    let (_runtime, site) = running();
    let address = site.addresses().meter;
    let mut old = connect(address);
    read(&mut old, READ_INPUT, 0, 2);
    let gone = Faults { unreachable: true, ..Faults::default() };
    site.shared().set_faults("grid", gone).unwrap();
    let ended = old.read(&mut [0; 8]);
    assert!(
        matches!(&ended, Ok(0)) || ended.is_err_and(|e| e.kind() == ErrorKind::ConnectionReset)
    );
    assert_eq!(TcpStream::connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    site.shared().set_faults("grid", Faults::default()).unwrap();
    let back = (0..100).find_map(|_| {
        std::thread::park_timeout(Duration::from_millis(30));
        TcpStream::connect(address).ok()
    });
    read(&mut back.unwrap(), READ_INPUT, 0, 2);
}

/// Whoever asks as soon as the switch is answered finds it so: the socket is closed, or open again, by then.
#[test]
fn a_switch_that_is_answered_has_been_thrown() {
    let (_runtime, site) = running();
    let (http_at, meter) = (site.addresses().http, site.addresses().meter);
    for round in 0..200 {
        let gone = r#"{"device": "grid", "unreachable": true}"#;
        assert_eq!(http(http_at, "POST", "/fault", gone).0, 204);
        let refused = TcpStream::connect(meter).map_err(|error| error.kind());
        assert!(matches!(refused, Err(ErrorKind::ConnectionRefused)), "{round}: {refused:?}");
        assert_eq!(http(http_at, "POST", "/fault", r#"{"device": "grid"}"#).0, 204);
        assert_eq!(read(&mut connect(meter), READ_INPUT, 0, 2).0, READ_INPUT, "{round}");
    }
}

#[test]
fn clients_are_bounded_and_silence_does_not_use_places_up() {
    let (_runtime, site) = running();
    let address = site.addresses().meter;
    site.shared().set_faults("grid", silent()).unwrap();
    for _ in 0..20 {
        let mut client = connect(address);
        client.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let unanswered = ask(&mut client, 1, &[4, 0, 0, 0, 2]).unwrap_err();
        assert!(matches!(unanswered.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut));
    }
    site.shared().set_faults("grid", Faults::default()).unwrap();
    let mut kept: Vec<TcpStream> = Vec::new();
    // The places of those that left come free when their end is read, not as they leave.
    for tries in 0.. {
        let mut client = connect(address);
        match ask(&mut client, 1, &[READ_INPUT, 0, 0, 0, 2]) {
            Ok(_) => kept.push(client),
            Err(error) => assert!(tries < 10_000, "{} places only: {error}", kept.len()),
        }
        if kept.len() == 8 {
            break;
        }
    }
    assert!(ask(&mut connect(address), 1, &[4, 0, 0, 0, 2]).is_err());
    for client in &mut kept {
        read(client, READ_INPUT, 0, 2);
    }
}

#[test]
fn faults_show_on_the_wire() {
    let (_runtime, site) = running();
    let shared = site.shared();
    let mut meter = connect(site.addresses().meter);
    let live = |meter: &mut TcpStream| read(meter, READ_INPUT, 0, 12);
    assert_ne!(live(&mut meter), live(&mut meter));
    shared.set_faults("grid", Faults { frozen: true, ..Faults::default() }).unwrap();
    assert_eq!(live(&mut meter), live(&mut meter));
    let busy = Faults { exception: Some(6), ..Faults::default() };
    shared.set_faults("grid", busy).unwrap();
    assert_eq!(live(&mut meter), (0x84, vec![6]));
    shared.set_faults("grid", Faults { late_ms: 200, ..Faults::default() }).unwrap();
    meter.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    assert!(ask(&mut meter, 1, &[4, 0, 0, 0, 2]).is_err());
    assert!(shared.set_faults("meter", silent()).is_err());
    let odd = Faults { exception: Some(99), ..Faults::default() };
    assert!(shared.set_faults("grid", odd).is_err());
}

#[test]
fn a_reboot_cuts_and_forgets() {
    let (_runtime, site) = running();
    let address = site.addresses().piles[0].address;
    let mut pile = connect(address);
    set_current(&mut pile, 20.0);
    let reboot = Faults { reboot: true, ..Faults::default() };
    site.shared().set_faults("pile1", reboot).unwrap();
    assert!(!matches!(pile.read(&mut [0; 8]), Ok(1..)));
    let back = (0..100).find_map(|_| {
        std::thread::park_timeout(Duration::from_millis(30));
        TcpStream::connect(address).ok()
    });
    let mut back = back.unwrap();
    assert_eq!(float(&read(&mut back, READ_HOLDING, 1210, 2)), 6.0);
    assert_eq!(read(&mut back, READ_HOLDING, 1208, 2).1, [4, 0, 0, 0, 0]);
}

/// Status and body of an HTTP request.
fn http(address: SocketAddr, method: &str, path: &str, body: &str) -> (u16, Vec<u8>) {
    let mut stream = connect(address);
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
    let status = std::str::from_utf8(&answer[9..12]).unwrap().parse().unwrap();
    (status, answer.split_off(end))
}

#[test]
fn the_world_is_seen_and_changed_over_http() {
    let (_runtime, site) = running();
    let at = site.addresses().http;
    let one = http(at, "GET", "/camera/cam1.jpg", "");
    assert_eq!((one.0, &one.1[..2]), (200, &[0xFF, 0xD8][..]));
    assert_ne!(one, http(at, "GET", "/camera/cam1.jpg", ""));
    let bays: serde_json::Value =
        serde_json::from_slice(&http(at, "GET", "/bays.json", "").1).unwrap();
    assert_eq!(bays[0]["id"], "bay1");
    assert_eq!(bays[3]["poly"].as_array().unwrap().len(), 4);
    let change = r#"{"pv_w": 0, "building_w": 7000, "plug": {"bay": "bay1", "plugged": false},
        "fire": {"bay": "bay2", "intensity": 0.5}}"#;
    assert_eq!(http(at, "POST", "/set", change).0, 204);
    let truth: serde_json::Value =
        serde_json::from_slice(&http(at, "GET", "/truth", "").1).unwrap();
    assert_eq!(truth["chargers"][0]["state"], "A");
    assert_eq!(truth["bays"][1]["fire"], 0.5);
    for (path, body, word) in [
        ("/set", r#"{"building": 1}"#, "building"),
        ("/set", r#"{"building_w": "much"}"#, "invalid type"),
        ("/set", r#"{"pv_w": -5}"#, "pv_w"),
        ("/set", r#"{"smoke": {"bay": "bay7", "intensity": 1}}"#, "bay7"),
        ("/set", "nonsense", "expected"),
        ("/fault", r#"{"device": "meter", "silent": true}"#, "grid, hybrid, pile1"),
        ("/fault", r#"{"device": "grid", "quiet": true}"#, "quiet"),
    ] {
        let (status, answer) = http(at, "POST", path, body);
        let answer = String::from_utf8(answer).unwrap();
        assert!(status == 400 && answer.contains(word), "{body}: {status} {answer}");
    }
    assert_eq!(http(at, "POST", "/fault", r#"{"device": "grid", "broken": true}"#).0, 204);
    let mut meter = connect(site.addresses().meter);
    assert_eq!(read(&mut meter, READ_INPUT, 0, 2), (0x84, vec![4]));
}

#[test]
fn the_broker_speaks_both_versions() {
    let port = simulators::broker::start(0).unwrap();
    let connect_5 = [0x10, 14, 0, 4, b'M', b'Q', b'T', b'T', 5, 2, 0, 30, 0, 0, 1, b'a'];
    let connect_3 = [0x10, 13, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 30, 0, 1, b'b'];
    for (port, packet) in [(port, &connect_5[..]), (port + 1, &connect_3[..])] {
        let mut stream = connect(SocketAddr::from(([127, 0, 0, 1], port)));
        stream.write_all(packet).unwrap();
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!((answer[0], answer[3]), (0x20, 0), "port {port}: {answer:?}");
    }
}

#[test]
fn noise_ends_a_connection_and_nothing_else() {
    let (_runtime, site) = running();
    let mut rng = fastrand::Rng::with_seed(21);
    let mut good = connect(site.addresses().meter);
    for round in 0..400 {
        let mut client = connect(site.addresses().meter);
        client.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let mut bytes: Vec<u8> = (0..rng.usize(1..80)).map(|_| rng.u8(..)).collect();
        if round % 2 == 0 {
            // A valid header before any function and body.
            let length = (bytes.len() as u16 + 1).to_be_bytes();
            bytes.splice(0..0, [0, 1, 0, 0, length[0], length[1], 1]);
        }
        let _ = client.write_all(&bytes);
        let _ = client.read(&mut [0; 300]);
        if round % 50 == 0 {
            let answer = read(&mut good, READ_INPUT, 0, 2);
            assert_eq!(answer.0, READ_INPUT, "seed 21, round {round}");
        }
    }
}

#[test]
fn more_faults_show_on_the_wire() {
    let (_runtime, site) = running();
    let shared = site.shared();
    let address = site.addresses().meter;
    let set = |faults| shared.set_faults("grid", faults).unwrap();
    let mut meter = connect(address);
    set(Faults { garbage: Some(0x4BAD), ..Faults::default() });
    let megawatts = float(&read(&mut meter, READ_INPUT, 52, 2));
    assert!((22.0e6..23.0e6).contains(&megawatts), "{megawatts}");
    set(Faults { short: true, ..Faults::default() });
    assert_eq!(read(&mut meter, READ_INPUT, 0, 4).1.len(), 1 + 6);
    set(Faults { long: true, ..Faults::default() });
    assert_eq!(read(&mut meter, READ_INPUT, 0, 4).1.len(), 1 + 10);
    set(Faults { flips_ppm: 1_000_000, ..Faults::default() });
    let mut frame = [0; 13];
    meter.write_all(&[0x12, 0x34, 0, 0, 0, 6, 1, 4, 0, 0, 0, 2]).unwrap();
    meter.read_exact(&mut frame).unwrap();
    assert!(frame[..6] != [0x12, 0x34, 0, 0, 0, 7], "every byte has a flipped bit: {frame:?}");
    set(Faults { one_client: true, ..Faults::default() });
    assert!(ask(&mut connect(address), 1, &[4, 0, 0, 0, 2]).is_err());
    assert!(
        shared.set_faults("grid", Faults { flips_ppm: 2_000_000, ..Faults::default() }).is_err()
    );
    assert_eq!(shared.heard("grid").writes, 0);
}

/// The devices of a site file, running.
fn fleet(devices: &str, bridge: bool) -> (Runtime, Fleet) {
    let folder = std::env::temp_dir().join(format!("fleet-{}-{bridge}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("site.toml");
    std::fs::write(&file, format!("[site]\nid = \"x\"\n[grid]\nlimit_a = 50\n{devices}")).unwrap();
    let members = fleet::members(&file).unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    let runtime = Runtime::new().unwrap();
    let options = fleet::Options { seed: 3, speed: 1.0, port: 0, bridge };
    let fleet = runtime.block_on(fleet::start(members, options)).unwrap();
    (runtime, fleet)
}

/// A site file's devices, as the gateway writes them.
fn device(id: &str, profile: &str, more: &str) -> String {
    format!(
        "[[device]]\nid = \"{id}\"\nprofile = \"{profile}\"\naddress = \"tcp://10.0.0.1\"\n{more}\n"
    )
}

#[test]
fn the_devices_of_a_site_file_share_one_world_and_have_all_switches() {
    let devices = [
        device("meter", "eastron-sdm630", ""),
        device("left", "alfen-ng9", "max_a = 32"),
        device("right", "alfen-ng9", "unit = 2\nmax_a = 16"),
    ];
    let (_runtime, fleet) = fleet(&devices.concat(), false);
    let places: Vec<(&str, u8)> = fleet.places.iter().map(|p| (p.name.as_str(), p.unit)).collect();
    assert_eq!(places, [("meter", 1), ("left", 1), ("right", 2)]);
    let mut left = connect(fleet.places[1].address);
    assert_eq!(set_current(&mut left, 13.5).0, 16);
    let mut right = connect(fleet.places[2].address);
    let [a, b, c, d] = 10.0_f32.to_be_bytes();
    assert_eq!(ask(&mut right, 2, &[16, 0x04, 0xBA, 0, 2, 4, a, b, c, d]).unwrap().0, 16);
    let told =
        |fleet: &Fleet| fleet.shared().with(|w| [w.piles[0].setpoint_a, w.piles[1].setpoint_a]);
    assert_eq!(told(&fleet), [13.5, 10.0], "each charger is a pile of its own");
    fleet.shared().with(|world| {
        for _ in 0..40 {
            world.piles[0].feed();
            world.step(0.5);
        }
    });
    let amps = float(&read(&mut left, READ_HOLDING, 320, 2));
    assert!((13.0..14.0).contains(&amps), "{amps} A");
    // The meter sees both cars and the house.
    let watts = float(&read(&mut connect(fleet.places[0].address), READ_INPUT, 52, 2));
    let truth = fleet.shared().with(|world| world.truth().grid_w);
    assert!((f64::from(watts) - truth).abs() < 600.0, "{watts} W of {truth} W");
    let fault = |body: &str| http(fleet.http, "POST", "/fault", body).0;
    assert_eq!(fault(r#"{"device": "left", "foreign_a": 9}"#), 204);
    assert_eq!(told(&fleet), [9.0, 10.0], "another master has written");
    assert_eq!(float(&read(&mut left, READ_HOLDING, 1210, 2)), 9.0, "and it shows");
    assert_eq!(fault(r#"{"device": "meter", "foreign_a": 9}"#), 400);
    assert_eq!(fault(r#"{"device": "left", "reboot": true}"#), 204);
    assert_eq!(fault(r#"{"device": "right", "exception": 4}"#), 204);
    assert_eq!(ask(&mut right, 2, &[3, 4, 0xBA, 0, 2]).unwrap(), (0x83, vec![4]));
    let answer = read(&mut connect(fleet.places[1].address), READ_HOLDING, 1210, 2);
    assert_eq!(answer.0, READ_HOLDING, "the other one is well");
}

#[test]
fn the_devices_of_a_site_file_stand_on_one_line_if_asked_for() {
    let devices = device("meter", "eastron-sdm630", "") + &device("left", "alfen-ng9", "");
    let (_runtime, fleet) = fleet(&devices, true);
    assert_eq!(fleet.places[0].address, fleet.places[1].address);
    assert_eq!(fleet.places.iter().map(|place| place.unit).collect::<Vec<_>>(), [1, 2]);
    let mut line = connect(fleet.places[0].address);
    for (unit, function, first) in [(1, READ_INPUT, 0_u16), (2, READ_HOLDING, 306)] {
        let [a, b] = first.to_be_bytes();
        let mut frame = vec![unit, function, a, b, 0, 2];
        frame.extend(simulators::frames::crc(&frame));
        line.write_all(&frame).unwrap();
        let mut answer = [0; 9];
        line.read_exact(&mut answer).unwrap();
        assert_eq!(answer[..3], [unit, function, 4]);
        let volts = f32::from_be_bytes(answer[3..7].try_into().unwrap());
        assert!((215.0..245.0).contains(&volts), "unit {unit}: {volts} V");
    }
}

#[test]
fn a_site_file_without_devices_or_with_an_unknown_profile_is_refused_with_its_name() {
    let folder = std::env::temp_dir().join(format!("fleet-bad-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("site.toml");
    for (text, word) in [
        (String::new(), "[[device]]"),
        (device("left", "no-such-profile", ""), "device `left`"),
        ("[[device]]\nid = 3".to_owned(), "site.toml"),
    ] {
        std::fs::write(&file, &text).unwrap();
        let why = fleet::members(&file).unwrap_err().to_string();
        assert!(why.contains(word), "{text}: {why}");
    }
    std::fs::remove_dir_all(&folder).unwrap();
}
