//! A device made from a profile file: its registers filled from the physics, its setpoints acted on.
//!
//! What a stranger gets wrong: a device does not know who reads it. It takes a write only with the
//! function code, at the address and in the length that its profile names, feeds its watchdog only with
//! what its profile says, and keeps what was written readable.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use super::sight::Sight;
use super::{Measured, Refusal};
use crate::physics::{Node, Pile, PlugState, StorageControl, World};
use crate::profile::{Form, Point, Profile, Switch, Write};

/// What was written to it.
#[derive(Debug, Default)]
struct State {
    words: BTreeMap<u16, u16>,
    /// Setpoint as written, A or W; nothing before the first one.
    told: Option<f64>,
    paused: bool,
}

/// The device.
#[derive(Debug)]
pub struct Profiled {
    profile: Profile,
    /// The pile that it is, if it is a charger.
    pile: usize,
    state: Mutex<State>,
}

/// A value of the site on its way into registers.
enum Value {
    Number(f64),
    Text(String),
}

impl Profiled {
    /// As it leaves the factory.
    #[must_use]
    pub fn new(profile: Profile) -> Profiled {
        Profiled { profile, pile: 0, state: Mutex::default() }
    }

    /// As another pile than the first.
    #[must_use]
    pub fn at(self, pile: usize) -> Profiled {
        Profiled { pile, ..self }
    }

    /// Its profile.
    #[must_use]
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// Makes the pile behind it live as long as the profile says.
    pub fn settle_in(&self, world: &mut World) {
        let expires = self.profile.setpoint.as_ref().and_then(|setpoint| setpoint.expires_s);
        if let Some(pile) = self.pile_mut(world) {
            pile.validity_s = expires.unwrap_or(0.0);
        }
    }

    /// The pile that it is.
    pub fn pile_mut<'w>(&self, world: &'w mut World) -> Option<&'w mut Pile> {
        if self.profile.kind == "charger" { world.piles.get_mut(self.pile) } else { None }
    }

    fn feed(&self, world: &mut World) {
        self.pile_mut(world).into_iter().for_each(Pile::feed);
    }

    /// Lets it follow its setpoints or not.
    pub fn set_deaf(&self, world: &mut World, deaf: bool) {
        match self.profile.kind.as_str() {
            "battery" => world.hybrid.ignores_setpoint = deaf,
            "compute" => world.node.iter_mut().for_each(|node| node.ignores_setpoint = deaf),
            _ => self.pile_mut(world).into_iter().for_each(|pile| pile.ignores_setpoint = deaf),
        }
    }

    /// Another master writes a current.
    pub fn hear_of(&self, world: &mut World, amps: f64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(setpoint) = &self.profile.setpoint else {
            return;
        };
        let words = setpoint.form.registers(amps / setpoint.form.step());
        state.keep(setpoint.form.address, &words);
        state.told = Some(amps);
        self.tell(world, &state);
    }

    /// Its registers of one table: runs without gaps, since a read may bridge what has no value.
    pub fn image(
        &self,
        world: &World,
        input: bool,
        noise: &mut dyn FnMut() -> f64,
    ) -> Vec<(u16, Vec<u16>)> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut cells: BTreeMap<u16, u16> =
            if input { BTreeMap::new() } else { state.words.clone() };
        let measured =
            world.piles.get(self.pile).map(|pile| Measured::of(pile, world.volts, noise));
        let kind = self.profile.kind.as_str();
        let (pile, told) = (world.piles.get(self.pile), state.told);
        let sight = Sight { world, kind, pile, measured, jitter: noise(), told };
        for point in &self.profile.points {
            if (point.table.as_deref() == Some("input")) == input {
                self.put(point, &sight, &mut cells);
            }
        }
        runs(&cells, self.profile.max_gap)
    }

    fn put(&self, point: &Point, sight: &Sight<'_>, cells: &mut BTreeMap<u16, u16>) {
        let Some(value) = self.value(point, sight) else {
            return;
        };
        let mut step = point.form.step();
        if let Some(at) = point.scale_at {
            cells.insert(at, (-1i16) as u16);
            step *= 0.1;
        }
        let words = match value {
            Value::Text(text) => point.form.text(&text),
            Value::Number(number) if matches!(point.quantity.as_str(), "state" | "plugged") => {
                point.form.registers(((number as u64) << point.shift) as f64)
            }
            Value::Number(number) => point.form.registers(number / step),
        };
        for (i, word) in words.into_iter().enumerate() {
            let cell = cells.entry(point.form.address.saturating_add(i as u16)).or_insert(0);
            // Several values may share a register by their bits.
            *cell = if point.mask.is_some() { *cell | word } else { word };
        }
    }

    /// What a point shows: the quantity, or its part where several points make it up.
    fn value(&self, point: &Point, sight: &Sight<'_>) -> Option<Value> {
        if point.quantity == "state" {
            return self.state_of(sight, point);
        }
        if let ("phases", Some(contactors)) = (point.quantity.as_str(), &self.profile.phase_switch)
        {
            let connected = sight.pile?.connected;
            return Some(Value::Number(f64::from(contactors.shown(connected)) * point.form.step()));
        }
        let whole = sight.quantity(&point.quantity)?;
        let parts = self.profile.points.iter().filter(|other| other.quantity == point.quantity);
        let (against, along): (Vec<&Point>, Vec<&Point>) = parts.partition(|p| p.form.invert);
        Some(Value::Number(match (against.len(), along.len()) {
            // One register for each direction.
            (1.., 1..) if point.form.invert => whole.min(0.0) / against.len() as f64,
            (1.., 1..) => whole.max(0.0) / along.len() as f64,
            (against, along) => whole / (against + along) as f64,
        }))
    }

    fn state_of(&self, sight: &Sight<'_>, point: &Point) -> Option<Value> {
        let wanted: &[&str] = match sight.pile?.state() {
            PlugState::A => &["absent", "connected"],
            PlugState::B => &["connected"],
            PlugState::C => &["charging"],
        };
        let find = |meaning: &&str| {
            let mut states = self.profile.states.iter();
            states.find(|(_, means)| means == meaning).map(|(state, _)| state.clone())
        };
        let state = wanted.iter().find_map(find)?;
        Some(match point.form.kind.as_deref() {
            Some("text") => Value::Text(state),
            _ => Value::Number(state.parse().ok()?),
        })
    }

    /// Hears of any request.
    pub fn hear(&self, world: &mut World) {
        if self.fed_by() == "any" {
            self.feed(world);
        }
    }

    fn fed_by(&self) -> &str {
        let setpoint = self.profile.setpoint.as_ref();
        setpoint.and_then(|setpoint| setpoint.fed_by.as_deref()).unwrap_or("setpoint")
    }

    /// Power-cycled: forgets what was written.
    pub fn reboot(&self, world: &mut World) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = State::default();
        match self.profile.kind.as_str() {
            "battery" => world.hybrid.reboot(),
            "compute" => world.node.iter_mut().for_each(Node::reboot),
            _ => self.pile_mut(world).into_iter().for_each(Pile::reboot),
        }
        self.settle_in(world);
    }

    /// Takes a write.
    ///
    /// # Errors
    /// The refusal that the device answers with.
    pub fn write(
        &self,
        world: &mut World,
        function: u8,
        (first, words): (u16, &[u16]),
    ) -> Result<(), Refusal> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |form: &Form| form.address == first && usize::from(form.count()) == words.len();
        if let Some(battery) = &self.profile.battery {
            let lists = [&battery.charge, &battery.discharge, &battery.rest];
            if !lists.into_iter().flatten().any(|write| fits(&write.form)) {
                return Err(Refusal::Address);
            }
            expect(function, battery.function)?;
            state.keep(first, words);
            self.obey(world, &state);
            return Ok(());
        }
        let setpoint = self.profile.setpoint.as_ref().ok_or(Refusal::Function)?;
        if self.fed_by() == "writes" {
            self.feed(world);
        }
        if fits(&setpoint.form) {
            expect(function, setpoint.function)?;
            let amount = setpoint.form.raw(words) * setpoint.form.step();
            if !amount.is_finite() || amount < 0.0 {
                return Err(Refusal::Value);
            }
            state.keep(first, words);
            state.told = Some(amount);
            self.tell(world, &state);
            return Ok(());
        }
        if let Some(contactors) = self.profile.phase_switch.as_ref().filter(|c| c.address == first)
        {
            expect(function, contactors.function)?;
            let &[word] = words else { return Err(Refusal::Value) };
            let phases = contactors.meant(word).ok_or(Refusal::Value)?;
            self.pile_mut(world).into_iter().for_each(|pile| pile.connect(phases));
            return Ok(());
        }
        if let Some(failsafe) = &self.profile.failsafe {
            let amount = |form: &Form| form.raw(words) * form.step();
            if fits(&failsafe.current) {
                expect(function, setpoint.function)?;
                let amps = amount(&failsafe.current);
                self.pile_mut(world).into_iter().for_each(|pile| pile.safe_a = amps);
                return Ok(());
            }
            if fits(&failsafe.timeout) {
                expect(function, setpoint.function)?;
                let seconds = amount(&failsafe.timeout);
                self.pile_mut(world).into_iter().for_each(|pile| pile.validity_s = seconds);
                return Ok(());
            }
        }
        self.switch(world, &mut state, (function, first, words))
    }

    /// A life bit, a token, an enable, a pause.
    fn switch(
        &self,
        world: &mut World,
        state: &mut State,
        (function, first, words): (u8, u16, &[u16]),
    ) -> Result<(), Refusal> {
        let setpoint = self.profile.setpoint.as_ref().ok_or(Refusal::Function)?;
        let &[word] = words else {
            return Err(Refusal::Address);
        };
        let here = |switch: &&Switch| switch.address == first;
        let before: Vec<&Switch> = setpoint.before.iter().filter(here).collect();
        let pause: Vec<&Switch> = setpoint.pause.iter().filter(here).collect();
        let known = before.first().or(pause.first()).ok_or(Refusal::Address)?;
        expect(function, known.function.unwrap_or(setpoint.function))?;
        state.keep(first, words);
        let meant = |switches: &[&Switch]| switches.iter().any(|switch| switch.value == word);
        if self.fed_by() == "life" && meant(&before) && pause.iter().all(|p| p.value == word) {
            self.feed(world);
        }
        // What is the same in both lists (a token) switches nothing.
        match (meant(&before), meant(&pause)) {
            (true, false) => state.paused = false,
            (false, true) => state.paused = true,
            _ => {}
        }
        self.tell(world, state);
        Ok(())
    }

    /// Hands the setpoint to the pile or the node.
    fn tell(&self, world: &mut World, state: &State) {
        let Some(told) = state.told else {
            return;
        };
        if self.profile.kind == "compute" {
            world.node.iter_mut().for_each(|node| node.write_cap(told));
            return;
        }
        let amps = if state.paused { 0.0 } else { told };
        if let Some(pile) = self.pile_mut(world) {
            match self.fed_by() {
                "setpoint" => pile.write_setpoint(amps),
                _ => pile.setpoint_a = amps.clamp(0.0, pile.max_a),
            }
        }
    }

    /// Does what the registers of a battery say, taken together.
    fn obey(&self, world: &mut World, state: &State) {
        let Some(battery) = &self.profile.battery else {
            return;
        };
        let holds = |list: &[Write]| {
            let same = |write: &Write| match write.value {
                Some(value) => state.words.get(&write.form.address) == Some(&value),
                None => true,
            };
            list.iter().all(same)
        };
        let power = |list: &[Write]| {
            let write = list.iter().find(|write| write.value.is_none())?;
            let count = write.form.count();
            let words: Option<Vec<u16>> =
                (0..count).map(|i| state.words.get(&(write.form.address + i)).copied()).collect();
            Some((write.form.raw(&words?) * write.form.step()).abs())
        };
        let watts = if holds(&battery.rest) {
            Some(0.0)
        } else if holds(&battery.charge) {
            power(&battery.charge).map(|watts| -watts)
        } else if holds(&battery.discharge) {
            power(&battery.discharge)
        } else {
            None
        };
        if let Some(watts) = watts {
            let hybrid = &mut world.hybrid;
            let revert = battery.expires_s.unwrap_or(0.0) as u16;
            hybrid.control = StorageControl::pinned(watts, hybrid.max_w, revert);
        }
    }
}

fn expect(function: u8, wanted: u8) -> Result<(), Refusal> {
    if function == wanted { Ok(()) } else { Err(Refusal::Function) }
}

impl State {
    fn keep(&mut self, first: u16, words: &[u16]) {
        let cells = words.iter().enumerate();
        self.words.extend(cells.map(|(i, word)| (first.saturating_add(i as u16), *word)));
    }
}

/// Cells into runs; a gap that a read may bridge is filled with zeros.
fn runs(cells: &BTreeMap<u16, u16>, max_gap: u16) -> Vec<(u16, Vec<u16>)> {
    let mut runs: Vec<(u16, Vec<u16>)> = Vec::new();
    for (&at, &word) in cells {
        if let Some((first, words)) = runs.last_mut() {
            let end = u32::from(*first) + words.len() as u32;
            let gap = u32::from(at) - end;
            if gap <= u32::from(max_gap) {
                words.resize(words.len() + gap as usize, 0);
                words.push(word);
                continue;
            }
        }
        runs.push((at, vec![word]));
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::super::{Map, cut};
    use super::*;
    use crate::scenario::Scenario;
    use std::sync::Arc;

    fn device(id: &str) -> (Map, World) {
        let profiled = Profiled::new(Profile::find(id).unwrap());
        let mut world = World::new(Scenario::sunny_day(), 1);
        world.set_plugged("bay1", Some(true));
        profiled.settle_in(&mut world);
        world.step(30.0);
        (Map::Profiled(Arc::new(profiled)), world)
    }

    fn read(map: &Map, world: &World, input: bool, first: u16, count: u16) -> Option<Vec<u16>> {
        cut(&map.image(world, input, &mut || 0.0), first, count).ok()
    }

    #[test]
    fn a_setpoint_needs_its_function_address_and_life_bit() {
        let (map, mut world) = device("schneider-evlink");
        assert_eq!(map.write(&mut world, 16, (4004, &[16])), Err(Refusal::Function));
        assert_eq!(map.write(&mut world, 6, (4005, &[16])), Err(Refusal::Address));
        for _ in 0..10 {
            map.write(&mut world, 6, (4000, &[1])).unwrap();
            map.write(&mut world, 6, (4004, &[16])).unwrap();
            world.step(2.0);
        }
        assert_eq!(read(&map, &world, false, 4004, 1).unwrap(), [16]);
        assert!((world.piles[0].current_a - 16.0).abs() < 1e-6);
        for _ in 0..10 {
            map.write(&mut world, 6, (4004, &[16])).unwrap();
            world.step(2.0);
        }
        assert!(world.piles[0].current_a < 6.1, "it went on without its life bit");
    }

    #[test]
    fn a_switch_pauses_and_the_setpoint_stays() {
        let (map, mut world) = device("phoenix-charx");
        map.write(&mut world, 16, (1300, &[1])).unwrap();
        map.write(&mut world, 16, (1301, &[10])).unwrap();
        world.step(10.0);
        assert!((world.piles[0].current_a - 10.0).abs() < 1e-6);
        map.write(&mut world, 16, (1300, &[0])).unwrap();
        world.step(10.0);
        assert_eq!(world.piles[0].current_a, 0.0);
        assert_eq!(read(&map, &world, false, 1301, 1).unwrap(), [10]);
        assert_eq!(read(&map, &world, false, 1300, 1).unwrap(), [0]);
    }

    #[test]
    fn a_battery_does_what_its_registers_say_together() {
        let (map, mut world) = device("sungrow-sh");
        for (address, value) in [(13049, 2), (13051, 3000), (13050, 0xAA)] {
            map.write(&mut world, 16, (address, &[value])).unwrap();
        }
        world.step(5.0);
        assert!((world.hybrid.battery_w + 3000.0).abs() < 1.0);
        map.write(&mut world, 16, (13050, &[0xCC])).unwrap();
        world.step(5.0);
        assert!(world.hybrid.battery_w.abs() < 1.0);
    }

    #[test]
    fn both_directions_share_their_registers() {
        let (map, mut world) = device("sma-hybrid");
        let control = StorageControl::pinned(-2500.0, world.hybrid.max_w, 0);
        world.hybrid.control = control;
        world.step(10.0);
        assert_eq!(read(&map, &world, false, 31393, 4).unwrap(), [0, 2500, 0, 0]);
    }
}
