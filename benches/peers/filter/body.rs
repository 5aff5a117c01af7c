//! What the policies of the cases `body-buffer` and `body-stream` do, as a proxy-wasm filter for
//! Envoy: they look at every byte of both bodies and let them pass.
//!
//! `proxies/envoy.py` builds it with rustc alone for wasm32-unknown-unknown. The configuration says
//! `buffer`, a body as a whole, or `stream`, chunk by chunk.

#![no_std]

extern crate alloc;

mod abi;

use abi::{CONTINUE, PLUGIN_CONFIGURATION, Settings, buffer};
use core::hint::black_box;

/// Wait for more; Envoy keeps what has come.
const PAUSE: u32 = 1;
const REQUEST_BODY: u32 = 0;
const RESPONSE_BODY: u32 = 1;

/// Whether bodies are taken as a whole.
static WHOLE: Settings<bool> = Settings::new();

#[unsafe(no_mangle)]
extern "C" fn proxy_on_configure(_context: u32, size: usize) -> u32 {
    WHOLE.set(buffer(PLUGIN_CONFIGURATION, size) == b"buffer");
    1
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_request_body(_context: u32, size: usize, end: u32) -> u32 {
    look(REQUEST_BODY, size, end)
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_response_body(_context: u32, size: usize, end: u32) -> u32 {
    look(RESPONSE_BODY, size, end)
}

fn look(which: u32, size: usize, end: u32) -> u32 {
    if end == 0 && WHOLE.get() == Some(&true) {
        return PAUSE;
    }
    let sum = buffer(which, size).iter().fold(0, |sum: u32, byte| sum.wrapping_add(u32::from(*byte)));
    black_box(sum);
    CONTINUE
}
