//! What the service manager is told: that the gateway is ready, that it lives, that it stops. One datagram
//! each to the socket that systemd names in `NOTIFY_SOCKET`; the demo's supervisor listens the same way.
//!
//! What a stranger gets wrong: life is told only by the control thread, after a cycle that it has completed
//! and while the field bus moves. A helper thread that beats by itself would outlive what it stands for.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The way to the service manager; silent where there is none.
#[derive(Debug)]
pub struct Service {
    socket: Option<UnixDatagram>,
    ready: bool,
}

impl Service {
    /// As the environment says. A socket that cannot be reached is logged and left alone.
    #[must_use]
    pub fn from_environment() -> Service {
        let name = std::env::var("NOTIFY_SOCKET").ok().filter(|name| !name.is_empty());
        let socket = name.and_then(|name| match connect(&name) {
            Ok(socket) => Some(socket),
            Err(error) => {
                tracing::warn!(%error, name, "the service manager cannot be told anything");
                None
            }
        });
        Service { socket, ready: false }
    }

    /// A control cycle was completed: ready from the first one on.
    pub fn completed_cycle(&mut self) {
        self.say(if self.ready { "WATCHDOG=1" } else { "READY=1\nWATCHDOG=1" });
        self.ready = true;
    }

    /// The gateway stops on purpose.
    pub fn stopping(&self) {
        self.say("STOPPING=1");
    }

    fn say(&self, words: &str) {
        if let Some(socket) = &self.socket
            && let Err(error) = socket.send(words.as_bytes())
        {
            tracing::debug!(%error, "the service manager did not take a message");
        }
    }
}

/// `@name` is a socket without a file.
fn connect(name: &str) -> std::io::Result<UnixDatagram> {
    let address = match name.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// This program, to be started again: the installed file, or what runs where somebody has put another in its place.
///
/// # Errors
/// When the system does not say.
pub(super) fn own_program() -> std::io::Result<std::path::PathBuf> {
    let installed = std::env::current_exe()?;
    Ok(if installed.exists() { installed } else { std::path::PathBuf::from("/proc/self/exe") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_reach_a_socket_with_and_without_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let hidden = format!("wattgate-test-{}", std::process::id());
        let listeners = [
            (UnixDatagram::bind(&path).unwrap(), path.display().to_string()),
            (
                UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&hidden).unwrap()).unwrap(),
                format!("@{hidden}"),
            ),
        ];
        for (listener, name) in listeners {
            let mut service = Service { socket: Some(connect(&name).unwrap()), ready: false };
            service.completed_cycle();
            service.completed_cycle();
            service.stopping();
            let heard = || {
                let mut bytes = [0; 64];
                let length = listener.recv(&mut bytes).unwrap();
                String::from_utf8_lossy(&bytes[..length]).into_owned()
            };
            assert_eq!(heard(), "READY=1\nWATCHDOG=1");
            assert_eq!(heard(), "WATCHDOG=1");
            assert_eq!(heard(), "STOPPING=1");
        }
    }
}
