//! The demo's site file: a fixed part (`site.toml` beside this file) with places for addresses, and a
//! device and a bay for each simulated one.

use simulators::scenario::Make;
use simulators::site::{Addresses, PileAt};

/// Camera (1 or 2) and polygon of each bay, shares of that camera's frame.
pub type Outline = (usize, [[f64; 2]; 4]);

/// Profile and name of a make.
pub fn maker(make: Make) -> (&'static str, &'static str) {
    match make {
        Make::Alfen => ("alfen-ng9", "Alfen Eve NG9xx"),
        Make::Keba => ("keba-p40", "KEBA KeContact P40"),
        Make::Abb => ("abb-terra-ac", "ABB Terra AC"),
    }
}

/// The file's text.
pub fn file(at: &Addresses, outlines: &[Outline], (broker, page): (u16, u16)) -> String {
    let places = [
        ("{meter}", at.meter.to_string()),
        ("{hybrid}", at.hybrid.to_string()),
        ("{http}", at.http.to_string()),
        ("{broker}", broker.to_string()),
        ("{page}", page.to_string()),
    ];
    let fixed = include_str!("site.toml").to_owned();
    let mut text = places.iter().fold(fixed, |text, (place, value)| text.replace(place, value));
    for PileAt { id, make, address, unit, rotation } in &at.piles {
        let phases = rotation.map(|phase| format!("L{phase}"));
        let profile = maker(*make).0;
        text += &format!(
            "\n[[device]]\nid = \"{id}\"\nprofile = \"{profile}\"\naddress = \"tcp://{address}\"\nunit = {unit}\nmax_a = 32\nfailsafe_a = 6\nphases = {phases:?}\n"
        );
    }
    if let Some(node) = at.node {
        text += &format!(
            "\n[[device]]\nid = \"node\"\nname = \"Compute node\"\nprofile = \"capped-node\"\naddress = \"tcp://{node}\"\nmin_w = 800\nmax_w = 6000\nfailsafe_w = 2000\n"
        );
    }
    for (i, (camera, polygon)) in outlines.iter().enumerate() {
        let number = i + 1;
        let charger =
            at.piles.get(i).map_or(String::new(), |pile| format!("charger = \"{}\"\n", pile.id));
        text += &format!(
            "\n[[bay]]\nid = \"bay{number}\"\nname = \"Bay {number}\"\n{charger}camera = \"cam{camera}\"\npolygon = {polygon:?}\n"
        );
    }
    if let Some(module) = at.module {
        text += &guard(at, outlines.len()).replace("{module}", &module.to_string());
    }
    text
}

/// Zone, sensors and relays of a guarded store.
fn guard(at: &Addresses, bays: usize) -> String {
    let chargers: Vec<&str> = at.piles.iter().map(|pile| pile.id.as_str()).collect();
    let bays: Vec<String> = (1..=bays).map(|number| format!("bay{number}")).collect();
    include_str!("guard.toml")
        .replace("{bays}", &format!("{bays:?}"))
        .replace("{chargers}", &format!("{chargers:?}"))
}
