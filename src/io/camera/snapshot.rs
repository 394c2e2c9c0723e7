//! A camera that gives a JPEG for every HTTP request.

use std::time::Duration;

use super::CameraError;
use super::door::{Door, Login};

/// Longest time for a whole request; a look is due every second or two.
const ANSWER: Duration = Duration::from_secs(3);
const CONNECT: Duration = Duration::from_secs(2);
/// A larger body is no snapshot.
const MOST_BYTES: u64 = 8 << 20;

/// A snapshot source; keeps its connection.
pub struct Snapshot {
    url: String,
    door: Door,
}

impl Snapshot {
    /// A source at an `http://` address; a camera that asks who we are is told by a digest.
    #[must_use]
    pub fn new(url: &str, login: Option<Login>) -> Snapshot {
        let times = ureq::Agent::config_builder()
            .timeout_global(Some(ANSWER))
            .timeout_connect(Some(CONNECT));
        Snapshot { url: url.to_owned(), door: Door::new(times, login) }
    }

    /// Asks for one picture.
    ///
    /// # Errors
    /// When there is no complete answer in time.
    pub fn fetch(&mut self) -> Result<Vec<u8>, CameraError> {
        let mut answer =
            self.door.get(&self.url).map_err(|error| CameraError::at_door(&self.url, &error))?;
        let body = answer.body_mut().with_config().limit(MOST_BYTES).read_to_vec();
        body.map_err(|error| CameraError::broken(&self.url, error))
    }
}
