//! The field bus as a whole: who the gateway is to devices that speak TLS, and the caching server.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use super::super::file::{At, DeviceTable, FieldBusTables};
use super::super::walk::{Faults, error};
use super::super::{Address, BusIdentity, DeviceConfig, FieldBus, ModbusServer, Network};
use super::warning;

/// Registers older than this are not served unless the file says otherwise.
const MAX_AGE_S: f64 = 5.0;

/// Both tables, and whether the devices fit them.
pub fn check(
    tables: &FieldBusTables,
    (devices, configs): (&[DeviceTable], &[DeviceConfig]),
    folder: &Path,
    faults: &mut Faults,
) -> FieldBus {
    let identity = tables.tls.as_ref().and_then(|tls| {
        Some(BusIdentity {
            ca_file: folder.join(tls.ca_file.as_ref()?),
            certificate_file: folder.join(tls.certificate_file.as_ref()?),
            key_file: folder.join(tls.key_file.as_ref()?),
        })
    });
    let secure = |config: &DeviceConfig| matches!(config.address, Address::Tls { .. });
    if tables.tls.is_none()
        && let Some(config) = configs.iter().find(|config| secure(config))
    {
        faults.push(error("WG0060", None, vec![("id", config.id.to_string())]));
    }
    let server = tables.server.as_ref().and_then(|server| {
        let allow: Vec<Network> =
            server.allow.iter().filter_map(|entry| network(entry, faults)).collect();
        let listen = listen(server.listen.as_ref()?, server.allow.is_empty(), faults)?;
        let max_age = Duration::from_secs_f64(server.max_age_s.unwrap_or(MAX_AGE_S));
        Some(ModbusServer { listen, max_age, allow })
    });
    let mut units = BTreeSet::new();
    for (unit, at) in devices.iter().filter_map(|device| device.serve_as.map(|u| (u, device.at))) {
        let values = vec![("unit", unit.to_string())];
        if !units.insert(unit as u8) {
            faults.push(error("WG0061", at, values));
        } else if tables.server.is_none() {
            faults.push(error("WG0062", at, values));
        }
    }
    FieldBus { identity, server }
}

/// One entry of `allow`.
fn network((text, at): &(String, Option<usize>), faults: &mut Faults) -> Option<Network> {
    let network = Network::parse(text);
    if network.is_none() {
        faults.push(error("WG0064", *at, vec![("network", text.clone())]));
    }
    network
}

fn listen(text: &At<String>, lets_all_in: bool, faults: &mut Faults) -> Option<SocketAddr> {
    let values = || vec![("address", text.value.clone())];
    let Ok(listen) = text.value.parse::<SocketAddr>() else {
        faults.push(error("WG0042", text.at, values()));
        return None;
    };
    if !listen.ip().is_loopback() && lets_all_in {
        faults.push(warning("WG0063", text.at, values()));
    }
    Some(listen)
}
