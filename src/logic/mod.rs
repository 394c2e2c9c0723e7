//! What the gateway thinks: total, deterministic functions of their inputs. No I/O, no clock, no
//! `async`, no logging, no randomness, no hash-ordered maps (`tests/tidy.rs` guards it). That is what
//! lets a site-year run in seconds and a failing seed replay byte for byte.

pub mod compute;
pub mod controller;
pub mod decision;
pub mod energy;
pub mod observation;
pub mod safety;
pub mod site;
pub mod vision;
