//! The ONVIF face of a simulated camera, as strange as real ones are: prefixes of its own, a clock that is off,
//! addresses with a host that nobody reaches, a login by digest that is checked and taken once, and wrong logins
//! counted. Its snapshot asks for a digest of HTTP, whose number used once (nonce) grows old; another face answers to
//! the question who is a camera (WS-Discovery).
//!
//! What a stranger gets wrong: it reads requests by the names of their elements alone and knows nothing of XML.
//! That is enough to be asked, and not enough to be attacked: it listens on loopback.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinHandle;

use crate::digest::{Nonce, Told};

/// How far the time of a login may be from the camera's clock, s.
const LATE_S: i64 = 5;
/// Logins that are remembered, so that none is taken twice.
const MOST_REMEMBERED: usize = 10_000;
/// Elements of an answer that is too long.
const FLOOD: usize = 200_000;
const ERROR: &str = "http://www.onvif.org/ver10/error";

/// What the camera is like.
#[derive(Clone, Debug, Default)]
pub struct Face {
    /// User and password; without them it asks nobody who he is.
    pub user: Option<(String, String)>,
    /// How far its clock is ahead, s.
    pub ahead_s: i64,
    /// What it takes for its own host and HTTP port.
    pub believes: String,
    /// Port and path of the RTSP server that has its streams.
    pub rtsp: (u16, String),
    /// Its serial number.
    pub serial: String,
    /// Whether it offers a snapshot.
    pub has_snapshot: bool,
    /// Whether its services ask for a digest of HTTP, the clock too, and not for a login in the envelope.
    pub by_digest: bool,
    /// Calls that it answers with more than anybody reads.
    pub floods: &'static [&'static str],
    /// Logins that were wrong or that nobody asked for: a real camera locks the user out after a few.
    pub wrong: Arc<AtomicU32>,
}

/// Draws the picture of this moment as a JPEG.
pub type Draw = Arc<dyn Fn() -> Result<Vec<u8>, String> + Send + Sync>;

#[derive(Clone)]
struct Camera {
    face: Arc<Face>,
    draw: Draw,
    /// Logins that were taken.
    taken: Arc<Mutex<BTreeSet<String>>>,
    nonce: Arc<Mutex<Nonce>>,
}

/// The camera's services and its snapshot.
pub fn routes<S>(face: Face, draw: Draw) -> Router<S> {
    let face = Arc::new(face);
    let camera = Camera { face, draw, taken: Arc::default(), nonce: Arc::default() };
    Router::new()
        .route("/onvif/device_service", post(answer))
        .route("/onvif/Media", post(answer))
        .route("/images/snapshot.jpg", get(snapshot))
        .with_state(camera)
}

/// Serves a camera alone until the task is aborted.
///
/// # Errors
/// When the address cannot be listened on.
pub async fn serve(
    address: SocketAddr,
    face: Face,
    draw: Draw,
) -> io::Result<(SocketAddr, JoinHandle<()>)> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    let serving = tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, routes(face, draw)).await {
            tracing::error!(%error, "the simulated camera stopped");
        }
    });
    Ok((address, serving))
}

/// Answers to whoever asks for cameras, with these addresses of its service, until the task is aborted. Before
/// each answer comes a datagram that is none.
///
/// # Errors
/// When the address cannot be listened on.
pub async fn announce(
    address: SocketAddr,
    services: String,
) -> io::Result<(SocketAddr, JoinHandle<()>)> {
    let socket = UdpSocket::bind(address).await?;
    let address = socket.local_addr()?;
    let answering = tokio::spawn(async move {
        let mut buffer = vec![0; 1 << 16];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            let asked = String::from_utf8_lossy(&buffer[..length]).into_owned();
            let types = element(&asked, "Types").unwrap_or_default();
            if !types.ends_with("NetworkVideoTransmitter") || element(&asked, "Probe").is_none() {
                continue;
            }
            let id = element(&asked, "MessageID").unwrap_or_default();
            let _ = socket.send_to(b"\x00\xffno answer", from).await;
            let _ = socket.send_to(match_of(&id, &services).as_bytes(), from).await;
        }
    });
    Ok((address, answering))
}

fn match_of(id: &str, services: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<SOAP-ENV:Envelope \
         xmlns:SOAP-ENV=\"http://www.w3.org/2003/05/soap-envelope\" \
         xmlns:wsa=\"http://schemas.xmlsoap.org/ws/2004/08/addressing\" \
         xmlns:wsd=\"http://schemas.xmlsoap.org/ws/2005/04/discovery\" \
         xmlns:tdn=\"http://www.onvif.org/ver10/network/wsdl\"><SOAP-ENV:Header>\
         <wsa:RelatesTo>{id}</wsa:RelatesTo></SOAP-ENV:Header><SOAP-ENV:Body><wsd:ProbeMatches><wsd:ProbeMatch>\
         <wsa:EndpointReference><wsa:Address>urn:uuid:00000000-0000-4000-8000-00000000d03e</wsa:Address>\
         </wsa:EndpointReference><wsd:Types>tdn:NetworkVideoTransmitter</wsd:Types>\n\
         <wsd:Scopes>onvif://www.onvif.org/type/ptz onvif://www.onvif.org/name/Dome%20one \
         onvif://www.onvif.org/hardware/SIM-D1 </wsd:Scopes><wsd:XAddrs>{services}</wsd:XAddrs>\
         <wsd:MetadataVersion>1</wsd:MetadataVersion></wsd:ProbeMatch></wsd:ProbeMatches>\
         </SOAP-ENV:Body></SOAP-ENV:Envelope>"
    )
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The text before the next tag of the first element of a name, whatever its prefix.
fn element(text: &str, name: &str) -> Option<String> {
    let mut rest = text;
    while let Some(at) = rest.find('<') {
        rest = &rest[at + 1..];
        let end = rest.find(['>', ' ', '/', '\n']).unwrap_or(rest.len());
        if rest[..end].rsplit(':').next() == Some(name) && !rest.starts_with('/') {
            let inside = rest.find('>').map_or("", |at| &rest[at + 1..]);
            let until = inside.find('<').unwrap_or(inside.len());
            return Some(inside[..until].trim().to_owned());
        }
    }
    None
}

/// The call: the first element in the body.
fn call(text: &str) -> &str {
    let body = text.find("Body>").map_or("", |at| &text[at + 5..]);
    let tag = body.trim_start().strip_prefix('<').unwrap_or_default();
    let end = tag.find(['>', ' ', '/']).unwrap_or(tag.len());
    tag[..end].rsplit(':').next().unwrap_or_default()
}

async fn answer(
    State(camera): State<Camera>,
    uri: Uri,
    headers: HeaderMap,
    text: String,
) -> Response {
    let call = call(&text);
    let face = &camera.face;
    let is_clock = call == "GetSystemDateAndTime";
    let tells = element(&text, "Username").is_some();
    if face.by_digest {
        camera.count(tells);
        if let Some(refusal) = camera.refuse(&headers, ("POST", &uri)) {
            return refusal;
        }
    } else {
        camera.count(headers.contains_key(header::AUTHORIZATION) || is_clock && tells);
        if !is_clock && !camera.knows(&text) {
            camera.count(tells);
            return fault(StatusCode::BAD_REQUEST, "ter:NotAuthorized", "Sender not Authorized");
        }
    }
    if is_clock {
        return envelope(&clock(now_s() + face.ahead_s));
    }
    if face.floods.contains(&call) {
        return envelope(&"<x/>".repeat(FLOOD));
    }
    let token = element(&text, "ProfileToken").unwrap_or_default();
    let of_profile = matches!(call, "GetStreamUri" | "GetSnapshotUri");
    if of_profile && !["main&1", "sub&2", "third&3"].contains(&token.replace("&amp;", "&").as_str())
    {
        return fault(StatusCode::BAD_REQUEST, "ter:NoProfile", "no such profile");
    }
    match call {
        "GetDeviceInformation" => envelope(&format!(
            "<q:GetDeviceInformationResponse xmlns:q=\"http://www.onvif.org/ver10/device/wsdl\">\
             <q:Manufacturer>Simulated</q:Manufacturer><q:Model><![CDATA[Dome & Co]]></q:Model>\
             <q:FirmwareVersion>B2.1</q:FirmwareVersion><q:SerialNumber>{}</q:SerialNumber>\
             </q:GetDeviceInformationResponse>",
            face.serial
        )),
        "GetCapabilities" => {
            fault(StatusCode::INTERNAL_SERVER_ERROR, "ter:ActionNotSupported", "old")
        }
        "GetServices" => envelope(&services(&face.believes)),
        "GetProfiles" => envelope(PROFILES),
        "GetStreamUri" => {
            let (port, path) = &face.rtsp;
            media("GetStreamUriResponse", &format!("rtsp://viewer:secret@0.0.0.0:{port}{path}"))
        }
        "GetSnapshotUri" if face.has_snapshot => {
            let url = format!("http://{}/images/snapshot.jpg?a=1&amp;b=2", face.believes);
            media("GetSnapshotUriResponse", &url)
        }
        _ => fault(StatusCode::INTERNAL_SERVER_ERROR, "ter:ActionNotSupported", "not here"),
    }
}

impl Camera {
    /// Counts a wrong login.
    fn count(&self, is_wrong: bool) {
        self.face.wrong.fetch_add(u32::from(is_wrong), Ordering::SeqCst);
    }

    /// Asks for a digest of HTTP; nothing where the request has a right one.
    fn refuse(&self, headers: &HeaderMap, (method, uri): (&str, &Uri)) -> Option<Response> {
        let user = self.face.user.as_ref()?;
        let target = uri.path_and_query().map_or(uri.path(), |target| target.as_str());
        let told = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let mut nonce = lock(&self.nonce);
        let judged = told.map(|told| nonce.judge(told, user, (method, target)));
        self.count(judged == Some(Told::Wrong));
        if judged == Some(Told::Right) {
            return None;
        }
        let asks = nonce.challenge(judged == Some(Told::Stale));
        Some((StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, asks)]).into_response())
    }

    /// Whether a request comes with a login that is right, of this moment, and new.
    fn knows(&self, text: &str) -> bool {
        let Some((user, password)) = &self.face.user else { return true };
        let told = |name| element(text, name).unwrap_or_default();
        let (once, created) = (told("Nonce"), told("Created"));
        let Ok(bytes) = STANDARD.decode(&once) else { return false };
        let sum = Sha1::new().chain_update(&bytes).chain_update(&created).chain_update(password);
        let late = epoch(&created).map(|at| (at - now_s() - self.face.ahead_s).abs());
        let right = told("Username") == *user
            && told("Password") == STANDARD.encode(sum.finalize())
            && bytes.len() >= 8
            && late.is_some_and(|late| late <= LATE_S);
        let mut taken = lock(&self.taken);
        if taken.len() > MOST_REMEMBERED {
            taken.clear();
        }
        right && taken.insert(once)
    }
}

async fn snapshot(State(camera): State<Camera>, uri: Uri, headers: HeaderMap) -> Response {
    if let Some(refusal) = camera.refuse(&headers, ("GET", &uri)) {
        return refusal;
    }
    let draw = Arc::clone(&camera.draw);
    match tokio::task::spawn_blocking(move || draw()).await {
        Ok(Ok(jpeg)) => ([(header::CONTENT_TYPE, "image/jpeg")], jpeg).into_response(),
        Ok(Err(why)) => (StatusCode::INTERNAL_SERVER_ERROR, why).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

fn envelope(body: &str) -> Response {
    let text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<env:Envelope \
         xmlns:env=\"http://www.w3.org/2003/05/soap-envelope\" xmlns:x=\"http://www.onvif.org/ver10/schema\">\n\
         <!-- {} --><env:Body>{body}</env:Body></env:Envelope>\n",
        "dome"
    );
    ([(header::CONTENT_TYPE, "application/soap+xml")], text).into_response()
}

fn fault(status: StatusCode, code: &str, why: &str) -> Response {
    let text = format!(
        "<env:Fault><env:Code><env:Value>env:Sender</env:Value><env:Subcode>\
         <env:Value xmlns:ter=\"{ERROR}\">{code}</env:Value></env:Subcode></env:Code>\
         <env:Reason><env:Text xml:lang=\"en\">{why}</env:Text></env:Reason></env:Fault>"
    );
    (status, envelope(&text)).into_response()
}

fn media(name: &str, uri: &str) -> Response {
    envelope(&format!(
        "<{name} xmlns=\"http://www.onvif.org/ver10/media/wsdl\"><MediaUri><x:Uri>{uri}</x:Uri>\
         <x:InvalidAfterConnect>false</x:InvalidAfterConnect></MediaUri></{name}>"
    ))
}

fn services(believes: &str) -> String {
    let service = |space: &str, path: &str| {
        format!(
            "<Service><Namespace>http://www.onvif.org/{space}/wsdl</Namespace>\
             <XAddr>http://{believes}/onvif/{path}</XAddr></Service>"
        )
    };
    let all = service("ver10/device", "device_service") + &service("ver10/media", "Media");
    let space = "http://www.onvif.org/ver10/device/wsdl";
    format!("<GetServicesResponse xmlns=\"{space}\">{all}</GetServicesResponse>")
}

const PROFILES: &str = "<m:GetProfilesResponse xmlns:m=\"http://www.onvif.org/ver10/media/wsdl\">\
    <m:Profiles fixed=\"true\" token=\"main&amp;1\"><x:Name>main</x:Name><x:VideoEncoderConfiguration token=\"v1\">\
    <x:Name>v1</x:Name><x:Encoding>H265</x:Encoding><x:Resolution><x:Width>1920</x:Width><x:Height>1080</x:Height>\
    </x:Resolution><x:RateControl><x:FrameRateLimit>25</x:FrameRateLimit><x:BitrateLimit>4096</x:BitrateLimit>\
    </x:RateControl></x:VideoEncoderConfiguration></m:Profiles>\n\
    <m:Profiles token=\"sub&amp;2\"><x:Name>sub \u{4e8c}</x:Name><x:VideoEncoderConfiguration token=\"v2\">\
    <x:Encoding>H264</x:Encoding><x:Resolution><x:Width>640</x:Width><x:Height>360</x:Height></x:Resolution>\
    <x:RateControl><x:FrameRateLimit>25</x:FrameRateLimit><x:BitrateLimit>512</x:BitrateLimit></x:RateControl>\
    <x:H264><x:GovLength>100</x:GovLength></x:H264></x:VideoEncoderConfiguration></m:Profiles>\n\
    <m:Profiles token=\"third&amp;3\"><x:Name>third</x:Name><x:VideoEncoderConfiguration token=\"v3\">\
    <x:Encoding>H264</x:Encoding><x:Resolution><x:Width>352</x:Width><x:Height>288</x:Height></x:Resolution>\
    </x:VideoEncoderConfiguration></m:Profiles></m:GetProfilesResponse>";

/// Seconds since 1970.
#[allow(clippy::disallowed_methods)] // the simulators have no gateway clock
fn now_s() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |passed| passed.as_secs() as i64)
}

/// Days from 1970 to a day of the common calendar, by counting.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let years: i64 = (1970..year).map(|year| 365 + i64::from(leap(year))).sum();
    let lengths = [31, 28 + i64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    years + lengths.iter().take((month - 1).clamp(0, 11) as usize).sum::<i64>() + day - 1
}

/// `2027-01-15T08:00:00.005Z` as seconds since 1970.
fn epoch(text: &str) -> Option<i64> {
    let whole = text.strip_suffix('Z')?.split('.').next()?;
    let parts: Vec<i64> =
        whole.split(['-', 'T', ':']).filter_map(|part| part.parse().ok()).collect();
    let [year, month, day, hour, minute, second] = parts[..] else { return None };
    (1970..2200)
        .contains(&year)
        .then(|| days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second)
}

/// The clock's answer.
fn clock(at_s: i64) -> String {
    let (day, rest) = (at_s.div_euclid(86_400), at_s.rem_euclid(86_400));
    let year = (1970..2200).rev().find(|year| days(*year, 1, 1) <= day).unwrap_or(1970);
    let month = (1..=12).rev().find(|month| days(year, *month, 1) <= day).unwrap_or(1);
    let date = day - days(year, month, 1) + 1;
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!(
        "<GetSystemDateAndTimeResponse xmlns=\"http://www.onvif.org/ver10/device/wsdl\"><SystemDateAndTime>\
         <x:DateTimeType>Manual</x:DateTimeType><x:UTCDateTime><x:Time><x:Hour>{hour}</x:Hour>\
         <x:Minute>{minute}</x:Minute><x:Second>{second}</x:Second></x:Time><x:Date><x:Year>{year}</x:Year>\
         <x:Month>{month}</x:Month><x:Day>{date}</x:Day></x:Date></x:UTCDateTime></SystemDateAndTime>\
         </GetSystemDateAndTimeResponse>"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_go_there_and_back() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2027-01-15T08:00:00.005Z", 1_800_000_000),
            ("2028-02-29T23:59:59Z", 1_835_481_599),
        ] {
            assert_eq!(epoch(text), Some(seconds), "{text}");
            let told = clock(seconds);
            let part = |name| element(&told, name).unwrap().parse::<i64>().unwrap();
            let whole = [part("Year"), part("Month"), part("Day")];
            let [year, month, day] = whole;
            assert!(text.starts_with(&format!("{year:04}-{month:02}-{day:02}")), "{told}");
            assert_eq!((part("Hour"), part("Second")), (seconds / 3600 % 24, seconds % 60));
        }
        assert_eq!(epoch("yesterday"), None);
    }
}
