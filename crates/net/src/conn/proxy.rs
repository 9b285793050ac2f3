//! What a load balancer says of a connection before the client's first byte (the
//! PROXY protocol). When the connection moves to another worker, it is repeated.

use std::net::SocketAddr;

use serve_http::proxy_header;

use super::record::Record;
use super::{Conn, Phase};
use crate::core::Core;
use crate::gateway::Peer;

/// Whether the other end is a proxy that has to introduce its client.
#[derive(Debug)]
pub(super) enum Introduction {
    /// It is not.
    None,
    /// It is; so much has come.
    Expected(Vec<u8>),
    /// It has.
    Made {
        /// In these words.
        words: Vec<u8>,
        /// Where the client has found it, if it knows.
        at: Option<SocketAddr>,
    },
}

impl Introduction {
    pub(super) fn of(core: &Core, peer: Peer) -> Self {
        let proxy = core.options.proxy.as_ref();
        match proxy.is_some_and(|proxy| proxy.from.holds(peer)) {
            true => Self::Expected(Vec::new()),
            false => Self::None,
        }
    }

    pub(super) fn is_expected(&self) -> bool {
        matches!(self, Self::Expected(_))
    }

    /// What another worker has to hear again.
    pub(super) fn words(&self) -> &[u8] {
        match self {
            Self::Made { words, .. } => words,
            Self::None | Self::Expected(_) => &[],
        }
    }

    /// Where the client has found the proxy.
    pub(super) fn at(&self) -> Option<SocketAddr> {
        match self {
            Self::Made { at, .. } => *at,
            Self::None | Self::Expected(_) => None,
        }
    }
}

impl Conn {
    /// Takes what belongs to the introduction from the front of `bytes`: how
    /// many. All of them, unless it is complete.
    pub(super) fn introduced(&mut self, core: &mut Core, bytes: &[u8]) -> usize {
        let (Introduction::Expected(heard), Some(proxy)) =
            (&mut self.introduction, &core.options.proxy)
        else {
            return 0;
        };
        let before = heard.len();
        heard.extend_from_slice(bytes);
        match proxy_header(heard, proxy.version) {
            Ok(Some(header)) => {
                heard.truncate(header.len);
                let at = header.ends.map(|ends| ends.destination);
                self.introduction = Introduction::Made { words: std::mem::take(heard), at };
                if let Some(ends) = header.ends {
                    self.peer = Peer::tcp(ends.source);
                    // The proxy passes on whatever headers the client sends.
                    self.trusted = core.witness.believes(self.peer);
                }
                self.phase = Phase::Idle;
                self.deadline.clear();
                self.record = Record::new(core.now);
                let used = header.len - before;
                if self.secure(core, &bytes[used..]) { bytes.len() } else { used }
            }
            Ok(None) => {
                self.phase = Phase::Head;
                bytes.len()
            }
            Err(error) => {
                self.refuse(core, error.status(), &error.to_string());
                bytes.len()
            }
        }
    }
}
