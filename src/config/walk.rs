//! A walk over one table of a TOML document that notices everything: keys that are missing, of the
//! wrong type, out of range or unknown, each with its place.
//!
//! What a stranger gets wrong: reading a key also marks it as known. Whatever was not asked for when
//! [`Walk::finish`] is called is reported, with the nearest name that was asked for.

use toml_edit::{Document, Item, TableLike, TomlError, Value};

use super::report::{Fault, Severity};

/// Faults gathered while walking.
pub type Faults = Vec<Fault>;

/// One table under inspection.
pub struct Walk<'a> {
    table: &'a dyn TableLike,
    name: String,
    at: Option<usize>,
    asked: Vec<&'static str>,
}

fn start(span: Option<std::ops::Range<usize>>) -> Option<usize> {
    span.map(|span| span.start)
}

/// The document of a text; a fault with its place where it is no TOML.
pub fn document(text: &str, faults: &mut Faults) -> Option<Document<String>> {
    let fault = |cause: &TomlError| {
        let message = cause.message().lines().collect::<Vec<_>>().join("; ");
        error("WG0001", start(cause.span()), vec![("cause", message)])
    };
    text.parse().map_err(|cause| faults.push(fault(&cause))).ok()
}

impl<'a> Walk<'a> {
    /// A walk over `item`; a fault where it is no table.
    pub fn table(item: &'a Item, name: &str, faults: &mut Faults) -> Option<Walk<'a>> {
        match item.as_table_like() {
            Some(table) => {
                let at = start(item.span());
                Some(Walk { table, name: name.to_owned(), at, asked: Vec::new() })
            }
            None => {
                let values = vec![("key", name.to_owned()), ("wanted", "table".to_owned())];
                faults.push(error("WG0004", start(item.span()), values));
                None
            }
        }
    }

    /// Where the table stands.
    pub fn at(&self) -> Option<usize> {
        self.at
    }

    /// Where the value of a key stands, else the table.
    pub fn at_key(&self, key: &str) -> Option<usize> {
        self.table.get(key).and_then(|item| start(item.span())).or(self.at)
    }

    /// The raw item of a key.
    pub fn item(&mut self, key: &'static str) -> Option<&'a Item> {
        self.asked.push(key);
        self.table.get(key).filter(|item| !item.is_none())
    }

    /// The value of a key; a table where a value is `wanted` is a fault.
    fn value(
        &mut self,
        key: &'static str,
        wanted: &str,
        faults: &mut Faults,
    ) -> Option<(&'a Value, Option<usize>)> {
        let item = self.item(key)?;
        if item.as_value().is_none() {
            self.wrong(key, wanted, start(item.span()), faults);
        }
        item.as_value().map(|value| (value, start(value.span()).or(start(item.span()))))
    }

    fn wrong(&self, key: &str, wanted: &str, at: Option<usize>, faults: &mut Faults) {
        let values = vec![("key", key.to_owned()), ("wanted", wanted.to_owned())];
        faults.push(error("WG0004", at.or(self.at), values));
    }

    /// A text.
    pub fn text(&mut self, key: &'static str, faults: &mut Faults) -> Option<String> {
        let (value, at) = self.value(key, "text", faults)?;
        let text = value.as_str().map(str::to_owned);
        if text.is_none() {
            self.wrong(key, "text", at, faults);
        }
        text
    }

    /// Reports a key that is missing.
    pub fn needed(&mut self, key: &'static str, faults: &mut Faults) {
        if self.item(key).is_none() {
            let values = vec![("key", key.to_owned()), ("table", self.name.clone())];
            faults.push(error("WG0003", self.at, values));
        }
    }

    /// A number within `range`, whole or not.
    pub fn number(
        &mut self,
        key: &'static str,
        range: std::ops::RangeInclusive<f64>,
        faults: &mut Faults,
    ) -> Option<f64> {
        let (value, at) = self.value(key, "number", faults)?;
        let number = value.as_float().or_else(|| value.as_integer().map(|whole| whole as f64));
        let Some(number) = number else {
            self.wrong(key, "number", at, faults);
            return None;
        };
        if range.contains(&number) {
            return Some(number);
        }
        let values = vec![
            ("key", key.to_owned()),
            ("value", number.to_string()),
            ("min", range.start().to_string()),
            ("max", range.end().to_string()),
        ];
        faults.push(error("WG0005", at, values));
        None
    }

    /// A whole number within `range`.
    pub fn whole(
        &mut self,
        key: &'static str,
        range: std::ops::RangeInclusive<f64>,
        faults: &mut Faults,
    ) -> Option<f64> {
        let number = self.number(key, range, faults)?;
        if number.fract() != 0.0 {
            self.wrong(key, "whole number", self.at_key(key), faults);
            return None;
        }
        Some(number)
    }

    /// One of a few names.
    pub fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        names: &[(&str, T)],
        faults: &mut Faults,
    ) -> Option<T> {
        let text = self.text(key, faults)?;
        let found = names.iter().find(|(name, _)| *name == text).map(|(_, meant)| *meant);
        if found.is_none() {
            let allowed = names.iter().map(|(name, _)| *name);
            let values = vec![
                ("key", key.to_owned()),
                ("value", text.clone()),
                ("allowed", allowed.clone().collect::<Vec<_>>().join(", ")),
            ];
            let mut fault = error("WG0009", self.at_key(key), values);
            fault.nearest = nearest(&text, allowed);
            faults.push(fault);
        }
        found
    }

    /// A text that must be there.
    pub fn needed_text(&mut self, key: &'static str, faults: &mut Faults) -> Option<String> {
        self.needed(key, faults);
        self.text(key, faults)
    }

    /// All keys, each with its value and the key's own place: for tables whose keys are names.
    pub fn entries(&self) -> Vec<(&'a str, &'a Item, Option<usize>)> {
        let place = |key: &str| self.table.key(key).and_then(|key| start(key.span()));
        self.table.iter().map(|(key, item)| (key, item, place(key))).collect()
    }

    /// Yes or no.
    pub fn flag(&mut self, key: &'static str, faults: &mut Faults) -> Option<bool> {
        let (value, at) = self.value(key, "true or false", faults)?;
        let flag = value.as_bool();
        if flag.is_none() {
            self.wrong(key, "true or false", at, faults);
        }
        flag
    }

    /// A list of texts, each with its place; empty where there is none.
    pub fn texts(
        &mut self,
        key: &'static str,
        faults: &mut Faults,
    ) -> Vec<(String, Option<usize>)> {
        let Some((value, at)) = self.value(key, "list of texts", faults) else {
            return Vec::new();
        };
        let Some(array) = value.as_array() else {
            self.wrong(key, "list of texts", at, faults);
            return Vec::new();
        };
        let mut texts = Vec::new();
        for entry in array {
            match entry.as_str() {
                Some(text) => texts.push((text.to_owned(), start(entry.span()))),
                None => self.wrong(key, "list of texts", start(entry.span()), faults),
            }
        }
        texts
    }

    /// Reports every key that nobody asked for.
    pub fn finish(self, faults: &mut Faults) {
        for (key, item) in self.table.iter() {
            if !self.asked.contains(&key) {
                let at = self.table.key(key).and_then(|key| start(key.span()));
                let known = self.asked.join(", ");
                let values =
                    vec![("key", key.to_owned()), ("table", self.name.clone()), ("known", known)];
                // Secrets have a code of their own: the answer is not another spelling.
                let secret = matches!(key, "password" | "passwort" | "secret" | "token");
                let code = if secret { "WG0044" } else { "WG0002" };
                let mut fault = error(code, at.or(start(item.span())), values);
                fault.nearest = nearest(key, self.asked.iter().copied());
                faults.push(fault);
            }
        }
    }
}

/// A fault that forbids using the file.
pub fn error(code: &'static str, at: Option<usize>, values: Vec<(&'static str, String)>) -> Fault {
    Fault { severity: Severity::Error, code, at, values, nearest: None }
}

/// The candidate most like `name`, if any is like it at all.
pub fn nearest<'n>(name: &str, candidates: impl Iterator<Item = &'n str>) -> Option<String> {
    candidates
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .filter(|(likeness, _)| *likeness > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate.to_owned())
}
