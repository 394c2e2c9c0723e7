//! A TCP connection to whoever answers within microseconds: a bridge, a gateway or a simulator on the same
//! machine.
//!
//! What a stranger gets wrong: there the waiting costs more than the answer. Going to sleep until the socket is
//! readable and being woken again is two system calls and a turn of the runtime; giving the processor away for a
//! moment and then looking is less. So where the last answer came at once, a read looks a few times before it
//! waits. No device at the end of a cable answers so soon: there nothing is looked for, and nothing is spent.
//! Every write takes its share of the task's budget, so the other lines of the thread have their turn.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::io::Errno;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::io::clock;

/// An answer within this is looked for, and no longer than this. Our own figure: a few turns of a loopback line.
const LOOKS_FOR: Duration = Duration::from_micros(100);
/// Longest frame of Modbus TCP.
const FRAME: usize = 260;

/// The connection.
#[derive(Debug)]
pub struct Prompt {
    stream: TcpStream,
    /// When the last request went out, until something of its answer came.
    asked: Option<Instant>,
    /// Whether the last answer came at once.
    at_once: bool,
}

impl Prompt {
    /// Nothing asked yet.
    #[must_use]
    pub fn new(stream: TcpStream) -> Prompt {
        Prompt { stream, asked: None, at_once: false }
    }

    /// Bytes, the end, or an error, if any of them comes at once.
    fn look(&self, asked: Instant, buf: &mut ReadBuf<'_>) -> Option<io::Result<()>> {
        let mut frame = [0; FRAME];
        let most = buf.remaining().min(FRAME);
        loop {
            // First of all: who shares this core has often answered before the request was out of hand.
            match rustix::io::read(&self.stream, &mut frame[..most]) {
                Ok(got) => {
                    buf.put_slice(&frame[..got]);
                    return Some(Ok(()));
                }
                Err(Errno::AGAIN | Errno::INTR) if asked.elapsed() < LOOKS_FOR => {
                    std::thread::yield_now();
                }
                Err(Errno::AGAIN | Errno::INTR) => return None,
                Err(error) => return Some(Err(error.into())),
            }
        }
    }
}

impl AsyncRead for Prompt {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(asked) = self.asked else {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        };
        let seen = if self.at_once { self.look(asked, buf) } else { None };
        let ready = match seen {
            Some(seen) => Poll::Ready(seen),
            None => Pin::new(&mut self.stream).poll_read(cx, buf),
        };
        if ready.is_ready() {
            self.at_once = asked.elapsed() < LOOKS_FOR;
            self.asked = None;
        }
        ready
    }
}

impl AsyncWrite for Prompt {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.asked = Some(clock::instant());
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// Says each byte back, those of 100 and more after so many milliseconds; 0 hangs up.
    fn peer() -> std::net::SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_nodelay(true).unwrap();
            let mut byte = [0];
            while matches!(stream.read(&mut byte), Ok(1)) && byte[0] != 0 {
                if byte[0] >= 100 {
                    std::thread::park_timeout(Duration::from_millis(byte[0].into()));
                }
                // In two pieces: the second is read as a late one is.
                stream.write_all(&byte).unwrap();
                stream.write_all(&[byte[0] + 1]).unwrap();
            }
        });
        address
    }

    async fn exchange(line: &mut Prompt, byte: u8) -> [u8; 2] {
        let mut answer = [0; 2];
        line.write_all(&[byte]).await.unwrap();
        line.read_exact(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn answers_at_once_late_and_never_are_read_as_they_come() {
        let mut line = Prompt::new(TcpStream::connect(peer()).await.unwrap());
        for round in 0..200 {
            for byte in [1, 7, 40] {
                assert_eq!(exchange(&mut line, byte).await, [byte, byte + 1], "round {round}");
            }
            if round % 50 == 0 {
                assert_eq!(exchange(&mut line, 120).await, [120, 121], "round {round}");
                assert!(!line.at_once, "a late one is no reason to look for the next");
            }
        }
        line.write_all(&[0]).await.unwrap();
        assert_eq!(line.read(&mut [0; 8]).await.unwrap(), 0, "the end");
    }

    /// Everything that it will ever say lies there before it is asked.
    async fn eager(answers: usize) -> (Prompt, std::net::TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let line = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(&vec![7; answers * 2]).unwrap();
        (Prompt::new(line), stream)
    }

    #[tokio::test]
    async fn a_line_that_always_answers_at_once_leaves_the_others_their_turn() {
        const MOST: usize = 10_000;
        let (mut line, _stream) = eager(MOST).await;
        let other = tokio::spawn(async {
            let mut turns = 0_u32;
            while turns < 10 {
                tokio::task::yield_now().await;
                turns += 1;
            }
        });
        let mut asked = 0;
        while !other.is_finished() {
            exchange(&mut line, 3).await;
            asked += 1;
            assert!(asked < MOST, "nobody else had a turn");
        }
    }
}
