//! Profile files as a device sees them: which registers it has, in which form, and what writing them
//! does. A small parser of its own: it knows nothing of the gateway's, so that neither hides the other's
//! mistakes.
//!
//! What a stranger gets wrong: what a profile says is about reading. `scale`, `unit` and `invert` lead
//! from a register to the site, so a device that has the site goes the other way.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// Why a profile cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// Not readable.
    #[error("profile {0}: {1}")]
    Unreadable(String, std::io::Error),
    /// Not valid.
    #[error("profile {0}: {1}")]
    Invalid(String, String),
}

/// Where a value lies and how.
#[derive(Clone, Debug, Deserialize)]
pub struct Form {
    /// First register, as the file counts.
    pub address: u16,
    /// `u16`, `f32`, ...; the file's usual one unless said.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Registers of a text.
    pub words: Option<u16>,
    /// `ABCD`, ...; the file's usual one unless said.
    pub order: Option<String>,
    /// Value of one step in `unit`.
    #[serde(default = "one")]
    pub scale: f64,
    /// The device's unit; the site's unless said.
    pub unit: Option<String>,
    /// Counts the other way round.
    #[serde(default)]
    pub invert: bool,
}

/// One value.
#[derive(Clone, Debug, Deserialize)]
pub struct Point {
    /// What it is.
    pub quantity: String,
    /// `holding` or `input`; the file's usual one unless said.
    pub table: Option<String>,
    /// Where its power of ten stands.
    pub scale_at: Option<u16>,
    /// Bits below it.
    #[serde(default)]
    pub shift: u32,
    /// Bits that count.
    pub mask: Option<u64>,
    /// Where and how.
    #[serde(flatten)]
    pub form: Form,
}

/// A register that is written with one value.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Switch {
    /// The register, as the file counts.
    pub address: u16,
    /// What the gateway writes.
    pub value: u16,
    /// Function code; that of the recipe unless said.
    pub function: Option<u8>,
}

/// What takes the setpoint.
#[derive(Clone, Debug, Deserialize)]
pub struct Setpoint {
    /// 6 or 16.
    pub function: u8,
    /// Time that it lives, s.
    pub expires_s: Option<f64>,
    /// `setpoint`, `writes`, `any` or `life`.
    pub fed_by: Option<String>,
    /// Written before it.
    #[serde(default)]
    pub before: Vec<Switch>,
    /// Written to pause.
    #[serde(default)]
    pub pause: Vec<Switch>,
    /// Where and how.
    #[serde(flatten)]
    pub form: Form,
}

/// The register that takes one phase or three.
#[derive(Clone, Debug, Deserialize)]
pub struct Contactors {
    /// As the file counts.
    pub address: u16,
    /// Function code.
    pub function: u8,
    one: u16,
    three: u16,
    shows_one: Option<u16>,
    shows_three: Option<u16>,
}

impl Contactors {
    /// What the point `phases` shows of so many connected phases.
    #[must_use]
    pub fn shown(&self, connected: usize) -> u16 {
        match connected {
            1 => self.shows_one.unwrap_or(self.one),
            _ => self.shows_three.unwrap_or(self.three),
        }
    }

    /// The phases that a written word stands for.
    #[must_use]
    pub fn meant(&self, word: u16) -> Option<usize> {
        let meant = [(self.one, 1), (self.three, 3)];
        meant.into_iter().find(|(value, _)| *value == word).map(|(_, phases)| phases)
    }
}

/// What takes the failsafe.
#[derive(Clone, Debug, Deserialize)]
pub struct Failsafe {
    /// The current.
    pub current: Form,
    /// The time.
    pub timeout: Form,
}

/// One write of a battery's list.
#[derive(Clone, Debug, Deserialize)]
pub struct Write {
    /// A fixed value, where it is one.
    pub value: Option<u16>,
    /// Where and how.
    #[serde(flatten)]
    pub form: Form,
}

/// What a battery is told by.
#[derive(Clone, Debug, Deserialize)]
pub struct Battery {
    /// 6 or 16.
    pub function: u8,
    /// To charge.
    pub charge: Vec<Write>,
    /// To discharge.
    pub discharge: Vec<Write>,
    /// To rest.
    pub rest: Vec<Write>,
    /// Time that it lives, s.
    pub expires_s: Option<f64>,
}

/// A profile file.
#[derive(Clone, Debug, Deserialize)]
pub struct Profile {
    /// Its id.
    pub id: String,
    /// `meter`, `charger`, ...
    pub kind: String,
    /// Unit id.
    #[serde(default = "first_unit")]
    pub unit_id: u8,
    /// 0 or 1: what the file counts from.
    #[serde(default)]
    pub address_base: u16,
    table: Option<String>,
    #[serde(rename = "type")]
    usual_kind: Option<String>,
    order: Option<String>,
    /// Registers that one read may ask for.
    #[serde(default = "most")]
    pub max_registers: u16,
    /// Registers without a value that a read may bridge.
    #[serde(default)]
    pub max_gap: u16,
    /// Its values.
    #[serde(default)]
    pub points: Vec<Point>,
    /// What each state means.
    #[serde(default)]
    pub states: BTreeMap<String, String>,
    /// What takes the setpoint.
    pub setpoint: Option<Setpoint>,
    /// What takes the failsafe.
    pub failsafe: Option<Failsafe>,
    /// What takes one phase or three.
    pub phase_switch: Option<Contactors>,
    /// What a battery is told by.
    pub battery: Option<Battery>,
}

fn one() -> f64 {
    1.0
}

fn first_unit() -> u8 {
    1
}

fn most() -> u16 {
    100
}

/// Values of one unit in the site's.
fn worth(unit: &str) -> f64 {
    match unit {
        "mV" | "mA" | "mW" | "ms" => 1e-3,
        "kW" | "kWh" => 1e3,
        "MWh" => 1e6,
        "min" => 60.0,
        _ => 1.0,
    }
}

impl Form {
    /// What one step of the register is in the site's unit and sign.
    #[must_use]
    pub fn step(&self) -> f64 {
        let size = self.scale * self.unit.as_deref().map_or(1.0, worth);
        if self.invert { -size } else { size }
    }

    fn kind(&self) -> &str {
        self.kind.as_deref().unwrap_or("u16")
    }

    /// Registers that it takes.
    #[must_use]
    pub fn count(&self) -> u16 {
        match self.kind() {
            "u32" | "i32" | "f32" | "acc32" => 2,
            "u64" | "i64" | "f64" => 4,
            "text" => self.words.unwrap_or(1),
            _ => 1,
        }
    }

    /// The bytes of a number, highest first.
    fn bytes(&self, raw: f64) -> Vec<u8> {
        let whole = raw.round();
        match self.kind() {
            "f32" => (raw as f32).to_be_bytes().to_vec(),
            "f64" => raw.to_be_bytes().to_vec(),
            "i16" => (whole as i16).to_be_bytes().to_vec(),
            "i32" => (whole as i32).to_be_bytes().to_vec(),
            "i64" => (whole as i64).to_be_bytes().to_vec(),
            "u32" | "acc32" => (whole as u32).to_be_bytes().to_vec(),
            "u64" => (whole as u64).to_be_bytes().to_vec(),
            _ => (whole as u16).to_be_bytes().to_vec(),
        }
    }

    /// The registers of a raw number: its bytes laid out as the letters of the order say.
    #[must_use]
    pub fn registers(&self, raw: f64) -> Vec<u16> {
        let mut pairs: Vec<[u8; 2]> = self.bytes(raw).chunks(2).map(|b| [b[0], b[1]]).collect();
        let order = self.order.as_deref().unwrap_or("ABCD");
        if matches!(order, "CDAB" | "DCBA") {
            pairs.reverse();
        }
        if matches!(order, "BADC" | "DCBA") {
            pairs.iter_mut().for_each(|pair| pair.reverse());
        }
        pairs.into_iter().map(u16::from_be_bytes).collect()
    }

    /// The registers of a text.
    #[must_use]
    pub fn text(&self, text: &str) -> Vec<u16> {
        let swapped = matches!(self.order.as_deref(), Some("BADC" | "DCBA"));
        let mut bytes = text.as_bytes().to_vec();
        bytes.resize(usize::from(self.count()) * 2, 0);
        let pair = |b: &[u8]| {
            let pair = [b[0], b[1]];
            if swapped { u16::from_le_bytes(pair) } else { u16::from_be_bytes(pair) }
        };
        bytes.chunks(2).map(pair).collect()
    }

    /// The raw number that a client wrote.
    #[must_use]
    pub fn raw(&self, words: &[u16]) -> f64 {
        let mut pairs: Vec<[u8; 2]> = words.iter().map(|word| word.to_be_bytes()).collect();
        let order = self.order.as_deref().unwrap_or("ABCD");
        if matches!(order, "BADC" | "DCBA") {
            pairs.iter_mut().for_each(|pair| pair.reverse());
        }
        if matches!(order, "CDAB" | "DCBA") {
            pairs.reverse();
        }
        let bits = pairs.concat().into_iter().fold(0u64, |all, byte| all << 8 | u64::from(byte));
        match self.kind() {
            "f32" => f64::from(f32::from_bits(bits as u32)),
            "f64" => f64::from_bits(bits),
            "i16" => f64::from(bits as u16 as i16),
            "i32" => f64::from(bits as u32 as i32),
            "i64" => bits as i64 as f64,
            _ => bits as f64,
        }
    }

    fn complete(&mut self, usual: (&Option<String>, &Option<String>), base: u16) {
        self.kind = self.kind.take().or_else(|| usual.0.clone());
        self.order = self.order.take().or_else(|| usual.1.clone());
        self.address = self.address.saturating_sub(base);
    }
}

impl Profile {
    /// A profile file, or the id of one of the gateway's own, which lie beside this crate.
    ///
    /// # Errors
    /// When there is no such file, or it is not valid.
    pub fn find(name: &str) -> Result<Profile, ProfileError> {
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/profiles");
        let path = match name.ends_with(".toml") {
            true => PathBuf::from(name),
            false => shipped.join(format!("{name}.toml")),
        };
        let text = std::fs::read_to_string(&path);
        let text = text.map_err(|cause| ProfileError::Unreadable(name.to_owned(), cause))?;
        Profile::parse(name, &text)
    }

    /// A profile from its text.
    ///
    /// # Errors
    /// When it is not valid.
    pub fn parse(name: &str, text: &str) -> Result<Profile, ProfileError> {
        let invalid =
            |cause: toml::de::Error| ProfileError::Invalid(name.to_owned(), cause.to_string());
        let mut profile: Profile = toml::from_str(text).map_err(invalid)?;
        let (kind, order) = (profile.usual_kind.clone(), profile.order.clone());
        let (usual, base) = ((&kind, &order), profile.address_base);
        let table = profile.table.clone();
        for point in &mut profile.points {
            point.form.complete(usual, base);
            point.scale_at = point.scale_at.map(|at| at.saturating_sub(base));
            point.table = point.table.take().or_else(|| table.clone());
        }
        // What is written always says its own type.
        let written = (&None, &order);
        if let Some(setpoint) = &mut profile.setpoint {
            setpoint.form.complete(written, base);
            let switches = setpoint.before.iter_mut().chain(&mut setpoint.pause);
            switches.for_each(|switch| switch.address = switch.address.saturating_sub(base));
        }
        if let Some(contactors) = &mut profile.phase_switch {
            contactors.address = contactors.address.saturating_sub(base);
        }
        if let Some(failsafe) = &mut profile.failsafe {
            failsafe.current.complete(written, base);
            failsafe.timeout.complete(written, base);
        }
        if let Some(battery) = &mut profile.battery {
            let lists = [&mut battery.charge, &mut battery.discharge, &mut battery.rest];
            lists.into_iter().flatten().for_each(|write| write.form.complete(written, base));
        }
        Ok(profile)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(text: &str) -> Form {
        toml::from_str(&format!("address = 0\n{text}")).unwrap()
    }

    #[test]
    fn known_bytes_of_every_order() {
        // 230.5 as IEEE 754 is 43 66 80 00.
        for (order, words) in [
            ("ABCD", [0x4366, 0x8000]),
            ("CDAB", [0x8000, 0x4366]),
            ("BADC", [0x6643, 0x0080]),
            ("DCBA", [0x0080, 0x6643]),
        ] {
            let form = form(&format!("type = 'f32'\norder = '{order}'"));
            assert_eq!(form.registers(230.5), words, "{order}");
            assert_eq!(form.raw(&words), 230.5, "{order}");
        }
        assert_eq!(form("type = 'i16'").registers(-2.0), [0xFFFE]);
        assert_eq!(form("type = 'text'\nwords = 2").text("C2"), [0x4332, 0]);
    }

    #[test]
    fn every_profile_of_the_gateway_can_be_served() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/profiles");
        let mut count = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            Profile::find(path.to_str().unwrap()).unwrap();
            count += 1;
        }
        assert!(count >= 30, "{count}");
        assert!(Profile::find("no-such-profile").is_err());
    }
}
