//! Outputs that people read, compared byte for byte: the faults of broken site files in both languages.
//! `UPDATE_GOLDEN=1` writes them anew; then they are read by a person before they are committed.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::{Path, PathBuf};

use wattgate::config::{self, Report};
use wattgate::texts::Lang;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every file of a folder is refused, in the words that lie beside it.
fn broken<T>(folder: &str, load: impl Fn(&Path) -> Result<T, Report>) {
    let entries = std::fs::read_dir(root().join("tests/golden").join(folder)).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|e| e == "toml"));
    files.sort();
    assert!(files.len() >= 12, "only {} broken files in {folder}", files.len());
    for file in files {
        let Err(mut report) = load(&file) else { panic!("{} is not broken", file.display()) };
        report.file = PathBuf::from(file.file_name().unwrap());
        for (lang, name) in [(Lang::En, "en"), (Lang::Zh, "zh")] {
            let golden = file.with_extension(format!("{name}.txt"));
            let rendered = report.render(lang);
            if std::env::var_os("UPDATE_GOLDEN").is_some() {
                std::fs::write(&golden, &rendered).unwrap();
            }
            let expected = std::fs::read_to_string(&golden).unwrap_or_default();
            assert_eq!(rendered, expected, "{}", golden.display());
        }
    }
}

#[test]
fn broken_site_files_are_answered_with_place_and_hint() {
    broken("config", config::load);
}

#[test]
fn broken_profiles_are_answered_with_place_and_hint() {
    broken("profiles", config::profile_file);
}

#[test]
fn the_documented_profile_has_no_fault_and_a_local_one_stands_before_a_shipped_one() {
    let example = root().join("config/example-profile.toml");
    let profile = config::profile_file(&example).unwrap();
    assert_eq!(profile.point("voltage_l1_v").unwrap().address, 0);
    assert_eq!(profile.point("power_l1_w").unwrap().scale, -1.0);
    let folder = tempfile::tempdir().unwrap();
    let local = folder.path().join("profiles.d");
    std::fs::create_dir(&local).unwrap();
    std::fs::copy(&example, local.join("acme-m3.toml")).unwrap();
    let shipped = &config::shipped()["eastron-sdm630.toml"];
    let changed = shipped.replace("name = \"Eastron SDM630\"", "name = \"Ours\"");
    std::fs::write(local.join("sdm.toml"), changed).unwrap();
    std::fs::write(local.join("zbroken.toml"), "id = 3").unwrap();
    let (profiles, broken) = config::profiles_beside(folder.path());
    assert_eq!(profiles["eastron-sdm630"].name, "Ours");
    assert!(profiles.contains_key("acme-m3"));
    assert_eq!(broken.len(), 1);
    assert!(broken[0].render(Lang::En).contains("zbroken.toml:1:6: error[WG0004]"));
}

/// Mutated profiles never panic: they read, or say why not.
#[test]
fn mutated_profiles_never_panic() {
    let mut rng = fastrand::Rng::with_seed(7);
    let texts: Vec<String> = config::shipped().into_values().collect();
    let (mut good, mut bad) = (0, 0);
    for round in 0..4_000 {
        let text = &texts[rng.usize(0..texts.len())];
        let text = String::from_utf8_lossy(&mutate(&mut rng, text)).into_owned();
        let mut faults = Vec::new();
        match config::read_profile(&text, &mut faults) {
            Some(_) => good += 1,
            None => {
                bad += 1;
                assert!(!faults.is_empty(), "seed 7 round {round}: refused without a fault");
            }
        }
    }
    assert!(good > 100 && bad > 100, "{good} good, {bad} bad");
}

#[test]
fn the_documented_site_file_has_no_fault() {
    let (config, report) = config::load(&root().join("config/depot.toml")).unwrap();
    assert_eq!(report.faults, []);
    assert_eq!(config.site.chargers.len(), 2);
    assert_eq!(config.site.zones.len(), 1);
}

/// A camera whose address has a password in it can be used, and is warned of; the warning does not repeat it.
#[test]
fn a_password_in_the_address_of_a_camera_is_warned_of() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("site.toml");
    let text = std::fs::read_to_string(root().join("config/depot.toml")).unwrap();
    let address = "http://192.168.10.51/snapshot.jpg";
    assert!(text.contains(address));
    for (more, wanted) in [("?res=high", &[][..]), ("?usr=a&pwd=horse", &["WG0136"])] {
        std::fs::write(&file, text.replace(address, &format!("{address}{more}"))).unwrap();
        let (config, report) = config::load(&file).unwrap();
        assert_eq!(config.cameras.len(), 1);
        let found: Vec<&str> = report.faults.iter().map(|fault| fault.code).collect();
        assert_eq!(found, wanted, "{more}");
        let words = report.render(Lang::En) + &report.render(Lang::Zh);
        let told = words.contains("warning[WG0136]: the address of camera `cam1` has a password")
            && words.contains("地址中含有密码");
        assert_eq!(told, !wanted.is_empty(), "{words}");
        assert!(!words.contains("horse"), "{words}");
    }
    std::fs::write(&file, text.replace("http://192.168.10.51", "http://a:horse@192.168.10.51"))
        .unwrap();
    let words = config::load(&file).unwrap_err().render(Lang::En);
    assert!(words.contains("error[WG0030]") && !words.contains("horse"), "{words}");
}

/// One that restarts at 32 A below a breaker of 20 A is told of in both languages; one that keeps its failsafe,
/// or hangs on enough copper, is not.
#[test]
fn a_charger_that_restarts_at_its_rated_current_is_warned_of() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("site.toml");
    let site = |profile: &str, breaker: u32, circuit: u32| {
        format!(
            "[site]\nid = \"s\"\n[grid]\nmeter = \"grid\"\nlimit_a = {breaker}\nbreaker_a = {breaker}\n\
             max_base_load_a = 10\n[[device]]\nid = \"grid\"\nprofile = \"eastron-sdm630\"\n\
             address = \"tcp://127.0.0.1:1502\"\n[[device]]\nid = \"pile\"\nprofile = \"{profile}\"\n\
             address = \"tcp://127.0.0.2:1502\"\nmax_a = 16\nfailsafe_a = 6\n\
             [[circuit]]\nid = \"row\"\nlimit_a = {circuit}\nmembers = [\"pile\"]\n"
        )
    };
    let codes = |profile: &str, breaker: u32, circuit: u32| {
        std::fs::write(&file, site(profile, breaker, circuit)).unwrap();
        let (_, report) = config::load(&file).unwrap();
        let words = report.render(Lang::En) + &report.render(Lang::Zh);
        (report.faults.iter().map(|fault| fault.code).collect::<Vec<_>>(), words)
    };
    let (found, words) = codes("keba-p40", 63, 20);
    assert_eq!(found, ["WG0142"]);
    for part in ["warning[WG0142]: `pile` forgets", "32 A of 20 A on L1", "`row`", "会忘记安全电流"]
    {
        assert!(words.contains(part), "{part} is not in {words}");
    }
    let (found, words) = codes("keba-p30", 40, 32);
    assert_eq!(found, ["WG0141"]);
    assert!(words.contains("on L1 that makes 42 A of 40 A"), "{words}");
    assert_eq!(codes("keba-p40", 63, 32).0, Vec::<&str>::new());
    assert_eq!(codes("heidelberg-ec", 40, 20).0, Vec::<&str>::new());
}

#[test]
fn the_documented_guarded_store_has_no_fault() {
    let (config, report) = config::load(&root().join("config/guarded-store.toml")).unwrap();
    assert_eq!(report.faults, []);
    let guard = &config.site.guard;
    assert_eq!((guard.sensors.len(), guard.relays.len()), (5, 5));
    let module = config.devices.iter().find(|device| device.id.as_str() == "module").unwrap();
    assert_eq!(module.relays.len(), 5);
}

/// One random change of a text.
fn mutate(rng: &mut fastrand::Rng, text: &str) -> Vec<u8> {
    let mut lines: Vec<&str> = text.lines().collect();
    match rng.u8(0..4) {
        0 => {
            lines.remove(rng.usize(0..lines.len()));
        }
        1 => {
            let (a, b) = (rng.usize(0..lines.len()), rng.usize(0..lines.len()));
            lines.swap(a, b);
        }
        2 => lines.insert(rng.usize(0..lines.len()), "[[bay]] # ="),
        _ => {}
    }
    let mut bytes = lines.join("\n").into_bytes();
    for _ in 0..rng.usize(0..4) {
        let at = rng.usize(0..bytes.len());
        bytes[at] = *rng.choice(b"[]\"'=.#\n0a-_{},\xff").unwrap();
    }
    bytes
}

/// Loads `rounds` mutated site files; how many were good and how many were refused.
fn load_mutated(seed: u64, rounds: u32) -> (u32, u32) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("site.toml");
    let text = std::fs::read_to_string(root().join("config/depot.toml")).unwrap();
    let mut rng = fastrand::Rng::with_seed(seed);
    let (mut good, mut bad) = (0, 0);
    for round in 0..rounds {
        std::fs::write(&file, mutate(&mut rng, &text)).unwrap();
        match config::load(&file) {
            Ok(_) => good += 1,
            Err(report) => {
                bad += 1;
                assert!(report.has_errors(), "seed {seed} round {round}: refused without a fault");
                assert!(!report.render(Lang::En).is_empty());
            }
        }
    }
    assert!(
        good > rounds / 60 && bad > rounds / 60,
        "{good} good, {bad} bad: the mutations are too mild or too wild"
    );
    (good, bad)
}

#[test]
fn cf1_mutated_site_files_never_panic() {
    load_mutated(42, 6_000);
}

#[test]
#[ignore = "long: a million site files"]
#[allow(clippy::print_stdout)]
fn cf1_a_million_mutated_site_files_never_panic() {
    let halves = [43, 44].map(|seed| std::thread::spawn(move || load_mutated(seed, 500_000)));
    let halves = halves.map(|half| half.join().unwrap());
    println!("seeds 43 and 44: (good, refused) {halves:?}, no panic");
}

#[test]
fn cf3_a_broken_or_missing_file_falls_back_to_the_last_good_copy() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("site.toml");
    let text = std::fs::read_to_string(root().join("config/depot.toml")).unwrap();
    let text = text.replace("/var/lib/wattgate", "state");
    let state = folder.path().join("state");
    std::fs::create_dir(&state).unwrap();
    std::fs::write(&file, &text).unwrap();
    let load = |path: &Path| config::load_or_last_good(path, Some(&state));
    let first = load(&file).unwrap();
    assert!(first.fell_back.is_none());
    config::keep_last_good(&first.config, &first.text).unwrap();
    std::fs::write(&file, text.replace("breaker_a = 63", "breaker_a = 6")).unwrap();
    let broken = load(&file).unwrap();
    assert!(broken.fell_back.unwrap().has_errors());
    assert_eq!(broken.config.site.limits.breaker.get(), 63.0);
    std::fs::remove_file(&file).unwrap();
    assert!(load(&file).unwrap().fell_back.is_some());
    std::fs::remove_dir_all(&state).unwrap();
    assert!(load(&file).is_err());
}
