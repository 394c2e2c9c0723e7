//! `wattgate plan`: one line with the result on standard output, then what could not be planned and why;
//! `plan show` prints the schedule, `plan explain` who is short and what is in the way.

use std::path::PathBuf;

use super::arguments::PlanView;
use super::{CONFIGURATION, FAILED, complain, say};
use crate::app::plan::{self, PlanError, Planned};
use crate::texts::{Lang, fill, text};

/// Plans and prints; the exit code.
pub fn run(files: (Option<PathBuf>, Option<PathBuf>), view: Option<PlanView>, lang: Lang) -> u8 {
    let (done, lines): (_, fn(&Planned, Lang) -> Vec<String>) = match (view, files) {
        (Some(PlanView::Show { scenario }), _) => (plan::plan(&scenario), plan::picture),
        (Some(PlanView::Explain { scenario }), _) => (plan::plan(&scenario), plan::explain),
        (None, (Some(scenario), Some(out))) => (plan::run(&scenario, &out), plan::remarks),
        // The command line asks for both.
        (None, _) => return CONFIGURATION,
    };
    match done {
        Ok(done) => say(&lines(&done, lang).join("\n")),
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
