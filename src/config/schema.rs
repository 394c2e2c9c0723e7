//! JSON Schemas of profiles and site files, asked of the readers themselves: every table gets a key that
//! cannot be, every key a value that cannot be, and the faults tell what would have been right. So a schema
//! never lags behind what is read.
//!
//! What a stranger gets wrong: a schema says what a file may look like. Whether its values fit each other
//! only `check` and `profile lint` know.

use serde_json::{Map, Value, json};

use super::report::Fault;
use super::walk::Faults;
use super::{file, profile};

/// A key that no table has.
const PROBE: &str = "__probe__";
/// Tables within tables beyond this are a mistake of this file.
const DEEPEST: usize = 6;

type Reader<'r> = &'r dyn Fn(&str) -> Faults;

/// Schema of a profile file.
#[must_use]
pub fn profile_schema() -> Value {
    let read = |text: &str| {
        let mut faults = Faults::new();
        let _ = profile::read(text, &mut faults);
        faults
    };
    document("wattgate device profile", &read)
}

/// Schema of a site file.
#[must_use]
pub fn site_schema() -> Value {
    let read = |text: &str| {
        let mut faults = Faults::new();
        let _ = file::parse(text, &mut faults);
        faults
    };
    document("wattgate site file", &read)
}

fn document(title: &str, read: Reader<'_>) -> Value {
    let mut schema = table(read, &[]);
    if let Some(object) = schema.as_object_mut() {
        object.insert("$schema".into(), json!("https://json-schema.org/draft/2020-12/schema"));
        object.insert("title".into(), json!(title));
    }
    schema
}

/// The headers that lead to a table: names down to it, each with whether it is a list of tables.
fn headers(path: &[(String, bool)]) -> String {
    let mut text = String::new();
    let mut name = String::new();
    for (part, is_list) in path {
        name = if name.is_empty() { part.clone() } else { format!("{name}.{part}") };
        text += &if *is_list { format!("[[{name}]]\n") } else { format!("[{name}]\n") };
    }
    text
}

fn said<'f>(fault: &'f Fault, key: &str) -> Option<&'f str> {
    fault.values.iter().find(|(name, _)| *name == key).map(|(_, value)| value.as_str())
}

/// The first fault of a code about a key.
fn about<'f>(faults: &'f [Fault], code: &str, key: &str) -> Option<&'f Fault> {
    // A list of tables within a table is named with both.
    let same = |name: &str| name.rsplit('.').next() == Some(key);
    faults.iter().find(|fault| fault.code == code && said(fault, "key").is_some_and(same))
}

fn list(text: &str) -> Vec<&str> {
    text.split(", ").filter(|part| !part.is_empty()).collect()
}

/// A table, asked for its keys.
fn table(read: Reader<'_>, path: &[(String, bool)]) -> Value {
    let faults = read(&format!("{}{PROBE} = 0\n", headers(path)));
    let Some(unknown) = about(&faults, "WG0002", PROBE) else {
        return json!({"type": "object"});
    };
    let known = list(said(unknown, "known").unwrap_or_default());
    let own = said(unknown, "table");
    let missing = |fault: &&Fault| fault.code == "WG0003" && said(fault, "table") == own;
    let required: Vec<&str> =
        faults.iter().filter(missing).filter_map(|fault| said(fault, "key")).collect();
    let mut properties = Map::new();
    for key in known {
        properties.insert(key.to_owned(), value(read, path, key));
    }
    let mut schema =
        json!({"type": "object", "properties": properties, "additionalProperties": false});
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

/// A key, asked what it takes.
fn value(read: Reader<'_>, path: &[(String, bool)], key: &str) -> Value {
    let try_with = |text: &str| read(&format!("{}{key} = {text}\n", headers(path)));
    let deeper = |is_list| {
        let mut inner = path.to_vec();
        inner.push((key.to_owned(), is_list));
        if inner.len() > DEEPEST { json!({}) } else { table(read, &inner) }
    };
    let faults = try_with(&format!("{{ {PROBE} = 0 }}"));
    if about(&faults, "WG0002", PROBE).is_some() {
        return deeper(false);
    }
    if let Some(fault) = about(&faults, "WG0009", PROBE) {
        let allowed = list(said(fault, "allowed").unwrap_or_default());
        return json!({"type": "object", "additionalProperties": {"enum": allowed}});
    }
    let wanted = about(&faults, "WG0004", key).and_then(|fault| said(fault, "wanted"));
    match wanted {
        Some("text") => text(&try_with("\"\\u0001\"")),
        Some(wanted @ ("number" | "whole number")) => {
            let whole = about(&try_with("0.5"), "WG0004", key).is_some();
            number(&try_with("1e300"), key, whole || wanted == "whole number")
        }
        Some("true or false") => json!({"type": "boolean"}),
        Some("list of texts") => json!({"type": "array", "items": {"type": "string"}}),
        Some("list of numbers") => json!({"type": "array", "items": {"type": "number"}}),
        Some(wanted) if wanted == "list of tables" || wanted.starts_with("[[") => {
            json!({"type": "array", "items": deeper(true)})
        }
        Some(other) => json!({"description": other}),
        None => json!({}),
    }
}

/// A text; one of a few where an impossible one was answered with a list.
fn text(faults: &[Fault]) -> Value {
    match faults.iter().find_map(|fault| said(fault, "allowed")) {
        Some(allowed) => json!({"enum": list(allowed)}),
        None => json!({"type": "string"}),
    }
}

fn number(faults: &[Fault], key: &str, whole: bool) -> Value {
    let mut schema = json!({"type": if whole { "integer" } else { "number" }});
    if let Some(fault) = about(faults, "WG0005", key) {
        for (bound, name) in [("min", "minimum"), ("max", "maximum")] {
            if let Some(value) = said(fault, bound).and_then(|text| text.parse::<f64>().ok()) {
                schema[name] = json!(value);
            }
        }
    }
    schema
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_profile_schema_knows_every_table_and_bound() {
        let schema = profile_schema();
        assert_eq!(schema["required"], json!(["id", "kind", "name", "source", "confidence"]));
        let top = &schema["properties"];
        assert_eq!(top["order"], json!({"enum": ["ABCD", "CDAB", "BADC", "DCBA"]}));
        assert_eq!(top["max_registers"]["maximum"], json!(125.0));
        let point = &top["points"]["items"]["properties"];
        assert_eq!(point["address"]["type"], "integer");
        assert!(point["quantity"]["enum"].as_array().unwrap().contains(&json!("power_w")));
        assert!(point["type"]["enum"].as_array().unwrap().contains(&json!("text")));
        assert_eq!(point["invert"], json!({"type": "boolean"}));
        let setpoint = &top["setpoint"]["properties"];
        assert_eq!(setpoint["before"]["items"]["required"], json!(["address", "value"]));
        assert_eq!(top["failsafe"]["properties"]["current"]["type"], "object");
        let states = &top["states"]["additionalProperties"]["enum"];
        assert_eq!(*states, json!(["absent", "connected", "charging", "fault"]));
        assert_eq!(top["battery"]["properties"]["rest"]["type"], "array");
    }

    #[test]
    fn the_site_schema_knows_every_table() {
        let schema = site_schema();
        let top = &schema["properties"];
        assert_eq!(schema["required"], json!(["site", "grid"]));
        for list in ["device", "bay", "zone", "camera"] {
            assert_eq!(top[list]["type"], "array", "{list}");
            assert!(top[list]["items"]["properties"]["id"].is_object(), "{list}");
        }
        assert_eq!(top["device"]["items"]["properties"]["unit"]["maximum"], json!(255.0));
        assert_eq!(top["tariff"]["properties"]["band"]["type"], "array");
        let device = &top["device"]["items"]["properties"];
        assert_eq!(device["mode"]["type"], "string");
        assert_eq!(device["strategy"]["type"], "string");
        assert_eq!(device["reserve_soc_pct"]["maximum"], json!(100.0));
        assert_eq!(device["grid_charging"], json!({"type": "boolean"}));
    }

    /// Keys of a document that the schema does not have.
    fn strangers(schema: &Value, value: &toml_edit::Item, place: &str, found: &mut Vec<String>) {
        if let Some(table) = value.as_table_like() {
            for (key, inner) in table.iter() {
                let known = &schema["properties"][key];
                let place = format!("{place}.{key}");
                match schema.get("additionalProperties") {
                    Some(Value::Object(_)) => {}
                    _ if known.is_null() => found.push(place),
                    _ => strangers(known, inner, &place, found),
                }
            }
        } else if let Some(tables) = value.as_array_of_tables() {
            for table in tables {
                let item = toml_edit::Item::Table(table.clone());
                strangers(&schema["items"], &item, place, found);
            }
        } else if let Some(values) = value.as_array() {
            for value in values.iter().filter(|value| value.is_inline_table()) {
                let item = toml_edit::Item::Value(value.clone());
                strangers(&schema["items"], &item, place, found);
            }
        }
    }

    #[test]
    fn every_shipped_file_keeps_to_its_schema() {
        let mut found = Vec::new();
        let schema = profile_schema();
        for (name, text) in profile::shipped() {
            let document: toml_edit::DocumentMut = text.parse().unwrap();
            strangers(&schema, document.as_item(), &name, &mut found);
        }
        let depot = include_str!("../../config/depot.toml");
        let document: toml_edit::DocumentMut = depot.parse().unwrap();
        strangers(&site_schema(), document.as_item(), "depot", &mut found);
        assert_eq!(found, Vec::<String>::new());
    }
}
