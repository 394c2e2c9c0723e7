//! What a profile must hold beyond its single keys: that a value can be read in one request, that a kind
//! has the values its reading needs, that a setpoint can be read back.

use super::super::walk::{Faults, error};
use super::{
    BatteryRecipe, FedBy, PhaseRecipe, Point, Profile, ProfileKind, SetpointRecipe, ValueType,
};

/// What shows the setpoint.
#[must_use]
pub fn setpoint_quantity(kind: ProfileKind) -> &'static str {
    if kind == ProfileKind::Compute { "setpoint_w" } else { "setpoint_a" }
}

/// One point by itself.
pub fn place(point: &Point, at: Option<usize>, faults: &mut Faults) {
    let end = u32::from(point.address) + u32::from(point.value_type.words());
    if end > 65_536 {
        let values = vec![("quantity", point.quantity.clone())];
        faults.push(error("WG0074", at, values));
    }
    let text = matches!(point.value_type, ValueType::Text(_));
    if text && point.quantity != "state" {
        faults.push(error("WG0075", at, vec![("quantity", point.quantity.clone())]));
    }
    let float = matches!(point.value_type, ValueType::F32 | ValueType::F64);
    if (point.shift > 0 || point.mask.is_some()) && (text || float) {
        faults.push(error("WG0076", at, vec![("type", point.value_type.name().to_owned())]));
    }
}

/// The recipe of a setpoint by itself.
pub fn setpoint(recipe: &SetpointRecipe, at: Option<usize>, faults: &mut Faults) {
    if recipe.function == 6 && recipe.value_type.words() > 1 {
        let values = vec![("type", recipe.value_type.name().to_owned())];
        faults.push(error("WG0077", at, values));
    }
    if recipe.fed_by == FedBy::Life && recipe.before.is_empty() {
        faults.push(error("WG0078", at, Vec::new()));
    }
    // Whoever must write again and again to keep a device from falling back wears its flash out.
    let rewritten = recipe.expires_s.is_some() || recipe.fed_by == FedBy::Writes;
    if recipe.flash_writes_per_day.is_some() && rewritten {
        faults.push(error("WG0079", at, Vec::new()));
    }
}

/// The recipe of a change of phases by itself: its two ways must differ, written and shown.
pub fn phase_switch(recipe: &PhaseRecipe, at: Option<usize>, faults: &mut Faults) {
    if recipe.one == recipe.three || recipe.shows_one == recipe.shows_three {
        faults.push(error("WG0098", at, Vec::new()));
    }
}

/// The recipe of a battery by itself.
pub fn battery(recipe: &BatteryRecipe, at: Option<usize>, faults: &mut Faults) {
    if recipe.flash_writes_per_day.is_some() && recipe.expires_s.is_some() {
        faults.push(error("WG0079", at, Vec::new()));
    }
}

/// A model of a walked device with the period that it is read in: only the battery's charge moves slowly.
pub fn model(
    (kind, id, period_s): (ProfileKind, u16, f64),
    at: Option<usize>,
    faults: &mut Faults,
) {
    let known: &[u16] = match kind {
        ProfileKind::SunspecHybrid => &[103, 124, 160, 802],
        ProfileKind::SunspecMeter => &[201, 202, 203, 204],
        _ => &[],
    };
    if !known.contains(&id) {
        let allowed: Vec<String> = known.iter().map(u16::to_string).collect();
        let values = vec![("model", id.to_string()), ("profile_kind", kind.name().to_owned())];
        let allowed = if allowed.is_empty() { "-".to_owned() } else { allowed.join(", ") };
        let allowed = vec![("allowed", allowed)];
        faults.push(error("WG0087", at, [values, allowed].concat()));
    } else if period_s > 1.0 && id != 802 {
        let values = vec![("quantity", format!("model {id}")), ("period", period_s.to_string())];
        faults.push(error("WG0085", at, values));
    }
}

/// Values that a reading of a kind cannot do without; of each list one is enough.
fn needed(profile: &Profile) -> Vec<&'static [&'static str]> {
    match (profile.kind, profile.phases) {
        (ProfileKind::Meter, 1) => {
            vec![&["voltage_l1_v"], &["current_l1_a"], &["power_l1_w", "power_w"]]
        }
        (ProfileKind::Meter, _) => vec![
            &["voltage_l1_v"],
            &["voltage_l2_v"],
            &["voltage_l3_v"],
            &["current_l1_a"],
            &["current_l2_a"],
            &["current_l3_a"],
            &["power_l1_w"],
            &["power_l2_w"],
            &["power_l3_w"],
        ],
        (ProfileKind::Charger, _) => {
            vec![&["state"], &["power_w", "power_l1_w"], &["setpoint_a", "limit_a"]]
        }
        (ProfileKind::Compute, _) => vec![&["power_w"], &["cap_w", "setpoint_w"]],
        (ProfileKind::Battery, _) => vec![&["battery_w"], &["soc_pct"]],
        (ProfileKind::Inputs | ProfileKind::SunspecHybrid | ProfileKind::SunspecMeter, _) => {
            Vec::new()
        }
    }
}

/// The whole profile.
pub fn check(profile: &Profile, faults: &mut Faults) {
    let mut missing = |code, values| faults.push(error(code, None, values));
    for names in needed(profile) {
        if !names.iter().any(|name| profile.point(name).is_some()) {
            let values = vec![
                ("quantity", names.join(", ")),
                ("profile_kind", profile.kind.name().to_owned()),
            ];
            missing("WG0080", values);
        }
    }
    let stated = profile.point("state").is_some();
    if stated && profile.states.is_empty() {
        missing("WG0081", Vec::new());
    }
    let shown = setpoint_quantity(profile.kind);
    if profile.setpoint.is_some() && profile.point(shown).is_none() {
        missing("WG0082", vec![("quantity", shown.to_owned())]);
    }
    if profile.phase_switch.is_some()
        && (profile.point("phases").is_none() || profile.phases != 3 || profile.setpoint.is_none())
    {
        missing("WG0099", Vec::new());
    }
    // A failsafe after a time without a sign of life: only what any request feeds leaves flash alone.
    let fed = |recipe: &SetpointRecipe| matches!(recipe.fed_by, FedBy::Any | FedBy::Life);
    if profile.failsafe.is_some()
        && profile.setpoint.as_ref().is_some_and(|s| s.flash_writes_per_day.is_some() && !fed(s))
    {
        missing("WG0086", Vec::new());
    }
    for point in &profile.points {
        let (_, count) = point.span();
        if count > profile.max_registers {
            let values = vec![
                ("quantity", point.quantity.clone()),
                ("count", count.to_string()),
                ("most", profile.max_registers.to_string()),
            ];
            missing("WG0083", values);
        }
    }
    let wrong = match profile.kind {
        ProfileKind::Charger => profile.battery.is_some(),
        ProfileKind::Compute => profile.battery.is_some() || profile.phase_switch.is_some(),
        ProfileKind::Battery => {
            profile.setpoint.is_some()
                || profile.failsafe.is_some()
                || profile.phase_switch.is_some()
        }
        ProfileKind::Meter
        | ProfileKind::Inputs
        | ProfileKind::SunspecHybrid
        | ProfileKind::SunspecMeter => {
            profile.setpoint.is_some()
                || profile.failsafe.is_some()
                || profile.battery.is_some()
                || profile.phase_switch.is_some()
        }
    };
    if wrong {
        missing("WG0084", vec![("profile_kind", profile.kind.name().to_owned())]);
    }
}
