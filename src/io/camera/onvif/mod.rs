//! ONVIF: what a camera says of itself, asked by an installer before it goes into a site file. Only reading calls
//! are known here, so nothing of a camera can be changed.
//!
//! What a stranger gets wrong: little of what a camera answers can be taken as it stands. Its clock is off, and it
//! refuses a login that was made by another clock; the addresses that it returns name a host that it had before the
//! address translation, or 0.0.0.0, or its own user and password; its XML has the prefixes and the size that it likes.

mod address;
mod answers;
mod discovery;
mod soap;
mod talk;

pub use address::is_device;
pub use answers::{Identity, Profile};
pub use discovery::{Found, MULTICAST, Wanted, discover};
pub use talk::{Interview, Onvif, Remark};

use crate::texts::{Lang, fill};

/// Why a camera cannot be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OnvifError {
    /// The address is not one of a camera.
    Address(String),
    /// No connection, or no answer in time.
    NoAnswer {
        /// Where.
        url: String,
        /// Why.
        cause: String,
    },
    /// Who answers there is no ONVIF camera, or one that answers nonsense.
    Strange {
        /// Where.
        url: String,
        /// What.
        cause: String,
    },
    /// Longer than any honest answer.
    TooLarge(String),
    /// User or password are missing (`false`), or wrong.
    Refused {
        /// Where.
        url: String,
        /// Whether it was given any.
        told: bool,
    },
    /// The camera says that it cannot.
    Fault {
        /// Where.
        url: String,
        /// What was asked.
        call: &'static str,
        /// Its words.
        said: String,
    },
    /// An answer without what was asked for.
    Lacks {
        /// Where.
        url: String,
        /// What was asked.
        call: &'static str,
    },
}

impl OnvifError {
    /// In the words of a language: what is wrong, and what to do.
    #[must_use]
    pub fn say(&self, lang: Lang) -> String {
        let (key, values) = match self {
            OnvifError::Address(address) => ("onvif.address", vec![("address", address.clone())]),
            OnvifError::NoAnswer { url, cause } => {
                ("onvif.no_answer", vec![("url", url.clone()), ("cause", cause.clone())])
            }
            OnvifError::Strange { url, cause } => {
                ("onvif.strange", vec![("url", url.clone()), ("cause", cause.clone())])
            }
            OnvifError::TooLarge(url) => ("onvif.too_large", vec![("url", url.clone())]),
            OnvifError::Refused { url, told } => {
                let key = if *told { "onvif.refused" } else { "onvif.asks_who" };
                (key, vec![("url", url.clone())])
            }
            OnvifError::Fault { url, call, said } => (
                "onvif.fault",
                vec![("url", url.clone()), ("call", (*call).to_owned()), ("said", said.clone())],
            ),
            OnvifError::Lacks { url, call } => {
                ("onvif.lacks", vec![("url", url.clone()), ("call", (*call).to_owned())])
            }
        };
        fill(lang, key, &values)
    }
}

impl std::fmt::Display for OnvifError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.say(Lang::En))
    }
}

impl std::error::Error for OnvifError {}
