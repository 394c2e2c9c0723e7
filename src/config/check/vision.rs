//! What the vision process may spend and whom it may ask. Where the file says nothing: the big net, if
//! there is one, has one watt-hour in any hour, and nobody elsewhere is asked.

use std::time::Duration;

use super::super::file::{At, VisionTable};
use super::super::walk::{Faults, error};
use super::super::{RemoteModel, VisionConfig};

/// Watt-hours in any hour, unless the file says otherwise: a mean of one watt.
const BUDGET_WH: f64 = 1.0;
/// A remote answer takes some 100 ms; a look is due every second.
const TIMEOUT_MS: f64 = 1000.0;
/// What a look at a remote net is taken to cost, J, unless the file says otherwise: an accelerator of
/// 200 W for a tenth of a second.
const REMOTE_J: f64 = 20.0;

/// The table, or what holds without one.
pub fn check(table: Option<&VisionTable>, faults: &mut Faults) -> VisionConfig {
    let nothing = VisionTable::default();
    let table = table.unwrap_or(&nothing);
    let remote = match (&table.remote, &table.remote_model) {
        (Some(url), Some(model)) => {
            let milliseconds = table.remote_timeout_ms.unwrap_or(TIMEOUT_MS);
            is_server(url, faults).then(|| RemoteModel {
                url: url.value.trim_end_matches('/').to_owned(),
                model: model.value.clone(),
                timeout: Duration::from_secs_f64(milliseconds / 1000.0),
                joules: table.remote_j.unwrap_or(REMOTE_J),
            })
        }
        (None, None) => None,
        (Some(one), None) | (None, Some(one)) => {
            faults.push(error("WG0130", one.at, Vec::new()));
            None
        }
    };
    let budget_wh = table.budget_wh_per_h.unwrap_or(BUDGET_WH);
    let evidence = table.evidence.unwrap_or(false);
    VisionConfig { budget_wh, watt_per_core: table.watt_per_core, remote, evidence }
}

/// `http://host:port`, nothing behind it.
fn is_server(text: &At<String>, faults: &mut Faults) -> bool {
    let host = text.value.strip_prefix("http://").map(|rest| rest.trim_end_matches('/'));
    let good = host.is_some_and(|host| !host.is_empty() && !host.contains([' ', '@', '/', '?']));
    if !good {
        faults.push(error("WG0131", text.at, vec![("url", text.value.clone())]));
    }
    good
}
