//! Which score of which bay is a label: see `site::labels`.
//!
//! What a stranger gets wrong: a car that is just plugged in was looked at before, and one that goes away is seen for a
//! while. So a charger has to have said the same for some time, and then once an hour is enough: what is to be learned
//! is how a place looks in all lights, not how one car looks a thousand times.

use std::time::Duration;

use super::Controller;
use crate::logic::site::{Bay, Id, Vehicle};
use crate::units::Moment;

/// Each bay has been read again after this, twice: it is read every half minute, or every minute to save energy.
const SETTLED: Duration = Duration::from_secs(150);
/// How often a stay is looked at.
const LABELS_EVERY: Duration = Duration::from_secs(3600);
/// Score of a bay that nobody has read.
const UNREAD: f64 = 0.5;

/// A stay at a bay, or the gap between two.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spell {
    plugged: bool,
    /// Since when its charger says so, without a gap.
    since: Moment,
    counted: Option<Counted>,
}

/// How a stay counts.
#[derive(Clone, Copy, Debug)]
struct Counted {
    last: Moment,
    score: f64,
    /// Among which labels.
    scored_by: u32,
}

impl Controller {
    /// Takes the labels of this second.
    pub(super) fn label_bays(&mut self, now: Moment) {
        for bay in &self.site.bays {
            let (Some(charger), Some(camera)) = (&bay.charger, &bay.camera) else { continue };
            let vehicle = self.charger(charger, now).fresh().map(|reading| reading.vehicle);
            let plugged = match vehicle {
                Some(Vehicle::Connected | Vehicle::Charging) => true,
                Some(Vehicle::Absent) => false,
                // Nobody knows who comes and goes meanwhile. Where it says the same afterwards it counts as the same
                // stay, or a charger that misses a read now and then would make many of one.
                Some(Vehicle::Fault) | None => {
                    self.spells.get_mut(&bay.id).into_iter().for_each(|spell| spell.since = now);
                    continue;
                }
            };
            let new = Spell { plugged, since: now, counted: None };
            let spell = self.spells.entry(bay.id.clone()).or_insert(new);
            if spell.plugged != plugged {
                *spell = new;
            }
            let spell = *spell;
            let due = spell.counted.is_none_or(|counted| counted.last.age_at(now) >= LABELS_EVERY);
            if !due || spell.since.age_at(now) < SETTLED {
                continue;
            }
            if let Some((score, scored_by)) = self.score(bay, camera, now) {
                let labels = self.daybook.labels.entry(camera.clone()).or_default();
                *labels = std::mem::take(labels).of(scored_by);
                let before = spell.counted.filter(|counted| counted.scored_by == scored_by);
                let score =
                    labels.add(&bay.id, plugged, score, before.map(|counted| counted.score));
                let counted = Some(Counted { last: now, score, scored_by });
                self.spells.insert(bay.id.clone(), Spell { counted, ..spell });
            }
        }
    }

    /// What the camera says of a bay, where it sees and the bay was read, and by what it says so.
    fn score(&self, bay: &Bay, camera: &Id, now: Moment) -> Option<(f64, u32)> {
        let scene = self.scenes.get(camera).filter(|_| self.fire.sees(camera, now))?;
        let look = scene.bays.iter().find(|look| look.id == bay.id)?;
        let read = look.occupied != UNREAD && (0.0..=1.0).contains(&look.occupied);
        read.then_some(look.occupied).zip(scene.scored_by)
    }
}
