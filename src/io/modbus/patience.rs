//! How long an answer is waited for, with one timer for all calls of a line.
//!
//! What a stranger gets wrong: setting a new timer for each call costs two system calls, since the sleeping
//! driver is woken to hear of it: a fifth of the whole exchange on a fast line. So the timer of an earlier
//! call is left standing. It goes off too early for the call that runs then, and is set to the true end.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Sleep, sleep_until};

use crate::io::clock;

/// The timer of one line.
#[derive(Debug, Default)]
pub struct Patience(Option<Pin<Box<Sleep>>>);

impl Patience {
    /// What `call` comes to within `span` of wall time; nothing when that is over. An answer that is there
    /// when the time is over counts.
    pub async fn within<F: Future>(&mut self, span: Duration, call: F) -> Option<F::Output> {
        let end = clock::instant() + span;
        // A timer beyond the end would not go off in time.
        let timer = match self.0.take() {
            Some(timer) if timer.deadline() <= end => timer,
            _ => Box::pin(sleep_until(end)),
        };
        let timer = self.0.insert(timer);
        let mut call = pin!(call);
        poll_fn(|cx| {
            if let Poll::Ready(answer) = call.as_mut().poll(cx) {
                return Poll::Ready(Some(answer));
            }
            while timer.as_mut().poll(cx).is_ready() {
                if timer.deadline() >= end {
                    return Poll::Ready(None);
                }
                timer.as_mut().reset(end);
            }
            Poll::Pending
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    #[tokio::test]
    async fn each_call_gets_its_own_time_whatever_the_one_before_had() {
        let (mut patience, ms) = (Patience::default(), Duration::from_millis);
        // The timer of a patient call stands: the next is not to wait for it.
        assert_eq!(patience.within(ms(10_000), ready(7)).await, Some(7));
        let began = clock::instant();
        assert_eq!(patience.within(ms(20), pending::<()>()).await, None);
        assert!((ms(20)..ms(9_000)).contains(&began.elapsed()), "{:?}", began.elapsed());
        // The timer of a hasty call stands: the next is not cut short by it.
        assert_eq!(patience.within(ms(5), ready(8)).await, Some(8));
        let began = clock::instant();
        assert_eq!(patience.within(ms(60), pending::<()>()).await, None);
        assert!((ms(60)..ms(9_000)).contains(&began.elapsed()), "{:?}", began.elapsed());
    }
}
