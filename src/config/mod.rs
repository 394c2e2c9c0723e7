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
mod network;
mod profile;
mod report;
mod schema;
mod secret;
mod walk;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use check::{INSTALLED, address_of, models_beside};
pub use load::{
    DEFAULT_STATE, Loaded, keep_last_good, load, load_or_last_good, no_such_profile, profile_file,
    profiles_beside, signed_by, state_folder,
};
pub use network::Network;
pub use profile::{
    BatteryRecipe, BatteryWrite, FailsafeRecipe, FedBy, Fixed, Order, Output, Point, Profile,
    ProfileKind, Register, SetpointRecipe, Table, ValueType, builtin_profiles, plausible,
    read as read_profile, shipped,
};
pub use report::{Fault, Report, Severity};
pub use schema::{profile_schema, site_schema};
pub use secret::{is_secret, shown};

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
    /// The field bus as a whole.
    pub fieldbus: FieldBus,
    /// Page and API.
    pub web: WebConfig,
    /// How jobs are run and metered.
    pub computing: Computing,
    /// What the vision process may spend, and whom it may ask.
    pub vision: VisionConfig,
    /// Folder of the models (beside the site file, beside the executable, or `./models`).
    pub models: PathBuf,
    /// State folder: outbox, sockets, last good configuration.
    pub state: PathBuf,
    /// Public key of minisign of whoever may update the program; without one nothing is taken.
    pub updates: Option<String>,
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
    /// Unit id under which the caching server shows its registers.
    pub serve_as: Option<u8>,
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

/// How a device is reached: `tcp://host:port`, `rtu+tcp://host:port`, `tls://host:port` or
/// `rtu:///dev/ttyUSB0?baud=9600&frame=8N1`.
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
    /// Modbus/TCP Security: TLS with certificates on both sides.
    Tls {
        /// Name or IP address, as in the device's certificate.
        host: String,
        /// Port, 802 unless said.
        port: u16,
    },
    /// RTU on a serial port.
    Serial(SerialLine),
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Address::Tcp { host, port } => write!(f, "tcp://{host}:{port}"),
            Address::RtuOverTcp { host, port } => write!(f, "rtu+tcp://{host}:{port}"),
            Address::Tls { host, port } => write!(f, "tls://{host}:{port}"),
            Address::Serial(line) => {
                let SerialLine { path, baud, parity, stop_bits } = line;
                write!(f, "rtu://{path}?baud={baud}&frame=8{parity}{stop_bits}")
            }
        }
    }
}

/// A serial port and how bytes go over it; eight data bits, as Modbus RTU asks for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SerialLine {
    /// `/dev/...`.
    pub path: String,
    /// Bits per second.
    pub baud: u32,
    /// `N`, `E` or `O`.
    pub parity: char,
    /// 1 or 2.
    pub stop_bits: u8,
}

/// The field bus as a whole.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FieldBus {
    /// For `tls://` devices.
    pub identity: Option<BusIdentity>,
    /// The caching server, if it is wanted.
    pub server: Option<ModbusServer>,
}

/// The caching Modbus server: read-only.
#[derive(Clone, Debug, PartialEq)]
pub struct ModbusServer {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Older registers are not served.
    pub max_age: Duration,
    /// Who may read; everybody if there is none.
    pub allow: Vec<Network>,
}

/// Who the gateway is to devices that speak Modbus/TCP Security.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BusIdentity {
    /// Certificate authority of the devices (PEM).
    pub ca_file: PathBuf,
    /// The gateway's certificate chain (PEM).
    pub certificate_file: PathBuf,
    /// Its key (PEM).
    pub key_file: PathBuf,
}

/// What the vision process may spend, and whom it may ask.
#[derive(Clone, Debug, PartialEq)]
pub struct VisionConfig {
    /// What the big net may spend in any hour, Wh.
    pub budget_wh: f64,
    /// What a busy core of this machine draws, W, where somebody measured it.
    pub watt_per_core: Option<f64>,
    /// A net on another machine.
    pub remote: Option<RemoteModel>,
    /// Whether pictures that the small net doubts are kept.
    pub evidence: bool,
}

/// A net on another machine, over the Open Inference Protocol v2.
#[derive(Clone, Debug, PartialEq)]
pub struct RemoteModel {
    /// `http://host:port`.
    pub url: String,
    /// Its name there, and the id of its entry in the manifest.
    pub model: String,
    /// Longest time for an answer.
    pub timeout: Duration,
    /// What a look is taken to cost there, J.
    pub joules: f64,
}

/// Where a camera's pictures come from.
#[derive(Clone, Debug, PartialEq)]
pub struct CameraSource {
    /// The camera.
    pub id: Id,
    /// `http://host:port/path`.
    pub url: String,
    /// Whether it is a stream (MJPEG) that is kept open, not a snapshot for every look.
    pub is_stream: bool,
    /// Who we are to a camera that asks.
    pub login: Option<CameraLogin>,
    /// Who it is, where the site file says so.
    pub passport: Option<CameraPassport>,
    /// What nobody else may see of its pictures: polygons in shares of the frame, painted over in every picture
    /// that is kept or leaves the device. The nets of this device see the whole picture: a fire behind a mask is a
    /// fire.
    pub masks: Vec<Vec<[f64; 2]>>,
}

/// Who a camera is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CameraPassport {
    /// Where it is asked over ONVIF: a host with or without port.
    pub place: String,
    /// Its serial number, as it says.
    pub serial: String,
}

/// A user of a camera.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CameraLogin {
    /// The user.
    pub username: String,
    /// The file whose first line is the password.
    pub password_file: PathBuf,
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
    /// `charger/<id>/cmd/mode`: how it charges from now on.
    Mode,
    /// `job/<workload>/cmd/submit`: a new job.
    Submit,
    /// `job/<job>/cmd/pause`: it waits.
    Pause,
    /// `job/<job>/cmd/resume`: it goes on.
    Resume,
    /// `job/<job>/cmd/cancel`: it is not wanted any more.
    Cancel,
    /// `grid/main/cmd/dim`: the grid operator bounds all that is controlled for a while.
    Dim,
}

impl Command {
    /// All of them.
    pub const ALL: [Command; 7] = [
        Command::Target,
        Command::Mode,
        Command::Dim,
        Command::Submit,
        Command::Pause,
        Command::Resume,
        Command::Cancel,
    ];

    /// Its name in the site file and in the topic.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Command::Target => "target",
            Command::Mode => "mode",
            Command::Submit => "submit",
            Command::Pause => "pause",
            Command::Resume => "resume",
            Command::Cancel => "cancel",
            Command::Dim => "dim",
        }
    }

    /// The kind of thing that it is about, as in the topic.
    #[must_use]
    pub fn kind(self) -> &'static str {
        match self {
            Command::Target | Command::Mode => "charger",
            Command::Dim => "grid",
            Command::Submit | Command::Pause | Command::Resume | Command::Cancel => "job",
        }
    }
}

/// How jobs are run and metered.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Computing {
    /// What one busy core of the gateway draws beyond idle, W: for the calibrated model.
    pub watts_per_core: f64,
    /// What the energy counters show while nothing is to do, W.
    pub idle_w: f64,
    /// Where Linux shows energy counters.
    pub powercap: PathBuf,
    /// Folder below which control groups may be made, where the site file names one.
    pub cgroup: Option<PathBuf>,
    /// How each workload is run.
    pub runners: BTreeMap<Id, Runner>,
}

/// What the gateway itself can do as a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BuiltIn {
    /// A day's energy, jobs and alarms, as files.
    Report,
    /// The big net on pictures that were kept because the small one doubted them.
    Review,
    /// The cuts of each camera's bays, from what chargers know.
    Recalibrate,
    /// A small, varied set of kept pictures to train with.
    Curate,
}

impl BuiltIn {
    /// All of them.
    pub const ALL: [BuiltIn; 4] =
        [BuiltIn::Report, BuiltIn::Review, BuiltIn::Recalibrate, BuiltIn::Curate];

    /// What it is called in a site file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            BuiltIn::Report => "report",
            BuiltIn::Review => "review",
            BuiltIn::Recalibrate => "recalibrate",
            BuiltIn::Curate => "curate",
        }
    }

    /// The one of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<BuiltIn> {
        BuiltIn::ALL.into_iter().find(|known| known.name() == name)
    }

    /// Parameters that a site file may declare for it; each has a value of its own where it does not.
    #[must_use]
    pub fn parameters(self) -> &'static [&'static str] {
        match self {
            BuiltIn::Report => &["days_ago"],
            BuiltIn::Review | BuiltIn::Recalibrate => &["camera"],
            BuiltIn::Curate => &["camera", "most"],
        }
    }
}

/// How a workload is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Runner {
    /// A program on the gateway.
    Command {
        /// Its absolute path.
        program: PathBuf,
        /// Its arguments; `{name}` stands for the value of a parameter.
        arguments: Vec<String>,
    },
    /// `http://host:port/path` of a service that runs jobs.
    Endpoint(String),
    /// This program itself.
    BuiltIn(BuiltIn),
}

/// Page and API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebConfig {
    /// Where the page listens.
    pub listen: SocketAddr,
}
