//! The floors that think, the loop that closes them with physics, and their tests from `tests/logic`, in one crate for
//! `tests/run mutants`. Every line of them is the product's own file.
//!
//! What a stranger gets wrong: the tests stand inside the crate here, so that a broken copy is compiled once and
//! not three times.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic, dead_code))]

#[cfg(test)]
extern crate self as wattgate;

pub mod logic;
pub mod units;

pub mod app {
    pub mod simulate {
        mod plant;
        mod stress;
        mod trouble;

        pub use plant::Plant;
        pub use stress::Stress;
        pub use trouble::{Heard, Troubles, What, Who};
    }
}

#[cfg(test)]
mod bench;
#[cfg(test)]
mod checkers;
#[cfg(test)]
mod chosen;
#[cfg(test)]
mod curbs;
#[cfg(test)]
mod export;
#[cfg(test)]
mod fairness;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod field;
#[cfg(test)]
mod hazard;
#[cfg(test)]
mod seeds;
#[cfg(test)]
mod steps;
#[cfg(test)]
mod watch;
#[cfg(test)]
mod worlds;
