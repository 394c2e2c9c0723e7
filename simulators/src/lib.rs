//! The hardware of a charging site, simulated on real wires: a world of physics, the registers of real
//! devices over it, one Modbus TCP socket for each, a rendered camera, and a broker for demos.
//!
//! What a stranger gets wrong: this crate knows nothing of the gateway and shares no code with it.

pub mod broker;
mod camera_server;
mod digest;
pub mod faults;
pub mod fleet;
pub mod frames;
pub mod gate;
pub mod modbus_server;
pub mod onvif;
pub mod physics;
pub mod picture;
pub mod profile;
pub mod registers;
pub mod scenario;
pub mod site;
