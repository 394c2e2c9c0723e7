//! Independent peers: pymodbus as a server that we read and write, and as a client that reads our simulated
//! devices; libmodbus (C) as a client of both framings. Every value must be equal on both sides.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use simulators::frames::Framing;
use simulators::modbus_server::{self, Device};
use simulators::registers::Map;
use tokio::runtime::Runtime;
use wattgate::config::{Address, Table};
use wattgate::io::modbus::{Bus, BusError, Pace};

use super::rig;
use crate::gateway::{PATIENCE, until};

pub(super) const PACE: Pace =
    Pace { connect: Duration::from_secs(2), call: Duration::from_secs(2), gap: Duration::ZERO };

pub(super) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub(super) struct Server(pub(super) Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A pymodbus server with unit 7: holding register `i` is 7 i + 3, input register `i` is 11 i + 5.
pub(super) fn pymodbus_server(port: u16, framer: &str) -> Server {
    let script = "import asyncio, sys\n\
        from pymodbus.server import ModbusTcpServer\n\
        from pymodbus.framer import FramerType\n\
        from pymodbus.datastore import *\n\
        block = lambda a, b: ModbusSequentialDataBlock(1, [i * a + b for i in range(200)])\n\
        unit = ModbusDeviceContext(hr=block(7, 3), ir=block(11, 5))\n\
        async def main():\n\
        \x20   context = ModbusServerContext(devices={7: unit}, single=False)\n\
        \x20   at = ('127.0.0.1', int(sys.argv[1]))\n\
        \x20   await ModbusTcpServer(context, framer=FramerType(sys.argv[2]), address=at).serve_forever()\n\
        asyncio.run(main())\n";
    let python = format!("{}/.venv/bin/python", env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(python);
    let server = command.args(["-c", script, &port.to_string(), framer]).spawn();
    let server = Server(server.expect(".venv of tests/run"));
    until("pymodbus", PATIENCE, || std::net::TcpStream::connect(("127.0.0.1", port)).ok());
    server
}

#[test]
fn a_pymodbus_server_is_read_and_written_register_for_register() {
    let runtime = Runtime::new().unwrap();
    for framer in ["socket", "rtu"] {
        let port = free_port();
        let _server = pymodbus_server(port, framer);
        let host = "127.0.0.1".to_owned();
        let mut bus = Bus::new(match framer {
            "rtu" => Address::RtuOverTcp { host, port },
            _ => Address::Tcp { host, port },
        });
        runtime.block_on(holds_its_numbers(&mut bus, framer));
    }
}

/// Unit 7 of a peer's server, register for register: read, written, an exception, and read again.
pub(super) async fn holds_its_numbers(bus: &mut Bus, what: &str) {
    for (table, a, b) in [(Table::Holding, 7, 3), (Table::Input, 11, 5)] {
        for (first, count) in [(0, 1), (0, 125), (75, 125), (199, 1), (13, 57)] {
            let read = bus.read(7, table, (first, count), PACE).await.unwrap();
            let expected: Vec<u16> = (first..first + count).map(|i| i * a + b).collect();
            assert_eq!(read, expected, "{what} {table:?} {first}+{count}");
        }
    }
    bus.write(7, 6, (10, &[4711]), PACE).await.unwrap();
    bus.write(7, 16, (11, &[1, 2, 65_535]), PACE).await.unwrap();
    let written = bus.read(7, Table::Holding, (9, 6), PACE).await.unwrap();
    assert_eq!(written, [66, 4711, 1, 2, 65_535, 101], "{what}");
    let outside = bus.read(7, Table::Holding, (190, 20), PACE).await;
    assert!(matches!(outside, Err(BusError::Exception(_))), "{what}: {outside:?}");
    let again = bus.read(7, Table::Holding, (9, 1), PACE).await.unwrap();
    assert_eq!(again, [66], "{what}: an exception keeps the connection");
}

/// A C program on libmodbus, built once: `libmodbus-peer HOST PORT UNIT FUNCTION FIRST COUNT`.
pub fn libmodbus_peer() -> PathBuf {
    let source = r#"
#include <errno.h>
#include <modbus.h>
#include <stdio.h>
#include <stdlib.h>
int main(int n, char **v) {
    uint16_t words[125];
    modbus_t *c = modbus_new_tcp(v[1], atoi(v[2]));
    int first = atoi(v[5]), count = atoi(v[6]);
    modbus_set_slave(c, atoi(v[3]));
    if (modbus_connect(c)) { fprintf(stderr, "%s\n", modbus_strerror(errno)); return 1; }
    int got = atoi(v[4]) == 3 ? modbus_read_registers(c, first, count, words)
                              : modbus_read_input_registers(c, first, count, words);
    if (got < 0) { fprintf(stderr, "%s\n", modbus_strerror(errno)); return 1; }
    printf("[");
    for (int i = 0; i < got; i++) printf(i ? ", %d" : "%d", words[i]);
    printf("]\n");
    return n != 7;
}
"#;
    let folder = std::env::temp_dir().join(format!("wattgate-peer-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let program = folder.join("libmodbus-peer");
    std::fs::write(folder.join("peer.c"), source).unwrap();
    let built = Command::new("cc")
        .args(["-O2", "-I/usr/include/modbus", "-o"])
        .arg(&program)
        .arg(folder.join("peer.c"))
        .arg("-lmodbus")
        .output()
        .expect("a C compiler");
    let words = String::from_utf8_lossy(&built.stderr).into_owned();
    assert!(built.status.success(), "libmodbus-dev is missing? tests/run installs it\n{words}");
    program
}

#[test]
fn libmodbus_and_pymodbus_read_the_simulated_devices_as_we_do() {
    let (runtime, sim) = rig::devices("sunny_day");
    // Two answers are alike only while nothing moves.
    for device in ["grid", "pile1", "pile2", "pile3", "hybrid"] {
        let frozen = simulators::faults::Faults { frozen: true, ..Default::default() };
        sim.shared().set_faults(device, frozen).unwrap();
    }
    let peer = libmodbus_peer();
    let at = sim.addresses();
    for (address, unit, function, first, count) in [
        (at.meter, 1, 4, 0, 76),
        (at.piles[0].address, 1, 3, 300, 80),
        (at.piles[1].address, 255, 3, 1004, 2),
        (at.piles[2].address, 1, 3, 0x4008, 24),
        (at.hybrid, 1, 3, 40_000, 68),
    ] {
        let table = if function == 3 { Table::Holding } else { Table::Input };
        let (host, port) = (address.ip().to_string(), address.port());
        let mut bus = Bus::new(Address::Tcp { host, port });
        let ours = runtime.block_on(bus.read(unit, table, (first, count), PACE)).unwrap();
        let arguments = [address.ip().to_string(), port.to_string(), unit.to_string()];
        let numbers = [function.to_string(), first.to_string(), count.to_string()];
        let out = Command::new(&peer).args(arguments).args(numbers).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let libmodbus: Vec<u16> = serde_json::from_slice(&out.stdout).unwrap();
        assert_eq!(libmodbus, ours, "libmodbus at {address}, {first}+{count}");
        let call = if function == 3 { "holding" } else { "input" };
        let script = format!(
            "print(c.read_{call}_registers({first}, count={count}, device_id={unit}).registers)"
        );
        let pymodbus = crate::demo::pymodbus(&address.to_string(), &script);
        assert_eq!(pymodbus, Value::from(ours), "pymodbus at {address}, {first}+{count}");
    }
}

#[test]
fn pymodbus_reads_a_simulated_bridge_in_rtu_frames() {
    let (runtime, sim) = rig::devices("one_pile");
    let shared = Arc::clone(sim.shared());
    let device = Device { name: "grid".into(), map: Map::Sdm630, unit: 5, shared };
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let bridge = modbus_server::serve_bridge(any, Framing::Rtu, vec![device]);
    let (address, _) = runtime.block_on(bridge).unwrap();
    let script = "from pymodbus.framer import FramerType\n\
        d = ModbusTcpClient(c.comm_params.host, port=c.comm_params.port, framer=FramerType.RTU)\n\
        assert d.connect()\n\
        r = d.read_input_registers(0, count=6, device_id=5).registers\n\
        print([f(r[i:i + 2]) for i in (0, 2, 4)])";
    let volts = crate::demo::pymodbus(&address.to_string(), script);
    let near = |v: &Value| v.as_f64().is_some_and(|v| (215.0..245.0).contains(&v));
    assert!(volts.as_array().unwrap().iter().all(near), "{volts}");
}
