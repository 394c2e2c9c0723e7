//! Thinking about harm: how dangerous a zone is (`fire`, in the words of `level`; from `eyes`, `sensing`, `channel` and `cells`,
//! and `signs`), what relays do about it (`linkage`), what people must be told (`alarms`), and the
//! last gate before any wire (`interlock`). It sees scenes and readings, never pixels, prices or plans.

pub mod alarms;
mod cells;
mod channel;
mod eyes;
pub mod fire;
pub mod interlock;
mod level;
pub mod linkage;
pub mod sensing;
pub mod signs;
