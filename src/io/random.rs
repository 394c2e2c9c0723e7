//! Numbers that nobody can guess: codes, and what is sent once.
//!
//! What a stranger gets wrong: `fastrand` is for what may be guessed.

use std::fs::File;
use std::io::{self, Read};

/// Fills all of it from the system.
///
/// # Errors
/// When the system gives none.
pub fn fill(bytes: &mut [u8]) -> io::Result<()> {
    File::open("/dev/urandom")?.read_exact(bytes)
}
