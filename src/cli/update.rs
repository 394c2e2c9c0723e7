//! `wattgate update`: another version of the program, put on trial; and which one runs.

use std::path::{Path, PathBuf};

use super::arguments::Updates;
use super::{CONFIGURATION, FAILED, NOT_PERMITTED, alarm, complain, outcome, say};
use crate::app::releases::{self, Book, Failing, Version};
use crate::app::update::{self, Update, UpdateError};
use crate::config;
use crate::texts::{Lang, fill, text};

/// Installs or shows; the exit code.
pub fn run(action: Updates, lang: Lang) -> u8 {
    match action {
        Updates::Install { program, config, state } => install(&program, &config, state, lang),
        Updates::Undo { place } => {
            alarm::state(&place, lang).map_or_else(|code| code, |state| undo(&state, lang))
        }
        Updates::Show { place } => {
            alarm::state(&place, lang).map_or_else(|code| code, |state| show(&state, lang))
        }
    }
}

fn undo(state: &Path, lang: Lang) -> u8 {
    match update::undo(state) {
        Ok(Some(version)) => {
            say(&fill(lang, "cli.update.undo", &[("version", version.to_string())]))
        }
        Ok(None) => {
            complain(text(lang, "cli.update.nothing"));
            FAILED
        }
        Err(error) => outcome(Err(format!("{}: {error}", releases::folder(state).display()))),
    }
}

fn install(file: &Path, site: &Path, state: Option<PathBuf>, lang: Lang) -> u8 {
    if !site.exists() {
        complain(&fill(lang, "cli.no_site_file", &[("file", site.display().to_string())]));
        return CONFIGURATION;
    }
    // The new version must understand the site file; this one need not.
    let state = state.unwrap_or_else(|| config::state_folder(site));
    let key = config::signed_by(site);
    let key = key.as_deref();
    match update::install(&Update { file, key, site, state: &state }) {
        Ok(version) => {
            let before = Book::open(&state).unwrap_or_default().floor();
            let values = [("version", version.to_string()), ("before", before.to_string())];
            say(&fill(lang, "cli.update.on_trial", &values))
        }
        Err(error) => {
            let refused = !matches!(error, UpdateError::File { .. });
            let why = why(&error, file, lang);
            complain(&fill(lang, "cli.update.refused", &[("why", why)]));
            if refused { NOT_PERMITTED } else { FAILED }
        }
    }
}

fn why(error: &UpdateError, file: &Path, lang: Lang) -> String {
    let machine = update::machine();
    match error {
        UpdateError::NoKey => text(lang, "cli.update.no_key").to_owned(),
        UpdateError::File { .. } => fill(lang, "cli.update.file", &[("cause", error.to_string())]),
        UpdateError::Signature(cause) => {
            let values = [("cause", cause.clone()), ("file", file.display().to_string())];
            fill(lang, "cli.update.signature", &values)
        }
        UpdateError::Comment(comment) => {
            let values = [("comment", comment.clone()), ("machine", machine)];
            fill(lang, "cli.update.comment", &values)
        }
        UpdateError::Machine(found) => {
            fill(lang, "cli.update.machine", &[("found", found.clone()), ("machine", machine)])
        }
        UpdateError::Older { version, floor } => {
            let values = [("version", version.to_string()), ("floor", floor.to_string())];
            fill(lang, "cli.update.older", &values)
        }
        UpdateError::Owner(state) => {
            fill(lang, "cli.update.owner", &[("state", state.display().to_string())])
        }
        UpdateError::OnTrial(version) => {
            fill(lang, "cli.update.already", &[("version", version.to_string())])
        }
        UpdateError::Deaf(cause) => fill(lang, "cli.update.deaf", &[("cause", cause.clone())]),
        UpdateError::Tried(cause) => fill(lang, "cli.update.tried", &[("cause", cause.clone())]),
    }
}

fn show(state: &Path, lang: Lang) -> u8 {
    let book = match Book::open(state) {
        Ok(book) => book,
        Err(error) => {
            return outcome(Err(format!("{}: {error}", releases::folder(state).display())));
        }
    };
    let version = |version: Version| ("version", version.to_string());
    let mut lines = vec![fill(lang, "cli.update.installed", &[version(Version::own())])];
    if let Some(kept) = &book.kept {
        lines.push(fill(lang, "cli.update.kept", &[version(*kept)]));
    }
    if let Some(before) = &book.before {
        lines.push(fill(lang, "cli.update.before", &[version(*before)]));
    }
    if let Some(trial) = &book.trial {
        let values = [version(trial.version), ("starts", trial.starts.to_string())];
        lines.push(fill(lang, "cli.update.trial", &values));
    }
    if let Some((undone, failing)) = &book.undone {
        let why = match failing {
            Failing::Ended => "cli.update.ended",
            Failing::Unproven => "cli.update.unproven",
            Failing::Damaged => "cli.update.damaged",
            Failing::Asked => "cli.update.asked",
            Failing::Other => "cli.update.other",
        };
        let values = [version(*undone), ("why", text(lang, why).to_owned())];
        lines.push(fill(lang, "cli.update.undone", &values));
    }
    say(&lines.join("\n"))
}
