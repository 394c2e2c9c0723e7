//! What a person at the desk asks of a charger: how it charges from now on, and what its car needs by when.
//! The answer is what the controller shows afterwards, with the reason of the setpoint, and what is to be expected.
//!
//! What a stranger gets wrong: a mode is taken at once, a target is not. A plan that knows it is made seconds
//! later, and a car that has just come is first watched for two minutes.

use serde::{Deserialize, Serialize};

use super::desk::{Answer, Desk, Refusal};
use crate::logic::decision::{DeviceView, Overview};
use crate::logic::observation::Observation;
use crate::logic::site::{Charger, ChargingMode, TargetWords};

/// How a charger is to charge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChargingWish {
    /// The charger's id.
    pub charger: String,
    /// Its mode from now on.
    pub mode: ChargingMode,
    /// What its car needs and when it leaves, where somebody says so.
    pub target: Option<TargetWords>,
}

/// How it charges now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Charging {
    /// The charger with its mode, its setpoint and the reason, as the controller shows it.
    pub charger: DeviceView,
    /// What is to be expected where that is not yet to be seen.
    pub outlook: Option<Outlook>,
}

/// What is to be expected after a wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outlook {
    /// Nothing happens: the gateway writes nothing.
    NotWriting,
    /// Ready at departure, but nothing is planned without a tariff: all it can get, at once.
    NoTariff,
    /// Ready at departure, but nobody has said what the car needs and when it leaves: all it can get, at once.
    NoTarget,
    /// The target waits for its car.
    NoCar,
    /// The target is taken up by the next plan.
    Planned,
}

impl Outlook {
    /// Key of the text in `texts/*/cli.json` (`cli.charger.<code>`).
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Outlook::NotWriting => "not_writing",
            Outlook::NoTariff => "no_tariff",
            Outlook::NoTarget => "no_target",
            Outlook::NoCar => "no_car",
            Outlook::Planned => "planned",
        }
    }
}

/// Hands a wish to the controller and answers what it shows then.
pub(super) async fn charge(desk: &Desk, wish: ChargingWish) -> Answer {
    let mut chargers = desk.site.chargers.iter();
    let Some(charger) = chargers.find(|charger| charger.id.as_str() == wish.charger) else {
        return Answer::Refused(Refusal::NoSuchCharger);
    };
    let at = desk.clock.now();
    let target = match wish.target.map(|words| words.target(at.utc)).transpose() {
        Ok(target) => target,
        Err(why) => return Answer::NotAllowed(why.to_owned()),
    };
    if let Some(target) = target {
        let asked = Observation::Asked { charger: charger.id.clone(), target, at };
        if desk.observations.try_send(asked).is_err() {
            return Answer::Refused(Refusal::NoAnswer);
        }
    }
    let chosen = Observation::ModeChosen { charger: charger.id.clone(), mode: wish.mode, at };
    let name = charger.id.clone();
    let shows = move |o: &Overview| {
        o.charger(name.as_str()).and_then(DeviceView::mode) == Some(wish.mode.name())
    };
    match desk.tell(chosen, shows).await {
        Answer::Done => {}
        other => return other,
    }
    let overview = desk.overview.borrow().clone();
    let shown = overview.as_deref().and_then(|o| Some((o, o.charger(charger.id.as_str())?)));
    let Some((overview, view)) = shown else {
        return Answer::Refused(Refusal::NoAnswer);
    };
    let told =
        Told { mode: wish.mode, target: target.is_some(), tariff: desk.site.tariff.is_some() };
    let outlook = outlook(&told, charger, (overview, view));
    Answer::Charging(Box::new(Charging { charger: view.clone(), outlook }))
}

/// What was said, and whether there are prices to plan with.
struct Told {
    mode: ChargingMode,
    target: bool,
    tariff: bool,
}

fn outlook(
    told: &Told,
    charger: &Charger,
    (overview, view): (&Overview, &DeviceView),
) -> Option<Outlook> {
    let absent = view.values.get("vehicle").is_some_and(|vehicle| vehicle == "absent");
    let lanes = overview.plan.iter().flat_map(|plan| &plan.lanes);
    let known = charger.stay.is_some()
        || lanes.into_iter().any(|lane| lane.id == charger.id && lane.target.is_some());
    if !overview.writing {
        return Some(Outlook::NotWriting);
    }
    if told.mode != ChargingMode::Departure {
        return None;
    }
    match (told.tariff, told.target) {
        (false, _) => Some(Outlook::NoTariff),
        (true, true) => Some(if absent { Outlook::NoCar } else { Outlook::Planned }),
        (true, false) => (!known).then_some(Outlook::NoTarget),
    }
}
