//! Fuzzes `tests/corpora/tlsrpt_record.rs`, which says what the input is and what must hold.
#![no_main]

#[path = "../../tests/corpora/tlsrpt_record.rs"]
mod check;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let _replay_asserts_what_comes_out = check::check(input);
});
