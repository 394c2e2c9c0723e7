//! Rules of load control that a scenario can live without, to show that it needs them. All hold, always:
//! no site file, no message and no command line reaches this; only tests make a controller without one.
//!
//! What a stranger gets wrong: this is no feature. A test whose scenario passes without its rule proves
//! nothing, and that is what the switch is for.

use std::time::Duration;

use super::Controller;
use crate::logic::energy::Ramp;
use crate::logic::site::{Charger, ChargerSetpoint};
use crate::units::{Amps, Moment};

/// A rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Each charger loads the phases that it is wired to.
    PhaseMap,
    /// A car starts with the minimum current, and only where there is room for it.
    Admission,
    /// Old values are not used.
    Age,
    /// Raises need two samples.
    TwoSamples,
    /// Less room means less current; a pause only below the minimum.
    ThrottleFirst,
    /// Limits hold in amperes, also where there is one in watts.
    Amperes,
    /// Raises are slow.
    SlowRaise,
    /// Nothing is raised on what others still draw.
    InFlight,
    /// All chargers move in every cycle.
    AllAtOnce,
    /// The failsafe sum is checked before arming.
    FailsafeSum,
    /// A car that three phases have no minimum current for is taken to one.
    OnePhase,
    /// Phases are switched seldom: after a lasting lack, with a lock-out and a budget.
    SwitchSeldom,
    /// Phases are switched with nothing flowing.
    EmptyFirst,
    /// Who draws more than told costs the others.
    Measured,
    /// The feeder of a charger that ignores its setpoint is opened.
    FeederOpens,
    /// No more is exported than may be: inverters are curtailed.
    ExportLimit,
    /// A charger charges as its mode says.
    Modes,
    /// A car starts on sun that lasts and pauses on a lack that lasts.
    SunPatience,
    /// Sun that the meter cannot show is looked for.
    SunTried,
    /// What a battery is for, and must not do, holds.
    Strategy,
    /// Each battery corrects what those before it leave.
    EachItsPart,
    /// A battery that charges on although it may not counts as controlled.
    DeafBattery,
    /// What there is is shared alike.
    FairShare,
    /// Who charges keeps its minimum before somebody else gets one.
    WhoCharges,
    /// After a start nothing is above what the devices held and their failsafe.
    StartsLow,
    /// The mean import of a window holds.
    Demand,
    /// The plan knows the circuits below the grid connection.
    CircuitsPlanned,
    /// A current that a charger cannot set is rounded down.
    RoundedDown,
    /// A meter that does not move is not believed.
    Frozen,
    /// Who comes down as fast as pilot and car can disobeys nobody.
    TimeToFollow,
}

impl Controller {
    /// This controller without one of its rules. For tests only.
    #[doc(hidden)]
    #[must_use]
    pub fn without(mut self, rule: Rule) -> Controller {
        self.off = Some(rule);
        self
    }

    /// Whether a rule holds.
    pub(super) fn holds(&self, rule: Rule) -> bool {
        self.off != Some(rule)
    }

    /// The share as it is; otherwise only where a test has switched a rule off.
    pub(super) fn with_rules_off(
        &self,
        share: ChargerSetpoint,
        (charger, last): (&Charger, ChargerSetpoint),
        most: Amps,
    ) -> ChargerSetpoint {
        let Some(off) = self.off else { return share };
        let place = self.site.chargers.iter().position(|c| c.id == charger.id).unwrap_or(0);
        let turn = self.sequence as usize % self.site.chargers.len().max(1) == place;
        match off {
            Rule::ThrottleFirst if share.amps() < last.amps() => ChargerSetpoint::Pause,
            Rule::AllAtOnce if !turn => last,
            Rule::RoundedDown if share != ChargerSetpoint::Pause => {
                ChargerSetpoint::Current((share.amps() + charger.step).min(most))
            }
            Rule::Admission if last == ChargerSetpoint::Pause && most > Amps::ZERO => {
                ChargerSetpoint::Current(most)
            }
            _ => share,
        }
    }

    /// For how long a charger has drawn more than it was told, and not because it is still coming down.
    pub(super) fn disobeyed_for(&self, ramp: &Ramp, now: Moment) -> Duration {
        if self.holds(Rule::TimeToFollow) { ramp.disobeyed_for(now) } else { ramp.above_for(now) }
    }
}
