//! Envelopes: what is sent, written by hand, and what comes back, read under limits.
//!
//! What a stranger gets wrong: the digest of a login is made of what is sent with it (a number used once, a time)
//! and of the password, so the same login is never sent twice; and the time must be the camera's own.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, SecondsFormat, Utc};
use roxmltree::{Document, Node, ParsingOptions};
use sha1::{Digest, Sha1};

use crate::io::camera::Login;

/// The longest answer: a recorder with 32 cameras lists its profiles in some 300 kB.
pub const MOST_BYTES: u64 = 512 << 10;
/// What a document may have of what makes reading it dear: nodes, attributes, and names of namespaces.
const MOST_NODES: u32 = 40_000;
const MOST_ATTRIBUTES: usize = 20_000;
const MOST_NAMESPACES: usize = 256;
/// Longest text that is taken over from a camera, characters.
const MOST_TEXT: usize = 120;

const SOAP: [&str; 2] =
    ["http://www.w3.org/2003/05/soap-envelope", "http://schemas.xmlsoap.org/soap/envelope/"];
const SECURITY: &str =
    "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd";
const UTILITY: &str =
    "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-utility-1.0.xsd";
const PASSWORD_DIGEST: &str = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-username-token-profile-1.0#PasswordDigest";
const BASE64: &str = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-soap-message-security-1.0#Base64Binary";

/// An envelope with this head and body.
pub fn envelope(head: &str, body: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><s:Envelope xmlns:s=\"{}\">\
         <s:Header>{head}</s:Header><s:Body>{body}</s:Body></s:Envelope>",
        SOAP[0]
    )
}

/// The head that says who we are (WS-Security UsernameToken Profile 1.0, PasswordDigest), with the camera's time
/// and a number that is used once.
pub fn token(login: &Login, at: DateTime<Utc>, once: &[u8]) -> String {
    let created = at.to_rfc3339_opts(SecondsFormat::Millis, true);
    format!(
        "<w:Security s:mustUnderstand=\"1\" xmlns:w=\"{SECURITY}\" xmlns:u=\"{UTILITY}\">\
         <w:UsernameToken><w:Username>{}</w:Username>\
         <w:Password Type=\"{PASSWORD_DIGEST}\">{}</w:Password>\
         <w:Nonce EncodingType=\"{BASE64}\">{}</w:Nonce><u:Created>{created}</u:Created>\
         </w:UsernameToken></w:Security>",
        escaped(&login.username),
        digest(&login.password, &created, once),
        STANDARD.encode(once),
    )
}

/// Base64 of the SHA-1 of number, time and password, one after the other.
fn digest(password: &str, created: &str, once: &[u8]) -> String {
    let sum = Sha1::new().chain_update(once).chain_update(created).chain_update(password);
    STANDARD.encode(sum.finalize())
}

/// A text as it may stand in an element.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// No SOAP, or not to be read.
    Strange(String),
    /// The other side says that it cannot, in its words; whether it is for who we are.
    Fault {
        /// Its words.
        said: String,
        /// Whether user or password are missing or wrong.
        refused: bool,
    },
    /// `read` did not find what it looked for.
    Lacks,
}

/// Reads what lies in the body of an answer.
///
/// # Errors
/// When it is no SOAP, a fault, or has nothing that `read` takes.
pub fn within<T>(
    answer: &[u8],
    read: impl FnOnce(Node<'_, '_>) -> Option<T>,
) -> Result<T, Trouble> {
    let strange = |why: &str| Trouble::Strange(why.to_owned());
    let text = std::str::from_utf8(answer).map_err(|_| strange("not UTF-8"))?;
    // Some send a mark of the byte order, or lines before the first tag.
    let text = text.trim_start_matches('\u{feff}').trim_start();
    if text.matches('=').count() > MOST_ATTRIBUTES
        || text.matches("xmlns").count() > MOST_NAMESPACES
    {
        return Err(strange("too many attributes"));
    }
    let options = ParsingOptions { nodes_limit: MOST_NODES, ..ParsingOptions::default() };
    let document = Document::parse_with_options(text, options)
        .map_err(|error| Trouble::Strange(plain(&format!("no XML ({error})"))))?;
    let root = document.root_element();
    let soap = root.tag_name().namespace().unwrap_or_default();
    if root.tag_name().name() != "Envelope" || !SOAP.contains(&soap) {
        return Err(strange("XML, but no SOAP envelope"));
    }
    let body = child(root, "Body").ok_or_else(|| strange("a SOAP envelope without a body"))?;
    match child(body, "Fault") {
        Some(fault) => Err(trouble(fault)),
        None => read(body).ok_or(Trouble::Lacks),
    }
}

/// A fault of SOAP 1.2 or 1.1.
fn trouble(fault: Node<'_, '_>) -> Trouble {
    let all = |names: &[&str]| -> Vec<String> {
        let named = fault.descendants().filter(|node| names.contains(&node.tag_name().name()));
        named.filter_map(|node| node.text()).map(plain).filter(|text| !text.is_empty()).collect()
    };
    let local = |code: String| code.rsplit(':').next().unwrap_or_default().to_owned();
    let codes: Vec<String> = all(&["Value", "faultcode"]).into_iter().map(local).collect();
    let words = all(&["Text", "faultstring"]).join(" ");
    // Names of the ONVIF Core Specification and of WS-Security; some makers say it in words alone.
    let names =
        ["NotAuthorized", "FailedAuthentication", "InvalidSecurity", "InvalidSecurityToken"];
    let lower = words.to_ascii_lowercase();
    let refused = codes.iter().any(|code| names.contains(&code.as_str()))
        || ["not authorized", "unauthorized", "authority failure"]
            .iter()
            .any(|w| lower.contains(w));
    let code = codes.last().cloned().unwrap_or_default();
    let said = [words, code].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>();
    Trouble::Fault { said: plain(&said.join(" / ")), refused }
}

/// The first child element of a name, whatever its prefix.
pub fn child<'a, 'i>(node: Node<'a, 'i>, name: &str) -> Option<Node<'a, 'i>> {
    node.children().find(|child| child.is_element() && child.tag_name().name() == name)
}

/// The first element of a name at any depth, whatever its prefix.
pub fn below<'a, 'i>(node: Node<'a, 'i>, name: &str) -> Option<Node<'a, 'i>> {
    node.descendants().find(|found| found.is_element() && found.tag_name().name() == name)
}

/// The text of an element, whole, in however many pieces it stands there.
pub fn text(node: Node<'_, '_>) -> String {
    node.children().filter(|part| part.is_text()).filter_map(|part| part.text()).collect::<String>()
}

/// A text of a camera as it may be shown: one line, no control characters, not endless.
pub fn plain(text: &str) -> String {
    let words = text.split(|c: char| c.is_whitespace() || c.is_control());
    let line = words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    // Marks that turn the direction of writing would let a name hide what follows it.
    line.chars().filter(|c| !matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')).take(MOST_TEXT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(soap: &str, body: &str) -> Vec<u8> {
        format!("<e:Envelope xmlns:e=\"{soap}\"><e:Body>{body}</e:Body></e:Envelope>").into_bytes()
    }

    /// The example of the WS-UsernameToken chapter of ONVIF's Application Programmer's Guide.
    #[test]
    fn the_digest_is_that_of_the_standard() {
        let once = STANDARD.decode("LKqI6G/AikKCQrN0zqZFlg==").unwrap();
        assert_eq!(
            digest("userpassword", "2010-09-16T07:50:45Z", &once),
            "tuOSpGlFlIXsozq4HFNeeGeFLEI="
        );
    }

    #[test]
    fn a_login_is_escaped_and_never_has_the_password_in_it() {
        let login = Login { username: "a<b>&\"c".to_owned(), password: "horse&staple".to_owned() };
        let at = DateTime::from_timestamp(1_800_000_000, 5_000_000).unwrap();
        let sent = envelope(&token(&login, at, &[7; 16]), "<x/>");
        let document = Document::parse(&sent).unwrap();
        let name = below(document.root_element(), "Username").unwrap();
        assert_eq!(text(name), login.username);
        let created = below(document.root_element(), "Created").unwrap();
        assert_eq!(text(created), "2027-01-15T08:00:00.005Z");
        assert!(!sent.contains("horse") && !sent.contains("staple"), "{sent}");
    }

    #[test]
    fn a_body_is_found_whatever_prefixes_and_version() {
        for soap in SOAP {
            let bytes = answer(soap, "<q:Name xmlns:q='urn:x'>a<!-- c --> <![CDATA[b]]></q:Name>");
            assert_eq!(within(&bytes, |body| Some(text(below(body, "Name")?))).unwrap(), "a b");
            let with_mark = [b"\xef\xbb\xbf\r\n".to_vec(), bytes].concat();
            assert!(within(&with_mark, |body| below(body, "Name").map(drop)).is_ok());
            assert_eq!(
                within(&with_mark, |body| below(body, "Other").map(drop)),
                Err(Trouble::Lacks)
            );
        }
    }

    #[test]
    fn faults_say_what_the_camera_says_and_whether_it_refuses_us() {
        let twelve = "<e:Fault><e:Code><e:Value>e:Sender</e:Value><e:Subcode>\
             <e:Value xmlns:t='http://www.onvif.org/ver10/error'>t:NotAuthorized</e:Value></e:Subcode></e:Code>\
             <e:Reason><e:Text xml:lang='en'>The action requires authorization</e:Text></e:Reason></e:Fault>";
        let eleven = "<e:Fault><faultcode>SOAP-ENV:Client</faultcode><faultstring>Sender\n\u{1b} not Authorized\
             </faultstring></e:Fault>";
        let other = "<e:Fault><e:Code><e:Value>e:Receiver</e:Value><e:Subcode><e:Value>t:ActionNotSupported\
             </e:Value></e:Subcode></e:Code><e:Reason><e:Text>no</e:Text></e:Reason></e:Fault>";
        for (soap, fault, wanted, is_refused) in [
            (SOAP[0], twelve, "The action requires authorization / NotAuthorized", true),
            (SOAP[0], other, "no / ActionNotSupported", false),
        ] {
            let told = within(&answer(soap, fault), |_| Some(()));
            let wanted = Trouble::Fault { said: wanted.to_owned(), refused: is_refused };
            assert_eq!(told, Err(wanted));
        }
        // An escape character is no XML: refused as a whole, not shown.
        assert!(matches!(within(&answer(SOAP[1], eleven), |_| Some(())), Err(Trouble::Strange(_))));
        let eleven = eleven.replace('\u{1b}', "");
        let told = within(&answer(SOAP[1], &eleven), |_| Some(()));
        let said = "Sender not Authorized / Client".to_owned();
        assert_eq!(told, Err(Trouble::Fault { said, refused: true }));
    }

    #[test]
    fn what_is_no_soap_or_meant_to_hurt_is_refused_soon() {
        let nested = |depth: usize| "<a>".repeat(depth) + &"</a>".repeat(depth);
        let attributes: String = (0..30_000).map(|n| format!(" a{n}=''")).collect();
        let spaces: String = (0..300).map(|n| format!(" xmlns:a{n}='urn:{n}'")).collect();
        let laughs = "<!DOCTYPE x [<!ENTITY a 'aaaaaaaaaa'><!ENTITY b '&a;&a;&a;&a;'>]><x>&b;</x>";
        for (what, bytes) in [
            ("nothing", Vec::new()),
            ("a page", b"<!DOCTYPE html><html><body>hello<br></body></html>".to_vec()),
            ("a page that is XML", b"<html><body>hello</body></html>".to_vec()),
            ("a foreign namespace", answer("urn:soap", "<x/>")),
            ("no body", format!("<Envelope xmlns='{}'/>", SOAP[0]).into_bytes()),
            ("not UTF-8", b"<a>\xff\xfe</a>".to_vec()),
            ("an unknown entity", answer(SOAP[0], "<x>&lol;</x>")),
            ("entities", laughs.as_bytes().to_vec()),
            ("cut off", answer(SOAP[0], "<x>a</x>")[..60].to_vec()),
            ("many nodes", answer(SOAP[0], &"<x/>".repeat(50_000))),
            ("many attributes", answer(SOAP[0], &format!("<x{attributes}/>"))),
            ("many namespaces", answer(SOAP[0], &format!("<x{spaces}/>"))),
            ("deep and open", answer(SOAP[0], &"<a>".repeat(20_000))),
        ] {
            let read = within(&bytes, |_| Some(()));
            assert!(matches!(read, Err(Trouble::Strange(_))), "{what}: {read:?}");
        }
        // Deep nesting alone is read without the stack: nothing is found in it.
        assert_eq!(
            within(&answer(SOAP[0], &nested(15_000)), |body| below(body, "b").map(drop)),
            Err(Trouble::Lacks)
        );
    }

    #[test]
    fn a_shown_text_is_one_short_line() {
        assert_eq!(plain("  a\n\tb\u{7}c \u{202e}d "), "a b c d");
        assert_eq!(plain(&"x".repeat(1000)).len(), MOST_TEXT);
    }
}
