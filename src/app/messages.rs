//! What the control process and the vision child say to each other over their Unix socket: four bytes
//! of length, then JSON; a still follows its announcement as a frame of raw bytes.

use std::io::{self, Read, Write};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::logic::decision::Duty;
use crate::logic::site::Id;
use crate::logic::vision::{Ledger, Scene};
use crate::units::Moment;

/// Longest message (decisions: 1 MiB) and longest still.
const MOST_JSON: usize = 1 << 20;
pub const MOST_STILL: usize = 4 << 20;

/// From the child.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromChild {
    /// A judged frame.
    Scene(Scene),
    /// What looking has cost so far.
    Ledger {
        /// The account.
        ledger: Ledger,
        /// When it was made up.
        at: Moment,
    },
    /// The judging loop is alive.
    Beat,
    /// A picture of this camera is being decoded: what happens now is its doing.
    Opens(Id),
    /// It was decoded, or refused.
    Opened,
    /// A still of this many bytes follows.
    Still {
        /// Whose.
        camera: Id,
        /// When its frame was received.
        at: Moment,
        /// Length of the frame that follows.
        bytes: usize,
    },
}

/// To the child.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToChild {
    /// What to look at how often.
    Duty(Duty),
}

/// Writes one message.
///
/// # Errors
/// When the socket fails.
pub fn say<T: Serialize>(to: &mut impl Write, message: &T) -> io::Result<()> {
    let json = serde_json::to_vec(message)?;
    frame(to, &json)
}

/// Writes raw bytes with their length.
///
/// # Errors
/// When the socket fails.
pub fn frame(to: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    to.write_all(&length.to_be_bytes())?;
    to.write_all(bytes)?;
    to.flush()
}

/// Reads one message.
///
/// # Errors
/// When the socket fails or ends, or the message is too long or not understood.
pub fn hear<T: DeserializeOwned>(from: &mut impl Read) -> io::Result<T> {
    let json = take(from, MOST_JSON)?;
    serde_json::from_slice(&json).map_err(io::Error::other)
}

/// Reads raw bytes of at most `most`.
///
/// # Errors
/// When the socket fails or ends, or there are more.
pub fn take(from: &mut impl Read, most: usize) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length) as usize;
    if length > most {
        return Err(io::Error::other(format!("a message of {length} bytes, at most {most}")));
    }
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Whether the other side is gone: its end of the socket was closed, between messages or within one.
#[must_use]
pub fn is_end(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_round_trip_and_lengths_are_bounded() {
        let mut wire = Vec::new();
        say(&mut wire, &ToChild::Duty(Duty::default())).unwrap();
        let ToChild::Duty(duty) = hear(&mut wire.as_slice()).unwrap();
        assert_eq!(duty, Duty::default());
        assert!(take(&mut [0xFF; 64].as_slice(), MOST_JSON).is_err());
        assert!(hear::<ToChild>(&mut [0, 0, 0, 3, b'x'].as_slice()).is_err());
    }
}
