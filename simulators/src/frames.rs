//! Modbus frames, written by hand: taken apart from the bytes of a line, put together for it, and damaged
//! on the way where the fault switches say so.
//!
//! What a stranger gets wrong: an RTU line has no frame marks. A request's length follows from its function;
//! whatever does not pass the checksum is noise, and the line starts afresh.

/// How frames lie on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Modbus TCP: transaction id, length, unit, PDU.
    Tcp,
    /// Modbus RTU: unit, PDU, checksum.
    Rtu,
}

/// One request off the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Of Modbus TCP; 0 on RTU.
    pub transaction: [u8; 2],
    /// Unit id.
    pub unit: u8,
    /// Function code and what follows.
    pub pdu: Vec<u8>,
}

/// The bytes are no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Noise;

/// Longest PDU of the standard.
const MOST_PDU: usize = 253;

/// CRC-16 as Modbus RTU has it: polynomial 0xA001 (reflected), start 0xFFFF, low byte first on the wire.
#[must_use]
pub fn crc(bytes: &[u8]) -> [u8; 2] {
    let mut crc = 0xFFFF_u16;
    for byte in bytes {
        crc ^= u16::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xA001 } else { crc >> 1 };
        }
    }
    crc.to_le_bytes()
}

/// Takes the next request out of what was received; nothing while it is incomplete.
///
/// # Errors
/// [`Noise`]: Modbus TCP must be cut, an RTU line has been emptied.
pub fn take(framing: Framing, received: &mut Vec<u8>) -> Result<Option<Request>, Noise> {
    match framing {
        Framing::Tcp => take_tcp(received),
        Framing::Rtu => take_rtu(received),
    }
}

fn take_tcp(received: &mut Vec<u8>) -> Result<Option<Request>, Noise> {
    let Some((head, rest)) = received.split_at_checked(7) else {
        return Ok(None);
    };
    let length = usize::from(u16::from_be_bytes([head[4], head[5]]));
    if head[2..4] != [0, 0] || !(2..=MOST_PDU + 1).contains(&length) {
        return Err(Noise);
    }
    let Some(pdu) = rest.get(..length - 1) else {
        return Ok(None);
    };
    let request = Request { transaction: [head[0], head[1]], unit: head[6], pdu: pdu.to_vec() };
    received.drain(..6 + length);
    Ok(Some(request))
}

fn take_rtu(received: &mut Vec<u8>) -> Result<Option<Request>, Noise> {
    let length = match received.get(1) {
        None => return Ok(None),
        Some(1..=6) => 8,
        Some(15 | 16) => match received.get(6) {
            Some(bytes) => 9 + usize::from(*bytes),
            None => return Ok(None),
        },
        Some(43) => 7,
        Some(_) => 4,
    };
    if received.len() < length {
        return Ok(None);
    }
    let (frame, check) = received[..length].split_at(length - 2);
    if crc(frame) != check {
        received.clear();
        return Err(Noise);
    }
    let request = Request { transaction: [0; 2], unit: frame[0], pdu: frame[1..].to_vec() };
    received.drain(..length);
    Ok(Some(request))
}

/// The frame that answers `request` with `pdu`.
#[must_use]
pub fn answer(framing: Framing, request: &Request, pdu: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(pdu.len() + 8);
    match framing {
        Framing::Tcp => {
            let length = (pdu.len() + 1) as u16;
            frame.extend([request.transaction, [0, 0], length.to_be_bytes()].concat());
            frame.push(request.unit);
            frame.extend(pdu);
        }
        Framing::Rtu => {
            frame.push(request.unit);
            frame.extend(pdu);
            frame.extend(crc(&frame));
        }
    }
    frame
}

/// Flips one random bit of each byte with a chance of `ppm` in a million. Whether any was flipped.
pub fn flip(frame: &mut [u8], ppm: u32, rng: &mut fastrand::Rng) -> bool {
    let mut flipped = false;
    for byte in frame {
        if rng.u32(0..1_000_000) < ppm {
            *byte ^= 1 << rng.u8(0..8);
            flipped = true;
        }
    }
    flipped
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_checksum_is_the_one_of_the_standard() {
        // Modbus over serial line V1.02, appendix B: 02 07 gives 41 12.
        assert_eq!(crc(&[0x02, 0x07]), [0x41, 0x12]);
    }

    #[test]
    fn requests_are_taken_whole_whatever_the_pieces() {
        let mut rtu = vec![1, 3, 0, 0, 0, 2];
        rtu.extend(crc(&rtu));
        let mut write = vec![7, 16, 0, 1, 0, 1, 2, 0, 9];
        write.extend(crc(&write));
        let tcp = [0x12, 0x34, 0, 0, 0, 6, 9, 4, 0, 0, 0, 2];
        for (framing, bytes, units) in [
            (Framing::Rtu, [rtu, write].concat(), vec![1, 7]),
            (Framing::Tcp, [tcp, tcp].concat(), vec![9, 9]),
        ] {
            for piece in 1..bytes.len() {
                let (mut received, mut seen) = (Vec::new(), Vec::new());
                for part in bytes.chunks(piece) {
                    received.extend(part);
                    while let Some(request) = take(framing, &mut received).unwrap() {
                        seen.push(request.unit);
                    }
                }
                assert_eq!(seen, units, "{framing:?} in pieces of {piece}");
            }
        }
    }

    #[test]
    fn noise_is_no_request_and_never_more_than_noise() {
        let mut rng = fastrand::Rng::with_seed(3);
        for round in 0..20_000 {
            let framing = if round % 2 == 0 { Framing::Rtu } else { Framing::Tcp };
            let mut noise: Vec<u8> = (0..rng.usize(0..64)).map(|_| rng.u8(..)).collect();
            let before = noise.len();
            if let Ok(Some(request)) = take(framing, &mut noise) {
                assert!(request.pdu.len() < before, "seed 3, round {round}");
            }
        }
    }
}
