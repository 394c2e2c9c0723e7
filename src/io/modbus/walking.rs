//! How SunSpec devices are read: their models are found by walking, then each is read by its own period.
//!
//! What a stranger gets wrong: the walk is a chain of requests, and each goes by itself, so that whatever is more
//! urgent on the line goes in between. After any fault the device may be another one, and it is walked anew.

use super::blocks::Block;
use super::bus::{Bus, BusError};
use super::device::Device;
use super::readings::Unusable;
use super::sunspec::{self, Hybrid, Model, Models, Place, Walk};
use crate::config::Table;
use crate::io::clock::Clock;
use crate::logic::site::Reading;
use crate::units::Moment;

impl Device {
    /// Where the device keeps what; walked once for each life of the connection, a request at a time. Nothing
    /// while it walks.
    async fn models(&mut self, bus: &mut Bus) -> Result<Option<Models>, BusError> {
        if self.models.is_none() {
            self.models = self.walk.step(bus, self.config.unit, self.pace).await?;
            // What was read before the walk lay elsewhere.
            self.copies.forget();
            return Ok(None);
        }
        Ok(self.models.clone())
    }

    /// After a fault the device may be another one.
    pub(super) fn forget_models(&mut self) {
        (self.models, self.walk) = (None, Walk::default());
        self.copies.forget();
    }

    /// Reads a model, for us and for whom the caching server serves.
    async fn read_model(
        &self,
        bus: &mut Bus,
        (id, span): Place,
        now: Moment,
    ) -> Result<Model, BusError> {
        let model = sunspec::read_model(bus, self.config.unit, span, self.pace).await?;
        if let Some(shelf) = &self.shelf {
            let (table, first, words) = (Table::Holding, span.0, model.words());
            let (count, points, period) = (words.len() as u16, Vec::new(), self.copies.period(id));
            shelf.put(&Block { table, first, count, points, period }, words, now);
        }
        Ok(model)
    }

    /// Reads the next model of a hybrid inverter that is due; the reading once it was the last.
    pub(super) async fn read_hybrid(
        &mut self,
        bus: &mut Bus,
        clock: &Clock,
    ) -> Result<Option<Result<Reading, Unusable>>, BusError> {
        let Some(models) = self.models(bus).await? else { return Ok(None) };
        let places = models.hybrid()?;
        let Some((began, next)) = self.round.as_ref().map(|round| (round.began, round.next)) else {
            return Ok(None);
        };
        let due = |device: &Device, from: usize| {
            (from..places.len()).find(|&i| device.copies.is_due(places[i].0, began))
        };
        if let Some(i) = due(self, next) {
            let model = self.read_model(bus, places[i], clock.now()).await?;
            self.copies.keep(places[i].0, began, model);
            self.round.iter_mut().for_each(|round| round.next = i + 1);
            if due(self, i + 1).is_some() {
                return Ok(None);
            }
        }
        let read = places.iter().filter_map(|(id, _)| self.copies.last(*id)).collect();
        let hybrid = Hybrid::of(&models, read)?;
        let reading = hybrid.reading();
        if self.order.is_held() && !hybrid.shows(self.script.told()) {
            self.notice_other("the storage control", (began, bus.made()));
        }
        self.hybrid = Some(hybrid);
        Ok(Some(reading))
    }

    /// Reads the one model of a meter.
    pub(super) async fn read_sunspec_meter(
        &mut self,
        bus: &mut Bus,
        clock: &Clock,
    ) -> Result<Option<Result<Reading, Unusable>>, BusError> {
        let Some(models) = self.models(bus).await? else { return Ok(None) };
        let model = self.read_model(bus, models.meter()?, clock.now()).await?;
        if !sunspec::is_meter(model.words()) {
            // Garbage, or the models lie elsewhere now: they are walked anew.
            self.forget_models();
        }
        Ok(Some(sunspec::meter_reading(model.words())))
    }
}
