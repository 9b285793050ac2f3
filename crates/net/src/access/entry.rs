//! What happened in one exchange, as the access log and the metrics are told.

use std::time::Duration;

use serve_http::Head;

use crate::clock::Clock;
use crate::trust::Seen;

/// One exchange that is over.
pub(crate) struct Entry<'a> {
    pub(crate) seen: &'a Seen,
    /// What has come of the request's head.
    pub(crate) head: &'a Head,
    pub(crate) clock: &'a Clock,
    /// 499 if the client had gone before there was an answer.
    pub(crate) status: u16,
    /// Bytes of the body, which may not all be with the client yet.
    pub(crate) bytes: u64,
    /// From the last byte of the request to the end of the response; from the
    /// first byte, if the request was never whole.
    pub(crate) duration: Duration,
    /// How long the whole request waited for the application.
    pub(crate) queued: Option<Duration>,
    /// How long the application had it.
    pub(crate) app: Option<Duration>,
    pub(crate) notes: &'a Notes,
}

/// What is kept of an exchange because the format asks for it, in the format's
/// order.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    /// Values of response headers.
    pub(crate) response: Vec<Option<Vec<u8>>>,
    /// Values of the application's environ.
    pub(crate) environ: Vec<Option<Vec<u8>>>,
}

impl Entry<'_> {
    /// The user that HTTP's basic authentication names (RFC 7617).
    pub(crate) fn user(&self) -> Option<Vec<u8>> {
        use base64::Engine;
        use base64::engine::general_purpose::STANDARD;
        let credentials = self.head.field(b"authorization")?;
        let (scheme, token) = credentials.split_at_checked(6)?;
        if !scheme.eq_ignore_ascii_case(b"basic ") {
            return None;
        }
        let mut pair = STANDARD.decode(token.trim_ascii()).ok()?;
        let colon = pair.iter().position(|byte| *byte == b':')?;
        pair.truncate(colon);
        Some(pair).filter(|user| !user.is_empty())
    }
}
