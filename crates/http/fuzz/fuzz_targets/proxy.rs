//! Invariant: whatever bytes come first on a connection, looking for a PROXY
//! header never panics, never wants more than its bound, and what a whole header
//! says does not depend on what follows it.
//!
//! `cargo +nightly fuzz run proxy` in `crates/http`.
#![no_main]

use serve_http::{ProxyVersion, proxy_header};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    for version in [ProxyVersion::V1, ProxyVersion::V2, ProxyVersion::Either] {
        let found = proxy_header(data, version);
        assert!(data.len() < 16 + 2048 || !matches!(found, Ok(None)));
        if let Ok(Some(header)) = found {
            assert_eq!(proxy_header(&data[..header.len], version), Ok(Some(header)));
        }
    }
});
