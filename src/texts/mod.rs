//! The words shown to people, in English and Chinese: one JSON table for each language and room. A
//! floor below everything else, so that errors, page, command line and MQTT say the same thing.
//!
//! What a stranger gets wrong: log lines are not here. Their message is English with stable keys, so
//! that they can be searched.

use std::collections::BTreeMap;
use std::sync::LazyLock;

/// A language.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lang {
    /// English.
    #[default]
    En,
    /// Simplified Chinese.
    Zh,
}

impl Lang {
    /// From `zh`, `zh_CN.UTF-8`, `en`, ...: Chinese if it begins with `zh`, else English.
    #[must_use]
    pub fn from_code(code: &str) -> Lang {
        if code.to_ascii_lowercase().starts_with("zh") { Lang::Zh } else { Lang::En }
    }
}

type Table = BTreeMap<String, String>;

macro_rules! tables {
    ($lang:literal) => {
        [
            include_str!(concat!($lang, "/config.json")),
            include_str!(concat!($lang, "/cli.json")),
            include_str!(concat!($lang, "/reason.json")),
            include_str!(concat!($lang, "/page.json")),
            include_str!(concat!($lang, "/alarm.json")),
        ]
    };
}

static EN: LazyLock<Table> = LazyLock::new(|| merge(tables!("en")));
static ZH: LazyLock<Table> = LazyLock::new(|| merge(tables!("zh")));

/// All tables of one language in one; a broken table counts as empty (a test sees to it that none is).
fn merge(tables: [&str; 5]) -> Table {
    let parse = |text: &str| serde_json::from_str::<Table>(text).unwrap_or_default();
    tables.into_iter().flat_map(parse).collect()
}

/// The whole table of a language.
#[must_use]
pub fn table(lang: Lang) -> &'static BTreeMap<String, String> {
    match lang {
        Lang::En => &EN,
        Lang::Zh => &ZH,
    }
}

/// The text of a key; the key itself where there is none.
#[must_use]
pub fn text(lang: Lang, key: &str) -> &str {
    table(lang).get(key).map_or(key, String::as_str)
}

/// The text of a key with its `{name}` places filled.
#[must_use]
pub fn fill(lang: Lang, key: &str, values: &[(&str, String)]) -> String {
    // One pass: what a value contains is never taken for a place.
    let mut filled = String::new();
    let mut rest = text(lang, key);
    while let Some((before, after)) = rest.split_once('{') {
        filled += before;
        let place = after.split_once('}').and_then(|(name, end)| {
            let value = values.iter().find(|(known, _)| *known == name)?;
            Some((value.1.as_str(), end))
        });
        let (value, end) = place.unwrap_or(("{", after));
        filled += value;
        rest = end;
    }
    filled + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(text: &str) -> Vec<String> {
        let mut names: Vec<String> = text
            .split('{')
            .skip(1)
            .filter_map(|rest| rest.split_once('}').map(|(name, _)| name.to_owned()))
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_value_is_not_taken_for_a_place() {
        let values = [("limit", "{breaker}".to_owned()), ("breaker", "63".to_owned())];
        assert!(fill(Lang::En, "WG0020", &values).contains("({breaker} A)"));
        assert_eq!(fill(Lang::En, "no such {key", &values), "no such {key");
    }

    #[test]
    fn both_languages_have_the_same_keys_and_places() {
        for tables in [tables!("en"), tables!("zh")] {
            for text in tables {
                assert!(serde_json::from_str::<Table>(text).is_ok(), "a table is not valid JSON");
            }
        }
        let keys = |lang| table(lang).keys().collect::<Vec<_>>();
        assert_eq!(keys(Lang::En), keys(Lang::Zh));
        assert!(!table(Lang::En).is_empty());
        for (key, english) in table(Lang::En) {
            assert_eq!(places(english), places(text(Lang::Zh, key)), "{key}");
        }
    }
}
