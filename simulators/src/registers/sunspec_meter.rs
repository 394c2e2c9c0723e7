//! The grid meter as SunSpec tells it: common and 203 (three phases in star) from register 40000. Import
//! is positive, currents carry the sign of their phase's power.

use super::Sheet;
use crate::physics::World;

/// First register of the chain.
pub const BASE: u16 = 40_000;
const COMMON: u16 = BASE + 2;
const METER: u16 = COMMON + 68;
const END: u16 = METER + 107;
/// Mark of a signed value that is not there.
const NO_I16: u16 = 0x8000;

pub fn image(world: &World, noise: &mut dyn FnMut() -> f64) -> Vec<u16> {
    let mut sheet = Sheet::new(BASE, usize::from(END - BASE) + 2);
    sheet.put(BASE, &[0x5375, 0x6E53, 1, 66]);
    sheet.text(COMMON + 2, 16, "wattgate simulators");
    sheet.text(COMMON + 18, 16, "Meter 203");
    sheet.text(COMMON + 50, 16, "SIM-0002");
    sheet.put(METER, &[203, 105]);
    sheet.put(METER + 2, &[NO_I16; 36]);
    let watts = world.grid_phases_w().map(|watts| watts + 0.8 * noise());
    let total: f64 = watts.iter().sum();
    let signed = |value: f64| value.round().clamp(-32_767.0, 32_767.0) as i16 as u16;
    for (i, each) in watts.into_iter().enumerate() {
        let at = i as u16;
        let volts = world.volts[i] + 0.05 * noise();
        sheet.put(METER + 3 + at, &[signed(each / volts * 100.0)]);
        sheet.put(METER + 8 + at, &[signed(volts * 10.0)]);
        sheet.put(METER + 19 + at, &[signed(each)]);
    }
    let amps: f64 = watts.iter().zip(world.volts).map(|(w, v)| (w / v).abs()).sum();
    sheet.put(METER + 2, &[signed(amps * 100.0)]);
    sheet.put(METER + 6, &[signed(-2.0)]);
    sheet.put(METER + 15, &[signed(-1.0), signed(world.hertz * 100.0), signed(-2.0)]);
    sheet.put(METER + 18, &[signed(total)]);
    sheet.put(METER + 22, &[0]);
    sheet.long(METER + 38, world.export_wh as u32);
    sheet.long(METER + 46, world.import_wh as u32);
    sheet.put(METER + 54, &[0]);
    sheet.put(END, &[0xFFFF, 0]);
    sheet.words
}
