//! Passwords in addresses: which address has one, and what may be said of any.
//!
//! What a stranger gets wrong: some cameras take user and password in the path and not behind the question mark, and
//! each maker calls them otherwise.

use url::Url;

/// What the name of a value has in it where the value lets somebody in.
const SECRETS: [&str; 5] = ["pas", "pwd", "psw", "auth", "token"];

/// Whether an address has a value by such a name, which must not go into a site file.
#[must_use]
pub fn is_secret(address: &str) -> bool {
    let lower = address.to_ascii_lowercase();
    let mut pieces = lower.split(['/', '?', '&', ';', '#']);
    pieces.any(|piece| {
        let names = piece.rsplit_once('=').map_or("", |(names, _)| names);
        SECRETS.iter().any(|secret| names.contains(secret))
    })
}

/// An address as it may be shown: without user and query, and without its path where that has a password in it.
#[must_use]
pub fn shown(address: &str) -> String {
    let Ok(mut url) = Url::parse(address) else { return "-".to_owned() };
    // Only an address without a host refuses this, and it has no user.
    let _ = (url.set_username(""), url.set_password(None));
    url.set_query(None);
    url.set_fragment(None);
    if is_secret(url.path()) {
        url.set_path("");
    }
    url.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_known_by_its_name_and_never_shown() {
        for (address, secret, said) in [
            ("http://10.0.0.9/snap.jpg?res=high", false, "http://10.0.0.9/snap.jpg"),
            ("rtsp://10.0.0.9:8554/c1/s1?a=b&c=d#e", false, "rtsp://10.0.0.9:8554/c1/s1"),
            ("http://10.0.0.9/snap.jpg?usr=a&pwd=horse", true, "http://10.0.0.9/snap.jpg"),
            (
                "http://10.0.0.9/snap.jpg?loginuse=a&LoginPas=horse",
                true,
                "http://10.0.0.9/snap.jpg",
            ),
            ("http://10.0.0.9/s?user=a&psw=horse", true, "http://10.0.0.9/s"),
            ("http://10.0.0.9/s?basic_auth=aG9yc2U", true, "http://10.0.0.9/s"),
            ("http://10.0.0.9/s?x=1;token=horse", true, "http://10.0.0.9/s"),
            ("rtsp://10.0.0.9/user=a_password=horse_channel=1", true, "rtsp://10.0.0.9"),
            ("rtsp://viewer:horse@10.0.0.9/live", false, "rtsp://10.0.0.9/live"),
            ("http://10.0.0.9/password", false, "http://10.0.0.9/password"),
            ("http://10.0.0.9/s?mode=pass", false, "http://10.0.0.9/s"),
            ("horse@10.0.0.9", false, "-"),
        ] {
            assert_eq!(is_secret(address), secret, "{address}");
            assert_eq!(shown(address), said, "{address}");
        }
    }
}
