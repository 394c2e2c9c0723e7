//! A hybrid inverter that speaks SunSpec: common, 103, 124, 160, 802 and 803 from register 40000.
//! Model 124 is writable: both rates set to the same power pin the battery, negative rates force the
//! other direction, and without a write for RvrtTms seconds the control drops by itself.

use super::{Refusal, Sheet};
use crate::physics::World;

/// First register of the chain.
pub const BASE: u16 = 40_000;
const COMMON: u16 = BASE + 2;
const INVERTER: u16 = COMMON + 68;
const STORAGE: u16 = INVERTER + 52;
const MPPT: u16 = STORAGE + 26;
const BATTERY: u16 = MPPT + 90;
const BANK: u16 = BATTERY + 64;
const END: u16 = BANK + 44;
/// Rates are written in hundredths of a percent.
const RATE_FACTOR: f64 = 0.01;

pub fn image(world: &World) -> Vec<u16> {
    let mut sheet = Sheet::new(BASE, usize::from(END - BASE) + 2);
    let head = |sheet: &mut Sheet, at: u16, id: u16, next: u16| sheet.put(at, &[id, next - at - 2]);
    sheet.put(BASE, &[0x5375, 0x6E53]);
    head(&mut sheet, COMMON, 1, INVERTER);
    sheet.text(COMMON + 2, 16, "wattgate simulators");
    sheet.text(COMMON + 18, 16, "Hybrid 10");
    sheet.text(COMMON + 50, 16, "SIM-0001");
    head(&mut sheet, INVERTER, 103, STORAGE);
    inverter(&mut sheet, world);
    head(&mut sheet, STORAGE, 124, MPPT);
    storage(&mut sheet, world);
    head(&mut sheet, MPPT, 160, BATTERY);
    mppt(&mut sheet, world);
    head(&mut sheet, BATTERY, 802, BANK);
    battery(&mut sheet, world);
    head(&mut sheet, BANK, 803, END);
    sheet.put(BANK + 2, &[1, 1, 245, 1, 1, 231]);
    sheet.put(END, &[0xFFFF, 0]);
    sheet.words
}

fn signed(value: f64) -> u16 {
    value.round().clamp(-32_767.0, 32_767.0) as i16 as u16
}

fn inverter(sheet: &mut Sheet, world: &World) {
    let ac = world.hybrid.ac_w();
    let amps = ac.abs() / 3.0 / world.volts[0];
    let each = (amps * 100.0).round() as u16;
    sheet.put(INVERTER + 2, &[each.saturating_mul(3), each, each, each, signed(-2.0)]);
    let volts = world.volts.map(|v| (v * 10.0).round() as u16);
    sheet.put(INVERTER + 10, &volts);
    sheet.put(INVERTER + 13, &[signed(-1.0), signed(ac), 0]);
    sheet.put(INVERTER + 16, &[(world.hertz * 100.0).round() as u16, signed(-2.0)]);
    sheet.long(INVERTER + 24, world.hybrid.pv_energy_wh as u32);
    sheet.put(INVERTER + 38, &[4]);
}

fn storage(sheet: &mut Sheet, world: &World) {
    let hybrid = &world.hybrid;
    sheet.put(STORAGE + 2, &[hybrid.max_w as u16]);
    let mode = if hybrid.forced_w.is_some() { 3 } else { 0 };
    sheet.put(STORAGE + 5, &[mode, 0, 1000, (hybrid.soc() * 10_000.0).round() as u16]);
    let rate = hybrid.forced_w.map_or(0.0, |w| w / hybrid.max_w * 100.0 / RATE_FACTOR);
    sheet.put(STORAGE + 12, &[signed(rate), signed(-rate), 0, hybrid.revert_s.max(0.0) as u16]);
    sheet.put(STORAGE + 17, &[1, 0]);
    sheet.put(STORAGE + 21, &[signed(-2.0), signed(-2.0)]);
    sheet.put(STORAGE + 25, &[signed(-2.0)]);
}

fn mppt(sheet: &mut Sheet, world: &World) {
    let hybrid = &world.hybrid;
    sheet.put(MPPT + 2, &[signed(-2.0), signed(-1.0), signed(0.0), signed(0.0)]);
    sheet.put(MPPT + 8, &[4]);
    let strings = (hybrid.pv_w * 0.6).round();
    let powers = [
        strings,
        hybrid.pv_w.round() - strings,
        (-hybrid.battery_w).max(0.0),
        hybrid.battery_w.max(0.0),
    ];
    for (i, watts) in powers.into_iter().enumerate() {
        let at = MPPT + 10 + 20 * i as u16;
        sheet.put(at, &[i as u16 + 1]);
        sheet.put(at + 9, &[(watts / 4.0).round() as u16, 4000, watts.round() as u16]);
        sheet.put(at + 17, &[4]);
    }
}

fn battery(sheet: &mut Sheet, world: &World) {
    let hybrid = &world.hybrid;
    sheet.put(BATTERY + 2, &[400, hybrid.capacity_wh as u16]);
    sheet.put(BATTERY + 11, &[(hybrid.soc() * 10_000.0).round() as u16]);
    sheet.put(BATTERY + 13, &[9_900]);
    sheet.put(BATTERY + 34, &[4_000]);
    sheet.put(BATTERY + 47, &[signed(hybrid.battery_w)]);
    sheet.put(BATTERY + 56, &[signed(-2.0)]);
    sheet.put(BATTERY + 59, &[signed(-1.0)]);
}

pub fn write(world: &mut World, first: u16, words: &[u16]) -> Result<(), Refusal> {
    for (i, &word) in words.iter().enumerate() {
        let offset = (first + i as u16).checked_sub(STORAGE).ok_or(Refusal::Address)?;
        let hybrid = &mut world.hybrid;
        match offset {
            5 if word & 3 == 3 => {
                hybrid.forced_w = hybrid.forced_w.or(Some(0.0));
                hybrid.revert_s = hybrid.revert_s.max(30.0);
            }
            5 => hybrid.forced_w = None,
            12 => {
                let watts = f64::from(word as i16) * RATE_FACTOR / 100.0 * hybrid.max_w;
                hybrid.forced_w = Some(watts);
            }
            13 | 14 => {}
            15 => hybrid.revert_s = f64::from(word),
            _ => return Err(Refusal::Address),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Scenario;

    #[test]
    fn the_chain_of_models_leads_to_its_end() {
        let world = World::new(Scenario::sunny_day(), 1);
        let words = image(&world);
        let (mut at, mut ids) = (2, Vec::new());
        while words[at] != 0xFFFF {
            ids.push(words[at]);
            at += 2 + usize::from(words[at + 1]);
        }
        assert_eq!(ids, [1, 103, 124, 160, 802, 803]);
    }

    #[test]
    fn a_forced_power_ends_when_nobody_renews_it() {
        let mut world = World::new(Scenario::sunny_day(), 1);
        let rate = -2500i16;
        write(&mut world, STORAGE + 12, &[rate as u16, 2500, 0, 30]).unwrap();
        world.step(20.0);
        assert!((world.hybrid.battery_w + 2500.0).abs() < 1e-6);
        world.step(20.0);
        assert_eq!(world.hybrid.battery_w, 0.0);
    }
}
