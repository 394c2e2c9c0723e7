//! SunSpec: finds the models of a device by walking, reads those of a hybrid inverter, and writes the
//! storage control of model 124.
//!
//! What a stranger gets wrong: offsets count from the model's ID word as 0. A value and its scale
//! factor are read in the same request, since inverters change the factor at will. In model 124 the two
//! rates are a window for the battery's power: discharge at most `OutWRte`, charge at most `InWRte`,
//! and a negative rate forces the other direction. Both set to the same power pin it (Fronius GEN24).

use std::collections::BTreeMap;

use super::bus::{Bus, BusError, Pace};
use super::readings::Unusable;
use crate::config::{ProfileKind, Table, plausible};
use crate::logic::site::{BatteryReading, MeterReading, PvReading, Reading};
use crate::units::{Amps, Hertz, PerPhase, Soc, Volts, WattHours, Watts};

/// Where the mark "SunS" may stand.
const BASES: [u16; 3] = [40_000, 0, 50_000];
const MARK: [u16; 2] = [0x5375, 0x6E53];
/// More models than any device has; ends a walk through garbage.
const MOST_MODELS: usize = 64;
/// Registers that one request may ask for.
const MOST_REGISTERS: u16 = 125;
/// Models of a hybrid inverter that are read every second.
const INVERTER: u16 = 103;
const STORAGE: u16 = 124;
const MPPT: u16 = 160;
const BATTERY: u16 = 802;
/// Meters: single phase, split phase, three phases in star, three phases in delta.
const METERS: std::ops::RangeInclusive<u16> = 201..=204;
/// After this many seconds without a write the inverter drops the control by itself.
pub const REVERT_S: u16 = 30;

/// A model's id, and its span: address of the ID word, registers including ID and length.
pub type Place = (u16, (u16, u16));

/// Where the models lie: id to (address of the ID word, registers including ID and length).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Models(BTreeMap<u16, (u16, u16)>);

/// A walk along the chain of models, one request at a time.
#[derive(Clone, Debug, Default)]
pub struct Walk {
    /// Places that did not show the mark.
    missed: usize,
    /// The next model's ID word, once the mark was found.
    at: Option<u16>,
    seen: usize,
    models: Models,
}

impl Walk {
    /// The next request. The models once the last of them is known.
    ///
    /// # Errors
    /// What the bus says; no mark anywhere; models that run over the end.
    pub async fn step(
        &mut self,
        bus: &mut Bus,
        unit: u8,
        pace: Pace,
    ) -> Result<Option<Models>, BusError> {
        let Some(at) = self.at else {
            let Some(&base) = BASES.get(self.missed) else {
                return Err(BusError::Broken("no SunSpec mark found".to_owned()));
            };
            match bus.read(unit, Table::Holding, (base, 2), pace).await {
                Ok(words) if words == MARK => self.at = Some(base + 2),
                Ok(_) | Err(BusError::Exception(_)) => self.missed += 1,
                Err(error) => return Err(error),
            }
            return Ok(None);
        };
        let head = bus.read(unit, Table::Holding, (at, 2), pace).await?;
        let (id, length) = (head[0], head[1]);
        if id == 0xFFFF || self.seen == MOST_MODELS {
            return Ok(Some(std::mem::take(self).models));
        }
        let Some(next) = at.checked_add(2).and_then(|a| a.checked_add(length)) else {
            return Err(BusError::Broken(format!("SunSpec model {id} runs over the end")));
        };
        self.models.0.entry(id).or_insert((at, length + 2));
        (self.at, self.seen) = (Some(next), self.seen + 1);
        Ok(None)
    }
}

/// Walks the whole chain of models.
///
/// # Errors
/// As [`Walk::step`].
pub async fn walk(bus: &mut Bus, unit: u8, pace: Pace) -> Result<Models, BusError> {
    let mut walk = Walk::default();
    loop {
        if let Some(models) = walk.step(bus, unit, pace).await? {
            return Ok(models);
        }
    }
}

/// Whether the models are those that a walked kind needs.
#[must_use]
pub fn serves(kind: ProfileKind, models: &[u16]) -> bool {
    match kind {
        ProfileKind::SunspecMeter => models.iter().any(|id| METERS.contains(id)),
        ProfileKind::SunspecHybrid => {
            [INVERTER, STORAGE, MPPT].iter().all(|needed| models.contains(needed))
        }
        _ => false,
    }
}

/// One model as it was read.
#[derive(Clone, Debug)]
pub struct Model {
    words: Vec<u16>,
}

impl Model {
    /// From its registers, ID and length first.
    #[cfg(test)]
    pub(super) fn new(words: Vec<u16>) -> Model {
        Model { words }
    }

    /// All that was read of it.
    pub(super) fn words(&self) -> &[u16] {
        &self.words
    }

    /// One register as it is.
    pub(super) fn word(&self, offset: usize) -> Option<u16> {
        self.words.get(offset).copied()
    }

    /// Signed value at `offset` times ten to the factor at `factor`.
    fn signed(&self, offset: usize, factor: usize) -> Option<f64> {
        let raw = *self.words.get(offset)? as i16;
        (raw != i16::MIN).then(|| f64::from(raw)).and_then(|raw| self.scaled(raw, factor))
    }

    /// Unsigned value at `offset` times ten to the factor at `factor`.
    pub(super) fn unsigned(&self, offset: usize, factor: usize) -> Option<f64> {
        let raw = *self.words.get(offset)?;
        (raw != u16::MAX).then(|| f64::from(raw)).and_then(|raw| self.scaled(raw, factor))
    }

    /// Two registers at `offset`, counting up, times ten to the factor at `factor`.
    fn counter(&self, offset: usize, factor: usize) -> Option<f64> {
        let words = self.words.get(offset..offset + 2)?;
        let raw = f64::from(words[0]) * 65_536.0 + f64::from(words[1]);
        self.scaled(raw, factor)
    }

    pub(super) fn scaled(&self, raw: f64, factor: usize) -> Option<f64> {
        let factor = i32::from(*self.words.get(factor)? as i16);
        // Division by a power of ten is exact where a product with 0.01 is not.
        let power = 10f64.powi(factor.abs());
        (-10..=10).contains(&factor).then(|| if factor < 0 { raw / power } else { raw * power })
    }
}

/// The models of a hybrid inverter as they were read last.
#[derive(Clone, Debug)]
pub struct Hybrid {
    inverter: Model,
    storage: Model,
    mppt: Model,
    battery: Option<Model>,
    storage_at: u16,
}

impl Hybrid {
    /// From the models that [`Models::hybrid`] names, in that order.
    ///
    /// # Errors
    /// A model that is not there.
    pub fn of(models: &Models, read: Vec<Model>) -> Result<Hybrid, BusError> {
        let mut read = read.into_iter();
        let mut next = |id: u16| match read.next() {
            Some(model) if model.words.first() == Some(&id) => Ok(model),
            _ => Err(BusError::Broken(format!("SunSpec model {id} is not where it was"))),
        };
        let (inverter, mppt, storage) = (next(INVERTER)?, next(MPPT)?, next(STORAGE)?);
        let storage_at = models.place(STORAGE)?.0;
        let battery = read.next().filter(|model| model.words.first() == Some(&BATTERY));
        Ok(Hybrid { inverter, mppt, storage, battery, storage_at })
    }

    /// Reads the storage control anew.
    ///
    /// # Errors
    /// What the bus says.
    pub async fn read_storage(
        &mut self,
        bus: &mut Bus,
        unit: u8,
        pace: Pace,
    ) -> Result<(), BusError> {
        let count = self.storage.words.len() as u16;
        self.storage = read_model(bus, unit, (self.storage_at, count), pace).await?;
        Ok(())
    }

    /// PV is modules 1 and 2 of model 160; the battery is what the AC side carries beside the PV, so
    /// that the site's balance closes. State of charge from model 802, else 124.
    pub fn reading(&self) -> Result<Reading, Unusable> {
        let missing = |what| move || Unusable::Missing(what);
        let ac = self.inverter.signed(14, 15).ok_or_else(missing("103 W"))?;
        let module = |i: usize| self.mppt.unsigned(10 + 20 * i + 11, 4);
        let pv = module(0).ok_or_else(missing("160 module 1 DCW"))? + module(1).unwrap_or(0.0);
        let soc = self.battery.as_ref().and_then(|model| model.unsigned(11, 56));
        let soc = soc.or_else(|| self.storage.unsigned(8, 22)).ok_or_else(missing("802 SoC"))?;
        let soc = Soc::from_ratio(soc / 100.0).ok_or_else(missing("802 SoC"))?;
        let (ac, pv) = (possible("power_w", ac)?, possible("pv_w", pv)?);
        let battery = possible("battery_w", ac - pv)?;
        Ok(Reading::Hybrid {
            battery: BatteryReading { power: Watts(battery), soc },
            pv: PvReading { power: Watts(pv) },
        })
    }

    /// The writes that pin the battery to `power` (discharge positive): rates and revert time first,
    /// then the mode if it is not set yet. Each is an address and its words.
    pub fn pin(&self, power: Watts) -> Result<Vec<(u16, Vec<u16>)>, Unusable> {
        let most = self.storage.unsigned(2, 18).filter(|most| *most > 0.0);
        let most = most.ok_or(Unusable::Missing("124 WChaMax"))?;
        let factor = self.storage.scaled(1.0, 25).ok_or(Unusable::Missing("124 InOutWRte_SF"))?;
        let percent = (power.get() / most * 100.0).clamp(-100.0, 100.0);
        let rate = (percent / factor).round().clamp(-32_767.0, 32_767.0) as i16;
        let mut writes =
            vec![(self.storage_at + 12, vec![rate as u16, (-rate) as u16, 0, REVERT_S])];
        if self.storage.words.get(5).is_none_or(|mode| mode & 3 != 3) {
            writes.push((self.storage_at + 5, vec![3]));
        }
        Ok(writes)
    }

    /// The rates a read back must show after [`Hybrid::pin`] with this power.
    #[must_use]
    pub fn shows(&self, written: &[(u16, Vec<u16>)]) -> bool {
        let holds = |(at, words): &(u16, Vec<u16>)| {
            let offset = usize::from(at.saturating_sub(self.storage_at));
            // The revert time counts down on some inverters: only the rates are compared.
            let most = if offset == 12 { 2 } else { 1 };
            self.storage.words.get(offset..offset + most) == Some(&words[..most])
        };
        written.iter().all(holds)
    }
}

impl Models {
    /// Where the meter's model lies: the first of 201 to 204.
    ///
    /// # Errors
    /// None of them is there.
    pub fn meter(&self) -> Result<Place, BusError> {
        let found = self.0.range(METERS).next().map(|(id, place)| (*id, *place));
        let missing =
            || BusError::Broken("the device has no SunSpec meter (201 to 204)".to_owned());
        found.ok_or_else(missing)
    }

    /// Where the models of a hybrid inverter lie: inverter, PV, storage control, and the battery if it is there.
    ///
    /// # Errors
    /// A model that is not there.
    pub fn hybrid(&self) -> Result<Vec<Place>, BusError> {
        let mut places = Vec::with_capacity(4);
        for id in [INVERTER, MPPT, STORAGE] {
            places.push((id, self.place(id)?));
        }
        places.extend(self.place(BATTERY).ok().map(|place| (BATTERY, place)));
        Ok(places)
    }

    /// Id, address of the ID word, and registers including ID and length of every model.
    pub fn places(&self) -> Vec<Place> {
        self.0.iter().map(|(id, place)| (*id, *place)).collect()
    }

    fn place(&self, id: u16) -> Result<(u16, u16), BusError> {
        let missing = || BusError::Broken(format!("the device has no SunSpec model {id}"));
        self.0.get(&id).copied().ok_or_else(missing)
    }
}

/// The value if it can be one of its quantity (FB8): scale factors make anything of a wrong answer.
fn possible(quantity: &'static str, value: f64) -> Result<f64, Unusable> {
    let Some(known) = plausible(quantity) else {
        return Ok(value);
    };
    let (min, max) = (known.min, known.max);
    if (min..=max).contains(&value) {
        return Ok(value);
    }
    Err(Unusable::Implausible { quantity: quantity.to_owned(), value, min, max })
}

/// What is missing, and the quantity whose bounds it has.
type What = (&'static str, &'static str);

/// Whether these are the registers of a meter's model.
#[must_use]
pub fn is_meter(words: &[u16]) -> bool {
    words.first().is_some_and(|id| METERS.contains(id))
}

/// What a meter of models 201 to 204 says; SunSpec counts import as positive. A single-phase meter leaves
/// L2 and L3 out: they are nothing then.
pub fn meter_reading(words: &[u16]) -> Result<Reading, Unusable> {
    if !is_meter(words) {
        return Err(Unusable::Missing("20x ID"));
    }
    let model = Model { words: words.to_vec() };
    let single = model.words.first() == Some(&201);
    let phases =
        |first: usize, factor, (what, quantity): What| -> Result<PerPhase<f64>, Unusable> {
            let each = |i: usize| match model.signed(first + i, factor) {
                Some(value) => possible(quantity, value),
                None if single && i > 0 => Ok(0.0),
                None => Err(Unusable::Missing(what)),
            };
            Ok(PerPhase([each(0)?, each(1)?, each(2)?]))
        };
    let power = model.signed(18, 22).ok_or(Unusable::Missing("20x W"))?;
    let power = possible("power_w", power)?;
    let phase_power = match phases(19, 22, ("20x WphA", "power_l1_w")) {
        Err(_) if single => PerPhase([power, 0.0, 0.0]),
        each => each?,
    };
    let current = phases(3, 6, ("20x AphA", "current_l1_a"))?;
    let voltage = phases(8, 15, ("20x PhVphA", "voltage_l1_v"))?;
    // Without a neutral there is no voltage to it: 0 V is no black-out, and nothing can be converted with it.
    if model.words.first() == Some(&204) && voltage.0.contains(&0.0) {
        return Err(Unusable::Missing("204 PhVphA"));
    }
    let sign = |p| if phase_power.on(p) < 0.0 { -1.0 } else { 1.0 };
    // An energy of 0 means that there is none.
    let energy = |offset| model.counter(offset, 54).filter(|wh| *wh > 0.0).map(WattHours);
    Ok(Reading::Meter(MeterReading {
        power: Watts(power),
        phase_power: PerPhase(phase_power.0.map(Watts)),
        current: PerPhase::from_fn(|p| Amps(current.on(p).abs() * sign(p))),
        voltage: PerPhase(voltage.0.map(Volts)),
        frequency: model.signed(16, 17).map(Hertz),
        import: energy(46),
        export: energy(38),
    }))
}

/// Reads one model, or as much of it as one request may ask for.
///
/// # Errors
/// What the bus says.
pub async fn read_model(
    bus: &mut Bus,
    unit: u8,
    (at, length): (u16, u16),
    pace: Pace,
) -> Result<Model, BusError> {
    let count = length.min(MOST_REGISTERS);
    let words = bus.read(unit, Table::Holding, (at, count), pace).await?;
    Ok(Model { words })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(length: usize, values: &[(usize, i32)]) -> Model {
        let mut words = vec![0u16; length];
        for &(offset, value) in values {
            words[offset] = value as u16;
        }
        Model { words }
    }

    fn hybrid() -> Hybrid {
        Hybrid {
            inverter: model(52, &[(14, 3000), (15, 0)]),
            mppt: model(90, &[(4, 1), (8, 4), (21, 250), (41, 150)]),
            storage: model(28, &[(2, 10_000), (5, 0), (8, 5500), (18, 0), (22, -2), (25, -2)]),
            battery: None,
            storage_at: 40_200,
        }
    }

    #[test]
    fn values_are_scaled_and_the_balance_closes() {
        let Reading::Hybrid { battery, pv } = hybrid().reading().unwrap() else {
            panic!("not a hybrid")
        };
        assert_eq!(pv.power, Watts(4000.0));
        assert_eq!(battery.power, Watts(-1000.0));
        assert_eq!(battery.soc.ratio(), 0.55);
    }

    #[test]
    fn a_power_is_pinned_from_both_sides() {
        let writes = hybrid().pin(Watts(-2500.0)).unwrap();
        let rate = -2500i16;
        assert_eq!(writes[0], (40_212, vec![rate as u16, 2500, 0, REVERT_S]));
        assert_eq!(writes[1], (40_205, vec![3]));
        let mut holding = hybrid();
        assert!(!holding.shows(&writes));
        holding.storage.words[12] = rate as u16;
        holding.storage.words[13] = 2500;
        holding.storage.words[5] = 3;
        assert!(holding.shows(&writes));
        assert_eq!(holding.pin(Watts(0.0)).unwrap().len(), 1, "the mode is set already");
    }

    #[test]
    fn a_mad_scale_factor_is_refused() {
        let mut hybrid = hybrid();
        hybrid.inverter.words[15] = 11;
        assert_eq!(hybrid.reading(), Err(Unusable::Missing("103 W")));
        hybrid.inverter.words[15] = 0x8000;
        assert!(hybrid.reading().is_err());
    }

    /// A meter of model 203 that takes in 6 A and 1380 W on each phase at 230 V.
    fn meter(values: &[(usize, i32)]) -> Vec<u16> {
        let each = |first: usize, value: i32| [0, 1, 2].map(|i| (first + i, value));
        let mut all = vec![(0, 203), (1, 105), (6, -1), (15, -1), (17, -2), (22, 0), (54, 0)];
        all.extend(each(3, 60));
        all.extend(each(8, 2300));
        all.extend(each(19, 1380));
        all.extend([(16, 5000), (18, 4140)]);
        all.extend(values);
        model(107, &all).words
    }

    #[test]
    fn fb8_a_meter_is_believed_only_as_its_model_and_within_bounds() {
        let Ok(Reading::Meter(good)) = meter_reading(&meter(&[])) else { panic!("refused") };
        assert_eq!((good.power, good.current.0[0]), (Watts(4140.0), Amps(6.0)));
        for garbage in [0xFFFF, 0, 0x4BAD] {
            assert!(meter_reading(&[garbage; 107]).is_err(), "{garbage:#06X} was believed");
        }
        assert!(meter_reading(&[]).is_err());
        for (what, value) in [(0, 103), (6, 3), (15, 1), (22, 4)] {
            let reading = meter_reading(&meter(&[(what, value)]));
            assert!(reading.is_err(), "word {what} = {value}: {reading:?}");
        }
    }

    #[test]
    fn fb16_a_delta_meter_without_voltages_to_neutral_is_not_believed() {
        let zero = |id| [(0, id), (8, 0), (9, 0), (10, 0)];
        let believed = |values: &[(usize, i32)]| meter_reading(&meter(values)).is_ok();
        assert!(believed(&[(0, 204)]), "it shows them");
        assert!(!believed(&zero(204)));
        assert!(believed(&zero(203)), "a black-out of a meter in star");
    }

    #[test]
    fn fb8_a_hybrid_is_believed_only_as_its_models_and_within_bounds() {
        let places = [(INVERTER, 52), (MPPT, 90), (STORAGE, 28)];
        let models = Models(places.iter().map(|(id, length)| (*id, (40_000, *length))).collect());
        let read = |ids: [u16; 3]| -> Vec<Model> {
            ids.iter().map(|id| model(28, &[(0, i32::from(*id))])).collect()
        };
        assert!(Hybrid::of(&models, read([INVERTER, MPPT, STORAGE])).is_ok());
        for ids in [[0xFFFF; 3], [0; 3], [INVERTER, STORAGE, MPPT]] {
            assert!(Hybrid::of(&models, read(ids)).is_err(), "{ids:?} were believed");
        }
        let mut mad = hybrid();
        mad.inverter.words[15] = 3;
        assert!(mad.reading().is_err(), "three megawatts were believed");
    }
}
