//! One Modbus TCP socket for one simulated device.
//!
//! What a stranger gets wrong: the server of tokio-modbus stops listening when accepting fails once.
//! It is started again on the same socket.

use std::future::{Ready, ready};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio_modbus::server::tcp::{Server, accept_tcp_connection};
use tokio_modbus::{ExceptionCode, Request, Response, SlaveRequest};

use crate::registers::{Map, Refusal, cut};
use crate::site::Shared;

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

type Answer = Pin<Box<dyn Future<Output = Result<Response, ExceptionCode>> + Send>>;

impl tokio_modbus::server::Service for Device {
    type Request = SlaveRequest<'static>;
    type Response = Response;
    type Exception = ExceptionCode;
    type Future = Answer;

    fn call(&self, request: Self::Request) -> Answer {
        let device = self.clone();
        Box::pin(async move {
            let faults = device.shared.faults(&device.name);
            if faults.silent {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(Duration::from_millis(faults.late_ms)).await;
            if faults.broken {
                return Err(ExceptionCode::ServerDeviceFailure);
            }
            if request.slave != device.unit {
                return Err(ExceptionCode::GatewayTargetDevice);
            }
            device.answer(request.request).await
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
    fn answer(&self, request: Request<'static>) -> Ready<Result<Response, ExceptionCode>> {
        let read = |input, first, count| {
            let image = self.shared.image(&self.name, &self.map, input);
            cut(&image, first, count).map_err(exception)
        };
        let write = |first, words: &[u16]| {
            self.shared.with(|world| self.map.write(world, first, words)).map_err(exception)
        };
        ready(match request {
            Request::ReadHoldingRegisters(first, count) => {
                read(false, first, count).map(Response::ReadHoldingRegisters)
            }
            Request::ReadInputRegisters(first, count) => {
                read(true, first, count).map(Response::ReadInputRegisters)
            }
            Request::WriteMultipleRegisters(first, words) => write(first, &words)
                .map(|()| Response::WriteMultipleRegisters(first, words.len() as u16)),
            Request::WriteSingleRegister(first, word) => {
                write(first, &[word]).map(|()| Response::WriteSingleRegister(first, word))
            }
            _ => Err(ExceptionCode::IllegalFunction),
        })
    }
}

/// Serves the device on `address` until the task is dropped.
///
/// # Errors
/// When the address cannot be listened on.
pub async fn serve(address: SocketAddr, device: Device) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    let server = Server::new(listener);
    tokio::spawn(async move {
        loop {
            let service = device.clone();
            let connected = move |stream: TcpStream, peer: SocketAddr| {
                let service = service.clone();
                async move { accept_tcp_connection(stream, peer, |_| Ok(Some(service.clone()))) }
            };
            let broken = |error: io::Error| tracing::debug!(%error, "connection ended");
            if let Err(error) = server.serve(&connected, broken).await {
                tracing::warn!(%error, "accepting failed; listening again");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    });
    Ok(address)
}
