//! Register maps as data: which registers of a device mean what, and how its setpoint is written and
//! kept alive. A map is one TOML file; `read` turns it into a [`Profile`] or into faults with places.
//!
//! What a stranger gets wrong: in here an address is zero-based, as sent on the wire, whatever the file
//! counts from. A value's `quantity` names what it is in the house, and `scale` already holds the
//! device's unit and sign, so one profile of a kind can stand for another without code. Several points
//! of one quantity are added. SunSpec devices have no addresses here: their models are found by walking
//! (`io::modbus::sunspec`).

mod quantity;
mod read;
mod recipes;
mod rules;
mod shipped;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

pub use quantity::plausible;
pub use read::read;
pub use shipped::{builtin_profiles, shipped};

use crate::logic::site::Vehicle;

/// What a device is for the house.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ProfileKind {
    /// A meter.
    Meter,
    /// A charging pile.
    Charger,
    /// A compute node with a power cap.
    Compute,
    /// A battery, or an inverter with a battery, with a map of its maker.
    Battery,
    /// Inputs and outputs: an input/output module, a gas detector, a battery monitoring unit. Its points may
    /// have any name; sensors and relays of the site file refer to them.
    Inputs,
    /// A hybrid inverter with battery and PV, speaking SunSpec.
    SunspecHybrid,
    /// A meter that speaks SunSpec.
    SunspecMeter,
}

impl ProfileKind {
    /// All of them, as files name them.
    pub const ALL: [(&'static str, ProfileKind); 7] = [
        ("meter", ProfileKind::Meter),
        ("charger", ProfileKind::Charger),
        ("compute", ProfileKind::Compute),
        ("battery", ProfileKind::Battery),
        ("inputs", ProfileKind::Inputs),
        ("sunspec_hybrid", ProfileKind::SunspecHybrid),
        ("sunspec_meter", ProfileKind::SunspecMeter),
    ];

    /// As files name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        ProfileKind::ALL.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }

    /// Whether its registers are found by walking models, not by a table of addresses.
    #[must_use]
    pub fn is_walked(self) -> bool {
        matches!(self, ProfileKind::SunspecHybrid | ProfileKind::SunspecMeter)
    }
}

/// Which table a register lies in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Table {
    /// Holding registers, function code 3.
    #[default]
    Holding,
    /// Input registers, function code 4.
    Input,
}

impl Table {
    /// As files and people name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Table::Holding => "holding",
            Table::Input => "input",
        }
    }
}

/// How a value lies in its registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ValueType {
    /// One register, unsigned.
    U16,
    /// One register, two's complement.
    I16,
    /// Two registers, unsigned.
    U32,
    /// Two registers, two's complement.
    I32,
    /// Four registers, unsigned.
    U64,
    /// Four registers, two's complement.
    I64,
    /// Two registers, IEEE 754.
    F32,
    /// Four registers, IEEE 754.
    F64,
    /// Two registers, unsigned, counting up and over: past its end it begins at 0 again.
    Acc32,
    /// ASCII text of this many registers, padded with NUL or spaces.
    Text(u16),
}

impl ValueType {
    /// The types of numbers, as files name them.
    pub const NUMBERS: [(&'static str, ValueType); 9] = [
        ("u16", ValueType::U16),
        ("i16", ValueType::I16),
        ("u32", ValueType::U32),
        ("i32", ValueType::I32),
        ("u64", ValueType::U64),
        ("i64", ValueType::I64),
        ("f32", ValueType::F32),
        ("f64", ValueType::F64),
        ("acc32", ValueType::Acc32),
    ];

    /// Registers that a value takes.
    #[must_use]
    pub fn words(self) -> u16 {
        match self {
            ValueType::U16 | ValueType::I16 => 1,
            ValueType::U32 | ValueType::I32 | ValueType::F32 | ValueType::Acc32 => 2,
            ValueType::U64 | ValueType::I64 | ValueType::F64 => 4,
            ValueType::Text(words) => words,
        }
    }

    /// As files name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        ValueType::NUMBERS.iter().find(|(_, own)| *own == self).map_or("text", |(name, _)| name)
    }
}

/// Order of the bytes of a 32-bit value as they come over the wire, A being the highest. Longer values
/// follow the same two rules: which register comes first, and which byte of a register.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Order {
    /// High register first, high byte first: what Modbus itself asks for.
    #[default]
    Abcd,
    /// Low register first, high byte first ("word swapped").
    Cdab,
    /// High register first, low byte first.
    Badc,
    /// Low register first, low byte first.
    Dcba,
}

impl Order {
    /// All of them, as files name them.
    pub const ALL: [(&'static str, Order); 4] = [
        ("ABCD", Order::Abcd),
        ("CDAB", Order::Cdab),
        ("BADC", Order::Badc),
        ("DCBA", Order::Dcba),
    ];

    /// As files name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        Order::ALL.iter().find(|(_, order)| *order == self).map_or("", |(name, _)| name)
    }

    /// Whether the low register comes first.
    #[must_use]
    pub fn low_word_first(self) -> bool {
        matches!(self, Order::Cdab | Order::Dcba)
    }

    /// Whether the low byte of each register comes first.
    #[must_use]
    pub fn low_byte_first(self) -> bool {
        matches!(self, Order::Badc | Order::Dcba)
    }
}

/// One value of a register map.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Point {
    /// What it is: `power_w`, `current_l1_a`, `state`, ... (all stand in `quantity`).
    pub quantity: String,
    /// Table of its registers.
    pub table: Table,
    /// First register, zero-based.
    pub address: u16,
    /// How it lies there.
    #[serde(rename = "type")]
    pub value_type: ValueType,
    /// Order of its bytes.
    pub order: Order,
    /// Bits that the raw number is moved to the right by, before `mask`.
    pub shift: u8,
    /// Bits of the raw number that count, after `shift`; all unless said.
    pub mask: Option<u32>,
    /// Multiplies the raw number into the house's unit and sign.
    pub scale: f64,
    /// Register with a signed power of ten that multiplies too; always read in the same request.
    pub scale_at: Option<u16>,
    /// Raw numbers that mean "not available", beside those of the type itself.
    pub none: Vec<f64>,
    /// Smallest plausible value after scaling.
    pub min: Option<f64>,
    /// Largest plausible value after scaling.
    pub max: Option<f64>,
    /// Fastest plausible change after scaling, per second.
    pub rate: Option<f64>,
    /// How often it is read, s: 0.2 to 3600, at most 1 for whatever is acted on.
    pub period_s: f64,
}

impl Point {
    /// How often it is read.
    #[must_use]
    pub fn period(&self) -> Duration {
        Duration::from_secs_f64(self.period_s.clamp(0.001, 86_400.0))
    }

    /// First register and number of registers of one read that gives the value and its scale.
    #[must_use]
    pub fn span(&self) -> (u16, u16) {
        let end = u32::from(self.address) + u32::from(self.value_type.words());
        let (first, end) = match self.scale_at {
            Some(at) => (self.address.min(at), end.max(u32::from(at) + 1)),
            None => (self.address, end),
        };
        (first, u16::try_from(end - u32::from(first)).unwrap_or(u16::MAX))
    }
}

/// What keeps a device from falling back to its failsafe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FedBy {
    /// The setpoint expires: it must be written again.
    #[default]
    Setpoint,
    /// Any write; reads do not count (KEBA).
    Writes,
    /// Any request at all (ABB): who cannot write the fallback must not even read.
    Any,
    /// A value written to a register of its own: a life bit (Webasto) or a token (Mennekes).
    Life,
}

impl FedBy {
    /// All of them, as files name them.
    pub const ALL: [(&'static str, FedBy); 4] = [
        ("setpoint", FedBy::Setpoint),
        ("writes", FedBy::Writes),
        ("any", FedBy::Any),
        ("life", FedBy::Life),
    ];
}

/// One register that is written with an amount of something.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Register {
    /// First holding register.
    pub address: u16,
    /// How the value lies there.
    #[serde(rename = "type")]
    pub value_type: ValueType,
    /// The amount times this is what is written.
    pub scale: f64,
}

/// How a charger is told what to fall back to. Read back by the points `failsafe_a` and `failsafe_s`;
/// written when they differ: after a connect, after the device was power-cycled, and never otherwise.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FailsafeRecipe {
    /// Takes the failsafe current, A.
    pub current: Register,
    /// Takes the time without a sign of life after which the device falls back, s.
    pub timeout: Register,
    /// That time, s.
    pub after_s: f64,
    /// What a device that loses all this at a restart allows until it is written again, A; nothing for devices
    /// that keep it.
    pub restarts_a: Option<f64>,
}

/// How a charger's current setpoint is written and kept alive. Read back by the point `setpoint_a`. For a
/// compute node everything in amperes is in watts, and the point is `setpoint_w`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SetpointRecipe {
    /// First holding register of the setpoint.
    pub address: u16,
    /// How it lies there.
    #[serde(rename = "type")]
    pub value_type: ValueType,
    /// Amperes times this is what is written.
    pub scale: f64,
    /// Function code: 6 or 16.
    pub function: u8,
    /// What is written to pause, in amperes.
    pub pause_a: f64,
    /// Resolution in amperes.
    pub step_a: f64,
    /// The device drops a setpoint that is older than this, s; it is renewed at a third of it.
    pub expires_s: Option<f64>,
    /// What counts as a sign of life.
    pub fed_by: FedBy,
    /// Written before each setpoint: a life bit, a token, an enable.
    pub before: Vec<Fixed>,
    /// Written to pause, instead of a setpoint, for devices that have a switch for it.
    pub pause: Vec<Fixed>,
    /// Time the device needs before a read back shows the new value, ms.
    pub settle_ms: u64,
    /// Set where the register is kept in flash: it wears out, so it is raised at most this often a day and
    /// never renewed; what lowers or stops is always written, and counts.
    pub flash_writes_per_day: Option<u32>,
}

/// How a charger is taken to one phase and back to three. Read back by the point `phases`, or it would not be
/// known on how many the car charges; written only while the charger is seen to be paused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct PhaseRecipe {
    /// Holding register.
    pub address: u16,
    /// Function code: 6 or 16.
    pub function: u8,
    /// What is written for one phase.
    pub one: u16,
    /// What is written for three.
    pub three: u16,
    /// What `phases` shows on one phase.
    pub shows_one: u16,
    /// What `phases` shows on three.
    pub shows_three: u16,
    /// The car stays paused for so long after the switch was confirmed, s.
    pub settle_s: u32,
}

/// One register and the value that is always written to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Fixed {
    /// Holding register.
    pub address: u16,
    /// What is written.
    pub value: u16,
    /// Function code, 6 or 16.
    pub function: u8,
}

/// One write of a battery's recipe: a fixed value, or the power.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BatteryWrite {
    /// Always the same: a mode, a command.
    Fixed(Fixed),
    /// The magnitude of the power, W times the register's scale.
    Power(Register),
}

/// How a battery with a map of its maker is told its power: what is written, in this order, to charge,
/// to discharge, and to rest at 0 W. Every write is read back.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BatteryRecipe {
    /// Function code: 6 or 16.
    pub function: u8,
    /// To charge.
    pub charge: Vec<BatteryWrite>,
    /// To discharge.
    pub discharge: Vec<BatteryWrite>,
    /// To rest.
    pub rest: Vec<BatteryWrite>,
    /// The device drops what it was told after this time, s.
    pub expires_s: Option<f64>,
    /// Time the device needs before a read back shows the new values, ms.
    pub settle_ms: u64,
    /// As a setpoint's: registers in flash. What they hold already is never written to them.
    pub flash_writes_per_day: Option<u32>,
}

/// One output of an input/output module. Read back by the point of the same name, if there is one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Output {
    /// Its name.
    pub name: String,
    /// Holding register, zero-based.
    pub address: u16,
    /// Function code: 6 or 16.
    pub function: u8,
    /// What is written to switch it on.
    pub on: u16,
    /// What is written to switch it off.
    pub off: u16,
}

/// One register map.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Profile {
    /// Its name, as the site file calls it.
    pub id: String,
    /// What the device is.
    pub kind: ProfileKind,
    /// Maker and model.
    pub name: String,
    /// Where the map comes from.
    pub source: String,
    /// `documented` or `unverified`.
    pub confidence: String,
    /// Unit id, unless the site file names one.
    pub unit: u8,
    /// Order of the bytes of what is written, and of every point that does not say its own.
    pub order: Order,
    /// Phases that it has: 1 or 3.
    pub phases: u8,
    /// Largest number of registers in one read, 1 to 125.
    pub max_registers: u16,
    /// Unused registers that a read may bridge.
    pub max_gap: u16,
    /// Pause between two requests, ms.
    pub pace_ms: u64,
    /// Longest time to connect, ms.
    pub connect_ms: u64,
    /// Longest time for an answer, ms; at most 1000 unless the device is known to be slow (FB3).
    pub call_ms: u64,
    /// Values, each read once in its own period.
    pub points: Vec<Point>,
    /// How often models of a walked device are read, s, beside the usual second.
    pub models: BTreeMap<u16, f64>,
    /// Texts of the value `state` → `absent`, `connected`, `charging`, `fault`.
    pub states: BTreeMap<String, Vehicle>,
    /// How the setpoint is written, for chargers and compute nodes.
    pub setpoint: Option<SetpointRecipe>,
    /// How the failsafe is written, for chargers that take one.
    pub failsafe: Option<FailsafeRecipe>,
    /// How it changes between one phase and three, for chargers that can.
    pub phase_switch: Option<PhaseRecipe>,
    /// How the power is written, for batteries.
    pub battery: Option<BatteryRecipe>,
    /// Outputs, for input/output modules.
    pub outputs: Vec<Output>,
}

impl Profile {
    /// The first value of this name.
    #[must_use]
    pub fn point(&self, quantity: &str) -> Option<&Point> {
        self.points.iter().find(|point| point.quantity == quantity)
    }

    /// What the gateway can do with it beside reading: `current`, `cap`, `power`, `failsafe`, `phases`.
    #[must_use]
    pub fn capabilities(&self) -> Vec<&'static str> {
        let mut all = Vec::new();
        if self.setpoint.is_some() {
            all.push(if self.kind == ProfileKind::Compute { "cap" } else { "current" });
        }
        if self.battery.is_some() || self.kind == ProfileKind::SunspecHybrid {
            all.push("power");
        }
        if self.failsafe.is_some() {
            all.push("failsafe");
        }
        if self.phase_switch.is_some() {
            all.push("phases");
        }
        all
    }
}
