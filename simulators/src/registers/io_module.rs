//! An input/output module, a map of our own: outputs 0 to 7 (writable, 0 or 1), contacts 8 to 15, loops 16 to
//! 23 in hundredths of a milliampere.

use super::{Refusal, Sheet};
use crate::physics::Module;

pub fn image(module: &Module, noise: &mut dyn FnMut() -> f64) -> Vec<(u16, Vec<u16>)> {
    let mut sheet = Sheet::new(0, 24);
    sheet.put(0, &module.outputs);
    sheet.put(8, &module.contacts);
    let hundredths = |ma: f64, noise: f64| (ma * 100.0 + noise).round().max(0.0) as u16;
    for (i, ma) in (0..).zip(module.loops_ma) {
        sheet.put(16 + i, &[hundredths(ma, if ma > 0.0 { noise() } else { 0.0 })]);
    }
    vec![sheet.done()]
}

pub fn write(
    module: &mut Module,
    function: u8,
    (first, words): (u16, &[u16]),
) -> Result<(), Refusal> {
    if !matches!(function, 6 | 16) {
        return Err(Refusal::Function);
    }
    let first = usize::from(first);
    let outputs = module.outputs.get_mut(first..first + words.len()).ok_or(Refusal::Address)?;
    if words.iter().any(|word| *word > 1) {
        return Err(Refusal::Value);
    }
    outputs.copy_from_slice(words);
    module.step();
    Ok(())
}
