//! The allocator of a policy: small blocks that were freed are handed out again at once.
//!
//! A hook is handed its values as many small strings and hands its edits back as such; with the
//! standard library's allocator alone, half of a small policy's time goes into finding room for
//! them. Blocks come from there, one by one, and go into a list of their size when they are freed.
//! Nothing is given back, so a policy holds on to the most that it ever had of each size.
//!
//! Only for Wasm, where an instance is one thread's alone. Off without the feature `allocator`, for
//! who brings another one.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::ptr::{self, NonNull};

/// Sizes are rounded up to a multiple of this, which is also the alignment of all small blocks.
const GRAIN: usize = 16;
/// Bytes of the largest block that is kept.
const SMALL_BYTES_MAX: usize = 1024;
const SIZES: usize = SMALL_BYTES_MAX / GRAIN;

/// The head of a free block.
struct Free {
    next: Option<NonNull<Free>>,
}

struct Allocator {
    /// By size: `free[n]` has blocks of `(n + 1) * GRAIN` bytes.
    free: UnsafeCell<[Option<NonNull<Free>>; SIZES]>,
}

#[cfg(all(target_family = "wasm", feature = "allocator"))]
#[global_allocator]
static ALLOCATOR: Allocator = Allocator::new();

#[expect(unsafe_code, reason = "an allocator hands out raw memory")]
// SAFETY: a component without threads: there is never a second one to share this with.
unsafe impl Sync for Allocator {}

impl Allocator {
    const fn new() -> Allocator {
        Allocator { free: UnsafeCell::new([None; SIZES]) }
    }
}

/// The place of a small block's list.
fn place(layout: Layout) -> Option<usize> {
    let small = layout.size() <= SMALL_BYTES_MAX && layout.align() <= GRAIN && layout.size() > 0;
    small.then(|| (layout.size() - 1) / GRAIN)
}

#[expect(unsafe_code, reason = "an allocator hands out raw memory")]
// SAFETY: a small block has the size and alignment of its list, which are at least those asked for,
// and is in a list only while nobody else has it; the rest is the system allocator's.
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(place) = place(layout) else {
            // SAFETY: as the caller promised.
            return unsafe { System.alloc(layout) };
        };
        // SAFETY: one thread, and nothing below calls back; a listed block is free and holds a `Free`.
        unsafe {
            let list = &mut (*self.free.get())[place];
            if let Some(block) = *list {
                *list = block.as_ref().next;
                return block.as_ptr().cast();
            }
            System.alloc(Layout::from_size_align_unchecked((place + 1) * GRAIN, GRAIN))
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
            (None, None) => unsafe { System.realloc(block, layout, size) },
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
