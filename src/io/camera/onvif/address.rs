//! Addresses: which one is a camera's service, and what is to be made of those that it returns.
//!
//! What a stranger gets wrong: a camera behind an address translation, or with two networks, returns addresses
//! that nobody but itself can reach. The host that was asked has answered, so that one is kept.

use url::Url;

/// Where the device service is, unless the address says so (ONVIF Core Specification, 5.10).
const DEVICE_SERVICE: &str = "/onvif/device_service";
/// A longer address is no address.
const MOST_BYTES: usize = 512;
/// What stands before a password in an address.
const SECRETS: [&str; 4] = ["password=", "passwd=", "pwd=", "pass="];

/// Whether a text names a camera to be asked over ONVIF, and not a picture or a stream of one: a host with or
/// without port, `onvif://host`, or an HTTP address of a service.
#[must_use]
pub fn is_device(text: &str) -> bool {
    match text.split_once("://") {
        None | Some(("onvif", _)) => true,
        Some(("http" | "https", rest)) => rest.to_ascii_lowercase().contains("/onvif/"),
        Some(_) => false,
    }
}

/// The device service that such a text names; nothing where it is none, or has a user in it.
pub fn device(text: &str) -> Option<Url> {
    let text = match text.split_once("://") {
        None => format!("http://{text}"),
        Some(("onvif", rest)) => format!("http://{rest}"),
        Some(_) => text.to_owned(),
    };
    let mut url = whole(&text).filter(|url| url.scheme() == "http" && !has_user(url))?;
    if url.path() == "/" {
        url.set_path(DEVICE_SERVICE);
    }
    Some(url)
}

/// An absolute address with a host, of a sane length.
fn whole(text: &str) -> Option<Url> {
    let sane = text.len() <= MOST_BYTES && !text.contains(char::is_whitespace);
    let url = Url::parse(text).ok().filter(|url| sane && url.has_host())?;
    url.host_str().is_some_and(|host| !host.is_empty()).then_some(url)
}

fn has_user(url: &Url) -> bool {
    !url.username().is_empty() || url.password().is_some()
}

/// Whether an address has a password in it, which must not go into a site file.
#[must_use]
pub fn is_secret(address: &str) -> bool {
    let lower = address.to_ascii_lowercase();
    SECRETS.iter().any(|secret| lower.contains(secret))
}

/// An address as it can be used here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// The address.
    pub url: String,
    /// The host that the camera named, where another one was kept.
    pub named: Option<String>,
}

/// Why an address cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// No address of this kind.
    Strange,
    /// It has a password in it.
    Secret,
}

/// A returned address of these schemes with the host that was asked, and without a user. The port of an HTTP
/// address goes with its host: who translates the host has translated the port too.
pub fn settled(returned: &str, schemes: &[&str], asked: &Url) -> Result<Settled, Unusable> {
    let strange = Unusable::Strange;
    let mut url = whole(returned.trim()).ok_or(strange)?;
    if !schemes.contains(&url.scheme()) {
        return Err(strange);
    }
    url.set_username("").map_err(|()| strange)?;
    url.set_password(None).map_err(|()| strange)?;
    if is_secret(url.as_str()) {
        return Err(Unusable::Secret);
    }
    let (here, there) = (asked.host_str().unwrap_or_default(), url.host_str().unwrap_or_default());
    if here.eq_ignore_ascii_case(there) {
        return Ok(Settled { url: url.into(), named: None });
    }
    let named = url.port().map_or(there.to_owned(), |port| format!("{there}:{port}"));
    url.set_host(Some(here)).map_err(|_| strange)?;
    if url.scheme() == "http" {
        url.set_port(asked.port()).map_err(|()| strange)?;
    }
    Ok(Settled { url: url.into(), named: Some(named) })
}

/// A returned service address at the host and port that were asked; the device service itself where it is none.
pub fn service(returned: &str, asked: &Url) -> Url {
    let mut url = asked.clone();
    if let Some(named) = whole(returned.trim()) {
        url.set_path(named.path());
        url.set_query(named.query());
    }
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_device_and_a_picture_is_not() {
        for (text, service) in [
            ("10.0.0.9", Some("http://10.0.0.9/onvif/device_service")),
            ("10.0.0.9:8000", Some("http://10.0.0.9:8000/onvif/device_service")),
            ("onvif://cam.lan/x", Some("http://cam.lan/x")),
            ("http://10.0.0.9/onvif/device_service", Some("http://10.0.0.9/onvif/device_service")),
            ("http://10.0.0.9/ONVIF/Device", Some("http://10.0.0.9/ONVIF/Device")),
            ("viewer:secret@10.0.0.9", None),
            ("https://10.0.0.9/onvif/device_service", None),
            ("", None),
            ("10.0.0.9 x", None),
        ] {
            assert!(is_device(text), "{text}");
            assert_eq!(device(text).map(String::from).as_deref(), service, "{text}");
        }
        for text in ["http://10.0.0.9/snap.jpg", "rtsp://10.0.0.9/onvif/1", "http://10.0.0.9"] {
            assert!(!is_device(text), "{text}");
        }
    }

    #[test]
    fn the_host_that_was_asked_is_kept_and_no_secret_is() {
        let asked = Url::parse("http://192.168.1.9:8080/onvif/device_service").unwrap();
        let rtsp = |text: &str| settled(text, &["rtsp"], &asked);
        let http = |text: &str| settled(text, &["http"], &asked);
        let kept = |url: &str, named: Option<&str>| {
            Ok(Settled { url: url.to_owned(), named: named.map(str::to_owned) })
        };
        // Paths as Uniview's cameras have them, with and without what other makers put there.
        assert_eq!(
            rtsp("rtsp://192.168.1.9:554/media/video2"),
            kept("rtsp://192.168.1.9:554/media/video2", None)
        );
        assert_eq!(
            rtsp(" rtsp://0.0.0.0/unicast/c1/s1/live?a=b&c=d "),
            kept("rtsp://192.168.1.9/unicast/c1/s1/live?a=b&c=d", Some("0.0.0.0"))
        );
        assert_eq!(
            rtsp("rtsp://admin:secret@10.1.1.1:8554/live"),
            kept("rtsp://192.168.1.9:8554/live", Some("10.1.1.1:8554"))
        );
        assert_eq!(
            http("http://10.1.1.1/images/snapshot.jpg"),
            kept("http://192.168.1.9:8080/images/snapshot.jpg", Some("10.1.1.1"))
        );
        assert_eq!(
            http("http://192.168.1.9:81/snap.jpg"),
            kept("http://192.168.1.9:81/snap.jpg", None)
        );
        assert_eq!(rtsp("rtsp://10.1.1.1/user=a_password=b_channel=1"), Err(Unusable::Secret));
        let long = format!("rtsp://10.1.1.1/{}", "a".repeat(600));
        for text in ["", "live", "http://10.1.1.1/", "rtsp://", "rtsp:///x", "rtsp://a b/", &long] {
            assert_eq!(rtsp(text), Err(Unusable::Strange), "{text}");
        }
        assert_eq!(http("https://192.168.1.9/snap.jpg"), Err(Unusable::Strange));
        let media = service("http://10.1.1.1:80/onvif/media_service?x", &asked);
        assert_eq!(media.as_str(), "http://192.168.1.9:8080/onvif/media_service?x");
        assert_eq!(service("nonsense", &asked), asked);
    }
}
