//! Invariant: whatever bytes a client sends, the connection yields the same
//! events and the same error however the network splits them; an error is the
//! client's, stays, and can be answered; nothing panics.
//!
//! `cargo +nightly fuzz run connection` in `crates/http`, with
//! `tests/requests/valid` and `invalid` as seeds. The property test of
//! `serve-http` runs the same function on random bytes.
#![no_main]

#[path = "../../tests/util/mod.rs"]
mod util;

libfuzzer_sys::fuzz_target!(|data: &[u8]| util::connection(data));
