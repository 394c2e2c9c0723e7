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

    /// A picture that stands alone: the big net has the last word on what was doubted, but for a score
    /// over the alarm cut, which it cannot take back.
    ///
    /// # Errors
    /// When the net fails.
    pub fn still(&mut self, sight: &mut Sight, frame: &Frame) -> Result<(), ModelError> {
        let mut worst = None;
        for (_, answer) in self.answers(sight, frame)? {
            let verdict = match answer {
                Answer::Released => Verdict::Clear,
                Answer::Doubtful => Verdict::Doubtful,
                Answer::Confirmed { .. } => Verdict::Alarm,
            };
            worst = worst.max(Some(verdict));
        }
        if let Some(worst) = worst {
            sight.tier = Tier::Big;
            if sight.verdict != Verdict::Alarm {
                sight.verdict = worst;
            }
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
        for (doubt, answer) in self.answers(sight, frame)? {
            let answer = match answer {
                Answer::Released if !self.rules.release(&doubt, sight.at) => Answer::Doubtful,
                other => other,
            };
            let verdict = watch.answer(sight.at, doubt.part, answer);
            sight.tier = Tier::Big;
            if sight.fault.is_none() {
                sight.verdict = verdict;
            }
        }
        Ok(())
    }

    fn answers(
        &mut self,
        sight: &mut Sight,
        frame: &Frame,
    ) -> Result<Vec<(Doubt, Answer)>, ModelError> {
        let mut answers = Vec::new();
        for look in &sight.parts {
            let place = (&self.film, look.part, sight.at);
            let doubt = Doubt::about(place, (look.flame, look.smoke), self.cuts, false);
            let crop =
                doubt.as_ref().and_then(|_| Crop::of(frame, PARTS[look.part], self.net.side()));
            if let (Some(doubt), Some(crop)) = (doubt, crop) {
                let opinion = self.net.ask(&crop)?;
                sight.stages.big_ms += opinion.cpu_ms;
                answers.push((doubt, opinion.answer));
            }
        }
        Ok(answers)
    }
}
