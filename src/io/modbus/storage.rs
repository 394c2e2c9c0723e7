//! How a battery is told its power: by the recipe of its profile, or by SunSpec's storage control; both
//! are read back. Each write and each read back is a request of its own, so that whatever is more urgent
//! on the line goes in between.
//!
//! What a stranger gets wrong: discharge is positive here. A recipe knows only magnitudes and three lists
//! of writes, one for each direction and one for rest. A script that has begun is written to its end, unless it
//! is time to stop: else a register would be written as often as wishes change (FB15).

use std::collections::VecDeque;
use std::time::Duration;

use super::bus::{Bus, BusError};
use super::codec;
use super::device::Device;
use super::order::Verdict;
use crate::config::{BatteryRecipe, BatteryWrite, Order, ProfileKind, Table};
use crate::io::clock::Clock;
use crate::units::{Moment, Watts};

/// Below this a power is rest: no inverter holds less. Our own figure.
const REST_W: f64 = 50.0;

/// First register and words of one write.
pub type Write = (u16, Vec<u16>);

/// What is written, in this order, for `power` (discharge positive).
#[must_use]
pub fn writes(recipe: &BatteryRecipe, order: Order, power: Watts) -> Vec<Write> {
    let watts = power.get();
    let list = if watts.abs() < REST_W || watts.is_nan() {
        &recipe.rest
    } else if watts > 0.0 {
        &recipe.discharge
    } else {
        &recipe.charge
    };
    let words = |write: &BatteryWrite| match write {
        BatteryWrite::Fixed(fixed) => (fixed.address, vec![fixed.value]),
        BatteryWrite::Power(register) => {
            let amount = watts.abs() * register.scale;
            (register.address, codec::encode(amount, register.value_type, order))
        }
    };
    list.iter().map(words).collect()
}

/// What is still to be written, and then to be read back, of what a battery was told.
#[derive(Clone, Debug, Default)]
pub struct Script {
    watts: f64,
    /// All of it.
    told: Vec<Write>,
    writes: VecDeque<Write>,
    checks: VecDeque<Write>,
    /// Whether all that was read back stands as it was written.
    holds: bool,
    /// Whether anything was written, and not only found to stand already.
    wrote: bool,
}

impl Script {
    fn of(watts: f64, writes: Vec<Write>) -> Script {
        let (told, checks) = (writes.clone(), writes.clone().into());
        Script { watts, told, checks, writes: writes.into(), holds: true, wrote: false }
    }

    /// What was told and read back last; nothing while that is under way.
    pub fn told(&self) -> &[Write] {
        let over = self.writes.is_empty() && self.checks.is_empty();
        if over { &self.told } else { &[] }
    }
}

impl Device {
    /// What tells the battery its power; nothing where its percentages cannot be told.
    fn battery_writes(&self, watts: f64) -> Option<Vec<Write>> {
        if let Some(recipe) = &self.config.profile.battery {
            return Some(writes(recipe, self.config.profile.order, Watts(watts)));
        }
        self.hybrid.as_ref()?.pin(Watts(watts)).ok()
    }

    /// The next write of what the battery is told.
    pub(super) async fn write_battery(
        &mut self,
        bus: &mut Bus,
        clock: &Clock,
        watts: f64,
    ) -> Result<Option<Verdict>, BusError> {
        let stops = watts == 0.0 && self.script.watts != 0.0;
        if self.script.writes.is_empty() || stops {
            let Some(writes) = self.battery_writes(watts) else {
                self.order.failed(watts, clock.now());
                return Ok(Some(Verdict::Disobeyed));
            };
            self.script = Script::of(watts, writes);
        }
        let recipe = self.config.profile.battery.as_ref();
        let (function, settle_ms) =
            recipe.map_or((16, 0), |recipe| (recipe.function, recipe.settle_ms));
        let spacing_s = recipe.map_or(0.0, BatteryRecipe::spacing_s);
        if let Some((address, words)) = self.script.writes.pop_front()
            && !(spacing_s > 0.0 && self.stands(bus, (address, &words)).await?)
        {
            self.put(bus, function, (address, &words)).await?;
            self.script.wrote = true;
        }
        if self.script.writes.is_empty() {
            let now = clock.now();
            self.order.sent(self.script.watts, now, Duration::from_millis(settle_ms));
            if self.script.wrote && spacing_s > 0.0 {
                self.order.wears(spacing_s, now);
            }
        }
        Ok(None)
    }

    /// Whether registers hold these words already.
    async fn stands(&self, bus: &mut Bus, (first, words): (u16, &[u16])) -> Result<bool, BusError> {
        let span = (first, words.len() as u16);
        Ok(bus.read(self.config.unit, Table::Holding, span, self.pace).await? == words)
    }

    /// A battery whose registers wear out is not asked for power as soon as the gateway starts.
    pub(super) fn notice_wear(&mut self, now: Moment) {
        let spacing_s = self.config.profile.battery.as_ref().map_or(0.0, BatteryRecipe::spacing_s);
        if spacing_s > 0.0 {
            self.order.rest_unshown(spacing_s, now);
        }
    }

    /// The next read back of what the battery was told; the verdict after the last.
    pub(super) async fn check_battery(
        &mut self,
        bus: &mut Bus,
        clock: &Clock,
        watts: f64,
    ) -> Result<Option<Verdict>, BusError> {
        let unit = self.config.unit;
        if self.config.profile.kind == ProfileKind::SunspecHybrid {
            let Some(hybrid) = &mut self.hybrid else {
                self.order.failed(watts, clock.now());
                return Ok(Some(Verdict::Disobeyed));
            };
            hybrid.read_storage(bus, unit, self.pace).await?;
            self.script.holds = hybrid.shows(self.script.checks.make_contiguous());
            self.script.checks.clear();
        } else if let Some((address, words)) = self.script.checks.pop_front() {
            let span = (address, words.len() as u16);
            let held = bus.read(unit, Table::Holding, span, self.pace).await?;
            self.script.holds &= held == words;
        }
        if !self.script.checks.is_empty() {
            return Ok(None);
        }
        let held = self.script.holds.then_some(self.script.watts);
        Ok(Some(self.order.read_back(held, 1.0, (clock.now(), bus.made()))))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;
    use crate::config::{Address, DeviceConfig, Fixed, Register, ValueType, read_profile};
    use crate::logic::site::Id;

    /// A battery with a map of its maker on an in-process line: registers 0 to 19, and the writes that it took.
    async fn battery(mut wire: DuplexStream, mut held: [u16; 20], writes: Arc<Mutex<Vec<u16>>>) {
        let mut request = [0; 12];
        while wire.read_exact(&mut request).await.is_ok() {
            let [first, word] =
                [8, 10].map(|at| u16::from_be_bytes([request[at], request[at + 1]]));
            let mut pdu = request[7..12].to_vec();
            if request[7] == 6 {
                held[usize::from(first)] = word;
                writes.lock().unwrap().push(first);
            } else {
                let words = &held[usize::from(first)..usize::from(first + word)];
                pdu = vec![request[7], (word * 2) as u8];
                pdu.extend(words.iter().flat_map(|word| word.to_be_bytes()));
            }
            let mut frame = request[..4].to_vec();
            frame.extend([0, pdu.len() as u8 + 1, request[6]]);
            frame.extend(pdu);
            let _ = wire.write_all(&frame).await;
        }
    }

    /// A battery behind a line, as the gateway knows it, and the registers that are written to it.
    fn pack(more: &str) -> (Device, Bus, DuplexStream) {
        let text = format!(
            "id='p'\nkind='battery'\nname='p'\nsource='test'\nconfidence='documented'\ntype='u16'\n\
             points=[{{quantity='battery_w',address=0,type='i16'}},{{quantity='soc_pct',address=1}}]\n\
             [battery]\nfunction=6\n{more}\n\
             charge=[{{address=9,value=1}},{{address=10,type='u16'}}]\n\
             discharge=[{{address=9,value=2}},{{address=10,type='u16'}}]\nrest=[{{address=9,value=0}}]\n"
        );
        let mut faults = Vec::new();
        let profile = read_profile(&text, &mut faults).unwrap_or_else(|| panic!("{faults:?}"));
        let address = Address::Tcp { host: "pipe".into(), port: 1 };
        let config = DeviceConfig {
            id: Id::try_from("pack").unwrap(),
            profile,
            address: address.clone(),
            unit: 1,
            failsafe_a: None,
            serve_as: None,
            relays: Vec::new(),
        };
        let (ours, theirs) = duplex(1024);
        let mut bus = Bus::new(address);
        bus.attach(Box::new(ours));
        (Device::new(config, false, None), bus, theirs)
    }

    #[tokio::test]
    async fn flash_that_holds_a_word_already_is_not_written() {
        for (budget, expected) in [
            ("flash_writes_per_day=24", [&[][..], &[9, 10], &[], &[9], &[9]]),
            ("", [&[9], &[9, 10], &[9, 10], &[9, 10], &[9]]),
        ] {
            let (mut device, mut bus, theirs) = pack(budget);
            let (clock, writes) = (Clock::real(), Arc::default());
            tokio::spawn(battery(theirs, [0; 20], Arc::clone(&writes)));
            for (watts, expected) in [0.0, 3000.0, 3000.0, -3000.0, 0.0].into_iter().zip(expected) {
                device.write_battery(&mut bus, &clock, watts).await.unwrap();
                while !device.script.writes.is_empty() {
                    device.write_battery(&mut bus, &clock, watts).await.unwrap();
                }
                let verdict = loop {
                    if let Some(verdict) =
                        device.check_battery(&mut bus, &clock, watts).await.unwrap()
                    {
                        break verdict;
                    }
                };
                assert_eq!(verdict, Verdict::Obeyed, "{watts} W");
                assert_eq!(std::mem::take(&mut *writes.lock().unwrap()), expected, "{watts} W");
            }
        }
    }

    #[tokio::test]
    async fn fb15_a_script_that_has_begun_is_written_to_its_end_unless_it_is_time_to_stop() {
        let (mut device, mut bus, theirs) = pack("");
        let (clock, writes) = (Clock::real(), Arc::default());
        tokio::spawn(battery(theirs, [0; 20], Arc::clone(&writes)));
        for watts in [3000.0, 4000.0] {
            device.write_battery(&mut bus, &clock, watts).await.unwrap();
        }
        assert_eq!(*writes.lock().unwrap(), [9, 10], "and not its first register twice");
        assert_eq!(device.order.pending(), Some(3000.0));
        for watts in [5000.0, 0.0] {
            device.write_battery(&mut bus, &clock, watts).await.unwrap();
        }
        assert_eq!(*writes.lock().unwrap(), [9, 10, 9, 9], "a stop does not wait for the rest");
        assert_eq!(device.order.pending(), Some(0.0));
    }

    #[test]
    fn each_direction_has_its_own_list() {
        let mode = |value| BatteryWrite::Fixed(Fixed { address: 10, value, function: 16 });
        let power = |scale| {
            let value_type = ValueType::I32;
            BatteryWrite::Power(Register { address: 20, value_type, scale })
        };
        let recipe = BatteryRecipe {
            function: 16,
            charge: vec![mode(1), power(-1.0)],
            discharge: vec![mode(2), power(0.1)],
            rest: vec![mode(0)],
            expires_s: None,
            settle_ms: 0,
            flash_writes_per_day: None,
        };
        let told = |watts| writes(&recipe, Order::Cdab, Watts(watts));
        assert_eq!(told(-3000.0), [(10, vec![1]), (20, vec![(-3000i16) as u16, 0xFFFF])]);
        assert_eq!(told(3000.0), [(10, vec![2]), (20, vec![300, 0])]);
        assert_eq!(told(20.0), [(10, vec![0])]);
        assert_eq!(told(f64::NAN), [(10, vec![0])]);
    }
}
