//! A second look at once: the big net on what the small one doubts, for pictures and films that wait for
//! it. At cameras nobody waits; there it is `cascade`.

use super::eyes::{PARTS, Sight, Watch};
use crate::io::camera::Frame;
use crate::io::inference::{BigNet, Crop, ModelError};
use crate::logic::site::Id;
use crate::logic::vision::{Answer, Doubt, Escalation, FireCuts, Tier, Verdict};

/// The big net, asked at once and without a budget.
pub struct Second {
    net: BigNet,
    cuts: FireCuts,
    /// Only its rules of release are used here.
    rules: Escalation<()>,
    /// Stands for the camera in the rules.
    film: Id,
}

impl Second {
    /// `cuts` are the small net's; `film` stands for the camera.
    #[must_use]
    pub fn new(net: BigNet, cuts: FireCuts, film: Id) -> Second {
        Second { net, cuts, rules: Escalation::new(0.0), film }
    }

    /// Another film begins: what was released before does not count.
    pub fn forget(&mut self) {
        self.rules = Escalation::new(0.0);
    }

    /// A picture that stands alone: the big net has the last word on what was doubted. Over the alarm cut it is not
    /// asked, since it cannot take such a score back; and where it confirms one part, no other can change that.
    ///
    /// # Errors
    /// When the net fails.
    pub fn still(&mut self, sight: &mut Sight, frame: &Frame) -> Result<(), ModelError> {
        if sight.verdict == Verdict::Alarm {
            return Ok(());
        }
        let mut doubts = self.doubts(sight);
        doubts.sort_by(|a, b| b.risk.total_cmp(&a.risk));
        let mut worst = None;
        for doubt in doubts {
            let verdict = match self.answer(&doubt, sight, frame)? {
                Some(Answer::Released) => Verdict::Clear,
                Some(Answer::Confirmed { .. }) => Verdict::Alarm,
                Some(Answer::Doubtful) | None => Verdict::Doubtful,
            };
            worst = worst.max(Some(verdict));
            if verdict == Verdict::Alarm {
                break;
            }
        }
        if let Some(worst) = worst {
            (sight.tier, sight.verdict) = (Tier::Big, worst);
        }
        Ok(())
    }

    /// A look of a film, under the rules that hold at cameras.
    ///
    /// # Errors
    /// When the net fails.
    pub fn look(
        &mut self,
        watch: &mut Watch,
        sight: &mut Sight,
        frame: &Frame,
    ) -> Result<(), ModelError> {
        for doubt in self.doubts(sight) {
            if !self.rules.is_worth(&doubt) {
                continue;
            }
            let answer = match self.answer(&doubt, sight, frame)? {
                Some(Answer::Released) if !self.rules.release(&doubt, sight.at) => Answer::Doubtful,
                Some(other) => other,
                None => continue,
            };
            let verdict = watch.answer(sight.at, doubt.part, answer);
            sight.tier = Tier::Big;
            if sight.fault.is_none() {
                sight.verdict = verdict;
            }
        }
        Ok(())
    }

    fn doubts(&self, sight: &Sight) -> Vec<Doubt> {
        let about = |look| Doubt::about((&self.film, sight.at), look, self.cuts, false);
        sight.parts.iter().filter_map(about).collect()
    }

    /// What the net says; its cost is booked. Nothing where there is nothing to show it.
    fn answer(
        &mut self,
        doubt: &Doubt,
        sight: &mut Sight,
        frame: &Frame,
    ) -> Result<Option<Answer>, ModelError> {
        let Some(crop) = Crop::of(frame, PARTS[doubt.part], self.net.side()) else {
            return Ok(None);
        };
        let opinion = self.net.ask(&crop)?;
        sight.stages.big_ms += opinion.cpu_ms;
        Ok(Some(opinion.answer))
    }
}
