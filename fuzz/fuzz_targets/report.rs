//! Fuzzes `tests/corpora/report.rs`, which says what the input is and what must hold.
#![no_main]

#[path = "../../tests/corpora/report.rs"]
mod check;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let _replay_asserts_what_comes_out = check::check(input);
});
