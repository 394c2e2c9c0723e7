//! Register maps of real devices over the physics, written by hand: this crate shares no decoder with
//! the gateway, so that neither hides the other's mistakes.

mod abb;
mod alfen;
mod io_module;
mod keba;
mod node;
mod profiled;
mod sdm630;
mod sight;
mod sunspec_hybrid;
mod sunspec_meter;

use std::sync::Arc;

use crate::physics::{Module, Node, Pile, World};
use crate::scenario::Make;

pub use profiled::Profiled;

/// Why a request is answered with an exception.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Exception 1: function not supported here.
    Function,
    /// Exception 2: no such register.
    Address,
    /// Exception 3: a value that cannot be.
    Value,
}

/// Which device of the world is meant.
#[derive(Clone, Debug)]
pub enum Map {
    /// The grid meter.
    Sdm630,
    /// The pile with this index, with the registers of its make.
    Pile(usize, Make),
    /// The hybrid inverter.
    Hybrid,
    /// The compute node.
    Node,
    /// The input/output module.
    Module,
    /// The grid meter, speaking SunSpec.
    SunspecMeter,
    /// A device made from a profile file, over a pile, the meter, the battery or the node.
    Profiled(Arc<Profiled>),
}

impl Map {
    /// The whole table that a read is cut from: first register and words. `noise` is the measuring
    /// noise of the moment, about -1 to 1.
    pub fn image(
        &self,
        world: &World,
        input: bool,
        noise: &mut dyn FnMut() -> f64,
    ) -> Vec<(u16, Vec<u16>)> {
        match (self, input) {
            (Map::Sdm630, true) => sdm630::image(world, noise),
            (Map::Pile(i, make), false) => world.piles.get(*i).map_or_else(Vec::new, |pile| {
                let measured = Measured::of(pile, world.volts, noise);
                match make {
                    Make::Alfen => alfen::image(pile, &measured),
                    Make::Keba => keba::image(pile, &measured),
                    Make::Abb => abb::image(pile, &measured),
                }
            }),
            (Map::Hybrid, false) => vec![(sunspec_hybrid::BASE, sunspec_hybrid::image(world))],
            (Map::Module, false) => {
                world.module.as_ref().map_or_else(Vec::new, |m| io_module::image(m, noise))
            }
            (Map::Node, false) => world.node.as_ref().map_or_else(Vec::new, node::image),
            (Map::SunspecMeter, false) => {
                vec![(sunspec_meter::BASE, sunspec_meter::image(world, noise))]
            }
            (Map::Profiled(device), input) => device.image(world, input, noise),
            _ => Vec::new(),
        }
    }

    /// Registers that one read may ask for.
    #[must_use]
    pub fn most_registers(&self) -> u16 {
        match self {
            Map::Profiled(device) => device.profile().max_registers,
            _ => 125,
        }
    }

    /// Maker, product and revision, as device identification tells them.
    #[must_use]
    pub fn identity(&self) -> [String; 3] {
        let product = match self {
            Map::Sdm630 => "SDM630".to_owned(),
            Map::Pile(_, make) => format!("{make:?}"),
            Map::Hybrid => "Hybrid 10".to_owned(),
            Map::Node => "Node".to_owned(),
            Map::Module => "Module 8".to_owned(),
            Map::SunspecMeter => "Meter 203".to_owned(),
            Map::Profiled(device) => device.profile().id.clone(),
        };
        ["wattgate simulators".to_owned(), product, env!("CARGO_PKG_VERSION").to_owned()]
    }

    /// Power-cycles the device.
    pub fn reboot(&self, world: &mut World) {
        match self {
            Map::Sdm630 | Map::SunspecMeter => {}
            Map::Pile(i, _) => world.piles.get_mut(*i).into_iter().for_each(Pile::reboot),
            Map::Hybrid => world.hybrid.reboot(),
            Map::Node => world.node.iter_mut().for_each(Node::reboot),
            Map::Module => world.module.iter_mut().for_each(Module::reboot),
            Map::Profiled(device) => device.reboot(world),
        }
    }

    /// Lets piles follow what they are told of their phases or not.
    pub fn set_stuck(&self, world: &mut World, stuck: bool) {
        match self {
            Map::Pile(i, _) => {
                world.piles.get_mut(*i).into_iter().for_each(|pile| pile.ignores_phases = stuck);
            }
            Map::Profiled(device) => {
                device.pile_mut(world).into_iter().for_each(|pile| pile.ignores_phases = stuck);
            }
            Map::Sdm630 | Map::SunspecMeter | Map::Hybrid | Map::Node | Map::Module => {}
        }
    }

    /// Lets the device follow its setpoints or not.
    pub fn set_deaf(&self, world: &mut World, deaf: bool) {
        match self {
            Map::Sdm630 | Map::SunspecMeter => {}
            Map::Pile(i, _) => {
                world.piles.get_mut(*i).into_iter().for_each(|pile| pile.ignores_setpoint = deaf);
            }
            Map::Hybrid => world.hybrid.ignores_setpoint = deaf,
            Map::Node => world.node.iter_mut().for_each(|node| node.ignores_setpoint = deaf),
            Map::Module => world.module.iter_mut().for_each(|module| module.welded = deaf),
            Map::Profiled(device) => device.set_deaf(world, deaf),
        }
    }

    /// Whether it takes a current.
    #[must_use]
    pub fn is_charger(&self) -> bool {
        match self {
            Map::Pile(..) => true,
            Map::Profiled(device) => device.profile().kind == "charger",
            _ => false,
        }
    }

    /// Another master writes a current; only a charger takes it.
    pub fn tell(&self, world: &mut World, amps: f64) {
        match self {
            Map::Pile(i, _) => {
                world.piles.get_mut(*i).into_iter().for_each(|pile| pile.write_setpoint(amps));
            }
            Map::Profiled(device) => device.hear_of(world, amps),
            _ => {}
        }
    }

    /// Hears of any request: for some devices that is a sign of life.
    pub fn hear(&self, world: &mut World) {
        match self {
            Map::Pile(i, Make::Abb) => world.piles.get_mut(*i).into_iter().for_each(Pile::feed),
            Map::Profiled(device) => device.hear(world),
            _ => {}
        }
    }

    /// Unit id that the device listens to.
    #[must_use]
    pub fn unit(&self) -> u8 {
        match self {
            Map::Pile(_, Make::Keba) => 255,
            Map::Profiled(device) => device.profile().unit_id,
            _ => 1,
        }
    }

    /// Writes registers with function 6 or 16.
    ///
    /// # Errors
    /// The refusal that the device would answer with.
    pub fn write(
        &self,
        world: &mut World,
        function: u8,
        (first, words): (u16, &[u16]),
    ) -> Result<(), Refusal> {
        match self {
            Map::Sdm630 | Map::SunspecMeter => Err(Refusal::Function),
            Map::Profiled(device) => device.write(world, function, (first, words)),
            Map::Pile(i, make) => {
                let pile = world.piles.get_mut(*i).ok_or(Refusal::Address)?;
                match make {
                    Make::Alfen => alfen::write(pile, function, (first, words)),
                    Make::Keba => keba::write(pile, function, (first, words)),
                    Make::Abb => abb::write(pile, function, (first, words)),
                }
            }
            Map::Module => {
                let module = world.module.as_mut().ok_or(Refusal::Address)?;
                io_module::write(module, function, (first, words))
            }
            Map::Hybrid => sunspec_hybrid::write(world, first, words),
            Map::Node => {
                let node = world.node.as_mut().ok_or(Refusal::Address)?;
                node::write(node, function, (first, words))
            }
        }
    }
}

/// Cuts `count` registers from `first` out of an image.
///
/// # Errors
/// [`Refusal::Address`] where any of them does not exist.
pub fn cut(image: &[(u16, Vec<u16>)], first: u16, count: u16) -> Result<Vec<u16>, Refusal> {
    let inside = image.iter().find_map(|(start, words)| {
        let offset = usize::from(first.checked_sub(*start)?);
        words.get(offset..offset + usize::from(count)).map(<[u16]>::to_vec)
    });
    inside.filter(|_| (1..=125).contains(&count)).ok_or(Refusal::Address)
}

/// What a pile measures on its own phases, with noise.
struct Measured {
    volts: [f64; 3],
    amps: [f64; 3],
}

impl Measured {
    fn of(pile: &Pile, grid: [f64; 3], noise: &mut dyn FnMut() -> f64) -> Measured {
        let volts = pile.own_volts(grid).map(|volts| volts + 0.05 * noise());
        let read = |amps: f64| if amps > 0.0 { (amps + 0.01 * noise()).max(0.0) } else { 0.0 };
        Measured { volts, amps: pile.currents().map(read) }
    }

    fn power_w(&self) -> f64 {
        self.volts.iter().zip(self.amps).map(|(volts, amps)| volts * amps).sum()
    }
}

/// A growing table of registers.
#[derive(Debug, Default)]
struct Sheet {
    first: u16,
    words: Vec<u16>,
}

impl Sheet {
    fn new(first: u16, count: usize) -> Sheet {
        Sheet { first, words: vec![0; count] }
    }

    fn put(&mut self, address: u16, values: &[u16]) {
        let at = usize::from(address - self.first);
        if let Some(place) = self.words.get_mut(at..at + values.len()) {
            place.copy_from_slice(values);
        }
    }

    fn float(&mut self, address: u16, value: f64) {
        let bits = (value as f32).to_bits();
        self.put(address, &[(bits >> 16) as u16, bits as u16]);
    }

    fn long(&mut self, address: u16, value: u32) {
        self.put(address, &[(value >> 16) as u16, value as u16]);
    }

    fn text(&mut self, address: u16, count: usize, text: &str) {
        let mut bytes = text.as_bytes().to_vec();
        bytes.resize(count * 2, 0);
        let words: Vec<u16> = bytes.chunks(2).map(|b| u16::from_be_bytes([b[0], b[1]])).collect();
        self.put(address, &words);
    }

    fn done(self) -> (u16, Vec<u16>) {
        (self.first, self.words)
    }
}
