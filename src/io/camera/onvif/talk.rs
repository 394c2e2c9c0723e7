//! The talk with one camera: its clock first, then who it is, then what it offers.
//!
//! ```text
//!   GetSystemDateAndTime (as nobody) ─▶ GetDeviceInformation ─▶ GetCapabilities, else GetServices
//!     ─▶ GetProfiles ─▶ for each of at most 16: GetStreamUri, GetSnapshotUri
//! ```
//! What a stranger gets wrong: these are all the calls there are, and each only reads.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use roxmltree::Node;
use url::Url;

use super::OnvifError;
use super::address::{self, Settled, Unusable};
use super::answers::{self, Identity, Profile};
use super::soap::{self, Trouble, escaped};
use crate::io::camera::Login;
use crate::io::camera::door::Door;
use crate::io::clock::Clock;
use crate::io::random;

/// Longest time for one answer: small cameras take a second or two where they have to think.
const ANSWER: Duration = Duration::from_secs(5);
const CONNECT: Duration = Duration::from_secs(3);
/// Longest time for the whole talk.
const TALK: Duration = Duration::from_secs(45);
/// A clock this far off is worth a remark: cameras allow a few seconds.
const OFF_S: i64 = 5;
const KIND: &str = "application/soap+xml; charset=utf-8";
const DEVICE: &str = "http://www.onvif.org/ver10/device/wsdl";
const MEDIA: &str = "http://www.onvif.org/ver10/media/wsdl";
const SCHEMA: &str = "http://www.onvif.org/ver10/schema";

/// Something an installer should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remark {
    /// The camera's clock is off by so many seconds; positive: ahead.
    ClockOff(i64),
    /// It does not tell its clock.
    NoClock,
    /// It named this host; the one that was asked is used.
    OtherHost {
        /// What it named.
        named: String,
        /// What is used.
        used: String,
    },
    /// It puts a password into an address of this profile.
    Secret(String),
    /// It gives no address that can be used, with its words or address.
    NoAddress {
        /// The profile.
        profile: String,
        /// What was asked.
        call: &'static str,
        /// Why not.
        said: String,
    },
    /// Profiles that were not asked for.
    More(usize),
}

/// What a camera has said.
#[derive(Clone, Debug, PartialEq)]
pub struct Interview {
    /// Where it was asked.
    pub device: String,
    /// Its host, as it was asked.
    pub host: String,
    /// Who it is.
    pub identity: Identity,
    /// What it offers.
    pub profiles: Vec<Profile>,
    /// What is to be known besides.
    pub remarks: Vec<Remark>,
}

/// A camera that is asked.
pub struct Onvif {
    door: Door,
    device: Url,
    login: Option<Login>,
    clock: Clock,
    /// How far its clock is ahead of ours.
    ahead: TimeDelta,
    remarks: Vec<Remark>,
    began: Duration,
}

impl Onvif {
    /// Nothing is asked yet. `place`: a host with or without port, or the address of a device service.
    ///
    /// # Errors
    /// When it is no such place.
    pub fn new(place: &str, login: Option<Login>, clock: Clock) -> Result<Onvif, OnvifError> {
        let wrong =
            || OnvifError::Address(soap::plain(place.rsplit('@').next().unwrap_or_default()));
        let device = address::device(place).ok_or_else(wrong)?;
        let times = ureq::Agent::config_builder()
            .timeout_global(Some(ANSWER))
            .timeout_connect(Some(CONNECT));
        let door = Door::new(times, login.clone());
        let (ahead, remarks, began) = (TimeDelta::zero(), Vec::new(), clock.wall_uptime());
        Ok(Onvif { door, device, login, clock, ahead, remarks, began })
    }

    /// Asks everything.
    ///
    /// # Errors
    /// When it does not answer, refuses, or has no profiles to tell of.
    pub fn interview(mut self) -> Result<Interview, OnvifError> {
        self.set_clock()?;
        let device = self.device.clone();
        let identity = self.device_call("GetDeviceInformation", "", answers::identity)?;
        let media = self.media()?;
        let (mut profiles, more) = self.media_call(&media, "GetProfiles", "", answers::profiles)?;
        if more > 0 {
            self.remarks.push(Remark::More(more));
        }
        for profile in &mut profiles {
            let token = escaped(&profile.token);
            let wanted = format!(
                "<m:StreamSetup><t:Stream xmlns:t=\"{SCHEMA}\">RTP-Unicast</t:Stream>\
                 <t:Transport xmlns:t=\"{SCHEMA}\"><t:Protocol>RTSP</t:Protocol></t:Transport></m:StreamSetup>\
                 <m:ProfileToken>{token}</m:ProfileToken>"
            );
            if !profile.codec.is_empty() {
                let stream =
                    self.offered(&media, "GetStreamUri", &wanted, (&profile.name, "rtsp"))?;
                profile.stream = stream;
            }
            let wanted = format!("<m:ProfileToken>{token}</m:ProfileToken>");
            let offered =
                self.offered(&media, "GetSnapshotUri", &wanted, (&profile.name, "http"))?;
            profile.snapshot = offered;
        }
        let host = device.host_str().unwrap_or_default().to_owned();
        Ok(Interview { device: device.into(), host, identity, profiles, remarks: self.remarks })
    }

    /// Learns how far the camera's clock is from ours. Who does not tell it is taken to have ours.
    fn set_clock(&mut self) -> Result<(), OnvifError> {
        let asked = self.clock.now().utc;
        let body = format!("<d:GetSystemDateAndTime xmlns:d=\"{DEVICE}\"/>");
        let device = self.device.clone();
        let told = self.ask(&device, ("GetSystemDateAndTime", &body), false, answers::clock);
        match told {
            Ok(theirs) => {
                self.ahead = theirs - midway(asked, self.clock.now().utc);
                let off = self.ahead.num_seconds();
                if off.abs() > OFF_S {
                    self.remarks.push(Remark::ClockOff(off));
                }
                Ok(())
            }
            Err(
                OnvifError::Refused { .. } | OnvifError::Fault { .. } | OnvifError::Lacks { .. },
            ) => {
                self.remarks.push(Remark::NoClock);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn media(&mut self) -> Result<Url, OnvifError> {
        let all = "<d:Category>All</d:Category>";
        let told = match self.device_call("GetCapabilities", all, answers::media_of_capabilities) {
            Err(OnvifError::Fault { .. } | OnvifError::Lacks { .. }) => {
                let without = "<d:IncludeCapability>false</d:IncludeCapability>";
                self.device_call("GetServices", without, answers::media_of_services)?
            }
            told => told?,
        };
        let media = address::service(&told, &self.device);
        if let Ok(Settled { named: Some(named), .. }) =
            address::settled(&told, &["http", "https"], &self.device)
        {
            self.remark_host(named);
        }
        Ok(media)
    }

    /// An address of a profile; nothing, with a remark, where the camera has none that can be used.
    fn offered(
        &mut self,
        media: &Url,
        call: &'static str,
        wanted: &str,
        (profile, scheme): (&str, &str),
    ) -> Result<Option<String>, OnvifError> {
        let none = |said| Remark::NoAddress { profile: profile.to_owned(), call, said };
        let returned = match self.media_call(media, call, wanted, answers::uri) {
            Ok(returned) => returned,
            Err(OnvifError::Fault { said, .. }) => {
                self.remarks.push(none(said));
                return Ok(None);
            }
            Err(OnvifError::Lacks { .. } | OnvifError::Strange { .. }) => {
                self.remarks.push(none("-".to_owned()));
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        match address::settled(&returned, &[scheme], &self.device) {
            Ok(Settled { url, named }) => {
                if let Some(named) = named {
                    self.remark_host(named);
                }
                Ok(Some(url))
            }
            Err(Unusable::Secret) => {
                self.remarks.push(Remark::Secret(profile.to_owned()));
                Ok(None)
            }
            Err(Unusable::Strange) => {
                self.remarks.push(none(soap::plain(&returned)));
                Ok(None)
            }
        }
    }

    fn remark_host(&mut self, named: String) {
        let used = self.device.host_str().unwrap_or_default().to_owned();
        let remark = Remark::OtherHost { named: soap::plain(&named), used };
        if !self.remarks.contains(&remark) {
            self.remarks.push(remark);
        }
    }

    fn device_call<T>(
        &mut self,
        call: &'static str,
        inside: &str,
        read: fn(Node<'_, '_>) -> Option<T>,
    ) -> Result<T, OnvifError> {
        let body = format!("<d:{call} xmlns:d=\"{DEVICE}\">{inside}</d:{call}>");
        let device = self.device.clone();
        self.ask(&device, (call, &body), true, read)
    }

    fn media_call<T>(
        &mut self,
        media: &Url,
        call: &'static str,
        inside: &str,
        read: fn(Node<'_, '_>) -> Option<T>,
    ) -> Result<T, OnvifError> {
        let body = format!("<m:{call} xmlns:m=\"{MEDIA}\">{inside}</m:{call}>");
        self.ask(media, (call, &body), true, read)
    }

    fn ask<T>(
        &mut self,
        url: &Url,
        (call, body): (&'static str, &str),
        known: bool,
        read: fn(Node<'_, '_>) -> Option<T>,
    ) -> Result<T, OnvifError> {
        let url = url.as_str().to_owned();
        if self.clock.wall_uptime().saturating_sub(self.began) > TALK {
            let cause = format!("the whole talk takes longer than {} s", TALK.as_secs());
            return Err(OnvifError::NoAnswer { url, cause });
        }
        let head = match self.login.as_ref().filter(|_| known) {
            Some(login) => {
                let mut once = [0; 16];
                random::fill(&mut once).map_err(|error| OnvifError::NoAnswer {
                    url: url.clone(),
                    cause: error.to_string(),
                })?;
                soap::token(login, self.clock.now().utc + self.ahead, &once)
            }
            None => String::new(),
        };
        let envelope = soap::envelope(&head, body);
        let (status, bytes) = self.post(&url, envelope.as_bytes())?;
        let told = self.login.is_some();
        let refused = || OnvifError::Refused { url: url.clone(), told };
        match soap::within(&bytes, read) {
            Ok(found) => Ok(found),
            Err(Trouble::Fault { refused: true, .. }) => Err(refused()),
            Err(_) if matches!(status, 401 | 403) => Err(refused()),
            Err(Trouble::Fault { said, .. }) => Err(OnvifError::Fault { url, call, said }),
            Err(Trouble::Lacks) => Err(OnvifError::Lacks { url, call }),
            Err(Trouble::Strange(cause)) if status == 200 => {
                Err(OnvifError::Strange { url, cause })
            }
            Err(Trouble::Strange(_)) => {
                Err(OnvifError::Strange { url, cause: format!("http status: {status}") })
            }
        }
    }

    /// The status and the body, within their limits.
    fn post(&mut self, url: &str, envelope: &[u8]) -> Result<(u16, Vec<u8>), OnvifError> {
        let failed = |error: ureq::Error| match error {
            ureq::Error::BodyExceedsLimit(_) => OnvifError::TooLarge(url.to_owned()),
            error => OnvifError::NoAnswer { url: url.to_owned(), cause: error.to_string() },
        };
        let mut answer = self.door.ask(url, Some((KIND, envelope))).map_err(failed)?;
        let status = answer.status().as_u16();
        let body = answer.body_mut().with_config().limit(soap::MOST_BYTES).read_to_vec();
        Ok((status, body.map_err(failed)?))
    }
}

fn midway(from: DateTime<Utc>, to: DateTime<Utc>) -> DateTime<Utc> {
    from + (to - from) / 2
}
