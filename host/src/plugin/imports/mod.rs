//! What the host offers to guests: one file per WIT interface.
//!
//! `load` links it. Every function here may be called with anything at any time, must not panic,
//! and acts only within the policy's grants.

/// Tells of a call to the host, for whoever looks: `WITGATE_LOG=hostcall=trace`, and trials.
/// Never shows what may be secret: keys, tokens, passwords and data, of which only the length is
/// told.
macro_rules! called {
    ($($told:tt)*) => {
        tracing::trace!(
            target: "hostcall",
            "{}",
            crate::telemetry::trace::one_line(&format!($($told)*), super::log::MESSAGE_BYTES_MAX)
        )
    };
}

mod consumers;
mod crypto;
mod env;
mod http_client;
mod jwt;
mod log;
mod message;
mod metrics;
mod plan;
pub(super) mod printed;
mod rate_limit;
mod shared_state;
pub(super) mod wasi;

use super::bindings::{Imports, witgate::policy::types};
use super::engine::Runtime;
use super::guest::Guest;
use wasmtime::Result;
use wasmtime::component::{HasSelf, Linker};

/// A linker with everything that a component may import. What it does not import costs nothing:
/// only a component that imports something that can suspend is run on a fiber.
pub(super) fn linker(runtime: &Runtime) -> Result<Linker<Guest>> {
    let mut linker = Linker::new(runtime.engine());
    Imports::add_to_linker::<_, HasSelf<Guest>>(&mut linker, |guest| guest)?;
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    Ok(linker)
}

impl types::Host for Guest {}

/// What is said to a guest that asks outside `configure` for what only `configure` may do.
const ONLY_IN_CONFIGURE: &str = "this can be called in `configure` only";

impl Guest {
    fn configuring(&self) -> std::result::Result<(), String> {
        if self.plan.is_some() { Ok(()) } else { Err(ONLY_IN_CONFIGURE.into()) }
    }
}

/// Bytes of the name of something that the host keeps for a guest, for longer than the guest lives.
const NAME_BYTES_MAX: usize = 1 << 10;

/// Asked before what a handle stands for is made, since that outlives a refusal: whether there is room
/// in one of the guest's tables.
fn room<T>(table: &[T]) -> std::result::Result<(), String> {
    if table.len() >= super::guest::HANDLES_MAX {
        return Err(format!("at most {} handles of a kind are allowed", super::guest::HANDLES_MAX));
    }
    Ok(())
}

fn short(name: &str) -> std::result::Result<(), String> {
    if name.len() > NAME_BYTES_MAX {
        return Err(format!("a name of {} bytes is too long: {NAME_BYTES_MAX} are allowed", name.len()));
    }
    Ok(())
}

/// Adds a handle to one of the guest's tables, within the bound.
fn keep<T>(table: &mut Vec<T>, handle: T) -> std::result::Result<u32, String> {
    room(table)?;
    table.push(handle);
    Ok(table.len() as u32 - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_and_names_are_bounded() {
        let mut table = Vec::new();
        for number in 0..crate::plugin::guest::HANDLES_MAX {
            assert_eq!(keep(&mut table, ()), Ok(number as u32));
        }
        assert!(keep(&mut table, ()).is_err() && room(&table).is_err());
        assert!(
            short(&"x".repeat(NAME_BYTES_MAX)).is_ok() && short(&"x".repeat(NAME_BYTES_MAX + 1)).is_err()
        );
    }
}
