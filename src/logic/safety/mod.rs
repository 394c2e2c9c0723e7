//! Thinking about harm: how dangerous a zone is (`fire`), and the last gate before any wire
//! (`interlock`). It sees scenes and readings, never pixels, prices or plans.

pub mod fire;
pub mod interlock;
