//! An MQTT broker inside the process, for the demo and tests only: loopback, everything in memory,
//! small segments. A real site has its own broker.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use rumqttd::{Broker, Config, ConnectionSettings, RouterConfig, ServerSettings};

/// Tries to reach the broker, this far apart, before giving up.
const TRIES: u32 = 100;
const TRY_EVERY: Duration = Duration::from_millis(30);

/// Starts a broker on `port` that speaks MQTT 5, and MQTT 3.1.1 on the port after it; 0 takes two free
/// ones. Returns the first port once both accept connections. It runs until the process ends.
///
/// # Errors
/// When a port is taken or the broker does not come up.
pub fn start(port: u16) -> io::Result<u16> {
    let (newer, older) = if port == 0 { free_pair()? } else { pair(port)? };
    let mut broker = Broker::new(config(newer, older));
    std::thread::Builder::new().name("broker".to_owned()).spawn(move || {
        if let Err(error) = broker.start() {
            tracing::error!(%error, "the embedded broker stopped");
        }
    })?;
    for _ in 0..TRIES {
        let accepts = |at| TcpStream::connect_timeout(at, TRY_EVERY).is_ok();
        if accepts(&newer) && accepts(&older) {
            return Ok(newer.port());
        }
        std::thread::park_timeout(TRY_EVERY);
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, "the embedded broker did not come up"))
}

/// `port` and the one after it, when both are free. The broker listens by itself and only logs when it
/// cannot, so they are tried first.
fn pair(port: u16) -> io::Result<(SocketAddr, SocketAddr)> {
    let at = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let next = port.checked_add(1).ok_or(io::ErrorKind::InvalidInput)?;
    let held = (TcpListener::bind(at(port))?, TcpListener::bind(at(next))?);
    Ok((held.0.local_addr()?, held.1.local_addr()?))
}

fn free_pair() -> io::Result<(SocketAddr, SocketAddr)> {
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for _ in 0..TRIES {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        match pair(port) {
            Ok(pair) => return Ok(pair),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn config(newer: SocketAddr, older: SocketAddr) -> Config {
    let server = |name: &str, listen| ServerSettings {
        name: name.to_owned(),
        listen,
        tls: None,
        next_connection_delay_ms: 1,
        connections: ConnectionSettings {
            connection_timeout_ms: 5_000,
            max_payload_size: 256 * 1024,
            max_inflight_count: 200,
            auth: None,
            external_auth: None,
            dynamic_filters: true,
        },
    };
    Config {
        id: 0,
        router: RouterConfig {
            max_connections: 50,
            max_outgoing_packet_count: 200,
            max_segment_size: 1024 * 1024,
            max_segment_count: 2,
            custom_segment: None,
            initialized_filters: None,
            shared_subscriptions_strategy: rumqttd::Strategy::RoundRobin,
        },
        v4: Some(HashMap::from([("mqtt3".to_owned(), server("mqtt3", older))])),
        v5: Some(HashMap::from([("mqtt5".to_owned(), server("mqtt5", newer))])),
        ws: None,
        cluster: None,
        console: None,
        bridge: None,
        prometheus: None,
        metrics: None,
    }
}
