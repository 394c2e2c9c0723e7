//! Thinking about harm: how dangerous a zone is (`fire`), what people must be told (`alarms`), and the
//! last gate before any wire (`interlock`). It sees scenes and readings, never pixels, prices or plans.

pub mod alarms;
pub mod fire;
pub mod interlock;
