//! The hazard tests of `tests/logic`, against the floors that think alone.

#![allow(clippy::unwrap_used, clippy::panic)]

mod hazard;
