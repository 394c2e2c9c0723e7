//! Independent peers on the transports that `peers` and `serial` leave out: servers of libmodbus and pymodbus read
//! and written by us over TCP, a serial line and TLS; an image that pysunspec2 has encoded; and clients that read
//! our simulated devices over a serial line and through TLS.
//!
//! What a stranger gets wrong: libmodbus has no TLS, and the TLS client of pymodbus sends frames without a head.
//! Their TCP goes through stunnel.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use serde_json::Value;
use simulators::modbus_server::Device;
use simulators::registers::Map;
use tokio::runtime::Runtime;
use wattgate::config::{self, BusIdentity, Table};
use wattgate::io::modbus::{self, Bus};
use wattgate::logic::site::Reading;
use wattgate::units::Phase;

use super::lines::{Running, certificates, pty_pair, start, stunnel};
use super::peers::{PACE, Server, free_port, holds_its_numbers, pymodbus_server};
use super::rig::{self, Rig};
use super::serial::{frozen, meter, python, serve};
use crate::gateway::{PATIENCE, now, until};

/// A server on libmodbus with unit 7: holding register `i` is 7 i + 3, input register `i` is 11 i + 5.
const LIBMODBUS_SERVER: &str = r#"
#include <modbus.h>
#include <stdlib.h>
#include <string.h>
int main(int n, char **v) {
    uint8_t asked[MODBUS_TCP_MAX_ADU_LENGTH];
    modbus_mapping_t *m = modbus_mapping_new(0, 0, 200, 200);
    int rtu = n == 3 && !strcmp(v[1], "rtu"), door = -1, got;
    for (int i = 0; i < 200; i++) {
        m->tab_registers[i] = 7 * i + 3;
        m->tab_input_registers[i] = 11 * i + 5;
    }
    modbus_t *c = rtu ? modbus_new_rtu(v[2], 19200, 'N', 8, 1)
                      : modbus_new_tcp("127.0.0.1", atoi(v[2]));
    modbus_set_slave(c, 7);
    if (rtu ? modbus_connect(c) : (door = modbus_tcp_listen(c, 4)) < 0) return 1;
    for (;;) {
        if (!rtu && modbus_tcp_accept(c, &door) < 0) return 1;
        while ((got = modbus_receive(c, asked)) >= 0 || rtu)
            if (got > 0) modbus_reply(c, asked, got, m);
        modbus_close(c);
    }
}
"#;

fn libmodbus_server(folder: &Path, arguments: [&str; 2]) -> Server {
    let (source, program) = (folder.join("server.c"), folder.join("libmodbus-server"));
    std::fs::write(&source, LIBMODBUS_SERVER).unwrap();
    let mut compiler = Command::new("cc");
    compiler.args(["-O2", "-I/usr/include/modbus", "-o"]).arg(&program).arg(&source);
    let built = compiler.arg("-lmodbus").output().expect("a C compiler");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    Server(Command::new(program).args(arguments).spawn().unwrap())
}

/// The gateway's own side of TLS.
fn identity(folder: &Path) -> BusIdentity {
    let file = |name: &str| folder.join(name);
    BusIdentity {
        ca_file: file("authority.pem"),
        certificate_file: file("gateway.pem"),
        key_file: file("gateway.key"),
    }
}

fn bus(line: &str, folder: &Path) -> Bus {
    let address = config::address_of(line).unwrap_or_else(|| panic!("{line}"));
    Bus::with_tls(address, Some(modbus::tls_identity(&identity(folder))))
}

fn listens(port: u16) {
    until("a server", PATIENCE, || std::net::TcpStream::connect(("127.0.0.1", port)).ok());
}

/// A way through TLS for clients that speak plain TCP; where it listens.
fn stunnel_client(folder: &Path, tls: u16) -> (Running, u16) {
    let (port, dir) = (free_port(), folder.display());
    let settings = format!(
        "foreground = yes\npid =\nclient = yes\n[out]\naccept = 127.0.0.1:{port}\n\
         connect = 127.0.0.1:{tls}\ncert = {dir}/gateway.pem\nkey = {dir}/gateway.key\n\
         CAfile = {dir}/authority.pem\nverifyChain = yes\n"
    );
    let file = folder.join("client.conf");
    std::fs::write(&file, settings).unwrap();
    let way = start("stunnel", &[&file.display().to_string()]);
    listens(port);
    (way, port)
}

/// Waits until a server has opened its end of a serial line.
fn answers(runtime: &Runtime, bus: &mut Bus) {
    until("an answer", PATIENCE, || {
        runtime.block_on(bus.read(7, Table::Holding, (0, 2), PACE)).ok()
    });
}

#[test]
fn servers_of_libmodbus_and_pymodbus_are_read_and_written_on_every_transport() {
    let (runtime, folder) = (Runtime::new().unwrap(), tempfile::tempdir().unwrap());
    let folder = folder.path();
    certificates(folder);
    for peer in ["libmodbus", "pymodbus"] {
        // Over TCP, then behind TLS; each server anew, since it is written.
        for tls in [false, true] {
            let port = free_port();
            let _server = match peer {
                "libmodbus" => libmodbus_server(folder, ["tcp", &port.to_string()]),
                _ => pymodbus_server(port, "socket"),
            };
            listens(port);
            let plain = SocketAddr::from(([127, 0, 0, 1], port));
            let (_stunnel, line) = match tls {
                true => {
                    let (stunnel, door) = stunnel(folder, plain);
                    (Some(stunnel), format!("tls://localhost:{door}"))
                }
                false => (None, format!("tcp://{plain}")),
            };
            let mut bus = bus(&line, folder);
            runtime.block_on(holds_its_numbers(&mut bus, peer));
        }
        let own = folder.join(peer);
        std::fs::create_dir(&own).unwrap();
        let (_socat, ends) = pty_pair(&own);
        let _server = match peer {
            "libmodbus" => libmodbus_server(&own, ["rtu", &ends[1]]),
            _ => pymodbus_on_a_line(&ends[1]),
        };
        let mut bus = bus(&format!("rtu://{}?baud=19200&frame=8N1", ends[0]), folder);
        answers(&runtime, &mut bus);
        runtime.block_on(holds_its_numbers(&mut bus, peer));
    }
}

fn pymodbus_on_a_line(end: &str) -> Server {
    let script = "import asyncio, sys\n\
        from pymodbus.server import ModbusSerialServer\n\
        from pymodbus.datastore import *\n\
        block = lambda a, b: ModbusSequentialDataBlock(1, [i * a + b for i in range(200)])\n\
        unit = ModbusDeviceContext(hr=block(7, 3), ir=block(11, 5))\n\
        async def main():\n\
        \x20   context = ModbusServerContext(devices={7: unit}, single=False)\n\
        \x20   await ModbusSerialServer(context, port=sys.argv[1], baudrate=19200).serve_forever()\n\
        asyncio.run(main())\n";
    let python = format!("{}/.venv/bin/python", env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(python);
    command.args(["-c", script, end]).stderr(Stdio::null());
    Server(command.spawn().expect(".venv of tests/run"))
}

/// A meter that pysunspec2 has encoded (models 1 and 203), served by pymodbus as unit 1.
fn sunspec_server(port: u16) -> Server {
    let script = "import asyncio, sys\n\
        from sunspec2.device import Model\n\
        from pymodbus.server import ModbusTcpServer\n\
        from pymodbus.datastore import *\n\
        common, meter = Model(model_id=1), Model(model_id=203)\n\
        common.Mn.value, common.Md.value, common.SN.value = 'maker', 'model', '4711'\n\
        values = dict(A_SF=-2, A=2575, AphA=1025, AphB=1000, AphC=550, V_SF=-1, PhVphA=2301,\n\
        \x20 PhVphB=2292, PhVphC=2313, Hz_SF=-2, Hz=5002, W_SF=1, W=-123, WphA=-52, WphB=-31,\n\
        \x20 WphC=-40, TotWh_SF=2, TotWhImp=123456, TotWhExp=654321)\n\
        for name, value in values.items(): getattr(meter, name).value = value\n\
        image = b'SunS' + common.get_mb() + meter.get_mb() + b'\\xff\\xff\\0\\0'\n\
        words = [image[i] * 256 + image[i + 1] for i in range(0, len(image), 2)]\n\
        unit = ModbusDeviceContext(hr=ModbusSequentialDataBlock(40001, words))\n\
        async def main():\n\
        \x20   context = ModbusServerContext(devices={1: unit}, single=False)\n\
        \x20   await ModbusTcpServer(context, address=('127.0.0.1', int(sys.argv[1]))).serve_forever()\n\
        asyncio.run(main())\n";
    let python = format!("{}/.venv/bin/python", env!("CARGO_MANIFEST_DIR"));
    let server = Command::new(python).args(["-c", script, &port.to_string()]).spawn();
    let server = Server(server.expect(".venv of tests/run"));
    listens(port);
    server
}

#[test]
fn a_meter_encoded_by_pysunspec2_is_read_value_for_value() {
    let port = free_port();
    let _server = sunspec_server(port);
    let (runtime, sim) = rig::devices("one_pile");
    let text = rig::site_file(sim.addresses())
        .replace("eastron-sdm630", "sunspec-meter")
        .replace(&format!("tcp://{}", sim.addresses().meter), &format!("tcp://127.0.0.1:{port}"));
    let rig = Rig::start((runtime, sim), rig::checked(&text), false);
    let Reading::Meter(meter) = rig.answered("grid", now(), PATIENCE) else { panic!("no meter") };
    let near = |ours: f64, theirs: f64| assert!((ours - theirs).abs() < 1e-9, "{ours}, {theirs}");
    near(meter.power.get(), -1230.0);
    let phases = [(Phase::L1, -520.0, -10.25, 230.1), (Phase::L2, -310.0, -10.0, 229.2)];
    for (phase, watts, amps, volts) in phases.into_iter().chain([(Phase::L3, -400.0, -5.5, 231.3)])
    {
        near(meter.phase_power.on(phase).get(), watts);
        near(meter.current.on(phase).get(), amps);
        near(meter.voltage.on(phase).get(), volts);
    }
    near(meter.frequency.unwrap().get(), 50.02);
    near(meter.import.unwrap().get(), 12_345_600.0);
    near(meter.export.unwrap().get(), 65_432_100.0);
}

#[test]
fn clients_read_our_devices_over_a_serial_line_and_through_tls() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    certificates(folder);
    let (runtime, sim) = rig::devices("sunny_day");
    frozen(&sim, &["grid", "hybrid"]);
    let plain = bus(&format!("tcp://{}", sim.addresses().meter), folder);
    let ours = |mut bus: Bus| runtime.block_on(bus.read(1, Table::Input, (0, 76), PACE)).unwrap();
    let expected = Value::from(ours(plain));

    let (_stunnel, port) = stunnel(folder, sim.addresses().meter);
    let (_way, door) = stunnel_client(folder, port);
    let through_tls = format!(
        "import json\nfrom pymodbus.client import ModbusTcpClient\n\
         c = ModbusTcpClient('127.0.0.1', port={door}); assert c.connect()\n\
         print(json.dumps(c.read_input_registers(0, count=76, device_id=1).registers))"
    );
    assert_eq!(python(&through_tls), expected, "pymodbus through TLS");

    let lines = ["meter", "hybrid"].map(|name| {
        std::fs::create_dir(folder.join(name)).unwrap();
        pty_pair(&folder.join(name))
    });
    serve(&runtime, &lines[0].1[1], meter(&sim, 1));
    let shared = Arc::clone(sim.shared());
    let hybrid = Device { name: "hybrid".into(), map: Map::Hybrid, unit: 1, shared };
    serve(&runtime, &lines[1].1[1], hybrid);
    assert_eq!(libmodbus_on_a_line(folder, &lines[0].1[0]), expected, "libmodbus on a line");

    let (_hybrid_tls, port) = stunnel(folder, sim.addresses().hybrid);
    let at = sim.addresses().hybrid;
    let scan = "d.scan()\nprint(json.dumps([sorted(k for k in d.models if isinstance(k, int)),\
        d.models[103][0].W.cvalue, d.models[103][0].Hz.cvalue, d.models[802][0].SoC.cvalue]))";
    let client = |how: String| {
        python(&format!(
            "import json\nimport sunspec2.modbus.client as client\nd = client.{how}\n{scan}"
        ))
    };
    let tcp = format!("SunSpecModbusClientDeviceTCP(ipaddr='{}', ipport={})", at.ip(), at.port());
    let expected = client(tcp);
    assert!(expected[0].as_array().is_some_and(|models| models.len() >= 7), "{expected}");
    let end = &lines[1].1[0];
    let line = format!("SunSpecModbusClientDeviceRTU(1, '{end}', baudrate=19200, timeout=3)");
    assert_eq!(client(line), expected, "pysunspec2 on a line");
    let files = ["cafile='D/authority.pem'", "certfile='D/gateway.pem'", "keyfile='D/gateway.key'"];
    let files = files.join(", ").replace('D', &folder.display().to_string());
    let tls = format!(
        "SunSpecModbusClientDeviceTCP(ipaddr='localhost', ipport={port}, tls=True, {files})"
    );
    assert_eq!(client(tls), expected, "pysunspec2 through TLS");
}

/// What a libmodbus client reads on a serial line.
fn libmodbus_on_a_line(folder: &Path, end: &str) -> Value {
    let source = r#"
#include <modbus.h>
#include <stdio.h>
int main(int n, char **v) {
    uint16_t words[76];
    modbus_t *c = modbus_new_rtu(v[1], 19200, 'N', 8, 1);
    modbus_set_slave(c, 1);
    modbus_set_response_timeout(c, 3, 0);
    if (n != 2 || modbus_connect(c) || modbus_read_input_registers(c, 0, 76, words) != 76) return 1;
    for (int i = 0; i < 76; i++) printf("%s%d", i ? ", " : "[", words[i]);
    puts("]");
    return 0;
}
"#;
    let (file, program) = (folder.join("line.c"), folder.join("libmodbus-line"));
    std::fs::write(&file, source).unwrap();
    let mut compiler = Command::new("cc");
    compiler.args(["-O2", "-I/usr/include/modbus", "-o"]).arg(&program).arg(&file);
    assert!(compiler.arg("-lmodbus").status().unwrap().success());
    let out = Command::new(program).arg(end).output().unwrap();
    assert!(out.status.success(), "libmodbus on {end}: {:?}", out.status);
    serde_json::from_slice(&out.stdout).unwrap()
}
