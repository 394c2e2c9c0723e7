//! A digest of HTTP (RFC 7616) as a camera checks it: the number used once (nonce) serves a few requests and is old
//! then, and each request counts on. It offers to count the body in (auth-int) and does not want that.
//!
//! What a stranger gets wrong: an old nonce is no wrong login; the camera says so and gives a new one.

use md5::{Digest, Md5};

const REALM: &str = "dome";
/// Requests that a nonce serves.
const SERVES: u32 = 3;

/// What a digest of HTTP is made with; it grows old.
#[derive(Debug, Default)]
pub struct Nonce {
    /// Which one it is.
    number: u32,
    /// Requests that it has served.
    served: u32,
    /// The last count of a request (nc): the next one is higher.
    count: u32,
}

/// What is thought of a digest.
#[derive(Debug, PartialEq, Eq)]
pub enum Told {
    /// It is that of the user.
    Right,
    /// It was, with a nonce that has grown old.
    Stale,
    /// It is not, or was used before.
    Wrong,
}

impl Nonce {
    /// What a request is asked with, a new nonce each time; whether only because it came with an old one.
    pub fn challenge(&mut self, is_stale: bool) -> String {
        *self = Nonce { number: self.number + 1, ..Nonce::default() };
        let stale = if is_stale { ", stale=true" } else { "" };
        let nonce = self.text();
        format!(
            "Digest realm=\"{REALM}\", nonce=\"{nonce}\", qop=\"auth,auth-int\", algorithm=MD5{stale}"
        )
    }

    fn text(&self) -> String {
        format!("5b1e{:08x}", self.number)
    }

    /// Judges what stands in the head field of a request: method and target.
    pub fn judge(&mut self, told: &str, user: &(String, String), request: (&str, &str)) -> Told {
        if !is_right(told, user, request) {
            return Told::Wrong;
        }
        if part(told, "nonce") != self.text() {
            return Told::Stale;
        }
        let count = u32::from_str_radix(&part(told, "nc"), 16).unwrap_or(0);
        if count <= self.count {
            return Told::Wrong;
        }
        (self.count, self.served) = (count, self.served + 1);
        if self.served == SERVES {
            *self = Nonce { number: self.number + 1, ..Nonce::default() };
        }
        Told::Right
    }
}

/// One part of a digest of HTTP; empty where it has none.
fn part(told: &str, name: &str) -> String {
    let mut parts =
        told.trim_start_matches("Digest").split(',').filter_map(|p| p.trim().split_once('='));
    let found = parts.find(|(key, _)| *key == name);
    found.map(|(_, value)| value.trim_matches('"').to_owned()).unwrap_or_default()
}

/// Whether a digest of HTTP (RFC 7616, MD5, qop auth) is that of a user for this request: method and target.
fn is_right(
    told: &str,
    (user, password): &(String, String),
    (method, target): (&str, &str),
) -> bool {
    let sum = |text: String| {
        let bytes = Md5::digest(text.as_bytes());
        bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    let one = sum(format!("{user}:{REALM}:{password}"));
    let two = sum(format!("{method}:{target}"));
    let [nonce, count, own] = ["nonce", "nc", "cnonce"].map(|name| part(told, name));
    let wanted = sum(format!("{one}:{nonce}:{count}:{own}:auth:{two}"));
    part(told, "username") == *user
        && part(told, "qop") == "auth"
        && part(told, "response") == wanted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_of_http_is_checked_and_grows_old() {
        let user = ("viewer".to_owned(), "a word".to_owned());
        // By hand: md5sum of the parts.
        let sum =
            |text: &str| Md5::digest(text).iter().map(|b| format!("{b:02x}")).collect::<String>();
        let (one, two) = (sum("viewer:dome:a word"), sum("GET:/x"));
        let told = |nonce: &str, count: u32| {
            let response = sum(&format!("{one}:{nonce}:{count:08x}:abc:auth:{two}"));
            format!(
                "Digest username=\"viewer\", realm=\"dome\", uri=\"/x\", nonce=\"{nonce}\", nc={count:08x}, \
                 cnonce=\"abc\", qop=auth, response=\"{response}\""
            )
        };
        let first = told("5b1e00000000", 1);
        let other = ("viewer".to_owned(), "other".to_owned());
        for (told, user, request, wanted) in [
            (&first, &user, ("GET", "/x"), true),
            (&first, &user, ("GET", "/y"), false),
            (&first, &user, ("POST", "/x"), false),
            (&first, &other, ("GET", "/x"), false),
            (&first.replace("qop=auth", "qop=auth-int"), &user, ("GET", "/x"), false),
            (&"Basic dmlld2VyOmEgd29yZA==".to_owned(), &user, ("GET", "/x"), false),
        ] {
            assert_eq!(is_right(told, user, request), wanted, "{told} {request:?}");
        }
        let mut nonce = Nonce::default();
        // Each count is higher than the last one; the fourth request needs another nonce.
        for (number, count, wanted) in [
            (0, 1, Told::Right),
            (0, 1, Told::Wrong),
            (0, 5, Told::Right),
            (0, 4, Told::Wrong),
            (0, 6, Told::Right),
            (0, 7, Told::Stale),
            (1, 1, Told::Right),
            (0, 8, Told::Stale),
        ] {
            let told = told(&format!("5b1e{number:08x}"), count);
            assert_eq!(nonce.judge(&told, &user, ("GET", "/x")), wanted, "{number} {count}");
        }
    }
}
