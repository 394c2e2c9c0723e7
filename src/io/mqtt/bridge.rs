//! The stream to the broker: TCP, and TLS on it unless plain text is allowed, made here and not by the
//! client library, whose own TLS is out of date. The library gets one end of a socket inside this
//! process; both ways are copied.
//!
//! What a stranger gets wrong: the inner socket has a name that others could dial, so the one who
//! dials is asked for its process, and only we pass. The address that was checked to be private is the
//! very one that is dialled: a name is resolved once.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use super::{MqttError, tls};
use crate::config::MqttConfig;

/// Longest wait for name, connection and handshake, each.
const STEP: Duration = Duration::from_secs(5);

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// The way to the broker; gone when dropped.
pub(super) struct Bridge {
    /// What the client library dials as a Unix socket.
    pub name: String,
    copying: JoinHandle<()>,
}

impl Drop for Bridge {
    fn drop(&mut self) {
        self.copying.abort();
    }
}

/// Connects to the broker and opens the inner socket.
pub(super) async fn open(config: &MqttConfig) -> Result<Bridge, MqttError> {
    let broker = format!("{}:{}", config.host, config.port);
    let unreachable = |why: String| MqttError::Unreachable(broker.clone(), why);
    let tcp = dial(config, &unreachable).await?;
    let outer: Box<dyn Stream> = if config.allow_plaintext {
        Box::new(tcp)
    } else {
        Box::new(shake_hands(config, tcp).await?)
    };
    let name = format!("\0wattgate-mqtt-{}-{:016x}", std::process::id(), fastrand::u64(..));
    let listener =
        UnixListener::bind(Path::new(&name)).map_err(|error| unreachable(error.to_string()))?;
    let copying = tokio::spawn(copy(listener, outer));
    Ok(Bridge { name, copying })
}

async fn dial(
    config: &MqttConfig,
    unreachable: &impl Fn(String) -> MqttError,
) -> Result<TcpStream, MqttError> {
    let late = |_| unreachable("no answer within 5 s".to_owned());
    let resolving = tokio::net::lookup_host((config.host.as_str(), config.port));
    let found = tokio::time::timeout(STEP, resolving).await.map_err(late)?;
    let addresses: Vec<SocketAddr> =
        found.map_err(|error| unreachable(error.to_string()))?.collect();
    let mut last = unreachable("the name has no address".to_owned());
    for address in addresses {
        if config.allow_plaintext && !stays_on_site(address.ip()) {
            last = MqttError::PublicPlaintext(address.ip());
            continue;
        }
        match tokio::time::timeout(STEP, TcpStream::connect(address)).await.map_err(late) {
            Ok(Ok(tcp)) => {
                let _ = tcp.set_nodelay(true);
                return Ok(tcp);
            }
            Ok(Err(error)) => last = unreachable(error.to_string()),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn shake_hands(
    config: &MqttConfig,
    tcp: TcpStream,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, MqttError> {
    let name = ServerName::try_from(config.host.clone())
        .map_err(|_| MqttError::Tls(format!("`{}` is not a name or address", config.host)))?;
    let connector = TlsConnector::from(tls::client(config.ca_file.as_deref())?);
    let shaking = tokio::time::timeout(STEP, connector.connect(name, tcp));
    match shaking.await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(MqttError::Tls(error.to_string())),
        Err(_) => Err(MqttError::Tls("no handshake within 5 s".to_owned())),
    }
}

async fn copy(listener: UnixListener, mut outer: Box<dyn Stream>) {
    let Ok(Ok(mut inner)) = tokio::time::timeout(STEP, accept_own(&listener)).await else { return };
    drop(listener);
    if let Err(error) = tokio::io::copy_bidirectional(&mut inner, &mut outer).await {
        tracing::debug!(%error, "stream to the broker ended");
    }
}

/// The first caller that is this very process.
async fn accept_own(listener: &UnixListener) -> std::io::Result<UnixStream> {
    loop {
        let (stream, _) = listener.accept().await?;
        let caller = stream.peer_cred()?.pid();
        if caller.and_then(|pid| u32::try_from(pid).ok()) == Some(std::process::id()) {
            return Ok(stream);
        }
        tracing::warn!(?caller, "another process dialled the inner MQTT socket: refused");
    }
}

/// Loopback, private or link-local: plain text may go there.
fn stays_on_site(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_private() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_stays_on_site() {
        let inside = ["127.0.0.1", "10.1.2.3", "192.168.0.9", "172.31.0.1", "169.254.1.1", "::1"];
        let inside = inside.iter().chain(&["fd00::1", "fe80::1", "::ffff:10.0.0.1"]);
        for address in inside {
            assert!(stays_on_site(address.parse().unwrap()), "{address}");
        }
        let outside =
            ["8.8.8.8", "172.32.0.1", "100.64.0.1", "0.0.0.0", "2001:db8::1", "::ffff:8.8.8.8"];
        for address in outside {
            assert!(!stays_on_site(address.parse().unwrap()), "{address}");
        }
    }
}
