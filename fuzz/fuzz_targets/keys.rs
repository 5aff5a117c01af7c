//! Feeds libFuzzer's inputs to the target `keys` of `tests/oracles`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| witgate_oracles::run("keys", input));
