//! The caching Modbus server: others read here what the gateway has read, so that a device that takes one
//! client can be shared. Off unless the site file has `[modbus_server]`; it writes nothing, ever.
//!
//! What a stranger gets wrong: registers older than the age limit are not served; their unit answers with
//! exception 11, as a bridge does whose device is gone. A read must lie within one block that the gateway
//! reads itself, else exception 2. Unit ids here are those of the site file's `serve_as`. Frames are taken
//! apart here and not by tokio-modbus, whose decoder can panic on a request cut short (0.17, function 15).

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_modbus::ExceptionCode;

use super::blocks::Block;
use crate::config::{Network, Table};
use crate::io::clock::Clock;
use crate::units::Moment;

/// Most clients at a time; the next one is closed at once.
const MOST_CLIENTS: usize = 16;
/// A client that asks nothing for this long makes room for another.
const MOST_IDLE: Duration = Duration::from_secs(300);
/// Bytes of a Modbus/TCP frame before its function code: transaction, protocol, length, unit.
const HEAD: usize = 7;
/// The server listens again this long after accepting failed.
const LISTEN_AGAIN: Duration = Duration::from_secs(1);

/// One block as it came off the wire.
#[derive(Clone, Debug)]
struct Kept {
    words: Vec<u16>,
    at: Moment,
    /// How often it is read: what is read rarely is served for two periods, whatever the limit.
    period: Duration,
}

type Blocks = BTreeMap<(Table, u16), Kept>;

/// Where one device's task puts what it reads.
#[derive(Debug)]
pub struct Shelf(watch::Sender<Blocks>);

impl Shelf {
    /// An empty one, and what the server reads from.
    #[must_use]
    pub fn new() -> (Shelf, View) {
        let (sender, receiver) = watch::channel(Blocks::new());
        (Shelf(sender), View(receiver))
    }

    /// Keeps a block in place of the one before.
    pub fn put(&self, block: &Block, words: &[u16], at: Moment) {
        let kept = Kept { words: words.to_vec(), at, period: block.period };
        self.0.send_modify(|blocks| {
            blocks.insert((block.table, block.first), kept);
        });
    }
}

/// What a device's task has read.
#[derive(Clone, Debug)]
pub struct View(watch::Receiver<Blocks>);

impl View {
    fn read(
        &self,
        table: Table,
        (first, count): (u16, u16),
        (now, max_age): (Moment, Duration),
    ) -> Result<Vec<u16>, ExceptionCode> {
        if !(1..=125).contains(&count) {
            return Err(ExceptionCode::IllegalDataValue);
        }
        let blocks = self.0.borrow();
        let before = blocks.range(..=(table, first)).rev();
        let mut inside = before.take_while(|((t, _), _)| *t == table).filter_map(|(key, kept)| {
            let from = usize::from(first - key.1);
            kept.words.get(from..from + usize::from(count)).map(|words| (words, kept))
        });
        let (words, kept) = inside.next().ok_or(match blocks.is_empty() {
            true => ExceptionCode::GatewayTargetDevice,
            false => ExceptionCode::IllegalDataAddress,
        })?;
        if kept.at.age_at(now) > max_age.max(kept.period * 2) {
            return Err(ExceptionCode::GatewayTargetDevice);
        }
        Ok(words.to_vec())
    }
}

/// What is served to whom.
#[derive(Clone, Debug)]
pub struct Library {
    /// Unit id to what was read.
    pub views: Arc<BTreeMap<u8, View>>,
    /// Older registers are not served.
    pub max_age: Duration,
    /// Who may read; everybody if there is none (SEC6).
    pub allow: Arc<[Network]>,
    /// Site time.
    pub clock: Clock,
}

impl Library {
    fn lets_in(&self, peer: IpAddr) -> bool {
        self.allow.is_empty() || self.allow.iter().any(|network| network.contains(peer))
    }

    /// The answer to what a unit is asked, from its function code on.
    fn answer(&self, unit: u8, asked: &[u8]) -> Vec<u8> {
        let function = asked.first().copied().unwrap_or(0);
        let words = match *asked {
            [function @ (3 | 4), first_high, first_low, count_high, count_low] => {
                let span =
                    [[first_high, first_low], [count_high, count_low]].map(u16::from_be_bytes);
                let table = if function == 3 { Table::Holding } else { Table::Input };
                let limits = (self.clock.now(), self.max_age);
                let view = self.views.get(&unit).ok_or(ExceptionCode::GatewayPathUnavailable);
                view.and_then(|view| view.read(table, (span[0], span[1]), limits))
            }
            [3 | 4, ..] => Err(ExceptionCode::IllegalDataValue),
            _ => Err(ExceptionCode::IllegalFunction),
        };
        match words {
            // A read has at most 125 registers.
            Ok(words) => [function, (words.len() * 2) as u8]
                .into_iter()
                .chain(words.into_iter().flat_map(u16::to_be_bytes))
                .collect(),
            Err(exception) => vec![function | 0x80, exception.into()],
        }
    }
}

/// Answers one client until it hangs up, is silent for long, or says what is no Modbus/TCP.
async fn talk(mut stream: TcpStream, library: Library) -> io::Result<()> {
    loop {
        let mut head = [0; HEAD];
        tokio::time::timeout(MOST_IDLE, stream.read_exact(&mut head)).await??;
        let [t1, t2, p1, p2, l1, l2, unit] = head;
        let length = usize::from(u16::from_be_bytes([l1, l2]));
        if [p1, p2] != [0, 0] || !(2..=254).contains(&length) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut asked = vec![0; length - 1];
        tokio::time::timeout(MOST_IDLE, stream.read_exact(&mut asked)).await??;
        let answer = library.answer(unit, &asked);
        let mut frame = vec![t1, t2, 0, 0, 0, (answer.len() + 1) as u8, unit];
        frame.extend(answer);
        tokio::time::timeout(MOST_IDLE, stream.write_all(&frame)).await??;
    }
}

/// Serves until `shutdown`.
pub async fn serve(listen: SocketAddr, library: Library, mut shutdown: watch::Receiver<bool>) {
    let serving = async {
        loop {
            match TcpListener::bind(listen).await {
                Ok(listener) => answer(listener, &library).await,
                Err(error) => tracing::warn!(%listen, %error, "modbus server cannot listen"),
            }
            tokio::time::sleep(LISTEN_AGAIN).await;
        }
    };
    tokio::select! {
        () = serving => {}
        _ = shutdown.wait_for(|stop| *stop) => {}
    }
}

/// Answers until accepting fails.
async fn answer(listener: TcpListener, library: &Library) {
    let mut clients = JoinSet::new();
    loop {
        let accepted = listener.accept().await;
        while clients.try_join_next().is_some() {}
        match accepted {
            Ok((_, peer)) if !library.lets_in(peer.ip()) => {
                tracing::warn!(%peer, "a client of the modbus server that `allow` does not name");
            }
            Ok((_, peer)) if clients.len() >= MOST_CLIENTS => {
                tracing::warn!(%peer, "too many clients of the modbus server");
            }
            Ok((stream, peer)) => {
                let library = library.clone();
                clients.spawn(async move {
                    if let Err(error) = talk(stream, library).await {
                        tracing::debug!(%peer, %error, "connection ended");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "accepting failed; listening again");
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(shelf: &Shelf, (table, first): (Table, u16), words: &[u16], at: Moment) {
        let (count, points, period) = (words.len() as u16, Vec::new(), Duration::from_secs(1));
        shelf.put(&Block { table, first, count, points, period }, words, at);
    }

    #[test]
    fn a_read_lies_within_one_block_that_is_young_enough() {
        let at = |seconds| Moment {
            uptime: Duration::from_secs(seconds),
            utc: chrono::DateTime::UNIX_EPOCH,
        };
        let max_age = Duration::from_secs(5);
        let (shelf, view) = Shelf::new();
        let read = |table, span, now| view.read(table, span, (at(now), max_age));
        let gone = Err(ExceptionCode::GatewayTargetDevice);
        assert_eq!(read(Table::Input, (0, 2), 10), gone, "nothing read yet");
        put(&shelf, (Table::Input, 0), &[1, 2, 3], at(10));
        put(&shelf, (Table::Input, 10), &[7], at(10));
        put(&shelf, (Table::Holding, 0), &[9], at(10));
        assert_eq!(read(Table::Input, (0, 2), 15), Ok(vec![1, 2]));
        assert_eq!(read(Table::Input, (1, 2), 15), Ok(vec![2, 3]));
        assert_eq!(read(Table::Input, (0, 2), 16), gone, "too old");
        let outside = Err(ExceptionCode::IllegalDataAddress);
        for span in [(2, 2), (5, 1), (9, 2), (11, 1), (65_535, 1)] {
            assert_eq!(read(Table::Input, span, 15), outside, "{span:?}");
        }
        assert_eq!(read(Table::Input, (0, 0), 15), Err(ExceptionCode::IllegalDataValue));
    }

    #[test]
    fn sec6_only_those_are_let_in_whom_the_list_names() {
        let lets_in = |allow: &[&str], peer: &str| {
            let allow = allow.iter().map(|text| Network::parse(text).unwrap()).collect();
            let (views, max_age) = (Arc::new(BTreeMap::new()), Duration::ZERO);
            Library { views, max_age, allow, clock: Clock::real() }.lets_in(peer.parse().unwrap())
        };
        assert!(lets_in(&[], "203.0.113.9"), "no list");
        let list = ["192.168.10.0/24", "10.0.0.7"];
        assert!(lets_in(&list, "192.168.10.20") && lets_in(&list, "10.0.0.7"));
        assert!(!lets_in(&list, "192.168.11.20") && !lets_in(&list, "10.0.0.8"));
    }

    #[test]
    fn whatever_is_asked_gets_registers_or_an_exception() {
        let (shelf, view) = Shelf::new();
        let clock = Clock::real();
        put(&shelf, (Table::Holding, 0), &[0x0102, 0x0304], clock.now());
        let views = Arc::new(BTreeMap::from([(7, view)]));
        let (max_age, allow) = (Duration::from_secs(60), Arc::new([]));
        let library = Library { views, max_age, allow, clock };
        let table: [(u8, &[u8], &[u8]); 8] = [
            (7, &[3, 0, 0, 0, 2], &[3, 4, 1, 2, 3, 4]),
            (7, &[4, 0, 0, 0, 1], &[0x84, 2]),
            (9, &[3, 0, 0, 0, 1], &[0x83, 10]),
            (7, &[3, 0, 0, 0, 0], &[0x83, 3]),
            (7, &[3, 0, 0], &[0x83, 3]),
            (7, &[6, 0, 0, 0, 1], &[0x86, 1]),
            // The request that tokio-modbus 0.17 panics on.
            (7, &[15, 0xff, 0xff, 0xff, 0xfe, 0, 0, 0], &[0x8f, 1]),
            (7, &[], &[0x80, 1]),
        ];
        for (unit, asked, answer) in table {
            assert_eq!(library.answer(unit, asked), answer, "{unit} {asked:?}");
        }
    }
}
