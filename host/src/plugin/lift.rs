//! Edits on their way out of a guest, read straight from its memory.
//!
//! Called by wasmtime for each edit of a verdict. The derived way goes through the component's types
//! for each string of it; here their places are known. The same is refused: what lies outside of the
//! memory, what is no UTF-8, and more than a call may allocate here.

use super::bindings::Edit;
use wasmtime::component::__internal::wasmtime_environ::component::StringEncoding;
use wasmtime::component::__internal::{InterfaceType, LiftContext};
use wasmtime::component::Lift;
use wasmtime::{Result, bail};

#[expect(unsafe_code, reason = "a type of the component model by hand")]
// SAFETY: reads an `edit` as it lies in memory (a byte that tells its case, then its fields from the
// fourth on) and nothing that the bounds do not allow.
unsafe impl Lift for Edit {
    fn linear_lift_from_flat(_: &mut LiftContext<'_>, _: InterfaceType, _: &Self::Lower) -> Result<Self> {
        bail!("an edit is only ever passed in a list");
    }

    fn linear_lift_from_memory(cx: &mut LiftContext<'_>, _: InterfaceType, bytes: &[u8]) -> Result<Self> {
        let Some((&[case, ..], fields)) = bytes.split_first_chunk::<4>() else { bail!("half an edit") };
        Ok(match case {
            0 => Edit::Set((text(cx, fields, 0)?, text(cx, fields, 1)?)),
            1 => Edit::Append((text(cx, fields, 0)?, text(cx, fields, 1)?)),
            2 => Edit::Remove(text(cx, fields, 0)?),
            3 => Edit::Note(range(cx, fields, 0)?.to_vec()),
            _ => bail!("an edit has four cases, and this is none of them"),
        })
    }
}

/// Bytes of an address with its length.
const PAIR: usize = 8;

/// The string whose place is the `index`th pair of `fields`.
fn text(cx: &mut LiftContext<'_>, fields: &[u8], index: usize) -> Result<String> {
    if cx.options().string_encoding != StringEncoding::Utf8 {
        let Some(pair) = fields.get(index * PAIR..(index + 1) * PAIR) else { bail!("half an edit") };
        return String::linear_lift_from_memory(cx, InterfaceType::String, pair);
    }
    Ok(std::str::from_utf8(range(cx, fields, index)?)?.to_owned())
}

/// The bytes whose place is the `index`th pair of `fields`.
fn range<'m>(cx: &mut LiftContext<'m>, fields: &[u8], index: usize) -> Result<&'m [u8]> {
    let pair = fields.as_chunks::<4>().0;
    let (Some(at), Some(length)) = (pair.get(index * 2), pair.get(index * 2 + 1)) else {
        bail!("half an edit")
    };
    let (at, length) = (u32::from_le_bytes(*at) as usize, u32::from_le_bytes(*length) as usize);
    cx.consume_fuel(length)?;
    match cx.memory().get(at..).and_then(|rest| rest.get(..length)) {
        Some(bytes) => Ok(bytes),
        None => bail!("an edit points out of bounds of memory"),
    }
}
