//! The configuration: from files to a checked model.
//!
//! Called by `cli`, `server` (at start and at every reload) and `compile`. Never opens a socket,
//! compiles Wasm or reads the clock, and imports no other room.

pub mod model;
