//! A hybrid inverter that speaks SunSpec: common, 103, 120, 124, 160, 802, 803 and 123 from register 40000,
//! laid out as a Fronius GEN24 does it (modules 3 and 4 of model 160 are the battery's two directions).
//! Models 124 and 123 are writable; their rules are in [`crate::physics::StorageControl`] and
//! [`crate::physics::OutputLimit`].
//!
//! What a stranger gets wrong: a point that the device does not have is not 0 but its type's mark for
//! "not implemented". A rate or a mode stays readable as written after the control has reverted, only
//! the mode falls to 0.

use super::{Refusal, Sheet};
use crate::physics::World;

/// First register of the chain.
pub const BASE: u16 = 40_000;
const COMMON: u16 = BASE + 2;
const INVERTER: u16 = COMMON + 68;
const NAMEPLATE: u16 = INVERTER + 52;
const STORAGE: u16 = NAMEPLATE + 28;
const MPPT: u16 = STORAGE + 26;
const BATTERY: u16 = MPPT + 90;
const BANK: u16 = BATTERY + 64;
/// 26 registers and 32 for the one string.
const CONTROLS: u16 = BANK + 2 + 26 + 32;
const END: u16 = CONTROLS + 26;
/// Marks of points that are not there.
const NO_U16: u16 = 0xFFFF;
const NO_I16: u16 = 0x8000;

pub fn image(world: &World) -> Vec<u16> {
    let mut sheet = Sheet::new(BASE, usize::from(END - BASE) + 2);
    let head = |sheet: &mut Sheet, at: u16, id: u16, next: u16| sheet.put(at, &[id, next - at - 2]);
    sheet.put(BASE, &[0x5375, 0x6E53]);
    head(&mut sheet, COMMON, 1, INVERTER);
    sheet.text(COMMON + 2, 16, "wattgate simulators");
    sheet.text(COMMON + 18, 16, "Hybrid 10");
    sheet.text(COMMON + 42, 8, env!("CARGO_PKG_VERSION"));
    sheet.text(COMMON + 50, 16, "SIM-0001");
    sheet.put(COMMON + 66, &[1, NO_I16]);
    head(&mut sheet, INVERTER, 103, NAMEPLATE);
    inverter(&mut sheet, world);
    head(&mut sheet, NAMEPLATE, 120, STORAGE);
    nameplate(&mut sheet, world);
    head(&mut sheet, STORAGE, 124, MPPT);
    storage(&mut sheet, world);
    head(&mut sheet, MPPT, 160, BATTERY);
    mppt(&mut sheet, world);
    head(&mut sheet, BATTERY, 802, BANK);
    battery(&mut sheet, world);
    head(&mut sheet, BANK, 803, CONTROLS);
    bank(&mut sheet, world);
    head(&mut sheet, CONTROLS, 123, END);
    controls(&mut sheet, world);
    sheet.put(END, &[0xFFFF, 0]);
    sheet.words
}

fn signed(value: f64) -> u16 {
    value.round().clamp(-32_767.0, 32_767.0) as i16 as u16
}

fn soc(world: &World) -> u16 {
    (world.hybrid.soc() * 10_000.0).round() as u16
}

fn inverter(sheet: &mut Sheet, world: &World) {
    let ac = world.hybrid.ac_w();
    let each = (ac.abs() / 3.0 / world.volts[0] * 100.0).round() as u16;
    sheet.put(INVERTER + 2, &[each.saturating_mul(3), each, each, each, signed(-2.0)]);
    sheet.put(INVERTER + 7, &[NO_U16; 3]);
    sheet.put(INVERTER + 10, &world.volts.map(|v| (v * 10.0).round() as u16));
    sheet.put(INVERTER + 13, &[signed(-1.0), signed(ac), 0]);
    sheet.put(INVERTER + 16, &[(world.hertz * 100.0).round() as u16, signed(-2.0)]);
    // VA; then VAr and PF, which are not there.
    sheet.put(INVERTER + 18, &[signed(ac.abs()), 0, NO_I16, NO_I16, NO_I16, NO_I16]);
    sheet.long(INVERTER + 24, world.hybrid.pv_energy_wh as u32);
    sheet.put(INVERTER + 27, &[NO_U16, NO_I16, NO_U16, NO_I16, signed(ac), 0]);
    sheet.put(INVERTER + 33, &[412, NO_I16, NO_I16, NO_I16, signed(-1.0), 4, NO_U16]);
}

fn nameplate(sheet: &mut Sheet, world: &World) {
    let hybrid = &world.hybrid;
    let power = hybrid.max_w as u16;
    let rated = hybrid.rated_w as u16;
    sheet.put(NAMEPLATE + 2, &[82, rated, 0, rated, 0]);
    sheet.put(NAMEPLATE + 7, &[NO_I16; 5]);
    sheet.put(NAMEPLATE + 12, &[145, signed(-1.0)]);
    sheet.put(NAMEPLATE + 14, &[NO_I16; 5]);
    sheet.put(NAMEPLATE + 19, &[hybrid.capacity_wh as u16, 0, NO_U16, NO_I16]);
    sheet.put(NAMEPLATE + 23, &[power, 0, power, 0, NO_U16]);
}

fn storage(sheet: &mut Sheet, world: &World) {
    let hybrid = &world.hybrid;
    let control = &hybrid.control;
    sheet.put(STORAGE + 2, &[hybrid.max_w as u16, 100, 100]);
    sheet.put(STORAGE + 5, &[control.mode, NO_U16, 1000, soc(world), NO_U16, NO_U16]);
    sheet.put(STORAGE + 11, &[activity(world)]);
    let rates = [control.discharge_rate, control.charge_rate].map(|rate| rate as u16);
    sheet.put(STORAGE + 12, &rates);
    sheet.put(STORAGE + 14, &[0, control.revert_s, NO_U16, 1]);
    sheet.put(STORAGE + 18, &[0, 0, NO_I16, signed(-2.0), signed(-2.0), NO_I16, NO_I16]);
    sheet.put(STORAGE + 25, &[signed(-2.0)]);
}

/// Charge status: 2 empty, 3 discharging, 4 charging, 5 full, 6 holding.
fn activity(world: &World) -> u16 {
    let hybrid = &world.hybrid;
    match hybrid.battery_w {
        w if w > 20.0 => 3,
        w if w < -20.0 => 4,
        _ if hybrid.soc() >= 0.999 => 5,
        _ if hybrid.soc() <= 0.001 => 2,
        _ => 6,
    }
}

fn mppt(sheet: &mut Sheet, world: &World) {
    let hybrid = &world.hybrid;
    sheet.put(MPPT + 2, &[signed(-2.0), signed(-1.0), 0, 0, 0, 0, 4, NO_U16]);
    let strings = (hybrid.pv_w * 0.6).round();
    let modules = [
        ("PV east", strings, hybrid.pv_energy_wh * 0.6),
        ("PV west", hybrid.pv_w.round() - strings, hybrid.pv_energy_wh * 0.4),
        ("Battery charge", (-hybrid.battery_w).max(0.0), hybrid.charged_wh),
        ("Battery discharge", hybrid.battery_w.max(0.0), hybrid.discharged_wh),
    ];
    for (i, (name, watts, energy)) in modules.into_iter().enumerate() {
        let at = MPPT + 10 + 20 * i as u16;
        sheet.put(at, &[i as u16 + 1]);
        sheet.text(at + 1, 8, name);
        // A at 400.0 V, in hundredths.
        sheet.put(at + 9, &[(watts / 4.0).round() as u16, 4000, watts.round() as u16]);
        sheet.long(at + 12, energy as u32);
        sheet.put(at + 14, &[NO_U16, NO_U16, NO_I16, 4]);
    }
}

fn battery(sheet: &mut Sheet, world: &World) {
    let hybrid = &world.hybrid;
    let power = hybrid.max_w as u16;
    sheet.put(BATTERY + 2, &[50, hybrid.capacity_wh as u16, power, power, NO_U16]);
    sheet.put(BATTERY + 7, &[10_000, 0, NO_U16, NO_U16, soc(world), NO_U16, 9_900]);
    sheet.put(BATTERY + 14, &[NO_U16, NO_U16, activity(world), 0]);
    sheet.put(BATTERY + 18, &[(world.elapsed_s % 60_000.0) as u16, 0, 0, 4, 3]);
    sheet.put(BATTERY + 34, &[4_000, NO_U16, NO_U16, 3_345, 1, 1, 3_331, 1, 1, 3_338]);
    let amps = signed(hybrid.battery_w / 400.0 * 10.0);
    sheet.put(BATTERY + 44, &[amps, 250, 250, signed(hybrid.battery_w), 0, NO_I16, 1, 3]);
    let one = signed(-1.0);
    let two = signed(-2.0);
    let factors = [0, 0, 0, NO_I16, two, NO_I16, two, one, signed(-3.0), one, one, 0];
    sheet.put(BATTERY + 52, &factors);
}

/// The limit of the output; connected, and without anything else.
fn controls(sheet: &mut Sheet, world: &World) {
    let limit = &world.hybrid.limit;
    sheet.put(CONTROLS + 2, &[NO_U16, NO_U16, 1]);
    let enabled = u16::from(limit.enabled);
    sheet.put(CONTROLS + 5, &[limit.share, 0, limit.revert_s, NO_U16, enabled]);
    sheet.put(CONTROLS + 10, &[NO_U16; 13]);
    sheet.put(CONTROLS + 23, &[signed(-2.0), NO_I16, NO_I16]);
}

/// Takes all words of the limit or none.
fn write_limit(world: &mut World, first: u16, words: &[u16]) -> Result<(), Refusal> {
    let mut limit = world.hybrid.limit;
    for (i, &word) in words.iter().enumerate() {
        match (first - CONTROLS).checked_add(i as u16).ok_or(Refusal::Address)? {
            5 if word > 10_000 => return Err(Refusal::Value),
            5 => limit.share = word,
            6 | 8 => {}
            7 => limit.revert_s = word,
            9 if word > 1 => return Err(Refusal::Value),
            9 => limit.enabled = word == 1,
            _ => return Err(Refusal::Address),
        }
    }
    limit.silent_s = 0.0;
    world.hybrid.limit = limit;
    Ok(())
}

fn bank(sheet: &mut Sheet, world: &World) {
    let amps = signed(world.hybrid.battery_w / 400.0 * 10.0);
    sheet.put(BANK + 2, &[1, 1, 245, 1, 1, 231, 1, 1, 238]);
    sheet.put(BANK + 11, &[4_000, 1, 4_000, 1, 4_000, amps, 1, amps, 1, amps, 0]);
    let one = signed(-1.0);
    let two = signed(-2.0);
    sheet.put(BANK + 22, &[signed(-3.0), one, one, two, two, one]);
    // The string: modules, enabled and its contactor closed, no failure.
    sheet.put(BANK + 28, &[8, 0, 3, 0, soc(world), 9_900, amps]);
    sheet.put(BANK + 35, &[3_345, 1, 3_331, 1, 3_338, 245, 1, 231, 1, 238, 0, 0, 1]);
    sheet.put(BANK + 56, &[1, 1, NO_I16, NO_I16]);
}

/// Takes all words or none.
pub fn write(world: &mut World, first: u16, words: &[u16]) -> Result<(), Refusal> {
    if (CONTROLS..END).contains(&first) {
        return write_limit(world, first, words);
    }
    let mut control = world.hybrid.control;
    for (i, &word) in words.iter().enumerate() {
        let address = first.checked_add(i as u16).ok_or(Refusal::Address)?;
        let rate = word as i16;
        match address.checked_sub(STORAGE).ok_or(Refusal::Address)? {
            5 if word > 3 => return Err(Refusal::Value),
            5 => control.mode = word,
            12 | 13 if !(-10_000..=10_000).contains(&rate) => return Err(Refusal::Value),
            12 => control.discharge_rate = rate,
            13 => control.charge_rate = rate,
            14 | 17 => {}
            15 => control.revert_s = word,
            _ => return Err(Refusal::Address),
        }
    }
    control.silent_s = 0.0;
    world.hybrid.control = control;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Scenario;

    fn at(words: &[u16], address: u16) -> u16 {
        words[usize::from(address - BASE)]
    }

    #[test]
    fn the_chain_of_models_leads_to_its_end() {
        let world = World::new(Scenario::sunny_day(), 1);
        let words = image(&world);
        let (mut place, mut models) = (2, Vec::new());
        while words[place] != 0xFFFF {
            models.push((words[place], words[place + 1]));
            place += 2 + usize::from(words[place + 1]);
        }
        let lengths = [
            (1, 66),
            (103, 50),
            (120, 26),
            (124, 24),
            (160, 88),
            (802, 62),
            (803, 26 + 32),
            (123, 24),
        ];
        assert_eq!(models, lengths);
        assert_eq!(place + 2, words.len());
    }

    #[test]
    fn a_forced_power_ends_when_nobody_renews_it() {
        let mut world = World::new(Scenario::sunny_day(), 1);
        let rate = -2500i16;
        write(&mut world, STORAGE + 12, &[rate as u16, 2500, 0, 30]).unwrap();
        write(&mut world, STORAGE + 5, &[3]).unwrap();
        world.step(20.0);
        assert!((world.hybrid.battery_w + 2500.0).abs() < 1e-6);
        let words = image(&world);
        assert_eq!(at(&words, STORAGE + 12), rate as u16);
        assert_eq!(at(&words, STORAGE + 13), 2500);
        assert_eq!(at(&words, STORAGE + 5), 3);
        assert_eq!(at(&words, MPPT + 10 + 40 + 11), 2500);
        world.step(20.0);
        assert_eq!(world.hybrid.battery_w, 0.0);
        assert_eq!(at(&image(&world), STORAGE + 5), 0);
    }

    #[test]
    fn a_limit_holds_at_the_ac_side_until_nobody_renews_it() {
        let mut world = World::new(Scenario::sunny_day(), 1);
        world.set_pv(Some(8_000.0));
        write(&mut world, CONTROLS + 5, &[1_500, 0, 30, 0, 1]).unwrap();
        world.step(5.0);
        assert_eq!(at(&image(&world), INVERTER + 14), 3_000);
        assert_eq!(at(&image(&world), CONTROLS + 5), 1_500);
        world.step(30.0);
        assert_eq!(at(&image(&world), INVERTER + 14), 8_000);
        assert_eq!(at(&image(&world), CONTROLS + 9), 0);
        assert_eq!(write(&mut world, CONTROLS + 5, &[10_001]), Err(Refusal::Value));
        assert_eq!(write(&mut world, CONTROLS + 10, &[1]), Err(Refusal::Address));
    }

    #[test]
    fn a_bad_word_changes_nothing() {
        let mut world = World::new(Scenario::sunny_day(), 1);
        let before = world.hybrid.control;
        assert_eq!(write(&mut world, STORAGE + 12, &[500, 20_000]), Err(Refusal::Value));
        assert_eq!(write(&mut world, STORAGE + 16, &[1]), Err(Refusal::Address));
        assert_eq!(write(&mut world, 65_535, &[1, 1]), Err(Refusal::Address));
        assert_eq!(world.hybrid.control, before);
    }

    #[test]
    fn the_ac_side_carries_pv_and_battery() {
        let mut world = World::new(Scenario::sunny_day(), 1);
        world.set_pv(Some(4000.0));
        write(&mut world, STORAGE + 12, &[3000, (-3000i16) as u16, 0, 60]).unwrap();
        write(&mut world, STORAGE + 5, &[3]).unwrap();
        world.step(5.0);
        let words = image(&world);
        assert_eq!(at(&words, INVERTER + 14), 7000);
        assert_eq!(at(&words, MPPT + 21) + at(&words, MPPT + 41), 4000);
        assert_eq!(at(&words, MPPT + 10 + 60 + 11), 3000);
    }
}
