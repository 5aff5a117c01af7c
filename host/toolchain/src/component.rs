//! From a core module to a component, with nothing of WASI left in it.

use crate::world::{World, contract};
use wasmparser::{Parser, Payload};
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

/// The core module `module` without its DWARF, of which a C library alone brings a megabyte. The
/// names of its functions stay.
///
/// # Errors
/// That it is no module.
pub fn without_lines(module: &[u8]) -> Result<Vec<u8>, String> {
    let mut kept = module.to_vec();
    let mut from_the_end = Vec::new();
    let mut ended = 0;
    for payload in Parser::new(0).parse_all(module) {
        let payload = payload.map_err(|error| format!("the linker's output is no module: {error}"))?;
        if let Payload::Version { range, .. } = &payload {
            ended = range.end;
        }
        let Some((_, range)) = payload.as_section() else { continue };
        if matches!(&payload, Payload::CustomSection(section) if section.name().starts_with(".debug_")) {
            from_the_end.push(ended..range.end);
        }
        ended = range.end;
    }
    for section in from_the_end.into_iter().rev() {
        kept.drain(section);
    }
    Ok(kept)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_go_and_names_stay() {
        let custom = |name: &str, bytes: &[u8]| {
            let length = u8::try_from(name.len() + 1 + bytes.len()).unwrap();
            [&[0, length, u8::try_from(name.len()).unwrap()], name.as_bytes(), bytes].concat()
        };
        let head = b"\0asm\x01\0\0\0".to_vec();
        let (types, names) = (vec![1, 4, 1, 0x60, 0, 0], custom("names", b"of functions"));
        let (info, line) = (custom(".debug_info", b"1"), custom(".debug_line", b""));
        let module = [&head, &info, &types, &line, &names, &info].map(Vec::as_slice).concat();
        assert_eq!(without_lines(&module).unwrap(), [head, types, names].concat());
        assert!(without_lines(b"text").unwrap_err().contains("no module"));
    }
}
