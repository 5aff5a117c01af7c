//! From a core module to a component, with nothing of WASI left in it.

use crate::world::{World, contract};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};

/// WASI preview 1 over `witgate:policy`: see `adapter/preview1.wat`.
const PREVIEW1: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/preview1.wasm"));
const PREVIEW1_WIT: &str = include_str!("../adapter/adapter.wit");

/// Whether a core module says itself what world it was made for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Metadata {
    /// It does: a C object with the world's type was linked in.
    Within,
    /// It is to be told.
    Missing,
}

/// The component around the core module `module`, which implements `world`.
///
/// # Errors
/// What the module imports or exports otherwise than the world says.
pub fn encode(world: &World, mut module: Vec<u8>, metadata: Metadata) -> Result<Vec<u8>, String> {
    let mut encoded = || -> anyhow::Result<Vec<u8>> {
        if metadata == Metadata::Missing {
            embed_component_metadata(&mut module, &world.resolve, world.id, StringEncoding::UTF8, false)?;
        }
        let mut encoder = ComponentEncoder::default();
        encoder.validate(true);
        encoder.module(&module)?.adapter("wasi_snapshot_preview1", &adapter()?)?.encode()
    };
    encoded().map_err(|error| format!("no component could be made: {error:#}"))
}

/// The adapter with the metadata of its own world.
fn adapter() -> anyhow::Result<Vec<u8>> {
    let (mut resolve, _) = contract().map_err(anyhow::Error::msg)?;
    let package = resolve.push_str("adapter.wit", PREVIEW1_WIT)?;
    let world = resolve.select_world(&[package], Some("adapter"))?;
    let mut module = PREVIEW1.to_vec();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8, false)?;
    Ok(module)
}
