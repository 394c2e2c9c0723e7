//! Alfen Eve NG9xx, socket 1: holding registers, high word first. The setpoint expires; reading does
//! not keep it alive, writing register 1210 does. Below 6 A it pauses.

use super::{Refusal, Sheet};
use crate::physics::{PlugState, World};

const SETPOINT: u16 = 1210;
const SAFE: u16 = 1212;

pub fn image(world: &World, i: usize, noise: &mut dyn FnMut() -> f64) -> Vec<(u16, Vec<u16>)> {
    let Some(pile) = world.piles.get(i) else {
        return Vec::new();
    };
    let mut measured = Sheet::new(300, 80);
    let mut total = 0.0;
    for (phase, amps) in pile.currents().into_iter().enumerate() {
        let at = 2 * phase as u16;
        let volts = world.volts[phase] + 0.05 * noise();
        let amps = if amps > 0.0 { (amps + 0.01 * noise()).max(0.0) } else { 0.0 };
        measured.float(306 + at, volts);
        measured.float(320 + at, amps);
        measured.float(338 + at, volts * amps);
        total += volts * amps;
    }
    measured.float(344, total);
    let energy = pile.energy_wh.to_bits();
    let words: Vec<u16> = (0..4).rev().map(|word| (energy >> (16 * word)) as u16).collect();
    measured.put(374, &words);
    let mut status = Sheet::new(1200, 16);
    status.put(1200, &[1]);
    let state = match pile.state() {
        PlugState::A => "A",
        PlugState::B => "B2",
        PlugState::C => "C2",
    };
    status.text(1201, 5, state);
    status.float(1206, pile.limit_a());
    status.long(1208, pile.left_s.ceil() as u32);
    status.float(SETPOINT, pile.setpoint_a);
    status.float(SAFE, pile.safe_a);
    status.put(1214, &[u16::from(pile.left_s > 0.0)]);
    status.put(1215, &[3]);
    vec![measured.done(), status.done()]
}

pub fn write(world: &mut World, i: usize, first: u16, words: &[u16]) -> Result<(), Refusal> {
    let pile = world.piles.get_mut(i).ok_or(Refusal::Address)?;
    let &[high, low] = words else {
        return Err(Refusal::Function);
    };
    let amps = f64::from(f32::from_bits(u32::from(high) << 16 | u32::from(low)));
    if !(0.0..=80.0).contains(&amps) {
        return Err(Refusal::Value);
    }
    match first {
        SETPOINT => pile.write_setpoint(amps),
        SAFE => pile.safe_a = amps,
        _ => return Err(Refusal::Address),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{Map, cut};
    use super::*;
    use crate::scenario::Scenario;

    #[test]
    fn a_written_setpoint_is_read_back_and_counts_down() {
        let mut world = World::new(Scenario::sunny_day(), 1);
        let bits = 13.5f32.to_bits();
        write(&mut world, 0, SETPOINT, &[(bits >> 16) as u16, bits as u16]).unwrap();
        world.step(10.0);
        let image = Map::Alfen(0).image(&world, false, &mut || 0.0);
        assert_eq!(cut(&image, SETPOINT, 2).unwrap(), [(bits >> 16) as u16, bits as u16]);
        assert_eq!(cut(&image, 1208, 2).unwrap(), [0, 50]);
        assert_eq!(cut(&image, 1216, 1), Err(Refusal::Address));
        assert_eq!(write(&mut world, 0, SETPOINT, &[0]), Err(Refusal::Function));
    }
}
