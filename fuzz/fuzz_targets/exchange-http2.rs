//! Feeds libFuzzer's inputs to the target `exchange-http2` of `tests/oracles`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| witgate_oracles::run("exchange-http2", input));
