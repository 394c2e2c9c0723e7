//! What a register may mean: every quantity that the house knows, its unit, and what is plausible for it
//! where a profile says nothing narrower.
//!
//! What a stranger gets wrong: signs are the house's (grid import +, battery discharge +, PV + and
//! chargers +). A device that counts the other way round says `invert = true`.

/// The bounds of a quantity and the largest change per second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plausible {
    /// Name.
    pub quantity: &'static str,
    /// Unit in the house; empty for states and codes.
    pub unit: &'static str,
    /// Smallest.
    pub min: f64,
    /// Largest.
    pub max: f64,
}

const fn q(quantity: &'static str, unit: &'static str, min: f64, max: f64) -> Plausible {
    Plausible { quantity, unit, min, max }
}

/// Bounds are wide: they catch a wrong word order or a sentinel, not an unusual day. 2 MW and 4 kA are
/// more than a site behind one low-voltage transformer has; 10^12 Wh is a counter of a thousand GWh.
const QUANTITIES: [Plausible; 31] = [
    q("voltage_l1_v", "V", 0.0, 500.0),
    q("voltage_l2_v", "V", 0.0, 500.0),
    q("voltage_l3_v", "V", 0.0, 500.0),
    q("current_l1_a", "A", -4000.0, 4000.0),
    q("current_l2_a", "A", -4000.0, 4000.0),
    q("current_l3_a", "A", -4000.0, 4000.0),
    q("power_l1_w", "W", -1e6, 1e6),
    q("power_l2_w", "W", -1e6, 1e6),
    q("power_l3_w", "W", -1e6, 1e6),
    q("power_w", "W", -2e6, 2e6),
    q("frequency_hz", "Hz", 40.0, 70.0),
    q("import_wh", "Wh", 0.0, 1e12),
    q("export_wh", "Wh", 0.0, 1e12),
    q("energy_wh", "Wh", 0.0, 1e12),
    q("session_wh", "Wh", 0.0, 1e7),
    q("state", "", 0.0, 4_294_967_295.0),
    q("plugged", "", 0.0, 4_294_967_295.0),
    q("error_code", "", 0.0, 4_294_967_295.0),
    q("phases", "", 0.0, 65_535.0),
    q("setpoint_a", "A", 0.0, 1000.0),
    q("limit_a", "A", 0.0, 1000.0),
    q("failsafe_a", "A", 0.0, 1000.0),
    q("failsafe_s", "s", 0.0, 1e7),
    q("lease_s", "s", 0.0, 1e7),
    q("setpoint_w", "W", 0.0, 2e6),
    q("cap_w", "W", 0.0, 2e6),
    q("battery_w", "W", -1e6, 1e6),
    q("soc_pct", "%", 0.0, 100.0),
    q("pv_w", "W", -1000.0, 2e6),
    q("temperature_c", "C", -60.0, 150.0),
    q("car_soc_pct", "%", 0.0, 100.0),
];

/// An input/output module names its values itself; what is plausible is judged where they are used.
pub const FREE: Plausible = q("", "", -1e15, 1e15);

/// What nobody acts on within seconds: counters, codes, and what is only shown. It may be read rarely.
const RARE: [&str; 6] =
    ["import_wh", "export_wh", "energy_wh", "session_wh", "error_code", "car_soc_pct"];

/// Whether a quantity may be read more rarely than once a second.
#[must_use]
pub fn may_be_slow(quantity: &str) -> bool {
    RARE.contains(&quantity)
}

/// A device's unit: what one of it is in the house's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Unit {
    /// As files name it.
    pub name: &'static str,
    /// The house's unit of the same kind.
    pub house: &'static str,
    /// One of it in the house's unit is 1 / `parts`, or `parts` where `is_larger`.
    pub parts: f64,
    /// Whether it is larger than the house's unit.
    pub is_larger: bool,
}

const fn unit(name: &'static str, house: &'static str, parts: f64, is_larger: bool) -> Unit {
    Unit { name, house, parts, is_larger }
}

const UNITS: [Unit; 16] = [
    unit("V", "V", 1.0, false),
    unit("mV", "V", 1000.0, false),
    unit("A", "A", 1.0, false),
    unit("mA", "A", 1000.0, false),
    unit("W", "W", 1.0, false),
    unit("mW", "W", 1000.0, false),
    unit("kW", "W", 1000.0, true),
    unit("Wh", "Wh", 1.0, false),
    unit("kWh", "Wh", 1000.0, true),
    unit("MWh", "Wh", 1e6, true),
    unit("s", "s", 1.0, false),
    unit("ms", "s", 1000.0, false),
    unit("min", "s", 60.0, true),
    unit("Hz", "Hz", 1.0, false),
    unit("%", "%", 1.0, false),
    unit("C", "C", 1.0, false),
];

/// The bounds of a quantity; nothing where the house does not know it.
#[must_use]
pub fn plausible(quantity: &str) -> Option<&'static Plausible> {
    QUANTITIES.iter().find(|known| known.quantity == quantity)
}

/// A unit by its name.
#[must_use]
pub fn unit_of(name: &str) -> Option<&'static Unit> {
    UNITS.iter().find(|unit| unit.name == name)
}

/// Names of all quantities.
pub fn quantities() -> impl Iterator<Item = &'static str> {
    QUANTITIES.iter().map(|known| known.quantity)
}

/// Names of all units.
pub fn units() -> impl Iterator<Item = &'static str> {
    UNITS.iter().map(|unit| unit.name)
}

impl Unit {
    /// What `scale` in this unit is in the house's. Division where the unit is a part keeps 0.001 exact.
    #[must_use]
    pub fn to_house(self, scale: f64) -> f64 {
        if self.is_larger { scale * self.parts } else { scale / self.parts }
    }
}
