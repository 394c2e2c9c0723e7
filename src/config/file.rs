//! The shape of a site file: its tables and keys, with the place of each value, not yet checked
//! against each other (`check` does that).

mod circuit;
mod device;
mod fieldbus;
mod vision;
mod work;

pub use circuit::CircuitTable;
pub use device::DeviceTable;
pub use fieldbus::{ServerTable, TlsTable};
use toml_edit::Item;
pub use vision::VisionTable;
pub use work::{ParameterTable, WorkTables, WorkloadTable};

use super::guarding::{self, LimitsTable, RelayTable, RolesTable, SensorTable};
use super::walk::{Faults, Walk, document, error};

/// A value and where it stands.
#[derive(Clone, Debug)]
pub struct At<T> {
    /// The value.
    pub value: T,
    /// Byte offset.
    pub at: Option<usize>,
}

/// `[site]`.
#[derive(Clone, Debug, Default)]
pub struct SiteTable {
    pub id: Option<At<String>>,
    pub name: Option<String>,
    pub mode: Option<At<String>>,
}

/// `[grid]`.
#[derive(Clone, Debug, Default)]
pub struct GridTable {
    pub at: Option<usize>,
    pub meter: Option<At<String>>,
    pub limit_a: Option<At<[f64; 3]>>,
    pub breaker_a: Option<At<f64>>,
    pub nominal_v: Option<f64>,
    pub max_base_load_a: Option<f64>,
    pub limit_w: Option<f64>,
    pub unbalance_a: Option<f64>,
    pub demand_w: Option<f64>,
    pub demand_min: Option<At<f64>>,
    pub dimmed_least_w: Option<f64>,
    pub export_limit_w: Option<f64>,
    pub dim_device: Option<At<String>>,
    pub dim_point: Option<At<String>>,
    pub dim_active: Option<At<String>>,
    pub dim_limit_w: Option<f64>,
}

/// `[tariff]`.
#[derive(Clone, Debug)]
pub struct TariffTable {
    pub currency: Option<String>,
    pub timezone: Option<At<String>>,
    pub import_per_kwh: Option<f64>,
    pub export_per_kwh: Option<f64>,
    pub bands: Vec<BandTable>,
}

/// `[[tariff.band]]`.
#[derive(Clone, Debug)]
pub struct BandTable {
    pub from: Option<At<String>>,
    pub to: Option<At<String>>,
    pub import_per_kwh: Option<f64>,
}

/// `[[bay]]`.
#[derive(Clone, Debug)]
pub struct BayTable {
    pub at: Option<usize>,
    pub id: Option<At<String>>,
    pub name: Option<String>,
    pub charger: Option<At<String>>,
    pub camera: Option<At<String>>,
    pub polygon: At<Vec<[f64; 2]>>,
}

/// `[[zone]]`.
#[derive(Clone, Debug)]
pub struct ZoneTable {
    pub id: Option<At<String>>,
    pub bays: Vec<(String, Option<usize>)>,
    pub chargers: Vec<(String, Option<usize>)>,
    pub cameras: Vec<(String, Option<usize>)>,
    pub neighbours: Vec<(String, Option<usize>)>,
    pub battery: Option<At<String>>,
    pub on_blind: Option<At<String>>,
    pub limits: Option<LimitsTable>,
}

/// `[[camera]]`.
#[derive(Clone, Debug)]
pub struct CameraTable {
    pub id: Option<At<String>>,
    pub name: Option<String>,
    pub snapshot: Option<At<String>>,
    pub stream: Option<At<String>>,
    pub username: Option<At<String>>,
    pub password_file: Option<At<String>>,
    pub serial: Option<At<String>>,
    pub onvif: Option<At<String>>,
    pub masks: At<Vec<Vec<[f64; 2]>>>,
    pub at: Option<usize>,
}

/// `[mqtt]`.
#[derive(Clone, Debug)]
pub struct MqttTable {
    pub host: Option<At<String>>,
    pub port: Option<f64>,
    pub client_id: Option<String>,
    pub username: Option<String>,
    pub password_file: Option<String>,
    pub allow_plaintext: bool,
    pub ca_file: Option<String>,
    pub outbox_cap_mib: Option<f64>,
    pub commands: Vec<(String, Option<usize>)>,
}

/// What concerns the field bus as a whole.
#[derive(Clone, Debug, Default)]
pub struct FieldBusTables {
    pub tls: Option<TlsTable>,
    pub server: Option<ServerTable>,
}

/// A whole site file.
#[derive(Clone, Debug, Default)]
pub struct SiteFile {
    pub site: SiteTable,
    pub grid: GridTable,
    pub devices: Vec<DeviceTable>,
    pub circuits: Vec<CircuitTable>,
    pub bays: Vec<BayTable>,
    pub zones: Vec<ZoneTable>,
    pub cameras: Vec<CameraTable>,
    pub tariff: Option<TariffTable>,
    pub mqtt: Option<MqttTable>,
    pub fieldbus: FieldBusTables,
    pub vision: Option<VisionTable>,
    pub listen: Option<At<String>>,
    pub state: Option<String>,
    pub models: Option<String>,
    /// Whose updates are taken.
    pub updates: Option<At<String>>,
    pub sensors: Vec<SensorTable>,
    pub relays: Vec<RelayTable>,
    pub roles: RolesTable,
    pub work: WorkTables,
}

/// Reads the tables; nothing where the text is not TOML at all.
pub fn parse(text: &str, faults: &mut Faults) -> Option<SiteFile> {
    let document = document(text, faults)?;
    let root = document.as_item();
    let mut walk = Walk::table(root, "the file", faults)?;
    let mut site_file = SiteFile::default();
    for (key, needed) in [("site", true), ("grid", true)] {
        if needed {
            walk.needed(key, faults);
        }
    }
    if let Some(item) = walk.item("site") {
        site_file.site = site(item, faults).unwrap_or_default();
    }
    if let Some(item) = walk.item("grid") {
        site_file.grid = grid(item, faults).unwrap_or_default();
    }
    site_file.devices = each(walk.item("device"), "device", faults, device::read);
    site_file.circuits = each(walk.item("circuit"), "circuit", faults, circuit::read);
    site_file.bays = each(walk.item("bay"), "bay", faults, bay);
    site_file.zones = each(walk.item("zone"), "zone", faults, zone);
    site_file.cameras = each(walk.item("camera"), "camera", faults, camera);
    site_file.sensors = each(walk.item("sensor"), "sensor", faults, guarding::sensor);
    site_file.relays = each(walk.item("relay"), "relay", faults, guarding::relay);
    site_file.work = work::read(&mut walk, faults);
    if let Some(item) = walk.item("roles") {
        site_file.roles = guarding::roles(item, faults).unwrap_or_default();
    }
    site_file.tariff = walk.item("tariff").and_then(|item| tariff(item, faults));
    site_file.vision = walk.item("vision").and_then(|item| vision::read(item, faults));
    site_file.mqtt = walk.item("mqtt").and_then(|item| mqtt(item, faults));
    site_file.fieldbus.tls =
        walk.item("modbus_tls").and_then(|item| fieldbus::modbus_tls(item, faults));
    site_file.fieldbus.server =
        walk.item("modbus_server").and_then(|item| fieldbus::modbus_server(item, faults));
    if let Some(mut web) = walk.item("web").and_then(|item| Walk::table(item, "web", faults)) {
        site_file.listen = text_at(&mut web, "listen", faults);
        web.finish(faults);
    }
    if let Some(mut paths) = walk.item("paths").and_then(|i| Walk::table(i, "paths", faults)) {
        site_file.state = paths.text("state", faults);
        site_file.models = paths.text("models", faults);
        paths.finish(faults);
    }
    if let Some(mut updates) = walk.item("updates").and_then(|i| Walk::table(i, "updates", faults))
    {
        site_file.updates = needed_at(&mut updates, "signed_by", faults);
        updates.finish(faults);
    }
    walk.finish(faults);
    Some(site_file)
}

pub(super) fn text_at(
    walk: &mut Walk<'_>,
    key: &'static str,
    faults: &mut Faults,
) -> Option<At<String>> {
    let value = walk.text(key, faults)?;
    Some(At { value, at: walk.at_key(key) })
}

pub(super) fn needed_at(
    walk: &mut Walk<'_>,
    key: &'static str,
    faults: &mut Faults,
) -> Option<At<String>> {
    walk.needed(key, faults);
    text_at(walk, key, faults)
}

pub(super) fn number_at(
    walk: &mut Walk<'_>,
    key: &'static str,
    range: std::ops::RangeInclusive<f64>,
    faults: &mut Faults,
) -> Option<At<f64>> {
    let value = walk.number(key, range, faults)?;
    Some(At { value, at: walk.at_key(key) })
}

pub(super) fn amps(walk: &mut Walk<'_>, key: &'static str, faults: &mut Faults) -> Option<At<f64>> {
    number_at(walk, key, 0.0..=5000.0, faults)
}

/// Every table of an array of tables.
fn each<T>(
    item: Option<&Item>,
    name: &str,
    faults: &mut Faults,
    read: impl Fn(Walk<'_>, &mut Faults) -> T,
) -> Vec<T> {
    let Some(item) = item else {
        return Vec::new();
    };
    if let Some(tables) = item.as_array_of_tables() {
        let walks = tables.iter().map(|table| Item::Table(table.clone())).collect::<Vec<_>>();
        return walks
            .iter()
            .filter_map(|table| {
                let walk = Walk::table(table, name, faults)?;
                Some(read(walk, faults))
            })
            .collect();
    }
    let values = vec![("key", name.to_owned()), ("wanted", format!("[[{name}]]"))];
    faults.push(error("WG0004", item.span().map(|span| span.start), values));
    Vec::new()
}

fn site(item: &Item, faults: &mut Faults) -> Option<SiteTable> {
    let mut walk = Walk::table(item, "site", faults)?;
    let table = SiteTable {
        id: needed_at(&mut walk, "id", faults),
        name: walk.text("name", faults),
        mode: text_at(&mut walk, "mode", faults),
    };
    walk.finish(faults);
    Some(table)
}

fn grid(item: &Item, faults: &mut Faults) -> Option<GridTable> {
    let mut walk = Walk::table(item, "grid", faults)?;
    walk.needed("limit_a", faults);
    walk.needed("breaker_a", faults);
    let table = GridTable {
        at: walk.at(),
        meter: needed_at(&mut walk, "meter", faults),
        limit_a: limits(&mut walk, faults),
        breaker_a: amps(&mut walk, "breaker_a", faults),
        nominal_v: walk.number("nominal_v", 100.0..=300.0, faults),
        max_base_load_a: walk.number("max_base_load_a", 0.0..=5000.0, faults),
        limit_w: walk.number("limit_w", 0.0..=1e8, faults),
        unbalance_a: walk.number("unbalance_a", 1.0..=5000.0, faults),
        demand_w: walk.number("demand_w", 0.0..=1e8, faults),
        demand_min: number_at(&mut walk, "demand_min", 1.0..=1440.0, faults),
        dimmed_least_w: walk.number("dimmed_least_w", 0.0..=1e6, faults),
        export_limit_w: walk.number("export_limit_w", 0.0..=1e8, faults),
        dim_device: text_at(&mut walk, "dim_device", faults),
        dim_point: text_at(&mut walk, "dim_point", faults),
        dim_active: text_at(&mut walk, "dim_active", faults),
        dim_limit_w: walk.number("dim_limit_w", 0.0..=1e8, faults),
    };
    walk.finish(faults);
    Some(table)
}

/// One number for all phases, or a list of three.
pub(super) fn limits(walk: &mut Walk<'_>, faults: &mut Faults) -> Option<At<[f64; 3]>> {
    let at = walk.at_key("limit_a");
    let item = walk.item("limit_a")?;
    let Some(array) = item.as_array() else {
        let one = walk.number("limit_a", 0.0..=5000.0, faults)?;
        return Some(At { value: [one; 3], at });
    };
    let numbers: Vec<f64> = array
        .iter()
        .filter_map(|v| v.as_float().or_else(|| v.as_integer().map(|whole| whole as f64)))
        .filter(|n| (0.0..=5000.0).contains(n))
        .collect();
    match <[f64; 3]>::try_from(numbers) {
        Ok(value) if array.len() == 3 => Some(At { value, at }),
        _ => {
            let wanted = "number, or list of three numbers from 0 to 5000".to_owned();
            faults.push(error(
                "WG0004",
                at,
                vec![("key", "limit_a".to_owned()), ("wanted", wanted)],
            ));
            None
        }
    }
}

fn bay(mut walk: Walk<'_>, faults: &mut Faults) -> BayTable {
    let table = BayTable {
        at: walk.at(),
        id: needed_at(&mut walk, "id", faults),
        name: walk.text("name", faults),
        charger: text_at(&mut walk, "charger", faults),
        camera: text_at(&mut walk, "camera", faults),
        polygon: polygon(&mut walk, faults),
    };
    walk.finish(faults);
    table
}

/// A list of points; points that are not two numbers are faults.
fn polygon(walk: &mut Walk<'_>, faults: &mut Faults) -> At<Vec<[f64; 2]>> {
    let at = walk.at_key("polygon");
    let item = walk.item("polygon");
    let points = item.and_then(Item::as_array).and_then(vision::points);
    if item.is_some() && points.is_none() {
        let wanted = "list of points [[x, y], ...]".to_owned();
        faults.push(error("WG0004", at, vec![("key", "polygon".to_owned()), ("wanted", wanted)]));
    }
    At { value: points.unwrap_or_default(), at }
}

fn zone(mut walk: Walk<'_>, faults: &mut Faults) -> ZoneTable {
    let table = ZoneTable {
        id: needed_at(&mut walk, "id", faults),
        bays: walk.texts("bays", faults),
        chargers: walk.texts("chargers", faults),
        cameras: walk.texts("cameras", faults),
        neighbours: walk.texts("neighbours", faults),
        battery: text_at(&mut walk, "battery", faults),
        on_blind: text_at(&mut walk, "on_blind", faults),
        limits: walk.item("limits").and_then(|item| guarding::limits(item, faults)),
    };
    walk.finish(faults);
    table
}

fn camera(mut walk: Walk<'_>, faults: &mut Faults) -> CameraTable {
    let table = CameraTable {
        id: needed_at(&mut walk, "id", faults),
        name: walk.text("name", faults),
        snapshot: text_at(&mut walk, "snapshot", faults),
        stream: text_at(&mut walk, "stream", faults),
        username: text_at(&mut walk, "username", faults),
        password_file: text_at(&mut walk, "password_file", faults),
        serial: text_at(&mut walk, "serial", faults),
        onvif: text_at(&mut walk, "onvif", faults),
        masks: vision::masks(&mut walk, faults),
        at: walk.at(),
    };
    walk.finish(faults);
    table
}

fn tariff(item: &Item, faults: &mut Faults) -> Option<TariffTable> {
    let mut walk = Walk::table(item, "tariff", faults)?;
    walk.needed("import_per_kwh", faults);
    let price = -1000.0..=1000.0;
    let table = TariffTable {
        currency: walk.text("currency", faults),
        timezone: needed_at(&mut walk, "timezone", faults),
        import_per_kwh: walk.number("import_per_kwh", price.clone(), faults),
        export_per_kwh: walk.number("export_per_kwh", price, faults),
        bands: each(walk.item("band"), "tariff.band", faults, band),
    };
    walk.finish(faults);
    Some(table)
}

fn band(mut walk: Walk<'_>, faults: &mut Faults) -> BandTable {
    walk.needed("import_per_kwh", faults);
    let table = BandTable {
        from: needed_at(&mut walk, "from", faults),
        to: needed_at(&mut walk, "to", faults),
        import_per_kwh: walk.number("import_per_kwh", -1000.0..=1000.0, faults),
    };
    walk.finish(faults);
    table
}

fn mqtt(item: &Item, faults: &mut Faults) -> Option<MqttTable> {
    let mut walk = Walk::table(item, "mqtt", faults)?;
    let table = MqttTable {
        host: needed_at(&mut walk, "host", faults),
        port: walk.whole("port", 1.0..=65535.0, faults),
        client_id: walk.text("client_id", faults),
        username: walk.text("username", faults),
        password_file: walk.text("password_file", faults),
        allow_plaintext: walk.flag("allow_plaintext", faults).unwrap_or(false),
        ca_file: walk.text("ca_file", faults),
        outbox_cap_mib: walk.whole("outbox_cap_mib", 1.0..=1_000_000.0, faults),
        commands: walk.texts("commands", faults),
    };
    walk.finish(faults);
    Some(table)
}
