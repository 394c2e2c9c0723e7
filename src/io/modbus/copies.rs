//! The models of a SunSpec device as they were read last, each by a period of its own.
//!
//! What a stranger gets wrong: rounds begin once a second and a little late or early. A model is due in the round
//! that is nearest to the end of its period, so the model of every second is due in every round.

use std::collections::BTreeMap;
use std::time::Duration;

use super::rota;
use super::sunspec::Model;
use crate::config::Profile;
use crate::units::Moment;

/// What was read of each model, and when.
#[derive(Debug, Default)]
pub struct Copies {
    periods: BTreeMap<u16, Duration>,
    /// How often rounds begin.
    round: Duration,
    kept: BTreeMap<u16, (Moment, Model)>,
}

impl Copies {
    /// Nothing read yet.
    #[must_use]
    pub fn of(profile: &Profile) -> Copies {
        let period = |(id, seconds): (&u16, &f64)| (*id, Duration::from_secs_f64(*seconds));
        let periods = profile.models.iter().map(period).collect();
        Copies { periods, round: rota::walked_period(profile), kept: BTreeMap::new() }
    }

    /// How often a model is read.
    #[must_use]
    pub fn period(&self, id: u16) -> Duration {
        self.periods.get(&id).copied().unwrap_or(rota::USUAL_PERIOD)
    }

    /// Whether a model is read in the round that began at this moment.
    #[must_use]
    pub fn is_due(&self, id: u16, began: Moment) -> bool {
        let age = |(at, _): &(Moment, Model)| at.age_at(began);
        let nearest = |age: Duration| age + self.round / 2 >= self.period(id);
        self.kept.get(&id).is_none_or(|kept| kept.0 != began && nearest(age(kept)))
    }

    /// Keeps a model that was read in the round that began at this moment.
    pub fn keep(&mut self, id: u16, began: Moment, model: Model) {
        self.kept.insert(id, (began, model));
    }

    /// A model as it was read last.
    #[must_use]
    pub fn last(&self, id: u16) -> Option<Model> {
        self.kept.get(&id).map(|(_, model)| model.clone())
    }

    /// Whatever was read may be of another device.
    pub fn forget(&mut self) {
        self.kept.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::read_profile;

    fn at(ms: u64) -> Moment {
        Moment { uptime: Duration::from_millis(ms), utc: chrono::DateTime::UNIX_EPOCH }
    }

    /// Rounds in which each of two models was read, of one a second that are up to 40 ms late.
    fn rounds(models: &str) -> [Vec<u64>; 2] {
        let text = format!(
            "id='p'\nkind='sunspec_hybrid'\nname='p'\nsource='test'\nconfidence='documented'\n{models}"
        );
        let mut faults = Vec::new();
        let profile = read_profile(&text, &mut faults).unwrap_or_else(|| panic!("{faults:?}"));
        let mut copies = Copies::of(&profile);
        [103, 802].map(|id| {
            let late = |round: u64| (round * 7 % 5) * 10;
            let due = |round: &u64| {
                let began = at(round * 1000 + late(*round));
                let due = copies.is_due(id, began);
                if due {
                    copies.keep(id, began, Model::new(vec![id]));
                    assert!(!copies.is_due(id, began), "once in a round");
                }
                due
            };
            (0..25).filter(due).collect()
        })
    }

    #[test]
    fn each_model_is_read_by_its_own_period() {
        let all: Vec<u64> = (0..25).collect();
        assert_eq!(rounds(""), [all.clone(), all.clone()]);
        assert_eq!(rounds("models=[{id=802,period_s=10}]"), [all, vec![0, 10, 20]]);
    }
}
