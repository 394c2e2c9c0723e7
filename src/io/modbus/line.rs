//! What carries the frames: a TCP connection, TLS on top of it (Modbus/TCP Security), or a serial port;
//! opened here, read and written elsewhere.
//!
//! What a stranger gets wrong: RTU frames carry no transaction id, so whatever lies in the input before a
//! request was sent would be taken for its answer. A line that carries RTU throws such bytes away as a
//! request goes out. A line that the other side closes ends in an error here: tokio-modbus would report
//! the system's last error instead, whatever that was. On a serial port a timed-out request does not close the port: closing it drops the
//! modem lines that power many converters.

use std::fmt::Debug;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use serial2_tokio::{CharSize, Parity, SerialPort, Settings, StopBits};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

use super::bus::BusError;
use super::prompt::Prompt;
use crate::config::{Address, SerialLine};

/// Anything that frames can go over.
pub trait Wire: AsyncRead + AsyncWrite + Debug + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Debug + Send + Unpin> Wire for T {}

/// Opens the line to an address.
///
/// # Errors
/// [`BusError::Refused`] where nothing listens, else [`BusError::Unreachable`] with the cause in words.
pub async fn open(
    address: &Address,
    within: Duration,
    tls: Option<&Result<Arc<ClientConfig>, String>>,
) -> Result<Box<dyn Wire>, BusError> {
    let place = address.to_string();
    let failed = |cause: String| BusError::Unreachable { address: place.clone(), cause };
    let (host, port) = match address {
        Address::Serial(line) => {
            let port = serial(line).map_err(|error| failed(error.to_string()))?;
            return Ok(Box::new(Quiet(Open(port))));
        }
        Address::Tcp { host, port }
        | Address::RtuOverTcp { host, port }
        | Address::Tls { host, port } => (host.as_str(), *port),
    };
    let late = || failed(format!("no connection within {within:?}"));
    let stream = match timeout(within, TcpStream::connect((host, port))).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(refusal(&error, &place)),
        Err(_) => return Err(late()),
    };
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%place, %error, "TCP_NODELAY refused");
    }
    match address {
        Address::RtuOverTcp { .. } => Ok(Box::new(Quiet(Open(stream)))),
        Address::Tls { .. } => {
            let missing = || failed("the site file has no [modbus_tls]".to_owned());
            let tls = tls.ok_or_else(missing)?.as_ref().map_err(|why| failed(why.clone()))?;
            let name = ServerName::try_from(host.to_owned())
                .map_err(|_| failed(format!("`{host}` cannot stand in a certificate")))?;
            let greeting = TlsConnector::from(Arc::clone(tls)).connect(name, stream);
            match timeout(within, greeting).await {
                Ok(Ok(stream)) => Ok(Box::new(Open(stream))),
                Ok(Err(error)) => Err(failed(format!("TLS: {error}"))),
                Err(_) => Err(late()),
            }
        }
        _ => Ok(Box::new(Open(Prompt::new(stream)))),
    }
}

/// A failed connect in words that help.
fn refusal(error: &io::Error, place: &str) -> BusError {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    let address = place.to_owned();
    match error.kind() {
        ConnectionRefused | ConnectionReset | ConnectionAborted => BusError::Refused { address },
        _ => BusError::Unreachable { address, cause: error.to_string() },
    }
}

fn serial(line: &SerialLine) -> io::Result<SerialPort> {
    let parity = match line.parity {
        'E' => Parity::Even,
        'O' => Parity::Odd,
        _ => Parity::None,
    };
    let stop_bits = if line.stop_bits == 2 { StopBits::Two } else { StopBits::One };
    SerialPort::open(&line.path, |mut settings: Settings| {
        settings.set_raw();
        settings.set_baud_rate(line.baud)?;
        settings.set_char_size(CharSize::Bits8);
        settings.set_parity(parity);
        settings.set_stop_bits(stop_bits);
        Ok(settings)
    })
}

/// A line whose end is an error.
#[derive(Debug)]
struct Open<W>(W);

impl<W: AsyncRead + Unpin> AsyncRead for Open<W> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let ready = Pin::new(&mut self.0).poll_read(cx, buf);
        if matches!(ready, Poll::Ready(Ok(())))
            && buf.filled().len() == before
            && buf.remaining() > 0
        {
            let ended = io::Error::new(io::ErrorKind::UnexpectedEof, "the device hung up");
            return Poll::Ready(Err(ended));
        }
        ready
    }
}

impl<W: AsyncWrite + Unpin> AsyncWrite for Open<W> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// A line without transaction ids.
#[derive(Debug)]
struct Quiet<W>(W);

impl<W: AsyncRead + Unpin> AsyncRead for Quiet<W> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl<W: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Quiet<W> {
    /// Throws away what came unasked, then writes. Requests are short: one write takes a whole one.
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut scratch = [0; 256];
        loop {
            let mut unasked = ReadBuf::new(&mut scratch);
            match Pin::new(&mut self.0).poll_read(cx, &mut unasked) {
                Poll::Ready(Ok(())) if unasked.filled().is_empty() => {
                    return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
                }
                Poll::Ready(Ok(())) => {
                    tracing::debug!(bytes = unasked.filled().len(), "unasked bytes thrown away");
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => break,
            }
        }
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[cfg(test)]
pub(super) fn quiet(wire: impl Wire + 'static) -> Box<dyn Wire> {
    Box::new(Quiet(Open(wire)))
}
