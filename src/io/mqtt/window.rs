//! Which message got which packet id, and which of them the broker has acknowledged.
//!
//! The client library tells nobody what became of a publish. It does emit the packet id of each one it
//! sends, in the order of the hand-over, and the acknowledgement later; this window puts the two
//! together.
//!
//! What a stranger gets wrong: the bound is not only the number outstanding but the *span* from the
//! oldest outstanding one to the newest. Packet ids go round, and a message that takes the id of one
//! still open would wedge the client.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Most messages handed over and not acknowledged.
pub(super) const WINDOW: u16 = 50;

#[derive(Debug)]
struct Open<T> {
    order: u64,
    since: Duration,
    token: T,
}

#[derive(Debug)]
pub(super) struct Window<T> {
    span: u64,
    next: u64,
    waiting: VecDeque<Open<T>>,
    sent: BTreeMap<u16, Open<T>>,
}

impl<T> Window<T> {
    pub fn new() -> Window<T> {
        Window { span: 1, next: 0, waiting: VecDeque::new(), sent: BTreeMap::new() }
    }

    /// As the broker said when it let us in.
    pub fn open_to(&mut self, receive_max: u16) {
        self.span = u64::from(receive_max.clamp(1, WINDOW));
    }

    pub fn has_room(&self) -> bool {
        let oldest = self.all().map(|open| open.order).min().unwrap_or(self.next);
        self.next - oldest < self.span
    }

    /// A message went to the client.
    pub fn hand_over(&mut self, token: T, now: Duration) {
        self.waiting.push_back(Open { order: self.next, since: now, token });
        self.next += 1;
    }

    /// The client sent the oldest waiting message under this id.
    pub fn sent(&mut self, pkid: u16) {
        if let Some(open) = self.waiting.pop_front() {
            self.sent.insert(pkid, open);
        }
    }

    /// The broker acknowledged this id. Nothing if we know of none such.
    pub fn acknowledged(&mut self, pkid: u16) -> Option<T> {
        self.sent.remove(&pkid).map(|open| open.token)
    }

    /// How long the oldest message waits.
    pub fn longest_wait(&self, now: Duration) -> Option<Duration> {
        self.all().map(|open| open.since).min().map(|since| now.saturating_sub(since))
    }

    /// Everything not acknowledged, in order of hand-over.
    pub fn into_open(self) -> Vec<T> {
        let mut open: Vec<_> = self.sent.into_values().chain(self.waiting).collect();
        open.sort_by_key(|open| open.order);
        open.into_iter().map(|open| open.token).collect()
    }

    fn all(&self) -> impl Iterator<Item = &Open<T>> {
        self.sent.values().chain(&self.waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Duration = Duration::from_secs(100);

    fn window(receive_max: u16) -> Window<char> {
        let mut window = Window::new();
        window.open_to(receive_max);
        window
    }

    #[test]
    fn acknowledgements_out_of_order_find_their_message() {
        let mut w = window(10);
        for token in ['a', 'b', 'c'] {
            w.hand_over(token, T0);
        }
        w.sent(1);
        w.sent(2);
        assert_eq!(w.acknowledged(2), Some('b'));
        assert_eq!(w.acknowledged(2), None);
        assert_eq!(w.acknowledged(3), None, "not sent yet");
        w.sent(3);
        assert_eq!(w.acknowledged(3), Some('c'));
        assert_eq!(w.into_open(), ['a']);
    }

    #[test]
    fn the_span_is_bounded_so_that_no_packet_id_is_taken_twice() {
        let mut w = window(3);
        for (pkid, token) in [(1, 'a'), (2, 'b'), (3, 'c')] {
            assert!(w.has_room());
            w.hand_over(token, T0);
            w.sent(pkid);
        }
        assert!(!w.has_room());
        assert_eq!(w.acknowledged(3), Some('c'));
        assert_eq!(w.acknowledged(2), Some('b'));
        assert!(!w.has_room(), "id 1 would come round again");
        assert_eq!(w.acknowledged(1), Some('a'));
        assert!(w.has_room());
    }

    #[test]
    fn before_the_broker_answers_one_message_at_most() {
        let mut w = Window::new();
        w.hand_over('a', T0);
        assert!(!w.has_room());
        w.open_to(0);
        assert!(!w.has_room());
        w.open_to(u16::MAX);
        assert!(w.has_room());
        for _ in 1..WINDOW {
            w.hand_over('x', T0 + Duration::from_secs(1));
        }
        assert!(!w.has_room());
        assert_eq!(w.longest_wait(T0 + Duration::from_secs(5)), Some(Duration::from_secs(5)));
    }
}
