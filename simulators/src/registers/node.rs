//! A compute node's agent, a map of our own: cap (W, writable), cap in force, power, energy, seconds that
//! the cap still lives.

use super::{Refusal, Sheet};
use crate::physics::Node;

pub fn image(node: &Node) -> Vec<(u16, Vec<u16>)> {
    let mut sheet = Sheet::new(0, 6);
    sheet.put(0, &[node.setpoint_w.round() as u16, node.cap_w().round() as u16]);
    sheet.long(2, node.power_w.round() as u32);
    sheet.long(4, node.energy_wh as u32);
    vec![sheet.done()]
}

pub fn write(node: &mut Node, function: u8, (first, words): (u16, &[u16])) -> Result<(), Refusal> {
    let (6 | 16, 0, &[watts]) = (function, first, words) else {
        return Err(if matches!(function, 6 | 16) { Refusal::Address } else { Refusal::Function });
    };
    node.write_cap(f64::from(watts));
    Ok(())
}
