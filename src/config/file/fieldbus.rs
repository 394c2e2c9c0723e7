//! `[modbus_tls]` and `[modbus_server]`: what concerns the field bus as a whole.

use toml_edit::Item;

use super::super::walk::{Faults, Walk};
use super::{At, needed_at};

/// `[modbus_tls]`.
#[derive(Clone, Debug)]
pub struct TlsTable {
    pub ca_file: Option<String>,
    pub certificate_file: Option<String>,
    pub key_file: Option<String>,
}

/// `[modbus_server]`.
#[derive(Clone, Debug)]
pub struct ServerTable {
    pub listen: Option<At<String>>,
    pub max_age_s: Option<f64>,
    pub allow: Vec<(String, Option<usize>)>,
}

pub(super) fn modbus_tls(item: &Item, faults: &mut Faults) -> Option<TlsTable> {
    let mut walk = Walk::table(item, "modbus_tls", faults)?;
    let mut file = |key| {
        walk.needed(key, faults);
        walk.text(key, faults)
    };
    let table = TlsTable {
        ca_file: file("ca_file"),
        certificate_file: file("certificate_file"),
        key_file: file("key_file"),
    };
    walk.finish(faults);
    Some(table)
}

pub(super) fn modbus_server(item: &Item, faults: &mut Faults) -> Option<ServerTable> {
    let mut walk = Walk::table(item, "modbus_server", faults)?;
    let table = ServerTable {
        listen: needed_at(&mut walk, "listen", faults),
        max_age_s: walk.number("max_age_s", 0.1..=3600.0, faults),
        allow: walk.texts("allow", faults),
    };
    walk.finish(faults);
    Some(table)
}
