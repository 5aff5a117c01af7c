//! What the policies of the case `policies-N` do, as a proxy-wasm filter for Envoy.
//!
//! `proxies.py` builds it with rustc alone for wasm32-unknown-unknown. Each filter sets a request
//! header to the path and a response header to the status, under names of its configuration's
//! number. Written on the bare ABI (0.2.1), which is the cheapest a filter can be.

#![no_std]

extern crate alloc;

use alloc::vec::Vec;
use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    fn proxy_get_header_map_value(
        map: u32,
        key: *const u8,
        key_len: usize,
        value: *mut *mut u8,
        len: *mut usize,
    ) -> u32;
    fn proxy_replace_header_map_value(
        map: u32,
        key: *const u8,
        key_len: usize,
        value: *const u8,
        len: usize,
    ) -> u32;
    fn proxy_get_buffer_bytes(
        buffer: u32,
        start: usize,
        max: usize,
        data: *mut *mut u8,
        len: *mut usize,
    ) -> u32;
}

const REQUEST_HEADERS: u32 = 0;
const RESPONSE_HEADERS: u32 = 2;
const PLUGIN_CONFIGURATION: u32 = 7;
const CONTINUE: u32 = 0;

/// The names of the two headers, `x-request-N` and `x-response-N`.
struct Names(UnsafeCell<Option<[Vec<u8>; 2]>>);
unsafe impl Sync for Names {}
static NAMES: Names = Names(UnsafeCell::new(None));

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
extern "C" fn proxy_on_configure(_context: u32, size: usize) -> u32 {
    let (mut data, mut length) = (core::ptr::null_mut(), 0);
    let number = unsafe {
        proxy_get_buffer_bytes(PLUGIN_CONFIGURATION, 0, size, &mut data, &mut length);
        Vec::from_raw_parts(data, length, length)
    };
    let name = |prefix: &[u8]| [prefix, &number].concat();
    unsafe { *NAMES.0.get() = Some([name(b"x-request-"), name(b"x-response-")]) };
    1
}

fn copy(map: u32, from: &[u8], to: usize) -> u32 {
    let names = unsafe { &*NAMES.0.get() };
    let Some(name) = names.as_ref().map(|names| &names[to]) else { return CONTINUE };
    let (mut data, mut length) = (core::ptr::null_mut(), 0);
    unsafe {
        if proxy_get_header_map_value(map, from.as_ptr(), from.len(), &mut data, &mut length) == 0 {
            let value = Vec::from_raw_parts(data, length, length);
            proxy_replace_header_map_value(map, name.as_ptr(), name.len(), value.as_ptr(), value.len());
        }
    }
    CONTINUE
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_request_headers(_context: u32, _count: usize, _end: u32) -> u32 {
    copy(REQUEST_HEADERS, b":path", 0)
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_response_headers(_context: u32, _count: usize, _end: u32) -> u32 {
    copy(RESPONSE_HEADERS, b":status", 1)
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
