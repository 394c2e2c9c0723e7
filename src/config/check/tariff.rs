//! The tariff and what is expected of cars: times of the day, the time zone, bands that overlap.

use chrono_tz::Tz;

use super::super::file::{At, BandTable, DeviceTable, TariffTable};
use super::super::walk::{Faults, error, nearest};
use crate::logic::site::{Band, DayMinute, Leaves, Stay, Tariff};
use crate::units::WattHours;

/// ISO 4217 for "no currency".
const NO_CURRENCY: &str = "XXX";

/// The tariff; nothing where the file has none, or where it is faulty.
pub fn check(table: Option<&TariffTable>, faults: &mut Faults) -> Option<Tariff> {
    let table = table?;
    let zone = table.timezone.as_ref().and_then(|name| zone(name, faults));
    let bands: Vec<(Band, Option<usize>)> =
        table.bands.iter().filter_map(|band_table| band(band_table, faults)).collect();
    for (i, (later, at)) in bands.iter().enumerate() {
        let mut earlier = bands[..i].iter();
        let shared = earlier.find_map(|(other, _)| {
            (0..1440).find(|minute| other.holds(*minute) && later.holds(*minute))
        });
        if let Some(minute) = shared {
            let time = format!("{:02}:{:02}", minute / 60, minute % 60);
            faults.push(error("WG0027", *at, vec![("time", time)]));
        }
    }
    Some(Tariff {
        currency: table.currency.clone().unwrap_or_else(|| NO_CURRENCY.to_owned()),
        zone: zone?,
        import: table.import_per_kwh?,
        export: table.export_per_kwh.unwrap_or(0.0),
        bands: bands.into_iter().map(|(band, _)| band).collect(),
    })
}

fn zone(name: &At<String>, faults: &mut Faults) -> Option<Tz> {
    let found = name.value.parse::<Tz>().ok();
    if found.is_none() {
        let mut fault = error("WG0026", name.at, vec![("zone", name.value.clone())]);
        fault.nearest = nearest(&name.value, chrono_tz::TZ_VARIANTS.iter().map(|tz| tz.name()));
        faults.push(fault);
    }
    found
}

fn band(table: &BandTable, faults: &mut Faults) -> Option<(Band, Option<usize>)> {
    let from = table.from.as_ref().and_then(|text| minute(text, faults));
    let to = table.to.as_ref().and_then(|text| minute(text, faults));
    // "24:00" is the midnight at which a band ends.
    let band = Band { from: from?, to: to? % 1440, import: table.import_per_kwh? };
    Some((band, table.from.as_ref().and_then(|text| text.at)))
}

/// `HH:MM`, up to 24:00.
fn minute(text: &At<String>, faults: &mut Faults) -> Option<DayMinute> {
    let parsed = text.value.split_once(':').and_then(|(hours, minutes)| {
        let two = |part: &str| (part.len() == 2).then(|| part.parse::<u16>().ok()).flatten();
        let (hours, minutes) = (two(hours)?, two(minutes)?);
        let all = hours * 60 + minutes;
        (minutes < 60 && all <= 1440).then_some(all)
    });
    if parsed.is_none() {
        faults.push(error("WG0025", text.at, vec![("time", text.value.clone())]));
    }
    parsed
}

/// What is expected of a charger's cars; nothing where the file does not say.
pub fn stay(table: &DeviceTable, faults: &mut Faults) -> Option<Stay> {
    let by = table.leave_by.as_ref().and_then(|text| minute(text, faults));
    let leaves = match (&table.leave_by, &table.stay_h) {
        (Some(_), Some(hours)) => {
            faults.push(error("WG0028", hours.at, Vec::new()));
            return None;
        }
        (Some(_), None) => Leaves::By(by? % 1440),
        (None, Some(hours)) => Leaves::After(hours.value),
        (None, None) => {
            if let Some(need) = &table.need_kwh {
                faults.push(error("WG0029", need.at, Vec::new()));
            }
            return None;
        }
    };
    let Some(need) = &table.need_kwh else {
        let at = table.leave_by.as_ref().and_then(|t| t.at);
        let at = at.or(table.stay_h.as_ref().and_then(|t| t.at));
        faults.push(error("WG0029", at, Vec::new()));
        return None;
    };
    Some(Stay { need: WattHours(need.value * 1000.0), leaves })
}
