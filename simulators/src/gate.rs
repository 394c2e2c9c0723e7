//! A gate in front of the broker, which itself cannot be stopped: while the scenario says that the
//! broker is down, clients are refused and those inside are cut off.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::site::Shared;

/// How often the world is asked.
const LOOK: Duration = Duration::from_millis(100);

/// Opens a gate to the local port `to`; returns its own port. It stands until the task is aborted.
///
/// # Errors
/// When no port is free.
pub async fn open(to: u16, shared: Arc<Shared>) -> io::Result<(u16, JoinHandle<()>)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let at = listener.local_addr()?;
    let (tell, up) = watch::channel(true);
    let watching = async move {
        let mut looks = tokio::time::interval(LOOK);
        loop {
            looks.tick().await;
            let is_up = shared.with(|world| world.broker_up);
            tell.send_if_modified(|was| std::mem::replace(was, is_up) != is_up);
        }
    };
    let standing = async move {
        tokio::select! {
            () = watching => {}
            () = stand(listener, (at, to), up) => {}
        }
    };
    Ok((at.port(), tokio::spawn(standing)))
}

async fn stand(listener: TcpListener, (at, to): (SocketAddr, u16), mut up: watch::Receiver<bool>) {
    let inside = up.clone();
    let mut open = Some(listener);
    loop {
        if !*up.borrow_and_update() {
            open = None;
            if up.changed().await.is_err() {
                return;
            }
            continue;
        }
        let listener = match open.take() {
            Some(listener) => listener,
            None => match TcpListener::bind(at).await {
                Ok(listener) => listener,
                Err(error) => {
                    tracing::warn!(%at, %error, "the broker's gate does not open yet");
                    tokio::time::sleep(LOOK).await;
                    continue;
                }
            },
        };
        tokio::select! {
            _ = up.changed() => {}
            () = admit(&listener, to, &inside) => {}
        }
        open = Some(listener);
    }
}

async fn admit(listener: &TcpListener, to: u16, up: &watch::Receiver<bool>) {
    loop {
        match listener.accept().await {
            Ok((client, _)) => {
                tokio::spawn(carry(client, to, up.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "the broker's gate could not admit a client");
                tokio::time::sleep(LOOK).await;
            }
        }
    }
}

/// Carries bytes both ways until one side ends or the gate closes.
async fn carry(mut client: TcpStream, to: u16, mut up: watch::Receiver<bool>) {
    let Ok(mut broker) = TcpStream::connect((Ipv4Addr::LOCALHOST, to)).await else {
        return;
    };
    tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut client, &mut broker) => {}
        _ = up.wait_for(|up| !up) => {}
    }
}
