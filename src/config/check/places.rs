//! Bays, zones and cameras: references, polygons, and the one zone that is made where none is named.

use std::collections::BTreeSet;
use std::path::Path;

use url::Url;

use super::super::file::{At, BayTable, CameraTable, SiteFile, ZoneTable};
use super::super::walk::{Faults, error};
use super::super::{CameraLogin, CameraPassport, CameraSource, is_secret, shown};
use super::devices::{Devices, reference, unique_id};
use super::{one_of, warning};
use crate::logic::site::{Bay, Camera, Id, OnBlind, Zone};

/// Masks of a camera, and corners of one: beyond that it is no drawing of a person.
const MOST_MASKS: usize = 32;
const MOST_CORNERS: usize = 64;

/// All valid places.
#[derive(Debug, Default)]
pub struct Places {
    pub bays: Vec<Bay>,
    pub zones: Vec<Zone>,
    pub cameras: Vec<Camera>,
    pub sources: Vec<CameraSource>,
}

pub fn check(file: &SiteFile, devices: &Devices, folder: &Path, faults: &mut Faults) -> Places {
    let mut places = Places::default();
    let mut ids = BTreeSet::new();
    for table in &file.cameras {
        let id = table.id.as_ref().and_then(|id| unique_id(id, &mut ids, faults));
        let (source, is_stream) = match (&table.snapshot, &table.stream) {
            (Some(url), None) => (Some(url), false),
            (None, Some(url)) => (Some(url), true),
            _ => {
                faults.push(error("WG0035", table.at, Vec::new()));
                (None, false)
            }
        };
        let source = source.filter(|url| is_url(url, is_stream, faults));
        if let (Some(id), Some(url)) = (id, source) {
            let name = table.name.clone().unwrap_or_else(|| id.to_string());
            if is_secret(&url.value) {
                // Without a place: a report shows the line of a fault, and goes into logs.
                faults.push(warning("WG0136", None, vec![("camera", id.to_string())]));
            }
            places.sources.push(CameraSource {
                id: id.clone(),
                url: url.value.clone(),
                is_stream,
                login: login(table, folder, faults),
                passport: passport(table, &url.value, faults),
                masks: masks(table, faults),
            });
            places.cameras.push(Camera { id, name });
        }
    }
    let cameras: Vec<Id> = places.cameras.iter().map(|camera| camera.id.clone()).collect();
    let chargers: Vec<Id> = devices.chargers.iter().map(|charger| charger.id.clone()).collect();
    let mut bay_ids = BTreeSet::new();
    for table in &file.bays {
        let id = table.id.as_ref().and_then(|id| unique_id(id, &mut bay_ids, faults));
        places.bays.extend(bay(table, id, (&chargers, &cameras), faults));
    }
    zones(&file.zones, devices, &mut places, faults);
    places
}

/// `http://host/path`; a stream may be `rtsp://host/path` too.
fn is_url(text: &At<String>, is_stream: bool, faults: &mut Faults) -> bool {
    let streams = || text.value.strip_prefix("rtsp://").filter(|_| is_stream);
    let rest = text.value.strip_prefix("http://").or_else(streams);
    let host = rest.and_then(|rest| rest.split('/').next());
    let good = host.is_some_and(|host| !host.is_empty() && !host.contains([' ', '@']));
    if !good {
        let has_login = text.value.contains('@') || is_secret(&text.value);
        let (at, url) = match has_login {
            true => (None, shown(&text.value)),
            false => (text.at, text.value.clone()),
        };
        faults.push(error("WG0030", at, vec![("url", url)]));
    }
    good
}

/// Who we are to the camera; both keys together. The password itself is never sent, by RTSP or HTTP.
fn login(table: &CameraTable, folder: &Path, faults: &mut Faults) -> Option<CameraLogin> {
    match (&table.username, &table.password_file) {
        (Some(name), Some(file)) => Some(CameraLogin {
            username: name.value.clone(),
            password_file: folder.join(&file.value),
        }),
        (None, None) => None,
        (Some(one), None) | (None, Some(one)) => {
            faults.push(error("WG0132", one.at, Vec::new()));
            None
        }
    }
}

/// Who the camera is. Unless the file says so it is asked at the host of its pictures, and at the port of its
/// snapshot.
fn passport(table: &CameraTable, url: &str, faults: &mut Faults) -> Option<CameraPassport> {
    let Some(serial) = &table.serial else {
        if let Some(place) = &table.onvif {
            faults.push(error("WG0137", place.at, Vec::new()));
        }
        return None;
    };
    if serial.value.trim().is_empty() {
        faults.push(error("WG0139", serial.at, Vec::new()));
        return None;
    }
    let serial = serial.value.trim().to_owned();
    let Some(place) = &table.onvif else {
        let url = Url::parse(url).ok()?;
        let port = url.port().filter(|_| url.scheme() == "http");
        let port = port.map_or(String::new(), |port| format!(":{port}"));
        return Some(CameraPassport { place: format!("{}{port}", url.host_str()?), serial });
    };
    let rest = place.value.split_once("://").map_or(Some(place.value.as_str()), |(kind, rest)| {
        matches!(kind, "onvif" | "http").then_some(rest)
    });
    let sane = rest.filter(|rest| !rest.contains('@') && !rest.contains(char::is_whitespace));
    if sane.and_then(|rest| Url::parse(&format!("http://{rest}")).ok()).is_none() {
        // One with a user may have a password in it: then neither it nor its line is shown.
        let (at, value) = match place.value.contains('@') {
            true => (None, "-".to_owned()),
            false => (place.at, place.value.clone()),
        };
        let camera = table.id.as_ref().map_or("?", |id| id.value.as_str()).to_owned();
        faults.push(error("WG0138", at, vec![("camera", camera), ("place", value)]));
        return None;
    }
    Some(CameraPassport { place: place.value.clone(), serial })
}

/// A camera's masks; each is a polygon as a bay's.
fn masks(table: &CameraTable, faults: &mut Faults) -> Vec<Vec<[f64; 2]>> {
    let masks = &table.masks.value;
    let camera = table.id.as_ref().map_or("?", |id| id.value.as_str());
    let wrong = |polygon: &Vec<[f64; 2]>| {
        polygon_problem(polygon).is_some() || polygon.len() > MOST_CORNERS
    };
    let first = masks.iter().position(wrong).or((masks.len() > MOST_MASKS).then_some(MOST_MASKS));
    if let Some(first) = first {
        let values = vec![("camera", camera.to_owned()), ("number", (first + 1).to_string())];
        faults.push(error("WG0135", table.masks.at.or(table.at), values));
    }
    masks.clone()
}

fn bay(
    table: &BayTable,
    id: Option<Id>,
    (chargers, cameras): (&[Id], &[Id]),
    faults: &mut Faults,
) -> Option<Bay> {
    let charger = table.charger.as_ref().and_then(|c| reference(c, chargers, "charger", faults));
    let camera = table.camera.as_ref().and_then(|c| reference(c, cameras, "camera", faults));
    let polygon = &table.polygon;
    if table.camera.is_some() || !polygon.value.is_empty() {
        let bay = table.id.as_ref().map_or("?", |id| id.value.as_str());
        if let Some(problem) = polygon_problem(&polygon.value) {
            let values = vec![("bay", bay.to_owned())];
            faults.push(error(problem, polygon.at.or(table.at), values));
        }
    }
    let id = id?;
    let name = table.name.clone().unwrap_or_else(|| id.to_string());
    Some(Bay { id, name, charger, camera, polygon: polygon.value.clone() })
}

/// The code of what is wrong with a polygon.
fn polygon_problem(points: &[[f64; 2]]) -> Option<&'static str> {
    if points.len() < 3 {
        return Some("WG0031");
    }
    let inside = |v: &f64| (0.0..=1.0).contains(v);
    if !points.iter().flatten().all(inside) {
        return Some("WG0032");
    }
    let next = |i: usize| points[(i + 1) % points.len()];
    let cross = |i: usize| points[i][0] * next(i)[1] - next(i)[0] * points[i][1];
    let area: f64 = (0..points.len()).map(cross).sum::<f64>() / 2.0;
    (area.abs() < 1e-5 || crosses_itself(points)).then_some("WG0033")
}

fn crosses_itself(points: &[[f64; 2]]) -> bool {
    let count = points.len();
    let edge = |i: usize| (points[i], points[(i + 1) % count]);
    let side = |(a, b): ([f64; 2], [f64; 2]), p: [f64; 2]| {
        (b[0] - a[0]) * (p[1] - a[1]) - (b[1] - a[1]) * (p[0] - a[0])
    };
    let apart = |e, p, q| side(e, p) * side(e, q) < 0.0;
    let cross = |i: usize, j: usize| {
        let (e, f) = (edge(i), edge(j));
        apart(e, f.0, f.1) && apart(f, e.0, e.1)
    };
    (0..count).any(|i| (i + 1..count).any(|j| cross(i, j)))
}

fn zones(tables: &[ZoneTable], devices: &Devices, places: &mut Places, faults: &mut Faults) {
    let bays: Vec<Id> = places.bays.iter().map(|bay| bay.id.clone()).collect();
    let chargers: Vec<Id> = devices.chargers.iter().map(|charger| charger.id.clone()).collect();
    let cameras: Vec<Id> = places.cameras.iter().map(|camera| camera.id.clone()).collect();
    let batteries: Vec<Id> = devices.batteries.iter().map(|battery| battery.id.clone()).collect();
    let mut ids = BTreeSet::new();
    let named: Vec<Option<Id>> = tables
        .iter()
        .map(|table| table.id.as_ref().and_then(|id| unique_id(id, &mut ids, faults)))
        .collect();
    let zone_ids: Vec<Id> = named.iter().flatten().cloned().collect();
    for (table, id) in tables.iter().zip(named) {
        let mut list = |texts: &[(String, Option<usize>)], known: &[Id], what: &str| -> Vec<Id> {
            let text = |(value, at): &(String, Option<usize>)| At { value: value.clone(), at: *at };
            texts.iter().filter_map(|t| reference(&text(t), known, what, faults)).collect()
        };
        let lists = (
            list(&table.bays, &bays, "bay"),
            list(&table.chargers, &chargers, "charger"),
            list(&table.cameras, &cameras, "camera"),
            list(&table.neighbours, &zone_ids, "zone"),
        );
        let battery = table.battery.as_ref();
        let battery = battery.and_then(|b| reference(b, &batteries, "battery", faults));
        let on_blind = on_blind(table.on_blind.as_ref(), faults);
        if let Some(id) = id {
            let (bays, chargers, cameras, neighbours) = lists;
            places.zones.push(Zone { id, bays, chargers, cameras, battery, neighbours, on_blind });
        }
    }
    let outside =
        chargers.iter().filter(|id| !places.zones.iter().any(|z| z.chargers.contains(id)));
    let outside: Vec<Id> = outside.cloned().collect();
    if tables.is_empty() && !cameras.is_empty() {
        if let Ok(id) = Id::try_from("site") {
            let (neighbours, battery) = (Vec::new(), batteries.first().cloned());
            let on_blind = OnBlind::Derate;
            places.zones.push(Zone { id, bays, chargers, cameras, battery, neighbours, on_blind });
        }
    } else if !cameras.is_empty() {
        for id in outside {
            faults.push(warning("WG0034", None, vec![("id", id.to_string())]));
        }
    }
}

fn on_blind(text: Option<&At<String>>, faults: &mut Faults) -> OnBlind {
    match text.map(|text| (text, text.value.as_str())) {
        None | Some((_, "derate")) => OnBlind::Derate,
        Some((_, "hold")) => OnBlind::Hold,
        Some((text, _)) => {
            one_of(text, "on_blind", &["derate", "hold"], faults);
            OnBlind::Derate
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_camera_is_asked_at_the_host_of_its_pictures_unless_the_file_says_where() {
        let asked = |url: &str, onvif: Option<&str>| {
            let at = |text: &str| Some(At { value: text.to_owned(), at: None });
            let table = CameraTable {
                id: None,
                name: None,
                snapshot: None,
                stream: None,
                username: None,
                password_file: None,
                serial: at(" 0042"),
                onvif: onvif.and_then(at),
                masks: At { value: Vec::new(), at: None },
                at: None,
            };
            let mut faults = Faults::new();
            let passport = passport(&table, url, &mut faults);
            assert_eq!(passport.is_none(), !faults.is_empty(), "{url} {onvif:?}");
            passport.map(|passport| (passport.place, passport.serial))
        };
        let told = |place: &str| Some((place.to_owned(), "0042".to_owned()));
        assert_eq!(asked("http://10.0.0.5/a.jpg", None), told("10.0.0.5"));
        assert_eq!(asked("http://10.0.0.5:8080/a.jpg?b=:1", None), told("10.0.0.5:8080"));
        assert_eq!(asked("rtsp://cam.lan:8554/sub", None), told("cam.lan"));
        assert_eq!(asked("rtsp://[fd00::51]:554/sub", None), told("[fd00::51]"));
        for place in ["10.0.0.6", "10.0.0.6:8000", "onvif://cam", "http://c/onvif/device_service"] {
            assert_eq!(asked("rtsp://10.0.0.5/sub", Some(place)), told(place));
        }
        for place in ["", "a b", "cam:http", "rtsp://cam/sub", "user:word@cam", "http://u@cam"] {
            assert_eq!(asked("rtsp://10.0.0.5/sub", Some(place)), None, "{place}");
        }
    }
}
