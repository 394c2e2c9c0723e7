//! One Modbus TCP socket for one simulated device.
//!
//! What a stranger gets wrong: the server of tokio-modbus stops listening when accepting fails once; it
//! is started again on the same socket. A device that is unreachable has no socket at all, so that a
//! client is refused, not kept waiting. A silent one answers nothing but notices that a client left.

use std::future::{Ready, ready};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinHandle;
use tokio_modbus::prelude::{
    ConformityLevel, DeviceIdObject, ReadCode, ReadDeviceIdentificationResponse,
};
use tokio_modbus::server::tcp::Server;
use tokio_modbus::{ExceptionCode, Request, Response, SlaveRequest};

use crate::registers::{Map, Refusal, cut};
use crate::site::Shared;

/// Most clients at a time; the next one is closed at once.
const MOST_CLIENTS: usize = 8;

/// State of a device's line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// Whether the device listens.
    pub reachable: bool,
    /// Grows when all connections are to be cut.
    pub cuts: u64,
}

impl Default for Line {
    fn default() -> Line {
        Line { reachable: true, cuts: 0 }
    }
}

/// One device on the wire.
#[derive(Clone)]
pub struct Device {
    /// Its name in the fault switches.
    pub name: String,
    /// Its registers.
    pub map: Map,
    /// Its unit id.
    pub unit: u8,
    /// The world.
    pub shared: Arc<Shared>,
}

type Answer = Pin<Box<dyn Future<Output = Result<Option<Response>, ExceptionCode>> + Send>>;

/// One client, and its place among [`MOST_CLIENTS`].
struct Client {
    device: Device,
    _place: OwnedSemaphorePermit,
}

impl tokio_modbus::server::Service for Client {
    type Request = SlaveRequest<'static>;
    type Response = Option<Response>;
    type Exception = ExceptionCode;
    type Future = Answer;

    fn call(&self, request: Self::Request) -> Answer {
        let device = self.device.clone();
        Box::pin(async move {
            let faults = device.shared.faults(&device.name);
            if faults.silent {
                return Ok(None);
            }
            tokio::time::sleep(Duration::from_millis(faults.late_ms)).await;
            if let Some(code) = faults.exception() {
                return Err(ExceptionCode::new(code));
            }
            if request.slave != device.unit {
                return Err(ExceptionCode::GatewayTargetDevice);
            }
            device.answer(request.request).await.map(Some)
        })
    }
}

fn exception(refusal: Refusal) -> ExceptionCode {
    match refusal {
        Refusal::Function => ExceptionCode::IllegalFunction,
        Refusal::Address => ExceptionCode::IllegalDataAddress,
        Refusal::Value => ExceptionCode::IllegalDataValue,
    }
}

impl Device {
    /// Maker, product and revision: the basic objects of device identification.
    fn identify(&self, read_code: ReadCode) -> Response {
        let object = |(id, text): (usize, String)| DeviceIdObject {
            id: id as u8,
            value: text.into_bytes().into(),
        };
        Response::ReadDeviceIdentification(ReadDeviceIdentificationResponse {
            read_code,
            conformity_level: ConformityLevel::BasicIdentificationStreamOnly,
            more_follows: false,
            next_object_id: 0,
            device_id_objects: self.map.identity().into_iter().enumerate().map(object).collect(),
        })
    }

    fn answer(&self, request: Request<'static>) -> Ready<Result<Response, ExceptionCode>> {
        let read = |input, first, count| {
            if count > self.map.most_registers() {
                return Err(exception(Refusal::Address));
            }
            let image = self.shared.image(&self.name, &self.map, input);
            cut(&image, first, count).map_err(exception)
        };
        let write = |function, first, words: &[u16]| {
            let done = self.shared.with(|world| self.map.write(world, function, (first, words)));
            done.map_err(exception)
        };
        self.shared.with(|world| self.map.hear(world));
        ready(match request {
            Request::ReadHoldingRegisters(first, count) => {
                read(false, first, count).map(Response::ReadHoldingRegisters)
            }
            Request::ReadInputRegisters(first, count) => {
                read(true, first, count).map(Response::ReadInputRegisters)
            }
            Request::WriteMultipleRegisters(first, words) => write(16, first, &words)
                .map(|()| Response::WriteMultipleRegisters(first, words.len() as u16)),
            Request::WriteSingleRegister(first, word) => {
                write(6, first, &[word]).map(|()| Response::WriteSingleRegister(first, word))
            }
            Request::ReadDeviceIdentification(code, _) => Ok(self.identify(code)),
            _ => Err(ExceptionCode::IllegalFunction),
        })
    }
}

/// Serves the device on `address` until the task is aborted, whenever its line is up.
///
/// # Errors
/// When the address cannot be listened on.
pub async fn serve(
    address: SocketAddr,
    device: Device,
    line: watch::Receiver<Line>,
) -> io::Result<(SocketAddr, JoinHandle<()>)> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    Ok((address, tokio::spawn(follow(listener, address, device, line))))
}

/// Listens while the line is up; a change of the line drops the socket and all connections.
async fn follow(
    listener: TcpListener,
    address: SocketAddr,
    device: Device,
    mut line: watch::Receiver<Line>,
) {
    let mut open = Some(listener);
    loop {
        let seen = *line.borrow_and_update();
        if !seen.reachable {
            open = None;
        } else if open.is_none() {
            match TcpListener::bind(address).await {
                Ok(listener) => open = Some(listener),
                Err(error) => tracing::warn!(%address, %error, "not listening yet"),
            }
        }
        let listening = async {
            match open.take() {
                Some(listener) => listen(Server::new(listener), &device).await,
                None if seen.reachable => tokio::time::sleep(Duration::from_millis(100)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = listening => {}
            changed = line.wait_for(|now| *now != seen) => {
                if changed.is_err() {
                    return;
                }
            }
        }
    }
}

/// Accepts clients for ever.
async fn listen(server: Server, device: &Device) {
    let places = Arc::new(Semaphore::new(MOST_CLIENTS));
    let connected = |stream: TcpStream, peer: SocketAddr| {
        let place = Arc::clone(&places).try_acquire_owned();
        let device = device.clone();
        async move {
            let Ok(place) = place else {
                tracing::debug!(%peer, "too many clients");
                return Ok(None);
            };
            Ok(Some((Client { device, _place: place }, stream)))
        }
    };
    loop {
        let broken = |error: io::Error| tracing::debug!(%error, "connection ended");
        if let Err(error) = server.serve(&connected, broken).await {
            tracing::warn!(%error, "accepting failed; listening again");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}
