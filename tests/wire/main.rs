//! Promises about sockets and processes, kept against real peers on loopback: mosquitto, pymodbus,
//! Chromium, and the gateway's own binary.
//!
//! What a stranger gets wrong: a missing peer is a failure, never a skip; `tests/run` installs them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod alarms;
mod broker;
mod browser;
mod builtin;
mod bus;
mod demo;
mod eyes;
mod gateway;
mod hevc;
mod jobs;
mod kills;
mod look;
mod newcomers;
mod nodes;
mod page;
mod profiles;
mod quiet;
mod remote;
mod rivals;
mod rtsp;
mod safety;
mod scenarios;
mod starved;
mod strangers;
mod targets;
mod updates;
mod urgent;
mod write_test;
mod yard;
