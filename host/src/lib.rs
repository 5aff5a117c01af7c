//! witgate: an API gateway whose every policy is a sandboxed WebAssembly component.
//!
//! The rooms, in the order a request (and a reader) goes through them. A room uses only rooms
//! below it; `tests/tidy.rs` holds the arrows. ARCHITECTURE.md tells what each is for. The empty
//! lines keep rustfmt, which sorts what stands together, from turning an arrow round.

pub mod cli;
pub mod server;

pub mod admin;
pub mod compile;
pub mod config;

pub mod exchange;
pub mod snapshot;

pub mod chain;
pub mod plugin;
pub mod router;

pub mod consumer;
pub mod token;

pub mod state;
pub mod upstream;

pub mod connection;
pub mod listener;

pub mod message;
pub mod telemetry;

pub mod socket;

pub mod file;

pub mod clock;
