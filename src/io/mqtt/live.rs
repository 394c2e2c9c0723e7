//! The live lane: the newest state of every topic, at most once a second each, told when it changed
//! and at least every 30 s. What was not told before something newer came is not told at all.
//!
//! What a stranger gets wrong: "changed" means the values; a new time stamp alone is told with the next
//! regular repeat.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value};

use super::topics::State;

/// Shortest time between two messages of one topic.
const AT_MOST_EVERY: Duration = Duration::from_secs(1);
/// Longest time between two messages of one topic.
const AT_LEAST_EVERY: Duration = Duration::from_secs(30);

struct Slot {
    newest: State,
    told: Option<(Duration, Map<String, Value>)>,
    changed: bool,
}

/// One session's live lane; a new session tells everything anew.
#[derive(Default)]
pub(super) struct Live {
    slots: BTreeMap<String, Slot>,
}

impl Live {
    /// Takes in what is newest. Topics that are gone are forgotten.
    pub fn offer(&mut self, states: Vec<State>) {
        self.slots.retain(|topic, _| states.iter().any(|state| state.topic == *topic));
        for state in states {
            match self.slots.get_mut(&state.topic) {
                Some(slot) => {
                    slot.changed = slot.told.as_ref().is_none_or(|(_, body)| *body != state.body);
                    slot.newest = state;
                }
                None => {
                    let topic = state.topic.clone();
                    self.slots.insert(topic, Slot { newest: state, told: None, changed: true });
                }
            }
        }
    }

    /// The state that is due and waits longest.
    pub fn next(&mut self, now: Duration) -> Option<State> {
        let due = |slot: &&mut Slot| match &slot.told {
            None => true,
            Some((at, _)) => {
                let passed = now.saturating_sub(*at);
                passed >= AT_LEAST_EVERY || (slot.changed && passed >= AT_MOST_EVERY)
            }
        };
        let slots = self.slots.values_mut().filter(due);
        let slot = slots.min_by_key(|slot| slot.told.as_ref().map(|(at, _)| *at))?;
        slot.told = Some((now, slot.newest.body.clone()));
        slot.changed = false;
        Some(slot.newest.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::super::topics::{states, tests::overview};
    use super::*;

    fn told(live: &mut Live, at_ms: u64) -> Vec<String> {
        std::iter::from_fn(|| live.next(Duration::from_millis(at_ms))).map(|s| s.topic).collect()
    }

    #[test]
    fn newest_value_once_a_second_when_changed_and_every_half_minute() {
        let mut overview = overview();
        let mut live = Live::default();
        live.offer(states(&overview));
        let all = states(&overview).len();
        assert_eq!(told(&mut live, 1000).len(), all);
        for sequence in 43..46 {
            overview.sequence = sequence;
            live.offer(states(&overview));
        }
        assert!(told(&mut live, 1900).is_empty());
        assert_eq!(told(&mut live, 2000), ["gateway/main/state"]);
        assert!(told(&mut live, 5000).is_empty());
        assert_eq!(told(&mut live, 31_000).len(), all - 1);
        assert_eq!(told(&mut live, 32_000).len(), 1);
        overview.devices.clear();
        live.offer(states(&overview));
        assert!(!told(&mut live, 99_000).contains(&"charger/pile1/state".to_owned()));
    }
}
