//! Alfen Eve NG9xx, socket 1: holding registers, high word first. The setpoint expires; reading does
//! not keep it alive, writing register 1210 does. Below 6 A it pauses. The
//! phases are switched by 1215, with function 6, and stay as they are without renewal.

use super::{Measured, Refusal, Sheet};
use crate::physics::{Pile, PlugState};

const SETPOINT: u16 = 1210;
const SAFE: u16 = 1212;
const PHASES: u16 = 1215;

pub fn image(pile: &Pile, read: &Measured) -> Vec<(u16, Vec<u16>)> {
    let mut measured = Sheet::new(300, 80);
    for (phase, (volts, amps)) in read.volts.into_iter().zip(read.amps).enumerate() {
        let at = 2 * phase as u16;
        measured.float(306 + at, volts);
        measured.float(320 + at, amps);
        measured.float(338 + at, volts * amps);
    }
    measured.float(344, read.power_w());
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
    status.put(PHASES, &[pile.connected as u16]);
    vec![measured.done(), status.done()]
}

pub fn write(pile: &mut Pile, function: u8, (first, words): (u16, &[u16])) -> Result<(), Refusal> {
    if let (6, PHASES, &[count]) = (function, first, words) {
        if count != 1 && count != 3 {
            return Err(Refusal::Value);
        }
        pile.connect(usize::from(count));
        return Ok(());
    }
    let (16, &[high, low]) = (function, words) else {
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
    use crate::physics::World;
    use crate::scenario::{Make, Scenario};

    #[test]
    fn a_written_setpoint_is_read_back_and_counts_down() {
        let mut world = World::new(Scenario::one_pile(), 1);
        let bits = 13.5f32.to_bits();
        let pile = Map::Pile(0, Make::Alfen);
        let words = [(bits >> 16) as u16, bits as u16];
        pile.write(&mut world, 16, (SETPOINT, &words)).unwrap();
        world.step(10.0);
        let image = pile.image(&world, false, &mut || 0.0);
        assert_eq!(cut(&image, SETPOINT, 2).unwrap(), [(bits >> 16) as u16, bits as u16]);
        assert_eq!(cut(&image, 1208, 2).unwrap(), [0, 50]);
        assert_eq!(cut(&image, 1216, 1), Err(Refusal::Address));
        assert_eq!(pile.write(&mut world, 6, (SETPOINT, &[0])), Err(Refusal::Function));
    }
}
