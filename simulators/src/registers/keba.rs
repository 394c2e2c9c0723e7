//! KEBA KeContact P40: every read takes one value of two registers, high word first; every write is
//! function 6. Only writes keep it from its failsafe.

use super::{Measured, Refusal};
use crate::physics::{Pile, PlugState};

const SETPOINT: u16 = 5004;
const ENABLE: u16 = 5014;
const FAILSAFE: u16 = 5016;
const TIMEOUT: u16 = 5018;
const PERSIST: u16 = 5020;

pub fn image(pile: &Pile, read: &Measured) -> Vec<(u16, Vec<u16>)> {
    let (state, cable) = match pile.state() {
        PlugState::A => (1, 1),
        PlugState::B => (2, 7),
        PlugState::C => (3, 7),
    };
    let milli = |value: f64| (value.max(0.0) * 1000.0).round() as u32;
    let [v1, v2, v3] = read.volts.map(|volts| volts.round() as u32);
    let [a1, a2, a3] = read.amps.map(milli);
    let energy = pile.energy_wh as u32;
    let told =
        if pile.left_s > 0.0 || pile.validity_s == 0.0 { pile.setpoint_a } else { pile.safe_a };
    let values: [(u16, u32); 21] = [
        (1000, state),
        (1004, cable),
        (1006, 0),
        (1008, a1),
        (1010, a2),
        (1012, a3),
        (1014, 4_711),
        (1016, 402_000),
        (1018, 10_200),
        (1020, milli(read.power_w())),
        (1036, energy),
        (1040, v1),
        (1042, v2),
        (1044, v3),
        (1046, 1000),
        (1100, milli(told)),
        (1110, milli(pile.max_a)),
        (1500, 0),
        (1502, energy),
        (1600, milli(pile.safe_a)),
        (1602, pile.validity_s as u32),
    ];
    values.map(|(at, value)| (at, vec![(value >> 16) as u16, value as u16])).to_vec()
}

pub fn write(pile: &mut Pile, function: u8, (first, words): (u16, &[u16])) -> Result<(), Refusal> {
    let (6, &[word]) = (function, words) else {
        return Err(Refusal::Function);
    };
    let amps = f64::from(word) / 1000.0;
    let sound = amps == 0.0 || (6.0..=63.0).contains(&amps);
    match first {
        SETPOINT if sound => pile.setpoint_a = amps.min(pile.max_a),
        FAILSAFE if sound => pile.safe_a = amps.min(pile.max_a),
        SETPOINT | FAILSAFE => return Err(Refusal::Value),
        TIMEOUT => pile.validity_s = f64::from(word),
        ENABLE | PERSIST if word <= 1 => {}
        ENABLE | PERSIST => return Err(Refusal::Value),
        _ => return Err(Refusal::Address),
    }
    pile.feed();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{Map, cut};
    use super::*;
    use crate::physics::World;
    use crate::scenario::{Make, Scenario};

    #[test]
    fn one_value_a_read_and_only_writes_feed_it() {
        let mut world = World::new(Scenario::sunny_day(), 1);
        let pile = Map::Pile(1, Make::Keba);
        let milliamps = |world: &World| cut(&pile.image(world, false, &mut || 0.0), 1100, 2);
        assert_eq!(milliamps(&world).unwrap(), [0, 32_000]);
        pile.write(&mut world, 6, (FAILSAFE, &[6000])).unwrap();
        pile.write(&mut world, 6, (TIMEOUT, &[30])).unwrap();
        pile.write(&mut world, 6, (SETPOINT, &[16_000])).unwrap();
        for _ in 0..29 {
            world.step(1.0);
            pile.hear(&mut world);
        }
        assert_eq!(milliamps(&world).unwrap(), [0, 16_000]);
        world.step(2.0);
        assert_eq!(milliamps(&world).unwrap(), [0, 6000]);
        let image = pile.image(&world, false, &mut || 0.0);
        assert_eq!(cut(&image, 1008, 4), Err(Refusal::Address));
        assert_eq!(pile.write(&mut world, 16, (SETPOINT, &[6000])), Err(Refusal::Function));
        assert_eq!(pile.write(&mut world, 6, (SETPOINT, &[3000])), Err(Refusal::Value));
    }
}
