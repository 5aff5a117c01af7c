//! What the policies of the cases `policies-N` do, as a proxy-wasm filter for Envoy.
//!
//! `proxies/envoy.py` builds it with rustc alone for wasm32-unknown-unknown. Each filter sets a
//! request header to the path and a response header to the status, under names of its
//! configuration's number.

#![no_std]

extern crate alloc;

mod abi;

use abi::{CONTINUE, PLUGIN_CONFIGURATION, Settings, buffer};
use alloc::vec::Vec;

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
}

const REQUEST_HEADERS: u32 = 0;
const RESPONSE_HEADERS: u32 = 2;

/// The names of the two headers, `x-request-N` and `x-response-N`.
static NAMES: Settings<[Vec<u8>; 2]> = Settings::new();

#[unsafe(no_mangle)]
extern "C" fn proxy_on_configure(_context: u32, size: usize) -> u32 {
    let number = buffer(PLUGIN_CONFIGURATION, size);
    let name = |prefix: &[u8]| [prefix, &number].concat();
    NAMES.set([name(b"x-request-"), name(b"x-response-")]);
    1
}

fn copy(map: u32, from: &[u8], to: usize) -> u32 {
    let Some(name) = NAMES.get().map(|names| &names[to]) else { return CONTINUE };
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
