//! A camera that gives a JPEG for every HTTP request.

use std::time::Duration;

/// Longest time for a whole request; a look is due every second or two.
const ANSWER: Duration = Duration::from_secs(3);
const CONNECT: Duration = Duration::from_secs(2);
/// A larger body is no snapshot.
const MOST_BYTES: u64 = 8 << 20;

/// Why a camera gave no picture.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// No connection, an error status, or an answer that took too long.
    #[error("{url}: {cause}")]
    NoAnswer {
        /// Where.
        url: String,
        /// Why.
        cause: String,
    },
}

/// A snapshot source; keeps its connection.
pub struct Snapshot {
    url: String,
    agent: ureq::Agent,
}

impl Snapshot {
    /// A source at an `http://` address.
    #[must_use]
    pub fn new(url: &str) -> Snapshot {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(ANSWER))
            .timeout_connect(Some(CONNECT))
            .max_redirects(0)
            .build();
        Snapshot { url: url.to_owned(), agent: config.new_agent() }
    }

    /// Asks for one picture.
    ///
    /// # Errors
    /// When there is no complete answer in time.
    pub fn fetch(&self) -> Result<Vec<u8>, SnapshotError> {
        let failed = |error: ureq::Error| SnapshotError::NoAnswer {
            url: self.url.clone(),
            cause: error.to_string(),
        };
        let mut answer = self.agent.get(&self.url).call().map_err(failed)?;
        answer.body_mut().with_config().limit(MOST_BYTES).read_to_vec().map_err(failed)
    }
}
