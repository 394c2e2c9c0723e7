//! Cross-checks: from the tables of a site file to a valid [`Config`], or faults. Whatever can be
//! checked is checked even when something before it is wrong, so that one run shows all of it.

mod address;
mod circuits;
mod devices;
mod fieldbus;
mod guard;
mod places;
mod strategies;
mod tariff;
mod vision;
mod work;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use super::file::{At, GridTable, MqttTable, SiteFile};
use super::load::DEFAULT_STATE;
use super::report::{Fault, Severity};
use super::walk::{Faults, error, nearest};
use super::{Address, Command, Config, MqttConfig, Profile, WebConfig};
use crate::logic::site::{DemandLimit, GridLimits, Id, LEAST_EACH, Mode, Site};
use crate::units::{Amps, PerPhase, Volts, Watts};

/// An address as a site file writes it.
#[must_use]
pub fn address_of(text: &str) -> Option<Address> {
    address::parse(&At { value: text.to_owned(), at: None }, &mut Faults::new())
}

/// Makes the configuration; nothing where an error forbids it.
pub fn check(
    file: SiteFile,
    folder: &Path,
    profiles: &BTreeMap<String, Profile>,
    faults: &mut Faults,
) -> Option<Config> {
    let id = file.site.id.as_ref().and_then(|id| valid_id(id, faults));
    let mode = mode(file.site.mode.as_ref(), faults);
    let limits = limits(&file, faults);
    let mut devices = devices::check(&file.devices, profiles, faults);
    let meter = file.grid.meter.as_ref();
    let meter = meter.and_then(|meter| devices::reference(meter, &devices.meters, "meter", faults));
    let places = places::check(&file, &devices, folder, faults);
    let circuits = circuits::check(&file.circuits, &devices, faults);
    let (work, computing) = work::check(&file.work, &devices, faults);
    let guard = guard::check(&file, &mut devices, &places, faults);
    devices::forget_followers(&file.devices, &devices, faults);
    if let Some(limits) = &limits {
        let places = (file.grid.at, file.circuits.as_slice());
        circuits::failsafe_sums(&devices, (limits, &circuits), (mode, places), faults);
        circuits::restarts(&devices, (limits, &circuits), &file.devices, faults);
    }
    let tariff = tariff::check(file.tariff.as_ref(), faults);
    let mqtt = file.mqtt.as_ref().and_then(|mqtt| broker(mqtt, id.as_ref(), folder, faults));
    let bus = (file.devices.as_slice(), devices.configs.as_slice());
    let fieldbus = fieldbus::check(&file.fieldbus, bus, folder, faults);
    let vision = vision::check(file.vision.as_ref(), faults);
    let web = listen(file.listen.as_ref(), faults);
    let state = folder.join(file.state.unwrap_or_else(|| DEFAULT_STATE.to_owned()));
    let models = models_folder(file.models.as_deref(), folder);
    let updates = updates(file.updates.as_ref(), faults);
    let id = id?;
    let name = file.site.name.unwrap_or_else(|| id.to_string());
    let site = Site {
        id,
        name,
        mode,
        limits: limits?,
        meter: meter?,
        chargers: devices.chargers,
        batteries: devices.batteries,
        computes: devices.computes,
        pvs: devices.pvs,
        inverters: devices.inverters,
        bays: places.bays,
        zones: places.zones,
        cameras: places.cameras,
        tariff,
        circuits,
        guard,
        work,
    };
    let (devices, cameras) = (devices.configs, places.sources);
    let web = web?;
    Some(Config {
        site,
        devices,
        cameras,
        mqtt,
        fieldbus,
        web,
        computing,
        vision,
        models,
        state,
        updates,
    })
}

/// A key that can be one.
fn updates(key: Option<&At<String>>, faults: &mut Faults) -> Option<String> {
    let key = key?;
    if let Err(cause) = minisign_verify::PublicKey::from_base64(&key.value) {
        let values = vec![("key", key.value.clone()), ("cause", cause.to_string())];
        faults.push(error("WG0144", key.at, values));
    }
    Some(key.value.clone())
}

fn valid_id(text: &At<String>, faults: &mut Faults) -> Option<Id> {
    match Id::try_from(text.value.as_str()) {
        Ok(id) => Some(id),
        Err(_) => {
            faults.push(error("WG0006", text.at, vec![("id", text.value.clone())]));
            None
        }
    }
}

fn one_of(text: &At<String>, key: &str, allowed: &[&str], faults: &mut Faults) {
    let values = vec![
        ("key", key.to_owned()),
        ("value", text.value.clone()),
        ("allowed", allowed.join(", ")),
    ];
    let mut fault = error("WG0009", text.at, values);
    fault.nearest = nearest(&text.value, allowed.iter().copied());
    faults.push(fault);
}

fn mode(text: Option<&At<String>>, faults: &mut Faults) -> Mode {
    match text.map(|text| (text, text.value.as_str())) {
        None | Some((_, "observe")) => Mode::Observe,
        Some((_, "auto")) => Mode::Auto,
        Some((text, _)) => {
            one_of(text, "mode", &["observe", "auto"], faults);
            Mode::Observe
        }
    }
}

fn limits(file: &SiteFile, faults: &mut Faults) -> Option<GridLimits> {
    let (limit, breaker) = (file.grid.limit_a.as_ref()?, file.grid.breaker_a.as_ref()?);
    for over in limit.value.iter().filter(|limit| **limit > breaker.value) {
        let values = vec![("limit", over.to_string()), ("breaker", breaker.value.to_string())];
        faults.push(error("WG0020", limit.at, values));
    }
    Some(GridLimits {
        limit: PerPhase(limit.value.map(Amps)),
        breaker: Amps(breaker.value),
        nominal_voltage: Volts(file.grid.nominal_v.unwrap_or(230.0)),
        max_base_load: Amps(file.grid.max_base_load_a.unwrap_or(0.0)),
        power: file.grid.limit_w.map(Watts),
        unbalance: file.grid.unbalance_a.map(Amps),
        demand: demand(&file.grid, faults),
        dimmed_least: file.grid.dimmed_least_w.map_or(LEAST_EACH, Watts),
        export: file.grid.export_limit_w.map(Watts),
    })
}

/// A quarter of an hour unless the file says 30 or 60 minutes.
fn demand(grid: &GridTable, faults: &mut Faults) -> Option<DemandLimit> {
    let minutes = grid.demand_min.as_ref().map_or(15.0, |minutes| minutes.value);
    if ![15.0, 30.0, 60.0].contains(&minutes) {
        let at = grid.demand_min.as_ref().and_then(|minutes| minutes.at);
        let text = At { value: minutes.to_string(), at };
        one_of(&text, "demand_min", &["15", "30", "60"], faults);
    }
    grid.demand_w.map(|watts| DemandLimit { power: Watts(watts), minutes: minutes as u32 })
}

fn broker(
    table: &MqttTable,
    site: Option<&Id>,
    folder: &Path,
    faults: &mut Faults,
) -> Option<MqttConfig> {
    let host = table.host.as_ref()?;
    let address = host.value.parse::<IpAddr>();
    if table.allow_plaintext && address.as_ref().is_ok_and(|ip| !is_local(*ip)) {
        faults.push(error("WG0040", host.at, vec![("host", host.value.clone())]));
    } else if table.allow_plaintext && !address.is_ok_and(|ip| ip.is_loopback()) {
        faults.push(warning("WG0041", host.at, vec![("host", host.value.clone())]));
    }
    let commands = commands(table, faults);
    let path = |file: &Option<String>| file.as_ref().map(|file| folder.join(file));
    let default_port = if table.allow_plaintext { 1883.0 } else { 8883.0 };
    Some(MqttConfig {
        host: host.value.clone(),
        port: table.port.unwrap_or(default_port) as u16,
        client_id: table
            .client_id
            .clone()
            .unwrap_or_else(|| format!("wattgate-{}", site.map_or("", Id::as_str))),
        username: table.username.clone(),
        password_file: path(&table.password_file),
        allow_plaintext: table.allow_plaintext,
        ca_file: path(&table.ca_file),
        outbox_cap_mib: table.outbox_cap_mib.unwrap_or(256.0) as u64,
        commands,
    })
}

fn commands(table: &MqttTable, faults: &mut Faults) -> Vec<Command> {
    let mut commands = Vec::new();
    for (name, at) in &table.commands {
        match Command::ALL.into_iter().find(|known| known.name() == name) {
            Some(known) => commands.push(known),
            None => {
                let mut fault = error("WG0046", *at, vec![("command", name.clone())]);
                fault.nearest = nearest(name, Command::ALL.into_iter().map(Command::name));
                faults.push(fault);
            }
        }
    }
    commands
}

/// Loopback, private and link-local addresses: where clear text can be tolerated.
pub(super) fn is_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

fn warning(code: &'static str, at: Option<usize>, values: Vec<(&'static str, String)>) -> Fault {
    Fault { severity: Severity::Warning, ..error(code, at, values) }
}

fn listen(text: Option<&At<String>>, faults: &mut Faults) -> Option<WebConfig> {
    let default = SocketAddr::from(([127, 0, 0, 1], 8080));
    let Some(text) = text else {
        return Some(WebConfig { listen: default });
    };
    match text.value.parse::<SocketAddr>() {
        Ok(listen) => {
            if !listen.ip().is_loopback() {
                faults.push(warning("WG0043", text.at, vec![("address", text.value.clone())]));
            }
            Some(WebConfig { listen })
        }
        Err(_) => {
            faults.push(error("WG0042", text.at, vec![("address", text.value.clone())]));
            None
        }
    }
}

/// Tells a release that runs in another's place where the installed program lies, and its models.
pub const INSTALLED: &str = "WATTGATE_INSTALLED";

/// Beside the site file, beside the executable, beside the installed one, then `./models`; the first that exists.
fn models_folder(named: Option<&str>, folder: &Path) -> PathBuf {
    match named {
        Some(named) => folder.join(named),
        None => find_models(Some(folder)),
    }
}

/// The models that a command without a site file uses.
#[must_use]
pub fn models_beside() -> PathBuf {
    find_models(None)
}

fn find_models(folder: Option<&Path>) -> PathBuf {
    let beside_exe = std::env::current_exe().ok();
    let beside = |exe: PathBuf| exe.parent().map(|dir| dir.join("models"));
    let installed = std::env::var_os(INSTALLED).map(PathBuf::from);
    let candidates = [
        folder.map(|dir| dir.join("models")),
        beside_exe.and_then(beside),
        installed.and_then(beside),
        Some(PathBuf::from("models")),
    ];
    let mut there =
        candidates.into_iter().flatten().filter(|dir| dir.join("manifest.toml").exists());
    there.next().unwrap_or_else(|| PathBuf::from("models"))
}
