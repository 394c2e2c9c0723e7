//! From a path to a [`Config`]: reading, the built-in and local profiles, and the last good copy that
//! `run` falls back to when the site file is broken or gone (faults CF1, CF3).

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::report::Report;
use super::walk::{error, nearest};
use super::{Config, Profile, builtin_profiles, check, file, read_profile};

/// Where the state lives unless the file says otherwise.
pub const DEFAULT_STATE: &str = "/var/lib/wattgate";
const LAST_GOOD: &str = "last-good.toml";
/// A site file larger than this is a mistake.
const MOST_BYTES: u64 = 4 << 20;

/// Reads and checks a site file.
///
/// # Errors
/// The report with every fault, when any of them forbids using the file.
pub fn load(path: &Path) -> Result<(Config, Report), Report> {
    let text = read(path).map_err(|cause| unreadable(path, &cause))?;
    from_text(path, text)
}

fn from_text(path: &Path, text: String) -> Result<(Config, Report), Report> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let (profiles, parts) = profiles_beside(folder);
    let mut report = Report { file: path.to_owned(), text, faults: Vec::new(), parts };
    let parsed = file::parse(&report.text, &mut report.faults);
    let config =
        parsed.and_then(|parsed| check::check(parsed, folder, &profiles, &mut report.faults));
    if config.is_none() && !report.has_errors() {
        report.faults.push(error("WG0045", None, Vec::new()));
    }
    report.faults.sort_by_key(|fault| fault.at);
    match config {
        Some(config) if !report.has_errors() => Ok((config, report)),
        _ => Err(report),
    }
}

fn read(path: &Path) -> io::Result<String> {
    if fs::metadata(path)?.len() > MOST_BYTES {
        return Err(io::Error::other("larger than 4 MiB"));
    }
    fs::read_to_string(path)
}

fn unreadable(path: &Path, cause: &io::Error) -> Report {
    let fault = error("WG0010", None, vec![("cause", cause.to_string())]);
    Report { file: path.to_owned(), faults: vec![fault], ..Report::default() }
}

/// Built-in profiles, overridden by `profiles.d/*.toml` in the site file's folder; and the reports of
/// those that cannot be used.
#[must_use]
pub fn profiles_beside(folder: &Path) -> (BTreeMap<String, Profile>, Vec<Report>) {
    let mut profiles = builtin_profiles();
    let mut broken = Vec::new();
    let Ok(entries) = fs::read_dir(folder.join("profiles.d")) else {
        return (profiles, broken);
    };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|e| e == "toml"));
    paths.sort();
    for path in paths {
        match profile_file(&path) {
            Ok(profile) => _ = profiles.insert(profile.id.clone(), profile),
            Err(report) => broken.push(report),
        }
    }
    (profiles, broken)
}

/// The report that there is no profile of this name.
#[must_use]
pub fn no_such_profile(name: &str) -> Report {
    let mut fault = error("WG0012", None, vec![("profile", name.to_owned())]);
    fault.nearest = nearest(name, builtin_profiles().keys().map(String::as_str));
    Report { file: PathBuf::from(name), faults: vec![fault], ..Report::default() }
}

/// Reads and checks one profile file.
///
/// # Errors
/// The report with every fault.
pub fn profile_file(path: &Path) -> Result<Profile, Report> {
    let text = read(path).map_err(|cause| unreadable(path, &cause))?;
    let mut faults = Vec::new();
    let profile = read_profile(&text, &mut faults);
    faults.sort_by_key(|fault| fault.at);
    profile.ok_or(Report { file: path.to_owned(), text, faults, parts: Vec::new() })
}

/// A configuration that `run` can use, and where it came from.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// The text it came from.
    pub text: String,
    /// The file that was read: the site file, or its last good copy.
    pub file: PathBuf,
    /// What is wrong with the site file, where the last good copy had to serve.
    pub fell_back: Option<Report>,
}

/// Reads the site file; when it is broken or gone, the last good copy in the state folder.
///
/// # Errors
/// The report about the site file, when there is no good copy either.
pub fn load_or_last_good(path: &Path, state: Option<&Path>) -> Result<Loaded, Report> {
    let broken = match load(path) {
        Ok((config, report)) => {
            return Ok(Loaded {
                config,
                text: report.text,
                file: path.to_owned(),
                fell_back: None,
            });
        }
        Err(broken) => broken,
    };
    let folder = path.parent().unwrap_or(Path::new("."));
    let state = state.map(Path::to_owned).unwrap_or_else(|| state_of(&broken.text, folder));
    let copy = state.join(LAST_GOOD);
    let Ok(text) = read(&copy) else {
        return Err(broken);
    };
    // Relative paths in the copy still mean the site file's folder.
    match from_text(path, text) {
        Ok((config, report)) => {
            Ok(Loaded { config, text: report.text, file: copy, fell_back: Some(broken) })
        }
        Err(_) => Err(broken),
    }
}

/// Whose updates a site file takes, as far as the file can be read: what it says beside that may be for a later
/// version.
#[must_use]
pub fn signed_by(path: &Path) -> Option<String> {
    let document = read(path).ok()?.parse::<toml_edit::Document<String>>().ok()?;
    Some(document.get("updates")?.get("signed_by")?.as_str()?.to_owned())
}

/// The state folder that a site file names, as far as the file can be read.
#[must_use]
pub fn state_folder(path: &Path) -> PathBuf {
    let text = read(path).unwrap_or_default();
    state_of(&text, path.parent().unwrap_or(Path::new(".")))
}

fn state_of(text: &str, folder: &Path) -> PathBuf {
    let named = text.parse::<toml_edit::Document<String>>().ok();
    let named = named.and_then(|doc| doc.get("paths")?.get("state")?.as_str().map(PathBuf::from));
    folder.join(named.unwrap_or_else(|| PathBuf::from(DEFAULT_STATE)))
}

/// Keeps the text of a configuration that works, for the day when the site file does not.
///
/// # Errors
/// When the state folder cannot be written.
pub fn keep_last_good(config: &Config, text: &str) -> io::Result<()> {
    let path = config.state.join(LAST_GOOD);
    if fs::read_to_string(&path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    let fresh = config.state.join("last-good.new");
    let mut file = File::create(&fresh)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&fresh, &path)?;
    File::open(&config.state)?.sync_all()
}
