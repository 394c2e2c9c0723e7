//! Addresses: which one is a camera's service, and what is to be made of those that it returns.
//!
//! What a stranger gets wrong: a camera behind an address translation, or with two networks, returns addresses
//! that nobody but itself can reach. The host that was asked has answered, so that one is kept.

use url::Url;

use crate::config::is_secret;

/// Where the device service is, unless the address says so (ONVIF Core Specification, 5.10).
const DEVICE_SERVICE: &str = "/onvif/device_service";
/// A longer address is no address.
const MOST_BYTES: usize = 512;

/// Whether a text names a camera to be asked over ONVIF, and not a picture or a stream of one: a host with or
/// without port, `onvif://host`, or the HTTP address of a device service.
#[must_use]
pub fn is_device(text: &str) -> bool {
    match text.split_once("://") {
        None | Some(("onvif", _)) => true,
        Some(("http" | "https", rest)) => {
            let path = rest.split(['?', '#']).next().unwrap_or_default();
            path.to_ascii_lowercase().ends_with(DEVICE_SERVICE)
        }
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

/// An address as it can be used here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// The address.
    pub url: Url,
    /// The host that the camera named, where another one was kept.
    pub named: Option<String>,
}

/// Why an address cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// No address of this kind; what may be said of it.
    Strange(String),
    /// It has a password in it.
    Secret,
}

/// Where a camera was asked, and the port that its own device service has as it says; nothing where it does not.
pub type Asked<'a> = (&'a Url, Option<u16>);

/// The port that a camera names for a service of its own.
pub fn port(returned: &str) -> Option<u16> {
    whole(returned.trim())?.port_or_known_default()
}

/// A returned address of these schemes with the host that was asked, and without a user. Who translates the host of an
/// HTTP address translates the device service's port too, as the asking has shown; of another port nothing is known,
/// and it is kept.
pub fn settled(
    returned: &str,
    schemes: &[&str],
    (asked, own): Asked<'_>,
) -> Result<Settled, Unusable> {
    let returned = returned.trim();
    let known = whole(returned).filter(|url| schemes.contains(&url.scheme()));
    let mut url = known.ok_or_else(|| unusable(returned))?;
    let strange = |()| unusable(returned);
    url.set_username("").map_err(strange)?;
    url.set_password(None).map_err(strange)?;
    if is_secret(url.as_str()) {
        return Err(Unusable::Secret);
    }
    let (here, there) = (asked.host_str().unwrap_or_default(), url.host_str().unwrap_or_default());
    if here.eq_ignore_ascii_case(there) {
        return Ok(Settled { url, named: None });
    }
    let named = url.port().map_or(there.to_owned(), |port| format!("{there}:{port}"));
    url.set_host(Some(here)).map_err(|_| unusable(returned))?;
    if url.scheme() == "http" && own.is_none_or(|own| url.port_or_known_default() == Some(own)) {
        url.set_port(asked.port()).map_err(strange)?;
    }
    Ok(Settled { url, named: Some(named) })
}

/// What may be said of an address that cannot be used: scheme and host, where nothing in it looks like a login.
fn unusable(returned: &str) -> Unusable {
    if returned.contains('@') || is_secret(returned) {
        return Unusable::Secret;
    }
    let said = Url::parse(returned).ok().and_then(|url| {
        let host = url.host_str().filter(|host| host.len() <= MOST_BYTES)?;
        Some(format!("{}://{host}", url.scheme()))
    });
    Unusable::Strange(said.unwrap_or_else(|| "-".to_owned()))
}

/// A returned service address as it can be reached here. One that cannot be used is looked for by its path at the place
/// that was asked; the device service itself where there is none.
pub fn service(returned: &str, place: Asked<'_>) -> Settled {
    let named = match settled(returned, &["http", "https"], place) {
        Ok(found) if found.url.scheme() == "http" => return found,
        other => other.ok().and_then(|found| found.named),
    };
    let mut url = place.0.clone();
    if let Some(other) = whole(returned.trim()) {
        url.set_path(other.path());
        url.set_query(other.query());
    }
    Settled { url, named }
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
            (
                "http://10.0.0.9/x/ONVIF/Device_Service?y#z",
                Some("http://10.0.0.9/x/ONVIF/Device_Service?y#z"),
            ),
            ("viewer:secret@10.0.0.9", None),
            ("https://10.0.0.9/onvif/device_service", None),
            ("", None),
            ("10.0.0.9 x", None),
        ] {
            assert!(is_device(text), "{text}");
            assert_eq!(device(text).map(String::from).as_deref(), service, "{text}");
        }
        for text in [
            "http://10.0.0.9/snap.jpg",
            "rtsp://10.0.0.9/onvif/device_service",
            "http://10.0.0.9",
            "http://10.0.0.9/onvif/snapshot.jpg",
            "http://10.0.0.9/onvif-http/snapshot?auth=1&x=/onvif/device_service",
            "http://10.0.0.9/ONVIF/MediaInput?profile=1",
        ] {
            assert!(!is_device(text), "{text}");
        }
    }

    #[test]
    fn the_host_that_was_asked_is_kept_and_no_secret_is() {
        let asked = Url::parse("http://192.168.1.9:8080/onvif/device_service").unwrap();
        let rtsp = |text: &str| settled(text, &["rtsp"], (&asked, Some(80)));
        let http = |text: &str| settled(text, &["http"], (&asked, Some(80)));
        let kept = |url: &str, named: Option<&str>| {
            Ok(Settled { url: Url::parse(url).unwrap(), named: named.map(str::to_owned) })
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
        // Another port of the camera's is not the one that was translated.
        assert_eq!(
            http("http://10.1.1.1:81/snap.jpg"),
            kept("http://192.168.1.9:81/snap.jpg", Some("10.1.1.1:81"))
        );
        // Where nobody knows the camera's own port, it is taken for the translated one.
        assert_eq!(
            settled("http://10.1.1.1:81/snap.jpg", &["http"], (&asked, None)),
            kept("http://192.168.1.9:8080/snap.jpg", Some("10.1.1.1:81"))
        );
    }

    #[test]
    fn of_an_address_that_cannot_be_used_only_scheme_and_host_are_said() {
        let asked = Url::parse("http://192.168.1.9:8080/onvif/device_service").unwrap();
        let long = format!("rtsp://10.1.1.1/{}", "a".repeat(600));
        for (text, said) in [
            ("", Some("-")),
            ("live", Some("-")),
            ("http://10.1.1.1/x?y=z", Some("http://10.1.1.1")),
            ("https://192.168.1.9/snap.jpg", Some("https://192.168.1.9")),
            ("rtsp://", Some("-")),
            ("rtsp:///x", Some("-")),
            ("rtsp://a b/", Some("-")),
            (&long, Some("rtsp://10.1.1.1")),
            ("rtsp://10.1.1.1/user=a_password=horse_channel=1", None),
            ("http://viewer:horse@10.1.1.1/snap.jpg", None),
            ("https://viewer:horse@192.168.1.9/snap.jpg", None),
            ("rtsp://viewer:hor se@10.1.1.1/live", None),
            ("https://10.1.1.1/snap.jpg?usr=a&pwd=horse", None),
            (&format!("{long}?token=horse"), None),
        ] {
            let wanted = said.map_or(Unusable::Secret, |said| Unusable::Strange(said.to_owned()));
            assert_eq!(settled(text, &["rtsp"], (&asked, None)), Err(wanted), "{text}");
        }
    }

    #[test]
    fn a_service_is_asked_where_it_is() {
        let service = |returned, asked: &str, own| {
            let Settled { url, named } = service(returned, (&Url::parse(asked).unwrap(), own));
            (String::from(url), named)
        };
        let (translated, plain) = ("http://192.168.1.9:8080/onvif/d", "http://192.168.1.9:8000/d");
        for (returned, asked, own, wanted, named) in [
            // Its own port was translated, another one not.
            (
                "http://10.1.1.1:80/onvif/m?x",
                translated,
                Some(80),
                "http://192.168.1.9:8080/onvif/m?x",
                Some("10.1.1.1"),
            ),
            (
                "http://10.1.1.1:2020/onvif/m",
                translated,
                Some(80),
                "http://192.168.1.9:2020/onvif/m",
                Some("10.1.1.1:2020"),
            ),
            // At the host that was asked it says its port itself.
            ("http://192.168.1.9/m", plain, Some(8000), "http://192.168.1.9/m", None),
            ("http://192.168.1.9:8000/m", plain, Some(8000), "http://192.168.1.9:8000/m", None),
            // TLS is not spoken here.
            (
                "https://10.1.1.1/m",
                plain,
                Some(8000),
                "http://192.168.1.9:8000/m",
                Some("10.1.1.1"),
            ),
            ("nonsense", plain, None, plain, None),
        ] {
            let told = service(returned, asked, own);
            assert_eq!(told, (wanted.to_owned(), named.map(str::to_owned)), "{returned}");
        }
        assert_eq!(port("http://10.1.1.1/onvif/device_service"), Some(80));
        assert_eq!(port("nonsense"), None);
    }
}
