//! The memory that survives a broker outage: records on their way out, on disk until the broker has
//! acknowledged them. `record` makes bytes, `outbox` keeps them in sled, `ring` holds them while the
//! disk fails, `journal` is the thread that owns both and the handle to it. Beside them, `latch`: what
//! must survive anything; the `book`s of jobs and days; `evidence`, pictures of what was doubted; `sets` of them to train with; `writes`, how often registers were written; and `trace`, what the controller took in, in a `trace_ring` of 24 h.
//!
//! It does not know MQTT: topics are opaque text here, and nobody here decides what is worth keeping.
//!
//! What a stranger gets wrong: `Journal::append` answering `true` means "accepted", not "on disk";
//! a record can be peeked only once it was synced (or when the disk has failed and memory is all
//! there is).

mod book;
mod evidence;
mod index;
mod journal;
mod keeper;
mod latch;
mod outbox;
mod place;
mod record;
mod ring;
mod sets;
mod trace;
mod trace_ring;
mod whole;
mod writes;

use std::path::PathBuf;

pub use book::{look_into_books, read_book, read_days, write_book, write_days};
pub use evidence::{ALARM, DISAGREED, Evidence, Picture, pictures};
pub use journal::Journal;
pub use latch::{Latch, Remembered};
pub use outbox::{Opened, Outbox};
pub use record::{Class, Cursor, Damage, Record, Stored};
pub use sets::TrainingSet;
pub use trace::{Head, Line, TraceError, TraceReader, TraceWriter, digest, site_hash};
pub use trace_ring::{TraceRing, parts};
pub use whole::replace as write_whole;
pub use writes::{Writes, load as load_writes, save as save_writes};

/// What can go wrong with the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk or the file system: worth trying again.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The store's own files are damaged.
    #[error("the outbox is damaged: {0}")]
    Damaged(String),
    /// The folder cannot be used.
    #[error("folder {path}: {cause}")]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
}

impl From<sled::Error> for StoreError {
    fn from(error: sled::Error) -> StoreError {
        use std::io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
        match error {
            sled::Error::Io(cause)
                if !matches!(cause.kind(), InvalidData | InvalidInput | UnexpectedEof) =>
            {
                StoreError::Io(cause)
            }
            other => StoreError::Damaged(other.to_string()),
        }
    }
}
