//! ABB Terra AC: holding registers of 32 bits, high word first. Any request keeps it from its fall-back.

use super::{Measured, Refusal, Sheet};
use crate::physics::{Pile, PlugState};

const SETPOINT: u16 = 0x4100;

pub fn image(pile: &Pile, read: &Measured) -> Vec<(u16, Vec<u16>)> {
    let mut sheet = Sheet::new(0x4006, 0x1A);
    let milli = |value: f64| (value.max(0.0) * 1000.0).round() as u32;
    let (lock, state) = match pile.state() {
        PlugState::A => (0, 0),
        PlugState::B => (0x0101, 2),
        PlugState::C => (0x0111, 4),
    };
    sheet.long(0x4006, milli(pile.max_a));
    sheet.long(0x4008, 0);
    sheet.long(0x400A, lock);
    sheet.long(0x400C, state << 8);
    sheet.long(0x400E, milli(if pile.ignores_setpoint { pile.setpoint_a } else { pile.limit_a() }));
    for (phase, (volts, amps)) in read.volts.into_iter().zip(read.amps).enumerate() {
        let at = 2 * phase as u16;
        sheet.long(0x4010 + at, milli(amps));
        sheet.long(0x4016 + at, (volts * 10.0).round() as u32);
    }
    sheet.long(0x401C, read.power_w().round() as u32);
    sheet.long(0x401E, pile.energy_wh as u32);
    vec![sheet.done()]
}

pub fn write(pile: &mut Pile, function: u8, (first, words): (u16, &[u16])) -> Result<(), Refusal> {
    let (16, SETPOINT, &[high, low]) = (function, first, words) else {
        return Err(if function == 16 { Refusal::Address } else { Refusal::Function });
    };
    let amps = f64::from(u32::from(high) << 16 | u32::from(low)) / 1000.0;
    if !(amps == 0.0 || (6.0..=pile.max_a).contains(&amps)) {
        return Err(Refusal::Value);
    }
    pile.write_setpoint(amps);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{Map, cut};
    use super::*;
    use crate::physics::World;
    use crate::scenario::{Make, Scenario};

    #[test]
    fn any_request_feeds_it_and_silence_does_not() {
        let mut world = World::new(Scenario::sunny_day(), 1);
        let pile = Map::Pile(2, Make::Abb);
        pile.write(&mut world, 16, (SETPOINT, &[0, 16_000])).unwrap();
        let limit = |world: &World| cut(&pile.image(world, false, &mut || 0.0), 0x400E, 2).unwrap();
        for _ in 0..3 {
            world.step(50.0);
            pile.hear(&mut world);
        }
        assert_eq!(limit(&world), [0, 16_000]);
        world.step(61.0);
        assert_eq!(limit(&world), [0, 6000]);
        assert_eq!(pile.write(&mut world, 16, (SETPOINT, &[0, 5000])), Err(Refusal::Value));
        assert_eq!(pile.write(&mut world, 6, (SETPOINT, &[6000])), Err(Refusal::Function));
    }
}
