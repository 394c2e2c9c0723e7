//! What ends a connection and what does not: a plain device that answers one request wrongly and the next ones
//! right, and counts who connects.
//!
//! What a stranger gets wrong: a read that was broken is made once more by itself, on a new connection; a write never is,
//! since the device may have heard it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use wattgate::config::{Address, Table};
use wattgate::io::modbus::{Bus, BusError, Pace};

const PACE: Pace =
    Pace { connect: Duration::from_secs(2), call: Duration::from_millis(400), gap: Duration::ZERO };

/// A frame spoilt, or nothing where no answer is to come.
type Spoil = fn(&mut Vec<u8>) -> bool;

/// A device whose register `n` is `n`; it spoils one answer for each thing it is sent over the channel.
fn device() -> (SocketAddr, Sender<Spoil>, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, connections) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let (send, spoils) = channel();
    let count = Arc::clone(&connections);
    std::thread::spawn(move || {
        // One client after the other: who is renewed has hung up before.
        for stream in listener.incoming().flatten() {
            count.fetch_add(1, Ordering::SeqCst);
            converse(stream, &spoils);
        }
    });
    (address, send, connections)
}

fn converse(mut stream: TcpStream, spoils: &Receiver<Spoil>) {
    let mut head = [0; 7];
    while stream.read_exact(&mut head).is_ok() {
        let mut pdu = vec![0; usize::from(u16::from_be_bytes([head[4], head[5]])) - 1];
        if stream.read_exact(&mut pdu).is_err() {
            return;
        }
        let word = |at: usize| u16::from_be_bytes([pdu[at], pdu[at + 1]]);
        let answer = match pdu[0] {
            3 => {
                let (first, count) = (word(1), word(3));
                let words = (first..first + count).flat_map(u16::to_be_bytes);
                [vec![3, (count * 2) as u8], words.collect()].concat()
            }
            _ => pdu[..5].to_vec(),
        };
        let mut frame = [&head[..4], &(answer.len() as u16 + 1).to_be_bytes(), &head[6..]].concat();
        frame.extend(answer);
        let says = spoils.try_recv().is_ok_and(|spoil| !spoil(&mut frame));
        if !says && stream.write_all(&frame).is_err() {
            return;
        }
    }
}

/// Changes the number of registers of an answer.
fn lengthen(frame: &mut Vec<u8>, bytes: i8) {
    frame.resize(frame.len().wrapping_add_signed(bytes.into()), 0);
    frame[5] = frame[5].wrapping_add_signed(bytes);
    frame[8] = frame[8].wrapping_add_signed(bytes);
}

#[test]
fn fb4_whatever_does_not_fit_renews_the_connection_and_an_exception_keeps_it() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (at, spoil, connections) = device();
    let mut bus = Bus::new(Address::Tcp { host: at.ip().to_string(), port: at.port() });
    let read = |bus: &mut Bus| runtime.block_on(bus.read(1, Table::Holding, (100, 3), PACE));
    let write = |bus: &mut Bus, function: u8, words: &[u16]| {
        runtime.block_on(bus.write(1, function, (100, words), PACE))
    };
    let mut known = 1;
    let mut renewed = |what: &str, by: usize| {
        known += by;
        assert_eq!(connections.load(Ordering::SeqCst), known, "{what}");
    };
    assert_eq!(read(&mut bus).unwrap(), [100, 101, 102]);
    renewed("the first", 0);
    let reads: [(&str, Spoil); 5] = [
        ("a short reply", |frame| {
            lengthen(frame, -2);
            true
        }),
        ("a long reply", |frame| {
            lengthen(frame, 2);
            true
        }),
        ("another unit", |frame| {
            frame[6] += 1;
            true
        }),
        ("another transaction", |frame| {
            frame[1] ^= 0x55;
            true
        }),
        ("another function", |frame| {
            frame[7] = 4;
            true
        }),
    ];
    for (what, how) in reads {
        spoil.send(how).unwrap();
        assert_eq!(read(&mut bus).unwrap(), [100, 101, 102], "{what}: read once more");
        renewed(what, 1);
    }
    for (what, function, words) in [("a wrong echo", 6, &[7][..]), ("of 16", 16, &[7, 8])] {
        spoil
            .send(|frame| {
                frame[11] ^= 1;
                true
            })
            .unwrap();
        let told = write(&mut bus, function, words);
        assert!(matches!(told, Err(BusError::Broken(_))), "{what}: {told:?}");
        write(&mut bus, function, words).unwrap();
        renewed(what, 1);
    }
    spoil.send(|_| false).unwrap();
    assert!(matches!(read(&mut bus), Err(BusError::Timeout(_))), "no answer");
    assert_eq!(read(&mut bus).unwrap(), [100, 101, 102]);
    renewed("no answer", 1);
    spoil
        .send(|frame| {
            frame.truncate(9);
            (frame[5], frame[7], frame[8]) = (3, 0x83, 4);
            true
        })
        .unwrap();
    assert!(matches!(read(&mut bus), Err(BusError::Exception(_))), "an exception");
    assert_eq!(read(&mut bus).unwrap(), [100, 101, 102]);
    renewed("an exception", 0);
}
