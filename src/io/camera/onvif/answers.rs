//! What the answers say: the device, its clock, its services, its profiles, an address.
//!
//! What a stranger gets wrong: a profile without a video encoder is no fault (recorders have such), and the frame
//! rate is an upper limit of what the camera sends, not what it sends.

use std::ops::RangeInclusive;

use chrono::{DateTime, NaiveDate, Utc};
use roxmltree::Node;

use super::soap::{below, child, plain, text};

/// More profiles than this are counted and not asked for their addresses.
pub const MOST_PROFILES: usize = 16;
/// Sides, frames a second and so on beyond this are nonsense.
const MOST_NUMBER: u32 = 1 << 20;
/// The media service of the first generation (ONVIF Media Service Specification), and the device service.
const MEDIA: &str = "http://www.onvif.org/ver10/media/wsdl";
const DEVICE: &str = "http://www.onvif.org/ver10/device/wsdl";
/// A clock outside these years is none.
const YEARS: RangeInclusive<i32> = 1970..=2199;

/// What a device says it is; empty where it says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Who made it.
    pub maker: String,
    /// Its model.
    pub model: String,
    /// Its firmware.
    pub firmware: String,
    /// Its serial number.
    pub serial: String,
}

/// A media profile: one of the streams that a camera offers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Profile {
    /// The camera's handle of it.
    pub token: String,
    /// Its name.
    pub name: String,
    /// How the video is coded, in the camera's words: H264, H265, JPEG; empty where it does not say.
    pub codec: String,
    /// Pixels: width, height.
    pub size: Option<(u32, u32)>,
    /// Frames a second at the most.
    pub fps: Option<f64>,
    /// Kilobits a second at the most.
    pub kbps: Option<u32>,
    /// Frames from a keyframe to the next.
    pub keyframe_every: Option<u32>,
    /// Where its stream is (RTSP); nothing where the camera gives no address that can be used.
    pub stream: Option<String>,
    /// Where its picture is (JPEG over HTTP); nothing as above.
    pub snapshot: Option<String>,
}

impl Profile {
    /// Seconds from a keyframe to the next; nothing where the camera does not say.
    #[must_use]
    pub fn keyframes_s(&self) -> Option<f64> {
        let fps = self.fps.filter(|fps| *fps > 0.0)?;
        self.keyframe_every.map(|frames| f64::from(frames) / fps)
    }
}

/// The text of a child, fit to be shown.
fn word(node: Node<'_, '_>, name: &str) -> String {
    child(node, name).map_or(String::new(), |found| plain(&text(found)))
}

/// A number below a node, where it is one.
fn number(node: Node<'_, '_>, name: &str) -> Option<u32> {
    let found = text(below(node, name)?).trim().parse::<f64>().ok()?;
    let sane = found.is_finite() && (0.0..=f64::from(MOST_NUMBER)).contains(&found);
    sane.then_some(found as u32)
}

/// GetSystemDateAndTime: the camera's clock, UTC.
pub fn clock(body: Node<'_, '_>) -> Option<DateTime<Utc>> {
    let utc = below(body, "UTCDateTime")?;
    let year = i32::try_from(number(utc, "Year")?).ok().filter(|year| YEARS.contains(year))?;
    let date = NaiveDate::from_ymd_opt(year, number(utc, "Month")?, number(utc, "Day")?)?;
    // A leap second, as some write it, is the last one of its minute.
    let second = number(utc, "Second")?.min(59);
    let time = date.and_hms_opt(number(utc, "Hour")?, number(utc, "Minute")?, second)?;
    Some(time.and_utc())
}

/// GetDeviceInformation.
pub fn identity(body: Node<'_, '_>) -> Option<Identity> {
    let told = below(body, "GetDeviceInformationResponse")?;
    Some(Identity {
        maker: word(told, "Manufacturer"),
        model: word(told, "Model"),
        firmware: word(told, "FirmwareVersion"),
        serial: word(told, "SerialNumber"),
    })
}

/// Where a camera says that its services are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Services {
    /// The media service.
    pub media: String,
    /// The device service itself, as the camera sees it; nothing where it does not say.
    pub device: Option<String>,
}

/// GetCapabilities: where the services are.
pub fn of_capabilities(body: Node<'_, '_>) -> Option<Services> {
    let all = below(body, "Capabilities")?;
    let address = |name| told(below(all, name)?);
    Some(Services { media: address("Media")?, device: address("Device") })
}

/// GetServices: the same.
pub fn of_services(body: Node<'_, '_>) -> Option<Services> {
    let address = |wanted: &str| {
        let mut all = body.descendants().filter(|node| node.tag_name().name() == "Service");
        let is_wanted = |node: &Node<'_, '_>| {
            child(*node, "Namespace").is_some_and(|space| text(space).trim() == wanted)
        };
        all.find(is_wanted).and_then(told)
    };
    Some(Services { media: address(MEDIA)?, device: address(DEVICE) })
}

/// The address of a service.
fn told(service: Node<'_, '_>) -> Option<String> {
    child(service, "XAddr").map(text).filter(|address| !address.trim().is_empty())
}

/// GetProfiles: those with a token, without their addresses, and how many more there are.
pub fn profiles(body: Node<'_, '_>) -> Option<(Vec<Profile>, usize)> {
    let told = below(body, "GetProfilesResponse")?;
    let all = told.children().filter(|node| node.tag_name().name() == "Profiles");
    let mut profiles: Vec<Profile> = all.filter_map(profile).collect();
    let more = profiles.len().saturating_sub(MOST_PROFILES);
    profiles.truncate(MOST_PROFILES);
    Some((profiles, more))
}

fn profile(node: Node<'_, '_>) -> Option<Profile> {
    // The token goes back as it came; only a sane one does.
    let token = node.attribute("token").filter(|token| !token.is_empty() && token.len() <= 256)?;
    let mut profile =
        Profile { token: token.to_owned(), name: word(node, "Name"), ..Profile::default() };
    if let Some(video) = child(node, "VideoEncoderConfiguration") {
        profile.codec = word(video, "Encoding");
        let size = child(video, "Resolution");
        profile.size =
            size.and_then(|size| Some((number(size, "Width")?, number(size, "Height")?)));
        let rate = child(video, "RateControl");
        profile.fps = rate.and_then(|rate| number(rate, "FrameRateLimit")).map(f64::from);
        profile.kbps = rate.and_then(|rate| number(rate, "BitrateLimit"));
        profile.keyframe_every = number(video, "GovLength");
    }
    Some(profile)
}

/// GetStreamUri and GetSnapshotUri: the address, as the camera says it.
pub fn uri(body: Node<'_, '_>) -> Option<String> {
    below(body, "Uri").map(text).filter(|uri| !uri.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::super::soap::{Trouble, within};
    use super::*;

    const HEAD: &str = "<E:Envelope xmlns:E=\"http://www.w3.org/2003/05/soap-envelope\" \
        xmlns:d=\"http://www.onvif.org/ver10/device/wsdl\" xmlns=\"http://www.onvif.org/ver10/schema\">\
        <E:Body>";

    fn answer(body: &str) -> String {
        format!("{HEAD}{body}</E:Body></E:Envelope>")
    }

    const PROFILES: &str = "<m:GetProfilesResponse xmlns:m='http://www.onvif.org/ver10/media/wsdl'>\
        <m:Profiles token='MediaProfile00000' fixed='true'><Name>main</Name>\
        <VideoEncoderConfiguration token='v0'><Name>v0</Name><Encoding>H264</Encoding>\
        <Resolution><Width>1920</Width><Height>1080</Height></Resolution>\
        <RateControl><FrameRateLimit>25</FrameRateLimit><EncodingInterval>1</EncodingInterval>\
        <BitrateLimit>4096</BitrateLimit></RateControl><H264><GovLength>50</GovLength></H264>\
        </VideoEncoderConfiguration></m:Profiles>\
        <m:Profiles token='audio'><Name>sound only</Name></m:Profiles>\
        <m:Profiles><Name>no token</Name></m:Profiles>\
        <m:Profiles token='odd'><VideoEncoderConfiguration><Encoding>JPEG</Encoding>\
        <Resolution><Width>-3</Width><Height>1e99</Height></Resolution></VideoEncoderConfiguration>\
        </m:Profiles></m:GetProfilesResponse>";

    #[test]
    fn profiles_are_read_and_what_they_do_not_say_stays_open() {
        let text = answer(PROFILES);
        let (profiles, more) = within(text.as_bytes(), super::profiles).unwrap();
        assert_eq!((profiles.len(), more), (3, 0));
        let main = &profiles[0];
        assert_eq!((main.token.as_str(), main.codec.as_str()), ("MediaProfile00000", "H264"));
        assert_eq!((main.size, main.fps), (Some((1920, 1080)), Some(25.0)));
        assert_eq!((main.kbps, main.keyframes_s()), (Some(4096), Some(2.0)));
        assert_eq!((profiles[1].size, profiles[1].codec.as_str()), (None, ""));
        assert_eq!((profiles[2].size, profiles[2].codec.as_str()), (None, "JPEG"));
        let one = "<Profiles token='p'/>".repeat(100);
        let text = answer(&format!("<GetProfilesResponse>{one}</GetProfilesResponse>"));
        let (profiles, more) = within(text.as_bytes(), super::profiles).unwrap();
        assert_eq!((profiles.len(), more), (MOST_PROFILES, 100 - MOST_PROFILES));
    }

    const CLOCK: &str = "<d:GetSystemDateAndTimeResponse><d:SystemDateAndTime><TimeZone><TZ>CST-8</TZ></TimeZone>\
        <LocalDateTime><Time><Hour>1</Hour><Minute>2</Minute><Second>3</Second></Time></LocalDateTime>\
        <UTCDateTime><Time><Hour>17</Hour><Minute>2</Minute><Second>60</Second></Time>\
        <Date><Year>2026</Year><Month>11</Month><Day>27</Day></Date></UTCDateTime>\
        </d:SystemDateAndTime></d:GetSystemDateAndTimeResponse>";
    const SERVICES: &str = "<d:GetServicesResponse><d:Service><d:Namespace>http://www.onvif.org/ver20/media/wsdl\
        </d:Namespace><d:XAddr>http://a/two</d:XAddr></d:Service><d:Service><d:Namespace>\
        http://www.onvif.org/ver10/media/wsdl</d:Namespace><d:XAddr>http://a/one</d:XAddr></d:Service>\
        </d:GetServicesResponse>";
    const CAPABILITIES: &str = "<d:GetCapabilitiesResponse><d:Capabilities><Device><XAddr>http://a/device</XAddr>\
        </Device><Media><XAddr>http://a/media</XAddr></Media></d:Capabilities></d:GetCapabilitiesResponse>";
    const DEVICE: &str = "<d:GetDeviceInformationResponse><d:Manufacturer>ACME</d:Manufacturer>\
        <d:Model>Dome &amp; Co</d:Model><d:SerialNumber>77</d:SerialNumber></d:GetDeviceInformationResponse>";

    #[test]
    fn clock_device_and_services_are_read() {
        let read = |text: &str| within(answer(text).as_bytes(), clock);
        let time = read(CLOCK).unwrap();
        assert_eq!(time.to_rfc3339(), "2026-11-27T17:02:59+00:00");
        for (from, to) in [
            ("<Month>11", "<Month>13"),
            ("<Hour>17", "<Hour>"),
            ("UTCDate", "Date"),
            ("<Year>2026", "<Year>1969"),
            ("<Year>2026", "<Year>2200"),
            ("<Year>2026", "<Year>262142"),
        ] {
            assert_eq!(read(&CLOCK.replace(from, to)), Err(Trouble::Lacks), "{to}");
        }
        let known = within(answer(DEVICE).as_bytes(), identity).unwrap();
        assert_eq!((known.maker.as_str(), known.model.as_str()), ("ACME", "Dome & Co"));
        assert_eq!((known.firmware.as_str(), known.serial.as_str()), ("", "77"));
        let named = |media: &str, device: Option<&str>| {
            Ok(Services { media: media.to_owned(), device: device.map(str::to_owned) })
        };
        let told = within(answer(SERVICES).as_bytes(), of_services);
        assert_eq!(told, named("http://a/one", None));
        let device = SERVICES.replace("ver20/media", "ver10/device");
        let told = within(answer(&device).as_bytes(), of_services);
        assert_eq!(told, named("http://a/one", Some("http://a/two")));
        let told = within(answer(CAPABILITIES).as_bytes(), of_capabilities);
        assert_eq!(told, named("http://a/media", Some("http://a/device")));
    }

    /// Changes one place; where it is `gentle`, what stands between two tags, else anything.
    fn mutate(
        bytes: &mut Vec<u8>,
        rng: &mut fastrand::Rng,
        (pieces, values): (&[&str], &[&str]),
        gentle: bool,
    ) {
        let (at, to) = (rng.usize(..bytes.len()), rng.usize(..bytes.len()));
        let (from, until) = (at.min(to), at.max(to));
        if gentle {
            let begin = bytes[at..].iter().position(|b| *b == b'>').map_or(at, |n| at + n + 1);
            let end = bytes[begin..].iter().position(|b| *b == b'<').map_or(begin, |n| begin + n);
            let value = rng.choice(values).unwrap();
            // Between elements only now and then: there it is no value.
            if begin < end || rng.u8(..4) == 0 {
                bytes.splice(begin..end, value.bytes());
            }
            return;
        }
        match rng.u8(..5) {
            0 => bytes[at] = rng.u8(..),
            1 => drop(bytes.splice(at..at, rng.choice(pieces).unwrap().bytes())),
            2 => drop(bytes.drain(from..until.min(from + 40))),
            3 => {
                let part = bytes[from..until].to_vec();
                bytes.splice(at..at, part.repeat(rng.usize(1..6)));
            }
            _ => bytes.truncate(at.max(1)),
        }
    }

    /// Whatever is done to an answer: no panic, no more than was allowed, and in a bounded time.
    #[test]
    fn mutated_answers_are_read_or_refused() {
        let whole = [PROFILES, CLOCK, SERVICES, CAPABILITIES, DEVICE].map(answer);
        let long = "x".repeat(5000);
        let pieces = [
            "<",
            ">",
            "&",
            "&#0;",
            "&#x1b;",
            "]]>",
            "<!--",
            "<?",
            "'",
            "\"",
            "/>",
            "\u{0}",
            "<a>",
            "</E:Body>",
            "xmlns:E=''",
            "token=''",
        ];
        let values = [
            "99999999999999999999",
            "-1",
            "NaN",
            "1e99",
            "\u{202e}",
            "&#10;&#9;&lt;",
            "",
            &long,
            "0",
            "<![CDATA[ <b>\t\r\n ]]>",
            "H265",
            "<a/>",
            "<!-- a -->5",
            "&amp;",
            "25.5",
        ];
        let seed = 0x0C0DE;
        let mut rng = fastrand::Rng::with_seed(seed);
        let (mut read, mut refused) = (0, 0);
        for round in 0..6000 {
            let mut bytes = whole[rng.usize(..whole.len())].clone().into_bytes();
            for _ in 0..rng.usize(1..5) {
                mutate(&mut bytes, &mut rng, (&pieces, &values), round % 2 == 0);
            }
            let clock = within(&bytes, clock).map(drop);
            let media = within(&bytes, of_capabilities).map(drop);
            let others = within(&bytes, of_services).map(drop);
            let known = within(&bytes, identity).map(|known| {
                let texts = [known.maker, known.model, known.firmware, known.serial];
                assert!(texts.iter().all(|text| text.chars().count() <= 120), "{seed} {round}");
            });
            let profiles = within(&bytes, profiles).map(|(profiles, _)| {
                assert!(profiles.len() <= MOST_PROFILES, "{seed} {round}");
                let shown = profiles.iter().flat_map(|p| [&p.name, &p.codec]);
                for text in shown {
                    assert!(!text.contains(char::is_control), "{seed} {round}: {text:?}");
                }
            });
            let well = [clock, media, others, known, profiles].iter().any(Result::is_ok);
            if well { read += 1 } else { refused += 1 }
        }
        // The mutations are neither harmless nor all deadly.
        assert!(read > 500 && refused > 500, "{read} {refused}");
    }
}
