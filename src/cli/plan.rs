//! `wattgate plan`: one line with the result on standard output, then what could not be planned and why.

use std::path::Path;

use super::{CONFIGURATION, FAILED, complain, say};
use crate::app::plan::{self, PlanError};
use crate::texts::{Lang, fill, text};

/// Plans and prints; the exit code.
pub fn run(from: &Path, out: &Path, lang: Lang) -> u8 {
    match plan::run(from, out) {
        Ok(done) => say(&plan::remarks(&done, lang).join("\n")),
        Err(error) => {
            complain(&words(&error, lang));
            if matches!(error, PlanError::Write { .. }) { FAILED } else { CONFIGURATION }
        }
    }
}

fn words(error: &PlanError, lang: Lang) -> String {
    let (path, cause) = match error {
        PlanError::Form { path, wrong } => {
            let values = [
                ("file", path.display().to_string()),
                ("place", wrong.place.clone()),
                ("wanted", text(lang, wrong.wanted).to_owned()),
            ];
            return fill(lang, "cli.plan.form", &values);
        }
        PlanError::Syntax { path, cause } => (path, cause.to_string()),
        PlanError::Read { path, cause } | PlanError::Write { path, cause } => {
            (path, cause.to_string())
        }
    };
    let values = [("file", path.display().to_string()), ("cause", cause)];
    fill(lang, "cli.plan.read", &values)
}
