//! The allocator of a policy: small blocks that were freed are handed out again at once.
//!
//! A hook is handed its values as many small strings and hands its edits back as such; with the
//! standard library's allocator alone, half of a small policy's time goes into finding room for
//! them. Small blocks go into a list of their size when they are freed. Nothing is given back, so a
//! policy holds on to the most that it ever had of each size.
//!
//! The first blocks come from room that the instance is born with. A memory that grows has the
//! gateway's kernel change the protection of pages, and again when the instance ends: dearer than all
//! that a small policy does, where each request has an instance of its own.
//!
//! Only for Wasm, where an instance is one thread's alone. Off without the feature `allocator`, for
//! who brings another one.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, UnsafeCell};
use std::mem::MaybeUninit;
use std::ptr::{self, NonNull};

/// Sizes are rounded up to a multiple of this, which is also the alignment of all small blocks.
const GRAIN: usize = 16;
/// Bytes of the largest block that is kept.
const SMALL_BYTES_MAX: usize = 1024;
const SIZES: usize = SMALL_BYTES_MAX / GRAIN;
/// Bytes that are there from the start.
const ROOM_BYTES: usize = 32 << 10;
/// Of the room; the host's block wants it too.
const ROOM_ALIGN: usize = 64;

/// The head of a free block.
struct Free {
    next: Option<NonNull<Free>>,
}

struct Allocator {
    /// By size: `free[n]` has blocks of `(n + 1) * GRAIN` bytes.
    free: UnsafeCell<[Option<NonNull<Free>>; SIZES]>,
    room: Room,
}

/// The room that is there from the start, given out from its beginning.
#[repr(align(64))]
struct Room {
    bytes: UnsafeCell<MaybeUninit<[u8; ROOM_BYTES]>>,
    used: Cell<usize>,
}

impl Room {
    /// A block, as long as there is room.
    fn take(&self, layout: Layout) -> Option<NonNull<u8>> {
        let at = self.used.get().next_multiple_of(layout.align().max(GRAIN));
        let end = at.checked_add(layout.size().checked_next_multiple_of(GRAIN)?)?;
        if layout.align() > ROOM_ALIGN || end > ROOM_BYTES {
            return None;
        }
        self.used.set(end);
        NonNull::new(self.start().wrapping_add(at))
    }

    /// Whether the block was taken from here; then it is given up: the last one to be taken again, any
    /// other for good.
    fn gives_up(&self, block: *mut u8, layout: Layout) -> bool {
        let Some(offset) = self.offset(block) else { return false };
        if offset + layout.size().next_multiple_of(GRAIN) == self.used.get() {
            self.used.set(offset);
        }
        true
    }

    fn holds(&self, block: *mut u8) -> bool {
        self.offset(block).is_some()
    }

    /// Where in the room a block lies, if it does.
    fn offset(&self, block: *mut u8) -> Option<usize> {
        let offset = (block as usize).wrapping_sub(self.start() as usize);
        (offset < ROOM_BYTES).then_some(offset)
    }

    fn start(&self) -> *mut u8 {
        self.bytes.get().cast()
    }
}

#[cfg(all(target_family = "wasm", feature = "allocator"))]
#[global_allocator]
static ALLOCATOR: Allocator = Allocator::new();

#[expect(unsafe_code, reason = "an allocator hands out raw memory")]
// SAFETY: a component without threads: there is never a second one to share this with.
unsafe impl Sync for Allocator {}

impl Allocator {
    const fn new() -> Allocator {
        let room = Room { bytes: UnsafeCell::new(MaybeUninit::uninit()), used: Cell::new(0) };
        Allocator { free: UnsafeCell::new([None; SIZES]), room }
    }
}

/// The place of a small block's list.
fn place(layout: Layout) -> Option<usize> {
    let small = layout.size() <= SMALL_BYTES_MAX && layout.align() <= GRAIN && layout.size() > 0;
    small.then(|| (layout.size() - 1) / GRAIN)
}

#[expect(unsafe_code, reason = "an allocator hands out raw memory")]
// SAFETY: a small block has the size and alignment of its list, which are at least those asked for,
// and is in a list only while nobody else has it; the rest is the room's, which gives each byte out
// once, or the system allocator's.
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(place) = place(layout) else {
            // SAFETY: as the caller promised.
            return unsafe { self.anew(layout) };
        };
        // SAFETY: one thread, and nothing below calls back; a listed block is free and holds a `Free`.
        unsafe {
            let list = &mut (*self.free.get())[place];
            if let Some(block) = *list {
                *list = block.as_ref().next;
                return block.as_ptr().cast();
            }
            self.anew(Layout::from_size_align_unchecked((place + 1) * GRAIN, GRAIN))
        }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match (place(layout), NonNull::new(block.cast::<Free>())) {
            // SAFETY: the block came from `alloc` by the same layout, so it has the list's size and
            // alignment, and its owner gives it up.
            (Some(place), Some(free)) => unsafe {
                let list = &mut (*self.free.get())[place];
                free.write(Free { next: *list });
                *list = Some(free);
            },
            _ if self.room.gives_up(block, layout) => {}
            // SAFETY: as the caller promised.
            _ => unsafe { System.dealloc(block, layout) },
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller promises that `size` does not overflow when rounded up to the alignment.
        let to = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        match (place(layout), place(to)) {
            (Some(old), Some(new)) if old == new => block,
            // SAFETY: as the caller promised; neither is a block of ours.
            (None, None) if !self.room.holds(block) => unsafe { System.realloc(block, layout, size) },
            // SAFETY: the new block is another one, and both have the bytes that are copied.
            _ => unsafe {
                let moved = self.alloc(to);
                if !moved.is_null() {
                    ptr::copy_nonoverlapping(block, moved, layout.size().min(size));
                    self.dealloc(block, layout);
                }
                moved
            },
        }
    }
}

#[expect(unsafe_code, reason = "an allocator hands out raw memory")]
impl Allocator {
    /// A block that nobody had before.
    ///
    /// # Safety
    /// As of `GlobalAlloc::alloc`.
    unsafe fn anew(&self, layout: Layout) -> *mut u8 {
        match self.room.take(layout) {
            Some(block) => block.as_ptr(),
            // SAFETY: as the caller promised.
            None => unsafe { System.alloc(layout) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(size: usize, align: usize) -> Layout {
        Layout::from_size_align(size, align).unwrap()
    }

    #[test]
    fn a_freed_block_serves_again_for_its_own_size_only() {
        let allocator = Allocator::new();
        let (of_20, of_33) = (layout(20, 4), layout(33, 1));
        #[expect(unsafe_code, reason = "an allocator hands out raw memory")]
        // SAFETY: each block is used within its layout and freed once, by it.
        unsafe {
            let block = allocator.alloc(of_20);
            assert_eq!(block as usize % GRAIN, 0);
            allocator.dealloc(block, of_20);
            let other = allocator.alloc(of_33);
            assert_ne!(other, block);
            assert_eq!(allocator.alloc(layout(32, 16)), block, "20 and 32 bytes are of one size");
            assert_ne!(allocator.alloc(of_20), block);
            allocator.dealloc(other, of_33);
        }
    }

    #[test]
    fn the_room_is_used_up_before_the_system_is_asked() {
        let allocator = Allocator::new();
        let large = layout(3000, 8);
        #[expect(unsafe_code, reason = "an allocator hands out raw memory")]
        // SAFETY: each block is used within its layout and freed once, by it.
        unsafe {
            let first = allocator.alloc(large);
            assert!(allocator.room.holds(first));
            allocator.dealloc(first, large);
            assert_eq!(allocator.alloc(large), first, "the last one is taken again");
            let blocks: Vec<_> = (0..20).map(|_| allocator.alloc(large)).collect();
            assert!(allocator.room.used.get() <= ROOM_BYTES);
            assert!(allocator.room.holds(blocks[8]) && !allocator.room.holds(blocks[19]));
            for (index, block) in blocks.iter().enumerate() {
                block.write_bytes(index as u8, large.size());
            }
            for (index, block) in blocks.iter().enumerate() {
                assert_eq!(block.add(large.size() - 1).read(), index as u8);
                allocator.dealloc(*block, large);
            }
            let allocator = Allocator::new();
            let _ = allocator.alloc(layout(16, 16));
            let block = allocator.alloc(layout(100, 64));
            assert!((block as usize).is_multiple_of(64) && allocator.room.holds(block));
            let aligned = layout(64, 4096);
            let block = allocator.alloc(aligned);
            assert_eq!(block as usize % 4096, 0);
            allocator.dealloc(block, aligned);
        }
    }

    #[test]
    fn growing_keeps_what_was_written() {
        let allocator = Allocator::new();
        let sizes = [1, 16, 17, 1000, 1024, 1025, 5000, 70_000, 900, 3];
        #[expect(unsafe_code, reason = "an allocator hands out raw memory")]
        // SAFETY: each block is used within its layout.
        unsafe {
            let mut at = layout(1, 1);
            let mut block = allocator.alloc(at);
            block.write(42);
            for size in sizes {
                block = allocator.realloc(block, at, size);
                at = layout(size, 1);
                assert_eq!(block.read(), 42);
                block.add(size - 1).write(42);
            }
            allocator.dealloc(block, at);
        }
    }

    #[test]
    fn large_and_overaligned_blocks_are_the_systems() {
        assert_eq!(place(layout(1025, 1)), None);
        assert_eq!(place(layout(16, 32)), None);
        assert_eq!(place(layout(0, 1)), None);
        assert_eq!(place(layout(1024, 16)), Some(SIZES - 1));
        assert_eq!(place(layout(1, 1)), Some(0));
    }
}
