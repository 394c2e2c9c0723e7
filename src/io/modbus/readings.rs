//! From named values to a reading with the house's signs. A reading is made only when everything it
//! needs is there; what is missing is named.
//!
//! What a stranger gets wrong: many meters report currents without sign. The sign is taken from the
//! power of the same phase, always. Where a charger's state does not tell whether a car is there, the
//! value `plugged` (0 or not) does.

use std::collections::BTreeMap;
use std::time::Duration;

use super::codec::Raw;
use crate::config::{Profile, ProfileKind};
use crate::logic::site::{
    BatteryReading, ChargerReading, ComputeReading, InputsReading, MeterReading, PhaseCount,
    PvReading, Reading, Vehicle,
};
use crate::units::{Amps, Hertz, PerPhase, Soc, Volts, WattHours, Watts};

/// Scaled and plausible values of one device by quantity.
pub type Values = BTreeMap<String, Raw>;

/// What keeps a device's answer from being a reading.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Unusable {
    /// A value that the reading needs was not delivered or not implemented.
    #[error("no value for `{0}`")]
    Missing(&'static str),
    /// A value outside its plausible range.
    #[error("`{quantity}` is {value}, outside {min} to {max}")]
    Implausible {
        /// Which.
        quantity: String,
        /// What was read.
        value: f64,
        /// Lower bound of the profile.
        min: f64,
        /// Upper bound of the profile.
        max: f64,
    },
    /// A value that changed faster than it can.
    #[error("`{quantity}` went from {last} to {value} faster than it can")]
    Jumped {
        /// Which.
        quantity: String,
        /// Before.
        last: f64,
        /// Now.
        value: f64,
    },
    /// The device is in a state that its profile does not know.
    #[error("the profile does not know the state `{0}`")]
    UnknownState(String),
}

/// Makes the reading of a profile's kind.
pub fn reading(profile: &Profile, values: &Values) -> Result<Reading, Unusable> {
    match profile.kind {
        ProfileKind::Meter => meter(profile.phases, values).map(Reading::Meter),
        ProfileKind::Charger => charger(profile, values).map(Reading::Charger),
        ProfileKind::Compute => compute(values).map(Reading::Compute),
        ProfileKind::Battery => battery(values),
        ProfileKind::Inputs => Ok(Reading::Inputs(inputs(values))),
        ProfileKind::SunspecHybrid | ProfileKind::SunspecMeter => {
            Err(Unusable::Missing("SunSpec models"))
        }
    }
}

fn number(values: &Values, quantity: &'static str) -> Result<f64, Unusable> {
    match values.get(quantity) {
        Some(Raw::Number(number)) => Ok(*number),
        _ => Err(Unusable::Missing(quantity)),
    }
}

fn phases(values: &Values, names: [&'static str; 3]) -> Result<PerPhase<f64>, Unusable> {
    let [l1, l2, l3] = names;
    Ok(PerPhase([number(values, l1)?, number(values, l2)?, number(values, l3)?]))
}

const VOLTAGES: [&str; 3] = ["voltage_l1_v", "voltage_l2_v", "voltage_l3_v"];
const CURRENTS: [&str; 3] = ["current_l1_a", "current_l2_a", "current_l3_a"];
const POWERS: [&str; 3] = ["power_l1_w", "power_l2_w", "power_l3_w"];

/// A single-phase meter has nothing on L2 and L3; there its total may stand for L1.
fn meter(count: u8, values: &Values) -> Result<MeterReading, Unusable> {
    let own = |names: [&'static str; 3]| match count {
        1 => Ok(PerPhase([number(values, names[0])?, 0.0, 0.0])),
        _ => phases(values, names),
    };
    let total = number(values, "power_w");
    let phase_power = match (count, number(values, "power_l1_w"), &total) {
        (1, Err(_), Ok(total)) => PerPhase([*total, 0.0, 0.0]),
        _ => own(POWERS)?,
    };
    let current = own(CURRENTS)?;
    let sign = |p| if phase_power.on(p) < 0.0 { -1.0 } else { 1.0 };
    Ok(MeterReading {
        power: Watts(total.unwrap_or_else(|_| phase_power.0.iter().sum())),
        phase_power: PerPhase(phase_power.0.map(Watts)),
        current: PerPhase::from_fn(|p| Amps(current.on(p).abs() * sign(p))),
        voltage: PerPhase(own(VOLTAGES)?.0.map(Volts)),
        frequency: number(values, "frequency_hz").ok().map(Hertz),
        import: number(values, "import_wh").ok().map(WattHours),
        export: number(values, "export_wh").ok().map(WattHours),
    })
}

/// Whatever came; judging it is the business of `logic::safety`.
fn inputs(values: &Values) -> InputsReading {
    let number = |(name, raw): (&String, &Raw)| match raw {
        Raw::Number(number) => Some((name.clone(), *number)),
        Raw::Text(_) => None,
    };
    InputsReading { values: values.iter().filter_map(number).collect() }
}

/// A battery, with the PV of the same inverter where the map has it.
fn battery(values: &Values) -> Result<Reading, Unusable> {
    let soc = Soc::from_ratio(number(values, "soc_pct")? / 100.0);
    let battery = BatteryReading {
        power: Watts(number(values, "battery_w")?),
        soc: soc.ok_or(Unusable::Missing("soc_pct"))?,
    };
    Ok(match number(values, "pv_w") {
        Ok(pv) => Reading::Hybrid { battery, pv: PvReading { power: Watts(pv) } },
        Err(_) => Reading::Battery(battery),
    })
}

fn compute(values: &Values) -> Result<ComputeReading, Unusable> {
    Ok(ComputeReading {
        power: Watts(number(values, "power_w")?),
        cap: Watts(number(values, "cap_w").or_else(|_| number(values, "setpoint_w"))?),
        energy: number(values, "energy_wh").ok().map(WattHours),
    })
}

fn charger(profile: &Profile, values: &Values) -> Result<ChargerReading, Unusable> {
    let state = match values.get("state") {
        Some(Raw::Text(text)) => text.clone(),
        Some(Raw::Number(number)) => format!("{number}"),
        None => return Err(Unusable::Missing("state")),
    };
    let vehicle: Vehicle =
        *profile.states.get(&state).ok_or_else(|| Unusable::UnknownState(state.clone()))?;
    let vehicle = match (vehicle, number(values, "plugged")) {
        (Vehicle::Absent | Vehicle::Connected, Ok(0.0)) => Vehicle::Absent,
        (Vehicle::Absent | Vehicle::Connected, Ok(_)) => Vehicle::Connected,
        (vehicle, _) => vehicle,
    };
    let limit = number(values, "limit_a").or_else(|_| number(values, "setpoint_a"))?;
    let lease = number(values, "lease_s").ok().filter(|s| s.is_finite() && *s >= 0.0);
    let voltage = phases(values, VOLTAGES).unwrap_or_default();
    let power = number(values, "power_w");
    let power = power.or_else(|_| phases(values, POWERS).map(|each| each.0.iter().sum()))?;
    Ok(ChargerReading {
        vehicle,
        current: PerPhase(charger_currents(profile, values, power)?.0.map(Amps)),
        voltage: PerPhase(voltage.0.map(Volts)),
        power: Watts(power),
        limit: Amps(limit),
        energy: number(values, "energy_wh").ok().map(WattHours),
        phases: number(values, "phases").ok().and_then(|shown| phases_shown(profile, shown)),
        lease: lease.map(|seconds| Duration::from_secs_f64(seconds.min(1e9))),
    })
}

/// On how many phases it says that it is; nothing where it says neither.
fn phases_shown(profile: &Profile, shown: f64) -> Option<PhaseCount> {
    let recipe = profile.phase_switch.as_ref()?;
    if shown == f64::from(recipe.shows_one) {
        Some(PhaseCount::One)
    } else {
        (shown == f64::from(recipe.shows_three)).then_some(PhaseCount::Three)
    }
}

/// Voltage that stands for one that the device does not tell.
const NOMINAL_V: f64 = 230.0;

/// As measured; where the map has no currents, from the power, equally on all phases.
fn charger_currents(
    profile: &Profile,
    values: &Values,
    power: f64,
) -> Result<PerPhase<f64>, Unusable> {
    if CURRENTS.iter().any(|name| profile.point(name).is_some()) {
        return match profile.phases {
            1 => Ok(PerPhase([number(values, CURRENTS[0])?, 0.0, 0.0])),
            _ => phases(values, CURRENTS),
        };
    }
    let count = f64::from(profile.phases);
    let amps = power / (count * NOMINAL_V);
    Ok(if profile.phases == 1 { PerPhase([amps, 0.0, 0.0]) } else { PerPhase([amps; 3]) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sign_of_a_current_comes_from_its_power() {
        let mut values = Values::new();
        let mut put = |name: &str, value: f64| values.insert(name.to_owned(), Raw::Number(value));
        for (i, power) in [1000.0, -500.0, 0.0].into_iter().enumerate() {
            put(POWERS[i], power);
            put(CURRENTS[i], 3.0);
            put(VOLTAGES[i], 230.0);
        }
        put("power_w", 500.0);
        let reading = meter(3, &values).unwrap();
        assert_eq!(reading.current, PerPhase([Amps(3.0), Amps(-3.0), Amps(3.0)]));
    }
}
