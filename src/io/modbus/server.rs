//! The caching Modbus server: others read here what the gateway has read, so that a device that takes one
//! client can be shared. Off unless the site file has `[modbus_server]`; it writes nothing, ever.
//!
//! What a stranger gets wrong: registers older than the age limit are not served; their unit answers with
//! exception 11, as a bridge does whose device is gone. A read must lie within one block that the gateway
//! reads itself, else exception 2. Unit ids here are those of the site file's `serve_as`.

use std::collections::BTreeMap;
use std::future::{Ready, ready};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_modbus::server::tcp::Server;
use tokio_modbus::{ExceptionCode, Request, Response, SlaveRequest};

use crate::config::Table;
use crate::io::clock::Clock;
use crate::units::Moment;

/// Most clients at a time; the next one is closed at once.
const MOST_CLIENTS: usize = 16;
/// The server listens again this long after accepting failed.
const LISTEN_AGAIN: Duration = Duration::from_secs(1);

/// One block as it came off the wire.
#[derive(Clone, Debug)]
struct Kept {
    words: Vec<u16>,
    at: Moment,
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
    pub fn put(&self, table: Table, first: u16, words: &[u16], at: Moment) {
        let kept = Kept { words: words.to_vec(), at };
        self.0.send_modify(|blocks| {
            blocks.insert((table, first), kept);
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
            kept.words.get(from..from + usize::from(count)).map(|words| (words, kept.at))
        });
        let (words, at) = inside.next().ok_or(match blocks.is_empty() {
            true => ExceptionCode::GatewayTargetDevice,
            false => ExceptionCode::IllegalDataAddress,
        })?;
        if at.age_at(now) > max_age {
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
    /// Site time.
    pub clock: Clock,
}

struct Client {
    library: Library,
    _place: OwnedSemaphorePermit,
}

impl tokio_modbus::server::Service for Client {
    type Request = SlaveRequest<'static>;
    type Response = Response;
    type Exception = ExceptionCode;
    type Future = Ready<Result<Response, ExceptionCode>>;

    fn call(&self, request: Self::Request) -> Self::Future {
        let library = &self.library;
        let Some(view) = library.views.get(&request.slave) else {
            return ready(Err(ExceptionCode::GatewayPathUnavailable));
        };
        let limits = (library.clock.now(), library.max_age);
        ready(match request.request {
            Request::ReadHoldingRegisters(first, count) => view
                .read(Table::Holding, (first, count), limits)
                .map(Response::ReadHoldingRegisters),
            Request::ReadInputRegisters(first, count) => {
                view.read(Table::Input, (first, count), limits).map(Response::ReadInputRegisters)
            }
            _ => Err(ExceptionCode::IllegalFunction),
        })
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

/// Answers until accepting fails; tokio-modbus then stops listening.
async fn answer(listener: TcpListener, library: &Library) {
    let places = Arc::new(Semaphore::new(MOST_CLIENTS));
    let connected = |stream, peer: SocketAddr| {
        let place = Arc::clone(&places).try_acquire_owned();
        let library = library.clone();
        async move {
            let Ok(place) = place else {
                tracing::warn!(%peer, "too many clients of the modbus server");
                return Ok(None);
            };
            Ok(Some((Client { library, _place: place }, stream)))
        }
    };
    let broken = |error: std::io::Error| tracing::debug!(%error, "connection ended");
    if let Err(error) = Server::new(listener).serve(&connected, broken).await {
        tracing::warn!(%error, "accepting failed; listening again");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        shelf.put(Table::Input, 0, &[1, 2, 3], at(10));
        shelf.put(Table::Input, 10, &[7], at(10));
        shelf.put(Table::Holding, 0, &[9], at(10));
        assert_eq!(read(Table::Input, (0, 2), 15), Ok(vec![1, 2]));
        assert_eq!(read(Table::Input, (1, 2), 15), Ok(vec![2, 3]));
        assert_eq!(read(Table::Input, (0, 2), 16), gone, "too old");
        let outside = Err(ExceptionCode::IllegalDataAddress);
        for span in [(2, 2), (5, 1), (9, 2), (11, 1), (65_535, 1)] {
            assert_eq!(read(Table::Input, span, 15), outside, "{span:?}");
        }
        assert_eq!(read(Table::Input, (0, 0), 15), Err(ExceptionCode::IllegalDataValue));
    }
}
