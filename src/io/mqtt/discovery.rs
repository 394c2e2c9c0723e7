//! Home Assistant discovery: one retained configuration for each thing a house owner wants to see.
//! The states themselves are the ordinary ones.
//!
//! What a stranger gets wrong: Home Assistant forgets sensors whose discovery it did not see after its
//! own restart; it says `online` on `homeassistant/status`, and then everything is told again.

use serde_json::{Map, Value, json};

use super::topics::absolute;
use super::wire::Message;
use crate::config::Command;
use crate::logic::decision::Overview;
use crate::logic::site::{ChargingMode, Id};

/// Where Home Assistant says that it started.
pub(super) const BIRTH: &str = "homeassistant/status";
/// Home Assistant shows "unavailable" after this long without a state; states come every 30 s.
const EXPIRES_S: u32 = 90;

/// One row: what of which state becomes what.
struct Row<'a> {
    platform: &'static str,
    /// `kind/id` of the state.
    of: String,
    key: &'static str,
    name: String,
    /// Device class, unit; states of numbers are measurements.
    class: Option<(&'static str, Option<&'static str>)>,
    site: &'a Id,
}

const POWER: Option<(&str, Option<&str>)> = Some(("power", Some("W")));
const BATTERY: Option<(&str, Option<&str>)> = Some(("battery", Some("%")));
const OCCUPANCY: Option<(&str, Option<&str>)> = Some(("occupancy", None));

/// Everything Home Assistant should know of.
pub(super) fn configurations(overview: &Overview, enabled: &[Command]) -> Vec<Message> {
    let row = |platform, of: String, key, name: String, class| Row {
        platform,
        of,
        key,
        name,
        class,
        site: &overview.site,
    };
    let mut rows =
        vec![row("sensor", "grid/main".to_owned(), "power_w", "Grid power".to_owned(), POWER)];
    for device in &overview.devices {
        let of = format!("{}/{}", device.kind, device.id);
        let (name, power) = (&device.name, format!("{} power", device.name));
        match device.kind.as_str() {
            "pv" => rows.push(row("sensor", of, "power_w", power, POWER)),
            "battery" => {
                rows.push(row("sensor", of.clone(), "power_w", power, POWER));
                rows.push(row("sensor", of, "soc_pct", format!("{name} charge"), BATTERY));
            }
            "charger" => {
                rows.push(row("sensor", of.clone(), "power_w", power, POWER));
                rows.push(row("sensor", of.clone(), "vehicle", format!("{name} vehicle"), None));
                if device.values.contains_key("mode") {
                    // Where it may not be chosen, it is shown.
                    let chosen = enabled.contains(&Command::Mode);
                    let platform = if chosen { "select" } else { "sensor" };
                    rows.push(row(platform, of.clone(), "mode", format!("{name} mode"), None));
                }
                if device.values.contains_key("phases") {
                    rows.push(row("sensor", of, "phases", format!("{name} phases"), None));
                }
            }
            "compute" => {
                rows.push(row("sensor", of.clone(), "power_w", power, POWER));
                rows.push(row("sensor", of, "cap_w", format!("{name} power cap"), POWER));
            }
            _ => {}
        }
    }
    for bay in &overview.bays {
        let of = format!("bay/{}", bay.id);
        rows.push(row("binary_sensor", of, "occupancy", bay.name.clone(), OCCUPANCY));
    }
    for zone in &overview.zones {
        let name = format!("Zone {} hazard level", zone.id);
        rows.push(row("sensor", format!("zone/{}", zone.id), "level", name, None));
    }
    rows.iter().map(|row| row.message(&overview.name)).collect()
}

impl Row<'_> {
    fn message(&self, site_name: &str) -> Message {
        let node = format!("wattgate_{}", self.site);
        let object = format!("{}_{}", self.of.replace('/', "_"), self.key);
        let mut body = Map::new();
        let mut put = |key: &str, value: Value| {
            body.insert(key.to_owned(), value);
        };
        put("name", json!(self.name));
        put("uniq_id", json!(format!("{node}_{object}")));
        put("stat_t", json!(absolute(self.site, &format!("{}/state", self.of))));
        put("val_tpl", json!(format!("{{{{ value_json.{} }}}}", self.key)));
        put("avty_t", json!(absolute(self.site, "status")));
        put("avty_tpl", json!("{{ 'online' if value_json.online else 'offline' }}"));
        put("exp_aft", json!(EXPIRES_S));
        if let Some((class, unit)) = self.class {
            put("dev_cla", json!(class));
            if let Some(unit) = unit {
                put("unit_of_meas", json!(unit));
                put("stat_cla", json!("measurement"));
            }
        }
        if self.platform == "binary_sensor" {
            put("pl_on", json!("occupied"));
            put("pl_off", json!("free"));
        }
        if self.platform == "select" {
            let command = Command::Mode.name();
            put("cmd_t", json!(absolute(self.site, &format!("{}/cmd/{command}", self.of))));
            put("ops", json!(ChargingMode::ALL.map(ChargingMode::name)));
            // A wish that waits in a broker comes too late.
            put("ret", json!(false));
        }
        let version = env!("CARGO_PKG_VERSION");
        put("dev", json!({ "ids": [node], "name": site_name, "mf": "wattgate", "sw": version }));
        Message {
            topic: format!("homeassistant/{}/{node}/{object}/config", self.platform),
            payload: Value::Object(body).to_string().into_bytes(),
            retain: true,
            ..Message::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::topics::tests::overview;
    use super::*;

    #[test]
    fn every_configuration_points_at_a_state_that_is_told() {
        let overview = overview();
        let told: Vec<String> = super::super::topics::states(&overview)
            .iter()
            .map(|state| absolute(&overview.site, &state.topic))
            .collect();
        let all = configurations(&overview, &[]);
        let mut ids = std::collections::BTreeSet::new();
        for message in &all {
            let body: Value = serde_json::from_slice(&message.payload).unwrap();
            assert!(told.contains(&body["stat_t"].as_str().unwrap().to_owned()), "{body}");
            assert!(ids.insert(body["uniq_id"].to_string()), "{body}");
            assert!(message.retain && message.topic.starts_with("homeassistant/"));
        }
        assert_eq!(all.len(), 8);
        let soc = all.iter().find(|m| m.topic.ends_with("/battery_bat_soc_pct/config")).unwrap();
        assert_eq!(soc.topic, "homeassistant/sensor/wattgate_depot/battery_bat_soc_pct/config");
    }
    #[test]
    fn a_mode_can_be_chosen_where_the_site_file_allows_it() {
        let mut overview = overview();
        let charger = overview.devices.iter_mut().find(|d| d.kind == "charger").unwrap();
        charger.values.insert("mode".to_owned(), json!("pv_only"));
        let id = charger.id.clone();
        let mode = |enabled: &[Command]| -> (String, Value) {
            let all = configurations(&overview, enabled);
            let is_it = |m: &&Message| m.topic.ends_with("_mode/config");
            let message = all.iter().find(is_it).unwrap();
            (message.topic.clone(), serde_json::from_slice(&message.payload).unwrap())
        };
        let (topic, body) = mode(&[Command::Mode]);
        assert!(topic.starts_with("homeassistant/select/"), "{topic}");
        let names = ["off", "pv_only", "min_pv", "fast", "departure"];
        assert_eq!(body["ops"], json!(names));
        assert_eq!(body["cmd_t"], format!("wattgate/v1/depot/charger/{id}/cmd/mode"));
        assert_eq!(body["stat_t"], format!("wattgate/v1/depot/charger/{id}/state"));
        let (topic, body) = mode(&[]);
        assert!(topic.starts_with("homeassistant/sensor/") && body.get("cmd_t").is_none());
    }
}
