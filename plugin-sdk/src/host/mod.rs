//! The host's functions: the real ones in a component, those of `testing` in a unit test.
//!
//! Both twins have the same modules, functions and types, so that everything above is written
//! once.

#[cfg(not(target_family = "wasm"))]
mod native;
#[cfg(target_family = "wasm")]
mod wasm;

#[cfg(not(target_family = "wasm"))]
pub(crate) use native::*;
#[cfg(target_family = "wasm")]
pub(crate) use wasm::*;
