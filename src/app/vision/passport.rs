//! Whether a camera is still the one that the site file means: addresses move, and the picture of another bay stops
//! the wrong one (fault CAM6). One thread for each camera that has a `serial` asks over ONVIF who it is.
//!
//! What a stranger gets wrong: who does not answer is no stranger. A camera that gives pictures but does not say who
//! it is goes on being looked at, unless it was a stranger the last time.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::fetch::read;
use crate::config::{CameraPassport, CameraSource};
use crate::io::camera::Login;
use crate::io::camera::onvif::{Onvif, OnvifError};
use crate::io::clock::Clock;

/// How often it is asked.
const EVERY: Duration = Duration::from_secs(60);
/// After a refusal: cameras lock a user out.
const RESTS: Duration = Duration::from_secs(15 * 60);

/// What is known of a camera.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// It is being asked: until then nothing of it is looked at.
    Asked,
    /// It is the one that is meant, or does not say.
    Taken,
    /// It is another one.
    Stranger,
}

/// What is known, shared with the thread that asks.
#[derive(Clone)]
pub(super) struct Passport(Arc<(Mutex<Desk>, Condvar)>);

struct Desk {
    known: Known,
    /// How often somebody wanted it to be asked at once.
    wanted: u64,
}

impl Passport {
    /// Begins to ask; nothing where the site file does not say who the camera is.
    ///
    /// # Errors
    /// When there is no thread for it.
    pub fn of(source: &CameraSource, clock: Clock) -> std::io::Result<Option<Passport>> {
        let Some(wanted) = source.passport.clone() else { return Ok(None) };
        let desk = Desk { known: Known::Asked, wanted: 0 };
        let passport = Passport(Arc::new((Mutex::new(desk), Condvar::new())));
        let (theirs, source) = (passport.clone(), source.clone());
        let thread = std::thread::Builder::new().name(format!("who is {}", source.id));
        thread.spawn(move || theirs.keep_asking(&source, &wanted, clock))?;
        Ok(Some(passport))
    }

    /// What is known of it.
    pub fn known(&self) -> Known {
        self.desk().known
    }

    /// It was gone for a while: whoever answers now is asked first.
    pub fn ask_again(&self) {
        let mut desk = self.desk();
        desk.wanted += 1;
        if desk.known != Known::Stranger {
            desk.known = Known::Asked;
        }
        self.0.1.notify_all();
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep_asking(&self, source: &CameraSource, wanted: &CameraPassport, clock: Clock) {
        let mut asking = Asking { before: Known::Taken, trouble: None, refused: None };
        loop {
            let asked = self.desk().wanted;
            let found = asking.ask(source, wanted, clock);
            let mut desk = self.desk();
            if desk.wanted != asked {
                // Whoever has answered may be gone meanwhile.
                continue;
            }
            desk.known = found;
            let calm = |desk: &mut Desk| desk.wanted == asked;
            let waited = self.0.1.wait_timeout_while(desk, EVERY, calm);
            drop(waited.unwrap_or_else(PoisonError::into_inner));
        }
    }
}

/// A camera that is asked again and again.
struct Asking {
    /// What it was the last time.
    before: Known,
    /// Why it is not known to be the one that is meant.
    trouble: Option<String>,
    /// When it has refused us, and as whom.
    refused: Option<(Duration, Option<Login>)>,
}

impl Asking {
    fn ask(&mut self, source: &CameraSource, wanted: &CameraPassport, clock: Clock) -> Known {
        let now = clock.wall_uptime();
        // Without its password it is asked as nobody.
        let login = source.login.as_ref().and_then(|login| read(login).ok());
        if let Some((refused, as_whom)) = &self.refused
            && now.saturating_sub(*refused) < RESTS
            && *as_whom == login
        {
            return self.before;
        }
        let told = Onvif::new(&wanted.place, login.clone(), clock).and_then(Onvif::who);
        self.refused = matches!(told, Err(OnvifError::Refused { .. })).then_some((now, login));
        let (found, why) = match told.map(|identity| identity.serial) {
            Ok(serial) if serial == wanted.serial => (Known::Taken, None),
            Ok(serial) if serial.is_empty() => {
                (self.before, Some("it tells no serial number".to_owned()))
            }
            Ok(serial) => {
                let why = format!("its serial number is {serial:?}, not {:?}", wanted.serial);
                (Known::Stranger, Some(why))
            }
            Err(error) => (self.before, Some(error.to_string())),
        };
        let camera = &source.id;
        match &why {
            Some(why) if self.trouble.as_ref() != Some(why) => {
                tracing::warn!(%camera, %why, "camera is not known to be the one that is meant");
            }
            None if self.trouble.is_some() => {
                tracing::info!(%camera, "camera is the one that is meant");
            }
            _ => {}
        }
        (self.before, self.trouble) = (found, why);
        found
    }
}
