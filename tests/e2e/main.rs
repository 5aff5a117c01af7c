//! End-to-end tests: the real binary on real sockets with real components, a file per topic.
//!
//! Each test starts the gateways and upstreams that it needs; nothing is shared but compiled
//! code, so any of them runs alone: `cargo test -p witgate --test e2e routing::`.

#![allow(clippy::unwrap_used, reason = "tests fail by panic")]

mod fixture;

mod admin;
mod airline;
mod attacks;
mod bodies;
mod callers;
mod cases;
mod chain;
mod clock;
mod costly;
mod disk;
mod drain;
mod faults;
mod http2;
mod languages;
mod limits;
mod misbehaving;
mod paths;
mod plugin_cli;
mod policies;
mod products;
mod reload;
mod routing;
mod smuggling;
mod tls;
mod trials;
mod tunnels;
mod upstream;
