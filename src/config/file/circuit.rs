//! `[[circuit]]`: a part of the wiring with a limit of its own.

use super::super::walk::{Faults, Walk};
use super::{At, limits, needed_at, text_at};

/// `[[circuit]]`.
#[derive(Clone, Debug)]
pub struct CircuitTable {
    pub at: Option<usize>,
    pub id: Option<At<String>>,
    pub name: Option<String>,
    pub parent: Option<At<String>>,
    pub limit_a: Option<At<[f64; 3]>>,
    pub limit_w: Option<f64>,
    pub base_load_a: Option<f64>,
    pub members: Vec<(String, Option<usize>)>,
}

/// Reads the table.
pub fn read(mut walk: Walk<'_>, faults: &mut Faults) -> CircuitTable {
    let table = CircuitTable {
        at: walk.at(),
        id: needed_at(&mut walk, "id", faults),
        name: walk.text("name", faults),
        parent: text_at(&mut walk, "parent", faults),
        limit_a: limits(&mut walk, faults),
        limit_w: walk.number("limit_w", 0.0..=1e8, faults),
        base_load_a: walk.number("base_load_a", 0.0..=5000.0, faults),
        members: walk.texts("members", faults),
    };
    walk.finish(faults);
    table
}
