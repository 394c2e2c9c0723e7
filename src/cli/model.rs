//! `wattgate model`: which nets there are, who runs them here, and what a look costs.

use std::path::Path;

use serde_json::json;

use super::{outcome, say};
use crate::io::inference::{Cost, Listed, list_models, measure_models};
use crate::texts::{Lang, fill, text};

/// Lists the nets of a folder; the exit code.
pub fn list(folder: &Path, as_json: bool, lang: Lang) -> u8 {
    let nets = match list_models(folder) {
        Ok(nets) => nets,
        Err(error) => return outcome(Err(error.to_string())),
    };
    if as_json {
        let net = |net: &Listed| json!({"id": net.id, "task": net.task, "tier": net.tier, "width": net.size[0], "height": net.size[1], "channels": net.size[2], "params": net.params, "engine": net.engine, "golden_difference": net.apart});
        return say(&serde_json::Value::from_iter(nets.iter().map(net)).to_string());
    }
    let lines: Vec<String> = nets.iter().map(|net| listed(net, lang)).collect();
    say(&lines.join("\n"))
}

fn listed(net: &Listed, lang: Lang) -> String {
    let [width, height, channels] = net.size;
    let params =
        net.params.map_or_else(String::new, |count| format!("{:.2} M", count as f64 / 1e6));
    let values = [("engine", net.engine.to_owned()), ("apart", format!("{:.4}", net.apart))];
    let run = fill(lang, "cli.model.run_by", &values);
    let size = format!("{width}x{height}x{channels}");
    format!("{:14} {:5} {:6} {size:11} {params:>8}  {run}", net.id, net.task, net.tier)
}

/// Measures the nets of a folder; the exit code.
pub fn bench(folder: &Path, as_json: bool, lang: Lang) -> u8 {
    let costs = match measure_models(folder) {
        Ok(costs) => costs,
        Err(error) => return outcome(Err(error.to_string())),
    };
    if as_json {
        let cost = |cost: &Cost| json!({"id": cost.id, "engine": cost.engine, "load_ms": cost.load_ms, "least_ms": cost.least_ms, "median_ms": cost.median_ms});
        return say(&serde_json::Value::from_iter(costs.iter().map(cost)).to_string());
    }
    let mut lines = vec![text(lang, "cli.model.bench_head").to_owned()];
    lines.extend(costs.iter().map(|cost| {
        let Cost { id, engine, load_ms, least_ms, median_ms } = cost;
        format!("{id:14} {engine:14} {load_ms:8.1} {least_ms:8.3} {median_ms:8.3}")
    }));
    say(&lines.join("\n"))
}
