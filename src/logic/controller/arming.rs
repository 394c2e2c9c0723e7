//! Whether the gateway may write: the mode asks for it, and meter and devices have been proven to
//! deliver plausible values. Until then it only observes.

use crate::logic::site::{Id, Known, MeterReading, Mode, Reading, Site, Snapshot, overloads};
use crate::units::{Moment, Volts, Watts};

/// Why nothing is written yet.
#[derive(Clone, Debug, PartialEq)]
pub enum Obstacle {
    /// The mode is observe.
    ObserveMode,
    /// The meter has not delivered twice.
    WaitingForMeter,
    /// The meter's values contradict each other or the grid (fault FB16): word order, phases, ratio.
    ImplausibleMeter,
    /// A device has not delivered yet.
    WaitingForDevice(Id),
    /// With every device at its failsafe, a phase of the site or of a circuit would be overloaded.
    FailsafeSum,
}

impl Obstacle {
    /// Stable code for MQTT and the page.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Obstacle::ObserveMode => "observe_mode",
            Obstacle::WaitingForMeter => "waiting_for_meter",
            Obstacle::ImplausibleMeter => "implausible_meter",
            Obstacle::WaitingForDevice(_) => "waiting_for_device",
            Obstacle::FailsafeSum => "failsafe_sum",
        }
    }
}

/// The first obstacle to writing, if any.
#[must_use]
pub fn obstacle(site: &Site, snapshot: &Snapshot, now: Moment) -> Option<Obstacle> {
    if site.mode == Mode::Observe {
        return Some(Obstacle::ObserveMode);
    }
    let devices = (site.chargers.as_slice(), site.computes.as_slice());
    if !overloads(&site.limits, &site.circuits, devices).is_empty() {
        return Some(Obstacle::FailsafeSum);
    }
    let Known::Fresh(Reading::Meter(meter)) = snapshot.at(&site.meter, now) else {
        return Some(Obstacle::WaitingForMeter);
    };
    if !plausible(meter) {
        return Some(Obstacle::ImplausibleMeter);
    }
    if snapshot.in_row(&site.meter) < 2 {
        return Some(Obstacle::WaitingForMeter);
    }
    let actuators = site.chargers.iter().map(|c| &c.id).chain(site.batteries.iter().map(|b| &b.id));
    let actuators = actuators.chain(site.computes.iter().map(|c| &c.id));
    let mut missing = actuators.filter(|id| snapshot.at(id, now).fresh().is_none());
    missing.next().map(|id| Obstacle::WaitingForDevice(id.clone()))
}

/// Voltages 180 to 260 V, 45 to 65 Hz, and the phases add up to the total within 5 % (or 100 W).
fn plausible(meter: &MeterReading) -> bool {
    let voltage = meter.voltage.iter().all(|(_, v)| v >= Volts(180.0) && v <= Volts(260.0));
    let frequency = meter.frequency.is_none_or(|f| (45.0..=65.0).contains(&f.get()));
    let gap = (meter.phase_power.total() - meter.power).abs();
    let scale: Watts = meter.phase_power.iter().map(|(_, w)| w.abs()).sum();
    voltage && frequency && gap <= (scale * 0.05).max(Watts(100.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{Amps, Hertz, PerPhase};

    #[test]
    fn a_swapped_word_order_is_not_plausible() {
        let good = MeterReading {
            power: Watts(3000.0),
            phase_power: PerPhase([Watts(2000.0), Watts(1500.0), Watts(-500.0)]),
            current: PerPhase::all(Amps(5.0)),
            voltage: PerPhase::all(Volts(231.0)),
            frequency: Some(Hertz(50.0)),
            import: None,
            export: None,
        };
        assert!(plausible(&good));
        let swapped = |value: f64| {
            let bits = (value as f32).to_bits();
            f64::from(f32::from_bits(bits.rotate_left(16)))
        };
        let voltage = PerPhase::all(Volts(swapped(231.4)));
        assert!(!plausible(&MeterReading { voltage, ..good.clone() }));
        assert!(!plausible(&MeterReading { power: Watts(-3000.0), ..good.clone() }));
        assert!(!plausible(&MeterReading { frequency: Some(Hertz(f64::NAN)), ..good }));
    }
    #[test]
    fn voltage_frequency_and_sum_are_plausible_within_their_bounds_and_not_beyond() {
        let meter = |volts: f64, hertz: f64, watts: f64| MeterReading {
            power: Watts(watts),
            phase_power: PerPhase([Watts(4000.0), Watts(3000.0), Watts(-3000.0)]),
            current: PerPhase::all(Amps(5.0)),
            voltage: PerPhase([Volts(230.0), Volts(volts), Volts(230.0)]),
            frequency: Some(Hertz(hertz)),
            import: None,
            export: None,
        };
        // The phases carry 10 kW in all, so the sum may be off by 500 W.
        for (volts, hertz, watts, is) in [
            (180.0, 45.0, 4500.0, true),
            (260.0, 65.0, 3500.0, true),
            (179.9, 50.0, 4000.0, false),
            (260.1, 50.0, 4000.0, false),
            (230.0, 44.9, 4000.0, false),
            (230.0, 65.1, 4000.0, false),
            (230.0, 50.0, 4501.0, false),
            (230.0, 50.0, 3499.0, false),
        ] {
            assert_eq!(
                plausible(&meter(volts, hertz, watts)),
                is,
                "{volts} V {hertz} Hz {watts} W"
            );
        }
        let still =
            MeterReading { phase_power: PerPhase::all(Watts(0.0)), ..meter(230.0, 50.0, 100.0) };
        assert!(plausible(&still) && !plausible(&MeterReading { power: Watts(101.0), ..still }));
    }

    #[test]
    fn every_obstacle_has_a_name_of_its_own() {
        let all = [
            Obstacle::ObserveMode,
            Obstacle::WaitingForMeter,
            Obstacle::ImplausibleMeter,
            Obstacle::WaitingForDevice(Id::try_from("pile1").unwrap()),
            Obstacle::FailsafeSum,
        ];
        let codes = all.map(|obstacle| obstacle.code());
        let expected =
            ["observe_mode", "waiting_for_meter", "implausible_meter", "waiting_for_device"];
        assert_eq!(codes[..4], expected);
        assert_eq!(codes[4], "failsafe_sum");
    }
}
