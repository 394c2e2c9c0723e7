//! A camera that stands in no site file yet: what it says over ONVIF, which of its streams to use, and the block
//! that an installer puts into the site file. Nothing of the camera is changed.
//!
//! What a stranger gets wrong: more pixels are not better. The nets look at a few hundred of them, so the stream
//! nearest to 640 x 360 is taken, and a snapshot before a stream, as it needs no video decoder. A snapshot that is
//! offered may still fail; so one is asked for.

use std::path::Path;

use toml_edit::Value;

use crate::io::camera::onvif::{Interview, Onvif, OnvifError, Profile};
use crate::io::camera::{Camera, Login};
use crate::io::clock::Clock;
use crate::logic::site::Id;

/// Pixels of the picture that serves best.
const BEST: f64 = 640.0 * 360.0;
/// A profile that does not say its size is taken for a main stream, pixels.
const UNSAID: f64 = 1920.0 * 1080.0;
/// A keyframe should come this often, s.
const KEYFRAMES_S: f64 = 1.5;
/// Longest id (design of the ids).
const MOST_ID: usize = 32;

/// What an installer should do or know besides what the camera has said.
#[derive(Clone, Debug, PartialEq)]
pub enum Advice {
    /// No profile has H.264: the sub-stream is to be set to it.
    NoH264,
    /// The snapshot that it offers gives none, for this reason.
    SnapshotFails(String),
    /// Keyframes come only so often, s: the interval is to be set to 1 s.
    KeyframesSeldom(f64),
}

/// What of a camera is to be used.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// Which profile, by its place among them.
    pub profile: usize,
    /// Its snapshot, and the pixels that came; nothing where it has none that works.
    pub snapshot: Option<(String, (usize, usize))>,
    /// Its video stream.
    pub stream: Option<String>,
}

impl Choice {
    /// The address that the site file gets.
    #[must_use]
    pub fn url(&self) -> &str {
        let snapshot = self.snapshot.as_ref().map(|(url, _)| url.as_str());
        snapshot.or(self.stream.as_deref()).unwrap_or_default()
    }
}

/// A camera that was met.
#[derive(Clone, Debug)]
pub struct Newcomer {
    /// What it said.
    pub interview: Interview,
    /// What of it to use; nothing where it has nothing that can be used.
    pub choice: Option<Choice>,
    /// What to do or know.
    pub advice: Vec<Advice>,
    /// Its block for the site file; empty without a choice.
    pub block: String,
}

/// What an installer gives along.
pub struct Wish<'a> {
    /// Who we are to the camera, and the file of the password, as the site file shall name it.
    pub login: Option<(Login, &'a Path)>,
    /// Its id; made from its host where none is given.
    pub id: Option<Id>,
}

/// Asks a camera what it offers and tries what is offered.
///
/// # Errors
/// When it does not answer over ONVIF, or refuses.
pub fn meet(place: &str, wish: &Wish<'_>, clock: Clock) -> Result<Newcomer, OnvifError> {
    let login = wish.login.as_ref().map(|(login, _)| login.clone());
    let interview = Onvif::new(place, login.clone(), clock)?.interview()?;
    let mut advice = Vec::new();
    let choice = choose(&interview.profiles).and_then(|profile| {
        let offered = &interview.profiles[profile];
        let tried = offered.snapshot.as_ref().map(|url| (url.clone(), pixels(url, login)));
        let snapshot = match tried {
            Some((url, Ok(size))) => Some((url, size)),
            Some((_, Err(why))) => {
                advice.push(Advice::SnapshotFails(why));
                None
            }
            None => None,
        };
        let stream = offered.stream.clone().filter(|_| is_h264(offered) || is_hevc(offered));
        let usable = snapshot.is_some() || stream.is_some();
        usable.then_some(Choice { profile, snapshot, stream })
    });
    if !interview.profiles.iter().any(is_h264) {
        advice.push(Advice::NoH264);
    }
    if let Some(choice) = &choice
        && choice.snapshot.is_none()
        && let Some(seconds) = interview.profiles[choice.profile].keyframes_s()
        && seconds > KEYFRAMES_S
    {
        advice.push(Advice::KeyframesSeldom(seconds));
    }
    let block = choice.as_ref().map_or(String::new(), |choice| block(&interview, choice, wish));
    Ok(Newcomer { interview, choice, advice, block })
}

/// The size of the picture that an address gives, or why it gives none.
fn pixels(url: &str, login: Option<Login>) -> Result<(usize, usize), String> {
    let coded = Camera::open_as(url, false, login).fetch().map_err(|error| error.to_string())?;
    let frame = coded.decode().map_err(|error| error.to_string())?;
    Ok((frame.width, frame.height))
}

fn is_h264(profile: &Profile) -> bool {
    matches!(profile.codec.to_ascii_uppercase().as_str(), "H264" | "H.264")
}

fn is_hevc(profile: &Profile) -> bool {
    matches!(profile.codec.to_ascii_uppercase().as_str(), "H265" | "H.265" | "HEVC")
}

/// How far a profile's size is from the best one; the same for twice and for half as many pixels.
fn distance(profile: &Profile) -> f64 {
    let size = profile.size.map(|(width, height)| f64::from(width) * f64::from(height));
    (size.filter(|pixels| *pixels > 0.0).unwrap_or(UNSAID) / BEST).ln().abs()
}

/// Of the profiles with an H.264 stream the one that is nearest to the best size, else of those with a snapshot, else
/// of those with H.265.
fn choose(profiles: &[Profile]) -> Option<usize> {
    let nearest = |fits: &dyn Fn(&Profile) -> bool| {
        let fitting = profiles.iter().enumerate().filter(|(_, profile)| fits(profile));
        fitting.min_by(|a, b| distance(a.1).total_cmp(&distance(b.1))).map(|(place, _)| place)
    };
    nearest(&|profile| is_h264(profile) && profile.stream.is_some())
        .or_else(|| nearest(&|profile| profile.snapshot.is_some()))
        .or_else(|| nearest(&|profile| is_hevc(profile) && profile.stream.is_some()))
}

/// The camera's table; the password is not in it, only the file that has it.
fn block(interview: &Interview, choice: &Choice, wish: &Wish<'_>) -> String {
    let text = |text: &str| Value::from(text).to_string();
    let id = wish.id.as_ref().map_or_else(|| id_of(&interview.host), ToString::to_string);
    let mut lines = vec!["[[camera]]".to_owned(), format!("id = {}", text(&id))];
    let identity = &interview.identity;
    let name = format!("{} {}", identity.maker, identity.model);
    if !name.trim().is_empty() {
        lines.push(format!("name = {}", text(name.trim())));
    }
    match (&choice.snapshot, &choice.stream) {
        (Some((snapshot, _)), stream) => {
            lines.push(format!("snapshot = {}", text(snapshot)));
            lines.extend(stream.as_ref().map(|stream| format!("# stream = {}", text(stream))));
        }
        (None, stream) => {
            lines.extend(stream.as_ref().map(|stream| format!("stream = {}", text(stream))));
        }
    }
    if !identity.serial.is_empty() {
        lines.push(format!("serial = {}", text(&identity.serial)));
        lines.push(format!("onvif = {}", text(&interview.device)));
    }
    if let Some((login, file)) = &wish.login {
        lines.push(format!("username = {}", text(&login.username)));
        lines.push(format!("password_file = {}", text(&file.display().to_string())));
    }
    lines.join("\n") + "\n"
}

/// An id from a host: `cam-192-168-1-9`.
fn id_of(host: &str) -> String {
    let fits = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let id: String = "cam-".chars().chain(host.chars().map(fits)).take(MOST_ID).collect();
    id.trim_end_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::camera::onvif::Identity;

    fn profile(codec: &str, size: Option<(u32, u32)>, snapshot: bool) -> Profile {
        let mut profile = Profile { codec: codec.to_owned(), size, ..Profile::default() };
        profile.stream = (!codec.is_empty()).then(|| format!("rtsp://h/{codec}"));
        profile.snapshot = snapshot.then(|| "http://h/\"snap\".jpg".to_owned());
        profile
    }

    #[test]
    fn the_h264_stream_nearest_to_the_best_size_is_taken() {
        let main = profile("H264", Some((2560, 1440)), true);
        let sub = profile("H264", Some((640, 360)), true);
        let third = profile("H264", Some((352, 288)), false);
        let hevc = profile("H265", Some((640, 360)), true);
        let still = profile("JPEG", Some((1280, 720)), true);
        let unsaid = profile("H264", None, true);
        let sound = profile("", None, false);
        let vga = profile("h.264", Some((640, 480)), false);
        let coarse = profile("hevc", Some((640, 360)), false);
        let table: [(&[&Profile], Option<usize>); 10] = [
            (&[&main, &sub, &third], Some(1)),
            (&[&main, &third], Some(1)),
            (&[&hevc, &main, &vga], Some(2)),
            (&[&unsaid, &third], Some(1)),
            (&[&unsaid], Some(0)),
            (&[&sound, &hevc, &still], Some(1)),
            (&[&coarse, &still], Some(1)),
            (&[&sound, &coarse], Some(1)),
            (&[&sound], None),
            (&[], None),
        ];
        for (offered, wanted) in table {
            let offered: Vec<Profile> = offered.iter().map(|profile| (*profile).clone()).collect();
            assert_eq!(choose(&offered), wanted, "{offered:?}");
        }
    }

    fn interview() -> Interview {
        Interview {
            device: "http://h/onvif/device_service".to_owned(),
            host: "192.168.100.200".to_owned(),
            identity: Identity { maker: "A \"B\"".to_owned(), ..Identity::default() },
            profiles: Vec::new(),
            remarks: Vec::new(),
        }
    }

    #[test]
    fn the_block_is_toml_without_the_password() {
        let login = Login { username: "a\\b".to_owned(), password: "horse staple".to_owned() };
        let wish = Wish { login: Some((login, Path::new("/etc/cam pass"))), id: None };
        let choice = Choice {
            profile: 0,
            snapshot: Some(("http://h/\"snap\".jpg".to_owned(), (640, 360))),
            stream: Some("rtsp://h/sub".to_owned()),
        };
        let text = block(&interview(), &choice, &wish);
        assert!(!text.contains("horse"), "{text}");
        let document: toml_edit::DocumentMut = text.parse().unwrap();
        let camera = document["camera"].as_array_of_tables().unwrap().get(0).unwrap();
        for (key, wanted) in [
            ("id", "cam-192-168-100-200"),
            ("name", "A \"B\""),
            ("snapshot", "http://h/\"snap\".jpg"),
            ("username", "a\\b"),
            ("password_file", "/etc/cam pass"),
        ] {
            assert_eq!(camera[key].as_str(), Some(wanted), "{text}");
        }
        assert!(!camera.contains_key("stream"), "a camera has one source");
        let stream_only = Choice { snapshot: None, ..choice };
        let id = Id::try_from("gate").ok();
        let text = block(&interview(), &stream_only, &Wish { login: None, id });
        let wanted = "[[camera]]\nid = \"gate\"\nname = 'A \"B\"'\nstream = \"rtsp://h/sub\"\n";
        assert_eq!(text, wanted);
    }

    #[test]
    fn an_id_is_made_of_any_host() {
        let long = "x".repeat(80);
        for host in ["cam.lan", "[fe80::1]", "192.168.1.9", "-", &long, "Straße"] {
            assert!(Id::try_from(id_of(host).as_str()).is_ok(), "{host}: {}", id_of(host));
        }
    }
}
