//! Eastron SDM630: input registers, IEEE 754, high word first. Currents are magnitudes:
//! the sign of a phase is in its power, import positive. Energies are in kWh.

use super::Sheet;
use crate::physics::World;

pub fn image(world: &World, noise: &mut dyn FnMut() -> f64) -> Vec<(u16, Vec<u16>)> {
    let mut sheet = Sheet::new(0, 0x50);
    let powers = world.grid_phases_w();
    let mut total = 0.0;
    let mut amps = 0.0;
    for i in 0..3u16 {
        let at = usize::from(i);
        let volts = world.volts[at] + 0.05 * noise();
        let watts = powers[at] + 0.8 * noise();
        let current = (watts / volts).abs();
        sheet.float(2 * i, volts);
        sheet.float(0x06 + 2 * i, current);
        sheet.float(0x0C + 2 * i, watts);
        sheet.float(0x12 + 2 * i, watts.abs());
        total += watts;
        amps += current;
    }
    sheet.float(0x30, amps);
    sheet.float(0x34, total);
    sheet.float(0x46, world.hertz + 0.002 * noise());
    sheet.float(0x48, world.import_wh / 1000.0);
    sheet.float(0x4A, world.export_wh / 1000.0);
    let mut phases = Sheet::new(0x0156, 0x1E);
    phases.float(0x0156, (world.import_wh + world.export_wh) / 1000.0);
    for i in 0..3u16 {
        let (import, export) =
            (world.import_phase_wh[usize::from(i)], world.export_phase_wh[usize::from(i)]);
        phases.float(0x015A + 2 * i, import / 1000.0);
        phases.float(0x0160 + 2 * i, export / 1000.0);
        phases.float(0x0166 + 2 * i, (import + export) / 1000.0);
    }
    vec![sheet.done(), phases.done()]
}
