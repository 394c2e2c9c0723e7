//! What is wrong with a file, all of it at once: where, what, and what to type instead.
//!
//! What a stranger gets wrong: codes are stable and never reused; the words around them come from the
//! text tables in the reader's language.

use std::path::PathBuf;

use crate::texts::{Lang, fill, table, text};

/// Whether a file can be used all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// It cannot.
    Error,
    /// It can, but somebody should look.
    Warning,
}

/// One fault.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// How bad.
    pub severity: Severity,
    /// Stable code, `WG0001`; also the key of its text.
    pub code: &'static str,
    /// Byte offset into the file; nothing where the whole file is meant.
    pub at: Option<usize>,
    /// Values for the places of the text.
    pub values: Vec<(&'static str, String)>,
    /// The nearest name that would have been right.
    pub nearest: Option<String>,
}

/// All faults of one file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// The file.
    pub file: PathBuf,
    /// Its text, for the line and the caret.
    pub text: String,
    /// The faults, in the order of the file.
    pub faults: Vec<Fault>,
    /// Reports of other files that this one leans on (profiles beside it).
    pub parts: Vec<Report>,
}

impl Report {
    /// Whether any fault forbids using the file.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.faults.iter().any(|fault| fault.severity == Severity::Error)
            || self.parts.iter().any(Report::has_errors)
    }

    /// Line and column (both from 1) of a fault.
    #[must_use]
    pub fn place(&self, fault: &Fault) -> Option<(usize, usize)> {
        let mut at = fault.at?.min(self.text.len());
        while !self.text.is_char_boundary(at) {
            at -= 1;
        }
        let before = self.text.get(..at)?;
        let line = before.matches('\n').count() + 1;
        let start = before.rfind('\n').map_or(0, |end| end + 1);
        Some((line, before.get(start..)?.chars().count() + 1))
    }

    /// For people: `file:line:column: error[WG0003]: ...`, the line with a caret, and the hint.
    #[must_use]
    pub fn render(&self, lang: Lang) -> String {
        let mut out: String = self.parts.iter().map(|part| part.render(lang)).collect();
        for fault in &self.faults {
            let severity = match fault.severity {
                Severity::Error => text(lang, "config.error"),
                Severity::Warning => text(lang, "config.warning"),
            };
            let message = fill(lang, fault.code, &spoken(lang, &fault.values));
            let file = self.file.display();
            let code = fault.code;
            match self.place(fault) {
                Some((line, column)) => {
                    out += &format!("{file}:{line}:{column}: {severity}[{code}]: {message}\n");
                    let source = self.text.lines().nth(line - 1).unwrap_or("");
                    let lead: String = source
                        .chars()
                        .take(column - 1)
                        .map(|c| if c == '\t' { '\t' } else { ' ' })
                        .collect();
                    out += &format!("  {source}\n  {lead}^\n");
                }
                None => out += &format!("{file}: {severity}[{code}]: {message}\n"),
            }
            if let Some(nearest) = &fault.nearest {
                let values = [("name", nearest.clone())];
                out += &format!("  {}\n", fill(lang, "config.did_you_mean", &values));
            }
        }
        out
    }
}

/// The values, with the names of kinds (`wanted`, `what`) in the reader's language.
fn spoken(lang: Lang, values: &[(&'static str, String)]) -> Vec<(&'static str, String)> {
    let say = |(key, value): &(&'static str, String)| {
        let kind = matches!(*key, "wanted" | "what").then(|| format!("config.kind.{value}"));
        let word = kind.and_then(|kind| table(lang).get(&kind));
        (*key, word.unwrap_or(value).clone())
    };
    values.iter().map(say).collect()
}
