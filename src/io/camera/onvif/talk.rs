//! The talk with one camera: its clock first, then who it is, then what it offers.
//!
//! ```text
//!   GetSystemDateAndTime (as nobody) ─▶ GetDeviceInformation ─▶ GetCapabilities, else GetServices
//!     ─▶ GetProfiles ─▶ for each of at most 16: GetStreamUri, GetSnapshotUri
//! ```
//! Who asks says who he is in one of two ways: by the digest of HTTP where the camera asks for one, else in the
//! envelope. What a stranger gets wrong: cameras count wrong logins and lock the user out, so no question has both,
//! and a refusal ends the talk. These are all the calls there are, and each only reads.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use roxmltree::Node;
use url::Url;

use super::OnvifError;
use super::address::{self, Settled, Unusable};
use super::answers::{self, Identity, Profile, Services};
use super::soap::{self, Trouble, escaped};
use crate::config::shown;
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
    /// It does not tell who it is, for this reason.
    NoIdentity(String),
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

/// Takes what was asked for out of an answer's body; nothing where it is not there.
type Read<T> = fn(Node<'_, '_>) -> Option<T>;

/// A camera that is asked.
pub struct Onvif {
    door: Door,
    /// For what is asked as nobody, or by whom the envelope says.
    nobody: Door,
    device: Url,
    /// The port that its device service has as it says.
    own_port: Option<u16>,
    login: Option<Login>,
    /// Whether it wants to be told in the envelope who we are.
    by_envelope: bool,
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
        let door = |login| {
            let times = ureq::Agent::config_builder()
                .timeout_global(Some(ANSWER))
                .timeout_connect(Some(CONNECT));
            Door::new(times, login)
        };
        Ok(Onvif {
            door: door(login.clone()),
            nobody: door(None),
            device,
            own_port: None,
            login,
            by_envelope: false,
            began: clock.wall_uptime(),
            clock,
            ahead: TimeDelta::zero(),
            remarks: Vec::new(),
        })
    }

    /// Asks everything.
    ///
    /// # Errors
    /// When it does not answer, refuses, or has no profiles to tell of.
    pub fn interview(mut self) -> Result<Interview, OnvifError> {
        self.set_clock()?;
        let device = self.device.clone();
        let identity = self.identity()?;
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

    /// Asks only who it is.
    ///
    /// # Errors
    /// When it does not answer, refuses, or does not say.
    pub fn who(mut self) -> Result<Identity, OnvifError> {
        self.set_clock()?;
        self.device_call("GetDeviceInformation", "", answers::identity)
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

    /// Who it is; nobody, with a remark, where it fails at that question alone.
    fn identity(&mut self) -> Result<Identity, OnvifError> {
        let told = self.device_call("GetDeviceInformation", "", answers::identity);
        told.or_else(|error| {
            let said = forgiven(error)?;
            self.remarks.push(Remark::NoIdentity(said));
            Ok(Identity::default())
        })
    }

    fn media(&mut self) -> Result<Url, OnvifError> {
        let all = "<d:Category>All</d:Category>";
        let told = match self.device_call("GetCapabilities", all, answers::of_capabilities) {
            Err(OnvifError::Fault { .. } | OnvifError::Lacks { .. }) => {
                let without = "<d:IncludeCapability>false</d:IncludeCapability>";
                self.device_call("GetServices", without, answers::of_services)?
            }
            told => told?,
        };
        let Services { media, device } = told;
        self.own_port = device.as_deref().and_then(address::port);
        let Settled { url, named } = address::service(&media, (&self.device, self.own_port));
        if let Some(named) = named {
            self.remark_host(named);
        }
        Ok(url)
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
            Err(error) => {
                let said = forgiven(error)?;
                self.remarks.push(none(said));
                return Ok(None);
            }
        };
        match address::settled(&returned, &[scheme], (&self.device, self.own_port)) {
            Ok(Settled { url, named }) => {
                if let Some(named) = named {
                    self.remark_host(named);
                }
                Ok(Some(url.into()))
            }
            Err(Unusable::Secret) => {
                self.remarks.push(Remark::Secret(profile.to_owned()));
                Ok(None)
            }
            Err(Unusable::Strange(said)) => {
                self.remarks.push(none(soap::plain(&said)));
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
        read: Read<T>,
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
        read: Read<T>,
    ) -> Result<T, OnvifError> {
        let body = format!("<m:{call} xmlns:m=\"{MEDIA}\">{inside}</m:{call}>");
        self.ask(media, (call, &body), true, read)
    }

    /// One question; `known`: as who we are, else as nobody. The camera's first refusal says how it wants to be told.
    fn ask<T>(
        &mut self,
        url: &Url,
        (call, body): (&'static str, &str),
        known: bool,
        read: Read<T>,
    ) -> Result<T, OnvifError> {
        let known = known && self.login.is_some();
        let told = self.ask_once(url, (call, body), known, read);
        let in_vain = self.by_envelope || self.door.has_answered() || !known;
        match told {
            Err(OnvifError::Refused { .. }) if !in_vain => {
                self.by_envelope = true;
                self.ask_once(url, (call, body), known, read)
            }
            told => told,
        }
    }

    fn ask_once<T>(
        &mut self,
        url: &Url,
        (call, body): (&'static str, &str),
        known: bool,
        read: Read<T>,
    ) -> Result<T, OnvifError> {
        let place = shown(url.as_str());
        let no_answer = |cause| OnvifError::NoAnswer { url: place.clone(), cause };
        if self.clock.wall_uptime().saturating_sub(self.began) > TALK {
            let cause = format!("the whole talk takes longer than {} s", TALK.as_secs());
            return Err(no_answer(cause));
        }
        let head = match self.login.as_ref().filter(|_| known && self.by_envelope) {
            Some(login) => {
                let mut once = [0; 16];
                random::fill(&mut once).map_err(|error| no_answer(error.to_string()))?;
                soap::token(login, self.clock.now().utc + self.ahead, &once)
            }
            None => String::new(),
        };
        let envelope = soap::envelope(&head, body);
        let door = if known && !self.by_envelope { &mut self.door } else { &mut self.nobody };
        let (status, bytes) =
            post(door, url.as_str(), envelope.as_bytes()).map_err(|error| match error {
                ureq::Error::BodyExceedsLimit(_) => OnvifError::TooLarge(place.clone()),
                error => no_answer(error.to_string()),
            })?;
        let (url, told) = (place.clone(), self.login.is_some());
        match soap::within(&bytes, read) {
            Ok(found) => Ok(found),
            Err(Trouble::Fault { refused: true, .. }) => Err(OnvifError::Refused { url, told }),
            Err(_) if matches!(status, 401 | 403) => Err(OnvifError::Refused { url, told }),
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
}

/// The status and the body, within their limits.
fn post(door: &mut Door, url: &str, envelope: &[u8]) -> Result<(u16, Vec<u8>), ureq::Error> {
    let mut answer = door.ask(url, Some((KIND, envelope)))?;
    let status = answer.status().as_u16();
    let body = answer.body_mut().with_config().limit(soap::MOST_BYTES).read_to_vec()?;
    Ok((status, body))
}

/// Why one question is left without an answer; a refusal is for all of them, and no reason to ask on.
fn forgiven(error: OnvifError) -> Result<String, OnvifError> {
    match error {
        OnvifError::Refused { .. } | OnvifError::Address(_) => Err(error),
        OnvifError::Fault { said, .. } => Ok(said),
        OnvifError::NoAnswer { cause, .. } | OnvifError::Strange { cause, .. } => {
            Ok(soap::plain(&cause))
        }
        OnvifError::TooLarge(_) => Ok("> 512 kB".to_owned()),
        OnvifError::Lacks { .. } => Ok("-".to_owned()),
    }
}

fn midway(from: DateTime<Utc>, to: DateTime<Utc>) -> DateTime<Utc> {
    from + (to - from) / 2
}
