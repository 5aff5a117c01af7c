//! Values as a header hook gets them, and its verdict as the host takes it: the canonical ABI of
//! `on-request` and `on-response`, by hand.
//!
//! Used by [`policy!`](crate::policy!) in place of what wit-bindgen would generate, which makes a
//! list of strings of what arrives, another of what is answered, and needs a second call to free
//! that. Here values are read where they lie, and a verdict stays in the policy until the next one
//! takes its place.
//!
//! The host learns from a custom section of the component that it may do more: an allocation of
//! [`ALIGN`] bytes' alignment is then its own for the life of the instance, and into that block it
//! writes the list and all strings at once, call after call, without asking for memory. A host
//! that does not know of it allocates each string, which works as well.

use std::alloc::Layout;
use std::cell::{Cell, RefCell};
use std::ptr;

use crate::{Edit, Reply, Verdict};

/// The alignment that asks for the host's own block.
pub const ALIGN: usize = 64;

/// Tells the host of the block.
#[cfg(target_family = "wasm")]
#[used]
#[expect(unsafe_code, reason = "a custom section")]
#[unsafe(link_section = "witgate:block")]
static SECTION: [u8; 1] = [1];

/// An `option<string>` in memory.
#[repr(C)]
pub struct Slot {
    some: u8,
    text: Text,
}

/// A `string` or a `list<u8>` in memory.
#[derive(Clone, Copy)]
#[repr(C)]
struct Text {
    at: *const u8,
    length: usize,
}

/// The host's block: where it is, and how long.
struct Block(Cell<(*mut u8, usize)>);

static BLOCK: Block = Block(Cell::new((ptr::null_mut(), 0)));

#[expect(unsafe_code, reason = "one thread")]
// SAFETY: a component without threads; elsewhere only one test touches it.
unsafe impl Sync for Block {}

/// What `cabi_realloc` does.
///
/// # Safety
/// As the canonical ABI says: `old` is null, or came from here with `old_length` bytes of `align`.
#[expect(unsafe_code, reason = "hands out raw memory")]
pub unsafe fn allocate(old: *mut u8, old_length: usize, align: usize, length: usize) -> *mut u8 {
    if length == 0 {
        return ptr::without_provenance_mut(align);
    }
    // SAFETY: the caller keeps to the canonical ABI: a power of two, and a length that fits.
    let (layout, old_layout) = unsafe {
        (
            Layout::from_size_align_unchecked(length, align),
            Layout::from_size_align_unchecked(old_length, align),
        )
    };
    // SAFETY: `old` came from here by `old_layout`; the block is nobody's but the host's, which asks
    // for a longer one only when it is done with the last.
    let made = unsafe {
        if align == ALIGN {
            let (before, before_length) = BLOCK.0.get();
            if !before.is_null() {
                std::alloc::dealloc(before, Layout::from_size_align_unchecked(before_length, ALIGN));
            }
            let made = std::alloc::alloc(layout);
            BLOCK.0.set((made, length));
            made
        } else if old_length == 0 {
            std::alloc::alloc(layout)
        } else {
            std::alloc::realloc(old, old_layout, length)
        }
    };
    if made.is_null() {
        std::alloc::handle_alloc_error(layout);
    }
    made
}

/// The values of one call, where the host put them.
#[derive(Debug)]
pub struct Lent {
    slots: *const Slot,
    length: usize,
}

impl Lent {
    /// # Safety
    /// `slots` and `length` are a `list<option<string>>` as the canonical ABI passes it, in memory of
    /// `allocate`'s.
    #[expect(unsafe_code, reason = "takes raw memory over")]
    pub unsafe fn new(slots: *const Slot, length: usize) -> Lent {
        Lent { slots, length }
    }

    pub fn count(&self) -> usize {
        self.length
    }

    pub fn get(&self, index: usize) -> Option<&str> {
        let slot = self.slots().get(index)?;
        #[expect(unsafe_code, reason = "reads what the host wrote")]
        // SAFETY: the host writes UTF-8 into a string, as the canonical ABI demands.
        let text = unsafe { std::str::from_utf8_unchecked(slot.text.bytes()) };
        (slot.some != 0).then_some(text)
    }

    fn slots(&self) -> &[Slot] {
        if self.length == 0 {
            return &[];
        }
        #[expect(unsafe_code, reason = "reads what the host wrote")]
        // SAFETY: as `new` was promised.
        unsafe {
            std::slice::from_raw_parts(self.slots, self.length)
        }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        // The block stays the host's.
        if self.length == 0 || self.slots.cast_mut().cast() == BLOCK.0.get().0 {
            return;
        }
        for slot in self.slots().iter().filter(|slot| slot.some != 0) {
            free(slot.text.at, slot.text.length, 1);
        }
        free(self.slots.cast(), self.length * size_of::<Slot>(), align_of::<Slot>());
    }
}

/// Bytes that the host passed as a list of their own.
///
/// # Safety
/// As for [`Lent::new`], of a `list<u8>`.
#[expect(unsafe_code, reason = "takes raw memory over")]
pub unsafe fn bytes(at: *mut u8, length: usize) -> Vec<u8> {
    if length == 0 {
        return Vec::new();
    }
    // SAFETY: the host allocated exactly so many bytes, of alignment 1, and gives them away.
    unsafe { Vec::from_raw_parts(at, length, length) }
}

fn free(at: *const u8, length: usize, align: usize) {
    if length > 0 {
        #[expect(unsafe_code, reason = "gives raw memory back")]
        // SAFETY: the host allocated it by the same layout.
        unsafe {
            std::alloc::dealloc(at.cast_mut(), Layout::from_size_align_unchecked(length, align));
        }
    }
}

impl Text {
    const NONE: Text = Text { at: ptr::null(), length: 0 };

    fn of(bytes: &[u8]) -> Text {
        Text { at: bytes.as_ptr(), length: bytes.len() }
    }

    fn bytes(&self) -> &[u8] {
        if self.length == 0 {
            return &[];
        }
        #[expect(unsafe_code, reason = "reads what the host wrote")]
        // SAFETY: a string of the host's has so many bytes.
        unsafe {
            std::slice::from_raw_parts(self.at, self.length)
        }
    }
}

/// An `edit` in memory.
#[repr(C)]
struct Change {
    kind: usize,
    name: Text,
    value: Text,
}

/// The `result<verdict, string>` that a header hook returns, and what it points to.
pub struct Answer(RefCell<Kept>);

struct Kept {
    /// The record itself: on a 32-bit target each field of it is a word, or less and followed by
    /// room up to the next one.
    words: [usize; 7],
    changes: Vec<Change>,
    headers: Vec<(Text, Text)>,
    /// Whose memory all of it is.
    verdict: Result<Verdict, String>,
}

impl Answer {
    #[expect(clippy::new_without_default, reason = "made in constants only")]
    pub const fn new() -> Answer {
        Answer(RefCell::new(Kept {
            words: [0; 7],
            changes: Vec::new(),
            headers: Vec::new(),
            verdict: Ok(Verdict::Proceed),
        }))
    }

    /// Keeps a verdict for the host to read, until the next one.
    pub fn keep(&self, verdict: Result<Verdict, String>) -> *const usize {
        let mut kept = self.0.borrow_mut();
        let kept = &mut *kept;
        kept.changes.clear();
        kept.headers.clear();
        kept.verdict = verdict;
        kept.words = match &kept.verdict {
            Ok(Verdict::Proceed) => [0; 7],
            Ok(Verdict::Amend(edits)) => {
                kept.changes.extend(edits.iter().map(Change::of));
                [0, 1, kept.changes.as_ptr().expose_provenance(), kept.changes.len(), 0, 0, 0]
            }
            Ok(Verdict::Respond(Reply { status, headers, body })) => {
                let pair = |(name, value): &(String, String)| {
                    (Text::of(name.as_bytes()), Text::of(value.as_bytes()))
                };
                kept.headers.extend(headers.iter().map(pair));
                let headers = [kept.headers.as_ptr().expose_provenance(), kept.headers.len()];
                [
                    0,
                    2,
                    usize::from(*status),
                    headers[0],
                    headers[1],
                    body.as_ptr().expose_provenance(),
                    body.len(),
                ]
            }
            Err(error) => [1, error.as_ptr().expose_provenance(), error.len(), 0, 0, 0, 0],
        };
        kept.words.as_ptr()
    }
}

impl Change {
    fn of(edit: &Edit) -> Change {
        let text = |text: &String| Text::of(text.as_bytes());
        match edit {
            Edit::Set((name, value)) => Change { kind: 0, name: text(name), value: text(value) },
            Edit::Append((name, value)) => Change { kind: 1, name: text(name), value: text(value) },
            Edit::Remove(name) => Change { kind: 2, name: text(name), value: Text::NONE },
            Edit::Note(bytes) => Change { kind: 3, name: Text::of(bytes), value: Text::NONE },
        }
    }
}

/// In place of wit-bindgen's export of `on-request`.
#[doc(hidden)]
#[macro_export]
macro_rules! __export_on_request {
    ($guest:ident with_types_in $($path:tt)*) => {
        const _: () = {
            #[unsafe(export_name = "on-request")]
            unsafe extern "C" fn on_request(
                values: *const $crate::block::Slot,
                length: usize,
            ) -> *const usize {
                $guest::answer_request(unsafe { $crate::block::Lent::new(values, length) })
            }
        };
    };
}

/// In place of wit-bindgen's export of `on-response`.
#[doc(hidden)]
#[macro_export]
macro_rules! __export_on_response {
    ($guest:ident with_types_in $($path:tt)*) => {
        const _: () = {
            #[unsafe(export_name = "on-response")]
            unsafe extern "C" fn on_response(
                values: *const $crate::block::Slot,
                length: usize,
                note: *mut u8,
                note_length: usize,
            ) -> *const usize {
                unsafe {
                    $guest::answer_response(
                        $crate::block::Lent::new(values, length),
                        $crate::block::bytes(note, note_length),
                    )
                }
            }
        };
    };
}

/// In place of wit-bindgen's `cabi_realloc`.
#[doc(hidden)]
#[macro_export]
macro_rules! __export_realloc {
    () => {
        const _: () = {
            #[unsafe(export_name = "cabi_realloc")]
            unsafe extern "C" fn cabi_realloc(
                old: *mut u8,
                old_length: usize,
                align: usize,
                length: usize,
            ) -> *mut u8 {
                unsafe { $crate::block::allocate(old, old_length, align, length) }
            }
        };
    };
}

/// Where the export macros of wit-bindgen look for these.
pub mod on_request {
    pub use crate::__export_on_request as __export_world_on_request_cabi;
}

/// The same.
pub mod on_response {
    pub use crate::__export_on_response as __export_world_on_response_cabi;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A list of strings as a host writes it that allocates each.
    fn written(values: &[Option<&str>]) -> Lent {
        #[expect(unsafe_code, reason = "writes as a host does")]
        // SAFETY: each allocation is written within its bounds, and handed over whole.
        unsafe {
            let bytes = values.len() * size_of::<Slot>();
            let slots = allocate(ptr::null_mut(), 0, align_of::<Slot>(), bytes).cast::<Slot>();
            for (index, value) in values.iter().enumerate() {
                let text = value.map_or(Text::NONE, |value| {
                    let at = allocate(ptr::null_mut(), 0, 1, value.len());
                    ptr::copy_nonoverlapping(value.as_ptr(), at, value.len());
                    Text { at, length: value.len() }
                });
                slots.add(index).write(Slot { some: value.is_some().into(), text });
            }
            Lent::new(slots, values.len())
        }
    }

    #[test]
    fn values_are_read_where_they_lie() {
        let lent = written(&[Some("a"), None, Some(""), Some("ü\nb")]);
        let read: Vec<_> = (0..5).map(|index| lent.get(index)).collect();
        assert_eq!(read, [Some("a"), None, Some(""), Some("ü\nb"), None]);
        assert_eq!(lent.count(), 4);
        assert_eq!(written(&[]).get(0), None);
    }

    #[test]
    fn the_hosts_block_outlives_calls_and_grows() {
        #[expect(unsafe_code, reason = "writes as a host does")]
        // SAFETY: the block is written within its bounds, and read only while it is the last.
        unsafe {
            for length in [64, 4096] {
                let block = allocate(ptr::null_mut(), 0, ALIGN, length);
                assert_eq!(block.addr() % ALIGN, 0);
                for text in ["x", "yy"] {
                    let at = block.add(size_of::<Slot>());
                    ptr::copy_nonoverlapping(text.as_ptr(), at, text.len());
                    let slot = Slot { some: 1, text: Text { at, length: text.len() } };
                    block.cast::<Slot>().write(slot);
                    assert_eq!(Lent::new(block.cast(), 1).get(0), Some(text));
                }
            }
        }
    }

    #[test]
    fn a_verdict_is_laid_out_and_kept() {
        let answer = Answer::new();
        #[expect(unsafe_code, reason = "reads as a host does")]
        // SAFETY: the record has seven words, and what it points to lives until the next `keep`.
        unsafe {
            let read = |words: *const usize| std::slice::from_raw_parts(words, 7).to_vec();
            assert_eq!(read(answer.keep(Ok(Verdict::Proceed)))[..2], [0, 0]);
            let words = read(answer.keep(Ok(Verdict::proceed().set("a", "bc").remove("d").note(*b"e"))));
            assert_eq!((words[0], words[1], words[3]), (0, 1, 3));
            let changes: *const Change = ptr::with_exposed_provenance(words[2]);
            let told: Vec<_> = (0..3)
                .map(|at| &*changes.add(at))
                .map(|change| (change.kind, change.name.bytes().to_vec(), change.value.bytes().to_vec()))
                .collect();
            let told: Vec<_> =
                told.iter().map(|(kind, name, value)| (*kind, &name[..], &value[..])).collect();
            assert_eq!(told, [(0, &b"a"[..], &b"bc"[..]), (2, b"d", b""), (3, b"e", b"")]);
            let words = read(answer.keep(Ok(Reply::new(429).header("a", "b").body("cde").into())));
            assert_eq!((words[0], words[1], words[2], words[4], words[6]), (0, 2, 429, 1, 3));
            let words = read(answer.keep(Err("no".into())));
            assert_eq!((words[0], words[2]), (1, 2));
        }
    }
}
