//! What the journal's thread does: takes records in, syncs them in batches as soon as their class
//! asks for it, answers peeks, and keeps going in memory when the disk fails.
//!
//! ```text
//!  append ──▶ pending ──(A: now, B: 0.2 s, C: 1 s, or 1000 records)──▶ outbox (disk)
//!                └──────── disk fails ───────▶ ring (memory) ── disk is back ──┘
//! ```
//! What a stranger gets wrong: while the ring holds anything, new records queue behind it, so that the
//! order on disk is the order of arrival.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::StoreError;
use super::journal::{Ask, Shared};
use super::outbox::{Opened, Outbox};
use super::record::{Class, Cursor, Record, Stored};
use super::ring::Ring;
use crate::io::clock::Clock;
use crate::logic::decision::OutboxView;

/// Longest wait of a session record for its sync.
const SYNC_B: Duration = Duration::from_millis(200);
/// Longest wait of telemetry for its sync: bounds the wear of a flash card to one sync a second.
const SYNC_C: Duration = Duration::from_secs(1);
/// As many waiting records are synced without waiting longer.
const PENDING: usize = 1000;
/// Pause between two tries of a disk that failed; doubles.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MOST: Duration = Duration::from_secs(30);
/// The view is renewed at least this often.
const TURN: Duration = Duration::from_millis(250);
/// Records brought from memory to disk in one batch.
const HEAL_BATCH: usize = 1000;
/// An empty store is looked at this often, for it may have to be replaced.
const SHRINK_CHECK: Duration = Duration::from_secs(60);

/// Where the outbox lives and how much it may hold.
pub(super) struct Place {
    pub folder: PathBuf,
    pub cap_bytes: u64,
    pub clock: Clock,
}

/// What the disk held when it was last seen: shown also while it cannot be reached.
#[derive(Clone, Copy, Default)]
struct OnDisk {
    records: u64,
    bytes: u64,
    losses: (u64, u64),
    oldest_ms: Option<i64>,
}

pub(super) struct Keeper {
    place: Place,
    view: watch::Sender<OutboxView>,
    shared: Arc<Shared>,
    /// Real time, for syncs and retries.
    wall: Clock,
    life: u32,
    next: u64,
    store: Option<Outbox>,
    on_disk: OnDisk,
    ring: Ring,
    pending: Vec<Stored>,
    /// When `pending` must be on disk.
    due: Option<Duration>,
    /// When the disk is tried again, and how long to wait after that.
    retry: Duration,
    pause: Duration,
    next_shrink: Duration,
    /// What is wrong now; goes away when the disk works again.
    fault: Option<String>,
    /// What was found at the start; stays.
    finding: Option<String>,
}

impl Keeper {
    pub fn new(place: Place, view: watch::Sender<OutboxView>, shared: Arc<Shared>) -> Keeper {
        Keeper {
            place,
            view,
            shared,
            wall: Clock::real(),
            life: fastrand::u32(..),
            next: 0,
            store: None,
            on_disk: OnDisk::default(),
            ring: Ring::default(),
            pending: Vec::new(),
            due: None,
            retry: Duration::ZERO,
            pause: RETRY_FIRST,
            next_shrink: Duration::ZERO,
            fault: None,
            finding: None,
        }
    }

    /// Serves until it is told to stop or every handle is gone.
    pub async fn serve(&mut self, asks: &mut mpsc::Receiver<Ask>) {
        self.turn();
        loop {
            let mut next = match tokio::time::timeout(self.wait(), asks.recv()).await {
                Ok(None | Some(Ask::Stop)) => break,
                Ok(Some(ask)) => Some(ask),
                Err(_) => None,
            };
            while let Some(ask) = next {
                self.take(ask);
                next = asks.try_recv().ok();
            }
            self.turn();
            if self.shared.stopping.load(Ordering::Relaxed) {
                break;
            }
        }
        asks.close();
        while let Ok(ask) = asks.try_recv() {
            self.take(ask);
        }
        self.commit();
        self.heal();
        self.show();
        self.store = None;
    }

    /// After a panic nothing about the open store is trusted; memory is kept.
    pub fn after_panic(&mut self, why: &str) {
        self.store = None;
        self.failed(&format!("the journal panicked: {why}"));
    }

    fn wait(&self) -> Duration {
        let now = self.wall.now().uptime;
        self.due.map_or(TURN, |due| due.saturating_sub(now).min(TURN))
    }

    fn take(&mut self, ask: Ask) {
        match ask {
            Ask::Append(records) => self.append(records),
            Ask::Peek(cursor, most, reply) => {
                let _ = reply.send(self.peek(cursor, most));
            }
            Ask::Release(seqs) => self.release(&seqs),
            Ask::Stop => self.shared.stopping.store(true, Ordering::Relaxed),
        }
    }

    /// Everything that happens by itself.
    fn turn(&mut self) {
        let now = self.wall.now().uptime;
        if self.store.is_none() && now >= self.retry {
            self.open();
        }
        if self.due.is_some_and(|due| now >= due) || self.pending.len() >= PENDING {
            self.commit();
        }
        self.heal();
        if now >= self.next_shrink {
            self.next_shrink = now + SHRINK_CHECK;
            self.shrink();
        }
        self.show();
    }

    fn open(&mut self) {
        match Outbox::open(&self.place.folder, self.place.cap_bytes) {
            Ok((store, opened)) => {
                self.next = self.next.max(store.next());
                self.store = Some(store);
                (self.fault, self.pause) = (None, RETRY_FIRST);
                match opened {
                    Opened::New | Opened::Found => {}
                    Opened::Missing => {
                        tracing::error!("the outbox is gone: what it held is lost");
                        self.finding = Some("missing: the outbox was gone at start".to_owned());
                    }
                    Opened::Quarantined(aside) => {
                        self.finding = Some(format!("quarantined: {}", aside.display()));
                    }
                }
            }
            Err(error) => self.failed(&error.to_string()),
        }
        if self.next == 0 {
            // Never opened: start above every number that a store may hold.
            self.next = self.wall.now().utc.timestamp_micros().unsigned_abs();
        }
    }

    /// The disk does not work: go on in memory.
    fn failed(&mut self, why: &str) {
        self.store = None;
        self.retry = self.wall.now().uptime + self.pause;
        self.pause = (self.pause * 2).min(RETRY_MOST);
        if self.fault.is_none() {
            tracing::error!(%why, "the outbox cannot be written: keeping records in memory");
        }
        self.fault = Some(format!("memory_only: {why}"));
    }

    fn append(&mut self, records: Vec<Record>) {
        let now = self.wall.now().uptime;
        for record in records {
            let delay = match record.class {
                Class::A => Duration::ZERO,
                Class::B => SYNC_B,
                Class::C => SYNC_C,
            };
            let due = now + delay;
            self.due = Some(self.due.map_or(due, |earlier| earlier.min(due)));
            self.pending.push(Stored { seq: self.next, life: self.life, record });
            self.next += 1;
        }
        if self.pending.len() >= PENDING {
            self.commit();
        }
    }

    /// Brings `pending` to disk, or to memory if the disk refuses.
    fn commit(&mut self) {
        self.due = None;
        let batch = std::mem::take(&mut self.pending);
        if batch.is_empty() {
            return;
        }
        let behind = self.ring.index().len() > 0;
        if let Some(store) = self.store.as_mut().filter(|_| !behind) {
            match store.append_batch(&batch) {
                Ok(()) => return,
                Err(error) => self.failed(&error.to_string()),
            }
        }
        for stored in batch {
            self.ring.push(stored);
        }
    }

    /// Brings memory to disk once it works again.
    fn heal(&mut self) {
        while let Some(store) = self.store.as_mut().filter(|_| self.ring.index().len() > 0) {
            let batch = self.ring.oldest(HEAL_BATCH);
            match store.append_batch(&batch) {
                Ok(()) => batch.iter().for_each(|stored| {
                    self.ring.remove(stored.seq);
                }),
                Err(error) => self.failed(&error.to_string()),
            }
        }
    }

    fn shrink(&mut self) {
        let Some(store) = self.store.take() else { return };
        match store.shrink_if_empty() {
            Ok(store) => self.store = Some(store),
            Err(error) => self.failed(&error.to_string()),
        }
    }

    fn peek(&mut self, cursor: Cursor, most: usize) -> Vec<Stored> {
        let mut found: Vec<Stored> = Vec::new();
        for class in Class::ALL {
            let from = cursor.next(class);
            if let Some(store) = self.store.as_mut() {
                match store.peek_from(class, from, most.saturating_sub(found.len())) {
                    Ok(stored) => found.extend(stored),
                    Err(error) => self.failed(&error.to_string()),
                }
            }
            found.extend(self.ring.peek_from(class, from, most.saturating_sub(found.len())));
        }
        found
    }

    fn release(&mut self, seqs: &[u64]) {
        let on_disk: Vec<u64> =
            seqs.iter().copied().filter(|seq| !self.ring.remove(*seq)).collect();
        let released = self.store.as_mut().map_or(Ok(()), |store| store.release(&on_disk));
        if let Err(error) = released {
            self.failed(&StoreError::to_string(&error));
        }
    }

    fn show(&mut self) {
        if let Some(store) = &self.store {
            self.on_disk = OnDisk {
                records: store.len(),
                bytes: store.bytes(),
                losses: store.losses(),
                oldest_ms: store.oldest_ms(),
            };
        }
        let (disk, ring) = (self.on_disk, &self.ring);
        let refused = self.shared.refused.load(Ordering::Relaxed);
        let oldest = [disk.oldest_ms, ring.index().oldest_ms()].into_iter().flatten().min();
        let now = self.place.clock.now().utc.timestamp_millis();
        let view = OutboxView {
            records: disk.records + ring.index().len(),
            bytes: disk.bytes + ring.index().bytes(),
            oldest_s: oldest.map(|ms| ((now - ms).max(0) / 1000) as f64),
            dropped: disk.losses.0 + ring.dropped + refused,
            damaged: disk.losses.1,
            fault: self.fault.clone().or_else(|| self.finding.clone()),
        };
        self.view.send_if_modified(|shown| {
            let changed = *shown != view;
            *shown = view;
            changed
        });
    }
}
