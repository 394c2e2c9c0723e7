//! Addresses of devices: their texts, and what two devices may not share.
//!
//! What a stranger gets wrong: a serial port speaks one line setting. Two devices on it must name the same
//! baud rate and frame, else one of them would never be understood.

use std::collections::BTreeSet;

use super::super::file::At;
use super::super::walk::{Faults, error};
use super::super::{Address, SerialLine};

/// Modbus/TCP and its bridges.
const MODBUS_PORT: u16 = 502;
/// Modbus/TCP Security.
const SECURE_PORT: u16 = 802;
/// Speeds that serial devices really use.
const BAUDS: std::ops::RangeInclusive<u32> = 300..=1_000_000;

/// `tcp://host:port`, `rtu+tcp://host:port`, `tls://host:port` or
/// `rtu:///dev/ttyUSB0?baud=9600&frame=8N1`. Ports are 502 and 802, the line 9600 baud 8N1 unless said.
pub fn parse(text: &At<String>, faults: &mut Faults) -> Option<Address> {
    let parsed = text.value.split_once("://").and_then(|(scheme, rest)| match scheme {
        "tcp" => host(rest, MODBUS_PORT).map(|(host, port)| Address::Tcp { host, port }),
        "rtu+tcp" => host(rest, MODBUS_PORT).map(|(host, port)| Address::RtuOverTcp { host, port }),
        "tls" => host(rest, SECURE_PORT).map(|(host, port)| Address::Tls { host, port }),
        "rtu" => serial(rest).map(Address::Serial),
        _ => None,
    });
    if parsed.is_none() {
        faults.push(error("WG0013", text.at, vec![("address", text.value.clone())]));
    }
    parsed
}

fn host(rest: &str, default: u16) -> Option<(String, u16)> {
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) => (host, port.parse::<u16>().ok().filter(|port| *port > 0)?),
        None => (rest, default),
    };
    let plain = !host.is_empty() && !host.contains(['/', ' ', '@', '?']);
    plain.then(|| (host.to_owned(), port))
}

fn serial(rest: &str) -> Option<SerialLine> {
    let (path, options) = rest.split_once('?').unwrap_or((rest, ""));
    if !path.starts_with('/') || path.contains(' ') {
        return None;
    }
    let mut line = SerialLine { path: path.to_owned(), baud: 9600, parity: 'N', stop_bits: 1 };
    for option in options.split('&').filter(|option| !option.is_empty()) {
        match option.split_once('=')? {
            ("baud", baud) => line.baud = baud.parse().ok().filter(|baud| BAUDS.contains(baud))?,
            ("frame", frame) => {
                let letters: Vec<char> = frame.chars().collect();
                let ['8', parity @ ('N' | 'E' | 'O'), stops @ ('1' | '2')] = letters[..] else {
                    return None;
                };
                line.parity = parity;
                line.stop_bits = if stops == '2' { 2 } else { 1 };
            }
            _ => return None,
        }
    }
    Some(line)
}

/// The same unit twice at one address, or one place spoken to in two ways. One unit may be two devices of
/// different kinds: an inverter and the meter behind it.
pub fn overlap(
    address: &Address,
    (unit, part): (u8, &'static str),
    places: &mut BTreeSet<(Address, u8, &'static str)>,
    (at, faults): (Option<usize>, &mut Faults),
) {
    let values = || vec![("address", place(address)), ("unit", unit.to_string())];
    if places.iter().any(|(known, ..)| known != address && place(known) == place(address)) {
        faults.push(error("WG0015", at, values()));
    }
    if !places.insert((address.clone(), unit, part)) {
        faults.push(error("WG0014", at, values()));
    }
}

/// What two addresses have in common when they mean the same socket or port.
fn place(address: &Address) -> String {
    match address {
        Address::Tcp { host, port }
        | Address::RtuOverTcp { host, port }
        | Address::Tls { host, port } => format!("{host}:{port}"),
        Address::Serial(line) => line.path.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<Address> {
        parse(&At { value: text.to_owned(), at: None }, &mut Faults::default())
    }

    #[test]
    fn an_address_is_read_and_written_alike() {
        for text in [
            "tcp://192.168.10.31:502",
            "rtu+tcp://bridge:4196",
            "tls://meter.depot:802",
            "rtu:///dev/ttyUSB0?baud=9600&frame=8N1",
            "rtu:///dev/serial/by-id/a?baud=115200&frame=8E2",
        ] {
            assert_eq!(read(text).map(|address| address.to_string()).as_deref(), Some(text));
        }
        let plain = read("rtu:///dev/ttyS1").map(|address| address.to_string());
        assert_eq!(plain.as_deref(), Some("rtu:///dev/ttyS1?baud=9600&frame=8N1"));
        assert_eq!(read("tls://m"), Some(Address::Tls { host: "m".into(), port: 802 }));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "tcp://",
            "tcp://a:0",
            "tcp://a:70000",
            "http://a",
            "tcp://a/b",
            "rtu://ttyUSB0",
            "rtu:///dev/ttyUSB0?baud=fast",
            "rtu:///dev/ttyUSB0?frame=7N1",
            "rtu:///dev/ttyUSB0?frame=8N",
            "rtu:///dev/ttyUSB0?speed=9600",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn one_port_speaks_one_way() {
        let fault = |second: &str, unit: u8| {
            let (mut places, mut faults) = (BTreeSet::new(), Faults::default());
            for (text, unit) in [("rtu:///dev/ttyS1?baud=9600", 1), (second, unit)] {
                let address = read(text).unwrap();
                overlap(&address, (unit, "meter"), &mut places, (None, &mut faults));
            }
            faults.iter().map(|fault| fault.code).collect::<Vec<_>>()
        };
        assert_eq!(fault("rtu:///dev/ttyS1?baud=9600", 2), Vec::<&str>::new());
        assert_eq!(fault("rtu:///dev/ttyS1?baud=9600", 1), ["WG0014"]);
        assert_eq!(fault("rtu:///dev/ttyS1?baud=19200", 2), ["WG0015"]);
    }
}
