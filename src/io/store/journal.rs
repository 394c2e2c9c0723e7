//! The handle to the journal's thread, and the thread's edge: a panic in there is caught here and the
//! work goes on after a pause. Handing records over never waits; asking for them does.
//!
//! What a stranger gets wrong: `stop` writes what was accepted and closes the store; a dropped handle
//! does the same, but nobody waits for it.

use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use super::StoreError;
use super::keeper::{Keeper, Place};
use super::place::words_of;
use super::record::{Cursor, Record, Stored};
use crate::io::clock::Clock;
use crate::logic::decision::OutboxView;

/// Messages that may wait for the journal's thread.
const INBOX: usize = 512;
/// Most records in one hand-over; more are refused.
pub const MAX_BATCH: usize = 4096;
/// Longest payload; anything longer is refused, for no broker would take it.
pub const MAX_PAYLOAD: usize = 64 << 10;
/// First and longest pause after a panic in the thread.
const RESTART_FIRST: Duration = Duration::from_secs(1);
const RESTART_MOST: Duration = Duration::from_secs(60);

/// What the thread is asked.
pub(super) enum Ask {
    Append(Vec<Record>),
    Peek(Cursor, usize, oneshot::Sender<Vec<Stored>>),
    Release(Vec<u64>),
    Stop,
}

/// What handle and thread both see.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// Records refused because the thread is behind.
    pub refused: AtomicU64,
    /// Set when the thread shall end.
    pub stopping: AtomicBool,
}

/// The way to the journal's thread.
#[derive(Clone, Debug)]
pub struct Journal {
    inbox: mpsc::Sender<Ask>,
    view: watch::Receiver<OutboxView>,
    shared: Arc<Shared>,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl Journal {
    /// Starts the thread. The store in `<state>/outbox` is opened there, so that a slow disk does not
    /// hold up the start.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(state: &Path, cap_bytes: u64, clock: Clock) -> Result<Journal, StoreError> {
        let (inbox, asks) = mpsc::channel(INBOX);
        let (view_sender, view) = watch::channel(OutboxView::default());
        let shared = Arc::new(Shared::default());
        let place = Place { folder: state.join("outbox"), cap_bytes, clock };
        let keeper = Keeper::new(place, view_sender, Arc::clone(&shared));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let thread = std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || keep(keeper, asks, &runtime))?;
        let thread = Arc::new(Mutex::new(Some(thread)));
        Ok(Journal { inbox, view, shared, thread })
    }

    /// Hands records over without ever waiting. `false`: none was taken (the thread is behind, or the
    /// batch is out of bounds), and all of them are counted as dropped.
    pub fn append(&self, records: Vec<Record>) -> bool {
        let count = records.len();
        let fits = count <= MAX_BATCH && records.iter().all(|r| r.payload.len() <= MAX_PAYLOAD);
        let taken = fits && self.inbox.try_send(Ask::Append(records)).is_ok();
        if !taken {
            self.shared.refused.fetch_add(count as u64, Ordering::Relaxed);
        }
        taken
    }

    /// Asks for at most `most` records behind the cursor: first alarms, then sessions, then
    /// telemetry, each in order. Nothing if the thread is behind.
    #[must_use]
    pub fn ask(&self, cursor: Cursor, most: usize) -> Option<oneshot::Receiver<Vec<Stored>>> {
        let (reply, answer) = oneshot::channel();
        self.inbox.try_send(Ask::Peek(cursor, most, reply)).ok().map(|()| answer)
    }

    /// As [`Journal::ask`], and waits for the answer; empty if the thread is behind or gone.
    pub async fn peek(&self, cursor: Cursor, most: usize) -> Vec<Stored> {
        match self.ask(cursor, most) {
            Some(answer) => answer.await.unwrap_or_default(),
            None => Vec::new(),
        }
    }

    /// Takes acknowledged records out. Gives them back if the thread is behind: try again later.
    ///
    /// # Errors
    /// The same numbers, when they were not taken.
    pub fn release(&self, seqs: Vec<u64>) -> Result<(), Vec<u64>> {
        use mpsc::error::TrySendError::{Closed, Full};
        match self.inbox.try_send(Ask::Release(seqs)) {
            Ok(()) => Ok(()),
            Err(Full(Ask::Release(seqs)) | Closed(Ask::Release(seqs))) => Err(seqs),
            Err(_) => Ok(()),
        }
    }

    /// How the outbox is.
    #[must_use]
    pub fn view(&self) -> watch::Receiver<OutboxView> {
        self.view.clone()
    }

    /// Writes what was accepted, closes the store and waits for it.
    pub fn stop(self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        // A full inbox is no harm: the thread looks at `stopping` as well.
        let _ = self.inbox.try_send(Ask::Stop);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the journal ended by a panic");
        }
    }
}

/// The thread: serves until it is stopped, and starts again after a panic.
fn keep(mut keeper: Keeper, mut asks: mpsc::Receiver<Ask>, runtime: &tokio::runtime::Runtime) {
    let mut pause = RESTART_FIRST;
    loop {
        let served = AssertUnwindSafe(|| runtime.block_on(keeper.serve(&mut asks)));
        match std::panic::catch_unwind(served) {
            Ok(()) => return,
            Err(panic) => {
                let why = words_of(panic.as_ref());
                tracing::error!(%why, "the journal panicked: it starts again");
                keeper.after_panic(&why);
                std::thread::sleep(pause);
                pause = (pause * 2).min(RESTART_MOST);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::Class;
    use super::super::record::tests::sample;
    use super::*;

    fn records(range: std::ops::Range<u64>, class: Class) -> Vec<Record> {
        range.map(|n| sample(n, class).record).collect()
    }

    async fn until(journal: &Journal, wanted: impl FnMut(&OutboxView) -> bool) -> OutboxView {
        let mut view = journal.view();
        let reached = tokio::time::timeout(Duration::from_secs(20), view.wait_for(wanted)).await;
        reached.expect("in time").expect("alive").clone()
    }

    #[tokio::test]
    async fn records_are_synced_peeked_released_and_kept_over_a_restart() {
        let home = tempfile::tempdir().unwrap();
        let journal = Journal::start(home.path(), 1 << 20, Clock::real()).unwrap();
        assert!(journal.append(records(0..5, Class::C)));
        assert!(journal.append(records(5..6, Class::A)));
        until(&journal, |view| view.records == 6).await;
        let found = journal.peek(Cursor::default(), 4).await;
        assert_eq!(found[0].record, sample(5, Class::A).record);
        assert_eq!(found.len(), 4);
        let first = found[1].clone();
        journal.release(found.iter().map(|stored| stored.seq).collect()).unwrap();
        until(&journal, |view| view.records == 2).await;
        journal.stop();

        let journal = Journal::start(home.path(), 1 << 20, Clock::real()).unwrap();
        until(&journal, |view| view.records == 2).await;
        let found = journal.peek(Cursor::default(), 10).await;
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].life, first.life);
        assert!(found[0].seq > first.seq);
        journal.stop();
    }

    #[tokio::test]
    async fn what_was_accepted_is_on_disk_after_a_stop() {
        let home = tempfile::tempdir().unwrap();
        let journal = Journal::start(home.path(), 1 << 20, Clock::real()).unwrap();
        assert!(journal.append(records(0..100, Class::C)));
        journal.stop();
        let (outbox, _) = super::super::Outbox::open(&home.path().join("outbox"), 1 << 20).unwrap();
        assert_eq!(outbox.len(), 100);
    }

    #[tokio::test]
    async fn without_a_disk_memory_serves_and_says_so() {
        let home = tempfile::tempdir().unwrap();
        let in_the_way = home.path().join("state");
        std::fs::write(&in_the_way, b"a file, not a folder").unwrap();
        let journal = Journal::start(&in_the_way, 1 << 20, Clock::real()).unwrap();
        assert!(journal.append(records(0..10, Class::A)));
        let view = until(&journal, |view| view.records == 10).await;
        assert!(view.fault.unwrap().starts_with("memory_only"));
        let found = journal.peek(Cursor::default(), 100).await;
        assert_eq!(found.len(), 10);
        journal.release(vec![found[0].seq]).unwrap();
        std::fs::remove_file(&in_the_way).unwrap();
        until(&journal, |view| view.records == 9 && view.fault.is_none()).await;
        assert_eq!(journal.peek(Cursor::default(), 100).await, found[1..]);
        journal.stop();
        let (outbox, _) = super::super::Outbox::open(&in_the_way.join("outbox"), 1 << 20).unwrap();
        assert_eq!(outbox.len(), 9);
    }

    #[test]
    fn what_is_too_much_is_refused_and_counted() {
        let home = tempfile::tempdir().unwrap();
        let journal = Journal::start(home.path(), 1 << 20, Clock::real()).unwrap();
        let mut record = sample(1, Class::C).record;
        record.payload = vec![0; MAX_PAYLOAD + 1];
        assert!(!journal.append(vec![record]));
        assert_eq!(journal.shared.refused.load(Ordering::Relaxed), 1);
        journal.stop();
    }

    /// Not a bar: prints what this machine does.
    #[tokio::test]
    #[ignore = "a measurement"]
    async fn append_rate() {
        let home = tempfile::tempdir().unwrap();
        let (mut outbox, _) =
            super::super::Outbox::open(&home.path().join("outbox"), 1 << 30).unwrap();
        let clock = Clock::real();
        let start = clock.now();
        for batch in 0..500u64 {
            let batch: Vec<_> = (batch * 200..(batch + 1) * 200)
                .map(|n| {
                    let mut stored = sample(n, Class::C);
                    stored.record.payload = vec![b'x'; 200];
                    stored
                })
                .collect();
            outbox.append_batch(&batch).unwrap();
        }
        let seconds = clock.now().uptime.saturating_sub(start.uptime).as_secs_f64();
        println!(
            "100 000 records of 200 B, synced in batches of 200: {:.0} records/s",
            100_000.0 / seconds
        );
    }
}
