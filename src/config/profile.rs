//! Register maps as data: which registers of a device mean what, and how its setpoint is written.
//!
//! What a stranger gets wrong: addresses are zero-based, as sent on the wire. A value's `quantity`
//! names what it is in the house (with the house's sign and unit after `scale`), so one profile of a
//! kind can stand for another without code. SunSpec devices have no addresses here: their models are
//! found by walking (`io::modbus::sunspec`).

use serde::Deserialize;

/// What a device is for the house.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProfileKind {
    /// A meter.
    Meter,
    /// A charging pile.
    Charger,
    /// A compute node with a power cap.
    Compute,
    /// Inputs and outputs: an input/output module, a gas detector, a battery monitoring unit. Its points may
    /// have any name; sensors and relays of the site file refer to them.
    Inputs,
    /// A hybrid inverter with battery and PV, speaking SunSpec.
    SunspecHybrid,
}

/// Which table a register lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Table {
    /// Holding registers, function code 3.
    Holding,
    /// Input registers, function code 4.
    Input,
}

/// How a value lies in its registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
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
    /// Two registers, IEEE 754.
    F32,
    /// Four registers, IEEE 754.
    F64,
    /// ASCII text of five registers, NUL padded.
    Text10,
}

impl ValueType {
    /// Registers that a value takes.
    #[must_use]
    pub fn words(self) -> u16 {
        match self {
            ValueType::U16 | ValueType::I16 => 1,
            ValueType::U32 | ValueType::I32 | ValueType::F32 => 2,
            ValueType::U64 | ValueType::F64 => 4,
            ValueType::Text10 => 5,
        }
    }
}

/// Order of the registers of a value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WordOrder {
    /// High word first.
    #[default]
    Big,
    /// Low word first.
    Little,
}

/// One value of a register map.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Point {
    /// What it is: `power_w`, `current_l1_a`, `state`, ... (the list stands in `io::modbus::device`).
    pub quantity: String,
    /// Table of its registers.
    pub table: Table,
    /// First register, zero-based.
    pub address: u16,
    /// How it lies there.
    #[serde(rename = "type")]
    pub value_type: ValueType,
    /// Bits that the raw number is moved to the right by, before `mask`.
    #[serde(default)]
    pub shift: u8,
    /// Bits of the raw number that count, after `shift`; all unless said.
    pub mask: Option<u32>,
    /// Multiplies the raw number; negative turns the sign round.
    #[serde(default = "one")]
    pub scale: f64,
    /// Smallest plausible value after scaling.
    pub min: Option<f64>,
    /// Largest plausible value after scaling.
    pub max: Option<f64>,
}

fn one() -> f64 {
    1.0
}

/// What keeps a device from falling back to its failsafe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FedBy {
    /// The setpoint expires: it must be written again.
    #[default]
    Setpoint,
    /// Any write; reads do not count (KEBA).
    Writes,
    /// Any request at all (ABB): who cannot write the fallback must not even read.
    Any,
}

/// One register that is written with an amount of something.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Register {
    /// First holding register.
    pub address: u16,
    /// How the value lies there.
    #[serde(rename = "type")]
    pub value_type: ValueType,
    /// The amount times this is what is written.
    #[serde(default = "one")]
    pub scale: f64,
}

/// How a charger is told what to fall back to. Read back by the points `failsafe_a` and `failsafe_s`;
/// written when they differ: after a connect, after the device was power-cycled, and never otherwise.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FailsafeRecipe {
    /// Takes the failsafe current, A.
    pub current: Register,
    /// Takes the time without a sign of life after which the device falls back, s.
    pub timeout: Register,
    /// That time, s.
    pub after_s: f64,
}

/// How a charger's current setpoint is written and kept alive. Read back by the point `setpoint_a`. For a
/// compute node everything in amperes is in watts, and the point is `setpoint_w`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetpointRecipe {
    /// First holding register of the setpoint.
    pub address: u16,
    /// How it lies there.
    #[serde(rename = "type")]
    pub value_type: ValueType,
    /// Amperes times this is what is written.
    #[serde(default = "one")]
    pub scale: f64,
    /// Function code: 6 or 16.
    pub function: u8,
    /// What is written to pause, in amperes.
    #[serde(default)]
    pub pause_a: f64,
    /// Resolution in amperes.
    pub step_a: f64,
    /// The device drops a setpoint that is older than this, s; it is renewed at a third of it.
    pub expires_s: Option<f64>,
    /// What counts as a sign of life.
    #[serde(default)]
    pub fed_by: FedBy,
    /// Time the device needs before a read back shows the new value, ms.
    #[serde(default)]
    pub settle_ms: u64,
}

/// One output of an input/output module. Read back by the point of the same name, if there is one.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// Its name.
    pub name: String,
    /// Holding register.
    pub address: u16,
    /// Function code: 6 or 16.
    #[serde(default = "write_one")]
    pub function: u8,
    /// What is written to switch it on.
    #[serde(default = "switched_on")]
    pub on: u16,
    /// What is written to switch it off.
    #[serde(default)]
    pub off: u16,
}

fn write_one() -> u8 {
    6
}

fn switched_on() -> u16 {
    1
}

/// One register map.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
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
    #[serde(default = "first_unit")]
    pub unit: u8,
    /// Word order of all values of more than one register.
    #[serde(default)]
    pub word_order: WordOrder,
    /// Largest number of registers in one read, 1 to 125.
    #[serde(default = "most_registers")]
    pub max_registers: u16,
    /// Unused registers that a read may bridge.
    #[serde(default)]
    pub max_gap: u16,
    /// Pause between two requests, ms.
    #[serde(default)]
    pub pace_ms: u64,
    /// Longest time to connect, ms.
    #[serde(default = "connect_ms")]
    pub connect_ms: u64,
    /// Longest time for an answer, ms; at most 1000 unless the device is known to be slow (FB3).
    #[serde(default = "call_ms")]
    pub call_ms: u64,
    /// Values read every second.
    #[serde(default, rename = "point")]
    pub points: Vec<Point>,
    /// Outputs.
    #[serde(default, rename = "output")]
    pub outputs: Vec<Output>,
    /// Texts of the value `state` → `absent`, `connected`, `charging`, `fault`.
    #[serde(default)]
    pub states: std::collections::BTreeMap<String, crate::logic::site::Vehicle>,
    /// How the setpoint is written, for chargers and compute nodes.
    pub setpoint: Option<SetpointRecipe>,
    /// How the failsafe is written, for chargers that take one.
    pub failsafe: Option<FailsafeRecipe>,
}

impl Profile {
    /// The value of this name.
    #[must_use]
    pub fn point(&self, quantity: &str) -> Option<&Point> {
        self.points.iter().find(|point| point.quantity == quantity)
    }
}

fn first_unit() -> u8 {
    1
}

fn most_registers() -> u16 {
    100
}

fn connect_ms() -> u64 {
    3000
}

fn call_ms() -> u64 {
    1000
}
