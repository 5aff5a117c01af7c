//! A hook's values on their way into a guest: a list of strings, or one block that holds them all.
//!
//! `instance` passes them to a call, which lowers them. A component that says so (the section
//! [`SECTION`], which the Rust SDK writes) lends the gateway a block of its memory for the life of
//! the instance: list and strings are written there in one go, where the canonical ABI would call
//! the guest's allocator for each of them. The component's type is the same both ways, and a block
//! that is no block harms nobody but the guest whose memory it is.

use super::hook::Values;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicU64, Ordering};
use wasmtime::component::__internal::{CanonicalAbiInfo, InstanceType, InterfaceType, LowerContext};
use wasmtime::component::{ComponentType, Lower};
use wasmtime::{Result, ValRaw};

/// The custom section of a component whose allocator knows of the block.
const SECTION: &str = "witgate:block";
/// What an allocation for the block is known by.
const ALIGN: u32 = 64;
/// Bytes of the first block, which few requests outgrow.
const BYTES: usize = 2 << 10;
/// Bytes of the longest; values beyond it go the ordinary way.
const BYTES_MAX: usize = 256 << 10;
/// An `option<string>` in memory: a byte whether it is there, then address and length.
const OPTION: usize = 12;

/// Whether a component lends a block.
pub(super) fn is_lent(component: &[u8]) -> bool {
    // A component that cannot be read any further has been refused by then.
    wasmparser::Parser::new(0).parse_all(component).map_while(std::result::Result::ok).any(
        |payload| matches!(payload, wasmparser::Payload::CustomSection(section) if section.name() == SECTION),
    )
}

/// One instance's block: its address and length, both zero until it is first needed.
#[derive(Debug, Default)]
pub struct Block(AtomicU64);

impl Block {
    fn get(&self) -> (usize, usize) {
        let both = self.0.load(Ordering::Relaxed);
        ((both >> 32) as usize, (both & u64::from(u32::MAX)) as usize)
    }

    fn set(&self, at: usize, length: usize) {
        self.0.store((at as u64) << 32 | length as u64, Ordering::Relaxed);
    }
}

/// Values in the order of a plan's reads, and the block to write them to, if the guest lends one.
#[derive(Clone, Copy)]
pub struct Given<'a> {
    pub values: Values<'a>,
    pub block: Option<&'a Block>,
}

#[expect(unsafe_code, reason = "a type of the component model by hand")]
// SAFETY: in type and in layout a `list<option<string>>`, of which `Values` has all that is said here.
unsafe impl ComponentType for Given<'_> {
    type Lower = <[Option<&'static str>] as ComponentType>::Lower;

    const ABI: CanonicalAbiInfo = <[Option<&'static str>] as ComponentType>::ABI;

    fn typecheck(ty: &InterfaceType, types: &InstanceType<'_>) -> Result<()> {
        <[Option<&'static str>] as ComponentType>::typecheck(ty, types)
    }
}

#[expect(unsafe_code, reason = "a type of the component model by hand")]
// SAFETY: both ways write an address and a length, of a list of so many options in the guest's
// memory, all of it within bounds.
unsafe impl Lower for Given<'_> {
    fn linear_lower_to_flat<T>(
        &self,
        cx: &mut LowerContext<'_, T>,
        ty: InterfaceType,
        dst: &mut MaybeUninit<Self::Lower>,
    ) -> Result<()> {
        match self.block {
            Some(block) if let Some((at, length)) = self.write(block, cx)? => {
                dst.write([ValRaw::i64(at), ValRaw::i64(length)]);
                Ok(())
            }
            _ => self.values.linear_lower_to_flat(cx, ty, dst),
        }
    }

    fn linear_lower_to_memory<T>(
        &self,
        cx: &mut LowerContext<'_, T>,
        ty: InterfaceType,
        offset: usize,
    ) -> Result<()> {
        self.values.linear_lower_to_memory(cx, ty, offset)
    }
}

impl Given<'_> {
    /// Writes the list and its strings into the block; none if they are too long for one.
    fn write<T>(&self, block: &Block, cx: &mut LowerContext<'_, T>) -> Result<Option<(i64, i64)>> {
        let texts: usize = self.values.iter().flatten().map(|text| text.len()).sum();
        let head = self.values.len() * OPTION;
        let needed = head + texts;
        if needed > BYTES_MAX {
            return Ok(None);
        }
        let (mut at, length) = block.get();
        if needed > length || length == 0 {
            let length = needed.next_power_of_two().max(BYTES);
            at = cx.realloc(0, 0, ALIGN, length)?;
            block.set(at, length);
        }
        let Some(memory) = cx.as_slice_mut().get_mut(at..at + needed) else {
            wasmtime::bail!("the block lies beyond the end of memory");
        };
        let (options, mut rest) = memory.split_at_mut(head);
        let mut text_at = at + head;
        for (option, value) in options.as_chunks_mut::<OPTION>().0.iter_mut().zip(self.values) {
            option[0] = u8::from(value.is_some());
            let Some(value) = value else { continue };
            let (text, left) = rest.split_at_mut(value.len());
            text.copy_from_slice(value.as_bytes());
            option[4..8].copy_from_slice(&address(text_at).to_le_bytes());
            option[8..].copy_from_slice(&address(value.len()).to_le_bytes());
            text_at += value.len();
            rest = left;
        }
        Ok(Some((at as i64, self.values.len() as i64)))
    }
}

/// A note, which is mostly empty. A guest of the SDK is then not asked for memory of no bytes; any
/// other is, because it may give back whatever address it finds.
#[derive(Clone, Copy)]
pub struct Note<'a> {
    pub bytes: &'a [u8],
    pub is_sdk: bool,
}

/// Where an empty list lies: nowhere, but an address that is none would be null.
const NOWHERE: i64 = 1;

#[expect(unsafe_code, reason = "a type of the component model by hand")]
// SAFETY: in type and in layout a `list<u8>`.
unsafe impl ComponentType for Note<'_> {
    type Lower = <[u8] as ComponentType>::Lower;

    const ABI: CanonicalAbiInfo = <[u8] as ComponentType>::ABI;

    fn typecheck(ty: &InterfaceType, types: &InstanceType<'_>) -> Result<()> {
        <[u8] as ComponentType>::typecheck(ty, types)
    }
}

#[expect(unsafe_code, reason = "a type of the component model by hand")]
// SAFETY: writes an address and a length, of no bytes or of what the list's own way wrote.
unsafe impl Lower for Note<'_> {
    fn linear_lower_to_flat<T>(
        &self,
        cx: &mut LowerContext<'_, T>,
        ty: InterfaceType,
        dst: &mut MaybeUninit<Self::Lower>,
    ) -> Result<()> {
        if self.bytes.is_empty() && self.is_sdk {
            dst.write([ValRaw::i64(NOWHERE), ValRaw::i64(0)]);
            return Ok(());
        }
        self.bytes.linear_lower_to_flat(cx, ty, dst)
    }

    fn linear_lower_to_memory<T>(
        &self,
        cx: &mut LowerContext<'_, T>,
        ty: InterfaceType,
        offset: usize,
    ) -> Result<()> {
        self.bytes.linear_lower_to_memory(cx, ty, offset)
    }
}

/// An address or length of a 32-bit memory, which is all that `realloc` gives.
fn address(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_of_the_sdk_lend_a_block() {
        for plugin in witgate_plugins::PLUGINS {
            assert!(is_lent(plugin.wasm), "{}", plugin.name);
        }
        for other in ["(component)", "(component (@custom \"witgate:blocks\" \"x\"))", "(module)"] {
            assert!(!is_lent(&wat::parse_str(other).unwrap()), "{other}");
        }
        assert!(is_lent(&wat::parse_str("(component (@custom \"witgate:block\" \"\"))").unwrap()));
        assert!(!is_lent(b"nonsense"));
    }

    #[test]
    fn a_block_keeps_address_and_length() {
        let block = Block::default();
        assert_eq!(block.get(), (0, 0));
        block.set(0xffff_ffc0, BYTES_MAX);
        assert_eq!(block.get(), (0xffff_ffc0, BYTES_MAX));
    }
}
