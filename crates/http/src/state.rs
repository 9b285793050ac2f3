//! May this happen now? Two tables, one per direction; nothing else decides.
//!
//! ```text
//! request    Idle ─Bytes─▶ Head ─Head─▶ Body ─End─▶ Done ─Next─▶ Idle
//!            Head ─Nothing─▶ Idle, any ─Fault─▶ Failed
//!
//! response   Waiting ─Request─▶ Ready ─Head─▶ Body ─End─▶ Done ─Next─▶ Waiting
//!                    Ready ─Continue─▶ Continued ─Head─▶ Body ─Short─▶ Cut
//!                    Waiting, Ready, Continued ─Refuse─▶ Done
//! ```
//!
//! An event that a table does not name is refused, and the state stays.

use crate::error::Kind;

/// How far the request of the exchange has been received.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Inbound {
    /// Nothing of it has arrived.
    Idle,
    Head,
    Body,
    Done,
    /// It cannot be understood, and so neither can anything after it.
    Failed(Kind),
}

/// What happens to a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Received {
    /// Nothing that belongs to it: no bytes, or the empty line before it.
    Nothing,
    /// Bytes that completed nothing.
    Bytes,
    Head,
    Data,
    End,
    Fault(Kind),
    Next,
}

impl Inbound {
    pub(crate) fn on(self, event: Received) -> Result<Self, Kind> {
        Ok(match (self, event) {
            (_, Received::Fault(kind)) => Self::Failed(kind),
            (Self::Idle | Self::Head, Received::Nothing) => Self::Idle,
            (Self::Idle | Self::Head, Received::Bytes) => Self::Head,
            (Self::Head, Received::Head) => Self::Body,
            (Self::Body, Received::Data) => Self::Body,
            (Self::Body, Received::End) => Self::Done,
            (Self::Done, Received::Next) => Self::Idle,
            _ => return Err(Kind::OutOfOrder),
        })
    }
}

/// How far the response of the exchange has been sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outbound {
    /// There is no request to respond to.
    Waiting,
    Ready,
    /// 100 Continue has been sent.
    Continued,
    Body,
    Done,
    /// It can no longer be completed: the client must see the connection end.
    Cut,
}

/// What happens to a response.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sent {
    /// The head of the request is there.
    Request,
    Continue,
    Head,
    Data,
    End,
    /// The body ended before its announced length.
    Short,
    /// The server's own response, at once.
    Refuse,
    Next,
}

impl Outbound {
    pub(crate) fn on(self, event: Sent) -> Result<Self, Kind> {
        Ok(match (self, event) {
            (Self::Waiting, Sent::Request) => Self::Ready,
            (Self::Ready, Sent::Continue) => Self::Continued,
            (Self::Ready | Self::Continued, Sent::Head) => Self::Body,
            (Self::Body, Sent::Data) => Self::Body,
            (Self::Body, Sent::End) => Self::Done,
            (Self::Body, Sent::Short) => Self::Cut,
            (Self::Waiting | Self::Ready | Self::Continued, Sent::Refuse) => Self::Done,
            (Self::Done, Sent::Next) => Self::Waiting,
            _ => return Err(Kind::OutOfOrder),
        })
    }

    /// Whether a final head has been handed out.
    pub(crate) fn has_head(self) -> bool {
        matches!(self, Self::Body | Self::Done | Self::Cut)
    }
}
