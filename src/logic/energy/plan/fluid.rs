//! How sharp a market is, and what is let go of the sun: small facts that all ways to a plan share.

use super::answer::weights;
use super::curve::Sharpness;
use super::market::Market;
use super::sieve::Sound;

/// Ramps of limits and of the demand charge as parts of the site's size, and the tilt of the flats as a part of the
/// spread of prices, before anybody asks for others.
const FIRST: (f64, f64, f64) = (0.1, 1.0, 1e-3);

/// What the connection leaves to loads where it leaves most, kW: the measure of all ramps.
pub fn size(site: &Sound) -> f64 {
    let left = site.import.iter().zip(&site.base).map(|(import, base)| import - base);
    left.fold(1.0, f64::max)
}

/// A market in which nobody has bought yet.
pub fn open(site: &Sound) -> Market<'_> {
    Market::new(site, sharpness(site, FIRST))
}

fn sharpness(site: &Sound, (ramp, peak, tilt): (f64, f64, f64)) -> Sharpness {
    let (size, weights) = (size(site), weights(site));
    let spread = weights.spread * site.hours;
    Sharpness {
        ramp: ramp * size,
        tilt: tilt * spread / size,
        shape: [(0.45, 1.5 * spread), (0.8, weights.unserved * site.hours)],
        peak_ramp: peak * size,
        peak_shape: (0.7, 2.0 * spread),
    }
}

/// Sun that is let go at a demand: what may not be given, and all of it where drawing is paid for.
pub fn curtail(site: &Sound, t: usize, demand: f64) -> f64 {
    if !site.curtailable {
        return 0.0;
    }
    let net = demand - site.pv[t];
    let keep = if site.buy[t] < 0.0 {
        site.import[t] - net
    } else if site.sell[t] < 0.0 {
        -net
    } else {
        -net - site.export[t]
    };
    keep.clamp(0.0, site.pv[t])
}
