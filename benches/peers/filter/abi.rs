//! What both filters need of the bare proxy-wasm ABI (0.2.1): host calls, life cycle, an allocator.
//!
//! A module of `headers` and `body`. Written on the bare ABI, which is the cheapest a filter can be.

use alloc::vec::Vec;
use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    fn proxy_get_buffer_bytes(
        buffer: u32,
        start: usize,
        max: usize,
        data: *mut *mut u8,
        len: *mut usize,
    ) -> u32;
}

pub const CONTINUE: u32 = 0;
pub const PLUGIN_CONFIGURATION: u32 = 7;

/// What the host holds: a body, or the configuration. Empty where there is none.
pub fn buffer(which: u32, size: usize) -> Vec<u8> {
    let (mut data, mut length) = (core::ptr::null_mut(), 0);
    match unsafe { proxy_get_buffer_bytes(which, 0, size, &mut data, &mut length) } {
        0 if !data.is_null() => unsafe { Vec::from_raw_parts(data, length, length) },
        _ => Vec::new(),
    }
}

/// Set once, in `proxy_on_configure`; a filter has one thread.
pub struct Settings<T>(UnsafeCell<Option<T>>);
unsafe impl<T> Sync for Settings<T> {}

impl<T> Settings<T> {
    pub const fn new() -> Self {
        Settings(UnsafeCell::new(None))
    }

    pub fn set(&self, value: T) {
        unsafe { *self.0.get() = Some(value) };
    }

    pub fn get(&self) -> Option<&T> {
        unsafe { (*self.0.get()).as_ref() }
    }
}

#[unsafe(no_mangle)]
extern "C" fn proxy_abi_version_0_2_1() {}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_memory_allocate(size: usize) -> *mut u8 {
    unsafe { alloc::alloc::alloc(Layout::from_size_align_unchecked(size.max(1), 1)) }
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_context_create(_context: u32, _parent: u32) {}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_vm_start(_context: u32, _size: usize) -> u32 {
    1
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_done(_context: u32) -> u32 {
    1
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_delete(_context: u32) {}

/// Free lists by power of two: a filter's allocations are few and small.
struct Bins(UnsafeCell<[usize; 32]>);
unsafe impl Sync for Bins {}

unsafe impl GlobalAlloc for Bins {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let bin = bin(layout);
        let heads = unsafe { &mut *self.0.get() };
        match heads[bin] {
            0 => bump(1 << bin),
            head => {
                heads[bin] = unsafe { *(head as *const usize) };
                head as *mut u8
            }
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let bin = bin(layout);
        let heads = unsafe { &mut *self.0.get() };
        unsafe { *(block as *mut usize) = heads[bin] };
        heads[bin] = block as usize;
    }
}

fn bin(layout: Layout) -> usize {
    layout.size().max(layout.align()).max(16).next_power_of_two().trailing_zeros() as usize
}

struct Bump(UnsafeCell<(usize, usize)>);
unsafe impl Sync for Bump {}
static BUMP: Bump = Bump(UnsafeCell::new((0, 0)));

fn bump(size: usize) -> *mut u8 {
    const PAGE: usize = 65_536;
    let (next, end) = unsafe { &mut *BUMP.0.get() };
    if *end - *next < size {
        let pages = size.div_ceil(PAGE);
        let start = core::arch::wasm32::memory_grow(0, pages);
        if start == usize::MAX {
            return core::ptr::null_mut();
        }
        (*next, *end) = (start * PAGE, (start + pages) * PAGE);
    }
    let block = *next;
    *next += size;
    block as *mut u8
}

#[global_allocator]
static ALLOCATOR: Bins = Bins(UnsafeCell::new([0; 32]));

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    core::arch::wasm32::unreachable()
}
