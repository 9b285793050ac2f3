//! Every bound on what a client may send before it is refused.
//!
//! The numbers and the meaning of the first three are gunicorn's, so that its
//! flags can be passed on as they are. Nothing here is about time: how long a
//! client may take is decided by whoever has a clock.

/// The bounds of one listener, shared by all its connections.
///
/// No more than one bounded line is ever buffered beyond what a bound allows:
/// a client is refused at the byte that breaks the bound.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of the request line without its CRLF; 0 = bounded by `head` only.
    /// Default 4094 (gunicorn `limit_request_line`). Beyond: 414.
    pub request_line: usize,
    /// Number of header fields; 0 = bounded by `head` only. Default 100
    /// (gunicorn `limit_request_fields`, Apache `LimitRequestFields`).
    /// Beyond: 431.
    pub fields: usize,
    /// Bytes of one header field line with its CRLF; 0 = bounded by `head`
    /// only. Default 8190 (gunicorn `limit_request_field_size`, Apache
    /// `LimitRequestFieldSize`). Beyond: 431.
    pub field_size: usize,
    /// Bytes of the whole head with its closing empty line. Default 65536 (Node
    /// allows 16 KiB, Puma 112 KiB, Go 1 MiB). Beyond: 431.
    pub head: usize,
    /// Bytes of a chunk-size line, extensions included, without its CRLF.
    /// Default 256 (a size has 16 digits; extensions are as good as unused, and
    /// RFC 9112 7.1.1 asks for a bound). Beyond: 400.
    pub chunk_line: usize,
    /// Bytes of the trailer section, CRLFs included, without its closing empty
    /// line. Default 8190 (one header field of gunicorn's). Beyond: 431.
    pub trailers: usize,
    /// Bytes of a request body after decoding; `None` = no bound (gunicorn has
    /// none, nginx `client_max_body_size` 1 MiB). Beyond: 413, at the head when
    /// the length is declared.
    pub max_body: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request_line: 4094,
            fields: 100,
            field_size: 8190,
            head: 65536,
            chunk_line: 256,
            trailers: 8190,
            max_body: None,
        }
    }
}
