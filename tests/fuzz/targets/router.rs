//! The router and its model take the same steps.

#![no_main]

#[path = "../../sim/reference/mod.rs"]
mod reference;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    reference::drive::play(bytes);
});
