//! The floors of the house that the fuzz targets need, and the frames of the simulators. Compiled from their
//! own files, without cameras, models, broker and page: building all of those with a fuzzer's eyes would take
//! many times as long as the fuzzing.
//!
//! What a stranger gets wrong: this is no second house. Every line of it is the product's own file.

#![allow(dead_code, unused_imports)]

#[path = "../../src/config/mod.rs"]
pub mod config;
#[path = "../../simulators/src/frames.rs"]
pub mod frames;
#[path = "../../src/logic/mod.rs"]
pub mod logic;
#[path = "../../src/texts/mod.rs"]
pub mod texts;
#[path = "../../src/units/mod.rs"]
pub mod units;

/// Clock and field bus.
#[path = "../../src/io"]
pub mod io {
    #[path = "clock.rs"]
    pub mod clock;
    #[path = "modbus/mod.rs"]
    pub mod modbus;
}
