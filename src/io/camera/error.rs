//! Why a camera gave no picture, whichever way it delivers.
//!
//! What a stranger gets wrong: a refusal is no trouble of the network. Asked again and again with a wrong password, a
//! camera locks the user out; so it is told apart. Of the address only what is no secret is said.

use std::time::Duration;

use super::door::DoorError;
use crate::config::shown;

/// Why a camera gave no picture.
#[derive(Debug, thiserror::Error)]
pub enum CameraError {
    /// The address, the connection or what was answered.
    #[error("{url}: {cause}")]
    Broken {
        /// Where.
        url: String,
        /// Why.
        cause: String,
    },
    /// User or password are missing or wrong.
    #[error("{url}: {cause}")]
    Refused {
        /// Where.
        url: String,
        /// In whose words.
        cause: String,
    },
    /// Nothing new came.
    #[error("{url}: no new picture within {waited:?}")]
    Still {
        /// Where.
        url: String,
        /// How long it was waited for.
        waited: Duration,
    },
}

impl CameraError {
    pub(super) fn broken(url: &str, cause: impl ToString) -> CameraError {
        CameraError::Broken { url: shown(url), cause: cause.to_string() }
    }

    pub(super) fn refused(url: &str, cause: impl ToString) -> CameraError {
        CameraError::Refused { url: shown(url), cause: cause.to_string() }
    }

    pub(super) fn still(url: &str, waited: Duration) -> CameraError {
        CameraError::Still { url: shown(url), waited }
    }

    /// What its door said.
    pub(super) fn at_door(url: &str, error: &DoorError) -> CameraError {
        match error {
            DoorError::Refused(_) => CameraError::refused(url, error),
            _ => CameraError::broken(url, error),
        }
    }

    /// Whether user or password are missing or wrong: then it is not to be asked again at once.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        matches!(self, CameraError::Refused { .. })
    }
}
