//! The doing: wires, files, pictures, pages. It decides nothing; each room turns the outside into
//! observations, or a decision into bytes, and has one small error type of its own.

pub mod camera;
pub mod clock;
pub mod inference;
pub mod meter;
pub mod modbus;
pub mod mqtt;
pub mod random;
pub mod store;
pub mod web;
pub mod workers;
