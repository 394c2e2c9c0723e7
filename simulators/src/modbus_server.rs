//! Simulated devices on the wire: a TCP socket for one, or one line (RTU behind a TCP bridge or on a serial
//! port, Modbus TCP of a bridge) for several. Frames are made by hand (`frames`): the hardware shares no
//! Modbus library with the gateway that reads it.
//!
//! What a stranger gets wrong: a device that is unreachable has no socket at all, so that a client is
//! refused, not kept waiting. A line answers one request at a time, in order; behind a bridge, what comes
//! late goes to whoever is connected then.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, WriteHalf};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};

use crate::frames::{self, Framing, Noise, Request};
use crate::registers::{Map, Refusal, cut};
use crate::site::Shared;

/// Most clients at a time; the next one is closed at once.
const MOST_CLIENTS: usize = 8;
/// Requests that may wait on a line.
const WAITING: usize = 64;

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

/// Whether a read asks for a register.
fn asks_for(pdu: &[u8], register: u16) -> bool {
    let word = |at: usize| Some(u16::from_be_bytes([*pdu.get(at)?, *pdu.get(at + 1)?]));
    let (Some(first), Some(count)) = (word(1), word(3)) else {
        return false;
    };
    matches!(pdu[0], 3 | 4) && register.checked_sub(first).is_some_and(|offset| offset < count)
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

impl Device {
    /// The PDU that answers a request; nothing while the device is silent. As late as it is to be.
    async fn respond(&self, request: &Request) -> Option<Vec<u8>> {
        self.shared.hear(&self.name, matches!(request.pdu[0], 6 | 16));
        let faults = self.shared.faults(&self.name);
        if faults.silent || (faults.write_silent && matches!(request.pdu[0], 6 | 16)) {
            return None;
        }
        if faults.late_ms > 0 {
            tokio::time::sleep(Duration::from_millis(faults.late_ms)).await;
        }
        let function = request.pdu[0];
        let refused = |code| Some(vec![function | 0x80, code]);
        if let Some(code) = faults.exception() {
            return refused(code);
        }
        if let Some(code) = faults.write_exception.filter(|_| matches!(function, 6 | 16)) {
            return refused(code);
        }
        if faults.unknown_register.is_some_and(|register| asks_for(&request.pdu, register)) {
            return refused(2);
        }
        match self.answer(&request.pdu) {
            Ok(pdu) => Some(pdu),
            Err(Refusal::Function) => refused(1),
            Err(Refusal::Address) => refused(2),
            Err(Refusal::Value) => refused(3),
        }
    }

    fn answer(&self, pdu: &[u8]) -> Result<Vec<u8>, Refusal> {
        let word = |at: usize| {
            let bytes = pdu.get(at..at + 2).ok_or(Refusal::Value)?;
            Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
        };
        self.shared.with(|world| self.map.hear(world));
        let function = pdu[0];
        match function {
            3 | 4 => {
                let (first, count) = (word(1)?, word(3)?);
                if count > self.map.most_registers() {
                    return Err(Refusal::Address);
                }
                let image = self.shared.image(&self.name, &self.map, function == 4);
                let words = cut(&image, first, count)?;
                let mut answer = vec![function, (words.len() * 2) as u8];
                answer.extend(words.iter().flat_map(|word| word.to_be_bytes()));
                Ok(answer)
            }
            6 => {
                self.write(6, word(1)?, &[word(3)?])?;
                Ok(pdu.to_vec())
            }
            16 => {
                let (first, count) = (word(1)?, usize::from(word(3)?));
                let bytes = pdu.get(6..).filter(|bytes| bytes.len() == count * 2);
                let bytes = bytes.filter(|_| (1..=123).contains(&count)).ok_or(Refusal::Value)?;
                let words: Vec<u16> =
                    bytes.chunks(2).map(|b| u16::from_be_bytes([b[0], b[1]])).collect();
                self.write(16, first, &words)?;
                Ok(pdu[..5].to_vec())
            }
            43 if pdu.get(1) == Some(&14) => {
                // Objects 0 to 2 in one answer: maker, product, revision.
                let mut answer = vec![43, 14, pdu.get(2).copied().unwrap_or(1), 1, 0, 0, 3];
                for (id, text) in (0..).zip(self.map.identity()) {
                    answer.extend([id, text.len() as u8]);
                    answer.extend(text.as_bytes());
                }
                Ok(answer)
            }
            _ => Err(Refusal::Function),
        }
    }

    fn write(&self, function: u8, first: u16, words: &[u16]) -> Result<(), Refusal> {
        self.shared.with(|world| self.map.write(world, function, (first, words)))
    }

    /// The frame that goes out: damaged where the fault switches say so.
    fn frame(&self, framing: Framing, request: &Request, pdu: Vec<u8>) -> Vec<u8> {
        let faults = self.shared.faults(&self.name);
        let (mut request, mut pdu) = (request.clone(), pdu);
        if faults.wrong_unit {
            request.unit = request.unit.wrapping_add(1);
        }
        let carries_words = matches!(pdu[0], 3 | 4);
        if faults.short && carries_words && pdu.len() > 4 {
            pdu.truncate(pdu.len() - 2);
            pdu[1] -= 2;
        }
        if faults.long && carries_words && pdu.len() < 250 {
            pdu.extend([0, 0]);
            pdu[1] += 2;
        }
        let mut frame = frames::answer(framing, &request, &pdu);
        if faults.flips_ppm > 0 {
            self.shared.noise(|rng| frames::flip(&mut frame, faults.flips_ppm, rng));
        }
        frame
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
        device.shared.made(&device.name, seen);
        let listening = async {
            match open.take() {
                Some(listener) => listen(listener, &device).await,
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
async fn listen(listener: TcpListener, device: &Device) {
    let places = Arc::new(Semaphore::new(MOST_CLIENTS));
    let mut clients = JoinSet::new();
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "accepting failed; trying again");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        while clients.try_join_next().is_some() {}
        let one_client = device.shared.faults(&device.name).one_client;
        let taken = one_client && places.available_permits() < MOST_CLIENTS;
        let Some(place) = Arc::clone(&places).try_acquire_owned().ok().filter(|_| !taken) else {
            tracing::debug!(%peer, "too many clients");
            continue;
        };
        let device = device.clone();
        clients.spawn(async move {
            let _place = place;
            let _ = stream.set_nodelay(true);
            converse(stream, &device).await;
        });
    }
}

/// Answers one client of Modbus TCP until it leaves or sends what is no frame.
async fn converse(mut stream: impl AsyncRead + AsyncWrite + Unpin, device: &Device) {
    let mut received = Vec::new();
    loop {
        let request = match frames::take(Framing::Tcp, &mut received) {
            Ok(Some(request)) => request,
            Ok(None) => match stream.read_buf(&mut received).await {
                Ok(1..) => continue,
                _ => return,
            },
            Err(Noise) => return,
        };
        let pdu = match request.unit == device.unit {
            true => device.respond(&request).await,
            false if device.shared.faults(&device.name).silent => None,
            false => Some(vec![request.pdu[0] | 0x80, 11]),
        };
        if let Some(pdu) = pdu
            && stream.write_all(&device.frame(Framing::Tcp, &request, pdu)).await.is_err()
        {
            return;
        }
    }
}

type Out = Arc<Mutex<Option<mpsc::Sender<Vec<u8>>>>>;

/// Serves several devices behind one bridge until the task is aborted. Requests of all clients are answered
/// one after the other; answers go to the client that is connected then, the newest.
///
/// # Errors
/// When the address cannot be listened on.
pub async fn serve_bridge(
    address: SocketAddr,
    framing: Framing,
    devices: Vec<Device>,
) -> io::Result<(SocketAddr, JoinHandle<()>)> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    let bridging = async move {
        let out: Out = Arc::default();
        let (requests, line) = mpsc::channel(WAITING);
        let mut tasks = JoinSet::new();
        tasks.spawn(answer_in_order(line, Arc::clone(&out), framing, devices));
        while let Ok((stream, _)) = listener.accept().await {
            let _ = stream.set_nodelay(true);
            let (reads, writes) = tokio::io::split(stream);
            let (sender, frames) = mpsc::channel(WAITING);
            *out.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
            tasks.spawn(write_out(writes, frames));
            tasks.spawn(take_in(reads, framing, requests.clone()));
        }
    };
    Ok((address, tokio::spawn(bridging)))
}

/// Serves several devices on an open serial line until it is closed.
pub async fn serve_serial(
    port: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    devices: Vec<Device>,
) {
    let (reads, writes) = tokio::io::split(port);
    let (sender, frames) = mpsc::channel(WAITING);
    let out: Out = Arc::new(Mutex::new(Some(sender)));
    let (requests, line) = mpsc::channel(WAITING);
    let mut tasks = JoinSet::new();
    tasks.spawn(answer_in_order(line, out, Framing::Rtu, devices));
    tasks.spawn(write_out(writes, frames));
    take_in(reads, Framing::Rtu, requests).await;
}

async fn take_in(
    mut reads: impl AsyncRead + Unpin,
    framing: Framing,
    requests: mpsc::Sender<Request>,
) {
    let mut received = Vec::new();
    loop {
        match frames::take(framing, &mut received) {
            Ok(Some(request)) => {
                if requests.send(request).await.is_err() {
                    return;
                }
                continue;
            }
            Ok(None) => {}
            Err(Noise) if framing == Framing::Rtu => {}
            Err(Noise) => return,
        }
        if !matches!(reads.read_buf(&mut received).await, Ok(1..)) {
            return;
        }
    }
}

async fn write_out<W>(mut writes: WriteHalf<W>, mut frames: mpsc::Receiver<Vec<u8>>)
where
    W: AsyncRead + AsyncWrite,
{
    while let Some(frame) = frames.recv().await {
        if writes.write_all(&frame).await.is_err() {
            return;
        }
    }
}

/// The bus behind the bridge. Who is late answers some time, and the others go on.
async fn answer_in_order(
    mut line: mpsc::Receiver<Request>,
    out: Out,
    framing: Framing,
    devices: Vec<Device>,
) {
    let mut late = JoinSet::new();
    while let Some(request) = line.recv().await {
        let Some(device) = devices.iter().find(|device| device.unit == request.unit) else {
            continue;
        };
        let (device, out) = (device.clone(), Arc::clone(&out));
        let is_late = device.shared.faults(&device.name).late_ms > 0;
        let answering = async move {
            let Some(pdu) = device.respond(&request).await else {
                return;
            };
            let frame = device.frame(framing, &request, pdu);
            let client = out.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if let Some(client) = client {
                let _ = client.send(frame).await;
            }
        };
        if is_late {
            late.spawn(answering);
        } else {
            answering.await;
        }
        while late.try_join_next().is_some() {}
    }
}
