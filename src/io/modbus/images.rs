//! Every shipped profile against an image of its device's registers. The images were made by hand from
//! what makers and drivers say of the devices, not from the profiles: `tests/golden/registers/images.json`
//! has the words of each register and the values that they mean.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use super::blocks::{self, Block};
use super::codec::Raw;
use super::decoder::Decoder;
use super::readings::{self, Values};
use crate::config::{Profile, Table, builtin_profiles};
use crate::logic::site::{Reading, Vehicle};
use crate::units::Moment;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Image {
    holding: BTreeMap<u16, String>,
    input: BTreeMap<u16, String>,
    values: BTreeMap<String, f64>,
    vehicle: Option<Vehicle>,
}

impl Image {
    /// The answer to a read; registers that the image does not name hold a value that would show.
    fn answer(&self, block: &Block) -> Vec<u16> {
        let table = if block.table == Table::Input { &self.input } else { &self.holding };
        let mut words = vec![0xEEEE; usize::from(block.count)];
        for (first, text) in table {
            for (i, word) in text.split(' ').enumerate() {
                let at = usize::from(*first) + i;
                if let Some(place) = at.checked_sub(usize::from(block.first)) {
                    let word = u16::from_str_radix(word, 16).unwrap();
                    words.get_mut(place).into_iter().for_each(|cell| *cell = word);
                }
            }
        }
        words
    }

    fn decode(&self, profile: &Profile) -> Values {
        let mut decoder = Decoder::new(profile);
        let mut values = Values::new();
        let at = Moment { uptime: Duration::ZERO, utc: chrono::DateTime::UNIX_EPOCH };
        for block in blocks::compile(profile) {
            let words = self.answer(&block);
            let done = decoder.take(profile, (&block, &words), at, &mut values);
            done.unwrap_or_else(|why| panic!("{}: {why}", profile.id));
        }
        values
    }
}

#[test]
fn every_profile_decodes_the_image_of_its_device() {
    let text = include_str!("../../../tests/golden/registers/images.json");
    let images: BTreeMap<String, Image> = serde_json::from_str(text).unwrap();
    for profile in builtin_profiles().values().filter(|profile| !profile.kind.is_walked()) {
        let id = &profile.id;
        let image = images.get(id).unwrap_or_else(|| panic!("{id} has no image"));
        let values = image.decode(profile);
        for (quantity, expected) in &image.values {
            let Some(Raw::Number(read)) = values.get(quantity) else {
                panic!("{id}: no {quantity} in {values:?}");
            };
            let near = (read - expected).abs() <= 1e-9 * expected.abs().max(1.0);
            assert!(near, "{id}: {quantity} is {read}, not {expected}");
        }
        let reading = readings::reading(profile, &values);
        let reading = reading.unwrap_or_else(|why| panic!("{id}: {why}"));
        if let Reading::Charger(charger) = &reading {
            assert_eq!(Some(charger.vehicle), image.vehicle, "{id}");
        }
        let untold = values.keys().filter(|quantity| {
            !image.values.contains_key(*quantity)
                && !matches!(quantity.as_str(), "state" | "plugged" | "error_code")
        });
        assert_eq!(
            untold.collect::<Vec<_>>(),
            Vec::<&String>::new(),
            "{id}: decoded, not expected"
        );
    }
}
