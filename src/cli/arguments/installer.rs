//! What can be typed of the installer's tools: profiles, schemas, devices, scans.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{Format, Looking};

#[derive(Debug, Subcommand)]
pub enum Profiles {
    /// Lists the built-in profiles, and those beside the site file.
    List {
        /// The site file, whose folder may have profiles.d.
        #[arg(long)]
        config: Option<PathBuf>,
        #[arg(long, value_enum, default_value = "table")]
        format: Format,
    },
    /// Shows a profile: registers, requests, how it is written.
    Show {
        /// A profile's id, or a file.
        profile: String,
        #[arg(long, value_enum, default_value = "table")]
        format: Format,
    },
    /// Checks profile files: exit code 0 or 78.
    Lint {
        /// Profile files.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Tries a profile on a live device, and other byte orders and address bases beside it; only reads.
    Test {
        /// A profile's id, or a file.
        profile: String,
        /// Where the device is: tcp://host:502, rtu+tcp://host:502, rtu:///dev/ttyUSB0?baud=9600&frame=8N1.
        address: String,
        /// Unit id, instead of the profile's.
        #[arg(long)]
        unit: Option<u8>,
        #[arg(long, value_enum, default_value = "table")]
        format: Format,
    },
    /// Makes a profile from a table: a head row with quantity, address, type, ... and a row for each value.
    ImportCsv {
        /// The table.
        file: PathBuf,
        /// Id of the new profile.
        #[arg(long)]
        id: String,
        /// meter, charger, compute or battery.
        #[arg(long)]
        kind: String,
        /// Maker and model.
        #[arg(long)]
        name: String,
        /// Where the table comes from.
        #[arg(long)]
        source: String,
    },
    /// Prints the JSON Schema of profile files.
    Schema,
}

#[derive(Debug, Subcommand)]
pub enum Configs {
    /// Prints the JSON Schema of site files.
    Schema,
}

/// Which device.
#[derive(Debug, Args)]
pub struct Which {
    /// The device's id in the site file.
    #[arg(required_unless_present = "profile")]
    pub device: Option<String>,
    /// The site file.
    #[arg(long, required_unless_present = "profile")]
    pub config: Option<PathBuf>,
    /// A profile's id, or a file, for a device that stands in no site file.
    #[arg(long, requires = "address", conflicts_with = "config")]
    pub profile: Option<String>,
    /// Where the device is: tcp://host:502, rtu+tcp://host:502, rtu:///dev/ttyUSB0?baud=9600&frame=8N1.
    #[arg(long)]
    pub address: Option<String>,
    /// Unit id, instead of the profile's.
    #[arg(long)]
    pub unit: Option<u8>,
    /// Also while the gateway runs: a connection beside its own, for devices that take several. Never on a serial line.
    #[arg(long, conflicts_with = "profile")]
    pub beside_gateway: bool,
}

#[derive(Debug, Subcommand)]
pub enum Devices {
    /// Reads every value once.
    Read {
        #[command(flatten)]
        which: Which,
        #[arg(long, value_enum, default_value = "table")]
        format: Format,
    },
    /// Reads every second until ctrl-C.
    Watch {
        #[command(flatten)]
        which: Which,
        /// Ends after so many reads.
        #[arg(long)]
        count: Option<u32>,
        #[arg(long, value_enum, default_value = "table")]
        format: Format,
    },
    /// Tests a write: old and new value, your confirmation, read back, meter, and back again.
    Write {
        /// The device's id in the site file.
        device: String,
        /// The site file.
        #[arg(long)]
        config: PathBuf,
        /// State folder instead of the configured one.
        #[arg(long)]
        state: Option<PathBuf>,
        /// Nothing but a test can be written here.
        #[arg(long, required = true)]
        test: bool,
        /// What is written, A (W for compute nodes); the least that it may have, unless said.
        #[arg(long)]
        value: Option<f64>,
        /// How long the meter is watched, s.
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(0..=120))]
        hold_s: u64,
    },
}

#[derive(Debug, Subcommand)]
pub enum Scans {
    /// A host or a network of at most 4094 hosts: 192.168.1.0/24, 192.168.1.7:502,1502.
    Tcp {
        /// Host, or network as A.B.C.D/BITS; ports after a colon go before --ports.
        hosts: String,
        /// Ports.
        #[arg(long, value_delimiter = ',', default_value = "502")]
        ports: Vec<u16>,
        /// Unit ids.
        #[arg(long, value_delimiter = ',', default_values_t = [1, 2, 3, 50, 100, 126, 200, 247, 255])]
        units: Vec<u8>,
        #[command(flatten)]
        how: Looking,
    },
    /// A serial port.
    Rtu {
        /// The port, such as /dev/ttyUSB0.
        path: PathBuf,
        /// Speeds.
        #[arg(long, value_delimiter = ',', default_values_t = [9600, 19200])]
        baud: Vec<u32>,
        /// Data bits, parity and stop bits.
        #[arg(long, default_value = "8N1")]
        frame: String,
        /// Unit ids; 1 to 32 unless said.
        #[arg(long, value_delimiter = ',')]
        units: Vec<u8>,
        #[command(flatten)]
        how: Looking,
    },
}
