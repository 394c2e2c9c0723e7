//! Files into valid domain values. Everything that reaches the rest of the house from here was
//! checked: ids are unique, references lead somewhere, limits fit each other. Every fault of a file is
//! reported at once, with its place, a stable code and what to type instead.
//!
//! What a stranger gets wrong: the serde shape of the file (`file`) is private to this module; the
//! house knows only [`Config`].

mod check;
mod file;
mod guarding;
mod load;
mod profile;
mod report;
mod walk;

use std::net::SocketAddr;
use std::path::PathBuf;

pub use check::models_beside;
pub use load::{DEFAULT_STATE, Loaded, builtin_profiles, keep_last_good, load, load_or_last_good};
pub use profile::{
    FailsafeRecipe, FedBy, Output, Point, Profile, ProfileKind, Register, SetpointRecipe, Table,
    ValueType, WordOrder,
};
pub use report::{Fault, Report, Severity};

use crate::logic::site::{Id, Site};

/// A whole, valid configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// What the controller knows.
    pub site: Site,
    /// Devices on the field bus.
    pub devices: Vec<DeviceConfig>,
    /// Where the cameras' pictures come from; same ids as `site.cameras`.
    pub cameras: Vec<CameraSource>,
    /// The broker, if any.
    pub mqtt: Option<MqttConfig>,
    /// Page and API.
    pub web: WebConfig,
    /// Folder of the models (beside the site file, beside the executable, or `./models`).
    pub models: PathBuf,
    /// State folder: outbox, sockets, last good configuration.
    pub state: PathBuf,
}

/// One device on the field bus.
#[derive(Clone, Debug)]
pub struct DeviceConfig {
    /// Its id, the same as in the site.
    pub id: Id,
    /// Its register map.
    pub profile: Profile,
    /// Where it is.
    pub address: Address,
    /// Modbus unit id, 0 to 255.
    pub unit: u8,
    /// Failsafe current of the site file, A, for chargers.
    pub failsafe_a: Option<f64>,
    /// Relays that it drives.
    pub relays: Vec<RelayOutput>,
}

/// A relay at an output of a device.
#[derive(Clone, Debug)]
pub struct RelayOutput {
    /// The relay, the same as in the site.
    pub relay: Id,
    /// The output of the device's profile.
    pub output: Output,
    /// Whether it acts when the output is on; else when it is off.
    pub acts_energised: bool,
}

/// How a device is reached: `tcp://host:port` or `rtu+tcp://host:port`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Address {
    /// Modbus/TCP.
    Tcp {
        /// Name or IP address.
        host: String,
        /// Port, 502 unless said.
        port: u16,
    },
    /// RTU frames through a TCP bridge.
    RtuOverTcp {
        /// Name or IP address of the bridge.
        host: String,
        /// Port of the bridge.
        port: u16,
    },
}

/// Where a camera's pictures come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CameraSource {
    /// The camera.
    pub id: Id,
    /// `http://host:port/path`.
    pub url: String,
    /// Whether it is a stream (MJPEG) that is kept open, not a snapshot for every look.
    pub is_stream: bool,
}

/// The broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MqttConfig {
    /// Name or IP address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Client id; the site's id unless said.
    pub client_id: String,
    /// User name, if the broker wants one.
    pub username: Option<String>,
    /// File that holds the password (first line).
    pub password_file: Option<PathBuf>,
    /// TLS unless this is set; then a lasting warning stands on the page.
    pub allow_plaintext: bool,
    /// Certificate authority (PEM) instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Cap of the outbox in MiB.
    pub outbox_cap_mib: u64,
    /// What may be asked over MQTT.
    pub commands: Vec<Command>,
}

/// What may be asked over MQTT, each only where the site file says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// `charger/<id>/cmd/target`: energy and departure of the car that is there.
    Target,
}

impl Command {
    /// All of them.
    pub const ALL: [Command; 1] = [Command::Target];

    /// Its name in the site file and in the topic.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Command::Target => "target",
        }
    }
}

/// Page and API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebConfig {
    /// Where the page listens.
    pub listen: SocketAddr,
}
