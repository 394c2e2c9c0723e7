//! Workloads: what computing may be asked for by name, with which parameters, where it runs and how
//! much energy it may take; and the words of whoever asks (`Order`).
//!
//! What a stranger gets wrong: nobody outside the site file ever says what is executed. A submission
//! names a workload and chooses among the values that the file allows; anything else is refused.

use std::collections::BTreeMap;

use chrono::{DateTime, Duration, Utc};
use serde::{Deserialize, Serialize};

use super::Id;
use crate::units::{WattHours, Watts};

/// Longest value of a parameter, bytes.
const MOST_VALUE: usize = 64;
/// Longest time between submission and deadline, hours.
pub const MOST_HOURS: f64 = 7.0 * 24.0;

/// What a parameter may be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Allowed {
    /// One of these words.
    Words(Vec<String>),
    /// A number within bounds, both ends included.
    Number {
        /// Smallest.
        min: f64,
        /// Largest.
        max: f64,
    },
}

/// A kind of computing that may be asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Workload {
    /// Its name.
    pub id: Id,
    /// What people call it.
    pub name: String,
    /// The compute node that it runs on; nothing: the gateway itself.
    pub node: Option<Id>,
    /// What one run takes, until runs were measured.
    pub energy: WattHours,
    /// Least power while it runs.
    pub min: Watts,
    /// Most power.
    pub max: Watts,
    /// Deadline after submission, hours, where nobody says one.
    pub within_h: f64,
    /// Who comes first when there is not enough: higher first.
    pub priority: u8,
    /// Whether it may be interrupted once it has begun.
    pub preemptible: bool,
    /// How often it is tried again after a failure.
    pub retries: u8,
    /// Parameters that must be given, with what they may be.
    pub parameters: BTreeMap<String, Allowed>,
}

/// All computing of the site.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Work {
    /// What may be asked for.
    pub workloads: Vec<Workload>,
    /// Most energy of all jobs together in one hour of UTC.
    pub per_hour: Option<WattHours>,
    /// Most energy of all jobs together in one day of UTC.
    pub per_day: Option<WattHours>,
}

/// What is asked about jobs. The id of a new job is chosen where it is asked, so that the answer can
/// name it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Do this.
    Submit(Submission),
    /// Wait until I say so.
    Pause(Id),
    /// Go on.
    Resume(Id),
    /// Not any more.
    Cancel(Id),
}

impl Order {
    /// The job that it is about.
    #[must_use]
    pub fn job(&self) -> &Id {
        match self {
            Order::Submit(ask) => &ask.job,
            Order::Pause(id) | Order::Resume(id) | Order::Cancel(id) => id,
        }
    }
}

/// A new job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Submission {
    /// Its id.
    pub job: Id,
    /// Of which workload.
    pub workload: Id,
    /// Values of all its parameters.
    pub parameters: BTreeMap<String, String>,
    /// When it must be done.
    pub deadline: DateTime<Utc>,
    /// Who comes first; the workload's unless said.
    pub priority: u8,
}

/// A submission as people and machines write it, in JSON.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubmissionWords {
    /// Values of the parameters; numbers or texts.
    #[serde(default)]
    pub parameters: BTreeMap<String, serde_json::Value>,
    /// Hours until it must be done.
    #[serde(default)]
    pub within_h: Option<f64>,
    /// 0 to 9.
    #[serde(default)]
    pub priority: Option<u8>,
}

/// What somebody asks about jobs, before it is understood.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobWish {
    /// A new job of a workload.
    Submit {
        /// Its name.
        workload: String,
        /// The rest.
        words: SubmissionWords,
    },
    /// A job waits.
    Pause(String),
    /// A job goes on.
    Resume(String),
    /// A job is not wanted any more.
    Cancel(String),
}

/// Why a submission is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NotAllowed {
    /// The site file has no such workload.
    #[error("there is no workload `{0}`")]
    NoSuchWorkload(String),
    /// A parameter that the workload does not have.
    #[error("`{0}` is no parameter of this workload")]
    UnknownParameter(String),
    /// A parameter is missing.
    #[error("the parameter `{0}` is missing")]
    MissingParameter(String),
    /// A value that is not among those allowed.
    #[error("the value of `{0}` is not among those that the site file allows")]
    BadValue(String),
    /// The deadline is not between now and a week.
    #[error("`within_h` is above 0 and at most 168")]
    BadDeadline,
    /// The priority is too high.
    #[error("`priority` is 0 to 9")]
    BadPriority,
    /// There is no such job, or it has ended.
    #[error("there is no such job, or it has ended")]
    NoSuchJob,
    /// As many jobs wait as there may.
    #[error("too many jobs wait: try again when one has ended")]
    TooMany,
}

impl Allowed {
    /// The value as it is handed on, if it is allowed.
    fn taken(&self, value: &serde_json::Value) -> Option<String> {
        let text = match value {
            serde_json::Value::String(text) => text.clone(),
            serde_json::Value::Number(number) => number.to_string(),
            _ => return None,
        };
        if text.len() > MOST_VALUE {
            return None;
        }
        match self {
            Allowed::Words(words) => words.contains(&text).then_some(text),
            Allowed::Number { min, max } => {
                // Only digits, sign, point and exponent: no blanks, no "inf".
                let plain = |b: u8| b.is_ascii_digit() || matches!(b, b'-' | b'.' | b'e');
                let number: f64 = text.parse().ok().filter(|_| text.bytes().all(plain))?;
                // "-0" is no number below 0: the program would take it for an option.
                let dash = text.starts_with('-') && number >= 0.0;
                (number >= *min && number <= *max && !dash).then_some(text)
            }
        }
    }
}

impl Work {
    /// The workload of a name.
    #[must_use]
    pub fn workload(&self, id: &str) -> Option<&Workload> {
        self.workloads.iter().find(|workload| workload.id.as_str() == id)
    }

    /// The submission that the words mean.
    ///
    /// # Errors
    /// When the workload is not declared, or a parameter, deadline or priority is not allowed.
    pub fn understand(
        &self,
        job: Id,
        workload: &str,
        words: &SubmissionWords,
        now: DateTime<Utc>,
    ) -> Result<Submission, NotAllowed> {
        let declared = self
            .workload(workload)
            .ok_or_else(|| NotAllowed::NoSuchWorkload(workload.chars().take(32).collect()))?;
        let known = &declared.parameters;
        if let Some(stranger) = words.parameters.keys().find(|name| !known.contains_key(*name)) {
            return Err(NotAllowed::UnknownParameter(stranger.chars().take(32).collect()));
        }
        let mut parameters = BTreeMap::new();
        for (name, allowed) in known {
            let value = words.parameters.get(name);
            let value = value.ok_or_else(|| NotAllowed::MissingParameter(name.clone()))?;
            let taken = allowed.taken(value).ok_or_else(|| NotAllowed::BadValue(name.clone()))?;
            parameters.insert(name.clone(), taken);
        }
        let hours = words.within_h.unwrap_or(declared.within_h);
        if !(hours > 0.0 && hours <= MOST_HOURS) {
            return Err(NotAllowed::BadDeadline);
        }
        let priority = words.priority.unwrap_or(declared.priority);
        if priority > 9 {
            return Err(NotAllowed::BadPriority);
        }
        let deadline = now + Duration::milliseconds((hours * 3_600_000.0) as i64);
        let workload = declared.id.clone();
        Ok(Submission { job, workload, parameters, deadline, priority })
    }

    /// The order that a wish means: `fresh` is the id of a new job, `live` the ids of jobs that are not over.
    ///
    /// # Errors
    /// When it is not allowed, or there is no such job.
    pub fn order(
        &self,
        wish: JobWish,
        (fresh, most): (Id, usize),
        live: &[Id],
        now: DateTime<Utc>,
    ) -> Result<Order, NotAllowed> {
        let known = |id: &String| {
            let found = live.iter().find(|live| live.as_str() == id);
            found.cloned().ok_or(NotAllowed::NoSuchJob)
        };
        match wish {
            JobWish::Submit { .. } if live.len() >= most => Err(NotAllowed::TooMany),
            JobWish::Submit { workload, words } => {
                Ok(Order::Submit(self.understand(fresh, &workload, &words, now)?))
            }
            JobWish::Pause(id) => Ok(Order::Pause(known(&id)?)),
            JobWish::Resume(id) => Ok(Order::Resume(known(&id)?)),
            JobWish::Cancel(id) => Ok(Order::Cancel(known(&id)?)),
        }
    }

    /// Whether a submission, however it came, is one that the site file allows.
    #[must_use]
    pub fn allows(&self, ask: &Submission) -> bool {
        let Some(workload) = self.workload(ask.workload.as_str()) else { return false };
        let same = workload.parameters.keys().eq(ask.parameters.keys());
        let fits = |(name, value): (&String, &String)| {
            let value = serde_json::Value::String(value.clone());
            workload.parameters.get(name).is_some_and(|allowed| allowed.taken(&value).is_some())
        };
        same && ask.priority <= 9 && ask.parameters.iter().all(fits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn work() -> Work {
        let parameters = [
            ("camera".to_owned(), Allowed::Words(vec!["north".into(), "south".into()])),
            ("days".to_owned(), Allowed::Number { min: 1.0, max: 30.0 }),
        ];
        let review = Workload {
            id: Id::try_from("review").unwrap(),
            name: "review".into(),
            node: None,
            energy: WattHours(2.0),
            min: Watts(2.0),
            max: Watts(8.0),
            within_h: 12.0,
            priority: 3,
            preemptible: true,
            retries: 0,
            parameters: parameters.into(),
        };
        Work { workloads: vec![review], ..Work::default() }
    }

    fn ask(workload: &str, words: serde_json::Value) -> Result<Submission, NotAllowed> {
        let words: SubmissionWords = serde_json::from_value(words).unwrap();
        let now = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        work().understand(Id::try_from("j1").unwrap(), workload, &words, now)
    }

    #[test]
    fn only_what_the_site_file_allows_is_understood() {
        let good = ask("review", json!({"parameters": {"camera": "north", "days": 7}})).unwrap();
        assert_eq!((good.parameters["days"].as_str(), good.priority), ("7", 3));
        assert!(work().allows(&good));
        let refused = [
            ("rm -rf /", json!({}), "there is no workload `rm -rf /`"),
            ("review", json!({"parameters": {"camera": "north"}}), "the parameter `days`"),
            ("review", json!({"parameters": {"camera": "n", "days": 7}}), "the value of `camera`"),
            (
                "review",
                json!({"parameters": {"camera": "north; reboot", "days": 7}}),
                "the value of `camera`",
            ),
            ("review", json!({"parameters": {"camera": ["north"], "days": 7}}), "the value of"),
            ("review", json!({"parameters": {"camera": "north", "days": 31}}), "the value of `d"),
            ("review", json!({"parameters": {"camera": "north", "days": "inf"}}), "the value of"),
            ("review", json!({"parameters": {"camera": "north", "days": " 7"}}), "the value of"),
            ("review", json!({"parameters": {"days": 7, "camera": "north", "sh": "x"}}), "`sh` is"),
            (
                "review",
                json!({"parameters": {"camera": "north", "days": 7}, "within_h": -1.0}),
                "`within_h`",
            ),
            (
                "review",
                json!({"parameters": {"camera": "north", "days": 7}, "priority": 10}),
                "`priority`",
            ),
        ];
        for (workload, words, why) in refused {
            let said = ask(workload, words.clone()).unwrap_err().to_string();
            assert!(said.starts_with(why), "{words}: {said}");
        }
        let zero = Allowed::Number { min: -1.0, max: 1.0 };
        for (text, taken) in [
            ("-0", false),
            ("-0.0", false),
            ("-0e9", false),
            ("-.0", false),
            ("-0.5", true),
            ("0", true),
        ] {
            assert_eq!(zero.taken(&json!(text)).is_some(), taken, "{text}");
        }
        let smuggled = Submission {
            parameters: [("camera".into(), "../../x".into()), ("days".into(), "1".into())].into(),
            ..good
        };
        assert!(!work().allows(&smuggled));
        let words: Result<SubmissionWords, _> = serde_json::from_value(json!({"command": "sh"}));
        assert!(words.is_err(), "no key but those that are known");
    }
}
