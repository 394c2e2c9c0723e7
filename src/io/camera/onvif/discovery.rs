//! WS-Discovery: who is a camera on this network? One question by multicast from each of the gateway's own
//! addresses, twice, because datagrams get lost; whoever answers is told as it comes.
//!
//! What a stranger gets wrong: a datagram to a multicast group leaves by one network only, the one of its source
//! address. A gateway whose cameras have a network of their own would never hear of them. And anybody may answer:
//! what is told is what somebody says of himself.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4, UdpSocket as Plain};
use std::time::Duration;

use roxmltree::Node;
use serde::Serialize;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::timeout_at;
use url::Url;

use super::address;
use super::soap::{self, below, child, plain, text};
use crate::io::clock::instant;
use crate::io::random;

/// Where cameras listen (WS-Discovery 1.0, 2.4).
pub const MULTICAST: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(239, 255, 255, 250), 3702);
/// The question is asked again after this share of the time.
const AGAIN: f64 = 0.25;
/// More answers than this are not told.
const MOST_FOUND: usize = 1024;
/// Answers that may wait to be told.
const WAITING: usize = 64;
const PROBE: &str = "http://schemas.xmlsoap.org/ws/2005/04/discovery/Probe";
const SCOPE: &str = "onvif://www.onvif.org/";

/// How to look.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Where the question goes.
    pub to: SocketAddrV4,
    /// From which of our addresses; all where none is named.
    pub from: Vec<Ipv4Addr>,
    /// How long answers are waited for.
    pub wait: Duration,
}

/// A camera that answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Found {
    /// Its device service, at the host that answered and the port that it named.
    pub address: String,
    /// What it calls itself.
    pub name: String,
    /// Its hardware.
    pub hardware: String,
    /// Where it says that it hangs.
    pub location: String,
    /// The host that it named, where another one answered.
    pub named: Option<String>,
}

/// Asks, and tells each camera once, as it answers.
///
/// # Errors
/// When the question cannot be asked from any address.
pub async fn discover(wanted: Wanted, tell: mpsc::Sender<Found>) -> std::io::Result<()> {
    let own = if wanted.from.is_empty() { own_addresses(*wanted.to.ip()) } else { wanted.from };
    let (send, mut heard) = mpsc::channel(WAITING);
    let (mut tasks, mut trouble) = (Vec::new(), None);
    for source in own {
        match UdpSocket::bind((source, 0)).await {
            Ok(socket) => {
                let (to, wait, send) = (wanted.to, wanted.wait, send.clone());
                tasks.push(tokio::spawn(ask(socket, (to, wait), send)));
            }
            Err(error) => trouble = Some(error),
        }
    }
    drop(send);
    let mut told = BTreeSet::new();
    while let Some(found) = heard.recv().await {
        let is_new = told.len() < MOST_FOUND && told.insert(found.address.clone());
        if is_new && tell.send(found).await.is_err() {
            break;
        }
    }
    // Who still hears something has nobody to tell it to.
    drop(heard);
    let mut asked = false;
    for task in tasks {
        match task.await {
            Ok(Ok(())) => asked = true,
            Ok(Err(error)) => trouble = Some(error),
            Err(_) => {}
        }
    }
    match trouble {
        Some(error) if !asked => Err(error),
        _ => Ok(()),
    }
}

/// Asks twice from one socket and hands on who answers.
async fn ask(
    socket: UdpSocket,
    (to, wait): (SocketAddrV4, Duration),
    found: mpsc::Sender<Found>,
) -> std::io::Result<()> {
    let began = instant();
    let mut buffer = vec![0; 1 << 16];
    let question = question()?;
    for until in [wait.mul_f64(AGAIN), wait] {
        socket.send_to(question.as_bytes(), to).await?;
        while let Ok(Ok((length, from))) =
            timeout_at(began + until, socket.recv_from(&mut buffer)).await
        {
            for camera in answer(&buffer[..length], from.ip()) {
                if found.send(camera).await.is_err() {
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

/// The question: who transmits video?
fn question() -> std::io::Result<String> {
    let mut id = [0; 16];
    random::fill(&mut id)?;
    // Version 4, variant 1 (RFC 9562).
    (id[6], id[8]) = (id[6] & 0x0f | 0x40, id[8] & 0x3f | 0x80);
    let hex = |part: &[u8]| part.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let id = [&id[..4], &id[4..6], &id[6..8], &id[8..10], &id[10..]].map(hex).join("-");
    let head = format!(
        "<a:Action xmlns:a=\"http://schemas.xmlsoap.org/ws/2004/08/addressing\">{PROBE}</a:Action>\
         <a:MessageID xmlns:a=\"http://schemas.xmlsoap.org/ws/2004/08/addressing\">urn:uuid:{id}</a:MessageID>\
         <a:To xmlns:a=\"http://schemas.xmlsoap.org/ws/2004/08/addressing\">\
         urn:schemas-xmlsoap-org:ws:2005:04:discovery</a:To>"
    );
    let body = "<d:Probe xmlns:d=\"http://schemas.xmlsoap.org/ws/2005/04/discovery\">\
         <d:Types xmlns:n=\"http://www.onvif.org/ver10/network/wsdl\">n:NetworkVideoTransmitter</d:Types></d:Probe>";
    Ok(soap::envelope(&head, body))
}

/// The cameras that an answer names; none where it is no answer.
fn answer(bytes: &[u8], from: IpAddr) -> Vec<Found> {
    let all = |body: Node<'_, '_>| {
        let matches = body.descendants().filter(|node| node.tag_name().name() == "ProbeMatch");
        Some(matches.filter_map(|node| found(node, from)).collect())
    };
    soap::within(bytes, all).unwrap_or_default()
}

fn found(node: Node<'_, '_>, from: IpAddr) -> Option<Found> {
    let addresses = text(child(node, "XAddrs")?);
    let services = addresses.split_whitespace().filter_map(|text| Url::parse(text).ok());
    let services: Vec<Url> = services.filter(|url| url.scheme() == "http").collect();
    let ours = |url: &&Url| url.host_str() == Some(from.to_string().as_str());
    let service = services.iter().find(ours).or(services.first())?;
    let mut asked = Url::parse(&format!("http://{from}/")).ok()?;
    asked.set_port(service.port()).ok()?;
    let settled = address::settled(service.as_str(), &["http"], (&asked, None)).ok()?;
    let scopes = below(node, "Scopes").map(text).unwrap_or_default();
    let scope = |kind: &str| {
        let mut of = scopes
            .split_whitespace()
            .filter_map(|scope| scope.strip_prefix(SCOPE)?.strip_prefix(kind)?.strip_prefix('/'));
        of.next().map(|value| plain(&unescaped(value))).unwrap_or_default()
    };
    Some(Found {
        address: settled.url.into(),
        name: scope("name"),
        hardware: scope("hardware"),
        location: scope("location"),
        named: settled.named.map(|named| plain(&named)),
    })
}

/// Without percent signs.
fn unescaped(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((first, after)) = rest.split_first() {
        let two = after.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        match two.and_then(|two| u8::from_str_radix(two, 16).ok()).filter(|_| *first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Our addresses on the networks that the routing table knows; the one that the system would take where it cannot
/// be read, and for somebody who is asked alone.
fn own_addresses(to: Ipv4Addr) -> Vec<Ipv4Addr> {
    let any = vec![Ipv4Addr::UNSPECIFIED];
    if !to.is_multicast() {
        return any;
    }
    let routes = std::fs::read_to_string("/proc/net/route").unwrap_or_default();
    let mut own: Vec<Ipv4Addr> = networks(&routes).into_iter().filter_map(source_for).collect();
    own.sort_unstable();
    own.dedup();
    if own.is_empty() { any } else { own }
}

/// The networks of a routing table in the system's own form: hexadecimal, lowest byte first.
fn networks(routes: &str) -> Vec<Ipv4Addr> {
    let network = |line: &str| {
        let target = line.split_whitespace().nth(1)?;
        let bytes = u32::from_str_radix(target, 16).ok()?.to_le_bytes();
        Some(Ipv4Addr::from(bytes)).filter(|address| !address.is_unspecified())
    };
    routes.lines().skip(1).filter_map(network).collect()
}

/// Our own address towards a network; nothing is sent.
fn source_for(network: Ipv4Addr) -> Option<Ipv4Addr> {
    let neighbour = Ipv4Addr::from(u32::from(network) | 1);
    let socket = Plain::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((neighbour, MULTICAST.port())).ok()?;
    match socket.local_addr().ok()?.ip() {
        IpAddr::V4(own) if !own.is_loopback() => Some(own),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(scopes: &str, addresses: &str) -> Vec<u8> {
        format!(
            "<SOAP-ENV:Envelope xmlns:SOAP-ENV='http://www.w3.org/2003/05/soap-envelope' xmlns:w='urn:w'>\
             <SOAP-ENV:Body><w:ProbeMatches><w:ProbeMatch><w:Scopes>{scopes}</w:Scopes>\
             <w:XAddrs>{addresses}</w:XAddrs></w:ProbeMatch></w:ProbeMatches></SOAP-ENV:Body></SOAP-ENV:Envelope>"
        )
        .into_bytes()
    }

    #[test]
    fn an_answer_names_the_camera_at_the_host_that_answered() {
        let from = "192.168.1.9".parse().unwrap();
        let scopes = "onvif://www.onvif.org/type/video_encoder onvif://www.onvif.org/name/Hall%20%E4%B8%80%1b \
            onvif://www.onvif.org/hardware/IPC-D1 onvif://www.onvif.org/location/north%zz";
        let table = [
            (
                "http://192.168.1.9/onvif/device_service",
                "http://192.168.1.9/onvif/device_service",
                None,
            ),
            (
                "http://[fe80::1]/onvif/device_service https://192.168.1.9/x http://192.168.1.9:81/o",
                "http://192.168.1.9:81/o",
                None,
            ),
            ("http://10.0.0.5:80/onvif/d", "http://192.168.1.9/onvif/d", Some("10.0.0.5")),
            (
                "http://10.0.0.5:2020/onvif/d",
                "http://192.168.1.9:2020/onvif/d",
                Some("10.0.0.5:2020"),
            ),
        ];
        for (addresses, wanted, named) in table {
            let all = answer(&reply(scopes, addresses), from);
            assert_eq!(all.len(), 1, "{addresses}");
            assert_eq!((all[0].address.as_str(), all[0].named.as_deref()), (wanted, named));
            assert_eq!((all[0].name.as_str(), all[0].hardware.as_str()), ("Hall 一", "IPC-D1"));
            assert_eq!(all[0].location, "north%zz");
        }
        for addresses in ["", "soap.udp://10.0.0.5", "https://192.168.1.9/x", "http://u:p@[::"] {
            assert_eq!(answer(&reply(scopes, addresses), from), [], "{addresses}");
        }
        assert_eq!(answer(b"\x00\x01garbage", from), []);
    }

    #[test]
    fn a_routing_table_says_which_networks_there_are() {
        let table = "Iface\tDestination\tGateway\nen0\t00000000\t0101A8C0\nen0\t0001A8C0\t00000000\nx\tzz\n";
        assert_eq!(networks(table), [Ipv4Addr::new(192, 168, 1, 0)]);
        assert_eq!(networks(""), [] as [Ipv4Addr; 0]);
        assert_eq!(own_addresses(Ipv4Addr::LOCALHOST), [Ipv4Addr::UNSPECIFIED]);
        assert!(!own_addresses(*MULTICAST.ip()).is_empty());
    }

    #[test]
    fn each_question_is_xml_with_a_number_of_its_own() {
        let (one, other) = (question().unwrap(), question().unwrap());
        assert_ne!(one, other);
        let asked = |body: Node<'_, '_>| below(body, "Types").map(text);
        assert_eq!(soap::within(one.as_bytes(), asked).unwrap(), "n:NetworkVideoTransmitter");
    }
}
