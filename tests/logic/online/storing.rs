//! When a battery does what it does, where that costs the same: stored early, given late. Part of the policy that is
//! tried here; the controller does neither.

use wattgate::logic::energy::Steps;
use wattgate::logic::energy::plan::Store;

/// Less is not worth moving, kW.
const LEAST_KW: f64 = 0.01;

/// Moves the battery's charging to earlier steps in which it costs no more, up to the first step in which it gives:
/// what is stored early need not be hoped for. Only where the site exports, and no more than that.
/// `stored` is the battery's power, charging positive, `export_price` what a kWh exported earns in each step.
pub fn stored_early(
    store: &Store,
    stored: &mut [f64],
    export_price: &[f64],
    steps: &mut Steps<'_>,
) {
    let gives = |kw: &f64| *kw < 0.0;
    let end = stored.iter().position(gives).unwrap_or(stored.len());
    let costs = |step: usize, grid: f64, price: &[f64]| {
        if grid < 0.0 { export_price[step] } else { price[step] }
    };
    for early in 0..end {
        for late in early + 1..end {
            let (now, then) = (steps.grid[early], steps.grid[late]);
            let dearer = costs(early, now, steps.price) > costs(late, then, steps.price) + 1e-9;
            let kw = (store.charge_kw - stored[early]).min(stored[late]).min(-now);
            if dearer || kw < LEAST_KW {
                continue;
            }
            stored[early] += kw;
            stored[late] = cleared(stored[late] - kw);
            steps.grid[early] += kw;
            steps.grid[late] -= kw;
        }
    }
}

/// Moves what the battery gives from steps in which a kWh costs least to later ones, up to the first step in which it
/// charges: what is kept can still help whoever comes. Only between steps that import, and no step beyond
/// `most_kw`. Where a kWh is dear it is given at once: later might be too late.
pub fn given_late(store: &Store, stored: &mut [f64], steps: &mut Steps<'_>) {
    let least = steps.price.iter().copied().fold(f64::MAX, f64::min);
    for early in 0..stored.len() {
        let charges = stored[early..].iter().position(|kw| *kw > 0.0);
        let end = charges.map_or(stored.len(), |after| early + after);
        for late in (early + 1..end).rev() {
            let (now, then) = (steps.grid[early], steps.grid[late]);
            let kw = (-stored[early])
                .min(store.discharge_kw + stored[late])
                .min(steps.most_kw - now)
                .min(then);
            if now < 0.0 || steps.price[early] > least + 1e-9 || kw < LEAST_KW {
                continue;
            }
            stored[early] = cleared(stored[early] + kw);
            stored[late] -= kw;
            steps.grid[early] += kw;
            steps.grid[late] -= kw;
        }
    }
}

fn cleared(kw: f64) -> f64 {
    if kw.abs() <= 1e-9 { 0.0 } else { kw }
}

#[test]
fn surplus_is_stored_when_it_is_there_and_no_more_than_it() {
    let store = Store { charge_kw: 5.0, ..Store::default() };
    // Surplus of 4 kW twice, then import; the battery gives in the last step but one.
    let mut stored = [1.0, 1.0, 2.0, -3.0, 2.0];
    let mut grid = [-3.0, -3.0, 2.0, 0.0, 2.0];
    let export = [0.05, 0.05, 0.05, 0.05, 0.05];
    let mut steps = Steps {
        price: &[0.3; 5],
        grid: &mut grid,
        most_kw: 20.0,
        circuits: wattgate::logic::energy::Circuits::default(),
    };
    stored_early(&store, &mut stored, &export, &mut steps);
    assert_eq!(stored, [4.0, 0.0, 0.0, -3.0, 2.0]);
    assert_eq!(grid, [0.0, -4.0, 0.0, 0.0, 2.0]);
    // What earns more now is sold now.
    let mut stored = [0.0, 2.0];
    let mut grid = [-3.0, -1.0];
    let mut steps = Steps {
        price: &[0.3; 2],
        grid: &mut grid,
        most_kw: 20.0,
        circuits: wattgate::logic::energy::Circuits::default(),
    };
    stored_early(&store, &mut stored, &[0.2, 0.05], &mut steps);
    assert_eq!(stored, [0.0, 2.0]);
}

#[test]
fn what_the_battery_has_is_kept_as_long_as_that_costs_nothing() {
    let store = Store { discharge_kw: 4.0, ..Store::default() };
    let mut stored = [-3.0, -2.0, 0.0, 0.0, 1.0, 0.0];
    let mut grid = [1.0, 7.0, 5.0, 6.0, 6.0, 6.0];
    let price = [0.1, 0.1, 0.3, 0.3, 0.3, 0.3];
    let mut steps = Steps {
        price: &price,
        grid: &mut grid,
        most_kw: 8.0,
        circuits: wattgate::logic::energy::Circuits::default(),
    };
    given_late(&store, &mut stored, &mut steps);
    // Not past the charging, no step above eight.
    assert_eq!(stored, [0.0, -1.0, 0.0, -4.0, 1.0, 0.0]);
    assert_eq!(grid, [4.0, 8.0, 5.0, 2.0, 6.0, 6.0]);
    // What saves more than later is given now.
    let mut stored = [-3.0, 0.0];
    let mut grid = [1.0, 5.0];
    let mut steps = Steps {
        price: &[0.3, 0.1],
        grid: &mut grid,
        most_kw: 8.0,
        circuits: wattgate::logic::energy::Circuits::default(),
    };
    given_late(&store, &mut stored, &mut steps);
    assert_eq!(stored, [-3.0, 0.0]);
}
