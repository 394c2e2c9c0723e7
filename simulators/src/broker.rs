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

/// Starts a broker on `port` (0 takes a free one) that speaks MQTT 5. Returns the port once it accepts
/// connections. It runs until the process ends.
///
/// # Errors
/// When the port is taken or the broker does not come up.
pub fn start(port: u16) -> io::Result<u16> {
    let port = if port == 0 { free_port()? } else { port };
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    drop(TcpListener::bind(address)?);
    let mut broker = Broker::new(config(address));
    std::thread::Builder::new().name("broker".to_owned()).spawn(move || {
        if let Err(error) = broker.start() {
            tracing::error!(%error, "the embedded broker stopped");
        }
    })?;
    for _ in 0..TRIES {
        if TcpStream::connect_timeout(&address, TRY_EVERY).is_ok() {
            return Ok(port);
        }
        std::thread::park_timeout(TRY_EVERY);
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, "the embedded broker did not come up"))
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

fn config(listen: SocketAddr) -> Config {
    let server = ServerSettings {
        name: "demo".to_owned(),
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
        v4: None,
        v5: Some(HashMap::from([("demo".to_owned(), server)])),
        ws: None,
        cluster: None,
        console: None,
        bridge: None,
        prometheus: None,
        metrics: None,
    }
}
