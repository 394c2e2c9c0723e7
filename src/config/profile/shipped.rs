//! The register maps that come with the binary: every file of `config/profiles`, and nothing else.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use super::{Profile, read};

#[derive(rust_embed::RustEmbed)]
#[folder = "config/profiles/"]
struct Folder;

/// File name and text of every map that comes with the binary, by name.
#[must_use]
pub fn shipped() -> BTreeMap<String, String> {
    let text = |name: &str| {
        let file = Folder::get(name)?;
        String::from_utf8(file.data.into_owned()).ok()
    };
    Folder::iter().filter_map(|name| Some((name.to_string(), text(&name)?))).collect()
}

/// Read once: they never change while the program runs.
static BUILTIN: LazyLock<BTreeMap<String, Profile>> = LazyLock::new(|| {
    let profiles = shipped().into_values().filter_map(|text| read(&text, &mut Vec::new()));
    profiles.map(|profile| (profile.id.clone(), profile)).collect()
});

/// The register maps that come with the binary, by id. A test sees to it that none is left out.
#[must_use]
pub fn builtin_profiles() -> BTreeMap<String, Profile> {
    BUILTIN.clone()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ProfileKind, Report};
    use crate::texts::Lang;

    #[test]
    fn every_profile_of_the_folder_is_built_in_and_has_no_fault() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config/profiles");
        let entries = std::fs::read_dir(folder).unwrap();
        let mut files: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        files.sort();
        assert_eq!(files, shipped().into_keys().collect::<Vec<_>>());
        for (name, text) in shipped() {
            let mut faults = Vec::new();
            let profile = read(&text, &mut faults);
            let file = std::path::PathBuf::from(&name);
            let report = Report { file, text, faults, parts: Vec::new() };
            assert!(report.faults.is_empty(), "{}", report.render(Lang::En));
            assert_eq!(format!("{}.toml", profile.unwrap().id), name);
        }
    }

    /// What the house promises to know: families, not copies of one another.
    #[test]
    fn there_are_enough_of_each_kind() {
        let count = |kinds: &[ProfileKind]| {
            builtin_profiles().values().filter(|profile| kinds.contains(&profile.kind)).count()
        };
        assert!(count(&[ProfileKind::Charger]) >= 12);
        assert!(count(&[ProfileKind::Meter, ProfileKind::SunspecMeter]) >= 9);
        assert!(count(&[ProfileKind::Battery]) >= 6);
        assert!(builtin_profiles().len() >= 30);
    }

    /// Characters lost, doubled and exchanged, lines cut and swapped: a profile or faults with a place in
    /// the text, never a panic.
    #[test]
    fn damaged_profiles_are_refused_with_a_place_or_are_profiles_still() {
        let texts: Vec<String> = shipped().into_values().collect();
        let mut rng = fastrand::Rng::with_seed(31);
        let odd =
            ["[", "]", "\"", "=", "-1", "1e999", "nan", "70000", "[[point]]", "\n", "\u{0}", "缺"];
        let mut refused = 0;
        for round in 0..4_000 {
            let mut text: Vec<char> = texts[rng.usize(0..texts.len())].chars().collect();
            for _ in 0..rng.usize(1..6) {
                let at = rng.usize(0..text.len());
                match rng.u8(0..4) {
                    0 => {
                        text.remove(at);
                    }
                    1 => text[at] = odd[rng.usize(0..odd.len())].chars().next().unwrap(),
                    2 => {
                        let piece: Vec<char> = odd[rng.usize(0..odd.len())].chars().collect();
                        text.splice(at..at, piece);
                    }
                    _ => {
                        let end = (at + rng.usize(0..40)).min(text.len());
                        text.drain(at..end);
                    }
                }
                if text.is_empty() {
                    text.push(' ');
                }
            }
            let text: String = text.into_iter().collect();
            let mut faults = Vec::new();
            let profile = read(&text, &mut faults);
            let place = faults.iter().filter_map(|fault| fault.at).all(|at| at <= text.len());
            assert!(place, "seed 31, round {round}: a place outside the text\n{text}");
            assert!(profile.is_some() || !faults.is_empty(), "seed 31, round {round}\n{text}");
            refused += u32::from(profile.is_none());
        }
        assert!(refused > 1_000, "the story needs broken files: {refused}");
    }
}
