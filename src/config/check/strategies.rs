//! How chargers charge and what batteries are for, by the names in the site file.

use super::super::file::{At, DeviceTable};
use super::super::walk::{Faults, error, nearest};
use crate::logic::site::{Aim, ChargingMode, Strategy};
use crate::units::{Soc, Watts};

/// A charger's mode where nobody has chosen another one.
pub fn mode(table: &DeviceTable, faults: &mut Faults) -> ChargingMode {
    let Some(name) = &table.mode else { return ChargingMode::default() };
    let names = ChargingMode::ALL.map(ChargingMode::name);
    ChargingMode::named(&name.value).unwrap_or_else(|| {
        unknown("mode", name, &names, faults);
        ChargingMode::default()
    })
}

/// What a battery is for; nothing where the file is at fault.
pub fn strategy(table: &DeviceTable, faults: &mut Faults) -> Option<Strategy> {
    let before = faults.len();
    let soc =
        |percent: Option<f64>| Soc::from_ratio(percent.unwrap_or(0.0) / 100.0).unwrap_or_default();
    let name = table.strategy.as_ref();
    let aim = match (name.map(|name| name.value.as_str()), &table.peak_w) {
        (Some("peak_shaving"), Some(peak)) => Aim::PeakShaving(Watts(peak.value)),
        (Some("peak_shaving"), None) => {
            let values = vec![("key", "peak_w".to_owned()), ("table", "device".to_owned())];
            faults.push(error("WG0003", name.and_then(|name| name.at), values));
            Aim::default()
        }
        (None | Some("arbitrage"), _) => Aim::Arbitrage,
        (Some("self_consumption"), _) => Aim::SelfConsumption,
        (Some(_), _) => {
            if let Some(name) = name {
                unknown("strategy", name, &Aim::NAMES, faults);
            }
            Aim::default()
        }
    };
    let strategy = Strategy {
        aim,
        reserve: soc(table.reserve_soc_pct),
        no_grid_charging: table.grid_charging == Some(false),
        before_cars: soc(table.before_cars_soc_pct),
    };
    (faults.len() == before).then_some(strategy)
}

fn unknown(key: &'static str, name: &At<String>, names: &[&'static str], faults: &mut Faults) {
    let values =
        vec![("key", key.to_owned()), ("value", name.value.clone()), ("allowed", names.join(", "))];
    let mut fault = error("WG0009", name.at, values);
    fault.nearest = nearest(&name.value, names.iter().copied());
    faults.push(fault);
}

#[cfg(test)]
mod tests {
    use crate::config::load;
    use crate::logic::site::{Aim, ChargingMode};
    use crate::units::Watts;

    #[test]
    fn modes_strategies_and_time_outs_come_from_the_site_file_and_the_profiles() {
        let depot = concat!(env!("CARGO_MANIFEST_DIR"), "/config/depot.toml");
        let text = std::fs::read_to_string(depot).unwrap();
        let text = text
            .replace("id = \"pile1\"\n", "id = \"pile1\"\nmode = \"min_pv\"\n")
            .replace(
                "profile = \"alfen-ng9\"\naddress = \"tcp://192.168.10.32:502\"",
                "profile = \"keba-p30\"\naddress = \"tcp://192.168.10.32:502\"",
            )
            .replace(
                "# strategy = \"self_consumption\"",
                "strategy = \"peak_shaving\"\npeak_w = 20000",
            )
            .replace("# reserve_soc_pct", "reserve_soc_pct")
            .replace("# grid_charging", "grid_charging")
            .replace("# before_cars_soc_pct", "before_cars_soc_pct");
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("site.toml");
        std::fs::write(&file, text).unwrap();
        let site = load(&file).unwrap().0.site;
        let modes: Vec<ChargingMode> = site.chargers.iter().take(2).map(|c| c.mode).collect();
        assert_eq!(modes, [ChargingMode::MinPv, ChargingMode::Departure]);
        // Its own time-out, and a car that follows: an Alfen's is a minute, a KEBA's half of it.
        let seconds = site.chargers.iter().map(|charger| charger.falls_back_within.as_secs());
        assert_eq!(seconds.collect::<Vec<_>>(), [75, 45]);
        let strategy = site.batteries[0].strategy;
        assert_eq!(strategy.aim, Aim::PeakShaving(Watts(20_000.0)));
        let percents = (strategy.reserve.percent(), strategy.before_cars.percent());
        assert_eq!((percents, strategy.no_grid_charging), ((30.0, 50.0), true));
    }

    #[test]
    fn a_charger_whose_profile_knows_no_time_out_is_counted_with_its_largest_current() {
        let depot = concat!(env!("CARGO_MANIFEST_DIR"), "/config/depot.toml");
        let text = std::fs::read_to_string(depot).unwrap();
        let text = text.replace("failsafe_a = 6", "");
        let folder = tempfile::tempdir().unwrap();
        let of = |given: &str| {
            let pile =
                format!("profile = \"bender-cc\"\n{given}address = \"tcp://192.168.10.32:502\"");
            let text = text
                .replace("profile = \"alfen-ng9\"\naddress = \"tcp://192.168.10.32:502\"", &pile);
            let file = folder.path().join("site.toml");
            std::fs::write(&file, text).unwrap();
            let (config, faults) = load(&file).unwrap();
            let warned = faults.render(crate::texts::Lang::En).contains("WG0143");
            (config.site.chargers[1].unheard(), config.site.chargers[1].max, warned)
        };
        let (failsafe, max, warned) = of("");
        assert!(failsafe == max && !warned, "{failsafe:?} of {max:?}");
        let (failsafe, _, warned) = of("failsafe_a = 8\n");
        assert!(failsafe == crate::units::Amps(8.0) && warned, "{failsafe:?}");
    }
}
