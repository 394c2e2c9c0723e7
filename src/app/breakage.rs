//! Breaking a vital thread on purpose, to see that the rest holds: asked at the control socket of a
//! simulated site, and of no other.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use serde::{Deserialize, Serialize};

/// A vital thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// The controller.
    Control,
    /// The field bus.
    Fieldbus,
    /// The latch.
    Latch,
}

/// How it breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// It panics.
    Panic,
    /// It never comes back.
    Stuck,
}

/// What shall break; nothing at first.
#[derive(Clone, Debug, Default)]
pub struct Breakage(Arc<AtomicU8>);

fn code(part: Part, how: How) -> u8 {
    1 + 2 * part as u8 + how as u8
}

impl Breakage {
    /// Lets a thread break the next time it asks.
    pub fn ask(&self, part: Part, how: How) {
        self.0.store(code(part, how), Ordering::Relaxed);
    }

    /// Breaks the calling thread if that was asked.
    #[allow(clippy::panic)] // what it is for; only where the site is simulated
    pub fn strike(&self, part: Part) {
        let asked = self.0.load(Ordering::Relaxed);
        if asked == code(part, How::Panic) {
            std::panic::panic_any("broken on purpose");
        }
        while asked == code(part, How::Stuck) {
            std::thread::park();
        }
    }
}
