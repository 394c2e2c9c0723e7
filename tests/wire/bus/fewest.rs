//! A device of two hundred values is read in the fewest requests that its limits allow: counted at the device,
//! held against all ways to cut the values into reads.
//!
//! What a stranger gets wrong: the fewest is not the number of registers over the longest read. A read may not
//! bridge more unused registers than the device allows, and no value may be split.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use wattgate::config::{Address, Point, Table, ValueType, builtin_profiles};

use super::rig::{self, Rig};
use crate::gateway::until;

/// Where the values lie: address and registers, in order.
type Spans = Vec<(u16, u16)>;

/// Values of a device, of one to four registers, with holes between.
fn values(rng: &mut fastrand::Rng) -> Spans {
    let mut next = rng.u16(0..50);
    let place = |_| {
        let (at, words) = (next, [1, 2, 4][rng.usize(0..3)]);
        next += words + rng.u16(0..4) * rng.u16(0..6);
        (at, words)
    };
    (0..200).map(place).collect()
}

/// The fewest reads of at most `most` registers that hold all values and bridge at most `gap` unused ones: for each
/// value, the best of all reads that may begin with it.
fn fewest(values: &[(u16, u16)], (gap, most): (u16, u16)) -> usize {
    let mut best = vec![0; values.len() + 1];
    for begin in (0..values.len()).rev() {
        let fits = |end: &usize| {
            let bridged = |pair: &[(u16, u16)]| pair[1].0 - (pair[0].0 + pair[0].1);
            let (first, (last, words)) = (values[begin].0, values[*end]);
            let near = values[begin..=*end].windows(2).all(|pair| bridged(pair) <= gap);
            near && last + words - first <= most
        };
        let ends = (begin..values.len()).take_while(fits);
        best[begin] = ends.map(|end| 1 + best[end + 1]).min().unwrap_or(usize::MAX);
    }
    best[0]
}

/// What a device was asked: first register and count, in order.
type Asked = Arc<Mutex<Spans>>;

/// A device whose registers are all 0 and that keeps what it was asked.
fn device() -> (SocketAddr, Asked) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Asked::default();
    let keeps = Arc::clone(&asked);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let keeps = Arc::clone(&keeps);
            std::thread::spawn(move || answer(stream, &keeps));
        }
    });
    (address, asked)
}

fn answer(mut stream: TcpStream, asked: &Mutex<Spans>) {
    let mut request = [0; 12];
    while stream.read_exact(&mut request).is_ok() {
        let word = |at: usize| u16::from_be_bytes([request[at], request[at + 1]]);
        let (first, count) = (word(8), word(10));
        asked.lock().unwrap().push((first, count));
        let bytes = usize::from(count) * 2;
        let mut frame = request[..4].to_vec();
        frame.extend(((3 + bytes) as u16).to_be_bytes());
        frame.extend([request[6], request[7], bytes as u8]);
        frame.resize(9 + bytes, 0);
        if stream.write_all(&frame).is_err() {
            return;
        }
    }
}

/// The reads of one whole round, once a third one has begun.
fn round(asked: &Asked) -> Spans {
    until("three rounds", Duration::from_secs(20), || {
        let asked = asked.lock().unwrap();
        let begins: Vec<usize> = (0..asked.len()).filter(|&i| asked[i] == asked[0]).collect();
        let [_, second, third, ..] = begins[..] else { return None };
        Some(asked[second..third].to_vec())
    })
}

#[test]
fn a_device_of_two_hundred_values_is_asked_the_fewest_times_that_its_limits_allow() {
    let mut rng = fastrand::Rng::with_seed(40);
    let (runtime, sim) = rig::devices("one_pile");
    let mut config = rig::checked(&rig::site_file(sim.addresses()));
    let template = config.devices[1].clone();
    let state = builtin_profiles()["alfen-ng9"].points[0].clone();
    let mut all = Vec::new();
    for i in 0..12 {
        let (values, limits) = (values(&mut rng), (rng.u16(0..20), rng.u16(8..=125)));
        let (address, asked) = device();
        let mut device = template.clone();
        device.id = rig::id(&format!("m{i}"));
        device.address = Address::Tcp { host: address.ip().to_string(), port: address.port() };
        (device.profile.max_gap, device.profile.max_registers) = limits;
        let point = |(n, &(address, words)): (usize, &(u16, u16))| Point {
            quantity: format!("x{n}"),
            table: Table::Holding,
            address,
            value_type: [ValueType::U16, ValueType::F32, ValueType::F64][usize::from(words / 2)],
            min: None,
            max: None,
            ..state.clone()
        };
        device.profile.points = values.iter().enumerate().map(point).collect();
        config.devices.push(device);
        all.push((values, limits, asked));
    }
    let _rig = Rig::start((runtime, sim), config, false);
    let mut told = Vec::new();
    for (values, (gap, most), asked) in all {
        let reads = round(&asked);
        assert!(reads.iter().all(|(_, count)| *count <= most), "{reads:?} of at most {most}");
        let whole = |(at, words): &(u16, u16)| {
            let mut holding =
                reads.iter().filter(|(first, count)| first <= at && at + words <= first + count);
            holding.next().is_some()
        };
        assert!(values.iter().all(whole), "a value is split or left out: {reads:?}");
        let fewest = fewest(&values, (gap, most));
        assert_eq!(reads.len(), fewest, "gap {gap}, at most {most} registers, seed 40");
        told.push(format!("{fewest}"));
    }
    println!(
        "twelve devices of 200 values, requests a round, the fewest possible: {}",
        told.join(" ")
    );
}
