//! Registers into numbers and back, and whole answers off a wire: whatever comes, no panic; what is decoded
//! exists and encodes to what it was; and an answer is believed only if it has as many registers as were asked.
#![no_main]

use std::sync::OnceLock;
use std::time::Duration;

use house::config::{Address, Order, Table, ValueType};
use house::io::modbus::codec::{Raw, decode, encode};
use house::io::modbus::{Bus, Pace};
use libfuzzer_sys::fuzz_target;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::runtime::{Builder, Runtime};

const PACE: Pace =
    Pace { connect: Duration::from_secs(1), call: Duration::from_secs(1), gap: Duration::ZERO };

/// Its time stands still and jumps: nothing is waited for. It has sockets, since a line is opened anew after an
/// answer that cannot be believed.
fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        Builder::new_current_thread().enable_all().start_paused(true).build().unwrap()
    })
}

fn numbers(kind: u8, bytes: &[u8]) {
    let words: Vec<u16> =
        bytes.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
    let types = ValueType::NUMBERS;
    let order = Order::ALL[usize::from(kind >> 4) % Order::ALL.len()].1;
    let value_type = match usize::from(kind & 15) {
        i if i < types.len() => types[i].1,
        i => ValueType::Text(i as u16),
    };
    match decode(&words, value_type, order) {
        Some(Raw::Number(number)) => {
            assert!(number.is_finite());
            let back = decode(&encode(number, value_type, order), value_type, order);
            // The largest whole numbers of 64 bits round up to a mark of "not there".
            assert!(back == Some(Raw::Number(number)) || number.abs() > 9.0e15, "{number}: {back:?}");
        }
        Some(Raw::Text(text)) => assert!(!text.is_empty() && text.len() <= words.len() * 2),
        None => {}
    }
}

/// A device that answers with `bytes`; on TCP behind the transaction that was asked, so that most of them get
/// further than the first look.
fn answers(rtu: bool, count: u16, bytes: &[u8]) {
    // Opened anew it is refused at once; a name would first be asked for, which takes a thousand times as long.
    let (host, port) = ("127.0.0.1".to_owned(), 1);
    let address = match rtu {
        true => Address::RtuOverTcp { host, port },
        false => Address::Tcp { host, port },
    };
    let read = runtime().block_on(async {
        let (ours, mut theirs) = duplex(4096);
        let mut bus = Bus::new(address);
        bus.attach(Box::new(ours));
        let device = async move {
            let mut request = [0; 12];
            let length = if rtu { 8 } else { 12 };
            if theirs.read_exact(&mut request[..length]).await.is_ok() {
                let head = if rtu { &[][..] } else { &request[..2] };
                let _ = theirs.write_all(head).await;
                let _ = theirs.write_all(bytes).await;
            }
        };
        tokio::join!(bus.read(1, Table::Holding, (0, count), PACE), device).0
    });
    if let Ok(words) = read {
        assert_eq!(words.len(), usize::from(count));
    }
}

fuzz_target!(|input: &[u8]| {
    let [kind, which, bytes @ ..] = input else { return };
    match kind % 4 {
        0 | 1 => numbers(*which, bytes),
        2 => answers(false, u16::from(which % 125) + 1, bytes),
        _ => answers(true, u16::from(which % 125) + 1, bytes),
    }
});
