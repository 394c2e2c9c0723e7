//! The life of the link: one session after the other, a pause with jitter between them, MQTT 5 first
//! and 3.1.1 where the broker wants it, and what the page shows of it.
//!
//! What a stranger gets wrong: a broker that refuses our password is asked less and less often, down to
//! once in five minutes; one that is merely away, every half minute.

use tokio::sync::watch;

use super::session::{self, Ended};
use super::topics::State;
use super::wire::Version;
use super::{Limits, MqttError, Uplink};
use crate::io::store::{Class, Record};

/// Runs sessions until `shutdown`.
pub(super) async fn run(
    options: &Uplink,
    limits: Limits,
    flowing: watch::Sender<bool>,
    mut shutdown: watch::Receiver<bool>,
) {
    let config = &options.config;
    options.link.send_modify(|link| {
        link.broker = Some(format!("{}:{}", config.host, config.port));
        link.plaintext = config.allow_plaintext;
        link.since = Some(options.clock.now().utc);
    });
    let (mut version, mut pause) = (Version::V5, limits.back_off.0);
    while !*shutdown.borrow() {
        let before = options.link.borrow().acknowledged;
        let ended = session::run(options, limits, version, &flowing, &mut shutdown).await;
        keep_missed(options, &ended.missed);
        let worked = options.link.borrow().acknowledged > before;
        show_end(options, &ended);
        let Some(error) = ended.error else { return };
        if worked {
            pause = limits.back_off.0;
        }
        let longest = match error {
            MqttError::Refused(_) => limits.refused_back_off,
            _ => limits.back_off.1,
        };
        version = next_version(version, &error, ended.connected);
        // Half to one and a half of the pause, so that a hundred sites do not come back as one.
        let jittered = pause.mul_f64(0.5 + fastrand::f64());
        pause = (pause * 2).min(longest);
        tokio::select! {
            () = tokio::time::sleep(jittered.min(longest)) => {}
            () = super::stopped(&mut shutdown) => return,
        }
    }
}

/// A broker that does not know our version says so, or just hangs up. Nothing else is a reason for the old one,
/// and nobody stays there: its broker may have been replaced, or a loss taken for a refusal. MQTT 3.1.1 has no
/// word for a message that is not allowed, so that some brokers hang up for it.
fn next_version(version: Version, error: &MqttError, connected: bool) -> Version {
    match (version, error) {
        (Version::V311, _) => Version::V5,
        (Version::V5, MqttError::Version(_)) => Version::V311,
        (Version::V5, MqttError::Lost(_)) if !connected => Version::V311,
        (Version::V5, _) => Version::V5,
    }
}

fn show_end(options: &Uplink, ended: &Ended) {
    let words = ended.error.as_ref().map(MqttError::to_string);
    if let Some(words) = &words {
        let known = options.link.borrow().last_error.as_ref() == Some(words);
        if ended.connected || !known {
            tracing::warn!(error = %words, "no MQTT session");
        }
    }
    let now = options.clock.now().utc;
    options.link.send_modify(|link| {
        if link.connected {
            link.since = Some(now);
        }
        link.connected = false;
        if words.is_some() {
            link.last_error = words;
        }
    });
}

/// Live states that the broker never acknowledged become history.
fn keep_missed(options: &Uplink, missed: &[State]) {
    let record = |state: &State| Record {
        topic: state.topic.clone(),
        ts: state.ts,
        class: Class::C,
        payload: state.payload(),
    };
    let records: Vec<Record> = missed.iter().map(record).collect();
    if !records.is_empty() && !options.journal.append(records) {
        tracing::warn!("the journal is behind: states that were not acknowledged are lost");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_changes_only_when_the_broker_does_not_understand() {
        let lost = MqttError::Lost(String::new());
        assert_eq!(next_version(Version::V5, &lost, true), Version::V5);
        assert_eq!(next_version(Version::V5, &lost, false), Version::V311);
        let refused = MqttError::Refused(String::new());
        assert_eq!(next_version(Version::V5, &refused, false), Version::V5);
        let version = MqttError::Version(String::new());
        assert_eq!(next_version(Version::V5, &version, false), Version::V311);
        for (error, connected) in
            [(&lost, true), (&lost, false), (&refused, false), (&version, false)]
        {
            assert_eq!(
                next_version(Version::V311, error, connected),
                Version::V5,
                "never for good"
            );
        }
    }
}
